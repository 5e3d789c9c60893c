//! `cleanup`: retention of events and samples.

use std::time::Duration;

use serde_json::Value;

use super::{TaskError, report, statement_timeout};
use crate::db::{Database, Query, Session};

/// The function stops by itself after 20 s and reports that it is not complete; this is for the unforeseen.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(40);

/// Removes what is past its retention and reports counts by kind.
pub(super) async fn run(database: &Database, budget: Duration) -> Result<Value, TaskError> {
    let query = Query {
        name: "cleanup",
        sql: "select monitoring.clean_up()::text",
        params: Vec::new(),
    };
    let session = Session::agent(statement_timeout(STATEMENT_TIMEOUT, budget));
    let text = database.write(&session, &query).await?;
    report(&text, query.name)
}
