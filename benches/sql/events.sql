-- :events events of sixty days, as they would have come in: the older half is past its retention, every second one is resolved.
-- Run as monitoring_owner.
insert into public.monitoring_events (event_type, event_data, severity, user_id, created_at, resolved_at, last_seen_at, fingerprint)
select (array['slow_query', 'connection_issue', 'table_health', 'rls_violation', 'performance_alert'])[1 + e.n % 5],
  jsonb_build_object('object', 'public.records_of_module_' || e.n % 1000, 'value', e.n % 5000, 'threshold', 500,
    'detail', '1 session(s), the longest for ' || e.n % 5000 || ' ms: select ? from orders where id = ?'),
  (array['low', 'medium', 'high', 'critical'])[1 + e.n % 4],
  '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', e.at,
  case when e.n % 2 = 0 then least(e.at + interval '1 hour', now()) end,
  case
    when e.n % 2 = 0 or e.at < now() - interval '30 days' then least(e.at + interval '1 hour', now())
    else greatest(e.at, now() - e.n % 160 * interval '1 hour') -- still firing within the last week
  end,
  case when e.n % 4 = 1 then md5(e.n::text) end
from (
  select n, now() - (:events - n) * (interval '60 days' / :events) as at from generate_series(1, :events) n
) e;
