-- cluster: archive_mode = on
-- given: an operator with less patience, and an archive that works
update monitoring.thresholds set warning = 0, critical = 600000 where check_id = 'archiving-failed';
alter system set archive_command = 'true'; select pg_reload_conf(); select pg_switch_wal();
-- then: none
-- given: it is full
alter system set archive_command = 'false'; select pg_reload_conf(); create table guests (id int); select pg_switch_wal();
-- then: warning server
-- given: there is room again
alter system set archive_command = 'true'; select pg_reload_conf();
create table weddings (id int); select pg_switch_wal();
-- then: none
