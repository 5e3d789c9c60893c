-- What the demo's database has not: something for every section, a history, and markup wherever a text may come from.
-- Run once as a superuser.

-- The sampler's and the checks' whole view: without this a sequence cannot be read, and the summary says so.
grant select on all sequences in schema public to monitoring_owner;

create table public."<img src=x onerror=window.pwned=1>" (id int primary key, "</script><script>window.pwned=1</script>" text);
insert into public."<img src=x onerror=window.pwned=1>" select n, n from generate_series(1, 50000) n;
grant select on public."<img src=x onerror=window.pwned=1>" to weddings_app;
alter table public."<img src=x onerror=window.pwned=1>" owner to planner_admin;
analyze public."<img src=x onerror=window.pwned=1>";

-- Among the statements that took the most time.
select pg_sleep(4) as "</script><script>window.pwned=1</script>";

insert into monitoring.critical_windows (starts_at, ends_at, label) values
  (now() - interval '20 minutes', now() + interval '5 hours', 'Ceremony <img src=x onerror=window.pwned=1>'),
  (now() - interval '10 hours', now() - interval '6 hours', 'Brunch </script><script>window.pwned=1</script>'),
  (now() + interval '2 days', now() + interval '2 days 6 hours', 'Anna and Ben');

-- 26 hours by the minute, with a gap of three, and 30 days by the hour and the half day, with a gap of one.
select count(monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d)) from generate_series(-1, 2) d;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, health_score, status, slow_queries, blocked_sessions, total_connections,
  connection_utilization_percent, high_risk_tables, tables_needing_vacuum, unresolved_events, findings, longest_transaction_ms,
  longest_statement_ms, active_sessions, idle_sessions, idle_in_transaction, active_on_cpu, active_on_lock, active_on_lwlock, active_on_io,
  active_on_client, active_on_ipc, active_on_other, autovacuum_workers, database_size_bytes, xid_age, multixact_age, standbys,
  inactive_slots, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, tuples_fetched, tuples_inserted, tuples_updated,
  tuples_deleted, temp_files, temp_bytes, deadlocks, wal_bytes, checkpoints_timed, checkpoints_requested)
select t, t, 12, case when age between 400 and 460 then 41 else 95 - age % 9 end, 'good', age % 5, age % 3, 10 + age % 12,
  round(27 + 20 * sin(age / 90.0)::numeric, 2), 1, 1, 4, 3, 900 + age, 400 + age % 700, 2 + age % 4, 6, 1, 1 + age % 2, age % 2, 0, 1, 0, 0, 0, 0,
  180000000 + n * 1000, 4000 + n, 1, 0, 0, n * 900, n, n * 100, n * 9000, n * 4000, n * 900, n * 30, n * 12, n, n / 50, n * 4096, n / 400, n * 90000, n / 5,
  n / 60
from (select to_timestamp(floor(extract(epoch from now()) / 60 - age) * 60) as t, age, 1560 - age as n from generate_series(3, 1560) age) s
where age not between 200 and 380
on conflict do nothing;
insert into monitoring.samples_hourly (at, samples, seconds, health_score, findings, slow_queries, blocked_sessions, total_connections,
  connection_utilization_percent, active_sessions, active_on_cpu, active_on_lock, active_on_io, longest_transaction_ms, longest_statement_ms,
  database_size_bytes, unresolved_events, commits, rollbacks, blocks_read, blocks_hit, wal_bytes, temp_bytes, deadlocks)
select t, 60, 3600, 96 - h % 13, 3, h % 6, h % 2, 12 + h % 9, 30 + h % 24, 2.5, 1.2, 0.3, 0.8, 60000, 900, 170000000 + (720 - h) * 60000, 3,
  54000, 60, 6000, 540000, 5400000, 245760, h % 7 / 6
from (select date_trunc('hour', now()) - h * interval '1 hour' as t, h from generate_series(27, 720) h) s
where h not between 90 and 114
on conflict do nothing;
insert into monitoring.samples_half_daily (at, samples, seconds, health_score, findings, slow_queries, blocked_sessions, total_connections,
  connection_utilization_percent, active_sessions, active_on_cpu, active_on_lock, active_on_io, longest_transaction_ms, longest_statement_ms,
  database_size_bytes, unresolved_events, commits, rollbacks, blocks_read, blocks_hit, wal_bytes, temp_bytes, deadlocks)
select to_timestamp(floor(extract(epoch from h.at) / 43200) * 43200), sum(h.samples), sum(h.seconds), min(h.health_score), max(h.findings),
  max(h.slow_queries), max(h.blocked_sessions), max(h.total_connections), max(h.connection_utilization_percent), avg(h.active_sessions),
  avg(h.active_on_cpu), avg(h.active_on_lock), avg(h.active_on_io), max(h.longest_transaction_ms), max(h.longest_statement_ms),
  max(h.database_size_bytes), max(h.unresolved_events), sum(h.commits), sum(h.rollbacks), sum(h.blocks_read), sum(h.blocks_hit), sum(h.wal_bytes),
  sum(h.temp_bytes), sum(h.deadlocks)
from monitoring.samples_hourly h
group by 1
on conflict do nothing;

-- Five hundred, the newest a minute old, some resolved, all of them as a program may have written them.
insert into public.monitoring_events (event_type, event_data, severity, created_at, last_seen_at, resolved_at, resolution_notes, source_ip, user_agent, occurrences)
select (array['slow_query', 'connection_issue', 'table_health', 'rls_violation', 'performance_alert'])[1 + n % 5],
  jsonb_build_object('object', 'route ' || n || ' <img src=x onerror=window.pwned=1>', 'detail', '</script><script>window.pwned=1</script>'),
  (array['low', 'medium', 'high', 'critical'])[1 + n % 4], now() - n * interval '6 seconds' - interval '1 minute',
  now() - n * interval '6 seconds' - interval '1 minute', case when n % 3 = 0 then now() end,
  case when n % 3 = 0 then '<img src=x onerror=window.pwned=1>' end, '192.0.2.7', 'lynx <img src=x onerror=window.pwned=1>', 1 + n % 40
from generate_series(1, 500) n;
