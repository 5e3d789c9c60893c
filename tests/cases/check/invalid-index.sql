-- given: an index
create table guests (id int, name text); create index guests_id_idx on guests (id);
-- then: none
-- given: one that was not built to its end
insert into guests values (1, 'a'), (1, 'b');
\set ON_ERROR_STOP 0
create unique index concurrently guests_key on guests (id);
\set ON_ERROR_STOP 1
-- then: warning public.guests_key
-- given: it is dropped
drop index guests_key;
-- then: none
-- given: an index of a partitioned table that a partition has none of
create table visits (id int) partition by list (id); create table visits_1 partition of visits for values in (1);
create index visits_id_idx on only visits (id);
-- then: warning public.visits_id_idx
-- given: what the remedy says
create index visits_1_id_idx on visits_1 (id); alter index visits_id_idx attach partition visits_1_id_idx;
-- then: none
-- given: one as pg_dump restores it, of a table with a partition elsewhere, which can have none
create table calls (id int) partition by list (id); create table calls_1 partition of calls for values in (1);
create foreign data wrapper elsewhere; create server elsewhere foreign data wrapper elsewhere; create foreign table calls_2 partition of calls for values in (2) server elsewhere;
create index calls_id_idx on only calls (id); create index calls_1_id_idx on calls_1 (id); alter index calls_id_idx attach partition calls_1_id_idx;
-- then: none
-- given: another, whose dropping waits for somebody who reads the table
create index guests_name_idx on guests (name);
-- session a: begin; select from guests
-- session b: drop index concurrently guests_name_idx
-- then: none
-- given: who waited has given up, and it is left half dropped
-- end: b
-- then: warning public.guests_name_idx
