//! Through a pooler in transaction mode, where each transaction may meet another server connection, everything works, and
//! nothing of a caller stays behind on one.

use std::time::{Duration, Instant};

use pgvigil::db::migrate::MIGRATIONS;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, LocalSet};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::app::{Request, SUBJECT, TestApp};
use crate::support::database::TestDatabase;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{PASSWORD, SUPERUSER, plain, supabase};
use crate::support::secrets::store;
use crate::support::templates::MONITOR;
use crate::support::token::token;
use crate::support::wait::wait_until;
use crate::validation::assert_valid;

const PERFORMANCE: &str = "/api/monitoring/performance";

fn event() -> Value {
    json!({"action": "record_event", "event_type": "slow_query", "event_data": {}})
}

/// A pooler with as many server connections for each login as are asked for.
fn pooler(database: &TestDatabase, login: &str, pool_size: u32) -> PgBouncer {
    PgBouncer::start(database, &[login, database.migrator()], pool_size)
}

/// Another client of the pooler, who meets the server connections that the app has used.
async fn neighbour(database: &TestDatabase, pooler: &PgBouncer, login: &str) -> Client {
    let session = database
        .connect_through(pooler.port(), login, &PASSWORD)
        .await;
    session.unwrap_or_else(|error| panic!("signing in as {login}: {error}\n{}", pooler.log()))
}

/// One value, asked for without a prepared statement.
async fn ask(client: &Client, sql: &str) -> String {
    let answer = client.simple_query(sql).await;
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows: Vec<&str> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default()),
            _ => None,
        })
        .collect();
    rows.join("\n")
}

/// Everything that can stay behind on a server connection: which one it is, and what it still holds.
async fn assert_clean(client: &Client, login: &str, after: &str) -> String {
    let who = ask(
        client,
        "select concat_ws(' ', session_user, current_user, current_setting('role'))",
    )
    .await;
    assert_eq!(who, format!("{login} {login} none"), "after {after}");
    let claims = "select string_agg(coalesce(current_setting(name, true), ''), '') from (values \
        ('request.jwt.claims'), ('request.jwt.claim'), ('request.jwt.claim.sub'), ('request.jwt.claim.role'), \
        ('request.jwt.claim.email'), ('pgvigil.sha256'), ('pgvigil.discard_events')) v (name)";
    assert_eq!(ask(client, claims).await, "", "claims after {after}");
    // What the pooler itself sets belongs to its client.
    let settings = "select string_agg(name || '=' || setting, ', ') from pg_settings where source = 'session' \
        and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')";
    assert_eq!(ask(client, settings).await, "", "settings after {after}");
    assert_eq!(
        ask(client, "show timezone").await,
        "America/New_York",
        "after {after}"
    );
    let held = "select concat_ws(' ', (select count(*) from pg_prepared_statements), (select count(*) from pg_cursors), \
        (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'), \
        (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
        (select count(*) from pg_listening_channels()))";
    assert_eq!(ask(client, held).await, "0 0 0 0 0", "held after {after}");
    ask(client, "select pg_backend_pid()").await
}

fn set_timezone(database: &TestDatabase) {
    let sql = format!(
        "alter database {} set timezone = 'America/New_York'",
        database.name
    );
    database
        .psql(SUPERUSER, &sql)
        .expect("changing the default");
}

fn end_server_connections(database: &TestDatabase) -> String {
    let sql = "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    let ended = database.psql(SUPERUSER, sql).expect("ending sessions");
    ended.trim().to_owned()
}

