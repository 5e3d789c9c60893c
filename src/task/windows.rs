//! What is done for the critical windows after a sample: the business's calendar is read, and readiness reported.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::db::{Database, Query, Session};

/// A report looks at everything, as a sample does.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Beyond its statement timeout, which code in a view can catch, nobody waits for the calendar.
const PATIENCE: Duration = Duration::from_secs(2);

/// In less time nothing is begun: a time limit of no milliseconds would be none at all.
const WORTH_TRYING: Duration = Duration::from_millis(100);

/// Does what the sample's report says is due, and tells it there instead. The sample is taken: nothing here makes it fail.
pub(super) async fn tend(database: &Database, report: &mut Map<String, Value>, budget: Duration) {
    let started = Instant::now();
    let left = || budget.saturating_sub(started.elapsed());
    let due = report.remove("due").unwrap_or_default();
    if let Some(limit_ms) = due["calendar_time_limit_ms"].as_u64() {
        let limit = Duration::from_millis(limit_ms);
        let query = Query {
            name: "refresh_calendar",
            // A reading that goes on and on is found by these words (monitoring.calendar_due()).
            sql: "select monitoring.refresh_calendar()::text",
            params: Vec::new(),
        };
        let outcome = outcome(database, &query, limit, left()).await;
        report.insert("calendar".to_owned(), outcome);
    }
    if due["report"] == true {
        let query = Query {
            name: "report_readiness",
            sql: "select monitoring.report_readiness()::text",
            params: Vec::new(),
        };
        let outcome = outcome(database, &query, REPORT_TIMEOUT, left()).await;
        report.insert("readiness".to_owned(), outcome);
    }
}

/// What the statement says of itself, or in the same form that it failed or that there is no time left for it.
async fn outcome(database: &Database, query: &Query, limit: Duration, left: Duration) -> Value {
    let limit = limit.min(left.saturating_sub(PATIENCE));
    if limit < WORTH_TRYING {
        return json!({"status": "skipped", "reason": "too little time before the deadline"});
    }
    let session = Session::agent(limit);
    let written = tokio::time::timeout(limit + PATIENCE, database.write(&session, query)).await;
    let problem = match written {
        Ok(Ok(text)) => match serde_json::from_str(&text) {
            Ok(outcome) => return outcome,
            Err(_) => "its answer could not be read".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{}: it did not end in time", query.name),
    };
    tracing::warn!("after the sample: {problem}");
    json!({"status": "failed", "problem": problem})
}
