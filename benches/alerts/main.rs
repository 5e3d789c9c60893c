//! How good the alerts are: a recorded week that must be quiet, and incidents that must be told with the first look after they
//! have crossed a threshold. By the product's own sampler, on real servers. README.md in `benches/` says how to read it.

#![allow(
    clippy::expect_used,
    reason = "in a bench, what cannot go on should say so and stop"
)]

// Something is planted.
mod incidents;
// One call and what it took.
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "../shared/measure.rs"]
mod measure;
// What is planted.
mod planted;
// Records the week.
mod record;
// What is printed.
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "../shared/report.rs"]
mod report;
// The tests' own servers and callers.
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
// The recorded week.
mod week;

use std::cell::RefCell;
use std::process::ExitCode;

use report::{Report, print};
use support::database::TestDatabase;
use support::postgres::SUPERUSER;

const PARTS: [&str; 2] = ["week", "incidents"];

/// The recorded week.
const SERIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/alerts/week.tsv");

/// Autovacuum has no turn: what waits for it here is to wait for as long as it is looked at.
const SETTINGS: &str = "
autovacuum = on
autovacuum_naptime = 1d
";

/// Builds the application, so many times as large as it is small.
fn application(database: &TestDatabase, size: usize) {
    let sql = include_str!("application.sql").replace(":size", &size.to_string());
    let built = database.psql(SUPERUSER, &sql);
    built.unwrap_or_else(|problem| panic!("building the application: {problem}"));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if named == ["record"] {
        record::run().await;
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = named.iter().find(|part| !PARTS.contains(&part.as_str())) {
        print(&format!(
            "{unknown} is none of {}, record\n",
            PARTS.join(", ")
        ));
        return ExitCode::from(2);
    }
    let is_chosen = |part: &str| named.is_empty() || named.iter().any(|each| each == part);
    let report = RefCell::new(Report::new("bench-alerts.json"));
    // Each has a server of its own, so there is no need to wait for one another.
    tokio::join!(
        async {
            if is_chosen("incidents") {
                incidents::run(&report).await;
            }
        },
        async {
            if is_chosen("week") {
                week::run(&report).await;
            }
        }
    );
    if report.into_inner().end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
