//! `sample`: one look at the database, kept as one row with its heartbeat. Then what is due for the critical windows, and what
//! there is to announce. In a critical window several of these, one after the other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{TaskError, metrics, report, statement_timeout, windows};
use crate::{
    config::CloudWatchMetrics,
    db::{Query, Session, Target},
    notify::Notifier,
    telemetry::metrics::MetricLines,
};

/// A sample that takes longer than this would cost more than it tells.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// With less time until the deadline another sample is not begun.
const WORTH_TRYING: Duration = Duration::from_secs(5);

/// What follows a stored sample ends by so much before the sample's own time limit, which would take the sample for one that failed.
const MARGIN: Duration = Duration::from_millis(500);

/// Takes samples of one database, and tells how each went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler<'a> {
    pub(super) target: Target<'a>,
    pub(super) notifier: &'a Notifier,
    pub(super) metrics: &'a MetricLines,
    pub(super) published: &'a CloudWatchMetrics,
}

/// Which sample.
#[derive(Debug, Default)]
struct Tick {
    at: Option<String>,
    /// Where it is not the first of this invocation: when the next invocation's own begins.
    until: Option<String>,
}

impl Sampler<'_> {
    /// Takes the sample of a tick, or of now, and goes on for as long as SQL names a next one and the time allows. Which tick
    /// that is, and whether it has its sample, is decided in SQL. A sample that fails is the last one.
    pub(super) async fn run(
        &self,
        scheduled_at: Option<&str>,
        budget: Duration,
    ) -> Result<Value, TaskError> {
        let started = Instant::now();
        let left = || budget.saturating_sub(started.elapsed());
        let mut tick = Tick {
            at: scheduled_at.map(str::to_owned),
            until: None,
        };
        let mut samples = 0_u32;
        let mut told = Value::Null;
        loop {
            let (report, next) = self.one(scheduled_at, &tick, left()).await?;
            let is_done = report["status"] == "done";
            samples += u32::from(is_done);
            if is_done || told.is_null() {
                told = followed_by(told, report);
            }
            let Some(wait) = next["in_ms"].as_u64().map(Duration::from_millis) else {
                break;
            };
            if left() < wait + WORTH_TRYING {
                break;
            }
            tokio::time::sleep(wait).await;
            let text = |name: &str| next[name].as_str().map(str::to_owned);
            tick = Tick {
                at: text("tick_at"),
                until: text("until"),
            };
        }
        told["samples"] = json!(samples);
        if samples > 1 {
            told["duration_ms"] = json!(milliseconds(started));
        }
        Ok(told)
    }

    /// One sample and all that follows it: its report, and which one is next.
    async fn one(
        &self,
        scheduled_at: Option<&str>,
        tick: &Tick,
        budget: Duration,
    ) -> Result<(Value, Value), TaskError> {
        let started = Instant::now();
        let limit = budget.saturating_sub(self.notifier.reserve(budget));
        let mut result = tokio::time::timeout(limit, self.take(scheduled_at, tick, limit))
            .await
            .unwrap_or_else(|_| Err(TaskError::Deadline("sample".to_owned())));
        self.target.database.settle().await;
        let left = budget.saturating_sub(started.elapsed());
        let mut failed_to_announce = None;
        let mut next = Value::Null;
        match &mut result {
            Ok(report) => {
                let mut after = report["after"].take();
                next = after["next"].take();
                let may_hold_more = !report["readiness"].is_null();
                let told = self
                    .notifier
                    .sampled(self.target, &after, may_hold_more, left);
                if let Some(notifications) = told.await {
                    report["notifications"] = notifications;
                }
                if let Some(report) = report.as_object_mut() {
                    report.remove("after");
                }
                report["duration_ms"] = json!(milliseconds(started));
            }
            Err(error) if metrics::is_unreachable(error) => {
                let error = match error {
                    TaskError::Database(error) => Some(&*error),
                    _ => None,
                };
                let missed = self.notifier.missed(self.target.name, error, left);
                failed_to_announce = missed.await;
            }
            Err(_) => {}
        }
        self.tell(&result, milliseconds(started), failed_to_announce);
        result.map(|report| (report, next))
    }

    /// Leaves the metrics of one sample in the log.
    pub(super) fn tell(
        &self,
        result: &Result<Value, TaskError>,
        duration_ms: u64,
        failed_to_announce: Option<bool>,
    ) {
        let metrics = metrics::of(result, duration_ms, failed_to_announce);
        let is_published = |name: &str| self.published.contains(name);
        self.metrics.write(self.target.name, &metrics, is_published);
    }

    async fn take(
        &self,
        scheduled_at: Option<&str>,
        tick: &Tick,
        budget: Duration,
    ) -> Result<Value, TaskError> {
        let started = Instant::now();
        let database = self.target.database;
        let query = Query {
            name: "sample",
            // One that was there already is another invocation's, and so is what follows it; but who has begun goes on.
            sql: "select case when taken.report ->> 'status' = 'done' or $3::timestamptz is not null \
                  then taken.report || jsonb_build_object('due', monitoring.windows_due(), \
                    'after', monitoring.after_sample((taken.report ->> 'tick_at')::timestamptz, $2::timestamptz, $3::timestamptz, $4, $5)) \
                  else taken.report end::text \
                  from monitoring.sample($1::timestamptz) as taken (report)",
            params: vec![
                tick.at.clone(),
                scheduled_at.map(str::to_owned),
                tick.until.clone(),
                Some(self.target.name.to_owned()),
                self.notifier.outage(self.target.name),
            ],
        };
        let session = Session::agent(statement_timeout(STATEMENT_TIMEOUT, budget));
        match database.write(&session, &query).await {
            Ok(text) => {
                let mut report = report(&text, query.name)?;
                if let Some(report) = report.as_object_mut() {
                    let left = budget.saturating_sub(started.elapsed());
                    windows::tend(database, report, left.saturating_sub(MARGIN)).await;
                }
                Ok(report)
            }
            // 22007 and 22008: not a time, or none there can be.
            Err(error) if matches!(error.sqlstate(), Some("22007" | "22008")) => Err(
                TaskError::BadField("\"scheduled_at\" must be a time like 2025-06-07T17:00:00Z"),
            ),
            Err(error) => Err(error.into()),
        }
    }
}

