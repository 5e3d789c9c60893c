-- A year as the sampler leaves it: a week of samples, a quarter of hours, a year of days.
set role monitoring_owner;
select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, 8) d;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, health_score, status, findings, slow_queries, blocked_sessions,
  high_risk_tables, tables_needing_vacuum, unresolved_events, total_connections, connection_utilization_percent, longest_transaction_ms,
  longest_statement_ms, active_sessions, idle_sessions, idle_in_transaction, active_on_cpu, active_on_lock, active_on_lwlock, active_on_io,
  active_on_client, active_on_ipc, active_on_other, autovacuum_workers, xid_age, multixact_age, standbys, inactive_slots, server_started_at,
  timeline, counted_since, wal_counted_since, checkpoints_counted_since, commits, rollbacks, blocks_read, blocks_hit, tuples_returned,
  tuples_fetched, tuples_inserted, tuples_updated, tuples_deleted, temp_files, temp_bytes, deadlocks, wal_bytes, checkpoints_timed,
  checkpoints_requested, checkpoint_write_ms, checkpoint_sync_ms)
select t, t, 10, 90 + n % 10, 'good', n % 3, n % 5, 0, 1, 2, 3, 40 + n % 20, 40.5, 1000 + n % 100, 500, n % 8, 30, 1, 1, 0, 0, 1, 0, 0, 1, 0,
  1000000 + n, 1000, 1, 0, '2025-01-01', 1, '2025-01-01', '2025-01-01', '2025-01-01', n * 6000, n * 10, n * 1000, n * 99000, n * 50000,
  n * 20000, n * 500, n * 400, n * 10, n, n * 100000, 0, n * 1000000, n / 5, n / 60, n * 10.5, n * 1.5
from (select to_timestamp(floor(extract(epoch from now()) / 60) * 60) - (10080 - n) * interval '1 minute' as t, n from generate_series(1, 10080::bigint) n) s;
select count(monitoring.roll_up()) from generate_series(1, 10);
-- Before that, hours and days like the first ones.
insert into monitoring.samples_hourly
select (jsonb_populate_record(null::monitoring.samples_hourly, to_jsonb(h) || jsonb_build_object('at', f.first - n * interval '1 hour'))).*
from (select min(at) as first from monitoring.samples_hourly) f, generate_series(1, 83 * 24) n,
  (select * from monitoring.samples_hourly order by at offset 1 limit 1) h;
insert into monitoring.samples_half_daily
select (jsonb_populate_record(null::monitoring.samples_hourly, to_jsonb(d) || jsonb_build_object('at', f.first - n * interval '12 hours'))).*
from (select min(at) as first from monitoring.samples_half_daily) f, generate_series(1, 83 * 2) n,
  (select * from monitoring.samples_half_daily order by at offset 1 limit 1) d;
insert into monitoring.samples_daily
select (jsonb_populate_record(null::monitoring.samples_daily, to_jsonb(d) || jsonb_build_object('at', f.first - n * interval '1 day'))).*
from (select min(at) as first from monitoring.samples_daily) f, generate_series(1, 358) n,
  (select * from monitoring.samples_daily order by at offset 1 limit 1) d;
reset role;
