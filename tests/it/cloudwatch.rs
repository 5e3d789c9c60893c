//! Metrics in the log: each line as CloudWatch's specification of the embedded metric format has it, also when all goes wrong.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::time::Duration;

use jsonschema::Validator;
use pgvigil::config::METRICS;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::emulator::Emulator;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::secrets::store;
use crate::support::templates::MONITOR;
use crate::support::wait::wait_until;

/// What the specification says of `_aws`, and what a JSON schema can say of it.
static DOCUMENT: LazyLock<Validator> = LazyLock::new(|| {
    let prefixed = |base: &str| {
        let prefixes = ["", "Kilo", "Mega", "Giga", "Tera"];
        prefixes.map(|prefix| match prefix {
            "" => base.to_owned(),
            prefix => format!("{prefix}{}", base.to_ascii_lowercase()),
        })
    };
    let sizes: Vec<String> = ["Bytes", "Bits"].into_iter().flat_map(prefixed).collect();
    let rates = sizes.iter().map(|size| format!("{size}/Second"));
    let mut units: Vec<String> = sizes.iter().cloned().chain(rates).collect();
    let others = [
        "Seconds",
        "Microseconds",
        "Milliseconds",
        "Percent",
        "Count",
        "Count/Second",
        "None",
    ];
    units.extend(others.map(str::to_owned));
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["_aws"],
        "properties": {"_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": false,
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 0},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": {
                    "type": "object",
                    "required": ["Namespace", "Dimensions", "Metrics"],
                    "additionalProperties": false,
                    "properties": {
                        "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                        "Dimensions": {"type": "array", "minItems": 1, "items": {
                            "type": "array", "maxItems": 30, "uniqueItems": true,
                            "items": {"type": "string", "minLength": 1, "maxLength": 250},
                        }},
                        "Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": {
                            "type": "object",
                            "required": ["Name"],
                            "additionalProperties": false,
                            "properties": {
                                "Name": {"type": "string", "minLength": 1, "maxLength": 1024},
                                "Unit": {"enum": units},
                                "StorageResolution": {"enum": [1, 60]},
                            },
                        }},
                    },
                }},
            },
        }},
    });
    jsonschema::validator_for(&schema).expect("compiling the schema")
});

/// What is wrong with a line by the specification: in `_aws`, or in the members that it refers to.
fn breaches(line: &str) -> Vec<String> {
    let document: Value = match serde_json::from_str(line) {
        Ok(document) => document,
        Err(error) => return vec![error.to_string()],
    };
    let by_schema = DOCUMENT.iter_errors(&document);
    let mut breaches: Vec<String> = by_schema
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    let directives = document["_aws"]["CloudWatchMetrics"].as_array();
    for directive in directives.into_iter().flatten() {
        let dimensions = directive["Dimensions"].as_array().into_iter().flatten();
        for name in dimensions.filter_map(Value::as_array).flatten() {
            let value = &document[name.as_str().unwrap_or_default()];
            if !value
                .as_str()
                .is_some_and(|text| (1..=1024).contains(&text.len()))
            {
                breaches.push(format!("dimension {name} is {value}"));
            }
        }
        let mut names = Vec::new();
        for metric in directive["Metrics"].as_array().into_iter().flatten() {
            let name = metric["Name"].as_str().unwrap_or_default();
            let value = &document[name];
            if !value.is_number() {
                breaches.push(format!("metric {name} is {value}"));
            }
            if names.contains(&name) {
                breaches.push(format!("metric {name} is there twice"));
            }
            names.push(name);
        }
    }
    breaches
}

/// A line's members beside `_aws`, once it is sure that it is valid, and that CloudWatch takes the heartbeat and nothing else.
pub(crate) fn told(line: &str) -> Value {
    let (document, published) = read(line);
    let is_alive = !document["DatabaseReachable"].is_null();
    let expected = is_alive.then_some("DatabaseReachable");
    assert_eq!(published, Vec::from_iter(expected), "{line}");
    document
}

