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
