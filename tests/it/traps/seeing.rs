//! Who sees too much, and who sees nothing and takes it for health.

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{READS, execute, one, refusal};
use crate::migrations::apply;
use crate::support::app::SUBJECT;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER, plain, supabase};
use crate::support::templates::{FRESH_LOGIN, SUPABASE_OWNER, migrations};
use crate::support::workload::Workload;

const RECORD: &str = "select public.record_monitoring_event('performance_alert', '{}')";
const CLEAN_UP: &str = "select public.cleanup_old_monitoring_data()";

fn role(role: &str) -> Value {
    json!({"sub": SUBJECT, "app_metadata": {"role": role}})
}

/// What anybody may who has no name: privileges of PUBLIC and of `anon` on our objects and on their columns.
const OPEN: &str = "
    with ours as (
      select c.oid::regclass::text as name, coalesce(c.relacl, acldefault('r', c.relowner)) as acl
      from pg_class c where c.relkind in ('r', 'p', 'v') and pg_get_userbyid(c.relowner) = 'monitoring_owner'
      union all
      select a.attrelid::regclass || '.' || a.attname, a.attacl
      from pg_attribute a join pg_class c on c.oid = a.attrelid where pg_get_userbyid(c.relowner) = 'monitoring_owner'
      union all
      select p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p where pg_get_userbyid(p.proowner) = 'monitoring_owner'
      union all
      select n.nspname, coalesce(n.nspacl, acldefault('n', n.nspowner))
      from pg_namespace n where pg_get_userbyid(n.nspowner) = 'monitoring_owner')
    select string_agg(distinct o.name, ', ') from ours o, aclexplode(o.acl) a
    where a.grantee = 0 or pg_get_userbyid(a.grantee) = 'anon'";

fn open(database: &TestDatabase) -> String {
    let open = database.psql(SUPERUSER, OPEN).expect("reading privileges");
    open.trim().to_owned()
}

/// The original's views and functions were open to the internet: a 5 MB event was recorded, and the clean-up run, as `anon`.
#[tokio::test]
async fn default_privileges_grant_all_to_anon_and_not_on_ours() {
    let database = supabase().database();
    let theirs = "create view public.theirs as select 1 as one;
        create function public.their_clean_up() returns int language sql security definer as 'select 1'";
    database.psql(SUPABASE_OWNER, theirs).expect("creating");
    let anon = database.as_caller(Caller::Anon).await;
    one(&anon, "select public.their_clean_up() from public.theirs").await;
    let large = "select public.record_monitoring_event('slow_query', jsonb_build_object('a', repeat('x', 5000000)))";
    for sql in READS.iter().chain(&[RECORD, CLEAN_UP, large]) {
        assert_eq!(refusal(&anon, sql).await, "42501", "{sql}");
    }
    assert_eq!(open(&database), "");
}

/// REVOKE FROM PUBLIC leaves what default privileges granted to `anon` by name, and so does every DROP and CREATE after it.
#[tokio::test]
async fn drop_and_create_in_a_later_migration_does_not_open_the_object_again() {
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Supabase,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let theirs = "create function public.theirs() returns int language sql as 'select 1';
        revoke all on function public.theirs() from public";
    database.psql(SUPABASE_OWNER, theirs).expect("creating");
    let anon = database.as_caller(Caller::Anon).await;
    one(&anon, "select public.theirs()").await;
    // Ours are made by a role of their own, for which nobody sets default privileges: the worst case is that somebody does.
    let hostile = "alter default privileges for role monitoring_owner grant all on tables to public, anon;
        alter default privileges for role monitoring_owner grant all on functions to public, anon;
        drop view public.monitoring_slow_queries, public.monitoring_table_health;
        drop function public.get_database_monitoring_summary(), public.cleanup_old_monitoring_data(), monitoring.sample(timestamptz);";
    database.psql(SUPERUSER, hostile).expect("dropping");
    apply(&database, &migrations());
    assert_eq!(open(&database), "");
    for sql in READS.iter().chain(&[RECORD, CLEAN_UP]) {
        assert_eq!(refusal(&anon, sql).await, "42501", "{sql}");
    }
}

/// A superuser's view lends nobody the superuser's eyes: other sessions have no state, and a filter on it finds none.
#[tokio::test]
async fn pg_stat_activity_checks_the_invoker_even_under_a_superusers_view() {
    let database = plain().database();
    let view = format!(
        "create view theirs as select * from pg_stat_activity where state = 'active' and backend_type = 'client backend';
         grant select on theirs to {FRESH_LOGIN}, monitoring_reader"
    );
    database.psql(SUPERUSER, &view).expect("creating a view");
    let busy = database.superuser().await;
    let busy = Workload::running(&database, busy, "select pg_sleep(600)").await;
    let theirs = format!("select count(*) from theirs where pid = {}", busy.pid);
    assert_eq!(
        database.psql(FRESH_LOGIN, &theirs).as_deref(),
        Ok("0\n"),
        "blind, and it looks healthy"
    );
    let reader = database.as_caller(Caller::Reader(role("developer"))).await;
    assert_eq!(one(&reader, &theirs).await.get::<_, i64>(0), 0);
    assert!(sees(&reader, busy.pid).await);
}

