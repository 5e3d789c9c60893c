-- cluster:
-- then: none
-- given: the monitor may not see other sessions
revoke pg_monitor from monitoring_owner;
-- then: critical server
-- given: it may
grant pg_monitor to monitoring_owner;
-- then: none
