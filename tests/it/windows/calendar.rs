//! A calendar view that errors, is slow, or lies.

use serde_json::{Value, json};

use super::{WINDOWS, readiness};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

pub(super) fn ask(database: &TestDatabase, sql: &str) -> String {
    let answer = database.psql(SUPERUSER, sql);
    let answer = answer.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    answer.trim().to_owned()
}

/// A view of the application's own, which the monitor may read.
fn calendar(database: &TestDatabase, select: &str) {
    let sql = format!(
        "create schema if not exists business; drop view if exists business.hours; create view business.hours as {select};
         grant usage on schema business to monitoring_calendar; grant select on business.hours to monitoring_calendar;
         update monitoring.settings set value = '\"business.hours\"' where key = 'calendar_view'"
    );
    ask(database, &sql);
}

/// Lets five minutes pass, takes a sample, and answers what it reports of the calendar.
pub(super) async fn refresh(app: &TestApp, database: &TestDatabase) -> Value {
    ask(
        database,
        "delete from monitoring.samples; update monitoring.calendar_status set tried_at = tried_at - interval '6 minutes'",
    );
    let report = app.task(json!({"task": "sample"})).await;
    assert_eq!(report["status"], "done", "{report}");
    assert!(report.get("due").is_none(), "{report}");
    report["calendar"].clone()
}

fn hours(from: &str, to: &str, label: &str) -> String {
    format!(
        "select ({from})::timestamptz as starts_at, ({to})::timestamptz as ends_at, ({label})::text as label"
    )
}

const GOOD: (&str, &str) = ("now() + interval '2 hours'", "now() + interval '3 hours'");

#[tokio::test]
async fn what_the_calendar_says_is_windows_like_others() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_eq!(refresh(&app, &database).await, json!(null), "none is set");
    calendar(
        &database,
        &(hours(
            "now() - interval '1 hour'",
            "now() + interval '1 hour'",
            "'<b>now</b>'",
        ) + " union all "
            + &hours(GOOD.0, GOOD.1, "'soon'")),
    );
    let told = refresh(&app, &database).await;
    assert_eq!(
        (
            &told["status"],
            &told["windows"],
            &told["problem"],
            &told["refused"]
        ),
        (&json!("done"), &json!(2), &json!(null), &json!(null))
    );
    // Not again within five minutes.
    ask(&database, "delete from monitoring.samples");
    assert!(
        app.task(json!({"task": "sample"}))
            .await
            .get("calendar")
            .is_none()
    );

    let answer = app
        .send(Request::get(WINDOWS, "").by("developer"))
        .await
        .json();
    let windows = answer["data"]["windows"].as_array().expect("windows");
    let told: Vec<_> = windows
        .iter()
        .map(|w| (&w["label"], &w["source"], &w["is_open"], &w["is_lead"]))
        .collect();
    let calendar_word = json!("calendar");
    let (yes, no) = (json!(true), json!(false));
    let (now, soon) = (json!("<b>now</b>"), json!("soon"));
    assert_eq!(
        told,
        [
            (&now, &calendar_word, &yes, &no),
            (&soon, &calendar_word, &no, &no)
        ]
    );
    assert_eq!(answer["data"]["calendar"]["view"], "business.hours");
    let id = windows[1]["id"].as_str().expect("an id");
    let named = readiness(&app, &format!("window={id}")).await;
    assert_eq!(named["window"]["label"], "soon");
    let remove = Request::delete(WINDOWS, &format!("id={id}")).by("admin");
    assert!(
        app.send(remove)
            .await
            .detail()
            .starts_with("id is of a window of the calendar")
    );
    let summary = app.get_as("developer", "query_type=summary").await.json();
    assert_eq!(summary["data"]["summary"]["window"]["label"], "<b>now</b>");

    // The same rows keep their ids; without the setting they are gone, at once.
    let before = ask(
        &database,
        "select array_agg(label order by label) from monitoring.calendar_windows",
    );
    refresh(&app, &database).await;
    assert_eq!(
        before,
        ask(
            &database,
            "select array_agg(label order by label) from monitoring.calendar_windows"
        )
    );
    ask(
        &database,
        "update monitoring.settings set value = 'null' where key = 'calendar_view'",
    );
    assert_eq!(readiness(&app, "").await["window"], json!(null));
    refresh(&app, &database).await;
    assert_eq!(
        ask(
            &database,
            "select count(*) from monitoring.calendar_windows"
        ),
        "0"
    );
}

