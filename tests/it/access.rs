//! Who may what, asked of every kind of caller on a plain and on a Supabase-like database.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::app::SUBJECT;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain, supabase};

/// What a caller is let do: every object of the façade, and what is behind it.
const READS: [&str; 6] = [
    "select count(*) from public.monitoring_slow_queries",
    "select count(*) from public.monitoring_connections",
    "select count(*) from public.monitoring_table_health",
    "select count(*) from public.monitoring_rls_status",
    "select 1 from public.monitoring_events limit 1",
    "select public.get_database_monitoring_summary()",
];
const RECORD: &str = "select public.record_monitoring_event('performance_alert', '{}')";
const RESOLVE: &str = "update public.monitoring_events set resolved_at = now() where resolved_at is null returning id";
const CLEAN_UP: &str = "select public.cleanup_old_monitoring_data()";
const SAMPLE: &str = "select monitoring.sample()";

/// Never, for any caller that is not the owner or a superuser.
const FORBIDDEN: [&str; 8] = [
    "insert into public.monitoring_events (event_type, event_data) values ('slow_query', '{}')",
    "delete from public.monitoring_events",
    "truncate public.monitoring_events",
    "update public.monitoring_events set severity = 'low'",
    "select * from monitoring.settings",
    "update monitoring.thresholds set warning = 0",
    "select * from monitoring.samples",
    "select monitoring.delete_events('true or resolved_at', now(), now())",
];

/// Allowed means that it worked and gave a row: for a table, no rows is how row-level security says no.
async fn may(client: &Client, sql: &str) -> bool {
    client.batch_execute("begin").await.expect("beginning");
    let result = client.query(sql, &[]).await;
    client
        .batch_execute("rollback")
        .await
        .expect("rolling back");
    match result {
        Ok(rows) => !rows.is_empty(),
        Err(error) => {
            let code = error
                .as_db_error()
                .map(|error| error.code().code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error:?}");
            false
        }
    }
}

/// Letters of what a caller may: Read, reCord, reSolve, clean Up, sAmple.
async fn abilities(database: &TestDatabase, caller: Caller) -> String {
    let client = database.as_caller(caller.clone()).await;
    let mut letters = String::new();
    let mut reads = Vec::new();
    for sql in READS {
        reads.push(may(&client, sql).await);
    }
    assert!(
        reads.iter().all(|read| *read == reads[0]),
        "{caller:?} reads some things and not others: {reads:?}"
    );
    for (letter, allowed) in [
        ('r', reads[0]),
        ('c', may(&client, RECORD).await),
        ('s', may(&client, RESOLVE).await),
        ('u', may(&client, CLEAN_UP).await),
        ('a', may(&client, SAMPLE).await),
    ] {
        letters.push(if allowed { letter } else { '-' });
    }
    let is_operator = matches!(caller, Caller::Superuser | Caller::Owner)
        || matches!(caller, Caller::Migrator) && database.migrator() == SUPERUSER;
    for sql in FORBIDDEN.iter().filter(|_| !is_operator) {
        client.batch_execute("begin").await.expect("beginning");
        let error = client.execute(*sql, &[]).await.err();
        client
            .batch_execute("rollback")
            .await
            .expect("rolling back");
        let code = error
            .as_ref()
            .and_then(|error| error.code())
            .map(|code| code.code());
        assert_eq!(code, Some("42501"), "{caller:?}: {sql}");
    }
    letters
}

fn role(role: &str) -> Value {
    json!({"sub": SUBJECT, "app_metadata": {"role": role}})
}

async fn with_an_event(database: &TestDatabase) {
    database
        .psql(SUPERUSER, RECORD)
        .expect("recording an event");
}

