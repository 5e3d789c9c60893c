//! Two guards that know nothing of each other: with either taken away, the other still refuses.

use std::collections::BTreeSet;
use std::time::Duration;

use pgvigil::config::Config;
use pgvigil::db::{Database, DbErrorKind, Query, Session};
use serde_json::{Value, json};

use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER};
use crate::support::templates::MONITOR;
use crate::support::token::{KEY, SigningKey, claims, fresh_subject};
use crate::support::wait::wait_until;

const PERFORMANCE: &str = "/api/monitoring/performance";
const ORGANIZATION: &str = "11111111-1111-1111-1111-111111111111";
const MEMBER: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// Everybody who has a good token and no role here.
fn nobodies() -> Vec<(&'static str, Value)> {
    let with = |subject: &str, role: Value| {
        let mut claims = claims(subject, "");
        for (name, value) in role.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims
    };
    let nobody = |role: Value| with(&fresh_subject(), role);
    vec![
        ("without metadata", nobody(json!({"app_metadata": null}))),
        (
            "without a role",
            nobody(json!({"app_metadata": {"plan": "gold"}})),
        ),
        (
            "a role of the application's",
            nobody(json!({"app_metadata": {"role": "caterer"}})),
        ),
        (
            "a tenant's owner",
            with(
                MEMBER,
                json!({"app_metadata": {"organization_id": ORGANIZATION}}),
            ),
        ),
        (
            "user_metadata",
            nobody(json!({"user_metadata": {"role": "owner"}})),
        ),
        (
            "user_metadata, written everywhere",
            nobody(json!({
            "user_metadata": {"role": "owner", "app_metadata": {"role": "owner"}, "sub": MEMBER},
            "raw_user_meta_data": {"role": "owner"}})),
        ),
        ("a top-level role", nobody(json!({"role": "owner"}))),
        (
            "Supabase's service role",
            nobody(json!({"role": "service_role"})),
        ),
        (
            "a role as an object",
            nobody(json!({"app_metadata": {"role": {"owner": true}}})),
        ),
        ("metadata as text", nobody(json!({"app_metadata": "owner"}))),
        (
            "a full-width letter",
            nobody(json!({"app_metadata": {"role": "ｏwner"}})),
        ),
        (
            "a zero-width blank",
            nobody(json!({"app_metadata": {"role": "owner\u{200b}"}})),
        ),
        (
            "groups, which are not configured",
            nobody(json!({"cognito:groups": ["admin"]})),
        ),
        ("a subject that is SQL", with("' or true --", json!({}))),
    ]
}

/// A database as on Supabase, with an event and with a tenant whose owner is [`MEMBER`]; no operator is named.
fn furnished(cluster: &Cluster) -> TestDatabase {
    let database = cluster.database();
    let furnish = format!(
        "insert into organization_members values ('{ORGANIZATION}', '{MEMBER}', 'owner');
         select public.record_monitoring_event('performance_alert', '{{}}')"
    );
    database.psql(SUPERUSER, &furnish).expect("furnishing");
    database
}

/// A suppression ends, and within a year.
fn in_a_week(database: &TestDatabase) -> String {
    let sql = "select to_char((now() + interval '7 days') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let until = database.psql(SUPERUSER, sql);
    until.expect("asking the time").trim().to_owned()
}

fn the_event(database: &TestDatabase) -> String {
    let event = database.psql(SUPERUSER, "select id from monitoring_events limit 1");
    event.expect("reading").trim().to_owned()
}

