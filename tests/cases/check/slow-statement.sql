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
