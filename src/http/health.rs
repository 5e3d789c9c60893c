//! `GET /api/monitoring/health`: whether the function reaches its default database, and a schema that it can work with. No
//! identity, no detail.

use std::time::Duration;

use super::{Success, problem::Problem, target};
use crate::{db::Database, event::HttpRequest};

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
    match tokio::time::timeout(PATIENCE, database.difference(PATIENCE)).await {
        Ok(Ok(difference)) if difference.missing.is_empty() => {
            Ok(Success::ok(r#"{"status":"ok"}"#.to_owned()))
        }
        Ok(Ok(difference)) => {
            tracing::error!(missing = ?difference.missing, "unhealthy: the task migrate was not run");
            Err(Problem::schema_outdated())
        }
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
