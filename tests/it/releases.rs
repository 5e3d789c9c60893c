//! One release beside the next: whichever of function and schema is older, somebody is told what to do, and nothing is lost.

use pgvigil::db::migrate::MIGRATIONS;
use serde_json::json;

use crate::migrations::{apply, rollbacks};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain, supabase};
use crate::support::project_file;
use crate::support::scratch;

/// What a second release could bring, in the manner of the first.
const SECOND_RELEASE: &str = include_str!("../cases/release/29990101000000_second_release.sql");

const SECOND_VERSION: &str = "29990101000000";

fn release_second(database: &TestDatabase) {
    let file = scratch::file("29990101000000_second_release.sql", SECOND_RELEASE);
    apply(database, &[file]);
}

/// What a running installation holds.
fn use_it(database: &TestDatabase) {
    let used =
        "select record_monitoring_event('slow_query', '{\"before\": \"the release\"}', 'high');
        select monitoring.sample();
        update monitoring.settings set value = '250' where key = 'slow_query_threshold_ms'";
    database.psql(SUPERUSER, used).expect("using it");
}

const KEPT: &str = "select (select count(*) from monitoring_events where event_data ->> 'before' = 'the release'),
    (select count(*) > 0 from monitoring.samples), (select value from monitoring.settings where key = 'slow_query_threshold_ms')";

async fn health(app: &TestApp) -> (u64, String) {
    let answer = app.send(Request::get("/api/monitoring/health", "")).await;
    let code = match answer.status {
        200 => String::new(),
        _ => answer.problem(),
    };
    (answer.status, code)
}

#[tokio::test]
async fn an_old_function_works_on_a_newer_schema_and_undoes_nothing_of_it() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        // A sample of another day makes another partition.
        database.keep_clear_of_the_end_of("day");
        use_it(&database);
        release_second(&database);
        let before = database.dump_schema();
        release_second(&database);
        assert!(before == database.dump_schema(), "a second run");
        assert_eq!(database.psql(SUPERUSER, KEPT).as_deref(), Ok("1|t|250\n"));

        let app = TestApp::new(&database).await;
        assert_eq!(health(&app).await, (200, String::new()));
        let report = app.task(json!({"task": "sample"})).await;
        assert!(
            report["status"] == "done" || report["status"] == "skipped",
            "{report}"
        );
        assert_eq!(app.get_as("admin", "").await.status, 200);

        let report = app.task(json!({"task": "migrate"})).await;
        assert_eq!(report["applied"], json!([]));
        assert_eq!(report["newer"], json!([SECOND_VERSION]));
        assert!(report["remedy"].to_string().contains("deploy"), "{report}");

        let rollback =
            json!({"task": "rollback", "confirm": database.name, "discard_events": true});
        let error = app.invoke(&rollback).await.expect_err("another's work");
        assert_eq!(error.error_type, "Migration");
        assert!(error.error_message.contains(SECOND_VERSION), "{error:?}");
        assert!(before == database.dump_schema(), "nothing was undone");
        assert_eq!(database.psql(SUPERUSER, KEPT).as_deref(), Ok("1|t|250\n"));
    }
}

/// The last migration undone is the release before it, with what it had collected.
#[tokio::test]
async fn a_new_function_on_an_older_schema_names_the_task_that_helps() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    use_it(&database);
    let before = database.dump_schema();
    let version = MIGRATIONS[MIGRATIONS.len() - 1].version;
    let last = rollbacks().remove(0);
    assert!(last.display().to_string().contains(version), "{last:?}");
    apply(&database, &[last]);

    let app = TestApp::new(&database).await;
    let outdated = (503, "schema_outdated".to_owned());
    assert_eq!(health(&app).await, outdated);
    let answer = app.send(Request::get("/api/monitoring/health", "")).await;
    assert!(answer.detail().contains("task migrate"), "{}", answer.text);

    // Whatever the migration brings is missing: taken away by its name, a function is as it was before it.
    let taken = "alter function monitoring.take_turn(text, text) rename to taken";
    database.psql(SUPERUSER, taken).expect("taking it away");
    let answer = app.get_as("admin", "query_type=events").await;
    assert_eq!((answer.status, answer.problem()), outdated);
    let back = "alter function monitoring.taken(text, text) rename to take_turn";
    database.psql(SUPERUSER, back).expect("bringing it back");
    let taken = "alter function monitoring.sample(timestamptz) rename to taken";
    database.psql(SUPERUSER, taken).expect("taking it away");
    let error = app.invoke(&json!({"task": "sample"})).await;
    let error = error.expect_err("no such function").error_message;
    assert!(error.contains("the task migrate"), "{error}");
    let back = "alter function monitoring.taken(timestamptz) rename to sample";
    database.psql(SUPERUSER, back).expect("bringing it back");

    let report = app.task(json!({"task": "migrate"})).await;
    assert_eq!(report["applied"], json!([version]));
    assert!(report["newer"].is_null(), "{report}");
    assert_eq!(health(&app).await, (200, String::new()));
    assert_eq!(app.get_as("admin", "").await.status, 200);
    assert_eq!(database.psql(SUPERUSER, KEPT).as_deref(), Ok("1|t|250\n"));
    assert!(database.dump_schema() == before, "not as if at once");
}

/// The fixture is written as a migration has to be, or it would show nothing.
#[test]
fn the_second_release_is_a_migration_like_the_first() {
    let name = format!("tests/cases/release/{SECOND_VERSION}_second_release.sql");
    assert!(project_file(name).is_file());
    for needed in [
        "monitoring.make_private",
        "monitoring_owner",
        "insert into monitoring.migrations",
    ] {
        assert!(SECOND_RELEASE.contains(needed), "{needed}");
    }
}
