-- pgvigil: taking a sample.
--
-- The cheap part is every tick's: sessions, counters, judgement. What costs more is a part of its own, with its turn, its share of
-- the budget and its failures.

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

-- Keeps what is remembered of a large database true (20250825000001 says what and why), and costs next to nothing while nothing
-- changes. At most one subject is looked up a call, and only what differs is written. Where tables come and go all day, what was
-- looked up is outdated before anybody reads it: so a look-up may take a ten-thousandth of the time since the one before, and
-- meanwhile who reads looks for himself. Whether an answer holds is noted before it is looked up, or compared: what changes in
-- between makes it old, never wrong.
create or replace function monitoring.remember() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set jit = off
as $$
declare
  v_subjects constant text[] := '{companions,tables,column_grants,rls_status}';
  v_now text[];
  v_subject text;
  v_holds_while text;
  v_contents text;
  -- By place. Pages and ages of tables change without a trace in the counters, and to look at them is cheap. Row-level security is
  -- nothing but what the catalogs hold, and those are compared.
  v_at_the_latest constant interval[] := '{1 hour,30 minutes,1 hour,1 day}';
  v_started_at timestamptz := clock_timestamp();
begin
  if not monitoring.is_large() then
    delete from monitoring.remembered;
    return;
  end if;
  -- A snapshot of the transaction's beginning could be older than the counters.
  if current_setting('transaction_isolation') <> 'read committed' then
    return;
  end if;
  -- One at a time, as a sample is: two who had seen different things would leave something of both.
  perform from monitoring.migrations m where m.version = '20250825000003' for no key update;
  v_now := array(select monitoring.holds_while(s.subject) from unnest(v_subjects) with ordinality s (subject, place) order by s.place);
  -- Not every change that was counted concerns us (a temporary table), and not every one that does was counted yet. To compare
  -- what there is costs as much as reading pg_class: not every minute without a reason.
  if exists (
    select from monitoring.remembered r join unnest(v_subjects, v_now) k (subject, holds_while) on k.subject = r.subject
    where r.contents is not null and split_part(r.holds_while, '|', 1) = split_part(k.holds_while, '|', 1)
      and r.checked_at not between now()
        - case when r.holds_while = k.holds_while then interval '10 minutes' else r.look_up_ms * interval '1 second' end and now())
  then
    v_contents := monitoring.catalog_contents();
    update monitoring.remembered r
    set checked_at = now(), holds_while = case
      when r.contents <> v_contents then ''
      when split_part(r.holds_while, '|', 1) = split_part(k.holds_while, '|', 1) then k.holds_while
      else r.holds_while end
    from unnest(v_subjects, v_now) k (subject, holds_while)
    where k.subject = r.subject and r.contents is not null;
  end if;
  select k.subject, k.holds_while into v_subject, v_holds_while
  from unnest(v_subjects, v_now) with ordinality k (subject, holds_while, place)
    left join monitoring.remembered r on r.subject = k.subject
  where k.holds_while is not null
    and (r.subject is null
      or r.remembered_at not between now() - v_at_the_latest[k.place] and now()
      or r.holds_while <> k.holds_while and r.remembered_at < now() - r.look_up_ms * interval '10 seconds')
  order by r.subject is not null, r.remembered_at, k.place
  limit 1;
  if not found then
    return;
  end if;
  v_contents := case when v_subject in ('tables', 'rls_status') then coalesce(v_contents, monitoring.catalog_contents()) end;
  perform monitoring.hear_of_changes();
  case v_subject
    when 'companions' then
      with changes as materialized (
        select s, k from monitoring.look_at_companions() s full join monitoring.remembered_companions k on k.table_oid = s.table_oid
        where s.table_oid is null or k.table_oid is null
          or (k.companion_pages, k.index_scans, k.toast_frozen_xid::text, k.toast_min_multixact::text, k.toast_options)
            is distinct from (s.companion_pages, s.index_scans, s.toast_frozen_xid::text, s.toast_min_multixact::text, s.toast_options)
      ), gone as (
        delete from monitoring.remembered_companions r using changes c where (c.s).table_oid is null and r.table_oid = (c.k).table_oid
      )
      insert into monitoring.remembered_companions as r select (c.s).* from changes c where (c.s).table_oid is not null
      on conflict (table_oid) do update
        set (companion_pages, index_scans, toast_frozen_xid, toast_min_multixact, toast_options)
          = (excluded.companion_pages, excluded.index_scans, excluded.toast_frozen_xid, excluded.toast_min_multixact, excluded.toast_options);
    when 'tables' then
      with changes as materialized (
        select s, k from monitoring.look_at_tables() s full join monitoring.remembered_tables k on k.table_oid = s.table_oid
        where s.table_oid is null or k.table_oid is null or k *<> s -- byte by byte: type xid knows no other order
      ), gone as (
        delete from monitoring.remembered_tables r using changes c where (c.s).table_oid is null and r.table_oid = (c.k).table_oid
      )
      insert into monitoring.remembered_tables as r select (c.s).* from changes c where (c.s).table_oid is not null
      on conflict (table_oid) do update
        set (toast_oid, schemaname, tablename, relpages, reltuples, vacuum_threshold, vacuum_scale_factor, vacuum_max_threshold,
            freeze_max_age, multixact_freeze_max_age, frozen_xid, min_multixact, companion_pages, index_scans,
            toast_frozen_xid, toast_min_multixact, toast_freeze_max_age, toast_multixact_freeze_max_age)
          = (excluded.toast_oid, excluded.schemaname, excluded.tablename, excluded.relpages, excluded.reltuples,
            excluded.vacuum_threshold, excluded.vacuum_scale_factor, excluded.vacuum_max_threshold,
            excluded.freeze_max_age, excluded.multixact_freeze_max_age, excluded.frozen_xid, excluded.min_multixact,
            excluded.companion_pages, excluded.index_scans, excluded.toast_frozen_xid, excluded.toast_min_multixact, excluded.toast_freeze_max_age,
            excluded.toast_multixact_freeze_max_age);
    when 'column_grants' then
      with seen as materialized (
        select * from monitoring.look_at_column_grants()
      ), gone as (
        delete from monitoring.remembered_column_grants r
        where not exists (select from seen s
          where s.table_oid = r.table_oid and s.grantee = r.grantee and s.privilege_type = r.privilege_type)
        returning r.table_oid
      ), come as (
        insert into monitoring.remembered_column_grants select * from seen on conflict do nothing
        returning table_oid
      )
      -- Which nobody compares with. Nor with what was seen of them and not remembered, in between, while that did not hold.
      update monitoring.remembered r set holds_while = ''
      from monitoring.remembered g
      where r.subject = 'rls_status' and g.subject = 'column_grants'
        and (exists (select from gone) or exists (select from come)
          or r.remembered_at > g.remembered_at
            and (g.holds_while <> v_holds_while or r.remembered_at > g.remembered_at + interval '2 hours'));
    when 'rls_status' then
      with changes as materialized (
        select s, k from monitoring.look_at_rls_kinds() s full join monitoring.remembered_rls_kinds k
          on k.risk_rank = s.risk_rank and k.schemaname = s.schemaname and k.known_by = s.known_by
        where s.risk_rank is null or k.risk_rank is null or k <> s
      ), gone as (
        delete from monitoring.remembered_rls_kinds r using changes c
        where (c.s).risk_rank is null
          and r.risk_rank = (c.k).risk_rank and r.schemaname = (c.k).schemaname and r.known_by = (c.k).known_by
      )
      insert into monitoring.remembered_rls_kinds as r select (c.s).* from changes c where (c.s).risk_rank is not null
      on conflict (risk_rank, schemaname, known_by) do update
        set (rls_enabled, rls_status, policy_count, security_risk_level, rls_forced, exposed_to, reasons, is_hollow, is_read_past,
            is_open_to_anyone, is_unbound, tablenames)
          = (excluded.rls_enabled, excluded.rls_status, excluded.policy_count, excluded.security_risk_level, excluded.rls_forced,
            excluded.exposed_to, excluded.reasons, excluded.is_hollow, excluded.is_read_past,
            excluded.is_open_to_anyone, excluded.is_unbound, excluded.tablenames);
  end case;
  insert into monitoring.remembered (subject, remembered_at, checked_at, look_up_ms, holds_while, contents)
  values (v_subject, now(), now(), extract(epoch from clock_timestamp() - v_started_at) * 1000, v_holds_while, v_contents)
  on conflict (subject) do update set remembered_at = excluded.remembered_at, checked_at = excluded.checked_at,
    look_up_ms = excluded.look_up_ms, holds_while = excluded.holds_while, contents = excluded.contents;
