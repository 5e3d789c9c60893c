-- cluster: max_slot_wal_keep_size = 1MB
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
-- given: one that the server has given up, for nobody read it in time: it holds back nothing
select pg_create_physical_replication_slot('lost', true);
select pg_switch_wal(); insert into guests values (1); select pg_switch_wal(); insert into guests values (2); select pg_switch_wal();
checkpoint;
do $$ begin
  assert (select wal_status = 'lost' from pg_replication_slots);
  assert (select s.inactive_slots = 0 and s.slot_retained_bytes is null from monitoring.collect_sample(monitoring.look_at_backends()) s);
end $$;
-- then: none
