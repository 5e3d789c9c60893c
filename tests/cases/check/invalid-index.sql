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
-- given: another, whose dropping waits for somebody who reads the table
create index guests_name_idx on guests (name);
-- session a: begin; select from guests
-- session b: drop index concurrently guests_name_idx
-- then: none
-- given: who waited has given up, and it is left half dropped
-- end: b
-- then: warning public.guests_name_idx
