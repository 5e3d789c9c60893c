-- What a Supabase project's database holds before any migration of its own.
create schema extensions;
alter schema extensions owner to supabase_postgres;
grant usage on schema extensions to anon, authenticated, service_role;

create schema auth;
grant usage on schema auth to anon, authenticated, service_role, supabase_postgres;

create table auth.users (id uuid primary key);
grant all on auth.users to supabase_postgres;

-- The three helpers as Supabase ships them. The legacy setting `request.jwt.claim.…` comes first.
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;

create function auth.role() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$;

create function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$$;

grant usage, create on schema public to supabase_postgres;
grant usage on schema public to anon, authenticated, service_role;

-- What makes every new object of a migration open to the internet until it says otherwise.
alter default privileges for role supabase_postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role supabase_postgres in schema public
  grant all on functions to anon, authenticated, service_role;
alter default privileges for role supabase_postgres in schema public
  grant all on sequences to anon, authenticated, service_role;

set role supabase_postgres;

create table public.organization_members (
  organization_id uuid not null,
  user_id uuid not null,
  role text not null,
  primary key (organization_id, user_id)
);
alter table public.organization_members enable row level security;
create policy members_see_themselves on public.organization_members
  for select using (user_id = auth.uid());
