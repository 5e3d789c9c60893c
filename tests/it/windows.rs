//! The hours that matter, and whether the database is ready for them.

mod calendar;
mod examples;
mod forecasts;
mod hostile;
mod reports;
mod rules;

use serde_json::{Value, json};

use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

const WINDOWS: &str = "/api/monitoring/windows";

fn new_window(
    starts_in_hours: i32,
    ends_in_hours: i32,
    label: &str,
    database: &TestDatabase,
) -> Value {
    let time = |hours: i32| {
        let sql = format!(
            "select to_char((now() + interval '{hours} hours') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        );
        let time = database.psql(SUPERUSER, &sql).expect("asking the time");
        time.trim().to_owned()
    };
    json!({"starts_at": time(starts_in_hours), "ends_at": time(ends_in_hours), "label": label})
}

async fn add(app: &TestApp, window: &Value) -> String {
    let answer = app
        .send(Request::post(WINDOWS, &window.to_string()).by("admin"))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["windowId"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn labels(app: &TestApp) -> Vec<String> {
    let answer = app.send(Request::get(WINDOWS, "").by("developer")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    let windows = body["data"]["windows"].as_array().expect("windows");
    windows
        .iter()
        .map(|window| window["label"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn windows_are_added_listed_and_removed() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert!(labels(&app).await.is_empty());
    let late = add(&app, &new_window(48, 50, "Sunday brunch", &database)).await;
    let wedding = new_window(20, 26, "Anna \u{1F470} & Ben's wedding", &database);
    let soon = add(&app, &wedding).await;
    add(&app, &new_window(-1, 1, "now", &database)).await;
    assert_eq!(
        labels(&app).await,
        ["now", "Anna \u{1F470} & Ben's wedding", "Sunday brunch"]
    );
    // The same one twice is one.
    assert_eq!(add(&app, &wedding).await, soon);
    let summary = app.get_as("developer", "query_type=summary").await.json();
    assert_eq!(summary["data"]["summary"]["window"]["label"], "now");
    let remove = |id: &str| {
        let request = Request::delete(WINDOWS, &format!("id={id}"));
        request.by("owner")
    };
    assert_eq!(app.send(remove(&late)).await.status, 200);
    assert_eq!(app.send(remove(&late)).await.status, 404);
    let answer = app.send(remove("everything")).await;
    assert_eq!(
        (answer.status, answer.detail().as_str()),
        (400, "id must be a UUID")
    );
    let answer = app.send(Request::new("DELETE", WINDOWS).by("owner")).await;
    assert_eq!(
        (answer.status, answer.detail().as_str()),
        (400, "id is required")
    );
    assert_eq!(labels(&app).await.len(), 2);
    // One that is over is not listed.
    database
        .psql(SUPERUSER, "update monitoring.critical_windows set starts_at = starts_at - interval '3 days', ends_at = ends_at - interval '3 days'")
        .expect("letting time pass");
    assert!(labels(&app).await.is_empty());
}

#[tokio::test]
async fn a_bad_window_is_named_and_nothing_is_kept() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let good = new_window(20, 26, "a wedding", &database);
    let far = new_window(20, 20 + 24 * 31 + 1, "", &database);
    let past = new_window(-3, -1, "", &database);
    for (field, value, detail) in [
        ("starts_at", json!(null), "starts_at is required"),
        (
            "starts_at",
            json!("tomorrow"),
            "starts_at must be a time with its zone",
        ),
        (
            "starts_at",
            json!("2025-06-07"),
            "starts_at must be a time with its zone",
        ),
        (
            "starts_at",
            json!("2025-02-30T00:00:00Z"),
            "starts_at and ends_at must be times that exist",
        ),
        ("starts_at", json!(17), "starts_at must be a string"),
        (
            "ends_at",
            good["starts_at"].clone(),
            "ends_at must be after starts_at",
        ),
        (
            "ends_at",
            far["ends_at"].clone(),
            "ends_at must be after starts_at, by 31 days at most",
        ),
        ("label", json!(" "), "label must have 1 to 200 characters"),
        (
            "label",
            json!("x".repeat(201)),
            "label must have 1 to 200 characters",
        ),
        (
            "label",
            json!("a\u{0}b"),
            "label must not hold a NUL character",
        ),
    ] {
        let mut window = good.clone();
        window[field] = value;
        let request = Request::post(WINDOWS, &window.to_string());
        let subject = crate::support::token::token(&window.to_string(), "admin", &json!({}));
        let answer = app.send(request.bearer(&subject)).await;
        assert_eq!(answer.status, 400, "{window}: {}", answer.text);
        assert!(
            answer.detail().starts_with(detail),
            "{window}: {}",
            answer.detail()
        );
    }
    let mut over = good.clone();
    over["starts_at"] = past["starts_at"].clone();
    over["ends_at"] = past["ends_at"].clone();
    let answer = app
        .send(Request::post(WINDOWS, &over.to_string()).by("admin"))
        .await;
    assert_eq!(
        (answer.status, answer.detail().as_str()),
        (400, "ends_at must be in the future")
    );
    assert!(labels(&app).await.is_empty());
}

#[tokio::test]
async fn only_admin_and_owner_change_windows() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let window = new_window(20, 26, "a wedding", &database).to_string();
    for (role, expected) in [
        ("admin", 201),
        ("owner", 201),
        ("developer", 403),
        ("service", 403),
        ("guest", 403),
    ] {
        let request = Request::post(WINDOWS, &window).by(role);
        assert_eq!(app.send(request).await.status, expected, "{role}");
        let unknown = "id=00000000-0000-4000-8000-000000000001";
        let request = Request::delete(WINDOWS, unknown).by(role);
        let expected = if expected == 201 { 404 } else { 403 };
        assert_eq!(app.send(request).await.status, expected, "{role}");
    }
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(app.send(Request::new(method, WINDOWS)).await.status, 401);
    }
}

async fn readiness(app: &TestApp, query: &str) -> Value {
    let answer = app
        .send(Request::get("/api/monitoring/readiness", query).by("developer"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

fn sample(database: &TestDatabase) {
    let sample =
        "delete from monitoring.samples; set role monitoring_agent; select monitoring.sample()";
    database.psql(SUPERUSER, sample).expect("taking a sample");
}

#[tokio::test]
async fn readiness_is_go_or_at_risk_and_says_why() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    // Nobody watches.
    let unwatched = readiness(&app, "").await;
    assert_eq!(
        (&unwatched["verdict"], &unwatched["window"]),
        (&json!("at_risk"), &json!(null))
    );
    assert_eq!(unwatched["reasons"][0]["check_id"], "sampler-gap");
    sample(&database);
    let go = readiness(&app, "").await;
    assert_eq!((&go["verdict"], &go["reasons"]), (&json!("go"), &json!([])));
    // The sampler has stopped.
    database
        .psql(
            SUPERUSER,
            "update monitoring.samples set sampled_at = now() - interval '4 minutes'",
        )
        .expect("letting time pass");
    assert_eq!(
        readiness(&app, "").await["reasons"][0]["check_id"],
        "sampler-gap"
    );
    // A table that everybody can read: critical, with evidence and remedy.
    database
        .psql(
            SUPERUSER,
            "create table guests (id int); grant select on guests to public",
        )
        .expect("creating a table");
    sample(&database);
    let at_risk = readiness(&app, "").await;
    assert_eq!(at_risk["verdict"], "at_risk");
    let reason = &at_risk["reasons"][0];
    assert_eq!(
        (&reason["check_id"], &reason["severity"], &reason["object"]),
        (
            &json!("rls-exposed"),
            &json!("critical"),
            &json!("public.guests")
        )
    );
    assert!(
        reason["evidence"]
            .as_str()
            .is_some_and(|text| text.contains("row-level security is off")),
        "{reason}"
    );
    assert!(
        reason["remedy"]
            .as_str()
            .is_some_and(|text| text.contains("enable row level security")),
        "{reason}"
    );
    // A warning is told, and does not stop anybody.
    database
        .psql(SUPERUSER, "revoke select on guests from public")
        .expect("revoking");
    let warned = readiness(&app, "").await;
    assert_eq!(
        (&warned["verdict"], &warned["reasons"][0]["severity"]),
        (&json!("go"), &json!("warning"))
    );
}

#[tokio::test]
async fn readiness_is_for_the_next_window_or_the_one_named() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let late = add(&app, &new_window(48, 50, "brunch", &database)).await;
    add(&app, &new_window(20, 26, "wedding", &database)).await;
    assert_eq!(readiness(&app, "").await["window"]["label"], "wedding");
    let named = readiness(&app, &format!("window={late}")).await;
    assert_eq!(
        (&named["window"]["label"], &named["window"]["is_open"]),
        (&json!("brunch"), &json!(false))
    );
    add(&app, &new_window(-1, 3, "now", &database)).await;
    let open = readiness(&app, "").await;
    assert_eq!(
        (&open["window"]["label"], &open["window"]["is_open"]),
        (&json!("now"), &json!(true))
    );
    for (query, status) in [
        ("window=00000000-0000-4000-8000-000000000001", 404),
        ("window=next", 400),
    ] {
        let answer = app
            .send(Request::get("/api/monitoring/readiness", query).by("admin"))
            .await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}
