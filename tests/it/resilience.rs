//! What happens when a part fails: the answer is clear, the log holds no secret, the next request works.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::secrets::store;
use crate::support::templates::MONITOR;
use crate::support::wait::wait_until;

fn end_sessions_of(database: &TestDatabase, login: &str) -> String {
    let sql = format!(
        "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity where usename = '{login}'"
    );
    database
        .psql(SUPERUSER, &sql)
        .expect("ending sessions")
        .trim()
        .to_owned()
}

fn sessions_of(database: &TestDatabase, login: &str) -> String {
    let sql = format!("select count(*) from pg_stat_activity where usename = '{login}'");
    database
        .psql(SUPERUSER, &sql)
        .expect("counting sessions")
        .trim()
        .to_owned()
}

#[tokio::test]
async fn one_connection_is_kept_and_replaced_when_it_is_gone() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let app = TestApp::with_login(&database, &login, &[]).await;
    for _ in 0..3 {
        assert_eq!(app.get_as("admin", "query_type=summary").await.status, 200);
        assert_eq!(app.task(json!({"task": "sample"})).await["task"], "sample");
        assert_eq!(sessions_of(&database, &login), "1");
        assert_eq!(end_sessions_of(&database, &login), "1");
    }
    let event = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    assert_eq!(
        app.post_as("admin", &event).await.status,
        201,
        "a write finds a new connection too"
    );
    let count = database
        .psql(SUPERUSER, "select count(*) from monitoring_events")
        .expect("counting");
    assert_eq!(count.trim(), "1");
}

#[tokio::test]
async fn an_unreachable_database_is_503_and_its_return_is_noticed() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let app = TestApp::new(&database).await;
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
    let other = cluster.database();
    let admit = |admitted: bool| {
        let sql = format!(
            "alter database {} allow_connections {admitted}",
            database.name
        );
        other
            .psql(SUPERUSER, &sql)
            .expect("closing or opening the database");
    };
    admit(false);
    end_sessions_of(&other, MONITOR);
    let answer = app.get_as("admin", "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "database_unavailable")
    );
    assert_eq!(
        app.send(Request::get("/api/monitoring/health", ""))
            .await
            .status,
        503
    );
    let error = app
        .invoke(&json!({"task": "sample"}))
        .await
        .expect_err("a task must fail loudly");
    assert_eq!(error.error_type, "Database");
    admit(true);
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_503_within_seconds() {
    let nowhere = "postgres://pgvigil:hunter2@127.0.0.1:1/d";
    let app = TestApp::exactly(&[("DATABASE_URL", nowhere), ("DATABASE_TLS", "disable")]).await;
    let started = Instant::now();
    let answer = app.send(Request::get("/api/monitoring/health", "")).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "database_unavailable")
    );
    let error = app
        .invoke(&json!({"task": "sample"}))
        .await
        .expect_err("no server");
    assert!(
        error.error_message.contains("no connection") && !error.error_message.contains("hunter2"),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_missing_or_malformed_secret_is_503_and_named_in_the_log_only() {
    let database = plain().database();
    let gone = store().create(&json!({}));
    store().delete(&gone);
    let malformed = store().create(&json!({"username": "u", "password": "hunter2"}));
    for (secret, reason) in [(gone, "does not exist"), (malformed, "malformed")] {
        let id = secret.id.clone();
        let app = TestApp::with_secret(&database, secret, &[]).await;
        let answer = app.get_as("admin", "").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "secret_unavailable")
        );
        assert!(!answer.text.contains(&id), "{}", answer.text);
        let error = app
            .invoke(&json!({"task": "sample"}))
            .await
            .expect_err("no credentials");
        assert!(
            error.error_message.contains(&id) && error.error_message.contains(reason),
            "{error:?}"
        );
        assert!(!error.error_message.contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_503_and_never_shown() {
    let database = plain().database();
    let mut credentials = database.credentials(MONITOR);
    credentials["password"] = json!("hunter2");
    let app = TestApp::with_secret(&database, store().create(&credentials), &[]).await;
    let answer = app.get_as("admin", "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "database_unavailable")
    );
    let error = app
        .invoke(&json!({"task": "sample"}))
        .await
        .expect_err("a wrong password");
    assert!(
        error.error_message.contains("login refused") && !error.error_message.contains("hunter2"),
        "{error:?}"
    );
}

/// A secret rotates while the instance is warm: the next connection fails until it is fetched again.
#[tokio::test]
async fn a_rotated_secret_is_fetched_again() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let credentials = database.credentials(&login);
    let secret = store().create(&credentials);
    let id = secret.id.clone();
    let app = TestApp::with_secret(&database, secret, &[]).await;
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
    for password in ["rotated once", "rotated twice"] {
        let mut rotated = credentials.clone();
        rotated["password"] = json!(password);
        database
            .psql(
                SUPERUSER,
                &format!("alter role {login} password '{password}'"),
            )
            .expect("rotating");
        store().replace(&id, &rotated);
        assert_eq!(end_sessions_of(&database, &login), "1");
        assert_eq!(
            app.get_as("admin", "query_type=events").await.status,
            200,
            "no request fails"
        );
    }
}

#[tokio::test]
async fn a_login_without_the_roles_is_the_operators_mistake() {
    let database = plain().database();
    let app = TestApp::with_login(&database, "fresh_login", &[]).await;
    let answer = app.get_as("admin", "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "database_unavailable"),
        "not the caller's 403"
    );
    let error = app
        .invoke(&json!({"task": "sample"}))
        .await
        .expect_err("a login without roles");
    assert!(
        error.error_message.contains("grant monitoring_reader"),
        "{error:?}"
    );
}

/// A BEGIN that fails half-way left an aborted transaction behind, and every later task met it.
#[tokio::test]
async fn what_was_missing_is_found_when_it_is_there() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let grant = |verb: &str| {
        let sql = format!("{verb} {login}");
        database
            .psql(SUPERUSER, &sql)
            .expect("granting or revoking");
    };
    grant("revoke monitoring_reader, monitoring_agent from");
    let app = TestApp::with_login(&database, &login, &[]).await;
    for _ in 0..2 {
        let error = app
            .invoke(&json!({"task": "sample"}))
            .await
            .expect_err("a login without roles");
        assert!(
            error.error_message.contains("grant monitoring_reader"),
            "{error:?}"
        );
    }
    grant("grant monitoring_reader, monitoring_agent to");
    assert_eq!(app.task(json!({"task": "sample"})).await["status"], "done");
}

