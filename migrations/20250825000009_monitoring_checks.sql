-- pgvigil: the judgement. Checks, what they find, what becomes of it.
--
-- A check is a row in monitoring.checks, one in monitoring.thresholds, a section in docs/checks.md and a function
-- monitoring.check_<id>() that answers candidates: what it looked at, how bad it is in the threshold's unit, in words, and the
-- way out. Severity, threshold, fingerprint and suppression are added once, by monitoring.assess(). What several checks need
-- is read once, by the runner, and handed to them; so they are pure where they can be, and cheap. One that fails is named by
-- a finding of its own and costs no other check its findings.

-- A migration waits at most this long for anybody's lock; it is better run again than everybody queued behind it. And what is not
-- qualified here is the system's: operators and functions that others have made in public would run as whoever migrates. For
-- the transaction where there is one, as there should be, or else for the session.
do $begin$
begin
  perform pg_catalog.set_config('lock_timeout', '5s', true);
  perform pg_catalog.set_config('pgvigil.in_transaction', 'yes', true);
end
$begin$;
do $path$
declare
  v_is_local boolean := coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) operator(pg_catalog.=) 'yes', false);
begin
  perform pg_catalog.set_config('pgvigil.migrating_search_path', pg_catalog.current_setting('search_path'), v_is_local);
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', v_is_local);
  -- Somebody's default may be a tablespace that monitoring_owner may not use.
  perform pg_catalog.set_config('pgvigil.migrating_tablespace', pg_catalog.current_setting('default_tablespace'), v_is_local);
  perform pg_catalog.set_config('default_tablespace', '', v_is_local);
end
$path$;

-- Everything below is done by monitoring_owner. The migrating role becomes a member for as long as this takes: from 16 on
-- even the creator of a role is none until it grants itself that. Afterwards it may only what the agent may.
do $become$
declare
  v_version int := pg_catalog.current_setting('server_version_num')::int;
