-- What Lighthouse and visitors measured, for the section about pages, with markup where a pipeline or a visitor may put it.
select monitoring.create_lighthouse_project('Guests <img src=x onerror=window.pwned=1>', 'https://guests.example/', 'main');

-- A build every two hours, until one that breaks its budgets.
with project as (select id from monitoring.lighthouse_projects where name like 'Guests%'), built as (
  insert into monitoring.lighthouse_builds (project_id, branch, hash, created_at, sealed_at)
  select id, case when n % 4 = 0 then 'fix </script><script>window.pwned=1</script>' else 'main' end, md5(n::text),
    now() - n * interval '2 hours' - interval '9 minutes', now() - n * interval '2 hours' - interval '8 minutes'
  from project, generate_series(0, 60) n
  returning id, created_at
)
insert into monitoring.lighthouse_runs (build_id, url, form_factor, lighthouse_version, fetched_at, created_at, performance, accessibility,
  best_practices, seo, lcp_ms, cls, tbt_ms, fcp_ms, si_ms, tti_ms, health_score, is_representative, is_critical_time, breaches)
select b.id, 'https://guests.example' || path, 'mobile', '12.6.1', b.created_at, b.created_at,
  case when is_bad then 0.61 else 0.97 end, 1, 0.96, 0.9, case when is_bad then 5200 else 1700 end, 0.02, 120, 900, 1300, 1900,
  case when is_bad then 41 else 93 end, true, false,
  case when is_bad then '[{"metric": "performance", "value": 0.61, "budget": 0.9}, {"metric": "lcp_ms", "value": 5200, "budget": 2500}]'::jsonb else '[]' end
from built b, unnest('{/,/<img/src=x/onerror=window.pwned=1>}'::text[]) path,
  lateral (select b.created_at > now() - interval '3 hours' and path = '/' as is_bad) bad;

-- Twice for each of the six hours: 30 visits, some of them poor.
with project as (select id from monitoring.lighthouse_projects where name like 'Guests%')
insert into monitoring.vitals (span, at, project_id, metric, path, samples, good, needs_improvement, poor, counts)
select s.span, case s.span when 'hour' then date_trunc('hour', now()) - h * interval '1 hour' else date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' end,
  project.id, v.metric, v.path, 30, 20, 6, 4, array_fill(0, array[v.bucket - 1]) || 20 || 6 || 4 || array_fill(0, array[126 - v.bucket])
from project, (values ('hour'), ('day')) s (span), generate_series(0, 5) h,
  (values ('LCP', '/', 75), ('INP', '/', 50), ('CLS', '/', 40), ('LCP', '/<img src=x onerror=window.pwned=1>', 80)) v (metric, path, bucket)
where s.span = 'hour' or h = 0;