#[tokio::test]
async fn every_request_and_task_works() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let pooler = pooler(&database, MONITOR, 2);
        let app = TestApp::through(&database, pooler.port(), MONITOR).await;
        let before = database.dump_schema();
        for query_type in [
            "all",
            "summary",
            "slow",
            "connections",
            "tables",
            "rls",
            "statements",
            "locks",
            "events",
        ] {
            for details in ["true", "false"] {
                let query = format!("query_type={query_type}&include_details={details}");
                let answer = app.get_as("admin", &query).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                assert_eq!(answer.json()["metadata"]["degraded"], json!([]), "{query}");
            }
        }
        let recorded = app.post_as("developer", &event()).await;
        assert_eq!(recorded.status, 201, "{}", recorded.text);
        let resolve = json!({"action": "resolve_event", "event_id": recorded.json()["eventId"]});
        assert_eq!(app.post_as("developer", &resolve).await.status, 403);
        assert_eq!(app.post_as("admin", &resolve).await.status, 200);
        let unknown = json!({"action": "resolve_event", "event_id": SUBJECT});
        assert_eq!(app.post_as("admin", &unknown).await.status, 404);
        let health = app.send(Request::get("/api/monitoring/health", "")).await;
        assert_eq!(health.status, 200, "{}", health.text);
        let validation = Request::get("/api/monitoring/validation", "").by("admin");
        let validation = app.send(validation).await;
        assert_valid(&validation.json()["data"]["checks"]);

        let rollback = json!({"task": "rollback", "confirm": database.name});
        for task in ["sample", "cleanup", "validate"] {
            let report = app.task(json!({"task": task})).await;
            assert_eq!(report["status"], "done", "{report}");
            if task == "validate" {
                assert_valid(&report["checks"]);
            }
        }
        let undone = app.task(rollback).await;
        assert_eq!(
            undone["undone"].as_array().map(Vec::len),
            Some(MIGRATIONS.len())
        );
        let applied = app.task(json!({"task": "migrate"})).await;
        assert_eq!(
            applied["applied"].as_array().map(Vec::len),
            Some(MIGRATIONS.len())
        );
        assert_eq!(before, database.dump_schema(), "as psql had made it");
        let report = app.task(json!({"task": "sample"})).await;
        assert_eq!(report["status"], "done", "{report}");
        assert_eq!(app.get_as("admin", "").await.status, 200);
    }
}

/// Claims, role, time limits: what one caller's transaction set is not there for whoever comes next.
#[tokio::test]
async fn nothing_of_a_caller_stays_on_the_server_connection() {
    let database = plain().database();
    set_timezone(&database);
    let pooler = pooler(&database, MONITOR, 1);
    let app = TestApp::through(&database, pooler.port(), MONITOR).await;
    let neighbour = neighbour(&database, &pooler, MONITOR).await;
    let first = assert_clean(&neighbour, MONITOR, "nothing").await;
    app.get_as("admin", "").await;
    let second = assert_clean(&neighbour, MONITOR, "a GET").await;
    assert_eq!(first, second, "they share one server connection");
    assert_eq!(app.post_as("admin", &event()).await.status, 201);
    assert_clean(&neighbour, MONITOR, "a POST").await;
    let mut refused = event();
    refused["event_type"] = json!("no such type");
    assert_eq!(app.post_as("admin", &refused).await.status, 400);
    assert_clean(&neighbour, MONITOR, "a refused POST").await;
    let validation = Request::get("/api/monitoring/validation", "").by("admin");
    assert_eq!(app.send(validation).await.status, 200);
    assert_clean(&neighbour, MONITOR, "a validation").await;
    for task in ["sample", "cleanup", "validate"] {
        app.task(json!({"task": task})).await;
        assert_clean(&neighbour, MONITOR, task).await;
    }
    let broken = "alter function monitoring.locks(int) rename to not_locks";
    database
        .psql(database.migrator(), broken)
        .expect("breaking a section");
    assert_eq!(app.get_as("admin", "").await.status, 200);
    let last = assert_clean(&neighbour, MONITOR, "a section that failed").await;
    assert_eq!(first, last, "none of it cost the server connection");
}

