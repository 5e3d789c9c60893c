//! What watching costs: the views, the summary and the GET on a small and on a large database, and the clean-up of a million
//! events, on real servers that are gone afterwards. README.md in `benches/` says how to read what it prints.

#![allow(
    clippy::expect_used,
    reason = "in a bench, what cannot go on should say so and stop"
)]

// Who asks: sessions, and the app.
mod asker;
// Builds the databases.
mod build;
// The clean-up of a million events.
mod events;
// What the other sessions do.
mod load;
// What a held table does to whoever looks.
mod locked;
// One call and what it took.
mod measure;
// Whether the answers are right.
mod plausible;
// What is printed.
mod report;
// Each view beside its floor and its naive form, in turns.
mod rounds;
// How large the databases are.
mod scale;
// The tests' own servers and callers.
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
// What is measured.
mod views;

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use report::{Report, print};
use scale::{LARGE, SMALL, Scale};
use support::postgres::SUPERUSER;

const PARTS: [&str; 3] = [SMALL.name, LARGE.name, "events"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Cargo adds an option of its own.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let Some(unknown) = chosen.iter().find(|part| !PARTS.contains(&part.as_str())) {
        print(&format!("{unknown} is none of {}\n", PARTS.join(", ")));
        return ExitCode::from(2);
    }
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|each| each == part);
    if !*measure::TELLS_CPU {
        print(
            "This system does not tell the CPU time of a process (/proc/PID/schedstat, Linux): wall times only.\n",
        );
    }
    let mut report = Report::new();
    for scale in [&SMALL, &LARGE] {
        if is_chosen(scale.name) {
            views_of(scale, &mut report).await;
        }
    }
    if is_chosen("events") {
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
    let database = build::database(scale).await;
    say(&format!("{}: opening the connections", scale.name));
    let load = load::start(&database, scale).await;
    // Statistics arrive up to a second late; what the sampler remembers must not be older than they are.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let sample = "delete from monitoring.samples; set role monitoring_agent; select monitoring.sample(); reset role";
    for _ in 0..2 {
        let sampled = database.psql(SUPERUSER, sample);
        sampled.expect("taking a sample");
    }
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
    report.lines(scale, &lines);
    drop(load);
}

/// One step, with the time since the bench began.
fn say(step: &str) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    print(&format!("[{:3}s] {step}\n", START.elapsed().as_secs()));
}

/// The number that a statement answers.
async fn number(client: &Client, sql: &str) -> i64 {
    let row = client.query_one(sql, &[]).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .get(0)
}
