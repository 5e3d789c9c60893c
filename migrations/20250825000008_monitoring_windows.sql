-- pgvigil: the hours that matter, and whether the database is ready for them.

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

-- How far ahead the rules' windows and the calendar's are told.
create or replace function monitoring.window_horizon() returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select interval '60 days' $$;

-- What is open or to come. Dated windows are told however far ahead they are.
create or replace function monitoring.coming_windows() returns table (
  id uuid, source text, rule_id uuid, starts_at timestamptz, ends_at timestamptz, label text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query select * from monitoring.windows_between(now(), now() + monitoring.window_horizon());
  return query
    select w.id, 'dated', null::uuid, w.starts_at, w.ends_at, w.label
    from monitoring.critical_windows w
    where w.starts_at > now() + monitoring.window_horizon();
end
$$;

create or replace function monitoring.windows(p_limit int default null) returns table (
  id uuid, starts_at timestamptz, ends_at timestamptz, label text, is_open boolean, is_lead boolean, source text, rule_id uuid)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_lead interval;
begin
  perform monitoring.authorize('read');
  v_lead := make_interval(mins => (monitoring.setting('window_lead_minutes') #>> '{}')::int);
  return query
    select w.id, w.starts_at, w.ends_at, w.label, w.starts_at <= now(),
      w.starts_at > now() and w.starts_at - v_lead <= now(), w.source, w.rule_id
    from monitoring.coming_windows() w
    order by w.starts_at, w.ends_at, w.id
    limit monitoring.checked_limit(p_limit);
end
$$;
comment on function monitoring.windows(int) is
  'The critical windows that are open or to come, the next one first: dated ones, and of rules and the calendar those of the next 60 days.';

create or replace function monitoring.weekday_names() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select '{monday,tuesday,wednesday,thursday,friday,saturday,sunday}'::text[] $$;

create or replace function monitoring.rules() returns table (
  id uuid, label text, weekdays text[], starts text, ends text, time_zone text, valid_from date, valid_until date)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select r.id, r.label,
      array(select (monitoring.weekday_names())[d.day] from unnest(r.weekdays) as d (day) order by d.day),
      to_char(r.starts, 'HH24:MI'), to_char(r.ends, 'HH24:MI'), r.time_zone, r.valid_from, r.valid_until
    from monitoring.window_rules r
    order by r.label, r.created_at, r.id;
end
$$;
comment on function monitoring.rules() is 'The weekly rules of critical windows.';

create or replace function monitoring.add_window(p_starts_at timestamptz, p_ends_at timestamptz, p_label text) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_label text := btrim(p_label);
begin
  perform monitoring.authorize('configure');
  if v_label is null or length(v_label) not between 1 and 200 then
    raise exception 'label must have 1 to 200 characters' using errcode = 'invalid_parameter_value';
  end if;
  if p_starts_at is null or not isfinite(p_starts_at) then
    raise exception 'starts_at must be a time' using errcode = 'invalid_parameter_value';
  end if;
  if p_ends_at is null or p_ends_at <= p_starts_at or p_ends_at > p_starts_at + interval '744 hours' then
    raise exception 'ends_at must be after starts_at, by 31 days at most' using errcode = 'invalid_parameter_value';
  end if;
  if p_ends_at <= now() then
    raise exception 'ends_at must be in the future' using errcode = 'invalid_parameter_value';
  end if;
  insert into monitoring.critical_windows (starts_at, ends_at, label) values (p_starts_at, p_ends_at, v_label)
  on conflict (starts_at, ends_at, label) do nothing
  returning id into v_id;
  if v_id is null then
    select w.id into v_id from monitoring.critical_windows w
    where w.starts_at = p_starts_at and w.ends_at = p_ends_at and w.label = v_label;
  end if;
  return v_id;
end
$$;
comment on function monitoring.add_window(timestamptz, timestamptz, text) is
  'Adds a critical window and returns its id; the same one twice is one. Admin and owner; 42501 for others, 22023 for a bad argument.';

-- Times and dates are texts, so that a bad one is refused by its name. More rules than anybody has would cost every sample.
create or replace function monitoring.add_window_rule(
  p_label text, p_weekdays text[], p_starts text, p_ends text, p_time_zone text,
  p_valid_from text default null, p_valid_until text default null) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_label text := btrim(p_label);
  v_weekdays int[];
  v_day text;
  v_name text;
  v_date date;
  v_dates date[] := '{}';
begin
  perform monitoring.authorize('configure');
  if v_label is null or length(v_label) not between 1 and 200 then
    raise exception 'label must have 1 to 200 characters' using errcode = 'invalid_parameter_value';
  end if;
  if coalesce(cardinality(p_weekdays), 0) = 0 or exists (
    select from unnest(p_weekdays) as d (name) where lower(btrim(d.name) collate "C") = any (monitoring.weekday_names()) is not true)
  then
    raise exception 'weekdays must name days: %', array_to_string(monitoring.weekday_names(), ', ') using errcode = 'invalid_parameter_value';
  end if;
  v_weekdays := array(
    select distinct array_position(monitoring.weekday_names(), lower(btrim(d.name) collate "C")) as day from unnest(p_weekdays) as d (name) order by day);
  if p_starts is null or p_starts !~ '^([01][0-9]|2[0-3]):[0-5][0-9]$' then
    raise exception 'starts must be a local time like 10:00' using errcode = 'invalid_parameter_value';
  end if;
  if p_ends is null or p_ends !~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$' then
    raise exception 'ends must be a local time like 23:00, and 24:00 at most' using errcode = 'invalid_parameter_value';
  end if;
  if cardinality(v_weekdays) = 7 and p_starts = p_ends then
    raise exception 'ends must not be the time of starts on all days: what is always critical is no window' using errcode = 'invalid_parameter_value';
  end if;
  if not exists (select from pg_timezone_names z where z.name = p_time_zone) then
    raise exception 'time_zone must be the name of a time zone, like Europe/London' using errcode = 'invalid_parameter_value';
  end if;
  for v_name, v_day in select * from (values ('valid_from', p_valid_from), ('valid_until', p_valid_until)) as d (name, day) loop
    begin
      v_date := case when v_day ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then v_day::date end;
    exception when datetime_field_overflow or invalid_datetime_format then
      v_date := null;
    end;
    if v_date is null and v_day is not null then
      raise exception '% must be a day like 2025-06-07', v_name using errcode = 'invalid_parameter_value';
    end if;
    v_dates := v_dates || v_date;
  end loop;
  if v_dates[2] < v_dates[1] then
    raise exception 'valid_until must not be before valid_from' using errcode = 'invalid_parameter_value';
  end if;
  select r.id into v_id from monitoring.window_rules r
  where r.label = v_label and r.weekdays = v_weekdays and r.starts = p_starts::time and r.ends = p_ends::time
    and r.time_zone = p_time_zone and r.valid_from is not distinct from v_dates[1] and r.valid_until is not distinct from v_dates[2];
  if found then
    return v_id;
  end if;
  if (select count(*) from monitoring.window_rules) >= 100 then
    raise exception 'rule is one too many: there are 100' using errcode = 'invalid_parameter_value',
      hint = 'Remove rules that are over, or keep windows in a calendar view.';
  end if;
  insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone, valid_from, valid_until)
  values (v_label, v_weekdays, p_starts::time, p_ends::time, p_time_zone, v_dates[1], v_dates[2])
  on conflict do nothing
  returning id into v_id;
  if v_id is null then
    select r.id into v_id from monitoring.window_rules r
    where r.label = v_label and r.weekdays = v_weekdays and r.starts = p_starts::time and r.ends = p_ends::time
      and r.time_zone = p_time_zone and r.valid_from is not distinct from v_dates[1] and r.valid_until is not distinct from v_dates[2];
  end if;
  return v_id;
end
$$;
comment on function monitoring.add_window_rule(text, text[], text, text, text, text, text) is
  'Adds a weekly rule and returns its id; the same one twice is one. Admin and owner; 42501 for others, 22023 for a bad argument.';

create or replace function monitoring.remove_window(p_id uuid) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule_id uuid;
  v_source text;
begin
  perform monitoring.authorize('configure');
  delete from monitoring.critical_windows w where w.id = p_id;
  if found then
    return;
  end if;
  delete from monitoring.window_rules r where r.id = p_id;
  if found then
    return;
  end if;
  select w.source, w.rule_id into v_source, v_rule_id from monitoring.coming_windows() w where w.id = p_id;
  if v_source = 'rule' then
    raise exception 'id is of one window of the rule %: remove that', v_rule_id using errcode = 'invalid_parameter_value';
  elsif v_source = 'calendar' then
    raise exception 'id is of a window of the calendar: remove it there' using errcode = 'invalid_parameter_value';
  end if;
  raise exception 'there is no window %', p_id using errcode = 'no_data_found';
end
$$;
comment on function monitoring.remove_window(uuid) is
  'Removes a dated window or a weekly rule. Admin and owner; P0002 when there is none, 22023 for what a rule or the calendar says.';

-- The calendar view is the application's code, and whoever may change it, or a function in it, would run as whoever reads it:
-- a view lends its owner's rights to its tables only. So it is read as monitoring_calendar, which may nothing else, inside a
-- definer function, where SET ROLE is refused; read-only; and all that the reading did to the session (parameters, temporary
-- tables, deferred triggers) is undone before anybody else goes on. The time limit is the caller's statement timeout: it cannot
-- be changed from within a statement. Of an error only the SQLSTATE is kept, since its words can hold the rows' values.
create or replace function monitoring.read_calendar(p_view text) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- What a view warns of can hold values too, and pgvigil logs warnings.
set client_min_messages = error
as $$
declare
  v_relation regclass;
  v_read jsonb;
  v_problem text;
begin
  if current_user <> 'monitoring_calendar' then
    raise exception 'monitoring.read_calendar() belongs to %, and would run the calendar view as that role', current_user
      using errcode = 'object_not_in_prerequisite_state', hint = 'Run migration 20250825000008 again.';
  end if;
  begin
    perform set_config('transaction_read_only', 'on', true);
    v_relation := to_regclass(p_view);
    if v_relation is null then
      v_problem := 'there is no such view';
    elsif (
      select count(*) from pg_attribute a
      where a.attrelid = v_relation and not a.attisdropped and (
        a.attname in ('starts_at', 'ends_at') and a.atttypid = 'timestamptz'::regtype
        or a.attname = 'label' and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype))
    ) < 3 then
      v_problem := 'its columns must be starts_at timestamptz, ends_at timestamptz and label text';
    else
      execute format($read$
        select jsonb_build_object(
          'windows', coalesce(jsonb_agg(jsonb_build_object('starts_at', r.starts_at, 'ends_at', r.ends_at, 'label', r.label)
            order by r.starts_at, r.ends_at, r.label) filter (where r.flaw is null), '[]'),
          'flaws', coalesce(jsonb_agg(r.flaw) filter (where r.flaw is not null), '[]'),
          'rows', count(*))
        from (
          select v.starts_at, v.ends_at,
            coalesce(nullif(btrim(regexp_replace(left(v.label::text, 200), '[[:cntrl:]]+', ' ', 'g')), ''), 'without a label') as label,
            case
              when v.starts_at is null or v.ends_at is null then 'without a time'
              when not isfinite(v.starts_at) or not isfinite(v.ends_at) then 'infinite'
              when v.ends_at <= v.starts_at then 'ending before they start'
              when v.starts_at < now() - interval '744 hours' or v.ends_at > v.starts_at + interval '744 hours' then 'longer than 31 days'
            end as flaw
          from %s v
          where (greatest(v.starts_at, v.ends_at) > now()) is not false
            and (v.starts_at < now() + interval '60 days') is not false
          order by v.starts_at
          limit 2001
        ) r
        $read$, v_relation) into v_read;
    end if;
    raise exception using errcode = 'PV000', message = 'undone';
  exception
    when sqlstate 'PV000' then
      v_problem := coalesce(v_problem, case when v_read is null then 'it fails (SQLSTATE PV000)' end);
    when query_canceled then
      v_problem := 'it took longer than calendar_time_limit_ms';
    when insufficient_privilege then
      v_problem := format('monitoring_calendar may not read it, or something in it: grant select on %s to monitoring_calendar, and usage on its schema', p_view);
    when others or assert_failure then
      v_problem := format('it fails (SQLSTATE %s)', sqlstate);
  end;
  return case when v_problem is null then v_read else jsonb_build_object('problem', v_problem) end;
end
$$;
comment on function monitoring.read_calendar(text) is
  'What a calendar view says of the next 60 days, read with no rights but those of monitoring_calendar; or its problem. Changes nothing.';

-- What it said last stays in force where it cannot be read. Believed are a thousand windows of the next 60 days.
create or replace function monitoring.refresh_calendar() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_started_at timestamptz := clock_timestamp();
  v_view text;
  v_read jsonb;
  v_problem text;
  v_refused text;
  v_windows int;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return jsonb_build_object('status', 'skipped', 'reason', 'the server is a standby: nothing can be stored');
  end if;
  v_view := monitoring.setting('calendar_view') #>> '{}';
  if v_view is null then
    delete from monitoring.calendar_windows;
    delete from monitoring.calendar_status;
    return jsonb_build_object('status', 'skipped', 'reason', 'no calendar_view is set');
  end if;
  v_read := monitoring.read_calendar(v_view);
  v_problem := v_read ->> 'problem';
  if v_problem is null then
    select string_agg(format('%s %s', f.flaws, f.flaw), ', ' order by f.flaw) into v_refused
    from (select e.flaw, count(*) as flaws from jsonb_array_elements_text(v_read -> 'flaws') as e (flaw) group by e.flaw) f;
    v_windows := jsonb_array_length(v_read -> 'windows');
    if v_windows > 1000 or (v_read ->> 'rows')::int > 2000 then
      v_refused := concat_ws(', ', v_refused, 'all after the first 1000');
    end if;
  end if;
  insert into monitoring.calendar_status as s (view_name, tried_at, duration_ms, refreshed_at, windows, problem, refused)
  values (v_view, now(), round(extract(epoch from clock_timestamp() - v_started_at) * 1000, 1),
    case when v_problem is null then now() end, least(v_windows, 1000), v_problem, v_refused)
  on conflict (is_only) do update
    set view_name = excluded.view_name, tried_at = excluded.tried_at, duration_ms = excluded.duration_ms,
      refreshed_at = coalesce(excluded.refreshed_at, s.refreshed_at),
      windows = case when excluded.problem is null then excluded.windows else s.windows end,
      problem = excluded.problem,
      refused = case when excluded.problem is null then excluded.refused else s.refused end;
  if v_problem is null then
    with told as materialized (
      select distinct on (t.id) t.*
      from (
        select md5(format('calendar %s %s %s', extract(epoch from r.starts_at), extract(epoch from r.ends_at), r.label))::uuid as id,
          r.starts_at, r.ends_at, r.label
        from jsonb_to_recordset(v_read -> 'windows') as r (starts_at timestamptz, ends_at timestamptz, label text)
        order by r.starts_at, r.ends_at, r.label
        limit 1000
      ) t
    ), gone as (
      delete from monitoring.calendar_windows w where not exists (select from told t where t.id = w.id)
    )
    insert into monitoring.calendar_windows (id, starts_at, ends_at, label)
    select t.id, t.starts_at, t.ends_at, t.label from told t
    on conflict do nothing;
  end if;
  return jsonb_build_object('status', case when v_problem is null then 'done' else 'failed' end,
    'windows', v_windows, 'problem', v_problem, 'refused', v_refused);
end
$$;
comment on function monitoring.refresh_calendar() is
  'Reads the calendar view and keeps what it says. Service only; the statement timeout is the time that the view may take.';

-- A view can go on after it was told to stop. Another reading beside it would end with no connection left for anybody.
create or replace function monitoring.calendar_due() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_view text := monitoring.setting('calendar_view') #>> '{}';
  v_limit_ms int := (monitoring.setting('calendar_time_limit_ms') #>> '{}')::int;
  v_pid int;
  v_problem text;
begin
  if v_view is null then
    return (select v_limit_ms from monitoring.calendar_status); -- to forget what it said
  end if;
  if exists (
    select from monitoring.calendar_status s
    where s.view_name = v_view and s.tried_at > now() - interval '5 minutes' and s.tried_at < now() + interval '1 minute')
  then
    return null;
  end if;
  select a.pid into v_pid from pg_stat_activity a
  where a.datname = current_database() and a.pid <> pg_backend_pid() and a.usesysid = any (monitoring.own_logins())
    and a.state = 'active' and starts_with(a.query, 'select monitoring.refresh_calendar()')
    and a.query_start < clock_timestamp() - make_interval(secs => v_limit_ms / 1000.0 + 5)
  limit 1;
  if v_pid is null then
    return v_limit_ms;
  end if;
  v_problem := format('it does not end when it is told to: select pg_terminate_backend(%s)', v_pid);
  insert into monitoring.calendar_status as s (view_name, tried_at, problem) values (v_view, now(), v_problem)
  on conflict (is_only) do update set view_name = excluded.view_name, tried_at = excluded.tried_at, problem = excluded.problem;
  return null;
end
$$;

create or replace function monitoring.calendar() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return (
    select jsonb_build_object('view', v.name, 'tried_at', s.tried_at, 'duration_ms', s.duration_ms, 'refreshed_at', s.refreshed_at,
      'windows', coalesce(s.windows, 0), 'problem', s.problem, 'refused', s.refused)
    from (select monitoring.setting('calendar_view') #>> '{}' as name) v left join monitoring.calendar_status s on s.view_name = v.name
    where v.name is not null);
end
$$;
comment on function monitoring.calendar() is 'How reading the calendar view went; null where none is set.';

-- A source of windows that is silent looks like a quiet week.
create or replace function monitoring.window_problems() returns table (object text, evidence text, remedy text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_calendar jsonb := monitoring.calendar();
  v_rule record;
  v_told text;
begin
  if v_calendar is not null then
    v_told := case when v_calendar ->> 'refreshed_at' is null then 'it has told no windows yet'
      else format('what it said at %s stays in force', to_char((v_calendar ->> 'refreshed_at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) end;
    if v_calendar ->> 'problem' is not null then
      return query select v_calendar ->> 'view', format('the calendar view cannot be read: %s; %s', v_calendar ->> 'problem', v_told),
        -- Not by hand as a superuser, nor after SET ROLE: functions in it would run as who reads it.
        format('Its owner mends %s; then: select monitoring.refresh_calendar()', v_calendar ->> 'view');
    elsif coalesce((v_calendar ->> 'tried_at')::timestamptz < now() - interval '30 minutes', true) then
      return query select v_calendar ->> 'view', 'the calendar view has not been read lately: ' || v_told,
        'Look at the schedule that sends {"task":"sample"} and at the log of the function.'::text;
    end if;
    if v_calendar ->> 'refused' is not null then
      return query select v_calendar ->> 'view', format('not all rows of the calendar view are windows: %s', v_calendar ->> 'refused'),
        format('As its owner: select * from %s where starts_at is null or ends_at is null or ends_at <= starts_at or ends_at > starts_at + interval ''31 days''', v_calendar ->> 'view');
    end if;
  end if;
  for v_rule in select r.id, r.label, r.time_zone from monitoring.window_rules r loop
    begin
      perform now() at time zone v_rule.time_zone;
    exception when invalid_parameter_value then
      return query select v_rule.label, format('the server knows no time zone %s any more: the rule has no windows', v_rule.time_zone),
        format('update monitoring.window_rules set time_zone = ''...'' where id = ''%s''', v_rule.id);
    end;
  end loop;
end
$$;

-- Forecasts -----------------------------------------------------------------------------------------------------------

-- The history keeps no sequences. These are noted every hour, as the check that looks at them remembers them.
create table if not exists monitoring.sequence_positions (
  object  text not null,
  at      timestamptz not null,
  percent numeric not null,
  primary key (object, at)
);
comment on table monitoring.sequence_positions is 'How much of each sequence that nears its end was used up, by the hour, for forecasts.';

create or replace function monitoring.note_sequences() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from monitoring.sequence_positions p where p.at > now() - interval '1 hour') then
    return;
  end if;
  insert into monitoring.sequence_positions (object, at, percent)
  select c.object, now(), c.value
  from monitoring.remembered_checks r cross join unnest(r.candidates) c
  where r.check_id = 'sequence-exhaustion' and r.checked_at > now() - interval '1 hour' and c.value is not null
  order by c.value desc
  limit 20
  on conflict do nothing;
  delete from monitoring.sequence_positions p where p.at < now() - interval '30 days';
end
$$;

-- A line through the medians (Theil and Sen): the slope is the median of the slopes between all pairs of points, which a peak, a gap
-- or a night hardly move. problem says why there is no forecast; a slope within the noise is none.
create or replace function monitoring.extrapolate(p_times timestamptz[], p_values float8[], p_bound float8, p_until timestamptz,
  out value_now float8, out value_then float8, out crosses_at timestamptz, out per_hour float8, out problem text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_points int := coalesce(cardinality(p_values), 0);
  v_step int := ceil(greatest(v_points, 1) / 200.0);
  v_ahead float8 := extract(epoch from p_until - now()) / 3600;
  v_hours float8[];
  v_values float8[];
  v_span float8;
  v_noise float8;
  v_off float8;
begin
  if v_points < 24 then
    problem := format('%s hours of history are too few: a day is wanted', v_points);
    return;
  end if;
  -- The last point, and from there backwards.
  select array_agg(extract(epoch from t.at - now()) / 3600 order by t.at), array_agg(t.value order by t.at) into v_hours, v_values
  from unnest(p_times, p_values) with ordinality as t (at, value, place)
  where (v_points - t.place) % v_step = 0;
  v_span := v_hours[cardinality(v_hours)] - v_hours[1];
  if v_hours[cardinality(v_hours)] < -3 then
    problem := format('the history ends %s hours ago', round(-v_hours[cardinality(v_hours)]));
    return;
  end if;
  if v_span < v_ahead / 2 then
    problem := format('%s hours of history say nothing of %s hours ahead', round(v_span), round(v_ahead));
    return;
  end if;
  select percentile_cont(0.5) within group (order by (b.value - a.value) / (b.hour - a.hour)) into per_hour
  from unnest(v_hours, v_values) as a (hour, value) join unnest(v_hours, v_values) as b (hour, value) on b.hour > a.hour;
  select percentile_cont(0.5) within group (order by t.value - per_hour * t.hour) into value_now
  from unnest(v_hours, v_values) as t (hour, value);
  -- As much as a standard deviation where the noise is normal.
  select 1.4826 * percentile_cont(0.5) within group (order by abs(t.value - value_now - per_hour * t.hour)) into v_noise
  from unnest(v_hours, v_values) as t (hour, value);
  if abs(per_hour) * v_span < 2 * v_noise then
    per_hour := 0;
    select percentile_cont(0.5) within group (order by t.value) into value_now from unnest(v_values) as t (value);
  end if;
  select percentile_cont(0.5) within group (order by l.off) into v_off
  from (
    select t.value - value_now - per_hour * t.hour as off from unnest(v_hours, v_values) as t (hour, value) order by t.hour desc limit 3
  ) l;
  if abs(v_off) > greatest(3 * v_noise, abs(p_bound - value_now) / 10) then
    problem := 'it has left the course of its history';
    value_now := value_now + v_off;
    per_hour := null;
    return;
  end if;
  if value_now < p_bound and 2 * v_noise > p_bound - value_now then
    problem := 'it moves too much to tell';
    per_hour := null;
    return;
  end if;
  value_then := greatest(0, value_now + per_hour * greatest(v_ahead, 0));
  crosses_at := case
    when value_now >= p_bound then now()
    when value_then >= p_bound then now() + make_interval(secs => (p_bound - value_now) / per_hour * 3600)
  end;
end
$$;
comment on function monitoring.extrapolate(timestamptz[], float8[], float8, timestamptz) is
  'Where a series of hours leads to, by a robust slope, and when it reaches the bound; or why that cannot be told.';

-- What falls when somebody vacuums is followed from its last fall on.
create or replace function monitoring.forecasts(p_until timestamptz) returns table (
  subject text, object text, value_now numeric, value_then numeric, bound numeric, crosses_at timestamptz, evidence text, remedy text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' -- where hours begin
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  if p_until is null or not isfinite(p_until) then
    raise exception 'p_until must be a time' using errcode = 'invalid_parameter_value';
  end if;
  return query
    with points as (
      select v.subject, v.object, h.at, v.value
      from monitoring.samples_hourly h cross join lateral (values
        ('connections', 'server', h.connection_utilization_percent::float8),
        ('database-size', current_database()::text, h.database_size_bytes::float8),
        ('transaction-id-age', current_database()::text, h.xid_age::float8)) as v (subject, object, value)
      where h.at > now() - interval '14 days' and v.value is not null
      union all
      select 'sequences', p.object, date_trunc('hour', p.at), max(p.percent)::float8
      from monitoring.sequence_positions p
      where p.at > now() - interval '14 days'
      group by p.object, 3
      union all
      select 'dead-tuples', min(u.name), date_trunc('hour', t.tick_at), max(100.0 * u.dead / (u.live + u.dead))::float8
      from monitoring.table_samples t
        cross join lateral unnest(t.table_oids, t.tables, t.live_tuples, t.dead_tuples) as u (oid, name, live, dead)
      where t.tick_at > now() - interval '3 days' and u.live + u.dead >= 10000
      group by u.oid, 3
    ), falls as (
      select p.*, p.value < 0.9 * lag(p.value) over (partition by p.subject, p.object order by p.at) as is_fall
      from points p
    ), stretches as (
      select f.*, count(*) filter (where f.is_fall and f.subject in ('transaction-id-age', 'dead-tuples'))
        over (partition by f.subject, f.object order by f.at desc rows between unbounded preceding and 1 preceding) as falls_after
      from falls f
    ), series as (
      select s.subject, s.object, array_agg(s.at order by s.at) as times, array_agg(s.value order by s.at) as series_values,
        (array_agg(s.value order by s.at desc))[1] as latest
      from stretches s
      where s.falls_after = 0
      group by s.subject, s.object
    ), wanted as (
      select k.subject, k.unit, coalesce(t.critical, k.bound) as bound, k.remedy, k.unbound
      from (values
        ('connections', 'connection-utilization', 90, 'percent', 'Close idle connections or put a pooler in front, before the window.', null),
        ('database-size', null, (monitoring.setting('database_size_limit_bytes') #>> '{}')::numeric, 'bytes',
          'Make room before the window: a larger disk, or less data.', 'no limit is known: setting database_size_limit_bytes'),
        ('transaction-id-age', 'transaction-id-age', 1200000000, 'transactions', 'VACUUM (FREEZE) the oldest tables before the window.', null),
        ('sequences', 'sequence-exhaustion', 90, 'percent', 'Widen the sequence, and the column behind it, before the window.', null),
        ('dead-tuples', 'dead-tuples', 50, 'percent', 'VACUUM the table before the window; then see why autovacuum did not.', null)
      ) as k (subject, check_id, bound, unit, remedy, unbound) left join monitoring.thresholds t on t.check_id = k.check_id
    ), chosen as (
      -- The worst ten of a subject; a subject without any history is told as well.
      select w.*, coalesce(s.object, 'any') as object, s.times, s.series_values,
        row_number() over (partition by w.subject order by s.latest desc, s.object) as place
      from wanted w left join series s on s.subject = w.subject
    ), told as (
      select c.*, e.*, coalesce(case when c.bound is null then c.unbound end, e.problem) as no_forecast,
        case when c.bound >= 1000 then 0 else 2 end as digits
      from chosen c cross join lateral monitoring.extrapolate(c.times, c.series_values, c.bound::float8, p_until) e
      where c.place <= 10
    )
    select t.subject, t.object, round(t.value_now::numeric, t.digits), case when t.no_forecast is null then round(t.value_then::numeric, t.digits) end, t.bound,
      case when t.no_forecast is null then t.crosses_at end,
      case when t.no_forecast is not null then 'no forecast: ' || t.no_forecast
        else format('%s %s now, %s: %s', round(t.value_now::numeric, t.digits), t.unit,
          case when t.per_hour = 0 then 'no trend' else case when t.per_hour > 0 then '+' else '' end || round(t.per_hour::numeric, t.digits) || ' an hour' end,
          case when t.crosses_at is null then format('%s then, of %s', round(t.value_then::numeric, t.digits), t.bound)
            else format('%s at %s', t.bound, to_char(t.crosses_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) end) end,
      t.remedy
    from told t
    order by t.crosses_at, t.subject, t.place;
end
$$;
comment on function monitoring.forecasts(timestamptz) is
  'What will have crossed its limit by a time (connections, database size, transaction ids, sequences, dead tuples), or why there is no forecast.';

-- At risk is what has a critical finding, will have one before p_until, or is watched by nobody: a monitor that has stopped would
-- not warn.
create or replace function monitoring.judge_readiness(p_seen jsonb, p_window jsonb, p_until timestamptz) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last_sample_at timestamptz := (p_seen #>> '{metrics,last_sample_at}')::timestamptz;
  v_interval interval := make_interval(secs => (monitoring.setting('sample_interval_seconds') #>> '{}')::int);
  v_is_unwatched boolean := coalesce(v_last_sample_at < clock_timestamp() - 3 * v_interval, true);
  v_forecasts jsonb;
  v_problems text[];
  v_reasons jsonb;
begin
  begin
    select coalesce(jsonb_agg(to_jsonb(f) order by f.crosses_at, f.subject), '[]') into v_forecasts from monitoring.forecasts(p_until) f;
  exception when others then
    v_forecasts := '[]';
    v_problems := array[format('there are no forecasts: they ended with SQLSTATE %s', sqlstate)];
  end;
  select coalesce(jsonb_agg(jsonb_build_object('check_id', r.check_id, 'severity', r.severity, 'object', r.object,
      'evidence', r.evidence, 'remedy', r.remedy) order by r.severity, r.place), '[]'), -- critical before warning
    v_problems || array_agg(r.evidence order by r.place) filter (where r.check_id = 'critical-windows')
    into v_reasons, v_problems
  from (
    select f.value ->> 'check_id' as check_id, f.value ->> 'severity' as severity, f.value ->> 'object' as object,
      f.value ->> 'detail' as evidence, f.value ->> 'remediation' as remedy, f.place
    from jsonb_array_elements(p_seen -> 'findings') with ordinality f (value, place)
    where f.place <= 50 and not (v_is_unwatched and f.value ->> 'check_id' = 'sampler-gap') -- told below, and never less than critical
    union all
    select 'sampler-gap', 'critical', 'sampler',
      coalesce('the last sample was taken at ' || to_char(v_last_sample_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'no sample could be found'),
      'Look at the schedule that sends {"task":"sample"} and at the log of the function.', 0
    where v_is_unwatched
    union all
    select 'forecast', 'critical', format('%s: %s', f.value ->> 'subject', f.value ->> 'object'), f.value ->> 'evidence', f.value ->> 'remedy',
      500 + f.place
    from jsonb_array_elements(v_forecasts) with ordinality f (value, place)
    where (f.value ->> 'crosses_at')::timestamptz <= p_until
    union all
    select 'critical-windows', 'warning', p.object, p.evidence, p.remedy, 1000 + p.place
    from monitoring.window_problems() with ordinality p (object, evidence, remedy, place)
  ) r;
  return jsonb_build_object(
    'verdict', case when v_reasons @> '[{"severity": "critical"}]' then 'at_risk' else 'go' end,
    'window', p_window,
    'reasons', v_reasons,
    'forecasts', v_forecasts,
    'degraded', (p_seen -> 'degraded') || to_jsonb(coalesce(v_problems, '{}')));
end
$$;

create or replace function monitoring.readiness(p_window_id uuid default null) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set jit = off
as $$
declare
  v_seen jsonb := monitoring.assess(); -- asks whether the caller may read
  v_window jsonb;
begin
  if p_window_id is null then
    select to_jsonb(w) into v_window from monitoring.windows(1) w;
  else
    select to_jsonb(w) into v_window from monitoring.windows() w where w.id = p_window_id;
    if v_window is null then
      select jsonb_build_object('id', w.id, 'starts_at', w.starts_at, 'ends_at', w.ends_at, 'label', w.label,
          'is_open', false, 'is_lead', false, 'source', 'dated', 'rule_id', null) into v_window
      from monitoring.critical_windows w where w.id = p_window_id;
    end if;
    if v_window is null then
      raise exception 'there is no window %', p_window_id using errcode = 'no_data_found';
    end if;
  end if;
  return monitoring.judge_readiness(v_seen, v_window,
    greatest(coalesce((v_window ->> 'ends_at')::timestamptz, now() + interval '1 day'), now()));
end
$$;
comment on function monitoring.readiness(uuid) is
  'go or at_risk, and why, for a critical window: the one named, else the open or the next one (null: none is known). P0002 when there is none of that id.';

create table if not exists monitoring.readiness_reports (
  window_id   uuid not null,
  notice      text not null check (notice in ('day', 'hour')),
  reported_at timestamptz not null default pg_catalog.now(),
  starts_at   timestamptz not null,
  ends_at     timestamptz not null,
  label       text not null,
  verdict     text not null check (verdict in ('go', 'at_risk')),
  reasons     jsonb not null,
  primary key (window_id, notice)
);
comment on table monitoring.readiness_reports is 'What was reported a day and an hour before each critical window.';

create or replace function monitoring.readiness_history() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return (
    select coalesce(jsonb_agg(to_jsonb(r) order by r.reported_at desc, r.starts_at, r.window_id), '[]')
    from (select * from monitoring.readiness_reports order by reported_at desc, starts_at, window_id limit 50) r);
end
$$;
comment on function monitoring.readiness_history() is 'The last 50 reports of readiness, the latest first.';

-- That a window is at risk is one event, however many windows it is about and however often it is said.
create or replace function monitoring.risk_event() returns table (id uuid, severity text, last_seen_at timestamptz, windows jsonb, until timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select e.id, e.severity, e.last_seen_at, coalesce(e.event_data -> 'windows', '[]'), (e.event_data ->> 'until')::timestamptz
    from public.monitoring_events e
    where e.fingerprint = md5('window-at-risk') and e.resolved_at is null;
end
$$;

-- A day and an hour before each window: the report is kept, and at risk is an event. The windows that are due together are
-- judged by one look. An open event is judged anew every five minutes, and ends when it is go again; or when its windows are over.
create or replace function monitoring.report_readiness() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set jit = off
as $$
#variable_conflict use_column
declare
  v_due jsonb;
  v_readiness jsonb;
  v_open record;
  v_windows jsonb;
  v_until timestamptz;
  v_data jsonb;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return jsonb_build_object('status', 'skipped', 'reason', 'the server is a standby: nothing can be stored');
  end if;
  select coalesce(jsonb_agg(to_jsonb(d) order by d.starts_at, d.ends_at, d.id), '[]') into v_due from monitoring.due_reports() d;
  select * into v_open from monitoring.risk_event();
  if v_due = '[]' and v_open.id is null then
    return jsonb_build_object('status', 'skipped', 'reason', 'no report is due');
  end if;
  select coalesce(jsonb_agg(w.value order by (w.value ->> 'starts_at')::timestamptz, w.value ->> 'id'), '[]'), max((w.value ->> 'ends_at')::timestamptz)
    into v_windows, v_until
  from jsonb_array_elements(v_due || coalesce((
    select jsonb_agg(k) from jsonb_array_elements(v_open.windows) k
    where (k ->> 'ends_at')::timestamptz > now() and not exists (select from jsonb_array_elements(v_due) d where d ->> 'id' = k ->> 'id')), '[]')) w;
  v_until := greatest(v_until, v_open.until, now());
  v_readiness := monitoring.judge_readiness(monitoring.assess(), null, v_until);
  delete from monitoring.readiness_reports r where r.ends_at < now() - interval '30 days';
  insert into monitoring.readiness_reports (window_id, notice, starts_at, ends_at, label, verdict, reasons)
  select d.id, d.notice, d.starts_at, d.ends_at, d.label, v_readiness ->> 'verdict', v_readiness -> 'reasons'
  from jsonb_to_recordset(v_due) as d (id uuid, notice text, starts_at timestamptz, ends_at timestamptz, label text)
  on conflict do nothing;
  if v_readiness ->> 'verdict' = 'at_risk' then
    v_data := jsonb_build_object('readiness', 'at_risk', 'windows', jsonb_path_query_array(v_windows, '$[0 to 9]'),
      'windows_due', jsonb_array_length(v_windows), 'until', v_until, 'reasons', jsonb_path_query_array(v_readiness, '$.reasons[0 to 4]'));
    if v_open.id is null then
      insert into public.monitoring_events (event_type, event_data, severity, fingerprint)
      values ('performance_alert', v_data, case when v_due @> '[{"notice": "hour"}]' then 'critical' else 'high' end, md5('window-at-risk'))
      on conflict do nothing;
    else
      update public.monitoring_events e
      set event_data = v_data, last_seen_at = now(), occurrences = e.occurrences + 1,
        severity = case when v_due @> '[{"notice": "hour"}]' then 'critical' else e.severity end
      where e.id = v_open.id and e.resolved_at is null;
    end if;
  elsif v_open.id is not null then
    update public.monitoring_events e set resolved_at = now(), resolution_notes = 'by itself: readiness is go again'
    where e.id = v_open.id and e.resolved_at is null;
  end if;
  return jsonb_build_object('status', 'done', 'verdict', v_readiness -> 'verdict', 'windows', jsonb_array_length(v_due));
end
$$;
comment on function monitoring.report_readiness() is
  'Reports once a day and once an hour before each critical window whether the database is ready; at risk is an event, which ends when it is go again. Service only.';

-- Which windows are due for which report.
create or replace function monitoring.due_reports() returns table (
  id uuid, notice text, starts_at timestamptz, ends_at timestamptz, label text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select w.*
    from (
      select b.id, case when b.starts_at <= now() + interval '1 hour' then 'hour' else 'day' end as notice, b.starts_at, b.ends_at, b.label
      from monitoring.windows_between(now(), now() + interval '1 day') b
      where b.starts_at > now()
      order by b.starts_at, b.ends_at, b.id
      limit 100
    ) w
    where not exists (select from monitoring.readiness_reports r where r.window_id = w.id and r.notice = w.notice);
end
$$;

-- Asked in one statement with the sample, which must not fail by it.
create or replace function monitoring.windows_due() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return null;
  end if;
  begin
    perform monitoring.note_sequences();
  exception when others then
    raise warning 'pgvigil could not note the sequences: % (SQLSTATE %)', sqlerrm, sqlstate;
  end;
  begin
    update public.monitoring_events e set resolved_at = now(), resolution_notes = 'by itself: the window is over'
    where e.id = (select r.id from monitoring.risk_event() r where r.until <= now()) and e.resolved_at is null;
    return jsonb_build_object(
      'calendar_time_limit_ms', monitoring.calendar_due(),
      'report', exists (select from monitoring.due_reports())
        or exists (select from monitoring.risk_event() r where r.last_seen_at not between now() - interval '5 minutes' and now()));
  exception when others then
    raise warning 'pgvigil could not see to the critical windows: % (SQLSTATE %)', sqlerrm, sqlstate;
    return null;
  end;
end
$$;
comment on function monitoring.windows_due() is
  'What is to be done for the critical windows after a sample: refresh_calendar() within so many milliseconds, report_readiness(). Service only.';

-- monitoring_calendar may make nothing here: CREATE is lent to it for the moment in which the function becomes its own.
do $give$
begin
  if (select p.proowner <> 'monitoring_calendar'::regrole from pg_catalog.pg_proc p where p.oid = 'monitoring.read_calendar(text)'::regprocedure) then
    grant create on schema monitoring to monitoring_calendar;
    alter function monitoring.read_calendar(text) owner to monitoring_calendar;
    revoke create on schema monitoring from monitoring_calendar;
  end if;
end
$give$;

do $private$ begin perform monitoring.make_private(
  'table monitoring.readiness_reports',
  'function monitoring.window_horizon()',
  'function monitoring.coming_windows()',
  'function monitoring.windows(int)',
  'function monitoring.weekday_names()',
  'function monitoring.rules()',
  'function monitoring.add_window(timestamptz, timestamptz, text)',
  'function monitoring.add_window_rule(text, text[], text, text, text, text, text)',
  'function monitoring.remove_window(uuid)',
  'function monitoring.read_calendar(text)',
  'function monitoring.refresh_calendar()',
  'function monitoring.calendar_due()',
  'function monitoring.calendar()',
  'function monitoring.window_problems()',
  'table monitoring.sequence_positions',
  'function monitoring.note_sequences()',
  'function monitoring.extrapolate(timestamptz[], float8[], float8, timestamptz)',
  'function monitoring.forecasts(timestamptz)',
  'function monitoring.judge_readiness(jsonb, jsonb, timestamptz)',
  'function monitoring.readiness(uuid)',
  'function monitoring.readiness_history()',
  'function monitoring.risk_event()',
  'function monitoring.report_readiness()',
  'function monitoring.due_reports()',
  'function monitoring.windows_due()'); end $private$;
grant execute on function monitoring.windows(int), monitoring.rules(), monitoring.calendar(),
  monitoring.add_window(timestamptz, timestamptz, text), monitoring.add_window_rule(text, text[], text, text, text, text, text),
  monitoring.remove_window(uuid), monitoring.readiness(uuid), monitoring.readiness_history(), monitoring.forecasts(timestamptz) to monitoring_reader, monitoring_agent;
grant execute on function monitoring.windows_due(), monitoring.refresh_calendar(), monitoring.report_readiness() to monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000008', 'monitoring_windows', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
