-- pgvigil: what a time-series database scrapes.

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

-- Units as OpenMetrics wants them: seconds, bytes, ratios from 0 to 1. Labels are few and their values are of our making: no table,
-- no statement, nobody's name. Counters are the server's own, of this database, since its statistics were last reset.
create or replace function monitoring.metrics() returns table (
  metric text, kind text, help text, labels jsonb, value numeric)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set jit = off
as $$
#variable_conflict use_column
declare
  v_seen jsonb := monitoring.assess(); -- asks whether the caller may read
  v_metrics jsonb := v_seen -> 'metrics';
begin
  return query
    with d as materialized (
      select s.*, (select age(b.datfrozenxid) from pg_database b where b.oid = s.datid) as xid_age
      from pg_stat_database s where s.datname = current_database()
    ), findings as (
      select f ->> 'check_id' as check_id, f ->> 'severity' as severity, count(*) as findings
      from jsonb_array_elements(v_seen -> 'findings') f
      group by 1, 2
    )
    select m.metric, m.kind, m.help, m.labels, trim_scale(round(m.value, 6))
    from (
      select 1 as place, 'pgvigil_health_score' as metric, 'gauge' as kind, 'Health, 0 to 100; 90 and more is excellent.' as help, '{}'::jsonb as labels,
        monitoring.health_score(v_seen -> 'findings')::numeric as value
      union all
      select 2, 'pgvigil_findings', 'gauge', 'What is wrong now, by check and severity.',
        jsonb_build_object('check', t.check_id, 'severity', s.severity), coalesce(f.findings, 0)
      from monitoring.thresholds t cross join (values ('warning'), ('critical')) s (severity)
        left join findings f on f.check_id = t.check_id and f.severity = s.severity
      union all
      select 3, 'pgvigil_connections', 'gauge', 'Client backends of the server, by state.', jsonb_build_object('state', c.state), c.connections
      from (values ('active', (v_metrics ->> 'active_connections')::numeric),
        ('idle_in_transaction', (v_metrics ->> 'idle_in_transaction')::numeric),
        ('other', (v_metrics ->> 'total_connections')::numeric - (v_metrics ->> 'active_connections')::numeric
          - (v_metrics ->> 'idle_in_transaction')::numeric)) c (state, connections)
      union all
      select 4, 'pgvigil_connection_utilization_ratio', 'gauge', 'Connections against what ordinary roles can use.', '{}',
        (v_metrics ->> 'connection_utilization_percent')::numeric / 100
      union all
      select 5, 'pgvigil_slow_queries', 'gauge', 'Statements running for longer than the threshold.', '{}', (v_metrics ->> 'slow_queries')::numeric
      union all
      select 6, 'pgvigil_blocked_sessions', 'gauge', 'Sessions that wait for a lock.', '{}', (v_metrics ->> 'blocked_sessions')::numeric
      union all
      select 7, 'pgvigil_longest_transaction_seconds', 'gauge', 'Age of the oldest transaction of this database.', '{}',
        coalesce((v_metrics ->> 'longest_transaction_ms')::numeric / 1000, 0)
      union all
      select 8, 'pgvigil_high_risk_tables', 'gauge', 'Tables whose row-level security is HIGH_RISK.', '{}', (v_metrics ->> 'high_risk_tables')::numeric
      union all
      select 9, 'pgvigil_tables_needing_vacuum', 'gauge', 'Tables past their autovacuum threshold.', '{}', (v_metrics ->> 'tables_needing_vacuum')::numeric
      union all
      select 10, 'pgvigil_unresolved_events', 'gauge', 'Monitoring events that nobody has resolved, by whether they are critical.',
        jsonb_build_object('severity', e.severity), e.events
      from (values ('critical', (v_metrics ->> 'critical_events')::numeric),
        ('other', (v_metrics ->> 'unresolved_events')::numeric - (v_metrics ->> 'critical_events')::numeric)) e (severity, events)
      union all
      select 11, 'pgvigil_blind_spots', 'gauge', 'What the monitor needs and cannot see.', '{}', jsonb_array_length(v_seen -> 'degraded')
      union all
      -- Absent before the first sample: a gap is a gap.
      select 12, 'pgvigil_last_sample_timestamp_seconds', 'gauge', 'When the last sample was taken, since 1970.', '{}',
        round(extract(epoch from (v_metrics ->> 'last_sample_at')::timestamptz), 3)
      union all
      select 13, 'pgvigil_transaction_id_age', 'gauge', 'Age of the oldest transaction id of this database; at 2 billion writing stops.', '{}', d.xid_age from d
      union all
      select 14, 'pgvigil_transactions_total', 'counter', 'Transactions of this database, by how they ended.', jsonb_build_object('outcome', c.outcome), c.transactions
      from d cross join lateral (values ('commit', d.xact_commit), ('rollback', d.xact_rollback)) c (outcome, transactions)
      union all
      select 15, 'pgvigil_rows_total', 'counter', 'Rows of this database, by what was done with them.', jsonb_build_object('operation', c.operation), c.tuples
      from d cross join lateral (values ('returned', d.tup_returned), ('fetched', d.tup_fetched), ('inserted', d.tup_inserted),
        ('updated', d.tup_updated), ('deleted', d.tup_deleted)) c (operation, tuples)
      union all
      select 16, 'pgvigil_blocks_total', 'counter', 'Blocks of this database that were needed, by where they were found.', jsonb_build_object('found', c.found), c.blocks
      from d cross join lateral (values ('cache', d.blks_hit), ('disk', d.blks_read)) c (found, blocks)
      union all
      select 17, 'pgvigil_temp_files_total', 'counter', 'Temporary files that statements of this database wrote.', '{}', d.temp_files from d
      union all
      select 18, 'pgvigil_temp_bytes_total', 'counter', 'Bytes of those files.', '{}', d.temp_bytes from d
      union all
      select 19, 'pgvigil_deadlocks_total', 'counter', 'Deadlocks in this database.', '{}', d.deadlocks from d
      union all
      select 20, 'pgvigil_sessions_total', 'counter', 'Sessions of this database.', '{}', d.sessions from d
      union all
      select 21, 'pgvigil_sessions_lost_total', 'counter', 'Sessions of this database that did not end in order.', jsonb_build_object('how', c.how), c.sessions
      from d cross join lateral (values ('abandoned', d.sessions_abandoned), ('fatal', d.sessions_fatal), ('killed', d.sessions_killed)) c (how, sessions)
    ) m
    where m.value is not null
    order by m.place, m.labels;
end
$$;
comment on function monitoring.metrics() is
  'The summary''s numbers and the server''s counters for this database, as a time-series database wants them. kind is gauge or counter.';

do $private$ begin perform monitoring.make_private('function monitoring.metrics()'); end $private$;
grant execute on function monitoring.metrics() to monitoring_reader, monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000006', 'monitoring_metrics', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
