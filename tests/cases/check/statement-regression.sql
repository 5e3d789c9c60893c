-- given: a statement that takes 10 ms, all week and in the last hour
insert into monitoring.statement_texts values (7, 'select * from guests where wedding = ?');
insert into monitoring.statements_hourly (at, seconds, query_ids, calls, exec_ms, rows, blocks_hit, blocks_read, temp_blocks)
select date_trunc('hour', now()) - n * interval '1 hour', 3600, '{7}', '{100}', '{1000}', '{1}', '{1}', '{1}', '{1}' from generate_series(2, 48) n;
set role monitoring_owner; select monitoring.ensure_sample_partition(((now() - n * interval '1 hour') at time zone 'UTC')::date) from generate_series(0, 1) n;
insert into monitoring.statement_samples (tick_at, sampled_at, since_at, query_ids, user_ids, toplevel, calls, calls_before, exec_us, exec_us_before,
  rows, rows_before, blocks_hit, blocks_hit_before, blocks_read, blocks_read_before, temp_blocks, temp_blocks_before)
select now() - interval '30 minutes', now() - interval '30 minutes', now() - interval '31 minutes', '{7}', '{10}', '{t}', '{200}', '{100}', '{2000000}', '{1000000}',
  '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}';
-- then: none
-- given: in the last hour it takes five times as long
update monitoring.statement_samples set exec_us = '{6000000}';
-- then: warning query 7
-- given: and then twenty
update monitoring.statement_samples set exec_us = '{21000000}';
-- then: critical query 7
-- given: an index
update monitoring.statement_samples set exec_us = '{1100000}';
-- then: none
