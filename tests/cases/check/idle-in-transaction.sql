-- given: an operator with less patience
update monitoring.thresholds set warning = 300, critical = 60000 where check_id = 'idle-in-transaction';
-- then: none
-- given: an application that has begun and does nothing
-- session a: begin; select 1
-- then: warning pid {a}
-- given: it is gone
-- end: a
-- then: none
