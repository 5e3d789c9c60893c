//! The six checks to make after a migration: they pass where all is well, and each names what was broken on purpose.

use serde_json::{Value, json};

use crate::support::app::{Request, TestApp};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain, supabase};
use crate::support::templates::MONITOR;

const CHECKS: [&str; 6] = [
    "extension",
    "views",
    "functions",
    "row_level_security",
    "performance",
    "security",
];

/// All six were made and passed, but for what depends on how busy the machine is, which no test promises.
pub(crate) fn assert_valid(checks: &Value) {
    let checks = checks.as_array().expect("reading the checks");
    let made: Vec<_> = checks.iter().map(|check| &check["check_id"]).collect();
    assert_eq!(made, CHECKS);
    for check in checks {
        let is_so = check["pass"] == true || check["check_id"] == "performance";
        assert!(is_so, "{check}");
    }
}

/// What the checks found, asked by a superuser: each check's pass, evidence and remedy, in order.
async fn validation(database: &TestDatabase) -> Vec<(String, bool, String, Option<String>)> {
    let client = database.superuser().await;
    let rows = client
        .query("select * from monitoring.validation()", &[])
        .await;
    let rows = rows.expect("validating");
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

/// The one check, which must have failed and must say how to mend it.
async fn failure(database: &TestDatabase, check_id: &str) -> String {
    let checks = validation(database).await;
    let check = checks.into_iter().find(|check| check.0 == check_id);
    let (_, pass, evidence, remedy) = check.unwrap_or_else(|| panic!("{check_id} is missing"));
    assert!(!pass, "{check_id} passed: {evidence}");
    assert!(
        remedy.is_some_and(|remedy| !remedy.is_empty()),
        "{evidence}"
    );
    evidence
}

fn check<'a>(checks: &'a Value, check_id: &str) -> &'a Value {
    let checks = checks.as_array().into_iter().flatten();
    let mut found = checks.filter(|check| check["check_id"] == check_id);
    found
        .next()
        .unwrap_or_else(|| panic!("{check_id} is missing"))
}

#[tokio::test]
async fn a_healthy_database_passes_on_every_way_to_ask() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let asked_in_psql = validation(&database).await;
        let ids: Vec<&str> = asked_in_psql.iter().map(|check| check.0.as_str()).collect();
        assert_eq!(ids, CHECKS);
        for (check_id, pass, evidence, remedy) in &asked_in_psql {
            // How long something takes on a busy machine is no promise of the test's.
            assert!(*pass || check_id == "performance", "{check_id}: {evidence}");
            assert!(!evidence.is_empty());
            assert_eq!(remedy.is_some(), !pass, "{check_id}: {remedy:?}");
        }

        let app = TestApp::new(&database).await;
        let report = app.task(json!({"task": "validate"})).await;
        assert_eq!(
            (&report["task"], &report["status"]),
            (&json!("validate"), &json!("done"))
        );
        assert!(report["pass"].is_boolean() && report["duration_ms"].is_u64());
        let answer = app
            .send(Request::get("/api/monitoring/validation", "").by("developer"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        assert!(
            body["metadata"]["timestamp"].is_string() && body["metadata"]["responseTime"].is_u64()
        );
        for checks in [&report["checks"], &body["data"]["checks"]] {
            assert_eq!(checks.as_array().map(Vec::len), Some(6));
            for check_id in CHECKS {
                let check = check(checks, check_id);
                assert!(
                    check["pass"] == true || check_id == "performance",
                    "{check}"
                );
                assert!(check["evidence"].is_string(), "{check}");
            }
        }
        // A developer cleans nothing up, and is told so by the function that does.
        let functions = check(&body["data"]["checks"], "functions")["evidence"].to_string();
        assert!(
            functions.contains("cleanup_old_monitoring_data() refuses"),
            "{functions}"
        );
        let functions = check(&report["checks"], "functions")["evidence"].to_string();
        assert!(
            functions.contains("cleanup_old_monitoring_data() gets as far as writing"),
            "{functions}"
        );
    }
}

#[tokio::test]
async fn validating_is_for_those_who_may_read() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let request = || Request::get("/api/monitoring/validation", "");
    assert_eq!(app.send(request()).await.status, 401);
    assert_eq!(app.send(request().by("caterer")).await.status, 403);
    let answer = app
        .send(Request::new("DELETE", "/api/monitoring/validation").by("admin"))
        .await;
    assert_eq!(
        (answer.status, answer.headers["allow"].as_str()),
        (405, "GET, OPTIONS")
    );
}

