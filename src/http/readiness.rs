//! `GET /api/monitoring/readiness`: go or at risk, and why, for the next critical window or the one that is named.

use std::time::{Duration, Instant};

use super::{
    Access, Success, limits::Caller, problem::Problem, request, response_ms, statement_timeout,
};
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
    let query = Query {
        name: "readiness",
        sql: "select monitoring.readiness($1::uuid)::text",
        params: vec![window.map(str::to_owned)],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let refused = |error| Problem::from_database(&error, "read monitoring");
    let answer = database
        .read(&session, std::slice::from_ref(&query))
        .await
        .map_err(refused)?;
    let timestamp_json = answer.timestamp_json.clone();
    let data_json = answer.only_result(query.name);
    let data_json = data_json.map_err(|error| match (error.kind(), error.message()) {
        (DbErrorKind::Invalid, None) => Problem::invalid("window", "must be a UUID"),
        _ => refused(error),
    })?;
    Ok(Success::ok(format!(
        "{{\"data\":{data_json},\"metadata\":{{\"timestamp\":{timestamp_json},\"responseTime\":{}}}}}",
        response_ms(started)
    )))
}
