//! `/api/monitoring/lighthouse`: what pages measured beside the database's health; and below it what Lighthouse CI uploads.

mod report;
mod upload;

use std::time::{Duration, Instant};

use super::{
    Access, Success, ask, limits::Caller, performance::TIME_RANGES, problem::Problem, request,
    response_ms,
};
use crate::{
    db::{Database, Query},
    event::HttpRequest,
};
pub(super) use upload::{answer, is_upload};

/// Answers budgets, judged runs and Web Vitals of a time range.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "lighthouse".to_owned();
    let (time_range, interval) = request::choice(request, "time_range", &TIME_RANGES)?;
    let query = Query {
        name: "lighthouse",
        sql: "select monitoring.lighthouse($1::interval)::text",
        params: vec![Some(interval.to_owned())],
    };
    let answer = ask(database, caller, &query, budget).await;
    let (data_json, timestamp_json) =
        answer.map_err(|error| Problem::from_database(&error, "read monitoring"))?;
    Ok(Success::ok(format!(
        "{{\"data\":{data_json},\"metadata\":{{\"timestamp\":{timestamp_json},\"responseTime\":{},\"timeRange\":\"{time_range}\"}}}}",
        response_ms(started)
    )))
}
