//! `GET /api/monitoring/readiness`: go or at risk, and why, for the next critical window or the one that is named; with
//! `history=true` also what was reported before earlier ones.

use std::time::{Duration, Instant};

use super::{Access, Success, ask, limits::Caller, problem::Problem, request};
use crate::{
    db::{Database, DbErrorKind, Query},
    event::HttpRequest,
};

/// Answers the verdict with its reasons.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "readiness".to_owned();
    let window = request::parameter(request, "window")?;
    let (_, with_history) =
        request::choice(request, "history", &[("false", false), ("true", true)])?;
    let query = Query {
        name: "readiness",
        sql: match with_history {
            false => "select monitoring.readiness($1::uuid)::text",
            true => {
                "select (monitoring.readiness($1::uuid) || jsonb_build_object('reports', monitoring.readiness_history()))::text"
            }
        },
        params: vec![window.map(str::to_owned)],
    };
    let answer = ask(database, caller, &query, budget).await;
    let (data_json, timestamp_json) =
        answer.map_err(|error| match (error.kind(), error.message()) {
            (DbErrorKind::Invalid, None) => Problem::invalid("window", "must be a UUID"),
            _ => Problem::from_database(&error, "read monitoring"),
        })?;
    Ok(Success::data(&data_json, &timestamp_json, started))
}
