-- Undoes 20250825000005_monitoring_request_limits.sql. What is counted is of the last minute.

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

-- Asked by each file before it, too, so that a refusal comes before anything is undone.
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

drop function if exists monitoring.require_turn(text, text), monitoring.take_turn(text, text), monitoring.has_turn(text, text),
  monitoring.counts_nothing(), monitoring.request_subject();
drop table if exists monitoring.request_turns;
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.migrations where version = '20250825000005';
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
