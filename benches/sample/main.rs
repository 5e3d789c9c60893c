//! What sampling costs: hours of samples on a small and on a large database, beside another exporter's scrapes, what is stored,
//! what the application notices, and what reading the history costs. README.md in `benches/` says how to read it.

#![allow(
    clippy::expect_used,
    reason = "in a bench, what cannot go on should say so and stop"
)]

// What pgbench gets done while samples are taken.
mod application;
// Builds the databases.
#[path = "../shared/build.rs"]
mod build;
// The other exporter.
mod exporter;
// Hours of samples.
mod hours;
// What the other sessions do.
#[path = "../shared/load.rs"]
mod load;
// One call and what it took.
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "../shared/measure.rs"]
mod measure;
// What is printed.
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "../shared/report.rs"]
mod report;
// How large the databases are.
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "../shared/scale.rs"]
mod scale;
// A database as it is watched.
#[path = "../shared/stage.rs"]
mod stage;
// The tests' own servers and callers.
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
// What reading the history costs.
mod trends;

use std::process::ExitCode;

use report::{Report, print, say};
use scale::{LARGE, SMALL};

const PARTS: [&str; 3] = [SMALL.name, LARGE.name, "trends"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let chosen = match stage::chosen(&PARTS) {
        Ok(chosen) => chosen,
        Err(complaint) => {
            print(&complaint);
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new("bench-sample.json");
    for scale in [&SMALL, &LARGE] {
        if chosen.contains(&scale.name) {
            let (database, load) = stage::database(scale).await;
            let hours = hours::run(&database, scale, &mut report).await;
            let scrapes = exporter::run(&database, scale, &mut report).await;
            hours.print(scale, scrapes.as_ref(), &mut report);
            application::run(&database, scale, &mut report).await;
            drop(load);
        }
    }
    if chosen.contains(&"trends") {
        trends::run(&mut report).await;
    }
    say("done");
    if report.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
