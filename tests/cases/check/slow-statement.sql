-- then: none
-- given: a session whose statement takes its time, and an operator with some patience
update monitoring.thresholds set critical = 600000 where check_id = 'slow-statement';
-- session a: select pg_sleep(600), 'a secret' as note
-- then: warning query *
-- given: it takes ten times as long
update monitoring.thresholds set warning = 300, critical = 600 where check_id = 'slow-statement';
-- then: critical query *
-- given: it has ended
-- end: a
-- then: none
-- given: a query that is copied out, which is a query all the same
-- session c: copy (select pg_sleep(600)) to '/dev/null'
select pg_sleep(1);
-- then: critical query *
-- end: c
-- then: none
