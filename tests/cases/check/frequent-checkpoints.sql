-- given: a quiet hour
set role monitoring_owner; select monitoring.ensure_sample_partition(((now() - n * interval '1 hour') at time zone 'UTC')::date) from generate_series(0, 3) n;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, 0, 0, 0, 0, 0, 0, n / 10, 0 from generate_series(1, 30) n;
-- then: none
-- given: a checkpoint a minute, forced by WAL
delete from monitoring.samples;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, 0, 0, 0, 0, 0, 0, 0, n from generate_series(1, 30) n;
-- then: warning server
-- given: that was two hours ago
update monitoring.samples set tick_at = tick_at - interval '2 hours';
-- then: none