/// Every request that the API answers to who has a role: one for each of its ways to ask the database.
fn requests(event: &str, until: &str) -> Vec<(&'static str, Request)> {
    let get = |query: &str| Request::get(PERFORMANCE, query);
    let post = |body: Value| Request::post(PERFORMANCE, &body.to_string());
    vec![
        ("GET everything", get("")),
        (
            "GET with details",
            get("include_details=true&time_range=30d"),
        ),
        ("GET summary", get("query_type=summary")),
        ("GET slow", get("query_type=slow")),
        ("GET connections", get("query_type=connections")),
        ("GET tables", get("query_type=tables")),
        ("GET rls", get("query_type=rls")),
        ("GET statements", get("query_type=statements")),
        ("GET locks", get("query_type=locks")),
        ("GET trends", get("query_type=trends")),
        ("GET events", get("query_type=events")),
        ("GET metrics", Request::get("/api/monitoring/metrics", "")),
        (
            "GET lighthouse",
            Request::get("/api/monitoring/lighthouse", "time_range=30d"),
        ),
        ("GET windows", Request::get("/api/monitoring/windows", "")),
        (
            "GET past windows",
            Request::get("/api/monitoring/windows", "time_range=7d"),
        ),
        (
            "GET readiness",
            Request::get("/api/monitoring/readiness", ""),
        ),
        (
            "GET validation",
            Request::get("/api/monitoring/validation", ""),
        ),
        (
            "POST window",
            Request::post(
                "/api/monitoring/windows",
                &json!({"starts_at": "2099-06-07T17:00:00Z", "ends_at": "2099-06-07T23:00:00Z", "label": "a wedding"})
                    .to_string(),
            ),
        ),
        (
            "POST rule",
            Request::post(
                "/api/monitoring/windows",
                &json!({"rule": {"label": "weddings", "weekdays": ["saturday"], "starts": "10:00", "ends": "23:00", "time_zone": "UTC"}})
                    .to_string(),
            ),
        ),
        (
            "GET suppressions",
            Request::get("/api/monitoring/suppressions", ""),
        ),
        ("GET thresholds", Request::get("/api/monitoring/thresholds", "")),
        (
            "POST suppression",
            Request::post(
                "/api/monitoring/suppressions",
                &json!({"fingerprint": "0123456789abcdef0123456789abcdef", "reason": "known", "until": until}).to_string(),
            ),
        ),
        (
            "POST threshold",
            Request::post(
                "/api/monitoring/thresholds",
                &json!({"check_id": "slow-statement", "warning": 1000, "critical": 10000}).to_string(),
            ),
        ),
        (
            "POST record",
            post(
                json!({"action": "record_event", "event_type": "slow_query", "event_data": {"n": 1}}),
            ),
        ),
        (
            "POST resolve",
            post(json!({"action": "resolve_event", "event_id": event, "resolution_notes": "done"})),
        ),
    ]
}

fn token(claims: &Value) -> String {
    SigningKey::hs256(KEY).token(None, claims)
}

fn role(role: &str) -> Value {
    claims(&fresh_subject(), role)
}

/// A statement with its parameters, as the server logged it.
type Statement = (String, Vec<Option<String>>);

/// What the server has logged of statements with parameters: all that the API asks.
fn logged_statements(log: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut last: Option<Statement> = None;
    let (whole_lines, _) = log.rsplit_once('\n').unwrap_or_default();
    for line in whole_lines.lines() {
        if let Some((_, sql)) = line.split_once("execute <unnamed>: ") {
            statements.extend(last.take());
            last = Some((sql.to_owned(), Vec::new()));
        } else if let (Some((_, parameters)), Some((_, values))) =
            (line.split_once("arameters: $1 = "), last.as_mut())
        {
            *values = parameters_of(parameters);
        }
    }
    statements.extend(last);
    statements
}

/// `'10', $2 = NULL, $3 = 'it''s'`
fn parameters_of(mut text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix("NULL") {
            values.push(None);
            text = rest;
        } else {
            let mut value = String::new();
            text = text.strip_prefix('\'').expect("reading a parameter");
            loop {
                let end = text.find('\'').expect("finding a parameter's end");
                value.push_str(&text[..end]);
                text = &text[end + 1..];
                match text.strip_prefix('\'') {
                    Some(rest) => {
                        value.push('\'');
                        text = rest;
                    }
                    None => break,
                }
            }
            values.push(Some(value));
        }
        let Some(next) = text.find(" = ").filter(|_| text.starts_with(", $")) else {
            return values;
        };
        text = &text[next + 3..];
    }
}

/// What every transaction says before it asks anything, and what needs nobody's leave.
const PREAMBLE: &str = "select to_json(now())::text, set_config('request.jwt.claims'";

/// The database as the app reaches it, without the app: whatever Rust checks is not there.
fn without_rust(database: &TestDatabase) -> Database {
    let url = database.url_for(MONITOR);
    let config = Config::from_vars(|name| match name {
        "DATABASE_URL" => Some(url.clone()),
        "DATABASE_TLS" => Some("disable".to_owned()),
        _ => None,
    });
    Database::new(&config.expect("configuring").database, None)
}

/// Asks one statement in a transaction as the caller, in the same way as the API: reading or writing.
async fn ask(
    database: &Database,
    claims: &str,
    (sql, params): &Statement,
) -> Result<String, DbErrorKind> {
    let session = Session::caller(claims.to_owned(), Duration::from_secs(5));
    let query = Query {
        name: "statement",
        // For as long as the tests run: a query of the app's is written in its source.
        sql: Box::leak(sql.clone().into_boxed_str()),
        params: params.clone(),
    };
    let writes = [
        "record_event",
        "resolve_event",
        "add_window",
        "suppress(",
        "set_threshold",
    ]
    .iter()
    .any(|function| sql.contains(function));
    let answer = if writes {
        database.write(&session, &query).await
    } else {
        let answer = database.read(&session, &[query]).await;
        answer.and_then(|answer| answer.only_result("statement"))
    };
    answer.map_err(|error| error.kind())
}