/// One caller on an instance of their own, who does everything several times.
async fn work_as(app: TestApp, subject: String, rounds: usize) {
    let bearer = |role| token(&subject, role, &json!({}));
    for _ in 0..rounds {
        let mut event = event();
        event["event_data"] = json!({ "by": subject });
        let post = Request::post(PERFORMANCE, &event.to_string());
        let answer = app.send(post.bearer(&bearer("service"))).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        for (role, status) in [("developer", 200), ("guest", 403)] {
            let get = Request::get(PERFORMANCE, "query_type=events");
            let answer = app.send(get.bearer(&bearer(role))).await;
            assert_eq!(answer.status, status, "{role}: {}", answer.text);
        }
        let report = app.task(json!({"task": "sample"})).await;
        assert_eq!(report["task"], "sample");
    }
}

/// Each sees its own claims, however the transactions of all are laid on the one server connection.
#[tokio::test]
async fn callers_who_share_a_server_connection_stay_apart() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let pooler = pooler(&database, &login, 1);
    let mut subjects = Vec::new();
    let mut apps = Vec::new();
    for number in 0..6 {
        subjects.push(format!("6f9619ff-8b86-4d01-b42d-00cf4fc964f{number}"));
        apps.push(TestApp::through(&database, pooler.port(), &login).await);
    }
    let rounds = 5;
    let everybody = LocalSet::new();
    let work: Vec<_> = std::iter::zip(apps, subjects.clone())
        .map(|(app, subject)| everybody.spawn_local(work_as(app, subject, rounds)))
        .collect();
    let watcher = database.superuser().await;
    let count = format!("select count(*) from pg_stat_activity where usename = '{login}'");
    let mut most = 0;
    everybody
        .run_until(async {
            while !work.iter().all(JoinHandle::is_finished) {
                most = most.max(ask(&watcher, &count).await.parse().unwrap_or(0));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for each in work {
                each.await.expect("a caller's work");
            }
        })
        .await;
    assert_eq!(most, 1, "there was one server connection");
    let mixed = "select count(*) filter (where user_id::text is distinct from event_data ->> 'by'),
        sum(occurrences) from monitoring_events";
    let recorded = subjects.len() * rounds;
    assert_eq!(
        database.psql(SUPERUSER, mixed).as_deref(),
        Ok(format!("0|{recorded}\n").as_str())
    );
}

/// Whole transactions sent one after the other without waiting, as a request may be, are not torn apart.
#[tokio::test]
async fn transactions_sent_at_once_are_answered_in_order() {
    let database = plain().database();
    let pooler = pooler(&database, MONITOR, 2);
    let (one, other) = (
        neighbour(&database, &pooler, MONITOR).await,
        neighbour(&database, &pooler, MONITOR).await,
    );
    for round in 0..20 {
        let transaction = |client: &'static str| {
            format!("begin; set local pgvigil.test = '{client} {round}'; select pg_sleep(0.001)")
        };
        let (first, second) = (transaction("one"), transaction("other"));
        let seen = "select current_setting('pgvigil.test')";
        let each = async |client: &Client, begin: &str| {
            tokio::join!(
                client.batch_execute(begin),
                ask(client, seen),
                client.batch_execute("commit"),
                client.batch_execute(begin),
                ask(client, seen),
                client.batch_execute("commit"),
                ask(client, seen),
            )
        };
        let (first, second) = tokio::join!(each(&one, &first), each(&other, &second));
        assert_eq!(
            (first.1, first.4),
            (format!("one {round}"), format!("one {round}"))
        );
        assert_eq!(
            (second.1, second.4),
            (format!("other {round}"), format!("other {round}"))
        );
        assert_eq!((first.6, second.6), (String::new(), String::new()));
    }
}

