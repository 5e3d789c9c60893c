-- pgvigil: the hours that matter, and whether the database is ready for them.

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

create or replace function monitoring.windows(p_limit int default null) returns table (
  id uuid, starts_at timestamptz, ends_at timestamptz, label text, is_open boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select w.id, w.starts_at, w.ends_at, w.label, w.starts_at <= now()
    from monitoring.critical_windows w
    where w.ends_at > now()
    order by w.starts_at, w.ends_at, w.id
    limit p_limit;
end
$$;
comment on function monitoring.windows(int) is 'The critical windows that are open or to come, the next one first.';

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
  if p_ends_at is null or p_ends_at <= p_starts_at or p_ends_at > p_starts_at + interval '31 days' then
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

create or replace function monitoring.remove_window(p_id uuid) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('configure');
  delete from monitoring.critical_windows w where w.id = p_id;
  if not found then
    raise exception 'there is no window %', p_id using errcode = 'no_data_found';
  end if;
end
$$;
comment on function monitoring.remove_window(uuid) is 'Removes a critical window. Admin and owner; P0002 when there is none.';

-- At risk is what has a critical finding, or is watched by nobody: a monitor that has stopped would not warn.
create or replace function monitoring.readiness(p_window_id uuid default null) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_seen jsonb := monitoring.assess(); -- asks whether the caller may read
  v_last_sample_at timestamptz := (v_seen #>> '{metrics,last_sample_at}')::timestamptz;
  v_interval interval := make_interval(secs => (monitoring.setting('sample_interval_seconds') #>> '{}')::int);
  v_window jsonb;
  v_reasons jsonb;
begin
  select to_jsonb(w) - 'created_at' || jsonb_build_object('is_open', w.starts_at <= now()) into v_window
  from monitoring.critical_windows w
  where case when p_window_id is null then w.ends_at > now() else w.id = p_window_id end
  order by w.starts_at, w.ends_at, w.id
  limit 1;
  if v_window is null and p_window_id is not null then
    raise exception 'there is no window %', p_window_id using errcode = 'no_data_found';
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('check_id', r.check_id, 'severity', r.severity, 'object', r.object,
      'evidence', r.evidence, 'remedy', r.remedy) order by r.severity, r.place), '[]') -- critical before warning
    into v_reasons
  from (
    select f.value ->> 'check_id' as check_id, f.value ->> 'severity' as severity, f.value ->> 'object' as object,
      f.value ->> 'detail' as evidence, f.value ->> 'remediation' as remedy, f.place
    from jsonb_array_elements(v_seen -> 'findings') with ordinality f (value, place)
    where f.place <= 50
    union all
    select 'sampler-gap', 'critical', 'sampler',
      coalesce(format('the last sample was taken at %s', to_char(v_last_sample_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
        'no sample was taken in the last day'),
      'Look at the schedule that sends {"task":"sample"} and at the log of the function.', 0
    where v_last_sample_at is null or v_last_sample_at < clock_timestamp() - 3 * v_interval
  ) r;
  return jsonb_build_object(
    'verdict', case when v_reasons @> '[{"severity": "critical"}]' then 'at_risk' else 'go' end,
    'window', v_window,
    'reasons', v_reasons,
    'degraded', v_seen -> 'degraded');
end
$$;
comment on function monitoring.readiness(uuid) is
  'go or at_risk, and why, for a critical window: the one named, else the open or the next one (null: none is known). P0002 when there is none of that id.';

do $private$ begin perform monitoring.make_private(
  'function monitoring.windows(int)',
  'function monitoring.add_window(timestamptz, timestamptz, text)',
  'function monitoring.remove_window(uuid)',
  'function monitoring.readiness(uuid)'); end $private$;
grant execute on function monitoring.windows(int), monitoring.add_window(timestamptz, timestamptz, text), monitoring.remove_window(uuid),
  monitoring.readiness(uuid) to monitoring_reader, monitoring_agent;

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
