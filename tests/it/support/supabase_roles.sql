-- Supabase's roles, once per cluster. What a hosted project calls `postgres` is `supabase_postgres` here: not a
-- superuser, and the one that runs migrations. Passwords are set by the harness.
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;

create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
alter role authenticator set search_path = public, extensions;

create role supabase_postgres login nosuperuser createrole createdb replication bypassrls;
grant pg_monitor, anon, authenticated, service_role to supabase_postgres with admin option;
alter role supabase_postgres set search_path = "$user", public, extensions;
