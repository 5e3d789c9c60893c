//! Something is planted on a quiet server, for real; the sampler looks every minute, by a clock that is put forward, until it is told.

use std::cell::RefCell;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::planted::{INCIDENTS, ORDINARY, Planted};
use crate::report::{Report, dash, print, say, table, words};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, PASSWORD, SUPERUSER};
use crate::support::programs::client;
use crate::support::wait::wait_until;
use crate::{SETTINGS, application};

/// As long as it was quiet before: what judges an hour says nothing of less than ten minutes.
const QUIET_MINUTES: i32 = 15;

/// What is not found by three looks in a row is over.
const LOOKS_TO_END: i32 = 3;

const BENCH: &str = "create schema bench;
    create function bench.flush() returns void language plpgsql as $$
      begin perform pg_stat_force_next_flush(); exception when undefined_function then perform pg_sleep(1.2); end $$;
    create function bench.settle() returns void language plpgsql as $$ begin perform pg_sleep(1.2); end $$;";

/// What a scenario became.
#[derive(Debug, Default)]
struct Told {
    crossed_at: Option<i32>,
    detected_at: Option<i32>,
    severity: String,
    events: usize,
    false_alerts: Vec<String>,
    samples: i32,
    ended_after: Option<i32>,
}

pub(crate) async fn run(report: &RefCell<Report>) {
    let cluster = Cluster::start(ClusterOptions {
        settings: SETTINGS,
        ..ClusterOptions::default()
    });
    let only =
        std::env::var_os("PGVIGIL_BENCH_ONLY").map(|only| only.to_string_lossy().into_owned());
    let is_wanted = |planted: &&Planted| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|each| planted.kind.contains(each)))
    };
    let mut rows = vec![words(&[
        "incident",
        "check",
        "crossed at",
        "alert after samples",
        "allowed",
        "severity",
        "events",
        "over after",
        "false alerts",
    ])];
    for planted in INCIDENTS.iter().filter(is_wanted) {
        say(&format!("incidents: {}", planted.kind));
        let told = one(&cluster, planted).await;
        rows.push(judge(planted, &told, &mut report.borrow_mut()));
    }
    let mut ordinary = vec![words(&["ordinary", "samples judged", "alerts"])];
    for planted in ORDINARY.iter().filter(is_wanted) {
        say(&format!("incidents: ordinary: {}", planted.kind));
        let told = one(&cluster, planted).await;
        let mut report = report.borrow_mut();
        for alert in &told.false_alerts {
            report.problem(format!("{}: a false alert: {alert}", planted.kind));
        }
        report.json(&json!({"part": "ordinary", "kind": planted.kind, "samples": told.samples, "alerts": told.false_alerts}));
        ordinary.push(vec![
            planted.kind.to_owned(),
            told.samples.to_string(),
            told.false_alerts.len().to_string(),
        ]);
    }
    print("\nincidents: minutes after they were planted, samples a minute apart\n");
    table(&rows);
    print("\nordinary things\n");
    table(&ordinary);
}

/// The row of an incident; what is wrong with it is a problem.
fn judge(planted: &Planted, told: &Told, report: &mut Report) -> Vec<String> {
    let after = told
        .crossed_at
        .zip(told.detected_at)
        .map(|(crossed, detected)| detected - crossed + 1);
    match (told.crossed_at, after) {
        (None, _) => report.problem(format!("{}: it never crossed its threshold", planted.kind)),
        (_, None) => report.problem(format!("{}: never told", planted.kind)),
        (_, Some(after)) if after < 1 => {
            report.problem(format!("{}: told before it had crossed", planted.kind))
        }
        (_, Some(after)) if after > planted.within => report.problem(format!(
            "{}: told by sample {after} after it had crossed",
            planted.kind
        )),
        _ => {}
    }
    for alert in &told.false_alerts {
        report.problem(format!("{}: a false alert: {alert}", planted.kind));
    }
    if !planted.undo.is_empty() && told.ended_after != Some(LOOKS_TO_END) {
        report.problem(format!(
            "{}: over, and not resolved by the third look: {:?}",
            planted.kind, told.ended_after
        ));
    }
    let number = |n: Option<i32>| n.map_or_else(dash, |n| n.to_string());
    report.json(&json!({"part": "incident", "kind": planted.kind, "check_id": planted.check_id, "crossed_at": told.crossed_at,
        "alert_after_samples": after, "severity": told.severity, "events": told.events, "over_after": told.ended_after, "false_alerts": told.false_alerts}));
    vec![
        planted.kind.to_owned(),
        planted.check_id.to_owned(),
        number(told.crossed_at),
        after.map_or_else(dash, |after| format!("+{after}")),
        planted.within.to_string(),
        told.severity.clone(),
        told.events.to_string(),
        number(told.ended_after),
        told.false_alerts.len().to_string(),
    ]
}

