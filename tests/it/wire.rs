//! How often a request goes to the server and back. An instance may be an ocean away from its database.

use serde_json::json;

use crate::support::app::{Request, TestApp};
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::templates::MONITOR;
use crate::support::wire::{Traffic, Wire};

/// Start-up, the client's proof, the server's: SCRAM takes three.
const SIGNING_IN: usize = 3;

/// A named statement stays on the connection that parsed it, and a pooler may give the next transaction to another.
fn assert_round_trips(what: &str, traffic: &Traffic, expected: usize) {
    assert_eq!(traffic.round_trips, expected, "{what}: {traffic:?}");
    assert_eq!(traffic.named, [""; 0], "{what}: {traffic:?}");
}

#[tokio::test]
async fn a_get_is_one_round_trip() {
    let database = plain().database();
    let wire = Wire::to(database.port());
    let app = TestApp::through(&database, wire.port(), MONITOR).await;
    assert_eq!(app.get_as("admin", "").await.status, 200);
    let first = wire.traffic();
    assert_round_trips("the first one", &first, SIGNING_IN + 1);
    assert_eq!(first.connections, 1);
    for (query, sections) in [
        ("", 8),
        ("include_details=true&time_range=30d", 8),
        ("query_type=slow", 2),
        ("query_type=events", 1),
    ] {
        let answer = app.get_as("admin", query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let traffic = wire.traffic();
        assert_round_trips(query, &traffic, 1);
        assert!(traffic.parsed > sections, "they went this way: {traffic:?}");
        assert_eq!(traffic.connections, 0, "{query}");
    }
    for path in ["/api/monitoring/validation", "/api/monitoring/health"] {
        let answer = app.send(Request::get(path, "").by("admin")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_round_trips(path, &wire.traffic(), 1);
    }
}

/// One section that fails, as any other: nobody asks again.
#[tokio::test]
async fn a_get_with_a_failing_section_is_one_round_trip() {
    let database = plain().database();
    let wire = Wire::to(database.port());
    let app = TestApp::through(&database, wire.port(), MONITOR).await;
    let broken = "alter function monitoring.locks(int) rename to not_locks";
    database
        .psql(database.migrator(), broken)
        .expect("breaking a section");
    app.get_as("admin", "").await;
    wire.traffic();
    let answer = app.get_as("admin", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer.json()["metadata"]["degraded"][0].is_object(),
        "{}",
        answer.text
    );
    assert_round_trips("broken", &wire.traffic(), 1);
}

/// The first of the two is its BEGIN: a connection found dead there is replaced, and nothing is done twice.
#[tokio::test]
async fn what_writes_is_two_round_trips() {
    let database = plain().database();
    let wire = Wire::to(database.port());
    let app = TestApp::through(&database, wire.port(), MONITOR).await;
    app.get_as("admin", "query_type=events").await;
    wire.traffic();
    let record = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    let answer = app.post_as("admin", &record).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_round_trips("recording", &wire.traffic(), 2);
    let resolve = json!({"action": "resolve_event", "event_id": answer.json()["eventId"]});
    assert_eq!(app.post_as("admin", &resolve).await.status, 200);
    assert_round_trips("resolving", &wire.traffic(), 2);
    // The first sample of an instance also asks which migrations there are.
    app.task(json!({"task": "sample"})).await;
    database
        .psql(SUPERUSER, "delete from monitoring.samples")
        .expect("forgetting a sample");
    wire.traffic();
    for task in ["sample", "cleanup"] {
        assert_eq!(app.task(json!({"task": task})).await["status"], "done");
        assert_round_trips(task, &wire.traffic(), 2);
    }
}

/// The migrating login signs in for each task, and takes its turns one after the other.
#[tokio::test]
async fn no_task_names_a_statement() {
    let database = plain().database();
    let wire = Wire::to(database.port());
    let app = TestApp::through(&database, wire.port(), MONITOR).await;
    for event in [
        json!({"task": "validate"}),
        json!({"task": "migrate"}),
        json!({"task": "rollback", "confirm": database.name}),
    ] {
        app.task(event.clone()).await;
        let traffic = wire.traffic();
        assert!(traffic.parsed > 0, "{event}: {traffic:?}");
        assert_eq!(traffic.named, [""; 0], "{event}");
    }
}

/// The counter counts: a driver's usual way to ask is two round trips and a name.
#[tokio::test]
async fn a_named_statement_would_be_seen() {
    let database = plain().database();
    let wire = Wire::to(database.port());
    let credentials = database.credentials(MONITOR);
    let password = credentials["password"].as_str().unwrap_or_default();
    let client = database
        .connect_through(wire.port(), MONITOR, password)
        .await
        .expect("signing in through the proxy");
    assert_round_trips("signing in", &wire.traffic(), SIGNING_IN);
    client.query("select 1", &[]).await.expect("asking");
    let traffic = wire.traffic();
    assert_eq!((traffic.round_trips, traffic.named.len()), (2, 1));
}