/// What it said last stays in force, the cause is told, and no word of the view's own is.
#[tokio::test]
async fn a_view_that_fails_costs_no_window() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    calendar(&database, &hours(GOOD.0, GOOD.1, "'kept'"));
    assert_eq!(refresh(&app, &database).await["status"], "done");
    ask(
        &database,
        "create function business.fails() returns text language plpgsql as
           $$ begin raise exception 'guest Anna Smith is in room 7'; end $$;
         create function business.asserts() returns text language plpgsql as $$ begin assert false, 'Anna Smith'; end $$;
         create function business.recurses() returns text language plpgsql as $$ begin return business.recurses(); end $$",
    );
    for (select, problem) in [
        (hours(GOOD.0, GOOD.1, "(1 / 0)"), "SQLSTATE 22012"),
        (hours("'half past four'", GOOD.1, "'x'"), "SQLSTATE 22007"),
        (hours(GOOD.0, GOOD.1, "business.fails()"), "SQLSTATE P0001"),
        (
            hours(GOOD.0, GOOD.1, "business.asserts()"),
            "SQLSTATE P0004",
        ),
        (
            hours(GOOD.0, GOOD.1, "business.recurses()"),
            "SQLSTATE 54001",
        ),
        (
            "select now() as starts_at, now() as ends_at".to_owned(),
            "its columns must be",
        ),
        (
            "select now()::timestamp as starts_at, now() as ends_at, 'x'::text as label".to_owned(),
            "its columns must be",
        ),
    ] {
        // A literal that is no time fails while the view is made.
        let select = select.replace("'half past four'", "(select 'half past ' || 4)");
        calendar(&database, &select);
        let told = refresh(&app, &database).await;
        assert_eq!(told["status"], "failed", "{select}: {told}");
        let words = told["problem"].as_str().unwrap_or_default();
        assert!(words.contains(problem), "{select}: {words}");
        assert!(
            !words.contains("Anna") && !words.contains("half past"),
            "{words}"
        );
        let ready = readiness(&app, "").await;
        assert_eq!(ready["window"]["label"], "kept", "{ready}");
        let reasons = ready["reasons"].as_array().expect("reasons");
        let reason = reasons
            .iter()
            .find(|reason| reason["check_id"] == "critical-windows");
        let evidence = &reason.expect("the calendar's reason")["evidence"];
        assert!(
            evidence
                .as_str()
                .is_some_and(|text| text.contains(problem) && text.contains("stays in force")),
            "{evidence}"
        );
        assert_eq!(
            ready["degraded"].as_array().and_then(|all| all.last()),
            Some(evidence)
        );
        assert_eq!(ready["verdict"], "go", "of itself it stops nobody: {ready}");
    }
    // Nor does a warning of its own get into our log.
    calendar(
        &database,
        &hours(GOOD.0, GOOD.1, "current_setting('client_min_messages')"),
    );
    assert_eq!(refresh(&app, &database).await["status"], "done");
    assert_eq!(readiness(&app, "").await["window"]["label"], "error");
    calendar(&database, &hours(GOOD.0, GOOD.1, "'kept'"));
    assert_eq!(refresh(&app, &database).await["status"], "done");
    calendar(&database, &hours(GOOD.0, GOOD.1, "'not seen'"));
    ask(
        &database,
        "revoke select on business.hours from monitoring_calendar",
    );
    let told = refresh(&app, &database).await;
    assert!(
        told["problem"].as_str().is_some_and(
            |text| text.contains("grant select on business.hours to monitoring_calendar")
        ),
        "{told}"
    );
    ask(&database, "drop view business.hours");
    assert_eq!(
        refresh(&app, &database).await["problem"],
        "there is no such view"
    );
    ask(&database, "drop schema business cascade");
    assert_eq!(
        refresh(&app, &database).await["problem"],
        "there is no such view"
    );
    assert_eq!(readiness(&app, "").await["window"]["label"], "kept");
}

#[tokio::test]
async fn a_view_that_is_slow_is_stopped() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    ask(
        &database,
        "update monitoring.settings set value = '1500' where key = 'calendar_time_limit_ms'",
    );
    calendar(&database, &hours(GOOD.0, GOOD.1, "'kept'"));
    assert_eq!(refresh(&app, &database).await["status"], "done");
    calendar(&database, &hours(GOOD.0, GOOD.1, "pg_sleep(600)"));
    let started = std::time::Instant::now();
    let told = refresh(&app, &database).await;
    assert_eq!(
        told["problem"],
        "it took longer than calendar_time_limit_ms"
    );
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    assert_eq!(readiness(&app, "").await["window"]["label"], "kept");
    // Of far too many rows, as far as there is time to read them, a thousand are kept.
    ask(
        &database,
        "update monitoring.settings set value = '10000' where key = 'calendar_time_limit_ms'",
    );
    calendar(
        &database,
        "select now() + n * interval '1 second' as starts_at, now() + (n + 9) * interval '1 second' as ends_at, 'row ' || n as label
         from generate_series(1, 200000) n",
    );
    let told = refresh(&app, &database).await;
    assert_eq!(
        (&told["status"], &told["refused"]),
        (&json!("done"), &json!("all after the first 1000")),
        "{told}"
    );
    assert_eq!(
        ask(
            &database,
            "select count(*) from monitoring.calendar_windows"
        ),
        "1000"
    );
}

