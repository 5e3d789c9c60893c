//! `GET /api/monitoring/validation`: the six checks to make after a migration, tried as the caller.

use std::time::{Duration, Instant};

use super::{Access, Success, limits::Caller, problem::Problem, response_ms, statement_timeout};
use crate::db::{Database, Query};

/// Answers what each check found. Nothing is changed by it.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "validation".to_owned();
    let query = Query {
        name: "validation",
        sql: "select json_build_object('pass', bool_and(v.pass), 'checks', json_agg(v))::text from monitoring.validation() v",
        params: Vec::new(),
    };
    let session = caller.session(statement_timeout(budget, 1));
    let refused = |error| Problem::from_database(&error, "read monitoring");
    let answer = database
        .read(&session, std::slice::from_ref(&query))
        .await
        .map_err(refused)?;
    let timestamp_json = answer.timestamp_json.clone();
    let data_json = answer.only_result(query.name).map_err(refused)?;
    let response_ms = response_ms(started);
    Ok(Success::ok(format!(
        "{{\"data\":{data_json},\"metadata\":{{\"timestamp\":{timestamp_json},\"responseTime\":{response_ms}}}}}"
    )))
}