/// The statements that the API really sends, taken from the server's log while an admin asks for everything.
async fn statements_of_the_api(cluster: &Cluster, database: &TestDatabase) -> Vec<Statement> {
    let log_all = format!(
        "alter role {MONITOR} in database {} set log_statement = 'all'",
        database.name
    );
    database.psql(SUPERUSER, &log_all).expect("logging");
    let app = TestApp::new(database).await;
    for (name, request) in requests(&the_event(database), &in_a_week(database)) {
        let answer = app.send(request.bearer(&token(&role("admin")))).await;
        assert!(answer.status < 300, "{name}: {}", answer.text);
    }
    // The log arrives in its own time; what was asked last is there last, its parameters after it.
    let mut statements = Vec::new();
    wait_until("the last statement is logged", async || {
        statements = logged_statements(&cluster.log());
        let last = statements
            .iter()
            .rfind(|(sql, _)| sql.contains("resolve_event"));
        last.is_some_and(|(_, params)| params.len() == 2)
    })
    .await;
    let mut seen = BTreeSet::new();
    let statements = statements
        .into_iter()
        .filter(|statement| !statement.0.starts_with(PREAMBLE) && seen.insert(statement.clone()));
    statements.collect()
}

fn events(database: &TestDatabase) -> String {
    let events =
        "select count(*), count(resolved_at), count(resolution_notes) from monitoring_events";
    database.psql(SUPERUSER, events).expect("counting")
}

#[tokio::test]
async fn without_rusts_check_postgresql_refuses_every_statement_of_the_api() {
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Supabase,
        ..ClusterOptions::default()
    });
    let database = furnished(&cluster);
    let statements = statements_of_the_api(&cluster, &database).await;
    for part in [
        "monitoring.summary",
        "monitoring.slow_queries",
        "monitoring.connections",
        "monitoring.table_health",
        "monitoring.rls_status",
        "monitoring.statements",
        "monitoring.locks",
        "public.monitoring_events",
        "monitoring.degraded",
        "monitoring.validation",
        "monitoring.record_event",
        "monitoring.resolve_event",
    ] {
        assert!(
            statements.iter().any(|(sql, _)| sql.contains(part)),
            "{part} was not asked: {statements:?}"
        );
    }

    // Another database, so that the API has done nothing there.
    let database = furnished(&cluster);
    let event = the_event(&database);
    let statements: Vec<Statement> = statements
        .into_iter()
        .map(|(sql, mut params)| {
            if sql.contains("resolve_event") {
                params[0] = Some(event.clone());
            }
            (sql, params)
        })
        .collect();
    let untouched = events(&database);
    let direct = without_rust(&database);
    let mut strangers: Vec<(&str, String)> = nobodies()
        .into_iter()
        .map(|(name, claims)| (name, claims.to_string()))
        .collect();
    strangers.extend([
        ("no claims", String::new()),
        ("claims that are no object", "\"owner\"".to_owned()),
        (
            "claims that are no JSON",
            "{\"app_metadata\":{\"role\":\"owner\"}".to_owned(),
        ),
    ]);
    for (stranger, claims) in &strangers {
        for statement in &statements {
            let answer = ask(&direct, claims, statement).await;
            // Row-level security says no by showing no rows.
            let expected = if statement.0.contains("from public.monitoring_events") {
                Ok("[]".to_owned())
            } else {
                Err(DbErrorKind::Permission)
            };
            assert_eq!(answer, expected, "{stranger}: {}", statement.0);
        }
    }
    assert_eq!(events(&database), untouched, "nothing was changed");

    let resolve = statements
        .iter()
        .find(|(sql, _)| sql.contains("resolve_event"));
    let resolve = resolve.expect("finding a statement");
    let developer = role("developer").to_string();
    assert_eq!(
        ask(&direct, &developer, resolve).await,
        Err(DbErrorKind::Permission),
        "a developer may not resolve"
    );
    assert_eq!(events(&database), untouched, "nothing was changed");

    // That they were refused for who they are: an admin is not.
    let admin = role("admin").to_string();
    // Of the two that count requests, nothing is the answer when all is well.
    let answering = statements.iter().filter(|(sql, _)| !sql.contains("_turn("));
    for statement in answering {
        let answer = ask(&direct, &admin, statement).await;
        let answer = answer.unwrap_or_else(|kind| panic!("{kind:?}: {}", statement.0));
        let may_be_empty = ["slow_queries", "locks", "trends", "windows", "degraded"];
        let is_empty =
            answer == "[]" && !may_be_empty.iter().any(|part| statement.0.contains(part));
        assert!(!is_empty, "{}", statement.0);
    }
}

