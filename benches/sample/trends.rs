//! What reading the history costs, by how far it goes back.

use serde_json::json;

use crate::measure::{MEDIAN, P95, Probe, Series};
use crate::report::{Report, dash, ms, print, say, table, verdict, words};
use crate::support::caller::Caller;
use crate::support::postgres::{Cluster, ClusterOptions};
use crate::support::token;

const ROUNDS: usize = 25;

/// The cost of a month, by that of an hour.
const TARGET: f64 = 1.2;

pub(crate) async fn run(report: &mut Report) {
    let cluster = Cluster::start(ClusterOptions {
        settings: "shared_buffers = 128MB\nmax_parallel_workers_per_gather = 0\njit = off\n",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    say("trends: filling a year of history");
    let superuser = database.superuser().await;
    superuser
        .batch_execute(include_str!("history.sql"))
        .await
        .expect("filling the history");
    superuser
        .batch_execute("vacuum (analyze)")
        .await
        .expect("vacuuming");
    let reader = || Caller::Reader(token::claims("bench", "admin"));
    let probe = Probe::new(database.as_caller(reader()).await).await;
    let ranges = [
        "1 hour", "6 hours", "24 hours", "7 days", "30 days", "365 days",
    ];
    let mut series = ranges.map(|_| Series::new());
    let mut points = ranges.map(|_| 0);
    for round in 0..ROUNDS + 3 {
        for (n, range) in ranges.iter().enumerate() {
            // As the API asks.
            let sql = format!(
                "select json_array_length(coalesce(json_agg(t), '[]')) from monitoring.trends('{range}') t"
            );
            let call = probe.call(&sql).await;
            points[n] = call.count;
            series[n].push_if(round >= 3, call);
        }
    }
    print("\ntrends: on a year of history, a sample a minute; ms\n");
    let mut rows = vec![words(&[
        "range",
        "points",
        "CPU",
        "wall",
        "p95",
        "by 1 hour",
        "target",
        "",
    ])];
    let hour = series[0].cpu(MEDIAN).or_else(|| series[0].wall(MEDIAN));
    for (n, range) in ranges.iter().enumerate() {
        let cost = series[n].cpu(MEDIAN).or_else(|| series[n].wall(MEDIAN));
        let ratio = cost.zip(hour).map(|(cost, hour)| cost / hour);
        let target = (*range == "30 days").then_some(TARGET);
        if !(1..=300).contains(&points[n]) {
            report.problem(format!("trends of {range}: {} points", points[n]));
        }
        rows.push(vec![
            (*range).to_owned(),
            points[n].to_string(),
            ms(series[n].cpu(MEDIAN)),
            ms(series[n].wall(MEDIAN)),
            ms(series[n].wall(P95)),
            ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            target.map_or_else(dash, |target| target.to_string()),
            verdict(ratio, target),
        ]);
        report.json(&json!({"part": "trends", "range": range, "points": points[n], "cpu_median_ms": series[n].cpu(MEDIAN),
            "wall_median_ms": series[n].wall(MEDIAN), "by_hour": ratio}));
    }
    table(&rows);
}
