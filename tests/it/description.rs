//! The API's description of itself is the truth: every route, every parameter, every answer.
//!
//! Every answer that any test gets through `TestApp` is validated against it as well.

use serde_json::{Value, json};

use crate::support::app::{Request, TestApp};
use crate::support::description::{DOCUMENT, breaches};
use crate::support::postgres::plain;

#[tokio::test]
async fn it_is_served_to_who_is_known() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let request = || Request::get("/api/monitoring/openapi.json", "");
    let answer = app.send(request().by("developer")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), *DOCUMENT);
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(app.send(request()).await.status, 401);
    assert_eq!(app.send(request().by("guest")).await.status, 403);
}

/// What is described is there, and what is not described is not.
#[tokio::test]
async fn its_routes_and_methods_are_those_there_are() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for (path, operations) in DOCUMENT["paths"].as_object().expect("paths") {
        let mut allowed = Vec::new();
        for method in [
            "GET", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", "HEAD", "TRACE",
        ] {
            let request = Request::new(method, path).by("admin");
            let status = app.send(request).await.status;
            let is_described = !operations[method.to_ascii_lowercase()].is_null();
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
            if is_described {
                allowed.push(method);
            }
        }
        let refused = app.send(Request::new("PATCH", path)).await;
        assert_eq!(refused.headers["allow"], allowed.join(", "), "{path}");
    }
}

/// Each value that is described is accepted, another is not.
#[tokio::test]
async fn its_parameters_are_those_there_are() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let parameters = &DOCUMENT["paths"]["/api/monitoring/performance"]["get"]["parameters"];
    let mut asked = 0;
    for parameter in parameters.as_array().expect("parameters") {
        let parameter = match parameter["$ref"].as_str() {
            Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')),
            None => Some(parameter),
        };
        let parameter = parameter.expect("a parameter");
        let name = parameter["name"].as_str().expect("a name");
        let schema = match parameter["schema"]["$ref"].as_str() {
            Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')),
            None => Some(&parameter["schema"]),
        };
        let schema = schema.expect("a schema");
        let others = match schema["type"] == "boolean" {
            true => vec![json!("true"), json!("false")],
            // Which databases there are, each installation knows; this one is always there.
            false => vec![schema["default"].clone()],
        };
        let values = schema["enum"].as_array().unwrap_or(&others);
        for value in values.iter().filter_map(Value::as_str) {
            let subject =
                crate::support::token::token(&format!("{name}{value}"), "admin", &json!({}));
            let request = Request::get("/api/monitoring/performance", &format!("{name}={value}"));
            assert_eq!(
                app.send(request.bearer(&subject)).await.status,
                200,
                "{name}={value}"
            );
            asked += 1;
        }
        let request = Request::get("/api/monitoring/performance", &format!("{name}=other"));
        let refused = app.send(request.by("admin")).await;
        assert_eq!(refused.status, 400);
        assert!(refused.detail().starts_with(name), "{}", refused.detail());
        // The error lists the same values.
        for value in values.iter().filter_map(Value::as_str) {
            assert!(
                refused.detail().contains(value),
                "{value}: {}",
                refused.detail()
            );
        }
    }
    assert_eq!(asked, 5 + 10 + 2 + 1);
}

/// A validator that finds nothing would make all of this worthless.
#[test]
fn a_breach_is_found() {
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let event = json!({"id": "8b7c0f5e-6a43-4c8b-9a53-2f0f6d6c2b11", "event_type": "slow_query", "severity": "low",
        "created_at": "2025-06-07T17:00:00+00:00", "resolved_at": null, "last_seen_at": "2025-06-07T17:00:00.5+00:00", "occurrences": 1});
    assert_eq!(breaches(&schema("Event"), &event), Vec::<String>::new());
    for (field, wrong) in [
        ("id", json!("7")),
        ("event_type", json!("other")),
        ("created_at", json!("2025-06-07 17:00:00")),
        ("created_at", json!(null)),
        ("occurrences", json!("1")),
        ("occurrences", json!(0)),
        ("unknown", json!(1)),
    ] {
        let mut event = event.clone();
        event[field] = wrong;
        assert_eq!(breaches(&schema("Event"), &event).len(), 1, "{event}");
    }
}