/// A line's members beside `_aws`, and which of them CloudWatch takes, once it is sure that it can read the line.
fn read(line: &str) -> (Value, Vec<String>) {
    let mut document: Value = serde_json::from_str(line).expect("parsing a line");
    assert!(document["Target"].is_string(), "{line}");
    let root = document.as_object_mut().expect("an object");
    let Some(aws) = root.remove("_aws") else {
        return (document, Vec::new());
    };
    assert_eq!(breaches(line), Vec::<String>::new(), "{line}");
    let directive = &aws["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "pgvigil");
    assert_eq!(directive["Dimensions"], json!([["Target"]]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.expect("reading the clock").as_millis();
    let at_ms = u128::from(aws["Timestamp"].as_u64().expect("a timestamp"));
    assert!(now_ms.abs_diff(at_ms) < 60_000, "{at_ms} at {now_ms}");
    let metrics = directive["Metrics"].as_array().into_iter().flatten();
    let names = metrics.filter_map(|metric| Some(metric["Name"].as_str()?.to_owned()));
    (document, names.collect())
}

/// The one line that a sample has left.
fn only(app: &TestApp) -> Value {
    let lines = app.metrics();
    assert_eq!(lines.len(), 1, "{lines:?}");
    told(&lines[0])
}

/// Whose sample it was, and the four metrics that say how it went.
fn how_it_went(metrics: &Value) -> [Value; 5] {
    [
        "Target",
        "SamplesTaken",
        "SamplesSkipped",
        "SampleFailed",
        "DatabaseReachable",
    ]
    .map(|name| metrics[name].clone())
}

#[tokio::test]
async fn a_sample_leaves_one_line_with_its_numbers() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let event = json!({"task": "sample", "scheduled_at": "2025-06-07T17:00:00Z"});
    let report = app.task(event.clone()).await;
    let metrics = only(&app);
    assert_eq!(
        how_it_went(&metrics),
        [json!("default"), json!(1), json!(0), json!(0), json!(1)]
    );
    for (name, pointer) in [
        ("HealthScore", "/health_score"),
        ("SampleDuration", "/duration_ms"),
        ("SampleLateness", "/late_ms"),
        (
            "ConnectionUtilization",
            "/metrics/connection_utilization_percent",
        ),
        ("Findings", "/metrics/findings"),
        ("UnresolvedEvents", "/metrics/unresolved_events"),
    ] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
        assert_eq!(Some(&metrics[name]), report.pointer(pointer), "{name}");
    }
    // Other tasks have none.
    for task in ["cleanup", "validate"] {
        app.task(json!({"task": task})).await;
    }
    assert_eq!(app.metrics(), Vec::<String>::new());
}

/// Each metric is paid for; what is none is a field of the log.
#[tokio::test]
async fn cloudwatch_takes_what_it_was_asked_to() {
    for (asked, expected) in [
        ("", &["DatabaseReachable"][..]),
        ("HealthScore", &["DatabaseReachable", "HealthScore"]),
        ("none", &[]),
        ("all", &METRICS),
    ] {
        let database = plain().database();
        let variables = [("CLOUDWATCH_METRICS", asked)];
        let app = TestApp::with_login(&database, MONITOR, &variables).await;
        app.task(json!({"task": "sample"})).await;
        let lines = app.metrics();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (members, published) = read(&lines[0]);
        let is_there = |name: &&&str| !members[**name].is_null();
        let expected: Vec<&str> = expected.iter().filter(is_there).copied().collect();
        assert_eq!(published, expected, "{asked}");
        // Whatever is published, all of it is there.
        for name in [
            "SamplesTaken",
            "DatabaseReachable",
            "HealthScore",
            "Findings",
        ] {
            assert!(members[name].is_number(), "{asked}: {name} in {members}");
        }
    }
}

#[tokio::test]
async fn a_sample_that_was_there_is_told_as_skipped() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let now = "select to_json(date_trunc('minute', now())) #>> '{}'";
    let now = database.psql(SUPERUSER, now).expect("asking the time");
    let event = json!({"task": "sample", "scheduled_at": now.trim()});
    app.task(event.clone()).await;
    only(&app);
    let report = app.task(event).await;
    assert_eq!(report["status"], "skipped", "{report}");
    assert_eq!(
        how_it_went(&only(&app)),
        [json!("default"), json!(0), json!(1), json!(0), json!(1)]
    );
}

