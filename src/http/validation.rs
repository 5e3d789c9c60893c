//! `GET /api/monitoring/validation`: the six checks to make after a migration, tried as the caller.

use std::time::{Duration, Instant};

use super::{Access, Success, ask, limits::Caller, problem::Problem};
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
    let answer = ask(database, caller, &query, budget).await;
    let (data_json, timestamp_json) =
        answer.map_err(|error| Problem::from_database(&error, "read monitoring"))?;
    Ok(Success::data(&data_json, &timestamp_json, started))
}