/// Everybody may do everything, as far as the database is asked.
const OPEN_THE_DATABASE: &str = "
    create or replace function monitoring.authorize(p_action text) returns void language sql as 'select';
    create or replace function monitoring.may(p_action text) returns boolean language sql as 'select true';
    create or replace function monitoring.caller_role() returns text language sql as $$ select 'owner' $$;
    grant all on schema monitoring, public to monitoring_reader;
    grant all on all tables in schema monitoring, public to monitoring_reader;
    grant all on all functions in schema monitoring, public to monitoring_reader;
    grant monitoring_owner to monitoring_reader;
    alter table public.monitoring_events no force row level security;
    alter table public.monitoring_events disable row level security";

#[tokio::test]
async fn without_the_databases_guard_rust_refuses_every_request() {
    // Roles are the cluster's, and one is given another here.
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Supabase,
        ..ClusterOptions::default()
    });
    let database = furnished(&cluster);
    database
        .psql(SUPERUSER, OPEN_THE_DATABASE)
        .expect("opening");
    let event = the_event(&database);
    let until = in_a_week(&database);
    let direct = without_rust(&database);
    let statement = |sql: &str| (sql.to_owned(), Vec::new());
    for sql in [
        "select count(*)::text from public.monitoring_events having count(*) > 0",
        "select count(*)::text from monitoring.connections() having count(*) > 0",
        "select public.get_database_monitoring_summary()::text",
    ] {
        let answer = ask(&direct, "", &statement(sql)).await;
        assert!(answer.is_ok(), "the database is open: {sql}: {answer:?}");
    }
    let untouched = events(&database);
    let app = TestApp::new(&database).await;
    let gateway = [("AUTH_MODE", "gateway")];
    let gateway = TestApp::with_login(&database, MONITOR, &gateway).await;
    for (stranger, claims) in nobodies() {
        for (name, request) in requests(&event, &until) {
            let (code, what) = ((403, "forbidden".to_owned()), format!("{stranger}: {name}"));
            let answer = app.send(request.bearer(&token(&claims))).await;
            assert_eq!((answer.status, answer.problem()), code, "{what}");
        }
        for (name, request) in requests(&event, &until) {
            let (code, what) = ((403, "forbidden".to_owned()), format!("{stranger}: {name}"));
            let context = json!({ "claims": claims });
            let answer = gateway
                .send_event(&request.authorizer(context).event_v1())
                .await;
            assert_eq!((answer.status, answer.problem()), code, "gateway, {what}");
        }
    }
    let stranger = SigningKey::hs256("another key that is long enough for HS256");
    let mut expired = role("owner");
    expired["exp"] = json!(1);
    let bad = [
        (None, "unauthenticated"),
        (Some(stranger.token(None, &role("owner"))), "invalid_token"),
        (Some(token(&expired)), "invalid_token"),
    ];
    for (bad, code) in bad {
        for (name, request) in requests(&event, &until) {
            let request = match &bad {
                Some(bad) => request.bearer(bad),
                None => request,
            };
            let event = request.event();
            let answer = app.send_event(&event).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (401, code),
                "{name}"
            );
            let answer = gateway.send_event(&event).await;
            assert_eq!(answer.status, 401, "gateway, {name}");
        }
    }
    for (name, request) in requests(&event, &until) {
        let answer = app.send(request.bearer(&token(&role("developer")))).await;
        let expected = match name {
            "POST resolve" | "POST window" | "POST rule" | "POST suppression"
            | "POST threshold" => 403,
            "POST record" => 201,
            _ => 200,
        };
        assert_eq!(
            answer.status, expected,
            "a developer: {name}: {}",
            answer.text
        );
    }
    database
        .psql(
            SUPERUSER,
            "delete from monitoring_events where event_type = 'slow_query'",
        )
        .expect("deleting what the developer recorded");
    assert_eq!(events(&database), untouched, "nothing else was changed");
}

/// What an honest caller may not see, Rust leaves out of what it asks.
#[tokio::test]
async fn without_the_databases_guard_a_developer_sees_no_people() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    database
        .psql(SUPERUSER, OPEN_THE_DATABASE)
        .expect("opening");
    let app = TestApp::new(&database).await;
    let record = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    let record = Request::post(PERFORMANCE, &record.to_string()).bearer(&token(&role("admin")));
    assert_eq!(app.send(record).await.status, 201);
    for (name, shows) in [
        ("owner", true),
        ("admin", true),
        ("developer", false),
        ("service", false),
    ] {
        let request = Request::get(PERFORMANCE, "query_type=events&include_details=true");
        let answer = app.send(request.bearer(&token(&role(name)))).await;
        let event = answer.json()["data"]["recentEvents"][0].clone();
        assert!(event["id"].is_string(), "{name}: {}", answer.text);
        assert_eq!(event.get("source_ip").is_some(), shows, "{name}: {event}");
    }
}
