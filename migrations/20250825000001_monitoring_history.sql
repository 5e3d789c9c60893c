-- pgvigil: where samples are kept.
--
-- One table partitioned by UTC day, so that retention drops whole partitions: no dead rows, no vacuum, hardly any WAL.

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

do $private$ begin perform monitoring.make_private(
  'table monitoring.samples',
  'function monitoring.ensure_sample_partition(date)',
  'function monitoring.drop_expired_samples()'); end $private$;

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
