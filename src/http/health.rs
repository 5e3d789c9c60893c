//! `GET /api/monitoring/health`: whether the function reaches its database. No identity, no detail.

use std::time::Duration;

use super::{Success, problem::Problem};
use crate::db::{Database, Query, Session};

/// A load balancer's patience, not a person's.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn get(database: &Database) -> Result<Success, Problem> {
    let query = Query {
        name: "health",
        sql: "select 'ok'",
        params: Vec::new(),
    };
    let session = Session::caller(String::new(), STATEMENT_TIMEOUT);
    let answer = database
        .read(&session, &[query])
        .await
        .and_then(|answer| answer.results.into_iter().collect::<Result<Vec<_>, _>>());
    match answer {
        Ok(_) => Ok(Success::ok(r#"{"status":"ok"}"#.to_owned())),
        Err(error) => Err(Problem::from_database(&error, "see this").or_unavailable()),
    }
}
