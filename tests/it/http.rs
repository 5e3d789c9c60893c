//! The API: every route and query type, every way to ask wrongly, through the gateways' own formats.

use serde_json::{Value, json};

use crate::support::app::{Answer, Request, SUBJECT, TestApp};
use crate::support::postgres::{SUPERUSER, plain, supabase};
use crate::support::templates::MONITOR;
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

const PERFORMANCE: &str = "/api/monitoring/performance";

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect()
}

#[tokio::test]
async fn each_query_type_answers_its_section_and_the_recent_events() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let app = TestApp::new(&database).await;
        for (query_type, section) in [
            ("summary", "summary"),
            ("slow", "slowQueries"),
            ("connections", "connections"),
            ("tables", "tableHealth"),
            ("rls", "rlsStatus"),
            ("statements", "statements"),
            ("locks", "locks"),
            ("trends", "trends"),
            ("events", "recentEvents"),
        ] {
            let answer = app
                .get_as("developer", &format!("query_type={query_type}"))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let body = answer.json();
            let mut expected = vec![section, "recentEvents"];
            expected.sort_unstable();
            expected.dedup();
            let mut found = keys(&body["data"]);
            found.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(body["metadata"]["queryType"], query_type);
            assert_eq!(body["metadata"]["degraded"], json!([]));
        }
        let all = app.get_as("admin", "").await.json();
        assert_eq!(keys(&all["data"]).len(), 9);
        assert_eq!(all["metadata"]["queryType"], "all");
        assert_eq!(all["metadata"]["timeRange"], "1h");
        assert_eq!(all["metadata"]["includeDetails"], false);
        assert!(
            all["metadata"]["responseTime"].is_u64() && all["metadata"]["timestamp"].is_string()
        );
        assert_eq!(all["data"]["summary"]["health_score"], 100);
    }
}

#[tokio::test]
async fn answers_are_never_cached() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let answer = app.get_as("admin", "query_type=events").await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

/// An HTTP API decodes base64; a REST API would hand it on as it is, and has a compression of its own.
#[tokio::test]
async fn a_large_answer_is_compressed_for_who_accepts_it() {
    let database = plain().database();
    let tables = "do $$ begin for n in 1..20 loop execute format('create table guests_%s (id int)', n); end loop; end $$";
    database.psql(SUPERUSER, tables).expect("creating tables");
    let app = TestApp::new(&database).await;
    let send = async |accept: &str, is_rest: bool| {
        let request = Request::get("/api/monitoring/performance", "")
            .by("admin")
            .header("accept-encoding", accept);
        let mut event = request.event();
        if is_rest {
            event["httpMethod"] = event["requestContext"]["http"]["method"].take();
            event["requestContext"] = json!({});
            event["path"] = event["rawPath"].take();
        }
        let answer = app.invoke(&event).await.expect("answering");
        let headers = &answer["headers"];
        let body = answer["body"].as_str().unwrap_or_default().len();
        (
            headers["content-encoding"].clone(),
            headers["vary"].clone(),
            Answer::from_gateway(&answer),
            body,
        )
    };
    let (encoding, vary, answer, compressed) = send("br, gzip", false).await;
    assert_eq!((encoding, vary), (json!("gzip"), json!("Accept-Encoding")));
    assert!(answer.json()["data"]["summary"]["health_score"].is_u64());
    let (encoding, vary, answer, plain) = send("identity", false).await;
    assert_eq!((encoding, vary), (Value::Null, json!("Accept-Encoding")));
    assert!(answer.json()["data"]["summary"]["health_score"].is_u64());
    assert!(compressed * 2 < plain, "{compressed} of {plain}");
    let (encoding, _, answer, _) = send("gzip", true).await;
    assert_eq!(encoding, Value::Null);
    assert!(answer.json()["data"]["summary"]["health_score"].is_u64());
    // A small one is not worth it.
    let health = Request::get("/api/monitoring/health", "").header("accept-encoding", "gzip");
    assert!(
        !app.send(health)
            .await
            .headers
            .contains_key("content-encoding")
    );
}

