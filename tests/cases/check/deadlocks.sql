-- given: transactions that wait in line
set role monitoring_owner; select monitoring.ensure_sample_partition(((now() - n * interval '1 hour') at time zone 'UTC')::date) from generate_series(0, 3) n;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, 0, 0, 0, 0, 0, 0, 0, 0 from generate_series(1, 30) n;
-- then: none
-- given: two that waited in a circle
delete from monitoring.samples;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (31 - n) * interval '1 minute', now() - (31 - n) * interval '1 minute', 1, n, 0, 0, 0, 0, 0, 0, n / 15, 0, 0 from generate_series(1, 30) n;
-- then: warning database
-- given: that was two hours ago
update monitoring.samples set tick_at = tick_at - interval '2 hours';
-- then: none
-- given: a sample an hour, and a circle between the last two of them
delete from monitoring.samples;
insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, temp_files, temp_bytes, deadlocks, checkpoints_timed, checkpoints_requested)
select now() - (4 - n) * interval '3600.3 seconds' + interval '1 minute', now() - (4 - n) * interval '3600.3 seconds' + interval '1 minute', 1, n, 0, 0, 0, 0, 0, 0, n / 3, 0, 0 from generate_series(1, 3) n;
-- then: none
-- given: the setting that says so
update monitoring.settings set value = '3600' where key = 'sample_interval_seconds';
-- then: warning database