#[tokio::test]
async fn a_server_connection_that_is_gone_is_not_noticed() {
    let database = plain().database();
    let mut pooler = pooler(&database, MONITOR, 2);
    let app = TestApp::through(&database, pooler.port(), MONITOR).await;
    assert_eq!(app.get_as("admin", "").await.status, 200);
    for round in 0..3 {
        assert_ne!(end_server_connections(&database), "0");
        assert_eq!(app.get_as("admin", "").await.status, 200, "{round}");
        assert_ne!(end_server_connections(&database), "0");
        let answer = app.post_as("admin", &event()).await;
        assert_eq!(answer.status, 201, "{round}: {}", answer.text);
        pooler.restart();
        assert_eq!(app.get_as("admin", "").await.status, 200, "{round}");
        pooler.restart();
        let answer = app.post_as("admin", &event()).await;
        assert_eq!(answer.status, 201, "{round}: {}", answer.text);
        pooler.restart();
        assert_eq!(app.task(json!({"task": "sample"})).await["task"], "sample");
        assert_ne!(end_server_connections(&database), "0");
        assert_eq!(app.task(json!({"task": "sample"})).await["task"], "sample");
    }
    let count = database.psql(SUPERUSER, "select sum(occurrences) from monitoring_events");
    assert_eq!(count.as_deref(), Ok("6\n"), "nothing was done twice");
}

/// The pooler takes the login and only then finds that there is no server: nobody may wait for as long as it would.
#[tokio::test]
async fn what_is_not_there_behind_or_before_the_pooler_is_said_in_time() {
    let database = plain().database();
    let other = plain().database();
    let mut pooler = pooler(&database, MONITOR, 2);
    let app = TestApp::through(&database, pooler.port(), MONITOR).await;
    assert_eq!(app.get_as("admin", "").await.status, 200);
    let admit = |admitted: bool| {
        let sql = format!(
            "alter database {} allow_connections {admitted}",
            database.name
        );
        other
            .psql(SUPERUSER, &sql)
            .expect("closing or opening the database");
    };
    let unavailable = async |expectation: &str| {
        let started = Instant::now();
        let answer = app.get_as("admin", "").await;
        assert!(
            matches!(answer.status, 503 | 504),
            "{expectation}: {}",
            answer.text
        );
        let health = app.send(Request::get("/api/monitoring/health", "")).await;
        assert_eq!(health.status, 503, "{expectation}: {}", health.text);
        assert!(started.elapsed() < Duration::from_secs(15), "{expectation}");
    };
    admit(false);
    let ended = format!(
        "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity where datname = '{}'",
        database.name
    );
    other.psql(SUPERUSER, &ended).expect("ending sessions");
    unavailable("a closed database").await;
    admit(true);
    wait_until("the database is back", async || {
        app.get_as("admin", "query_type=events").await.status == 200
    })
    .await;
    pooler.stop();
    unavailable("no pooler").await;
    pooler.restart();
    assert_eq!(app.get_as("admin", "").await.status, 200);
}

/// A secret rotates while the instance is warm, and the pooler learns of it: it refuses in words of its own.
#[tokio::test]
async fn a_rotated_secret_is_fetched_again_when_the_pooler_refuses() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let mut pooler = pooler(&database, &login, 2);
    let credentials = database.credentials_through(pooler.port(), &login);
    let secret = store().create(&credentials);
    let id = secret.id.clone();
    let app = TestApp::with_secret(&database, secret, &[]).await;
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
    for password in ["rotated once", "rotated twice"] {
        let sql = format!("alter role {login} password '{password}'");
        database.psql(SUPERUSER, &sql).expect("rotating");
        let mut rotated = credentials.clone();
        rotated["password"] = json!(password);
        store().replace(&id, &rotated);
        pooler.let_in(&[(&login, password)]);
        pooler.restart();
        let answer = app.get_as("admin", "query_type=events").await;
        assert_eq!(
            answer.status,
            200,
            "no request fails: {}\n{}",
            answer.text,
            pooler.log()
        );
    }
}

