-- then: none
-- given: a session whose statement takes its time
-- session a: select pg_sleep(60), 'a secret' as note
-- then: warning query *
-- given: it takes ten times as long
update monitoring.thresholds set warning = 300, critical = 600 where check_id = 'slow-statement';
-- then: critical query *
-- given: it has ended
-- end: a
-- then: none
-- given: a query that is copied out, which is a query all the same
-- session c: copy (select pg_sleep(60)) to '/dev/null'
select pg_sleep(1);
-- then: critical query *
-- end: c
-- then: none
