-- pgvigil: how it has been.

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

-- At most 300 points, however long the time: each is the worst of the samples it stands for, so that a peak is seen. A time
-- without samples has no point.
create or replace function monitoring.trends(p_range interval) returns table (
  at timestamptz, samples bigint, health_score int, slow_queries bigint, blocked_sessions bigint, total_connections bigint,
  connection_utilization_percent numeric, longest_transaction_ms bigint, high_risk_tables bigint, tables_needing_vacuum bigint,
  unresolved_events bigint, findings bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_interval_seconds bigint := (monitoring.setting('sample_interval_seconds') #>> '{}')::bigint;
  -- A point stands for whole ticks, for one at least.
  v_point_seconds bigint := v_interval_seconds * greatest(1, ceil(extract(epoch from p_range) / 300 / v_interval_seconds))::bigint;
  v_newest bigint := floor(extract(epoch from now()) / v_point_seconds);
begin
  perform monitoring.authorize('read');
  return query
    select to_timestamp(p.point * v_point_seconds), count(*), min(p.health_score), max(p.slow_queries), max(p.blocked_sessions),
      max(p.total_connections), max(p.connection_utilization_percent), max(p.longest_transaction_ms), max(p.high_risk_tables),
      max(p.tables_needing_vacuum), max(p.unresolved_events), max(p.findings)
    from (
      select floor(extract(epoch from s.tick_at) / v_point_seconds) as point, s.*
      from monitoring.samples s
      where s.tick_at >= greatest(now() - p_range, to_timestamp((v_newest - 299) * v_point_seconds)) and s.tick_at <= now()
    ) p
    group by p.point
    order by p.point;
end
$$;
comment on function monitoring.trends(interval) is
  'How it has been since then, oldest first: at most 300 points, each the worst of its samples. at is when the point begins; a gap is a gap.';

do $private$ begin perform monitoring.make_private('function monitoring.trends(interval)'); end $private$;
grant execute on function monitoring.trends(interval) to monitoring_reader, monitoring_agent;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000007', 'monitoring_trends', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
