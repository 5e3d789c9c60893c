//! `/api/monitoring/performance`: the sections of the dashboard, and the two actions.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use lambda_http::http::header::USER_AGENT;
use serde_json::{Value, json};

use super::{
    Access, Success, identity::Role, limits::Caller, problem::Problem, request, response_ms,
    statement_timeout,
};
use crate::{
    db::{Database, DbError, DbErrorKind, Query},
    event::HttpRequest,
};

/// A part of the answer, in the order in which parts appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Summary,
    SlowQueries,
    Connections,
    TableHealth,
    RlsStatus,
    Statements,
    Locks,
    Trends,
    RecentEvents,
}

impl Section {
    const ALL: [Self; 9] = [
        Self::Summary,
        Self::SlowQueries,
        Self::Connections,
        Self::TableHealth,
        Self::RlsStatus,
        Self::Statements,
        Self::Locks,
        Self::Trends,
        Self::RecentEvents,
    ];

    /// Its key in `data`, and its name in `metadata.degraded` and in the access log.
    fn key(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::SlowQueries => "slowQueries",
            Self::Connections => "connections",
            Self::TableHealth => "tableHealth",
            Self::RlsStatus => "rlsStatus",
            Self::Statements => "statements",
            Self::Locks => "locks",
            Self::Trends => "trends",
            Self::RecentEvents => "recentEvents",
        }
    }

    /// What stands there when the section could not be had.
    fn empty(self) -> &'static str {
        if self == Self::Summary { "{}" } else { "[]" }
    }
}

/// `query_type`: which section beside the recent events, which are always there. Absent means all.
const QUERY_TYPES: [(&str, Option<Section>); 10] = [
    ("all", None),
    ("summary", Some(Section::Summary)),
    ("slow", Some(Section::SlowQueries)),
    ("connections", Some(Section::Connections)),
    ("tables", Some(Section::TableHealth)),
    ("rls", Some(Section::RlsStatus)),
    ("statements", Some(Section::Statements)),
    ("locks", Some(Section::Locks)),
    ("trends", Some(Section::Trends)),
    ("events", Some(Section::RecentEvents)),
];

