//! `validate`: the six checks to make after a migration, tried on the live database without changing it.

use std::time::Duration;

use serde_json::Value;

use super::{TaskError, report, statement_timeout};
use crate::db::{Database, Query, Session};

/// The checks stop trying by themselves after some seconds; this is for the unforeseen.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the checks as the agent, and returns what each found. What an exposed role can read is tried by the migrating
/// login where one is configured, since the monitor's own may not become such roles.
pub(super) async fn run(database: &Database, budget: Duration) -> Result<Value, TaskError> {
    let timeout = statement_timeout(STATEMENT_TIMEOUT, budget);
    let probe = Query {
        name: "probe_exposure",
        sql: "select monitoring.probe_exposure()::text",
        params: Vec::new(),
    };
    let probed = database
        .read_as_migrator(&probe, timeout)
        .await
        .transpose()?;
    let query = Query {
        name: "validation",
        sql: "select json_build_object('status', 'done', 'pass', bool_and(v.pass), 'checks', json_agg(v))::text \
              from monitoring.validation($1::jsonb) v",
        params: vec![probed],
    };
    let session = Session::agent(timeout);
    let answer = database
        .read(&session, std::slice::from_ref(&query))
        .await?;
    let found = report(&answer.only_result(query.name)?, query.name)?;
    for check in found["checks"].as_array().into_iter().flatten() {
        if check["pass"] != true {
            tracing::warn!(
                check = check["check_id"].as_str(),
                evidence = check["evidence"].as_str(),
                remedy = check["remedy"].as_str(),
                "validation failed"
            );
        }
    }
    Ok(found)
}
