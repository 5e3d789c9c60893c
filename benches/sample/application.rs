//! What an application notices: pgbench with and without samples, in turns.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::report::{Report, print, say};
use crate::scale::Scale;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{PASSWORD, SUPERUSER};
use crate::support::programs::{server_programs, with_libraries};

/// Runs with samples, and as many without.
const PAIRS: usize = 6;
const SECONDS: u64 = 5;

pub(crate) async fn run(database: &TestDatabase, scale: &Scale, report: &mut Report) {
    if pgbench(database, &["--initialize", "--quiet", "--scale=5"])
        .await
        .is_none()
    {
        print(
            "pgbench is not beside the server's programs, so an application's view is not measured\n",
        );
        return;
    }
    say(&format!("{}: pgbench with and without samples", scale.name));
    let superuser = database.superuser().await;
    let agent = database.as_caller(Caller::Agent).await;
    let time = format!("--time={SECONDS}");
    let arguments = ["--no-vacuum", "--client=2", "--select-only", time.as_str()];
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut tps = [0.0; 2];
        // Each is first in every other pair.
        for turn in 0..2 {
            let sampled = (turn + pair) % 2;
            let run = pgbench(database, &arguments);
            let sampling = async {
                if sampled == 1 {
                    for _ in 0..SECONDS {
                        // Every second and not every minute, or nothing at all could be seen.
                        let again = superuser.batch_execute("delete from monitoring.samples where tick_at > now() - interval '2 minutes'");
                        again.await.expect("forgetting a sample");
                        agent
                            .batch_execute("select monitoring.sample()")
                            .await
                            .expect("sampling");
                        tokio::time::sleep(Duration::from_millis(900)).await;
                    }
                }
            };
            let (output, ()) = tokio::join!(run, sampling);
            tps[sampled] = output
                .as_deref()
                .and_then(transactions_per_second)
                .unwrap_or(0.0);
        }
        if tps[0] > 0.0 && tps[1] > 0.0 {
            ratios.push(tps[1] / tps[0]);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let Some(median) = ratios.get(ratios.len() / 2) else {
        report.problem(format!("{}: pgbench told no transactions", scale.name));
        return;
    };
    print(&format!(
        "{}: pgbench with a sample every second does {:.1} % of the transactions it does without (median of {} pairs, {:.1} to {:.1}); \
         a sample a minute is a sixtieth of that\n",
        scale.name,
        median * 100.0,
        ratios.len(),
        ratios[0] * 100.0,
        ratios[ratios.len() - 1] * 100.0,
    ));
    report.json(&json!({"part": "application", "database": scale.name, "ratios": ratios}));
}

/// What the program prints; none where there is none.
async fn pgbench(database: &TestDatabase, arguments: &[&str]) -> Option<String> {
    let programs = server_programs().expect("finding the server's programs");
    let beside = programs.join("pgbench");
    let program = if beside.exists() {
        beside
    } else {
        "pgbench".into()
    };
    let mut command = Command::new(program);
    with_libraries(&mut command, programs);
    command
        .args([
            "--host=127.0.0.1",
            &format!("--port={}", database.port()),
            &format!("--username={SUPERUSER}"),
        ])
        .args(arguments)
        .arg(&database.name)
        .env("PGPASSWORD", &*PASSWORD);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("running pgbench")
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn transactions_per_second(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.starts_with("tps = "))?;
    line.split_whitespace().nth(2)?.parse().ok()
}
