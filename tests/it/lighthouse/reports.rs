//! Reports that are none, or are hostile: a clear answer, and nothing is stored.

use serde_json::{Value, json};

use super::{PAGE, Project, report, rows, stored};
use crate::support::app::{Request, TestApp};
use crate::support::postgres::plain;

/// A report with one field changed, by its pointer.
fn with(pointer: &str, value: Value) -> String {
    let mut report = report();
    *report.pointer_mut(pointer).expect("a field") = value;
    report.to_string()
}

fn without(pointer: &str, name: &str) -> Value {
    let mut report = report();
    let object = report.pointer_mut(pointer).and_then(Value::as_object_mut);
    object.expect("an object").remove(name).expect("a field");
    report
}

/// What is no report, with what the answer says of it.
fn no_reports() -> Vec<(String, &'static str)> {
    let lcp = "/audits/largest-contentful-paint/numericValue";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let whole = report().to_string();
    let twice = whole.replacen('{', "{\"fetchTime\":\"2025-06-07T17:00:00Z\",", 1);
    let mut failed = report();
    failed["runtimeError"] = json!({"code": "NO_FCP", "message": "secret"});
    let mut empty = report();
    empty["audits"] = json!({});
    empty["categories"] = json!({"performance": {"score": null}});
    vec![
        (String::new(), "lhr is no JSON"),
        ("<html>".to_owned(), "lhr is no JSON"),
        ("null".to_owned(), "lhr is not"),
        ("[]".to_owned(), "lhr is not"),
        ("{}".to_owned(), "lhr is not"),
        (whole.replace('}', ""), "lhr is no JSON"),
        (format!("{whole} {{}}"), "lhr is no JSON"),
        (deep.clone(), "lhr is not"),
        (format!("{{\"audits\":{deep}}}"), "lhr is not"),
        (twice, "lhr is not"),
        (whole.replace("1400.5", "1e999"), "lhr is no JSON"),
        (whole.replace("1400.5", "NaN"), "lhr is no JSON"),
        (without("", "categories").to_string(), "lhr is not"),
        (without("", "audits").to_string(), "lhr is not"),
        (with("/categories", json!([])), "lhr is not"),
        (
            with("/categories/performance/score", json!("1")),
            "lhr is not",
        ),
        (
            with("/categories/performance/score", json!(1.01)),
            "performance",
        ),
        (
            with("/categories/accessibility/score", json!(-1)),
            "accessibility",
        ),
        (with(lcp, json!(-1)), "largest-contentful-paint"),
        (with(lcp, json!(1e12)), "largest-contentful-paint"),
        (with("/fetchTime", json!("yesterday")), "fetchTime"),
        (
            with("/fetchTime", json!("2999-01-01T00:00:00Z")),
            "fetchTime",
        ),
        (
            with("/fetchTime", json!("2025-02-31T00:00:00Z")),
            "refused a value",
        ),
        (
            with("/lighthouseVersion", json!("12\u{0}")),
            "lighthouseVersion",
        ),
        (
            with("/lighthouseVersion", json!("<script>")),
            "lighthouseVersion",
        ),
        (
            with("/configSettings/formFactor", json!("watch")),
            "formFactor",
        ),
        (failed.to_string(), "could not measure"),
        (empty.to_string(), "measured nothing"),
    ]
}

#[tokio::test]
async fn a_report_that_is_none_is_refused_and_nothing_is_stored() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let build = project.begin(&app, "main", "a1b2").await;
    let runs = format!("/builds/{build}/runs");
    for (lhr, named) in no_reports() {
        let body = json!({"url": PAGE, "lhr": lhr});
        let answer = project.post(&app, &runs, &body).await;
        let start: String = lhr.chars().take(80).collect();
        assert_eq!(answer.status, 400, "{start}: {}", answer.text);
        let detail = answer.detail();
        assert!(detail.contains(named), "{start}: {detail}");
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    for url in [
        "",
        "guests",
        "file:///etc/passwd",
        "https://",
        "https://shop\u{0}",
        "javascript:alert(1)",
    ] {
        let answer = project.add_run(&app, &build, url, &report()).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text);
        assert!(answer.detail().starts_with("url"), "{}", answer.detail());
    }
    for body in [
        json!({"url": PAGE}),
        json!({"lhr": "{}"}),
        json!({"url": 1, "lhr": "{}"}),
        json!({"url": PAGE, "lhr": {}}),
        json!([]),
    ] {
        let answer = project.post(&app, &runs, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert_eq!(answer.problem(), "invalid_body", "{body}");
    }
    assert_eq!(stored(&database), "1|0");
}

#[tokio::test]
async fn a_body_over_5_mb_is_too_large_and_one_below_is_read() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let build = project.begin(&app, "main", "a1b2").await;
    let padded = |size: usize| {
        let mut padded = report();
        padded["fullPageScreenshot"] = json!({"data": "x".repeat(size)});
        padded
    };
    let most = 5 * 1024 * 1024;
    let answer = project.add_run(&app, &build, PAGE, &padded(most)).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "payload_too_large")
    );
    assert!(answer.detail().contains("5 MB"), "{}", answer.detail());
    assert_eq!(stored(&database), "1|0");
    let below = padded(most - 4096);
    let run = project.add_run(&app, &build, PAGE, &below).await;
    assert_eq!(run.status, 201, "{}", run.text);
    // What is no run has the limit of every other body.
    let large = json!({"branch": "main", "hash": "a1", "commitMessage": "x".repeat(256 * 1024)});
    let answer = project.post(&app, "/builds", &large).await;
    assert_eq!(answer.status, 413);
    assert!(answer.detail().contains("256 kB"), "{}", answer.detail());
    let runs = project.path(&format!("/builds/{build}/runs"));
    let typed = project
        .signed(Request::post(&runs, "{}"))
        .header("content-type", "text/plain");
    assert_eq!(app.send(typed).await.status, 415);
}

/// Where a category was not asked for, or Lighthouse could not score it, there is no number, and no budget of it is broken.
#[tokio::test]
async fn what_was_not_measured_is_null() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let mut partial = without("/categories", "accessibility");
    partial["categories"]["seo"]["score"] = Value::Null;
    partial["audits"] = json!({"largest-contentful-paint": {"score": null}});
    partial["configSettings"] = json!({"formFactor": "desktop", "throttling": {"rttMs": 40}});
    let build = project.upload(&app, "main", "a1b2", &partial).await;
    let kept = "select performance, accessibility, seo, lcp_ms, form_factor, breaches from monitoring.lighthouse_runs";
    assert_eq!(rows(&database, kept), "0.97||||desktop|[]");
    let verdict = project.verdict(&app, &build).await;
    assert_eq!(verdict["pages"][0]["within_budget"], true, "{verdict}");
}
