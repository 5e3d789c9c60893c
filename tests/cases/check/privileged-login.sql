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