fn claims_and_abilities() -> Vec<(Value, &'static str)> {
    vec![
        (role("service"), "rcsu-"),
        (role("admin"), "rcs--"),
        (role("owner"), "rcs--"),
        (role("OWNER"), "rcs--"),
        (role("developer"), "rc---"),
        (role("caterer"), "-----"),
        (role(""), "-----"),
        (json!({}), "-----"),
        (json!({"sub": SUBJECT}), "-----"),
        (json!({"role": "service_role"}), "-----"),
        (json!({"role": "admin"}), "-----"),
        (json!({"user_metadata": {"role": "admin"}}), "-----"),
        (json!({"app_metadata": "admin"}), "-----"),
        (json!({"app_metadata": {"role": {"admin": true}}}), "-----"),
        (
            json!({"app_metadata": {"role": ["caterer", "Developer"]}}),
            "rc---",
        ),
        (role("planners,admin"), "-----"),
        (role("[planners developer]"), "-----"),
        (role("not admin"), "-----"),
        (json!("admin"), "-----"),
        (json!(null), "-----"),
    ]
}

#[tokio::test]
async fn reader_may_what_its_claims_say() {
    let database = plain().database();
    with_an_event(&database).await;
    for (claims, expected) in claims_and_abilities() {
        assert_eq!(
            abilities(&database, Caller::Reader(claims.clone())).await,
            expected,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn authenticated_may_what_its_claims_say() {
    let database = supabase().database();
    with_an_event(&database).await;
    for (claims, expected) in claims_and_abilities() {
        assert_eq!(
            abilities(&database, Caller::Authenticated(claims.clone())).await,
            expected,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn roles_of_the_database_may_what_they_are_for() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        with_an_event(&database).await;
        for (caller, expected) in [
            (Caller::Superuser, "rcsua"),
            (Caller::Owner, "rcsua"),
            (Caller::Migrator, "rcsua"),
            (Caller::Agent, "rcsua"),
            (Caller::FreshLogin, "-----"),
        ] {
            assert_eq!(
                abilities(&database, caller.clone()).await,
                expected,
                "{caller:?}"
            );
        }
    }
    let database = supabase().database();
    with_an_event(&database).await;
    assert_eq!(abilities(&database, Caller::ServiceRole).await, "rcsu-");
    assert_eq!(abilities(&database, Caller::Anon).await, "-----");
}

#[tokio::test]
async fn the_login_role_may_nothing_until_it_switches() {
    let database = plain().database();
    let login = database.login().await;
    for sql in READS.iter().chain([&RECORD, &CLEAN_UP, &SAMPLE]) {
        assert!(!may(&login, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn malformed_and_legacy_claims_are_nobody() {
    let database = plain().database();
    let client = database.as_caller(Caller::Reader(json!({}))).await;
    for claims in [
        "",
        "{",
        "{\"app_metadata\": {\"role\": \"admin\"",
        "\u{fffd}",
        "[1,2",
    ] {
        client
            .execute(
                "select set_config('request.jwt.claims', $1, false)",
                &[&claims],
            )
            .await
            .expect("setting claims");
        assert!(!may(&client, READS[0]).await, "{claims}");
    }
    let legacy = "select set_config('request.jwt.claims', '', false), \
                  set_config('request.jwt.claim.role', 'admin', false), \
                  set_config('request.jwt.claim.app_metadata', '{\"role\": \"admin\"}', false)";
    client
        .execute(legacy, &[])
        .await
        .expect("setting legacy claims");
    assert!(!may(&client, READS[0]).await);
}

/// Any tenant's own "owner" passed the original's admin check.
#[tokio::test]
async fn any_tenants_own_owner_passes_no_admin_check() {
    let database = supabase().database();
    let (operator, tenant) = (
        "11111111-1111-1111-1111-111111111111",
        "22222222-2222-2222-2222-222222222222",
    );
    let member = |organization: &str, role: &str| {
        let sql = format!(
            "insert into organization_members values ('{organization}', '{SUBJECT}', '{role}')"
        );
        database.psql(SUPERUSER, &sql).expect("adding a member");
    };
    let caller = Caller::Authenticated(json!({"sub": SUBJECT}));
    member(tenant, "OWNER");
    assert_eq!(abilities(&database, caller.clone()).await, "-----");
    let configure = format!(
        "update monitoring.settings set value = to_jsonb('{operator}'::text) where key = 'operator_organization_id'"
    );
    database
        .psql(SUPERUSER, &configure)
        .expect("naming the operator");
    assert_eq!(abilities(&database, caller.clone()).await, "-----");
    member(operator, "ADMIN");
    with_an_event(&database).await;
    assert_eq!(abilities(&database, caller).await, "rcs--");
}

#[tokio::test]
async fn another_issuers_role_claim_can_be_configured() {
    let database = plain().database();
    let configure = "update monitoring.settings set value = '[\"cognito:groups\"]' where key = 'role_claim_path'";
    database
        .psql(SUPERUSER, configure)
        .expect("configuring the claim");
    with_an_event(&database).await;
    let groups =
        json!({"cognito:groups": ["editors", "admin"], "app_metadata": {"role": "nobody"}});
    assert_eq!(abilities(&database, Caller::Reader(groups)).await, "rcs--");
    assert_eq!(
        abilities(&database, Caller::Reader(role("admin"))).await,
        "-----"
    );
}

/// Supabase's default privileges opened the original's views and functions to the internet.
#[tokio::test]
async fn nothing_of_ours_is_open_to_public_or_anon() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let open = database
            .psql(
                SUPERUSER,
                "with ours as (
                   select c.oid::regclass::text as name, c.relacl as acl, 'r' as kind, c.relowner as owner from pg_class c
                   where c.relkind in ('r', 'p', 'v') and pg_get_userbyid(c.relowner) = 'monitoring_owner'
                   union all
                   select p.oid::regprocedure::text, p.proacl, 'f', p.proowner from pg_proc p
                   where pg_get_userbyid(p.proowner) = 'monitoring_owner'
                   union all
                   select n.nspname, n.nspacl, 'n', n.nspowner from pg_namespace n where n.nspname = 'monitoring')
                 select name from ours, aclexplode(coalesce(acl, acldefault(kind::\"char\", owner))) a
                 where a.grantee = 0 or pg_get_userbyid(a.grantee) = 'anon'",
            )
            .expect("reading privileges");
        assert_eq!(open, "", "open to everybody");
        let unpinned = database
            .psql(
                SUPERUSER,
                "select p.oid::regprocedure from pg_proc p where pg_get_userbyid(p.proowner) = 'monitoring_owner'
                 and p.prosecdef and not coalesce(p.proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'",
            )
            .expect("reading functions");
        assert_eq!(
            unpinned, "",
            "a definer function without a pinned search_path"
        );
    }
}

/// A definer function without a pinned `search_path` runs the caller's functions and operators as its owner.
#[tokio::test]
async fn a_hostile_search_path_changes_nothing() {
    let database = plain().database();
    let setup = "create schema evil; grant usage, create on schema evil to public; grant temporary on database \"{}\" to public;";
    database
        .psql(SUPERUSER, &setup.replace("{}", &database.name))
        .expect("opening a schema");
    let client = database.as_caller(Caller::Reader(role("developer"))).await;
    let traps = "
        create function evil.lower(text) returns text language plpgsql as $$ begin raise exception 'trapped as %', current_user; end $$;
        create function evil.now() returns timestamptz language plpgsql as $$ begin raise exception 'trapped as %', current_user; end $$;
        create function evil.length(text) returns int language plpgsql as $$ begin raise exception 'trapped'; end $$;
        create temp table monitoring_events (id int); create temp table settings (key text, value jsonb);
        create temp view pg_stat_activity as select 1 as pid; create temp view pg_class as select 1 as oid;
        set search_path = evil, pg_temp, pg_catalog";
    client.batch_execute(traps).await.expect("setting traps");
    for sql in READS.iter().chain([&RECORD]) {
        client
            .query(*sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Under `service_role` the audit's `user_id` was NULL: record the subject.
#[tokio::test]
async fn under_service_role_the_subject_is_recorded() {
    let database = supabase().database();
    let client = database.as_caller(Caller::ServiceRole).await;
    let claims = json!({"role": "service_role", "sub": SUBJECT}).to_string();
    client
        .execute(
            "select set_config('request.jwt.claims', $1, false)",
            &[&claims],
        )
        .await
        .expect("setting claims");
    client.query(RECORD, &[]).await.expect("recording");
    let recorded = database
        .psql(SUPERUSER, "select user_id from monitoring_events")
        .expect("reading");
    assert_eq!(recorded.trim(), SUBJECT);
    let client = database
        .as_caller(Caller::Authenticated(
            json!({"sub": "auth0|7", "app_metadata": {"role": "admin"}}),
        ))
        .await;
    client
        .query(RECORD, &[])
        .await
        .expect("recording with a subject that is no uuid");
}

/// Whoever migrates was a member of the owner for ever after, and past a `FORCE`d tenant policy with it.
#[tokio::test]
async fn migrating_opens_no_table_to_who_migrated() {
    let database = supabase().database();
    let force = format!(
        "alter table organization_members force row level security;
         insert into organization_members values ('11111111-1111-1111-1111-111111111111', '{SUBJECT}', 'owner');
         grant all on organization_members to fresh_login"
    );
    database
        .psql(SUPERUSER, &force)
        .expect("forcing row-level security");
    let member = format!(
        "select pg_has_role('{0}', 'monitoring_owner', 'usage'), pg_has_role('{0}', 'monitoring_agent', 'usage')",
        database.migrator()
    );
    assert_eq!(database.psql(SUPERUSER, &member).as_deref(), Ok("f|t\n"));
    let seen = database.psql("fresh_login", "select count(*) from organization_members");
    assert_eq!(
        seen.as_deref(),
        Ok("0\n"),
        "no policy of ours is for anybody else"
    );
}

/// A resolution that is backdated is gone with the next clean-up; one that is undone never was.
#[tokio::test]
async fn an_event_is_resolved_now_and_once() {
    let database = plain().database();
    with_an_event(&database).await;
    let admin = database.as_caller(Caller::Reader(role("admin"))).await;
    let resolved = "select resolved_at between now() - interval '1 minute' and now(), resolution_notes from monitoring_events";
    for (update, expected) in [
        ("resolution_notes = 'looking into it'", "|looking into it\n"),
        (
            "resolved_at = '1970-01-01', resolution_notes = 'done'",
            "t|done\n",
        ),
        (
            "resolved_at = null, resolution_notes = 'undone'",
            "t|done\n",
        ),
        ("resolved_at = 'infinity'", "t|done\n"),
    ] {
        let sql = format!("update public.monitoring_events set {update}");
        admin
            .execute(&sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{update}: {error:?}"));
        assert_eq!(
            database.psql(SUPERUSER, resolved).as_deref(),
            Ok(expected),
            "{update}"
        );
    }
    let backdate = "update monitoring_events set resolved_at = '1970-01-01'";
    database.psql(SUPERUSER, backdate).expect("backdating");
    let backdated = "select resolved_at < '1970-01-03' from monitoring_events";
    assert_eq!(
        database.psql(SUPERUSER, backdated).as_deref(),
        Ok("t\n"),
        "a superuser knows what it does"
    );
}

/// Settings of a session that change how SQL is read, and who may read it.
#[tokio::test]
async fn a_sessions_settings_do_not_break_the_monitor() {
    let database = plain().database();
    for setting in [
        "standard_conforming_strings = off",
        "row_security = off",
        "jit = on",
        "bytea_output = escape",
        "datestyle = 'german'",
        "timezone = 'Pacific/Apia'",
    ] {
        let client = database.as_caller(Caller::Agent).await;
        client
            .batch_execute(&format!("set {setting}"))
            .await
            .expect("changing a setting");
        let reads = READS
            .iter()
            .filter(|sql| !sql.contains("monitoring_events"));
        for sql in reads.chain([
            &RECORD,
            &CLEAN_UP,
            &SAMPLE,
            &"select monitoring.redact('x')",
        ]) {
            let result = client.query(*sql, &[]).await;
            result.unwrap_or_else(|error| panic!("{setting}, {sql}: {error:?}"));
        }
    }
}
