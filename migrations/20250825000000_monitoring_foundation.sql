-- pgvigil: roles, schema, settings and the guard.
--
-- Everything later stands on this file: who owns our objects, who may call them, and how a caller is recognised.
-- Runs on PostgreSQL 14 to 18, by psql, `supabase db push` or the task `migrate`; a second run changes nothing.
-- Needs: a superuser, or a role with CREATEROLE that owns the database (an RDS master user, Supabase's `postgres`).

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

-- A role or schema of the same name that is not ours is never taken over: it may have members or objects we know nothing of.
do $refuse$
declare
  v_role text;
begin
  foreach v_role in array array['monitoring_owner', 'monitoring_reader', 'monitoring_agent', 'monitoring_calendar', 'monitoring_members'] loop
    if exists (
      select from pg_catalog.pg_roles r
      where r.rolname = v_role
        and coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), '') not like 'pgvigil:%'
    ) then
      raise exception 'role "%" already exists and is not pgvigil''s', v_role
        using errcode = 'duplicate_object',
              hint = pg_catalog.format('Rename it (alter role %1$I rename to ...), or, if it was made for pgvigil by hand, '
                || 'say so: comment on role %1$I is ''pgvigil: made by hand''. Then run the migration again.', v_role);
    end if;
  end loop;
  if exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'monitoring' and pg_catalog.pg_get_userbyid(n.nspowner) <> 'monitoring_owner'
  ) then
    raise exception 'schema "monitoring" already exists and is not pgvigil''s'
      using errcode = 'duplicate_schema',
            hint = 'Rename it (alter schema monitoring rename to ...), then run the migration again.';
  end if;
  if pg_catalog.to_regnamespace('public') is null then
    raise exception 'schema "public" is not there: what applications and people ask is made in it'
      using errcode = 'invalid_schema_name', hint = 'create schema public, then run the migration again.';
  end if;
end
$refuse$;

-- The same for what 20250825000002 creates: found there, it would leave this migration's roles and schema behind.
do $refuse_facade$
declare
  v_object record;
begin
  for v_object in
    select c.oid, case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'i' then 'index' else 'table' end as kind,
      c.relname as name, c.oid::regclass::text as identity
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace
      and c.relname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
        'monitoring_rls_status', 'monitoring_events',
        'monitoring_events_pkey', 'monitoring_events_created_at_idx', 'monitoring_events_open_fingerprint_key',
        'monitoring_events_resolved_at_idx', 'monitoring_events_last_seen_at_idx', 'monitoring_events_open_severity_idx')
      and pg_catalog.pg_get_userbyid(c.relowner) <> 'monitoring_owner'
    union all
    select t.oid, 'type', t.typname, t.oid::regtype::text
    from pg_catalog.pg_type t
    where t.typnamespace = 'public'::regnamespace and t.typrelid = 0
      and t.typname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
        'monitoring_rls_status', 'monitoring_events')
    union all
    select p.oid, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, p.proname, p.oid::regprocedure::text
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('get_database_monitoring_summary', 'record_monitoring_event', 'cleanup_old_monitoring_data')
      and pg_catalog.pg_get_userbyid(p.proowner) <> 'monitoring_owner'
  loop
    raise exception '% public.% already exists and is not pgvigil''s', v_object.kind, v_object.name
      using errcode = 'duplicate_object',
            hint = pg_catalog.format('Rename it (alter %s %s rename to ...) or drop it, then run the migration again.',
              v_object.kind, v_object.identity);
  end loop;
end
$refuse_facade$;

do $roles$
declare
  v_role record;
