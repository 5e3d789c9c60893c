//! `/api/monitoring/windows`: the hours that matter, and the weekly rules they come from.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{
    Access, Success, limits::Caller, performance::TIME_RANGES, problem::Problem, request,
    statement_timeout, tell,
};
use crate::{
    db::{Database, DbErrorKind, Query},
    event::HttpRequest,
};

/// Answers the windows that are open or to come, the rules, and how reading the calendar went; with `time_range` also the
/// windows that were open in that time, which charts of it shade.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "windows".to_owned();
    let past = match request::parameter(request, "time_range")? {
        None => None,
        Some(_) => Some(
            request::choice(request, "time_range", &TIME_RANGES)?
                .1
                .to_owned(),
        ),
    };
    let query = match past {
        None => Query {
            name: "windows",
            sql: "select json_build_object( \
                  'windows', (select coalesce(json_agg(w), '[]') from monitoring.windows(100) w), \
                  'rules', (select coalesce(json_agg(r), '[]') from monitoring.rules() r), \
                  'calendar', monitoring.calendar())::text",
            params: Vec::new(),
        },
        Some(interval) => Query {
            name: "windows",
            sql: "select json_build_object( \
                  'windows', (select coalesce(json_agg(w), '[]') from monitoring.windows(100) w), \
                  'past', (select coalesce(json_agg(p), '[]') from ( \
                    select w.id, w.starts_at, w.ends_at, w.label, w.source, w.rule_id \
                    from monitoring.windows_between(now() - $1::interval, now()) w where w.ends_at <= now() \
                    order by w.starts_at desc, w.ends_at desc, w.id limit 100) p), \
                  'rules', (select coalesce(json_agg(r), '[]') from monitoring.rules() r), \
                  'calendar', monitoring.calendar())::text",
            params: vec![Some(interval)],
        },
    };
    tell(database, caller, &query, started, budget).await
}

/// Adds a window, or a weekly rule; the same one twice is one.
pub(super) async fn post(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_configurer(CONFIGURE)?;
    access.sections = "add_window".to_owned();
    let fields = request::json_object(request)?;
    match fields.get("rule") {
        None | Some(Value::Null) => {}
        Some(Value::Object(rule)) => {
            return post_rule(database, caller, rule, access, budget).await;
        }
        Some(_) => return Err(Problem::invalid("rule", "must be an object")),
    }
    let query = Query {
        name: "add_window",
        sql: "select to_json(monitoring.add_window($1::timestamptz, $2::timestamptz, $3))::text",
        params: vec![
            Some(request::timestamp(&fields, "starts_at")?),
            Some(request::timestamp(&fields, "ends_at")?),
            Some(request::required_text(&fields, "label")?),
        ],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let added = database.write(&session, &query).await;
    let id = added.map_err(|error| match (error.kind(), error.message()) {
        (DbErrorKind::Invalid, None) => {
            Problem::invalid("starts_at", "and ends_at must be times that exist")
        }
        _ => Problem::from_database(&error, CONFIGURE),
    })?;
    Ok(Success::created(format!(
        "{{\"success\":true,\"windowId\":{id},\"message\":\"Window added successfully\"}}"
    )))
}

async fn post_rule(
    database: &Database,
    caller: &Caller,
    rule: &Map<String, Value>,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    access.sections = "add_window_rule".to_owned();
    let weekdays = match rule.get("weekdays") {
        None | Some(Value::Null) => return Err(Problem::invalid("weekdays", "is required")),
        Some(Value::Array(days)) => Value::from(days.clone()).to_string(),
        Some(_) => return Err(Problem::invalid("weekdays", "must be a list of days")),
    };
    let query = Query {
        name: "add_window_rule",
        sql: "select to_json(monitoring.add_window_rule($1, \
              array(select jsonb_array_elements_text($2::jsonb)), $3, $4, $5, $6, $7))::text",
        params: vec![
            Some(request::required_text(rule, "label")?),
            // What no day is called is refused by name there; the database cannot even read a NUL.
            Some(weekdays.replace("\\u0000", " ")),
            Some(request::required_text(rule, "starts")?),
            Some(request::required_text(rule, "ends")?),
            Some(request::required_text(rule, "time_zone")?),
            request::text(rule, "valid_from")?,
            request::text(rule, "valid_until")?,
        ],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let added = database.write(&session, &query).await;
    let id = added.map_err(|error| Problem::from_database(&error, CONFIGURE))?;
    Ok(Success::created(format!(
        "{{\"success\":true,\"ruleId\":{id},\"message\":\"Rule added successfully\"}}"
    )))
}

/// Removes the window, or the rule, that `id` names.
pub(super) async fn delete(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_configurer(CONFIGURE)?;
    access.sections = "remove_window".to_owned();
    let id = request::parameter(request, "id")?;
    let id = id.ok_or_else(|| Problem::invalid("id", "is required"))?;
    let query = Query {
        name: "remove_window",
        sql: "select monitoring.remove_window($1::uuid)::text",
        params: vec![Some(id.to_owned())],
    };
    let session = caller.session(statement_timeout(budget, 1));
    let removed = database.write(&session, &query).await;
    removed.map_err(|error| match (error.kind(), error.message()) {
        (DbErrorKind::Invalid, None) => Problem::invalid("id", "must be a UUID"),
        _ => Problem::from_database(&error, CONFIGURE),
    })?;
    Ok(Success::ok(
        r#"{"success":true,"message":"Window removed successfully"}"#.to_owned(),
    ))
}

const CONFIGURE: &str = "change critical windows";
