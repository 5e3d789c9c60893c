-- pgvigil: where samples are kept, and what is remembered of large databases.
--
-- Samples are partitioned by UTC day, so that retention drops whole partitions: no dead rows, no vacuum, hardly any WAL. What is
-- older is read by the hour and by the day: a row each.

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

-- What one look at the server found: the judgement's numbers, gauges, and counters as the server counts them. Deltas are
-- worked out on reading (monitoring.activity()), where it shows which two rows may be compared. What could not be seen, or
-- was not looked at this time, is null.
create table if not exists monitoring.samples (
  -- The schedule's tick this sample answers; two deliveries of one tick meet here.
  tick_at                        timestamptz not null,
  -- When the sample was really taken: the heartbeat.
  sampled_at                     timestamptz not null,
  late_ms                        bigint not null default 0 check (late_ms >= 0),
  duration_ms                    numeric not null check (duration_ms >= 0),
  -- [{"part", "reason"}]: what was due and left out.
  skipped                        jsonb,
  health_score                   int check (health_score between 0 and 100),
  status                         text,
  findings                       int,
  slow_queries                   int,
  blocked_sessions               int,
  high_risk_tables               int,
  tables_needing_vacuum          int,
  unresolved_events              int,
  total_connections              int,
  connection_utilization_percent numeric,
  longest_transaction_ms         bigint,
  longest_statement_ms           bigint,
  -- Of the whole server, the monitor's own session excepted.
  active_sessions                int,
  idle_sessions                  int,
  idle_in_transaction            int,
  -- Active sessions by what they wait for; on_cpu: for nothing.
  active_on_cpu                  int,
  active_on_lock                 int,
  active_on_lwlock               int,
  active_on_io                   int,
  active_on_client               int,
  active_on_ipc                  int,
  active_on_other                int,
  autovacuum_workers             int,
  database_size_bytes            bigint,
  xid_age                        bigint,
  multixact_age                  bigint,
  standbys                       int,
  replication_lag_bytes          bigint,
  replication_lag_seconds        numeric,
  inactive_slots                 int,
  slot_retained_bytes            bigint,
  -- Which server counted, of which database (a dump that is restored elsewhere brings its samples along), and since when.
  server_started_at              timestamptz,
  database_identity              text,
  timeline                       int,
  counted_since                  timestamptz,
  wal_counted_since              timestamptz,
  checkpoints_counted_since      timestamptz,
  -- Of this database.
  commits                        bigint,
  rollbacks                      bigint,
  blocks_read                    bigint,
  blocks_hit                     bigint,
  tuples_returned                bigint,
  tuples_fetched                 bigint,
  tuples_inserted                bigint,
  tuples_updated                 bigint,
  tuples_deleted                 bigint,
  temp_files                     bigint,
  temp_bytes                     bigint,
  deadlocks                      bigint,
  -- Of the server.
  wal_bytes                      numeric,
  checkpoints_timed              bigint,
  checkpoints_requested          bigint,
  checkpoint_write_ms            float8,
  checkpoint_sync_ms             float8,
  primary key (tick_at)
) partition by range (tick_at);
comment on table monitoring.samples is 'One row per schedule tick: the heartbeat, the judgement''s numbers, gauges, and raw counters. A gap is a gap in sampling.';

-- One row a look, its statements in arrays: a hundred rows a minute would take ten times the room. The counters as they were
-- at the look before stand beside them, null where they began anew since: what was in no earlier row can be compared too.
create table if not exists monitoring.statement_samples (
  tick_at            timestamptz not null,
  sampled_at         timestamptz not null,
  since_at           timestamptz not null,
  query_ids          bigint[] not null,
  user_ids           oid[] not null,
  toplevel           boolean[] not null,
  calls              bigint[] not null,
  calls_before       bigint[] not null,
  -- Whole numbers: the last digits of a float are noise that takes room.
  exec_us            bigint[] not null,
  exec_us_before     bigint[] not null,
  rows               bigint[] not null,
  rows_before        bigint[] not null,
  blocks_hit         bigint[] not null,
  blocks_hit_before  bigint[] not null,
  blocks_read        bigint[] not null,
  blocks_read_before bigint[] not null,
  temp_blocks        bigint[] not null,
  temp_blocks_before bigint[] not null,
  primary key (tick_at)
) partition by range (tick_at);
comment on table monitoring.statement_samples is 'The 100 statements that took the most time since the look before: their counters then and now.';

