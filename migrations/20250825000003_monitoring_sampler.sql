-- pgvigil: taking a sample.

-- A migration waits at most this long for anybody's lock; it is better run again than everybody queued behind it.
do $patience$ begin perform pg_catalog.set_config('lock_timeout', '5s', true); end $patience$;

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
          hint = pg_catalog.format('As the role that made it, or a superuser: grant monitoring_owner, monitoring_reader, '
            'monitoring_agent to %I with admin option', current_user);
end
$become$;
set role monitoring_owner;

-- Keeps what is remembered of a large database true (20250825000001 says what and why). Only what differs is written, so a
-- database where nothing changes costs no writes. Whether an answer holds is noted before it is looked up: what changes in
-- between makes it old, never wrong.
create or replace function monitoring.remember() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_relations bigint := greatest((select c.reltuples::bigint from pg_class c where c.oid = 'pg_class'::regclass),
    pg_stat_get_live_tuples('pg_class'::regclass));
  v_subject text;
  v_holds_while text;
begin
  if v_relations < (monitoring.setting('remember_from_relations') #>> '{}')::bigint then
    delete from monitoring.remembered;
    return;
  end if;
  -- A snapshot of the transaction's beginning could be older than the counters.
  if current_setting('transaction_isolation') <> 'read committed' then
    return;
  end if;
  foreach v_subject in array '{companions,tables,column_grants,rls_status}'::text[] loop
    v_holds_while := monitoring.holds_while(v_subject);
    continue when v_holds_while is null or exists (
      select from monitoring.remembered r
      where r.subject = v_subject and r.holds_while = v_holds_while
        and r.remembered_at > now() - case v_subject when 'companions' then interval '10 minutes' else interval '45 seconds' end);
    case v_subject
      when 'companions' then
        with seen as materialized (
          select * from monitoring.look_at_companions()
        ), gone as (
          delete from monitoring.remembered_companions r where not exists (select from seen s where s.table_oid = r.table_oid)
        )
        insert into monitoring.remembered_companions as r select * from seen
        on conflict (table_oid) do update
          set (companion_pages, index_scans, toast_frozen_xid, toast_min_multixact)
            = (excluded.companion_pages, excluded.index_scans, excluded.toast_frozen_xid, excluded.toast_min_multixact)
          where (r.companion_pages, r.index_scans, r.toast_frozen_xid::text, r.toast_min_multixact::text)
            is distinct from (excluded.companion_pages, excluded.index_scans, excluded.toast_frozen_xid::text, excluded.toast_min_multixact::text);
      when 'tables' then
        with seen as materialized (
          select * from monitoring.look_at_tables()
        ), gone as (
          delete from monitoring.remembered_tables r where not exists (select from seen s where s.table_oid = r.table_oid)
        )
        insert into monitoring.remembered_tables as r
        select s.*
        from seen s left join monitoring.remembered_tables k on k.table_oid = s.table_oid
        where k.table_oid is null or k *<> s -- byte by byte: type xid knows no other order
        on conflict (table_oid) do update
          set (toast_oid, schemaname, tablename, relpages, reltuples, vacuum_threshold, vacuum_scale_factor, vacuum_max_threshold,
              freeze_max_age, multixact_freeze_max_age, frozen_xid, min_multixact, companion_pages, index_scans,
              toast_frozen_xid, toast_min_multixact)
            = (excluded.toast_oid, excluded.schemaname, excluded.tablename, excluded.relpages, excluded.reltuples,
              excluded.vacuum_threshold, excluded.vacuum_scale_factor, excluded.vacuum_max_threshold,
              excluded.freeze_max_age, excluded.multixact_freeze_max_age, excluded.frozen_xid, excluded.min_multixact,
              excluded.companion_pages, excluded.index_scans, excluded.toast_frozen_xid, excluded.toast_min_multixact);
      when 'column_grants' then
        with seen as materialized (
          select * from monitoring.look_at_column_grants()
        ), gone as (
          delete from monitoring.remembered_column_grants r
          where not exists (select from seen s
            where s.table_oid = r.table_oid and s.grantee = r.grantee and s.privilege_type = r.privilege_type)
        )
        insert into monitoring.remembered_column_grants select * from seen on conflict do nothing;
      when 'rls_status' then
        with seen as materialized (
          select * from monitoring.look_at_rls_status()
        ), gone as (
          delete from monitoring.remembered_rls_status r
          where not exists (select from seen s
            where s.risk_rank = r.risk_rank and s.schemaname = r.schemaname and s.tablename = r.tablename)
        )
        insert into monitoring.remembered_rls_status as r select * from seen
        on conflict (risk_rank, schemaname, tablename) do update
          set (rls_enabled, rls_status, policy_count, security_risk_level, rls_forced, exposed_to, reasons)
            = (excluded.rls_enabled, excluded.rls_status, excluded.policy_count, excluded.security_risk_level, excluded.rls_forced,
              excluded.exposed_to, excluded.reasons)
          where r is distinct from excluded;
    end case;
    insert into monitoring.remembered (subject, remembered_at, holds_while) values (v_subject, now(), v_holds_while)
    on conflict (subject) do update set remembered_at = excluded.remembered_at, holds_while = excluded.holds_while;
  end loop;
end
$$;
comment on function monitoring.remember() is 'Renews what is remembered of a large database; forgets it in a small one.';

-- One call in, one answer out. The tick is cut to the sampling interval, so that the same schedule delivered twice (at
-- least once is all EventBridge promises) meets its own row. Two samplers at once: the second is skipped, not queued.
-- A sample is always of now: a tick too old or too far ahead to be its name gives way to the tick of now.
create or replace function monitoring.sample(p_tick_at timestamptz default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_interval_seconds bigint := (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint;
  v_named_at timestamptz := case
    when p_tick_at between v_started_at - interval '1 hour' and v_started_at + interval '1 minute' then p_tick_at
    else v_started_at
  end;
  v_tick_at timestamptz := to_timestamp(floor(extract(epoch from v_named_at) / v_interval_seconds) * v_interval_seconds);
  v_day date := (v_tick_at at time zone 'UTC')::date;
  v_summary jsonb;
  v_metrics jsonb;
  v_problem text;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return jsonb_build_object('status', 'skipped', 'reason', 'the server is a standby: nothing can be stored', 'tick_at', v_tick_at);
  end if;
  -- A row of our own and no advisory lock, which everybody in the database could hold.
  perform from monitoring.migrations m where m.version = '20250825000003' for no key update skip locked;
  if not found then
    return jsonb_build_object('status', 'skipped', 'reason', 'another sample is being taken', 'tick_at', v_tick_at);
  end if;
  if exists (select from monitoring.samples s where s.tick_at = v_tick_at) then
    return jsonb_build_object('status', 'skipped', 'reason', 'this tick has its sample', 'tick_at', v_tick_at);
  end if;

  perform monitoring.ensure_sample_partition(v_day);
  perform monitoring.ensure_sample_partition(v_day + 1);
  -- What is only kept for speed must not cost the heartbeat.
  begin
    perform monitoring.remember();
    perform monitoring.note_statement_texts();
  exception when others then
    v_problem := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
    raise warning 'pgvigil could not remember: %', v_problem;
  end;
  v_summary := public.get_database_monitoring_summary();
  v_metrics := v_summary -> 'metrics';
  insert into monitoring.samples (
    tick_at, sampled_at, duration_ms, health_score, status, slow_queries, blocked_sessions, total_connections,
    connection_utilization_percent, longest_transaction_ms, high_risk_tables, tables_needing_vacuum,
    unresolved_events, findings)
  values (
    v_tick_at, v_started_at, round(extract(epoch from clock_timestamp() - v_started_at) * 1000, 3),
    (v_summary ->> 'health_score')::int, v_summary ->> 'status',
    (v_metrics ->> 'slow_queries')::bigint, (v_metrics ->> 'blocked_sessions')::bigint,
    (v_metrics ->> 'total_connections')::bigint, (v_metrics ->> 'connection_utilization_percent')::numeric,
    (v_metrics ->> 'longest_transaction_ms')::bigint, (v_metrics ->> 'high_risk_tables')::bigint,
    (v_metrics ->> 'tables_needing_vacuum')::bigint, (v_metrics ->> 'unresolved_events')::bigint,
    (v_metrics ->> 'findings')::bigint);
  return jsonb_build_object('status', 'done', 'tick_at', v_tick_at, 'sampled_at', v_started_at,
    'late_ms', greatest(0, (extract(epoch from v_started_at - coalesce(p_tick_at, v_started_at)) * 1000)::bigint),
    'health_score', v_summary -> 'health_score', 'health_status', v_summary -> 'status', 'metrics', v_metrics,
    'not_remembered', v_problem);
end
$$;
comment on function monitoring.sample(timestamptz) is
  'Takes the sample of a tick (now, when none is named). Service only. status is done or skipped, with the reason.';

do $private$ begin perform monitoring.make_private('function monitoring.remember()', 'function monitoring.sample(timestamptz)'); end $private$;
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
