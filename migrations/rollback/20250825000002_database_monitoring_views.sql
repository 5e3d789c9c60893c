-- Undoes 20250825000002_database_monitoring_views.sql, in the order the request names: functions, views, table,
-- permissions (which go with the objects).
--
-- Refuses while monitoring_events holds unresolved critical events. To lose them knowingly:
--   set pgvigil.discard_events = 'yes';

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

do $refuse$
declare
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
end
$refuse$;

-- Undone by who did it: the rolling back role becomes a member of monitoring_owner for as long as this takes.
do $become$
declare
  v_version int := pg_catalog.current_setting('server_version_num')::int;
begin
  if exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'monitoring' and pg_catalog.pg_get_userbyid(n.nspowner) <> 'monitoring_owner'
  ) then
    raise exception 'schema "monitoring" is not pgvigil''s: nothing of it will be dropped' using errcode = 'duplicate_schema';
  end if;
  perform pg_catalog.set_config('pgvigil.migrating_role', pg_catalog.current_setting('role'), false);
  perform pg_catalog.set_config('pgvigil.became_owner', '', false);
  if not exists (select from pg_catalog.pg_roles where rolname = 'monitoring_owner') then
    return;
  end if;
  if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
    and not pg_catalog.pg_has_role(current_user, 'monitoring_owner', case when v_version >= 160000 then 'SET' else 'MEMBER' end)
  then
    execute pg_catalog.format('grant monitoring_owner to %I', current_user)
      || case when v_version >= 160000 then ' with inherit true, set true' else '' end;
    perform pg_catalog.set_config('pgvigil.became_owner', current_user, false);
  end if;
  perform pg_catalog.set_config('role', 'monitoring_owner', false);
end
$become$;

do $critical$
declare
  v_critical bigint := 0;
begin
  if pg_catalog.to_regclass('public.monitoring_events') is not null
    and lower(coalesce(pg_catalog.current_setting('pgvigil.discard_events', true), '')) <> 'yes'
  then
    perform pg_catalog.set_config('row_security', 'on', true); -- its policies let the owner count
    select count(*) into v_critical from public.monitoring_events where severity = 'critical' and resolved_at is null;
  end if;
  if v_critical > 0 then
    raise exception 'monitoring_events holds % unresolved critical event(s)', v_critical
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Resolve them, or lose them knowingly: set pgvigil.discard_events = ''yes''; then roll back again.';
  end if;
end
$critical$;

drop function if exists public.cleanup_old_monitoring_data(), monitoring.clean_up();
drop function if exists public.record_monitoring_event(text, jsonb, text, inet, text), monitoring.record_event(text, jsonb, text, inet, text);
drop function if exists public.get_database_monitoring_summary(), monitoring.summary();

drop view if exists public.monitoring_rls_status;
drop view if exists public.monitoring_table_health;
drop view if exists public.monitoring_connections;
drop view if exists public.monitoring_slow_queries;

drop table if exists public.monitoring_events;

drop function if exists
  monitoring.delete_events(text, timestamptz, timestamptz),
  monitoring.resolve_event(uuid, text), monitoring.resolve_once(), monitoring.degraded(text), monitoring.blind_spots(text),
  monitoring.is_off(text),
  monitoring.health_status(int),
  monitoring.statements(int), monitoring.statement_source(), monitoring.rls_status(int), monitoring.rls_kinds(int), monitoring.look_at_rls_kinds(),
  monitoring.is_constant_true(text), monitoring.is_true_anyway(text), monitoring.look_at_invoked_tables(oid), monitoring.anyones(), monitoring.is_security_invoker(text[]),
  monitoring.compares_constant_with_itself(text), monitoring.reachers(oid, oid, oid[]), monitoring.schema_users(oid[]),
  monitoring.look_at_bypassing_views(), monitoring.column_grants(), monitoring.look_at_column_grants(),
  monitoring.table_health(int);
drop view if exists monitoring.table_states;
drop function if exists
  monitoring.tables(), monitoring.look_at_tables(), monitoring.integer_option(text), monitoring.companions(), monitoring.companion_pages(oid, oid),
  monitoring.look_at_companions(), monitoring.estimated_pages(int, real, bigint, int), monitoring.locks(int), monitoring.lock_trees(monitoring.seen_backend[]), monitoring.connections(),
  monitoring.connections_of(monitoring.seen_backend[]), monitoring.slow_queries(int), monitoring.slow_sessions(int, monitoring.seen_backend[]),
  monitoring.look_at_backends(), monitoring.own_roles(), monitoring.own_logins(), monitoring.is_application_schema(name, name[]),
  monitoring.checked_limit(int), monitoring.may_do(oid, oid, text), monitoring.may_become(oid, oid), monitoring.role_name(oid),
  monitoring.legible(text), monitoring.is_legible(text), monitoring.redact(text);
drop type if exists monitoring.seen_backend;
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.migrations where version = '20250825000002';
  end if;
end
$forget$;

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