begin
  -- Or whoever migrates would have the owner's rights for good (16 on).
  if pg_catalog.current_setting('createrole_self_grant', true) <> '' then
    perform pg_catalog.set_config('createrole_self_grant', '', true);
  end if;
  for v_role in
    select * from (values
      ('monitoring_owner', 'pgvigil: owns every object; security definer functions run as it'),
      ('monitoring_reader', 'pgvigil: what an API caller runs as; its claims decide what it sees'),
      ('monitoring_agent', 'pgvigil: what the scheduled tasks run as'),
      ('monitoring_calendar', 'pgvigil: reads the calendar view; may nothing but what it is granted there'),
      ('monitoring_members', 'pgvigil: reads the members of the operator organization; may nothing else')
    ) as wanted (name, comment)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role.name) then
      execute pg_catalog.format('create role %I nologin', v_role.name);
      execute pg_catalog.format('comment on role %I is %L', v_role.name, v_role.comment);
    end if;
  end loop;

  -- Whoever migrates operates: psql works for them without claims. Not as the owner, whom policies admit. From 16 on only
  -- who made a role may pass it on, so another role that migrates a second database of the cluster needs a word.
  for v_role in select * from (values ('monitoring_reader'), ('monitoring_agent')) as operated (name) loop
    continue when pg_catalog.pg_has_role(current_user, v_role.name, 'usage');
    begin
      -- Who inherits nothing (NOINHERIT) operates nevertheless, and is not taken for the monitor's own login: before 16 it says `set role`.
      execute pg_catalog.format('grant %I to %I', v_role.name, current_user) || case
        when pg_catalog.current_setting('server_version_num')::int >= 160000 then ' with inherit true'
        when not (select r.rolinherit from pg_catalog.pg_roles r where r.rolname = current_user) then ' with admin option'
        else ''
        end;
    exception when insufficient_privilege then
      raise exception 'role "%" may not become a member of pgvigil''s roles, which another role made', current_user
        using errcode = 'insufficient_privilege',
              hint = pg_catalog.format('As the role that made them, or a superuser: grant monitoring_owner, monitoring_calendar, monitoring_members to %1$I with admin option%2$s; '
                'grant monitoring_reader, monitoring_agent to %1$I with admin option', current_user,
                case when pg_catalog.current_setting('server_version_num')::int >= 160000 then ', inherit false, set false' else '' end);
    end;
  end loop;

  -- The functions that run as these are made by the owner, who must be able to become them for that.
  for v_role in select * from (values ('monitoring_calendar'), ('monitoring_members')) as become (name) loop
    continue when pg_catalog.pg_has_role('monitoring_owner', v_role.name, 'usage');
    begin
      execute pg_catalog.format('grant %I to monitoring_owner', v_role.name);
    exception when insufficient_privilege then
      raise exception 'role "%" may not grant %, which another role made', current_user, v_role.name
        using errcode = 'insufficient_privilege',
              hint = pg_catalog.format('As the role that made it, or a superuser: grant %I to monitoring_owner', v_role.name);
    end;
  end loop;

  -- Without one of these the owner sees nothing of other sessions (manual, "Predefined Roles").
  if not pg_catalog.pg_has_role('monitoring_owner', 'pg_read_all_stats', 'usage') then
    begin
      grant pg_monitor to monitoring_owner;
    -- Internal: who has it by a membership that does not inherit is no possible grantor (16 on).
    exception when insufficient_privilege or internal_error then
      begin
        grant pg_read_all_stats to monitoring_owner;
      exception when insufficient_privilege or internal_error then
        raise warning 'pgvigil cannot see other sessions: % may not grant pg_monitor', current_user
          using hint = 'As a superuser: grant pg_monitor to monitoring_owner';
      end;
    end;
  end if;
end
$roles$;

-- pg_stat_statements may live in a schema that is not everybody's, as on Supabase.
do $extension$
declare
  v_schema name;
begin
  select n.nspname into v_schema
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'pg_stat_statements';
  if found and not pg_catalog.has_schema_privilege('monitoring_owner', v_schema, 'usage') then
    execute pg_catalog.format('grant usage on schema %I to monitoring_owner', v_schema);
  end if;
exception when insufficient_privilege then
  raise warning 'pgvigil may not use schema "%" and so not pg_stat_statements', v_schema
    using hint = pg_catalog.format('As its owner: grant usage on schema %I to monitoring_owner', v_schema);
end
$extension$;

-- CREATE is borrowed for as long as a migration runs: since 15 nobody but the database's owner has it on public.
do $public$
begin
  execute pg_catalog.format('grant create on database %I to monitoring_owner', pg_catalog.current_database());
  grant usage, create on schema public to monitoring_owner;
  grant usage on schema public to monitoring_reader, monitoring_agent, monitoring_members;
  if not pg_catalog.has_schema_privilege('monitoring_owner', 'public', 'create')
    or not pg_catalog.has_database_privilege('monitoring_owner', pg_catalog.current_database(), 'create')
  then
    raise exception 'role "%" may not grant CREATE on the database and on schema public', current_user
      using errcode = 'insufficient_privilege',
            hint = case when (select r.rolinherit from pg_catalog.pg_roles r where r.rolname = current_user)
              then 'Run the migration as the owner of the database and of schema public, or as a superuser.'
              -- Who owns the database has schema public by a membership.
              else pg_catalog.format('It inherits nothing: alter role %I inherit, or run the migration as a superuser.', current_user) end;
  end if;
end
$public$;

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

create schema if not exists monitoring;

create table if not exists monitoring.migrations (
  version    text primary key check (version ~ '^[0-9]{14}$'),
  name       text not null,
  applied_at timestamptz not null default pg_catalog.now(),
  -- Hash of the file, known only where the task `migrate` applied it, which says it in pgvigil.sha256: a later run can
  -- tell that the file was changed.
  sha256     text check (sha256 ~ '^[0-9a-f]{64}$')
);
comment on table monitoring.migrations is 'Which migrations are applied; each file enters itself, however it was run.';

