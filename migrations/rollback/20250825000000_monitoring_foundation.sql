-- Undoes 20250825000000_monitoring_foundation.sql: everything in schema monitoring, the schema, and the roles where no
-- other database of this cluster still uses them.

do $refuse$
begin
  if exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'monitoring' and pg_catalog.pg_get_userbyid(n.nspowner) <> 'monitoring_owner'
  ) then
    raise exception 'schema "monitoring" is not pgvigil''s and will not be dropped' using errcode = 'duplicate_schema';
  end if;
end
$refuse$;

do $members$
begin
  if pg_catalog.to_regclass('public.organization_members') is not null then
    drop policy if exists "pgvigil reads operator members" on public.organization_members;
    revoke all on public.organization_members from monitoring_owner;
  end if;
exception when insufficient_privilege then
  raise warning 'could not take back pgvigil''s access to public.organization_members'
    using hint = 'As its owner: drop policy "pgvigil reads operator members" on public.organization_members;';
end
$members$;

drop function if exists
  monitoring.authorize(text), monitoring.may(text), monitoring.caller_role(), monitoring.operator_role(),
  monitoring.caller_subject(), monitoring.claims(), monitoring.caller_login(),
  monitoring.setting_names(text), monitoring.setting(text), monitoring.make_private(text[]);
drop table if exists monitoring.thresholds, monitoring.settings, monitoring.migrations;
drop schema if exists monitoring;

do $roles$
declare
  v_role name;
begin
  for v_role in
    select rolname from pg_catalog.pg_roles
    where rolname in ('monitoring_reader', 'monitoring_agent', 'monitoring_owner')
      and pg_catalog.shobj_description(oid, 'pg_authid') like 'pgvigil:%'
  loop
    execute pg_catalog.format('revoke all on schema public from %I', v_role);
    begin
      execute pg_catalog.format('drop role %I', v_role);
    exception when dependent_objects_still_exist or insufficient_privilege then
      raise notice 'role % stays: another database of this cluster uses it, or % may not drop it', v_role, current_user;
    end;
  end loop;
end
$roles$;
