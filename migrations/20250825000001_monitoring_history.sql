-- pgvigil: where samples are kept, and what is remembered of large databases.
--
-- Samples are one table partitioned by UTC day, so that retention drops whole partitions: no dead rows, no vacuum, hardly
-- any WAL.

-- A migration waits at most this long for anybody's lock; it is better run again than everybody queued behind it.
do $patience$ begin perform pg_catalog.set_config('lock_timeout', '5s', true); end $patience$;

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
          hint = pg_catalog.format('As the role that made it, or a superuser: grant monitoring_owner, monitoring_reader, '
            'monitoring_agent to %I with admin option', current_user);
end
$become$;
set role monitoring_owner;

create table if not exists monitoring.samples (
  -- The schedule's tick this sample answers; two deliveries of one tick meet here.
  tick_at                        timestamptz not null,
  -- When the sample was really taken: the heartbeat.
  sampled_at                     timestamptz not null,
  duration_ms                    numeric not null check (duration_ms >= 0),
  health_score                   int not null check (health_score between 0 and 100),
  status                         text not null,
  slow_queries                   bigint not null,
  blocked_sessions               bigint not null,
  total_connections              bigint not null,
  connection_utilization_percent numeric not null,
  longest_transaction_ms         bigint,
  high_risk_tables               bigint not null,
  tables_needing_vacuum          bigint not null,
  unresolved_events              bigint not null,
  findings                       bigint not null,
  primary key (tick_at)
) partition by range (tick_at);
comment on table monitoring.samples is 'One row per schedule tick: the summary''s numbers and the heartbeat. A gap is a gap in sampling.';

create table if not exists monitoring.statement_texts (
  query_id      bigint primary key,
  query_preview text not null,
  last_seen_at  timestamptz not null default pg_catalog.now()
);
comment on table monitoring.statement_texts is 'What pg_stat_statements'' query ids stand for, redacted, noted by the sampler; forgotten 30 days after they were last seen.';

-- Attaching takes SHARE UPDATE EXCLUSIVE on the parent; `create table ... partition of` would take ACCESS EXCLUSIVE and
-- wait behind every reader (manual, "ALTER TABLE").
create or replace function monitoring.ensure_sample_partition(p_day date) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := 'samples_' || to_char(p_day, 'YYYYMMDD');
begin
  if to_regclass('monitoring.' || v_name) is not null then
    return false;
  end if;
  execute format('create table monitoring.%I (like monitoring.samples including all)', v_name);
  -- Default privileges of ours that somebody gave would open it.
  perform monitoring.make_private(format('table monitoring.%I', v_name));
  execute format('alter table monitoring.samples attach partition monitoring.%I for values from (%L) to (%L)',
    v_name, p_day::text || ' 00:00:00+00', (p_day + 1)::text || ' 00:00:00+00');
  return true;
end
$$;
comment on function monitoring.ensure_sample_partition(date) is 'Makes the partition of a UTC day; true when it was not there.';