end
$$;
comment on function monitoring.remember() is
  'Renews what is remembered of a large database, one subject a call; forgets it in a small one.';

-- Which database this is, however it is called: its oid, and that of a table of ours, which stay what they are over pg_upgrade; and the
-- server's identifier, which a restored dump does not bring along (manual, "pg_control_system"). Without it where that is not told.
create or replace function monitoring.database_identity() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_system_identifier bigint;
begin
  begin
    v_system_identifier := (select c.system_identifier from pg_control_system() c);
  exception when others then
    null;
  end;
  return concat_ws('/', (select d.oid from pg_database d where d.datname = current_database()), 'monitoring.samples'::regclass::oid, v_system_identifier);
end
$$;
comment on function monitoring.database_identity() is 'A text that is another one where a dump of the database is restored, and in a copy that CREATE DATABASE made.';

-- Gauges and counters, each source by itself: what a server lacks or refuses (Aurora tells no WAL position, say) is null and
-- costs the rest nothing.
create or replace function monitoring.collect_sample(p_backends monitoring.seen_backend[]) returns monitoring.samples
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  s monitoring.samples;
  v_database oid := (select d.oid from pg_database d where d.datname = current_database());
  v_own_logins oid[] := monitoring.own_logins();
  v_wal_position pg_lsn;
begin
  s.server_started_at := pg_postmaster_start_time();
  s.database_identity := monitoring.database_identity();
  select count(*) filter (where a.is_active), count(*) filter (where a.is_client and a.state = 'idle'),
    count(*) filter (where a.is_client and a.state like 'idle in transaction%'),
    count(*) filter (where a.is_active and a.wait_event_type is null),
    count(*) filter (where a.is_active and a.wait_event_type = 'Lock'),
    count(*) filter (where a.is_active and a.wait_event_type = 'LWLock'),
    count(*) filter (where a.is_active and a.wait_event_type = 'IO'),
    count(*) filter (where a.is_active and a.wait_event_type = 'Client'),
    count(*) filter (where a.is_active and a.wait_event_type = 'IPC'),
    count(*) filter (where a.is_active and a.wait_event_type not in ('Lock', 'LWLock', 'IO', 'Client', 'IPC')),
    count(*) filter (where a.backend_type = 'autovacuum worker'),
    (extract(epoch from max(clock_timestamp() - a.query_start)
      filter (where a.is_active and a.is_client and a.datid = v_database and a.usesysid <> all (v_own_logins))) * 1000)::bigint
    into s.active_sessions, s.idle_sessions, s.idle_in_transaction, s.active_on_cpu, s.active_on_lock, s.active_on_lwlock,
      s.active_on_io, s.active_on_client, s.active_on_ipc, s.active_on_other, s.autovacuum_workers, s.longest_statement_ms
  from (
    select g.*, g.backend_type = 'client backend' as is_client,
      g.backend_type in ('client backend', 'parallel worker') and g.state in ('active', 'fastpath function call') as is_active
    from unnest(p_backends) g where g.pid <> pg_backend_pid()
  ) a;

  select d.xact_commit, d.xact_rollback, d.blks_read, d.blks_hit, d.tup_returned, d.tup_fetched, d.tup_inserted, d.tup_updated,
    d.tup_deleted, d.temp_files, d.temp_bytes, d.deadlocks, d.stats_reset
    into s.commits, s.rollbacks, s.blocks_read, s.blocks_hit, s.tuples_returned, s.tuples_fetched, s.tuples_inserted, s.tuples_updated,
      s.tuples_deleted, s.temp_files, s.temp_bytes, s.deadlocks, s.counted_since
  from pg_stat_database d where d.datid = v_database;
  select max(age(d.datfrozenxid)), max(mxid_age(d.datminmxid)) into s.xid_age, s.multixact_age from pg_database d;

  begin
    select w.wal_bytes, w.stats_reset into s.wal_bytes, s.wal_counted_since from pg_stat_wal w;
    -- The checkpointer has a view of its own from 17 on. A statement is not looked at before it is executed, so neither need be dynamic,
    -- and planned anew with every sample.
    if to_regclass('pg_catalog.pg_stat_checkpointer') is not null then
      select c.num_timed, c.num_requested, c.write_time, c.sync_time, c.stats_reset
        into s.checkpoints_timed, s.checkpoints_requested, s.checkpoint_write_ms, s.checkpoint_sync_ms, s.checkpoints_counted_since
      from pg_stat_checkpointer c;
    else
      select b.checkpoints_timed, b.checkpoints_req, b.checkpoint_write_time, b.checkpoint_sync_time, b.stats_reset
        into s.checkpoints_timed, s.checkpoints_requested, s.checkpoint_write_ms, s.checkpoint_sync_ms, s.checkpoints_counted_since
      from pg_stat_bgwriter b;
    end if;
  exception when others then
    null;
  end;
  begin
    if pg_is_in_recovery() then
      v_wal_position := pg_last_wal_replay_lsn();
      -- A standby that has replayed all it received is not behind, however long nobody wrote.
      s.replication_lag_seconds := case when pg_last_wal_receive_lsn() = v_wal_position then 0
        else round(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::numeric, 3) end;
      s.replication_lag_bytes := pg_wal_lsn_diff(pg_last_wal_receive_lsn(), v_wal_position);
      select count(*) into s.standbys from pg_stat_get_wal_senders() r where r.replay_lsn is not null and r.state <> 'backup';
    else
      v_wal_position := pg_current_wal_lsn();
      -- Names of WAL files begin with the timeline, which every failover counts up.
      s.timeline := ('x' || left(pg_walfile_name(v_wal_position), 8))::bit(32)::int;
      select count(*), max(pg_wal_lsn_diff(v_wal_position, r.replay_lsn))::bigint, round(max(extract(epoch from r.replay_lag))::numeric, 3)
        into s.standbys, s.replication_lag_bytes, s.replication_lag_seconds
      from pg_stat_get_wal_senders() r where r.replay_lsn is not null and r.state <> 'backup'; -- who replays nothing is no standby, but a backup
    end if;
    select count(*) filter (where not l.active), max(pg_wal_lsn_diff(v_wal_position, l.restart_lsn))::bigint
      into s.inactive_slots, s.slot_retained_bytes
    from pg_replication_slots l where l.wal_status is distinct from 'lost'; -- which keeps nothing any more
  exception when others then
    null;
  end;
  return s;
