-- given: an operator with less patience
update monitoring.thresholds set warning = 1200, critical = 600000 where check_id = 'long-transaction';
-- then: none
-- given: a transaction that is at work
-- session a: begin; select pg_sleep(600)
-- then: warning pid {a}
-- given: it has ended
-- end: a
-- then: none
