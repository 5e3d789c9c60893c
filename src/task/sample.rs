//! `sample`: one look at the database, kept as one row with its heartbeat. Then what is due for the critical windows.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TaskError, report, statement_timeout, windows};
use crate::db::{Database, Query, Session};

/// A sample that takes longer than this would cost more than it tells.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the sample of a tick, or of now. Which tick that is, and whether it has its sample, is decided in SQL.
pub(super) async fn run(
    database: &Database,
    scheduled_at: Option<&str>,
    budget: Duration,
) -> Result<Value, TaskError> {
    let started = Instant::now();
    let query = Query {
        name: "sample",
        sql: "select case taken.report ->> 'status' when 'done' \
              then taken.report || jsonb_build_object('due', monitoring.windows_due()) else taken.report end::text \
              from monitoring.sample($1::timestamptz) as taken (report)",
        params: vec![scheduled_at.map(str::to_owned)],
    };
    let session = Session::agent(statement_timeout(STATEMENT_TIMEOUT, budget));
    let written = database.write(&session, &query).await;
    match written {
        Ok(text) => {
            let mut report = report(&text, query.name)?;
            if let Some(report) = report.as_object_mut() {
                windows::tend(database, report, budget.saturating_sub(started.elapsed())).await;
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
