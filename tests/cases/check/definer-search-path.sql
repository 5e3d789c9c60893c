-- cluster:
-- given: a definer function with a search path of its own
create function safe() returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1';
create role landlord; grant create, usage on schema public to landlord;
-- then: none
-- given: one that trusts its caller, and runs as a superuser
create function unsafe() returns int language sql security definer as 'select 1';
-- then: critical public.unsafe()
-- given: not everybody may call it
revoke execute on function unsafe() from public;
-- then: warning public.unsafe()
-- given: whoever comes through an API may
create role anon; grant execute on function unsafe() to anon;
-- then: critical public.unsafe()
-- given: a search path
alter function unsafe() set search_path = '';
-- then: none