create table if not exists monitoring.table_samples (
  tick_at                 timestamptz not null,
  sampled_at              timestamptz not null,
  since_at                timestamptz not null,
  table_oids              oid[] not null,
  tables                  text[] not null,
  inserts                 bigint[] not null,
  inserts_before          bigint[] not null,
  updates                 bigint[] not null,
  updates_before          bigint[] not null,
  deletes                 bigint[] not null,
  deletes_before          bigint[] not null,
  sequential_scans        bigint[] not null,
  sequential_scans_before bigint[] not null,
  live_tuples             bigint[] not null,
  dead_tuples             bigint[] not null,
  -- By the catalog's pages, not measured.
  size_bytes              bigint[] not null,
  primary key (tick_at)
) partition by range (tick_at);
comment on table monitoring.table_samples is 'The 50 tables that changed most since the look before: their counters then and now.';

-- An hour of samples in one row: gauges at their worst, sessions on average, and what the counters moved by. `seconds` is the
-- time that the movements cover. A single sample told as its movements has the same shape (monitoring.activity()), so there is
-- one way to sum up, whatever is summed up.
create table if not exists monitoring.samples_hourly (
  at                             timestamptz primary key,
  samples                        bigint not null,
  seconds                        float8,
  health_score                   int,
  findings                       int,
  slow_queries                   int,
  blocked_sessions               int,
  high_risk_tables               int,
  tables_needing_vacuum          int,
  unresolved_events              int,
  total_connections              int,
  connection_utilization_percent numeric,
  longest_transaction_ms         bigint,
  longest_statement_ms           bigint,
  active_sessions                float8,
  active_on_cpu                  float8,
  active_on_lock                 float8,
  active_on_lwlock               float8,
  active_on_io                   float8,
  active_on_client               float8,
  active_on_ipc                  float8,
  active_on_other                float8,
  idle_in_transaction            int,
  autovacuum_workers             int,
  database_size_bytes            bigint,
  xid_age                        bigint,
  multixact_age                  bigint,
  standbys                       int,
  replication_lag_bytes          bigint,
  replication_lag_seconds        numeric,
  inactive_slots                 int,
  slot_retained_bytes            bigint,
  commits                        bigint,
  rollbacks                      bigint,
  blocks_read                    bigint,
  blocks_hit                     bigint,
  tuples_returned                bigint,
  tuples_fetched                 bigint,
  tuples_inserted                bigint,
  tuples_updated                 bigint,
  tuples_deleted                 bigint,
  temp_files                     bigint,
  temp_bytes                     bigint,
  deadlocks                      bigint,
  wal_bytes                      numeric,
  checkpoints_timed              bigint,
  checkpoints_requested          bigint,
  checkpoint_write_ms            float8,
  checkpoint_sync_ms             float8
);
comment on table monitoring.samples_hourly is 'Samples by the hour: gauges at their worst, sessions on average, movements of counters.';

create table if not exists monitoring.samples_half_daily (like monitoring.samples_hourly including all);
comment on table monitoring.samples_half_daily is 'Samples by half a UTC day, kept as long as the hours: what a month is read from.';
create table if not exists monitoring.samples_daily (like monitoring.samples_hourly including all);
comment on table monitoring.samples_daily is 'Samples by the UTC day, summed up from the hours.';

