//! `GET /api/monitoring/health`: whether the function reaches its database. No identity, no detail.

use std::time::Duration;

use super::{Success, problem::Problem};
use crate::db::{Database, Query, Session};

/// A load balancer's patience, not a person's: connecting included.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn get(database: &Database) -> Result<Success, Problem> {
    let query = Query {
        name: "health",
        sql: "select 'ok'",
        params: Vec::new(),
    };
    let session = Session::caller(String::new(), PATIENCE);
    let answer = tokio::time::timeout(PATIENCE, database.read(&session, &[query])).await;
    let answer =
        answer.map(|answer| answer.and_then(|answer| answer.results.into_iter().collect()));
    match answer {
        Ok(Ok::<Vec<String>, _>(_)) => Ok(Success::ok(r#"{"status":"ok"}"#.to_owned())),
        Ok(Err(error)) => {
            tracing::error!(sqlstate = error.sqlstate(), "unhealthy: {error}");
            Err(Problem::database_unavailable())
        }
        Err(_) => {
            tracing::error!("unhealthy: the database did not answer in time");
            Err(Problem::database_unavailable())
        }
    }
}