#[tokio::test]
async fn validating_changes_nothing() {
    let database = plain().database();
    let seen = "select (select count(*) from monitoring_events), (select count(*) from monitoring.samples), \
                (select xact_commit is not null from pg_stat_database where datname = current_database())";
    let before = (database.dump_schema(), database.psql(SUPERUSER, seen));
    // An event past its retention, which the clean-up that is tried must not remove.
    let expired = "insert into monitoring_events (event_type, event_data, created_at, resolved_at) \
                   values ('slow_query', '{}', now() - interval '90 days', now() - interval '60 days') returning id";
    database
        .psql(SUPERUSER, expired)
        .expect("recording an event");
    validation(&database).await;
    TestApp::new(&database)
        .await
        .task(json!({"task": "validate"}))
        .await;
    let kept = database.psql(SUPERUSER, "select count(*) from monitoring_events");
    assert_eq!(kept.as_deref(), Ok("1\n"));
    database
        .psql(SUPERUSER, "delete from monitoring_events")
        .expect("removing it");
    assert_eq!(
        (database.dump_schema(), database.psql(SUPERUSER, seen)),
        before
    );
    // Nor is the session that asked left read-only, or somebody else.
    let after = "select * from monitoring.validation(); create temporary table t (); select current_user, current_setting('transaction_read_only')";
    let after = database.psql(SUPERUSER, after).expect("writing afterwards");
    assert!(after.ends_with("postgres|off\n"), "{after}");
}