#[tokio::test]
async fn a_slow_query_and_an_unprotected_table_are_in_the_answer() {
    let database = plain().database();
    database
        .psql(
            SUPERUSER,
            "create table guests (id int); grant select on guests to public",
        )
        .expect("creating a table");
    let app = TestApp::new(&database).await;
    let [holder, waiter] = Workload::lock_queue(&database, "guests").await;
    wait_until("it has waited", async || {
        !app.get_as("admin", "query_type=slow").await.json()["data"]["slowQueries"]
            .as_array()
            .is_none_or(Vec::is_empty)
    })
    .await;
    let body = app.get_as("admin", "").await.json();
    let slow = &body["data"]["slowQueries"][0];
    assert_eq!(
        (&slow["pid"], &slow["blocked_by"]),
        (&json!(waiter.pid), &json!([holder.pid]))
    );
    let table = &body["data"]["rlsStatus"][0];
    assert_eq!(
        (&table["tablename"], &table["security_risk_level"]),
        (&json!("guests"), &json!("HIGH_RISK"))
    );
    assert!(body["data"]["summary"]["health_score"].as_u64() < Some(100));
}

/// `include_details` shows people, and only to admin and owner.
#[tokio::test]
async fn names_are_for_admin_and_owner_who_ask() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let _slow = Workload::running(
        &database,
        database.superuser().await,
        "select pg_sleep(600)",
    )
    .await;
    app.post_as(
        "admin",
        &json!({"action": "record_event", "event_type": "slow_query", "event_data": {}}),
    )
    .await;
    wait_until("it is slow", async || {
        app.get_as("admin", "query_type=slow")
            .await
            .text
            .contains("pg_sleep")
    })
    .await;
    for (role, query, shows) in [
        ("admin", "include_details=true&query_type=slow", true),
        ("OWNER", "include_details=true&query_type=slow", true),
        ("developer", "include_details=true&query_type=slow", false),
        ("service", "include_details=true&query_type=slow", false),
        ("admin", "query_type=slow", false),
    ] {
        let body = app.get_as(role, query).await.json();
        let slow = &body["data"]["slowQueries"][0];
        let event = &body["data"]["recentEvents"][0];
        for name in ["username", "client_addr"] {
            assert_eq!(
                slow.get(name).is_some(),
                shows,
                "{name} for {role}, {query}: {slow}"
            );
        }
        for name in ["source_ip", "user_agent"] {
            assert_eq!(
                event.get(name).is_some(),
                shows,
                "{name} for {role}, {query}: {event}"
            );
        }
        assert!(event.get("event_data").is_none() && event.get("user_id").is_none());
    }
}

#[tokio::test]
async fn rows_are_limited_and_worst_first() {
    let database = plain().database();
    let setup = "do $$ begin for i in 1..25 loop execute format('create table t%s as select generate_series(1, %s * 1000) a', i, i); end loop; end $$";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let app = TestApp::new(&database).await;
    for (query, count) in [
        ("query_type=tables", 20),
        ("query_type=tables&include_details=true", 26),
    ] {
        let body = app.get_as("developer", query).await.json();
        let rows = body["data"]["tableHealth"]
            .as_array()
            .expect("reading rows")
            .clone();
        assert_eq!(rows.len(), count);
        let sizes: Vec<i64> = rows
            .iter()
            .filter_map(|row| row["total_size_bytes"].as_i64())
            .collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        // From 16 on tables grow by several pages at once, so which of the large ones leads is the server's to say.
        assert!(rows[0]["tablename"].as_str() >= Some("t2"), "{}", rows[0]);
    }
}

