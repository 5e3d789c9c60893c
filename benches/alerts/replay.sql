-- The eyes of the recorded week. What judges is untouched: monitoring.sample() and all that it calls, but for these:
--
--   now(), clock_timestamp()        the minute of the replay (clock.sql)
--   monitoring.collect_sample()     \
--   monitoring.connections_of()      } what was read on the recorded server
--   monitoring.counters_now()        |
--   monitoring.sample_statements()   |
--   monitoring.table_states         /
--
-- Between two readings, ten minutes apart, counters move evenly. They count forty times what was counted: as if the recorded
-- application were so much larger and busier. Checkpoints, deadlocks, sessions and a table's tuples are as they were.
create table replay.readings (
  minute     int primary key,
  -- Which server counted: another one after a crash, and after a reset of its statistics.
  server     int not null,
  gauges     numeric[] not null,
  counters   numeric[] not null,
  worn       text[] not null,
  statements text[] not null
);
grant select on replay.readings to monitoring_owner;
create table replay.begins (at timestamptz not null);
insert into replay.begins values (timestamptz ':begins');
grant select on replay.begins to monitoring_owner;

-- The two readings that a moment lies between, and how far it is past the first. The week before is the same one.
create function replay.around(p_at timestamptz, out earlier replay.readings, out later replay.readings, out part numeric, out server_began_at timestamptz)
language plpgsql stable
as $$
declare
  v_minute numeric := extract(epoch from p_at - (select b.at from replay.begins b)) / 60;
  v_of_week numeric := v_minute - 10080 * floor(v_minute / 10080);
begin
  select * into earlier from replay.readings r where r.minute = floor(v_of_week / 10) * 10;
  select * into later from replay.readings r where r.minute = floor(v_of_week / 10) * 10 + 10 and r.server = earlier.server;
  part := case when later.minute is not null then (v_of_week - earlier.minute) / 10 else 0 end;
  later := coalesce(later, earlier);
  server_began_at := p_at + make_interval(mins => (select min(r.minute) from replay.readings r where r.server = earlier.server) - floor(v_of_week)::int);
  server_began_at := date_trunc('minute', server_began_at);
end
$$;

create function replay.between(p_earlier numeric[], p_later numeric[], p_part numeric) returns numeric[]
language sql immutable
as $$ select array_agg(floor(40 * (e.value + (l.value - e.value) * p_part)) order by e.place)
  from unnest(p_earlier) with ordinality e (value, place) join unnest(p_later) with ordinality l (value, place) on l.place = e.place $$;

create or replace function monitoring.collect_sample(p_backends monitoring.seen_backend[]) returns monitoring.samples
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  s monitoring.samples;
  v record;
  c numeric[];
  g numeric[];
begin
  select * into v from replay.around(now());
  g := (v.earlier).gauges;
  c := replay.between((v.earlier).counters, (v.later).counters, v.part);
  s.active_sessions := g[1]; s.idle_sessions := g[2]; s.idle_in_transaction := g[3]; s.active_on_cpu := g[4]; s.active_on_lock := g[5];
  s.active_on_lwlock := g[6]; s.active_on_io := g[7]; s.active_on_client := g[8]; s.active_on_ipc := g[9]; s.active_on_other := g[10];
  s.autovacuum_workers := g[11]; s.longest_statement_ms := g[12]; s.database_size_bytes := 40 * g[14]; s.xid_age := 40 * g[15];
  s.multixact_age := 0; s.standbys := 0; s.inactive_slots := 0; s.timeline := 1;
  s.server_started_at := v.server_began_at; s.counted_since := v.server_began_at; s.wal_counted_since := v.server_began_at;
  s.checkpoints_counted_since := v.server_began_at;
  s.commits := c[1]; s.rollbacks := c[2]; s.blocks_read := c[3]; s.blocks_hit := c[4]; s.tuples_returned := c[5]; s.tuples_fetched := c[6];
  s.tuples_inserted := c[7]; s.tuples_updated := c[8]; s.tuples_deleted := c[9]; s.temp_files := c[10]; s.temp_bytes := c[11];
  s.deadlocks := c[12] / 40; s.wal_bytes := c[13]; s.checkpoints_timed := c[14] / 40; s.checkpoints_requested := c[15] / 40;
  return s;
end
$$;

create or replace function monitoring.counters_now() returns monitoring.samples
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  s monitoring.samples := monitoring.collect_sample('{}');
begin
  s.sampled_at := now();
  return s;
end
$$;