#[tokio::test]
async fn each_thing_broken_is_named_by_its_check() {
    let cluster = Cluster::start(ClusterOptions {
        flavour: crate::support::postgres::Flavour::Supabase,
        ..ClusterOptions::default()
    });
    for (break_it, check_id, words) in [
        (
            "drop extension pg_stat_statements",
            "extension",
            "is not created",
        ),
        (
            "alter system set compute_query_id = off; select pg_reload_conf(), pg_sleep(0.5)",
            "extension",
            "compute_query_id is off",
        ),
        (
            "alter system reset compute_query_id; select pg_reload_conf(), pg_sleep(0.5)",
            "",
            "",
        ),
        (
            "drop view monitoring_rls_status",
            "views",
            "monitoring_rls_status: relation",
        ),
        (
            "set role supabase_postgres; revoke pg_monitor from monitoring_owner; reset role",
            "views",
            "sessions of other roles are invisible",
        ),
        (
            "set role supabase_postgres; grant pg_monitor to monitoring_owner; reset role; select 1",
            "",
            "",
        ),
        (
            "create or replace function cleanup_old_monitoring_data() returns jsonb language sql as 'select ''{}''::jsonb'",
            "functions",
            "replaced by another",
        ),
        (
            "drop function record_monitoring_event",
            "functions",
            "record_monitoring_event()",
        ),
        (
            "drop view monitoring_connections",
            "views",
            "monitoring_connections: relation",
        ),
        (
            "drop function get_database_monitoring_summary()",
            "functions",
            "get_database_monitoring_summary() is missing",
        ),
        (
            "drop function monitoring.degraded(text) cascade",
            "views",
            "monitoring.degraded(): function",
        ),
        (
            "drop table monitoring_events cascade",
            "row_level_security",
            "it is gone, or another role's",
        ),
        (
            "drop table monitoring.samples cascade",
            "performance",
            "rests on: relation",
        ),
        (
            "drop trigger monitoring_events_resolve_once on monitoring_events",
            "row_level_security",
            "missing triggers: monitoring_events_resolve_once",
        ),
        (
            "alter table monitoring_events disable trigger monitoring_events_announce_new",
            "row_level_security",
            "missing triggers: monitoring_events_announce_new",
        ),
        (
            "drop index monitoring_events_open_fingerprint_key",
            "functions",
            "monitoring_events lacks monitoring_events_open_fingerprint_key",
        ),
        (
            "alter table monitoring_events drop constraint monitoring_events_severity_check",
            "functions",
            "monitoring_events lacks monitoring_events_severity_check",
        ),
        (
            "alter table monitoring_events drop constraint monitoring_events_pkey",
            "functions",
            "monitoring_events lacks a primary key",
        ),
        (
            "alter function monitoring.slow_queries(int) owner to current_user",
            "security",
            "function monitoring.slow_queries(integer) (",
        ),
        (
            "drop function monitoring.anyones()",
            "security",
            "exposure was not tried: function monitoring.anyones()",
        ),
        (
            "alter view monitoring_connections owner to current_user",
            "security",
            "view public.monitoring_connections (",
        ),
        (
            "alter table monitoring_events disable row level security",
            "row_level_security",
            "row-level security is off",
        ),
        (
            "alter table monitoring_events no force row level security",
            "row_level_security",
            "not forced",
        ),
        (
            "alter policy monitoring_events_read on monitoring_events using ((select monitoring.may('read')) or true)",
            "row_level_security",
            "monitoring_events_read",
        ),
        (
            "drop policy monitoring_events_read on monitoring_events",
            "row_level_security",
            "missing policies: monitoring_events_read",
        ),
        (
            "revoke select on monitoring_connections from monitoring_reader",
            "views",
            "monitoring_reader may not use public.monitoring_connections",
        ),
        (
            "revoke all on monitoring_events from monitoring_reader",
            "security",
            "its grant is gone",
        ),
        (
            "create policy everybody on monitoring_events for select using (true)",
            "row_level_security",
            "everybody",
        ),
        (
            "insert into monitoring.samples (tick_at, sampled_at, duration_ms) select now(), now(), 5000",
            "performance",
            "a sample takes 5000",
        ),
        (
            "grant select on monitoring_connections to anon",
            "security",
            "monitoring_connections (SELECT to anon)",
        ),
        (
            "grant select (value) on monitoring.settings to public",
            "security",
            "settings.value (SELECT to PUBLIC)",
        ),
        (
            "grant execute on function monitoring.setting(text) to public",
            "security",
            "setting(text) (EXECUTE to PUBLIC)",
        ),
        (
            "grant usage on schema monitoring to anon",
            "security",
            "schema monitoring (USAGE to anon)",
        ),
        (
            "alter function monitoring.connections() reset search_path",
            "security",
            "search_path not pinned: monitoring.connections()",
        ),
        (
            "create function public.is_small(numeric) returns boolean language sql immutable as 'select true';
             alter table monitoring.samples add check (public.is_small(duration_ms))",
            "security",
            "function public.is_small(numeric) of monitoring.samples",
        ),
        (
            "create function public.record_monitoring_event(text, text) returns uuid language plpgsql as
             'begin raise exception using errcode = ''25006''; end'",
            "functions",
            "record_monitoring_event(text,text) (postgres) is not pgvigil's",
        ),
        (
            "create or replace function get_database_monitoring_summary() returns jsonb language plpgsql security definer
             set search_path = pg_catalog, pg_temp as 'begin raise exception ''nobody home''; end'",
            "functions",
            "get_database_monitoring_summary(): nobody home",
        ),
        (
            "create or replace function record_monitoring_event(p_event_type text, p_event_data jsonb, p_severity text default 'medium',
             p_source_ip inet default null, p_user_agent text default null) returns uuid language plpgsql security definer
             set search_path = pg_catalog, pg_temp as 'begin return gen_random_uuid(); end'",
            "functions",
            "record_monitoring_event() was not stopped by the read-only transaction",
        ),
        (
            "revoke execute on function get_database_monitoring_summary() from monitoring_reader",
            "functions",
            "monitoring_reader may not execute public.get_database_monitoring_summary()",
        ),
        (
            "update monitoring.settings set value = '[\"weding\"]' where key = 'application_schemas'",
            "views",
            "application_schemas names none that could be watched",
        ),
        (
            "update monitoring.settings set value = '[\"public\", \"weding\"]' where key = 'application_schemas'",
            "views",
            "application_schemas names schemas that are not there: weding",
        ),
        (
            "update monitoring.settings set value = '[\"public\", \"pubic\"]' where key = 'exposed_schemas'",
            "views",
            "exposed_schemas names schemas that are not there: pubic",
        ),
        (
            "drop view monitoring_connections; create view monitoring_connections as select 1 / (pg_sleep(600)::text = '')::int as active_connections",
            "views",
            "monitoring_connections is another role's, and was not read",
        ),
        (
            "create function public.evil() returns trigger language plpgsql as 'begin return new; end';
             create trigger evil before insert on monitoring.samples for each row execute function public.evil()",
            "security",
            "function public.evil() of monitoring.samples",
        ),
        (
            "create or replace function monitoring.may(p_action text) returns boolean language sql as 'select true'",
            "security",
            "is let in by the summary",
        ),
        (
            "alter role monitoring_owner bypassrls",
            "security",
            "BYPASSRLS",
        ),
        ("alter role monitoring_owner nobypassrls; select 1", "", ""),
        (
            "create role sly login noinherit; grant monitoring_owner to sly",
            "security",
            "logins with the rights of monitoring_owner: sly",
        ),
        ("drop role sly; select 1", "", ""),
    ] {
        let database = cluster.database();
        let set_up = format!("select monitoring.ensure_sample_partition(current_date);{break_it}");
        database
            .psql(SUPERUSER, &set_up)
            .unwrap_or_else(|error| panic!("{break_it}: {error}"));
        if check_id.is_empty() {
            continue; // what belongs to the whole cluster is mended for the next
        }
        let evidence = failure(&database, check_id).await;
        assert!(evidence.contains(words), "{break_it}: {evidence}");
    }
}