#[tokio::test]
async fn what_cannot_be_written_is_503_until_it_can() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let event = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    assert_eq!(app.post_as("admin", &event).await.status, 201);
    let read_only = |state: &str| {
        let sql = format!(
            "alter role pgvigil in database {} set default_transaction_read_only = {state}",
            database.name
        );
        database
            .psql(SUPERUSER, &sql)
            .expect("changing the default");
        end_sessions_of_database(&database);
    };
    read_only("on");
    let answer = app.post_as("admin", &event).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "database_unavailable")
    );
    assert_eq!(
        app.get_as("admin", "query_type=events").await.status,
        200,
        "reading goes on"
    );
    // The server the connection leads to can write again; the connection as it was opened could not.
    let sql = format!(
        "alter role pgvigil in database {} set default_transaction_read_only = off",
        database.name
    );
    database
        .psql(SUPERUSER, &sql)
        .expect("changing the default");
    assert_eq!(app.post_as("admin", &event).await.status, 201);
}

fn end_sessions_of_database(database: &TestDatabase) {
    let sql = "select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    database.psql(SUPERUSER, sql).expect("ending sessions");
}

/// After a time-out the server went on for as long as it took, once for every caller who gave up.
#[tokio::test]
async fn a_request_given_up_stops_on_the_server_too() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let app = TestApp::with_login(&database, &login, &[]).await;
    let slow = "create or replace function monitoring.sample(p_tick_at timestamptz default null) returns jsonb
        language sql volatile as $$ select to_jsonb(pg_sleep(600)::text) $$";
    database.psql(SUPERUSER, slow).expect("making a task slow");
    let started = Instant::now();
    let error = app
        .invoke_within(&json!({"task": "sample"}), Duration::from_secs(4))
        .await;
    assert_eq!(error.expect_err("a deadline").error_type, "Deadline");
    assert!(started.elapsed() < Duration::from_secs(30));
    wait_until("the statement has ended", async || {
        let active = format!(
            "select count(*) from pg_stat_activity where usename = '{login}' and state = 'active'"
        );
        database.psql(SUPERUSER, &active).expect("counting").trim() == "0"
    })
    .await;
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
}
