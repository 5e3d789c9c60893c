-- cluster:
-- given: an operator with little room
update monitoring.thresholds set warning = 1, critical = 100000 where check_id = 'replication-slot';
create table guests (id int, name text);
-- then: none
-- given: a slot that nobody reads, and writes
select pg_create_physical_replication_slot('standby', true);
insert into guests select n, repeat('x', 500) from generate_series(1, 5000) n;
-- then: warning slot standby
-- given: it is dropped
select pg_drop_replication_slot('standby');
-- then: none
