-- Undoes 20250825000002_database_monitoring_views.sql, in the order the request names: functions, views, table,
-- permissions (which go with the objects).
--
-- Refuses while monitoring_events holds unresolved critical events. To lose them knowingly:
--   set pgvigil.discard_events = 'yes';

do $refuse$
declare
  v_critical bigint := 0;
  v_object text;
begin
  select o.identity into v_object
  from (
    select c.oid::regclass::text as identity, c.relowner as owner
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace
      and c.relname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
        'monitoring_rls_status', 'monitoring_events')
    union all
    select p.oid::regprocedure::text, p.proowner
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('get_database_monitoring_summary', 'record_monitoring_event', 'cleanup_old_monitoring_data')
  ) o
  where pg_catalog.pg_get_userbyid(o.owner) <> 'monitoring_owner'
  limit 1;
  if found then
    raise exception '% is not pgvigil''s and will not be dropped', v_object
      using errcode = 'duplicate_object', hint = 'Rename it, then roll back again.';
  end if;
  if pg_catalog.to_regclass('public.monitoring_events') is not null
    and lower(coalesce(pg_catalog.current_setting('pgvigil.discard_events', true), '')) <> 'yes'
  then
    select count(*) into v_critical from public.monitoring_events where severity = 'critical' and resolved_at is null;
  end if;
  if v_critical > 0 then
    raise exception 'monitoring_events holds % unresolved critical event(s)', v_critical
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Resolve them, or lose them knowingly: set pgvigil.discard_events = ''yes''; then roll back again.';
  end if;
end
$refuse$;

drop function if exists public.cleanup_old_monitoring_data();
drop function if exists public.record_monitoring_event(text, jsonb, text, inet, text);
drop function if exists public.get_database_monitoring_summary();

drop view if exists public.monitoring_rls_status;
drop view if exists public.monitoring_table_health;
drop view if exists public.monitoring_connections;
drop view if exists public.monitoring_slow_queries;

drop table if exists public.monitoring_events;

drop function if exists
  monitoring.findings(), monitoring.severity(text, numeric), monitoring.delete_events(text, timestamptz, timestamptz),
  monitoring.resolve_event(uuid, text), monitoring.degraded(), monitoring.rls_status(int),
  monitoring.table_health(int), monitoring.table_health_rows(int, boolean), monitoring.connections(),
  monitoring.slow_queries(int), monitoring.own_logins(), monitoring.is_application_schema(name, name[]),
  monitoring.redact(text);
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.thresholds where check_id in ('slow-statement', 'blocked-session', 'idle-in-transaction',
      'connection-utilization', 'dead-tuples', 'transaction-id-age', 'rls-exposed');
    delete from monitoring.migrations where version = '20250825000002';
  end if;
end
$forget$;
