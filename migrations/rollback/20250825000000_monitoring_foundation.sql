-- Undoes 20250825000000_monitoring_foundation.sql: everything in schema monitoring, the schema, and the roles where no
-- other database of this cluster still uses them.

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
end
$path$;

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
  if pg_catalog.to_regclass('public.organization_members') is not null
    and exists (select from pg_catalog.pg_roles where rolname = 'monitoring_owner')
  then
    if exists (
      select from pg_catalog.pg_policy
      where polrelid = pg_catalog.to_regclass('public.organization_members') and polname = 'pgvigil reads operator members'
    ) then
      drop policy "pgvigil reads operator members" on public.organization_members;
    end if;
    revoke all on public.organization_members from monitoring_owner;
    if exists (select from pg_catalog.pg_roles where rolname = 'monitoring_members') then
      revoke all on public.organization_members from monitoring_members;
    end if;
  end if;
exception when insufficient_privilege then
  raise warning 'could not take back pgvigil''s access to public.organization_members'
    using hint = 'As its owner: drop policy "pgvigil reads operator members" on public.organization_members;';
end
$members$;

-- Undone by who did it: the rolling back role becomes a member of monitoring_owner for as long as this takes.
do $become$
declare
  v_version int := pg_catalog.current_setting('server_version_num')::int;
begin
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

drop function if exists
  monitoring.is_critical_time(),
  monitoring.window_effect(timestamptz), monitoring.windows_between(timestamptz, timestamptz), monitoring.known_windows(timestamptz, timestamptz),
  monitoring.moment(timestamp, text, boolean),
  monitoring.authorize(text), monitoring.may(text), monitoring.caller_role(), monitoring.operator_role(), monitoring.read_member(text, text),
  monitoring.caller_subject(), monitoring.claims(), monitoring.caller_login(),
  monitoring.setting_list(text), monitoring.setting(text), monitoring.make_private(text[]);
drop table if exists monitoring.calendar_status, monitoring.calendar_windows, monitoring.window_rules, monitoring.critical_windows,
  monitoring.thresholds, monitoring.settings, monitoring.migrations;
drop function if exists monitoring.keep_settings(), monitoring.check_time_zone();
drop schema if exists monitoring;

do $return$
begin
  perform pg_catalog.set_config('role', pg_catalog.current_setting('pgvigil.migrating_role'), false);
  if pg_catalog.current_setting('pgvigil.became_owner') <> '' then
    execute pg_catalog.format('revoke monitoring_owner from %I', pg_catalog.current_setting('pgvigil.became_owner'));
  end if;
end
$return$;

do $roles$
declare
  v_role name;
  v_schema name;
  v_grant text;
begin
  -- The schema of pg_stat_statements, where that is not everybody's.
  for v_schema in
    select distinct n.nspname from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
    where a.grantee = (select r.oid from pg_catalog.pg_roles r where r.rolname = 'monitoring_owner') and n.nspname <> 'public'
  loop
    execute pg_catalog.format('revoke usage on schema %I from monitoring_owner', v_schema);
  end loop;
  -- What these were granted for the business's calendar view, table of members and sequences, by whoever may take it back.
  for v_grant, v_role in
    select g.object, r.rolname from (
      select 'schema ' || n.oid::regnamespace as object, n.nspacl as acl from pg_catalog.pg_namespace n
      union all
      select case c.relkind when 'S' then 'sequence ' else 'table ' end || c.oid::regclass, c.relacl
      from pg_catalog.pg_class c where c.relkind in ('r', 'v', 'm', 'f', 'p', 'S')
      union all
      select distinct 'table ' || t.attrelid::regclass, t.attacl from pg_catalog.pg_attribute t where t.attacl is not null
      union all
      select 'function ' || p.oid::regprocedure, p.proacl from pg_catalog.pg_proc p
    ) g
      join pg_catalog.pg_roles r on r.rolname in ('monitoring_calendar', 'monitoring_members', 'monitoring_owner')
    where exists (select from pg_catalog.aclexplode(g.acl) a where a.grantee = r.oid)
    order by g.object like 'schema %' -- what is in it first
  loop
    begin
      execute pg_catalog.format('revoke all on %s from %I', v_grant, v_role);
    exception when insufficient_privilege then
      raise warning '% keeps its rights on %', v_role, v_grant
        using hint = pg_catalog.format('As its owner: revoke all on %s from %I', v_grant, v_role);
    end;
  end loop;
  -- And what they would be granted of whatever is made later.
  for v_grant, v_role in
    select pg_catalog.format('alter default privileges for role %I %s revoke all on %s from %I', d.defaclrole::regrole,
        case when d.defaclnamespace <> 0 then 'in schema ' || d.defaclnamespace::regnamespace end,
        case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end,
        r.rolname), r.rolname
    from pg_catalog.pg_default_acl d
      join pg_catalog.pg_roles r on r.rolname in ('monitoring_reader', 'monitoring_agent', 'monitoring_calendar', 'monitoring_members', 'monitoring_owner')
    where exists (select from pg_catalog.aclexplode(d.defaclacl) a where a.grantee = r.oid)
  loop
    begin
      execute v_grant;
    exception when insufficient_privilege then
      raise warning '% keeps what default privileges grant it', v_role using hint = 'As the role that they are of: ' || v_grant;
    end;
  end loop;
  for v_role in
    select rolname from pg_catalog.pg_roles
    where rolname in ('monitoring_reader', 'monitoring_agent', 'monitoring_calendar', 'monitoring_members', 'monitoring_owner')
      and pg_catalog.shobj_description(oid, 'pg_authid') like 'pgvigil:%'
  loop
    execute pg_catalog.format('revoke all on schema public from %I', v_role);
    begin
      execute pg_catalog.format('drop role %I', v_role);
    exception when dependent_objects_still_exist or insufficient_privilege then
      raise notice 'role % stays: something here or in another database of this cluster is its, or granted to it, or % may not drop it', v_role, current_user;
    end;
  end loop;
end
$roles$;

do $end$
begin
  perform pg_catalog.set_config('search_path', pg_catalog.current_setting('pgvigil.migrating_search_path'),
    coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) = 'yes', false));
end
$end$;
