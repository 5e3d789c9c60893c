//! Hours of samples, a tick a minute, with something going on between any two: what each took, and what all of them left behind.

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

/// What is costliest has its turn less than once an hour.
const HOURS: usize = 4;

/// The first ones do not count: everything has its first look in them.
const FIRST: usize = 5;

/// As at the very beginning. Ticks are of the past here, and when their hour was over, each sample would sum it up once more: in life a
/// tick comes before that.
const BEGIN: &str = "truncate monitoring.samples, monitoring.statement_samples, monitoring.table_samples;
    delete from monitoring.remembered; delete from monitoring.remembered_checks;
    update monitoring.sampler_parts set last_at = null, last_tick_at = null, next_at = null, noted = null;
    create or replace function monitoring.roll_up_again(p_tick_at timestamptz) returns void language plpgsql as 'begin end'";

/// It remembers one subject a sample, and the next when its budget allows.
const HURRY: &str = "update monitoring.sampler_parts set next_at = null where part = 'remember'";

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

/// A minute has passed: what goes by the clock and not by ticks has its turn as often as in any hour.
const MEANWHILE: &str = "update monitoring.remembered set remembered_at = remembered_at - interval '1 minute', checked_at = checked_at - interval '1 minute';
    update monitoring.remembered_checks set checked_at = checked_at - interval '1 minute';
    update monitoring.sampler_parts
    set noted = jsonb_set(noted, '{compared_at}', to_jsonb((noted ->> 'compared_at')::timestamptz - interval '1 minute'))
    where noted ? 'compared_at'";

/// The same ticks once more. Not by TRUNCATE, which would be a change of the catalogs.
fn again() -> [String; 2] {
    let emptied = "delete from monitoring.samples; delete from monitoring.statement_samples; delete from monitoring.table_samples;";
    let earlier = ["last_at", "last_tick_at", "next_at"]
        .map(|column| format!("{column} = {column} - interval '{SAMPLES} minutes'"))
        .join(", ");
    [
        format!("{emptied} update monitoring.sampler_parts set {earlier}"),
        "vacuum monitoring.samples, monitoring.statement_samples, monitoring.table_samples"
            .to_owned(),
    ]
}

/// What the hours took.
#[derive(Debug)]
pub(crate) struct Hours {
    all: Series,
    parts: Value,
    stored_bytes_a_day: i64,
}

pub(crate) async fn run(database: &TestDatabase, scale: &Scale, report: &mut Report) -> Hours {
    say(&format!("{}: {HOURS} hours of samples", scale.name));
    let superuser = database.superuser().await;
    let application = database.session(SUPABASE_OWNER).await;
    superuser
        .batch_execute(BEGIN)
        .await
        .expect("beginning anew");
    let empty = number(&superuser, STORED).await;
    let probe = Probe::new(database.as_caller(Caller::Agent).await).await;
    let mut all = Series::new();
    let (mut stored, mut kept) = (0, 0);
    for n in 0..HOURS * SAMPLES {
        let busy = build::batch(
            scale,
            n * STATEMENTS % (scale.statements - STATEMENTS),
            STATEMENTS,
        );
        application
            .batch_execute(&busy)
            .await
            .expect("executing statements");
        if n > 0 && n % SAMPLES == 0 {
            for sql in again() {
                let done = superuser.batch_execute(&sql).await;
                done.expect("beginning another hour");
            }
        }
        let meanwhile = if n < FIRST { HURRY } else { MEANWHILE };
        let done = superuser.batch_execute(meanwhile).await;
        done.expect("letting time pass");
        let sql = format!(
            "select (monitoring.sample(now() - interval '{} minutes') ->> 'status' = 'done')::int",
            SAMPLES - n % SAMPLES
        );
        let call = probe.call(&sql).await;
        if call.count != 1 {
            report.problem(format!("{}: a sample that was not taken", scale.name));
        }
        all.push_if(n >= FIRST, call);
        if n % SAMPLES == SAMPLES - 1 {
            kept += number(&superuser, "select count(*) from monitoring.samples").await;
        }
        if n == SAMPLES - 1 {
            // The later ones find room that the first has left.
            stored = number(&superuser, STORED).await - empty;
        }
    }
    let taken = i64::try_from(HOURS * SAMPLES).unwrap_or(i64::MAX);
    if kept != taken {
        report.problem(format!(
            "{}: {kept} of {taken} samples are kept",
            scale.name
        ));
    }
    let parts =
        "select jsonb_object_agg(part, round(cost_ms, 1))::text from monitoring.sampler_parts";
    let parts: String = superuser
        .query_one(parts, &[])
        .await
        .expect("asking what the parts took")
        .get(0);
    Hours {
        all,
        parts: serde_json::from_str(&parts).unwrap_or_default(),
        stored_bytes_a_day: stored * 1440 / i64::try_from(SAMPLES).unwrap_or(1),
    }
}

impl Hours {
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