/// A database in which minutes pass as they are told to.
struct Watch {
    database: TestDatabase,
    /// Takes the samples.
    sampler: Client,
    /// Does what is planted, and sees whether it is past its threshold, by the same clock.
    hand: Client,
    /// When it is planted, by the server's clock: sessions go by that.
    zero: String,
    sessions: Vec<(i32, JoinHandle<()>)>,
    idle: Vec<Client>,
    backup: Option<Child>,
}

impl Watch {
    async fn begin(cluster: &Cluster, planted: &Planted) -> Self {
        let database = cluster.database();
        application(&database, 1);
        for sql in [include_str!("clock.sql"), BENCH, planted.prepare] {
            let done = database.psql(SUPERUSER, sql);
            done.unwrap_or_else(|problem| panic!("{}: {problem}", planted.kind));
        }
        let (sampler, hand) = (
            database.as_caller(Caller::Agent).await,
            database.superuser().await,
        );
        let zero = hand
            .query_one(
                "select (replay.server_clock() + interval '1 second')::text",
                &[],
            )
            .await;
        let zero = zero.expect("asking for the time").get(0);
        Self {
            database,
            sampler,
            hand,
            zero,
            sessions: Vec::new(),
            idle: Vec::new(),
            backup: None,
        }
    }

    /// From now on it is so many minutes after it was planted.
    async fn set_clock(&self, minute: i32) {
        let sql = format!(
            "select set_config('replay.at', (timestamptz '{}' + {minute} * interval '1 minute')::text, false)",
            self.zero
        );
        for session in [&self.sampler, &self.hand] {
            session
                .batch_execute(&sql)
                .await
                .expect("setting the clock");
        }
    }