create table if not exists monitoring.settings (
  key         text primary key,
  value       jsonb not null,
  description text not null,
  constraint settings_value_is_valid check (
    -- Whole numbers are written as such: 60.0 is none to who casts its text.
    case key
      when 'slow_query_threshold_ms' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 86400000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'sample_interval_seconds' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 10 and 3600 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'sample_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'hourly_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'daily_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 36500 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'unused_index_after_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 0 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'sample_budget_ms' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 10000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'resolved_event_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'unresolved_event_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'remember_from_relations' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 0 and 1000000000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'gets_per_minute' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 10000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'posts_per_minute' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 10000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'lighthouse_requests_per_minute' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 10000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'lighthouse_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'vitals_beacons_per_minute' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 20 and 100000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'vitals_total_beacons_per_minute' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 20 and 100000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'vitals_paths' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 200 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'vitals_minimum_samples' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 10 and 100000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'vitals_retention_days' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 30 and 3650 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'window_lead_minutes' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 0 and 1440 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'window_sample_interval_seconds' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 10 and 3600 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'calendar_time_limit_ms' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 100 and 10000 and pg_catalog.scale(value::numeric) = 0 else false end
      when 'database_size_limit_bytes' then
        case when pg_catalog.jsonb_typeof(value) = 'number' then value::numeric between 1 and 1e18 and pg_catalog.scale(value::numeric) = 0 else value = 'null' end
      when 'calendar_view' then
        -- With its schema: what a name without one means is for a search path to say.
        case when pg_catalog.jsonb_typeof(value) = 'string' then pg_catalog.cardinality(pg_catalog.parse_ident(value #>> '{}')) = 2 else value = 'null' end
      when 'application_schemas' then
        value = 'null' or pg_catalog.jsonb_typeof(value) = 'array'
          and not pg_catalog.jsonb_path_exists(value, '$[*] ? (@.type() != "string")')
      when 'exposed_schemas' then
        pg_catalog.jsonb_typeof(value) = 'array'
          and not pg_catalog.jsonb_path_exists(value, '$[*] ? (@.type() != "string")')
      when 'role_claim_path' then
        -- Users write user_metadata themselves.
        pg_catalog.jsonb_typeof(value) = 'array' and value <> '[]' and value ->> 0 <> 'user_metadata'
          and not pg_catalog.jsonb_path_exists(value, '$[*] ? (@.type() != "string")')
      when 'operator_organization_id' then
        value = 'null' or pg_catalog.jsonb_typeof(value) = 'string' and value <> '""'
      else false
    end
  )
);
comment on table monitoring.settings is 'What can be configured inside the database; a key that is not known is refused.';

create or replace function monitoring.keep_settings() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'settings are changed, not removed' using errcode = 'object_not_in_prerequisite_state',
    hint = 'update monitoring.settings set value = ... where key = ...';
end
$$;
create or replace trigger settings_are_kept before delete or truncate on monitoring.settings
  for each statement execute function monitoring.keep_settings();

insert into monitoring.settings (key, value, description) values
  ('slow_query_threshold_ms', '100', 'A running statement is slow when it has taken longer than this.'),
  ('sample_interval_seconds', '60', 'Ticks of the sampler; two deliveries of one tick are one sample.'),
  ('sample_retention_days', '7', 'Days of samples to keep.'),
  ('hourly_retention_days', '90', 'Days to keep what samples amount to by the hour.'),
  ('daily_retention_days', '400', 'Days to keep what samples amount to by the day, and the changes they saw.'),
  ('unused_index_after_days', '7', 'For so long after the statistics were reset no index is called unused.'),
  ('sample_budget_ms', '18', 'What samples may take of the server a minute, on average: costly parts are taken less often where they would take more.'),
  ('resolved_event_retention_days', '30', 'Days to keep an event after it was resolved.'),
  ('unresolved_event_retention_days', '7', 'Days to keep an unresolved event after it was last seen.'),
  ('remember_from_relations', '5000', 'With this many relations or more the sampler remembers what is costly to look up (docs/operations.md).'),
  ('gets_per_minute', '30', 'GET requests to the API that one token subject may make in any minute.'),
  ('posts_per_minute', '10', 'POST requests to the API that one token subject may make in any minute.'),
  ('lighthouse_requests_per_minute', '240', 'Requests of Lighthouse CI that one project may make: so many at once, and again as many a minute.'),
  ('lighthouse_retention_days', '400', 'Days to keep what Lighthouse found.'),
  ('vitals_beacons_per_minute', '600', 'Web Vitals that one project''s pages may send: so many at once, and again as many a minute.'),
  ('vitals_total_beacons_per_minute', '1800', 'The same for all projects together.'),
  ('vitals_paths', '20', 'Paths of a project whose Web Vitals are told apart; what is beyond is one more.'),
  ('vitals_minimum_samples', '100', 'Web Vitals of an hour are judged from so many on, and again with every so many more.'),
  ('vitals_retention_days', '90', 'Days to keep what Web Vitals amount to by the day; by the hour it is kept for three.'),
  ('window_lead_minutes', '60', 'Minutes before a critical window in which the database is watched as in it.'),
  ('window_sample_interval_seconds', '10', 'Ticks of the sampler in a critical window and its lead time.'),
  ('calendar_view', 'null', 'A view of the business''s own calendar, with its schema: starts_at timestamptz, ends_at timestamptz, label text.'),
  ('calendar_time_limit_ms', '2000', 'The time that reading the calendar view may take.'),
  ('database_size_limit_bytes', 'null', 'How large the database may become, for forecasts; null: not known.'),
  ('application_schemas', 'null', 'Schemas whose tables are watched; null: all but the system''s and pgvigil''s own.'),
  ('exposed_schemas', '["public"]', 'Schemas an API exposes (PostgREST''s db-schemas): row-level security must be on there.'),
  ('role_claim_path', '["app_metadata", "role"]', 'Where in request.jwt.claims the caller''s role is; a string or an array.'),
  ('operator_organization_id', 'null', 'The one organization in organization_members whose admins are the platform''s.')
on conflict (key) do nothing;

create table if not exists monitoring.thresholds (
  check_id    text primary key,
  warning     numeric not null,
  critical    numeric not null,
  unit        text not null,
  description text not null,
  constraint thresholds_are_ordered check (warning >= 0 and critical >= warning)
);
comment on table monitoring.thresholds is 'Per check, the values from which a finding is a warning or critical; higher is worse.';

-- The hours that matter. Ends after 31 days at the latest: what is always critical is not a window. Counted in hours, which are the same in
-- every time zone: so is what a dump may hold.
create table if not exists monitoring.critical_windows (
  id         uuid primary key default pg_catalog.gen_random_uuid(),
  starts_at  timestamptz not null,
  ends_at    timestamptz not null,
  label      text not null,
  created_at timestamptz not null default pg_catalog.now(),
  constraint critical_windows_end_after_they_start check (
    pg_catalog.isfinite(starts_at) and ends_at > starts_at and ends_at <= starts_at + interval '744 hours'),
  constraint critical_windows_have_a_label check (pg_catalog.length(label) between 1 and 200)
);
create unique index if not exists critical_windows_once_key on monitoring.critical_windows (starts_at, ends_at, label);
create index if not exists critical_windows_ends_at_idx on monitoring.critical_windows (ends_at);
comment on table monitoring.critical_windows is 'The hours that matter, from starts_at until ends_at.';

create table if not exists monitoring.window_rules (
  id          uuid primary key default pg_catalog.gen_random_uuid(),
  label       text not null,
  weekdays    int[] not null, -- of its beginning; 1 is Monday, 7 Sunday
  starts      time not null,
  ends        time not null,  -- not later than starts: on the day after
  time_zone   text not null,
  valid_from  date,
  valid_until date,
  created_at  timestamptz not null default pg_catalog.now(),
  constraint window_rules_have_a_label check (pg_catalog.length(label) between 1 and 200),
  constraint window_rules_have_weekdays check (
    pg_catalog.cardinality(weekdays) between 1 and 7 and weekdays <@ '{1,2,3,4,5,6,7}' and pg_catalog.array_position(weekdays, null) is null),
  constraint window_rules_are_not_always check (not (weekdays @> '{1,2,3,4,5,6,7}' and starts = ends)),
  constraint window_rules_end_after_they_start check (valid_until >= valid_from)
);
create unique index if not exists window_rules_once_key on monitoring.window_rules (
  label, weekdays, starts, ends, time_zone, (coalesce(valid_from, '-infinity')), (coalesce(valid_until, 'infinity')));
comment on table monitoring.window_rules is
  'Critical windows of every week: on weekdays (1 is Monday), from starts until ends, past midnight where ends is not later, by the clocks of time_zone.';

-- Abbreviations and POSIX's own rules are times too, and change no clock or change it on days of their own.
create or replace function monitoring.check_time_zone() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_timezone_names z where z.name = new.time_zone) then
    raise exception 'time_zone must be the name of a time zone, like Europe/London' using errcode = 'invalid_parameter_value';
  end if;
  return new;
end
$$;
create or replace trigger time_zones_are_known before insert or update of time_zone on monitoring.window_rules
  for each row execute function monitoring.check_time_zone();

-- What the view that setting calendar_view names said when it could last be read (monitoring.refresh_calendar()).
create table if not exists monitoring.calendar_windows (
  id        uuid primary key,
  starts_at timestamptz not null,
  ends_at   timestamptz not null,
  label     text not null,
  constraint calendar_windows_end_after_they_start check (
    pg_catalog.isfinite(starts_at) and ends_at > starts_at and ends_at <= starts_at + interval '744 hours'),
  constraint calendar_windows_have_a_label check (pg_catalog.length(label) between 1 and 200)
);
create index if not exists calendar_windows_ends_at_idx on monitoring.calendar_windows (ends_at);
comment on table monitoring.calendar_windows is 'The coming windows of the calendar view, as it was last read.';

create table if not exists monitoring.calendar_status (
  is_only      boolean primary key default true check (is_only),
  view_name    text not null,
  tried_at     timestamptz not null,
  duration_ms  numeric,
  refreshed_at timestamptz,
  windows      int,
  problem      text,
  refused      text
);
comment on table monitoring.calendar_status is
  'How reading the calendar view went: when it was last tried, when it last worked, what failed, and which rows are no windows.';

-- In plpgsql and not in SQL, like all that is asked often: a session plans it once, and not at every call.
create or replace function monitoring.setting(p_key text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select s.value from monitoring.settings s where s.key = p_key);
end
$$;
comment on function monitoring.setting(text) is 'The value of a setting; null when there is none.';

create or replace function monitoring.setting_list(p_key text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select array(select e.value from jsonb_array_elements_text(s.value) e)
    from monitoring.settings s where s.key = p_key and jsonb_typeof(s.value) = 'array');
end
$$;
comment on function monitoring.setting_list(text) is 'A setting that is a list of texts; null when it is null.';

-- A clock set back shows an hour twice, one set forward leaves one out. A window begins at the first and ends at the last
-- moment that its local time can mean, so that it never misses any of it.
create or replace function monitoring.moment(p_local timestamp, p_time_zone text, p_is_end boolean) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_moment timestamptz := p_local at time zone p_time_zone;
  v_left_out interval := (v_moment at time zone p_time_zone) - p_local;
begin
  if v_left_out <> interval '0' then
    return case when p_is_end then greatest(v_moment, v_moment - v_left_out) else least(v_moment, v_moment - v_left_out) end;
  end if;
  return (
    select case when p_is_end then max(c.moment) else min(c.moment) end
    from unnest('{-2 hours,-1 hour,-30 minutes,0,30 minutes,1 hour,2 hours}'::interval[]) as d (shift)
      cross join lateral (select v_moment + d.shift) as c (moment)
    where c.moment at time zone p_time_zone = p_local);
end
$$;

-- The one source of windows. They are told one by one, also where they overlap. Of rules the next 400 days at most. For our own
-- functions, some of which are called by who has no role: others ask windows_between().
create or replace function monitoring.known_windows(p_from timestamptz, p_to timestamptz) returns table (
  id uuid, source text, rule_id uuid, starts_at timestamptz, ends_at timestamptz, label text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_rule record;
  v_rules_to timestamptz := least(p_to, p_from + interval '400 days');
begin
  if p_from is null or not isfinite(p_from) or p_to is null or p_to < p_from then
    raise exception 'p_to must not be before p_from, and p_from a time' using errcode = 'invalid_parameter_value';
  end if;
  return query
    select w.id, 'dated', null::uuid, w.starts_at, w.ends_at, w.label
    from monitoring.critical_windows w
    where w.ends_at > p_from and w.starts_at <= p_to;
  if monitoring.setting('calendar_view') <> 'null' then
    return query
      select w.id, 'calendar', null::uuid, w.starts_at, w.ends_at, w.label
      from monitoring.calendar_windows w
      where w.ends_at > p_from and w.starts_at <= p_to;
  end if;
  for v_rule in select * from monitoring.window_rules loop
    begin
      return query
        select md5(format('rule %s %s', v_rule.id, d.day))::uuid, 'rule', v_rule.id, m.starts_at, m.ends_at, v_rule.label
        from (
          select (p_from at time zone v_rule.time_zone)::date - 2 + n as day
          from generate_series(0, (v_rules_to at time zone v_rule.time_zone)::date - (p_from at time zone v_rule.time_zone)::date + 3) n
        ) d cross join lateral (
          select monitoring.moment(d.day + v_rule.starts, v_rule.time_zone, false) as starts_at,
            monitoring.moment(d.day + case when v_rule.ends <= v_rule.starts then 1 else 0 end + v_rule.ends, v_rule.time_zone, true) as ends_at
        ) m
        where extract(isodow from d.day) = any (v_rule.weekdays)
          and (v_rule.valid_from is null or d.day >= v_rule.valid_from)
          and (v_rule.valid_until is null or d.day <= v_rule.valid_until)
          and m.ends_at > p_from and m.starts_at <= v_rules_to;
    exception when invalid_parameter_value then
      continue; -- a zone that the server no longer knows must not hide the other windows; monitoring.unknown_zones() tells
    end;
  end loop;
end
$$;

create or replace function monitoring.windows_between(p_from timestamptz, p_to timestamptz) returns table (
  id uuid, source text, rule_id uuid, starts_at timestamptz, ends_at timestamptz, label text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return query select * from monitoring.known_windows(p_from, p_to);
end
$$;
comment on function monitoring.windows_between(timestamptz, timestamptz) is
  'Every critical window that is open at some moment of a stretch of time: source is dated, rule or calendar. In no order.';

-- Windows that overlap or touch are one here, as far as they are of the day before and the seven days after.
create or replace function monitoring.window_effect(p_at timestamptz default now()) returns table (
  in_window boolean, is_open boolean, label text, window_starts_at timestamptz, window_ends_at timestamptz, opens_in_seconds bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_lead interval;
  v_window record;
  v_others int := -1;
begin
  if p_at is null or p_at not between timestamptz '0001-01-02 00:00+00' and timestamptz '9999-12-31 00:00+00' then
    raise exception 'at must be a time of the years 1 to 9999' using errcode = 'invalid_parameter_value';
  end if;
  v_lead := make_interval(mins => (monitoring.setting('window_lead_minutes') #>> '{}')::int);
  for v_window in
    select w.starts_at, w.ends_at, w.label
    from monitoring.windows_between(p_at - interval '1 day', p_at + interval '7 days') w -- asks whether the caller may read
    order by w.starts_at, w.ends_at desc, w.id
  loop
    if v_window.starts_at <= window_ends_at then
      window_ends_at := greatest(window_ends_at, v_window.ends_at);
    elsif window_ends_at > p_at then
      exit;
    else
      window_starts_at := v_window.starts_at;
      window_ends_at := v_window.ends_at;
    end if;
    if v_window.ends_at > greatest(p_at, v_window.starts_at) and v_window.starts_at <= greatest(p_at, window_starts_at) then
      label := coalesce(label, v_window.label);
      v_others := v_others + 1;
    end if;
  end loop;
  if window_ends_at is null or window_ends_at <= p_at then
    return query select false, false, null::text, null::timestamptz, null::timestamptz, null::bigint;
    return;
  end if;
  return query select window_starts_at - v_lead <= p_at, window_starts_at <= p_at,
    case when v_others > 0 then left(label, 180) || format(' and %s more', v_others) else label end,
    window_starts_at, window_ends_at,
    greatest(0, ceil(extract(epoch from window_starts_at - p_at)))::bigint;
end
$$;
comment on function monitoring.window_effect(timestamptz) is
  'One row: whether a moment is in a critical window or its lead time, and the window that is open then, else the next of seven days.';

-- Whether this moment is in a critical window or its lead time, as monitoring.window_effect() has it, for our own functions.
create or replace function monitoring.is_critical_time() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lead interval := make_interval(mins => (monitoring.setting('window_lead_minutes') #>> '{}')::int);
begin
  return exists (select from monitoring.known_windows(now(), now() + v_lead) w where w.starts_at - v_lead <= now() and w.ends_at > now());
end
$$;

-- The role whose rights the caller uses, also inside a security definer function, where current_user is the function's
-- owner: SET ROLE is remembered in the parameter "role", which a definer function does not change.
create or replace function monitoring.caller_login() returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case current_setting('role') when 'none' then session_user else current_setting('role')::name end;
end
$$;

-- The claims of the caller; null when there are none or they are no JSON. After a transaction that set them locally the
-- parameter reads '' and not null. The legacy request.jwt.claim.* parameters are never read.
create or replace function monitoring.claims() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
exception when invalid_text_representation or untranslatable_character or feature_not_supported or program_limit_exceeded or numeric_value_out_of_range then
  return null;
end
$$;

create or replace function monitoring.caller_subject() returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (monitoring.claims() ->> 'sub')::uuid;
exception when invalid_text_representation then
  return null; -- not every issuer's subject is a uuid
end
$$;
comment on function monitoring.caller_subject() is 'The subject of the caller''s claims where it is a uuid, else null.';

-- The table of members is the application's, and whoever may give it a policy, a cast, or make it a view, would run as whoever reads
-- it. So it is read as monitoring_members, which may nothing else, inside a definer function, where SET ROLE is refused; read-only; and
-- parameters and temporary tables are undone before anybody else goes on. (Locks of the session and prepared statements are not.)
create or replace function monitoring.read_member(p_organization text, p_subject text) returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = error
set lock_timeout = '100ms' -- who alters it keeps nobody waiting: its members are let in again when it is free
as $$
declare
  v_role text;
begin
  if current_user <> 'monitoring_members' then
    return null; -- restored without its owner: migration 20250825000000 run again gives it back
  end if;
  perform set_config('transaction_read_only', 'on', true);
  execute 'select known.role from (select lower(m.role::text collate "C") as role from public.organization_members m '
    'where lower(m.organization_id::text collate "C") = lower($1 collate "C") '
    'and lower(m.user_id::text collate "C") = lower($2 collate "C")) known '
    'where known.role in (''admin'', ''owner'', ''developer'') '
    'order by known.role <> ''owner'', known.role <> ''admin'' limit 1'
    into v_role using p_organization, p_subject;
  raise exception using errcode = 'PV000', message = 'undone';
exception
  when sqlstate 'PV000' then
    return v_role; -- null where it is theirs
  when others or assert_failure then
    -- No such table here, or not ours to read, or a policy of theirs that fails for us: nobody is admitted by it.
    return null;
end
$$;
comment on function monitoring.read_member(text, text) is
  'The role of a subject in an organization, read with no rights but those of monitoring_members; null: none. Writes nothing.';

-- The role in the one organization that operates the platform. Any other organization's admins are tenants: their
-- membership says nothing here.
create or replace function monitoring.operator_role() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization text := monitoring.setting('operator_organization_id') #>> '{}';
  v_subject text := monitoring.claims() ->> 'sub';
begin
  if v_organization is null or v_subject is null then
    return null;
  end if;
  return monitoring.read_member(v_organization, v_subject);
end
$$;

-- monitoring_members may make nothing here: CREATE is lent to it for the moment in which the function becomes its own.
do $give$
begin
  if (select p.proowner <> 'monitoring_members'::regrole from pg_catalog.pg_proc p where p.oid = 'monitoring.read_member(text, text)'::regprocedure) then
    grant create on schema monitoring to monitoring_members;
    alter function monitoring.read_member(text, text) owner to monitoring_members;
    revoke create on schema monitoring from monitoring_members;
  end if;
end
$give$;

-- Who is asking: 'service', 'admin', 'owner', 'developer', or null for nobody we know.
-- Service is a database role (a superuser, our owner or agent, Supabase's service_role) or that claim; the other three
-- are claims only. user_metadata is the user's own to write and is never read.
create or replace function monitoring.caller_role() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_login name := monitoring.caller_login();
  v_claim jsonb;
  v_named text[];
begin
  if v_login = 'service_role'
    or pg_has_role(v_login, 'monitoring_agent', 'usage')
    or pg_has_role(v_login, 'monitoring_owner', 'usage')
  then
    return 'service';
  end if;
  v_claim := monitoring.claims() #> monitoring.setting_list('role_claim_path');
  if jsonb_typeof(v_claim) = 'array' then
    v_named := array(select lower(btrim(e #>> '{}') collate "C") from jsonb_array_elements(v_claim) e);
  elsif jsonb_typeof(v_claim) = 'string' then
    v_named := array[lower(btrim(v_claim #>> '{}') collate "C")];
  end if;
  return case
    when 'service' = any (v_named) then 'service'
    when 'owner' = any (v_named) then 'owner'
    when 'admin' = any (v_named) then 'admin'
    when 'developer' = any (v_named) then 'developer'
    else monitoring.operator_role()
  end;
end
$$;
comment on function monitoring.caller_role() is 'The caller''s role: service, admin, owner, developer, or null.';

create or replace function monitoring.may(p_action text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    case p_action
      when 'read' then monitoring.caller_role() in ('service', 'admin', 'owner', 'developer')
      when 'record' then monitoring.caller_role() in ('service', 'admin', 'owner', 'developer')
      when 'resolve' then monitoring.caller_role() in ('service', 'admin', 'owner')
      when 'configure' then monitoring.caller_role() in ('admin', 'owner')
      when 'operate' then monitoring.caller_role() = 'service'
    end,
    false);
end
$$;
comment on function monitoring.may(text) is
  'Whether the caller may read, record, resolve, configure (critical windows) or operate (sample, clean up). An unknown action: no.';

create or replace function monitoring.authorize(p_action text) returns void
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not monitoring.may(p_action) then
    raise exception 'permission denied: the caller may not % monitoring', p_action
      using errcode = 'insufficient_privilege',
            hint = format('The role in the caller''s claims must be %s (monitoring.settings, role_claim_path, says where it is looked for).',
              case p_action when 'operate' then 'service' when 'configure' then 'admin or owner' when 'resolve' then 'admin, owner or service'
                else 'admin, owner, developer or service' end);
  end if;
end
$$;
comment on function monitoring.authorize(text) is 'Raises 42501 unless the caller may do the action; the first line of every definer function.';

-- Default privileges can grant to PUBLIC and, on Supabase, to anon, authenticated and service_role by name, so revoking
-- from PUBLIC alone leaves an object open. Each migration names its own objects here, then grants what is wanted, always
-- in the same order: so a second run leaves the same access list.
create or replace function monitoring.make_private(variadic p_objects text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object text;
  v_role name;
begin
  foreach v_object in array p_objects loop
    execute format('revoke all on %s from public', v_object);
    for v_role in
      select rolname from pg_roles
      where rolname in ('anon', 'authenticated', 'service_role', 'monitoring_reader', 'monitoring_agent')
    loop
      execute format('revoke all on %s from %I', v_object, v_role);
    end loop;
  end loop;
end
$$;

do $private$ begin perform monitoring.make_private(
  'schema monitoring',
  'table monitoring.migrations',
  'table monitoring.settings',
  'table monitoring.thresholds',
  'table monitoring.critical_windows',
  'table monitoring.window_rules',
  'table monitoring.calendar_windows',
  'table monitoring.calendar_status',
  'function monitoring.check_time_zone()',
  'function monitoring.moment(timestamp, text, boolean)',
  'function monitoring.known_windows(timestamptz, timestamptz)',
  'function monitoring.windows_between(timestamptz, timestamptz)',
  'function monitoring.window_effect(timestamptz)',
  'function monitoring.is_critical_time()',
  'function monitoring.setting(text)',
  'function monitoring.setting_list(text)',
  'function monitoring.keep_settings()',
  'function monitoring.caller_login()',
  'function monitoring.claims()',
  'function monitoring.caller_subject()',
  'function monitoring.read_member(text, text)',
  'function monitoring.operator_role()',
  'function monitoring.caller_role()',
  'function monitoring.may(text)',
  'function monitoring.authorize(text)',
  'function monitoring.make_private(text[])'); end $private$;

grant usage on schema monitoring to monitoring_reader, monitoring_agent;
grant select on monitoring.migrations to monitoring_agent;
-- Both tell a caller only about itself. validation() asks them, which runs as its caller.
grant execute on function monitoring.authorize(text), monitoring.caller_role() to monitoring_reader, monitoring_agent;
grant execute on function monitoring.windows_between(timestamptz, timestamptz), monitoring.window_effect(timestamptz)
  to monitoring_reader, monitoring_agent;

-- Whoever row-level security asks about runs the function in the policy.
do $grants$
declare
  v_role name;
begin
  for v_role in
    select r.rolname from pg_catalog.pg_roles r
    where r.rolname in ('monitoring_reader', 'monitoring_agent', 'authenticated', 'service_role')
    order by r.rolname
  loop
    execute pg_catalog.format('grant execute on function monitoring.may(text) to %I', v_role);
  end loop;
end
$grants$;

-- Who migrated sets up, too.
do $operator$
declare
  v_operator text := pg_catalog.current_setting('pgvigil.became_owner');
begin
  if v_operator <> '' then
    -- Taken back first, so that a second run leaves the same order in the access list.
    execute pg_catalog.format('revoke all on monitoring.settings, monitoring.thresholds, monitoring.critical_windows, monitoring.window_rules, monitoring.migrations from %I', v_operator);
    execute pg_catalog.format('grant select, update on monitoring.settings, monitoring.thresholds to %I', v_operator);
    execute pg_catalog.format('grant select, insert, update, delete on monitoring.critical_windows, monitoring.window_rules to %I', v_operator);
    execute pg_catalog.format('grant select on monitoring.migrations to %I', v_operator);
  end if;
end
$operator$;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000000', 'monitoring_foundation', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
revoke create on schema public from monitoring_owner;
do $database$
begin
  execute pg_catalog.format('revoke create on database %I from monitoring_owner', pg_catalog.current_database());
end
$database$;

-- Reading the operator organization's members takes a grant and, where that table has row-level security, a policy. Both
-- are for monitoring_members alone, which cannot log in. Where the migrating role may not give them, nobody is admitted by
-- membership; claims still work.
do $members$
declare
  v_table regclass := pg_catalog.to_regclass('public.organization_members');
  v_roles oid[];
begin
  if v_table is null or (
    select count(*) from pg_catalog.pg_attribute a
    where a.attrelid = v_table and a.attname in ('organization_id', 'user_id', 'role') and not a.attisdropped
  ) < 3 then
    return;
  end if;
  grant select on public.organization_members to monitoring_members;
  revoke all on public.organization_members from monitoring_owner; -- which read it once
  v_roles := (select p.polroles from pg_catalog.pg_policy p where p.polrelid = v_table and p.polname = 'pgvigil reads operator members');
  if v_roles = array['monitoring_members'::regrole]::oid[]
    or v_roles is null and not (select c.relrowsecurity from pg_catalog.pg_class c where c.oid = v_table)
  then
    return;
  end if;
  -- It is a busy table: better tried several times than everybody queued behind us.
  perform pg_catalog.set_config('lock_timeout', '100ms', true);
  for v_try in 1..10 loop
    begin
      if v_roles is null then
        create policy "pgvigil reads operator members" on public.organization_members
          for select to monitoring_members using (true);
      else
        alter policy "pgvigil reads operator members" on public.organization_members to monitoring_members;
      end if;
      exit;
    exception when lock_not_available then
      if v_try = 10 then
        raise warning 'public.organization_members was locked: membership admits nobody until this migration is run again';
      end if;
      perform pg_catalog.pg_sleep(0.2);
    end;
  end loop;
  perform pg_catalog.set_config('lock_timeout', '5s', true);
exception when insufficient_privilege then
  raise warning 'pgvigil may not read public.organization_members: membership admits nobody'
    using hint = 'As the owner of that table: grant select on public.organization_members to monitoring_members; and a select policy for it.';
end
$members$;

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
