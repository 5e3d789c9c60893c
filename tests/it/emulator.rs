//! The binary under AWS's runtime interface emulator, with every file in `events/`.

use pgvigil::db::migrate::MIGRATIONS;
use serde_json::{Value, json};

use crate::support::app::SUBJECT;
use crate::support::database::TestDatabase;
use crate::support::emulator::Emulator;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::project_file;
use crate::support::secrets::{Secret, store};
use crate::support::templates::MONITOR;
use crate::support::token::{KEY, token};
use crate::support::wait::wait_until;

fn event(name: &str) -> Value {
    let path = project_file(format!("events/{name}.json"));
    let path = path.display().to_string();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Starts the function on a database, in token or gateway mode, with its secrets in the real store.
fn start(database: &TestDatabase, auth_mode: &str) -> (Emulator, Vec<Secret>) {
    let login = store().create(&database.credentials(MONITOR));
    Emulator::start_on(database, auth_mode, login)
}

fn invoke(emulator: &Emulator, event: &Value) -> Value {
    let answer = emulator.invoke(&event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

#[tokio::test]
async fn every_event_file_is_answered_by_the_binary() {
    // Where nobody else makes roles, of which a sample tells. The first database brings the login, which no migration creates.
    let cluster = Cluster::start(ClusterOptions::default());
    drop(cluster.database());
    let database = cluster.empty_database();
    let (emulator, _secrets) = start(&database, "gateway");
    let mut rollback = event("task-rollback");
    rollback["confirm"] = json!(database.name);
    // The example's id is in the log of no database; this one's must be.
    let id = "8b7c0f5e-6a43-4c8b-9a53-2f0f6d6c2b11";
    let mut resolve = event("api-resolve-event-http");
    resolve["body"] = json!(json!({"action": "resolve_event", "event_id": id}).to_string());

    assert_eq!(
        invoke(&emulator, &event("task-migrate"))["applied"]
            .as_array()
            .map(Vec::len),
        Some(MIGRATIONS.len())
    );
    let record = format!(
        "insert into monitoring_events (id, event_type, event_data) values ('{id}', 'slow_query', '{{}}')"
    );
    database
        .psql(SUPERUSER, &record)
        .expect("recording an event");
    for (event, field, expected) in [
        (event("schedule-sample"), "/status", json!("done")),
        // Their time is long past, so it is a sample of now, which may have its sample.
        (event("rule-sample"), "/task", json!("sample")),
        (event("target-sample"), "/task", json!("sample")),
        (event("schedule-cleanup"), "/status", json!("done")),
        (event("task-validate"), "/status", json!("done")),
        (event("function-url-health"), "/statusCode", json!(200)),
        (event("api-performance-http"), "/statusCode", json!(200)),
        (event("api-performance-rest"), "/statusCode", json!(200)),
        (event("api-validation-http"), "/statusCode", json!(200)),
        (event("api-record-event-http"), "/statusCode", json!(201)),
        (resolve, "/statusCode", json!(200)),
        (rollback, "/status", json!("done")),
    ] {
        let answer = invoke(&emulator, &event);
        assert_eq!(answer.pointer(field), Some(&expected), "{event}: {answer}");
    }
}

/// Three processes know nothing of each other but the database.
#[tokio::test]
async fn three_processes_let_in_exactly_thirty_gets_of_a_minute() {
    let database = plain().database();
    let processes: Vec<_> = (0..3).map(|_| start(&database, "gateway")).collect();
    let mut health = event("function-url-health");
    health["rawPath"] = json!("/api/monitoring/health");
    let request = event("api-performance-http");
    let statuses: Vec<u64> = std::thread::scope(|scope| {
        let askers: Vec<_> = processes
            .iter()
            .map(|(emulator, _)| {
                let (health, request) = (&health, &request);
                scope.spawn(move || {
                    // Up and connected before the others count.
                    assert_eq!(invoke(emulator, health)["statusCode"], 200);
                    let status = |_| {
                        invoke(emulator, request)["statusCode"]
                            .as_u64()
                            .unwrap_or(0)
                    };
                    (0..15).map(status).collect::<Vec<u64>>()
                })
            })
            .collect();
        let answers = askers
            .into_iter()
            .map(|asker| asker.join().expect("asking"));
        answers.flatten().collect()
    });
    let of = |wanted: u64| statuses.iter().filter(|&&status| status == wanted).count();
    assert_eq!((of(200), of(429)), (30, 15), "{statuses:?}");
}

#[tokio::test]
async fn the_log_has_a_line_an_access_and_no_secret() {
    let database = plain().database();
    let (emulator, _secrets) = start(&database, "token");
    let bearer = token(SUBJECT, "admin", &json!({"cognito:groups": ["admin"]}));
    let mut request = event("api-performance-http");
    request["headers"]["authorization"] = json!(format!("Bearer {bearer}"));
    request["rawQueryString"] = json!("target=reports");
    request["queryStringParameters"] = json!({"target": "reports"});
    let answer = invoke(&emulator, &request);
    assert_eq!(answer["statusCode"], 200, "{answer}");
    request["headers"]["authorization"] = json!("Bearer forged.by.somebody");
    assert_eq!(invoke(&emulator, &request)["statusCode"], 401);
    // The emulator passes the function's lines on when it gets to it.
    wait_until("both accesses are logged", async || {
        emulator.log().matches("\"access\"").count() >= 2
    })
    .await;
    let log = emulator.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let accesses: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == "access")
        .collect();
    assert_eq!(accesses.len(), 2, "{log}");
    assert_eq!(
        (&accesses[0]["subject"], &accesses[0]["role"]),
        (&json!(SUBJECT), &json!("admin"))
    );
    assert_eq!(
        (&accesses[0]["status"], &accesses[1]["status"]),
        (&json!(200), &json!(401))
    );
    // Of a database that was named by who was not let in, nothing is said.
    assert_eq!(
        (&accesses[0]["target"], &accesses[1]["target"]),
        (&json!("reports"), &Value::Null)
    );
    assert!(accesses[0]["duration_ms"].is_u64() && accesses[0]["sections"].is_string());
    assert!(
        accesses[0]["span"]["request_id"].is_string(),
        "{}",
        accesses[0]
    );
    let password = database.credentials(MONITOR)["password"]
        .as_str()
        .expect("reading a password")
        .to_owned();
    for secret in [
        password.as_str(),
        KEY,
        bearer.as_str(),
        "forged.by.somebody",
    ] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}

/// What goes wrong is in the log, with its reason; what must stay secret is not, on any of the ways to go wrong.
#[tokio::test]
async fn failures_are_logged_without_what_must_stay_secret() {
    let database = plain().database();
    let mut wrong = database.credentials(MONITOR);
    wrong["password"] = json!("hunter2");
    let gone = store().create(&json!({}));
    store().delete(&gone);
    let bearer = token(SUBJECT, "admin", &json!({"cognito:groups": ["admin"]}));
    for (login, reason) in [
        (store().create(&wrong), "login refused"),
        (
            store().create(&json!({"password": "hunter2"})),
            "is malformed",
        ),
        (gone, "does not exist"),
    ] {
        let (emulator, _secrets) = Emulator::start_on(&database, "token", login);
        let mut request = event("api-performance-http");
        request["headers"]["authorization"] = json!(format!("Bearer {bearer}"));
        assert_eq!(invoke(&emulator, &request)["statusCode"], 503, "{reason}");
        let mut post = event("api-record-event-http");
        post["headers"]["authorization"] = json!(format!("Bearer {bearer}"));
        post["body"] = json!("{\"action\": \"hunter2");
        assert_eq!(invoke(&emulator, &post)["statusCode"], 400, "{reason}");
        let failed = emulator.invoke("{\"task\":\"sample\"}");
        assert!(failed.body.contains(reason), "{reason}: {}", failed.body);
        wait_until("the failures are logged", async || {
            let log = emulator.log();
            log.matches("\"access\"").count() >= 2 && log.contains("task failed")
        })
        .await;
        let log = emulator.log();
        assert!(log.contains(reason), "{reason}: {log}");
        for secret in ["hunter2", KEY, bearer.as_str()] {
            assert!(!log.contains(secret), "{reason}: the log holds {secret}");
        }
    }
}

#[tokio::test]
async fn what_is_no_event_is_an_error_and_the_next_one_works() {
    let database = plain().database();
    let (emulator, _secrets) = start(&database, "gateway");
    for (text, hint) in [
        ("{", "deserialize"),
        ("{}", "unknown event"),
        ("{\"task\":\"x\"}", "unknown task"),
        ("7", "JSON object"),
    ] {
        let answer = emulator.invoke(text);
        assert!(
            answer.body.contains("errorMessage") && answer.body.contains(hint),
            "{text}: {}",
            answer.body
        );
    }
    assert_eq!(
        invoke(&emulator, &event("schedule-sample"))["status"],
        "done"
    );
}

/// A bad value stops the start, with every problem listed.
#[tokio::test]
async fn three_mistakes_stop_the_start_and_are_all_named() {
    let emulator = Emulator::start(&[
        ("DATABASE_URL", "postgres://u:hunter2@db.example.com/d"),
        ("AUTH_MODE", "maybe"),
        ("ALLOWED_ORIGINS", "example.com"),
    ]);
    let answer = emulator.invoke("{\"task\":\"sample\"}");
    assert!(!answer.body.contains("\"status\""), "{}", answer.body);
    wait_until("the refusal is logged", async || {
        emulator.log().contains("configuration refused")
    })
    .await;
    let log = emulator.log();
    for name in ["DATABASE_URL", "AUTH_MODE", "ALLOWED_ORIGINS"] {
        assert!(log.contains(name), "{name}: {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}
