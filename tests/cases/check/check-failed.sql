-- then: none
-- given: a check that cannot be made
alter function monitoring.check_multixact_age() rename to set_aside;
-- then: warning multixact-age
-- given: it can
alter function monitoring.set_aside() rename to check_multixact_age;
-- then: none
