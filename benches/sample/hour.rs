//! An hour of samples, a tick a minute, with something going on between any two: what each took, and what all of them left behind.

use serde_json::{Value, json};

use crate::build;
use crate::measure::{MEDIAN, Probe, Series, number};
use crate::report::{Report, dash, ms, print, say, table, verdict, words};
use crate::scale::Scale;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::templates::SUPABASE_OWNER;

/// So many samples: an hour, but for the minute that has begun.
const SAMPLES: usize = 59;

/// The first ones do not count: everything has its first look in them.
const FIRST: usize = 5;

/// Statements between two samples.
const STATEMENTS: usize = 120;

/// One core at 0.05 percent: 30 ms a minute.
const CPU_TARGET_MS: f64 = 30.0;
const STORED_TARGET_MB: f64 = 5.0;
/// Of what the other exporter takes.
const SHARE_TARGET: f64 = 0.2;

/// What is kept of samples, in bytes. What only replaces itself is not in it.
const STORED: &str = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c \
    where c.relnamespace = 'monitoring'::regnamespace and c.relkind = 'r' and c.relname ~ '^(samples|statement_samples|table_samples)_\\d{8}$'";

/// What an hour took.
#[derive(Debug)]
pub(crate) struct Hour {
    all: Series,
    parts: Value,
    stored_bytes_a_day: i64,
}

pub(crate) async fn run(database: &TestDatabase, scale: &Scale, report: &mut Report) -> Hour {
    say(&format!("{}: an hour of samples", scale.name));
    let superuser = database.superuser().await;
    let application = database.session(SUPABASE_OWNER).await;
    // As at the very beginning.
    let begin = "delete from monitoring.samples; delete from monitoring.remembered; \
        update monitoring.sampler_parts set last_at = null, last_tick_at = null, next_at = null, noted = null";
    superuser
        .batch_execute(begin)
        .await
        .expect("beginning anew");
    let before = number(&superuser, STORED).await;
    let probe = Probe::new(database.as_caller(Caller::Agent).await).await;
    let mut all = Series::new();
    for n in 0..SAMPLES {
        let busy = build::batch(
            scale,
            n * STATEMENTS % (scale.statements - STATEMENTS),
            STATEMENTS,
        );
        application
            .batch_execute(&busy)
            .await
            .expect("executing statements");
        if n == SAMPLES / 2 {
            // What goes by the clock has its turn within the hour: renewing what is remembered, comparing all that is watched.
            let forget = "delete from monitoring.remembered; update monitoring.sampler_parts set noted = noted - 'compared_at'";
            superuser.batch_execute(forget).await.expect("forgetting");
        }
        let sql = format!(
            "select (monitoring.sample(now() - interval '{} minutes') ->> 'status' = 'done')::int",
            SAMPLES - n
        );
        let call = probe.call(&sql).await;
        if call.count != 1 {
            report.problem(format!("{}: a sample that was not taken", scale.name));
        }
        all.push_if(n >= FIRST, call);
    }
    let stored = number(&superuser, STORED).await - before;
    let kept = number(&superuser, "select count(*) from monitoring.samples").await;
    if kept != i64::try_from(SAMPLES).unwrap_or(0) {
        report.problem(format!("{}: {kept} samples are kept", scale.name));
    }
    let parts =
        "select jsonb_object_agg(part, round(cost_ms, 1))::text from monitoring.sampler_parts";
    let parts: String = superuser
        .query_one(parts, &[])
        .await
        .expect("asking what the parts took")
        .get(0);
    Hour {
        all,
        parts: serde_json::from_str(&parts).unwrap_or_default(),
        stored_bytes_a_day: stored * 1440 / i64::try_from(SAMPLES).unwrap_or(1),
    }
}

impl Hour {
    /// Prints it beside the other exporter's scrapes.
    pub(crate) fn print(&self, scale: &Scale, scrapes: Option<&Series>, report: &mut Report) {
        let is_target = scale.tables > 1_000;
        let mean = self.all.cpu_mean();
        let theirs = scrapes.and_then(|scrapes| scrapes.cpu(MEDIAN));
        let stored_mb =
            f64::from(i32::try_from(self.stored_bytes_a_day / 1000).unwrap_or(i32::MAX)) / 1000.0;
        let share = mean.zip(theirs).map(|(mean, theirs)| mean / theirs);
        let target = |target: f64| is_target.then_some(target);
        print(&format!(
            "\n{}: a sample a minute, {} samples; backend CPU in ms\n",
            scale.name,
            self.all.len()
        ));
        let row = |name: &str, value: String, target: Option<f64>, verdict: String| {
            vec![
                name.to_owned(),
                value,
                target.map_or_else(dash, |target| target.to_string()),
                verdict,
            ]
        };
        table(&[
            words(&["", "", "target", ""]),
            row(
                "CPU of a sample, mean",
                ms(mean),
                target(CPU_TARGET_MS),
                verdict(mean, target(CPU_TARGET_MS)),
            ),
            row(
                "the usual one (median)",
                ms(self.all.cpu(MEDIAN)),
                None,
                dash(),
            ),
            row("the costliest", ms(self.all.cpu(1.0)), None, dash()),
            row("wall, median", ms(self.all.wall(MEDIAN)), None, dash()),
            row("wall, longest", ms(self.all.wall(1.0)), None, dash()),
            row(
                "percent of one core",
                mean.map_or_else(dash, |mean| format!("{:.3}", mean / 600.0)),
                target(0.05),
                verdict(mean.map(|mean| mean / 600.0), target(0.05)),
            ),
            row("the other exporter's scrape", ms(theirs), None, dash()),
            row(
                "a sample by it",
                share.map_or_else(dash, |share| format!("{share:.2}")),
                target(SHARE_TARGET),
                verdict(share, target(SHARE_TARGET)),
            ),
            row(
                "stored a day, MB",
                format!("{stored_mb:.2}"),
                target(STORED_TARGET_MB),
                verdict(Some(stored_mb), target(STORED_TARGET_MB)),
            ),
        ]);
        print(&format!("the parts' last times, wall ms: {}\n", self.parts));
        report.json(&json!({
            "part": "hour", "database": scale.name, "samples": self.all.len(), "cpu_mean_ms": mean,
            "cpu_median_ms": self.all.cpu(MEDIAN), "cpu_max_ms": self.all.cpu(1.0), "wall_median_ms": self.all.wall(MEDIAN),
            "wall_max_ms": self.all.wall(1.0), "exporter_cpu_median_ms": theirs, "stored_bytes_a_day": self.stored_bytes_a_day,
            "parts_ms": self.parts,
        }));
    }
}
