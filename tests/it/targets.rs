//! Several databases: each is asked by its name, and none waits for another.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::secrets::store;
use crate::support::templates::MONITOR;
use crate::validation::assert_valid;

/// Who waits for a server that is silent waits for at least so long; it is given up after little more.
const SILENCE: Duration = Duration::from_millis(5900);

/// A default database, and others by name.
async fn app(default: &TestDatabase, others: &[(&str, &TestDatabase)]) -> TestApp {
    let entry = |(name, database): &(&str, &TestDatabase)| {
        let login = store().create(&database.credentials(MONITOR));
        let owner = store().create(&database.credentials(database.migrator()));
        format!("{name}={},{name}.migration={}", login.id, owner.id)
    };
    let targets: Vec<String> = others.iter().map(entry).collect();
    let targets = targets.join(",");
    TestApp::with_login(default, MONITOR, &[("DATABASE_TARGETS", &targets)]).await
}

/// A server that takes connections and says nothing.
struct Silent {
    _listener: TcpListener,
    entry: String,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let port = listener.local_addr().expect("asking for the port").port();
        let login = json!({"username": "u", "password": "p", "host": "127.0.0.1", "port": port, "dbname": "d"});
        Self {
            _listener: listener,
            entry: format!("silent={}", store().create(&login).id),
        }
    }
}

fn count(database: &TestDatabase, table: &str) -> String {
    let count = database.psql(SUPERUSER, &format!("select count(*) from {table}"));
    count.expect("counting").trim().to_owned()
}

async fn get(app: &TestApp, route: &str, query: &str) -> Answer {
    let request = Request::get(&format!("/api/monitoring/{route}"), query);
    app.send(request.by("admin")).await
}

