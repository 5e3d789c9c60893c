-- given: reads that find what they need
set role monitoring_owner; select monitoring.ensure_sample_partition(((now() - n * interval '1 hour') at time zone 'UTC')::date) from generate_series(0, 3) n;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, n * 10, n * 10000, 0, 0, 0, 0, 0, 0 from generate_series(1, 30) n;
-- then: none
-- given: as many that do not, on a server that has been up for a day
create or replace function monitoring.counters_now() returns monitoring.samples language plpgsql stable as $$
declare s monitoring.samples; begin s.sampled_at := clock_timestamp(); s.server_started_at := now() - interval '1 day'; return s; end $$;
delete from monitoring.samples;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, n * 10000, n * 10000, 0, 0, 0, 0, 0, 0 from generate_series(1, 30) n;
-- then: warning database
-- given: it was started five hours ago
create or replace function monitoring.counters_now() returns monitoring.samples language plpgsql stable as $$
declare s monitoring.samples; begin s.sampled_at := clock_timestamp(); s.server_started_at := now() - interval '5 hours'; return s; end $$;
-- then: none
-- given: a day ago, and that was two hours ago
create or replace function monitoring.counters_now() returns monitoring.samples language plpgsql stable as $$
declare s monitoring.samples; begin s.sampled_at := clock_timestamp(); s.server_started_at := now() - interval '1 day'; return s; end $$;
update monitoring.samples set tick_at = tick_at - interval '2 hours';
-- then: none
