//! How the monitor judges, changed over HTTP: suppressions and thresholds.

use serde_json::{Value, json};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::token::token;

const SUPPRESSIONS: &str = "/api/monitoring/suppressions";
const THRESHOLDS: &str = "/api/monitoring/thresholds";
const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

fn in_days(days: i32, database: &TestDatabase) -> String {
    let sql = format!(
        "select to_char((now() + interval '{days} days') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    );
    let time = database.psql(SUPERUSER, &sql).expect("asking the time");
    time.trim().to_owned()
}

async fn post(app: &TestApp, path: &str, body: &Value, role: &str) -> Answer {
    // Ten a minute are let through for one subject.
    let subject = token(&format!("{role} {body}"), role, &json!({}));
    app.send(Request::post(path, &body.to_string()).bearer(&subject))
        .await
}

async fn data(app: &TestApp, path: &str) -> Value {
    let answer = app.send(Request::get(path, "").by("developer")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

async fn finding(app: &TestApp) -> Option<Value> {
    let summary = app.get_as("developer", "query_type=summary").await.json();
    let findings = summary["data"]["summary"]["findings"].as_array();
    let of_table = |finding: &&Value| {
        finding["object"] == "public.guests" && finding["check_id"] == "rls-exposed"
    };
    findings.and_then(|all| all.iter().find(of_table).cloned())
}

#[tokio::test]
async fn a_finding_is_suppressed_until_it_is_not() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    database
        .psql(
            SUPERUSER,
            "create table guests (id int); grant select on guests to public",
        )
        .expect("creating a table");
    let seen = finding(&app).await.expect("a finding");
    let body = json!({"fingerprint": seen["fingerprint"], "reason": " planned for June ", "until": in_days(30, &database)});
    let answer = post(&app, SUPPRESSIONS, &body, "admin").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(finding(&app).await, None);
    let mut again = body.clone();
    again["reason"] = json!("<b>July</b>");
    assert_eq!(post(&app, SUPPRESSIONS, &again, "owner").await.status, 201);
    let listed = data(&app, SUPPRESSIONS).await;
    let listed = listed["suppressions"].as_array().expect("suppressions");
    let of_finding = |row: &&Value| row["fingerprint"] == seen["fingerprint"];
    let of_finding: Vec<&Value> = listed.iter().filter(of_finding).collect();
    assert_eq!(of_finding.len(), 1, "the same one twice is one");
    assert_eq!(of_finding[0]["reason"], "<b>July</b>");
    let end = |fingerprint: &str| {
        Request::delete(SUPPRESSIONS, &format!("fingerprint={fingerprint}")).by("owner")
    };
    let fingerprint = seen["fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(app.send(end(fingerprint)).await.status, 200);
    assert_eq!(app.send(end(fingerprint)).await.status, 404);
    assert_eq!(app.send(end("everything")).await.status, 404);
    let without = app
        .send(Request::new("DELETE", SUPPRESSIONS).by("owner"))
        .await;
    assert_eq!(
        (without.status, without.detail().as_str()),
        (400, "fingerprint is required")
    );
    assert!(finding(&app).await.is_some());
}

#[tokio::test]
async fn a_bad_suppression_is_named_and_nothing_is_kept() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let before = data(&app, SUPPRESSIONS).await;
    let good =
        json!({"fingerprint": FINGERPRINT, "reason": "known", "until": in_days(1, &database)});
    for (field, value, detail) in [
        ("fingerprint", json!(null), "fingerprint is required"),
        (
            "fingerprint",
            json!("*"),
            "fingerprint must be that of a finding",
        ),
        ("fingerprint", json!(7), "fingerprint must be a string"),
        ("reason", json!(null), "reason is required"),
        ("reason", json!(" "), "reason must have 1 to 500 characters"),
        (
            "reason",
            json!("x".repeat(501)),
            "reason must have 1 to 500 characters",
        ),
        (
            "reason",
            json!("a\u{0}b"),
            "reason must not hold a NUL character",
        ),
        ("until", json!(null), "until is required"),
        (
            "until",
            json!("infinity"),
            "until must be a time with its zone",
        ),
        (
            "until",
            json!("2025-02-30T00:00:00Z"),
            "until must be a time that exists",
        ),
        (
            "until",
            json!(in_days(-1, &database)),
            "until must be in the future",
        ),
        (
            "until",
            json!(in_days(400, &database)),
            "until must be in the future, by 366 days at most",
        ),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = post(&app, SUPPRESSIONS, &body, "admin").await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(
            answer.detail().starts_with(detail),
            "{body}: {}",
            answer.detail()
        );
    }
    for role in ["developer", "service", "guest"] {
        assert_eq!(
            post(&app, SUPPRESSIONS, &good, role).await.status,
            403,
            "{role}"
        );
        let end = Request::delete(SUPPRESSIONS, &format!("fingerprint={FINGERPRINT}")).by(role);
        assert_eq!(app.send(end).await.status, 403, "{role}");
    }
    assert_eq!(data(&app, SUPPRESSIONS).await, before);
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(
            app.send(Request::new(method, SUPPRESSIONS)).await.status,
            401
        );
    }
}

#[tokio::test]
async fn thresholds_are_listed_and_set() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let listed = data(&app, THRESHOLDS).await;
    let listed = listed["thresholds"].as_array().expect("thresholds");
    let count = database
        .psql(SUPERUSER, "select count(*) from monitoring.checks")
        .expect("counting");
    assert_eq!(listed.len().to_string(), count.trim());
    let body = json!({"check_id": "rls-exposed", "warning": 1.5, "critical": 9});
    let answer = post(&app, THRESHOLDS, &body, "admin").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let listed = data(&app, THRESHOLDS).await;
    let of_check = listed["thresholds"]
        .as_array()
        .and_then(|all| all.iter().find(|t| t["check_id"] == "rls-exposed").cloned());
    let of_check = of_check.expect("the check");
    assert_eq!(
        (&of_check["warning"], &of_check["critical"]),
        (&json!(1.5), &json!(9))
    );
    // It is judged by it.
    database
        .psql(SUPERUSER, "create table guests (id int)")
        .expect("creating a table");
    assert_eq!(finding(&app).await, None, "its value is 1");
}

