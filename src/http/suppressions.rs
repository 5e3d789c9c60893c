//! `/api/monitoring/suppressions`: findings that are known and accepted until a date.

use std::time::{Duration, Instant};

use super::{Access, Success, limits::Caller, problem::Problem, request, statement_timeout, tell};
use crate::{
    db::{Database, DbErrorKind, Query},
    event::HttpRequest,
};

const CONFIGURE: &str = "change suppressions";

/// Answers the suppressions that hold.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "suppressions".to_owned();
    let query = Query {
        name: "suppressions",
        sql: "select json_build_object('suppressions', coalesce(json_agg(s), '[]'))::text from monitoring.suppressions() s",
        params: Vec::new(),
    };
    tell(database, caller, &query, started, budget).await
}

/// Accepts a finding until a date; again, with another reason or end.
pub(super) async fn post(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_configurer(CONFIGURE)?;
    access.sections = "suppress".to_owned();
    let fields = request::json_object(request)?;
    let query = Query {
        name: "suppress",
        sql: "select monitoring.suppress($1, $2, $3::timestamptz)::text",
        params: vec![
            Some(request::required_text(&fields, "fingerprint")?),
            Some(request::required_text(&fields, "reason")?),
            Some(request::timestamp(&fields, "until")?),
        ],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let suppressed = database.write(&session, &query).await;
    suppressed.map_err(|error| match (error.kind(), error.message()) {
        (DbErrorKind::Invalid, None) => Problem::invalid("until", "must be a time that exists"),
        _ => Problem::from_database(&error, CONFIGURE),
    })?;
    Ok(Success::created(
        r#"{"success":true,"message":"Finding suppressed successfully"}"#.to_owned(),
    ))
}

/// Ends the suppression of the finding that `fingerprint` names.
pub(super) async fn delete(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_configurer(CONFIGURE)?;
    access.sections = "unsuppress".to_owned();
    let fingerprint = request::parameter(request, "fingerprint")?;
    let fingerprint = fingerprint.ok_or_else(|| Problem::invalid("fingerprint", "is required"))?;
    let query = Query {
        name: "unsuppress",
        sql: "select monitoring.unsuppress($1)::text",
        params: vec![Some(fingerprint.replace('\0', " "))],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let ended = database.write(&session, &query).await;
    ended.map_err(|error| Problem::from_database(&error, CONFIGURE))?;
    Ok(Success::ok(
        r#"{"success":true,"message":"Suppression ended successfully"}"#.to_owned(),
    ))
}
