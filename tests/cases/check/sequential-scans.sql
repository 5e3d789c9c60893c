-- given: a large table that is read by its index
create table guests (id int, name text); insert into guests select n, 'a guest' from generate_series(1, 20000) n;
create index on guests (id); analyze guests;
-- then: none
-- given: a hundred scans of all of it
do $$ begin for n in 1..110 loop perform count(*) from guests where name = 'nobody'; end loop; end $$;
-- then: warning public.guests
-- given: twice as many by the index
set enable_seqscan = off; do $$ begin for n in 1..240 loop perform from guests where id = n; end loop; end $$;
-- then: none
