-- pgvigil: the checks to make after a migration, and any day after.

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

-- Validation looks and tries, and changes nothing: it runs in a read-only subtransaction, where the server refuses every write,
-- whatever is called. A function that writes has proved that it works when it is stopped by that.

-- Whether what is called so in public is ours, and stays so: nobody can replace it while its lock is held. Whoever owns that schema can drop
-- what is in it, and what came in its place would run as who reads it.
create or replace function monitoring.holds_own(p_name text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('lock table public.%I in access share mode', p_name);
  return coalesce(
    (select c.relowner = 'monitoring_owner'::regrole and c.relkind in ('v', 'r') from pg_class c where c.oid = to_regclass(format('public.%I', p_name))), false);
end
$$;

-- What is known of our own objects without trying. Reads what the caller may not.
create or replace function monitoring.validation_facts() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
  v_facts jsonb;
begin
  perform monitoring.authorize('read');
  with relations as materialized (
    select c.oid, c.oid::regclass::text as name, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity
    from pg_class c
    where c.relowner = 'monitoring_owner'::regrole and c.relkind in ('r', 'p', 'v', 'm', 'S')
  ), functions as materialized (
    select p.oid, p.oid::regprocedure::text as name, p.proowner, p.prosecdef, p.proconfig, coalesce(p.proacl, acldefault('f', p.proowner)) as acl
    from pg_proc p
    where p.proowner in ('monitoring_owner'::regrole, 'monitoring_calendar'::regrole, 'monitoring_members'::regrole)
  ), open_to_all as (
    -- PUBLIC, anon, and what anon is a member of.
    select o.oid from (values (0::oid)) as o (oid)
    union
    select r.oid from pg_roles r
    where not r.rolsuper and exists (select from pg_roles a where a.rolname = 'anon' and pg_has_role(a.oid, r.oid, 'usage'))
  ), grants as (
    select r.name, a.grantee, a.privilege_type from relations r, aclexplode(r.relacl) a
    union all
    select format('%s.%I', r.name, t.attname), a.grantee, a.privilege_type
    from relations r join pg_attribute t on t.attrelid = r.oid, aclexplode(t.attacl) a
    union all
    select f.name, a.grantee, a.privilege_type from functions f, aclexplode(f.acl) a
    union all
    select 'schema monitoring', a.grantee, a.privilege_type from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'monitoring'
  )
  select jsonb_build_object(
    'open_to_all', (
      select jsonb_agg(format('%s (%s to %s)', g.name, g.privilege_type, case g.grantee when 0 then 'PUBLIC' else monitoring.role_name(g.grantee)::text end) order by g.name)
      from grants g where g.grantee in (select o.oid from open_to_all o)),
    'unpinned', (
      select jsonb_agg(f.name order by f.name) from functions f
      where f.prosecdef and not coalesce(f.proconfig && array['search_path=pg_catalog, pg_temp', 'search_path="pg_catalog", "pg_temp"'], false)),
    'replaced', (
      select jsonb_agg(w.name order by w.name)
      from unnest('{get_database_monitoring_summary,record_monitoring_event,cleanup_old_monitoring_data}'::text[]) as w (name)
      where not exists (
        select from functions f join pg_proc p on p.oid = f.oid
        where p.proname = w.name and p.pronamespace = 'public'::regnamespace and f.prosecdef and p.prolang = (select l.oid from pg_language l where l.lanname = 'plpgsql'))),
    -- Of our names, and callable with as many arguments.
    'namesakes', (
      select jsonb_agg(format('%s (%s)', p.oid::regprocedure, monitoring.role_name(p.proowner)) order by p.oid::regprocedure::text)
      from pg_proc p
        join (values ('get_database_monitoring_summary', 0, 0), ('record_monitoring_event', 2, 5), ('cleanup_old_monitoring_data', 0, 0)) as o (name, least, most)
          on o.name = p.proname and p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int <= o.most and (p.pronargs >= o.least or p.provariadic <> 0)
      where p.pronamespace = 'public'::regnamespace and p.oid not in (select f.oid from functions f)),
    'not_granted', (
      select jsonb_agg(format('%s may not use %s', r.role, o.name) order by r.role, o.name)
      from unnest('{monitoring_reader,monitoring_agent}'::text[]) as r (role)
        cross join (
          select c.oid, c.oid::regclass::text as name from pg_class c
          where c.relnamespace = 'public'::regnamespace and c.relowner = 'monitoring_owner'::regrole and c.relkind in ('v', 'r')
        ) o
      where not has_table_privilege(r.role, o.oid, 'select')),
    'not_executable', (
      select jsonb_agg(format('%s may not execute %s', r.role, f.name) order by r.role, f.name)
      from unnest('{monitoring_reader,monitoring_agent}'::text[]) as r (role)
        cross join functions f join pg_proc p on p.oid = f.oid
      where p.pronamespace = 'public'::regnamespace and not has_function_privilege(r.role, f.oid, 'execute')),
    'missing_policies', (
      select jsonb_agg(w.name order by w.name)
      from unnest('{monitoring_events_owner,monitoring_events_read,monitoring_events_resolve}'::text[]) as w (name)
      where not exists (select from pg_policy p where p.polrelid = to_regclass('public.monitoring_events') and p.polname = w.name)),
    -- Without them what was resolved could be resolved again, and nobody would hear of it.
    'missing_triggers', (
      select jsonb_agg(w.name order by w.name)
      from unnest('{monitoring_events_resolve_once,monitoring_events_announce_new,monitoring_events_announce_change}'::text[]) as w (name)
      where not exists (
        select from pg_trigger t
        where t.tgrelid = to_regclass('public.monitoring_events') and t.tgname = w.name and t.tgenabled in ('O', 'A')
          and t.tgfoid in (select f.oid from functions f))),
    -- Without the index on fingerprints no event can be opened; without the rest anything can be recorded, and finding it takes longer and longer.
    'missing_of_events', (
      select jsonb_agg(w.name order by w.name)
      from (
        select i.name
        from unnest('{monitoring_events_created_at_idx,monitoring_events_open_fingerprint_key,monitoring_events_resolved_at_idx,monitoring_events_last_seen_at_idx,monitoring_events_open_severity_idx}'::text[]) as i (name)
        where not exists (
          select from pg_index x join pg_class c on c.oid = x.indexrelid
          where x.indrelid = to_regclass('public.monitoring_events') and c.relname = i.name and x.indisvalid)
        union all
        select k.name
        from unnest('{monitoring_events_event_type_check,monitoring_events_event_data_check,monitoring_events_severity_check,monitoring_events_user_agent_check,monitoring_events_resolution_notes_check,monitoring_events_occurrences_check}'::text[]) as k (name)
        where not exists (select from pg_constraint c where c.conrelid = to_regclass('public.monitoring_events') and c.conname = k.name and c.convalidated)
        union all
        select 'a primary key' where not exists (select from pg_constraint c where c.conrelid = to_regclass('public.monitoring_events') and c.contype = 'p')
      ) w),
    -- What runs as somebody else, or reads as him, is not ours.
    'foreign', (
      select jsonb_agg(format('%s (%s)', f.name, monitoring.role_name(f.owner)) order by f.name)
      from (
        select format('function %s', p.oid::regprocedure) as name, p.proowner as owner
        from pg_proc p
        where (p.pronamespace = 'monitoring'::regnamespace
            or p.oid in (to_regprocedure('public.get_database_monitoring_summary()'), to_regprocedure('public.record_monitoring_event(text, jsonb, text, inet, text)'),
              to_regprocedure('public.cleanup_old_monitoring_data()')))
          and p.oid not in (select f.oid from functions f)
          and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
        union all
        select format('%s %s', case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass), c.relowner
        from pg_class c
        where c.relkind in ('r', 'p', 'v', 'm') and c.relowner <> 'monitoring_owner'::regrole
          and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
          and (c.relnamespace = 'monitoring'::regnamespace
            or c.relnamespace = 'public'::regnamespace and c.relname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
              'monitoring_rls_status', 'monitoring_events'))
      ) f),
    -- What is evaluated with every use of our tables and views, as whoever uses them: the system's and our own is pinned or ours.
    'borrowed', (
      select jsonb_agg(distinct format('%s of %s', pg_describe_object(d.refclassid, d.refobjid, 0), u.name))
      from (
        select 'pg_constraint'::regclass as class, k.oid, r.name from pg_constraint k join relations r on r.oid = k.conrelid
        union all
        select 'pg_rewrite'::regclass, w.oid, r.name from pg_rewrite w join relations r on r.oid = w.ev_class
        union all
        select 'pg_attrdef'::regclass, f.oid, r.name from pg_attrdef f join relations r on r.oid = f.adrelid
        union all
        select 'pg_class'::regclass, i.indexrelid, r.name from pg_index i join relations r on r.oid = i.indrelid
        union all
        select 'pg_trigger'::regclass, t.oid, r.name from pg_trigger t join relations r on r.oid = t.tgrelid where not t.tgisinternal
        union all
        select 'pg_policy'::regclass, p.oid, r.name from pg_policy p join relations r on r.oid = p.polrelid
      ) u
        join pg_depend d on d.classid = u.class and d.objid = u.oid and d.refobjid >= 16384
          and (d.refclassid in ('pg_operator'::regclass, 'pg_opclass'::regclass) or d.refclassid = 'pg_proc'::regclass and d.refobjid not in (select f.oid from functions f))
      where not exists (select from pg_depend e where e.classid = d.refclassid and e.objid = d.refobjid and e.deptype = 'e')),
    'definers', (select count(*) from functions f where f.prosecdef),
    'objects', (select count(*) from relations) + (select count(*) from functions),
    'owner_is_privileged', (select r.rolsuper or r.rolbypassrls or r.rolcanlogin from pg_roles r where r.rolname = 'monitoring_owner'),
    'members_of_owner', (
      select jsonb_agg(r.rolname order by r.rolname)
      from pg_roles r
      where r.rolname <> 'monitoring_owner' and not r.rolsuper and r.rolcanlogin
        -- By its rights, or by becoming it.
        and (pg_has_role(r.oid, 'monitoring_owner', 'usage')
          or monitoring.may_become(r.oid, 'monitoring_owner'::regrole))),
    'events', (
      select jsonb_build_object('enabled', r.relrowsecurity, 'forced', r.relforcerowsecurity,
        'policies', (
          select jsonb_agg(jsonb_build_object('name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive, 'roles', p.polroles::regrole[]::text[])
            order by p.polname)
          from pg_policy p where p.polrelid = r.oid),
        -- The policies are ours as long as they ask our guard, or admit our owner alone.
        'foreign_policies', (
          select jsonb_agg(p.polname order by p.polname)
          from pg_policy p
          where p.polrelid = r.oid and p.polpermissive
            and p.polroles <> array['monitoring_owner'::regrole::oid]
            -- Nothing but one question to our guard: one sub-select, one function, ours, and nothing beside it.
            and not (p.polqual::text like '{SUBLINK %' and p.polqual::text not like '%{BOOLEXPR %' and p.polqual::text not like '%{OPEXPR %'
              and p.polqual::text not like '%{CASE%' and p.polqual::text not like '%{COALESCE%'
              and (select count(*) from regexp_matches(p.polqual::text, '\{FUNCEXPR :funcid ([0-9]+) ', 'g')) = 1
              and substring(p.polqual::text from '\{FUNCEXPR :funcid ([0-9]+) ')::oid = 'monitoring.may(text)'::regprocedure)))
      from relations r where r.oid = to_regclass('public.monitoring_events')),
    'tables', (
      select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'm') and c.relpersistence <> 't'
        and monitoring.is_application_schema(n.nspname, monitoring.setting_list('application_schemas')::name[])),
    'policed_tables', (
      select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and c.relpersistence <> 't'
        and monitoring.is_application_schema(n.nspname, monitoring.setting_list('application_schemas')::name[])),
    'samples', (
      select jsonb_build_object('count', count(*), 'mean_ms', round(avg(s.duration_ms), 1),
        'percent', round(100 * sum(s.duration_ms) / nullif(extract(epoch from max(s.tick_at) - min(s.tick_at))::numeric * 1000
          + (monitoring.setting('sample_interval_seconds') #>> '{}')::numeric * 1000, 0), 3))
      from monitoring.samples s where s.tick_at > now() - interval '1 day'),
    'interval_ms', (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint * 1000,
    'migrations', (select string_agg(m.version, ', ' order by m.version) from monitoring.migrations m),
    'extension_version', (select e.extversion from pg_extension e where e.extname = 'pg_stat_statements'))
  into v_facts;
  return v_facts;
end
$$;

-- The share of all statements' time that went to the monitor's own, since pg_stat_statements began to count. The time of those inside of
-- functions is in that of the function's call.
create or replace function monitoring.own_time_percent(out statements bigint, out own_percent numeric)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_source record;
begin
  perform monitoring.authorize('read');
  select * into v_source from monitoring.statement_source();
  if not v_source.is_created then
    raise exception 'pg_stat_statements is not created in this database' using errcode = 'undefined_object';
  elsif v_source.is_shadowed then
    raise exception 'another function in schema % is called as pg_stat_statements'' own', v_source.schema_name using errcode = 'insufficient_privilege',
      hint = 'drop or rename it';
  elsif not v_source.is_usable then
    raise exception 'monitoring_owner may not use pg_stat_statements' using errcode = 'insufficient_privilege',
      hint = case when has_schema_privilege(v_source.schema_name, 'usage')
        then format('grant execute on function %s(boolean) to monitoring_owner', v_source.relation)
        else format('grant usage on schema %I to monitoring_owner', v_source.schema_name) end;
  elsif not v_source.is_loaded then
    raise exception 'pg_stat_statements is not loaded by the server' using errcode = 'object_not_in_prerequisite_state';
  end if;
  execute format(
    'select count(*), round((100 * coalesce(sum(s.total_%2$s) filter (where s.userid = any ($1)), 0) / nullif(sum(s.total_%2$s), 0))::numeric, 3) '
    'from %1$s(false) s where coalesce(%3$s, true)', v_source.relation, v_source.time_column, v_source.toplevel)
  using monitoring.own_roles() into statements, own_percent;
end
$$;

-- Who can get at which table by the catalogs of this moment, never by what is remembered of them.
create or replace function monitoring.exposure_now() returns table (table_name text, table_oid oid, owner oid, exposed_to oid[])
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select format('%I.%I', s.schemaname, c.relname), c.oid, c.relowner,
      -- A role that is gone meanwhile is nobody.
      array(select coalesce(r.oid, 0) from unnest(s.exposed_to) as e (name) left join pg_roles r on r.rolname = e.name
        where r.oid is not null or e.name = 'PUBLIC')
    from monitoring.look_at_rls_kinds() s
      cross join unnest(s.tablenames) as t (name)
      join pg_namespace n on n.nspname = s.schemaname
      join pg_class c on c.relnamespace = n.oid and c.relname = t.name
    order by s.risk_rank, s.schemaname, t.name;
end
$$;

-- Tries what the catalogs say: as each role that tables are exposed to, every table. Who asks must be able to become those
-- roles; those it cannot are named. monitoring_reader stands for PUBLIC: it is a member of nothing. Not a definer function,
-- in which SET ROLE is not allowed.
--
-- By LOCK TABLE ... IN ACCESS SHARE MODE and not by a SELECT: that would plan, and planning runs what the table's owner has put
-- into policies and partition bounds, in the session of whoever validates, whose rights SET ROLE does not take away. A lock
-- is refused and allowed like a SELECT (manual, "LOCK"), runs nobody's code, and is given back at once.
create or replace function monitoring.probe_exposure() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
set row_security = on
set jit = off
as $$
declare
  v_stop_at timestamptz := clock_timestamp() + interval '3 seconds';
  v_tables record;
  v_role record;
  v_may boolean;
  v_expected boolean[];
  v_selectable boolean[];
  v_tried int;
  v_open int;
  v_roles jsonb := '{}';
  v_unseen text[] := '{}';
  v_closed text[] := '{}';
  v_untried text[] := '{}';
  v_unreached text[] := '{}';
  v_locked oid[];
  v_is_maintainable boolean := current_setting('server_version_num')::int >= 170000;
begin
  perform set_config('transaction_read_only', 'on', true);
  perform monitoring.authorize('read');
  select array_agg(e.table_name) as names, array_agg(e.table_oid) as oids, array_agg(e.owner) as owners,
    array_agg(e.exposed_to::text) as exposed_to
  into v_tables
  from monitoring.exposure_now() e;
  -- Each would take the whole lock_timeout, and the rest its turn.
  v_locked := array(
    select l.relation from pg_locks l
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.relation = any (v_tables.oids)
      and l.database = (select d.oid from pg_database d where d.datname = current_database()));
  for v_role in
    select r.oid, r.rolname
    from pg_roles r
    -- Who may read or write everything is in no exposed_to but by what was granted to it; its members are, and are tried.
    where not r.rolsuper and r.rolname not in ('monitoring_owner', 'monitoring_agent', 'monitoring_members', 'pg_read_all_data', 'pg_write_all_data') and (
      r.rolname in ('anon', 'authenticated', 'monitoring_reader')
      or r.oid in (select x.role_oid from unnest(v_tables.exposed_to) e (oids), unnest(e.oids::oid[]) as x (role_oid)))
    -- Those who come first matter most.
    order by r.rolname not in ('anon', 'authenticated', 'monitoring_reader'), r.rolname
  loop
    if clock_timestamp() > v_stop_at then
      v_unreached := v_unreached || quote_ident(v_role.rolname);
      continue;
    end if;
    v_may := true;
    begin
      perform set_config('role', v_role.rolname, true);
      raise exception using errcode = 'PV001'; -- undoes the SET ROLE
    exception
      when sqlstate 'PV001' then null;
      when insufficient_privilege then v_may := false;
    end;
    if not v_may then
      if v_role.rolname <> 'monitoring_reader' then -- only a stand-in
        v_untried := v_untried || quote_ident(v_role.rolname);
      end if;
      continue;
    end if;
    -- All that is needed is looked up before the role is taken: then it may no longer be looked up. Null: it is the owner's.
    select array_agg(case when not pg_has_role(v_role.oid, t.owner, 'usage') then exists (
          select from unnest(t.exposed_to::oid[]) e where e = 0 or pg_has_role(v_role.oid, e, 'usage'))
          or case when v_is_maintainable then
            -- From 17 on who may maintain a table may lock it, and reads nothing by that: there a lock says nothing.
            case when has_table_privilege(v_role.oid, t.oid, 'maintain')
              and not has_table_privilege(v_role.oid, t.oid, 'select, insert, update, delete, truncate') then null else false end
          else false end
        end order by t.place),
      array_agg(has_table_privilege(v_role.oid, t.oid, 'select') and has_schema_privilege(v_role.oid, c.relnamespace, 'usage') order by t.place)
    into v_expected, v_selectable
    from unnest(v_tables.oids, v_tables.owners, v_tables.exposed_to) with ordinality as t (oid, owner, exposed_to, place)
      left join pg_class c on c.oid = t.oid;
    v_tried := 0;
    v_open := 0;
    begin
      perform set_config('role', v_role.rolname, true);
      for v_place in 1..coalesce(array_length(v_tables.names, 1), 0) loop
        continue when v_expected[v_place] is null or v_tables.oids[v_place] = any (v_locked);
        if clock_timestamp() > v_stop_at then
          v_unreached := v_unreached || format('%I beyond %s tables', v_role.rolname, v_tried);
          exit;
        end if;
        begin
          execute format('lock table only %s in access share mode', v_tables.names[v_place]);
          raise exception using errcode = 'PV002'; -- gives the lock back
        exception
          when sqlstate 'PV002' then
            v_tried := v_tried + 1;
            v_open := v_open + 1;
            if not v_expected[v_place] then
              v_unseen := v_unseen || format('%s by %I', v_tables.names[v_place], v_role.rolname);
            end if;
          when insufficient_privilege then
            v_tried := v_tried + 1;
            if v_expected[v_place] and v_selectable[v_place] then
              v_closed := v_closed || format('%s by %I', v_tables.names[v_place], v_role.rolname);
            end if;
          when lock_not_available or undefined_table or invalid_schema_name then
            null; -- DDL is at work on it
        end;
      end loop;
      raise exception using errcode = 'PV001'; -- undoes the SET ROLE, and nothing else: there is nothing else to undo
    exception
      when sqlstate 'PV001' then
        v_roles := v_roles || jsonb_build_object(v_role.rolname, format('%s of %s', v_open, v_tried));
      when insufficient_privilege then
        v_untried := v_untried || quote_ident(v_role.rolname);
    end;
  end loop;
  return jsonb_build_object('roles', v_roles, 'unseen', v_unseen, 'closed', v_closed, 'untried', v_untried, 'unreached', v_unreached,
    'locked', array(select t.name from unnest(v_tables.names, v_tables.oids) as t (name, oid) where t.oid = any (v_locked) order by t.name));
exception when sqlstate 'PV000' then
  null; -- never raised: the clause makes this block a subtransaction, which takes its read-only mode with it when it ends
end
$$;
comment on function monitoring.probe_exposure() is
  'Tries every table as each role it is exposed to: {roles: {role: "open of tried"}, unseen: open but not in exposed_to, closed: in exposed_to but refused, untried: roles the caller may not become, unreached: what 3 seconds did not suffice for, locked: tables that somebody has locked, which nobody could try}.';

create or replace function monitoring.first_names(p_names jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(n.name, ', ' order by n.place) filter (where n.place <= 20)
      || case when count(*) > 20 then format(' and %s more', count(*) - 20) else '' end
    from jsonb_array_elements_text(p_names) with ordinality n (name, place));
end
$$;
comment on function monitoring.first_names(jsonb) is 'Twenty of a list of names, and how many more there are; null: none.';

-- The six checks that the request asks for after the migration, tried for real on this database.
create or replace function monitoring.validation(p_probe jsonb default null) returns table (
  check_id text, pass boolean, evidence text, remedy text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
set row_security = on
as $$
#variable_conflict use_column
declare
  v_may boolean;
  v_hint text;
  v_facts jsonb;
  v_is_service boolean;
  v_probe jsonb;
  v_problems text[];
  v_notes text[];
  v_blind text[];
  v_remedy text;
  v_statements bigint;
  v_own_percent numeric;
  v_view text;
  v_count bigint;
  v_started_at timestamptz;
  v_views jsonb := '{}';
  v_took_ms jsonb := '{}';
  v_ms numeric;
  v_summary jsonb;
  v_expected text;
  v_call record;
begin
  perform set_config('transaction_read_only', 'on', true);
  perform monitoring.authorize('read');
  begin
    v_facts := monitoring.validation_facts();
  exception when undefined_table or undefined_function or undefined_column or undefined_object or invalid_schema_name then
    -- Nothing can be said without it.
    return query select c, false, format('something is gone that all of pgvigil rests on: %s', sqlerrm), 'Apply the migrations again: they make what is missing.'
    from unnest('{extension,views,functions,row_level_security,performance,security}'::text[]) as c;
    return;
  end;
  v_is_service := monitoring.caller_role() = 'service';

  -- 1. Extension: created, loaded, and it answers.
  begin
    select o.statements, o.own_percent into v_statements, v_own_percent from monitoring.own_time_percent() o;
    v_problems := array(select d.reason from monitoring.degraded() d where d.section = 'statements' and d.reason like '%statements are not counted%');
    return query select 'extension', v_problems = '{}',
      concat_ws('; ', format('pg_stat_statements %s answers: %s statements counted', v_facts ->> 'extension_version', v_statements),
        nullif(array_to_string(v_problems, '; '), '')),
      case when v_problems <> '{}' then 'alter system reset what is named, then reload; on RDS and Aurora in the parameter group.' end;
  exception
    when undefined_object then
      return query select 'extension', false, 'pg_stat_statements is not created in this database', 'create extension pg_stat_statements;';
    when insufficient_privilege then
      get stacked diagnostics v_hint = pg_exception_hint;
      return query select 'extension', false, sqlerrm, format('As the owner of %s: %s;', case when v_hint like 'grant execute%' then 'the extension' else 'that schema' end, v_hint);
    when object_not_in_prerequisite_state then
      return query select 'extension', false, format('pg_stat_statements %s is created, but not loaded by the server', v_facts ->> 'extension_version'),
        'Add it to shared_preload_libraries (on RDS and Aurora in the parameter group) and restart the server.';
    when undefined_function then
      return query select 'extension', false, sqlerrm, 'Apply the migrations again: they restore what was dropped.';
  end;

  -- 2. Views: each is read, twice: the second time says what it costs once it is warm. Where that is too much it is asked again: a busy
  -- machine is no slow view.
  v_problems := '{}';
  foreach v_view in array '{monitoring_slow_queries,monitoring_connections,monitoring_table_health,monitoring_rls_status,monitoring_events}'::text[] loop
    begin
      if not monitoring.holds_own(v_view) then
        v_problems := v_problems || format('%s is another role''s, and was not read', v_view); -- it would run as who validates
        continue;
      end if;
      for v_try in 1..5 loop
        v_started_at := clock_timestamp();
        execute format('select count(*) from public.%I', v_view) into v_count;
        v_ms := least(case when v_try > 1 then v_ms end, round(extract(epoch from clock_timestamp() - v_started_at) * 1000, 1));
        exit when v_view = 'monitoring_events' -- it may hold a million rows
          or v_try > 1 and v_ms < 50;
      end loop;
      v_views := v_views || jsonb_build_object(v_view, v_count);
      v_took_ms := v_took_ms || jsonb_build_object(v_view, v_ms);
    exception when others then
      v_problems := v_problems || format('%s: %s (SQLSTATE %s)', v_view, sqlerrm, sqlstate);
    end;
  end loop;
  if (v_views ->> 'monitoring_connections')::bigint = 0 then
    v_problems := v_problems || 'monitoring_connections does not see this very session'::text;
  end if;
  -- Tables come and go while this runs; a view that sees none of many does not see.
  if (v_views ->> 'monitoring_table_health')::bigint = 0 and (v_facts ->> 'tables')::bigint > 0 then
    v_problems := v_problems || format('monitoring_table_health sees none of %s tables', v_facts ->> 'tables');
  end if;
  if (v_views ->> 'monitoring_rls_status')::bigint = 0 and (v_facts ->> 'policed_tables')::bigint > 0 then
    v_problems := v_problems || format('monitoring_rls_status sees none of %s tables', v_facts ->> 'policed_tables');
  end if;
  v_remedy := case when v_problems <> '{}' then 'Apply the migrations again: they restore what was dropped or revoked. ' end;
  v_blind := '{}';
  v_notes := '{}';
  begin
    v_blind := array(
      select distinct d.reason from monitoring.degraded() d
      where d.section in ('summary', 'slowQueries', 'connections') or d.section = 'tableHealth' and not pg_is_in_recovery()
      order by 1);
    v_notes := array(select d.reason from monitoring.degraded() d where d.section = 'tableHealth' and pg_is_in_recovery());
  exception when others then
    v_problems := v_problems || format('monitoring.degraded(): %s (SQLSTATE %s)', sqlerrm, sqlstate);
    v_remedy := 'Apply the migrations again: they restore what was dropped or revoked. ';
  end;
  v_problems := v_problems || v_blind || array(
    select g.name from jsonb_array_elements_text(case jsonb_typeof(v_facts -> 'not_granted') when 'array' then v_facts -> 'not_granted' else '[]' end) g (name));
  v_remedy := concat(v_remedy, case
      when position('_schemas names' in array_to_string(v_blind, ' ')) > 0 then 'Name schemas that there are in monitoring.settings (application_schemas, exposed_schemas). '
      when position('track_' in array_to_string(v_blind, ' ')) > 0 then 'Set what is named as off to on again; as a superuser: grant pg_monitor to monitoring_owner. '
      when v_blind <> '{}' then 'As a superuser: grant pg_monitor to monitoring_owner. '
    end,
    case when jsonb_typeof(v_facts -> 'not_granted') = 'array' then 'Apply the migrations again: they restore the grants.' end);
  return query select 'views', v_problems = '{}',
    concat_ws('; ', (select string_agg(format('%s: %s rows', v.key, v.value), ', ' order by v.key) from jsonb_each_text(v_views) v),
      nullif(array_to_string(v_problems || v_notes, '; '), '')),
    case when v_problems <> '{}' then btrim(v_remedy) end;

  -- 3. Functions: the summary answers; those that write get as far as writing, and who may not is refused.
  v_problems := array(
    select format('%s() is missing, or replaced by another', r.name)
    from jsonb_array_elements_text(case jsonb_typeof(v_facts -> 'replaced') when 'array' then v_facts -> 'replaced' else '[]' end) r (name)
    union all
    select format('%s is not pgvigil''s: a call that fits both may run it, or end as ambiguous', o.name)
    from jsonb_array_elements_text(case jsonb_typeof(v_facts -> 'namesakes') when 'array' then v_facts -> 'namesakes' else '[]' end) o (name)
    union all
    select g.name from jsonb_array_elements_text(case jsonb_typeof(v_facts -> 'not_executable') when 'array' then v_facts -> 'not_executable' else '[]' end) g (name)
    union all
    select format('monitoring_events lacks %s', m.name)
    from jsonb_array_elements_text(case when v_facts ->> 'events' is not null and jsonb_typeof(v_facts -> 'missing_of_events') = 'array' then v_facts -> 'missing_of_events' else '[]' end) m (name));
  v_notes := '{}';
  begin
    for v_try in 1..5 loop
      v_started_at := clock_timestamp();
      -- The very one, where it is ours: by its exact types, so that nobody's namesake fits better.
      if coalesce(v_facts -> 'replaced' ? 'get_database_monitoring_summary', false) then
        v_summary := monitoring.summary();
      else
        execute 'select public.get_database_monitoring_summary()' into v_summary;
      end if;
      v_ms := least(case when v_try > 1 then v_ms end, round(extract(epoch from clock_timestamp() - v_started_at) * 1000, 1));
      exit when v_try > 1 and v_ms < 50;
    end loop;
    v_took_ms := v_took_ms || jsonb_build_object('summary', v_ms);
    v_notes := v_notes || format('get_database_monitoring_summary() answers: score %s, %s', v_summary ->> 'health_score', v_summary ->> 'status');
  exception when others then
    v_problems := v_problems || format('get_database_monitoring_summary(): %s (SQLSTATE %s)', sqlerrm, sqlstate);
  end;
  for v_call in
    select * from (values
      ('record_monitoring_event', 'record_event', '''performance_alert''::text, ''{}''::jsonb, ''medium''::text, null::inet, null::text', '25006'),
      ('cleanup_old_monitoring_data', 'clean_up', '', case when v_is_service then '25006' else '42501' end)
    ) as calls (name, inner_name, arguments, expected)
  loop
    v_expected := v_call.expected;
    begin
      execute case when coalesce(v_facts -> 'replaced' ? v_call.name, false)
        then format('select monitoring.%s(%s)', v_call.inner_name, v_call.arguments) else format('select public.%s(%s)', v_call.name, v_call.arguments) end;
      if v_call.name = 'cleanup_old_monitoring_data' and v_expected = '25006' then
        v_notes := v_notes || 'cleanup_old_monitoring_data() answers'::text; -- skipped: another is running, or a standby
      else
        v_problems := v_problems || format('%s() was not stopped by the read-only transaction', v_call.name);
      end if;
    exception when others then
      if sqlstate = v_expected then
        v_notes := v_notes || format('%s() %s', v_call.name,
          case v_expected when '25006' then 'gets as far as writing' else 'refuses who is not service' end);
      else
        v_problems := v_problems || format('%s(): %s (SQLSTATE %s)', v_call.name, sqlerrm, sqlstate);
      end if;
    end;
  end loop;
  return query select 'functions', v_problems = '{}', array_to_string(v_notes || v_problems, '; '),
    case when v_problems <> '{}' then concat(case when jsonb_typeof(v_facts -> 'namesakes') = 'array' then 'Drop or rename what is not pgvigil''s. ' end,
      'Apply the migrations again: they restore the functions, their grants, and what monitoring_events lacks.') end;

  -- 4. Row-level security of monitoring_events: on, forced, with our policies alone.
  v_problems := array_remove(array[
    case when v_facts ->> 'events' is null then 'it is gone, or another role''s' end,
    case when jsonb_typeof(v_facts -> 'missing_triggers') = 'array'
      then 'missing triggers: ' || (select string_agg(t.name, ', ') from jsonb_array_elements_text(v_facts -> 'missing_triggers') t (name)) end,
    case when not (v_facts #>> '{events,enabled}')::boolean then 'row-level security is off' end,
    case when not (v_facts #>> '{events,forced}')::boolean then 'it is not forced: the owner bypasses it' end,
    case when jsonb_typeof(v_facts -> 'missing_policies') = 'array'
      then 'missing policies: ' || (select string_agg(p.name, ', ') from jsonb_array_elements_text(v_facts -> 'missing_policies') p (name)) end,
    case when jsonb_typeof(v_facts #> '{events,foreign_policies}') = 'array'
      then 'policies that ask more than pgvigil''s guard, or less: ' || (select string_agg(p.name, ', ') from jsonb_array_elements_text(v_facts #> '{events,foreign_policies}') p (name)) end
  ], null);
  return query select 'row_level_security', v_problems = '{}',
    concat_ws('; ', 'monitoring_events: '
      || case when v_problems = '{}' then 'row-level security is on and forced, policies: ' ||
        (select string_agg(p ->> 'name', ', ') from jsonb_array_elements(v_facts #> '{events,policies}') p) else array_to_string(v_problems, '; ') end),
    case when v_facts ->> 'events' is null
        then 'alter table public.monitoring_events owner to monitoring_owner, if it is there; then apply the migrations again.'
      when v_problems <> '{}' then 'alter table public.monitoring_events enable row level security, force row level security; '
      'drop the policies that are named as other than pgvigil''s, and apply the migrations again: they make what is missing.' end;

  -- 5. Performance: what the sampler takes of its interval, and what the views take. The share of all statements is told and not
  -- judged: in a database at rest it is nearly all of next to nothing.
  v_ms := coalesce((v_facts #>> '{samples,mean_ms}')::numeric, (v_took_ms ->> 'summary')::numeric);
  v_problems := array_remove(array[
    case when 100 * v_ms / (v_facts ->> 'interval_ms')::numeric >= 1 then format('a sample takes %s ms of every %s ms (limit 1 %%)', v_ms, v_facts ->> 'interval_ms') end
  ], null) || array(
    select format('%s takes %s ms (limit 50)', t.key, t.value) from jsonb_each_text(v_took_ms) t where t.key <> 'monitoring_events' and t.value::numeric >= 50 order by t.key);
  return query select 'performance', v_problems = '{}',
    concat_ws('; ',
      case when (v_facts #>> '{samples,count}')::bigint > 0
        then format('%s samples of the last day took %s ms each, %s %% of the time', v_facts #>> '{samples,count}', v_facts #>> '{samples,mean_ms}', v_facts #>> '{samples,percent}')
        else format('no sample yet; the summary takes %s ms, %s %% of a sampling interval', v_took_ms ->> 'summary',
          round(100 * v_ms / (v_facts ->> 'interval_ms')::numeric, 3)) end,
      case when v_own_percent is not null then format('%s %% of all statements'' time is the monitor''s', v_own_percent) end,
      (select string_agg(format('%s %s ms', t.key, t.value), ', ' order by t.key) from jsonb_each_text(v_took_ms) t),
      case when v_problems <> '{}' then 'too much: ' || array_to_string(v_problems, ', ') end),
    case when v_problems <> '{}' then concat(case when (v_facts ->> 'tables')::bigint > 500
      then 'Let the sampler run: it remembers what is costly (setting remember_from_relations). ' end,
      'If it stays so when the machine is not busy, sample less often (setting sample_interval_seconds) or watch fewer schemas (setting application_schemas).') end;

  -- 6. Security: nothing is open, the guard refuses who has no claims or invents some, and exposure is what it is said to be.
  v_problems := '{}';
  v_remedy := '';
  v_notes := array[format('%s objects of which none is open to PUBLIC or anon', v_facts ->> 'objects'),
    format('%s security definer functions with a pinned search_path', v_facts ->> 'definers')];
  if jsonb_typeof(v_facts -> 'open_to_all') = 'array' then
    v_notes := '{}';
    v_problems := v_problems || ('open: ' || (select string_agg(o.name, ', ') from jsonb_array_elements_text(v_facts -> 'open_to_all') o (name)));
  end if;
  if jsonb_typeof(v_facts -> 'unpinned') = 'array' then
    v_problems := v_problems || ('search_path not pinned: ' || (select string_agg(o.name, ', ') from jsonb_array_elements_text(v_facts -> 'unpinned') o (name)));
  end if;
  if jsonb_typeof(v_facts -> 'borrowed') = 'array' then
    v_problems := v_problems || ('made with what is not the system''s: ' || (select string_agg(o.name, ', ') from jsonb_array_elements_text(v_facts -> 'borrowed') o (name)));
  end if;
  if jsonb_typeof(v_facts -> 'foreign') = 'array' then
    v_problems := v_problems || ('owned by another role than pgvigil''s: ' || (select string_agg(o.name, ', ') from jsonb_array_elements_text(v_facts -> 'foreign') o (name)));
    -- Never to give it a new owner as it is: whoever wrote it would have that owner's rights.
    v_remedy := v_remedy || 'Drop the functions and views that are another''s; a table, if it is pgvigil''s: alter table ... owner to monitoring_owner. ';
  end if;
  if (v_facts ->> 'owner_is_privileged')::boolean then
    v_remedy := v_remedy || 'alter role monitoring_owner nosuperuser nobypassrls nologin. ';
    v_problems := v_problems || 'monitoring_owner is a superuser, has BYPASSRLS or may log in'::text;
  end if;
  if jsonb_typeof(v_facts -> 'members_of_owner') = 'array' then
    v_problems := v_problems || ('logins with the rights of monitoring_owner: ' || (select string_agg(o.name, ', ') from jsonb_array_elements_text(v_facts -> 'members_of_owner') o (name)));
    v_remedy := v_remedy || format('As who granted it: revoke monitoring_owner from %s%s. ',
      (select string_agg(quote_ident(o.name), ', ') from jsonb_array_elements_text(v_facts -> 'members_of_owner') o (name)),
      case when current_setting('server_version_num')::int >= 160000
        then ', and for who migrates: grant monitoring_owner to ... with admin option, inherit false, set false' else '' end);
  end if;
  for v_call in
    select * from (values
      ('a caller without claims', ''),
      ('a caller with anonymous claims', '{"role": "anon"}'),
      ('a caller who made himself admin in user_metadata', '{"sub": "00000000-0000-0000-0000-000000000000", "role": "authenticated", "user_metadata": {"role": "admin"}}')
    ) as callers (name, claims)
  loop
    begin
      v_may := true;
      begin
        perform set_config('role', 'monitoring_reader', true);
      exception when insufficient_privilege then
        v_may := false;
      end;
      if not v_may then
        v_notes := v_notes || format('%s was not tried: %s may not become monitoring_reader', v_call.name, current_user);
      else
        perform set_config('request.jwt.claims', v_call.claims, true);
        begin
          perform monitoring.summary();
          v_problems := v_problems || format('%s is let in by the summary', v_call.name);
        exception when insufficient_privilege or undefined_function or undefined_table or undefined_column then
          null; -- that it is gone is told above
        end;
        begin
          if monitoring.holds_own('monitoring_connections') then
            execute 'select from public.monitoring_connections limit 1';
          else
            raise undefined_table;
          end if;
          v_problems := v_problems || format('%s is let in by monitoring_connections', v_call.name);
        exception when insufficient_privilege or undefined_function or undefined_table or undefined_column then
          null;
        end;
        begin
          if not monitoring.holds_own('monitoring_events') then
            raise undefined_table;
          end if;
          execute 'select count(*) from (select from public.monitoring_events limit 1) e' into v_count;
          if v_count > 0 then
            v_problems := v_problems || format('%s sees monitoring_events', v_call.name);
          end if;
          v_notes := v_notes || format('%s is refused', v_call.name);
        exception
          when lock_not_available then
            v_notes := v_notes || format('%s was not tried on monitoring_events: it is locked', v_call.name);
          when undefined_table then
            null;
          when insufficient_privilege then
            v_problems := v_problems || 'monitoring_reader may not even ask for monitoring_events: its grant is gone'::text;
        end;
      end if;
      -- The problems found are kept in a variable, which an undone block does not take back.
      raise exception using errcode = 'PV001';
    exception when sqlstate 'PV001' then
      null;
    end;
  end loop;
  begin
    v_probe := coalesce(p_probe, monitoring.probe_exposure());
  exception when undefined_function or undefined_table or undefined_column then
    v_probe := '{"roles": {}, "unseen": [], "closed": [], "untried": [], "unreached": []}';
    v_problems := v_problems || format('exposure was not tried: %s', sqlerrm);
  end;
  v_problems := v_problems || array_remove(array[
    'readable, though not in exposed_to: ' || monitoring.first_names(v_probe -> 'unseen'),
    'in exposed_to, but refused: ' || monitoring.first_names(v_probe -> 'closed')], null);
  v_notes := v_notes
    || ('tables that are open, as exposed_to says: '
      || coalesce((select string_agg(format('%s %s', r.key, r.value), ', ' order by r.key) from jsonb_each_text(v_probe -> 'roles') r), 'none tried'))
    || array['not tried, since the caller may not become them: ' || monitoring.first_names(v_probe -> 'untried'),
      'not tried, since somebody has them locked: ' || monitoring.first_names(v_probe -> 'locked'),
      'not reached within 3 s: ' || monitoring.first_names(v_probe -> 'unreached')];
  return query select 'security', v_problems = '{}', concat_ws('. ', case when v_problems <> '{}' then 'FAILED: ' || array_to_string(v_problems, '; ') end,
      'OK: ' || array_to_string(array_remove(v_notes, null), '; ')),
    case when v_problems <> '{}' then concat(v_remedy, 'Revoke what is named as open, and apply the migrations again: they close what default privileges open.') end;
exception when sqlstate 'PV000' then
  null; -- never raised: the clause makes this block a subtransaction, which takes its read-only mode with it when it ends
end
$$;
comment on function monitoring.validation(jsonb) is
  'The six checks to make after a migration (extension, views, functions, row_level_security, performance, security), tried on this database without changing it: pass, evidence, remedy. p_probe: what probe_exposure() found for somebody who may become more roles.';

do $private$ begin perform monitoring.make_private(
  'function monitoring.holds_own(text)',
  'function monitoring.validation_facts()',
  'function monitoring.own_time_percent()',
  'function monitoring.exposure_now()',
  'function monitoring.probe_exposure()',
  'function monitoring.first_names(jsonb)',
  'function monitoring.validation(jsonb)'); end $private$;

grant execute on function monitoring.holds_own(text), monitoring.validation_facts(), monitoring.own_time_percent(), monitoring.exposure_now(),
  monitoring.probe_exposure(), monitoring.first_names(jsonb),
  monitoring.validation(jsonb) to monitoring_reader, monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000004', 'monitoring_validation', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