end
$$;
comment on function monitoring.collect_sample(monitoring.seen_backend[]) is 'A sample''s gauges and raw counters, as the server has them now; null where it does not tell.';

-- Counters first: the texts are read by a part of their own. An entry that has begun anew since (evicted and back, reset, or
-- gone down for whatever reason) has nothing before: its counters are what it did since.
create or replace function monitoring.sample_statements(p_tick_at timestamptz, p_since_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
-- Nothing is known of the sizes of what is compared, and thousands by thousands take seconds.
set enable_nestloop = off
set jit = off
as $$
declare
  v_source record;
  v_entries text;
begin
  select * into v_source from monitoring.statement_source();
  if not (v_source.is_created and v_source.is_usable and v_source.is_loaded) then
    return; -- monitoring.degraded() says so
  end if;
  v_entries := format('%s(false)', v_source.relation);
  -- Before 1.9 the extension does not say which of two entries is the nested statement, and the server counts them apart all the same.
  if v_source.toplevel = 'null::boolean' then
    v_entries := format(
      '(select e.dbid, e.queryid, e.userid, sum(e.calls)::bigint as calls, sum(e.total_%2$s) as total_%2$s, sum(e.rows)::bigint as rows, '
        'sum(e.shared_blks_hit)::bigint as shared_blks_hit, sum(e.shared_blks_read)::bigint as shared_blks_read, '
        'sum(e.temp_blks_read)::bigint as temp_blks_read, sum(e.temp_blks_written)::bigint as temp_blks_written '
      'from %1$s e group by e.dbid, e.queryid, e.userid)', v_entries, v_source.time_column);
  end if;
  if not pg_has_role(current_user, 'pg_read_all_stats', 'usage') then
    -- Only our own statements have an identity now. When the others have theirs again, they are not new: that look is a first one.
    delete from monitoring.statement_counters;
    return;
  end if;
  execute format(
    'with seen as materialized ('
      'select s.queryid as query_id, s.userid as user_id, coalesce(%3$s, true) as toplevel, s.calls, s.total_%2$s as exec_ms, s.rows, '
        's.shared_blks_hit as hit, s.shared_blks_read as read, s.temp_blks_read + s.temp_blks_written as temp, %4$s as since '
      'from %1$s s where s.dbid = $1 and s.userid <> all ($2) and s.queryid is not null'
    '), moved as materialized ('
      'select n.*, b.ctid as place, b.calls as calls_b, b.exec_ms as exec_ms_b, b.rows as rows_b, b.blocks_hit as hit_b, b.blocks_read as read_b, b.temp_blocks as temp_b '
      'from seen n left join monitoring.statement_counters b on b.query_id = n.query_id and b.user_id = n.user_id and b.toplevel = n.toplevel '
        'and b.since is not distinct from n.since and b.calls <= n.calls and b.exec_ms <= n.exec_ms and b.rows <= n.rows '
        'and b.blocks_hit <= n.hit and b.blocks_read <= n.read and b.temp_blocks <= n.temp '
      'where b.calls is null or b.calls < n.calls'
    '), gone as ('
      'delete from monitoring.statement_counters k where not exists ('
        'select from seen n where n.query_id = k.query_id and n.user_id = k.user_id and n.toplevel = k.toplevel)'
    -- Where a row is, is known: to find it by its key takes as long as to write it. Nobody else writes here.
    '), kept as ('
      'update monitoring.statement_counters k '
      'set calls = m.calls, exec_ms = m.exec_ms, rows = m.rows, blocks_hit = m.hit, blocks_read = m.read, temp_blocks = m.temp '
      'from moved m where k.ctid = m.place'
    '), begun as ('
      'insert into monitoring.statement_counters as k select m.query_id, m.user_id, m.toplevel, m.calls, m.exec_ms, m.rows, m.hit, m.read, m.temp, m.since '
      'from moved m where m.place is null on conflict (query_id, user_id, toplevel) do update '
        'set (calls, exec_ms, rows, blocks_hit, blocks_read, temp_blocks, since) '
          '= (excluded.calls, excluded.exec_ms, excluded.rows, excluded.blocks_hit, excluded.blocks_read, excluded.temp_blocks, excluded.since)'
    '), heaviest as ('
      'select m.* from moved m where m.calls > coalesce(m.calls_b, 0) order by m.exec_ms - coalesce(m.exec_ms_b, 0) desc, m.query_id limit 100'
    ') '
    -- Without a look before there is nothing to compare with.
    'insert into monitoring.statement_samples '
    'select $3, clock_timestamp(), $4, coalesce(array_agg(h.query_id), ''{}''), coalesce(array_agg(h.user_id), ''{}''), coalesce(array_agg(h.toplevel), ''{}''), '
      'coalesce(array_agg(h.calls), ''{}''), coalesce(array_agg(h.calls_b), ''{}''), '
      'coalesce(array_agg((1000 * h.exec_ms)::bigint), ''{}''), coalesce(array_agg((1000 * h.exec_ms_b)::bigint), ''{}''), '
      'coalesce(array_agg(h.rows), ''{}''), coalesce(array_agg(h.rows_b), ''{}''), '
      'coalesce(array_agg(h.hit), ''{}''), coalesce(array_agg(h.hit_b), ''{}''), coalesce(array_agg(h.read), ''{}''), coalesce(array_agg(h.read_b), ''{}''), '
      'coalesce(array_agg(h.temp), ''{}''), coalesce(array_agg(h.temp_b), ''{}'') '
    'from heaviest h having $4 is not null and exists (select from monitoring.statement_counters)',
    v_entries, v_source.time_column, v_source.toplevel, v_source.since)
  using (select d.oid from pg_database d where d.datname = current_database()), monitoring.own_roles(), p_tick_at, p_since_at;
end
$$;
comment on function monitoring.sample_statements(timestamptz, timestamptz) is
  'Keeps what the 100 statements did that took the most time since the look before; p_since_at null: there was none.';

-- A text is read once. Which ones: of what took the most time since the looks of the last hour, and in all.
create or replace function monitoring.note_statement_texts() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_source record;
  v_wanted bigint[];
  v_unknown bigint[];
  v_noted bigint := 0;
begin
  v_wanted := array(
    select h.query_id from (select k.query_id from monitoring.statement_counters k order by k.exec_ms desc limit 200) h
    union
    select unnest(s.query_ids) from monitoring.statement_samples s where s.tick_at > now() - interval '1 hour' and s.tick_at <= now() + interval '1 hour');
  update monitoring.statement_texts t set last_seen_at = now()
  where t.query_id = any (v_wanted) and t.last_seen_at < now() - interval '1 day';
  v_unknown := array(select w.id from unnest(v_wanted) as w (id) where not exists (select from monitoring.statement_texts t where t.query_id = w.id));
  if v_unknown = '{}' then
    return 0;
  end if;
  select * into v_source from monitoring.statement_source();
  if not (v_source.is_created and v_source.is_usable and v_source.is_loaded) then
    return 0;
  end if;
  execute format(
    'insert into monitoring.statement_texts (query_id, query_preview) '
    'select s.queryid, monitoring.redact(min(s.query)) from %s(true) s where s.dbid = $1 and s.queryid = any ($2) and s.query is not null '
    'group by s.queryid on conflict do nothing', v_source.relation)
  using (select d.oid from pg_database d where d.datname = current_database()), v_unknown;
  get diagnostics v_noted = row_count;
  return v_noted;
end
$$;
comment on function monitoring.note_statement_texts() is 'Notes, redacted, the texts of the heaviest statements that are not known yet; says how many.';

create or replace function monitoring.sample_tables(p_tick_at timestamptz, p_since_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
-- Nothing is known of the sizes of what is compared, and thousands by thousands take seconds.
set enable_nestloop = off
set jit = off
as $$
begin
  with seen as materialized (
    select t.oid, t.schemaname, t.tablename, t.live_tuples, t.dead_tuples, t.toast_oid, t.heap_pages, t.companion_pages,
      pg_stat_get_tuples_inserted(t.oid) as inserts, pg_stat_get_tuples_updated(t.oid) as updates,
      pg_stat_get_tuples_deleted(t.oid) as deletes, pg_stat_get_numscans(t.oid) as scans
    from monitoring.table_states t
  ), moved as materialized (
    select n.*, b.ctid as place, b.inserts as inserts_b, b.updates as updates_b, b.deletes as deletes_b, b.sequential_scans as scans_b
    from seen n left join monitoring.table_counters b on b.table_oid = n.oid
      and b.inserts <= n.inserts and b.updates <= n.updates and b.deletes <= n.deletes and b.sequential_scans <= n.scans
    where b.table_oid is null or (b.inserts, b.updates, b.deletes, b.sequential_scans) <> (n.inserts, n.updates, n.deletes, n.scans)
  ), gone as (
    delete from monitoring.table_counters k where not exists (select from seen n where n.oid = k.table_oid)
  ), kept as (
    -- As for statements.
    update monitoring.table_counters k
    set inserts = m.inserts, updates = m.updates, deletes = m.deletes, sequential_scans = m.scans
    from moved m where k.ctid = m.place
  ), begun as (
    insert into monitoring.table_counters as k select m.oid, m.inserts, m.updates, m.deletes, m.scans from moved m where m.place is null
    on conflict (table_oid) do update set (inserts, updates, deletes, sequential_scans)
      = (excluded.inserts, excluded.updates, excluded.deletes, excluded.sequential_scans)
  ), most_changed as (
    select m.*, m.inserts + m.updates + m.deletes - coalesce(m.inserts_b + m.updates_b + m.deletes_b, 0) as written
    from moved m
    order by written desc, m.scans - coalesce(m.scans_b, 0) desc, m.oid
    limit 50
  )
  insert into monitoring.table_samples
  select p_tick_at, clock_timestamp(), p_since_at, coalesce(array_agg(m.oid), '{}'), coalesce(array_agg(format('%I.%I', m.schemaname, m.tablename)), '{}'),
    coalesce(array_agg(m.inserts), '{}'), coalesce(array_agg(m.inserts_b), '{}'), coalesce(array_agg(m.updates), '{}'), coalesce(array_agg(m.updates_b), '{}'),
    coalesce(array_agg(m.deletes), '{}'), coalesce(array_agg(m.deletes_b), '{}'), coalesce(array_agg(m.scans), '{}'), coalesce(array_agg(m.scans_b), '{}'),
    coalesce(array_agg(m.live_tuples), '{}'), coalesce(array_agg(m.dead_tuples), '{}'),
    coalesce(array_agg((m.heap_pages + coalesce(m.companion_pages, monitoring.companion_pages(m.oid, m.toast_oid)))
      * current_setting('block_size')::bigint), '{}')
  from most_changed m
  having p_since_at is not null and exists (select from monitoring.table_counters);
end
$$;
comment on function monitoring.sample_tables(timestamptz, timestamptz) is
  'Keeps what happened to the 50 tables that changed most since the look before; p_since_at null: there was none.';

-- Everything watched as it is now. p_newer: of relations and functions only those whose row in the catalog was written by a
-- transaction of that age or younger, since the scan is cheap and wording 10,000 access lists is not; policies that are older are
-- there without a text: as they were. p_columns: whether somebody's rights to a column may have changed, which is not seen in
-- the row of its table. An access list that says what none would say is none.
create or replace function monitoring.look_at_watched(p_newer int default null, p_columns boolean default true) returns setof monitoring.watched
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_nestloop = off -- schemas by functions, and both can be thousands
as $$
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
begin
  return query
    with namespaces as materialized (
      select n.* from pg_namespace n where monitoring.is_application_schema(n.nspname, v_schemas)
    ), by_column as materialized (
      select distinct g.table_oid from monitoring.column_grants() g where p_newer is null or p_columns
    ), relations as materialized (
      select c.oid, c.relkind, n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity,
        concat(coalesce(nullif(c.relacl, acldefault('r', c.relowner))::text, 'owner only'), case when p_newer is not null or k.table_oid is not null then (
          select string_agg(format(', column %I %s', a.attname, a.attacl), '' order by a.attnum)
          from pg_attribute a where a.attrelid = c.oid and a.attacl is not null and not a.attisdropped) end) as granted
      from pg_class c join namespaces n on n.oid = c.relnamespace
        left join by_column k on k.table_oid = c.oid
      where c.reltype <> 0 and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
        and (p_newer is null or age(c.xmin) <= p_newer
          -- Who has rights to a column now, and who had.
          or p_columns and (k.table_oid is not null
            or c.oid::text in (select w.key from monitoring.watched w where w.kind = 'grant' and w.state like '%, column %')))
    )
    select 'rls', r.oid::text, format('%I.%I', r.nspname, r.relname),
      case when not r.relrowsecurity then 'off' when r.relforcerowsecurity then 'on, forced' else 'on' end
    from relations r where r.relkind in ('r', 'p')
    union all
    select 'grant', r.oid::text, format('%I.%I', r.nspname, r.relname), r.granted
    from relations r
    union all
    select 'grant', 'schema ' || n.oid, format('schema %I', n.nspname), coalesce(nullif(n.nspacl, acldefault('n', n.nspowner))::text, 'owner only')
    from namespaces n
    union all
    -- A function is everybody's as long as nobody said otherwise.
    select 'grant', 'function ' || p.oid, format('function %s', p.oid::regprocedure), coalesce(nullif(p.proacl, acldefault('f', p.proowner))::text, 'everybody')
    from pg_proc p join namespaces n on n.oid = p.pronamespace
    where p.oid >= 16384 and (p_newer is null or age(p.xmin) <= p_newer)
    union all
    -- The expressions by their digest: to print one opens the table and would wait for DDL on it. Where in the text of its
    -- statement each part of one stood (to 16) says nothing of it.
    select 'policy', format('%s %s', p.polrelid, p.oid), case when k.is_told then format('policy %I on %I.%I', p.polname, n.nspname, c.relname) end,
      case when k.is_told then concat_ws(', ', case when p.polpermissive then 'permissive' else 'restrictive' end,
        'for ' || case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
        'to ' || (select string_agg(case u.r when 0 then 'public' else pg_get_userbyid(u.r)::text end, ' ' order by u.r) from unnest(p.polroles) as u (r)),
        -- Of monstrous ones by their version.
        'expression ' || left(md5(case when coalesce(pg_column_size(p.polqual), 0) + coalesce(pg_column_size(p.polwithcheck), 0) > 100000
          then concat(p.oid, '/', p.xmin)
          else (
            select string_agg(ltrim(e.part, '-0123456789'), '' order by e.place)
            from unnest(string_to_array(concat(p.polqual::text, '/', p.polwithcheck::text), 'location ')) with ordinality e (part, place)) end), 8)) end
    from pg_policy p join pg_class c on c.oid = p.polrelid join namespaces n on n.oid = c.relnamespace
      cross join lateral (select p_newer is null or age(p.xmin) <= p_newer as is_told) k
    union all
    select 'role', r.oid::text, r.rolname::text,
      concat_ws(', ', case when r.rolcanlogin then 'login' else 'no login' end, case when r.rolsuper then 'superuser' end,
        case when r.rolbypassrls then 'bypasses row-level security' end, case when r.rolcreaterole then 'creates roles' end,
        case when r.rolcreatedb then 'creates databases' end, case when r.rolreplication then 'replicates' end)
    from pg_roles r where r.rolname !~ '^pg_'
    union all
    -- From 16 on there can be several of one pair, by who granted it. In our own roles too: who becomes the owner is nobody's secret.
    select 'membership', m.roleid || ' ' || m.member, format('%s in %s', pg_get_userbyid(m.member), pg_get_userbyid(m.roleid)),
      concat_ws(', ', 'member', case when bool_or(m.admin_option) then 'may grant it' end,
        case when not bool_or((to_jsonb(m) ->> 'inherit_option')::boolean) then 'does not inherit' end,
        case when not bool_or((to_jsonb(m) ->> 'set_option')::boolean) then 'may not become it' end)
    from pg_auth_members m
    where pg_get_userbyid(m.member) !~ '^(pg_|monitoring_)'
    group by m.roleid, m.member;
end
$$;
comment on function monitoring.look_at_watched(int, boolean) is
  'Row-level security, grants (of columns too, and of functions), policies, roles and memberships: a text each, another one when they are changed; null: as it was.';

-- Custom parameters, commands and connection strings can hold secrets: of those only that they changed. What the session that samples, or its
-- role, sets for itself says nothing of the server: 'not seen'. What a sample's own functions set is set back for as long as this takes.
create or replace function monitoring.look_at_settings() returns setof monitoring.watched
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set row_security = on
set quote_all_identifiers = off
set lc_time = 'C'
as $$
declare
  v_path_source text;
  v_path text;
begin
  perform set_config(s.name, null, true) from unnest('{jit,row_security,quote_all_identifiers,lc_time}'::text[]) s (name);
  -- Nothing but this is asked with the path of whoever calls.
  perform pg_catalog.set_config('search_path', null, true);
  select s.source, s.setting into v_path_source, v_path from pg_catalog.pg_settings s where s.name operator(pg_catalog.=) 'search_path';
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  return query
    select 'setting', s.name, s.name,
      case when case s.name when 'search_path' then v_path_source else s.source end in ('session', 'client', 'user', 'database user') then 'not seen'
        when s.name = 'search_path' then v_path
        when s.category = 'Customized Options' or position('.' in s.name) > 0 or s.name ~ '(conninfo|command|passphrase|password|secret|key)'
          then 'hidden, ' || left(md5(concat(s.name, '/', s.setting)), 8)
        else concat(s.setting, ' ' || s.unit) end
    from pg_settings s
    where s.context <> 'internal' and s.name not in ('transaction_isolation', 'transaction_deferrable', 'transaction_read_only'); -- each transaction's
end
$$;

-- What differs is a change; the first look of a kind is what later ones are compared with, and a table that is new has not
-- changed, nor have its policies; nor those of a table that is gone. Beyond a thousand at once, it is one migration.
create or replace function monitoring.note_differences(p_kinds text[], p_is_whole boolean, p_seen monitoring.watched[]) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
-- Nothing is known of the sizes of what is compared, and thousands by thousands take seconds.
set enable_nestloop = off
set jit = off
as $$
declare
  v_is_first boolean := not exists (select from monitoring.watched w where w.kind = any (p_kinds));
  v_noted bigint;
begin
  with seen as materialized (
    select * from unnest(p_seen)
  ), known as materialized (
    select * from monitoring.watched w where w.kind = any (p_kinds)
  ), differing as materialized (
    select s.*, nullif(w.state, 'not seen') as was, w.key is null as is_new
    from seen s left join known w on w.kind = s.kind and w.key = s.key
    where w.key is null and s.state is not null or w.state <> s.state and s.state <> 'not seen' or w.name <> s.name
  ), kept as (
    insert into monitoring.watched select d.kind, d.key, d.name, d.state from differing d
    on conflict (kind, key) do update set name = excluded.name, state = excluded.state
  ), gone as (
    delete from monitoring.watched w
    where w.kind = any (p_kinds) and (p_is_whole or w.kind not in ('rls', 'grant'))
      and not exists (select from seen s where s.kind = w.kind and s.key = w.key)
    returning w.*
  ), changed as (
    select d.kind, d.name, d.was, d.state as now
    from differing d
      left join differing t on d.kind = 'policy' and d.is_new and t.kind = 'rls' and t.is_new and t.key = split_part(d.key, ' ', 1)
    where d.was is distinct from d.state and not (d.is_new and d.kind in ('rls', 'grant')) and t.key is null
      and (d.is_new or d.was is not null) and d.state <> 'not seen' -- what was not seen before has not changed
    union all
    select g.kind, g.name, g.state, null from gone g
    where g.kind not in ('rls', 'grant') and g.state <> 'not seen'
      and (g.kind <> 'policy' or exists (
        select from pg_class c where c.oid = case g.kind when 'policy' then split_part(g.key, ' ', 1)::oid end))
  )
  insert into monitoring.changes (kind, object, was, now)
  -- Even a digest would help to guess.
  select c.kind, monitoring.legible(c.name), regexp_replace(monitoring.legible(c.was), '^hidden, .*', 'hidden'),
    regexp_replace(monitoring.legible(c.now), '^hidden, .*', 'hidden')
  from changed c where not v_is_first
  -- What could hide behind a thousand others comes first.
  order by array_position('{role,membership,rls,setting,policy,grant}'::text[], c.kind), c.name limit 1000;
  get diagnostics v_noted = row_count;
  return v_noted;
end
$$;

-- Which versions of which rows there are behind monitoring.look_at_watched(): the same text as an hour ago, and nothing has changed
-- that the counters did not tell. A tenth of what it takes to word and compare everything.
create or replace function monitoring.watched_contents() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  return concat_ws(' ', monitoring.catalog_contents(), (
    select string_agg(concat_ws('/', x.rows, x.versions), ' ' order by x.place)
    from (
      select 1 as place, count(*) as rows, sum(hashtext(c.xmin::text)) as versions
      from pg_foreign_table f join pg_class c on c.oid = f.ftrelid
      union all
      select 2, count(*), sum(hashtext(p.xmin::text)) from pg_proc p where p.oid >= 16384
      union all
      select 3, count(*), sum(hashtext(a.xmin::text))
      from (select distinct g.table_oid from monitoring.column_grants() g) g
        join pg_attribute a on a.attrelid = g.table_oid and a.attacl is not null
      union all
      select 4, count(*), sum(hashtext(concat_ws(' ', r.oid, r.rolcanlogin, r.rolcreaterole, r.rolcreatedb, r.rolreplication))) from pg_roles r
      union all
      select 5, count(*), sum(hashtext(s.schema)) from unnest(monitoring.setting_list('application_schemas')) s (schema)
    ) x));
end
$$;
comment on function monitoring.watched_contents() is 'A text that changes with every row of the catalogs behind monitoring.look_at_watched().';

-- Looks only when the server's own counters say that somebody wrote to the catalogs concerned, which costs 0.1 ms to ask. Every hour
-- the rows themselves are compared, and where they are not the same ones, everything is looked at.
create or replace function monitoring.note_changes(p_noted jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_written text := monitoring.catalog_writes('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_proc');
  -- Nobody gets a column's privileges but by an update: tables come and go without any.
  v_columns text := pg_stat_get_tuples_updated('pg_attribute'::regclass);
  v_configured text := concat_ws(' ', extract(epoch from pg_conf_load_time()), extract(epoch from pg_postmaster_start_time()),
    monitoring.catalog_writes('pg_db_role_setting'));
  v_is_hourly boolean := coalesce((p_noted ->> 'compared_at')::timestamptz < now() - interval '1 hour', true);
  v_xmin text := pg_snapshot_xmin(pg_current_snapshot())::text;
  -- Before the look: what changes in between is another text the next time.
  v_contents text := case when v_is_hourly then monitoring.watched_contents() else p_noted ->> 'contents' end;
  v_is_whole boolean := v_contents is distinct from p_noted ->> 'contents';
  v_changed bigint := 0;
  v_major text := (current_setting('server_version_num')::int / 10000)::text;
  v_identity text := monitoring.database_identity();
begin
  -- Of another database everything has another oid: what was seen of that is no state of anything here. Over pg_upgrade only the server's
  -- identifier is a new one.
  if split_part(v_identity, '/', 1) <> split_part(p_noted ->> 'identity', '/', 1) or split_part(v_identity, '/', 2) <> split_part(p_noted ->> 'identity', '/', 2)
    or v_major = p_noted ->> 'major' and nullif(split_part(v_identity, '/', 3), '') <> nullif(split_part(p_noted ->> 'identity', '/', 3), '')
  then
    delete from monitoring.watched;
    delete from monitoring.table_counters;
    delete from monitoring.statement_counters;
    delete from monitoring.remembered_checks;
    return monitoring.note_changes(null);
  end if;
  -- Another release writes the same expression another way, and pg_upgrade makes policies anew: what they say is noted as it is now. What
  -- somebody changed about one in between is not told.
  if v_major <> p_noted ->> 'major' then
    delete from monitoring.watched w where w.kind = 'policy';
    insert into monitoring.watched select w.* from monitoring.look_at_watched() w where w.kind = 'policy';
  end if;
  -- And this and another version say different things of one membership, as releases do of a role that does not inherit, and of a grant of
  -- everything, where there is one privilege more: which there are is compared, what they say is noted.
  if v_major is distinct from p_noted ->> 'major' then
    update monitoring.watched w set state = l.state
    from monitoring.look_at_watched() l
    where w.kind in ('membership', 'grant') and l.kind = w.kind and l.key = w.key and l.name = w.name and l.state <> w.state;
  end if;
  if v_is_whole or v_written is distinct from p_noted ->> 'written' or v_columns is distinct from p_noted ->> 'columns' then
    -- What a transaction wrote that ran at the last look was not seen by it.
    v_changed := monitoring.note_differences('{rls,grant,policy,role,membership}', v_is_whole,
      array(select w from monitoring.look_at_watched(case when not v_is_whole then age(((p_noted ->> 'xmin')::xid8)::xid) end,
        v_columns is distinct from p_noted ->> 'columns') w));
  elsif not v_is_hourly then
    v_xmin := p_noted ->> 'xmin';
  end if;
  if v_is_hourly or v_configured is distinct from p_noted ->> 'configured' then
    v_changed := v_changed + monitoring.note_differences('{setting}', true, array(select w from monitoring.look_at_settings() w));
  end if;
  return jsonb_build_object('written', v_written, 'columns', v_columns, 'configured', v_configured, 'xmin', v_xmin, 'changed', v_changed,
    'major', v_major, 'identity', v_identity, 'contents', v_contents, 'compared_at', case when v_is_hourly then to_jsonb(now()) else p_noted -> 'compared_at' end);
end
$$;
comment on function monitoring.note_changes(jsonb) is
  'Enters into monitoring.changes what is not as it was; takes and returns what it noted, to know the next time whether to look.';

-- One costly part, timed and guarded: its failure costs the sample nothing but the part. A cancelled one too, since a time limit
-- that took the sample with it would take every one after it.
create or replace function monitoring.run_sampler_part(p_part monitoring.sampler_parts, p_tick_at timestamptz, p_budget_ms numeric,
  out problem text, out was_cancelled boolean, out cost_ms numeric, out database_size_bytes bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_began_at timestamptz := clock_timestamp();
  v_noted jsonb := p_part.noted;
begin
  was_cancelled := false;
  begin
    case p_part.part
      when 'changes' then v_noted := monitoring.note_changes(p_part.noted);
      when 'remember' then perform monitoring.remember();
      when 'table_checks' then perform monitoring.remember_checks('sized');
      when 'checks' then perform monitoring.remember_checks('slow');
      when 'statements' then perform monitoring.sample_statements(p_tick_at, p_part.last_at);
      when 'texts' then perform monitoring.note_statement_texts();
      when 'tables' then perform monitoring.sample_tables(p_tick_at, p_part.last_at);
      when 'size' then database_size_bytes := pg_database_size(current_database());
      when 'rollup' then perform monitoring.roll_up();
    end case;
  exception
    when query_canceled then
      was_cancelled := true;
      problem := format('cancelled after %s ms', round(extract(epoch from clock_timestamp() - v_began_at) * 1000));
    when others then
      problem := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
  end;
  cost_ms := round(1000 * extract(epoch from clock_timestamp() - v_began_at)::numeric, 3);
  if problem is null then
    update monitoring.sampler_parts p
    set last_at = clock_timestamp(), last_tick_at = p_tick_at, cost_ms = run_sampler_part.cost_ms, failures = 0, problem = null, noted = v_noted,
      next_at = p_tick_at + greatest(make_interval(secs => p.every_seconds), least(
        -- What checks have answered is told for three hours, of a small database for sixteen minutes. Then every sample would make those
        -- of tables itself, and every summary all of them, which is no saving.
        case when p.part not in ('table_checks', 'checks') then null
          when monitoring.is_large() then interval '3 hours' - 2 * make_interval(secs => monitoring.sample_interval_seconds())
          else interval '0' end,
        -- So much of a minute's budget is its own.
        interval '1 minute' * coalesce(run_sampler_part.cost_ms / (p.budget_share * p_budget_ms), 0)::float8))
    where p.part = p_part.part;
  else
    raise warning 'part % of a pgvigil sample failed: %', p_part.part, problem;
    update monitoring.sampler_parts p
    set cost_ms = run_sampler_part.cost_ms, failures = p.failures + 1, problem = run_sampler_part.problem,
      next_at = p_tick_at + least(interval '1 hour', greatest(make_interval(secs => p.every_seconds), interval '1 minute') * 2 ^ least(p.failures + 1, 6))
    where p.part = p_part.part;
  end if;
end
$$;

-- What was seen, and what became of the events by it. Neither takes the sample with it.
create or replace function monitoring.judge_sample(p_tick_at timestamptz, p_backends monitoring.seen_backend[], p_sample monitoring.samples,
  out seen jsonb, out events jsonb, out problem text, out was_cancelled boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_hidden text[];
begin
  was_cancelled := false;
  seen := monitoring.assess('sample', p_backends, p_sample);
  -- Whoever cannot see finds nothing, and that is no recovery.
  v_hidden := array(select d.section from monitoring.degraded('summary') d);
  -- What is told from memory was heard when it was new.
  events := monitoring.reconcile(
    (select coalesce(jsonb_agg(f), '[]') from jsonb_array_elements((seen -> 'findings') || (seen -> 'suppressed')) f
      where seen -> 'checks_run' ? (f ->> 'check_id')),
    array(
      select c.check_id from monitoring.checks c
      where seen -> 'checks_run' ? c.check_id
        and not ('slowQueries' = any (v_hidden) and c.category in ('statements', 'sessions'))
        and not ('tableHealth' = any (v_hidden) and c.category in ('tables', 'indexes'))), p_tick_at);
  -- As they are after that.
  seen := jsonb_set(seen, '{metrics}', seen -> 'metrics' || (
    select jsonb_build_object('unresolved_events', count(*), 'critical_events', count(*) filter (where e.severity = 'critical'))
    from public.monitoring_events e where e.resolved_at is null));
exception
  when query_canceled then
    was_cancelled := true;
    problem := 'cancelled';
  when others then
    problem := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
    raise warning 'pgvigil could not judge: %', problem;
end
$$;

-- One call in, one answer out. The tick is cut to the sampling interval, so that the same schedule delivered twice (at
-- least once is all EventBridge promises) meets its own row. Two samplers at once: the second is skipped, not queued.
-- A sample is always of now: a tick too old or too far ahead to be its name gives way to the tick of now.
create or replace function monitoring.sample(p_tick_at timestamptz default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set jit = off
set quote_all_identifiers = off -- names are compared with those of earlier samples
set lc_time = 'C' -- one of another encoding formats no date
as $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_interval_seconds bigint := monitoring.sample_interval_seconds();
  v_named_at timestamptz := case
    when p_tick_at between v_started_at - interval '1 hour' and v_started_at + interval '1 minute' then p_tick_at
    else v_started_at
  end;
  v_tick_at timestamptz := to_timestamp(floor(extract(epoch from v_named_at) / v_interval_seconds) * v_interval_seconds);
  v_day date := (v_tick_at at time zone 'UTC')::date;
  v_budget_ms numeric := (monitoring.setting('sample_budget_ms') #>> '{}')::numeric;
  v_left_ms numeric := v_budget_ms;
  v_backends monitoring.seen_backend[];
  v_sample monitoring.samples;
  v_seen jsonb;
  v_events jsonb;
  v_part monitoring.sampler_parts;
  v_run record;
  v_name text;
  v_reason text;
  v_shed text;
  v_is_slow boolean := false;
  v_used_up text;
  v_skipped jsonb := '[]';
  v_parts jsonb := '{}';
  v_metrics jsonb;
  v_is_owed boolean := true;
  v_parts_began_at timestamptz := v_started_at;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    -- What can be seen is told all the same, for the metrics.
    v_backends := monitoring.look_at_backends();
    v_sample := monitoring.collect_sample(v_backends);
    v_sample.sampled_at := v_started_at;
    return jsonb_build_object('status', 'skipped', 'reason', 'the server is a standby: nothing can be stored', 'tick_at', v_tick_at,
      'metrics', monitoring.sample_metrics(v_sample, monitoring.assess('sample', v_backends, v_sample)));
  end if;
  if not monitoring.is_sole_sampler() then
    return jsonb_build_object('status', 'skipped', 'reason', 'another sample is being taken', 'tick_at', v_tick_at);
  end if;
  if exists (select from monitoring.samples s where s.tick_at = v_tick_at) then
    return jsonb_build_object('status', 'skipped', 'reason', 'this tick has its sample', 'tick_at', v_tick_at);
  end if;

  perform monitoring.ensure_sample_partition(v_day);
  begin
    perform monitoring.ensure_sample_partition(v_day + 1);
  exception when others then
    raise warning 'pgvigil could not make the partition of tomorrow: % (SQLSTATE %)', sqlerrm, sqlstate; -- there is a day to try again
  end;

  v_backends := monitoring.look_at_backends();
  v_sample := monitoring.collect_sample(v_backends);
  v_sample.sampled_at := v_started_at;
  -- What changed is known before it is judged. A time limit strikes once in a statement: when a part has caught it, nothing more is
  -- begun but the sample's own row.
  foreach v_name in array '{changes,judgement,rollup,remember,table_checks,checks,statements,texts,tables,size}'::text[] loop
    if v_name = 'judgement' then
      if v_used_up is not null then
        v_skipped := v_skipped || jsonb_build_object('part', 'judgement', 'reason', v_used_up);
        continue;
      end if;
      select j.seen, j.events, j.problem, j.was_cancelled into v_run from monitoring.judge_sample(v_tick_at, v_backends, v_sample) j;
      v_seen := v_run.seen;
      v_events := v_run.events;
      if v_run.problem is not null then
        v_skipped := v_skipped || jsonb_build_object('part', 'judgement', 'reason', v_run.problem);
      end if;
      if v_run.was_cancelled then
        v_used_up := 'the time was used up by the judgement';
      end if;
      -- What the cheap part leaves of the budget is the others', and a quarter of it at least: seldom is better than never.
      v_left_ms := greatest(v_budget_ms / 4, v_budget_ms - 1000 * extract(epoch from clock_timestamp() - v_started_at)::numeric);
      -- A server in trouble is not asked for more than its heartbeat.
      v_is_slow := clock_timestamp() > v_started_at + v_budget_ms * interval '10 milliseconds';
      v_shed := case
        when v_shed is not null then v_shed
        when (v_seen #>> '{metrics,connection_utilization_percent}')::numeric > 90
          then format('%s percent of the connections are taken', v_seen #>> '{metrics,connection_utilization_percent}')
        when v_is_slow then format('the cheap part took %s ms', round(extract(epoch from clock_timestamp() - v_started_at) * 1000))
      end;
      -- But what would make the cheap part cheaper cannot wait for it to be cheap.
      v_is_slow := v_is_slow and v_shed like 'the cheap part%';
      v_parts_began_at := clock_timestamp();
      continue;
    end if;
    select * into v_part from monitoring.sampler_parts p where p.part = v_name;
    -- A turn further off than any is: a clock was ahead when it was given. And what is wanted with every sample has no other turns.
    if v_part.last_tick_at > v_tick_at + interval '1 hour' or v_part.failures > 0 and v_part.next_at > v_tick_at + interval '2 hours'
      or v_part.every_seconds = 0 and v_part.budget_share is null and v_part.failures = 0
    then
      v_part.next_at := null;
    end if;
    v_reason := case
      when v_part.next_at > v_tick_at and v_part.failures = 0 and v_part.last_tick_at + make_interval(secs => v_part.every_seconds) > v_tick_at
        then '' -- not its turn
      when v_part.next_at > v_tick_at and v_part.failures > 0
        then format('failed %s times, tried again at %s: %s', v_part.failures, to_char(v_part.next_at at time zone 'UTC', 'HH24:MI:SS"Z"'), v_part.problem)
      when v_part.next_at > v_tick_at
        then format('takes %s ms, its turn is at %s', round(v_part.cost_ms), to_char(v_part.next_at at time zone 'UTC', 'HH24:MI:SS"Z"'))
      when v_used_up is not null then v_used_up
      when v_part.budget_share is not null and not (v_is_slow and v_name in ('remember', 'table_checks')) then v_shed
    end;
    -- Where the cheap part is never cheap they would have no turn at all: one a sample that had none for an hour.
    if v_reason is not null and v_reason = v_shed and v_is_slow and v_is_owed
      and coalesce(v_part.last_tick_at, (select min(s.tick_at) from monitoring.samples s)) <= v_tick_at - interval '1 hour'
    then
      v_reason := null;
      v_is_owed := false;
    end if;
    if v_reason is not null then
      if v_reason <> '' then
        v_skipped := v_skipped || jsonb_build_object('part', v_name, 'reason', v_reason);
      end if;
      continue;
    end if;
    select * into v_run from monitoring.run_sampler_part(v_part, v_tick_at, v_left_ms);
    v_parts := v_parts || jsonb_build_object(v_name, v_run.cost_ms);
    v_sample.database_size_bytes := coalesce(v_run.database_size_bytes, v_sample.database_size_bytes);
    if v_run.problem is not null then
      v_skipped := v_skipped || jsonb_build_object('part', v_name, 'reason', v_run.problem);
    end if;
    if v_run.was_cancelled then
      v_used_up := format('the time was used up by %s', v_name);
    elsif clock_timestamp() > v_parts_began_at + interval '5 seconds' and (v_shed is null or v_is_slow) then
      v_shed := format('the time was used up by %s', v_name);
      v_is_slow := false;
    end if;
  end loop;

  v_sample.tick_at := v_tick_at;
  v_sample.late_ms := case when isfinite(p_tick_at) then greatest(0, (extract(epoch from v_started_at - p_tick_at) * 1000)::bigint) else 0 end;
  v_sample.skipped := nullif(v_skipped, '[]');
  -- What was not judged is not healthy.
  v_sample.health_score := case when v_seen is not null then monitoring.health_score(v_seen -> 'findings') end;
  v_sample.status := monitoring.health_status(v_sample.health_score);
  v_sample.findings := (v_seen #>> '{metrics,findings}')::int;
  v_sample.slow_queries := (v_seen #>> '{metrics,slow_queries}')::int;
  v_sample.blocked_sessions := (v_seen #>> '{metrics,blocked_sessions}')::int;
  v_sample.high_risk_tables := (v_seen #>> '{metrics,high_risk_tables}')::int;
  v_sample.tables_needing_vacuum := (v_seen #>> '{metrics,tables_needing_vacuum}')::int;
  v_sample.unresolved_events := (v_seen #>> '{metrics,unresolved_events}')::int;
  v_sample.total_connections := (v_seen #>> '{metrics,total_connections}')::int;
  v_sample.connection_utilization_percent := (v_seen #>> '{metrics,connection_utilization_percent}')::numeric;
  v_sample.longest_transaction_ms := (v_seen #>> '{metrics,longest_transaction_ms}')::bigint;
  v_sample.duration_ms := round(1000 * extract(epoch from clock_timestamp() - v_started_at)::numeric, 3);
  insert into monitoring.samples select v_sample.*;
  -- What follows takes the row with it no more, nor does a time limit: it strikes once.
  begin
    -- A tick that comes, or is taken, after its hour was summed up.
    if v_tick_at < to_timestamp(floor(extract(epoch from clock_timestamp()) / 3600) * 3600) then
      perform monitoring.roll_up_again(v_tick_at);
    end if;
  exception when query_canceled or others then
    raise warning 'pgvigil could not sum up the hour of % again: % (SQLSTATE %)', v_tick_at, sqlerrm, sqlstate;
    v_skipped := v_skipped || jsonb_build_object('part', 'rollup', 'reason', format('the hour of a late tick: %s (SQLSTATE %s)', sqlerrm, sqlstate));
  end;
  begin
    v_metrics := monitoring.sample_metrics(v_sample, v_seen);
  exception when query_canceled or others then
    raise warning 'pgvigil could not tell the metrics of the sample: % (SQLSTATE %)', sqlerrm, sqlstate;
    v_skipped := v_skipped || jsonb_build_object('part', 'metrics', 'reason', format('%s (SQLSTATE %s)', sqlerrm, sqlstate));
  end;
  if v_skipped <> coalesce(v_sample.skipped, '[]') then
    update monitoring.samples s set skipped = v_skipped where s.tick_at = v_tick_at;
  end if;
  return jsonb_build_object('status', 'done', 'tick_at', v_tick_at, 'sampled_at', v_started_at, 'late_ms', v_sample.late_ms,
    'health_score', v_sample.health_score, 'health_status', v_sample.status,
    'metrics', v_metrics, 'events', v_events, 'parts_ms', v_parts, 'skipped', v_skipped);
end
$$;
comment on function monitoring.sample(timestamptz) is
  'Takes the sample of a tick (now, when none is named). Service only. status is done or skipped, with the reason; skipped names the parts that were due and left out.';

insert into monitoring.sampler_parts (part, every_seconds, budget_share) values
  ('changes', 0, null),
  ('rollup', 0, null),
  ('remember', 0, 1),
  ('table_checks', 900, 0.1),
  ('checks', 900, 0.1),
  ('statements', 60, 0.3),
  ('texts', 60, 0.05),
  ('tables', 900, 0.1),
  ('size', 900, 0.06)
on conflict (part) do nothing;

do $private$ begin perform monitoring.make_private(
  'function monitoring.remember()',
  'function monitoring.database_identity()',
  'function monitoring.collect_sample(monitoring.seen_backend[])',
  'function monitoring.sample_statements(timestamptz, timestamptz)',
  'function monitoring.note_statement_texts()',
  'function monitoring.sample_tables(timestamptz, timestamptz)',
  'function monitoring.look_at_watched(int, boolean)',
  'function monitoring.look_at_settings()',
  'function monitoring.note_differences(text[], boolean, monitoring.watched[])',
  'function monitoring.watched_contents()',
  'function monitoring.note_changes(jsonb)',
  'function monitoring.judge_sample(timestamptz, monitoring.seen_backend[], monitoring.samples)',
  'function monitoring.run_sampler_part(monitoring.sampler_parts, timestamptz, numeric)',
  'function monitoring.sample(timestamptz)'); end $private$;
grant execute on function monitoring.sample(timestamptz) to monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000003', 'monitoring_sampler', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