-- Which statements took the time of an hour or a day: the 100 heaviest.
create table if not exists monitoring.statements_hourly (
  at          timestamptz primary key,
  seconds     float8 not null,
  query_ids   bigint[] not null,
  calls       bigint[] not null,
  exec_ms     float8[] not null,
  rows        bigint[] not null,
  blocks_hit  bigint[] not null,
  blocks_read bigint[] not null,
  temp_blocks bigint[] not null
);
comment on table monitoring.statements_hourly is 'What the statements that took the most time did in an hour.';
create table if not exists monitoring.statements_daily (like monitoring.statements_hourly including all);
comment on table monitoring.statements_daily is 'What the statements that took the most time did in a UTC day.';

create table if not exists monitoring.statement_texts (
  query_id      bigint primary key,
  query_preview text not null,
  last_seen_at  timestamptz not null default pg_catalog.now()
);
comment on table monitoring.statement_texts is 'What pg_stat_statements'' query ids stand for, redacted, noted by the sampler; forgotten 30 days after they were last seen.';

-- What changed in the database's settings and in who may reach what.
create table if not exists monitoring.changes (
  observed_at timestamptz not null default pg_catalog.now(),
  kind        text not null check (kind in ('setting', 'rls', 'policy', 'grant', 'role', 'membership')),
  object      text not null,
  was         text,
  now         text
);
-- It has no key: where all tables are published, nothing could be deleted from it.
do $identity$
begin
  if pg_catalog.to_regclass('monitoring.changes_observed_at_idx') is null then
    create index changes_observed_at_idx on monitoring.changes (observed_at);
  end if;
  if (select c.relreplident <> 'f' from pg_catalog.pg_class c where c.oid = 'monitoring.changes'::regclass) then
    alter table monitoring.changes replica identity full;
  end if;
end
$identity$;
comment on table monitoring.changes is 'Settings, row-level security, policies, grants and roles that changed: what they were, what they are. was null: new; now null: gone.';

create table if not exists monitoring.watched (
  kind  text not null,
  -- What tells it from others of its kind whatever it is called: its oid, of a policy after its table's; of a setting its name.
  key   text not null,
  name  text not null,
  state text not null,
  primary key (kind, key)
);
comment on table monitoring.watched is 'What monitoring.changes is told from: each thing as the sampler saw it last.';

-- Counters as they were at the look before. Unlogged: no WAL, and after a crash the next look begins anew, as the server's own
-- counters do.
create unlogged table if not exists monitoring.statement_counters (
  query_id    bigint not null,
  user_id     oid not null,
  toplevel    boolean not null,
  calls       bigint not null,
  exec_ms     float8 not null,
  rows        bigint not null,
  blocks_hit  bigint not null,
  blocks_read bigint not null,
  temp_blocks bigint not null,
  since       timestamptz,
  primary key (query_id, user_id, toplevel)
) with (fillfactor = 70);
comment on table monitoring.statement_counters is 'Counters of pg_stat_statements at the sampler''s last look.';

create unlogged table if not exists monitoring.table_counters (
  table_oid        oid primary key,
  inserts          bigint not null,
  updates          bigint not null,
  deletes          bigint not null,
  sequential_scans bigint not null
) with (fillfactor = 70);
comment on table monitoring.table_counters is 'Counters of the tables at the sampler''s last look.';

-- The parts of a sample that cost more than a row: how often each is wanted, what share of the budget it may take, and how it
-- went. A part waits longer than it is wanted to where its last cost says that it would take more than its share.
create table if not exists monitoring.sampler_parts (
  part          text primary key,
  every_seconds int not null check (every_seconds between 0 and 86400),
  -- null: never held back, for what must not wait and costs hardly anything as a rule.
  budget_share  numeric check (budget_share > 0 and budget_share <= 1),
  last_at       timestamptz,
  -- Turns go by ticks, so that one taken a moment early or late does not shift them.
  last_tick_at  timestamptz,
  next_at       timestamptz,
  cost_ms       numeric,
  failures      int not null default 0,
  problem       text,
  -- What it noted for its next time.
  noted         jsonb
);
comment on table monitoring.sampler_parts is 'The costly parts of a sample: how often, at what share of sample_budget_ms, when last and next, what it cost, what went wrong.';

