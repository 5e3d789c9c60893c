-- cluster: archive_mode = on
-- given: an operator with less patience, and an archive that works
update monitoring.thresholds set warning = 0, critical = 600000 where check_id = 'archiving-failed';
alter system set archive_command = 'true'; select pg_reload_conf(); select pg_switch_wal();
-- then: none
-- given: it is full, and what was full last is long since archived
do $$ begin
  for attempt in 1..600 loop
    exit when exists (select from pg_stat_archiver where last_archived_time is not null);
    perform pg_sleep(0.1), pg_stat_clear_snapshot();
  end loop;
end $$;
select pg_sleep(15);
update monitoring.thresholds set warning = 0.2 where check_id = 'archiving-failed';
alter system set archive_command = 'false'; select pg_reload_conf();
-- The archiver reads its configuration when it comes to it, and may still archive a segment or two by the old one.
do $$ begin
  for attempt in 1..600 loop
    perform pg_logical_emit_message(false, 'a guest', 'another'), pg_switch_wal(), pg_sleep(0.1), pg_stat_clear_snapshot();
    exit when exists (select from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity'));
  end loop;
end $$;
-- then: none
-- given: another little while
update monitoring.thresholds set warning = 0.05 where check_id = 'archiving-failed'; select pg_sleep(4);
-- then: warning server
-- given: there is room again
alter system set archive_command = 'true'; select pg_reload_conf();
create table weddings (id int); select pg_switch_wal();
-- then: none
