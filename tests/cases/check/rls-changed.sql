-- cluster:
-- given: a table with a policy, as the sampler saw it first
create table guests (id int); alter table guests enable row level security; create policy own on guests using (id > 1);
set role monitoring_agent; select monitoring.sample(now() - interval '3 minutes'); reset role;
-- then: none
-- given: a policy that says something else
alter policy own on guests using (id > 2);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '2 minutes'); reset role;
-- then: warning policy policy own on public.guests
-- given: another in its place that says what it said
drop policy own on guests;
create policy own on guests using (id > 1);
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now() - interval '1 minute'); reset role;
-- then: none
-- given: row-level security is off
alter table guests disable row level security;
select pg_sleep(1.1); set role monitoring_agent; select monitoring.sample(now()); reset role;
-- then: critical rls public.guests
-- given: a day has passed
update monitoring.changes set observed_at = observed_at - interval '25 hours';
-- then: none
