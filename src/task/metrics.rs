//! What a sample tells CloudWatch.

use serde_json::{Number, Value};

use super::TaskError;
use crate::telemetry::metrics::Metric;

/// Numbers of a sample's report: where, what CloudWatch calls them, in which unit. These are the ones to wake somebody for or to
/// look at when the database is down; the rest is in the database. Which of them are metrics, the configuration says.
const REPORTED: [(&str, &str, &str); 16] = [
    ("/health_score", "HealthScore", "None"),
    ("/duration_ms", "SampleDuration", "Milliseconds"),
    ("/late_ms", "SampleLateness", "Milliseconds"),
    ("/metrics/findings", "Findings", "Count"),
    ("/metrics/slow_queries", "SlowQueries", "Count"),
    ("/metrics/blocked_sessions", "BlockedSessions", "Count"),
    (
        "/metrics/connection_utilization_percent",
        "ConnectionUtilization",
        "Percent",
    ),
    (
        "/metrics/longest_transaction_ms",
        "LongestTransaction",
        "Milliseconds",
    ),
    ("/metrics/high_risk_tables", "HighRiskTables", "Count"),
    (
        "/metrics/tables_needing_vacuum",
        "TablesNeedingVacuum",
        "Count",
    ),
    ("/metrics/unresolved_events", "UnresolvedEvents", "Count"),
    ("/metrics/critical_events", "CriticalEvents", "Count"),
    ("/metrics/active_sessions", "ActiveSessions", "Count"),
    ("/metrics/xid_age", "TransactionIdAge", "Count"),
    ("/metrics/replication_lag_bytes", "ReplicationLag", "Bytes"),
    (NOTIFICATIONS_FAILED, "NotificationsFailed", "Count"),
];

/// Known of a sample that failed, too: that there is no database is announced as well.
const NOTIFICATIONS_FAILED: &str = "/notifications/failed";

/// How it went: 1 or 0.
const FLAGS: [&str; 4] = [
    "SamplesTaken",
    "SamplesSkipped",
    "SampleFailed",
    "DatabaseReachable",
];

/// Every metric there can be, with its unit.
pub fn described() -> impl Iterator<Item = (&'static str, &'static str)> {
    let flags = FLAGS.into_iter().map(|name| (name, "Count"));
    flags.chain(REPORTED.iter().map(|&(_, name, unit)| (name, unit)))
}

/// The metrics of a sample: its numbers, as far as it has them, and how it went, which is there always.
///
/// `failed_to_announce` is what became of announcing that there is no database, where that was tried.
pub(super) fn of(
    result: &Result<Value, TaskError>,
    duration_ms: u64,
    failed_to_announce: Option<bool>,
) -> Vec<Metric> {
    let report = result.as_ref().unwrap_or(&Value::Null);
    let number = |pointer: &str| match report.pointer(pointer) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ if pointer == "/duration_ms" => Some(Number::from(duration_ms)),
        _ if pointer == NOTIFICATIONS_FAILED => {
            failed_to_announce.map(|failed| Number::from(u8::from(failed)))
        }
        _ => None,
    };
    let reported = REPORTED.iter().filter_map(|&(pointer, name, unit)| {
        number(pointer).map(|value| Metric { name, unit, value })
    });
    let states = [
        Some(report["status"] == "done"),
        Some(report["status"] == "skipped"),
        Some(result.is_err()),
        is_reachable(result),
    ];
    let flags = FLAGS.into_iter().zip(states).filter_map(|(name, state)| {
        let value = Number::from(u8::from(state?));
        Some(Metric {
            name,
            unit: "Count",
            value,
        })
    });
    flags.chain(reported).collect()
}

/// Whether the database answered, well or not; `None` where it was not asked.
fn is_reachable(result: &Result<Value, TaskError>) -> Option<bool> {
    match result {
        Ok(_) => Some(true),
        Err(error) if is_unreachable(error) => Some(false),
        Err(TaskError::Database(_)) => Some(true),
        Err(_) => None,
    }
}

