//! A million events: the last day of them, and what cleaning up the older half does to whoever records one meanwhile.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::asker::Asker;
use crate::measure::{MEDIAN, P95, Probe, Series, milliseconds, number};
use crate::report::{Report, ms, print, say, table, verdict, words};
use crate::scale;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions};
use crate::support::token;
use crate::views::As;

/// As a server that keeps its promises, so that the WAL is all there; on memory as a disk, so without its waits.
const SETTINGS: &str = "
shared_buffers = 256MB
max_wal_size = 4GB
fsync = on
synchronous_commit = on
full_page_writes = on
max_parallel_workers_per_gather = 0
";

const CLEAN_UP_TARGET_MS: f64 = 2000.0;
const INSERT_TARGET_MS: f64 = 50.0;

/// What the API asks for its recent events (`src/http/performance.rs`), for a day.
const RECENT: &str = "select coalesce(json_agg(e), '[]')::text from (select id, event_type, severity, created_at, resolved_at, \
    last_seen_at, occurrences from public.monitoring_events \
    where created_at >= now() - interval '24 hours' or resolved_at is null and last_seen_at >= now() - interval '24 hours' \
    order by last_seen_at desc, id limit 10) e";
const NEWEST: &str = "select id, event_type, severity, created_at from public.monitoring_events \
    where created_at >= now() - interval '24 hours' order by created_at desc";

const RECORD: &str = "select public.record_monitoring_event('performance_alert', '{\"detail\": \"recorded meanwhile\"}', 'low')";

pub(crate) async fn run(report: &mut Report) {
    let cluster = Cluster::start(ClusterOptions {
        settings: SETTINGS,
        ..ClusterOptions::default()
    });
    let mut rows = vec![words(&[
        "clean-up",
        "events",
        "deleted",
        "wall",
        "target",
        "",
        "WAL MB",
        "inserts",
        "median",
        "slowest",
        "target",
        "",
        "slowest before",
    ])];
    for snapshot in [false, true] {
        say(&format!("events: filling a table of {}", scale::events()));
        let database = filled(&cluster).await;
        if !snapshot {
            last_day(&database, report).await;
        }
        rows.push(clean_up(&database, snapshot, report).await);
    }
    print("\nevents: the clean-up, and single inserts by another session meanwhile; ms\n");
    table(&rows);
}

async fn filled(cluster: &Cluster) -> TestDatabase {
    let database = cluster.database();
    let superuser = database.superuser().await;
    let fill = include_str!("events.sql").replace(":events", &scale::events().to_string());
    superuser
        .batch_execute(&format!(
            // Nobody is told of a past that was made up, and a row for each would double the work.
            "set role monitoring_owner; alter table public.monitoring_events disable trigger user; {fill}; \
             alter table public.monitoring_events enable trigger user; reset role"
        ))
        .await
        .expect("filling the events");
    let settled = superuser.batch_execute("vacuum (analyze) public.monitoring_events");
    settled.await.expect("vacuuming");
    superuser
        .batch_execute("checkpoint")
        .await
        .expect("a checkpoint");
    database
}

fn reader() -> Caller {
    Caller::Reader(token::claims("bench", "admin"))
}

/// By which plan, and how fast, the last day is found.
async fn last_day(database: &TestDatabase, report: &mut Report) {
    let client = database.as_caller(reader()).await;
    let (recent_plan, newest_plan) = (plan(&client, RECENT).await, plan(&client, NEWEST).await);
    let probe = Probe::new(client).await;
    let api = Asker::new(database, As::Api).await;
    let [mut recent, mut newest, mut get] = [const { Series::new() }; 3];
    for round in 0..=10 {
        recent.push_if(round > 0, probe.call(RECENT).await);
        let call = probe.call(NEWEST).await;
        if call.count == 0 {
            report.problem("events: none in the last day".to_owned());
        }
        newest.push_if(round > 0, call);
        let call = api.call("query_type=events&time_range=24h").await;
        if call.count != 1 {
            report.problem("events: a GET without recent events".to_owned());
        }
        get.push_if(round > 0, call);
    }
    print("\nevents: the last 24 hours\n");
    let mut rows = vec![words(&["by", "CPU", "wall", "p95", "an index"])];
    let none = Vec::new();
    for (name, series, plan) in [
        ("the API's statement", &recent, &recent_plan),
        ("all of them, newest first", &newest, &newest_plan),
        ("GET ?query_type=events", &get, &none),
    ] {
        let is_indexed = !plan.iter().any(|scan| scan.contains("Seq Scan"));
        let target = match (plan.is_empty(), is_indexed) {
            (true, _) => "-",
            (_, true) => "met",
            (_, false) => "OVER",
        };
        rows.push(vec![
            name.to_owned(),
            ms(series.cpu(MEDIAN)),
            ms(series.wall(MEDIAN)),
            ms(series.wall(P95)),
            target.to_owned(),
        ]);
        report.json(&json!({
            "part": "last day", "by": name, "cpu_median_ms": series.cpu(MEDIAN),
            "wall_median_ms": series.wall(MEDIAN), "wall_p95_ms": series.wall(P95), "scans": plan,
        }));
    }
    table(&rows);
    for (name, plan) in [
        ("the API's statement", recent_plan),
        ("all of them", newest_plan),
    ] {
        print(&format!("{name}: {}\n", plan.join("; ")));
    }
}