/// The report of the last sample, with what was done for the windows after an earlier one, and all that was announced.
fn followed_by(mut earlier: Value, mut report: Value) -> Value {
    if let (Some(before), Some(now)) = (
        earlier["notifications"].as_object(),
        report["notifications"].as_object_mut(),
    ) {
        for counted in ["published", "failed", "given_up"] {
            let counts = [before.get(counted), now.get(counted)];
            if counts.iter().any(Option::is_some) {
                let sum: u64 = counts.iter().flatten().filter_map(|n| n.as_u64()).sum();
                now.insert(counted.to_owned(), json!(sum));
            }
        }
        // The first failure is what the others follow from.
        if let Some(problem) = before.get("problem") {
            now.insert("problem".to_owned(), problem.clone());
        }
    }
    for done in ["calendar", "readiness"] {
        if report[done].is_null() && !earlier[done].is_null() {
            report[done] = earlier[done].take();
        }
    }
    report
}

pub(super) fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_burst_has_all_that_was_announced() {
        let first = json!({"notifications": {"published": 2, "failed": 1, "left": 1, "problem": "Throttling"}, "calendar": {"status": "done"}});
        let second = json!({"notifications": {"published": 1, "failed": 1, "left": 0, "given_up": 1, "problem": "other"}, "health_score": 90});
        let third =
            json!({"notifications": {"published": 0, "failed": 0, "left": 0}, "calendar": null});
        let told = [first, second, third]
            .into_iter()
            .fold(Value::Null, followed_by);
        assert_eq!(
            told,
            json!({"notifications": {"published": 3, "failed": 2, "left": 0, "given_up": 1, "problem": "Throttling"},
                "calendar": {"status": "done"}})
        );
    }
}