/// `time_range`, with what PostgreSQL calls it.
pub(super) const TIME_RANGES: [(&str, &str); 5] = [
    ("1h", "1 hour"),
    ("6h", "6 hours"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
];

/// What a GET asks for.
struct Selection {
    query_type: &'static str,
    sections: Vec<Section>,
    time_range: &'static str,
    interval: &'static str,
    include_details: bool,
    may_see_people: bool,
    target: Option<String>,
}

impl Selection {
    fn from_request(
        request: &HttpRequest,
        role: Role,
        target: Option<String>,
    ) -> Result<Self, Problem> {
        let (query_type, section) = request::choice(request, "query_type", &QUERY_TYPES)?;
        let (time_range, interval) = request::choice(request, "time_range", &TIME_RANGES)?;
        let (_, include_details) = request::choice(
            request,
            "include_details",
            &[("false", false), ("true", true)],
        )?;
        let sections = Section::ALL
            .into_iter()
            .filter(|&each| {
                section.is_none_or(|section| section == each) || each == Section::RecentEvents
            })
            .collect();
        Ok(Self {
            query_type,
            sections,
            time_range,
            interval,
            include_details,
            may_see_people: role.may_see_people(),
            target,
        })
    }

    /// The statement behind a section: a limit where there is one, and the columns to leave out: whose sessions and events
    /// they are, unless that may be seen and was asked for.
    fn query(&self, section: Section) -> Query {
        let limit =
            |few: u32, many: u32| Some(if self.include_details { many } else { few }.to_string());
        let hidden = || {
            let hidden = if self.include_details && self.may_see_people {
                "{}"
            } else {
                "{username,client_addr,source_ip,user_agent}"
            };
            Some(hidden.to_owned())
        };
        let (sql, params) = match section {
            Section::Summary => ("select to_json(monitoring.summary())::text", Vec::new()),
            Section::SlowQueries => (
                "select coalesce(json_agg(to_jsonb(s) - $2::text[] order by s.duration_ms desc), '[]')::text \
                 from monitoring.slow_queries($1::int) s",
                vec![limit(10, 50), hidden()],
            ),
            Section::Connections => (
                "select coalesce(json_agg(c), '[]')::text from monitoring.connections() c",
                Vec::new(),
            ),
            Section::TableHealth => (
                "select coalesce(json_agg(t), '[]')::text from monitoring.table_health($1::int) t",
                vec![limit(20, 100)],
            ),
            Section::RlsStatus => (
                "select coalesce(json_agg(r), '[]')::text from monitoring.rls_status($1::int) r",
                vec![limit(20, 100)],
            ),
            Section::Statements => (
                "select coalesce(json_agg(to_jsonb(s) - $2::text[] order by s.total_exec_ms desc), '[]')::text \
                 from monitoring.statements($1::int) s",
                vec![limit(10, 50), hidden()],
            ),
            Section::Locks => (
                "select coalesce(json_agg(to_jsonb(l) - $2::text[]), '[]')::text from monitoring.locks($1::int) l",
                vec![limit(10, 50), hidden()],
            ),
            Section::Trends => (
                "select coalesce(json_agg(t), '[]')::text from monitoring.trends($1::interval) t",
                vec![Some(self.interval.to_owned())],
            ),
            Section::RecentEvents => (
                "select coalesce(json_agg(to_jsonb(e) - $3::text[]), '[]')::text from (\
                 select id, event_type, severity, created_at, resolved_at, last_seen_at, occurrences, source_ip, user_agent \
                 from public.monitoring_events \
                 where created_at >= now() - $1::interval or resolved_at is null and last_seen_at >= now() - $1::interval \
                 order by last_seen_at desc, id limit $2::int) e",
                vec![Some(self.interval.to_owned()), limit(10, 50), hidden()],
            ),
        };
        Query {
            name: section.key(),
            sql,
            params,
        }
    }
}

/// Answers the sections asked for. One that fails is empty and named in `metadata.degraded`; the others arrive.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    let role = caller.identity.require_role("read monitoring")?;
    let selection = Selection::from_request(request, role, access.target.clone())?;
    access.sections = selection
        .sections
        .iter()
        .map(|section| section.key())
        .collect::<Vec<_>>()
        .join(",");

    let mut queries: Vec<Query> = selection
        .sections
        .iter()
        .map(|&section| selection.query(section))
        .collect();
    queries.push(Query {
        name: "degraded",
        sql: "select coalesce(json_agg(d), '[]')::text from monitoring.degraded() d",
        params: Vec::new(),
    });
    let statements = u32::try_from(queries.len()).unwrap_or(u32::MAX);
    let timeout = statement_timeout(budget, statements);
    let session = caller.session(timeout);
    let answer = database
        .read(&session, &queries)
        .await
        .map_err(|error| Problem::from_database(&error, "read monitoring"))?;
    let mut results = answer.results;
    let blind_spots = results.pop();

    refuse_if_all_failed(&mut results)?;
    // The guard in the database says no where it is asked by a function; an empty list of events is how a policy says it.
    if let Some(Err(error)) = &blind_spots
        && error.is_the_guards_no()
    {
        return Err(Problem::from_database(error, "read monitoring"));
    }
    let mut degraded = blind_spots_of(blind_spots, &selection.sections);
    let mut data = Vec::with_capacity(results.len());
    for (&section, result) in selection.sections.iter().zip(results) {
        // JSON text of PostgreSQL's goes out as it came.
        let is_its_kind = |json: &String| json.starts_with(&section.empty()[..1]);
        let result = result.and_then(|json| {
            let json = Some(json).filter(is_its_kind);
            json.ok_or_else(|| DbError::unreadable(section.key()))
        });
        let json = result.unwrap_or_else(|error| {
            // Named once, for the worse of two reasons.
            degraded.retain(|spot| spot["section"] != section.key());
            tracing::error!(
                section = section.key(),
                sqlstate = error.sqlstate(),
                "section failed: {error}"
            );
            degraded.push(json!({"section": section.key(), "reason": error.kind().words()}));
            section.empty().to_owned()
        });
        data.push(format!("\"{}\":{json}", section.key()));
    }
    let response_ms = response_ms(started);
    // Only where one was asked for; a configured name needs no escaping.
    let target = selection.target.as_deref();
    let target = target.map_or_else(String::new, |name| format!("\"target\":\"{name}\","));
    Ok(Success::ok(format!(
        "{{\"data\":{{{}}},\"metadata\":{{\"timestamp\":{},\"responseTime\":{response_ms},\"timeRange\":\"{}\",\
         \"queryType\":\"{}\",\"includeDetails\":{},{target}\"degraded\":{}}}}}",
        data.join(","),
        answer.timestamp_json,
        selection.time_range,
        selection.query_type,
        selection.include_details,
        Value::Array(degraded),
    )))
}

