-- given: a table that nobody can reach but by a policy
create table guests (id int); alter table guests enable row level security; create policy own on guests using (id > 1);
-- then: none
-- given: row-level security is off
alter table guests disable row level security;
-- then: warning public.guests
-- given: and everybody may read it
grant select on guests to public;
-- then: critical public.guests
-- given: it is on, and lets everybody through
alter table guests enable row level security; create policy everybody on guests using (true);
-- then: critical public.guests
-- given: only the policy that restricts
drop policy everybody on guests;
-- then: none
-- given: a view that reads past it, for some
create view names as select id from guests; grant select on names to pg_signal_backend;
-- then: none
-- given: and then for everybody
grant select on names to public;
-- then: critical public.guests
-- given: the view is gone
drop view names;
-- then: none
