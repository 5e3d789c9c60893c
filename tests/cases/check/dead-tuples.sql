-- given: a table
create table guests (id int); insert into guests select generate_series(1, 1000);
-- given: at rest
vacuum analyze guests;
-- then: none
-- given: a third of it is deleted, and nobody vacuums
delete from guests where id <= 350;
-- then: warning public.guests
-- given: most of it is
delete from guests where id <= 900;
-- then: critical public.guests
-- given: a VACUUM
vacuum guests;
-- then: none
