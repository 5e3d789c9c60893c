//! A day and an hour before each window, its readiness is reported once.

use serde_json::{Value, json};

use super::calendar::ask;
use super::{add, new_window};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::plain;

async fn sample(app: &TestApp, database: &TestDatabase) -> Value {
    ask(database, "delete from monitoring.samples");
    app.task(json!({"task": "sample"})).await["readiness"].clone()
}

fn sooner(database: &TestDatabase, by: &str) {
    let sql = format!(
        "update monitoring.critical_windows set starts_at = starts_at - interval '{by}', ends_at = ends_at - interval '{by}'"
    );
    ask(database, &sql);
}

fn reports(database: &TestDatabase) -> String {
    ask(
        database,
        "select string_agg(label || ' ' || notice || ' ' || verdict, ', ' order by label, notice) from monitoring.readiness_reports",
    )
}

#[tokio::test]
async fn each_window_is_reported_a_day_and_an_hour_before() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    // One sample an invocation, also in the open window.
    ask(
        &database,
        "update monitoring.settings set value = '60' where key = 'window_sample_interval_seconds' returning key",
    );
    assert_eq!(sample(&app, &database).await, json!(null));
    add(&app, &new_window(-1, 30, "open", &database)).await;
    add(&app, &new_window(30, 32, "wedding", &database)).await;
    assert_eq!(sample(&app, &database).await, json!(null), "nothing is due");
    sooner(&database, "10 hours");
    assert_eq!(sample(&app, &database).await["verdict"], "go");
    assert_eq!(sample(&app, &database).await, json!(null), "once");
    assert_eq!(reports(&database), "wedding day go");
    assert_eq!(
        ask(&database, "select count(*) from monitoring_events"),
        "0"
    );

    // At risk is an event, one for all that is due.
    ask(
        &database,
        "create table guests (id int); grant select on guests to public",
    );
    add(&app, &new_window(1, 3, "another", &database)).await;
    sooner(&database, "19 hours 30 minutes");
    add(&app, &new_window(1, 2, "third", &database)).await;
    assert_eq!(sample(&app, &database).await["verdict"], "at_risk");
    assert_eq!(
        reports(&database),
        "third hour at_risk, wedding day go, wedding hour at_risk"
    );
    let event = "select severity, event_data ->> 'readiness', event_data ->> 'windows_due', event_data #>> '{reasons,0,check_id}' from monitoring_events
        where event_data ? 'readiness'";
    assert_eq!(ask(&database, event), "critical|at_risk|2|rls-exposed");
    assert_eq!(sample(&app, &database).await, json!(null), "once");

    // And can be looked up.
    let readiness = async |query: &str| {
        let request = Request::get("/api/monitoring/readiness", query).by("developer");
        app.send(request).await
    };
    assert_eq!(readiness("").await.json()["data"].get("reports"), None);
    let told = readiness("history=true").await.json();
    let told: Vec<_> = told["data"]["reports"]
        .as_array()
        .expect("reports")
        .iter()
        .collect();
    assert_eq!(told.len(), 3);
    assert_eq!(
        (&told[2]["label"], &told[2]["notice"], &told[2]["verdict"]),
        (&json!("wedding"), &json!("day"), &json!("go")),
        "the latest first"
    );
    assert_eq!(told[0]["reasons"][0]["check_id"], "rls-exposed");
    assert_eq!(readiness("history=all").await.status, 400);
}

/// That a window is at risk is one event, and it ends: when it is go again, or when the window is over.
#[tokio::test]
async fn at_risk_is_one_event_that_ends() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    ask(
        &database,
        "update monitoring.settings set value = '60' where key = 'window_sample_interval_seconds' returning key",
    );
    ask(
        &database,
        "create table guests (id int); grant select on guests to public",
    );
    let events = |database: &TestDatabase| {
        let sql = "select string_agg(concat_ws(' ', severity, occurrences, resolution_notes), ', ' order by created_at)
            from monitoring_events where event_data ? 'readiness'";
        ask(database, sql)
    };
    let later = |database: &TestDatabase| {
        ask(
            database,
            "update monitoring_events set last_seen_at = last_seen_at - interval '6 minutes', created_at = created_at - interval '6 minutes'",
        )
    };
    add(&app, &new_window(20, 22, "wedding", &database)).await;
    assert_eq!(sample(&app, &database).await["verdict"], "at_risk");
    assert_eq!(events(&database), "high 1");
    // An hour before: the same one, and worse.
    sooner(&database, "19 hours 30 minutes");
    assert_eq!(sample(&app, &database).await["verdict"], "at_risk");
    assert_eq!(events(&database), "critical 2");
    assert_eq!(sample(&app, &database).await, json!(null), "not each time");
    later(&database);
    assert_eq!(sample(&app, &database).await["verdict"], "at_risk");
    assert_eq!(events(&database), "critical 3");
    ask(&database, "drop table guests");
    later(&database);
    assert_eq!(sample(&app, &database).await["verdict"], "go");
    assert_eq!(
        events(&database),
        "critical 3 by itself: readiness is go again"
    );

    ask(
        &database,
        "create table guests (id int); grant select on guests to public",
    );
    add(&app, &new_window(20, 22, "another", &database)).await;
    assert_eq!(sample(&app, &database).await["verdict"], "at_risk");
    ask(
        &database,
        "update monitoring_events set event_data = jsonb_set(event_data, '{until}', to_jsonb(now() - interval '1 second')) where event_data ? 'readiness' and resolved_at is null",
    );
    assert_eq!(sample(&app, &database).await, json!(null));
    assert_eq!(
        events(&database),
        "critical 3 by itself: readiness is go again, high 1 by itself: the window is over"
    );
}

/// The sample is what must not be lost.
#[tokio::test]
async fn a_report_that_fails_costs_no_sample() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    add(&app, &new_window(20, 22, "wedding", &database)).await;
    ask(
        &database,
        "set role monitoring_owner; alter table monitoring.readiness_reports add constraint broken check (label = 'another')",
    );
    let report = app.task(json!({"task": "sample"})).await;
    assert_eq!(
        (&report["status"], &report["readiness"]["status"]),
        (&json!("done"), &json!("failed")),
        "{report}"
    );
    ask(
        &database,
        "alter function monitoring.due_reports() rename to not_due",
    );
    assert_eq!(sample(&app, &database).await, json!(null));
    assert_eq!(
        ask(&database, "select count(*) from monitoring.samples"),
        "1"
    );
}