/// Whether it was asked and did not answer.
pub(super) fn is_unreachable(error: &TaskError) -> bool {
    match error {
        TaskError::Database(error) => error.is_without_answer(),
        TaskError::Deadline(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::db::{DbError, DbErrorKind};

    fn told(result: &Result<Value, TaskError>) -> Value {
        let metrics = of(result, 7, None);
        let pairs = metrics
            .into_iter()
            .map(|metric| (metric.name.to_owned(), json!(metric.value)));
        Value::Object(pairs.collect())
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let report = json!({"status": "done", "duration_ms": 12, "health_score": null, "late_ms": "3",
            "metrics": {"findings": 0, "slow_queries": null, "connection_utilization_percent": 12.5, "unknown": 1}});
        let expected = json!({"SamplesTaken": 1, "SamplesSkipped": 0, "SampleFailed": 0, "DatabaseReachable": 1,
            "SampleDuration": 12, "Findings": 0, "ConnectionUtilization": 12.5});
        assert_eq!(told(&Ok(report)), expected);
    }

    /// A standby stores nothing and sees much.
    #[test]
    fn a_skipped_sample_tells_what_it_saw() {
        let report = json!({"status": "skipped", "reason": "…", "metrics": {"slow_queries": 3}});
        let expected = json!({"SamplesTaken": 0, "SamplesSkipped": 1, "SampleFailed": 0, "DatabaseReachable": 1,
            "SampleDuration": 7, "SlowQueries": 3});
        assert_eq!(told(&Ok(report)), expected);
    }

    #[test]
    fn a_failure_says_whether_the_database_answered() {
        let database = |kind| TaskError::Database(DbError::new("sample", kind));
        for (error, reachable) in [
            (database(DbErrorKind::Connect), json!(0)),
            (database(DbErrorKind::Closed), json!(0)),
            (database(DbErrorKind::Authentication), json!(0)),
            (database(DbErrorKind::Secret), json!(0)),
            (TaskError::Deadline("sample".to_owned()), json!(0)),
            (database(DbErrorKind::Timeout), json!(1)),
            (database(DbErrorKind::LockTimeout), json!(1)),
            (database(DbErrorKind::Missing), json!(1)),
            (database(DbErrorKind::Query), json!(1)),
            (TaskError::BadField("…"), Value::Null),
        ] {
            let context = error.to_string();
            let told = told(&Err(error));
            assert_eq!(told["DatabaseReachable"], reachable, "{context}");
            assert_eq!(
                (&told["SampleFailed"], &told["SampleDuration"]),
                (&json!(1), &json!(7))
            );
            assert_eq!(
                (&told["SamplesTaken"], &told["SamplesSkipped"]),
                (&json!(0), &json!(0))
            );
        }
    }

    #[test]
    fn what_could_not_be_announced_is_counted_with_and_without_a_sample() {
        let count = |result: &Result<Value, TaskError>, failed| {
            let metrics = of(result, 7, failed);
            let mut counts = metrics.iter().filter(|m| m.name == "NotificationsFailed");
            counts.next().map(|metric| metric.value.to_string())
        };
        let sampled = Ok(json!({"status": "done", "notifications": {"published": 1, "failed": 2}}));
        assert_eq!(count(&sampled, None).as_deref(), Some("2"));
        let gone = Err(TaskError::Deadline("sample".to_owned()));
        assert_eq!(count(&gone, Some(true)).as_deref(), Some("1"));
        assert_eq!(count(&gone, Some(false)).as_deref(), Some("0"));
        assert_eq!(count(&gone, None), None);
    }

    #[test]
    fn the_configuration_knows_each_name() {
        let names: Vec<&str> = described().map(|(name, _)| name).collect();
        assert_eq!(names, crate::config::METRICS);
    }

    #[test]
    fn names_are_few_and_told_apart() {
        let names: Vec<&str> = described().map(|(name, _)| name).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.len() <= 100, "more than a document may hold");
    }
}
