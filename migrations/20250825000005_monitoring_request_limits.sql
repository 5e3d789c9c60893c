-- pgvigil: how many requests a subject may make.
--
-- Here and not in the function's memory, because the limit holds for all instances together.

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
  -- Somebody's default may be a tablespace that monitoring_owner may not use.
  perform pg_catalog.set_config('pgvigil.migrating_tablespace', pg_catalog.current_setting('default_tablespace'), v_is_local);
  perform pg_catalog.set_config('default_tablespace', '', v_is_local);
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

-- Unlogged: no WAL for a request, and after a crash a minute's count is no loss.
create unlogged table if not exists monitoring.request_turns (
  -- SHA-256 of the token's subject: enough to tell subjects apart, and nothing to leak.
  subject_hash text not null,
  method       text not null check (method in ('GET', 'POST')),
  -- The turns taken in the last minute, oldest first, and by which requests.
  taken_at     timestamptz[] not null,
  requests     uuid[] not null,
  primary key (subject_hash, method)
) with (fillfactor = 50);
comment on table monitoring.request_turns is 'Per token subject and method, the requests of the last minute.';

-- Only those get here whom the guard lets read, so the table stays as small as the team is.
create or replace function monitoring.request_subject() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(sha256(convert_to(coalesce(monitoring.claims() ->> 'sub', ''), 'UTF8')), 'hex');
end
$$;

-- Where nothing can be written nothing can be counted, and reading is not refused for that.
create or replace function monitoring.counts_nothing() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean
    -- Three million before they would be used up the server hands out no more transaction ids (manual, "Preventing Transaction
    -- ID Wraparound Failures").
    or (select max(age(d.datfrozenxid)) from pg_database d) >= 2147483647 - 3000000;
end
$$;

-- A sliding minute and not a fixed one, in which twice the limit fits around its end. The row's lock makes the count exact;
-- it is held for this one statement's transaction. The same request again (a connection was lost before its answer) is the
-- same turn.
create or replace function monitoring.take_turn(p_method text, p_request text) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_limit int := (monitoring.setting(case p_method when 'GET' then 'gets_per_minute' else 'posts_per_minute' end) #>> '{}')::int;
  v_subject_hash text := monitoring.request_subject();
  v_request uuid := md5(p_request)::uuid;
  v_now timestamptz := clock_timestamp();
  -- Requests at the same time can count in another order than they came. What is further ahead is of a clock set back since.
  v_minute tstzrange := tstzrange(v_now - interval '1 minute', v_now + interval '1 minute', '()');
  v_is_first boolean;
  v_wait interval;
begin
  perform monitoring.authorize('read');
  if p_method is null or p_method not in ('GET', 'POST') or p_request is null then
    raise exception 'method must be GET or POST, and request a name' using errcode = 'invalid_parameter_value';
  end if;
  if monitoring.counts_nothing() then
    return null;
  end if;
  insert into monitoring.request_turns as r (subject_hash, method, taken_at, requests)
  values (v_subject_hash, p_method, array[v_now], array[v_request])
  on conflict (subject_hash, method) do update
    set (taken_at, requests) = (
      select array_agg(t.taken_at order by t.taken_at) || v_now, array_agg(t.request order by t.taken_at) || v_request
      from unnest(r.taken_at, r.requests) as t (taken_at, request)
      where t.taken_at <@ v_minute)
    where (select count(*) < v_limit from unnest(r.taken_at) as t (taken_at) where t.taken_at <@ v_minute)
      and v_request <> all (r.requests)
  returning r.xmax = 0 into v_is_first;
  if v_is_first then
    -- Somebody new: the time to forget who has long been gone, except who is coming back just now.
    delete from monitoring.request_turns where (subject_hash, method) in (
      select r.subject_hash, r.method from monitoring.request_turns r
      where r.taken_at[cardinality(r.taken_at)] < v_now - interval '1 hour'
      for update skip locked);
  end if;
  if v_is_first is not null or monitoring.has_turn(p_method, p_request) then
    return null;
  end if;
  -- The turn after whose minute there is room again.
  select t.taken_at + interval '1 minute' - clock_timestamp() into v_wait
  from monitoring.request_turns r cross join unnest(r.taken_at) as t (taken_at)
  where r.subject_hash = v_subject_hash and r.method = p_method and t.taken_at <@ v_minute
  order by t.taken_at desc
  offset v_limit - 1 limit 1;
  return greatest(1, ceil(extract(epoch from coalesce(v_wait, '1 second'))));
end
$$;
comment on function monitoring.take_turn(text, text) is
  'Counts a request (GET or POST) of the caller''s subject, once for each name of a request. Null: it may go on; else the seconds to wait.';

create or replace function monitoring.has_turn(p_method text, p_request text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  -- An unlogged table cannot even be planned for in recovery.
  if monitoring.counts_nothing() then
    return true;
  end if;
  return exists (
    select from monitoring.request_turns r
    where r.subject_hash = monitoring.request_subject() and r.method = p_method and md5(p_request)::uuid = any (r.requests));
end
$$;
comment on function monitoring.has_turn(text, text) is 'Whether take_turn() let this request of the caller''s subject go on.';

-- For a transaction that was sent before the answer of take_turn() was there: it ends here without one.
create or replace function monitoring.require_turn(p_method text, p_request text) returns void
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not monitoring.has_turn(p_method, p_request) then
    raise exception 'the caller has made too many requests' using errcode = 'PV429';
  end if;
end
$$;
comment on function monitoring.require_turn(text, text) is 'Raises PV429 where monitoring.has_turn() says no.';

do $private$ begin perform monitoring.make_private(
  'table monitoring.request_turns',
  'function monitoring.request_subject()',
  'function monitoring.counts_nothing()',
  'function monitoring.take_turn(text, text)',
  'function monitoring.has_turn(text, text)',
  'function monitoring.require_turn(text, text)'); end $private$;
grant execute on function monitoring.take_turn(text, text), monitoring.require_turn(text, text) to monitoring_reader;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000005', 'monitoring_request_limits', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
  begin
    perform pg_catalog.set_config('default_tablespace', pg_catalog.current_setting('pgvigil.migrating_tablespace'),
      coalesce(pg_catalog.current_setting('pgvigil.in_transaction', true) = 'yes', false));
  exception when invalid_parameter_value then
    null; -- a file may name one that is gone, which nobody can set: the database's own it is
  end;
end
$end$;
