//! A day and an hour before each window, its readiness is reported once.

use serde_json::{Value, json};

use super::calendar::ask;
use super::{add, new_window};
use crate::support::app::TestApp;
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
