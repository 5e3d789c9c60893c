-- cluster:
-- object: zero_damaged_pages
-- then: none
-- given: a server that empties damaged pages
alter system set zero_damaged_pages = on; select pg_reload_conf();
-- then: critical zero_damaged_pages
-- given: it reports them again
alter system reset zero_damaged_pages; select pg_reload_conf();
-- then: none