#[tokio::test]
async fn an_extension_that_is_not_loaded_is_named() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let evidence = failure(&database, "extension").await;
    assert!(evidence.contains("is not created"), "{evidence}");
    database
        .psql(SUPERUSER, "create extension pg_stat_statements")
        .expect("creating it");
    let evidence = failure(&database, "extension").await;
    assert!(evidence.contains("not loaded by the server"), "{evidence}");
}

/// There may not be time for all.
#[tokio::test]
async fn tables_are_tried_worst_first_and_then_by_name() {
    let database = plain().database();
    let setup = "
        create table zebra (id int); create table apple (id int); create table mango (id int);
        create table quiet (id int); alter table quiet enable row level security; create policy p on quiet using (id > 0);
        create table empty (id int); alter table empty enable row level security;
        create schema aside; create table aside.unexposed (id int);";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let tried = "select string_agg(e.table_name, ' ') from monitoring.exposure_now() e";
    assert_eq!(
        database.psql(SUPERUSER, tried).as_deref(),
        Ok(
            "public.apple public.mango public.zebra public.empty public.monitoring_events public.quiet aside.unexposed\n"
        )
    );
}

/// What the catalogs say is compared with what an exposed role really gets.
#[tokio::test]
async fn exposure_is_tried_as_each_exposed_role() {
    let database = supabase().database();
    let setup = "
        create table open_table (id int); create table for_users (id int); revoke all on for_users from anon;
        create schema closed; create table closed.inside (id int); grant select on closed.inside to anon, public;";
    database
        .psql(database.migrator(), setup)
        .expect("creating tables");
    let probe = |user: &str| {
        let probed = database.psql(user, "select monitoring.probe_exposure()");
        serde_json::from_str::<Value>(&probed.expect("probing")).expect("reading the probe")
    };
    let probed = probe(SUPERUSER);
    // organization_members is there as well, and monitoring_events, which nobody of these was granted.
    assert_eq!(probed["unseen"], json!([]));
    assert_eq!(probed["closed"], json!([]));
    let readable = |role: &str| {
        let text = probed["roles"][role]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        text.split(' ')
            .next()
            .and_then(|count| count.parse::<i64>().ok())
    };
    let exposed = |role: &str| {
        let sql =
            format!("select count(*) from monitoring_rls_status where '{role}' = any (exposed_to)");
        database
            .psql(SUPERUSER, &sql)
            .expect("counting")
            .trim()
            .parse::<i64>()
            .ok()
    };
    for role in ["anon", "authenticated"] {
        assert_eq!(readable(role), exposed(role), "{role}: {probed}");
    }
    assert_eq!(
        readable("anon").map(|count| count + 2),
        readable("authenticated")
    );
}

/// Found by somebody who may become more roles, it is judged by the check all the same.
#[tokio::test]
async fn a_probe_that_finds_a_difference_fails_the_check() {
    let database = plain().database();
    for (unseen, closed, words) in [
        (
            "public.guests by anon",
            "",
            "readable, though not in exposed_to: public.guests by anon",
        ),
        (
            "",
            "public.guests by app",
            "in exposed_to, but refused: public.guests by app",
        ),
    ] {
        let list = |text: &str| {
            if text.is_empty() {
                json!([])
            } else {
                json!([text])
            }
        };
        let probe = json!({"roles": {}, "unseen": list(unseen), "closed": list(closed), "untried": [], "unreached": []});
        let sql = format!(
            "select pass, evidence from monitoring.validation('{probe}') where check_id = 'security'"
        );
        let judged = database.psql(SUPERUSER, &sql).expect("validating");
        assert!(
            judged.starts_with("f|") && judged.contains(words),
            "{judged}"
        );
    }
}