#[tokio::test]
async fn what_names_a_target_is_done_there_and_nowhere_else() {
    let (main, reports) = (plain().database(), plain().database());
    let app = app(&main, &[("reports", &reports)]).await;
    let record = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    let window = json!({"starts_at": "2099-06-07T17:00:00Z", "ends_at": "2099-06-07T18:00:00Z", "label": "l"});
    for (route, body) in [("performance", &record), ("windows", &window)] {
        let path = format!("/api/monitoring/{route}");
        let mut event = Request::post(&path, &body.to_string()).by("owner").event();
        event["rawQueryString"] = json!("target=reports");
        event["queryStringParameters"] = json!({"target": "reports"});
        let answer = app.send_event(&event).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    let sample = app
        .task(json!({"task": "sample", "target": "reports"}))
        .await;
    assert_eq!(sample["status"], "done", "{sample}");
    for table in [
        "monitoring_events",
        "monitoring.critical_windows",
        "monitoring.samples",
    ] {
        assert_eq!(
            (count(&main, table), count(&reports, table)),
            ("0".to_owned(), "1".to_owned()),
            "{table}"
        );
    }
    for (target, events) in [("", 0), ("target=default", 0), ("target=reports", 1)] {
        let answer = get(&app, "performance", &format!("query_type=events&{target}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        let recent = body["data"]["recentEvents"].as_array().map(Vec::len);
        assert_eq!(recent, Some(events), "{target}");
        let named = target.split_once('=').map(|(_, name)| json!(name));
        assert_eq!(body["metadata"].get("target").cloned(), named, "{target}");
        let windows = get(&app, "windows", target).await.json();
        let windows = windows["data"]["windows"].as_array().map(Vec::len);
        assert_eq!(windows, Some(events), "{target}");
        let readiness = get(&app, "readiness", target).await.json();
        assert_eq!(
            readiness["data"]["window"].is_object(),
            events == 1,
            "{target}"
        );
    }
    // Its migrating login is its own as well.
    let rollback = json!({"task": "rollback", "target": "reports", "confirm": reports.name});
    assert_eq!(app.task(rollback).await["status"], "done");
    for route in ["validation", "metrics", "performance"] {
        assert_eq!(
            get(&app, route, "target=reports").await.status,
            503,
            "{route}"
        );
        assert_eq!(get(&app, route, "").await.status, 200, "{route}");
    }
    let validated = app.task(json!({"task": "validate"})).await;
    assert_valid(&validated["checks"]);
    let migrated = app
        .task(json!({"task": "migrate", "target": "reports"}))
        .await;
    assert_eq!(migrated["status"], "done", "{migrated}");
    assert_eq!(get(&app, "validation", "target=reports").await.status, 200);
}

#[tokio::test]
async fn a_target_without_a_migrating_login_does_not_borrow_one() {
    let (main, reports) = (plain().database(), plain().database());
    let login = store().create(&reports.credentials(MONITOR));
    let targets = format!("reports={}", login.id);
    let app = TestApp::with_login(&main, MONITOR, &[("DATABASE_TARGETS", &targets)]).await;
    let event = json!({"task": "rollback", "target": "reports", "confirm": main.name});
    let error = app
        .invoke(&event)
        .await
        .expect_err("no login to migrate with");
    assert!(
        error
            .error_message
            .contains(".migration in DATABASE_TARGETS"),
        "{error:?}"
    );
    assert_eq!(count(&main, "monitoring.samples"), "0", "it is still there");
}

/// Which databases there are is told to those who may ask them.
#[tokio::test]
async fn an_unknown_target_is_named_to_who_has_a_role_only() {
    let (main, reports) = (plain().database(), plain().database());
    let app = app(&main, &[("reports", &reports)]).await;
    for route in [
        "performance",
        "windows",
        "readiness",
        "metrics",
        "validation",
    ] {
        let path = format!("/api/monitoring/{route}");
        for name in ["other", "Reports", "", "reports%00", "reports%20"] {
            let request = || Request::get(&path, &format!("target={name}"));
            let nobody = app.send(request()).await;
            let guest = app.send(request().by("guest")).await;
            assert_eq!((nobody.status, guest.status), (401, 403), "{route} {name}");
            for answer in [nobody, guest] {
                assert!(!answer.text.contains("reports"), "{}", answer.text);
            }
            let answer = app.send(request().by("developer")).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (400, "invalid_parameter"),
                "{route} {name}"
            );
            assert_eq!(answer.detail(), "target must be one of default, reports");
        }
        let twice = Request::get(&path, "target=reports&target=reports").by("developer");
        let twice = app.send(twice).await;
        assert_eq!(
            (twice.status, twice.problem().as_str()),
            (400, "invalid_parameter")
        );
    }
    let health = app.send(Request::get("/api/monitoring/health", "target=reports"));
    let health = health.await;
    assert_eq!(health.status, 400, "{}", health.text);
    assert!(!health.text.contains("reports"), "{}", health.text);
    for task in ["sample", "cleanup", "validate", "migrate", "rollback"] {
        let error = app.invoke(&json!({"task": task, "target": "other"})).await;
        let error = error.expect_err("a database that is not configured");
        assert_eq!(error.error_type, "BadTask");
        assert!(
            error.error_message.contains("\"other\"")
                && error.error_message.contains("default, reports"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn requests_are_counted_by_each_database_for_itself() {
    let (main, reports) = (plain().database(), plain().database());
    let app = app(&main, &[("reports", &reports)]).await;
    for target in ["", "target=reports"] {
        for _ in 0..30 {
            assert_eq!(get(&app, "windows", target).await.status, 200, "{target}");
        }
        assert_eq!(get(&app, "windows", target).await.status, 429, "{target}");
    }
    assert_eq!(get(&app, "windows", "target=default").await.status, 429);
}

#[tokio::test]
async fn a_target_that_hangs_delays_no_other() {
    let database = plain().database();
    let silent = Silent::new();
    let app = TestApp::with_login(&database, MONITOR, &[("DATABASE_TARGETS", &silent.entry)]).await;
    let started = Instant::now();
    let hanging = async {
        let error = app
            .invoke(&json!({"task": "sample", "target": "silent"}))
            .await;
        let error = error.expect_err("a server that says nothing");
        assert_eq!(error.error_type, "Database", "{error:?}");
        started.elapsed()
    };
    let healthy = async {
        // The other one has begun to connect.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(app.task(json!({"task": "sample"})).await["status"], "done");
        assert_eq!(get(&app, "performance", "").await.status, 200);
        let health = app.send(Request::get("/api/monitoring/health", "")).await;
        assert_eq!(health.status, 200);
        started.elapsed()
    };
    let (hung, done) = tokio::join!(hanging, healthy);
    assert!(done < hung, "{done:?} beside {hung:?}");
    assert!(hung > SILENCE && hung < 3 * SILENCE, "{hung:?}");

    // Also one after the other, as an instance works.
    let broken = get(&app, "performance", "target=silent").await;
    assert_eq!(
        (broken.status, broken.problem().as_str()),
        (503, "database_unavailable")
    );
    let begun = Instant::now();
    assert_eq!(get(&app, "performance", "target=default").await.status, 200);
    assert!(begun.elapsed() < SILENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_default_database_that_is_gone_takes_no_other_along() {
    let database = plain().database();
    let gone =
        json!({"username": "u", "password": "p", "host": "127.0.0.1", "port": 1, "dbname": "d"});
    let login = store().create(&database.credentials(MONITOR));
    let targets = format!("reports={}", login.id);
    let app = TestApp::with_secret(
        &database,
        store().create(&gone),
        &[("DATABASE_TARGETS", &targets)],
    )
    .await;
    for _ in 0..2 {
        assert_eq!(get(&app, "performance", "").await.status, 503);
        let health = app.send(Request::get("/api/monitoring/health", "")).await;
        assert_eq!(health.status, 503);
        assert_eq!(get(&app, "performance", "target=reports").await.status, 200);
        let report = app
            .task(json!({"task": "sample", "target": "reports"}))
            .await;
        assert_eq!(report["task"], "sample", "{report}");
    }
}
