//! The bus fails: the sample does not, nothing is lost, and nothing is believed to be announced that was not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{details, keys, let_rest, outbox, record, sample};
use crate::cloudwatch::told;
use crate::support::app::TestApp;
use crate::support::bus::{Fault, SILENCE, TestBus};
use crate::support::postgres::plain;

fn failed(app: &TestApp) -> Value {
    let lines = app.metrics();
    told(lines.last().expect("a line"))["NotificationsFailed"].clone()
}

#[tokio::test]
async fn entries_that_fail_are_announced_by_the_next_sample() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "table_health", 3);
    record(&database, "connection_issue", 4);
    bus.fail_by(Fault::Entries("\"event_type\":\"table_health\""));
    let report = sample(&app, &database, 5).await;
    let notifications = &report["notifications"];
    assert_eq!(notifications["failed"], 3, "{report}");
    assert_eq!(
        (&notifications["left"], &notifications["problem"]),
        (&json!(3), &json!("InternalFailure"))
    );
    assert_eq!(failed(&app), json!(3));
    let first = details(bus.delivered());
    let issues = first
        .iter()
        .filter(|d| d["event_type"] == "connection_issue");
    assert_eq!(issues.count(), 4);
    assert!(
        first
            .iter()
            .all(|detail| detail["event_type"] != "table_health")
    );
    assert_eq!(outbox(&database), (first.len(), 3));

    bus.fail_by(Fault::None);
    let_rest(&database);
    let report = sample(&app, &database, 4).await;
    assert_eq!(report["notifications"]["failed"], 0, "{report}");
    assert_eq!(failed(&app), json!(0));
    let second = details(bus.delivered());
    let healths = second.iter().filter(|d| d["event_type"] == "table_health");
    assert_eq!(healths.count(), 3);
    let all: BTreeSet<String> = keys(&first).into_iter().chain(keys(&second)).collect();
    assert_eq!(all.len(), first.len() + second.len(), "nothing twice");
    assert_eq!(outbox(&database), (all.len(), 0), "nothing lost");
}

/// However it fails as a whole.
#[tokio::test]
async fn a_bus_that_fails_costs_little_time_and_no_announcement() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "slow_query", 12);
    let mut minutes_ago = 9;
    for (fault, problem) in [
        (
            Fault::Refusal(500, "InternalException"),
            "InternalException",
        ),
        (
            Fault::Refusal(400, "ThrottlingException"),
            "ThrottlingException",
        ),
        (
            Fault::Refusal(400, "AccessDeniedException"),
            "AccessDeniedException",
        ),
        (Fault::Nothing, "no answer for it"),
        (Fault::Closed, "no connection to EventBridge"),
        (Fault::Silence, "no answer in time"),
    ] {
        bus.fail_by(fault.clone());
        let_rest(&database);
        let started = Instant::now();
        let report = sample(&app, &database, minutes_ago).await;
        minutes_ago -= 1;
        let took = started.elapsed();
        assert!(took < SILENCE, "{fault:?}: {took:?}");
        assert_eq!(report["notifications"]["problem"], problem, "{fault:?}");
        assert_eq!(
            report["notifications"]["failed"], 10,
            "one batch is tried: {fault:?}"
        );
        assert_eq!(failed(&app), json!(10));
        assert_eq!(outbox(&database).0, 0, "{fault:?}");
        assert_eq!(bus.delivered(), Vec::<Value>::new(), "{fault:?}");
    }
    bus.fail_by(Fault::None);
    // As many samples as a slow endpoint needs for more than one batch.
    while outbox(&database).1 > 0 {
        assert!(minutes_ago >= 0, "{:?}", outbox(&database));
        let_rest(&database);
        sample(&app, &database, minutes_ago).await;
        minutes_ago -= 1;
    }
    let delivered = details(bus.delivered());
    let distinct: BTreeSet<String> = keys(&delivered).into_iter().collect();
    assert_eq!(distinct.len(), delivered.len());
    assert_eq!(outbox(&database), (delivered.len(), 0));
}

/// One entry of ten is at fault, and the call with it: the nine do not wait for ever, and the one is given up.
#[tokio::test]
async fn an_entry_that_is_refused_holds_nobody_back() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "table_health", 1);
    record(&database, "connection_issue", 8);
    bus.fail_by(Fault::Calls("\"event_type\":\"table_health\""));
    let mut minutes_ago = 50;
    let mut next = async || {
        minutes_ago -= 1;
        let_rest(&database);
        sample(&app, &database, minutes_ago).await["notifications"].clone()
    };
    let told = next().await;
    assert_eq!(told["published"], 0, "together: {told}");
    // Three times together, then each alone: the nine go out, and after eight times alone the one is given up.
    let mut given_up = 0;
    for _ in 0..30 {
        let told = next().await;
        given_up += told["given_up"].as_u64().unwrap_or_default();
        if told["left"] == 0 {
            break;
        }
    }
    assert_eq!(given_up, 1);
    let kept = "select string_agg(detail ->> 'event_type' || ' ' || last_error, ',') from monitoring.outbox where published_at is null and given_up_at is not null";
    assert_eq!(
        super::ask(&database, kept),
        "table_health ValidationException"
    );
    let delivered = details(bus.delivered());
    let distinct: BTreeSet<String> = keys(&delivered).into_iter().collect();
    assert!(distinct.len() >= 8);
    assert!(delivered.iter().all(|d| d["event_type"] != "table_health"));
    // And it stays so, also when the bus would take it.
    bus.fail_by(Fault::None);
    record(&database, "connection_issue", 1);
    while next().await["left"] != 0 {}
    let last = details(bus.delivered());
    assert!(last.iter().all(|d| d["event_type"] != "table_health"));
    assert!(last.iter().any(|d| d["event_type"] == "connection_issue"));
}

/// Delivered, and nobody knows: delivered again, under the same keys.
#[tokio::test]
async fn a_lost_answer_means_the_same_keys_again() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "slow_query", 2);
    bus.fail_by(Fault::LostAnswer);
    sample(&app, &database, 5).await;
    assert_eq!(outbox(&database).0, 0, "none is believed to be published");
    let first: BTreeSet<String> = keys(&details(bus.delivered())).into_iter().collect();
    assert!(first.len() >= 2);
    bus.fail_by(Fault::None);
    let_rest(&database);
    sample(&app, &database, 4).await;
    let again: BTreeSet<String> = keys(&details(bus.delivered())).into_iter().collect();
    assert!(first.is_subset(&again), "{first:?} {again:?}");
    assert_eq!(outbox(&database), (again.len(), 0));
}

/// The function dies between publishing and marking: what it had taken is taken again when its lease is over.
#[tokio::test]
async fn a_deadline_in_the_middle_loses_nothing() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    record(&database, "slow_query", 3);
    bus.fail_by(Fault::Silence);
    let started = Instant::now();
    let limit = Duration::from_secs(10);
    let report = app.invoke_within(&super::event(&database, 5), limit).await;
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    let report = report.expect("a sample whose announcements were given up");
    assert_eq!(report["status"], "done", "{report}");
    assert_eq!(outbox(&database).0, 0);
    bus.fail_by(Fault::None);
    let_rest(&database);
    sample(&app, &database, 4).await;
    assert_eq!(outbox(&database), (details(bus.delivered()).len(), 0));
}