-- Attaching takes SHARE UPDATE EXCLUSIVE on the parent; `create table ... partition of` would take ACCESS EXCLUSIVE and
-- wait behind every reader (manual, "ALTER TABLE").
create or replace function monitoring.ensure_sample_partition(p_day date) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set default_tablespace = '' -- somebody's default may be none that the owner may use
as $$
declare
  v_parent text;
  v_name text;
  v_made boolean := false;
begin
  -- As a rule all are there, and every sample asks: once for all of them.
  foreach v_parent in array array(
    select p from unnest('{samples,statement_samples,table_samples}'::text[]) p
    where not exists (
      select from pg_inherits i
      where i.inhrelid = to_regclass(format('monitoring.%s_%s', p, to_char(p_day, 'YYYYMMDD'))) and i.inhparent = to_regclass('monitoring.' || p)
        and not i.inhdetachpending))
  loop
    v_name := v_parent || '_' || to_char(p_day, 'YYYYMMDD');
    begin
      -- One that somebody has detached is attached again; so is one whose detaching was cut short, which takes no rows any more.
      if exists (select from pg_inherits i where i.inhrelid = to_regclass('monitoring.' || v_name) and i.inhdetachpending) then
        execute format('alter table monitoring.%I detach partition monitoring.%I finalize', v_parent, v_name);
      end if;
      if to_regclass('monitoring.' || v_name) is null then
        execute format('create table monitoring.%I (like monitoring.%I including all)', v_name, v_parent);
        -- Default privileges of ours that somebody gave would open it.
        perform monitoring.make_private(format('table monitoring.%I', v_name));
      end if;
      execute format('alter table monitoring.%I attach partition monitoring.%I for values from (%L) to (%L)',
        v_parent, v_name, p_day::text || ' 00:00:00+00', (p_day + 1)::text || ' 00:00:00+00');
      v_made := true;
    exception when others then
      -- Without the others a part has no place; the heartbeat has.
      if v_parent = 'samples' then
        raise;
      end if;
      raise warning 'pgvigil could not make a partition of %: % (SQLSTATE %)', v_parent, sqlerrm, sqlstate;
    end;
  end loop;
  return v_made;
end
$$;
comment on function monitoring.ensure_sample_partition(date) is 'Makes the partitions of a UTC day; true when one was not there.';

-- Whether nobody else takes a sample, or sums one up, until the transaction ends.
create or replace function monitoring.is_sole_sampler() returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A row of our own and no advisory lock, which everybody in the database could hold.
  perform from monitoring.migrations m where m.version = '20250825000003' for no key update skip locked;
  return found;
end
$$;

-- Dropping a partition waits behind one idle reader, and every insert waits behind the drop. So it gives up after 100 ms
-- and leaves the partition to the next clean-up. So it does where the partition cannot be dropped for another reason, which costs the others
-- nothing. What goes has been summed up: as a rule long before, by the sampler; after a pause, or where a clock was set back, here.
create or replace function monitoring.drop_expired_samples() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' -- a day has 24 hours
set lock_timeout = '100ms'
as $$
declare
  v_today date := (now() at time zone 'UTC')::date;
  v_partition record;
  v_dropped jsonb := '{"samples": 0, "statement_samples": 0, "table_samples": 0}';
  v_postponed int := 0;
  v_kept date[] := '{}';
  v_hour timestamptz;
  v_summed_up_hours int := 0;
  v_is_summed_up boolean;
  v_problem text;
  v_message text;
