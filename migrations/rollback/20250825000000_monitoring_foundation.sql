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
  -- Somebody's default may be a tablespace that monitoring_owner may not use.
  perform pg_catalog.set_config('pgvigil.migrating_tablespace', pg_catalog.current_setting('default_tablespace'), v_is_local);
  perform pg_catalog.set_config('default_tablespace', '', v_is_local);
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

-- With the last database of the cluster that uses them the roles go, and with them whatever they were granted by hand (sequences, a calendar
-- view, default privileges), as far as whoever rolls back may take it; what somebody made as one of them does not.
do $roles$
declare
  v_is_16 boolean := pg_catalog.current_setting('server_version_num')::int >= 160000;
  v_database oid := (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database());
  v_schema name;
  v_role record;
  v_is_joined boolean;
  v_revoke text;
  v_messages text := pg_catalog.current_setting('client_min_messages');
  v_detail text;
begin
  -- The schema of pg_stat_statements, where that is not everybody's.
  for v_schema in
    select distinct n.nspname
    from pg_catalog.pg_extension e
      join pg_catalog.pg_namespace n on n.oid = e.extnamespace
      join pg_catalog.pg_roles r on r.rolname = 'monitoring_owner' and pg_catalog.shobj_description(r.oid, 'pg_authid') like 'pgvigil:%'
      cross join pg_catalog.aclexplode(n.nspacl) a
    where e.extname = 'pg_stat_statements' and a.grantee = r.oid
  loop
    begin
      execute pg_catalog.format('revoke usage on schema %I from monitoring_owner', v_schema);
    exception when insufficient_privilege then
      raise notice 'monitoring_owner may still use schema %', v_schema
        using hint = pg_catalog.format('As its owner: revoke usage on schema %I from monitoring_owner', v_schema);
    end;
  end loop;
  for v_role in
    select r.rolname,
      exists (
        select from pg_catalog.pg_shdepend d
        where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.dbid not in (0, v_database)) as is_used_elsewhere,
      exists (
        select from pg_catalog.pg_shdepend d
        where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o' and d.dbid = v_database
          and d.classid <> 'pg_default_acl'::regclass) as is_owner
    from pg_catalog.pg_roles r
    where r.rolname in ('monitoring_reader', 'monitoring_agent', 'monitoring_calendar', 'monitoring_members', 'monitoring_owner')
      and pg_catalog.shobj_description(r.oid, 'pg_authid') like 'pgvigil:%'
    order by r.rolname
  loop
    execute pg_catalog.format('revoke all on schema public from %I', v_role.rolname);
    -- What is the whole cluster's (databases, parameters) goes too by DROP OWNED, so not while another database needs it: then what it
    -- was granted in this one is taken back by itself.
    if v_role.is_used_elsewhere then
      -- Whatever is no table's to revoke is told by what is left.
      perform pg_catalog.set_config('client_min_messages', 'error', true);
      for v_revoke in
        select case d.classid
            when 'pg_namespace'::regclass then (select pg_catalog.format('revoke all on schema %I from %I', n.nspname, v_role.rolname)
              from pg_catalog.pg_namespace n where n.oid = d.objid)
            when 'pg_proc'::regclass then pg_catalog.format('revoke all on routine %s from %I', d.objid::regprocedure, v_role.rolname)
            when 'pg_class'::regclass then (select pg_catalog.format('revoke all on %s %s from %I', case c.relkind when 'S' then 'sequence' else 'table' end, d.objid::regclass, v_role.rolname)
              from pg_catalog.pg_class c where c.oid = d.objid)
            when 'pg_type'::regclass then pg_catalog.format('revoke all on type %s from %I', d.objid::regtype, v_role.rolname)
            when 'pg_largeobject'::regclass then pg_catalog.format('revoke all on large object %s from %I', d.objid, v_role.rolname)
            when 'pg_default_acl'::regclass then (
              select pg_catalog.format('alter default privileges for role %I%s revoke all on %s from %I', pg_catalog.pg_get_userbyid(a.defaclrole),
                ' in schema ' || pg_catalog.quote_ident(n.nspname),
                case a.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' when 'L' then 'large objects' else 'schemas' end,
                v_role.rolname)
              from pg_catalog.pg_default_acl a left join pg_catalog.pg_namespace n on n.oid = a.defaclnamespace where a.oid = d.objid)
          end
        from pg_catalog.pg_shdepend d join pg_catalog.pg_roles r on r.oid = d.refobjid
        where d.refclassid = 'pg_authid'::regclass and r.rolname = v_role.rolname and d.deptype = 'a' and d.dbid = v_database
      loop
        begin
          execute v_revoke;
        exception when insufficient_privilege or null_value_not_allowed or dependent_objects_still_exist then
          null;
        end;
      end loop;
      perform pg_catalog.set_config('client_min_messages', v_messages, true);
      for v_detail in
        select pg_catalog.pg_describe_object(d.classid, d.objid, 0)
        from pg_catalog.pg_shdepend d join pg_catalog.pg_roles r on r.oid = d.refobjid
        where d.refclassid = 'pg_authid'::regclass and r.rolname = v_role.rolname and d.deptype = 'a' and d.dbid = v_database
        limit 20
      loop
        raise notice 'role % keeps what it was granted on %', v_role.rolname, v_detail
          using hint = 'Whoever granted it, or a superuser, can revoke it; what its holder granted on goes with cascade.';
      end loop;
    end if;
    if not v_role.is_owner and not v_role.is_used_elsewhere then
      begin
        -- A member for as long as this takes.
        v_is_joined := not pg_catalog.pg_has_role(current_user, v_role.rolname, case when v_is_16 then 'usage' else 'member' end);
        if v_is_joined then
          execute pg_catalog.format('grant %I to %I', v_role.rolname, current_user) || case when v_is_16 then ' with inherit true' else '' end;
        end if;
        execute pg_catalog.format('drop owned by %I', v_role.rolname);
        if v_is_joined then
          execute pg_catalog.format('revoke %I from %I', v_role.rolname, current_user);
        end if;
      exception when insufficient_privilege or dependent_objects_still_exist or dependent_privilege_descriptors_still_exist then
        raise notice 'role % keeps what it was granted: %', v_role.rolname, sqlerrm;
      end;
    end if;
    begin
      execute pg_catalog.format('drop role %I', v_role.rolname);
    exception when insufficient_privilege or dependent_objects_still_exist or dependent_privilege_descriptors_still_exist then
      get stacked diagnostics v_detail = pg_exception_detail;
      raise notice 'role % stays: %', v_role.rolname, pg_catalog.concat_ws('. ', sqlerrm, nullif(v_detail, ''))
        using hint = case
          when v_role.is_used_elsewhere then 'It goes with the last database that uses it.'
          when v_role.is_owner then pg_catalog.format('What somebody made as it needs another owner first: reassign owned by %I to ...', v_role.rolname)
          else pg_catalog.format('As a superuser: drop owned by %1$I; drop role %1$I', v_role.rolname) end;
    end;
  end loop;
end
$roles$;

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
