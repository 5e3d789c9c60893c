-- The clock: in a session that sets replay.at it is that time, in any other the server's own.
create schema replay;
grant usage on schema replay to public;

create function replay.server_now() returns timestamptz language internal stable as 'now';
create function replay.server_clock() returns timestamptz language internal volatile as 'clock_timestamp';
create or replace function pg_catalog.now() returns timestamptz language sql stable parallel restricted
  as $$ select coalesce(nullif(current_setting('replay.at', true), '')::timestamptz, replay.server_now()) $$;
create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile parallel restricted
  as $$ select coalesce(nullif(current_setting('replay.at', true), '')::timestamptz, replay.server_clock()) $$;