/// The original answered 500 for a bad parameter.
#[tokio::test]
async fn a_bad_parameter_is_named() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for (query, name, hint) in [
        ("time_range=2h", "time_range", "1h, 6h, 24h, 7d, 30d"),
        ("time_range=", "time_range", "1h, 6h"),
        ("query_type=SLOW", "query_type", "summary, slow"),
        ("query_type=slow%00", "query_type", "summary"),
        ("include_details=yes", "include_details", "true"),
        ("target=other", "target", "default"),
    ] {
        let answer = app.get_as("admin", query).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_parameter"),
            "{query}"
        );
        assert!(
            answer.detail().starts_with(name) && answer.detail().contains(hint),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn an_event_is_recorded_and_resolved_once() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let event = json!({"action": "record_event", "event_type": "performance_alert", "severity": "high",
        "event_data": {"text": "quote ' and \" and <b>", "n": 1.5}});
    let recorded = app.post_as("developer", &event).await;
    assert_eq!(recorded.status, 201, "{}", recorded.text);
    let body = recorded.json();
    assert_eq!(
        (&body["success"], &body["message"]),
        (&json!(true), &json!("Event recorded successfully"))
    );
    let id = body["eventId"].clone();
    let stored = database
        .psql(
            SUPERUSER,
            "select user_id, source_ip, event_data ->> 'text' from monitoring_events",
        )
        .expect("reading");
    assert_eq!(
        stored.trim(),
        format!("{SUBJECT}|203.0.113.7|quote ' and \" and <b>")
    );

    let resolve =
        json!({"action": "resolve_event", "event_id": id, "resolution_notes": "index added"});
    assert_eq!(app.post_as("developer", &resolve).await.status, 403);
    let answer = app.post_as("admin", &resolve).await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            200,
            json!({"success": true, "message": "Event resolved successfully"})
        )
    );
    let resolved_at = "select resolved_at, resolution_notes from monitoring_events";
    let first = database.psql(SUPERUSER, resolved_at).expect("reading");
    let again = json!({"action": "resolve_event", "event_id": id, "resolution_notes": "again"});
    assert_eq!(
        app.post_as("owner", &again).await.status,
        200,
        "resolving twice is a success"
    );
    assert_eq!(
        database.psql(SUPERUSER, resolved_at).expect("reading"),
        first,
        "and changes nothing"
    );

    let events =
        app.get_as("developer", "query_type=events").await.json()["data"]["recentEvents"].clone();
    assert_eq!(
        (&events[0]["id"], &events[0]["severity"]),
        (&id, &json!("high"))
    );
}

/// The original answered 200 for resolving an unknown id.
#[tokio::test]
async fn a_bad_body_is_named_and_nothing_is_kept() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let unknown = "00000000-0000-0000-0000-000000000000";
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    for (body, status, detail) in [
        ("{", 400, "no JSON"),
        ("[]", 400, "JSON object"),
        ("{}", 400, "action is required"),
        (
            r#"{"action":"drop_event"}"#,
            400,
            "action must be resolve_event or record_event",
        ),
        (r#"{"action":7}"#, 400, "action must be a string"),
        (r#"{"action":"resolve_event"}"#, 400, "event_id is required"),
        (
            r#"{"action":"resolve_event","event_id":"7"}"#,
            400,
            "event_id must be a UUID",
        ),
        (
            &format!(r#"{{"action":"resolve_event","event_id":"{unknown}"}}"#),
            404,
            "there is no event",
        ),
        (
            &format!(r#"{{"action":"resolve_event","event_id":"{unknown}","resolution_notes":5}}"#),
            400,
            "resolution_notes",
        ),
        (
            r#"{"action":"record_event","event_type":"x","event_data":{}}"#,
            400,
            "event_type must be one of",
        ),
        (
            r#"{"action":"record_event","event_type":"slow_query"}"#,
            400,
            "event_data is required",
        ),
        (
            r#"{"action":"record_event","event_type":"slow_query","event_data":"x"}"#,
            400,
            "event_data must be a JSON object",
        ),
        (
            r#"{"action":"record_event","event_type":"slow_query","event_data":{"a":"\u0000"}}"#,
            400,
            "event_data",
        ),
        (
            r#"{"action":"record_event","event_type":"slow_query","event_data":{},"severity":"urgent"}"#,
            400,
            "severity must be one of",
        ),
        (
            r#"{"action":"record_event","event_type":"slow_query\u0000","event_data":{}}"#,
            400,
            "event_type",
        ),
        (
            &format!(
                r#"{{"action":"record_event","event_type":"slow_query","event_data":{{"a":"{}"}}}}"#,
                "x".repeat(70_000)
            ),
            400,
            "64 kB",
        ),
        (
            &format!(
                r#"{{"action":"record_event","event_type":"slow_query","event_data":{deep}}}"#
            ),
            400,
            "event_data must be a JSON object",
        ),
        (
            &format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000)),
            413,
            "256 kB",
        ),
    ] {
        let answer = app.send(Request::post(PERFORMANCE, body).by("admin")).await;
        let shown = &body[..body.len().min(100)];
        answer.problem();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        assert!(answer.detail().contains(detail), "{shown}: {}", answer.text);
    }
    let plain_text = Request::post(PERFORMANCE, "{}")
        .header("content-type", "text/plain")
        .by("admin");
    assert_eq!(app.send(plain_text).await.status, 415);
    let kept = database
        .psql(SUPERUSER, "select count(*) from monitoring_events")
        .expect("counting");
    assert_eq!(kept.trim(), "0");
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let answer = app
        .send(Request::get("/api/monitoring/nothing", "").by("admin"))
        .await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (404, "not_found")
    );
    let answer = app
        .send(Request::new("DELETE", PERFORMANCE).by("admin"))
        .await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (405, "method_not_allowed")
    );
    assert_eq!(answer.headers["allow"], "GET, POST, OPTIONS");
    assert_eq!(
        app.send(Request::post("/api/monitoring/health", "{}"))
            .await
            .headers["allow"],
        "GET, OPTIONS"
    );
}