/// Whether the reader's view has the session, with its state and its text, once it is slow.
async fn sees(client: &Client, pid: i32) -> bool {
    execute(client, "select pg_sleep(0.15)").await;
    let sql = format!(
        "select count(*) from monitoring_slow_queries where pid = {pid} and state = 'active' and query_preview like 'select pg_sleep%'"
    );
    one(client, &sql).await.get::<_, i64>(0) == 1
}

/// What the Lambda does: the login may see, the role it becomes for the transaction may not.
#[tokio::test]
async fn after_set_local_role_to_an_unprivileged_caller_sessions_are_still_seen() {
    let database = plain().database();
    let busy = database.superuser().await;
    let busy = Workload::running(&database, busy, "select pg_sleep(600)").await;
    let login = database.superuser().await;
    execute(&login, "begin; set local role monitoring_reader").await;
    let claims = role("developer").to_string();
    let set = "select set_config('request.jwt.claims', $1, true)";
    login
        .execute(set, &[&claims])
        .await
        .expect("setting claims");
    let direct = format!(
        "select state is null from pg_stat_activity where pid = {}",
        busy.pid
    );
    assert!(one(&login, &direct).await.get::<_, bool>(0));
    assert!(sees(&login, busy.pid).await);
    execute(&login, "commit").await;
}

/// Pinned to nothing is not pinned: `pg_temp` is searched first unless it is named last.
#[tokio::test]
async fn a_definer_function_pinned_to_an_empty_search_path_reads_the_callers_pg_temp() {
    let database = plain().database();
    let theirs =
        "create function theirs() returns bigint language sql security definer set search_path = ''
        as 'select count(*) from pg_class'";
    database.psql(SUPERUSER, theirs).expect("creating");
    let trapped = database.psql(SUPERUSER, "create temp table pg_class (); select theirs()");
    assert_eq!(trapped.as_deref(), Ok("0\n"));
    for database in [database, supabase().database()] {
        let unpinned = "select p.oid::regprocedure from pg_proc p
            where pg_get_userbyid(p.proowner) = 'monitoring_owner' and p.prosecdef
              and not coalesce(p.proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'";
        assert_eq!(database.psql(SUPERUSER, unpinned).as_deref(), Ok(""));
        let definers = "select count(*) > 10 from pg_proc p
            where pg_get_userbyid(p.proowner) = 'monitoring_owner' and p.prosecdef";
        assert_eq!(database.psql(SUPERUSER, definers).as_deref(), Ok("t\n"));
    }
}

/// FORCE binds the functions' owner as well: without a policy for it the clean-up deletes nothing and reports success.
#[tokio::test]
async fn under_force_row_level_security_the_clean_up_deletes() {
    let database = plain().database();
    let forced = "select c.relrowsecurity and c.relforcerowsecurity and not r.rolbypassrls and not r.rolsuper
        from pg_class c join pg_roles r on r.oid = c.relowner where c.oid = 'monitoring_events'::regclass";
    assert_eq!(database.psql(SUPERUSER, forced).as_deref(), Ok("t\n"));
    let old = "insert into monitoring_events (event_type, event_data, created_at, last_seen_at, resolved_at)
        select 'slow_query', '{}', now() - interval '1 year', now() - interval '1 year', now() - interval '90 days'";
    database.psql(SUPERUSER, old).expect("inserting an event");
    let agent = database.as_caller(Caller::Agent).await;
    let deleted = async || {
        let sql = "select (public.cleanup_old_monitoring_data() ->> 'resolved_events')::int";
        one(&agent, sql).await.get::<_, i32>(0)
    };
    let without = "alter policy monitoring_events_owner on monitoring_events to monitoring_reader";
    let without = format!("begin; {without}; commit");
    database.psql(SUPERUSER, &without).expect("taking it away");
    assert_eq!(deleted().await, 0, "the trap: silence");
    let with = "alter policy monitoring_events_owner on monitoring_events to monitoring_owner";
    database.psql(SUPERUSER, with).expect("giving it back");
    assert_eq!(deleted().await, 1);
    let left = "select count(*) from monitoring_events";
    assert_eq!(database.psql(SUPERUSER, left).as_deref(), Ok("0\n"));
}

/// Its policies bind everybody but the one whose table it is.
#[tokio::test]
async fn a_table_owner_bypasses_row_level_security_unless_it_is_forced() {
    let database = plain().database();
    let setup = format!(
        "create table lists (guest text); insert into lists values ('Anna'); alter table lists owner to {FRESH_LOGIN};
         alter table lists enable row level security; create policy nobody on lists using (guest is null)"
    );
    database.psql(SUPERUSER, &setup).expect("creating a table");
    let rows = || database.psql(FRESH_LOGIN, "select count(*) from lists");
    let reported = || {
        let sql = format!(
            "select rls_forced, reasons::text like '%its owner {FRESH_LOGIN} bypasses it%' from monitoring_rls_status where tablename = 'lists'"
        );
        database.psql(SUPERUSER, &sql)
    };
    assert_eq!(
        (rows().as_deref(), reported().as_deref()),
        (Ok("1\n"), Ok("f|t\n"))
    );
    let force = "alter table lists force row level security";
    database.psql(SUPERUSER, force).expect("forcing it");
    assert_eq!(
        (rows().as_deref(), reported().as_deref()),
        (Ok("0\n"), Ok("t|f\n"))
    );
}

/// An issuer's spelling is its own.
#[tokio::test]
async fn role_names_arrive_as_upper_and_lower_case() {
    let database = plain().database();
    for name in ["OWNER", "owner", "Owner", "ADMIN", " Developer ", "sErViCe"] {
        let client = database.as_caller(Caller::Reader(role(name))).await;
        one(&client, READS[5]).await;
    }
    // Turkish has another capital of i, and no role of ours.
    let client = database.as_caller(Caller::Reader(role("ADMİN"))).await;
    assert_eq!(refusal(&client, READS[5]).await, "42501");
}

/// Both bodies of Supabase's helper, of 2020 and of today, believe a parameter that the API no longer sets.
#[tokio::test]
async fn auth_uid_reads_the_legacy_claim_before_the_claims_and_we_never_do() {
    let forged = "99999999-9999-9999-9999-999999999999";
    for body in [
        "select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid",
        "select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
            (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid",
    ] {
        let database = supabase().database();
        let helper = format!(
            "create or replace function auth.uid() returns uuid language sql stable as $$ {body} $$"
        );
        database
            .psql(SUPERUSER, &helper)
            .expect("creating a helper");
        let client = database
            .as_caller(Caller::Authenticated(role("admin")))
            .await;
        let legacy = format!(
            "set request.jwt.claim.sub = '{forged}'; set request.jwt.claim.role = 'service_role'"
        );
        execute(&client, &legacy).await;
        let believed = one(&client, "select auth.uid()::text").await;
        assert_eq!(believed.get::<_, &str>(0), forged, "the trap");
        one(&client, RECORD).await;
        let recorded = "select user_id from monitoring_events";
        let recorded = database.psql(SUPERUSER, recorded).expect("reading");
        assert_eq!(recorded.trim(), SUBJECT);
        assert_eq!(refusal(&client, CLEAN_UP).await, "42501");
    }
}

/// `''` is no JSON: a cast of it fails where NULL would have meant nobody.
#[tokio::test]
async fn after_a_commit_a_transaction_local_claim_reads_empty_and_not_null() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let client = database.superuser().await;
        execute(&client, "set role monitoring_reader").await;
        let begin = format!(
            "begin; set local request.jwt.claims = '{}'; select public.get_database_monitoring_summary(); commit",
            role("owner")
        );
        execute(&client, &begin).await;
        let left = one(
            &client,
            "select current_setting('request.jwt.claims', true)",
        )
        .await;
        assert_eq!(left.get::<_, Option<&str>>(0), Some(""));
        assert_eq!(
            refusal(
                &client,
                "select current_setting('request.jwt.claims')::jsonb"
            )
            .await,
            "22P02"
        );
        assert_eq!(
            refusal(&client, READS[5]).await,
            "42501",
            "nobody, and no error of ours"
        );
        let events = client.query(READS[4], &[]).await.expect("reading events");
        assert!(events.is_empty());
    }
}

