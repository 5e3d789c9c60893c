//! `sample`: one look at the database, kept as one row with its heartbeat.

use std::time::Duration;

use serde_json::Value;

use super::{TaskError, report, statement_timeout};
use crate::db::{Database, Query, Session};

/// A sample that takes longer than this would cost more than it tells.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the sample of a tick, or of now. Which tick that is, and whether it has its sample, is decided in SQL.
pub(super) async fn run(
    database: &Database,
    scheduled_at: Option<&str>,
    budget: Duration,
) -> Result<Value, TaskError> {
    let query = Query {
        name: "sample",
        sql: "select monitoring.sample($1::timestamptz)::text",
        params: vec![scheduled_at.map(str::to_owned)],
    };
    let session = Session::agent(statement_timeout(STATEMENT_TIMEOUT, budget));
    let written = database.write(&session, &query).await;
    match written {
        Ok(text) => report(&text, query.name),
        // 22007 and 22008: not a time, or none there can be.
        Err(error) if matches!(error.sqlstate(), Some("22007" | "22008")) => Err(
            TaskError::BadField("\"scheduled_at\" must be a time like 2025-06-07T17:00:00Z"),
        ),
        Err(error) => Err(error.into()),
    }
}
