//! What is announced: everything, in order, and once to whoever goes by `dedup_key`, whatever fails in between.

// Several samples of one invocation.
mod bursts;
// The bus refuses, is silent, or loses an answer.
mod faults;
// A database that cannot be reached.
mod outages;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::bus::TestBus;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

/// The only field of the only row.
fn ask(database: &TestDatabase, sql: &str) -> String {
    let answer = database.psql(SUPERUSER, sql);
    answer
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .trim()
        .to_owned()
}

/// The sample of a tick of its own: so many minutes ago, as it was when the test began.
fn event(database: &TestDatabase, minutes_ago: i32) -> Value {
    json!({"task": "sample", "scheduled_at": database.minutes_ago(minutes_ago)})
}

async fn sample(app: &TestApp, database: &TestDatabase, minutes_ago: i32) -> Value {
    let report = app.task(event(database, minutes_ago)).await;
    assert_eq!(report["status"], "done", "{report}");
    report
}

/// Records so many events, each told apart by its fingerprint.
fn record(database: &TestDatabase, event_type: &str, count: i32) {
    let sql = format!(
        "select record_monitoring_event('{event_type}', '{{\"token\": \"eyJ\"}}', 'high') from generate_series(1, {count})"
    );
    ask(database, &sql);
}

/// What rests after a failure is due.
fn let_rest(database: &TestDatabase) {
    ask(
        database,
        "update monitoring.outbox set leased_until = now() where published_at is null",
    );
}

/// What the outbox says of itself: how many are published, and how many are not.
fn outbox(database: &TestDatabase) -> (usize, usize) {
    let sql = "select count(published_at), count(*) - count(published_at) from monitoring.outbox";
    let counts = ask(database, sql);
    let (published, left) = counts.split_once('|').expect("two counts");
    (
        published.parse().expect("a count"),
        left.parse().expect("a count"),
    )
}

fn keys(details: &[Value]) -> Vec<String> {
    let key = |detail: &Value| detail["dedup_key"].as_str().expect("a key").to_owned();
    details.iter().map(key).collect()
}

fn details(delivered: Vec<Value>) -> Vec<Value> {
    delivered
        .into_iter()
        .map(|mut event| event["detail"].take())
        .collect()
}

#[tokio::test]
async fn each_change_is_delivered_in_order_and_once() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "slow_query", 13);
    let report = sample(&app, &database, 5).await;
    let (published, left) = outbox(&database);
    assert_eq!(
        report["notifications"],
        json!({"published": published, "failed": 0, "left": 0}),
        "{report}"
    );
    assert_eq!(left, 0);
    assert!(published >= 13);
    assert!(
        bus.calls()
            .iter()
            .all(|call| call["Entries"].as_array().map_or(0, Vec::len) <= 10)
    );
    let delivered = bus.delivered();
    for event in &delivered {
        assert_eq!(event["source"], "pgvigil");
        assert_eq!(event["detail-type"], "pgvigil.event.opened.v1", "{event}");
        assert_eq!(event["detail"]["target"], "default");
        assert!(
            !event.to_string().contains("eyJ"),
            "what people wrote stays: {event}"
        );
    }
    let details = details(delivered);
    let places: Vec<i64> = details.iter().filter_map(|d| d["place"].as_i64()).collect();
    assert!(
        places.len() == published && places.is_sorted(),
        "{places:?}"
    );
    let known = ask(
        &database,
        "select string_agg(dedup_key, ',' order by place) from monitoring.outbox",
    );
    assert_eq!(keys(&details).join(","), known);

    // What changed by another way than a sample is announced by the next one.
    ask(
        &database,
        "select monitoring.resolve_event((select id from monitoring_events where event_type = 'slow_query' limit 1), null)",
    );
    sample(&app, &database, 4).await;
    let resolved = bus.delivered_of("pgvigil.event.resolved.v1");
    assert_eq!(resolved.len(), 1, "{resolved:?}");
    sample(&app, &database, 3).await;
    assert_eq!(bus.delivered(), Vec::<Value>::new(), "nothing twice");
}