/// The dashboard survives the database.
#[tokio::test]
async fn what_fails_is_told_too() {
    let database = plain().database();
    let empty = plain().empty_database();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
    let port = listener.local_addr().expect("asking for the port").port();
    let login = |port: u16| json!({"username": "u", "password": "p", "host": "127.0.0.1", "port": port, "dbname": "d"});
    let gone = store().create(&json!({}));
    store().delete(&gone);
    let targets = [
        ("down", store().create(&login(1)).id),
        ("silent", store().create(&login(port)).id),
        ("no-secret", gone.id.clone()),
        ("no-login", store().create(&json!({"username": "u"})).id),
        ("empty", store().create(&empty.credentials(MONITOR)).id),
    ];
    let list = targets.iter().map(|(name, id)| format!("{name}={id}"));
    let list = list.collect::<Vec<_>>().join(",");
    let app = TestApp::with_login(&database, MONITOR, &[("DATABASE_TARGETS", &list)]).await;
    let unreachable = |name: &str| [json!(name), json!(0), json!(0), json!(1), json!(0)];
    for (name, _) in &targets {
        let event = json!({"task": "sample", "target": name});
        // The others are found out by themselves, and only this one by the time.
        let limit = Duration::from_secs(if *name == "silent" { 3 } else { 20 });
        let error = app.invoke_within(&event, limit).await;
        error.expect_err("a sample that cannot be taken");
        let metrics = only(&app);
        assert!(metrics["SampleDuration"].is_u64() && metrics["HealthScore"].is_null());
        let mut expected = unreachable(name);
        if *name == "empty" {
            // It answers that there is nothing to ask.
            expected[4] = json!(1);
        }
        assert_eq!(how_it_went(&metrics), expected);
    }
    // Whether the database is there was not asked.
    let misspelt = json!({"task": "sample", "sheduled_at": "2025-06-07T17:00:00Z"});
    app.invoke(&misspelt).await.expect_err("a misspelt field");
    assert_eq!(
        how_it_went(&only(&app)),
        [json!("default"), json!(0), json!(0), json!(1), Value::Null]
    );
    // An event must not make up a dimension's value.
    let unknown = json!({"task": "sample", "target": "made-up"});
    app.invoke(&unknown).await.expect_err("an unknown target");
    assert_eq!(app.metrics(), Vec::<String>::new());
}

/// In the log of the binary the line is alone: no field of the log's is in it, and no filter keeps it back.
#[tokio::test]
async fn the_binary_writes_it_between_its_log_lines() {
    let database = plain().database();
    let login = store().create(&database.credentials(MONITOR));
    let url = [
        ("DATABASE_SECRET_ID", login.id.clone()),
        ("DATABASE_TLS", "disable".to_owned()),
        ("RUST_LOG", "off".to_owned()),
    ];
    let mut variables = store().environment();
    variables.extend(url);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let emulator = Emulator::start(&variables);
    for _ in 0..3 {
        assert_eq!(emulator.invoke("{\"task\":\"sample\"}").status, 200);
    }
    let lines = || {
        let log = emulator.log();
        let lines = log.lines().filter(|line| line.contains("_aws"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    wait_until("three samples have left a line each", async || {
        lines().len() == 3
    })
    .await;
    for line in lines() {
        let metrics = told(&line);
        assert_eq!(metrics["DatabaseReachable"], 1, "{line}");
    }
}

/// A validator that finds nothing would make all of this worthless.
#[test]
fn a_breach_is_found() {
    let good = json!({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [
        {"Namespace": "n", "Dimensions": [["D"]], "Metrics": [{"Name": "M", "Unit": "Kilobytes/Second"}]}]}, "D": "d", "M": 0.5});
    assert_eq!(breaches(&good.to_string()), Vec::<String>::new());
    for (pointer, wrong) in [
        ("/D", json!(null)),
        ("/D", json!(1)),
        ("/D", json!("")),
        ("/M", json!(null)),
        ("/M", json!("1")),
        ("/_aws/Timestamp", json!("1")),
        ("/_aws/Timestamp", json!(1.5)),
        ("/_aws/CloudWatchMetrics", json!([])),
        ("/_aws/CloudWatchMetrics/0/Namespace", json!("")),
        ("/_aws/CloudWatchMetrics/0/Dimensions", json!(["D"])),
        ("/_aws/CloudWatchMetrics/0/Dimensions/0/0", json!("E")),
        ("/_aws/CloudWatchMetrics/0/Metrics/0/Name", json!("N")),
        ("/_aws/CloudWatchMetrics/0/Metrics/0/Unit", json!("ms")),
        (
            "/_aws/CloudWatchMetrics/0/Metrics",
            json!(vec![json!({"Name": "M"}); 101]),
        ),
    ] {
        let mut document = good.clone();
        *document.pointer_mut(pointer).expect("a member") = wrong;
        assert!(!breaches(&document.to_string()).is_empty(), "{document}");
    }
    let line = good.to_string();
    for wrapped in [
        format!("INFO {line}"),
        format!("{line} {line}"),
        json!({"message": good}).to_string(),
    ] {
        assert!(!breaches(&wrapped).is_empty(), "{wrapped}");
    }
}
