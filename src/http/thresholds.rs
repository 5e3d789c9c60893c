//! `/api/monitoring/thresholds`: every check, and from which values its findings are a warning and critical.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{Access, Success, limits::Caller, problem::Problem, request, statement_timeout, tell};
use crate::{
    db::{Database, Query},
    event::HttpRequest,
};

const CONFIGURE: &str = "change thresholds";

/// Answers every check with its thresholds.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "thresholds".to_owned();
    let query = Query {
        name: "thresholds_list",
        sql: "select json_build_object('thresholds', coalesce(json_agg(t), '[]'))::text from monitoring.thresholds_list() t",
        params: Vec::new(),
    };
    tell(database, caller, &query, started, budget).await
}

/// Sets the two values of a check.
pub(super) async fn post(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_configurer(CONFIGURE)?;
    access.sections = "set_threshold".to_owned();
    let fields = request::json_object(request)?;
    let query = Query {
        name: "set_threshold",
        sql: "select monitoring.set_threshold($1, $2::numeric, $3::numeric)::text",
        params: vec![
            Some(request::required_text(&fields, "check_id")?),
            Some(number(&fields, "warning")?),
            Some(number(&fields, "critical")?),
        ],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let set = database.write(&session, &query).await;
    set.map_err(|error| Problem::from_database(&error, CONFIGURE))?;
    Ok(Success::ok(
        r#"{"success":true,"message":"Threshold set successfully"}"#.to_owned(),
    ))
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Err(Problem::invalid(name, "is required")),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(Problem::invalid(name, "must be a number")),
    }
}