/// Where no section came, the request has failed, for the first one's reason.
fn refuse_if_all_failed(results: &mut Vec<Result<String, DbError>>) -> Result<(), Problem> {
    if results.iter().any(Result::is_ok) {
        return Ok(());
    }
    match results.drain(..).next() {
        Some(Err(error)) => Err(Problem::from_database(&error, "read monitoring")),
        _ => Ok(()),
    }
}

/// What SQL says it could not see, for the sections asked for.
fn blind_spots_of(result: Option<Result<String, DbError>>, sections: &[Section]) -> Vec<Value> {
    let spots: Vec<Value> = match result {
        Some(Ok(text)) => serde_json::from_str(&text).unwrap_or_default(),
        _ => sections
            .iter()
            .map(|section| json!({"section": section.key(), "reason": "whether all of it could be seen is unknown"}))
            .collect(),
    };
    let is_asked_for = |spot: &Value| {
        sections
            .iter()
            .any(|section| spot["section"] == section.key())
    };
    spots.into_iter().filter(is_asked_for).collect()
}

/// Resolves or records an event.
pub(super) async fn post(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    let role = caller.identity.require_role("change monitoring")?;
    let fields = request::json_object(request)?;
    let session = caller.session(statement_timeout(budget, 1));
    match request::required_text(&fields, "action")?.as_str() {
        "resolve_event" => {
            access.sections = "resolve_event".to_owned();
            if !role.may_resolve() {
                return Err(Problem::forbidden("resolve events"));
            }
            let query = Query {
                name: "resolve_event",
                sql: "select monitoring.resolve_event($1::uuid, $2)::text",
                params: vec![
                    Some(request::required_text(&fields, "event_id")?),
                    request::text(&fields, "resolution_notes")?,
                ],
            };
            let resolved = database.write(&session, &query).await;
            resolved.map_err(|error| match (error.kind(), error.message()) {
                (DbErrorKind::Invalid, None) => Problem::invalid("event_id", "must be a UUID"),
                _ => Problem::from_database(&error, "resolve events"),
            })?;
            Ok(Success::ok(
                r#"{"success":true,"message":"Event resolved successfully"}"#.to_owned(),
            ))
        }
        "record_event" => {
            access.sections = "record_event".to_owned();
            let event_data = request::raw_field(request, "event_data")?;
            let user_agent = request
                .headers
                .get(USER_AGENT)
                .and_then(|agent| agent.to_str().ok());
            let source_ip = request
                .source_ip
                .as_deref()
                .filter(|address| address.parse::<IpAddr>().is_ok());
            let query = Query {
                name: "record_event",
                sql: "select to_json(monitoring.record_event($1, $2::jsonb, coalesce($3, 'medium'), $4::inet, $5))::text",
                params: vec![
                    Some(request::required_text(&fields, "event_type")?),
                    Some(event_data),
                    request::text(&fields, "severity")?,
                    source_ip.map(str::to_owned),
                    user_agent.map(str::to_owned),
                ],
            };
            let event_id = database.write(&session, &query).await;
            let event_id = event_id.map_err(|error| match (error.kind(), error.message()) {
                (DbErrorKind::Invalid, None) => {
                    Problem::invalid("event_data", "holds what PostgreSQL cannot store as jsonb")
                }
                _ => Problem::from_database(&error, "record events"),
            })?;
            Ok(Success::created(format!(
                "{{\"success\":true,\"eventId\":{event_id},\"message\":\"Event recorded successfully\"}}"
            )))
        }
        _ => Err(Problem::invalid(
            "action",
            "must be resolve_event or record_event",
        )),
    }
}