/// The plan's scans of the events, as EXPLAIN words them.
async fn plan(client: &Client, sql: &str) -> Vec<String> {
    let explain = format!("explain (costs off) {sql}");
    let plan = client.simple_query(&explain).await;
    let plan = plan.expect("explaining a statement");
    plan.iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .filter(|line| line.contains("Scan ") && line.contains("monitoring_events"))
        .map(|line| line.trim_start_matches([' ', '-', '>']).to_owned())
        .collect()
}

/// Cleans up while another session records events, and says what either took.
async fn clean_up(database: &TestDatabase, snapshot: bool, report: &mut Report) -> Vec<String> {
    let name = if snapshot {
        "with an old snapshot"
    } else {
        "without"
    };
    let superuser = database.superuser().await;
    let before = number(&superuser, "select count(*) from public.monitoring_events").await;
    let old = database.superuser().await;
    if snapshot {
        let begin =
            "begin isolation level repeatable read; select count(*) from public.monitoring_events";
        old.batch_execute(begin).await.expect("taking a snapshot");
    }
    let agent = database.as_caller(Caller::Agent).await;
    let recorder = Probe::new(database.as_caller(reader()).await).await;

    say(&format!("events: recording, then cleaning up, {name}"));
    let undisturbed = recording(&recorder, tokio::time::sleep(Duration::from_secs(2))).await;
    let position = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    let position_before = number(&superuser, position).await;
    let mut outcome = (Value::Null, 0.0);
    let disturbed = recording(&recorder, async {
        let start = Instant::now();
        let cleaned = agent.query_one("select public.cleanup_old_monitoring_data()::text", &[]);
        let cleaned: String = cleaned.await.expect("cleaning up").get(0);
        let wall_ms = milliseconds(start.elapsed());
        outcome = (
            serde_json::from_str(&cleaned).expect("reading the counts"),
            wall_ms,
        );
    })
    .await;
    let wal_bytes = number(&superuser, position).await - position_before;
    let (counts, wall_ms) = outcome;
    let deleted = [&counts["resolved_events"], &counts["unresolved_events"]];
    let deleted: i64 = deleted.into_iter().filter_map(Value::as_i64).sum();
    // The older half, give or take those that lie on the border.
    if (2 * deleted - before).abs() > before / 50 || counts["complete"] != true {
        report.problem(format!(
            "events, {name}: {deleted} of {before} deleted: {counts}"
        ));
    }
    let slowest = disturbed.wall(1.0);
    report.json(&json!({
        "part": "clean-up", "old_snapshot": snapshot, "events": before, "deleted": deleted, "wall_ms": wall_ms,
        "wal_bytes": wal_bytes, "inserts": disturbed.len(), "insert_median_ms": disturbed.wall(MEDIAN),
        "insert_p95_ms": disturbed.wall(P95), "insert_slowest_ms": slowest, "undisturbed_insert_slowest_ms": undisturbed.wall(1.0),
    }));
    vec![
        name.to_owned(),
        before.to_string(),
        deleted.to_string(),
        ms(Some(wall_ms)),
        CLEAN_UP_TARGET_MS.to_string(),
        verdict(Some(wall_ms), Some(CLEAN_UP_TARGET_MS)),
        (wal_bytes / 1_000_000).to_string(),
        disturbed.len().to_string(),
        ms(disturbed.wall(MEDIAN)),
        ms(slowest),
        INSERT_TARGET_MS.to_string(),
        verdict(slowest, Some(INSERT_TARGET_MS)),
        ms(undisturbed.wall(1.0)),
    ]
}

/// Records events one after another for as long as something else takes.
async fn recording(recorder: &Probe, meanwhile: impl Future<Output = ()>) -> Series {
    let is_over = Cell::new(false);
    let record = async {
        let mut series = Series::new();
        while !is_over.get() {
            series.push(recorder.call(RECORD).await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        series
    };
    let meanwhile = async {
        meanwhile.await;
        is_over.set(true);
    };
    tokio::join!(record, meanwhile).0
}
