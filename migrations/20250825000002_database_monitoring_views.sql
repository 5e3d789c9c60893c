-- pgvigil: the WS-154 objects in schema public, and the functions behind them.
--
-- Statistics of other sessions are shown to pg_read_all_stats only, and a view does not lend its owner's rights there:
-- the check is on the user that runs the function. So each view reads a security definer function that runs as
-- monitoring_owner and asks first whether the caller may read. No view names a catalog column that changes between
-- PostgreSQL 14 and 18. JIT is off in them: the planner cannot know how few rows the catalogs give, and compiling would take
-- ten times as long as running. Plans are generic, so that a session plans each once: planning costs more than a small
-- database's answers. What thousands of tables have to say fits into 16 MB, not into the usual 4: it would go through a file.

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

do $refuse$
declare
  v_object record;
begin
  for v_object in
    select c.oid, case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'i' then 'index' else 'table' end as kind,
      c.relname as name, c.oid::regclass::text as identity
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace
      and c.relname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
        'monitoring_rls_status', 'monitoring_events',
        'monitoring_events_pkey', 'monitoring_events_created_at_idx', 'monitoring_events_open_fingerprint_key',
        'monitoring_events_resolved_at_idx', 'monitoring_events_last_seen_at_idx', 'monitoring_events_open_severity_idx')
      and pg_catalog.pg_get_userbyid(c.relowner) <> 'monitoring_owner'
    union all
    select t.oid, 'type', t.typname, t.oid::regtype::text
    from pg_catalog.pg_type t
    where t.typnamespace = 'public'::regnamespace and t.typrelid = 0
      and t.typname in ('monitoring_slow_queries', 'monitoring_connections', 'monitoring_table_health',
        'monitoring_rls_status', 'monitoring_events')
    union all
    select p.oid, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, p.proname, p.oid::regprocedure::text
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('get_database_monitoring_summary', 'record_monitoring_event', 'cleanup_old_monitoring_data')
      and pg_catalog.pg_get_userbyid(p.proowner) <> 'monitoring_owner'
  loop
    raise exception '% public.% already exists and is not pgvigil''s', v_object.kind, v_object.name
      using errcode = 'duplicate_object',
            hint = pg_catalog.format('Rename it (alter %s %s rename to ...) or drop it, then run the migration again.',
              v_object.kind, v_object.identity);
  end loop;
end
$refuse$;

grant create on schema public to monitoring_owner;
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

-- Redaction -----------------------------------------------------------------------------------------------------------