-- Dropping a partition waits behind one idle reader, and every insert waits behind the drop. So it gives up after 100 ms
-- and leaves the partition to the next clean-up.
create or replace function monitoring.drop_expired_samples() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
  v_oldest_day date := (now() at time zone 'UTC')::date - (monitoring.setting('sample_retention_days') #>> '{}')::int;
  v_partition record;
  v_dropped int := 0;
  v_postponed int := 0;
begin
  for v_partition in
    select c.relname
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'monitoring.samples'::regclass
      and c.relname ~ '^samples_[0-9]{8}$'
      and to_date(substr(c.relname, 9), 'YYYYMMDD') < v_oldest_day
    order by c.relname
  loop
    begin
      execute format('drop table monitoring.%I', v_partition.relname);
      v_dropped := v_dropped + 1;
    exception when lock_not_available then
      v_postponed := v_postponed + 1;
    end;
  end loop;
  return jsonb_build_object('dropped', v_dropped, 'postponed', v_postponed);
end
$$;
comment on function monitoring.drop_expired_samples() is 'Drops partitions past sample_retention_days; says how many were dropped and how many were in use.';

-- What is remembered --------------------------------------------------------------------------------------------------

-- With thousands of tables some answers cost ten times as much as the rest: which tables there are, what belongs to each
-- beside its heap, which columns are granted to whom, what row-level security amounts to. The sampler keeps them here; who
-- reads them asks first whether they still hold, and looks for itself if they do not. Unlogged: no WAL, nothing to
-- replicate, and after a crash they are looked up again.
create unlogged table if not exists monitoring.remembered (
  subject       text primary key check (subject in ('companions', 'tables', 'column_grants', 'rls_status')),
  remembered_at timestamptz not null,
  -- What must not have changed since: monitoring.holds_while(subject).
  holds_while   text not null
);
comment on table monitoring.remembered is 'Which of the remembered_* tables are filled, since when, and how to tell whether they still hold.';

create unlogged table if not exists monitoring.remembered_companions (
  table_oid           oid primary key,
  companion_pages     bigint not null,
  index_scans         bigint,
  toast_frozen_xid    xid,
  toast_min_multixact xid
);
comment on table monitoring.remembered_companions is 'Per table, what monitoring.look_at_companions() found.';

create unlogged table if not exists monitoring.remembered_tables (
  table_oid                oid primary key,
  toast_oid                oid not null,
  schemaname               name not null,
  tablename                name not null,
  relpages                 int not null,
  reltuples                real not null,
  -- Its own settings of autovacuum; null: the server's.
  vacuum_threshold         float8,
  vacuum_scale_factor      float8,
  vacuum_max_threshold     float8,
  freeze_max_age           bigint,
  multixact_freeze_max_age bigint,
  frozen_xid               xid,
  min_multixact            xid,
  companion_pages          bigint,
  index_scans              bigint,
  toast_frozen_xid         xid,
  toast_min_multixact      xid
);
comment on table monitoring.remembered_tables is 'Application tables, what monitoring.look_at_tables() found.';

create unlogged table if not exists monitoring.remembered_column_grants (
  table_oid      oid not null,
  grantee        oid not null,
  privilege_type text not null,
  primary key (table_oid, grantee, privilege_type)
);
comment on table monitoring.remembered_column_grants is 'What monitoring.look_at_column_grants() found.';

create unlogged table if not exists monitoring.remembered_rls_status (
  schemaname          name not null,
  tablename           name not null,
  rls_enabled         boolean not null,
  rls_status          text not null,
  policy_count        bigint not null,
  security_risk_level text not null,
  rls_forced          boolean not null,
  risk_rank           int not null,
  exposed_to          name[] not null,
  reasons             text[] not null,
  primary key (risk_rank, schemaname, tablename)
);
comment on table monitoring.remembered_rls_status is 'What monitoring.look_at_rls_status() found.';

-- How often rows of a catalog were written, by the server's own counters: every DDL command moves them; VACUUM, ANALYZE
-- and ordinary writes do not. Another session's change arrives when that session reports it, which it does between two
-- statements or when it has been idle for ten seconds: after a second as a rule, but not while a long statement follows
-- (manual, "The Cumulative Statistics System"). So the sampler looks again every minute, whatever the counters say.
create or replace function monitoring.catalog_writes(variadic p_catalogs regclass[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Each by itself: a sum could come back to what it was when one of them is reset.
  select string_agg(concat_ws('/', pg_stat_get_tuples_inserted(c), pg_stat_get_tuples_updated(c), pg_stat_get_tuples_deleted(c)), ',')
  from unnest(p_catalogs) c
$$;

-- Null: nothing holds. In recovery unlogged tables cannot be read; without counters changes cannot be told; and what this
-- very session has changed is not counted yet. Before 15 a session that falls idle does not report at all, and what was
-- reported is read half a second late, so there nothing is remembered that would be wrong rather than old.
create or replace function monitoring.holds_while(p_subject text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when pg_is_in_recovery() or not current_setting('track_counts')::boolean then null
    when p_subject <> 'companions' and current_setting('server_version_num')::int < 150000 then null
    when p_subject <> 'companions' and exists (
      select from unnest('{pg_class,pg_policy,pg_namespace,pg_authid,pg_auth_members,pg_attribute,pg_rewrite}'::regclass[]) c
      where pg_stat_get_xact_tuples_inserted(c) + pg_stat_get_xact_tuples_updated(c) + pg_stat_get_xact_tuples_deleted(c) > 0)
      then null
    -- Restored elsewhere, cloned, restarted or reset: the counters or the oids are not the same ones.
    else concat_ws(' ', 'monitoring.remembered'::regclass::oid, d.oid,
      extract(epoch from pg_postmaster_start_time()), extract(epoch from pg_stat_get_db_stat_reset_time(d.oid)),
      case p_subject
        -- Nobody gets a column's privileges but by an update: tables come and go without any.
        when 'column_grants' then pg_stat_get_tuples_updated('pg_attribute'::regclass)::text
        when 'tables' then monitoring.catalog_writes('pg_class', 'pg_namespace')
        -- The database's owner is a member of pg_database_owner.
        when 'rls_status' then concat_ws(' ',
          monitoring.catalog_writes('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_rewrite'),
          pg_stat_get_tuples_updated('pg_attribute'::regclass), d.datdba)
      end,
      case when p_subject in ('tables', 'rls_status')
        then md5(concat(monitoring.setting('application_schemas'), monitoring.setting('exposed_schemas'))) end)
  end
  from pg_database d
  where d.datname = current_database()
$$;
comment on function monitoring.holds_while(text) is
  'A text that stays the same while what was remembered of the subject holds; null when nothing remembered may be used.';

-- The longest that a remembered answer is used, whatever the counters say.
create or replace function monitoring.is_remembered(p_subject text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An unlogged table cannot even be planned for in recovery. And a transaction sees the counters as it saw them first, so in
  -- one that takes long they tell nothing.
  if pg_is_in_recovery() or now() < clock_timestamp() - interval '10 seconds' then
    return false;
  end if;
  -- Whether it holds need not be asked where nothing is remembered.
  return exists (
    select from monitoring.remembered r
    where r.subject = p_subject
      and r.remembered_at between now() - case p_subject when 'companions' then interval '1 hour' else interval '150 seconds' end and now()
      and r.holds_while = monitoring.holds_while(p_subject));
end
$$;
comment on function monitoring.is_remembered(text) is 'Whether the remembered answer to a subject may be used.';

do $private$ begin perform monitoring.make_private(
  'table monitoring.statement_texts',
  'table monitoring.remembered',
  'table monitoring.remembered_companions',
  'table monitoring.remembered_tables',
  'table monitoring.remembered_column_grants',
  'table monitoring.remembered_rls_status',
  'function monitoring.catalog_writes(regclass[])',
  'function monitoring.holds_while(text)',
  'function monitoring.is_remembered(text)',
  'table monitoring.samples',
  'function monitoring.ensure_sample_partition(date)',
  'function monitoring.drop_expired_samples()'); end $private$;

do $operator$
declare
  v_operator text := pg_catalog.current_setting('pgvigil.became_owner');
begin
  if v_operator <> '' then
    execute pg_catalog.format('grant select on monitoring.samples to %I', v_operator);
    execute pg_catalog.format('grant select, delete on monitoring.remembered to %I', v_operator);
  end if;
end
$operator$;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000001', 'monitoring_history', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