#[tokio::test]
async fn a_request_given_up_stops_on_the_server_too() {
    let database = plain().database();
    set_timezone(&database);
    let login = database.new_monitor_login();
    let pooler = pooler(&database, &login, 1);
    let app = TestApp::through(&database, pooler.port(), &login).await;
    let slow = "create or replace function monitoring.sample(p_tick_at timestamptz default null) returns jsonb
        language sql volatile as $$ select to_jsonb(pg_sleep(60)::text) $$";
    database.psql(SUPERUSER, slow).expect("making a task slow");
    let sample = json!({"task": "sample"});
    let error = app.invoke_within(&sample, Duration::from_secs(2)).await;
    assert_eq!(error.expect_err("a deadline").error_type, "Deadline");
    let given_up_at = Instant::now();
    wait_until("the statement has ended", async || {
        let active = format!(
            "select count(*) from pg_stat_activity where usename = '{login}' and state = 'active'"
        );
        database.psql(SUPERUSER, &active).expect("counting").trim() == "0"
    })
    .await;
    // Not by its own time limit, which is ten seconds.
    let taken = given_up_at.elapsed();
    assert!(taken < Duration::from_secs(8), "{taken:?}");
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
    let neighbour = neighbour(&database, &pooler, &login).await;
    assert_clean(&neighbour, &login, "a request that was given up").await;
}

/// What migrates takes no lock and leaves no setting that outlives its transactions, also where it fails half-way.
#[tokio::test]
async fn a_migration_leaves_the_server_connection_as_it_was() {
    for cluster in [plain(), supabase()] {
        let database = cluster.empty_database();
        set_timezone(&database);
        let migrator = database.migrator();
        let pooler = pooler(&database, MONITOR, 1);
        let app = TestApp::through(&database, pooler.port(), MONITOR).await;
        let neighbour = neighbour(&database, &pooler, migrator).await;
        let first = assert_clean(&neighbour, migrator, "nothing").await;
        let (migrate, rollback) = (
            json!({"task": "migrate"}),
            json!({"task": "rollback", "confirm": database.name}),
        );
        // The middle of a migration, as its owner; what came before it stays.
        let refusal = "create function public.refuse() returns event_trigger language plpgsql as
            $$ begin raise exception 'not now'; end $$;
            create event trigger refusal on ddl_command_end when tag in ('CREATE VIEW') execute function refuse()";
        database.psql(SUPERUSER, refusal).expect("refusing views");
        let error = app.invoke(&migrate).await.expect_err("a refused view");
        assert!(error.error_message.contains("not now"), "{error:?}");
        assert_clean(&neighbour, migrator, "a migration that failed").await;
        let gone = "drop event trigger refusal; drop function public.refuse()";
        database.psql(SUPERUSER, gone).expect("letting views be");
        let report = app.task(migrate.clone()).await;
        let applied = report["applied"].as_array().map(Vec::len);
        assert!(
            applied > Some(0) && applied < Some(MIGRATIONS.len()),
            "{report}"
        );
        assert_clean(&neighbour, migrator, "a migration").await;

        let critical = "select record_monitoring_event('performance_alert', '{}', 'critical')";
        database
            .psql(SUPERUSER, critical)
            .expect("recording an event");
        let error = app.invoke(&rollback).await.expect_err("an open event");
        assert!(error.error_message.contains("discard_events"), "{error:?}");
        assert_clean(&neighbour, migrator, "a rollback that failed").await;
        let mut rollback = rollback;
        rollback["discard_events"] = json!(true);
        assert_eq!(app.task(rollback).await["status"], "done");
        assert_clean(&neighbour, migrator, "a rollback").await;

        let other = TestApp::through(&database, pooler.port(), MONITOR).await;
        let (one, two) = tokio::join!(app.task(migrate.clone()), other.task(migrate));
        let applied = [&one, &two].map(|report| report["applied"].as_array().map_or(0, Vec::len));
        assert_eq!(
            applied.iter().sum::<usize>(),
            MIGRATIONS.len(),
            "{one} {two}"
        );
        let last = assert_clean(&neighbour, migrator, "two at once").await;
        assert_eq!(first, last, "all on one server connection");
    }
}
