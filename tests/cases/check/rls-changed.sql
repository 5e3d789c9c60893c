-- cluster:
-- given: a table with a policy, as the sampler saw it first
create table guests (id int); alter table guests enable row level security; create policy own on guests using (id > 1);
set role monitoring_agent; select monitoring.sample(now() - interval '20 minutes'); reset role;
-- then: none
-- given: a policy that says something else
alter policy own on guests using (id > 2);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '19 minutes'); reset role;
-- then: warning policy policy own on public.guests
-- given: another in its place that says what it said
drop policy own on guests;
create policy own on guests using (id > 1);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '18 minutes'); reset role;
-- then: none
-- given: a table that is new, with its policies, and one that is gone with them
create table seats (id int); alter table seats enable row level security; create policy own on seats using (id > 1); create policy few on seats as restrictive using (id < 9);
create table gone (id int); alter table gone enable row level security; create policy own on gone using (id > 1);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '17 minutes'); reset role;
drop table gone;
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '16 minutes'); reset role;
-- then: none
-- given: another policy on it, later
create policy all_of_it on seats using (true);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '15 minutes'); reset role;
-- then: critical policy policy all_of_it on public.seats
-- given: that is taken back
drop policy all_of_it on seats;
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '14 minutes'); reset role;
-- then: none
-- given: row-level security is off
alter table guests disable row level security;
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now()); reset role;
-- then: critical rls public.guests
-- given: a day has passed
update monitoring.changes set observed_at = observed_at - interval '25 hours';
-- then: none
