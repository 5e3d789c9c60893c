//! What watching costs: the views, the summary and the GET on a small and on a large database, and the clean-up of a million
//! events, on real servers that are gone afterwards. README.md in `benches/` says how to read what it prints.

#![allow(
    clippy::expect_used,
    reason = "in a bench, what cannot go on should say so and stop"
)]

// Whether an answer is whole.
#[path = "../shared/answers.rs"]
mod answers;
// Who asks: sessions, and the app.
mod asker;
// Builds the databases.
#[path = "../shared/build.rs"]
mod build;
// The clean-up of a million events.
mod events;
// The main table.
mod lines;
// What the other sessions do.
#[path = "../shared/load.rs"]
mod load;
// What a held table does to whoever looks.
mod locked;
// One call and what it took.
#[path = "../shared/measure.rs"]
mod measure;
// Whether the answers are right.
mod plausible;
// What is printed.
#[path = "../shared/report.rs"]
mod report;
// Each view beside its floor and its naive form, in turns.
mod rounds;
// How large the databases are.
#[path = "../shared/scale.rs"]
mod scale;
// A database as it is watched.
#[path = "../shared/stage.rs"]
mod stage;
// The tests' own servers and callers.
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
// What is measured.
mod views;

use std::process::ExitCode;

use report::{Report, print, say};
use scale::{LARGE, SMALL, Scale};

const PARTS: [&str; 3] = [SMALL.name, LARGE.name, "events"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let chosen = match stage::chosen(&PARTS) {
        Ok(chosen) => chosen,
        Err(complaint) => {
            print(&complaint);
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new("bench-sql.json");
    for scale in [&SMALL, &LARGE] {
        if chosen.contains(&scale.name) {
            views_of(scale, &mut report).await;
        }
    }
    if chosen.contains(&"events") {
        events::run(&mut report).await;
    }
    say("done");
    if report.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn views_of(scale: &Scale, report: &mut Report) {
    let (database, load) = stage::database(scale).await;
    plausible::check(&database, scale, report).await;

    say(&format!("{}: measuring", scale.name));
    let quiet = views::quiet(&database, scale).await;
    let mut lines = rounds::run(&database, scale, quiet.clone(), report).await;
    locked::run(&database, scale, quiet, report).await;
    let changed = views::changed(&database, scale).await;
    lines.extend(rounds::run(&database, scale, changed, report).await);
    build::statements(&database, scale, scale.most_statements).await;
    let statements = views::statements(&database, scale).await;
    lines.extend(rounds::run(&database, scale, statements, report).await);
    print(&format!(
        "\n{}: {} tables in {} schemas, {} policies, {} statements ({} for the statements), {} connections, {} active, {} waiting; \
         ms, {} rounds\n",
        scale.name,
        scale.tables,
        scale.schemas,
        scale.policies,
        scale.statements,
        scale.most_statements,
        scale.connections,
        scale.active,
        scale.waiting,
        scale.rounds(),
    ));
    lines::print(scale, &lines, report);
    drop(load);
}
