-- given: an operator with less patience
update monitoring.thresholds set warning = 1200, critical = 600000 where check_id = 'long-transaction';
-- then: none
-- given: a transaction that is at work
-- session a: begin; select pg_sleep(600)
-- then: warning pid {a}
-- given: it has ended
-- end: a
-- then: none
-- given: another, and one that has to wait for it: that it takes long is not its own doing
create table guests (id int);
-- session b: begin; lock table guests; select pg_sleep(600)
-- session c: begin; select from guests
-- then: warning pid {b}
-- given: they have ended
-- end: c
-- end: b
-- then: none
