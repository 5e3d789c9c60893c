-- pgvigil: what pages measure: Lighthouse CI's results and visitors' Web Vitals, judged by budgets beside the database's health.

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

-- What a page may take ------------------------------------------------------------------------------------------------

create table if not exists monitoring.budgets (
  metric        text primary key,
  -- lighthouse: a run's; vitals: the 75th percentile of an hour's beacons; database: what a build must not fall below, too.
  source        text not null check (source in ('lighthouse', 'vitals', 'database')),
  value         numeric not null,
  unit          text not null,
  -- What cannot be better: a budget above it is a floor, one below it a ceiling.
  best          numeric not null,
  -- In a critical window the distance from the best is this much of itself.
  window_factor numeric not null default 0.8 check (window_factor > 0 and window_factor <= 1),
  is_enabled    boolean not null default true,
  description   text not null,
  constraint budgets_value_is_in_range check (
    case unit
      when 'score' then best = 1 and value between 0 and 1
      when 'points' then best = 100 and value between 0 and 100
      when 'ms' then best = 0 and value > 0 and value <= 600000
      when 'shift' then best = 0 and value > 0 and value <= 100
      else false
    end)
);
comment on table monitoring.budgets is
  'What a page may take, and how well it must do; broken, it is a performance_alert. Change value, window_factor and is_enabled.';

insert into monitoring.budgets (metric, source, value, unit, best, is_enabled, description) values
  ('performance', 'lighthouse', 0.90, 'score', 1, true, 'Lighthouse''s score for performance, 0 to 1.'),
  ('accessibility', 'lighthouse', 0.95, 'score', 1, true, 'Lighthouse''s score for accessibility.'),
  ('best_practices', 'lighthouse', 0.90, 'score', 1, true, 'Lighthouse''s score for best practices.'),
  ('seo', 'lighthouse', 0.90, 'score', 1, false, 'Lighthouse''s score for search engines.'),
  ('lcp_ms', 'lighthouse', 2500, 'ms', 0, true, 'Largest Contentful Paint: until the main content is seen.'),
  ('cls', 'lighthouse', 0.1, 'shift', 0, true, 'Cumulative Layout Shift: how much the page jumps.'),
  ('tbt_ms', 'lighthouse', 200, 'ms', 0, false, 'Total Blocking Time: how long the page cannot answer.'),
  ('fcp_ms', 'lighthouse', 1800, 'ms', 0, false, 'First Contentful Paint: until anything is seen.'),
  ('health_score', 'database', 75, 'points', 100, true, 'The database''s health score below which a build does not pass.'),
  ('vitals_lcp_ms', 'vitals', 2500, 'ms', 0, true, 'Largest Contentful Paint, as visitors saw it.'),
  ('vitals_inp_ms', 'vitals', 200, 'ms', 0, true, 'Interaction to Next Paint.'),
  ('vitals_cls', 'vitals', 0.1, 'shift', 0, true, 'Cumulative Layout Shift.'),
  ('vitals_fcp_ms', 'vitals', 1800, 'ms', 0, false, 'First Contentful Paint.'),
  ('vitals_ttfb_ms', 'vitals', 800, 'ms', 0, false, 'Time to First Byte.')
on conflict (metric) do nothing;

create or replace function monitoring.effective_budgets(p_is_critical boolean) returns table (
  metric text, source text, budget numeric, unit text, is_floor boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select b.metric, b.source,
      trim_scale(round(b.best + (b.value - b.best) * case when p_is_critical then b.window_factor else 1 end, 4)), b.unit, b.best > 0
    from monitoring.budgets b
    where b.is_enabled;
end
$$;
comment on function monitoring.effective_budgets(boolean) is 'The budgets that are enabled, as they are inside or outside a critical window.';

-- The one judgement: what of these measurements is not as its budget asks. What was not measured breaks nothing.
create or replace function monitoring.breaches(p_source text, p_measured jsonb, p_is_critical boolean) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('metric', b.metric, 'value', m.value, 'budget', b.budget) order by b.metric), '[]')
    from monitoring.effective_budgets(p_is_critical) b
      cross join lateral (select trim_scale((p_measured ->> b.metric)::numeric) as value) m
    where b.source = p_source and case when b.is_floor then m.value < b.budget else m.value > b.budget end);
end
$$;
comment on function monitoring.breaches(text, jsonb, boolean) is 'Which budgets measurements break: a list of metric, value and budget.';

create or replace function monitoring.breaches_in_words(p_breaches jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(format('%s is %s, its budget %s', b ->> 'metric', b ->> 'value', b ->> 'budget'), '; ')
    from jsonb_array_elements(p_breaches) b);
end
$$;

