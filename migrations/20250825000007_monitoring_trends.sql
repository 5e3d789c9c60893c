-- pgvigil: how it has been: what the counters moved by, hours and days summed up, trends.

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

-- Each sample with what its counters moved by since the one before. Two samples are compared only where the same server counted
-- from the same moment on: after a reset, a crash or a failover there is nothing between them, and never less than nothing.
create or replace function monitoring.activity(p_from timestamptz, p_to timestamptz) returns setof monitoring.samples_hourly
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_first_sampled_at timestamptz;
  v_last_sampled_at timestamptz;
  -- How late a sample can be: monitoring.sample() names it after a tick that is older by an hour at most, and cuts that to the interval.
  v_reach interval := interval '1 hour' + (monitoring.setting('sample_interval_seconds') #>> '{}')::int * interval '1 second';
  v_from timestamptz;
begin
  select min(s.sampled_at), max(s.sampled_at) into v_first_sampled_at, v_last_sampled_at
  from monitoring.samples s where s.tick_at between p_from and p_to;
  v_from := coalesce((
    select max(s.tick_at) from monitoring.samples s
    where s.tick_at < p_from and s.tick_at >= p_from - interval '1 day' and s.sampled_at < v_first_sampled_at), p_from);
  -- Where one was taken late, the one before the first may be of an earlier tick than others before p_from, of which some come after the
  -- first. And the one before the last may be of a tick after p_to.
  if exists (
    select from (
      select s.sampled_at, lag(s.sampled_at) over (order by s.tick_at) as before
      from monitoring.samples s where s.tick_at >= v_from - v_reach and s.tick_at < p_from) s
    where s.sampled_at < s.before or s.sampled_at >= v_first_sampled_at)
  then
    v_from := v_from - v_reach;
  end if;
  return query
    with ordered as (
      select s.*, lag(s.sampled_at) over by_tick as sampled_before,
        s.timeline is not distinct from lag(s.timeline) over by_tick
          and s.database_identity is not distinct from lag(s.database_identity) over by_tick
          and s.counted_since is not distinct from lag(s.counted_since) over by_tick
          and s.wal_counted_since is not distinct from lag(s.wal_counted_since) over by_tick
          and s.checkpoints_counted_since is not distinct from lag(s.checkpoints_counted_since) over by_tick
          -- A crash takes counters back where no reset is told.
          and s.commits >= lag(s.commits) over by_tick and s.rollbacks >= lag(s.rollbacks) over by_tick
          and s.blocks_hit >= lag(s.blocks_hit) over by_tick and s.tuples_returned >= lag(s.tuples_returned) over by_tick as is_comparable,
        s.commits - lag(s.commits) over by_tick as commits_moved, s.rollbacks - lag(s.rollbacks) over by_tick as rollbacks_moved,
        s.blocks_read - lag(s.blocks_read) over by_tick as blocks_read_moved,
        s.blocks_hit - lag(s.blocks_hit) over by_tick as blocks_hit_moved,
        s.tuples_returned - lag(s.tuples_returned) over by_tick as tuples_returned_moved,
        s.tuples_fetched - lag(s.tuples_fetched) over by_tick as tuples_fetched_moved,
        s.tuples_inserted - lag(s.tuples_inserted) over by_tick as tuples_inserted_moved,
        s.tuples_updated - lag(s.tuples_updated) over by_tick as tuples_updated_moved,
        s.tuples_deleted - lag(s.tuples_deleted) over by_tick as tuples_deleted_moved,
        s.temp_files - lag(s.temp_files) over by_tick as temp_files_moved,
        s.temp_bytes - lag(s.temp_bytes) over by_tick as temp_bytes_moved,
        s.deadlocks - lag(s.deadlocks) over by_tick as deadlocks_moved, s.wal_bytes - lag(s.wal_bytes) over by_tick as wal_bytes_moved,
        s.checkpoints_timed - lag(s.checkpoints_timed) over by_tick as checkpoints_timed_moved,
        s.checkpoints_requested - lag(s.checkpoints_requested) over by_tick as checkpoints_requested_moved,
        s.checkpoint_write_ms - lag(s.checkpoint_write_ms) over by_tick as checkpoint_write_ms_moved,
        s.checkpoint_sync_ms - lag(s.checkpoint_sync_ms) over by_tick as checkpoint_sync_ms_moved
      from monitoring.samples s
      -- By when they were taken: a tick that is delivered late is taken after the next one, and its time would count twice.
      where s.tick_at between v_from and greatest(p_to, v_last_sampled_at)
      window by_tick as (order by s.sampled_at, s.tick_at)
    )
    select o.tick_at, 1::bigint, case when o.is_comparable then extract(epoch from o.sampled_at - o.sampled_before)::float8 end,
      o.health_score, o.findings, o.slow_queries, o.blocked_sessions, o.high_risk_tables, o.tables_needing_vacuum, o.unresolved_events,
      o.total_connections, o.connection_utilization_percent, o.longest_transaction_ms, o.longest_statement_ms,
      o.active_sessions::float8, o.active_on_cpu::float8, o.active_on_lock::float8, o.active_on_lwlock::float8, o.active_on_io::float8,
      o.active_on_client::float8, o.active_on_ipc::float8, o.active_on_other::float8, o.idle_in_transaction, o.autovacuum_workers,
      o.database_size_bytes, o.xid_age, o.multixact_age, o.standbys, o.replication_lag_bytes, o.replication_lag_seconds,
      o.inactive_slots, o.slot_retained_bytes,
      case when o.is_comparable and o.commits_moved >= 0 then o.commits_moved end,
      case when o.is_comparable and o.rollbacks_moved >= 0 then o.rollbacks_moved end,
      case when o.is_comparable and o.blocks_read_moved >= 0 then o.blocks_read_moved end,
      case when o.is_comparable and o.blocks_hit_moved >= 0 then o.blocks_hit_moved end,
      case when o.is_comparable and o.tuples_returned_moved >= 0 then o.tuples_returned_moved end,
      case when o.is_comparable and o.tuples_fetched_moved >= 0 then o.tuples_fetched_moved end,
      case when o.is_comparable and o.tuples_inserted_moved >= 0 then o.tuples_inserted_moved end,
      case when o.is_comparable and o.tuples_updated_moved >= 0 then o.tuples_updated_moved end,
      case when o.is_comparable and o.tuples_deleted_moved >= 0 then o.tuples_deleted_moved end,
      case when o.is_comparable and o.temp_files_moved >= 0 then o.temp_files_moved end,
      case when o.is_comparable and o.temp_bytes_moved >= 0 then o.temp_bytes_moved end,
      case when o.is_comparable and o.deadlocks_moved >= 0 then o.deadlocks_moved end,
      case when o.is_comparable and o.wal_bytes_moved >= 0 then o.wal_bytes_moved end,
      case when o.is_comparable and o.checkpoints_timed_moved >= 0 then o.checkpoints_timed_moved end,
      case when o.is_comparable and o.checkpoints_requested_moved >= 0 then o.checkpoints_requested_moved end,
      case when o.is_comparable and o.checkpoint_write_ms_moved >= 0 then o.checkpoint_write_ms_moved end,
      case when o.is_comparable and o.checkpoint_sync_ms_moved >= 0 then o.checkpoint_sync_ms_moved end
    from ordered o
    where o.tick_at between p_from and p_to
    order by o.tick_at;
end
$$;
comment on function monitoring.activity(timestamptz, timestamptz) is
  'The samples of these ticks, oldest first, as rows of monitoring.samples_hourly: gauges as they were, counters as what they moved by since the sample before, null where that cannot be told.';

-- The same for any time, in points of so many seconds. p_level is what is read: 0 samples, 1 hours, 2 half days, 3 days, each with the
-- finer ones for what is not summed up yet. So a month costs what an hour costs.
create or replace function monitoring.sum_up(p_level int, p_from timestamptz, p_to timestamptz, p_point_seconds bigint)
returns setof monitoring.samples_hourly
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_half_daily_from timestamptz := case when p_level = 3 then greatest(p_from,
    (select max(d.at) + interval '1 day' from monitoring.samples_daily d where d.at >= p_from and d.at < p_to)) else p_from end;
  v_hourly_from timestamptz := case when p_level >= 2 then greatest(v_half_daily_from,
    (select max(h.at) + interval '12 hours' from monitoring.samples_half_daily h where h.at >= p_from and h.at < p_to)) else p_from end;
  v_raw_from timestamptz := case when p_level >= 1 then greatest(v_hourly_from,
    (select max(h.at) + interval '1 hour' from monitoring.samples_hourly h where h.at >= p_from and h.at < p_to)) else p_from end;
begin
  return query
    select to_timestamp(floor(extract(epoch from r.at) / p_point_seconds) * p_point_seconds), sum(r.samples)::bigint, sum(r.seconds),
      min(r.health_score), max(r.findings), max(r.slow_queries), max(r.blocked_sessions), max(r.high_risk_tables),
      max(r.tables_needing_vacuum), max(r.unresolved_events), max(r.total_connections), max(r.connection_utilization_percent),
      max(r.longest_transaction_ms), max(r.longest_statement_ms),
      sum(r.active_sessions * r.samples) / sum(r.samples), sum(r.active_on_cpu * r.samples) / sum(r.samples),
      sum(r.active_on_lock * r.samples) / sum(r.samples), sum(r.active_on_lwlock * r.samples) / sum(r.samples),
      sum(r.active_on_io * r.samples) / sum(r.samples), sum(r.active_on_client * r.samples) / sum(r.samples),
      sum(r.active_on_ipc * r.samples) / sum(r.samples), sum(r.active_on_other * r.samples) / sum(r.samples),
      max(r.idle_in_transaction), max(r.autovacuum_workers), max(r.database_size_bytes), max(r.xid_age), max(r.multixact_age),
      min(r.standbys), max(r.replication_lag_bytes), max(r.replication_lag_seconds), max(r.inactive_slots), max(r.slot_retained_bytes),
      sum(r.commits::float8)::bigint, sum(r.rollbacks::float8)::bigint, sum(r.blocks_read::float8)::bigint, sum(r.blocks_hit::float8)::bigint,
      sum(r.tuples_returned::float8)::bigint, sum(r.tuples_fetched::float8)::bigint, sum(r.tuples_inserted::float8)::bigint, sum(r.tuples_updated::float8)::bigint,
      sum(r.tuples_deleted::float8)::bigint, sum(r.temp_files::float8)::bigint, sum(r.temp_bytes::float8)::bigint, sum(r.deadlocks::float8)::bigint, sum(r.wal_bytes),
      sum(r.checkpoints_timed::float8)::bigint, sum(r.checkpoints_requested::float8)::bigint, sum(r.checkpoint_write_ms), sum(r.checkpoint_sync_ms)
    from (
      select d.* from monitoring.samples_daily d where p_level = 3 and d.at >= p_from and d.at < p_to
      union all
      select h.* from monitoring.samples_half_daily h where p_level >= 2 and h.at >= v_half_daily_from and h.at < p_to
      union all
      select h.* from monitoring.samples_hourly h where p_level >= 1 and h.at >= v_hourly_from and h.at < p_to
      union all
      select a.* from monitoring.activity(v_raw_from, p_to) a where a.at < p_to
    ) r
    group by 1
    order by 1;
end
$$;
comment on function monitoring.sum_up(int, timestamptz, timestamptz, bigint) is
  'What was from p_from until before p_to, in points of p_point_seconds that begin at multiples of it; a time without samples has no point.';

-- What the statements did between two moments, by the hours that lie in it and the samples of the rest.
create or replace function monitoring.statement_activity(p_from timestamptz, p_to timestamptz) returns table (
  query_id bigint, calls bigint, exec_ms float8, rows bigint, blocks_hit bigint, blocks_read bigint, temp_blocks bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  -- Short times are told from the samples alone.
  v_by_hour boolean := p_to - p_from > interval '3 hours';
  v_hours_from timestamptz := coalesce(
    (select min(h.at) from monitoring.statements_hourly h where v_by_hour and h.at >= p_from and h.at + interval '1 hour' <= p_to), p_from);
  v_raw_from timestamptz := coalesce(
    (select max(h.at) + interval '1 hour' from monitoring.statements_hourly h where v_by_hour and h.at >= p_from and h.at + interval '1 hour' <= p_to), p_from);
begin
  return query
    select r.query_id, sum(r.calls::float8)::bigint, sum(r.exec_ms), sum(r.rows::float8)::bigint, sum(r.hit::float8)::bigint, sum(r.read::float8)::bigint, sum(r.temp::float8)::bigint
    from (
      select u.*
      from monitoring.statements_hourly h, unnest(h.query_ids, h.calls, h.exec_ms, h.rows, h.blocks_hit, h.blocks_read, h.temp_blocks)
        as u (query_id, calls, exec_ms, rows, hit, read, temp)
      where v_by_hour and h.at >= p_from and h.at < v_raw_from
      union all
      -- Without a before it began anew, and all of it came since.
      select u.query_id, u.calls - coalesce(u.calls_b, 0), (u.exec_us - coalesce(u.exec_us_b, 0)) / 1000.0::float8, u.rows - coalesce(u.rows_b, 0),
        u.hit - coalesce(u.hit_b, 0), u.read - coalesce(u.read_b, 0), u.temp - coalesce(u.temp_b, 0)
      from monitoring.statement_samples s, unnest(s.query_ids, s.calls, s.calls_before, s.exec_us, s.exec_us_before, s.rows, s.rows_before,
          s.blocks_hit, s.blocks_hit_before, s.blocks_read, s.blocks_read_before, s.temp_blocks, s.temp_blocks_before)
        as u (query_id, calls, calls_b, exec_us, exec_us_b, rows, rows_b, hit, hit_b, read, read_b, temp, temp_b)
      where s.tick_at >= p_from and s.tick_at < v_hours_from or s.tick_at >= v_raw_from and s.tick_at < p_to
    ) r
    group by r.query_id;
end
$$;
comment on function monitoring.statement_activity(timestamptz, timestamptz) is
  'What each statement did from p_from until before p_to, as far as it was among those that took the most time.';

-- What the tables did, the latest sizes and tuples with it.
create or replace function monitoring.table_activity(p_from timestamptz, p_to timestamptz) returns table (
  table_oid oid, table_name text, inserts bigint, updates bigint, deletes bigint, sequential_scans bigint, live_tuples bigint,
  dead_tuples bigint, size_bytes bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select u.table_oid, (array_agg(u.table_name order by s.tick_at desc))[1], sum(u.inserts - coalesce(u.inserts_b, 0))::bigint,
    sum(u.updates - coalesce(u.updates_b, 0))::bigint, sum(u.deletes - coalesce(u.deletes_b, 0))::bigint, sum(u.scans - coalesce(u.scans_b, 0))::bigint,
    (array_agg(u.live order by s.tick_at desc))[1], (array_agg(u.dead order by s.tick_at desc))[1], (array_agg(u.bytes order by s.tick_at desc))[1]
  from monitoring.table_samples s, unnest(s.table_oids, s.tables, s.inserts, s.inserts_before, s.updates, s.updates_before, s.deletes,
      s.deletes_before, s.sequential_scans, s.sequential_scans_before, s.live_tuples, s.dead_tuples, s.size_bytes)
    as u (table_oid, table_name, inserts, inserts_b, updates, updates_b, deletes, deletes_b, scans, scans_b, live, dead, bytes)
  where s.tick_at >= p_from and s.tick_at < p_to
  group by u.table_oid
$$;
comment on function monitoring.table_activity(timestamptz, timestamptz) is
  'What happened to each table from p_from until before p_to, as far as it was among those that changed most.';

create or replace function monitoring.roll_up_hour(p_hour timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  delete from monitoring.samples_hourly h where h.at = p_hour;
  insert into monitoring.samples_hourly select * from monitoring.sum_up(0, p_hour, p_hour + interval '1 hour', 3600);
  delete from monitoring.statements_hourly h where h.at = p_hour;
  insert into monitoring.statements_hourly
  select p_hour, (select coalesce(sum(extract(epoch from s.sampled_at - s.since_at)), 0) from monitoring.statement_samples s
      where s.tick_at >= p_hour and s.tick_at < p_hour + interval '1 hour'),
    array_agg(a.query_id), array_agg(a.calls), array_agg(round(a.exec_ms::numeric, 3)::float8), array_agg(a.rows), array_agg(a.blocks_hit),
    array_agg(a.blocks_read), array_agg(a.temp_blocks)
  from (select * from monitoring.statement_activity(p_hour, p_hour + interval '1 hour') order by exec_ms desc limit 100) a
  having count(*) > 0;
end
$$;

create or replace function monitoring.roll_up_day(p_day timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  delete from monitoring.samples_half_daily h where h.at >= p_day and h.at < p_day + interval '1 day';
  insert into monitoring.samples_half_daily select * from monitoring.sum_up(1, p_day, p_day + interval '1 day', 43200);
  delete from monitoring.samples_daily d where d.at = p_day;
  insert into monitoring.samples_daily select * from monitoring.sum_up(1, p_day, p_day + interval '1 day', 86400);
  delete from monitoring.statements_daily d where d.at = p_day;
  insert into monitoring.statements_daily
  select p_day, (select coalesce(sum(h.seconds), 0) from monitoring.statements_hourly h where h.at >= p_day and h.at < p_day + interval '1 day'),
    array_agg(a.query_id), array_agg(a.calls), array_agg(round(a.exec_ms::numeric, 3)::float8), array_agg(a.rows), array_agg(a.blocks_hit),
    array_agg(a.blocks_read), array_agg(a.temp_blocks)
  from (select * from monitoring.statement_activity(p_day, p_day + interval '1 day') order by exec_ms desc limit 100) a
  having count(*) > 0;
end
$$;

create or replace function monitoring.roll_up_again(p_tick_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_hour timestamptz := to_timestamp(floor(extract(epoch from p_tick_at) / 3600) * 3600);
  v_day timestamptz := to_timestamp(floor(extract(epoch from p_tick_at) / 86400) * 86400);
begin
  if exists (select from monitoring.samples_hourly h where h.at >= v_hour) then
    perform monitoring.roll_up_hour(v_hour);
  end if;
  if exists (select from monitoring.samples_daily d where d.at >= v_day) then
    perform monitoring.roll_up_day(v_day);
  end if;
end
$$;
comment on function monitoring.roll_up_again(timestamptz) is 'Sums up once more the hour and the day of a tick, where they are summed up.';

-- Sums up the hours and days that are over and have not been: after a pause of the sampler several, at most two days' worth a
-- time.
create or replace function monitoring.roll_up() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' -- elsewhere a day can have 23 hours, or 25
as $$
declare
  v_this_hour timestamptz := to_timestamp(floor(extract(epoch from now()) / 3600) * 3600);
  v_this_day timestamptz := to_timestamp(floor(extract(epoch from now()) / 86400) * 86400);
  v_hour timestamptz;
  v_day timestamptz;
begin
  -- What is not over was summed up while a clock was ahead.
  if exists (select from monitoring.samples_hourly h where h.at >= v_this_hour) or exists (select from monitoring.samples_daily d where d.at >= v_this_day) then
    delete from monitoring.samples_hourly h where h.at >= v_this_hour;
    delete from monitoring.statements_hourly h where h.at >= v_this_hour;
    delete from monitoring.samples_half_daily h where h.at >= v_this_day;
    delete from monitoring.samples_daily d where d.at >= v_this_day;
    delete from monitoring.statements_daily d where d.at >= v_this_day;
  end if;
  v_hour := (select max(h.at) + interval '1 hour' from monitoring.samples_hourly h);
  v_day := (select max(d.at) + interval '1 day' from monitoring.samples_daily d);
  for v_try in 1..48 loop
    -- On to the next hour that has samples.
    select min(s.tick_at) into v_hour from monitoring.samples s where s.tick_at >= coalesce(v_hour, '-infinity');
    v_hour := to_timestamp(floor(extract(epoch from v_hour) / 3600) * 3600);
    exit when v_hour is null or v_hour >= v_this_hour;
    perform monitoring.roll_up_hour(v_hour);
    v_hour := v_hour + interval '1 hour';
  end loop;
  for v_try in 1..48 loop
    select min(h.at) into v_day from monitoring.samples_hourly h where h.at >= coalesce(v_day, '-infinity');
    v_day := to_timestamp(floor(extract(epoch from v_day) / 86400) * 86400);
    exit when v_day is null or v_day >= v_this_day;
    -- Not before all of its hours are there.
    exit when exists (select from monitoring.samples s where s.tick_at >= coalesce(v_hour, v_this_hour) and s.tick_at < v_day + interval '1 day');
    perform monitoring.roll_up_day(v_day);
    v_day := v_day + interval '1 day';
  end loop;
end
$$;
comment on function monitoring.roll_up() is 'Sums up the hours and days that are over since it last did.';

-- At most 300 points, however long the time: gauges at their worst, so that a peak is seen, sessions on average, movements as rates.
-- A time without samples has no point; where nothing could be compared, a rate is null.
create or replace function monitoring.trends(p_range interval) returns table (
  at timestamptz, samples bigint, health_score int, slow_queries int, blocked_sessions int, total_connections int,
  connection_utilization_percent numeric, longest_transaction_ms bigint, high_risk_tables int, tables_needing_vacuum int,
  unresolved_events int, findings int, longest_statement_ms bigint, average_active_sessions float8, active_on_cpu float8,
  active_on_lock float8, active_on_lwlock float8, active_on_io float8, active_on_client float8, active_on_ipc float8, active_on_other float8,
  idle_in_transaction int, autovacuum_workers int, database_size_bytes bigint, xid_age bigint, multixact_age bigint,
  standbys int, replication_lag_bytes bigint, replication_lag_seconds numeric, inactive_slots int, slot_retained_bytes bigint,
  transactions_per_second float8, rollbacks_per_second float8, cache_hit_percent float8, tuples_read_per_second float8,
  tuples_written_per_second float8, temp_bytes_per_second float8, wal_bytes_per_second float8, deadlocks bigint,
  checkpoints_timed bigint, checkpoints_requested bigint, status text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_interval_seconds bigint := (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint;
  -- Nobody has samples of a thousand years, and there are times too long to be counted back.
  v_range interval := greatest(least(coalesce(p_range, '0'), interval '1000 years'), '0');
  v_range_seconds numeric := extract(epoch from v_range);
  v_level int := case when v_range > interval '90 days' then 3 when v_range > interval '10 days' then 2 when v_range > interval '2 days' then 1
    else 0 end;
  -- A point stands for whole ticks, hours, half days or days, for one at least.
  v_unit_seconds bigint := case v_level when 3 then 86400 when 2 then 43200 when 1 then 3600 else v_interval_seconds end;
  v_point_seconds bigint := v_unit_seconds * greatest(1, ceil(v_range_seconds / 300 / v_unit_seconds))::bigint;
  v_newest bigint := floor(extract(epoch from now()) / v_point_seconds);
begin
  perform monitoring.authorize('read');
  return query
    select p.at, p.samples, p.health_score, p.slow_queries, p.blocked_sessions, p.total_connections, p.connection_utilization_percent,
      p.longest_transaction_ms, p.high_risk_tables, p.tables_needing_vacuum, p.unresolved_events, p.findings, p.longest_statement_ms,
      round(p.active_sessions * 100) / 100, round(p.active_on_cpu * 100) / 100, round(p.active_on_lock * 100) / 100,
      round(p.active_on_lwlock * 100) / 100, round(p.active_on_io * 100) / 100, round(p.active_on_client * 100) / 100,
      round(p.active_on_ipc * 100) / 100, round(p.active_on_other * 100) / 100,
      p.idle_in_transaction, p.autovacuum_workers, p.database_size_bytes, p.xid_age, p.multixact_age, p.standbys, p.replication_lag_bytes,
      p.replication_lag_seconds, p.inactive_slots, p.slot_retained_bytes,
      round((p.commits + p.rollbacks) / nullif(p.seconds, 0) * 100) / 100, round(p.rollbacks / nullif(p.seconds, 0) * 100) / 100,
      round(p.blocks_hit::float8 / nullif(p.blocks_hit + p.blocks_read, 0) * 10000) / 100,
      round((p.tuples_returned + p.tuples_fetched) / nullif(p.seconds, 0) * 10) / 10,
      round((p.tuples_inserted + p.tuples_updated + p.tuples_deleted) / nullif(p.seconds, 0) * 10) / 10,
      round(p.temp_bytes / nullif(p.seconds, 0)), round(p.wal_bytes::float8 / nullif(p.seconds, 0)), p.deadlocks,
      p.checkpoints_timed, p.checkpoints_requested, case when p.health_score is not null then monitoring.health_status(p.health_score) end
    from monitoring.sum_up(v_level,
      greatest(now() - v_range, to_timestamp((v_newest - 299) * v_point_seconds)), now() + interval '1 second', v_point_seconds) p;
end
$$;
comment on function monitoring.trends(interval) is
  'How it has been since then, oldest first: at most 300 points, gauges at their worst, sessions on average, movements a second. at is when the point begins; a gap is a gap.';

-- What a sample tells of itself, for metrics: the judgement's numbers, gauges, and how fast the counters move.
create or replace function monitoring.sample_metrics(p_sample monitoring.samples, p_seen jsonb) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return coalesce(p_seen -> 'metrics', '{}') || jsonb_build_object(
      'active_sessions', p_sample.active_sessions, 'idle_sessions', p_sample.idle_sessions, 'idle_in_transaction', p_sample.idle_in_transaction,
      'active_on_cpu', p_sample.active_on_cpu, 'active_on_lock', p_sample.active_on_lock, 'active_on_lwlock', p_sample.active_on_lwlock,
      'active_on_io', p_sample.active_on_io, 'active_on_client', p_sample.active_on_client, 'active_on_ipc', p_sample.active_on_ipc,
      'active_on_other', p_sample.active_on_other, 'longest_statement_ms', p_sample.longest_statement_ms,
      'autovacuum_workers', p_sample.autovacuum_workers, 'database_size_bytes', p_sample.database_size_bytes, 'xid_age', p_sample.xid_age,
      'multixact_age', p_sample.multixact_age, 'standbys', p_sample.standbys, 'replication_lag_bytes', p_sample.replication_lag_bytes,
      'replication_lag_seconds', p_sample.replication_lag_seconds, 'inactive_slots', p_sample.inactive_slots,
      'slot_retained_bytes', p_sample.slot_retained_bytes)
    || coalesce((
      select jsonb_build_object(
        'transactions_per_second', round(((a.commits + a.rollbacks) / nullif(a.seconds, 0))::numeric, 2),
        'rollbacks_per_second', round((a.rollbacks / nullif(a.seconds, 0))::numeric, 2),
        'cache_hit_percent', round(100.0 * a.blocks_hit / nullif(a.blocks_hit + a.blocks_read, 0), 2),
        'temp_bytes_per_second', round((a.temp_bytes / nullif(a.seconds, 0))::numeric),
        'wal_bytes_per_second', round(a.wal_bytes / nullif(a.seconds, 0)::numeric),
        'deadlocks', a.deadlocks, 'checkpoints_timed', a.checkpoints_timed, 'checkpoints_requested', a.checkpoints_requested)
      from monitoring.activity(p_sample.tick_at, p_sample.tick_at) a), '{}');
end
$$;

do $private$ begin perform monitoring.make_private(
  'function monitoring.activity(timestamptz, timestamptz)',
  'function monitoring.sum_up(int, timestamptz, timestamptz, bigint)',
  'function monitoring.statement_activity(timestamptz, timestamptz)',
  'function monitoring.table_activity(timestamptz, timestamptz)',
  'function monitoring.roll_up_hour(timestamptz)',
  'function monitoring.roll_up_day(timestamptz)',
  'function monitoring.roll_up()',
  'function monitoring.roll_up_again(timestamptz)',
  'function monitoring.sample_metrics(monitoring.samples, jsonb)',
  'function monitoring.trends(interval)'); end $private$;
grant execute on function monitoring.trends(interval) to monitoring_reader, monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000007', 'monitoring_trends', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
