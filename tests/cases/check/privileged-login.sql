-- cluster:
-- given: a superuser that cannot sign in, and one whose time is over
create role past_it superuser nologin; create role former login bypassrls valid until '2020-01-01';
-- then: none
-- given: a login that no policy binds
create role app login bypassrls;
-- then: warning role app
-- given: it is bound
alter role app nobypassrls;
-- then: none
-- given: it may become a superuser
create role dba superuser nologin; grant dba to app;
-- then: warning role app
-- given: it may become the one that made the cluster
revoke dba from app; grant postgres to app;
-- then: warning role app
-- given: it may not, and PostgREST's login becomes service_role
revoke postgres from app; create role service_role nologin bypassrls; create role authenticator login noinherit; grant service_role to authenticator;
-- then: none
