//! `GET /api/monitoring/health`: whether the function reaches its default database. No identity, no detail.

use std::time::Duration;

use super::{Success, problem::Problem, target};
use crate::{
    db::{Database, Query, Session},
    event::HttpRequest,
};

/// A load balancer's patience, not a person's: connecting included.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn get(database: &Database, request: &HttpRequest) -> Result<Success, Problem> {
    // An answer for another database would be a lie, and whether there is such a one is for those with a token.
    if target::is_named(request) {
        return Err(Problem::invalid(
            "target",
            "cannot be chosen here: this is the default database's health",
        ));
    }
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