-- What may be shown of a statement. One regular expression is the lexer: it matches the longest run of text that holds no
-- literal, then one literal, and puts a ? in the literal's place. A lexer, not a parser: statement text arrives cut at
-- track_activity_query_size, inside a literal as well as anywhere else. Where it is ambiguous what is text and what is
-- literal (a backslash before a quote depends on the session's standard_conforming_strings; nested comments; tagged
-- dollar quotes), everything that follows goes. Lexical rules: manual, "Lexical Structure".
create or replace function monitoring.redact(query text) returns text
language plpgsql immutable parallel safe strict
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_kept constant text :=
    '(?:[\u0002-\u0021\u0023\u0025\u0026\u0028-\u002c\u002e\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]' -- other signs
    || '|[^\u0001-\u0040\u005b-\u005e\u0060\u007b-\u007f][^\u0001-\u0023\u0025-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*(?!\$)' -- words
    || '|"(?:[^"\u0001]|"")*"' -- quoted identifiers
    || '|\$[0-9]+' -- parameters
    || '|-(?!-)|/(?!\*))*';
  v_literal constant text :=
    $re$'(?:[^'\\]|''|\\[^'])*(?:'|\\?$)|'(?:[^'\\]|''|\\[^'])*\\'.*$re$ -- strings; what follows \' may be either
    || '|"(?:[^"]|"")*$' -- a quoted identifier that was cut
    || '|\$\$(?:[^$]|\$[^$])*(?:\$\$|\$?$)|\$(?![0-9$]).*' -- dollar quotes; what follows a tag goes
    || '|[0-9][^\u0001-\u002d\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*(?:\$.*)?' -- numbers
    || '|--[^\n\r\u0001]*'
    || '|/\*(?:[^*/]|\*(?!/)|/(?!\*))*(?:\*/|$)|/\*(?:[^*/]|\*(?!/)|/(?!\*))*/\*.*'; -- comments; what follows a nested one goes
  -- A mark that ends the text, so that its last run without a literal is matched like the others. The window bounds the
  -- work: a preview of 200 characters needs no more of a statement of a megabyte.
  -- From 18 on pg_stat_statements writes a list of constants as its first one and a comment.
  v_text text := translate(replace(left(query, 2000), ' /*, ... */', ', ...'), E'\x01', ' ') || E'\x01';
begin
  v_text := regexp_replace(v_text, '(' || v_kept || ')(?:(\u0001)|' || v_literal || ')', '\1?\2', 'g');
  v_text := replace(replace(v_text, E'?\x01', ''), E'\x01', '');
  v_text := regexp_replace(v_text, '\m(?:[eEbBxXnN]|[uU]&)\?', '?', 'g'); -- the prefix of a string
  -- What the lexer takes for a blank: others are letters of a name.
  v_text := btrim(regexp_replace(v_text, '[ \t\n\r\f\v]+', ' ', 'g'));
  -- Statements whose very subject is a secret, or that may carry one outside a literal (SET app.token TO abc).
  if regexp_replace(replace(v_text, ', ...', ' '), '[ ?]+', ' ', 'g') ~* (
    '(?:^|;) ?(?:create|alter) (?:role|user|group|subscription|server|foreign data wrapper|system|or replace (?:server|subscription))\M'
    '|^(?:[^"]|"[^"]*")*\mset(?:' -- not in a quoted name, of which each is whole here
      ' (?:session |local )?[^ =,()]* ?\.' -- a name, if it was not taken for the prefix of a string, and not what a column is set to
      '| ?(?:(?:session|local) ?)?"(?:[^"]|"")*"? ?\.' -- a quoted name needs no blank before it, and may hold the dot
      '| (?:(?:session|local) ?)?u&")') -- nor a dot that is seen
  then
    return '[REDACTED]';
  end if;
  return left(v_text, 200);
end
$$;
comment on function monitoring.redact(text) is
  'A preview of a statement that holds no literal and no comment, at most 200 characters; [REDACTED] for a statement that carries a secret.';

-- The names of roles and databases are the cluster's, each in the encoding in which it was given, and so are the statements of other
-- databases: here they may be no text at all, which nobody could keep or send.
create or replace function monitoring.is_legible(p_text text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform convert_to(p_text, getdatabaseencoding());
  return true;
exception when character_not_in_repertoire or untranslatable_character then
  return false;
end
$$;
comment on function monitoring.is_legible(text) is 'Whether this is text in the encoding of this database.';

create or replace function monitoring.legible(p_text text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bytes text := encode(replace(p_text, e'\\', e'\\\\')::bytea, 'escape');
begin
  -- Nearly every name is ASCII, and says so for less than it takes to try.
  return case when v_bytes = p_text or monitoring.is_legible(p_text) then p_text else v_bytes end;
end
$$;
comment on function monitoring.legible(text) is 'The text, or, where it is none in the encoding of this database, its bytes: those that are no ASCII in octal.';

create or replace function monitoring.role_name(p_role oid) returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return monitoring.legible(pg_get_userbyid(p_role)::text)::name;
end
$$;
comment on function monitoring.role_name(oid) is 'What a role is called, legible; the number of one that is gone.';

-- In SQL, these two, so that they are inlined.
create or replace function monitoring.may_become(p_role oid, p_other oid) returns boolean
language sql stable
as $$
  select pg_catalog.pg_has_role(p_role, p_other,
    case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 operator(pg_catalog.>=) 160000 then 'SET' else 'MEMBER' end)
$$;
comment on function monitoring.may_become(oid, oid) is 'Whether a role may become another by SET ROLE: until 15 whoever is a member may.';

create or replace function monitoring.may_do(p_role oid, p_relation oid, p_cmd text default null) returns boolean
language sql stable
as $$
  select case
    when p_cmd is null then pg_catalog.has_any_column_privilege(p_role, p_relation, 'select, insert, update')
      or pg_catalog.has_table_privilege(p_role, p_relation, 'delete')
    when p_cmd operator(pg_catalog.=) 'DELETE' then pg_catalog.has_table_privilege(p_role, p_relation, 'delete')
    else pg_catalog.has_any_column_privilege(p_role, p_relation, p_cmd)
  end
$$;
comment on function monitoring.may_do(oid, oid, text) is
  'Whether a role may SELECT, INSERT, UPDATE or DELETE in a relation, in one column at least; without a command whether it may do any of them.';

-- What is watched -----------------------------------------------------------------------------------------------------

create or replace function monitoring.is_application_schema(p_schema name, p_configured name[]) returns boolean
language sql immutable parallel safe
as $$
  select p_schema operator(pg_catalog.<>) all ('{information_schema,monitoring}'::pg_catalog.name[])
    and not pg_catalog.starts_with(p_schema::pg_catalog.text, 'pg_')
    and (p_configured is null or p_schema operator(pg_catalog.=) any (p_configured))
$$;
comment on function monitoring.is_application_schema(name, name[]) is
  'Whether a schema''s tables are watched: those configured, or all; never the system''s and pgvigil''s own.';

-- The monitor's own sessions are known by the login role they run as, which nobody can claim who does not have it: a
-- login without inheritance that was made a member of monitoring_agent. Not by their text and not by application_name.
create or replace function monitoring.own_logins() returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(array_agg(r.oid), '{}')
    from pg_auth_members m join pg_roles r on r.oid = m.member
    -- From 16 on each membership says for itself whether it is inherited.
    where m.roleid = 'monitoring_agent'::regrole and not r.rolsuper
      and not (r.rolinherit and coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true))
      -- From 16 on each grantor's is a membership of its own.
      and not exists (select from pg_auth_members a where a.roleid = m.roleid and a.member = m.member and a.admin_option));
end
$$;

-- A statement is counted for the role it ran as: of the monitor's own, those its logins switch to, and where those inside of functions are
-- counted, too (pg_stat_statements.track = all), the functions' owners.
create or replace function monitoring.own_roles() returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return monitoring.own_logins() || array['monitoring_reader'::regrole::oid, 'monitoring_agent'::regrole::oid, 'monitoring_owner'::regrole::oid,
    'monitoring_calendar'::regrole::oid, 'monitoring_members'::regrole::oid];
end
$$;

-- The sessions, seen once: reading them costs the same whoever asks and whatever for, so a sample and a summary read them once and
-- hand them on. The text of who idles is left out, being the bulk and nobody's matter.
do $types$
begin
  if pg_catalog.to_regtype('monitoring.seen_backend') is null then
    create type monitoring.seen_backend as (pid int, datid oid, usesysid oid, application_name text, client_addr inet, backend_type text,
      state text, wait_event_type text, xact_start timestamptz, query_start timestamptz, state_change timestamptz, query_id bigint, query text);
  end if;
end
$types$;

create or replace function monitoring.look_at_backends() returns monitoring.seen_backend[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  -- The function and not the view, which would join names to it.
  return array(
    select row(g.pid, g.datid, g.usesysid, g.application_name, g.client_addr, g.backend_type, g.state, g.wait_event_type, g.xact_start,
      g.query_start, g.state_change, g.query_id, case when g.state <> 'idle' then g.query end)::monitoring.seen_backend
    from pg_stat_get_activity(null) g);
end
$$;
comment on function monitoring.look_at_backends() is 'Every process of the server as pg_stat_get_activity() shows it to the caller; without the text where it idles.';

create or replace function monitoring.checked_limit(p_limit int) returns int
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_limit < 0 then
    raise exception 'limit must be 0 or more, or null for all' using errcode = 'invalid_parameter_value';
  end if;
  return p_limit;
end
$$;
comment on function monitoring.checked_limit(int) is 'At most so many rows, null: all of them; an error where that is no number of rows.';

-- Slow is what has run longer than slow_query_threshold_ms. With the texts as they are, so for the owner's own functions alone:
-- to redact one takes longer than all the rest, and not everybody shows every one.
create or replace function monitoring.slow_sessions(p_limit int, p_backends monitoring.seen_backend[]) returns table (
  query_start timestamptz, state text, query text, duration_ms bigint, pid int, username name, application_name text, client_addr inet,
  wait_event_category text, query_id bigint, transaction_ms bigint, blocked_by int[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_threshold interval := make_interval(secs => (monitoring.setting('slow_query_threshold_ms') #>> '{}')::float8 / 1000);
  v_own_logins oid[] := monitoring.own_logins();
  v_database oid := (select d.oid from pg_database d where d.datname = current_database());
begin
  return query
    with slow as materialized (
      select a.*, clock_timestamp() as seen_at
      from unnest(p_backends) a
      where a.backend_type = 'client backend'
        and a.datid = v_database
        and a.state in ('active', 'fastpath function call')
        and a.query_start < clock_timestamp() - v_threshold
        and a.pid <> pg_backend_pid()
        and a.usesysid <> all (v_own_logins)
      order by a.query_start
      limit monitoring.checked_limit(p_limit)
    )
    select s.query_start, s.state, s.query,
      (extract(epoch from s.seen_at - s.query_start) * 1000)::bigint,
      s.pid, monitoring.role_name(s.usesysid), s.application_name, s.client_addr, coalesce(s.wait_event_type, 'CPU'), s.query_id,
      (extract(epoch from s.seen_at - s.xact_start) * 1000)::bigint,
      case when s.wait_event_type = 'Lock' then pg_blocking_pids(s.pid) else '{}' end
    from slow s
    order by s.query_start;
end
$$;

create or replace function monitoring.slow_queries(p_limit int default null) returns table (
  query_start timestamptz, state text, query_preview text, duration_ms bigint, pid int, username name,
  application_name text, client_addr inet, wait_event_category text, query_id bigint, transaction_ms bigint,
  blocked_by int[])
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    select s.query_start, s.state, monitoring.redact(s.query), s.duration_ms, s.pid, s.username, s.application_name, s.client_addr,
      s.wait_event_category, s.query_id, s.transaction_ms, s.blocked_by
    from monitoring.slow_sessions(p_limit, monitoring.look_at_backends()) s;
end
$$;
comment on function monitoring.slow_queries(int) is 'What public.monitoring_slow_queries shows, longest first, at most p_limit rows.';

-- Who waits for a lock, and who is at the head of each queue. pg_blocking_pids() knows queues; joining pg_locks to itself
-- blames innocent readers. A session that waits in two queues is in both trees. Of a deadlock nobody is the head, and in a
-- second the server will have ended it.
create or replace function monitoring.lock_trees(p_backends monitoring.seen_backend[]) returns table (
  root_pid int, pid int, blocked_by int[], waits_since timestamptz, xact_start timestamptz, state text, usesysid oid,
  application_name text, query text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_database oid := (select d.oid from pg_database d where d.datname = current_database());
  v_waiting int[] := array(
    select a.pid from unnest(p_backends) a
    where a.wait_event_type = 'Lock' and a.backend_type = 'client backend'
      and a.datid = v_database);
begin
  if v_waiting = '{}' then
    return;
  end if;
  return query
    with recursive requests as materialized (
      -- How long a session has waited is when its lock request began, not when its statement did.
      select l.pid, min(l.waitstart) as waits_since from pg_locks l where not l.granted group by l.pid
    ), waits as materialized (
      select w.pid, pg_blocking_pids(w.pid) as blockers, r.waits_since
      from (
          select unnest(v_waiting)
          union
          -- While it looks whether it is in a deadlock, a session is not said to wait, and would seem to be the head of those behind it.
          select a.pid
          from unnest(p_backends) a join requests r on r.pid = a.pid
          where a.backend_type = 'client backend' and a.datid = v_database
        ) w (pid)
        left join requests r on r.pid = w.pid
    ), edges as materialized (
      select w.pid, b.pid as blocker from waits w, unnest(w.blockers) as b (pid)
    ), trees as (
      -- UNION and not UNION ALL: in a long queue everybody waits for everybody before, and the ways through it are countless.
      select distinct e.blocker as root_pid, e.blocker as pid
      from edges e
      where e.blocker not in (select k.pid from edges k)
      union
      select t.root_pid, e.pid from trees t join edges e on e.blocker = t.pid
    )
    select t.root_pid, t.pid, coalesce(w.blockers, '{}'), w.waits_since, a.xact_start,
      -- Process 0 is a prepared transaction.
      coalesce(a.state, a.backend_type, 'prepared transaction'), a.usesysid, a.application_name,
      -- Who idles can hold a lock, too.
      -- Who is in another database keeps its encoding.
      case when a.datid is not distinct from v_database or monitoring.is_legible(q.query) then q.query else '[not readable: in another encoding]' end
    from trees t
      left join waits w on w.pid = t.pid
      left join unnest(p_backends) a on a.pid = t.pid
      cross join lateral (
        select case when a.state = 'idle' then (select g.query from pg_stat_get_activity(a.pid) g) else a.query end as query
      ) q;
end
$$;

create or replace function monitoring.locks(p_limit int default null) returns table (
  root_pid int, pid int, is_root boolean, blocked_by int[], waiting_ms bigint, transaction_ms bigint, state text,
  username name, application_name text, wants text, holds text[], query_preview text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set quote_all_identifiers = off
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  return query
    with trees as materialized (
      -- Cut before anything is worded: behind each of many heads waits everybody.
      select t.*, row_number() over (order by t.root_waits_since is null, t.root_waits_since, t.root_pid, t.pid <> t.root_pid, t.waits_since) as place
      from (
          select k.*, min(k.waits_since) over (partition by k.root_pid) as root_waits_since
          from monitoring.lock_trees(monitoring.look_at_backends()) k
        ) t
      order by place
      limit monitoring.checked_limit(p_limit)
    ), sessions as materialized (
      select t.pid, min(t.query) as query from trees t group by t.pid
    ), locks as materialized (
      select l.pid, l.granted, l.waitstart, l.mode, l.locktype, l.relation,
        case l.locktype
          when 'relation' then l.relation::regclass::text
          when 'tuple' then format('a row of %s', l.relation::regclass)
          when 'extend' then format('the end of %s', l.relation::regclass)
          when 'transactionid' then format('transaction %s', l.transactionid)
          when 'virtualxid' then format('transaction %s', l.virtualxid)
          when 'advisory' then format('advisory lock %s, %s', l.classid, l.objid)
          else l.locktype
        end as subject
      from pg_locks l
      where l.pid in (select s.pid from sessions s)
        and (l.locktype <> 'relation' or l.database in (0, (select d.oid from pg_database d where d.datname = current_database())))
    ), wanted as materialized (
      select distinct on (l.pid) l.pid, l.mode, l.locktype, l.subject from locks l where not l.granted order by l.pid, l.waitstart
    ), queued as materialized (
      -- Who waits for a row waits for the transaction that has changed it, and holds the row's place in the queue.
      select l.pid, min(l.subject) as subject from locks l where l.granted and l.locktype = 'tuple' group by l.pid
    ), held as materialized (
      select h.pid, (array_agg(distinct format('%s on %s', h.mode, h.subject)))[1:10] as holds
      from locks h
      where h.granted and h.locktype in ('relation', 'advisory') and h.relation is distinct from 0
      group by h.pid
    ), told as materialized (
      -- Each session once, in however many trees it is.
      select s.pid, w.mode, w.locktype, w.subject, q.subject as row_subject, coalesce(h.holds, '{}') as holds, monitoring.redact(s.query) as query_preview
      from sessions s left join wanted w on w.pid = s.pid left join queued q on q.pid = s.pid left join held h on h.pid = s.pid
    )
    select t.root_pid, t.pid, t.pid = t.root_pid, t.blocked_by,
      (extract(epoch from clock_timestamp() - t.waits_since) * 1000)::bigint,
      (extract(epoch from clock_timestamp() - t.xact_start) * 1000)::bigint,
      t.state, monitoring.role_name(t.usesysid), t.application_name,
      case when t.blocked_by <> '{}' and k.mode is not null then format('%s on %s', k.mode,
        coalesce(case when k.locktype = 'transactionid' then k.row_subject end, k.subject)) end,
      k.holds, k.query_preview
    from trees t left join told k on k.pid = t.pid
    order by t.place;
end
$$;
comment on function monitoring.locks(int) is
  'Trees of sessions that wait for a lock in this database, the longest wait first, each with its root first: who waits for nobody, what it holds and for how long its transaction has been open.';

create or replace function monitoring.connections_of(p_backends monitoring.seen_backend[]) returns table (
  active_connections bigint, idle_connections bigint, idle_in_transaction bigint, total_connections bigint,
  utilization_percent numeric, database_name name, database_connections bigint, max_connections int,
  waiting_for_lock bigint, longest_transaction_ms bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_max int := current_setting('max_connections')::int;
  -- Ordinary roles cannot use the reserved ones; reserved_connections is there from 16 on.
  v_usable int := greatest(1, v_max - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0));
begin
  return query
    with per_database as (
      select a.datid,
        count(*) filter (where a.state in ('active', 'fastpath function call')) as active,
        count(*) filter (where a.state = 'idle') as idle,
        count(*) filter (where a.state like 'idle in transaction%') as idle_in_transaction,
        count(*) as total,
        count(*) filter (where a.wait_event_type = 'Lock') as waiting,
        max(clock_timestamp() - a.xact_start) as longest_transaction
      from unnest(p_backends) a
      where a.backend_type = 'client backend'
      group by a.datid
    ), server as (
      select sum(d.active)::bigint as active, sum(d.idle)::bigint as idle,
        sum(d.idle_in_transaction)::bigint as idle_in_transaction, sum(d.total)::bigint as total
      from per_database d
    )
    select s.active, s.idle, s.idle_in_transaction, s.total, round(100.0 * s.total / v_usable, 2),
      monitoring.legible(k.datname::text)::name, d.total, v_max, d.waiting, (extract(epoch from d.longest_transaction) * 1000)::bigint
    from per_database d cross join server s
      join pg_database k on k.oid = d.datid
    order by d.total desc, k.datname;
end
$$;

create or replace function monitoring.connections() returns table (
  active_connections bigint, idle_connections bigint, idle_in_transaction bigint, total_connections bigint,
  utilization_percent numeric, database_name name, database_connections bigint, max_connections int,
  waiting_for_lock bigint, longest_transaction_ms bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return query select * from monitoring.connections_of(monitoring.look_at_backends());
end
$$;
comment on function monitoring.connections() is 'What public.monitoring_connections shows, the busiest database first.';

-- relpages is of the last VACUUM or ANALYZE, and of a TOAST table, which ANALYZE leaves alone, of the last VACUUM; rows that came since take room
-- too. They take as much as those that were there, but no more than a page for so many: where hardly any row was left, the pages say
-- little of how many fit. In SQL, so that it is inlined.
create or replace function monitoring.estimated_pages(p_pages int, p_tuples real, p_tuples_now bigint, p_least_tuples_a_page int) returns bigint
language sql stable
as $$
  select greatest(p_pages, (p_tuples_now operator(pg_catalog./) greatest(p_least_tuples_a_page, p_tuples operator(pg_catalog./) nullif(p_pages, 0)))::bigint)
$$;

-- What belongs to a table beside its heap: its TOAST table and the indexes of both. That takes a look at every index, so
-- large databases remember it.
create or replace function monitoring.look_at_companions() returns table (
  table_oid oid, companion_pages bigint, index_scans bigint, toast_frozen_xid xid, toast_min_multixact xid, toast_options text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with relations as materialized (
      select c.oid, c.relkind, c.reltoastrelid, c.relpages, c.reltuples, c.relfrozenxid, c.relminmxid, c.reloptions
      from pg_class c
      where c.oid >= 16384 and c.relkind in ('r', 'm', 't') and c.relpersistence <> 't' -- the system's own are below
        and c.relnamespace <> 'monitoring'::regnamespace
    ), indexes as materialized (
      -- Nobody asks how often a TOAST table was scanned.
      select i.indrelid, sum(c.relpages)::bigint as pages,
        sum(case when c.relnamespace <> 'pg_toast'::regnamespace then pg_stat_get_numscans(i.indexrelid) end)::bigint as scans
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid >= 16384
      group by i.indrelid
    )
    select r.oid, coalesce(i.pages, 0) + coalesce(
        -- Values are cut into four a page (manual, "TOAST").
        monitoring.estimated_pages(t.relpages, t.reltuples, pg_stat_get_live_tuples(t.oid) + pg_stat_get_dead_tuples(t.oid), 4), 0) + coalesce(ti.pages, 0), i.scans,
      nullif(t.relfrozenxid, '0'), nullif(t.relminmxid, '0'), t.reloptions
    from relations r
      left join indexes i on i.indrelid = r.oid
      left join relations t on t.oid = r.reltoastrelid
      left join indexes ti on ti.indrelid = t.oid
    where r.relkind <> 't';
end
$$;
comment on function monitoring.look_at_companions() is
  'Per table, pages of its TOAST table and of all indexes by the last VACUUM or ANALYZE, scans of its indexes (null: it has none), age and options of its TOAST table.';

-- What is remembered of them, or of a large database seen at once: nothing of a small one, nor of a table that is younger than the
-- memory, the system's or our own.
create or replace function monitoring.companions() returns table (
  table_oid oid, companion_pages bigint, index_scans bigint, toast_frozen_xid xid, toast_min_multixact xid, toast_options text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if not monitoring.is_large() then
    return;
  elsif monitoring.is_remembered('companions') then
    return query
      select r.table_oid, r.companion_pages, r.index_scans, r.toast_frozen_xid, r.toast_min_multixact, r.toast_options
      from monitoring.remembered_companions r;
  else
    return query select * from monitoring.look_at_companions();
  end if;
end
$$;

-- What of a single one is not remembered, by index: as monitoring.look_at_companions() answers it for all at once.
create or replace function monitoring.companion_pages(p_table oid, p_toast oid) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  return coalesce((
      select sum((select x.relpages from pg_class x where x.oid = i.indexrelid))
      from pg_index i where i.indrelid = p_table or i.indrelid = p_toast), 0)
    + coalesce((
      select monitoring.estimated_pages(t.relpages, t.reltuples, pg_stat_get_live_tuples(t.oid) + pg_stat_get_dead_tuples(t.oid), 4)
      from pg_class t where t.oid = p_toast), 0);
end
$$;

-- The server keeps a table's integer options as they were written and reads them as C does: 1e6 and 0x10 are numbers, 010 is eight
-- (manual, "Parameter Names and Values").
create or replace function monitoring.integer_option(p_written text) returns bigint
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_octal text := substring(p_written from '^[[:space:]]*[+-]?0+([1-7][0-7]*)[[:space:]]*$');
begin
  if v_octal is null then
    return round(p_written::float8); -- half a number goes to the even one, as there
  end if;
  return case when p_written like '%-%' then -1 else 1 end * (
    select sum(substr(v_octal, p, 1)::int * 8::numeric ^ (length(v_octal) - p)) from generate_series(1, length(v_octal)) p);
end
$$;
comment on function monitoring.integer_option(text) is 'An integer storage parameter, as the server understands what was written.';

-- The scan of pg_class: most of its rows are indexes and TOAST tables. companion_pages null: of its companions nothing is remembered.
create or replace function monitoring.look_at_tables() returns setof monitoring.remembered_tables
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
begin
  return query
    select c.oid, c.reltoastrelid, n.nspname, c.relname, c.relpages, c.reltuples,
      -- Hardly any table has settings of its own.
      case when a.has_own then (select monitoring.integer_option(o.option_value) from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_vacuum_threshold')::float8 end,
      case when a.has_own then (select o.option_value from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_vacuum_scale_factor')::float8 end,
      case when a.has_own then (select monitoring.integer_option(o.option_value) from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_vacuum_max_threshold')::float8 end,
      case when a.has_own then (select monitoring.integer_option(o.option_value) from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_freeze_max_age') end,
      case when a.has_own then (select monitoring.integer_option(o.option_value) from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_multixact_freeze_max_age') end,
      nullif(c.relfrozenxid, '0'), nullif(c.relminmxid, '0'), k.companion_pages, k.index_scans,
      case when k.table_oid is not null then k.toast_frozen_xid else x.frozen_xid end,
      case when k.table_oid is not null then k.toast_min_multixact else x.min_multixact end,
      case when a.toast_options is not null then (select monitoring.integer_option(o.option_value) from pg_options_to_table(a.toast_options) o where o.option_name = 'autovacuum_freeze_max_age') end,
      case when a.toast_options is not null then (select monitoring.integer_option(o.option_value) from pg_options_to_table(a.toast_options) o where o.option_name = 'autovacuum_multixact_freeze_max_age') end
    from (
        -- Of the many indexes and TOAST tables, which have no row type, no more is unpacked than tells that.
        select r.oid, r.relname, r.relnamespace, r.reltoastrelid, r.relpages, r.reltuples, r.relkind, r.relpersistence, r.relfrozenxid,
          r.relminmxid, r.reloptions
        from pg_class r
        where r.reltype <> 0
        offset 0
      ) c
      join pg_namespace n on n.oid = c.relnamespace
      left join monitoring.companions() k on k.table_oid = c.oid
      left join lateral (
        select nullif(t.relfrozenxid, '0') as frozen_xid, nullif(t.relminmxid, '0') as min_multixact, t.reloptions
        from pg_class t where t.oid = c.reltoastrelid and k.table_oid is null
        offset 0 -- table by table
      ) x on true
      cross join lateral (select c.reloptions is not null and position('autovacuum_' in c.reloptions::text) > 0 as has_own) o
      cross join lateral (
        -- Autovacuum goes by the table's for its TOAST table, too, as long as that has none at all (manual, "Storage Parameters").
        select o.has_own, coalesce(k.toast_options, x.reloptions, case when o.has_own then c.reloptions end) as toast_options) a
    where (c.relkind = 'r' or c.relkind = 'm') and c.relpersistence <> 't'
      and monitoring.is_application_schema(n.nspname, v_schemas);
end
$$;

create or replace function monitoring.tables() returns setof monitoring.remembered_tables
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if monitoring.is_remembered('tables') then
    return query select * from monitoring.remembered_tables;
  else
    return query select * from monitoring.look_at_tables();
  end if;
end
$$;

-- What can be told of every application table without opening one. A view, so that who needs three of its columns pays
-- for three; for the owner's own functions alone.
create or replace view monitoring.table_states as
  with limits as materialized (
    select pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8 as vacuum_threshold,
      pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8 as vacuum_scale_factor,
      -- From 18 on a cap on the threshold; -1 is none.
      coalesce(pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true), '-1')::float8 as vacuum_max_threshold,
      pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint as freeze_max_age,
      pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::bigint as multixact_freeze_max_age
  )
  select t.table_oid as oid, t.toast_oid, t.schemaname, t.tablename, t.live_tuples, t.dead_tuples,
    -- Null: nothing is remembered of its companions; monitoring.companion_pages() looks them up for who needs them. Not by a join: some of
    -- those who ask have forbidden nested loops, and any other reads pg_index once for each table.
    t.companion_pages,
    case when t.companion_pages is not null then t.index_scans else (
      select pg_catalog.sum(pg_catalog.pg_stat_get_numscans(i.indexrelid))::bigint
      from pg_catalog.pg_index i where i.indrelid = t.table_oid) end as index_scans,
    -- Wraparound threatens by the older of the table and its TOAST table.
    greatest(t.heap_xid_age, t.toast_xid_age) as xid_age,
    monitoring.estimated_pages(t.relpages, t.reltuples, t.live_tuples + t.dead_tuples, 64) as heap_pages,
    -- As autovacuum decides (manual, "The Autovacuum Daemon"): dead tuples, or age of transaction ids. Not so inserts:
    -- those vacuums freeze ahead of time, and a table that waits for one is not ill.
    t.dead_tuples > least(
        coalesce(t.vacuum_threshold, l.vacuum_threshold)
          + coalesce(t.vacuum_scale_factor, l.vacuum_scale_factor) * greatest(t.reltuples, 0),
        nullif(coalesce(t.vacuum_max_threshold, l.vacuum_max_threshold), -1))
      or coalesce(t.heap_xid_age > least(t.freeze_max_age, l.freeze_max_age), false)
      or coalesce(t.heap_mxid_age > least(t.multixact_freeze_max_age, l.multixact_freeze_max_age), false)
      or coalesce(t.toast_xid_age > least(t.toast_freeze_max_age, l.freeze_max_age), false)
      or coalesce(t.toast_mxid_age > least(t.toast_multixact_freeze_max_age, l.multixact_freeze_max_age), false) as needs_vacuum
  from (
    select r.*, pg_catalog.pg_stat_get_live_tuples(r.table_oid) as live_tuples, pg_catalog.pg_stat_get_dead_tuples(r.table_oid) as dead_tuples,
      pg_catalog.age(r.frozen_xid) as heap_xid_age, pg_catalog.age(r.toast_frozen_xid) as toast_xid_age,
      pg_catalog.mxid_age(r.min_multixact) as heap_mxid_age, pg_catalog.mxid_age(r.toast_min_multixact) as toast_mxid_age
    from monitoring.tables() r
  ) t
    cross join limits l;
comment on view monitoring.table_states is 'Per application table: estimated pages, tuples, age, and whether it is past its own autovacuum threshold.';

-- Every form that measures a size opens the relation and so waits for a migration that holds ACCESS EXCLUSIVE on it.
-- Sizes are therefore measured only for tables nobody holds or awaits that lock on, and only for the 100 largest by what
-- the catalog says (25 stat() calls a table; of a large database the 40 largest), or twice as many as are asked for, up to 200; for the others the size is relpages of table, TOAST and indexes as
-- the last VACUUM or ANALYZE left them.
create or replace function monitoring.table_health(p_limit int default null) returns table (
  schemaname name, tablename name, total_size text, total_size_bytes bigint, inserts bigint, updates bigint,
  deletes bigint, live_tuples bigint, dead_tuples bigint, dead_tuple_percent numeric, last_vacuum timestamptz,
  last_autovacuum timestamptz, last_analyze timestamptz, last_autoanalyze timestamptz, sequential_scans bigint,
  index_scans bigint, index_usage_percent numeric, xid_age int, needs_vacuum boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set lock_timeout = '100ms'
set jit = off
as $$
#variable_conflict use_column
declare
  v_block_bytes bigint := current_setting('block_size')::bigint;
  -- With thousands of tables the largest stand out; with a few dozen the catalog cannot tell which they are.
  v_is_remembered boolean := monitoring.is_remembered('companions');
  v_most_measured int := greatest(case when p_limit is not null then 2 * least(greatest(p_limit, 0), 100) end, case when v_is_remembered then 40 else 100 end);
  v_measured_tables int;
  -- There are no more than so many. Not counted where they are thousands.
  v_tables bigint := case when not v_is_remembered then (
    select count(*) from pg_class c
    where c.reltype <> 0 and (c.relkind = 'r' or c.relkind = 'm') and c.oid >= 16384 and c.relnamespace <> 'monitoring'::regnamespace) end;
  v_locked oid[] := array(
    select l.relation
    from pg_locks l
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
      and l.pid is distinct from pg_backend_pid() -- a prepared transaction has none
      and l.database = (select d.oid from pg_database d where d.datname = current_database()));
begin
  perform monitoring.authorize('read');
  v_locked := v_locked || array(select i.indrelid from pg_index i where i.indexrelid = any (v_locked));
  foreach v_measured_tables in array array[v_most_measured, 0] loop
    begin
      return query
        with states as materialized (
          select s.*, case
            when s.companion_pages is not null then s.heap_pages + s.companion_pages
            -- Where it is measured anyway nobody asks how large it might be.
            when v_measured_tables >= v_tables and s.oid <> all (v_locked) and s.toast_oid <> all (v_locked) then s.heap_pages
            else s.heap_pages + monitoring.companion_pages(s.oid, s.toast_oid)
            end as pages
          from monitoring.table_states s
        ), measured as materialized (
          select k.oid, pg_total_relation_size(k.oid) as bytes
          from (select c.oid, c.toast_oid from states c order by c.pages desc limit v_measured_tables) k
          where k.oid <> all (v_locked) and k.toast_oid <> all (v_locked)
        ), largest as (
          select c.*, coalesce(m.bytes, c.pages * v_block_bytes) as bytes,
            pg_stat_get_numscans(c.oid) as sequential_scans
          from states c left join measured m on m.oid = c.oid
          order by bytes desc, c.oid
          limit monitoring.checked_limit(p_limit)
        )
        select s.schemaname, s.tablename, pg_size_pretty(s.bytes), s.bytes,
          pg_stat_get_tuples_inserted(s.oid), pg_stat_get_tuples_updated(s.oid), pg_stat_get_tuples_deleted(s.oid),
          s.live_tuples, s.dead_tuples,
          -- Most tables of many are at rest: they are spared the division.
          case when s.dead_tuples = 0 then 0.00 else round(100.0 * s.dead_tuples / (s.live_tuples + s.dead_tuples), 2) end,
          pg_stat_get_last_vacuum_time(s.oid), pg_stat_get_last_autovacuum_time(s.oid),
          pg_stat_get_last_analyze_time(s.oid), pg_stat_get_last_autoanalyze_time(s.oid),
          s.sequential_scans, coalesce(s.index_scans, 0),
          case when s.index_scans + s.sequential_scans > 0
            then round(100.0 * s.index_scans / (s.index_scans + s.sequential_scans), 2) end,
          s.xid_age, s.needs_vacuum
        from largest s;
      return;
    exception when lock_not_available then
      -- Somebody took the lock between the look at pg_locks and the measuring: once more without. All sizes are known
      -- before the first row leaves the sort, so no row was returned yet.
      null;
    end;
  end loop;
end
$$;
comment on function monitoring.table_health(int) is
  'What public.monitoring_table_health shows, largest first, at most p_limit rows. Sizes beyond the 100 largest (40 of a large database), and of tables locked by DDL, are the catalog''s, not measured.';

-- Privileges on single columns of tables and views. There is no index for them, but one for a table's columns: of a small database that is
-- a quarter of reading all columns of everything there is, of a large one half as much again. That remembers it.
create or replace function monitoring.look_at_column_grants() returns table (table_oid oid, grantee oid, privilege_type text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_nestloop = on -- by index
as $$
#variable_conflict use_column
begin
  if monitoring.is_large() then
    return query
      select distinct a.attrelid, g.grantee, g.privilege_type
      from pg_attribute a, aclexplode(a.attacl) g
      where a.attrelid >= 16384 and a.attacl is not null and not a.attisdropped;
  else
    return query
      select distinct c.oid, g.grantee, g.privilege_type
      from pg_class c
        cross join lateral (
          select a.attacl from pg_attribute a
          where a.attrelid = c.oid and a.attacl is not null and not a.attisdropped -- ctid can be granted, too
          offset 0 -- table by table
        ) a
        cross join lateral aclexplode(a.attacl) g
      where c.reltype <> 0 and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384 and c.relnamespace <> 'monitoring'::regnamespace;
  end if;
end
$$;

create or replace function monitoring.column_grants() returns table (table_oid oid, grantee oid, privilege_type text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if monitoring.is_remembered('column_grants') then
    return query select r.table_oid, r.grantee, r.privilege_type from monitoring.remembered_column_grants r;
  else
    return query select * from monitoring.look_at_column_grants();
  end if;
end
$$;

-- Who may use each of these schemas; null: PUBLIC, and so everybody. alike: the first of those that the same may use.
create or replace function monitoring.schema_users(p_namespaces oid[]) returns table (namespace oid, users oid[], alike oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_nestloop = off -- how many there are of anything nobody knows
as $$
#variable_conflict use_column
begin
  return query
    with recursive asked as materialized (
      -- Null where it has been dropped meanwhile.
      select n.oid, n.nspowner, n.nspacl, coalesce(has_schema_privilege('public', n.oid, 'usage'), false) as is_everybodys
      from unnest(p_namespaces) a (oid) join pg_namespace n on n.oid = a.oid
    ), roots as materialized (
      -- Whether a role has it the server says, but only of those that can: with a schema and a role for each of thousands of tenants, asking all
      -- takes a minute. Who is granted it, owns it, may read everything, or is a member of these.
      select n.oid as namespace, a.grantee as role_oid from asked n cross join aclexplode(n.nspacl) a where not n.is_everybodys
      union
      select n.oid, n.nspowner from asked n where not n.is_everybodys
      union
      select n.oid, d.datdba from asked n cross join pg_database d
      where not n.is_everybodys and d.datname = current_database() -- a member of pg_database_owner
      union
      select n.oid, r.oid from asked n cross join pg_roles r where not n.is_everybodys and r.rolname in ('pg_read_all_data', 'pg_write_all_data')
    ), members as (
      -- Once for each role and not for each schema: some of them are those of every schema.
      select d.role_oid as root, d.role_oid as member from (select distinct r.role_oid from roots r) d
      union
      select c.root, m.member from members c join pg_auth_members m on m.roleid = c.member
    ), allowed as (
      select c.namespace, array_agg(c.member order by c.member) as users
      from (select distinct r.namespace, m.member from roots r join members m on m.root = r.role_oid) c
        join (select r.oid from pg_roles r where r.oid >= 16384 and not r.rolsuper) r on r.oid = c.member
      where has_schema_privilege(c.member, c.namespace, 'usage')
      group by c.namespace
    )
    select u.oid, u.users, min(u.oid) over (partition by u.users)
    from (
      select n.oid, case when not n.is_everybodys then coalesce(a.users, '{}') end as users
      from asked n left join allowed a on a.namespace = n.oid
    ) u;
end
$$;

-- Under which names a grant lets anybody in: the grantee's own, if the schema lets it get there or one of its members; for
-- PUBLIC without the schema, those who have the schema. Not who has the owner's rights anyway.
create or replace function monitoring.reachers(p_grantee oid, p_owner oid, p_schema_users oid[]) returns name[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_grantee = 0 then
    return case when p_schema_users is null then '{PUBLIC}' else array(
      select monitoring.legible(r.rolname)::name from pg_roles r where r.oid = any (p_schema_users) and not pg_has_role(r.oid, p_owner, 'usage') order by 1) end;
  elsif not exists (select from pg_roles r where r.oid = p_grantee and (r.rolsuper or not pg_has_role(r.oid, p_owner, 'usage'))) then
    return '{}'; -- the owner's, or a role that is gone
  elsif p_schema_users is null or p_grantee = any (p_schema_users) or exists (
    select from unnest(p_schema_users) u where pg_has_role(u, p_grantee, 'usage') and not pg_has_role(u, p_owner, 'usage'))
  then
    return array[monitoring.role_name(p_grantee)];
  end if;
  return '{}';
end
$$;

-- A constant that is compared with itself (1 = 1), as the parser leaves it in the catalog. The text is of the catalog's own
-- making and may be long: its beginning is looked at first.
create or replace function monitoring.compares_constant_with_itself(p_expression text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return p_expression like '{OPEXPR %' and length(p_expression) < 2000
    and regexp_replace(p_expression, ' :location -?[0-9]+', '', 'g') ~ ' :args \((\{CONST [^{}]* :constisnull false [^{}]*\}) \1\)\}$'
    and exists (
      select from pg_operator o
      where o.oid = substring(p_expression from '^\{OPEXPR :opno ([0-9]+) ')::oid and o.oprname in ('=', '<=', '>=') and o.oid < 16384
        -- A point that is not a number is none of itself.
        and o.oprleft <> all ('{point,lseg,path,box,polygon,line,circle}'::regtype[]));
end
$$;

-- What is true whatever else is asked: of and, or, not, (select ...) and constants. The innermost nodes of the text become letters, again and
-- again, until none is left: T and F for what is constant, U for what depends on a row or is not known here. Of a long text, which may be
-- nested deep, only whether it begins or ends with true in a list of alternatives.
create or replace function monitoring.is_true_anyway(p_expression text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_true constant text := '\{CONST :consttype 16 [^{}]*:constisnull false [^{}]*:constvalue 1 \[ 1 [^{}]*\}';
  v_rest text;
  v_before text;
  v_comparison text;
begin
  if octet_length(p_expression) > 3000 then
    return p_expression like '{BOOLEXPR :boolop or %' and (
      left(p_expression, 400) ~ ('^\{BOOLEXPR :boolop or :args \(' || v_true) or right(p_expression, 400) ~ (v_true || '\) :location -?[0-9]+\}$'));
  end if;
  -- Braces in a name are no node's.
  v_rest := replace(replace(p_expression, '\{', ''), '\}', '');
  if v_rest like '% :args ({CONST %' then
    for v_comparison in
      select distinct m[1] from regexp_matches(v_rest, '\{OPEXPR [^{}]*:args \(\{CONST [^{}]*\} \{CONST [^{}]*\}\) :location -?[0-9]+\}', 'g') m
    loop
      if monitoring.compares_constant_with_itself(v_comparison) then
        v_rest := replace(v_rest, v_comparison, 'T');
      end if;
    end loop;
  end if;
  v_rest := regexp_replace(v_rest, v_true, 'T', 'g');
  v_rest := regexp_replace(v_rest, '\{CONST :consttype 16 [^{}]*:constisnull false [^{}]*:constvalue 1 \[ 0 [^{}]*\}', 'F', 'g');
  -- What is none of these and holds none of them is most of the text.
  loop
    v_before := v_rest;
    v_rest := regexp_replace(v_rest, '\{(?!BOOLEXPR|SUBLINK|QUERY|FROMEXPR|TARGETENTRY)[^{}]*\}', 'U', 'g');
    exit when v_rest = v_before;
  end loop;
  while v_rest like '%{%' and v_rest ~ '[( ][TF][ )]|:expr [TF] |[TF][LQ]' loop
    v_before := v_rest;
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop or :args \((?:[TFU] )*T(?: [TFU])*\)[^{}]*\}', 'T', 'g');
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop or :args \(F(?: F)*\)[^{}]*\}', 'F', 'g');
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop and :args \(T(?: T)*\)[^{}]*\}', 'T', 'g');
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop and :args \((?:[TFU] )*F(?: [TFU])*\)[^{}]*\}', 'F', 'g');
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop not :args \(F\)[^{}]*\}', 'T', 'g');
    v_rest := regexp_replace(v_rest, '\{BOOLEXPR :boolop not :args \(T\)[^{}]*\}', 'F', 'g');
    -- A select of nothing but a constant, from nowhere: its list (L), its where there is none (N), itself (Q).
    v_rest := regexp_replace(v_rest, '\{TARGETENTRY :expr ([TF]) :resno 1 [^{}]*:resjunk false\}', '\1L', 'g');
    v_rest := regexp_replace(v_rest, '\{FROMEXPR :fromlist <> :quals <>\}', 'N', 'g');
    v_rest := regexp_replace(v_rest, '\{QUERY :commandType 1 [^{}]*:rtable <> [^{}]*:jointree N [^{}]*:targetList \(([TF])L\) [^{}]*:havingQual <> '
      '[^{}]*:limitOffset <> :limitCount <> [^{}]*:setOperations <> [^{}]*\}', '\1Q', 'g');
    v_rest := regexp_replace(v_rest, '\{SUBLINK :subLinkType 4 [^{}]*:subselect ([TF])Q [^{}]*\}', '\1', 'g');
    if v_rest = v_before then
      v_rest := regexp_replace(v_rest, '\{[^{}]*\}', 'U', 'g');
      exit when v_rest = v_before;
    end if;
  end loop;
  return v_rest = 'T';
end
$$;
comment on function monitoring.is_true_anyway(text) is 'Whether a policy''s expression that is made of others (and, or, not, a select) is constant true.';

-- Under which names somebody who comes through an API has what is granted: PUBLIC, anon, authenticated, and what these are members of.
create or replace function monitoring.anyones() returns name[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- First the one, then the other: the server keeps only the last role's memberships.
  return array(
    select monitoring.role_name(r.oid)
    from pg_roles a cross join lateral (select o.oid from pg_roles o where pg_has_role(a.oid, o.oid, 'usage') offset 0) r
    where a.rolname in ('anon', 'authenticated')) || 'PUBLIC'::name;
end
$$;

-- Hardly any expression is without a column or a function; they are long and compressed: how they begin is read without unpacking the
-- rest. Constant true: boolean is type 16 and its only byte is 1. In SQL, so that it is inlined, and no less volatile than
-- pg_column_size(), or it would not be: a call for each policy costs half of a whole look-up again.
create or replace function monitoring.is_constant_true(p_expression text) returns boolean
language sql stable
as $$
  select case pg_catalog.left(p_expression, 7) -- once, which costs as much as all that follows
    when '{BOOLEX' then pg_catalog.pg_column_size(p_expression) operator(pg_catalog.<) 4000
      and (pg_catalog.strpos(p_expression, '{CONST :consttype 16 ') operator(pg_catalog.>) 0 or pg_catalog.strpos(p_expression, ' :args ({CONST ') operator(pg_catalog.>) 0)
      and monitoring.is_true_anyway(p_expression)
    when '{SUBLIN' then p_expression operator(pg_catalog.~~) '{SUBLINK :subLinkType 4 %' and pg_catalog.pg_column_size(p_expression) operator(pg_catalog.<) 4000
      and (pg_catalog.strpos(p_expression, '{CONST :consttype 16 ') operator(pg_catalog.>) 0 or pg_catalog.strpos(p_expression, ' :args ({CONST ') operator(pg_catalog.>) 0)
      and monitoring.is_true_anyway(p_expression)
    when '{CONST ' then p_expression operator(pg_catalog.~~) '{CONST :consttype 16 %:constisnull false %:constvalue 1 [ 1 %'
    when '{OPEXPR' then pg_catalog.pg_column_size(p_expression) operator(pg_catalog.<) 2000
      and pg_catalog.strpos(p_expression, '{VAR ') operator(pg_catalog.=) 0 and pg_catalog.strpos(p_expression, '{FUNCEXPR ') operator(pg_catalog.=) 0
      and monitoring.compares_constant_with_itself(p_expression)
    else case when p_expression is null then null else false end
  end
$$;
comment on function monitoring.is_constant_true(text) is 'Whether a policy''s expression, as the catalog keeps it, lets everything through; null: there is none.';

create or replace function monitoring.is_security_invoker(p_options text[]) returns boolean
language sql stable
as $$
  select coalesce(
    pg_catalog.substring(pg_catalog.array_to_string(p_options, ' '), '(?:^| )security_invoker=([^ ]+)')::boolean, false)
$$;
comment on function monitoring.is_security_invoker(text[]) is 'Whether a view with these options (pg_class.reloptions) reads as its reader; from 15 on there are such.';

-- Tables that a view reads with rights to which row-level security does not apply: the view's owner's, unless it is a
-- security_invoker view (15 on), whose own reader's rights count. A materialized view is read by nobody's policies at all.
create or replace function monitoring.look_at_bypassing_views() returns table (table_oid oid, view_name text, readers name[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
-- How many there are of anything nobody knows, and each with each takes seconds where there are thousands. What is found by index is asked for
-- row by row, by the columns of that index alone.
set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  -- Many databases have no view on a table with row-level security.
  if not exists (
    select from pg_rewrite w
      cross join lateral (select * from pg_depend d where d.classid = 'pg_rewrite'::regclass and d.objid = w.oid offset 0) d
      cross join lateral (select t.relrowsecurity from pg_class t where t.oid = d.refobjid offset 0) t
    where w.ev_class >= 16384 and d.refclassid = 'pg_class'::regclass and d.refobjid >= 16384 and (d.refobjid <> w.ev_class or w.ev_type <> '1')
      and t.relrowsecurity) -- of whatever rule: one that writes leads past policies, too
  then
    return;
  end if;
  return query
    with recursive views as materialized (
      -- And tables with rules, which do more than they say, too.
      select distinct on (c.oid) c.oid, c.relowner, c.relkind, c.relnamespace, format('%I.%I', n.nspname, c.relname) as view_name, c.relacl,
        c.relkind = 'v' and monitoring.is_security_invoker(c.reloptions) as is_invoker, c.relrowsecurity
      from pg_rewrite w -- few rows, where pg_class has many
        cross join lateral (select * from pg_class c where c.oid = w.ev_class offset 0) c
        join pg_namespace n on n.oid = c.relnamespace
      where w.ev_class >= 16384 and (w.ev_type <> '1' or c.relkind in ('v', 'm')) and c.relpersistence <> 't'
        and c.relowner <> 'monitoring_owner'::regrole
    ), dependencies as materialized (
      -- What a rule does on INSERT, UPDATE or DELETE it does with the owner's rights, a security_invoker view's too; and for whom may do that.
      select distinct v.oid as view_oid, w.oid as rule_oid, d.refobjid as relation_oid, v.is_invoker and w.ev_type = '1' as is_invoker,
        case w.ev_type when '2' then 'UPDATE' when '3' then 'INSERT' when '4' then 'DELETE' end as event
      from views v
        join pg_rewrite w on w.ev_class = v.oid
        cross join lateral (select * from pg_depend d where d.classid = 'pg_rewrite'::regclass and d.objid = w.oid offset 0) d
      where d.refclassid = 'pg_class'::regclass and (d.refobjid <> v.oid
        -- A rule always depends on its own table, and names it twice in each command, as old and new. Once more: it goes back to the table itself.
        or v.relrowsecurity and w.ev_type <> '1'
          and (select count(*) from regexp_matches(w.ev_action::text, format(':rtekind 0 :relid %s ', v.oid), 'g'))
            > (select count(*) from regexp_matches(w.ev_action::text, ':alias {ALIAS :aliasname (old|new) :colnames <>} ', 'g')))
    ), typed as materialized (
      -- Hardly any row type has a use of its own, as a column's, a function's, or named in a view. Where one has, who depends on its
      -- columns need not read the relation.
      select d.relation_oid as oid
      from (select distinct d.relation_oid from dependencies d) d
        cross join lateral (select c.reltype from pg_class c where c.oid = d.relation_oid offset 0) c
        cross join lateral (select y.oid, y.typarray from pg_type y where y.oid = c.reltype offset 0) y
        cross join lateral (values (y.oid), (y.typarray)) t (oid)
      where exists (
        select from (select * from pg_depend o where o.refclassid = 'pg_type'::regclass and o.refobjid = t.oid offset 0) o where o.deptype = 'n')
    ), reads as materialized (
      select distinct d.view_oid, d.relation_oid, d.is_invoker, d.event
      from dependencies d
      where d.relation_oid not in (select t.oid from typed t)
        or exists (select from pg_rewrite w where w.oid = d.rule_oid and position(format(':relid %s ', d.relation_oid) in concat(w.ev_action::text, w.ev_qual::text)) > 0)
    ), tables as materialized (
      select c.oid, c.relowner, c.relforcerowsecurity
      from (select distinct r.relation_oid from reads r) r
        cross join lateral (select * from pg_class c where c.oid = r.relation_oid offset 0) c
      where c.relrowsecurity
    ), owners as materialized (
      -- Of those that are asked below: who owns a view, of what that reads; and who owns a materialized view, of what views read that read as
      -- their reader. All owners of all tables would be too many.
      select w.relation_oid as table_oid, o.oid as owner, o.rolsuper or o.rolbypassrls or pg_has_role(o.oid, t.relowner, 'usage') and not t.relforcerowsecurity as is_free
      from (
          select r.relation_oid, v.relowner from reads r join views v on v.oid = r.view_oid where not r.is_invoker
          union
          select i.relation_oid, m.relowner
          from (select distinct r.relation_oid from reads r where r.is_invoker) i
            cross join (select distinct v.relowner from views v where v.relkind = 'm') m
        ) w
        join tables t on t.oid = w.relation_oid
        join pg_roles o on o.oid = w.relowner
      -- And may get at it at all.
      where monitoring.may_do(o.oid, t.oid)
    ), unbound as materialized (
      -- Which of them a table's policies do not bind: in nothing, or in a command for which one lets them have everything; others may be for
      -- whoever comes through the view.
      select o.table_oid, o.owner, null::text as cmd from owners o where o.is_free
      union all
      select o.table_oid, o.owner, c.cmd
      from owners o cross join (values ('SELECT', 'r'::"char"), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd')) as c (cmd, polcmd)
      where not o.is_free
        and monitoring.may_do(o.owner, o.table_oid, c.cmd)
        and exists (
          select from pg_policy p
          where p.polrelid = o.table_oid and p.polpermissive and p.polcmd in ('*', c.polcmd)
            and monitoring.is_constant_true(case when c.cmd <> 'INSERT' then p.polqual else coalesce(p.polwithcheck, p.polqual) end::text)
            and exists (select from unnest(p.polroles) r where r = 0 or pg_has_role(o.owner, r, 'usage')))
        and not exists (
          select from pg_policy p
          where p.polrelid = o.table_oid and not p.polpermissive and p.polcmd in ('*', c.polcmd)
            and not coalesce(monitoring.is_constant_true(case when c.cmd <> 'INSERT' then p.polqual else coalesce(p.polwithcheck, p.polqual) end::text), true)
            and exists (select from unnest(p.polroles) r where r = 0 or pg_has_role(o.owner, r, 'usage')))
    ), paths as (
      -- From each table up, to each view once, or views on views on views would take for ever. With the rights of the first view's owner;
      -- through a security_invoker view with those of whoever runs the statement, also inside another view: of a materialized view
      -- that is who refreshes it, its owner, and else the reader, whom policies bind. cmd: only for whom may do that to the view.
      select t.oid as table_oid, v.oid as view_oid, not r.is_invoker as is_past, coalesce(r.event, u.cmd) as cmd
      from reads r join tables t on t.oid = r.relation_oid join views v on v.oid = r.view_oid
        left join unbound u on u.table_oid = t.oid and u.owner = v.relowner and not r.is_invoker and (v.relkind <> 'm' or coalesce(u.cmd, 'SELECT') = 'SELECT')
      where r.is_invoker or u.owner is not null
      union
      select p.table_oid, v.oid, p.is_past or v.relkind = 'm', coalesce(r.event, p.cmd)
      from paths p join reads r on r.relation_oid = p.view_oid join views v on v.oid = r.view_oid
      where case
          when v.relkind <> 'm' then true
          when p.is_past then coalesce(p.cmd, 'SELECT') = 'SELECT'
          else (p.table_oid, v.relowner) in (select u.table_oid, u.owner from unbound u where coalesce(u.cmd, 'SELECT') = 'SELECT') end
        and (r.is_invoker or monitoring.may_do(v.relowner, p.view_oid))
    ), bypassing as materialized (
      select distinct p.table_oid, v.oid, v.view_name, v.relnamespace, v.relkind, p.cmd
      from paths p join views v on v.oid = p.view_oid
      where p.is_past
    ), namespaces as materialized (
      select u.namespace as oid, u.users, u.alike from monitoring.schema_users(array(select distinct b.relnamespace from bypassing b)) u
    ), grants as materialized (
      select v.oid, v.relowner, n.alike, a.grantee, a.privilege_type
      from views v join namespaces n on n.oid = v.relnamespace cross join aclexplode(v.relacl) a
      where v.oid in (select b.oid from bypassing b) and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
      union
      -- Privileges on columns of a few relations are found by index.
      select v.oid, v.relowner, n.alike, g.grantee, g.privilege_type
      from views v join namespaces n on n.oid = v.relnamespace
        cross join lateral (select * from pg_attribute a where a.attrelid = v.oid offset 0) a
        cross join lateral aclexplode(a.attacl) g
      where v.oid in (select b.oid from bypassing b)
        and a.attacl is not null and not a.attisdropped and g.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ), reach as materialized (
      select d.grantee, d.relowner, d.alike, monitoring.reachers(d.grantee, d.relowner, n.users) as names
      from (select distinct g.grantee, g.relowner, g.alike from grants g where g.grantee <> g.relowner) d
        join namespaces n on n.oid = d.alike
    ), readers as materialized (
      select g.oid, g.privilege_type, r.name
      from grants g
        join reach k on k.grantee = g.grantee and k.relowner = g.relowner and k.alike = g.alike
        cross join unnest(k.names) as r (name)
      union
      -- Without a grant: as a member of the view's owner, whose BYPASSRLS no member inherits, or of a role that may read or write everything.
      select v.oid, c.privilege_type, r.rolname
      from views v
        join pg_roles r on r.rolname in ('anon', 'authenticated') and has_schema_privilege(r.oid, v.relnamespace, 'usage')
          and (pg_has_role(r.oid, v.relowner, 'usage') or pg_has_role(r.oid, 'pg_read_all_data', 'usage') or pg_has_role(r.oid, 'pg_write_all_data', 'usage'))
        cross join unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as c (privilege_type)
      where v.oid in (select b.oid from bypassing b) and has_table_privilege(r.oid, v.oid, c.privilege_type)
    )
    -- Who nobody may read lets nobody past. Whether who reads a security_invoker view may read the view that it reads is not asked.
    select b.table_oid, b.view_name, array_agg(distinct r.name)
    from bypassing b join readers r on r.oid = b.oid and (b.cmd is null or b.cmd = r.privilege_type)
      -- Whatever he is granted, nobody writes to a materialized view.
      and (b.relkind <> 'm' or r.privilege_type = 'SELECT')
    group by b.table_oid, b.oid, b.view_name;
end
$$;

-- Tables that a role reads or changes through a security_invoker view (15 on), where it is granted them: nobody asks for their schema.
create or replace function monitoring.look_at_invoked_tables(p_reader oid) returns setof oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_nestloop = off -- but for what is found by index, row by row
set jit = off
as $$
begin
  -- Few databases have any, but for ours, which read no tables.
  if not exists (
    select from pg_rewrite w cross join lateral (select * from pg_class v where v.oid = w.ev_class offset 0) v
    where w.ev_class >= 16384 and w.ev_type = '1' and v.relkind = 'v' and v.relowner <> 'monitoring_owner'::regrole
      and monitoring.is_security_invoker(v.reloptions))
  then
    return;
  end if;
  return query
    with recursive views as materialized (
      select v.oid, v.relowner, v.relnamespace, w.oid as rule_oid, monitoring.is_security_invoker(v.reloptions) as is_invoker
      from pg_rewrite w cross join lateral (select * from pg_class v where v.oid = w.ev_class offset 0) v
      where w.ev_class >= 16384 and w.ev_type = '1' and v.relkind = 'v' and v.relowner <> 'monitoring_owner'::regrole
    ), reads as materialized (
      select distinct v.oid as view_oid, d.refobjid as relation_oid
      from views v
        cross join lateral (select * from pg_depend d where d.classid = 'pg_rewrite'::regclass and d.objid = v.rule_oid offset 0) d
      where d.refclassid = 'pg_class'::regclass and d.refobjid >= 16384 and d.refobjid <> v.oid
    ), seen as (
      select v.oid, v.relowner, v.is_invoker, c.cmd
      from views v cross join unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as c (cmd)
      where has_schema_privilege(p_reader, v.relnamespace, 'usage')
        and monitoring.may_do(p_reader, v.oid, c.cmd)
      union
      -- The views that a view reads need no schema either; behind another's a security_invoker view reads as its reader all the same.
      select v.oid, v.relowner, v.is_invoker, s.cmd
      from seen s
        join reads r on r.view_oid = s.oid
        join views v on v.oid = r.relation_oid
        cross join lateral (select case when s.is_invoker then p_reader else s.relowner end as role_oid) a
      where monitoring.may_do(a.role_oid, v.oid)
    )
    select r.relation_oid
    from (select distinct r.relation_oid, s.cmd from seen s join reads r on r.view_oid = s.oid where s.is_invoker) r
    where has_any_column_privilege(p_reader, r.relation_oid, 'select') -- what is updated reads, too
      or monitoring.may_do(p_reader, r.relation_oid, r.cmd)
    group by r.relation_oid;
end
$$;

-- Reads pg_policy itself: printing a policy's expression opens its table and would wait for DDL on it. Thousands of tables
-- are alike in owner, grants, switches and shape of policies: what follows from these is worked out, and told, once for each kind.
create or replace function monitoring.look_at_rls_kinds() returns setof monitoring.remembered_rls_kinds
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
set standard_conforming_strings = on
set jit = off
set quote_all_identifiers = off
-- Nothing is known of the sizes of what is joined, and each with each takes seconds where there are thousands.
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
  v_schemas name[] := monitoring.setting_list('application_schemas')::name[];
  v_exposed_schemas name[] := coalesce(monitoring.setting_list('exposed_schemas')::name[], '{}');
  v_anon oid := (select r.oid from pg_roles r where r.rolname = 'anon');
  v_authenticated oid := (select r.oid from pg_roles r where r.rolname = 'authenticated');
  v_anonymous oid[];
  v_anyone oid[];
  v_anyones name[] := monitoring.anyones();
  v_all_data oid[];
  v_all_datas name[]; -- and what they are called
  v_unbound oid[];
begin
  select
      -- The roles an API gives to whoever comes. What one has, it has by its own name, by PUBLIC, or by a role it is a member of.
      coalesce(array_agg(r.oid) filter (where v_anon is not null and pg_has_role(v_anon, r.oid, 'usage')), '{}') || 0::oid,
      coalesce(array_agg(r.oid) filter (where v_authenticated is not null and pg_has_role(v_authenticated, r.oid, 'usage')), '{}') || 0::oid,
      coalesce(array_agg(r.oid) filter (where r.oid >= 16384 and not r.rolsuper
        and (pg_has_role(r.oid, 'pg_read_all_data', 'usage') or pg_has_role(r.oid, 'pg_write_all_data', 'usage'))), '{}'),
      coalesce(array_agg(r.oid) filter (where r.rolsuper or r.rolbypassrls), '{}')
    into v_anonymous, v_anyone, v_all_data, v_unbound
  from pg_roles r;
  v_all_datas := array(select monitoring.role_name(a.oid) from unnest(v_all_data) with ordinality a (oid, place) order by a.place);
  return query
    with namespaces as materialized (
      select n.oid, n.nspname, n.nspname = any (v_exposed_schemas) as is_exposed, u.users, u.alike,
        v_anon is not null and has_schema_privilege(v_anon, n.oid, 'usage') as is_anons,
        v_authenticated is not null and has_schema_privilege(v_authenticated, n.oid, 'usage') as is_authenticateds
      from monitoring.schema_users(array(select n.oid from pg_namespace n where monitoring.is_application_schema(n.nspname, v_schemas))) u
        join pg_namespace n on n.oid = u.namespace
    ), column_grants as materialized (
      select * from monitoring.column_grants()
    ), policies as materialized (
      -- USING decides of the rows there are, for every command but INSERT; of new ones WITH CHECK, or USING where a policy for ALL has no
      -- other. Null: none, which lets nobody through where the policy is permissive, and everybody where it is restrictive.
      select p.polrelid, p.polname, p.polcmd, p.polroles, p.polpermissive, p.using_is_true,
        case when p.polcmd = 'a' or p.polcmd = '*' and p.polwithcheck is not null then monitoring.is_constant_true(p.polwithcheck::text)
          when p.polcmd = '*' then p.using_is_true end as insert_is_true
      from (
        select p.polrelid, p.polname, p.polcmd, p.polroles, p.polpermissive, p.polwithcheck,
          case when p.polcmd <> 'a' then monitoring.is_constant_true(p.polqual::text) end as using_is_true
        from pg_policy p
        offset 0 -- looked at once
      ) p
    ), passages as materialized (
      -- Whom a permissive policy lets through: everybody, or else anon or authenticated.
      select p.polrelid, p.polname, f.cmd, e.roles
      from (
          select * from policies k
          where k.polpermissive and (k.using_is_true or k.insert_is_true)
          offset 0 -- few
        ) p
        cross join (values ('r'::"char"), ('w'), ('d'), ('a')) as f (cmd)
        cross join (values (true, '{0}'::oid[]), (false, v_anonymous), (false, v_anyone)) as e (is_public, roles)
      where p.polcmd in ('*', f.cmd) and case f.cmd when 'a' then p.insert_is_true else p.using_is_true end and p.polroles && e.roles and e.is_public = (0::oid = any (p.polroles))
    ), unrestricted as materialized (
      -- A restrictive policy narrows them only for whom and for which command both are, and where it is not constant true itself. Asked once
      -- for all policies alike: somebody may have made thousands of either sort. What they are called goes with them: how many there are the
      -- planner cannot know, and would compare each with each to find it again.
      select u.polrelid, u.cmd, u.roles, u.names
      from (
        select p.polrelid, p.cmd, p.roles, array_agg(p.polname) as names from passages p group by p.polrelid, p.cmd, p.roles
      ) u
      where not exists (
        select from policies r
        where r.polrelid = u.polrelid and not r.polpermissive and r.polroles && u.roles and r.polcmd in ('*', u.cmd)
          and not case u.cmd when 'a' then r.insert_is_true else r.using_is_true end)
    ), hollow as materialized (
      select h.polrelid, array_to_string(h.names[1:20], ', ') || case when cardinality(h.names) > 20 then format(' and %s more', cardinality(h.names) - 20) else '' end as names
      from (
        select u.polrelid, array_agg(distinct (n.name::text collate "C")) as names
        from unrestricted u cross join unnest(u.names) as n (name)
        group by u.polrelid
      ) h
    ), bypasses as materialized (
      select v.table_oid, string_agg(format('%s (open to %s)', v.view_name, array_to_string(v.readers, ', ')), ', ' order by v.view_name) as views,
        bool_or(v.readers && v_anyones) as is_anyones
      from monitoring.look_at_bypassing_views() v
      group by v.table_oid
    ), marks as materialized (
      -- What sets a table apart from others of its schema, owner, access list and switches: p policies, g grants of columns, i what it inherits
      -- from, a and u what anon and authenticated read past the schema, v and o views past it (o: open to them or to PUBLIC). Not what its policies are called, h:
      -- those names come back at the very end.
      select m.table_oid, string_agg(m.mark, ' ') filter (where m.what <> 'h') as mark, count(*) filter (where m.what = 'p') as policies,
        string_agg(m.mark, ' ') filter (where m.what = 'g') as column_grants, bool_or(m.what = 'a') as is_read_as_anon,
        bool_or(m.what = 'u') as is_read_as_authenticated, max(m.mark) filter (where m.what = 'h') as hollow,
        max(m.mark) filter (where m.what = 'v' or m.what = 'o') as views, bool_or(m.what = 'o') as is_read_past,
        max(m.mark) filter (where m.what = 'i') as parents
      from (
        select p.polrelid as table_oid, 'p'::"char" as what,
          concat(p.polcmd, p.polpermissive, p.polroles, p.using_is_true, '/', p.insert_is_true) collate "C" as mark
        from policies p
        union all
        select g.table_oid, 'g', concat(g.grantee, g.privilege_type) collate "C" from column_grants g
        union all
        select h.polrelid, 'h', h.names from hollow h
        union all
        select b.table_oid, case when b.is_anyones then 'o'::"char" else 'v' end, b.views collate "C" from bypasses b
        union all
        -- Of whom a table has the rows that its own policies restrict.
        select i.inhrelid, 'i', string_agg(format('%I.%I', p.nspname, p.relname), ', ' order by p.nspname, p.relname) collate "C"
        from pg_inherits i
          cross join lateral (select c.relkind from pg_class c where c.oid = i.inhrelid and c.relrowsecurity offset 0) c
          cross join lateral (
            select n.nspname, c.relname from pg_class c cross join lateral (select n.nspname from pg_namespace n where n.oid = c.relnamespace offset 0) n
            where c.oid = i.inhparent offset 0) p
        where c.relkind in ('r', 'p')
        group by i.inhrelid
        union all
        -- As a grant does, it parts tables: who may read them past their schema.
        select i.table_oid, 'a', 'anon' from monitoring.look_at_invoked_tables(v_anon) i (table_oid)
        union all
        select i.table_oid, 'u', 'authenticated' from monitoring.look_at_invoked_tables(v_authenticated) i (table_oid)
        -- In which order they were made is no difference. And each list begins with a kilobyte: tables are taken one after the other, or
        -- thousands would be kept and spill.
        order by 1, 2, 3
      ) m
      group by m.table_oid
    ), kinds as materialized (
      -- Each known by one of its tables.
      select k.kind, k.relnamespace, k.relowner, k.relacl, k.relrowsecurity, k.relforcerowsecurity, k.relispartition, k.tables, k.hollow,
        coalesce(m.policies, 0) as policies, m.column_grants, coalesce(m.is_read_as_anon, false) as is_read_as_anon,
        coalesce(m.is_read_as_authenticated, false) as is_read_as_authenticated, m.views, coalesce(m.is_read_past, false) as is_read_past, m.parents
      from (
        select min(c.oid) as kind, c.relnamespace, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.relispartition,
          array_agg(c.relname) as tables,
          -- Of all its tables or of none.
          array_agg(m.hollow) filter (where m.hollow is not null and c.relrowsecurity) as hollow
        from (
            -- Of the many indexes and TOAST tables, which have no row type, no more is unpacked than tells that.
            select t.oid, t.relname, t.relnamespace, t.relowner, t.relacl, t.relrowsecurity, t.relforcerowsecurity, t.relispartition, t.relkind,
              t.relpersistence
            from pg_class t
            where t.reltype <> 0 and t.oid >= 16384
            offset 0
          ) c
          left join marks m on m.table_oid = c.oid
        -- The system's and our own are no kinds of the application's.
        where (c.relkind = 'r' or c.relkind = 'p') and c.relpersistence <> 't' and c.relnamespace <> 'monitoring'::regnamespace
        group by c.relnamespace, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.relispartition, m.mark
      ) k
        left join marks m on m.table_oid = k.kind
      where k.relnamespace in (select n.oid from namespaces n)
    ), accesses as materialized (
      -- Who gets at a table does not depend on its switches and policies: there are fewer answers to that than kinds.
      select min(k.kind) as access, k.relnamespace, n.alike, k.relowner, k.relacl, k.is_read_as_anon, k.is_read_as_authenticated, array_agg(k.kind) as kinds
      from kinds k join namespaces n on n.oid = k.relnamespace
      group by k.relnamespace, n.alike, k.relowner, k.relacl, k.column_grants, k.is_read_as_anon, k.is_read_as_authenticated
    ), owners as materialized (
      select d.relowner, monitoring.role_name(d.relowner) as name from (select distinct k.relowner from kinds k) d
    ), members as materialized (
      select a.access, unnest(a.kinds) as kind from accesses a
    ), grants as materialized (
      -- Who is granted what.
      select a.access, a.relnamespace, a.alike, a.relowner, a.grantee, array_agg(distinct a.privilege_type) as privileges
      from (
        select x.access, x.relnamespace, x.alike, x.relowner, acl.grantee, acl.privilege_type from accesses x, aclexplode(x.relacl) acl
        union all
        select x.access, x.relnamespace, x.alike, x.relowner, c.grantee, c.privilege_type from accesses x join column_grants c on c.table_oid = x.access
      ) a
      where a.grantee <> a.relowner and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      group by 1, 2, 3, 4, 5
    ), reach as materialized (
      -- And who gets there by it: once for all that have it in schemas alike.
      select d.grantee, d.relowner, d.alike, monitoring.reachers(d.grantee, d.relowner, n.users) as names
      from (select distinct g.grantee, g.relowner, g.alike from grants g) d join namespaces n on n.oid = d.alike
    ), reached as materialized (
      select g.*, r.names as reachers, case g.grantee when 0 then 'PUBLIC' else r.names[1] end as grantee_name -- null: nobody gets there by it
      from grants g join reach r on r.grantee = g.grantee and r.relowner = g.relowner and r.alike = g.alike
    ), unrestrained as materialized (
      -- Who may read or write everything, and whose rights they have anyway: asked role by role, since the server keeps only the last one's
      -- memberships.
      select r.name, array(select w.relowner from owners w where pg_has_role(r.oid, w.relowner, 'usage')) as owned
      from unnest(v_all_data, v_all_datas) as r (oid, name)
    ), exposures as materialized (
      select a.access, case when v_all_data = '{}' then coalesce(x.exposed_to, '{}') else array(
          select e.name from unnest(x.exposed_to) as e (name)
          union
          -- They need no grant.
          select r.name from unrestrained r where a.relowner <> all (r.owned)
          order by 1) end as exposed_to,
        coalesce(x.is_anonymous, false) as is_anonymous, coalesce(x.is_anonymous_reachable, false) as is_anonymous_reachable,
        coalesce(x.is_anyone_reachable, false) as is_anyone_reachable
      from accesses a
        left join (
          select g.access, array_agg(distinct e.name) filter (where e.name is not null) as exposed_to,
            bool_or(g.grantee = any (v_anonymous)) as is_anonymous,
            bool_or(g.grantee = any (v_anonymous) and (b.is_read_as_anon or n.users is null or n.is_anons)) as is_anonymous_reachable,
            -- Not as exposed_to, which names a role where but a member of it gets at the table.
            bool_or(g.grantee = any (v_anonymous) and (b.is_read_as_anon or n.users is null or n.is_anons)
              or g.grantee = any (v_anyone) and (b.is_read_as_authenticated or n.users is null or n.is_authenticateds)) as is_anyone_reachable
          from reached g
            join accesses b on b.access = g.access
            join namespaces n on n.oid = g.relnamespace
            left join unnest(g.reachers
              || case when b.is_read_as_anon and g.grantee = any (v_anonymous) then '{anon}'::name[] end
              || case when b.is_read_as_authenticated and g.grantee = any (v_anyone) then '{authenticated}'::name[] end) as e (name) on true
          group by g.access
        ) x on x.access = a.access
    ), unbound_roles as materialized (
      select r.oid, monitoring.role_name(r.oid) as rolname
      from pg_roles r where r.rolbypassrls and not r.rolsuper or r.rolsuper and r.oid in (v_anon, v_authenticated)
    ), unbound_members as materialized (
      -- As whom they may do what is granted, and where.
      select r.oid, o.oid as role_oid from unbound_roles r cross join lateral (select o.oid from pg_roles o where pg_has_role(r.oid, o.oid, 'usage') offset 0) o
      union all
      select r.oid, 0::oid from unbound_roles r
    ), unbound_users as materialized (
      select r.oid, n.oid as namespace from unbound_roles r cross join lateral (select n.oid from namespaces n where has_schema_privilege(r.oid, n.oid, 'usage') offset 0) n
    ), unbound as materialized (
      -- BYPASSRLS roles that get at the rows: by a grant to them, to a role they are in, to PUBLIC, as the owner, or because they may read or write
      -- everything.
      select u.access, string_agg(r.rolname, ', ' order by r.rolname) as names, bool_or(r.rolname in ('anon', 'authenticated')) as is_anyones
      from (
        select a.access, m.oid
        from accesses a join unbound_members m on m.role_oid = a.relowner join unbound_users u on u.oid = m.oid and u.namespace = a.relnamespace
        union
        select g.access, m.oid
        from grants g join unbound_members m on m.role_oid = g.grantee join unbound_users u on u.oid = m.oid and u.namespace = g.relnamespace
        union
        -- Or without a grant; or without the schema.
        select a.access, r.oid from accesses a join unbound_roles r on r.oid = any (v_all_data)
        union
        select g.access, m.oid
        from grants g join accesses a on a.access = g.access join unbound_members m on m.role_oid = g.grantee
        where m.oid = v_anon and a.is_read_as_anon or m.oid = v_authenticated and a.is_read_as_authenticated
      ) u
        join unbound_roles r on r.oid = u.oid
      group by u.access
    ), judged as materialized (
      -- Of the tables by which their kinds are known.
      select p.* from policies p where p.polrelid in (select k.kind from kinds k)
    ), narrowings as materialized (
      -- What is for PUBLIC may be narrowed for anon or authenticated alone.
      select p.polrelid, f.cmd, bool_or(p.polroles && v_anonymous) as is_anon, bool_or(p.polroles && v_anyone) as is_authenticated
      from (select * from judged k where not k.polpermissive offset 0) p
        cross join unnest('{r,a,w,d}'::"char"[]) as f (cmd)
      where p.polcmd in ('*', f.cmd) and not case f.cmd when 'a' then p.insert_is_true else p.using_is_true end
      group by p.polrelid, f.cmd
    ), opened as materialized (
      -- By what each kind is open, of all its tables alike: who holds what is looked for only for those.
      select k.kind, m.access, u.cmd, u.roles,
        (u.roles = '{0}' or u.roles = v_anonymous) and n.is_anon is not true
          and (s.users is null or s.is_anons or k.is_read_as_anon or coalesce(v_anon = any (v_all_data), false)) as is_anons,
        (u.roles = '{0}' or u.roles = v_anyone) and n.is_authenticated is not true
          and (s.users is null or s.is_authenticateds or k.is_read_as_authenticated or coalesce(v_authenticated = any (v_all_data), false)) as is_authenticateds
      from kinds k
        join namespaces s on s.oid = k.relnamespace
        join members m on m.kind = k.kind
        join unrestricted u on u.polrelid = k.kind
        left join narrowings n on n.polrelid = k.kind and n.cmd = u.cmd
      where k.hollow is not null
    ), holders as materialized (
      -- Who may do what by a grant, as its owner (whose members anon and authenticated may be), or because they may read or write everything.
      select distinct h.access, h.grantee, h.cmd
      from (
        select g.access, g.grantee, case c.privilege_type when 'SELECT' then 'r'::"char" when 'INSERT' then 'a' when 'UPDATE' then 'w' when 'DELETE' then 'd' end as cmd
        from grants g cross join unnest(g.privileges) as c (privilege_type)
        where g.access in (select w.access from opened w)
        union all
        select a.access, o.grantee, o.cmd
        from accesses a
          cross join (
            select r.oid as grantee, c.cmd, null::oid as owner from unnest(v_all_data) as r (oid) cross join unnest('{r,a,w,d}'::"char"[]) as c (cmd)
            where pg_has_role(r.oid, case c.cmd when 'r' then 'pg_read_all_data' else 'pg_write_all_data' end, 'usage')
            union all
            select r.oid, c.cmd, r.oid from unnest(v_anonymous || v_anyone) as r (oid) cross join unnest('{r,a,w,d}'::"char"[]) as c (cmd)
          ) o
        where (o.owner is null or o.owner = a.relowner) and a.access in (select w.access from opened w)
      ) h
      where h.cmd is not null
    ), openings as materialized (
      -- A policy that lets everybody through opens the table to whom it is for and who may do what it is for: at all, and to PUBLIC, anon or
      -- authenticated.
      select o.kind, bool_or(o.is_anyones) as is_anyones
      from (
        select u.kind, h.grantee, u.is_anons and h.grantee = any (v_anonymous) or u.is_authenticateds and h.grantee = any (v_anyone) as is_anyones
        from opened u join holders h on h.access = u.access and h.cmd = u.cmd
        where u.roles = '{0}' or h.grantee = any (u.roles)
      ) o
      where o.is_anyones or o.grantee not in (coalesce(v_anon, 0), coalesce(v_authenticated, 0))
      group by o.kind
    ), gaps as materialized (
      -- A grant that no policy follows up: who has it finds no rows, and may not know why.
      select g.kind, string_agg(format('%s to %s', g.privilege_type, g.names), '; ' order by g.privilege_type) as gaps
      from (
        select k.kind, c.privilege_type, string_agg(g.grantee_name, ', ' order by g.grantee_name) as names
        from kinds k
          join members m on m.kind = k.kind
          join reached g on g.access = m.access
          cross join unnest(g.privileges) as c (privilege_type)
        where k.relrowsecurity and k.policies > 0
          and g.reachers <> '{}' and g.grantee <> all (v_unbound) and c.privilege_type <> 'TRUNCATE'
          and not exists (
            select from judged p
            where p.polrelid = k.kind and p.polpermissive
              and p.polcmd in ('*', case c.privilege_type when 'SELECT' then 'r' when 'INSERT' then 'a' when 'UPDATE' then 'w' else 'd' end)
              and case c.privilege_type when 'INSERT' then p.insert_is_true else p.using_is_true end is not null
              and (0::oid = any (p.polroles)
                or g.grantee <> 0 and exists (select from unnest(p.polroles) r where pg_has_role(g.grantee, r, 'usage'))))
        group by k.kind, c.privilege_type
      ) g
      group by g.kind
    ), named as (
      -- What lets everybody through is told by its name, so tables of a kind part by it. Names are in no order: who shows a few sorts those.
      -- Each is known by one of its tables, always by the same one, in whatever order they were read.
      select k.kind, null as hollow, (select c.relname from pg_class c where c.oid = k.kind) as known_by, k.tables
      from kinds k where k.hollow is null
      union all
      select k.kind, t.hollow, min(t.name::text collate "C")::name, array_agg(t.name)
      from kinds k, unnest(k.tables, k.hollow) as t (name, hollow)
      where k.hollow is not null
      group by k.kind, t.hollow
    ), ranked as (
      select k.kind, w.name as owner, k.relrowsecurity, k.relforcerowsecurity, k.relispartition, k.policies, k.views, k.is_read_past, k.parents, t.known_by, t.tables, t.hollow,
        n.nspname, n.is_exposed, x.exposed_to,
        u.names as unbound, o.is_unbound, o.is_anyones_own, op.kind is not null as is_opened, coalesce(op.is_anyones, false) as is_let_through,
        x.is_anonymous or o.is_anons as is_anonymous,
        x.is_anonymous_reachable or o.is_anons and (n.users is null or n.is_anons) as is_anonymous_reachable,
        x.is_anyone_reachable or coalesce(v_all_data && array[v_anon, v_authenticated], false) as is_anyone_reachable, g.gaps,
        case
          when not k.relrowsecurity and (n.is_exposed or x.is_anonymous or o.is_anons) then 1
          when k.relrowsecurity and (k.policies = 0 or t.hollow is not null or o.is_unbound) then 2
          when k.relrowsecurity then 3
          else 4
        end as risk_rank
      from kinds k
        join namespaces n on n.oid = k.relnamespace
        join members m on m.kind = k.kind
        join named t on t.kind = k.kind
        join owners w on w.relowner = k.relowner
        join exposures x on x.access = m.access
        left join unbound u on u.access = m.access
        cross join lateral (
          -- Or as a member of its owner, or of a role that may read or write everything.
          select k.relowner = any (v_anonymous) or coalesce(v_anon = any (v_all_data), false) as is_anons,
            w.is_reached as is_anyones_own, k.relrowsecurity and (not k.relforcerowsecurity and w.is_reached or coalesce(u.is_anyones, false)) as is_unbound
          from (
            select k.relowner = any (v_anonymous) and (n.users is null or n.is_anons or k.is_read_as_anon)
              or k.relowner = any (v_anyone) and (n.users is null or n.is_authenticateds or k.is_read_as_authenticated) as is_reached
          ) w
        ) o
        left join gaps g on g.kind = k.kind
        left join openings op on op.kind = k.kind
    )
    select r.nspname, r.known_by, r.relrowsecurity, case when r.relrowsecurity then 'ENABLED' else 'DISABLED' end,
      r.policies, (array['HIGH_RISK', 'MEDIUM_RISK', 'LOW_RISK', 'UNKNOWN'])[r.risk_rank], r.relforcerowsecurity,
      r.risk_rank, r.exposed_to,
      array_remove(array[
        case when not r.relrowsecurity then 'row-level security is off' end,
        case when not r.relrowsecurity and r.policies > 0 then format('its %s policies have no effect', r.policies) end,
        case when not r.relrowsecurity and r.is_exposed then format('schema %I is exposed', r.nspname) end,
        case when r.is_anonymous_reachable then 'open to PUBLIC or anon'
          when r.is_anonymous then 'granted to PUBLIC or anon: only its schema, which they may not use, keeps them out' end,
        case when r.relrowsecurity and r.policies = 0 then
          case when r.relforcerowsecurity then 'no policy: only BYPASSRLS roles see rows' else 'no policy: only owners and BYPASSRLS roles see rows' end end,
        case when r.hollow is not null then format('lets everybody through: policy %s', r.hollow) end,
        case when r.relrowsecurity and r.gaps is not null then format('granted, but without a policy: %s', r.gaps) end,
        case when r.views is not null then format('read past its policies through %s', r.views) end,
        case when r.is_read_past then 'read past its policies by PUBLIC, anon or authenticated' end,
        case when r.is_anyones_own then 'owned by anon or authenticated, or a role they are members of' end,
        case when r.is_unbound then 'does not bind anon or authenticated: they have its owner''s rights, or BYPASSRLS' end,
        case when r.relrowsecurity and r.unbound is not null then format('not bound by it: %s (BYPASSRLS)', r.unbound) end,
        case when r.relrowsecurity and not r.relforcerowsecurity
          then format('not forced: its owner %s bypasses it', r.owner) end,
        case when r.relispartition then 'a partition: readable past the policies of its parent' end,
        case when r.parents is not null then format('its rows are read through %s by the policies of that, not by its own', r.parents) end
      ], null),
      r.hollow is not null and r.is_opened, r.is_read_past,
      (r.is_anyones_own or r.is_anyone_reachable) and (not r.relrowsecurity or r.is_let_through), r.is_unbound, r.tables
    from ranked r;
end
$$;
comment on function monitoring.look_at_rls_kinds() is
  'Row-level security of every application table, as the catalogs have it now: a row for those of a schema that are alike.';

-- A row for each kind and not for each table: to hand ten thousand rows through a function takes longer than to find them. The first
-- so many tables are all in the first so many kinds and in those of the same risk and schema.
create or replace function monitoring.rls_kinds(p_limit int default null) returns table (
  schemaname name, tablenames name[], rls_enabled boolean, rls_status text, policy_count bigint,
  security_risk_level text, rls_forced boolean, risk_rank int, exposed_to name[], reasons text[],
  is_hollow boolean, is_read_past boolean, is_open_to_anyone boolean, is_unbound boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform monitoring.authorize('read');
  if monitoring.is_remembered('rls_status') then
    return query
      select k.schemaname, k.tablenames, k.rls_enabled, k.rls_status, k.policy_count, k.security_risk_level, k.rls_forced, k.risk_rank,
        k.exposed_to, k.reasons, k.is_hollow, k.is_read_past, k.is_open_to_anyone, k.is_unbound
      from monitoring.remembered_rls_kinds k
      order by k.risk_rank, k.schemaname
      fetch first (coalesce(monitoring.checked_limit(p_limit), 2147483647)) rows with ties;
  else
    return query
      select k.schemaname, k.tablenames, k.rls_enabled, k.rls_status, k.policy_count, k.security_risk_level, k.rls_forced, k.risk_rank,
        k.exposed_to, k.reasons, k.is_hollow, k.is_read_past, k.is_open_to_anyone, k.is_unbound
      from monitoring.look_at_rls_kinds() k
      order by k.risk_rank, k.schemaname
      fetch first (coalesce(monitoring.checked_limit(p_limit), 2147483647)) rows with ties;
  end if;
end
$$;
comment on function monitoring.rls_kinds(int) is
  'What public.monitoring_rls_status shows, worst first: tables of a schema that are alike in one row, as many rows as have the first p_limit tables.';

create or replace function monitoring.rls_status(p_limit int default null) returns table (
  schemaname name, tablename name, rls_enabled boolean, rls_status text, policy_count bigint,
  security_risk_level text, rls_forced boolean, risk_rank int, exposed_to name[], reasons text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set work_mem = '16MB'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    select s.*
    from (
      -- In order but for the names, so that what is left to sort is small.
      select k.schemaname, unnest(k.tablenames) as tablename, k.rls_enabled, k.rls_status, k.policy_count, k.security_risk_level, k.rls_forced,
        k.risk_rank, k.exposed_to, k.reasons
      from monitoring.rls_kinds(p_limit) k -- asks whether the caller may read
      order by k.risk_rank, k.schemaname
    ) s
    order by s.risk_rank, s.schemaname, s.tablename
    limit monitoring.checked_limit(p_limit);
end
$$;
comment on function monitoring.rls_status(int) is 'What public.monitoring_rls_status shows, worst first, then by name, at most p_limit rows.';

-- Statements ----------------------------------------------------------------------------------------------------------

-- Where pg_stat_statements can be asked, and for what: its columns follow the extension's version, not the server's. Found
-- by membership in the extension: another function of that name is nobody's statistics.
create or replace function monitoring.statement_source(
  out is_created boolean, out is_usable boolean, out is_loaded boolean, out schema_name name, out relation text, out time_column text,
  out toplevel text, out since text, out is_shadowed boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function record;
begin
  select p.oid, n.nspname, p.proargnames, e.extnamespace into v_function
  from pg_extension e
    join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    join pg_proc p on p.oid = d.objid and p.proname = 'pg_stat_statements' and p.proargtypes[0] = 'boolean'::regtype and p.pronargs = 1
    join pg_namespace n on n.oid = p.pronamespace
  where e.extname = 'pg_stat_statements';
  is_created := found;
  is_loaded := current_setting('pg_stat_statements.max', true) is not null;
  is_usable := false;
  if is_created then
    schema_name := v_function.nspname;
    relation := quote_ident(v_function.nspname) || '.pg_stat_statements';
    time_column := case when 'total_exec_time' = any (v_function.proargnames) then 'exec_time' else 'time' end;
    toplevel := case when 'toplevel' = any (v_function.proargnames) then 's.toplevel' else 'null::boolean' end;
    since := case when 'stats_since' = any (v_function.proargnames) then 's.stats_since' else 'null::timestamptz' end;
    -- Another that a call fits as well makes every call ambiguous.
    is_shadowed := (
      with called as materialized (
        select p.proname, p.pronargs, p.pronargdefaults, p.provariadic,
          exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e') as is_own
        from pg_proc p
        where p.pronamespace = v_function.extnamespace and p.proname in ('pg_stat_statements', 'pg_stat_statements_info')
      )
      select exists (
        select from called o join called p on p.proname = o.proname
          and p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int <= o.pronargs and (p.pronargs >= o.pronargs or p.provariadic <> 0)
        where o.is_own and not p.is_own));
    is_usable := has_schema_privilege(v_function.extnamespace, 'usage') and has_function_privilege(v_function.oid, 'execute') and not is_shadowed;
    -- A parameter of that name can be set without the library. From 1.9 on there is a function that costs nothing to try.
    -- The extension's own: anybody may have made another of that name.
    if is_loaded and is_usable and exists (
      select from pg_depend d
      where d.classid = 'pg_proc'::regclass and d.objid = to_regprocedure(relation || '_info()') and d.deptype = 'e'
        and d.refclassid = 'pg_extension'::regclass
        and d.refobjid = (select e.oid from pg_extension e where e.extname = 'pg_stat_statements'))
    then
      execute format('select from %s_info()', relation);
      -- Before 17 statements do not say since when they are counted: not before the last reset of all of them.
      if since = 'null::timestamptz' then
        since := format('(select i.stats_reset from %s_info() i)', relation);
      end if;
    end if;
  end if;
exception when object_not_in_prerequisite_state then
  is_loaded := false;
end
$$;
comment on function monitoring.statement_source() is
  'Whether pg_stat_statements is created here, usable for us and loaded by the server; its schema and function, what its time columns end in, and how to ask it whether a statement came from a client and since when it is counted.';

-- Counters first: with its texts pg_stat_statements takes three times as long and reads a file that can have tens of
-- megabytes. The texts shown are those the sampler has noted; only if one of these rows is not among them are they read.
create or replace function monitoring.statements(p_limit int default 50) returns table (
  query_id bigint, query_preview text, username name, calls bigint, total_exec_ms numeric, mean_exec_ms numeric,
  max_exec_ms numeric, time_percent numeric, rows bigint, cache_hit_percent numeric, temp_blocks_written bigint,
  is_toplevel boolean, counted_since timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_source record;
  v_unreadable text; -- what is told in place of a text
begin
  perform monitoring.authorize('read');
  select * into v_source from monitoring.statement_source();
  if not (v_source.is_created and v_source.is_usable and v_source.is_loaded) then
    return; -- monitoring.degraded() says so
  end if;
  -- The texts come of all databases at once, and one that is none in this database's encoding ends it, before the first row.
  foreach v_unreadable in array array[null, '[not readable: a statement of another database is in another encoding]'] loop
    begin
      return query execute format(
        'with totals as materialized ('
          'select s.queryid, s.userid, s.calls, s.total_%2$s as total, s.max_%2$s as max, s.rows, s.shared_blks_hit as hit, '
            's.shared_blks_read as read, s.temp_blks_written as temp, %3$s as is_toplevel, %4$s as since '
          'from %1$s(false) s where s.dbid = $1 and s.userid <> all ($2) and s.queryid is not null and s.calls > 0'
        '), shown as materialized ('
          'select t.*, k.query_preview from (select * from totals order by total desc limit $3) t '
            'left join monitoring.statement_texts k on k.query_id = t.queryid'
        '), unknown as materialized ('
          'select array_agg(s.queryid) as ids from shown s where s.query_preview is null'
        '), texts as materialized ('
          'select q.queryid, monitoring.redact(min(q.query)) as query_preview from %5$s q '
          'where (select u.ids is not null from unknown u) and q.dbid = $1 and q.queryid = any ((select u.ids from unknown u)::bigint[]) '
          'group by q.queryid'
        ') '
        'select s.queryid, coalesce(s.query_preview, x.query_preview, $4), monitoring.role_name(s.userid), s.calls, round(s.total::numeric, 3), '
          'round((s.total / s.calls)::numeric, 3), round(s.max::numeric, 3), '
          'round((100 * s.total / nullif((select sum(t.total) from totals t), 0))::numeric, 2), s.rows, '
          'round(100.0 * s.hit / nullif(s.hit + s.read, 0), 2), s.temp, s.is_toplevel, s.since '
        'from shown s left join texts x on x.queryid = s.queryid order by s.total desc, s.queryid, s.is_toplevel desc',
        v_source.relation, v_source.time_column, v_source.toplevel, v_source.since,
        case when v_unreadable is null then v_source.relation || '(true)' else '(select null::oid as dbid, null::bigint as queryid, null::text as query where false)' end)
      using (select d.oid from pg_database d where d.datname = current_database()), monitoring.own_roles(), monitoring.checked_limit(p_limit), v_unreadable;
      return;
    exception when untranslatable_character or character_not_in_repertoire or undefined_function then
      if v_unreadable is not null then
        raise;
      end if;
    end;
  end loop;
exception when object_not_in_prerequisite_state then
  return; -- somebody set its parameter in this session only: it is not loaded
end
$$;
comment on function monitoring.statements(int) is
  'The statements of this database that took the most time since their counters began, at most p_limit; the monitor''s own excepted. One that runs both by itself and inside functions is two rows.';

-- What could not be seen, and why: an empty list must not look like health.
-- As the server has it. A session or a role that has it off for itself, which only superusers can give it, says nothing of that; one that has it
-- on hides that the server has not.
create or replace function monitoring.is_off(p_setting text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return not current_setting(p_setting)::boolean and (
    select case s.source when 'session' then not s.reset_val::boolean else s.source not in ('client', 'user', 'database user') end
    from pg_settings s where s.name = p_setting);
end
$$;

create or replace function monitoring.blind_spots(p_section text) returns table (section text, reason text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source record;
  v_watched text[] := monitoring.setting_list('application_schemas');
  v_missing text;
begin
  -- A name that is mistyped looks like health. No name at all is meant.
  if v_watched is not null then
    if not exists (select from unnest(v_watched) w where to_regnamespace(quote_ident(w)) is not null and monitoring.is_application_schema(w::name, null))
      and v_watched <> '{}'
    then
      return query select s.section, 'application_schemas names none that could be watched' from unnest(array['summary', 'tableHealth', 'rlsStatus']) as s (section);
    end if;
    -- Of the others' tables all is seen.
    v_missing := (select string_agg(quote_ident(w), ', ' order by w) from unnest(v_watched) w where to_regnamespace(quote_ident(w)) is null);
    if v_missing is not null then
      return query select 'summary', format('application_schemas names schemas that are not there: %s', v_missing);
    end if;
  end if;
  v_missing := (
    select string_agg(quote_ident(w), ', ' order by w) from unnest(monitoring.setting_list('exposed_schemas')) w
    where w <> 'public' and to_regnamespace(quote_ident(w)) is null); -- public is the default, there or not
  if v_missing is not null then
    return query select s.section, format('exposed_schemas names schemas that are not there: %s', v_missing)
      from unnest(array['summary', 'rlsStatus']) as s (section);
  end if;
  if not pg_has_role(current_user, 'pg_read_all_stats', 'usage') then
    return query select s.section, 'monitoring_owner lacks pg_read_all_stats: sessions of other roles are invisible'
      from unnest(array['summary', 'slowQueries', 'connections', 'statements']) as s (section);
  end if;
  if monitoring.is_off('track_activities') then
    return query select s.section, 'track_activities is off: statements are invisible'
      from unnest(array['summary', 'slowQueries', 'connections']) as s (section);
  end if;
  if p_section is distinct from 'summary' and exists (select from pg_stat_get_activity(null) a where a.state = 'disabled') then
    return query select s.section, 'track_activities is off for some sessions: their statements are invisible'
      from unnest(array['slowQueries', 'connections']) as s (section);
  end if;
  if p_section is distinct from 'summary' then
    select * into v_source from monitoring.statement_source();
    if not v_source.is_created then
      return query select 'statements', 'pg_stat_statements is not created in this database: create extension pg_stat_statements';
    end if;
    if v_source.is_shadowed then
      return query select 'statements', format('another function in schema %I is called as pg_stat_statements'' own: drop or rename it', v_source.schema_name);
    elsif v_source.is_created and not v_source.is_usable then
      return query select 'statements', 'monitoring_owner may not use pg_stat_statements: ' || case when has_schema_privilege(v_source.schema_name, 'usage')
        then format('grant execute on function %s(boolean) to monitoring_owner', v_source.relation)
        else format('grant usage on schema %I to monitoring_owner', v_source.schema_name) end;
    end if;
    if not v_source.is_loaded then
      return query select 'statements', 'pg_stat_statements is not loaded: it must be in shared_preload_libraries when the server starts';
    elsif current_setting('pg_stat_statements.track', true) = 'none' then
      return query select 'statements', 'pg_stat_statements.track is none: statements are not counted';
    elsif current_setting('compute_query_id', true) = 'off' then
      return query select 'statements', 'compute_query_id is off: statements are not counted, unless another module identifies them';
    end if;
  end if;
  if pg_is_in_recovery() then
    return query select 'tableHealth', 'the server is a standby: tuple counts are kept on the primary'; -- checks say so themselves
  end if;
  if monitoring.is_off('track_counts') then
    return query select s.section, 'track_counts is off: tuple counts are not kept'
      from unnest(array['summary', 'tableHealth']) as s (section);
  end if;
end
$$;

create or replace function monitoring.degraded(p_section text default null) returns table (section text, reason text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('read');
  return query select * from monitoring.blind_spots(p_section);
end
$$;
comment on function monitoring.degraded(text) is
  'Sections of the API whose data is incomplete on this server, each with the reason. With p_section at least that one''s.';

-- The views -----------------------------------------------------------------------------------------------------------

create or replace view public.monitoring_slow_queries as select * from monitoring.slow_queries();
comment on view public.monitoring_slow_queries is 'Statements of this database that have run longer than slow_query_threshold_ms, longest first.';
create or replace view public.monitoring_connections as select * from monitoring.connections();
comment on view public.monitoring_connections is 'Connections of the whole server by state, and of each database that has any.';
create or replace view public.monitoring_table_health as select * from monitoring.table_health();
comment on view public.monitoring_table_health is 'Size, dead tuples, vacuum, scans and transaction id age of every application table, largest first.';
create or replace view public.monitoring_rls_status as
  select k.schemaname, pg_catalog.unnest(k.tablenames) as tablename, k.rls_enabled, k.rls_status, k.policy_count, k.security_risk_level,
    k.rls_forced, k.risk_rank, k.exposed_to, k.reasons
  from monitoring.rls_kinds() k;
comment on view public.monitoring_rls_status is 'Row-level security of every application table, worst first.';

-- The views read functions only, which check the caller themselves; run with the reader's own rights where the server
-- can (15 on), they add none of their owner's.
do $invoker$
declare
  v_view text;
begin
  if pg_catalog.current_setting('server_version_num')::int >= 150000 then
    foreach v_view in array array['slow_queries', 'connections', 'table_health', 'rls_status'] loop
      execute pg_catalog.format('alter view public.monitoring_%s set (security_invoker = true)', v_view);
    end loop;
  end if;
end
$invoker$;

-- Events --------------------------------------------------------------------------------------------------------------

create table if not exists public.monitoring_events (
  id               uuid not null default pg_catalog.gen_random_uuid(),
  event_type       text not null,
  event_data       jsonb not null,
  severity         text not null default 'medium',
  created_at       timestamptz not null default pg_catalog.now(),
  -- No foreign key to auth.users: an audit column must not keep a user from being deleted, and not every platform has that table.
  user_id          uuid,
  source_ip        inet,
  user_agent       text,
  resolved_at      timestamptz,
  resolution_notes text,
  -- What the event is about, stable while it lasts; null where a person or program recorded it.
  fingerprint      text,
  last_seen_at     timestamptz not null default pg_catalog.now(),
  occurrences      int not null default 1
);
comment on table public.monitoring_events is 'Monitoring events and alerts. Written through record_monitoring_event(); resolved by admin, owner or service.';

-- Each by its name, so that applying this again brings back one that is gone; and what was written meanwhile is named, not changed.
do $constraints$
declare
  v_constraint record;
begin
  if not exists (select from pg_catalog.pg_constraint k where k.conrelid = 'public.monitoring_events'::regclass and k.contype = 'p') then
    begin
      alter table public.monitoring_events add constraint monitoring_events_pkey primary key (id);
    exception when unique_violation then
      raise exception 'public.monitoring_events has events of the same id, and no primary key any more' using errcode = 'unique_violation',
        hint = 'Give all but one of each another (update public.monitoring_events set id = gen_random_uuid() where ctid = ...), then run the migration again.';
    end;
  end if;
  for v_constraint in
    select * from (values
      ('monitoring_events_event_type_check',
        'check (event_type in (''slow_query'', ''connection_issue'', ''table_health'', ''rls_violation'', ''performance_alert''))'),
      ('monitoring_events_event_data_check',
        'check (pg_catalog.jsonb_typeof(event_data) = ''object'' and pg_catalog.octet_length(event_data::text) <= 65536)'),
      ('monitoring_events_severity_check', 'check (severity in (''low'', ''medium'', ''high'', ''critical''))'),
      ('monitoring_events_user_agent_check', 'check (pg_catalog.length(user_agent) <= 1024)'),
      ('monitoring_events_resolution_notes_check', 'check (pg_catalog.length(resolution_notes) <= 10000)'),
      ('monitoring_events_occurrences_check', 'check (occurrences >= 1)')
    ) as wanted (name, definition)
  loop
    if not exists (
      select from pg_catalog.pg_constraint k where k.conrelid = 'public.monitoring_events'::regclass and k.conname = v_constraint.name)
    then
      execute pg_catalog.format('alter table public.monitoring_events add constraint %I %s not valid', v_constraint.name, v_constraint.definition);
    end if;
    if exists (
      select from pg_catalog.pg_constraint k
      where k.conrelid = 'public.monitoring_events'::regclass and k.conname = v_constraint.name and not k.convalidated)
    then
      begin
        execute pg_catalog.format('alter table public.monitoring_events validate constraint %I', v_constraint.name);
      exception when check_violation then
        raise warning 'public.monitoring_events has rows that break %, from while it was missing', v_constraint.name
          using hint = pg_catalog.format('Correct or delete them (%s), then run the migration again; until then they cannot be resolved.', v_constraint.definition);
      end;
    end if;
  end loop;
end
$constraints$;
-- Not even asked for where they are there: that takes locks, one after the other, of which writers hold some and wait for others.
do $indexes$
declare
  v_index record;
begin
  for v_index in
    select w.name, w.definition, i.indisvalid
    from (values
        ('monitoring_events_created_at_idx', 'index if not exists %I on public.monitoring_events (created_at desc)'),
        ('monitoring_events_open_fingerprint_key',
          'unique index if not exists %I on public.monitoring_events (fingerprint) where resolved_at is null and fingerprint is not null'),
        ('monitoring_events_resolved_at_idx', 'index if not exists %I on public.monitoring_events (resolved_at) where resolved_at is not null'),
        ('monitoring_events_last_seen_at_idx', 'index if not exists %I on public.monitoring_events (last_seen_at desc)'),
        ('monitoring_events_open_severity_idx', 'index if not exists %I on public.monitoring_events (severity) where resolved_at is null')
      ) as w (name, definition)
      left join (pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid)
        on c.relname = w.name and i.indrelid = 'public.monitoring_events'::regclass
    where i.indisvalid is not true
  loop
    -- One whose making was cut short is there and serves nobody. Somebody else's, of another name, may be in the making.
    if not v_index.indisvalid then
      execute pg_catalog.format('drop index public.%I', v_index.name);
    end if;
    execute pg_catalog.format('create ' || v_index.definition, v_index.name);
  end loop;
end
$indexes$;

do $security$
begin
  -- FORCE binds the owner too, so the definer functions are admitted by a policy of their own; without it a clean-up would
  -- delete nothing and say nothing.
  if (select not (c.relrowsecurity and c.relforcerowsecurity) from pg_catalog.pg_class c where c.oid = 'public.monitoring_events'::regclass) then
    alter table public.monitoring_events enable row level security;
    alter table public.monitoring_events force row level security;
  end if;
end
$security$;

-- Each by its name, so that applying this again brings back one that is gone.
do $policies$
declare
  v_policy record;
begin
  for v_policy in
    select * from (values
      ('monitoring_events_owner', 'to monitoring_owner using (true) with check (true)'),
      ('monitoring_events_read', 'for select using ((select monitoring.may(''read'')))'),
      ('monitoring_events_resolve', 'for update using ((select monitoring.may(''resolve''))) with check ((select monitoring.may(''resolve'')))')
    ) as wanted (name, definition)
  loop
    if not exists (
      select from pg_catalog.pg_policy p where p.polrelid = 'public.monitoring_events'::regclass and p.polname = v_policy.name)
    then
      execute pg_catalog.format('create policy %I on public.monitoring_events %s', v_policy.name, v_policy.definition);
    end if;
  end loop;
end
$policies$;

-- Who may resolve may say so now and once: not backdate it (the next clean-up would delete the event), not undo it.
create or replace function monitoring.resolve_once() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_has_role(current_user, 'monitoring_owner', 'usage') then
    return new; -- our own functions, and superusers
  end if;
  if old.resolved_at is not null then
    return old;
  end if;
  if new.resolved_at is not null then
    new.resolved_at := now();
  end if;
  return new;
end
$$;
do $trigger$
begin
  if not exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = 'public.monitoring_events'::regclass and t.tgname = 'monitoring_events_resolve_once' and t.tgfoid = 'monitoring.resolve_once()'::regprocedure
      and t.tgtype = 19 and t.tgqual is not null and t.tgenabled = 'O') -- before each update
  then
    -- What is open and stays so is counted with every sample, and nothing of it is to be kept.
    create or replace trigger monitoring_events_resolve_once before update on public.monitoring_events
      for each row when (old.resolved_at is not null or new.resolved_at is not null) execute function monitoring.resolve_once();
  end if;
end
$trigger$;

-- What public shows is called by people and applications. In public others may have made functions of the same name, which would fit
-- a call as well or better: we ourselves call those of schema monitoring.
create or replace function monitoring.record_event(
  p_event_type text, p_event_data jsonb, p_severity text, p_source_ip inet, p_user_agent text) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_id uuid;
begin
  perform monitoring.authorize('record');
  if p_event_type is null
    or p_event_type not in ('slow_query', 'connection_issue', 'table_health', 'rls_violation', 'performance_alert')
  then
    raise exception 'event_type must be one of slow_query, connection_issue, table_health, rls_violation, performance_alert'
      using errcode = 'invalid_parameter_value';
  end if;
  if p_severity is null or p_severity not in ('low', 'medium', 'high', 'critical') then
    raise exception 'severity must be one of low, medium, high, critical' using errcode = 'invalid_parameter_value';
  end if;
  if p_event_data is null or jsonb_typeof(p_event_data) <> 'object' then
    raise exception 'event_data must be a JSON object' using errcode = 'invalid_parameter_value';
  end if;
  if octet_length(p_event_data::text) > 65536 then
    raise exception 'event_data must be at most 64 kB' using errcode = 'invalid_parameter_value';
  end if;
  insert into public.monitoring_events (event_type, event_data, severity, user_id, source_ip, user_agent)
  values (p_event_type, p_event_data, p_severity, monitoring.caller_subject(), p_source_ip, left(p_user_agent, 1024))
  returning id into v_id;
  return v_id;
end
$$;
create or replace function public.record_monitoring_event(
  p_event_type text, p_event_data jsonb, p_severity text default 'medium', p_source_ip inet default null,
  p_user_agent text default null) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return monitoring.record_event(p_event_type, p_event_data, p_severity, p_source_ip, p_user_agent);
end
$$;
comment on function public.record_monitoring_event(text, jsonb, text, inet, text) is
  'Records an event and returns its id. Service, admin, owner, developer; 42501 for others, 22023 for a bad argument.';

create or replace function monitoring.resolve_event(p_event_id uuid, p_resolution_notes text default null) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
  perform monitoring.authorize('resolve');
  if length(p_resolution_notes) > 10000 then
    raise exception 'resolution_notes must be at most 10,000 characters' using errcode = 'invalid_parameter_value';
  end if;
  update public.monitoring_events
  set resolved_at = now(), resolution_notes = p_resolution_notes
  where id = p_event_id and resolved_at is null;
  if found then
    return true;
  end if;
  if not exists (select from public.monitoring_events where id = p_event_id) then
    raise exception 'there is no event %', p_event_id using errcode = 'no_data_found';
  end if;
  return false;
end
$$;
comment on function monitoring.resolve_event(uuid, text) is
  'Resolves an event: true when it was open, false when it was resolved already (nothing is changed), P0002 when there is none.';

-- Batches keep each DELETE short; the time limit keeps the whole under a task's deadline, and what is left waits for the
-- next run. What is to go is looked up once and deleted by ctid: a batch that looked for itself would walk past all that the
-- others have deleted, since an old snapshot keeps that in the index. A row somebody is just resolving is left alone, and one that
-- a key or a trigger of somebody's does not let go keeps back no other, as long as there are not a hundred of them.
create or replace function monitoring.delete_events(p_condition text, p_older_than timestamptz, p_stop_at timestamptz,
  out deleted bigint, out is_locked boolean, out problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set work_mem = '32MB'
set lock_timeout = '100ms'
as $$
declare
  -- The condition again: a ctid is only a place, and somebody may have changed the row that was there. IS TRUE keeps the
  -- planner from looking the condition up in an index instead.
  v_delete constant text := format('delete from public.monitoring_events e where e.ctid = any ($1) and (%s < $2) is true', p_condition);
  -- What is checked only when the transaction ends would take all of it back.
  v_deferred text := (
    select string_agg(format('%I.%I', n.nspname, k.conname), ', ')
    from pg_constraint k join pg_namespace n on n.oid = k.connamespace
    where k.confrelid = 'public.monitoring_events'::regclass and k.condeferred);
  v_batch tid[];
  -- Of the batch, what is still to be tried.
  v_lows int[];
  v_highs int[];
  v_low int;
  v_high int;
  v_deleted bigint;
  v_is_sifted boolean;
  v_failures int := 0;
  v_left bigint := 0;
  v_state text;
  v_message text;
begin
  deleted := 0;
  is_locked := false;
  begin
    lock table public.monitoring_events in row exclusive mode;
  exception when lock_not_available then
    is_locked := true; -- the next run will find it free
    return;
  end;
  if v_deferred is not null then
    execute 'set constraints ' || v_deferred || ' immediate';
  end if;
  for v_batch in execute format(
    'select array_agg(e.ctid) from ('
      'select d.ctid, row_number() over () / 10000 as batch from public.monitoring_events d where %s < $1'
    ') e group by e.batch', p_condition) using p_older_than
  loop
    v_is_sifted := false;
    v_lows := array[1];
    v_highs := array[cardinality(v_batch)];
    while cardinality(v_lows) > 0 and clock_timestamp() < p_stop_at loop
      v_low := v_lows[cardinality(v_lows)];
      v_high := v_highs[cardinality(v_highs)];
      v_lows := trim_array(v_lows, 1);
      v_highs := trim_array(v_highs, 1);
      begin
        execute v_delete using v_batch[v_low:v_high], p_older_than;
        get diagnostics v_deleted = row_count;
        deleted := deleted + v_deleted;
        continue;
      exception when others then
        v_state := sqlstate;
        v_message := sqlerrm;
      end;
      if not v_is_sifted then
        -- The whole batch. Locking all rows first would double the work for every one, so it is done for this one; and kept, so that no part
        -- of it waits for anybody's again.
        v_is_sifted := true;
        v_batch := array(select l.ctid from public.monitoring_events l where l.ctid = any (v_batch) for update skip locked);
        if v_batch <> '{}' then
          v_lows := array[1];
          v_highs := array[cardinality(v_batch)];
        end if;
        continue;
      end if;
      v_failures := v_failures + 1;
      if v_high > v_low and v_failures <= 1000 and v_left < 100 then
        v_lows := v_lows || array[v_low, (v_low + v_high) / 2 + 1];
        v_highs := v_highs || array[(v_low + v_high) / 2, v_high];
      else
        v_left := v_left + v_high - v_low + 1;
        if v_state = '55P03' then
          is_locked := true; -- what somebody has let refer to events
        else
          problem := v_state;
        end if;
      end if;
    end loop;
    exit when clock_timestamp() >= p_stop_at;
  end loop;
  if v_deferred is not null then
    execute 'set constraints ' || v_deferred || ' deferred';
  end if;
  if problem is not null then
    raise warning 'pgvigil could not delete % old events: % (SQLSTATE %)', v_left, v_message, v_state;
  end if;
end
$$;

create or replace function monitoring.clean_up() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set timezone = 'UTC' -- a day has 24 hours
set lock_timeout = '100ms' -- whoever calls it
as $$
declare
  v_stop_at timestamptz := clock_timestamp() + interval '20 seconds';
  v_resolved record;
  v_unresolved record;
  v_texts bigint;
  v_announcements jsonb := '{}';
  v_samples jsonb := '{}';
  v_history jsonb := '{}';
  v_pages jsonb := '{}';
  v_locked text[] := '{}';
  v_failed jsonb := '{}';
  v_subject text;
begin
  perform monitoring.authorize('operate');
  if pg_is_in_recovery() then
    return jsonb_build_object('status', 'skipped', 'reason', 'the server is a standby: nothing can be deleted');
  end if;
  -- A row of our own and no advisory lock, which everybody in the database could hold.
  perform from monitoring.migrations m where m.version = '20250825000002' for no key update skip locked;
  if not found then
    return jsonb_build_object('status', 'skipped', 'reason', 'another clean-up is running');
  end if;
  v_resolved := monitoring.delete_events('resolved_at is not null and resolved_at',
    now() - make_interval(days => (monitoring.setting('resolved_event_retention_days') #>> '{}')::int), v_stop_at);
  v_unresolved := monitoring.delete_events('resolved_at is null and last_seen_at',
    now() - make_interval(days => (monitoring.setting('unresolved_event_retention_days') #>> '{}')::int), v_stop_at);
  if v_resolved.is_locked or v_unresolved.is_locked then
    v_locked := v_locked || 'events'::text;
  end if;
  if coalesce(v_resolved.problem, v_unresolved.problem) is not null then
    v_failed := v_failed || jsonb_build_object('events', coalesce(v_resolved.problem, v_unresolved.problem));
  end if;
  -- What somebody keeps locked, or does not let go, costs the rest nothing: the next run may find it free.
  foreach v_subject in array '{statement_texts,announcements,pages,samples,history}'::text[] loop
    begin
      case v_subject
        when 'statement_texts' then
          delete from monitoring.statement_texts k where k.last_seen_at < now() - interval '30 days';
          get diagnostics v_texts = row_count;
        when 'announcements' then
          v_announcements := monitoring.forget_announced();
        when 'pages' then
          -- The last migration can be rolled back by itself.
          if to_regprocedure('monitoring.forget_pages()') is not null then
            v_pages := monitoring.forget_pages();
          end if;
        when 'samples' then
          v_samples := monitoring.drop_expired_samples();
        when 'history' then
          v_history := monitoring.delete_expired_history();
      end case;
    exception
      when lock_not_available then
        v_locked := v_locked || v_subject;
      when others then
        raise warning 'pgvigil could not clean up %: % (SQLSTATE %)', v_subject, sqlerrm, sqlstate;
        v_failed := v_failed || jsonb_build_object(v_subject, sqlstate);
    end;
  end loop;
  return jsonb_build_object('status', 'done', 'resolved_events', v_resolved.deleted, 'unresolved_events', v_unresolved.deleted,
    'statement_texts', v_texts,
    'complete', clock_timestamp() < v_stop_at and v_locked = '{}' and v_failed = '{}' and (v_samples ->> 'sample_partitions_postponed')::int = 0,
    'locked', to_jsonb(v_locked), 'failed', v_failed) || v_announcements || v_samples || v_history || v_pages;
end
$$;
create or replace function public.cleanup_old_monitoring_data() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return monitoring.clean_up();
end
$$;
comment on function public.cleanup_old_monitoring_data() is
  'Deletes events, samples, points, changes, statement texts and what pages measured past their retention; counts by kind, and which kinds were locked and are left for the next run. Service only. Overlapping another run it is skipped.';

-- Judgement -----------------------------------------------------------------------------------------------------------

-- What is wrong, and how bad: monitoring.assess() and monitoring.health_score(), of 20250825000009.

create or replace function monitoring.health_status(p_score int) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_score >= 90 then 'excellent' when p_score >= 75 then 'good' when p_score >= 50 then 'fair' else 'poor' end;
end
$$;
comment on function monitoring.health_status(int) is 'The word for a score.';

create or replace function monitoring.summary() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set jit = off
as $$
declare
  v_seen jsonb := monitoring.assess(); -- asks whether the caller may read
  v_score int := monitoring.health_score(v_seen -> 'findings');
  v_recommendations jsonb;
begin
  select coalesce(jsonb_agg(r.remediation order by r.place), '[]') into v_recommendations
  from (
    select f.value ->> 'remediation' as remediation, min(f.place) as place
    from jsonb_array_elements(v_seen -> 'findings') with ordinality f (value, place)
    group by 1
    order by 2
    limit 10
  ) r;
  return jsonb_build_object(
    'timestamp', to_jsonb(clock_timestamp()),
    'health_score', v_score,
    'status', monitoring.health_status(v_score),
    'metrics', v_seen -> 'metrics',
    'recommendations', v_recommendations,
    'findings', jsonb_path_query_array(v_seen, '$.findings[0 to 49]'),
    -- Whatever is open now makes this a critical time; an older assess(), in the middle of an upgrade, does not tell whether it is one.
    'window', case when coalesce(v_seen -> 'is_critical_time', 'true') = 'true' then (
      select to_jsonb(w) from monitoring.known_windows(now(), now()) w order by w.starts_at, w.ends_at, w.id limit 1) end,
    'degraded', v_seen -> 'degraded');
end
$$;
create or replace function public.get_database_monitoring_summary() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return monitoring.summary();
end
$$;
comment on function public.get_database_monitoring_summary() is
  'Health score (0 to 100), status, metrics, findings worst first (at most 50) and what to do. Service, admin, owner, developer.';

-- Privileges ----------------------------------------------------------------------------------------------------------

do $private$ begin perform monitoring.make_private(
  'table public.monitoring_slow_queries',
  'table public.monitoring_connections',
  'table public.monitoring_table_health',
  'table public.monitoring_rls_status',
  'table public.monitoring_events',
  'function public.get_database_monitoring_summary()',
  'function public.record_monitoring_event(text, jsonb, text, inet, text)',
  'function public.cleanup_old_monitoring_data()',
  'function monitoring.summary()',
  'function monitoring.record_event(text, jsonb, text, inet, text)',
  'function monitoring.clean_up()',
  'function monitoring.redact(text)',
  'function monitoring.is_legible(text)',
  'function monitoring.legible(text)',
  'function monitoring.role_name(oid)',
  'function monitoring.is_application_schema(name, name[])',
  'function monitoring.checked_limit(int)',
  'function monitoring.own_logins()',
  'function monitoring.own_roles()',
  'type monitoring.seen_backend',
  'function monitoring.look_at_backends()',
  'function monitoring.slow_sessions(int, monitoring.seen_backend[])',
  'function monitoring.slow_queries(int)',
  'function monitoring.lock_trees(monitoring.seen_backend[])',
  'function monitoring.locks(int)',
  'function monitoring.connections_of(monitoring.seen_backend[])',
  'function monitoring.connections()',
  'function monitoring.table_health(int)',
  'function monitoring.look_at_column_grants()',
  'function monitoring.column_grants()',
  'function monitoring.schema_users(oid[])',
  'function monitoring.may_become(oid, oid)',
  'function monitoring.may_do(oid, oid, text)',
  'function monitoring.reachers(oid, oid, oid[])',
  'function monitoring.compares_constant_with_itself(text)',
  'function monitoring.is_constant_true(text)',
  'function monitoring.is_true_anyway(text)',
  'function monitoring.anyones()',
  'function monitoring.is_security_invoker(text[])',
  'function monitoring.look_at_invoked_tables(oid)',
  'function monitoring.look_at_bypassing_views()',
  'function monitoring.look_at_rls_kinds()',
  'function monitoring.rls_kinds(int)',
  'function monitoring.rls_status(int)',
  'function monitoring.statement_source()',
  'function monitoring.statements(int)',
  'function monitoring.is_off(text)',
  'function monitoring.blind_spots(text)',
  'function monitoring.degraded(text)',
  'function monitoring.resolve_event(uuid, text)',
  'function monitoring.resolve_once()',
  'function monitoring.delete_events(text, timestamptz, timestamptz)',
  'function monitoring.health_status(int)',
  'table monitoring.table_states',
  'function monitoring.estimated_pages(int, real, bigint, int)',
  'function monitoring.look_at_companions()',
  'function monitoring.companions()',
  'function monitoring.companion_pages(oid, oid)',
  'function monitoring.integer_option(text)',
  'function monitoring.look_at_tables()',
  'function monitoring.tables()'); end $private$;

-- Whoever has these still meets the guard. On Supabase the API runs as authenticated or service_role; anon gets nothing.
do $grants$
declare
  v_role name;
begin
  for v_role in
    select r.rolname from pg_catalog.pg_roles r
    where r.rolname in ('monitoring_reader', 'monitoring_agent', 'authenticated', 'service_role')
    order by r.rolname
  loop
    execute pg_catalog.format('grant select on public.monitoring_slow_queries, public.monitoring_connections, '
      'public.monitoring_table_health, public.monitoring_rls_status, public.monitoring_events to %I', v_role);
    execute pg_catalog.format('grant update (resolved_at, resolution_notes) on public.monitoring_events to %I', v_role);
    -- A view asks the rights to its functions of its reader, so the functions behind the views are granted too.
    execute pg_catalog.format('grant execute on function public.get_database_monitoring_summary(), '
      'public.record_monitoring_event(text, jsonb, text, inet, text), public.cleanup_old_monitoring_data(), '
      'monitoring.slow_queries(int), '
      'monitoring.connections(), monitoring.table_health(int), monitoring.rls_kinds(int), monitoring.rls_status(int), monitoring.checked_limit(int) to %I', v_role);
  end loop;
end
$grants$;

grant execute on function monitoring.summary(), monitoring.record_event(text, jsonb, text, inet, text), monitoring.clean_up(),
  monitoring.redact(text), monitoring.statements(int), monitoring.locks(int), monitoring.degraded(text),
  monitoring.resolve_event(uuid, text) to monitoring_reader, monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000002', 'database_monitoring_views', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
revoke create on schema public from monitoring_owner;

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