/// Linters look at ordinary tables only, or ask what `anon` may and fail where there is no such role.
#[tokio::test]
async fn partitioned_parents_are_judged_and_the_role_anon_need_not_exist() {
    let database = plain().database();
    let setup = "create table orders (day date) partition by range (day);
        create table fenced (day date) partition by range (day); alter table fenced enable row level security";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let judged = "select to_regrole('anon') is null, tablename, security_risk_level from monitoring_rls_status
        where tablename in ('orders', 'fenced') order by risk_rank";
    assert_eq!(
        database.psql(SUPERUSER, judged).as_deref(),
        Ok("t|orders|HIGH_RISK\nt|fenced|MEDIUM_RISK\n")
    );
}

/// Enabled, with a policy, and as open as without.
#[tokio::test]
async fn row_level_security_enabled_with_using_true_is_not_protection() {
    let database = plain().database();
    let setup = "create table hollow (a int); insert into hollow values (1); alter table hollow enable row level security;
        create policy everybody on hollow using (true); grant select on hollow to public";
    database.psql(SUPERUSER, setup).expect("creating a table");
    assert_eq!(
        database
            .psql(FRESH_LOGIN, "select * from hollow")
            .as_deref(),
        Ok("1\n")
    );
    let judged = "select rls_status, security_risk_level, reasons::text like '%lets everybody through: policy everybody%'
        from monitoring_rls_status where tablename = 'hollow'";
    assert_eq!(
        database.psql(SUPERUSER, judged).as_deref(),
        Ok("ENABLED|MEDIUM_RISK|t\n")
    );
}