begin
  perform pg_catalog.set_config('pgvigil.migrating_role', pg_catalog.current_setting('role'), false);
  perform pg_catalog.set_config('pgvigil.became_owner', '', false);
  if (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
    or pg_catalog.pg_has_role(current_user, 'monitoring_owner', case when v_version >= 160000 then 'SET' else 'MEMBER' end)
  then
    return;
  end if;
  execute pg_catalog.format('grant monitoring_owner to %I', current_user)
    || case when v_version >= 160000 then ' with inherit true, set true' else '' end;
  perform pg_catalog.set_config('pgvigil.became_owner', current_user, false);
exception when insufficient_privilege then
  raise exception 'role "%" may not become monitoring_owner', current_user
    using errcode = 'insufficient_privilege',
          hint = pg_catalog.format('As the role that made it, or a superuser: grant monitoring_owner, monitoring_calendar, monitoring_members to %1$I with admin option%2$s; '
            'grant monitoring_reader, monitoring_agent to %1$I with admin option', current_user,
            case when v_version >= 160000 then ', inherit false, set false' else '' end);
end
$become$;
set role monitoring_owner;

-- The registry --------------------------------------------------------------------------------------------------------

create table if not exists monitoring.checks (
  check_id text primary key check (check_id ~ '^[a-z]+(-[a-z]+)*$'),
  -- Decides the type of the event: monitoring.event_type_of().
  category text not null check (category in ('statements', 'sessions', 'tables', 'indexes', 'security', 'server', 'monitor')),
  -- sample: cheap, with every sample. slow: reads whole catalogs or history, every 15 minutes. sized: the one in a small database, the
  -- other in a large one.
  cadence  text not null check (cadence in ('sample', 'sized', 'slow')),
  title    text not null
);
comment on table monitoring.checks is 'What is looked at: each check has a function monitoring.check_<id>(), a threshold and a section in docs/checks.md.';

-- In a critical window a threshold is this much of itself, and what it finds is critical. 1: the hour makes no difference, as
-- to an index that nobody uses.
do $factor$
begin
  -- Even to find it there would lock out who judges.
  if not exists (
    select from pg_catalog.pg_attribute a where a.attrelid = 'monitoring.thresholds'::regclass and a.attname = 'window_factor' and not a.attisdropped)
  then
    alter table monitoring.thresholds add column window_factor numeric not null default 0.5
      constraint thresholds_window_factor_is_a_share check (window_factor > 0 and window_factor <= 1);
  end if;
end
$factor$;

insert into monitoring.checks (check_id, category, cadence, title) values
  ('slow-statement', 'statements', 'sample', 'A statement has been running for long'),
  ('statement-regression', 'statements', 'slow', 'A statement takes longer than it did'),
  ('blocking-session', 'sessions', 'sample', 'A session keeps others waiting for a lock'),
  ('idle-in-transaction', 'sessions', 'sample', 'A transaction is open and nobody uses it'),
  ('long-transaction', 'sessions', 'sample', 'A transaction has been open for long'),
  ('prepared-transaction', 'sessions', 'sample', 'A prepared transaction was forgotten'),
  ('connection-utilization', 'sessions', 'sample', 'Connections run out'),
  ('dead-tuples', 'tables', 'sized', 'A table is not vacuumed'),
  ('transaction-id-age', 'tables', 'sized', 'Transaction ids run out'),
  ('multixact-age', 'tables', 'sample', 'Multixact ids run out'),
  ('sequential-scans', 'tables', 'slow', 'A large table is read from end to end'),
  ('sequence-exhaustion', 'tables', 'slow', 'A sequence nears its end'),
  ('unused-index', 'indexes', 'slow', 'An index is written and never read'),
  ('duplicate-index', 'indexes', 'slow', 'An index does what another does'),
  ('invalid-index', 'indexes', 'slow', 'An index is broken'),
  ('foreign-key-without-index', 'indexes', 'slow', 'A foreign key has no index'),
  ('rls-exposed', 'security', 'sized', 'Row-level security is off or hollow'),
  ('rls-changed', 'security', 'sample', 'Row-level security was changed'),
  ('privileged-login', 'security', 'slow', 'A login is bound by no policy'),
  ('definer-search-path', 'security', 'slow', 'A definer function trusts its caller''s search path'),
  ('replication-slot', 'server', 'sample', 'A replication slot holds back WAL'),
  ('replication-lag', 'server', 'sample', 'A standby is behind'),
  ('archiving-failed', 'server', 'sample', 'WAL is not archived'),
  ('frequent-checkpoints', 'server', 'sample', 'Checkpoints come too often'),
  ('temp-files', 'server', 'sample', 'Statements work on disk'),
  ('cache-misses', 'server', 'sample', 'Data is read from disk'),
  ('deadlocks', 'server', 'sample', 'Transactions deadlock'),
  ('unsafe-setting', 'server', 'slow', 'A setting is at fault'),
  ('sampler-gap', 'monitor', 'sample', 'Nobody has watched'),
  ('unannounced', 'monitor', 'sample', 'Changes of events are not announced'),
  ('blind-spot', 'monitor', 'sample', 'The monitor cannot see'),
  ('check-failed', 'monitor', 'sample', 'A check could not be made')
on conflict (check_id) do nothing;

insert into monitoring.thresholds (check_id, warning, critical, unit, window_factor, description) values
  ('slow-statement', 500, 5000, 'ms', 0.5, 'A running statement has taken this long.'),
  ('statement-regression', 3, 10, 'times', 0.7, 'How many times its mean of the week before a statement has taken in the last hour.'),
  ('blocking-session', 1000, 10000, 'ms', 0.5, 'Another session has waited this long for a lock that this one holds.'),
  ('idle-in-transaction', 30000, 300000, 'ms', 0.5, 'A transaction has been open and idle this long.'),
  ('long-transaction', 300000, 3600000, 'ms', 0.5, 'A transaction that is not idle has been open this long.'),
  ('prepared-transaction', 600000, 3600000, 'ms', 1, 'A transaction was prepared this long ago.'),
  ('connection-utilization', 70, 90, 'percent', 0.9, 'Share of the connections ordinary roles can use that is taken.'),
  ('dead-tuples', 20, 50, 'percent', 1, 'Share of dead tuples in a table past its autovacuum threshold.'),
  ('transaction-id-age', 500000000, 1200000000, 'transactions', 1, 'Age of the oldest transaction id of a table or database; at 2 billion writing stops.'),
  ('multixact-age', 500000000, 1200000000, 'multixacts', 1, 'Age of a database''s oldest multixact id; at 2 billion writing stops.'),
  ('sequential-scans', 50, 101, 'percent', 1, 'Share of scans that read a large table from end to end; 101 is never.'),
  ('sequence-exhaustion', 75, 90, 'percent', 1, 'Share of a sequence''s values, or of its column''s, that is used up.'),
  ('unused-index', 10, 1000000, 'MB', 1, 'Size of an index that nothing has read.'),
  ('duplicate-index', 1, 1000000, 'MB', 1, 'Size of an index that another one replaces.'),
  ('invalid-index', 1, 2, 'level', 1, '1: an index is invalid; 2 is never.'),
  ('foreign-key-without-index', 10, 1000000, 'MB', 1, 'Size of a table whose foreign key has no index.'),
  ('rls-exposed', 1, 2, 'level', 1, '1: row-level security is off or hollow in an exposed schema; 2: and everybody can reach the table.'),
  ('rls-changed', 1, 2, 'level', 1, '1: row-level security or a policy is not what it was a day ago; 2: it protects less, or a role got past all of it.'),
  ('privileged-login', 1, 3, 'level', 1, '1: a login role has BYPASSRLS; 2: it is a superuser; 3 is never.'),
  ('definer-search-path', 1, 2, 'level', 1, '1: a definer function has no search path of its own; 2: it runs as a superuser, for everybody.'),
  ('replication-slot', 1024, 10240, 'MB', 1, 'WAL that a slot holds back.'),
  ('replication-lag', 64, 1024, 'MB', 0.5, 'WAL that a standby has not replayed yet.'),
  ('archiving-failed', 5, 60, 'min', 1, 'Archiving has failed, and not succeeded for this long.'),
  ('frequent-checkpoints', 12, 60, 'checkpoints', 1, 'Checkpoints in the last hour that WAL forced before their time.'),
  ('temp-files', 1024, 10240, 'MB', 0.7, 'What statements have written to temporary files in the last hour.'),
  ('cache-misses', 20, 60, 'percent', 0.8, 'Share of blocks that were not in the cache in the last hour, and in most of its minutes.'),
  ('deadlocks', 1, 10, 'deadlocks', 0.9, 'Deadlocks in the last hour.'),
  ('unsafe-setting', 1, 2, 'level', 1, '1: a setting costs speed or hides trouble; 2: it can lose data.'),
  ('sampler-gap', 3, 15, 'ticks', 0.9, 'No sample was taken for this many sampling intervals.'),
  ('unannounced', 1, 100, 'announcements', 1, 'Announcements that were given up, or that wait for more than an hour though somebody tries to publish them.'),
  ('blind-spot', 1, 1, 'flag', 1, 'The monitor cannot see something it needs.'),
  ('check-failed', 1, 2, 'level', 1, '1: a check has failed; 2 is never.')
on conflict (check_id) do nothing;

-- What the runner hands to the checks, and what they answer. Types of our own and not the views': those may change.
do $types$
declare
  v_type record;
begin
  for v_type in
    select * from (values
      ('candidate', 'check_id text, object text, value numeric, detail text, remediation text'),
      ('seen_statement', 'query_id bigint, query_preview text, duration_ms bigint, wait_event_category text, is_blocked boolean, is_maintenance boolean'),
      ('seen_session', 'pid int, application_name text, is_idle boolean, idle_ms numeric, transaction_ms numeric, query_preview text, is_maintenance boolean'),
      ('seen_blocker', 'pid int, waiting bigint, longest_wait_ms bigint, state text, application_name text, query_preview text'),
      ('seen_table', 'schemaname name, tablename name, live_tuples bigint, dead_tuples bigint, xid_age int, needs_vacuum boolean'),
      ('seen_scanned', 'schemaname name, tablename name, live_tuples bigint, index_scans bigint, scans bigint, rows_read bigint'),
      ('seen_hour', 'seconds float8, temp_files bigint, temp_bytes bigint, blocks_read bigint, blocks_hit bigint, deadlocks bigint, checkpoints_timed bigint, checkpoints_requested bigint, missed_percent float8'),
      ('seen_protection', 'schemaname name, tablename name, rls_enabled boolean, exposed_to name[], reasons text[], is_anyones boolean, is_hollow boolean, is_read_past boolean, is_unbound boolean')
    ) as wanted (name, columns)
  loop
    if pg_catalog.to_regtype('monitoring.' || v_type.name) is null then
      execute pg_catalog.format('create type monitoring.%I as (%s)', v_type.name, v_type.columns);
    end if;
  end loop;
end
$types$;

-- Checks with every sample ------------------------------------------------------------------------------------------

create or replace function monitoring.check_slow_statement(p_statements monitoring.seen_statement[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'slow-statement', format('query %s', coalesce(s.query_id::text, md5(s.query_preview))), max(s.duration_ms)::numeric,
      format('%s session(s), the longest for %s ms: %s', count(*), max(s.duration_ms), min(s.query_preview)),
      case when bool_and(s.wait_event_category = 'Client')
        then 'It waits for its client to send or fetch: look at the client and the network.'
        else 'Look at its plan with EXPLAIN; an index on the columns it filters by is the usual answer.'
      end
    from unnest(p_statements) s
    where not s.is_blocked -- blocking-session tells of those
      and not s.is_maintenance -- long-transaction does, when it takes very long
    group by coalesce(s.query_id::text, md5(s.query_preview));
end
$$;

create or replace function monitoring.check_blocking_session(p_blockers monitoring.seen_blocker[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'blocking-session', case b.pid when 0 then 'prepared transaction' else format('pid %s', b.pid) end, b.longest_wait_ms::numeric,
      format('%s session(s) wait for it, the longest for %s ms; it is %s, in %s: %s', b.waiting, b.longest_wait_ms, b.state,
        coalesce(nullif(b.application_name, ''), 'an application without a name'), coalesce(b.query_preview, 'no statement')),
      case b.pid when 0 then 'Ask its transaction manager; then commit prepared or rollback prepared: pg_prepared_xacts has them all.'
        else format('Commit or end its transaction sooner in the application; if it is stuck: select pg_terminate_backend(%s)', b.pid) end
    from unnest(p_blockers) b;
end
$$;

create or replace function monitoring.check_idle_in_transaction(p_sessions monitoring.seen_session[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'idle-in-transaction', format('pid %s', s.pid), s.idle_ms,
      format('%s keeps a transaction open without a statement', coalesce(nullif(s.application_name, ''), 'a session')),
      'Commit sooner in the application, or set idle_in_transaction_session_timeout.'
    from unnest(p_sessions) s
    where s.is_idle;
end
$$;

-- A backup, a VACUUM, the building of an index take as long as they take: they are told where that is very long.
create or replace function monitoring.check_long_transaction(p_sessions monitoring.seen_session[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_very_long_ms numeric := (select t.critical from monitoring.thresholds t where t.check_id = 'long-transaction');
begin
  return query
    select 'long-transaction', format('pid %s', s.pid), s.transaction_ms,
      format('%s has had a transaction open for %s s: %s', coalesce(nullif(s.application_name, ''), 'a session'),
        round(s.transaction_ms / 1000), coalesce(s.query_preview, 'no statement')),
      'Do the work in smaller transactions: for as long as this one is open, VACUUM removes no row that it might see.'
    from unnest(p_sessions) s
    where not s.is_idle and (not s.is_maintenance or s.transaction_ms >= v_very_long_ms);
end
$$;

create or replace function monitoring.check_prepared_transaction() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    -- Its name is its maker's and may hold anything.
    select 'prepared-transaction', format('transaction %s', x.transaction), extract(epoch from clock_timestamp() - x.prepared) * 1000,
      format('prepared by %s at %s and neither committed nor rolled back since: it keeps its locks, over restarts too', x.owner,
        to_char(x.prepared at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
      format('Ask its transaction manager; then commit prepared or rollback prepared what pg_prepared_xacts names for transaction %s.', x.transaction)
    from pg_prepared_xacts x
    where x.database = current_database();
end
$$;

create or replace function monitoring.check_connection_utilization(p_total bigint, p_idle bigint, p_percent numeric) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'connection-utilization', 'server', p_percent,
      format('%s connections, %s of them idle; ordinary roles can use %s', p_total, p_idle, round(100 * p_total / p_percent)),
      'Close idle connections or put a pooler in front; raise max_connections only with the memory for it.'
    where p_percent > 0;
end
$$;

-- A small table that is written all the time is past its threshold whenever autovacuum is not just there; it is vacuumed in no
-- time, and read in none.
create or replace function monitoring.check_dead_tuples(p_tables monitoring.seen_table[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- From 18 on its inheritance children are vacuumed too.
  v_only text := case when current_setting('server_version_num')::int >= 180000 then 'ONLY ' else '' end;
begin
  return query
    select 'dead-tuples', format('%I.%I', t.schemaname, t.tablename), round(100.0 * t.dead_tuples / (t.live_tuples + t.dead_tuples), 2),
      format('%s dead tuples beside %s live ones, past its autovacuum threshold', t.dead_tuples, t.live_tuples),
      format('VACUUM %s%I.%I; then see why autovacuum did not: long transactions, or its settings.', v_only, t.schemaname, t.tablename)
    from unnest(p_tables) t
    where t.needs_vacuum and t.dead_tuples >= 10000
    union all
    select 'dead-tuples', 'server', null, 'the server is a standby: tuple counts are kept on the primary', null
    where pg_is_in_recovery();
end
$$;

-- Tables of this database, and other databases as a whole: the server stops for the oldest of all.
create or replace function monitoring.check_transaction_id_age(p_tables monitoring.seen_table[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- From 18 on its inheritance children are vacuumed too.
  v_only text := case when current_setting('server_version_num')::int >= 180000 then 'ONLY ' else '' end;
begin
  return query
    select 'transaction-id-age', format('%I.%I', t.schemaname, t.tablename), t.xid_age::numeric,
      format('its oldest transaction id is %s transactions old', t.xid_age),
      format('VACUUM (FREEZE) %s%I.%I', v_only, t.schemaname, t.tablename)
    from unnest(p_tables) t
    where t.xid_age is not null
    union all
    -- Of this database only where no watched table accounts for it: a system table, or one of a schema that is not watched.
    select 'transaction-id-age', format('database %I', d.datname), age(d.datfrozenxid)::numeric,
      format('its oldest transaction id is %s transactions old', age(d.datfrozenxid)),
      format('VACUUM (FREEZE) in database %I, as its owner or a superuser', d.datname)
    from pg_database d
    where d.datname <> current_database()
      or age(d.datfrozenxid) > coalesce((select max(t.xid_age) from unnest(p_tables) t), 0) + 1000000::bigint;
end
$$;

create or replace function monitoring.check_multixact_age() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'multixact-age', format('database %I', d.datname), mxid_age(d.datminmxid)::numeric,
      format('its oldest multixact id is %s multixacts old', mxid_age(d.datminmxid)),
      format('VACUUM (FREEZE) in database %I. They come of rows that several transactions lock at once, as foreign keys do.', d.datname)
    from pg_database d;
end
$$;

create or replace function monitoring.check_rls_exposed(p_tables monitoring.seen_protection[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'rls-exposed', format('%I.%I', r.schemaname, r.tablename),
      case when r.is_anyones then 2.0 else 1.0 end,
      array_to_string(r.reasons || case when r.exposed_to <> '{}'
        then array[format('roles that can reach it: %s', array_to_string(r.exposed_to, ', '))] end, '; '),
      case
        when r.is_read_past and not r.is_hollow
          then format('alter view ... set (security_invoker = true) where a view reads past the policies of %I.%I (15 on), or revoke it (a rule: drop it): its readers see what its owner may.', r.schemaname, r.tablename)
        when r.is_unbound and not r.is_read_past
          then format('Revoke the role that owns it from anon and authenticated, or alter table %I.%I force row level security; and alter role ... nobypassrls.', r.schemaname, r.tablename)
        when r.rls_enabled
          then format('Create a policy that restricts on %I.%I, then drop the one that lets everybody through.', r.schemaname, r.tablename)
        else format('alter table %I.%I enable row level security, with a policy for each role that needs rows.', r.schemaname, r.tablename)
      end
    from unnest(p_tables) r;
end
$$;

-- What was changed in the last day and is not again as it was. Less protection: off, no longer forced, a restrictive policy gone,
-- a permissive one new. That a role got past all policies is told here too, whatever it is for.
create or replace function monitoring.check_rls_changed() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select 'rls-changed', format('%s %s', c.kind, c.object),
      case
        when c.kind = 'rls' and (c.now = 'off' or c.was = 'on, forced') then 2.0
        when c.kind = 'policy' and (c.was like 'restrictive%' and c.now is distinct from c.was or c.now like 'permissive%' and c.was is null) then 2.0
        when c.kind = 'role' then 2.0
        else 1.0
      end,
      format('it was %s and is %s since %s', coalesce(c.was, 'not there'), coalesce(c.now, 'gone'),
        to_char(c.changed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
      'If a migration meant this, suppress it for a day; otherwise put it back, and find out who did it.'
    from (
      -- Dropped and made anew is gone and new at once.
      select distinct c.kind, c.object, first_value(c.was) over (partition by c.kind, c.object order by c.observed_at, c.was is null) as was,
        first_value(c.now) over (partition by c.kind, c.object order by c.observed_at desc, c.now is null) as now,
        max(c.observed_at) over (partition by c.kind, c.object) as changed_at
      from monitoring.changes c
      where c.observed_at > now() - interval '1 day' and c.kind in ('rls', 'policy', 'role')
    ) c
    where c.was is distinct from c.now
      and (c.kind <> 'role' or c.now ~ '(superuser|bypasses)' and coalesce(c.was, '') !~ '(superuser|bypasses)')
    order by 3 desc, c.kind = 'policy', 2
    limit 100;
  -- Nobody looks for changes while the sampler's part fails.
  return query
    select 'rls-changed', 'changes', null::numeric, format('the sampler''s part changes fails: %s', p.problem), null
    from monitoring.sampler_parts p where p.part = 'changes' and p.failures > 0;
end
$$;

-- WAL is kept from where the slot stands until the disk is full, and the server stops.
create or replace function monitoring.check_replication_slot() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'replication-slot', format('slot %I', s.slot_name),
      round(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, s.restart_lsn) / 1048576, 2),
      format('a %s slot %s holds back WAL (%s)', s.slot_type, case when s.active then 'whose consumer is behind' when coalesce((to_jsonb(s) ->> 'synced')::boolean, false) and pg_is_in_recovery() then 'that is kept like the primary''s' else 'that nobody reads' end,
        coalesce(s.wal_status, 'not reserved')),
      format(case when coalesce((to_jsonb(s) ->> 'synced')::boolean, false) and pg_is_in_recovery()
          then 'It follows the slot of the primary, and is dropped there: bring the consumer of %L up to date, or drop it on the primary.'
          else 'Bring its consumer up to date, or, if that is gone for good: select pg_drop_replication_slot(%L). max_slot_wal_keep_size bounds what a slot may hold.' end,
        s.slot_name)
    from pg_replication_slots s
    where s.restart_lsn is not null and s.wal_status is distinct from 'lost'; -- which keeps nothing any more
end
$$;

-- In bytes and not in time: the time is unknown as long as nothing arrives.
create or replace function monitoring.check_replication_lag() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_is_in_recovery() then
    return query
      select 'replication-lag', 'this standby', round(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) / 1048576, 2),
        'it has received more WAL than it has replayed',
        'Look for what holds up the replay: a long query here (max_standby_streaming_delay), or a disk slower than the primary''s.'
      where pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn();
  else
    return query
      select 'replication-lag', format('standby %s', coalesce(nullif(r.application_name, ''), host(r.client_addr), r.pid::text)),
        round(pg_wal_lsn_diff(pg_current_wal_lsn(), min(r.replay_lsn)) / 1048576, 2),
        format('it is %s and has not replayed this much yet; by time: %s', min(r.state), coalesce(max(r.replay_lag)::text, 'unknown')),
        'Look at the network, then at the standby: what holds up its replay, and whether its disk keeps up.'
      from (
        -- pg_stat_replication would read all sessions to find the few that send.
        select w.*, a.application_name, a.client_addr from pg_stat_get_wal_senders() w cross join lateral pg_stat_get_activity(w.pid) a
      ) r
      where r.replay_lsn is not null and r.state <> 'backup'
      group by coalesce(nullif(r.application_name, ''), host(r.client_addr), r.pid::text);
  end if;
end
$$;

create or replace function monitoring.check_archiving_failed() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_archiver record;
  -- Attempts are of this server's life: before it nobody tried.
  v_failing_since timestamptz := pg_postmaster_start_time();
  v_waits_since timestamptz;
begin
  select a.last_archived_time, a.last_failed_time, a.failed_count, a.stats_reset into v_archiver from pg_stat_archiver a;
  -- A standby archives where archive_mode is always.
  if current_setting('archive_mode') = 'off' or current_setting('archive_mode') = 'on' and pg_is_in_recovery()
    or v_archiver.last_failed_time is null or v_archiver.last_failed_time <= v_archiver.last_archived_time
  then
    return;
  end if;
  v_failing_since := greatest(v_failing_since, v_archiver.last_archived_time);
  begin
    -- The server counts failures and keeps the time of the last one alone. A segment waits since it was full, and its first attempt came at once:
    -- an hour without one after the last success is no hour of failures.
    v_waits_since := (select min(f.modification) from pg_ls_archive_statusdir() f where f.name like '%.ready');
    if v_waits_since is null then
      return;
    end if;
    v_failing_since := greatest(v_failing_since, v_waits_since);
  exception when insufficient_privilege then
    v_failing_since := greatest(v_failing_since, v_archiver.stats_reset); -- not for us to read: pg_monitor is
  end;
  return query
    select 'archiving-failed', 'server', round(greatest(extract(epoch from clock_timestamp() - v_failing_since), 0)::numeric / 60, 2),
      format('%s attempts have failed; WAL piles up until the disk is full, and a restore ends where the archive does', v_archiver.failed_count),
      'Look into the server''s log for what archive_command (or archive_library) says, and at the room and rights of where it writes.';
end
$$;

-- The next four judge the last hour by the samples' counters; of less than ten minutes nothing is said.
create or replace function monitoring.check_frequent_checkpoints(p_hour monitoring.seen_hour) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'frequent-checkpoints', 'server', p_hour.checkpoints_requested::numeric,
      format('%s checkpoints were forced, %s came in time; each one makes the next writes of every page twice as large',
        p_hour.checkpoints_requested, p_hour.checkpoints_timed),
      format('Raise max_wal_size (%s now) until checkpoints come by checkpoint_timeout (%s).', current_setting('max_wal_size'), current_setting('checkpoint_timeout'))
    where p_hour.seconds >= 600 and p_hour.checkpoints_requested > 0;
end
$$;

create or replace function monitoring.check_temp_files(p_hour monitoring.seen_hour) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'temp-files', 'database', round(p_hour.temp_bytes / 1048576.0, 2),
      format('sorts and hashes that did not fit into work_mem wrote %s files', p_hour.temp_files),
      'Find the statements (monitoring.statements(), temp_blocks_written); an index or fewer rows first, then work_mem for those alone.'
    where p_hour.seconds >= 600 and p_hour.temp_bytes > 0;
end
$$;

-- In most minutes, since a backup reads everything once. And not in the first hours after a restart, in which the cache fills: that
-- the server began anew, its counters tell.
create or replace function monitoring.check_cache_misses(p_hour monitoring.seen_hour) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A database that hardly reads misses nothing.
  if coalesce(p_hour.seconds < 600 or p_hour.blocks_read < 50000 or p_hour.missed_percent = 0, true)
    or exists (
      select
      from (
        select s.commits < lag(s.commits) over by_time or s.server_started_at is distinct from lag(s.server_started_at, 1, s.server_started_at) over by_time as is_new
        from monitoring.samples s
        where s.tick_at between now() - interval '6 hours' and now()
        window by_time as (order by s.sampled_at)
      ) s
      where s.is_new)
  then
    return;
  end if;
  return query
    select 'cache-misses', 'database', round(least(p_hour.missed_percent::numeric, 100.0 * p_hour.blocks_read / (p_hour.blocks_read + p_hour.blocks_hit)), 2),
      format('%s of %s blocks were read from disk or from the system''s cache', p_hour.blocks_read, p_hour.blocks_read + p_hour.blocks_hit),
      format('Find the statements that read most (monitoring.statements(), cache_hit_percent); then see whether shared_buffers (%s) fits what is in use.',
        current_setting('shared_buffers'));
end
$$;

create or replace function monitoring.check_deadlocks(p_hour monitoring.seen_hour) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'deadlocks', 'database', p_hour.deadlocks::numeric,
      format('%s times the server has ended a transaction that waited in a circle', p_hour.deadlocks),
      'The server''s log has both statements of each. Take locks in one order everywhere (by primary key, say), and try again on SQLSTATE 40P01.'
    where p_hour.deadlocks > 0;
end
$$;

-- Told by whoever looks, and by the first sample after the gap. Before the first sample ever there is none.
create or replace function monitoring.check_sampler_gap(p_last_sample_at timestamptz) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'sampler-gap', 'sampler',
      extract(epoch from clock_timestamp() - p_last_sample_at) / (monitoring.setting('sample_interval_seconds') #>> '{}')::numeric,
      format('the last sample was taken at %s', to_char(p_last_sample_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
      'Look at the schedule that sends {"task":"sample"} and at the log of the function.'
    where p_last_sample_at is not null;
end
$$;

-- Where nobody publishes there is no bus, and nobody waits for it.
create or replace function monitoring.check_unannounced() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever publishes begins with the oldest.
  if coalesce((select o.attempts from monitoring.outbox o where o.published_at is null order by o.place limit 1), 0) = 0 then
    return;
  end if;
  return query
    with unpublished as materialized (
      select o.place, o.created_at, o.detail_type, o.last_error, o.given_up_at from monitoring.outbox o where o.published_at is null
    )
    select 'unannounced', 'waiting', count(*)::numeric,
      format('since %s, and publishing fails: %s', to_char(min(u.created_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        coalesce((array_agg(u.last_error order by u.place) filter (where u.last_error is not null))[1], 'nobody said why')),
      'Look at the bus (EVENT_BUS_NAME), the function''s right to events:PutEvents, and its log. What waits for 30 days is lost.'
    from unpublished u
    where u.given_up_at is null and u.created_at < now() - interval '1 hour'
    having count(*) > 0
    union all
    select 'unannounced', 'given up', count(*)::numeric,
      format('the bus refuses %s and takes others: %s', min(u.detail_type), coalesce(min(u.last_error), 'nobody said why')),
      'See what it is: select * from monitoring.outbox where given_up_at is not null. To try again, as the owner: update monitoring.outbox set given_up_at = null, refusals = 0, attempts = 0 where given_up_at is not null. It is forgotten after a week.'
    from unpublished u
    where u.given_up_at is not null
    having count(*) > 0;
end
$$;

-- What cannot be seen must not look like health, nor going blind like recovery.
create or replace function monitoring.check_blind_spot(p_reasons text[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'blind-spot', 'server', 1.0, (select string_agg(distinct r, '; ') from unnest(p_reasons) r),
      'As a superuser: grant pg_monitor to monitoring_owner; and leave track_activities and track_counts on.'
    where p_reasons <> '{}';
end
$$;

-- Only the SQLSTATE: a message may quote data.
create or replace function monitoring.check_check_failed(p_failed jsonb) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'check-failed', f.key, 1.0, format('it ended with SQLSTATE %s: what it would have found is unknown', f.value #>> '{}'),
      'By the code: 42501 is a privilege that monitoring_owner lacks, 55P03 a lock that somebody held; for 42883 and 42P01, something of pgvigil''s is gone: apply the migrations again.'
    from jsonb_each(p_failed) f;
end
$$;

-- Checks every 15 minutes -------------------------------------------------------------------------------------------

-- What a platform or pgvigil itself owns: nobody here can change it.
create or replace function monitoring.platform_roles() returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    -- Byte by byte: a role's name may be of another database's encoding, and no text here.
    select r.oid from pg_roles r
    where r.rolname >= 'pg_' and r.rolname < 'pg`' and r.rolname <> 'pg_database_owner' or r.rolname >= 'rds' and r.rolname < 'rdt' or r.rolname >= 'supabase_' and r.rolname < 'supabase`'
      or r.rolname >= 'cloudsql' and r.rolname < 'cloudsqm' or r.rolname >= 'alloydb' and r.rolname < 'alloydc'
      or r.rolname >= 'azure' and r.rolname < 'azurf' or r.rolname = 'monitoring_owner');
end
$$;

-- By its own week, and only where there is enough of both: a statement that runs rarely, or in no time, may vary as it likes.
create or replace function monitoring.check_statement_regression() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  return query
    with hour as materialized (
      select a.query_id, a.calls, a.exec_ms / a.calls as mean_ms
      from monitoring.statement_activity(now() - interval '1 hour', now()) a
      where a.calls >= 20 and a.exec_ms >= 5 * a.calls and a.exec_ms >= 1000
    )
    select 'statement-regression', format('query %s', h.query_id), round((h.mean_ms / w.mean_ms)::numeric, 2),
      format('%s ms on average in the last hour, %s ms in the week before: %s', round(h.mean_ms::numeric, 1), round(w.mean_ms::numeric, 1),
        coalesce(t.query_preview, 'its text is not known')),
      'See what changed: its plan (EXPLAIN; statistics that an ANALYZE renews), the rows it finds, an index that is gone, waiting for locks.'
    from hour h
      join (
        select a.query_id, a.exec_ms / a.calls as mean_ms
        from monitoring.statement_activity(now() - interval '7 days', now() - interval '1 hour') a
        where a.calls >= 100 and a.exec_ms > 0
      ) w on w.query_id = h.query_id
      left join monitoring.statement_texts t on t.query_id = h.query_id
    where h.mean_ms > w.mean_ms
    order by h.mean_ms / w.mean_ms desc
    limit 100;
end
$$;

-- By the counters since they were last reset. Only where a scan reads many rows: LIMIT 1 on a large table is no loss.
create or replace function monitoring.check_sequential_scans(p_tables monitoring.seen_scanned[]) returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'sequential-scans', format('%I.%I', s.schemaname, s.tablename), round(100.0 * s.scans / (s.scans + coalesce(s.index_scans, 0)), 2),
      format('%s of %s scans read it from end to end, %s rows each on average of %s', s.scans, s.scans + coalesce(s.index_scans, 0),
        round(s.rows_read::numeric / s.scans), s.live_tuples),
      'Find the statements that filter it by columns without an index (monitoring.statements()) and create one; where most of the rows are wanted, a sequential scan is right: suppress this.'
    from unnest(p_tables) s
    where s.scans >= 100 and s.rows_read >= s.scans * 1000::numeric and s.scans > coalesce(s.index_scans, 0) / 100
    order by 3 desc, s.rows_read desc
    limit 100;
  -- Which tables are large is not known there.
  if pg_is_in_recovery() then
    return query
      select 'sequential-scans', 'server', null::numeric, 'the server is a standby: tuple counts are kept on the primary', null;
  end if;
end
$$;

-- An int column is full long before the bigint sequence behind it. To read a sequence is to lock it until the transaction ends,
-- and locks are few: of more than 250 only those of the 200 largest tables are read, and 50 that belong to no table; none that
-- DDL has locked.
create or replace function monitoring.check_sequence_exhaustion() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '10ms'
set plan_cache_mode = force_generic_plan
set random_page_cost = 0.1
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_asked oid[] := array(select s.seqrelid from pg_sequence s where not s.seqcycle limit 251);
  v_locked oid[];
begin
  if cardinality(v_asked) > 250 then
    v_asked := array(
      (with tables as materialized (
        select c.oid
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.reltype <> 0 and (c.relkind = 'r' or c.relkind = 'p') and monitoring.is_application_schema(n.nspname, v_schemas)
        order by c.reltuples desc
        limit 200
      )
      -- Whose each one is, if anybody's: of all that depends on a table few are sequences.
      select s.seqrelid
      from tables t
        join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.classid = 'pg_class'::regclass
          and d.deptype in ('a', 'i')
        join pg_sequence s on s.seqrelid = d.objid
      where not s.seqcycle)
      union all
      (select s.seqrelid
      from pg_sequence s
      where not s.seqcycle and not exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid and d.refclassid = 'pg_class'::regclass
          and d.deptype in ('a', 'i'))
      limit 50));
  end if;
  -- Hardly ever is a sequence locked, and all locks of a server are many: they are read when one is.
  loop
    begin
      return query
        with sequences as materialized (
          select n.nspname, c.relname, s.seqrelid, s.seqmin, s.seqmax, s.seqincrement, r.is_readable,
            case when r.is_readable and s.seqrelid <> all (coalesce(v_locked, '{}')) then pg_sequence_last_value(s.seqrelid) end as last_value
          from unnest(v_asked) as a (oid)
            join pg_sequence s on s.seqrelid = a.oid
            join pg_class c on c.oid = a.oid
            join pg_namespace n on n.oid = c.relnamespace
            cross join lateral (select case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'select') end as is_readable) r
          where c.relpersistence <> 't' and monitoring.is_application_schema(n.nspname, v_schemas)
        ), owned as (
          -- The column it fills is asked for where one of the smallest type could be a hundredth full.
          select s.*, o.table_name, o.column_name,
            -- Else by what it was made to count to.
            coalesce(case when s.seqincrement > 0 then o.column_max <= s.seqmax else -o.column_max - 1 >= s.seqmin end, false) as is_full_by_column, least(s.seqmax, coalesce(o.column_max, s.seqmax)) as highest,
            -- Where it goes down.
            greatest(s.seqmin, coalesce(-o.column_max - 1, s.seqmin)) as lowest
          from sequences s
            left join lateral (
              select format('%I.%I', tn.nspname, t.relname) as table_name, a.attname as column_name,
                -- A domain, also one over another, is written as its type is.
                case y.typoutput::oid when 'int2out'::regproc then 32767 when 'int4out'::regproc then 2147483647 end as column_max
              from (
                  select d.refobjid as relation_oid, d.refobjsubid as attnum from pg_depend d
                  where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid and d.refclassid = 'pg_class'::regclass
                    and d.deptype in ('a', 'i')
                  union all
                  -- Or whose default it is, though nobody owns it.
                  select f.adrelid, f.adnum from pg_depend d join pg_attrdef f on f.oid = d.objid
                  where d.refclassid = 'pg_class'::regclass and d.refobjid = s.seqrelid and d.classid = 'pg_attrdef'::regclass
                ) d
                join pg_class t on t.oid = d.relation_oid
                join pg_namespace tn on tn.oid = t.relnamespace
                join pg_attribute a on a.attrelid = t.oid and a.attnum = d.attnum
                join pg_type y on y.oid = a.atttypid
              order by column_max nulls last, a.attinhcount, a.attrelid, a.attnum -- an inherited one cannot be altered
              limit 1
            ) o on s.last_value > 300 or s.seqmax < 32767 or s.seqmin < 0 or s.seqincrement < 0
          where s.last_value is not null
        ), used as (
          select o.*, round(case when o.seqincrement > 0
              then 100 * (o.last_value::numeric - o.seqmin + 1) / greatest(o.highest::numeric - o.seqmin + 1, 1)
              else 100 * (o.seqmax::numeric - o.last_value + 1) / greatest(o.seqmax::numeric - o.lowest + 1, 1) end, 2) as percent
          from owned o
        )
        select 'sequence-exhaustion', 'unreadable', null::numeric,
          format('%s of %s sequences cannot be read: grant select on all sequences in schema ... to monitoring_owner',
            count(*) filter (where not s.is_readable), count(*)), null
        from sequences s
        having count(*) filter (where not s.is_readable) > 0
        union all
        (select 'sequence-exhaustion', format('%I.%I', u.nspname, u.relname), u.percent,
          format('it stands at %s; %s takes values %s to %s', u.last_value,
            case when u.is_full_by_column then format('column %I of %s', u.column_name, u.table_name) else 'it' end,
            case when u.seqincrement > 0 then 'up' else 'down' end, case when u.seqincrement > 0 then u.highest else u.lowest end),
          case when u.is_full_by_column
            then format('alter table %s alter column %I type bigint (and the columns that refer to it), in a quiet hour: it rewrites the table. Then alter sequence %I.%I as bigint no %s.',
              u.table_name, u.column_name, u.nspname, u.relname, case when u.seqincrement > 0 then 'maxvalue' else 'minvalue' end)
            else format('alter sequence %I.%I as bigint no %s; or start it anew where its old values are no longer in use.', u.nspname, u.relname,
              case when u.seqincrement > 0 then 'maxvalue' else 'minvalue' end) end
        from used u
        where u.percent >= 1
        order by u.percent desc
        limit 100);
      return;
    exception when lock_not_available then
      -- All are read before the first row is returned, so none was.
      if v_locked is not null then
        raise;
      end if;
      -- Of what ALTER SEQUENCE and DDL take: a sequence is read as if it were written.
      v_locked := array(
        select l.relation from pg_locks l
        where l.locktype = 'relation' and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          and l.pid is distinct from pg_backend_pid()
          and l.database = (select d.oid from pg_database d where d.datname = current_database()));
    end;
  end loop;
end
$$;

-- Reads count for as long as the statistics do, so an index says nothing before its table has been read often, nor in the
-- first days after a reset (before 15: after the database was made). Never one that a constraint or a unique rule needs, whoever reads it.
create or replace function monitoring.check_unused_index() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_platform oid[] := monitoring.platform_roles();
  v_reset_at timestamptz := (select s.stats_reset from pg_stat_database s where s.datname = current_database());
begin
  if pg_is_in_recovery() then
    return query select 'unused-index', 'server', null::numeric, 'the server is a standby: index scans of the primary are counted there', null;
    return;
  end if;
  -- From 15 on a crash, a restore and pg_upgrade forget the counters and leave no reset behind; and who was a standby until a failover has
  -- counted for itself.
  v_reset_at := greatest(coalesce(v_reset_at, pg_postmaster_start_time()), (
    select max(s.tick_at) from monitoring.samples s
    where s.timeline <> (select l.timeline from monitoring.samples l order by l.tick_at desc limit 1)));
  if v_reset_at > now() - make_interval(days => (monitoring.setting('unused_index_after_days') #>> '{}')::int) then
    return;
  end if;
  return query
    select 'unused-index', format('%I.%I', n.nspname, c.relname),
      round(c.relpages * current_setting('block_size')::numeric / 1048576, 2),
      format('an index on %I that nothing has read since %s, and that every write keeps up to date', t.relname,
        to_char(v_reset_at at time zone 'UTC', 'YYYY-MM-DD')),
      format('drop index concurrently %I.%I, unless a standby reads it (they count for themselves) or it is for a rare hour.', n.nspname, c.relname)
    from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_class t on t.oid = i.indrelid
      join pg_namespace n on n.oid = c.relnamespace
    where i.indrelid >= 16384 and not i.indisunique and not i.indisexclusion and not i.indisprimary and i.indisvalid and not i.indisreplident
      -- A partition's index goes with its parent's, or not at all.
      and c.relkind = 'i' and not c.relispartition and c.relpages >= 16 and c.relpersistence <> 't' and c.relowner <> all (v_platform)
      and pg_stat_get_numscans(i.indexrelid) = 0
      and pg_stat_get_numscans(i.indrelid) + (
        select coalesce(sum(pg_stat_get_numscans(o.indexrelid)), 0) from pg_index o where o.indrelid = i.indrelid) >= 1000
      and monitoring.is_application_schema(n.nspname, v_schemas)
    order by c.relpages desc
    limit 100;
end
$$;

-- The same columns in the same order, or the first of another's. Of two that are the same the younger goes; one that a
-- constraint or a unique rule needs stays.
create or replace function monitoring.check_duplicate_index() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set random_page_cost = 0.1
set enable_nestloop = off -- but for what is found by index, row by row
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_platform oid[] := monitoring.platform_roles();
begin
  return query
    with alike as materialized (
      -- Hardly any two begin with the same column: only of those is the rest compared.
      select a.indexrelid
      from (
        select i.indexrelid, count(*) over w as alike,
          bool_or(not (i.indisunique or i.indisprimary or i.indisexclusion or i.indisreplident)) over w as is_any_spare
        from pg_index i
        where i.indisvalid
          -- Most tables have none but what they need.
          and i.indrelid in (
            select s.indrelid from pg_index s
            where s.indrelid >= 16384 and s.indisvalid and not (s.indisunique or s.indisprimary or s.indisexclusion or s.indisreplident))
        window w as (partition by i.indrelid, i.indkey[0])
      ) a
      where a.alike > 1 and a.is_any_spare
    ), indexes as materialized (
      select i.indexrelid, i.indrelid, c.relname, c.relnamespace, c.relam, c.relkind, c.relpages,
        i.indisunique or i.indisprimary or i.indisexclusion or i.indisreplident as is_needed,
        i.indnatts > i.indnkeyatts as includes, i.indnkeyatts,
        i.indkey::text as columns, i.indclass::text as classes, i.indcollation::text as collations, i.indoption::text as options,
        -- Monstrous ones are like no other.
        case when i.indexprs is null then '' when pg_column_size(i.indexprs) > 100000 then i.indexrelid::text
          else regexp_replace(i.indexprs::text, ' :location -?[0-9]+', '', 'g') end as expressions,
        case when i.indpred is null then '' when pg_column_size(i.indpred) > 100000 then i.indexrelid::text
          else regexp_replace(i.indpred::text, ' :location -?[0-9]+', '', 'g') end
          -- What an operator class or an access method was told: another signature, another range of pages.
          || coalesce((select string_agg(concat(' ', t.attnum, t.attoptions), '' order by t.attnum) from pg_attribute t where t.attrelid = i.indexrelid and t.attoptions is not null), '')
          || case when c.relam not in (403, 405) then coalesce(c.reloptions::text, '') else '' end as condition
      from alike a
        cross join lateral (select * from pg_index x where x.indexrelid = a.indexrelid offset 0) i
        cross join lateral (select * from pg_class x where x.oid = i.indexrelid offset 0) c
      where (c.relkind = 'i' or c.relkind = 'I') and not c.relispartition and c.relpersistence <> 't' and c.relowner <> all (v_platform)
    ), keys as (
      -- Each by all of its columns, and a B-tree, which can be searched by its first columns as well as by all, by each of its beginnings
      -- too: what has the same is next to each other, and nothing is compared with each. With expressions a column number is 0.
      select i.indexrelid, true as is_whole, i.is_needed, i.indrelid, i.relam, i.expressions, i.condition, i.columns, i.classes, i.collations, i.options, i.includes
      from indexes i
      union all
      select i.indexrelid, false, false, i.indrelid, i.relam, '', i.condition,
        array_to_string((string_to_array(i.columns, ' '))[:l.length], ' '), array_to_string((string_to_array(i.classes, ' '))[:l.length], ' '),
        array_to_string((string_to_array(i.collations, ' '))[:l.length], ' '), array_to_string((string_to_array(i.options, ' '))[:l.length], ' '), false
      from indexes i cross join generate_series(1, i.indnkeyatts - 1) as l (length)
      where i.relam = 403 and i.expressions = ''
    ), alternatives as (
      select k.indexrelid, k.is_whole, k.is_needed, min(k.indexrelid) filter (where k.is_whole) over w as first,
        min(k.indexrelid) filter (where k.is_needed) over w as first_needed, min(k.indexrelid) filter (where not k.is_whole) over w as first_longer
      from keys k
      window w as (partition by k.indrelid, k.relam, k.includes, k.columns collate "C", k.classes collate "C", k.collations collate "C", k.options collate "C",
        k.condition collate "C", k.expressions collate "C")
    )
    select 'duplicate-index', format('%I.%I', n.nspname, d.relname),
      round(s.pages * current_setting('block_size')::numeric / 1048576, 2),
      case when d.is_same then format('%I has the same columns in the same order', d.other)
        else format('%I begins with the same columns', d.other) end,
      format('drop index %s%I.%I', case when d.relkind <> 'I' then 'concurrently ' end, n.nspname, d.relname)
    from (
      select d.indexrelid, d.relname, d.relnamespace, d.relkind, d.relpages, o.relname as other, o.columns = d.columns as is_same
      from (
          select a.indexrelid, least(case when a.first < a.indexrelid then a.first else a.first_needed end, a.first_longer) as other_oid
          from alternatives a where a.is_whole and not a.is_needed
          offset 0
        ) a
        join indexes d on d.indexrelid = a.indexrelid
        join indexes o on o.indexrelid = a.other_oid
    ) d
      join pg_namespace n on n.oid = d.relnamespace
      cross join lateral (
        -- A partitioned table's has no pages but its partitions'.
        select case when d.relkind <> 'I' then d.relpages else (
          with recursive parts as (
            select h.inhrelid as oid from pg_inherits h where h.inhparent = d.indexrelid
            union all
            select h.inhrelid from parts p join pg_inherits h on h.inhparent = p.oid
          )
          select coalesce(sum(c.relpages), 0) from parts p join pg_class c on c.oid = p.oid) end as pages
      ) s
    where monitoring.is_application_schema(n.nspname, v_schemas)
    order by s.pages desc, d.indexrelid
    limit 100;
end
$$;

-- What CREATE INDEX CONCURRENTLY leaves behind when it fails: every write keeps it up to date, and no statement uses it.
create or replace function monitoring.check_invalid_index() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_platform oid[] := monitoring.platform_roles();
begin
  return query
    select 'invalid-index', format('%I.%I', n.nspname, c.relname), 1.0,
      case when c.relkind = 'I' then format('an index on %I that is not there in all of its partitions: a unique one keeps nothing unique', t.relname)
        else format('an index on %I that was not built to its end: it costs every write and serves no statement', t.relname) end,
      case when c.relkind = 'I' then format('Create it on each partition that lacks it, and: alter index %I.%I attach partition, for each.', n.nspname, c.relname)
        when c.relname ~ '_cc(new|old)[0-9]*$' then format('drop index concurrently %I.%I%s: reindex concurrently left it behind; then reindex again what it was of.',
          n.nspname, c.relname, case when t.relkind = 't' then ' (which only a superuser may, in this schema)' end)
        when c.relispartition then format('reindex index concurrently %I.%I', n.nspname, c.relname)
        else format('drop index concurrently %I.%I, and create it again; or reindex index concurrently.', n.nspname, c.relname) end
    from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_class t on t.oid = i.indrelid
      join pg_namespace n on n.oid = c.relnamespace
    where not i.indisvalid and i.indrelid >= 16384 and c.relkind in ('i', 'I') and c.relowner <> all (v_platform)
      and (monitoring.is_application_schema(n.nspname, v_schemas) or t.relkind = 't' and exists (
        select from pg_class o join pg_namespace m on m.oid = o.relnamespace
        where o.reltoastrelid = t.oid and monitoring.is_application_schema(m.nspname, v_schemas)))
      -- A foreign partition can have none: what pg_dump restores of such a table is never whole.
      and (c.relkind = 'i' or not exists (
          select from pg_inherits h join pg_class f on f.oid = h.inhrelid where h.inhparent = i.indrelid and f.relkind = 'f')
        or exists (
          select from pg_inherits h join pg_class f on f.oid = h.inhrelid
          where h.inhparent = i.indrelid and f.relkind <> 'f' and not exists (
            select from pg_index x join pg_inherits y on y.inhrelid = x.indexrelid
            where x.indrelid = f.oid and x.indisvalid and y.inhparent = i.indexrelid)))
      -- Not while somebody builds it, or waits to drop it.
      and not exists (
        select from pg_stat_progress_create_index p
        where p.index_relid = i.indexrelid or p.relid = i.indrelid or p.relid in (
            with recursive parts as (
              select h.inhrelid from pg_inherits h where h.inhparent = i.indrelid
              union all
              select h.inhrelid from parts s join pg_inherits h on h.inhparent = s.inhrelid
            )
            select s.inhrelid from parts s))
      and not exists (
        select from pg_locks l
        where l.locktype = 'relation' and l.relation = i.indexrelid and l.mode = 'ShareUpdateExclusiveLock' and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database()))
    order by c.oid
    limit 100;
end
$$;

-- Every DELETE and every change of key in the parent looks for rows in this table, and reads all of it.
create or replace function monitoring.check_foreign_key_without_index() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_platform oid[] := monitoring.platform_roles();
  v_may_be_unenforced boolean := current_setting('server_version_num')::int >= 180000;
begin
  return query
    with found as materialized (
      -- Of several by the same columns one index serves all.
      select distinct on (c.conrelid, k.conkey) n.nspname, t.relname, t.relpages, c.conname, pn.nspname as parent_schema, p.relname as parent,
        c.conrelid, k.conkey
      from (
          select f.*, case when v_may_be_unenforced then to_jsonb(f) end as newer from pg_constraint f where f.contype = 'f'
          offset 0 -- looked at once
        ) c
        join pg_class t on t.oid = c.conrelid
        join pg_namespace n on n.oid = t.relnamespace
        join pg_class p on p.oid = c.confrelid
        join pg_namespace pn on pn.oid = p.relnamespace
        -- From 18 on the last may be a period, which is looked for by its overlaps: no B-tree serves it, and the others lead to a few rows.
        cross join lateral (select case when (c.newer ->> 'conperiod')::boolean then trim_array(c.conkey, 1) else c.conkey end as conkey offset 0) k
      where t.relkind = 'r' and t.relowner <> all (v_platform)
        and monitoring.is_application_schema(n.nspname, v_schemas)
        -- One to a partitioned table has a copy for each of its partitions; from 18 on one need not be enforced.
        and not exists (select from pg_constraint o where o.oid = c.conparentid and o.conrelid = c.conrelid)
        and coalesce((c.newer ->> 'conenforced')::boolean, true)
        and not exists (
          select from pg_index i
          where i.indrelid = c.conrelid and i.indisvalid and i.indnkeyatts >= cardinality(k.conkey)
            -- Of what is looked for no part is null.
            and (i.indpred is null or pg_column_size(i.indpred) < 1000 and substring(i.indpred::text
              from '^[{]NULLTEST :arg [{]VAR [^{}]*:varattno ([0-9]+) [^{}]*[}] :nulltesttype 1 [^{}]*[}]$')::int2 = any (k.conkey))
            -- In any order.
            and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
            -- Under another collation it is no index for the column.
            and (0 = all (i.indcollation::oid[]) or not exists (
              select from generate_series(0, cardinality(k.conkey) - 1) o
                join pg_attribute t on t.attrelid = i.indrelid and t.attnum = i.indkey[o]
                -- Of a parent whose collation is not deterministic the key is looked for in that (to 17 the two may differ).
                join pg_attribute u on u.attrelid = c.confrelid and u.attnum = c.confkey[array_position(c.conkey, i.indkey[o])]
                left join pg_collation x on x.oid = u.attcollation and not x.collisdeterministic
              where i.indcollation[o] <> coalesce(x.oid, t.attcollation)))
            -- A BRIN index finds parts of the table and no row.
            and (select x.relam from pg_class x where x.oid = i.indexrelid) <> (select m.oid from pg_am m where m.amname = 'brin'))
      order by c.conrelid, k.conkey, c.oid
    )
    select 'foreign-key-without-index', format('%I.%I %I', k.nspname, k.relname, k.conname),
      round(k.relpages * current_setting('block_size')::numeric / 1048576, 2),
      format('no index begins with (%s): a DELETE in %I.%I reads all of this table', k.columns, k.parent_schema, k.parent),
      format('create index concurrently on %I.%I (%s)', k.nspname, k.relname, k.columns)
    from (
      select f.*, (
          select string_agg(quote_ident(a.attname), ', ' order by o.place)
          from unnest(f.conkey) with ordinality o (attnum, place) join pg_attribute a on a.attrelid = f.conrelid and a.attnum = o.attnum) as columns
      from (select * from found order by relpages desc limit 100) f
    ) k;
end
$$;

-- Who signs in as a superuser or with BYPASSRLS reads past every policy. Not the one that made the cluster, which must
-- be there, nor a platform's own, nor the database's owner, who owns the tables as a rule.
create or replace function monitoring.check_privileged_login() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_platform oid[] := monitoring.platform_roles();
begin
  return query
    with powers as materialized (
      -- Those that are not told themselves; and once, not once a login.
      select o.oid, o.rolname, o.rolsuper from pg_roles o where (o.rolsuper or o.rolbypassrls) and (not o.rolcanlogin or o.oid = 10)
    )
    select 'privileged-login', format('role %I', r.rolname), case when r.rolsuper or b.is_super then 2.0 else 1.0 end,
      case when r.rolsuper then 'a superuser that can sign in: no policy and no privilege binds it'
        when r.rolbypassrls then 'a login with BYPASSRLS: no policy binds it'
        else format('a login that may become %s by SET ROLE: then no policy binds it', b.names) end,
      case when r.rolsuper or r.rolbypassrls
          then format('If an application signs in with it, give that a role of its own and: alter role %I %s.', r.rolname, case when r.rolsuper then 'nosuperuser' else 'nobypassrls' end)
        else format('If an application signs in with it: revoke %s from %I, or the role by which it is a member.', b.names, r.rolname)
      end || ' If it is for people or backups, suppress this with the reason.'
    from pg_roles r
      cross join lateral (
        -- Attributes are not inherited, but whoever may become such a role has them.
        select string_agg(quote_ident(o.rolname), ', ' order by not o.rolsuper, o.rolname) as names, bool_or(o.rolsuper) as is_super
        from powers o
        where r.rolcanlogin and not r.rolsuper and not r.rolbypassrls and r.oid in (select m.member from pg_auth_members m)
          and monitoring.may_become(r.oid, o.oid)
      ) b
    where r.rolcanlogin and (r.rolsuper or r.rolbypassrls or b.names is not null) and r.oid <> 10
      -- What PostgREST, and so Supabase, signs in with becomes service_role by design, for whoever has its key.
      and (r.rolsuper or r.rolbypassrls or b.is_super or r.rolname <> 'authenticator')
      and r.oid <> (select d.datdba from pg_database d where d.datname = current_database())
      and r.oid <> all (v_platform)
      and coalesce(r.rolvaliduntil > now(), true)
    order by 3 desc, r.rolname
    limit 100;
end
$$;

-- A caller can put a schema of their own before the function's, and their operators and functions run as its owner.
create or replace function monitoring.check_definer_search_path() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_platform oid[] := monitoring.platform_roles();
  v_everybody oid[] := array(select r.oid from pg_roles r where r.rolname in ('anon', 'authenticated')) || 0::oid;
begin
  return query
    select 'definer-search-path', format('%s', p.oid::regprocedure),
      case when o.rolsuper and exists (
        select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = any (v_everybody) and a.privilege_type = 'EXECUTE')
        then 2.0 else 1.0 end,
      format('it runs as %I with the search path of whoever calls it', o.rolname),
      format('alter %s %s set search_path = pg_catalog, pg_temp, and write schema names in its body', case p.prokind when 'p' then 'procedure' else 'function' end,
        p.oid::regprocedure)
    from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
      join pg_roles o on o.oid = p.proowner
      join pg_language l on l.oid = p.prolang
    where p.prosecdef and p.oid >= 16384 and p.proowner <> all (v_platform) and l.lanname not in ('c', 'internal')
      and p.prosqlbody is null -- whose names were resolved when it was made
      and monitoring.is_application_schema(n.nspname, v_schemas)
      and not exists (select from unnest(p.proconfig) s where starts_with(s, 'search_path='))
      and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
    order by 3 desc, p.oid
    limit 100;
end
$$;

-- As the server has them: what a session or a function sets for itself does not count. All of pg_settings is read for any of it, and
-- costs more than the rest of this: what a session may set is asked for by setting it back, which the function's own clauses
-- for the same settings undo at its end.
create or replace function monitoring.check_unsafe_setting() returns setof monitoring.candidate
language plpgsql stable
set search_path = pg_catalog, pg_temp
set synchronous_commit = on
set password_encryption = 'scram-sha-256'
set row_security = on
set enable_indexscan = on
set enable_seqscan = on
set work_mem = '4MB'
set effective_cache_size = '4GB'
set jit = off
as $$
declare
  v_found monitoring.candidate[];
begin
  v_found := array(
    with s as materialized (
      select n.name, case
          when n.is_of_sessions then set_config(n.name, null, true)
          -- A superuser's session may set these, and nobody else may set them back.
          when n.name in ('zero_damaged_pages', 'ignore_checksum_failure') and current_setting(n.name) = 'on'
            then (select g.reset_val from pg_settings g where g.name = n.name)
          else current_setting(n.name)
        end as value
      from (values
        ('fsync', false), ('full_page_writes', false), ('autovacuum', false), ('zero_damaged_pages', false), ('ignore_checksum_failure', false),
        ('autovacuum_freeze_max_age', false), ('checkpoint_completion_target', false), ('max_connections', false),
        ('synchronous_commit', true), ('password_encryption', true), ('row_security', true), ('enable_indexscan', true),
        ('enable_seqscan', true), ('work_mem', true), ('effective_cache_size', true)
      ) as n (name, is_of_sessions)
    ), numbers as (
      select max(pg_size_bytes(s.value)) filter (where s.name = 'work_mem') / 1048576.0 as work_mb,
        max(s.value::numeric) filter (where s.name = 'max_connections') as connections,
        max(pg_size_bytes(s.value)) filter (where s.name = 'effective_cache_size') / 1048576.0 as cache_mb
      from s
      where s.name in ('work_mem', 'max_connections', 'effective_cache_size')
    )
    select row('unsafe-setting', w.name, w.level, w.detail, case
        when o.is_databases then format('alter database %I reset %I', current_database(), w.name)
        when o.is_everybodys then format('alter role all reset %I', w.name)
        -- From 17 on it can be forbidden.
        else w.remediation || case when current_setting('allow_alter_system', true) = 'off' and w.remediation like 'alter system%'
          then ' (allow_alter_system is off here: in the configuration file, or where the platform keeps it)' else '' end
      end)::monitoring.candidate
    from (
      select s.name, w.level, w.detail, coalesce(w.remediation, format('alter system reset %I, and in its file if it is set there; then reload', s.name)) as remediation
      from s join (values
        ('fsync', 'off', 2.0, 'a crash of the machine can destroy the database', null),
        ('full_page_writes', 'off', 2.0, 'a crash in the middle of a write can destroy a page', null),
        ('autovacuum', 'off', 2.0, 'dead rows stay, statistics age, and transaction ids run out', null),
        ('zero_damaged_pages', 'on', 2.0, 'a damaged page is emptied instead of reported', null),
        ('ignore_checksum_failure', 'on', 2.0, 'damaged pages are read as if they were whole', null),
        ('synchronous_commit', 'off', 1.0, 'the last transactions before a crash can be lost, though their commit was answered',
          'alter system reset synchronous_commit; where the loss is acceptable set it for those transactions only'),
        ('password_encryption', 'md5', 1.0, 'new passwords are stored in a form that is easily broken', 'alter system set password_encryption = ''scram-sha-256'', then set the passwords anew'),
        ('row_security', 'off', 1.0, 'a statement that a policy would restrict ends in an error', null),
        ('enable_indexscan', 'off', 1.0, 'no statement may use an index scan', null),
        ('enable_seqscan', 'off', 1.0, 'the planner avoids sequential scans at any price', null)
      ) as w (name, value, level, detail, remediation) on w.name = s.name and w.value = s.value
      -- The storage of Aurora and of Neon keeps pages whole by itself.
      where s.name not in ('fsync', 'full_page_writes')
        or to_regproc('pg_catalog.aurora_version') is null and current_setting('neon.tenant_id', true) is null
      union all
      select 'autovacuum_freeze_max_age', 1.0, format('%s: little is left before transaction ids run out at 2 billion', s.value),
        'Lower it to 500 million or less; what comes near it is autovacuum''s work for weeks.'
      from s where s.name = 'autovacuum_freeze_max_age' and s.value::bigint > 1000000000
      union all
      select 'checkpoint_completion_target', 1.0, format('%s: each checkpoint writes all at once', s.value), 'alter system set checkpoint_completion_target = 0.9, then reload'
      from s where s.name = 'checkpoint_completion_target' and s.value::numeric < 0.5
      union all
      select 'work_mem', 1.0,
        format('%s MB for each sort or hash of %s connections is %s times the memory that effective_cache_size assumes (%s MB)',
          round(n.work_mb, 1), n.connections, round(n.work_mb * n.connections / n.cache_mb, 1), round(n.cache_mb)),
        'Lower work_mem or max_connections, and set work_mem higher only where a statement needs it; or say how much memory there is: effective_cache_size.'
      from numbers n where n.work_mb * n.connections > 4 * n.cache_mb
    ) w
      cross join lateral (
        select bool_or(d.setdatabase <> 0) as is_databases, count(*) > 0 as is_everybodys
        from pg_db_role_setting d
        where d.setrole = 0
          and (d.setdatabase = 0 or d.setdatabase = (select b.oid from pg_database b where b.datname = current_database()))
          and exists (select from unnest(d.setconfig) c where split_part(c, '=', 1) = w.name)
      ) o);
  -- What is set for the role that asks, or by its session as it began, tells nothing of the server. Asked when all are set back, and only
  -- then: the view costs more than all the rest.
  if v_found <> '{}' then
    return query
      select f.* from unnest(v_found) f
      where not exists (
        select from pg_settings g
        where (g.name = f.object or f.object = 'work_mem' and g.name = 'effective_cache_size') and g.source in ('client', 'user', 'database user'));
  end if;
end
$$;

-- Running them ------------------------------------------------------------------------------------------------------

-- What the slow checks found when they were last made. As they answered it: thresholds, windows and suppressions are
-- applied anew whenever it is told.
create table if not exists monitoring.remembered_checks (
  check_id      text primary key,
  checked_at    timestamptz not null,
  candidates    monitoring.candidate[] not null,
  -- The SQLSTATE it ended with; null: it was made.
  failed        text,
  -- What the summary counts, of what it read.
  metrics       jsonb not null default '{}',
  -- Whether monitoring.reconcile() has heard of it: one look is one look, however often it is told.
  is_reconciled boolean not null default false,
  -- monitoring.catalog_versions() before it was made. Null where that says nothing of it, and in a large database, where it would take too long.
  holds_while   text
);
comment on table monitoring.remembered_checks is 'What the slow checks, and in a small database rls-exposed, answered when the sampler last made them, every 15 minutes.';

-- Which versions of which rows the remembered checks have to read: of catalogs, and of what is configured. Every command that changes one
-- writes a new version, and which transaction did is in its xmin: while these are the same, so is all that the catalogs alone decide.
-- Unlike the server's counters it is never late; but what changes in place (relpages, by VACUUM and ANALYZE) and what is counted is not in
-- it, nor are temporary tables, which are not judged. An xid is no number; how much older it is than another one stays the same and
-- costs a third of its text. Null: it cannot be told.
create or replace function monitoring.catalog_versions() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_base bigint := age('3'::xid); -- the first that a transaction can have
  v_classes text;
  v_temporary oid[];
  v_with_columns oid[];
  v_functions text;
  v_definers oid[];
begin
  select concat_ws('/', count(*) filter (where c.relpersistence <> 't'), sum(hashint8(age(c.xmin) - v_base)) filter (where c.relpersistence <> 't')),
      coalesce(array_agg(c.oid) filter (where c.relpersistence = 't'), '{}'),
      array_agg(c.oid) filter (where c.reltype <> 0 and c.relpersistence <> 't' and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and c.relnamespace <> 'monitoring'::regnamespace)
    into v_classes, v_temporary, v_with_columns
  from pg_class c where c.oid >= 16384;
  -- Our own, too: another version's answers.
  select concat_ws('/', count(*), sum(hashint8(age(f.xmin) - v_base))),
      array_agg(f.oid) filter (where f.prosecdef and f.pronamespace <> 'monitoring'::regnamespace)
    into v_functions, v_definers
  from pg_proc f where f.oid >= 16384;
  return concat_ws(' ', v_classes, v_functions, (
    select concat_ws('/', count(*), sum(hashint8(age(x.version) - v_base)))
    from (
      select a.xmin as version from pg_attribute a where a.attrelid = any (v_with_columns)
      union all
      select i.xmin from pg_index i where i.indexrelid >= 16384 and i.indexrelid <> all (v_temporary)
      union all
      select k.xmin from pg_constraint k where k.oid >= 16384 and k.conrelid <> all (v_temporary)
      union all
      select s.xmin from pg_sequence s where s.seqrelid <> all (v_temporary)
      union all
      -- Which of them are an extension's: of those that anybody asks it of.
      select d.xmin from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = any (v_definers) and d.deptype = 'e'
      union all
      select w.xmin from pg_rewrite w where w.ev_class >= 16384 and w.ev_class <> all (v_temporary)
      union all
      select p.xmin from pg_policy p
      union all
      select s.xmin from monitoring.settings s
      union all
      select t.xmin from monitoring.thresholds t
    ) x), (
    select concat_ws('/', count(*), sum(hashtext(x.version)))
    from (
      -- Some of these are as old as the cluster, by no transaction. The roles' own catalog is not ours to read.
      select n.xmin::text as version from pg_namespace n where n.nspname !~ '^pg_'
      union all
      select m.xmin::text from pg_auth_members m
      union all
      select concat_ws(' ', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls, r.rolcanlogin, coalesce(r.rolvaliduntil > now(), true)) from pg_roles r
      union all
      -- Restored elsewhere, restarted or reset: what was counted is not the same.
      select concat_ws(' ', d.oid, d.datdba, extract(epoch from pg_postmaster_start_time()), extract(epoch from pg_stat_get_db_stat_reset_time(d.oid)))
      from pg_database d where d.datname = current_database()
    ) x));
exception when others then
  return null;
end
$$;
comment on function monitoring.catalog_versions() is
  'A text that changes with every row of the catalogs and settings behind what is remembered of checks in a small database; null: that cannot be told.';

-- Counters as they are now, in the columns of a sample, for who takes none.
create or replace function monitoring.counters_now() returns monitoring.samples
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  s monitoring.samples;
begin
  s.sampled_at := clock_timestamp();
  s.server_started_at := pg_postmaster_start_time();
  select d.xact_commit, d.xact_rollback, d.blks_read, d.blks_hit, d.tup_returned, d.temp_files, d.temp_bytes, d.deadlocks, d.stats_reset
    into s.commits, s.rollbacks, s.blocks_read, s.blocks_hit, s.tuples_returned, s.temp_files, s.temp_bytes, s.deadlocks, s.counted_since
  from pg_stat_database d where d.datname = current_database();
  begin
    -- The checkpointer has a view of its own from 17 on.
    if to_regclass('pg_catalog.pg_stat_checkpointer') is not null then
      select c.num_timed, c.num_requested, c.stats_reset into s.checkpoints_timed, s.checkpoints_requested, s.checkpoints_counted_since
      from pg_stat_checkpointer c;
    else
      select b.checkpoints_timed, b.checkpoints_req, b.stats_reset into s.checkpoints_timed, s.checkpoints_requested, s.checkpoints_counted_since
      from pg_stat_bgwriter b;
    end if;
  exception when others then
    null;
  end;
  return s;
end
$$;

-- What the counters moved by in the last hour: between samples, and since the last one, so that nothing is told a sample late: until
-- the sample that is being taken, or else until now. What moved over a longer gap is not of this hour.
create or replace function monitoring.last_hour(p_sample monitoring.samples default null) returns monitoring.seen_hour
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  n monitoring.samples := case when p_sample.sampled_at is not null then p_sample else monitoring.counters_now() end;
  l monitoring.samples;
  v_hour monitoring.seen_hour;
  -- Where a sample is taken but once an hour, what moved since the one before.
  v_reach interval := greatest(interval '1 hour', (monitoring.setting('sample_interval_seconds') #>> '{}')::int * interval '2 seconds');
begin
  select * into l from monitoring.samples s where s.tick_at > now() - v_reach and s.sampled_at < n.sampled_at order by s.sampled_at desc limit 1;
  select sum(a.seconds), sum(a.temp_files), sum(a.temp_bytes), sum(a.blocks_read), sum(a.blocks_hit), sum(a.deadlocks),
      sum(a.checkpoints_timed), sum(a.checkpoints_requested),
      percentile_cont(0.5) within group (order by 100 * a.blocks_read::float8 / greatest(a.blocks_read + a.blocks_hit, 1))
    into v_hour
  from (
    select h.seconds, h.temp_files, h.temp_bytes, h.blocks_read, h.blocks_hit, h.deadlocks, h.checkpoints_timed, h.checkpoints_requested
    from monitoring.activity(now() - v_reach, now()) h
    where h.seconds <= extract(epoch from v_reach)
    union all
    select extract(epoch from n.sampled_at - l.sampled_at)::float8, n.temp_files - l.temp_files, n.temp_bytes - l.temp_bytes, n.blocks_read - l.blocks_read,
      n.blocks_hit - l.blocks_hit, n.deadlocks - l.deadlocks, n.checkpoints_timed - l.checkpoints_timed,
      n.checkpoints_requested - l.checkpoints_requested
    where n.server_started_at = l.server_started_at and n.counted_since is not distinct from l.counted_since
      and n.checkpoints_counted_since is not distinct from l.checkpoints_counted_since
      and n.commits >= l.commits and n.rollbacks >= l.rollbacks and n.blocks_hit >= l.blocks_hit and n.blocks_read >= l.blocks_read
      and n.tuples_returned >= l.tuples_returned
  ) a;
  -- After a restart nothing is in the cache.
  if n.server_started_at > n.sampled_at - interval '6 hours' then
    v_hour.missed_percent := null;
  end if;
  return v_hour;
end
$$;

-- Sessions that do maintenance, by what the server itself says of them: a VACUUM, an ANALYZE, the building of an index, a table
-- that is copied out; and what else belongs to a backup, which is known by its name, by not having written anything, and by who
-- takes it: anybody may call himself pg_dump, but only some could read everything.
create or replace function monitoring.maintaining(p_backends monitoring.seen_backend[]) returns int[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    -- The views join names to it, which costs more than all the rest.
    select p.pid from unnest('{VACUUM,ANALYZE,CREATE INDEX,CLUSTER}'::text[]) c cross join lateral pg_stat_get_progress_info(c) p
    union
    -- What is no table is a statement like any other.
    select p.pid from pg_stat_progress_copy p where p.command = 'COPY TO' and p.relid <> 0
    union
    select b.pid
    from unnest(p_backends) b join pg_database d on d.oid = b.datid join pg_roles r on r.oid = b.usesysid
      cross join lateral pg_stat_get_activity(b.pid) a
    where b.application_name in ('pg_dump', 'pg_dumpall') and b.backend_type = 'client backend' and a.backend_xid is null
      and (r.rolsuper or r.rolbypassrls or pg_has_role(r.oid, 'pg_read_all_data', 'usage') or pg_has_role(r.oid, d.datdba, 'usage')));
end
$$;

-- Makes these checks. What several need is read once, what fails costs only those that need it: its id is then in
-- p_failed with the SQLSTATE, and not in p_run. A cancelled statement is no failure and ends everything.
create or replace function monitoring.run_checks(p_check_ids text[], p_backends monitoring.seen_backend[] default null, p_sample monitoring.samples default null,
  out p_run text[], out p_failed jsonb, out p_found monitoring.candidate[], out p_blind text[], out p_metrics jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set jit = off
set quote_all_identifiers = off -- what a finding is of is half of its fingerprint
as $$
declare
  v_xid_age_warning numeric := (select t.warning from monitoring.thresholds t where t.check_id = 'transaction-id-age');
  -- What is below it becomes no finding, and needs no text.
  v_long_ms numeric := (select t.warning * t.window_factor from monitoring.thresholds t where t.check_id = 'long-transaction');
  v_is_worn_asked boolean := p_check_ids && '{dead-tuples,transaction-id-age}';
  v_is_scanned_asked boolean := 'sequential-scans' = any (p_check_ids);
  v_own_logins oid[];
  v_backends monitoring.seen_backend[] := p_backends;
  v_maintaining int[] := '{}';
  v_check_id text;
  v_candidates monitoring.candidate[];
  v_statements monitoring.seen_statement[];
  v_sessions monitoring.seen_session[];
  v_blockers monitoring.seen_blocker[];
  v_tables monitoring.seen_table[];
  v_scanned monitoring.seen_scanned[];
  v_protections monitoring.seen_protection[];
  v_blocked_sessions bigint;
  v_needing_vacuum bigint;
  v_high_risk bigint;
  v_total_connections bigint;
  v_active_connections bigint;
  v_idle_connections bigint;
  v_idle_in_transaction bigint;
  v_utilization_percent numeric;
  v_longest_transaction_ms bigint;
  v_hour monitoring.seen_hour;
  v_last_sample_at timestamptz;
  v_failed_reads jsonb := '{}';
begin
  p_run := '{}';
  p_failed := '{}';
  p_found := '{}';
  p_blind := '{}';
  p_metrics := '{}';

  if v_backends is null and p_check_ids && '{slow-statement,idle-in-transaction,long-transaction,blocking-session,connection-utilization}' then
    begin
      v_backends := monitoring.look_at_backends();
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('slow-statement', sqlstate, 'idle-in-transaction', sqlstate,
        'long-transaction', sqlstate, 'blocking-session', sqlstate, 'connection-utilization', sqlstate);
    end;
  end if;
  if v_backends is not null and p_check_ids && '{slow-statement,idle-in-transaction,long-transaction,blocking-session}' then
    begin
      v_maintaining := monitoring.maintaining(v_backends);
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('slow-statement', sqlstate, 'long-transaction', sqlstate, 'blocking-session', sqlstate);
    end;
  end if;
  if 'slow-statement' = any (p_check_ids) and v_backends is not null then
    begin
      -- Of many sessions that run the same statement one text is enough; one that is known was redacted when it was noted.
      v_statements := (
        with slow as materialized (
          select s.*, coalesce(s.query_id::text, md5(s.query)) as same from monitoring.slow_sessions(null, v_backends) s
        ), texts as materialized (
          select t.same, coalesce(k.query_preview, monitoring.redact(t.query)) as preview
          from (select s.same, min(s.query_id) as query_id, min(s.query) as query from slow s group by s.same) t
            left join monitoring.statement_texts k on k.query_id = t.query_id
        )
        select coalesce(array_agg(
          row(s.query_id, t.preview, s.duration_ms, s.wait_event_category, s.blocked_by <> '{}', s.pid = any (v_maintaining))::monitoring.seen_statement), '{}')
        from slow s join texts t on t.same = s.same);
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('slow-statement', sqlstate);
    end;
  end if;
  if p_check_ids && '{idle-in-transaction,long-transaction}' and v_backends is not null then
    begin
      v_own_logins := monitoring.own_logins();
      v_sessions := array(
        select row(s.pid, s.application_name, s.is_idle, s.idle_ms, s.transaction_ms,
          case when not s.is_idle and s.transaction_ms >= v_long_ms
            -- What takes long is slow as a rule, and its text is known by now.
            then coalesce((select k.query_preview from unnest(v_statements) k where k.query_id = s.query_id limit 1), monitoring.redact(s.query))
          end, s.pid = any (v_maintaining))::monitoring.seen_session
        from (
          select a.pid, a.application_name, a.state like 'idle in transaction%' as is_idle,
            extract(epoch from clock_timestamp() - a.state_change) * 1000 as idle_ms,
            extract(epoch from clock_timestamp() - a.xact_start) * 1000 as transaction_ms, a.query_id, a.query
          from unnest(v_backends) a
          where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
            and a.datid = (select d.oid from pg_database d where d.datname = current_database())
            and a.usesysid <> all (v_own_logins)
            -- Who waits for a lock is told as waiting, with who keeps him.
            and (a.state like 'idle in transaction%'
              or a.xact_start < clock_timestamp() - interval '1 second' and a.wait_event_type is distinct from 'Lock')
          order by a.xact_start
          limit 200
        ) s);
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('idle-in-transaction', sqlstate, 'long-transaction', sqlstate);
    end;
  end if;
  if 'blocking-session' = any (p_check_ids) and v_backends is not null then
    begin
      with trees as materialized (
        select * from monitoring.lock_trees(v_backends)
      ), roots as (
        select t.root_pid, count(*) filter (where t.pid <> t.root_pid) as waiting, min(t.waits_since) as waits_since
        from trees t
        -- An index that is built concurrently waits for transactions that are older, and keeps nobody waiting by that.
        where t.pid = t.root_pid or t.pid <> all (v_maintaining)
          or not exists (select from pg_locks l where l.pid = t.pid and not l.granted and l.locktype in ('virtualxid', 'transactionid'))
        group by t.root_pid
        having count(*) filter (where t.pid <> t.root_pid) > 0
      )
      select (select count(distinct t.pid) from trees t where t.pid <> t.root_pid),
        array(
          select row(r.root_pid, r.waiting, (extract(epoch from clock_timestamp() - r.waits_since) * 1000)::bigint, t.state,
            t.application_name, monitoring.redact(t.query))::monitoring.seen_blocker
          from roots r join trees t on t.root_pid = r.root_pid and t.pid = r.root_pid)
        into v_blocked_sessions, v_blockers;
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('blocking-session', sqlstate);
    end;
  end if;
  if 'connection-utilization' = any (p_check_ids) and v_backends is not null then
    begin
      select c.total_connections, c.active_connections, c.idle_connections, c.idle_in_transaction, c.utilization_percent,
          case when c.database_name = current_database() then c.longest_transaction_ms end
        into v_total_connections, v_active_connections, v_idle_connections, v_idle_in_transaction, v_utilization_percent,
          v_longest_transaction_ms
      from monitoring.connections_of(v_backends) c
      order by c.database_name = current_database() desc
      limit 1;
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('connection-utilization', sqlstate);
    end;
  end if;
  if p_check_ids && '{dead-tuples,transaction-id-age,sequential-scans}' then
    begin
      -- The worst hundred of either kind; the rest are only counted.
      with tables as materialized (
        select t.oid, t.schemaname, t.tablename, t.live_tuples, t.dead_tuples, t.index_scans, k.xid_age, k.needs_vacuum, k.is_scanned
        from monitoring.table_states t
          cross join lateral (
            select case when v_is_worn_asked then t.xid_age end as xid_age, v_is_worn_asked and t.needs_vacuum as needs_vacuum,
              v_is_scanned_asked and t.live_tuples >= 10000 as is_scanned
          ) k
        where k.is_scanned or k.needs_vacuum or k.xid_age >= v_xid_age_warning
      ), ranked as (
        select t.*, row_number() over (order by case when t.needs_vacuum and t.dead_tuples >= 10000 -- what is a finding at all comes first
            then t.dead_tuples::float8 / (t.live_tuples + t.dead_tuples) else -1 end desc) as by_dead,
          row_number() over (order by t.xid_age desc nulls last) as by_age
        from tables t
        where t.needs_vacuum or t.xid_age >= v_xid_age_warning
      )
      select (select count(*) from tables t where t.needs_vacuum),
        array(
          select row(r.schemaname, r.tablename, r.live_tuples, r.dead_tuples, r.xid_age, r.needs_vacuum)::monitoring.seen_table
          from ranked r where r.by_dead <= 100 or r.by_age <= 100),
        array(
          select row(t.schemaname, t.tablename, t.live_tuples, t.index_scans, s.scans, pg_stat_get_tuples_returned(t.oid))::monitoring.seen_scanned
          from tables t cross join lateral (select pg_stat_get_numscans(t.oid) as scans) s
          where t.is_scanned and s.scans >= 100)
        into v_needing_vacuum, v_tables, v_scanned;
      v_needing_vacuum := case when v_is_worn_asked and not pg_is_in_recovery() then v_needing_vacuum end; -- dead tuples are the primary's to count
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('dead-tuples', sqlstate, 'transaction-id-age', sqlstate, 'sequential-scans', sqlstate);
    end;
  end if;
  if 'rls-exposed' = any (p_check_ids) then
    begin
      with rls as materialized (
        select k.*, k.is_read_past or k.is_unbound or k.is_open_to_anyone as is_anyones
        from monitoring.rls_kinds() k
        -- Where everybody reads past the policies it does not matter how they restrict.
        where k.risk_rank <= 2 or k.is_read_past or k.is_unbound
      )
      select (select coalesce(sum(cardinality(k.tablenames)), 0) from rls k where k.risk_rank = 1),
        array(
          select row(r.schemaname, r.tablename, r.rls_enabled, r.exposed_to, r.reasons, r.is_anyones, r.is_hollow, r.is_read_past, r.is_unbound)::monitoring.seen_protection
          from (
            select k.*, unnest(k.tablenames) as tablename from rls k
            where k.risk_rank = 1 or k.is_read_past or k.is_unbound or k.is_hollow and (k.exposed_to <> '{}' or k.is_open_to_anyone)
          ) r
          order by r.is_anyones desc, r.risk_rank, r.schemaname, r.tablename
          limit 100)
        into v_high_risk, v_protections;
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('rls-exposed', sqlstate);
    end;
  end if;
  if p_check_ids && '{frequent-checkpoints,temp-files,cache-misses,deadlocks}' then
    begin
      v_hour := monitoring.last_hour(p_sample);
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('frequent-checkpoints', sqlstate, 'temp-files', sqlstate,
        'cache-misses', sqlstate, 'deadlocks', sqlstate);
    end;
  end if;
  if 'sampler-gap' = any (p_check_ids) then
    begin
      select s.sampled_at into v_last_sample_at from monitoring.samples s order by s.tick_at desc limit 1;
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('sampler-gap', sqlstate);
    end;
  end if;
  if 'blind-spot' = any (p_check_ids) then
    begin
      p_blind := array(select b.reason from monitoring.blind_spots('summary') b where b.section = 'summary');
    exception when others then
      v_failed_reads := v_failed_reads || jsonb_build_object('blind-spot', sqlstate);
    end;
  end if;

  foreach v_check_id in array p_check_ids loop
    -- The one that tells of the others comes last.
    continue when v_check_id = 'check-failed';
    if v_failed_reads ? v_check_id then
      p_failed := p_failed || jsonb_build_object(v_check_id, v_failed_reads -> v_check_id);
      continue;
    end if;
    begin
      case v_check_id
        when 'slow-statement' then v_candidates := array(select c from monitoring.check_slow_statement(v_statements) c);
        when 'blocking-session' then v_candidates := array(select c from monitoring.check_blocking_session(v_blockers) c);
        when 'idle-in-transaction' then v_candidates := array(select c from monitoring.check_idle_in_transaction(v_sessions) c);
        when 'long-transaction' then v_candidates := array(select c from monitoring.check_long_transaction(v_sessions) c);
        when 'prepared-transaction' then v_candidates := array(select c from monitoring.check_prepared_transaction() c);
        when 'connection-utilization' then v_candidates := array(select c from monitoring.check_connection_utilization(
          v_total_connections, v_idle_connections, v_utilization_percent) c);
        when 'dead-tuples' then v_candidates := array(select c from monitoring.check_dead_tuples(v_tables) c);
        when 'transaction-id-age' then v_candidates := array(select c from monitoring.check_transaction_id_age(v_tables) c);
        when 'multixact-age' then v_candidates := array(select c from monitoring.check_multixact_age() c);
        when 'replication-slot' then v_candidates := array(select c from monitoring.check_replication_slot() c);
        when 'replication-lag' then v_candidates := array(select c from monitoring.check_replication_lag() c);
        when 'unsafe-setting' then v_candidates := array(select c from monitoring.check_unsafe_setting() c);
        when 'rls-changed' then v_candidates := array(select c from monitoring.check_rls_changed() c);
        when 'archiving-failed' then v_candidates := array(select c from monitoring.check_archiving_failed() c);
        when 'frequent-checkpoints' then v_candidates := array(select c from monitoring.check_frequent_checkpoints(v_hour) c);
        when 'temp-files' then v_candidates := array(select c from monitoring.check_temp_files(v_hour) c);
        when 'cache-misses' then v_candidates := array(select c from monitoring.check_cache_misses(v_hour) c);
        when 'deadlocks' then v_candidates := array(select c from monitoring.check_deadlocks(v_hour) c);
        when 'sampler-gap' then v_candidates := array(select c from monitoring.check_sampler_gap(v_last_sample_at) c);
        when 'unannounced' then v_candidates := array(select c from monitoring.check_unannounced() c);
        when 'blind-spot' then v_candidates := array(select c from monitoring.check_blind_spot(p_blind) c);
        -- Rarely or from memory.
        when 'sequential-scans' then v_candidates := array(select c from monitoring.check_sequential_scans(v_scanned) c);
        when 'sequence-exhaustion' then v_candidates := array(select c from monitoring.check_sequence_exhaustion() c);
        when 'unused-index' then v_candidates := array(select c from monitoring.check_unused_index() c);
        when 'duplicate-index' then v_candidates := array(select c from monitoring.check_duplicate_index() c);
        when 'invalid-index' then v_candidates := array(select c from monitoring.check_invalid_index() c);
        when 'foreign-key-without-index' then v_candidates := array(select c from monitoring.check_foreign_key_without_index() c);
        when 'rls-exposed' then v_candidates := array(select c from monitoring.check_rls_exposed(v_protections) c);
        when 'privileged-login' then v_candidates := array(select c from monitoring.check_privileged_login() c);
        when 'definer-search-path' then v_candidates := array(select c from monitoring.check_definer_search_path() c);
        when 'statement-regression' then v_candidates := array(select c from monitoring.check_statement_regression() c);
      end case;
      p_found := p_found || v_candidates;
      p_run := p_run || v_check_id;
    exception when others then
      p_failed := p_failed || jsonb_build_object(v_check_id, sqlstate);
    end;
  end loop;

  -- Of indexes, policies and the like all names are this database's; of roles and databases they are not.
  if not monitoring.is_legible((select string_agg(concat_ws(' ', c.object, c.detail, c.remediation), ' ') from unnest(p_found) c)) then
    p_found := array(
      select row(c.check_id, monitoring.legible(c.object), c.value, monitoring.legible(c.detail), monitoring.legible(c.remediation))::monitoring.candidate
      from unnest(p_found) c);
  end if;

  -- What the summary counts, where it was read.
  p_metrics := jsonb_build_object(
    'slow_queries', cardinality(v_statements),
    'blocked_sessions', v_blocked_sessions,
    'connection_utilization_percent', v_utilization_percent,
    'total_connections', v_total_connections,
    'active_connections', v_active_connections,
    'idle_in_transaction', v_idle_in_transaction,
    'longest_transaction_ms', v_longest_transaction_ms,
    'high_risk_tables', v_high_risk,
    'tables_needing_vacuum', v_needing_vacuum,
    'last_sample_at', v_last_sample_at);
end
$$;

-- Makes those of a cadence (null: slow and sized) that were last made 15 minutes ago, and keeps what they answer, for
-- monitoring.assess(). Of the sized ones in a small database only that which nothing but the catalogs decides.
create or replace function monitoring.remember_checks(p_cadence text default null) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_is_large boolean := monitoring.is_large();
  v_own constant oid[] := array['monitoring'::regnamespace, 'pg_toast'::regnamespace]::oid[];
  v_due text[] := array(
    select c.check_id from monitoring.checks c left join monitoring.remembered_checks r on r.check_id = c.check_id
    where coalesce(c.cadence = p_cadence, c.cadence <> 'sample') and (c.cadence <> 'sized' or v_is_large or c.check_id = 'rls-exposed')
      -- A little less, so that the fifteenth tick after it is not missed by milliseconds; and a clock may have been set back.
      and coalesce(r.checked_at not between now() - interval '14 minutes 30 seconds' and now(), true)
    order by c.check_id);
  v_is_settled boolean;
  v_holds_while text;
  v_is_half_there boolean;
  v_answers record;
begin
  if v_due = '{}' then
    return v_due;
  end if;
  -- Not what this very transaction has changed, or one as young: what it writes has one version, however often it does. The sampler's new
  -- partitions it writes once, so where something was written it is asked what.
  v_is_settled := not v_is_large and current_setting('track_counts')::boolean and not monitoring.has_written('pg_class', 'pg_attribute', 'pg_index',
    'pg_constraint', 'pg_sequence', 'pg_proc', 'pg_depend', 'pg_rewrite', 'pg_policy', 'pg_namespace', 'pg_auth_members', 'monitoring.settings',
    'monitoring.thresholds');
  if not v_is_large and not v_is_settled then
    v_is_settled := not exists (
      select from (
        select c.xmin from pg_class c where c.relnamespace <> all (v_own)
        union all
        select a.xmin from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relnamespace <> all (v_own)
        union all
        select i.xmin from pg_index i join pg_class c on c.oid = i.indrelid where c.relnamespace <> all (v_own)
        union all
        select k.xmin from pg_constraint k where k.connamespace <> all (v_own)
        union all
        select d.xmin from pg_depend d where d.classid = 'pg_proc'::regclass
        union all select xmin from pg_sequence union all select xmin from pg_proc union all select xmin from pg_rewrite union all select xmin from pg_policy
        union all select xmin from pg_namespace union all select xmin from pg_auth_members
        union all select xmin from monitoring.settings union all select xmin from monitoring.thresholds
      ) r
      where age(r.xmin) between -1000000 and 0); -- still younger seem those of two billion transactions ago
  end if;
  if v_is_settled then
    -- Before they are made: what changes in between makes them old, never wrong.
    v_holds_while := monitoring.catalog_versions();
    -- An index is not called invalid while it is built or dropped, which no catalog says.
    v_is_half_there := exists (select from pg_index i where not i.indisvalid);
    perform monitoring.hear_of_changes();
  end if;
  select * into v_answers from monitoring.run_checks(v_due);
  insert into monitoring.remembered_checks as r (check_id, checked_at, candidates, failed, metrics, holds_while)
  select d, now(), array(select c from unnest(v_answers.p_found) c where c.check_id = d), v_answers.p_failed ->> d,
    case d
      when 'dead-tuples' then jsonb_build_object('tables_needing_vacuum', v_answers.p_metrics -> 'tables_needing_vacuum')
      when 'rls-exposed' then jsonb_build_object('high_risk_tables', v_answers.p_metrics -> 'high_risk_tables')
      else '{}'
    end,
    case
      when d = 'unsafe-setting' or d = 'invalid-index' and v_is_half_there then null -- not of the catalogs
      else v_holds_while
    end
  from unnest(v_due) d
  on conflict (check_id) do update
    set checked_at = excluded.checked_at, candidates = excluded.candidates, failed = excluded.failed, metrics = excluded.metrics,
      holds_while = excluded.holds_while, is_reconciled = false;
  delete from monitoring.remembered_checks r where not exists (select from monitoring.checks c where c.check_id = r.check_id);
  return v_due;
end
$$;
comment on function monitoring.remember_checks(text) is 'Makes the slow checks that are due (of a large database the sized ones too, of a small one rls-exposed), keeps their answers, and says which they were.';

-- One look at everything, from which findings and summary are told. Slow checks are told from memory when the sampler asks
-- ('sample'), and of a large database always. Of a small one only while the catalogs are as they were, and of what is counted they
-- are then as old as the sampler's last turn; otherwise they are made. checks_run are those that were made since the events
-- were last reconciled: only of those does no finding mean that all is well. A hundred findings of a check are enough to know that there are too many.
create or replace function monitoring.assess(p_cadence text default null, p_backends monitoring.seen_backend[] default null,
  p_sample monitoring.samples default null) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_is_large boolean;
  v_holds_while text;
  v_told text[]; -- from memory
  v_run text[];
  v_failed jsonb;
  v_found monitoring.candidate[];
  v_blind text[];
  v_metrics jsonb;
  v_is_critical_time boolean := false;
  v_result jsonb;
begin
  perform monitoring.authorize('read');
  if p_cadence <> 'sample' then
    raise exception 'cadence must be sample or null' using errcode = 'invalid_parameter_value';
  end if;
  v_is_large := monitoring.is_large();
  -- Not where none is remembered, and not on a standby: what is remembered was counted on the primary.
  if not v_is_large and not pg_is_in_recovery()
    and exists (select from monitoring.remembered_checks r where r.holds_while is not null and r.checked_at > now() - interval '16 minutes')
  then
    v_holds_while := monitoring.catalog_versions();
  end if;
  v_told := array(
    select r.check_id from monitoring.remembered_checks r join monitoring.checks c on c.check_id = r.check_id
    where r.checked_at <= now()
      and (r.holds_while = v_holds_while and r.failed is null and r.checked_at > now() - interval '16 minutes'
        -- Where they are costly they are made less often than every 15 minutes.
        or r.checked_at >= now() - interval '3 hours' and case c.cadence
          when 'slow' then p_cadence = 'sample' or v_is_large
          when 'sized' then p_cadence = 'sample' and v_is_large end));
  select a.p_run, a.p_failed, a.p_found, a.p_blind, a.p_metrics into v_run, v_failed, v_found, v_blind, v_metrics
  from monitoring.run_checks(array(
    select c.check_id from monitoring.checks c
    where c.cadence = 'sample' or (p_cadence is null or c.cadence = 'sized') and c.check_id <> all (v_told)
    order by c.check_id), p_backends, p_sample) a;
  if v_told <> '{}' then
    -- What nothing but the catalogs decides, and those are the same, is as good as made.
    select v_run || coalesce(array_agg(r.check_id) filter (
        where r.failed is null and (not r.is_reconciled or r.check_id = 'rls-exposed' and r.holds_while = v_holds_while)), '{}'),
      v_failed || coalesce(jsonb_object_agg(r.check_id, r.failed) filter (where r.failed is not null), '{}'),
      v_metrics || coalesce((jsonb_agg(r.metrics) filter (where r.check_id = 'dead-tuples')) -> 0, '{}')
        || coalesce((jsonb_agg(r.metrics) filter (where r.check_id = 'rls-exposed')) -> 0, '{}')
      into v_run, v_failed, v_metrics
    from monitoring.remembered_checks r where r.check_id = any (v_told);
    v_found := v_found || array(
      select c from monitoring.remembered_checks r cross join unnest(r.candidates) c where r.check_id = any (v_told));
  end if;
  v_run := v_run || 'check-failed'::text;
  begin
    v_is_critical_time := monitoring.is_critical_time();
  exception when others then
    v_is_critical_time := null;
    v_blind := v_blind || format('whether this is a critical window is unknown: asking for it ended with SQLSTATE %s', sqlstate);
  end;
  if v_failed <> '{}' then
    v_found := v_found || array(select c from monitoring.check_check_failed(v_failed) c);
    v_blind := v_blind || array(
      select format('check %s failed with SQLSTATE %s', f.key, f.value #>> '{}') from jsonb_each(v_failed) f order by f.key);
  end if;
  -- A candidate without a value could not be looked at.
  v_blind := v_blind || array(
    select format('%s: %s', c.check_id, c.detail) from unnest(v_found) c where c.value is null order by c.check_id, c.object);

  if cardinality(v_found) > 100 then
    v_found := array(
      select k.c
      from (select c, row_number() over (partition by c.check_id order by c.value desc nulls last, c.object, c.detail) as nth from unnest(v_found) c) k
      where k.nth <= 100);
  end if;

  select jsonb_build_object(
      'findings', coalesce(f.findings, '[]'),
      'suppressed', coalesce(f.suppressed, '[]'),
      'checks_run', to_jsonb(v_run),
      'degraded', to_jsonb(v_blind),
      'metrics', v_metrics || jsonb_build_object(
        'unresolved_events', e.unresolved,
        'critical_events', e.critical,
        'findings', f.found,
        'suppressed_findings', f.known),
      'is_critical_time', v_is_critical_time)
    into v_result
  from (
      select count(*) filter (where t.until is null) as found, count(t.until) as known,
        jsonb_agg(t.finding) filter (where t.until is null) as findings,
        jsonb_agg(t.finding || jsonb_build_object('reason', t.reason, 'until', t.until)) filter (where t.until is not null) as suppressed
      from (
        select jsonb_build_object('check_id', j.check_id, 'severity', case when j.is_critical or j.is_raised then 'critical' else 'warning' end,
            'object', j.object, 'value', j.value, 'threshold', trim_scale(case when j.is_critical then j.critical else j.warning end),
            'detail', j.detail, 'remediation', j.remediation, 'fingerprint', j.fingerprint) as finding,
          s.reason, s.until
        from (
            -- Of several about one object the worst.
            select distinct on (c.check_id, c.object) c.check_id, c.object, round(c.value, 2) as value, c.detail, c.remediation,
              md5(c.check_id || ':' || c.object) as fingerprint, t.warning * f.factor as warning, t.critical * f.factor as critical,
              -- In a critical window severity rises by a level; there is one above warning.
              c.value >= t.critical * f.factor as is_critical, f.factor < 1 as is_raised
            from unnest(v_found) c
              join monitoring.thresholds t on t.check_id = c.check_id
              cross join lateral (select case when v_is_critical_time then t.window_factor else 1 end as factor) f
            where c.value >= t.warning * f.factor
            order by c.check_id, c.object, c.value desc, c.detail
          ) j
          left join monitoring.suppressions s on s.fingerprint = j.fingerprint and s.until > now()
        order by j.is_critical or j.is_raised desc, j.value / nullif(j.warning, 0) desc, j.check_id, j.object
      ) t
    ) f
    cross join (
      select count(*) as unresolved, count(*) filter (where e.severity = 'critical') as critical
      from public.monitoring_events e where e.resolved_at is null
    ) e;
  return v_result;
end
$$;
comment on function monitoring.assess(text, monitoring.seen_backend[], monitoring.samples) is
  'findings, suppressed, degraded and metrics, is_critical_time (null: unknown), and checks_run: which checks were made since the last reconciliation. sample: slow checks are told from memory. Of the sessions and counters given, or else of those there are.';

create or replace function monitoring.findings() returns table (
  check_id text, severity text, object text, value numeric, threshold numeric, detail text, remediation text,
  fingerprint text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select f.check_id, f.severity, f.object, f.value, f.threshold, f.detail, f.remediation, f.fingerprint
    from jsonb_to_recordset(monitoring.assess() -> 'findings') as f (
      check_id text, severity text, object text, value numeric, threshold numeric, detail text, remediation text,
      fingerprint text);
end
$$;
comment on function monitoring.findings() is
  'What is wrong now, worst first: one row shape for every check. severity is warning or critical, fingerprint is stable per check and object.';

-- 100 less a penalty per check: 8 for a warning and 20 for a critical finding, at most 30 for one check, so that a single
-- subject repeated over many tables does not hide everything else. A new finding never raises the score.
create or replace function monitoring.health_score(p_findings jsonb) returns int
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select greatest(0, 100 - coalesce(sum(p.penalty), 0))
    from (
      select least(30, sum(case f ->> 'severity' when 'critical' then 20 else 8 end)) as penalty
      from jsonb_array_elements(p_findings) f
      group by f ->> 'check_id'
    ) p);
end
$$;
comment on function monitoring.health_score(jsonb) is 'The score, 0 to 100, that these findings leave.';

-- Thresholds and suppressions -----------------------------------------------------------------------------------------

create table if not exists monitoring.suppressions (
  fingerprint text primary key check (fingerprint ~ '^[0-9a-f]{32}$'),
  reason      text not null check (pg_catalog.length(reason) between 1 and 500),
  -- Never for ever: somebody looks again.
  until       timestamptz not null check (pg_catalog.isfinite(until)),
  -- The subject of the claims; null where somebody did it in SQL.
  created_by  uuid,
  created_at  timestamptz not null default pg_catalog.now(),
  -- What it is, where an event told it.
  check_id    text,
  object      text,
  constraint suppressions_end_within_a_year check (until <= created_at + interval '8784 hours')
);
comment on table monitoring.suppressions is 'Findings that are known and accepted, by fingerprint, until a date: they count in no score and open no event.';

create or replace function monitoring.suppress(p_fingerprint text, p_reason text, p_until timestamptz) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_reason text := btrim(p_reason);
begin
  perform monitoring.authorize('configure');
  if p_fingerprint is null or p_fingerprint !~ '^[0-9a-f]{32}$' then
    raise exception 'fingerprint must be that of a finding' using errcode = 'invalid_parameter_value';
  end if;
  if v_reason is null or length(v_reason) not between 1 and 500 then
    raise exception 'reason must have 1 to 500 characters' using errcode = 'invalid_parameter_value';
  end if;
  if p_until is null or not isfinite(p_until) or p_until <= now() or p_until > now() + interval '8784 hours' then
    raise exception 'until must be in the future, by 366 days at most' using errcode = 'invalid_parameter_value';
  end if;
  insert into monitoring.suppressions as s (fingerprint, reason, until, created_by, check_id, object)
  values (p_fingerprint, v_reason, p_until, monitoring.caller_subject(),
    (select e.event_data ->> 'check_id' from public.monitoring_events e where e.fingerprint = p_fingerprint order by e.last_seen_at desc limit 1),
    (select e.event_data ->> 'object' from public.monitoring_events e where e.fingerprint = p_fingerprint order by e.last_seen_at desc limit 1))
  on conflict (fingerprint) do update
    set reason = excluded.reason, until = excluded.until, created_by = excluded.created_by, created_at = excluded.created_at,
      check_id = coalesce(excluded.check_id, s.check_id), object = coalesce(excluded.object, s.object);
end
$$;
comment on function monitoring.suppress(text, text, timestamptz) is
  'Accepts a finding, by its fingerprint, for a reason and until a time at most 366 days away; again: reason and end are replaced. Admin and owner; 42501 for others, 22023 for a bad argument.';

create or replace function monitoring.unsuppress(p_fingerprint text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('configure');
  delete from monitoring.suppressions s where s.fingerprint = p_fingerprint;
  if not found then
    raise exception 'there is no suppression of %', p_fingerprint using errcode = 'no_data_found';
  end if;
end
$$;
comment on function monitoring.unsuppress(text) is 'Ends a suppression. Admin and owner; P0002 when there is none.';

create or replace function monitoring.suppressions() returns table (
  fingerprint text, check_id text, object text, reason text, until timestamptz, created_at timestamptz, created_by uuid)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select s.fingerprint, s.check_id, s.object, s.reason, s.until, s.created_at, s.created_by
    from monitoring.suppressions s
    where s.until > now()
    order by s.until, s.fingerprint;
end
$$;
comment on function monitoring.suppressions() is 'The suppressions that hold, the next to end first. check_id and object where an event told them.';

create or replace function monitoring.set_threshold(p_check_id text, p_warning numeric, p_critical numeric) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('configure');
  -- NaN is greater than every number.
  if p_warning is null or p_critical is null or p_warning < 0 or p_critical < p_warning or p_critical > 1e18 then
    raise exception 'warning must be 0 or more, and critical not less than warning, nor more than 1e18' using errcode = 'invalid_parameter_value';
  end if;
  update monitoring.thresholds t set warning = p_warning, critical = p_critical where t.check_id = p_check_id;
  if not found then
    raise exception 'there is no check %', p_check_id using errcode = 'no_data_found';
  end if;
end
$$;
comment on function monitoring.set_threshold(text, numeric, numeric) is
  'From which values a finding of this check is a warning and critical. Admin and owner; 42501 for others, 22023 for a bad argument, P0002 for an unknown check.';

create or replace function monitoring.thresholds_list() returns table (
  check_id text, category text, title text, cadence text, unit text, warning numeric, critical numeric, window_factor numeric,
  description text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select c.check_id, c.category, c.title, c.cadence, t.unit, t.warning, t.critical, t.window_factor, t.description
    from monitoring.checks c join monitoring.thresholds t on t.check_id = c.check_id
    order by c.category, c.check_id;
end
$$;
comment on function monitoring.thresholds_list() is 'Every check with its thresholds, by category.';

-- Events --------------------------------------------------------------------------------------------------------------

-- What the reconciler knows of a fingerprint beyond its event.
create table if not exists monitoring.event_states (
  fingerprint  text primary key,
  check_id     text not null,
  event_id     uuid not null,
  -- To the day; the event itself tells it to the sample.
  last_seen_at timestamptz not null,
  -- Samples in a row that looked and did not find it.
  misses       int not null default 0,
  -- How often the event was opened again after it had resolved itself.
  reopened     int not null default 0,
  -- Null while the event is open.
  resolved_by  text check (resolved_by in ('itself', 'somebody')),
  resolved_at  timestamptz
);
comment on table monitoring.event_states is 'What monitoring.reconcile() remembers of each fingerprint from sample to sample.';

-- Both without a search path of their own, so that the planner puts them where they are called: once a finding, every sample.
create or replace function monitoring.event_type_of(p_category text) returns text
language sql immutable parallel safe
as $$
  select case
    when p_category operator(pg_catalog.=) 'statements' then 'slow_query'
    when p_category operator(pg_catalog.=) 'sessions' then 'connection_issue'
    when p_category operator(pg_catalog.=) any ('{tables,indexes}'::pg_catalog.text[]) then 'table_health'
    when p_category operator(pg_catalog.=) 'security' then 'rls_violation'
    else 'performance_alert' end
$$;

-- low < medium < high < critical; a severity that is none of them is the least.
create or replace function monitoring.severity_rank(p_severity text) returns int
language sql immutable parallel safe
as $$ select coalesce(pg_catalog.array_position('{low,medium,high,critical}'::pg_catalog.text[], p_severity), 0) $$;

-- Brings the events to what a sample found, in one statement; monitoring.sample() calls it, once a tick, under its lock.
--
-- Found and no event: one is opened. Found again: counted; its severity rises with the finding's and does not fall, so that
-- what goes up and down is announced once. Not found by a check that was made, three samples running: resolved by itself.
-- Back within an hour: the same event again, which then waits twice as long before it resolves itself, and twice as long
-- again the next time (up to 96 samples), so that what flaps is announced ever more rarely. Resolved by somebody: nothing more
-- is heard of it until it has been gone for three samples and comes back. Suppressed findings come along, with their `until`:
-- they are no events, but they have their place among the hundred that a check tells.
create or replace function monitoring.reconcile(p_findings jsonb, p_checks_run text[], p_at timestamptz default now()) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_counts jsonb;
begin
  perform monitoring.authorize('operate');
  if p_findings is null or jsonb_typeof(p_findings) <> 'array' or jsonb_path_exists(p_findings, '$[*] ? (@.type() != "object")')
    or p_checks_run is null or p_at is null or not isfinite(p_at)
  then
    raise exception 'findings must be a JSON array of objects, checks_run a list and at a time' using errcode = 'invalid_parameter_value';
  end if;
  with told as materialized (
    select f.*
    from jsonb_to_recordset(p_findings) as f (
      check_id text, severity text, object text, value numeric, threshold numeric, detail text, remediation text, fingerprint text,
      until timestamptz)
    where f.fingerprint is not null
  ), cut as materialized (
    -- A check that names a hundred has stopped there: what it does not name may be there all the same.
    select t.check_id from told t group by t.check_id having count(distinct t.fingerprint) >= 100
  ), found as materialized (
    select distinct on (f.fingerprint) f.fingerprint, f.check_id, monitoring.event_type_of(c.category) as event_type,
      case when f.severity = 'critical' then 'critical' when c.category = 'security' then 'high' else 'medium' end as severity,
      jsonb_build_object('check_id', f.check_id, 'object', left(f.object, 500), 'value', f.value, 'threshold', f.threshold,
        'detail', left(f.detail, 4000), 'remediation', left(f.remediation, 4000)) as event_data
    from told f join monitoring.checks c on c.check_id = f.check_id
    where f.until is null
    order by f.fingerprint, f.severity -- critical comes before warning
  ), subjects as materialized (
    select coalesce(f.fingerprint, s.fingerprint) as fingerprint, coalesce(f.check_id, s.check_id) as check_id,
      f.fingerprint is not null as is_found,
      coalesce(s.check_id = any (p_checks_run), false)
        and (coalesce(s.check_id, '') not in (select c.check_id from cut c)
          or exists (select from told t where t.fingerprint = s.fingerprint and t.until is not null)) as is_looked_for,
      f.event_type, f.severity, f.event_data, s.fingerprint is not null as is_known, s.last_seen_at, coalesce(s.misses, 0) as misses,
      coalesce(s.reopened, 0) as reopened, s.resolved_by, s.resolved_at, s.event_id as known_id, o.id as open_id, o.severity as open_severity,
      -- Where its row is: while a snapshot is old, an index leads to every version there has been since, and we write one a sample. Of
      -- the one that is not open only where it may be opened again.
      case when o.id is not null then o.ctid
        when f.fingerprint is not null then (select k.ctid from public.monitoring_events k where k.id = s.event_id) end as place
    from found f
      full join monitoring.event_states s on s.fingerprint = f.fingerprint
      left join public.monitoring_events o on o.fingerprint = coalesce(f.fingerprint, s.fingerprint) and o.resolved_at is null
  ), judged as materialized (
    select s.*,
      case
        when s.is_found and s.open_id is not null and monitoring.severity_rank(s.severity) > monitoring.severity_rank(s.open_severity)
          then 'escalated'
        -- From memory, once more: it has been counted.
        when s.is_found and s.open_id is not null then case when s.check_id = any (p_checks_run) then 'firing' else 'told' end
        when s.is_found and s.resolved_by = 'itself' and s.place is not null and s.resolved_at > p_at - interval '1 hour' then 'reopened'
        -- Somebody has resolved it; it is not over for that, but it was answered.
        when s.is_found and (s.resolved_by = 'somebody' or s.is_known and s.resolved_by is null and s.place is not null) then 'answered'
        when s.is_found then 'opened'
        -- Nobody has looked, or will ever again.
        when not s.is_looked_for then case when s.open_id is null and s.last_seen_at < p_at - interval '31 days' then 'forgotten' end
        when s.open_id is not null and s.misses + 1 >= 3 * (1 << least(s.reopened, 5)) then 'resolved'
        when s.open_id is not null then 'missed'
        when s.resolved_by = 'itself' then case when s.resolved_at <= p_at - interval '1 hour' then 'forgotten' end
        when s.misses + 1 >= 3 then 'forgotten'
        else 'missed'
      end as decision
    from subjects s
  ), free as materialized (
    -- Somebody may be resolving it this very moment: nobody waits for that, the next sample will know.
    -- The locked version is where it was seen, or it is another by now, which is looked at with the next sample: not every release and
    -- plan asks for ctid again after locking.
    select j.fingerprint, j.place, e.ctid as found_at
    from judged j join public.monitoring_events e on e.ctid = j.place
    where j.decision in ('escalated', 'firing', 'reopened', 'resolved')
    for no key update of e skip locked
  ), decided as materialized (
    select j.*, case j.decision when 'opened' then gen_random_uuid() else coalesce(j.open_id, j.known_id) end as event_id
    from judged j
    where j.decision not in ('escalated', 'firing', 'reopened', 'resolved') or j.fingerprint in (select f.fingerprint from free f where f.found_at = f.place)
  ), opened as (
    insert into public.monitoring_events (id, event_type, event_data, severity, created_at, last_seen_at, fingerprint)
    select d.event_id, d.event_type, d.event_data, d.severity, p_at, p_at, d.fingerprint
    from decided d where d.decision = 'opened'
  ), changed as (
    update public.monitoring_events e
    set last_seen_at = case when d.is_found then greatest(e.last_seen_at, p_at) else e.last_seen_at end,
      occurrences = e.occurrences + d.is_found::int,
      event_data = coalesce(d.event_data, e.event_data),
      severity = case when d.decision in ('escalated', 'reopened') then d.severity else e.severity end,
      resolved_at = case d.decision when 'resolved' then p_at when 'reopened' then null else e.resolved_at end,
      resolution_notes = case d.decision
        when 'resolved' then coalesce(
          (select 'suppressed: ' || s.reason from monitoring.suppressions s where s.fingerprint = d.fingerprint and s.until > now()),
          format('gone by itself, for %s samples', d.misses + 1))
        when 'reopened' then null
        else e.resolution_notes end
    from decided d
    where d.decision in ('escalated', 'firing', 'reopened', 'resolved')
      and e.ctid = d.place and (d.decision = 'reopened' or e.resolved_at is null)
  ), kept as (
    insert into monitoring.event_states as s (fingerprint, check_id, event_id, last_seen_at, misses, reopened, resolved_by, resolved_at)
    select d.fingerprint, d.check_id, d.event_id, k.last_seen_at, k.misses, k.reopened, k.resolved_by, k.resolved_at
    from decided d cross join lateral (
      select case when d.is_found then p_at else coalesce(d.last_seen_at, p_at) end as last_seen_at,
        case when d.decision = 'missed' then d.misses + 1 else 0 end as misses,
        case d.decision when 'opened' then 0 when 'reopened' then d.reopened + 1 else d.reopened end as reopened,
        case when d.decision = 'resolved' then 'itself' when d.decision = 'answered' then 'somebody'
          when d.decision = 'missed' and d.open_id is null then 'somebody' end as resolved_by,
        case when d.decision = 'resolved' then p_at when d.decision in ('answered', 'missed') then d.resolved_at end as resolved_at
    ) k
    where d.decision <> 'forgotten'
      -- What stays as it is is not written each time.
      and (not d.is_known or (d.event_id, k.misses, k.reopened) is distinct from (d.known_id, d.misses, d.reopened)
        or k.resolved_by is distinct from d.resolved_by or k.resolved_at is distinct from d.resolved_at
        or k.last_seen_at >= d.last_seen_at + interval '1 day')
    on conflict (fingerprint) do update
      set check_id = excluded.check_id, event_id = excluded.event_id, last_seen_at = excluded.last_seen_at, misses = excluded.misses,
        reopened = excluded.reopened, resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at
  ), heard as (
    update monitoring.remembered_checks r set is_reconciled = true where not r.is_reconciled and r.check_id = any (p_checks_run)
  ), forgotten as (
    delete from monitoring.event_states s using decided d where d.decision = 'forgotten' and s.fingerprint = d.fingerprint
  )
  select jsonb_build_object(
      'opened', count(*) filter (where d.decision = 'opened'),
      'escalated', count(*) filter (where d.decision = 'escalated'),
      'firing', count(*) filter (where d.decision = 'firing'),
      'reopened', count(*) filter (where d.decision = 'reopened'),
      'resolved', count(*) filter (where d.decision = 'resolved'))
    into v_counts
  from decided d;
  return v_counts;
end
$$;
comment on function monitoring.reconcile(jsonb, text[], timestamptz) is
  'Opens, counts, escalates, reopens and resolves events by what the checks that were made have found; says how many of each. Service only.';

-- The outbox ----------------------------------------------------------------------------------------------------------

-- What is to be announced, written in the transaction of the change itself: what is rolled back was never announced, what is
-- committed is announced at last.
create table if not exists monitoring.outbox (
  id           uuid primary key default pg_catalog.gen_random_uuid(),
  -- The order of the changes.
  place        bigint not null generated always as identity,
  created_at   timestamptz not null default pg_catalog.now(),
  -- pgvigil.event.<change>.v1; another shape of detail is another version.
  detail_type  text not null,
  -- The same however often it is delivered.
  dedup_key    text not null unique,
  detail       jsonb not null,
  attempts     int not null default 0,
  last_error   text,
  -- Whoever took it has until then to say how it went.
  leased_until timestamptz,
  published_at timestamptz,
  -- How often it was refused by itself while others went out; and when that was too often: it is tried no more.
  refusals     int not null default 0,
  given_up_at  timestamptz
);
do $indexes$
begin
  -- Even to find them there would wait for who is writing an event, and keep the next one waiting.
  if pg_catalog.to_regclass('monitoring.outbox_unpublished_idx') is null then
    create index outbox_unpublished_idx on monitoring.outbox (place) where published_at is null;
  end if;
  if pg_catalog.to_regclass('monitoring.outbox_published_at_idx') is null then
    create index outbox_published_at_idx on monitoring.outbox (published_at) where published_at is not null;
  end if;
end
$indexes$;
comment on table monitoring.outbox is 'Changes of events that are to be announced, each until it is published or given up; both are kept for 7 days after.';

-- A trigger, so that no way of changing an event can leave it out. Only what checks made is told in words: what a person or
-- program recorded may be anything, and whoever is announced to can look it up.
create or replace function monitoring.announce() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change text := case
    when tg_op = 'INSERT' then 'opened'
    when old.resolved_at is null and new.resolved_at is not null then 'resolved'
    when old.resolved_at is not null and new.resolved_at is null then 'reopened'
    when monitoring.severity_rank(new.severity) > monitoring.severity_rank(old.severity) then 'escalated'
  end;
  -- Whatever the sampler makes of an event again, it has occurred more often by then.
  v_key text := concat_ws(':', new.id, v_change, case when v_change <> 'opened' then new.occurrences end);
begin
  if v_change is null then
    return null;
  end if;
  -- What somebody does by hand has not.
  if exists (select from monitoring.outbox o where o.dedup_key = v_key) then
    v_key := concat_ws(':', v_key, extract(epoch from clock_timestamp()));
  end if;
  insert into monitoring.outbox (detail_type, dedup_key, detail)
  values (format('pgvigil.event.%s.v1', v_change), v_key,
    jsonb_build_object('event_id', new.id, 'change', v_change, 'event_type', new.event_type, 'severity', new.severity,
      'fingerprint', new.fingerprint, 'database', current_database(), 'occurrences', new.occurrences, 'created_at', new.created_at,
      'last_seen_at', new.last_seen_at, 'resolved_at', new.resolved_at,
      'finding', case when new.fingerprint is not null and new.event_data ? 'check_id' then new.event_data end))
  on conflict (dedup_key) do nothing;
  return null;
end
$$;
do $triggers$
begin
  -- Where they are there, who writes events need not wait.
  if (select count(*) <> 2 from pg_catalog.pg_trigger t
    where t.tgrelid = 'public.monitoring_events'::regclass and (t.tgname, t.tgtype) in (('monitoring_events_announce_new', 5), ('monitoring_events_announce_change', 17))
      and t.tgfoid = 'monitoring.announce()'::regprocedure and t.tgqual is not null and t.tgenabled = 'O')
  then
    create or replace trigger monitoring_events_announce_new after insert on public.monitoring_events
      for each row when (new.resolved_at is null) execute function monitoring.announce();
    create or replace trigger monitoring_events_announce_change after update of resolved_at, severity on public.monitoring_events
      for each row when (old.resolved_at is distinct from new.resolved_at or old.severity is distinct from new.severity)
      execute function monitoring.announce();
  end if;
end
$triggers$;

-- A lease and not a lock: publishing takes longer than a transaction should. Whoever dies with a batch gives it back by
-- letting the lease run out; then it is published twice under one dedup_key. After a failure it rests, ever longer up to an hour.
-- What has failed three times goes alone from then on (attempts says so to the publisher), so that one that is refused takes no
-- other with it.
create or replace function monitoring.outbox_batch(p_limit int default 10) returns table (
  id uuid, created_at timestamptz, detail_type text, dedup_key text, detail jsonb, attempts int)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('operate');
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'limit must be 1 to 1000' using errcode = 'invalid_parameter_value';
  end if;
  return query
    with taken as (
      update monitoring.outbox o
      set leased_until = clock_timestamp() + interval '1 minute', attempts = o.attempts + 1
      from (
        select d.id from monitoring.outbox d
        where d.published_at is null and d.given_up_at is null and (d.leased_until is null or d.leased_until <= clock_timestamp())
        order by d.place
        limit p_limit
        for update skip locked
      ) due
      where o.id = due.id
      returning o.*
    )
    select t.id, t.created_at, t.detail_type, t.dedup_key, t.detail || jsonb_build_object('place', t.place), t.attempts
    from taken t
    order by t.place;
end
$$;
comment on function monitoring.outbox_batch(int) is
  'Takes what is to be announced, oldest first, for a minute in which nobody else gets it. Service only.';

-- One that was refused alone eight times, over an hour and more, each time while others were published, is at fault itself. How
-- often it failed with the bus says nothing of it.
create or replace function monitoring.outbox_mark(p_results jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_counts jsonb;
begin
  perform monitoring.authorize('operate');
  if p_results is null or jsonb_typeof(p_results) <> 'array' or jsonb_path_exists(p_results, '$[*] ? (@.type() != "object")') then
    raise exception 'results must be a JSON array of objects with id and error' using errcode = 'invalid_parameter_value';
  end if;
  with results as (
    select distinct on (r.id) r.id, r.error, coalesce(r.is_its_own, false) as is_its_own
    from jsonb_to_recordset(p_results) as r (id uuid, error text, is_its_own boolean)
    order by r.id, r.error nulls first -- published once is published
  ), marked as (
    update monitoring.outbox o
    set published_at = case when r.error is null then clock_timestamp() end, last_error = left(r.error, 500),
      leased_until = case when r.error is not null
        then clock_timestamp() + least(interval '1 hour', interval '10 seconds' * (1 << least(o.attempts, 10))) end,
      refusals = o.refusals + counted.refused, given_up_at = case when o.refusals + counted.refused >= 8 then clock_timestamp() end
    from results r
      cross join lateral (
        select (r.error is not null and r.is_its_own and (
          exists (select from results s where s.error is null)
          or exists (select from monitoring.outbox p where p.published_at > clock_timestamp() - interval '1 hour')))::int as refused
      ) counted
    where o.id = r.id and o.published_at is null and o.given_up_at is null
    returning o.published_at is not null as is_published, o.given_up_at is not null as is_given_up
  )
  select jsonb_build_object('published', count(*) filter (where m.is_published), 'failed', count(*) filter (where not m.is_published),
      'given_up', count(*) filter (where m.is_given_up))
    into v_counts
  from marked m;
  return v_counts;
end
$$;
comment on function monitoring.outbox_mark(jsonb) is
  'How announcing went: [{"id", "error": null or text, "is_its_own": refused, in a call of its own}]. Without an error it is published, with one it is due again after a rest, or given up. Service only.';

-- What was announced is kept for a week, so that a doubt can be settled, and so is what was given up. What nobody fetches, as
-- where there is no bus, is kept for a month, and then lost: that is counted.
create or replace function monitoring.forget_announced() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_published bigint;
  v_lost bigint;
begin
  delete from monitoring.outbox o where o.published_at < now() - interval '7 days';
  get diagnostics v_published = row_count;
  delete from monitoring.outbox o
  where o.published_at is null and (o.given_up_at < now() - interval '7 days' or o.created_at < now() - interval '30 days');
  get diagnostics v_lost = row_count;
  delete from monitoring.suppressions s where s.until < now() - interval '30 days';
  return jsonb_build_object('announcements', v_published, 'announcements_lost', v_lost);
end
$$;
comment on function monitoring.forget_announced() is
  'Deletes from the outbox what is past its time, and suppressions that ended a month ago; says how much was announced and how much never was. For the clean-up.';

-- Privileges ----------------------------------------------------------------------------------------------------------

do $private$ begin perform monitoring.make_private(
  'table monitoring.checks',
  'table monitoring.remembered_checks',
  'table monitoring.suppressions',
  'table monitoring.event_states',
  'table monitoring.outbox',
  'sequence monitoring.outbox_place_seq',
  'type monitoring.candidate',
  'type monitoring.seen_statement',
  'type monitoring.seen_session',
  'type monitoring.seen_blocker',
  'type monitoring.seen_table',
  'type monitoring.seen_scanned',
  'type monitoring.seen_hour',
  'type monitoring.seen_protection',
  'function monitoring.check_slow_statement(monitoring.seen_statement[])',
  'function monitoring.check_blocking_session(monitoring.seen_blocker[])',
  'function monitoring.check_idle_in_transaction(monitoring.seen_session[])',
  'function monitoring.check_long_transaction(monitoring.seen_session[])',
  'function monitoring.check_prepared_transaction()',
  'function monitoring.check_connection_utilization(bigint, bigint, numeric)',
  'function monitoring.check_dead_tuples(monitoring.seen_table[])',
  'function monitoring.check_transaction_id_age(monitoring.seen_table[])',
  'function monitoring.check_multixact_age()',
  'function monitoring.check_rls_exposed(monitoring.seen_protection[])',
  'function monitoring.check_rls_changed()',
  'function monitoring.check_replication_slot()',
  'function monitoring.check_replication_lag()',
  'function monitoring.check_archiving_failed()',
  'function monitoring.check_frequent_checkpoints(monitoring.seen_hour)',
  'function monitoring.check_temp_files(monitoring.seen_hour)',
  'function monitoring.check_cache_misses(monitoring.seen_hour)',
  'function monitoring.check_deadlocks(monitoring.seen_hour)',
  'function monitoring.check_sampler_gap(timestamptz)',
  'function monitoring.check_unannounced()',
  'function monitoring.check_blind_spot(text[])',
  'function monitoring.check_check_failed(jsonb)',
  'function monitoring.platform_roles()',
  'function monitoring.check_statement_regression()',
  'function monitoring.check_sequential_scans(monitoring.seen_scanned[])',
  'function monitoring.check_sequence_exhaustion()',
  'function monitoring.check_unused_index()',
  'function monitoring.check_duplicate_index()',
  'function monitoring.check_invalid_index()',
  'function monitoring.check_foreign_key_without_index()',
  'function monitoring.check_privileged_login()',
  'function monitoring.check_definer_search_path()',
  'function monitoring.check_unsafe_setting()',
  'function monitoring.counters_now()',
  'function monitoring.last_hour(monitoring.samples)',
  'function monitoring.maintaining(monitoring.seen_backend[])',
  'function monitoring.run_checks(text[], monitoring.seen_backend[], monitoring.samples)',
  'function monitoring.catalog_versions()',
  'function monitoring.remember_checks(text)',
  'function monitoring.assess(text, monitoring.seen_backend[], monitoring.samples)',
  'function monitoring.findings()',
  'function monitoring.health_score(jsonb)',
  'function monitoring.suppress(text, text, timestamptz)',
  'function monitoring.unsuppress(text)',
  'function monitoring.suppressions()',
  'function monitoring.set_threshold(text, numeric, numeric)',
  'function monitoring.thresholds_list()',
  'function monitoring.event_type_of(text)',
  'function monitoring.severity_rank(text)',
  'function monitoring.reconcile(jsonb, text[], timestamptz)',
  'function monitoring.announce()',
  'function monitoring.outbox_batch(int)',
  'function monitoring.outbox_mark(jsonb)',
  'function monitoring.forget_announced()'); end $private$;

grant execute on function monitoring.findings(), monitoring.suppress(text, text, timestamptz), monitoring.unsuppress(text),
  monitoring.suppressions(), monitoring.set_threshold(text, numeric, numeric), monitoring.thresholds_list()
  to monitoring_reader, monitoring_agent;
grant execute on function monitoring.reconcile(jsonb, text[], timestamptz), monitoring.outbox_batch(int), monitoring.outbox_mark(jsonb)
  to monitoring_agent;

-- Who migrated sets up, too.
do $operator$
declare
  v_operator text := pg_catalog.current_setting('pgvigil.became_owner');
begin
  if v_operator <> '' then
    -- Taken back first, so that a second run leaves the same order in the access list.
    execute pg_catalog.format('revoke all on monitoring.checks, monitoring.suppressions, monitoring.outbox from %I', v_operator);
    execute pg_catalog.format('grant select on monitoring.checks, monitoring.outbox to %I', v_operator);
    execute pg_catalog.format('grant select, insert, update, delete on monitoring.suppressions to %I', v_operator);
  end if;
end
$operator$;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000009', 'monitoring_checks', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
on conflict (version) do nothing;

-- The role is put back to what it was: `reset role` would also undo a SET ROLE of the tool that runs this file.
do $return$
begin
  perform pg_catalog.set_config('role', pg_catalog.current_setting('pgvigil.migrating_role'), false);
  if pg_catalog.current_setting('pgvigil.became_owner') <> '' then
    execute pg_catalog.format('revoke monitoring_owner from %I', pg_catalog.current_setting('pgvigil.became_owner'));
  end if;
end
$return$;

do $end$
begin
  perform pg_catalog.set_config('search_path', pg_catalog.current_setting('pgvigil.migrating_search_path'),
    coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) = 'yes', false));
  begin
    perform pg_catalog.set_config('default_tablespace', pg_catalog.current_setting('pgvigil.migrating_tablespace'),
      coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) = 'yes', false));
  exception when invalid_parameter_value then
    null; -- a file may name one that is gone, which nobody can set: the database's own it is
  end;
end
$end$;