#[tokio::test]
async fn health_needs_no_identity_and_says_nothing_else() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let answer = app.send(Request::get("/api/monitoring/health", "")).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": "ok"}))
    );
}

#[tokio::test]
async fn only_listed_origins_are_let_in() {
    let database = plain().database();
    let origins = [(
        "ALLOWED_ORIGINS",
        "https://dashboard.example.com, http://localhost:3000",
    )];
    let app = TestApp::with_login(&database, MONITOR, &origins).await;
    for (origin, is_listed) in [
        ("https://dashboard.example.com", true),
        ("http://localhost:3000", true),
        ("https://evil.example.com", false),
        ("null", false),
    ] {
        let preflight = Request::new("OPTIONS", PERFORMANCE)
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header(
                "access-control-request-headers",
                "authorization,cache-control",
            );
        let answer = app.send(preflight).await;
        assert_eq!(answer.status, 204);
        assert_eq!(
            answer
                .headers
                .get("access-control-allow-origin")
                .map(String::as_str),
            is_listed.then_some(origin)
        );
        assert_eq!(answer.headers["vary"], "Origin");
    }
    let error = app
        .send(Request::get(PERFORMANCE, "").header("origin", "http://localhost:3000"))
        .await;
    assert_eq!(
        error.headers["access-control-allow-origin"], "http://localhost:3000",
        "a page may read errors too"
    );
    assert_eq!(
        error.headers["access-control-expose-headers"], "retry-after",
        "and when to ask again"
    );
}

/// Nothing the driver or the server says reaches a caller.
#[tokio::test]
async fn an_unmigrated_database_is_unavailable_without_detail() {
    let database = plain().empty_database();
    let app = TestApp::new(&database).await;
    let answer = app.get_as("admin", "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "schema_outdated")
    );
    assert_eq!(answer.headers["retry-after"], "5");
    assert!(
        !answer.text.contains("monitoring_") && !answer.text.contains("relation"),
        "{}",
        answer.text
    );
}

/// The gateway takes one value for each header.
#[tokio::test]
async fn an_answer_varies_by_all_that_it_depends_on() {
    let database = plain().database();
    let variables = [("ALLOWED_ORIGINS", "https://a.example")];
    let app = TestApp::with_login(&database, MONITOR, &variables).await;
    let request = Request::get("/api/monitoring/openapi.json", "").by("developer");
    let request = request.header("origin", "https://a.example");
    let answer = app.send(request.header("accept-encoding", "gzip")).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert_eq!(answer.headers["vary"], "Origin, Accept-Encoding");
}