#[tokio::test]
async fn without_a_bus_the_outbox_is_kept_and_the_report_says_so() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    record(&database, "slow_query", 2);
    let report = sample(&app, &database, 5).await;
    let (published, left) = outbox(&database);
    assert_eq!(published, 0);
    assert!(left >= 2);
    assert_eq!(
        report["notifications"],
        json!({"published": 0, "failed": 0, "left": left, "reason": "EVENT_BUS_NAME is not set"})
    );
}

/// Two schedules, or one that delivers twice: each entry has one publisher.
#[tokio::test]
async fn two_samplers_share_the_outbox() {
    let database = plain().database();
    let bus = TestBus::new();
    let one = TestApp::announcing(&database, database.port(), &bus).await;
    let other = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "slow_query", 22);
    let (first, second) = (event(&database, 30), event(&database, 29));
    let (first, second) = tokio::join!(one.invoke(&first), other.invoke(&second));
    let mut has_failed = false;
    for report in [first, second] {
        let report = report.expect("sampling");
        has_failed |= report["notifications"]["failed"].as_u64() > Some(0);
    }
    // A bus that is slow may have taken what it was not heard to.
    for minutes_ago in (1..=28).rev() {
        if outbox(&database).1 == 0 {
            break;
        }
        let_rest(&database);
        has_failed |= sample(&one, &database, minutes_ago).await["notifications"]["failed"] != 0;
    }
    let details = details(bus.delivered());
    let distinct: BTreeSet<String> = keys(&details).into_iter().collect();
    assert!(
        has_failed || distinct.len() == details.len(),
        "nothing twice"
    );
    assert_eq!(outbox(&database), (distinct.len(), 0), "and nothing lost");
}

/// A day and an hour before a window, go as well as at risk, with the sample that found it due.
#[tokio::test]
async fn readiness_is_announced_once_for_each_mark() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    ask(
        &database,
        "insert into monitoring.critical_windows (starts_at, ends_at, label) values (now() + interval '20 hours', now() + interval '22 hours', 'wedding')",
    );
    let report = sample(&app, &database, 9).await;
    assert_eq!(report["readiness"]["status"], "done", "{report}");
    let told = bus.delivered_of("pgvigil.readiness.v1");
    assert_eq!(told.len(), 1, "{told:?}");
    let verdict = &report["readiness"]["verdict"];
    assert_eq!(
        (&told[0]["notice"], &told[0]["verdict"]),
        (&json!("day"), verdict)
    );
    assert_eq!(told[0]["window"]["label"], "wedding");
    assert!(told[0]["reasons"].is_array() && told[0]["dedup_key"].is_string());
    sample(&app, &database, 8).await;
    assert_eq!(bus.delivered_of("pgvigil.readiness.v1").len(), 0, "once");
    // The hour's mark was missed by twenty minutes, and is made up for.
    ask(
        &database,
        "update monitoring.critical_windows set starts_at = now() + interval '40 minutes', ends_at = now() + interval '3 hours'",
    );
    sample(&app, &database, 7).await;
    let told = bus.delivered_of("pgvigil.readiness.v1");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["notice"], "hour");
}

/// More than a target takes: what matters arrives, and says what is missing.
#[tokio::test]
async fn what_is_too_large_arrives_cut_down() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    ask(
        &database,
        "insert into monitoring.readiness_reports (window_id, notice, starts_at, ends_at, label, verdict, reasons)
         values (gen_random_uuid(), 'day', now(), now() + interval '1 hour', 'large', 'at_risk', jsonb_build_array(repeat('x', 300000)))",
    );
    sample(&app, &database, 5).await;
    let told = bus.delivered_of("pgvigil.readiness.v1");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["verdict"], &told[0]["target"], &told[0]["cut"]),
        (
            &json!("at_risk"),
            &json!("default"),
            &json!(["reasons", "window"])
        )
    );
    assert_eq!(outbox(&database).1, 0);
}