/// A SELECT, even of no row, is planned, and planning runs what a table's owner has put into its policies: in the session of
/// whoever validates, whose rights SET ROLE does not take away.
#[tokio::test]
async fn nobodys_code_is_run_by_the_probe() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let trap = "
        create role mallory; create schema dev authorization mallory; grant usage on schema dev to public;
        set role mallory;
        create table dev.loot (taken_by name);
        create function dev.take() returns boolean language plpgsql immutable as $$
          begin
            perform set_config('role', 'none', true); -- back to whoever signed in
            perform pg_notify('taken', session_user);
            raise exception 'run by % who signed in as %', current_user, session_user;
          end $$;
        create table dev.bait (id int); alter table dev.bait enable row level security;
        create policy trap on dev.bait using (dev.take());
        create table dev.halves (id int) partition by range (id); alter table dev.halves enable row level security;
        create policy trap on dev.halves using (dev.take());
        create table dev.half partition of dev.halves for values from (1) to (9);
        grant select on dev.bait, dev.halves to public;
        reset role;";
    database.psql(SUPERUSER, trap).expect("setting the trap");
    let planned = database.psql(
        SUPERUSER,
        "set role monitoring_reader; select from dev.bait limit 0",
    );
    let planned = planned.expect_err("walking into it");
    assert!(
        planned.contains("run by postgres"),
        "the trap works: {planned}"
    );

    let probed = database.psql(SUPERUSER, "select monitoring.probe_exposure()");
    let probed = probed.expect("probing");
    assert!(
        probed.contains("\"unseen\": []") && probed.contains("\"closed\": []"),
        "{probed}"
    );
    for (_, pass, evidence, _) in validation(&database).await {
        assert!(pass || evidence.contains(" ms"), "{evidence}");
    }
    TestApp::new(&database)
        .await
        .task(json!({"task": "validate"}))
        .await;
}

/// What is ordinary elsewhere is no failure here.
#[tokio::test]
async fn ordinary_databases_pass() {
    for (what, setup) in [
        (
            "a policy that raises without a setting",
            "create table orders (id int, tenant uuid); alter table orders enable row level security;
             create policy own on orders using (tenant = current_setting('app.tenant')::uuid); grant select on orders to app",
        ),
        (
            "a policy that asks a function which the role may not call",
            "create function secret() returns int language sql as 'select 1'; revoke execute on function secret() from public;
             create table t (id int); alter table t enable row level security; create policy p on t using (id = secret());
             grant select on t to app",
        ),
        (
            "a role that reads everything",
            "create role bi; grant usage on schema public to bi; grant pg_read_all_data to bi; create table pub (id int);
             grant select on pub to bi; create table secret (id int)",
        ),
        (
            "a group that has the table and a member who has the schema",
            "create role grp; create role mem; grant grp to mem; create schema s5; create table s5.t (id int);
             grant select on s5.t to grp; grant usage on schema s5 to mem",
        ),
        (
            "roles that bypass, own and are members of owners",
            "create role boss bypassrls; create role own; grant own to boss; create table t (id int); alter table t owner to own;
             alter table t enable row level security; grant select on t to boss, app",
        ),
        (
            "who maintains what he may not read",
            "create table seen (id int); create table kept (id int); create role keeper; grant select on seen to app, keeper;
             do $$ begin
               if current_setting('server_version_num')::int >= 170000 then
                 execute 'grant maintain on kept to app; grant pg_maintain to keeper';
               end if;
             end $$",
        ),
        ("a session without row security", "alter role postgres set row_security = off"),
        (
            "an application's functions that are called like ours, and an extension in our schema",
            "create function cleanup_old_monitoring_data(text) returns void language sql as ''; create extension hstore schema monitoring",
        ),
    ] {
        let cluster = Cluster::start(ClusterOptions::default());
        let database = cluster.database();
        let setup = format!("create role app; {setup}");
        database.psql(SUPERUSER, &setup).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (check_id, pass, evidence, _) in validation(&database).await {
            assert!(pass || check_id == "performance", "{what}: {check_id}: {evidence}");
        }
    }
}