/// Code can catch the cancellation and go on. Nobody waits for it, and no second one is started beside it.
#[tokio::test]
async fn a_view_that_does_not_stop_when_told_to_is_left_alone() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    ask(
        &database,
        "update monitoring.settings set value = '100' where key = 'calendar_time_limit_ms';
         create schema business;
         create function business.clings() returns text language plpgsql as $$
           begin
             loop
               begin perform pg_sleep(1000); exception when query_canceled then null; end;
             end loop;
           end $$",
    );
    calendar(&database, &hours(GOOD.0, GOOD.1, "business.clings()"));
    let told = refresh(&app, &database).await;
    assert_eq!(told["status"], "failed", "{told}");
    let clinging = "select count(*) from pg_stat_activity where datname = current_database()
        and query like 'select monitoring.refresh\\_calendar()%' and state = 'active'";
    assert_eq!(ask(&database, clinging), "1");
    // The request after it is answered, by another connection.
    assert_eq!(
        app.get_as("developer", "query_type=summary").await.status,
        200
    );
    crate::support::wait::wait_until("it has gone on for five seconds", async || {
        refresh(&app, &database).await == json!(null)
    })
    .await;
    let ready = readiness(&app, "").await;
    assert!(
        ready["degraded"]
            .to_string()
            .contains("select pg_terminate_backend("),
        "{ready}"
    );
    ask(
        &database,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'select monitoring.refresh\\_calendar()%'",
    );
}

#[tokio::test]
async fn rows_that_are_no_windows_are_left_out_and_told() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let rows = [
        hours("null", GOOD.1, "'no beginning'"),
        hours(GOOD.0, "null", "'no end'"),
        hours("null", "null", "'nothing'"),
        hours("'-infinity'", "'infinity'", "'always'"),
        hours(GOOD.1, GOOD.0, "'backwards'"),
        hours(GOOD.0, GOOD.0, "'no time at all'"),
        hours(
            "now() - interval '1 day'",
            "now() + interval '1 year'",
            "'a year'",
        ),
        hours(GOOD.0, "'294276-12-31 23:59Z'", "'the end of days'"),
        hours("'4714-11-24 00:00Z BC'", GOOD.1, "'from the first day on'"),
        // Not of interest.
        hours("'infinity'", "'infinity'", "'never'"),
        hours(
            "now() - interval '2 hours'",
            "now() - interval '1 hour'",
            "'over'",
        ),
        hours(
            "'4714-11-24 00:00Z BC'",
            "'4713-01-01 00:00Z BC'",
            "'long over'",
        ),
        hours(
            "now() + interval '61 days'",
            "now() + interval '62 days'",
            "'later'",
        ),
        hours(GOOD.0, GOOD.1, "repeat('<script>', 130000)"),
        hours(GOOD.0, GOOD.1, "E'two\\n\\x1b[31mlines'"),
        hours(GOOD.0, GOOD.1, "null"),
        hours(GOOD.0, GOOD.1, "'twice'"),
        hours(GOOD.0, GOOD.1, "'twice'"),
    ];
    calendar(&database, &rows.join(" union all "));
    let told = refresh(&app, &database).await;
    assert_eq!(
        (&told["status"], &told["refused"]),
        (
            &json!("done"),
            &json!(
                "2 ending before they start, 1 infinite, 3 longer than 31 days, 3 without a time"
            )
        ),
        "{told}"
    );
    let mut labels = super::labels(&app).await;
    labels.sort();
    let markup = "<script>".repeat(25);
    assert_eq!(
        labels,
        [markup.as_str(), "twice", "two [31mlines", "without a label"]
    );
    let ready = readiness(&app, "").await;
    assert!(
        ready["degraded"].to_string().contains("3 without a time"),
        "{ready}"
    );
}

/// It is named with its schema, as one view.
#[test]
fn a_setting_that_names_no_view_is_refused() {
    let database = plain().database();
    for value in [
        "17",
        "\"\"",
        "\"hours\"",
        "\"a.b.c\"",
        "\"a.b; drop table x\"",
        "[\"a.b\"]",
        "\"a.b c\"",
    ] {
        let sql =
            format!("update monitoring.settings set value = '{value}' where key = 'calendar_view'");
        assert!(database.psql(SUPERUSER, &sql).is_err(), "{value}");
    }
    for value in ["\"a.b\"", "\"\\\"A b\\\".\\\"c.d\\\"\"", "null"] {
        ask(
            &database,
            &format!(
                "update monitoring.settings set value = '{value}' where key = 'calendar_view'"
            ),
        );
    }
}