#[tokio::test]
async fn a_bad_threshold_is_named_and_nothing_is_changed() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let before = data(&app, THRESHOLDS).await;
    let good = json!({"check_id": "rls-exposed", "warning": 1, "critical": 2});
    for (field, value, status, detail) in [
        ("check_id", json!(null), 400, "check_id is required"),
        (
            "check_id",
            json!(["rls-exposed"]),
            400,
            "check_id must be a string",
        ),
        (
            "check_id",
            json!("everything"),
            404,
            "there is no check everything",
        ),
        ("warning", json!(null), 400, "warning is required"),
        ("warning", json!("1"), 400, "warning must be a number"),
        ("warning", json!(-1), 400, "warning must be 0 or more"),
        (
            "warning",
            json!(3),
            400,
            "warning must be 0 or more, and critical not less",
        ),
        ("critical", json!(1e300), 400, "warning must be 0 or more"),
        ("critical", json!(true), 400, "critical must be a number"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = post(&app, THRESHOLDS, &body, "admin").await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(
            answer.detail().starts_with(detail),
            "{body}: {}",
            answer.detail()
        );
    }
    for role in ["developer", "service", "guest"] {
        assert_eq!(
            post(&app, THRESHOLDS, &good, role).await.status,
            403,
            "{role}"
        );
    }
    for method in ["GET", "POST"] {
        assert_eq!(app.send(Request::new(method, THRESHOLDS)).await.status, 401);
    }
    assert_eq!(data(&app, THRESHOLDS).await, before);
}
