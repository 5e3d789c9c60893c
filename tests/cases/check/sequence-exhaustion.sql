-- given: an identity column, and an owner who lets the monitor see
create table guests (id int generated always as identity, name text);
grant select on all sequences in schema public to monitoring_owner;
-- then: none
-- given: four fifths are used up
select setval('guests_id_seq', 1800000000);
-- then: warning public.guests_id_seq
-- given: almost all
select setval('guests_id_seq', 2100000000);
-- then: critical public.guests_id_seq
-- given: wider numbers
alter table guests alter id type bigint;
-- then: none
-- given: one that belongs to no table
create sequence tickets maxvalue 1000;
grant select on all sequences in schema public to monitoring_owner;
select setval('tickets', 800);
-- then: warning public.tickets
