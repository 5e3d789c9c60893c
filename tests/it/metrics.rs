//! What a time-series database scrapes: valid, bounded, monotonic, and nobody's secret.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::tools;
use crate::support::workload::Workload;

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape(app: &TestApp, accept: &str) -> Answer {
    let request = Request::get("/api/monitoring/metrics", "").by("service");
    let answer = app.send(request.header("accept", accept)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// Each series with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// What Prometheus' own tool has to say about it.
fn promtool(text: &str) -> String {
    let installed = tools().join("promtool/promtool");
    let program = if installed.exists() {
        installed
    } else {
        "promtool".into() // the system's own
    };
    let mut tool = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting promtool: script/setup promtool installs it");
    let mut input = tool.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("writing to it");
    drop(input);
    let output = tool.wait_with_output().expect("waiting for promtool");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    format!("{}{said}", output.status.code().unwrap_or(-1))
}

fn sampled(database: &TestDatabase) {
    let sample = "set role monitoring_agent; select monitoring.sample()";
    database.psql(SUPERUSER, sample).expect("taking a sample");
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let database = plain().database();
    sampled(&database);
    let app = TestApp::new(&database).await;
    let answer = scrape(&app, "*/*").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(promtool(&answer.text), "0", "{}", answer.text);
    // It does find what is wrong.
    assert_ne!(promtool("# TYPE a_total gauge\na_total 1\n"), "0");
    assert_ne!(promtool("a{b=1} 1\n"), "0");
}

/// The specification, section "ABNF" and "Overall structure".
#[tokio::test]
async fn who_accepts_openmetrics_gets_it() {
    let database = plain().database();
    sampled(&database);
    let app = TestApp::new(&database).await;
    let answer = scrape(&app, OPEN_METRICS).await;
    assert_eq!(
        answer.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(answer.text.ends_with("\n# EOF\n"));
    let (mut family, mut kind, mut seen) = ("", "", Vec::new());
    for line in answer.text.lines().filter(|line| *line != "# EOF") {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap_or_default();
            assert!(!seen.contains(&family), "{family} twice");
            seen.push(family);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, is) = typed.split_once(' ').expect("a type");
            assert_eq!(name, family);
            assert!(["gauge", "counter"].contains(&is), "{line}");
            assert!(!family.ends_with("_total"), "{line}");
            kind = is;
        } else {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let suffix = if kind == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{family}{suffix}"), "{line}");
        }
    }
    assert!(seen.len() >= 20, "{seen:?}");
    // Both formats have the same series.
    let refused = "text/plain, application/openmetrics-text;q=0";
    let other = scrape(&app, refused).await;
    assert!(other.headers["content-type"].starts_with("text/plain;"));
    let names = |text: &str| series(text).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&answer.text), names(&other.text));
}

/// However much there is to see: no table, statement, role or application is a label.
#[tokio::test]
async fn labels_are_bounded_and_name_nobody() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let before = series(&scrape(&app, OPEN_METRICS).await.text);
    database
        .psql(
            SUPERUSER,
            "do $$ begin for n in 1..150 loop execute format('create table guests_of_%s (id int)', n); end loop; end $$;",
        )
        .expect("creating tables");
    let slow = "select pg_sleep(600), 'the best man''s secret'";
    let client = database.superuser().await;
    let _slow = Workload::running(&database, client, slow).await;
    sampled(&database);
    let answer = scrape(&app, OPEN_METRICS).await;
    let after = series(&answer.text);
    let mut names: Vec<_> = after.keys().cloned().collect();
    names.retain(|name| name != "pgvigil_last_sample_timestamp_seconds");
    assert_eq!(names, before.keys().cloned().collect::<Vec<_>>());
    assert!(after["pgvigil_high_risk_tables"] >= 150.0);
    assert_eq!(
        after["pgvigil_findings{check=\"rls-exposed\",severity=\"warning\"}"],
        100.0
    );
    for name in [
        "guests_of",
        "secret",
        "sleep",
        "pgvigil_test",
        &database.name,
    ] {
        assert!(!answer.text.contains(name), "{name}");
    }
}

#[tokio::test]
async fn counters_only_grow_and_gauges_are_the_summarys() {
    let database = plain().database();
    sampled(&database);
    let app = TestApp::new(&database).await;
    let counters = |all: &BTreeMap<String, f64>| -> Vec<(String, f64)> {
        let is_counter = |name: &String| {
            name.split('{')
                .next()
                .unwrap_or_default()
                .ends_with("_total")
        };
        let all = all.iter().filter(|(name, _)| is_counter(name));
        all.map(|(name, value)| (name.clone(), *value)).collect()
    };
    let mut before = series(&scrape(&app, OPEN_METRICS).await.text);
    assert!(counters(&before).len() >= 15);
    for _ in 0..4 {
        database
            .psql(SUPERUSER, "create table if not exists t (id int); insert into t values (1); update t set id = 2; delete from t")
            .expect("making numbers grow");
        let after = series(&scrape(&app, OPEN_METRICS).await.text);
        for ((name, before), (_, after)) in counters(&before).iter().zip(counters(&after)) {
            assert!(after >= *before, "{name}: {before}, then {after}");
        }
        before = after;
    }
    let summary = app.get_as("service", "query_type=summary").await.json();
    let summary = &summary["data"]["summary"];
    for (series, path) in [
        ("pgvigil_health_score", "/health_score"),
        ("pgvigil_high_risk_tables", "/metrics/high_risk_tables"),
        ("pgvigil_slow_queries", "/metrics/slow_queries"),
    ] {
        assert_eq!(
            Some(before[series]),
            summary.pointer(path).and_then(serde_json::Value::as_f64),
            "{series}"
        );
    }
}
