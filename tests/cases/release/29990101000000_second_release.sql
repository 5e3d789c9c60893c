-- What a second release could bring: a column to a table in use, a table, a function, and a function made anew.

-- A migration waits at most this long for anybody's lock; it is better run again than everybody queued behind it. And what is not
-- qualified here is the system's: operators and functions that others have made in public would run as whoever migrates. For
-- the transaction where there is one, as there should be, or else for the session.
do $begin$
begin
  perform pg_catalog.set_config('lock_timeout', '5s', true);
  perform pg_catalog.set_config('pgvigil.in_transaction', 'yes', true);
end
$begin$;
do $path$
declare
  v_is_local boolean := coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) operator(pg_catalog.=) 'yes', false);
begin
  perform pg_catalog.set_config('pgvigil.migrating_search_path', pg_catalog.current_setting('search_path'), v_is_local);
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', v_is_local);
end
$path$;

-- Everything below is done by monitoring_owner. The migrating role becomes a member for as long as this takes: from 16 on
-- even the creator of a role is none until it grants itself that. Afterwards it may only what the agent may.
do $become$
declare
  v_version int := pg_catalog.current_setting('server_version_num')::int;
begin
  perform pg_catalog.set_config('pgvigil.migrating_role', pg_catalog.current_setting('role'), false);
  perform pg_catalog.set_config('pgvigil.became_owner', '', false);
  if (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
    or pg_catalog.pg_has_role(current_user, 'monitoring_owner', case when v_version >= 160000 then 'SET' else 'MEMBER' end)
  then
    return;
  end if;
  execute pg_catalog.format('grant monitoring_owner to %I', current_user)
    || case when v_version >= 160000 then ' with inherit true, set true' else '' end;
  perform pg_catalog.set_config('pgvigil.became_owner', current_user, false);
exception when insufficient_privilege then
  raise exception 'role "%" may not become monitoring_owner', current_user
    using errcode = 'insufficient_privilege',
          hint = pg_catalog.format('As the role that made it, or a superuser: grant monitoring_owner, monitoring_calendar, monitoring_members to %1$I with admin option%2$s; '
            'grant monitoring_reader, monitoring_agent to %1$I with admin option', current_user,
            case when v_version >= 160000 then ', inherit false, set false' else '' end);
end
$become$;
set role monitoring_owner;

alter table public.monitoring_events add column if not exists ticket text;
comment on column public.monitoring_events.ticket is 'Where it is dealt with.';

create table if not exists monitoring.on_call (
  weekday int primary key check (weekday between 1 and 7),
  name    text not null
);

create or replace function monitoring.who_is_on_call() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return (select o.name from monitoring.on_call o where o.weekday = extract(isodow from now())::int);
end
$$;

do $private$ begin perform monitoring.make_private(
  'table monitoring.on_call',
  'function monitoring.who_is_on_call()'); end $private$;
grant execute on function monitoring.who_is_on_call() to monitoring_reader;

insert into monitoring.migrations (version, name, sha256)
values ('29990101000000', 'second_release', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
on conflict (version) do nothing;

-- The role is put back to what it was: `reset role` would also undo a SET ROLE of the tool that runs this file.
do $return$
begin
  perform pg_catalog.set_config('role', pg_catalog.current_setting('pgvigil.migrating_role'), false);
  if pg_catalog.current_setting('pgvigil.became_owner') <> '' then
    execute pg_catalog.format('revoke monitoring_owner from %I', pg_catalog.current_setting('pgvigil.became_owner'));
  end if;
end
$return$;

do $end$
begin
  perform pg_catalog.set_config('search_path', pg_catalog.current_setting('pgvigil.migrating_search_path'),
    coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) = 'yes', false));
end
$end$;
