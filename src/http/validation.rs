//! `GET /api/monitoring/validation`: the six checks to make after a migration, tried as the caller.

use std::time::{Duration, Instant};

use super::{Access, Success, limits::Caller, problem::Problem, tell};
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
    tell(database, caller, &query, started, budget).await
}