begin
  for v_partition in
    select p.relname as parent, c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_class p join pg_inherits i on i.inhparent = p.oid join pg_class c on c.oid = i.inhrelid
    where p.relnamespace = 'monitoring'::regnamespace and p.relname in ('samples', 'statement_samples', 'table_samples')
      and c.relname ~ '_[0-9]{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') < v_today - (monitoring.setting('sample_retention_days') #>> '{}')::int
    order by c.relname -- samples first: what is summed up is found by them
  loop
    begin
      if v_partition.parent = 'samples' then
        for v_hour in
          select h.at
          from generate_series(v_partition.day::timestamptz, v_partition.day + interval '23 hours', '1 hour') h (at)
          where exists (select from monitoring.samples s where s.tick_at >= h.at and s.tick_at < h.at + interval '1 hour')
            and not exists (select from monitoring.samples_hourly k where k.at = h.at)
        loop
          v_summed_up_hours := v_summed_up_hours + 1;
          -- No more at a time than takes seconds; and not beside the sampler, which sums up too.
          if v_summed_up_hours > 240 or not monitoring.is_sole_sampler() then
            raise lock_not_available;
          end if;
          perform monitoring.roll_up_hour(v_hour);
        end loop;
        if found then
          perform monitoring.roll_up_day(v_partition.day::timestamptz);
        end if;
      elsif v_partition.parent = 'statement_samples' and v_partition.day = any (v_kept) then
        raise lock_not_available;
      end if;
      v_is_summed_up := true;
    exception when others then
      v_is_summed_up := false;
      v_kept := v_kept || v_partition.day;
      v_problem := sqlstate;
      v_message := sqlerrm;
    end;
    if v_is_summed_up then
      begin
        execute format('drop table monitoring.%I', v_partition.relname);
        v_dropped := jsonb_set(v_dropped, array[v_partition.parent::text], to_jsonb((v_dropped ->> v_partition.parent)::int + 1));
        continue;
      exception when others then
        v_problem := sqlstate;
        v_message := sqlerrm;
      end;
    end if;
    v_postponed := v_postponed + 1;
    if v_problem <> '55P03' then
      raise warning 'pgvigil could not drop monitoring.%: % (SQLSTATE %)', v_partition.relname, v_message, v_problem;
    end if;
  end loop;
  return jsonb_build_object(
    'sample_partitions', v_dropped -> 'samples',
    'statement_sample_partitions', v_dropped -> 'statement_samples',
    'table_sample_partitions', v_dropped -> 'table_samples',
    'sample_partitions_postponed', v_postponed);
end
$$;
comment on function monitoring.drop_expired_samples() is
  'Drops partitions past sample_retention_days; says how many of each, and how many are left for the next time: in use, not summed up, or not to be dropped.';

create or replace function monitoring.delete_expired_history() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '100ms'
as $$
declare
  v_hourly_from timestamptz := now() - make_interval(days => (monitoring.setting('hourly_retention_days') #>> '{}')::int);
  v_daily_from timestamptz := now() - make_interval(days => (monitoring.setting('daily_retention_days') #>> '{}')::int);
  v_hourly int;
  v_half_daily int;
  v_daily int;
  v_statements_hourly int;
  v_statements_daily int;
  v_changes int;
  v_day timestamptz;
begin
  -- What goes is in its day: as a rule since that was over.
  for v_day in
    select d.at
    from (select distinct to_timestamp(floor(extract(epoch from h.at) / 86400) * 86400) as at from monitoring.samples_hourly h where h.at < v_hourly_from) d
    where d.at >= v_daily_from and not exists (select from monitoring.samples_daily k where k.at = d.at)
  loop
    if not monitoring.is_sole_sampler() then
      raise lock_not_available;
    end if;
    perform monitoring.roll_up_day(v_day);
  end loop;
  -- Few rows: one an hour, one a day.
  delete from monitoring.samples_hourly s where s.at < v_hourly_from;
  get diagnostics v_hourly = row_count;
  delete from monitoring.samples_half_daily s where s.at < v_hourly_from;
  get diagnostics v_half_daily = row_count;
  delete from monitoring.statements_hourly s where s.at < v_hourly_from;
  get diagnostics v_statements_hourly = row_count;
  delete from monitoring.samples_daily s where s.at < v_daily_from;
  get diagnostics v_daily = row_count;
  delete from monitoring.statements_daily s where s.at < v_daily_from;
  get diagnostics v_statements_daily = row_count;
  delete from monitoring.changes c where c.observed_at < v_daily_from;
  get diagnostics v_changes = row_count;
  return jsonb_build_object(
    'hourly_points', v_hourly + v_half_daily + v_statements_hourly,
    'daily_points', v_daily + v_statements_daily,
    'changes', v_changes);
end
$$;
comment on function monitoring.delete_expired_history() is
  'Deletes hours, days and changes past hourly_retention_days and daily_retention_days; says how many.';

-- What is remembered --------------------------------------------------------------------------------------------------

-- With thousands of tables some answers cost ten times as much as the rest: which tables there are, what belongs to each
-- beside its heap, which columns are granted to whom, what row-level security amounts to. The sampler keeps them here; who
-- reads them asks first whether they still hold, and looks for itself if they do not. Unlogged: no WAL, nothing to
-- replicate, and after a crash they are looked up again.
create unlogged table if not exists monitoring.remembered (
  subject       text primary key check (subject in ('companions', 'tables', 'column_grants', 'rls_status')),
  -- When it was looked up, and when it was last made sure that it still holds.
  remembered_at timestamptz not null,
  checked_at    timestamptz not null,
  look_up_ms    numeric not null,
  -- What must not have changed since: monitoring.holds_while(subject). Empty: it does not hold.
  holds_while   text not null,
  -- And, for what is compared now and then, monitoring.catalog_contents(). Null: it is not.
  contents      text
);
comment on table monitoring.remembered is 'Which of the remembered_* tables are filled, since when, and how to tell whether they still hold.';

create unlogged table if not exists monitoring.remembered_companions (
  table_oid           oid primary key,
  companion_pages     bigint not null,
  index_scans         bigint,
  toast_frozen_xid    xid,
  toast_min_multixact xid,
  -- Of the TOAST table itself: with any of its own, the table's do not count for it.
  toast_options       text[]
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
  toast_min_multixact      xid,
  toast_freeze_max_age     bigint,
  toast_multixact_freeze_max_age bigint
);
comment on table monitoring.remembered_tables is 'Application tables, what monitoring.look_at_tables() found.';

create unlogged table if not exists monitoring.remembered_column_grants (
  table_oid      oid not null,
  grantee        oid not null,
  privilege_type text not null,
  primary key (table_oid, grantee, privilege_type)
);
comment on table monitoring.remembered_column_grants is 'What monitoring.look_at_column_grants() found.';

-- Tables of a schema that are alike in one row: ten thousand share a few hundred answers.
create unlogged table if not exists monitoring.remembered_rls_kinds (
  schemaname          name not null,
  -- One of its tables, always the same one of the same.
  known_by            name not null,
  rls_enabled         boolean not null,
  rls_status          text not null,
  policy_count        bigint not null,
  security_risk_level text not null,
  rls_forced          boolean not null,
  risk_rank           int not null,
  exposed_to          name[] not null,
  reasons             text[] not null,
  -- What of the reasons checks go by: a policy lets everybody through who may do what it is for; a view or a rule lets PUBLIC, anon or
  -- authenticated past all of them; these may get at rows, by such a policy where there are any; or have the owner's rights or BYPASSRLS, so
  -- that policies do not bind them.
  is_hollow           boolean not null,
  is_read_past        boolean not null,
  is_open_to_anyone   boolean not null,
  is_unbound          boolean not null,
  tablenames          name[] not null,
  primary key (risk_rank, schemaname, known_by)
);
comment on table monitoring.remembered_rls_kinds is 'What monitoring.look_at_rls_kinds() found.';

-- How often rows of a catalog were written, by the server's own counters: every DDL command moves them; VACUUM, ANALYZE
-- and ordinary writes do not. Another session's change arrives when that session reports it, which it does between two
-- statements or when it has been idle for ten seconds: after a second as a rule, but not while a long statement follows
-- (manual, "The Cumulative Statistics System"). So the sampler compares catalog_contents() every ten minutes, and looks again
-- in time, whatever the counters say.
create or replace function monitoring.catalog_writes(variadic p_catalogs regclass[]) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    -- Each by itself: a sum could come back to what it was when one of them is reset.
    select string_agg(concat_ws('/', pg_stat_get_tuples_inserted(c), pg_stat_get_tuples_updated(c), pg_stat_get_tuples_deleted(c)), ',')
    from unnest(p_catalogs) c);
end
$$;

-- Whether this very transaction has written to one of these: its own changes are in nobody's counters yet, and all of one version.
-- Who wrote in an earlier transaction is told so too until the session has reported it, a second or so: once more is looked up then.
create or replace function monitoring.has_written(variadic p_tables regclass[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from unnest(p_tables) t
    where pg_stat_get_xact_tuples_inserted(t) + pg_stat_get_xact_tuples_updated(t) + pg_stat_get_xact_tuples_deleted(t) > 0);
end
$$;

-- Which versions of which rows there are in the catalogs that say what tables there are and what row-level security amounts to:
-- who wrote a row is known at once, other than how often somebody wrote. Temporary tables, and our own, come and go and are not judged;
-- pg_attribute, of which only privileges count, is too large for this. The roles' own catalog is not ours to read.
create or replace function monitoring.catalog_contents() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  return (
    select string_agg(concat_ws('/', x.rows, x.versions), ' ' order by x.place)
    from (
      select 1 as place, count(*) as rows, sum(hashtext(c.xmin::text)) as versions
      from pg_class c
      where c.reltype <> 0 and (c.relkind = 'r' or c.relkind = 'p' or c.relkind = 'm' or c.relkind = 'v') and c.relpersistence <> 't' and c.oid >= 16384
        and c.relnamespace <> 'monitoring'::regnamespace
      union all
      select 2, count(*), sum(hashtext(p.xmin::text)) from pg_policy p
      union all
      select 3, count(*), sum(hashtext(n.xmin::text)) from pg_namespace n where n.nspname !~ '^pg_'
      union all
      select 4, count(*), sum(hashtext(w.xmin::text)) from pg_rewrite w where w.ev_class >= 16384
      union all
      select 5, count(*), sum(hashtext(m.xmin::text)) from pg_auth_members m
      union all
      select 6, count(*), sum(hashtext(concat(r.oid, ' ', r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls))) from pg_roles r
    ) x);
end
$$;
comment on function monitoring.catalog_contents() is 'A text that changes with every row of the catalogs behind monitoring_rls_status, but for column privileges.';

-- What asks whether somebody has a privilege is answered from the session's caches, which hear of others' changes when a lock is taken that
-- the transaction does not have already; a look at the catalogs' rows is never late. So who looks at both and remembers what he saw
-- takes such a lock in between: of a catalog that nobody reads. It is given back at once.
create or replace function monitoring.hear_of_changes() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_relation_size('pg_transform');
end
$$;

-- Null: nothing holds. In recovery unlogged tables cannot be read; without counters changes cannot be told; and what this
-- very session has changed is not counted yet. Before 15 a session that falls idle does not report at all, and what was
-- reported is read half a second late, so there nothing is remembered that would be wrong rather than old.
create or replace function monitoring.holds_while(p_subject text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case
      when pg_is_in_recovery() or not current_setting('track_counts')::boolean then null
      when p_subject <> 'companions' and current_setting('server_version_num')::int < 150000 then null
      when p_subject <> 'companions'
        and monitoring.has_written('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_attribute', 'pg_rewrite') then null
      -- Restored elsewhere, cloned, restarted or reset: the counters or the oids are not the same ones.
      else concat_ws(' ', 'monitoring.remembered'::regclass::oid, d.oid,
        extract(epoch from pg_postmaster_start_time()), extract(epoch from pg_stat_get_db_stat_reset_time(d.oid)),
        -- Nobody gets a column's privileges but by an update: tables come and go without any.
        case when p_subject in ('column_grants', 'rls_status') then pg_stat_get_tuples_updated('pg_attribute'::regclass) end,
        -- The database's owner is a member of pg_database_owner.
        case when p_subject = 'rls_status' then d.datdba end,
        case when p_subject in ('tables', 'rls_status')
          then (
            select md5(string_agg(concat(s.key, s.value), ' ' order by s.key)) from monitoring.settings s
            where s.key in ('application_schemas', 'exposed_schemas')) end)
        -- What stands behind the bar can be made sure of by catalog_contents().
        || '|' || case p_subject
          when 'tables' then monitoring.catalog_writes('pg_class', 'pg_namespace')
          when 'rls_status' then monitoring.catalog_writes('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_rewrite')
          else ''
        end
    end
    from pg_database d
    where d.datname = current_database());
end
$$;
comment on function monitoring.holds_while(text) is
  'A text that stays the same while what was remembered of the subject holds; null when nothing remembered may be used.';

-- Large enough that what every table has to be read for is remembered (setting remember_from_relations).
create or replace function monitoring.is_large() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return greatest((select c.reltuples::bigint from pg_class c where c.oid = 'pg_class'::regclass), pg_stat_get_live_tuples('pg_class'::regclass))
    >= (select (s.value #>> '{}')::bigint from monitoring.settings s where s.key = 'remember_from_relations');
end
$$;

-- However the counters stand, a remembered answer is used for three minutes past its next check, and for two hours at the longest (what
-- is nothing but the catalogs it is compared with, for a day and two hours): without a sampler nobody looks whether they tell everything.
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
      and r.remembered_at between now() - case r.subject when 'rls_status' then interval '26 hours' else interval '2 hours' end and now()
      and r.checked_at between now() - case when r.contents is null then interval '2 hours' else interval '13 minutes' end and now()
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
  'table monitoring.remembered_rls_kinds',
  'function monitoring.catalog_writes(regclass[])',
  'function monitoring.has_written(regclass[])',
  'function monitoring.catalog_contents()',
  'function monitoring.hear_of_changes()',
  'function monitoring.holds_while(text)',
  'function monitoring.is_large()',
  'function monitoring.is_remembered(text)',
  'function monitoring.is_sole_sampler()',
  'table monitoring.samples',
  'table monitoring.statement_samples',
  'table monitoring.table_samples',
  'table monitoring.samples_hourly',
  'table monitoring.samples_half_daily',
  'table monitoring.samples_daily',
  'table monitoring.statements_hourly',
  'table monitoring.statements_daily',
  'table monitoring.changes',
  'table monitoring.watched',
  'table monitoring.statement_counters',
  'table monitoring.table_counters',
  'table monitoring.sampler_parts',
  'function monitoring.ensure_sample_partition(date)',
  'function monitoring.drop_expired_samples()',
  'function monitoring.delete_expired_history()'); end $private$;

do $operator$
declare
  v_operator text := pg_catalog.current_setting('pgvigil.became_owner');
begin
  if v_operator <> '' then
    execute pg_catalog.format('grant select on monitoring.samples, monitoring.statement_samples, monitoring.table_samples, '
      'monitoring.samples_hourly, monitoring.samples_half_daily, monitoring.samples_daily, monitoring.statements_hourly, monitoring.statements_daily, '
      'monitoring.statement_texts, monitoring.changes to %I', v_operator);
    execute pg_catalog.format('grant select, update on monitoring.sampler_parts to %I', v_operator);
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