    async fn act(&self, sql: &str) {
        if !sql.is_empty() {
            let done = self.hand.batch_execute(sql).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    async fn sample(&self) {
        let taken = self
            .sampler
            .query_one("select (monitoring.sample(null))::text", &[])
            .await;
        let taken: String = taken.expect("taking a sample").get(0);
        assert!(
            taken.contains("\"status\": \"done\"") && taken.contains("\"skipped\": []"),
            "{taken}"
        );
    }

    async fn is(&self, condition: &str) -> bool {
        let answer = self
            .hand
            .query_one(&format!("select coalesce({condition}, false)"), &[])
            .await;
        answer
            .unwrap_or_else(|error| panic!("{condition}: {error:?}"))
            .get(0)
    }

    /// The severity of what the check has told, while that is open.
    async fn open(&self, check_id: &str) -> Option<String> {
        let sql = "select severity from public.monitoring_events where event_data ->> 'check_id' = $1 and resolved_at is null limit 1";
        let row = self.hand.query_opt(sql, &[&check_id]).await;
        row.expect("asking for events").map(|row| row.get(0))
    }

    async fn begin_session(&mut self, statements: &'static str) {
        let session = self.database.superuser().await;
        let pid = session.query_one("select pg_backend_pid()", &[]).await;
        let pid = pid.expect("asking for the process id").get(0);
        let last = statements.rsplit("; ").next().unwrap_or(statements);
        let task = tokio::spawn(async move {
            for statement in statements.split("; ") {
                let _ = session.batch_execute(statement).await;
            }
            std::future::pending().await
        });
        wait_until(last, async || {
            let at_it = "select from pg_stat_activity where pid = $1 and query = $2";
            self.hand
                .query_opt(at_it, &[&pid, &last])
                .await
                .expect("watching")
                .is_some()
        })
        .await;
        self.sessions.push((pid, task));
    }

    /// As `pg_dump` does it, only that nobody reads: so it lasts until it is ended.
    async fn begin_backup(&mut self) {
        let mut psql: Command = client("psql");
        psql.args([
            "-X",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            &self.database.port().to_string(),
            "-U",
            SUPERUSER,
            "-d",
            &self.database.name,
        ]);
        psql.args([
            "-c",
            "set application_name = 'pg_dump'",
            "-c",
            "begin isolation level repeatable read read only",
        ]);
        psql.args([
            "-c",
            "copy (select g.* from guests g, generate_series(1, 50)) to stdout",
        ]);
        psql.env("PGPASSWORD", PASSWORD.as_str())
            .stdout(Stdio::piped());
        self.backup = Some(psql.spawn().expect("starting psql"));
        wait_until("a table is copied out", async || {
            self.is("exists (select from pg_stat_progress_copy)").await
        })
        .await;
    }

    async fn end(&mut self) {
        for (pid, task) in self.sessions.drain(..) {
            let _ = self
                .hand
                .batch_execute(&format!("select pg_terminate_backend({pid}, 5000)"))
                .await;
            task.abort();
        }
        if let Some(mut backup) = self.backup.take() {
            let _ = backup.kill();
            let _ = backup.wait();
        }
        self.idle.clear();
        let gone = "select count(*) = 0 from pg_stat_activity where backend_type = 'client backend' and datname = current_database() and pid <> pg_backend_pid() and usename = 'postgres'";
        wait_until("the sessions are gone", async || {
            self.hand
                .query_one(gone, &[])
                .await
                .expect("watching")
                .get(0)
        })
        .await;
    }
}

async fn one(cluster: &Cluster, planted: &'static Planted) -> Told {
    let mut watch = Watch::begin(cluster, planted).await;
    let mut told = Told::default();
    for minute in 1 - QUIET_MINUTES..=0 {
        watch.set_clock(minute).await;
        watch.act(planted.as_ever).await;
        watch.sample().await;
        told.samples += 1;
    }
    for statements in planted.sessions {
        watch.begin_session(statements).await;
    }
    if planted.is_backup {
        watch.begin_backup().await;
    }
    for statement in planted.plant {
        // A transaction block would take from `concurrently` what it is about.
        let _ = watch.hand.batch_execute(statement).await;
    }
    for n in 0..planted.samples {
        let minute = planted.first_gap + n;
        watch.set_clock(minute).await;
        watch.act(planted.every_minute).await;
        for _ in 0..planted.connections {
            watch.idle.push(watch.database.superuser().await);
        }
        if told.crossed_at.is_none() && watch.is(planted.crossed).await {
            told.crossed_at = Some(minute);
        }
        watch.sample().await;
        told.samples += 1;
        if let Some(severity) = watch.open(planted.check_id).await {
            told.detected_at = Some(minute);
            told.severity = severity;
            break;
        }
    }
    let last = told
        .detected_at
        .unwrap_or(planted.first_gap + planted.samples - 1);
    watch.end().await;
    if told.detected_at.is_some() && !planted.undo.is_empty() {
        for statement in planted.undo {
            watch.act(statement).await;
        }
        for after in 1..=LOOKS_TO_END + 3 {
            watch.set_clock(last + after).await;
            watch.sample().await;
            if watch.open(planted.check_id).await.is_none() {
                told.ended_after = Some(after);
                break;
            }
        }
    } else {
        // What it leaves on the server, it takes along.
        for statement in planted.undo {
            let _ = watch.hand.batch_execute(statement).await;
        }
    }
    let events = "select event_data ->> 'check_id', format('%s %s %s: %s', event_data ->> 'check_id', event_data ->> 'object', severity, event_data ->> 'detail')
        from public.monitoring_events order by created_at";
    for event in watch
        .hand
        .query(events, &[])
        .await
        .expect("asking for events")
    {
        let check_id: Option<&str> = event.get(0);
        told.events += 1;
        if check_id.is_none_or(|id| id != planted.check_id && !planted.also.contains(&id)) {
            told.false_alerts.push(event.get(1));
        }
    }
    told
}