/// Locks are given back one by one: a probe of many tables does not fill the lock table that everybody shares.
#[tokio::test]
async fn the_probe_holds_no_lock() {
    let database = plain().database();
    let tables = "do $$ begin for i in 1..50 loop execute format('create table t%s (id int)', i); end loop; end $$";
    database.psql(SUPERUSER, tables).expect("creating tables");
    let held = "begin; select monitoring.probe_exposure() is not null;
        select count(*) from pg_locks where pid = pg_backend_pid() and relation::regclass::text ~ '^t[0-9]+$'; commit";
    let held = database.psql(SUPERUSER, held);
    assert_eq!(held.as_deref(), Ok("t\n0\n"));
}

/// As a dump by `pg_dump --quote-all-identifiers` restores it.
#[tokio::test]
async fn a_search_path_whose_names_are_quoted_is_pinned() {
    let database = plain().database();
    let quoted = "set quote_all_identifiers = on; alter function monitoring.connections() set search_path = pg_catalog, pg_temp;
        select proconfig::text ~ 'pg_catalog.*,.*\"pg_temp' from pg_proc where oid = 'monitoring.connections()'::regprocedure";
    assert_eq!(database.psql(SUPERUSER, quoted).as_deref(), Ok("t\n"));
    let security = "select pass from monitoring.validation() where check_id = 'security'";
    assert_eq!(database.psql(SUPERUSER, security).as_deref(), Ok("t\n"));
}

#[tokio::test]
async fn roles_that_the_caller_may_not_become_are_named() {
    let database = supabase().database();
    let agent = database.as_caller(Caller::Agent).await;
    let row = agent
        .query_one(
            "select evidence, pass from monitoring.validation() where check_id = 'security'",
            &[],
        )
        .await;
    let row = row.expect("validating as the agent");
    let evidence: &str = row.get(0);
    assert!(row.get::<_, bool>(1), "{evidence}");
    assert!(
        evidence.contains("may not become them: anon, authenticated, service_role"),
        "{evidence}"
    );
    // Without a migrating login the task says the same; with one it has tried them.
    let url = database.url_for(MONITOR);
    let alone = TestApp::exactly(&[
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_TLS", "disable"),
        ("AUTH_MODE", "gateway"),
    ])
    .await;
    let report = alone.task(json!({"task": "validate"})).await;
    let evidence = check(&report["checks"], "security")["evidence"].to_string();
    assert!(evidence.contains("may not become them"), "{evidence}");
    let report = TestApp::new(&database)
        .await
        .task(json!({"task": "validate"}))
        .await;
    let evidence = check(&report["checks"], "security")["evidence"].to_string();
    assert!(
        !evidence.contains("may not become them") && evidence.contains("anon 1 of 3"),
        "{evidence}"
    );
}

/// What a lock keeps from being tried is named, and takes nobody else's time.
#[tokio::test]
async fn locked_tables_are_named_and_cost_the_others_nothing() {
    let database = supabase().database();
    let tables = "do $$ begin for n in 1..60 loop execute format('create table locked_%s (id int)', n); end loop; end $$;
        create table free (id int)";
    database.psql(SUPERUSER, tables).expect("making tables");
    let holder = database.superuser().await;
    let locks = "begin; do $$ begin for n in 1..60 loop execute format('lock table locked_%s', n); end loop; end $$";
    holder.batch_execute(locks).await.expect("locking");
    let asked = std::time::Instant::now();
    let checks = validation(&database).await;
    let took = asked.elapsed();
    let (_, pass, evidence, _) = &checks[5];
    assert!(*pass, "{evidence}");
    assert!(
        evidence.contains(
            "not tried, since somebody has them locked: public.locked_1, public.locked_10, "
        ) && evidence.contains(" and 40 more"),
        "{evidence}"
    );
    assert!(!evidence.contains("not reached"), "{took:?}: {evidence}");
}

/// Who may read everything by a predefined role needs no grant; what is granted to such a role does not make it one that was missed.
#[tokio::test]
async fn a_grant_to_a_predefined_role_is_no_failure() {
    let database = plain().database();
    let granted = "create table guests (id int); create table vendors (id int); grant select on vendors to pg_read_all_data";
    database.psql(SUPERUSER, granted).expect("granting");
    let checks = validation(&database).await;
    assert!(checks[5].1, "{:?}", checks[5]);
}
