//! What the way costs: a GET through AWS's emulator beside the same statements sent by themselves, on a small and on a large
//! database. README.md in `benches/` says how to read what it prints.

#![allow(
    clippy::expect_used,
    reason = "in a bench, what cannot go on should say so and stop"
)]

// Whether an answer is whole.
#[path = "../shared/answers.rs"]
mod answers;
// Builds the databases.
#[allow(dead_code, reason = "only the SQL bench measures the statements alone")]
#[path = "../shared/build.rs"]
mod build;
// The function under the emulator, and inside this process.
mod function;
// What is printed of a database.
mod lines;
// What the other sessions do.
#[path = "../shared/load.rs"]
mod load;
// One call and what it took.
#[allow(
    dead_code,
    reason = "the SQL bench measures sessions, this one processes"
)]
#[path = "../shared/measure.rs"]
mod measure;
// The statements of a GET, recorded and sent again.
mod replay;
// What is printed.
#[path = "../shared/report.rs"]
mod report;
// What is asked for.
mod requests;
// Everything once a round, in turns.
mod rounds;
// How large the databases are.
#[allow(dead_code, reason = "the SQL bench has targets and events of its own")]
#[path = "../shared/scale.rs"]
mod scale;
// A database as it is watched.
#[path = "../shared/stage.rs"]
mod stage;
// The tests' own servers and callers.
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::process::ExitCode;

use report::{Report, print, say};
use scale::{LARGE, SMALL};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let chosen = match stage::chosen(&[SMALL.name, LARGE.name]) {
        Ok(chosen) => chosen,
        Err(complaint) => {
            print(&complaint);
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new("bench-http.json");
    for scale in [&SMALL, &LARGE] {
        if chosen.contains(&scale.name) {
            let (database, load) = stage::database(scale).await;
            say(&format!("{}: measuring", scale.name));
            let measured = rounds::run(&database, scale, &mut report).await;
            lines::print(scale, &measured, &mut report);
            drop(load);
        }
    }
    say("done");
    if report.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
