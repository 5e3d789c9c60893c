-- Undoes 20250825000001_monitoring_history.sql, the samples with it.

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

-- Undone by who did it: the rolling back role becomes a member of monitoring_owner for as long as this takes.
do $become$
declare
  v_version int := pg_catalog.current_setting('server_version_num')::int;
begin
  if exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'monitoring' and pg_catalog.pg_get_userbyid(n.nspowner) <> 'monitoring_owner'
  ) then
    raise exception 'schema "monitoring" is not pgvigil''s: nothing of it will be dropped' using errcode = 'duplicate_schema';
  end if;
  perform pg_catalog.set_config('pgvigil.migrating_role', pg_catalog.current_setting('role'), false);
  perform pg_catalog.set_config('pgvigil.became_owner', '', false);
  if not exists (select from pg_catalog.pg_roles where rolname = 'monitoring_owner') then
    return;
  end if;
  if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
    and not pg_catalog.pg_has_role(current_user, 'monitoring_owner', case when v_version >= 160000 then 'SET' else 'MEMBER' end)
  then
    execute pg_catalog.format('grant monitoring_owner to %I', current_user)
      || case when v_version >= 160000 then ' with inherit true, set true' else '' end;
    perform pg_catalog.set_config('pgvigil.became_owner', current_user, false);
  end if;
  perform pg_catalog.set_config('role', 'monitoring_owner', false);
end
$become$;

drop function if exists monitoring.drop_expired_samples(), monitoring.delete_expired_history(), monitoring.is_sole_sampler(), monitoring.ensure_sample_partition(date);
drop function if exists monitoring.is_remembered(text), monitoring.is_large(), monitoring.holds_while(text), monitoring.has_written(regclass[]),
  monitoring.catalog_contents(), monitoring.catalog_writes(regclass[]), monitoring.hear_of_changes();
drop table if exists monitoring.remembered_rls_kinds, monitoring.remembered_column_grants, monitoring.remembered_tables, monitoring.remembered_companions,
  monitoring.remembered;
drop table if exists monitoring.sampler_parts, monitoring.table_counters, monitoring.statement_counters, monitoring.watched, monitoring.changes;
drop table if exists monitoring.statement_texts, monitoring.statements_daily, monitoring.statements_hourly, monitoring.samples_daily, monitoring.samples_half_daily,
  monitoring.samples_hourly;
drop table if exists monitoring.table_samples, monitoring.statement_samples, monitoring.samples;
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.migrations where version = '20250825000001';
  end if;
end
$forget$;

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