create or replace function monitoring.connections_of(p_backends monitoring.seen_backend[]) returns table (
  active_connections bigint, idle_connections bigint, idle_in_transaction bigint, total_connections bigint,
  utilization_percent numeric, database_name name, database_connections bigint, max_connections int,
  waiting_for_lock bigint, longest_transaction_ms bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select g[1]::bigint, g[2]::bigint, g[3]::bigint, g[13]::bigint, round(100 * g[13] / 97, 2), current_database(), g[13]::bigint, 100, g[5]::bigint, g[12]::bigint
  from (select (a.earlier).gauges as g from replay.around(now()) a) x
$$;

create or replace view monitoring.table_states as
  select t.table_oid as oid, t.toast_oid, t.schemaname, t.tablename,
    coalesce(w.live, pg_catalog.pg_stat_get_live_tuples(t.table_oid))::bigint as live_tuples,
    coalesce(w.dead, 0)::bigint as dead_tuples, t.companion_pages, t.index_scans,
    1000000 as xid_age, greatest(t.relpages, 0::bigint) as heap_pages, w.dead is not null as needs_vacuum
  from monitoring.tables() t
    left join (
      select pg_catalog.split_part(u.text, ':', 1)::name as tablename, pg_catalog.split_part(u.text, ':', 2)::numeric as live,
        pg_catalog.split_part(u.text, ':', 3)::numeric as dead
      from replay.around(pg_catalog.now()) a, pg_catalog.unnest((a.earlier).worn) as u (text)
    ) w on w.tablename = t.tablename;

create function replay.statements(p_of replay.readings) returns table (n bigint, numbers numeric[])
language sql immutable
as $$ select u.n, string_to_array(u.text, ':')::numeric[] from unnest(p_of.statements) with ordinality u (text, n) $$;

-- As the original: what moved since the look before, the counters then and now.
create or replace function monitoring.sample_statements(p_tick_at timestamptz, p_since_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v record;
  b record;
begin
  if p_since_at is null then
    return;
  end if;
  select * into v from replay.around(now());
  select * into b from replay.around(p_since_at);
  insert into monitoring.statement_samples
  select p_tick_at, now(), p_since_at, array_agg(m.n), array_agg(10::oid), array_agg(true), array_agg(m.a[1]), array_agg(m.b[1]), array_agg(m.a[2]), array_agg(m.b[2]),
    array_agg(m.a[1]), array_agg(m.b[1]), array_agg(m.a[3]), array_agg(m.b[3]), array_agg(m.a[4]), array_agg(m.b[4]), array_agg(0), array_agg(0)
  from (
    select e.n, replay.between(e.numbers, l.numbers, v.part) as a,
      case when (b.earlier).server = (v.earlier).server then replay.between(f.numbers, k.numbers, b.part) end as b
    from replay.statements(v.earlier) e join replay.statements(v.later) l on l.n = e.n
      join replay.statements(b.earlier) f on f.n = e.n join replay.statements(b.later) k on k.n = e.n
  ) m
  where m.a[1] > coalesce(m.b[1], 0)
  having count(*) > 0;
end
$$;

-- The week before, as hours: what this one is compared with.
create function replay.fill_week_before() returns void
language plpgsql
as $$
declare
  v_begins timestamptz := (select b.at from replay.begins b);
begin
  insert into monitoring.statement_texts (query_id, query_preview, last_seen_at)
  select n, format('statement %s of the application', n), v_begins + interval '7 days' from generate_series(1, 6) n;
  insert into monitoring.statements_hourly (at, seconds, query_ids, calls, exec_ms, rows, blocks_hit, blocks_read, temp_blocks)
  select h.at, 3600, array_agg(e.n order by e.n), array_agg(m.moved[1] order by e.n), array_agg(m.moved[2] / 1000 order by e.n), array_agg(m.moved[1] order by e.n),
    array_agg(m.moved[3] order by e.n), array_agg(m.moved[4] order by e.n), array_agg(0 order by e.n)
  from generate_series(v_begins - interval '7 days', v_begins - interval '1 hour', interval '1 hour') h (at)
    cross join lateral replay.around(h.at) b cross join lateral replay.around(h.at + interval '50 minutes') a
    cross join lateral replay.statements(b.earlier) e join lateral replay.statements(a.earlier) l on l.n = e.n
    cross join lateral (select array(select 40 * (y.v - x.v) from unnest(e.numbers) with ordinality x (v, p) join unnest(l.numbers) with ordinality y (v, p) on y.p = x.p order by x.p) as moved) m
  where (a.earlier).server = (b.earlier).server and m.moved[1] > 0
  group by h.at;
end
$$;
