-- standby:
-- given: an operator who notices a megabyte
update monitoring.thresholds set warning = 1, critical = 100000 where check_id = 'replication-lag';
create table guests (id int, name text);
-- then: none
-- given: a standby that receives and does not replay
-- on standby: select pg_wal_replay_pause()
insert into guests select n, repeat('x', 500) from generate_series(1, 5000) n;
-- then: warning standby *
-- given: it does
-- on standby: select pg_wal_replay_resume()
-- then: none