-- The newest sample's, unless that is too old to say anything of now; then null, which is not health.
create or replace function monitoring.sampled_health() returns int
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select s.health_score from monitoring.samples s
    where s.tick_at between now() - greatest(interval '10 minutes',
      3 * make_interval(secs => (monitoring.setting('sample_interval_seconds') #>> '{}')::int)) and now()
    order by s.tick_at desc
    limit 1);
end
$$;
comment on function monitoring.sampled_health() is 'The health score of the newest sample; null when there is none of the last minutes.';

-- Projects ------------------------------------------------------------------------------------------------------------

create table if not exists monitoring.lighthouse_projects (
  id           uuid primary key default pg_catalog.gen_random_uuid(),
  name         text not null unique check (pg_catalog.length(name) between 1 and 100 and name !~ '[[:cntrl:]]'),
  slug         text not null unique check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  external_url text check (pg_catalog.length(external_url) <= 256 and external_url ~ '^https?://[^?#@[:cntrl:]]+$'),
  base_branch  text not null check (pg_catalog.length(base_branch) between 1 and 255 and base_branch !~ '[[:cntrl:]]'),
  -- SHA-256 of a token of 244 random bits. Null: revoked.
  token_hash   text unique check (token_hash ~ '^[0-9a-f]{64}$'),
  -- Public, as it stands in the source of every page. Null: revoked.
  vitals_key   text unique check (vitals_key ~ '^pgvk_[0-9a-f]{32}$'),
  created_at   timestamptz not null default pg_catalog.now()
);
comment on table monitoring.lighthouse_projects is
  'Who uploads Lighthouse''s results and sends Web Vitals. Made by create_lighthouse_project(), which tells the token once.';

create or replace function monitoring.random_hex() returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select replace(gen_random_uuid()::text, '-', '') $$;

create or replace function monitoring.token_hash(p_token text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select encode(sha256(convert_to(p_token, 'UTF8')), 'hex') $$;

create or replace function monitoring.create_lighthouse_project(p_name text, p_url text default null, p_base_branch text default 'main')
returns table (project_id uuid, slug text, token text, vitals_key text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_token text := 'pgvl_' || monitoring.random_hex() || monitoring.random_hex();
  v_slug text := btrim(regexp_replace(lower(p_name collate "C"), '[^a-z0-9]+', '-', 'g'), '-');
begin
  perform monitoring.authorize('operate');
  if p_name is null or length(p_name) not between 1 and 100 or v_slug = '' then
    raise exception 'name must be 1 to 100 characters, some of them letters or digits' using errcode = 'invalid_parameter_value';
  end if;
  if p_url !~ '^https?://[^?#@[:cntrl:]]+$' or length(p_url) > 256 then
    raise exception 'url must begin with http:// or https://, without user, query and fragment' using errcode = 'invalid_parameter_value';
  end if;
  if exists (select from monitoring.lighthouse_projects p where p.name = p_name or p.slug = v_slug) then
    raise exception 'there is a project of that name' using errcode = 'unique_violation',
      hint = 'A new token for it: select monitoring.rotate_lighthouse_token(name).';
  end if;
  return query
    insert into monitoring.lighthouse_projects (name, slug, external_url, base_branch, token_hash, vitals_key)
    values (p_name, v_slug, p_url, p_base_branch, monitoring.token_hash(v_token), 'pgvk_' || monitoring.random_hex())
    returning id, lighthouse_projects.slug, v_token, lighthouse_projects.vitals_key;
end
$$;
comment on function monitoring.create_lighthouse_project(text, text, text) is
  'Makes a project; its token, for lhci upload, is told here and nowhere else. The key for Web Vitals is public. Service only.';

create or replace function monitoring.rotate_lighthouse_token(p_name text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token text := 'pgvl_' || monitoring.random_hex() || monitoring.random_hex();
begin
  perform monitoring.authorize('operate');
  update monitoring.lighthouse_projects set token_hash = monitoring.token_hash(v_token) where name = p_name;
  if not found then
    raise exception 'there is no project of that name' using errcode = 'no_data_found';
  end if;
  return v_token;
end
$$;
comment on function monitoring.rotate_lighthouse_token(text) is 'A new token for a project, told here and nowhere else; the old one ends now. Service only.';

create or replace function monitoring.rotate_vitals_key(p_name text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text := 'pgvk_' || monitoring.random_hex();
begin
  perform monitoring.authorize('operate');
  update monitoring.lighthouse_projects set vitals_key = v_key where name = p_name;
  if not found then
    raise exception 'there is no project of that name' using errcode = 'no_data_found';
  end if;
  return v_key;
end
$$;
comment on function monitoring.rotate_vitals_key(text) is 'A new public key for a project''s Web Vitals; the old one ends now. Service only.';

create or replace function monitoring.revoke_lighthouse_project(p_name text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform monitoring.authorize('operate');
  update monitoring.lighthouse_projects set token_hash = null, vitals_key = null where name = p_name;
  if not found then
    raise exception 'there is no project of that name' using errcode = 'no_data_found';
  end if;
end
$$;
comment on function monitoring.revoke_lighthouse_project(text) is
  'Ends a project''s token and key; what was measured stays until its time is over. Service only.';

-- How often -----------------------------------------------------------------------------------------------------------

-- Unlogged, as request_turns is. One row a bucket, of which there are two a project and one more: nobody can make it grow.
create unlogged table if not exists monitoring.ingest_turns (
  bucket       text primary key,
  -- When all of it is there again. A minute ahead, nothing is left.
  full_at      timestamptz not null
) with (fillfactor = 50);
comment on table monitoring.ingest_turns is 'What is left of what projects may send.';

-- A bucket that holds p_limit turns and fills up again within a minute, exact for all instances by the row's lock: one time
-- instead of a minute's, since beacons are many. Null: p_count turns were taken; else the seconds until they can be.
create or replace function monitoring.take_ingest_turns(p_bucket text, p_limit int, p_count int) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_cost interval := interval '1 minute' / p_limit * p_count;
  v_full_at timestamptz;
begin
  if monitoring.counts_nothing() then
    return null;
  end if;
  insert into monitoring.ingest_turns as t (bucket, full_at) values (p_bucket, v_now) on conflict (bucket) do nothing;
  -- What is further ahead than it can be is of a clock that was set back since.
  select least(greatest(t.full_at, v_now), v_now + interval '1 minute') into v_full_at
  from monitoring.ingest_turns t where t.bucket = p_bucket for update;
  if v_full_at + v_cost > v_now + interval '1 minute' then
    return greatest(1, ceil(extract(epoch from v_full_at + v_cost - v_now - interval '1 minute')));
  end if;
  update monitoring.ingest_turns set full_at = v_full_at + v_cost where bucket = p_bucket;
  return null;
end
$$;

-- Lighthouse ----------------------------------------------------------------------------------------------------------

create table if not exists monitoring.lighthouse_builds (
  id         uuid primary key default pg_catalog.gen_random_uuid(),
  project_id uuid not null references monitoring.lighthouse_projects on delete cascade,
  branch     text not null check (pg_catalog.length(branch) between 1 and 255 and branch !~ '[[:cntrl:]]'),
  hash       text not null check (hash ~ '^[0-9A-Za-z._-]{1,64}$'),
  created_at timestamptz not null default pg_catalog.clock_timestamp(),
  -- Null: its runs are still arriving.
  sealed_at  timestamptz,
  unique (project_id, branch, hash)
);
create index if not exists lighthouse_builds_newest_idx on monitoring.lighthouse_builds (project_id, created_at desc);
create index if not exists lighthouse_builds_created_at_idx on monitoring.lighthouse_builds (created_at);
comment on table monitoring.lighthouse_builds is 'Builds that Lighthouse CI uploaded: of a project, a branch and a commit, once.';

create table if not exists monitoring.lighthouse_runs (
  id                 uuid primary key default pg_catalog.gen_random_uuid(),
  build_id           uuid not null references monitoring.lighthouse_builds on delete cascade,
  -- Never its query, fragment or user: they carry secrets.
  url                text not null check (pg_catalog.length(url) <= 500 and url ~ '^https?://[^?#@[:cntrl:] ]+$'),
  form_factor        text not null check (form_factor in ('mobile', 'desktop', 'none')),
  lighthouse_version text not null check (lighthouse_version ~ '^[0-9A-Za-z.+-]{1,40}$'),
  fetched_at         timestamptz not null,
  created_at         timestamptz not null default pg_catalog.clock_timestamp(),
  performance        numeric check (performance between 0 and 1),
  accessibility      numeric check (accessibility between 0 and 1),
  best_practices     numeric check (best_practices between 0 and 1),
  seo                numeric check (seo between 0 and 1),
  lcp_ms             numeric check (lcp_ms between 0 and 3600000),
  cls                numeric check (cls between 0 and 1000),
  tbt_ms             numeric check (tbt_ms between 0 and 3600000),
  fcp_ms             numeric check (fcp_ms between 0 and 3600000),
  si_ms              numeric check (si_ms between 0 and 3600000),
  tti_ms             numeric check (tti_ms between 0 and 3600000),
  -- The database's, when the run arrived; null where no sample told it.
  health_score       int check (health_score between 0 and 100),
  -- Of a page's runs in a build the one that speaks for it; known, and judged, when the build is sealed.
  is_representative  boolean not null default false,
  is_critical_time   boolean,
  breaches           jsonb,
  unique (build_id, url, form_factor, fetched_at)
);
comment on table monitoring.lighthouse_runs is 'What Lighthouse measured, in numbers; its reports are not kept.';

-- Who may go on, by the token that is the credential: it is looked for by its hash, so no comparison tells how near a guess
-- was. p_project is what the path says, an id or a slug; null where it says nothing.
create or replace function monitoring.admit_lighthouse(p_token text, p_project text, out project monitoring.lighthouse_projects,
  out wait_seconds int)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  select p.* into project from monitoring.lighthouse_projects p where p.token_hash = monitoring.token_hash(p_token);
  if project.id is null then
    raise exception 'permission denied: no project has this token' using errcode = 'insufficient_privilege';
  end if;
  if p_project not in (project.id::text, project.slug) then
    raise exception 'the token''s project is another one' using errcode = 'no_data_found';
  end if;
  wait_seconds := monitoring.take_ingest_turns(project.id::text || ' lighthouse',
    (monitoring.setting('lighthouse_requests_per_minute') #>> '{}')::int, 1);
end
$$;

-- As Lighthouse CI's own server words them.
create or replace function monitoring.project_as_told(p_project monitoring.lighthouse_projects) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_project.id, 'name', p_project.name, 'slug', p_project.slug,
    'externalUrl', coalesce(p_project.external_url, ''), 'baseBranch', p_project.base_branch, 'createdAt', p_project.created_at)
$$;

create or replace function monitoring.build_as_told(p_build monitoring.lighthouse_builds) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_build.id, 'projectId', p_build.project_id, 'branch', p_build.branch, 'hash', p_build.hash,
    'lifecycle', case when p_build.sealed_at is null then 'unsealed' else 'sealed' end, 'runAt', p_build.created_at,
    'createdAt', p_build.created_at)
$$;

create or replace function monitoring.run_as_told(p_run monitoring.lighthouse_runs, p_project_id uuid) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_run.id, 'projectId', p_project_id, 'buildId', p_run.build_id, 'url', p_run.url,
    'representative', p_run.is_representative, 'lhr', '', 'createdAt', p_run.created_at)
$$;

-- What these functions answer: done, which is for the client; wait_seconds, when it has asked too often; or conflict, why it
-- cannot be done as things are.
create or replace function monitoring.lighthouse_project(p_token text, p_project text default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  return jsonb_build_object('done', monitoring.project_as_told(v_admitted.project));
end
$$;
comment on function monitoring.lighthouse_project(text, text) is 'The project that a token belongs to; 42501 where there is none.';

create or replace function monitoring.lighthouse_builds(p_token text, p_project text, p_branch text, p_hash text, p_limit int) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  return jsonb_build_object('done', (
    select coalesce(jsonb_agg(monitoring.build_as_told(b) order by b.created_at desc), '[]')
    from (
      select * from monitoring.lighthouse_builds b
      where b.project_id = (v_admitted.project).id and b.branch = coalesce(p_branch, b.branch) and b.hash = coalesce(p_hash, b.hash)
      order by b.created_at desc
      limit least(greatest(p_limit, 1), 100)
    ) b));
end
$$;
comment on function monitoring.lighthouse_builds(text, text, text, text, int) is 'The builds of a token''s project, newest first.';

-- A build that was not sealed was interrupted: the same commit goes on with it, since nothing would ever seal it otherwise.
create or replace function monitoring.add_lighthouse_build(p_token text, p_project text, p_branch text, p_hash text) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
  v_build monitoring.lighthouse_builds;
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  if p_branch is null or length(p_branch) not between 1 and 255 or p_branch ~ '[[:cntrl:]]' then
    raise exception 'branch must be 1 to 255 characters' using errcode = 'invalid_parameter_value';
  end if;
  if p_hash is null or p_hash !~ '^[0-9A-Za-z._-]{1,64}$' then
    raise exception 'hash must be 1 to 64 letters, digits, dots, dashes and underscores' using errcode = 'invalid_parameter_value';
  end if;
  select * into v_build from monitoring.lighthouse_builds b
  where b.project_id = (v_admitted.project).id and b.branch = p_branch and b.hash = p_hash;
  if v_build.sealed_at is not null then
    return jsonb_build_object('conflict', format('Build already exists for hash "%s"', p_hash));
  end if;
  if v_build.id is null then
    if (select count(*) >= 1000 from monitoring.lighthouse_builds b
      where b.project_id = (v_admitted.project).id and b.created_at > now() - interval '1 day')
    then
      return jsonb_build_object('conflict', 'the project has made 1,000 builds within a day');
    end if;
    insert into monitoring.lighthouse_builds as b (project_id, branch, hash) values ((v_admitted.project).id, p_branch, p_hash)
    on conflict (project_id, branch, hash) do update set hash = excluded.hash -- somebody was faster: theirs
    returning b.* into v_build;
  end if;
  return jsonb_build_object('done', monitoring.build_as_told(v_build));
end
$$;
comment on function monitoring.add_lighthouse_build(text, text, text, text) is
  'Adds a build of a branch and commit, once: the same again is the same until it is sealed, and then a conflict.';

-- The build of a token's project; locked, so that nothing arrives while it is judged.
create or replace function monitoring.lock_build(p_project_id uuid, p_build_id uuid) returns monitoring.lighthouse_builds
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_build monitoring.lighthouse_builds;
begin
  select * into v_build from monitoring.lighthouse_builds b where b.id = p_build_id and b.project_id = p_project_id for update;
  if not found then
    raise exception 'the project has no such build' using errcode = 'no_data_found';
  end if;
  return v_build;
end
$$;

-- p_run has the columns of lighthouse_runs, numbers and words only.
create or replace function monitoring.add_lighthouse_run(p_token text, p_project text, p_build_id uuid, p_run jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
  v_build monitoring.lighthouse_builds;
  v_run monitoring.lighthouse_runs;
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  v_build := monitoring.lock_build((v_admitted.project).id, p_build_id);
  v_run := jsonb_populate_record(v_run, p_run);
  if v_run.fetched_at > now() + interval '1 day' then
    raise exception 'fetchTime is yet to come' using errcode = 'invalid_parameter_value';
  end if;
  select * into v_run from monitoring.lighthouse_runs r
  where r.build_id = v_build.id and r.url = v_run.url and r.form_factor = v_run.form_factor and r.fetched_at = v_run.fetched_at;
  if not found then
    if v_build.sealed_at is not null then
      return jsonb_build_object('conflict', 'the build is sealed: no run is added to it');
    end if;
    if (select count(*) >= 500 from monitoring.lighthouse_runs r where r.build_id = v_build.id) then
      return jsonb_build_object('conflict', 'the build has 500 runs');
    end if;
    v_run := jsonb_populate_record(v_run, p_run);
    insert into monitoring.lighthouse_runs as r (build_id, url, form_factor, lighthouse_version, fetched_at, performance, accessibility,
      best_practices, seo, lcp_ms, cls, tbt_ms, fcp_ms, si_ms, tti_ms, health_score)
    values (v_build.id, v_run.url, v_run.form_factor, v_run.lighthouse_version, v_run.fetched_at, trim_scale(v_run.performance),
      trim_scale(v_run.accessibility), trim_scale(v_run.best_practices), trim_scale(v_run.seo), trim_scale(round(v_run.lcp_ms, 1)),
      trim_scale(round(v_run.cls, 4)), trim_scale(round(v_run.tbt_ms, 1)), trim_scale(round(v_run.fcp_ms, 1)),
      trim_scale(round(v_run.si_ms, 1)), trim_scale(round(v_run.tti_ms, 1)), monitoring.sampled_health())
    returning r.* into v_run;
  end if;
  return jsonb_build_object('done', monitoring.run_as_told(v_run, v_build.project_id));
end
$$;
comment on function monitoring.add_lighthouse_run(text, text, uuid, jsonb) is
  'Adds a run to a build that is not sealed; the same page, measured at the same moment, is the same run.';

-- The one event of what breaks a budget: opened, counted, made worse, resolved, by what the newest measurement says. Not by
-- reconcile(), which takes three samples' silence for an end. Of a project and check a hundred are open at most, as many as any
-- check tells of: each is announced, and how many pages and branches there are is for whoever has the token to say.
create or replace function monitoring.tell_of_budget(p_fingerprint text, p_severity text, p_finding jsonb, p_note text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_suppressed text := (
    select 'suppressed: ' || s.reason from monitoring.suppressions s where s.fingerprint = p_fingerprint and s.until > now());
begin
  if p_finding is null or v_suppressed is not null then
    update public.monitoring_events e set resolved_at = now(), resolution_notes = coalesce(v_suppressed, p_note)
    where e.fingerprint = p_fingerprint and e.resolved_at is null;
    return;
  end if;
  if not exists (select from public.monitoring_events e where e.fingerprint = p_fingerprint and e.resolved_at is null)
    and 100 <= (
      select count(*) from public.monitoring_events e
      where e.resolved_at is null and e.fingerprint is not null and e.event_data ->> 'check_id' = p_finding ->> 'check_id'
        and e.event_data ->> 'project' = p_finding ->> 'project')
  then
    return;
  end if;
  insert into public.monitoring_events as e (event_type, event_data, severity, fingerprint)
  values ('performance_alert', p_finding, p_severity, p_fingerprint)
  on conflict (fingerprint) where resolved_at is null and fingerprint is not null do update
    set last_seen_at = now(), occurrences = e.occurrences + 1, event_data = excluded.event_data,
      severity = case when monitoring.severity_rank(excluded.severity) > monitoring.severity_rank(e.severity)
        then excluded.severity else e.severity end;
end
$$;

-- A page's representative run is the one nearest to the medians of its First Contentful Paint and Time to Interactive, as
-- Lighthouse CI has it (its representative-runs.js); what was not measured counts as 0.
create or replace function monitoring.judge_build(p_build monitoring.lighthouse_builds) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_critical boolean := monitoring.is_critical_time();
  v_project monitoring.lighthouse_projects;
  v_run monitoring.lighthouse_runs;
  v_severity text;
begin
  select * into v_project from monitoring.lighthouse_projects p where p.id = p_build.project_id;
  v_severity := case when p_build.branch = v_project.base_branch then case when v_is_critical then 'critical' else 'medium' end
    when v_is_critical then 'medium' else 'low' end;
  with measured as (
    select r.id, r.url, r.form_factor, r.fetched_at, coalesce(r.fcp_ms, 0) as fcp, coalesce(r.tti_ms, 0) as tti
    from monitoring.lighthouse_runs r where r.build_id = p_build.id
  ), medians as (
    select m.url, m.form_factor, (array_agg(m.fcp order by m.fcp))[count(*) / 2 + 1] as fcp,
      (array_agg(m.tti order by m.tti))[count(*) / 2 + 1] as tti
    from measured m group by m.url, m.form_factor
  ), chosen as (
    select distinct on (m.url, m.form_factor) m.id
    from measured m join medians d on d.url = m.url and d.form_factor = m.form_factor
    order by m.url, m.form_factor, (d.fcp - m.fcp) ^ 2 + (d.tti - m.tti) ^ 2, m.fetched_at
  )
  update monitoring.lighthouse_runs r
  set is_representative = true, is_critical_time = v_is_critical, breaches = monitoring.breaches('lighthouse', to_jsonb(r), v_is_critical)
  from chosen c where r.id = c.id;

  for v_run in select * from monitoring.lighthouse_runs r where r.build_id = p_build.id and r.is_representative order by r.url, r.form_factor loop
    -- A build that is sealed late says nothing of now.
    continue when exists (
      select from monitoring.lighthouse_builds b join monitoring.lighthouse_runs r on r.build_id = b.id
      where b.project_id = p_build.project_id and b.branch = p_build.branch and b.created_at > p_build.created_at and b.sealed_at is not null
        and r.url = v_run.url and r.form_factor = v_run.form_factor);
    perform monitoring.tell_of_budget(
      md5(format('lighthouse-budget:%s:%s:%s:%s', p_build.project_id, v_run.form_factor, v_run.url, p_build.branch)), v_severity,
      case when v_run.breaches <> '[]' then jsonb_build_object('check_id', 'lighthouse-budget', 'object', v_run.url,
        'value', v_run.breaches -> 0 -> 'value', 'threshold', v_run.breaches -> 0 -> 'budget',
        'detail', format('%s%s', monitoring.breaches_in_words(v_run.breaches), case when v_is_critical then ' (in a critical window)' end),
        'remediation', 'Open Lighthouse''s report of the build and undo what made the page slower or worse; or change the budget (monitoring.budgets).',
        'project', v_project.name, 'branch', p_build.branch, 'hash', p_build.hash, 'form_factor', v_run.form_factor,
        'breaches', v_run.breaches, 'health_score', v_run.health_score,
        'health_status', case when v_run.health_score is not null then monitoring.health_status(v_run.health_score) end) end,
      format('within its budgets since build %s', p_build.hash));
  end loop;
end
$$;

create or replace function monitoring.seal_lighthouse_build(p_token text, p_project text, p_build_id uuid) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
  v_build monitoring.lighthouse_builds;
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  v_build := monitoring.lock_build((v_admitted.project).id, p_build_id);
  if v_build.sealed_at is null then
    update monitoring.lighthouse_builds set sealed_at = clock_timestamp() where id = v_build.id returning * into v_build;
    perform monitoring.judge_build(v_build);
  end if;
  return jsonb_build_object('done', monitoring.build_as_told(v_build));
end
$$;
comment on function monitoring.seal_lighthouse_build(text, text, uuid) is
  'Ends a build: its representative runs are judged, and events follow. Once: again it changes nothing.';

create or replace function monitoring.lighthouse_verdict(p_token text, p_project text, p_build text) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_admitted record := monitoring.admit_lighthouse(p_token, p_project);
  v_build monitoring.lighthouse_builds;
  v_health int;
  v_pages jsonb;
  v_reasons text[];
begin
  if v_admitted.wait_seconds is not null then
    return jsonb_build_object('wait_seconds', v_admitted.wait_seconds);
  end if;
  select * into v_build from monitoring.lighthouse_builds b
  where b.project_id = (v_admitted.project).id and (b.id::text = lower(p_build) or b.hash = p_build)
  order by b.created_at desc limit 1;
  if not found then
    raise exception 'the project has no such build' using errcode = 'no_data_found';
  end if;
  v_health := monitoring.sampled_health();
  select coalesce(jsonb_agg(jsonb_build_object('url', r.url, 'form_factor', r.form_factor, 'within_budget', r.breaches = '[]', 'breaches', r.breaches)
      order by r.url, r.form_factor), '[]'),
    coalesce(array_agg(format('%s: %s', r.url, monitoring.breaches_in_words(r.breaches)) order by r.url, r.form_factor)
      filter (where r.breaches <> '[]'), '{}')
    into v_pages, v_reasons
  from monitoring.lighthouse_runs r where r.build_id = v_build.id and r.is_representative;
  if v_build.sealed_at is null then
    v_reasons := v_reasons || 'the build is not sealed: its upload has not ended'::text;
  elsif v_pages = '[]' then
    v_reasons := v_reasons || 'the build has no runs'::text;
  end if;
  if exists (select from monitoring.budgets b where b.metric = 'health_score' and b.is_enabled) then
    v_reasons := v_reasons || case
      when v_health is null then 'the database''s health is not known: nobody has taken a sample for minutes'
      else (
        select format('the database: %s', monitoring.breaches_in_words(j.broken))
        from (select monitoring.breaches('database', jsonb_build_object('health_score', v_health), monitoring.is_critical_time()) as broken) j
        where j.broken <> '[]')
    end;
  end if;
  v_reasons := array_remove(v_reasons, null);
  return jsonb_build_object('done', jsonb_build_object('pass', v_reasons = '{}', 'reasons', v_reasons, 'build', monitoring.build_as_told(v_build),
    'pages', v_pages, 'health_score', v_health, 'health_status', case when v_health is not null then monitoring.health_status(v_health) end));
end
$$;
comment on function monitoring.lighthouse_verdict(text, text, text) is
  'Whether a build, by id or commit, may go out: within its budgets, and the database well; reasons say why not.';

-- Web Vitals ----------------------------------------------------------------------------------------------------------

-- The bounds are Google's (web.dev/articles/vitals): up to good is good, above poor is poor. scale: units of the histogram in one.
create or replace function monitoring.vital_metrics() returns table (
  metric text, budget_metric text, scale int, most numeric, good numeric, poor numeric)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  values ('LCP', 'vitals_lcp_ms', 1, 120000, 2500, 4000), ('INP', 'vitals_inp_ms', 1, 120000, 200, 500),
    ('CLS', 'vitals_cls', 1000, 100, 0.1, 0.25), ('FCP', 'vitals_fcp_ms', 1, 120000, 1800, 3000),
    ('TTFB', 'vitals_ttfb_ms', 1, 120000, 800, 1800)
$$;
comment on function monitoring.vital_metrics() is 'The Web Vitals there are, and what of each is good and poor.';

-- Never one by one: an hour's and a day's beacons of a path are one row each, whose buckets grow by a tenth from one to the next.
create table if not exists monitoring.vitals (
  span              text not null check (span in ('hour', 'day')),
  at                timestamptz not null,
  project_id        uuid not null references monitoring.lighthouse_projects on delete cascade,
  metric            text not null check (metric in ('LCP', 'INP', 'CLS', 'FCP', 'TTFB')),
  path              text not null check (pg_catalog.length(path) <= 120),
  samples           bigint not null,
  good              bigint not null,
  needs_improvement bigint not null,
  poor              bigint not null,
  -- By monitoring.vital_bucket().
  counts            int[] not null check (pg_catalog.cardinality(counts) = 128),
  primary key (span, at, project_id, metric, path)
) with (fillfactor = 50);
comment on table monitoring.vitals is 'Web Vitals of visitors, summed up: how many fell into which bucket, by hour and by day.';

create table if not exists monitoring.vitals_paths (
  project_id   uuid not null references monitoring.lighthouse_projects on delete cascade,
  path         text not null,
  last_seen_on date not null,
  primary key (project_id, path)
);
comment on table monitoring.vitals_paths is 'The paths of each project that are told apart; setting vitals_paths is how many.';

-- The first bucket is what is less than one unit; each next one's bounds are a tenth further up.
create or replace function monitoring.vital_bucket(p_units numeric) returns int
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when p_units < 1 then 1 else least(128, 2 + floor(ln(p_units::float8) / ln(1.1::float8))::int) end $$;

-- Within a bucket as if its beacons were spread evenly; a twentieth off at most.
create or replace function monitoring.vital_percentile(p_counts bigint[], p_share numeric) returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wanted float8 := p_share * (select sum(c) from unnest(p_counts) c);
  v_below float8 := 0;
  v_lower float8;
  v_upper float8;
begin
  for v_bucket in 1..cardinality(p_counts) loop
    if p_counts[v_bucket] > 0 and v_below + p_counts[v_bucket] >= v_wanted then
      v_lower := case v_bucket when 1 then 0 else power(1.1::float8, v_bucket - 2) end;
      v_upper := power(1.1::float8, v_bucket - 1);
      return (v_lower + (v_upper - v_lower) * (v_wanted - v_below) / p_counts[v_bucket])::numeric;
    end if;
    v_below := v_below + p_counts[v_bucket];
  end loop;
  return null;
end
$$;

-- In the metric's own unit. A bucket reaches past the bound between good and not, but how many were good is known exactly.
create or replace function monitoring.vital_p75(p_metric text, p_counts bigint[], p_good numeric, p_needs_improvement numeric) returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_metric record;
  v_digits int;
  v_wanted numeric := 0.75 * (select sum(c) from unnest(p_counts) c);
  v_p75 numeric;
begin
  select * into v_metric from monitoring.vital_metrics() m where m.metric = p_metric;
  v_digits := case when v_metric.scale > 1 then 4 else 0 end;
  v_p75 := round(monitoring.vital_percentile(p_counts, 0.75) / v_metric.scale, v_digits);
  return trim_scale(case
    when p_good >= v_wanted then least(v_p75, v_metric.good)
    when p_good + p_needs_improvement >= v_wanted then least(greatest(v_p75, v_metric.good + 10::numeric ^ -v_digits), v_metric.poor)
    else greatest(v_p75, v_metric.poor + 10::numeric ^ -v_digits) end);
end
$$;

-- What stands for an id, a name or a secret in a path is ':id', so that neither is kept and pages of a kind are one. A word has
-- letters, digits and what joins them; but no digits on both sides of letters and no letters of this size and that by turns, as
-- codes of invitations have them.
create or replace function monitoring.path_class(p_path text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_no_word text := '[^0-9A-Za-z._~-]|[0-9]{4}|^[0-9]+$|[0-9][A-Za-z]+[0-9]|([a-z][A-Z].*){5}|[0-9a-fA-F]{8}|.{33}';
begin
  return left('/' || coalesce((
    select string_agg(case when s.part ~ v_no_word then ':id' else s.part end, '/' order by s.place)
    from regexp_split_to_table(btrim(regexp_replace(left(p_path, 2000), '^https?://[^/?#]*|[?#].*$', '', 'g'), '/'), '/+') with ordinality s (part, place)
    where s.place <= 4), ''), 120);
end
$$;
comment on function monitoring.path_class(text) is 'A path without query and fragment, four parts at most, with :id for what is not a word.';

-- The path under which it is counted. Called under the project's lock, so two do not take the last place.
create or replace function monitoring.known_path(p_project_id uuid, p_path text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_path text := monitoring.path_class(p_path);
  v_today date := (now() at time zone 'UTC')::date;
begin
  update monitoring.vitals_paths v set last_seen_on = v_today
  where v.project_id = p_project_id and v.path = v_path and v.last_seen_on <> v_today;
  if found or exists (select from monitoring.vitals_paths v where v.project_id = p_project_id and v.path = v_path) then
    return v_path;
  end if;
  if (select count(*) from monitoring.vitals_paths v where v.project_id = p_project_id) >= (monitoring.setting('vitals_paths') #>> '{}')::int then
    return '(other)';
  end if;
  insert into monitoring.vitals_paths values (p_project_id, v_path, v_today);
  return v_path;
end
$$;

-- A beacon: {"metric", "value", "path"?, "sent_ms"? or "sent_at"?}. It counts when it arrives; one that says it is of another
-- time is none. What is wrong with one is an error that names it, and none is counted then.
create or replace function monitoring.add_vitals(p_key text, p_beacons jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
  v_project monitoring.lighthouse_projects;
  v_wait int;
  v_beacon record;
  v_path text;
  v_bucket int;
  v_row monitoring.vitals;
  v_minimum int := (monitoring.setting('vitals_minimum_samples') #>> '{}')::int;
begin
  select * into v_project from monitoring.lighthouse_projects p where p.vitals_key = p_key;
  if not found then
    raise exception 'permission denied: no project has this key' using errcode = 'insufficient_privilege';
  end if;
  if p_beacons is null or jsonb_typeof(p_beacons) <> 'array' or jsonb_array_length(p_beacons) not between 1 and 20 then
    raise exception 'beacons must be a list of 1 to 20' using errcode = 'invalid_parameter_value';
  end if;
  v_wait := coalesce(
    monitoring.take_ingest_turns(v_project.id::text || ' vitals', (monitoring.setting('vitals_beacons_per_minute') #>> '{}')::int,
      jsonb_array_length(p_beacons)),
    monitoring.take_ingest_turns('vitals', (monitoring.setting('vitals_total_beacons_per_minute') #>> '{}')::int,
      jsonb_array_length(p_beacons)));
  if v_wait is not null then
    return jsonb_build_object('wait_seconds', v_wait);
  end if;
  for v_beacon in
    select b.value ->> 'metric' as name, case when jsonb_typeof(b.value -> 'value') = 'number' then (b.value ->> 'value')::numeric end as value,
      b.value ->> 'path' as path,
      coalesce(to_timestamp((b.value ->> 'sent_ms')::float8 / 1000), (b.value ->> 'sent_at')::timestamptz) as sent_at, m.*
    from jsonb_array_elements(p_beacons) b (value) left join monitoring.vital_metrics() m on m.metric = b.value ->> 'metric'
  loop
    if v_beacon.metric is null then
      raise exception 'metric must be LCP, INP, CLS, FCP or TTFB' using errcode = 'invalid_parameter_value';
    end if;
    if v_beacon.value is null or v_beacon.value not between 0 and v_beacon.most then
      raise exception 'value must be a number from 0 to % for %', v_beacon.most, v_beacon.metric using errcode = 'invalid_parameter_value';
    end if;
    if v_beacon.sent_at not between now() - interval '1 hour' and now() + interval '5 minutes' then
      raise exception 'timestamp must be of the last hour' using errcode = 'invalid_parameter_value',
        hint = 'The clock of the page''s machine may be wrong.';
    end if;
    v_path := monitoring.known_path(v_project.id, coalesce(v_beacon.path, '/'));
    v_bucket := monitoring.vital_bucket(v_beacon.value * v_beacon.scale);
    for v_row in
      insert into monitoring.vitals as v (span, at, project_id, metric, path, samples, good, needs_improvement, poor, counts)
      select s.span, to_timestamp(floor(extract(epoch from now()) / s.seconds) * s.seconds), v_project.id, v_beacon.metric, v_path, 1,
        (v_beacon.value <= v_beacon.good)::int, (v_beacon.value > v_beacon.good and v_beacon.value <= v_beacon.poor)::int,
        (v_beacon.value > v_beacon.poor)::int, array_fill(0, array[v_bucket - 1]) || 1 || array_fill(0, array[128 - v_bucket])
      from (values ('day', 86400), ('hour', 3600)) s (span, seconds)
      on conflict (span, at, project_id, metric, path) do update
        set samples = v.samples + 1, good = v.good + excluded.good, needs_improvement = v.needs_improvement + excluded.needs_improvement,
          poor = v.poor + excluded.poor, counts[v_bucket] = v.counts[v_bucket] + 1
      returning v.*
    loop
      if v_row.span = 'hour' and v_row.samples % v_minimum = 0 then
        perform monitoring.judge_vitals(v_row, v_project.name);
      end if;
    end loop;
  end loop;
  return jsonb_build_object('done', jsonb_array_length(p_beacons));
end
$$;
comment on function monitoring.add_vitals(text, jsonb) is
  'Counts Web Vitals of a project''s pages, by its public key: a list of objects with metric, value and perhaps path, sent_ms or sent_at.';

-- Anybody can send beacons, since the key is public: what they say is never of a severity that wakes somebody.
create or replace function monitoring.judge_vitals(p_row monitoring.vitals, p_project text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_critical boolean := monitoring.is_critical_time();
  v_budget text := (select m.budget_metric from monitoring.vital_metrics() m where m.metric = p_row.metric);
  v_breaches jsonb;
begin
  v_breaches := monitoring.breaches('vitals', jsonb_build_object(v_budget,
    monitoring.vital_p75(p_row.metric, p_row.counts, p_row.good, p_row.needs_improvement)), v_is_critical);
  perform monitoring.tell_of_budget(md5(format('vitals-budget:%s:%s:%s', p_row.project_id, p_row.metric, p_row.path)),
    'medium',
    case when v_breaches <> '[]' then jsonb_build_object('check_id', 'vitals-budget', 'object', format('%s %s', p_row.metric, p_row.path),
      'value', v_breaches -> 0 -> 'value', 'threshold', v_breaches -> 0 -> 'budget',
      'detail', format('75th percentile of %s visits in an hour: %s', p_row.samples, monitoring.breaches_in_words(v_breaches)),
      'remediation', 'Compare with the last Lighthouse run of the page and with the slow queries of that hour.',
      'project', p_project, 'breaches', v_breaches) end,
    format('within its budget for %s visits', p_row.samples));
end
$$;

-- Reading -------------------------------------------------------------------------------------------------------------

-- The 60 vitals with the most samples, so that the answer stays small; by the hour up to two days, then by the day.
create or replace function monitoring.vitals_between(p_from timestamptz) returns table (
  project text, metric text, path text, p75 numeric, samples bigint, good_percent numeric, needs_improvement_percent numeric,
  poor_percent numeric, points jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_span text := case when p_from < now() - interval '2 days' then 'day' else 'hour' end;
  v_point_seconds int := case v_span when 'day' then 86400 else 3600 end;
  -- What begins before p_from and ends after it belongs to it.
  v_from timestamptz := to_timestamp(floor(extract(epoch from p_from) / v_point_seconds) * v_point_seconds);
begin
  return query
    with told as (
      select v.*
      from monitoring.vitals v
        join (
          select w.project_id, w.metric, w.path from monitoring.vitals w
          where w.span = v_span and w.at >= v_from
          group by w.project_id, w.metric, w.path
          order by sum(w.samples) desc, w.project_id, w.metric, w.path
          limit 60
        ) most on most.project_id = v.project_id and most.metric = v.metric and most.path = v.path
      where v.span = v_span and v.at >= v_from
    ), spread as (
      -- Each point, and all of them together (at is null).
      select t.project_id, t.metric, t.path, t.at, c.bucket, sum(c.samples)::bigint as samples
      from told t cross join unnest(t.counts) with ordinality c (samples, bucket)
      group by grouping sets ((t.project_id, t.metric, t.path, t.at, c.bucket), (t.project_id, t.metric, t.path, c.bucket))
    ), counted as (
      select s.project_id, s.metric, s.path, s.at, array_agg(s.samples order by s.bucket) as counts
      from spread s group by s.project_id, s.metric, s.path, s.at
    ), rated as (
      select t.project_id, t.metric, t.path, t.at, sum(t.samples) as samples, sum(t.good) as good,
        sum(t.needs_improvement) as needs_improvement, sum(t.poor) as poor
      from told t group by grouping sets ((t.project_id, t.metric, t.path, t.at), (t.project_id, t.metric, t.path))
    ), judged as (
      select r.*, monitoring.vital_p75(r.metric, c.counts, r.good, r.needs_improvement) as p75
      from rated r
        join counted c on c.project_id = r.project_id and c.metric = r.metric and c.path = r.path and c.at is not distinct from r.at
    )
    select p.name, j.metric, j.path, j.p75, j.samples::bigint, round(100 * j.good / j.samples, 1),
      round(100 * j.needs_improvement / j.samples, 1), round(100 * j.poor / j.samples, 1),
      (select jsonb_agg(jsonb_build_object('at', o.at, 'p75', o.p75, 'samples', o.samples) order by o.at)
        from judged o
        where o.project_id = j.project_id and o.metric = j.metric and o.path = j.path and o.at is not null)
    from judged j join monitoring.lighthouse_projects p on p.id = j.project_id
    where j.at is null
    order by j.samples desc, p.name, j.metric, j.path;
end
$$;

create or replace function monitoring.lighthouse(p_range interval) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_is_critical boolean;
  -- There are times too long to be counted back.
  v_from timestamptz := now() - greatest(least(coalesce(p_range, '0'), interval '1000 years'), '0');
begin
  perform monitoring.authorize('read');
  v_is_critical := monitoring.is_critical_time();
  return jsonb_build_object(
    'is_critical_time', v_is_critical,
    'budgets', (
      select coalesce(jsonb_agg(to_jsonb(b) order by b.source, b.metric), '[]') from monitoring.effective_budgets(v_is_critical) b),
    'builds', (
      select coalesce(jsonb_agg(to_jsonb(r) order by r.run_at desc), '[]')
      from (
        select p.name as project, b.branch, b.hash, r.url, r.form_factor, r.created_at as run_at, r.performance, r.accessibility,
          r.best_practices, r.seo, r.lcp_ms, r.cls, r.tbt_ms, r.fcp_ms, r.breaches = '[]' as within_budget, r.breaches, r.health_score,
          case when r.health_score is not null then monitoring.health_status(r.health_score) end as health_status
        from monitoring.lighthouse_builds b
          join monitoring.lighthouse_runs r on r.build_id = b.id
          join monitoring.lighthouse_projects p on p.id = b.project_id
        where b.created_at >= v_from and b.sealed_at is not null and r.is_representative
        order by r.created_at desc
        limit 500
      ) r),
    'vitals', (select coalesce(jsonb_agg(to_jsonb(v)), '[]') from monitoring.vitals_between(v_from) v));
end
$$;
comment on function monitoring.lighthouse(interval) is
  'Budgets as they are now, the judged runs since then, newest first (at most 500), and Web Vitals with their 75th percentiles.';

create or replace function monitoring.forget_pages() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_builds bigint;
  v_vitals bigint;
begin
  delete from monitoring.lighthouse_builds b
  where b.created_at < now() - make_interval(days => (monitoring.setting('lighthouse_retention_days') #>> '{}')::int);
  get diagnostics v_builds = row_count;
  delete from monitoring.vitals v
  where v.span = 'hour' and v.at < now() - interval '3 days'
    or v.span = 'day' and v.at < now() - make_interval(days => (monitoring.setting('vitals_retention_days') #>> '{}')::int);
  get diagnostics v_vitals = row_count;
  delete from monitoring.vitals_paths p where p.last_seen_on < (now() at time zone 'UTC')::date - 7;
  return jsonb_build_object('lighthouse_builds', v_builds, 'vitals', v_vitals);
end
$$;
comment on function monitoring.forget_pages() is 'Deletes what pages measured past its retention; for the clean-up.';

-- Privileges ----------------------------------------------------------------------------------------------------------

do $private$ begin perform monitoring.make_private(
  'table monitoring.budgets',
  'table monitoring.lighthouse_projects',
  'table monitoring.ingest_turns',
  'table monitoring.lighthouse_builds',
  'table monitoring.lighthouse_runs',
  'table monitoring.vitals',
  'table monitoring.vitals_paths',
  'function monitoring.effective_budgets(boolean)',
  'function monitoring.breaches(text, jsonb, boolean)',
  'function monitoring.breaches_in_words(jsonb)',
  'function monitoring.sampled_health()',
  'function monitoring.random_hex()',
  'function monitoring.token_hash(text)',
  'function monitoring.create_lighthouse_project(text, text, text)',
  'function monitoring.rotate_lighthouse_token(text)',
  'function monitoring.rotate_vitals_key(text)',
  'function monitoring.revoke_lighthouse_project(text)',
  'function monitoring.take_ingest_turns(text, int, int)',
  'function monitoring.admit_lighthouse(text, text)',
  'function monitoring.project_as_told(monitoring.lighthouse_projects)',
  'function monitoring.build_as_told(monitoring.lighthouse_builds)',
  'function monitoring.run_as_told(monitoring.lighthouse_runs, uuid)',
  'function monitoring.lighthouse_project(text, text)',
  'function monitoring.lighthouse_builds(text, text, text, text, int)',
  'function monitoring.add_lighthouse_build(text, text, text, text)',
  'function monitoring.lock_build(uuid, uuid)',
  'function monitoring.add_lighthouse_run(text, text, uuid, jsonb)',
  'function monitoring.tell_of_budget(text, text, jsonb, text)',
  'function monitoring.judge_build(monitoring.lighthouse_builds)',
  'function monitoring.seal_lighthouse_build(text, text, uuid)',
  'function monitoring.lighthouse_verdict(text, text, text)',
  'function monitoring.vital_metrics()',
  'function monitoring.vital_bucket(numeric)',
  'function monitoring.vital_percentile(bigint[], numeric)',
  'function monitoring.vital_p75(text, bigint[], numeric, numeric)',
  'function monitoring.path_class(text)',
  'function monitoring.known_path(uuid, text)',
  'function monitoring.add_vitals(text, jsonb)',
  'function monitoring.judge_vitals(monitoring.vitals, text)',
  'function monitoring.vitals_between(timestamptz)',
  'function monitoring.lighthouse(interval)',
  'function monitoring.forget_pages()'); end $private$;
-- Whoever has these still needs a project's token or key, and has nothing else by it. lighthouse() asks for a role.
grant execute on function monitoring.lighthouse_project(text, text), monitoring.lighthouse_builds(text, text, text, text, int),
  monitoring.add_lighthouse_build(text, text, text, text), monitoring.add_lighthouse_run(text, text, uuid, jsonb),
  monitoring.seal_lighthouse_build(text, text, uuid), monitoring.lighthouse_verdict(text, text, text),
  monitoring.add_vitals(text, jsonb), monitoring.lighthouse(interval)
  to monitoring_reader;

-- Who migrated sets up, too.
do $operator$
declare
  v_operator text := pg_catalog.current_setting('pgvigil.became_owner');
begin
  if v_operator <> '' then
    -- Taken back first, so that a second run leaves the same order in the access list.
    execute pg_catalog.format('revoke all on monitoring.budgets, monitoring.lighthouse_projects, monitoring.lighthouse_builds, '
      'monitoring.lighthouse_runs, monitoring.vitals from %I', v_operator);
    execute pg_catalog.format('grant select, update on monitoring.budgets to %I', v_operator);
    execute pg_catalog.format('grant select on monitoring.lighthouse_projects, monitoring.lighthouse_builds, monitoring.lighthouse_runs, '
      'monitoring.vitals to %I', v_operator);
    execute pg_catalog.format('revoke all on function monitoring.create_lighthouse_project(text, text, text), '
      'monitoring.rotate_lighthouse_token(text), monitoring.rotate_vitals_key(text), monitoring.revoke_lighthouse_project(text) from %I', v_operator);
    execute pg_catalog.format('grant execute on function monitoring.create_lighthouse_project(text, text, text), '
      'monitoring.rotate_lighthouse_token(text), monitoring.rotate_vitals_key(text), monitoring.revoke_lighthouse_project(text) to %I', v_operator);
  end if;
end
$operator$;

insert into monitoring.migrations (version, name, sha256)
values ('20250825000011', 'monitoring_lighthouse', nullif(pg_catalog.current_setting('pgvigil.sha256', true), ''))
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
