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
-- given: one that counts down, into a small column that takes no less than -32768
drop sequence tickets;
create sequence seats increment by -1 maxvalue -1 start with -1; create table places (seat smallint default nextval('seats'));
grant select on all sequences in schema public to monitoring_owner;
select setval('seats', -27000);
-- then: warning public.seats
-- given: one whose first number is too large for its column
drop table places; drop sequence seats;
create sequence seats minvalue 40000 start with 40000; create table places (seat smallint default nextval('seats'));
grant select on all sequences in schema public to monitoring_owner;
select setval('seats', 40000);
-- then: critical public.seats
-- given: one that was made to count to a thousand, for a column that takes more
alter sequence seats owned by none; drop table places; drop sequence seats;
create table places (seat bigint generated always as identity (maxvalue 1000));
grant select on all sequences in schema public to monitoring_owner;
select setval('places_seat_seq', 950);
-- then: critical public.places_seat_seq
-- given: what the remedy says
do $$ declare v_remedy text;
begin
  select split_part(remediation, ';', 1) into v_remedy from monitoring.findings() where check_id = 'sequence-exhaustion';
  execute v_remedy;
end $$;
-- then: none
-- given: one that fills two columns, the narrower a domain over a domain
create sequence seats; create domain small as smallint; create domain smaller as small;
create table rows (wide bigint default nextval('seats'), narrow smaller default nextval('seats'));
grant select on all sequences in schema public to monitoring_owner;
select setval('seats', 32000);
-- then: critical public.seats
-- given: one that begins again by itself
alter sequence seats cycle;
-- then: none
