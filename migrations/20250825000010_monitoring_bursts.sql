-- pgvigil: what follows a sample: the next one in a critical window, and what is to be announced.

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

-- A time as part of a key: the same whatever the session's time zone is.
create or replace function monitoring.utc_text(p_at timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') $$;

-- Ticks of the sampler. A window that cannot be told must not cost the sample.
create or replace function monitoring.sample_interval_seconds() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_usual bigint := (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint;
  v_in_window boolean;
begin
  begin
    v_in_window := monitoring.is_critical_time();
  exception when others then
    raise warning 'pgvigil could not tell whether this is a critical window: % (SQLSTATE %)', sqlerrm, sqlstate;
  end;
  if v_in_window then
    return least(v_usual, (monitoring.setting('window_sample_interval_seconds') #>> '{}')::bigint);
  end if;
  return v_usual;
end
$$;
comment on function monitoring.sample_interval_seconds() is
  'Seconds between two ticks of the sampler: a setting, and another one in a critical window and its lead time.';

-- Schedules go by the minute at best, so in a window one invocation takes several samples, until the next invocation's own tick:
-- that of its schedule, which is one usual interval later. Where no tick is left until then: null; and to a sample that somebody
-- took by hand, which no next invocation follows.
create or replace function monitoring.next_sample(p_scheduled_at timestamptz, p_until timestamptz) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_usual bigint := (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint;
  v_interval bigint := monitoring.sample_interval_seconds();
  v_next timestamptz;
  v_until timestamptz;
begin
  if v_interval >= v_usual or p_scheduled_at is null then
    return null;
  end if;
  v_next := to_timestamp((floor(extract(epoch from v_now) / v_interval) + 1) * v_interval);
  v_until := coalesce(p_until, to_timestamp(
    floor((extract(epoch from least(p_scheduled_at, v_now)) + v_usual) / v_interval) * v_interval));
  if v_next >= v_until then
    return null;
  end if;
  return jsonb_build_object('tick_at', v_next, 'in_ms', ceil(1000 * extract(epoch from v_next - v_now))::bigint, 'until', v_until);
end
$$;

-- That a database is away cannot be told to it; that it is back again can, and so it is told like all else. Whoever took this
-- sample has announced the outage, or remembers nothing and finds the gap.
create or replace function monitoring.note_return(p_tick_at timestamptz, p_target text, p_outage text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_previous timestamptz;
  v_usual interval := make_interval(secs => (monitoring.setting('sample_interval_seconds') #>> '{}')::int);
  v_outage text;
  v_noted int;
begin
  select s.tick_at into v_previous from monitoring.samples s where s.tick_at < p_tick_at order by s.tick_at desc limit 1;
  if p_outage is null and (v_previous is null or v_previous > p_tick_at - 3 * v_usual) then
    return false;
  end if;
  v_outage := coalesce(p_outage, format('%s since %s', p_target, monitoring.utc_text(v_previous)));
  insert into monitoring.outbox (detail_type, dedup_key, detail)
  values ('pgvigil.database.reachable.v1', 'reachable: ' || v_outage,
    jsonb_build_object('outage', v_outage, 'database', current_database(), 'last_sample_at', v_previous, 'sampled_at', p_tick_at,
      'unseen_seconds', extract(epoch from p_tick_at - v_previous)::bigint, 'was_announced', p_outage is not null))
  on conflict (dedup_key) do nothing;
  get diagnostics v_noted = row_count;
  return v_noted > 0;
end
$$;

-- What is still to be announced, as far as it matters; what was given up is not. Volatile, to see what the same statement has marked.
create or replace function monitoring.outbox_left() returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('operate');
  return (select count(*) from (select from monitoring.outbox o where o.published_at is null and o.given_up_at is null limit 1000) o);
end
$$;
comment on function monitoring.outbox_left() is 'How much is still to be announced, 1000 at most. Service only.';

-- Asked in one statement with the sample, which must not fail by it.
create or replace function monitoring.after_sample(p_tick_at timestamptz, p_scheduled_at timestamptz, p_until timestamptz, p_target text, p_outage text)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_next jsonb;
  v_is_back boolean;
  v_left bigint;
  v_is_any_due boolean := false;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return null;
  end if;
  begin
    v_next := monitoring.next_sample(p_scheduled_at, p_until);
  exception when others then
    raise warning 'pgvigil could not tell when to sample again: % (SQLSTATE %)', sqlerrm, sqlstate;
  end;
  begin
    v_is_back := monitoring.note_return(p_tick_at, p_target, p_outage);
  exception when others then
    raise warning 'pgvigil could not note that the database is back: % (SQLSTATE %)', sqlerrm, sqlstate;
  end;
  begin
    v_left := monitoring.outbox_left();
    v_is_any_due := exists (
      select from monitoring.outbox o
      where o.published_at is null and o.given_up_at is null and (o.leased_until is null or o.leased_until <= clock_timestamp()));
  exception when others then
    raise warning 'pgvigil could not tell what is to be announced: % (SQLSTATE %)', sqlerrm, sqlstate;
  end;
  return jsonb_build_object('tick_at', monitoring.utc_text(p_tick_at), 'next', v_next, 'is_return_noted', v_is_back is not null,
    'left', v_left, 'is_any_due', v_is_any_due);
end
$$;
comment on function monitoring.after_sample(timestamptz, timestamptz, timestamptz, text, text) is
  'What follows a sample: when the next one is due in a critical window, and whether there is anything to announce. Notes that the database is back. Service only.';

-- Readiness, go as well as at risk: whoever waits for it hears that it was looked at.
create or replace function monitoring.announce_readiness() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into monitoring.outbox (detail_type, dedup_key, detail)
  values ('pgvigil.readiness.v1',
    format('readiness: %s %s %s', new.window_id, new.notice, monitoring.utc_text(new.starts_at)),
    jsonb_build_object('database', current_database(), 'notice', new.notice, 'verdict', new.verdict, 'reported_at', new.reported_at,
      'window', jsonb_build_object('id', new.window_id, 'label', new.label, 'starts_at', new.starts_at, 'ends_at', new.ends_at),
      'reasons', new.reasons))
  on conflict (dedup_key) do nothing;
  return null;
end
$$;
create or replace trigger readiness_reports_announce after insert on monitoring.readiness_reports
  for each row execute function monitoring.announce_readiness();

do $private$ begin perform monitoring.make_private(
  'function monitoring.utc_text(timestamptz)',
  'function monitoring.sample_interval_seconds()',
  'function monitoring.next_sample(timestamptz, timestamptz)',
  'function monitoring.note_return(timestamptz, text, text)',
  'function monitoring.outbox_left()',
  'function monitoring.after_sample(timestamptz, timestamptz, timestamptz, text, text)',
  'function monitoring.announce_readiness()'); end $private$;
grant execute on function monitoring.outbox_left(), monitoring.after_sample(timestamptz, timestamptz, timestamptz, text, text)
  to monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000010', 'monitoring_bursts', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
