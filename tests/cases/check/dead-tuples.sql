-- given: a table
create table guests (id int); insert into guests select generate_series(1, 30000);
-- given: at rest
vacuum analyze guests;
-- then: none
-- given: a small one that is written all the time
create table seats (id int); insert into seats select generate_series(1, 1000); analyze seats; delete from seats where id > 10;
-- then: none
-- given: a third of the large one is deleted, and nobody vacuums
delete from guests where id <= 11000;
-- then: warning public.guests
-- given: most of it is
delete from guests where id <= 27000;
-- then: critical public.guests
-- given: a VACUUM
vacuum guests;
-- then: none
-- given: it is worn again, among a hundred small ones of nothing but dead rows
insert into guests select generate_series(1, 30000); delete from guests where id <= 27000;
do $$ begin for n in 1..100 loop execute format('create table small_%s (id int)', n);
  execute format('insert into small_%s select generate_series(1, 60)', n); execute format('delete from small_%s', n); end loop; end $$;
-- then: critical public.guests
-- given: a VACUUM
vacuum guests;
-- then: none
