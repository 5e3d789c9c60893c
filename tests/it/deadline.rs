//! Whatever hangs: a task ends before Lambda would end it, and what it had begun on the server ends with it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};

/// Time enough to come to what hangs, also on a machine that is busy with much else.
const LAMBDAS_LIMIT: Duration = Duration::from_secs(3);

fn working(database: &TestDatabase) -> String {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and application_name = 'pgvigil' and state = 'active'",
        database.name
    );
    let count = database.psql(SUPERUSER, &sql).expect("counting sessions");
    count.trim().to_owned()
}

async fn ends_in_time(app: &TestApp, event: &Value) {
    let started = Instant::now();
    let error = app.invoke_within(event, LAMBDAS_LIMIT).await;
    let took = started.elapsed();
    let error = error.expect_err("a task that hangs");
    assert_eq!(error.error_type, "Deadline", "{event}: {error:?}");
    assert!(took < LAMBDAS_LIMIT, "{event}: {took:?}");
}

/// Waits as a frozen instance does: nothing that was left for later goes on in it.
fn wait_frozen(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(50),
            "the server was not asked to stop"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn hang(database: &TestDatabase, function: &str) {
    let sql = format!(
        "create or replace function {function} language plpgsql as $$ begin perform pg_sleep(60); return null; end $$"
    );
    database.psql(SUPERUSER, &sql).expect("making it hang");
}

/// Every migration looks there first.
async fn hold_the_migrations(database: &TestDatabase) -> Client {
    let other = database.superuser().await;
    let lock = "begin; lock table monitoring.migrations in access exclusive mode";
    other.batch_execute(lock).await.expect("locking");
    other
}

/// The server logs who stopped a statement: its own limit, or a request of ours that arrived.
#[tokio::test]
async fn every_task_ends_in_time_and_is_cancelled_on_the_server() {
    let cluster = Cluster::start(ClusterOptions {
        settings: "log_min_messages = error",
        ..ClusterOptions::default()
    });
    let cancellations = || cluster.log().matches("due to user request").count();
    let database = cluster.database();
    let app = TestApp::new(&database).await;
    app.task(json!({"task": "sample"})).await;
    hang(
        &database,
        "monitoring.sample(p_tick_at timestamptz default null) returns jsonb",
    );
    hang(&database, "monitoring.clean_up() returns jsonb");
    hang(&database, "monitoring.probe_exposure() returns jsonb");
    for (done, task) in ["sample", "cleanup", "validate"].into_iter().enumerate() {
        ends_in_time(&app, &json!({"task": task})).await;
        wait_frozen(|| cancellations() == done + 1);
        assert_eq!(working(&database), "0", "{task}");
    }
    let other = hold_the_migrations(&database).await;
    let rollback = json!({"task": "rollback", "confirm": database.name});
    for (done, event) in [json!({"task": "migrate"}), rollback].iter().enumerate() {
        ends_in_time(&app, event).await;
        wait_frozen(|| cancellations() == done + 4);
        assert_eq!(working(&database), "0", "{event}");
    }
    other.batch_execute("rollback").await.expect("ending");
    assert_eq!(app.task(json!({"task": "migrate"})).await["status"], "done");
}

/// Where no request to cancel arrives, the server's own limit is at the deadline too.
#[tokio::test]
async fn a_server_that_cannot_be_asked_to_stop_is_not_waited_for() {
    let cluster = Cluster::start(ClusterOptions {
        settings: "log_min_messages = error",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let app = TestApp::new(&database).await;
    app.task(json!({"task": "sample"})).await;
    hang(
        &database,
        "monitoring.sample(p_tick_at timestamptz default null) returns jsonb",
    );
    // Sessions go on while nobody takes new connections, which a request to cancel is.
    let signal = |signal: &str| {
        let pid = cluster.process_id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.expect("running kill").success(), "{signal}");
    };
    signal("STOP");
    let started = Instant::now();
    let error = app
        .invoke_within(&json!({"task": "sample"}), LAMBDAS_LIMIT)
        .await;
    let took = started.elapsed();
    let log_of_limit = || cluster.log().contains("due to statement timeout");
    let is_ended = async || {
        while !log_of_limit() && started.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    };
    let ended_after = is_ended().await;
    signal("CONT");
    assert_eq!(error.expect_err("a deadline").error_type, "Deadline");
    assert!(took < LAMBDAS_LIMIT, "{took:?}");
    assert!(
        ended_after < LAMBDAS_LIMIT + Duration::from_secs(5),
        "{ended_after:?}"
    );
}
