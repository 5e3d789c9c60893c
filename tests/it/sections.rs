//! Every section for itself: one that fails is empty and named, and the others arrive.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::token::{fresh_subject, token};

const PERFORMANCE: &str = "/api/monitoring/performance";

/// Written by what breaks a section; nothing of it may be answered.
const SERVERS_WORDS: &str = "hunter2";

/// A section, and what stands behind it.
struct Section {
    key: &'static str,
    query_type: &'static str,
    source: Source,
}

enum Source {
    /// A function by its name and its parameters.
    Function(&'static str, &'static str),
    Events,
}

use Source::{Events, Function};

const SECTIONS: [Section; 9] = [
    Section::new("summary", "summary", Function("monitoring.summary", "")),
    Section::new(
        "slowQueries",
        "slow",
        Function("monitoring.slow_queries", "int"),
    ),
    Section::new(
        "connections",
        "connections",
        Function("monitoring.connections", ""),
    ),
    Section::new(
        "tableHealth",
        "tables",
        Function("monitoring.table_health", "int"),
    ),
    Section::new("rlsStatus", "rls", Function("monitoring.rls_status", "int")),
    Section::new(
        "statements",
        "statements",
        Function("monitoring.statements", "int"),
    ),
    Section::new("locks", "locks", Function("monitoring.locks", "int")),
    Section::new(
        "trends",
        "trends",
        Function("monitoring.trends", "interval"),
    ),
    Section::new("recentEvents", "events", Events),
];

/// What a section does instead of answering, asked by a caller of the API and by nobody else.
#[derive(Clone, Copy)]
enum Failure {
    Raises,
    TakesTooLong,
    LacksAPrivilege,
}

impl Section {
    const fn new(key: &'static str, query_type: &'static str, source: Source) -> Self {
        Self {
            key,
            query_type,
            source,
        }
    }

    /// The statements that break this section and leave the others alone: the summary reads as our owner what the section
    /// reads as the caller.
    fn break_it(&self, failure: Failure) -> String {
        let fail = match failure {
            Failure::Raises => format!(
                "raise exception '{SERVERS_WORDS}' using detail = '{SERVERS_WORDS}', hint = '{SERVERS_WORDS}'"
            ),
            Failure::TakesTooLong => "perform pg_sleep(60)".to_owned(),
            Failure::LacksAPrivilege => {
                return match self.source {
                    Function(name, parameters) => {
                        format!(
                            "revoke execute on function {name}({parameters}) from monitoring_reader"
                        )
                    }
                    Events => "revoke select on public.monitoring_events from monitoring_reader"
                        .to_owned(),
                };
            }
        };
        let fail_for_callers =
            format!("if current_user = 'monitoring_reader' then {fail}; end if;");
        match self.source {
            Events => format!(
                "create function public.fail() returns boolean language plpgsql as
                   $f$ begin {fail_for_callers} return true; end $f$;
                 create policy broken on public.monitoring_events as restrictive for select using ((select public.fail()))"
            ),
            Function(name, parameters) => {
                let short = name.split('.').next_back().unwrap_or(name);
                let argument = if parameters.is_empty() { "" } else { "$1" };
                let answer = if self.key == "summary" {
                    format!("return {name}_before()")
                } else {
                    format!("return query select * from {name}_before({argument})")
                };
                format!(
                    "do $do$ begin execute format(
                       'alter function {name}({parameters}) rename to {short}_before;
                        create function {name}(%s) returns %s language plpgsql as $f$ #variable_conflict use_column
                        begin {quoted} {answer}; end $f$;
                        grant execute on function {name}({parameters}) to public',
                       pg_get_function_arguments('{name}({parameters})'::regprocedure),
                       pg_get_function_result('{name}({parameters})'::regprocedure)); end $do$",
                    quoted = fail_for_callers.replace('\'', "''"),
                )
            }
        }
    }

    fn mend(&self) -> String {
        match self.source {
            Events => "drop policy broken on public.monitoring_events; drop function public.fail()"
                .to_owned(),
            Function(name, parameters) => {
                let short = name.split('.').next_back().unwrap_or(name);
                format!(
                    "drop function {name}({parameters});
                     alter function {name}_before({parameters}) rename to {short}"
                )
            }
        }
    }

    fn empty(&self) -> Value {
        if self.key == "summary" {
            json!({})
        } else {
            json!([])
        }
    }
}

/// A database in which every section has something to show, but for slow queries and locks, which take somebody who waits.
fn furnished() -> TestDatabase {
    let database = plain().database();
    let furnish = "create table guests (id int); grant select on guests to public;
                   select public.record_monitoring_event('performance_alert', '{}')";
    database.psql(SUPERUSER, furnish).expect("furnishing");
    database
}

/// An admin whom nobody has seen before.
fn get(query: &str) -> Request {
    let token = token(&fresh_subject(), "admin", &json!({}));
    Request::get(PERFORMANCE, query).bearer(&token)
}

/// The monitor's session on the server: one that is replaced has another start.
fn session(database: &TestDatabase) -> String {
    let sql = "select pid, backend_start from pg_stat_activity where datname = current_database() and usename = 'pgvigil'";
    database
        .psql(SUPERUSER, sql)
        .expect("looking for the session")
}

/// Sections named in `metadata.degraded`, with the reasons.
fn degraded(answer: &Answer) -> Vec<(String, String)> {
    let body = answer.json();
    let degraded = body["metadata"]["degraded"].as_array().expect("reading");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    degraded
        .iter()
        .map(|spot| (text(&spot["section"]), text(&spot["reason"])))
        .collect()
}

/// That exactly these sections are empty and named once, with this reason, and that all the others have come.
fn assert_only_these_failed(answer: &Answer, failed: &[&str], reason: &str) {
    assert_eq!(answer.status, 200, "{failed:?}: {}", answer.text);
    assert!(!answer.text.contains(SERVERS_WORDS), "{}", answer.text);
    let body = answer.json();
    for section in &SECTIONS {
        let content = &body["data"][section.key];
        let may_be_empty = ["slowQueries", "locks", "trends"].contains(&section.key);
        if failed.contains(&section.key) {
            assert_eq!(
                *content,
                section.empty(),
                "{}: {}",
                section.key,
                answer.text
            );
        } else if section.key == "summary" {
            assert!(content["health_score"].is_u64(), "{failed:?}: {content}");
        } else {
            let rows = content.as_array().expect("reading rows");
            assert!(
                may_be_empty || !rows.is_empty(),
                "{failed:?} and {}",
                section.key
            );
        }
    }
    let mut expected: Vec<_> = failed
        .iter()
        .map(|key| ((*key).to_owned(), reason.to_owned()))
        .collect();
    let mut found = degraded(answer);
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{}", answer.text);
}

/// Breaks each section in turn: alone, asked alone, and mended again, all on one connection.
async fn each_section_fails_alone(failure: Failure, reason: &str) {
    let database = furnished();
    let app = TestApp::new(&database).await;
    assert_only_these_failed(&app.send(get("")).await, &[], "");
    let connection = session(&database);
    for section in &SECTIONS {
        database
            .psql(SUPERUSER, &section.break_it(failure))
            .expect("breaking a section");
        assert_only_these_failed(&app.send(get("")).await, &[section.key], reason);

        // So much time that the one which takes too long is not waited for much longer.
        let limit = Duration::from_secs(4);
        let alone = get(&format!("query_type={}", section.query_type));
        let alone = app.send_within(alone, limit).await;
        if section.key == "recentEvents" {
            // Nothing else was asked for, so there is no answer.
            let expected = match failure {
                Failure::Raises => (500, "internal"),
                Failure::TakesTooLong => (504, "timeout"),
                Failure::LacksAPrivilege => (503, "database_unavailable"),
            };
            assert_eq!(
                (alone.status, alone.problem().as_str()),
                expected,
                "{}",
                alone.text
            );
            assert!(!alone.text.contains(SERVERS_WORDS), "{}", alone.text);
        } else {
            assert_eq!(alone.status, 200, "{}: {}", section.key, alone.text);
            assert_eq!(alone.json()["data"][section.key], section.empty());
            assert_eq!(
                alone.json()["data"]["recentEvents"]
                    .as_array()
                    .map(Vec::len),
                Some(1)
            );
            assert_eq!(
                degraded(&alone),
                [(section.key.to_owned(), reason.to_owned())]
            );
        }

        let other = if section.query_type == "tables" {
            "rls"
        } else {
            "tables"
        };
        let other = app.send(get(&format!("query_type={other}"))).await;
        let others_degraded = degraded(&other)
            .iter()
            .any(|(key, _)| key != "recentEvents");
        assert!(
            other.status == 200 && !others_degraded,
            "the next request: {}",
            other.text
        );

        let mend = match (failure, &section.source) {
            (Failure::LacksAPrivilege, Events) => {
                "grant select on public.monitoring_events to monitoring_reader".to_owned()
            }
            (Failure::LacksAPrivilege, Function(name, parameters)) => {
                format!("grant execute on function {name}({parameters}) to monitoring_reader")
            }
            _ => section.mend(),
        };
        database.psql(SUPERUSER, &mend).expect("mending a section");
        assert_only_these_failed(&app.send(get("")).await, &[], "");
        assert_eq!(
            session(&database),
            connection,
            "{}: on the same connection",
            section.key
        );
    }
}

#[tokio::test]
async fn each_section_that_raises_is_empty_and_named() {
    each_section_fails_alone(Failure::Raises, "failed").await;
}

#[tokio::test]
async fn each_section_that_takes_too_long_is_empty_and_named() {
    each_section_fails_alone(Failure::TakesTooLong, "timed out").await;
}

#[tokio::test]
async fn each_section_that_lacks_a_privilege_is_empty_and_named() {
    each_section_fails_alone(Failure::LacksAPrivilege, "permission denied").await;
}

/// Without what the summary is made from it is gone as well, and says so.
#[tokio::test]
async fn each_section_whose_source_is_gone_is_empty_and_named() {
    for section in &SECTIONS {
        let database = furnished();
        let app = TestApp::new(&database).await;
        let drop = match section.source {
            Function(name, parameters) => format!("drop function {name}({parameters}) cascade"),
            Events => "drop table public.monitoring_events cascade".to_owned(),
        };
        database.psql(SUPERUSER, &drop).expect("dropping");
        // The summary lives on, since it looks for itself; without events there is none.
        let mut failed = vec![section.key];
        if matches!(section.source, Events) {
            failed.push("summary");
        }
        let reason = "not migrated, or not granted to this login";
        let answer = app.send(get("")).await;
        assert_only_these_failed(&answer, &failed, reason);
        let summary = answer.json()["data"]["summary"].to_string();
        assert!(
            !summary.contains("check-failed"),
            "{}: {summary}",
            section.key
        );
        let connection = session(&database);
        assert_only_these_failed(&app.send(get("")).await, &failed, reason);
        assert_eq!(session(&database), connection);
    }
}

/// A function of the same name that answers something else: the whole answer stays JSON, and the others arrive.
#[tokio::test]
async fn each_section_that_returns_something_else_leaves_the_others_alone() {
    let garbage = [
        ("text", "$$ select 'no \"JSON' $$", "text"),
        ("null", "$$ select null $$", "text"),
        ("a number", "$$ select 1/3.0 $$", "numeric"),
        ("an array", "$$ select '[1, [2]]'::jsonb $$", "jsonb"),
        ("a blank", "$$ select '' $$", "text"),
        ("not a number", "$$ select 'NaN'::float8 $$", "float8"),
        ("bytes", "$$ select '\\x00ff'::bytea $$", "bytea"),
    ];
    for section in &SECTIONS {
        let Function(name, parameters) = section.source else {
            continue;
        };
        let database = furnished();
        let app = TestApp::new(&database).await;
        for (what, body, kind) in garbage {
            let replace = format!(
                "drop function {name}({parameters}) cascade;
                 create function {name}({parameters}) returns {kind} language sql as {body}"
            );
            database.psql(SUPERUSER, &replace).expect("replacing");
            // Rows of garbage are not as the API's description says, so it is not asked.
            let answer = app.invoke(&get("").event()).await;
            let answer = Answer::from_gateway(&answer.expect("answering"));
            assert_eq!(
                answer.status, 200,
                "{}, {what}: {}",
                section.key, answer.text
            );
            let body = answer.json();
            let content = &body["data"][section.key];
            let is_its_kind = content.is_array() != (section.key == "summary");
            assert!(is_its_kind, "{}, {what}: {content}", section.key);
            if section.key == "summary" {
                assert_only_these_failed(&answer, &["summary"], "failed");
            }
            for other in &SECTIONS {
                if !["summary", "slowQueries", "locks", "trends", section.key].contains(&other.key)
                {
                    let rows = body["data"][other.key].as_array().map(Vec::is_empty);
                    assert_eq!(rows, Some(false), "{}, {what}: {}", section.key, other.key);
                }
            }
        }
    }
}

#[tokio::test]
async fn two_that_fail_at_once_are_both_named() {
    let database = furnished();
    let app = TestApp::new(&database).await;
    for (one, two) in [(1, 4), (3, 7), (0, 5)] {
        let (one, two) = (&SECTIONS[one], &SECTIONS[two]);
        for section in [one, two] {
            let broken = section.break_it(Failure::Raises);
            database
                .psql(SUPERUSER, &broken)
                .expect("breaking a section");
        }
        assert_only_these_failed(&app.send(get("")).await, &[one.key, two.key], "failed");
        for section in [one, two] {
            database
                .psql(SUPERUSER, &section.mend())
                .expect("mending a section");
        }
    }
    assert_only_these_failed(&app.send(get("")).await, &[], "");
}

/// Where nothing is left to answer, the request has failed, and says whose fault it is.
#[tokio::test]
async fn when_all_fail_the_request_has_failed() {
    for (failure, expected) in [
        (Failure::Raises, (500, "internal")),
        (Failure::TakesTooLong, (504, "timeout")),
        (Failure::LacksAPrivilege, (503, "database_unavailable")),
    ] {
        let database = furnished();
        let app = TestApp::new(&database).await;
        assert_only_these_failed(&app.send(get("")).await, &[], "");
        let connection = session(&database);
        for section in &SECTIONS {
            let broken = section.break_it(failure);
            database
                .psql(SUPERUSER, &broken)
                .expect("breaking a section");
        }
        let started = Instant::now();
        let answer = app.send(get("")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            expected,
            "{}",
            answer.text
        );
        assert!(!answer.text.contains(SERVERS_WORDS), "{}", answer.text);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
        let health = app.send(Request::get("/api/monitoring/health", "")).await;
        assert_eq!(health.status, 200);
        assert_eq!(session(&database), connection, "on the same connection");
    }
}

/// The role has lost its rights, or the schema: no caller can mend that, so none is told that it is theirs.
#[tokio::test]
async fn a_database_that_lets_nobody_in_is_the_operators_mistake() {
    for (closed, code) in [
        (
            "revoke usage on schema monitoring, public from monitoring_reader, public",
            "database_unavailable",
        ),
        (
            "drop schema monitoring cascade; drop table public.monitoring_events cascade",
            "schema_outdated",
        ),
    ] {
        let database = furnished();
        let app = TestApp::new(&database).await;
        database
            .psql(SUPERUSER, closed)
            .expect("closing the schema");
        let answer = app.send(get("query_type=events")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, code),
            "{closed}: {}",
            answer.text
        );
    }
}

/// What tells blind spots is no section: without it nothing is known of them, and everything arrives.
#[tokio::test]
async fn without_knowledge_of_blind_spots_the_sections_arrive() {
    let unknown = "whether all of it could be seen is unknown";
    let degraded = Section::new("degraded", "", Function("monitoring.degraded", "text"));
    let all: Vec<&str> = SECTIONS.iter().map(|section| section.key).collect();
    for failure in [
        Failure::Raises,
        Failure::TakesTooLong,
        Failure::LacksAPrivilege,
    ] {
        let database = furnished();
        let app = TestApp::new(&database).await;
        database
            .psql(SUPERUSER, &degraded.break_it(failure))
            .expect("breaking");
        let answer = app.send(get("")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let named: Vec<String> = self::degraded(&answer)
            .into_iter()
            .map(|spot| spot.0)
            .collect();
        assert_eq!(named, all);
        assert!(self::degraded(&answer).iter().all(|spot| spot.1 == unknown));
        assert!(answer.json()["data"]["summary"]["health_score"].is_u64());

        // A section that fails beside it is named for that, and once.
        database
            .psql(SUPERUSER, &SECTIONS[4].break_it(Failure::Raises))
            .expect("breaking");
        let answer = app.send(get("")).await;
        let spots = self::degraded(&answer);
        let named: Vec<_> = spots.iter().filter(|spot| spot.0 == "rlsStatus").collect();
        assert_eq!(named, [&("rlsStatus".to_owned(), "failed".to_owned())]);
        assert_eq!(spots.len(), SECTIONS.len());
    }
}

/// Each statement has its share of the time there is: one that would take it all leaves the others theirs.
#[tokio::test]
async fn near_the_deadline_a_slow_section_is_cut_and_the_others_arrive() {
    let database = furnished();
    let app = TestApp::new(&database).await;
    assert_only_these_failed(&app.send(get("")).await, &[], "");
    let connection = session(&database);
    for section in &SECTIONS {
        let broken = section.break_it(Failure::TakesTooLong);
        database
            .psql(SUPERUSER, &broken)
            .expect("breaking a section");
        let limit = Duration::from_secs(8);
        let started = Instant::now();
        let answer = app.send_within(get(""), limit).await;
        assert!(started.elapsed() < limit, "{:?}", started.elapsed());
        assert_only_these_failed(&answer, &[section.key], "timed out");
        database
            .psql(SUPERUSER, &section.mend())
            .expect("mending a section");
    }
    assert_eq!(session(&database), connection, "on the same connection");
}

/// With all of them slow and hardly any time, there is still an answer, and the next request works.
#[tokio::test]
async fn at_the_deadline_there_is_an_answer() {
    let database = furnished();
    let app = TestApp::new(&database).await;
    for section in &SECTIONS {
        let broken = section.break_it(Failure::TakesTooLong);
        database
            .psql(SUPERUSER, &broken)
            .expect("breaking a section");
    }
    for limit_ms in [300, 1_000, 3_000] {
        let limit = Duration::from_millis(limit_ms);
        let started = Instant::now();
        let answer = app.send_within(get(""), limit).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (504, "timeout"),
            "{limit:?}"
        );
        assert!(
            started.elapsed() < limit.max(Duration::from_secs(1)),
            "{limit:?}: {:?}",
            started.elapsed()
        );
    }
    for section in &SECTIONS {
        database
            .psql(SUPERUSER, &section.mend())
            .expect("mending a section");
    }
    assert_only_these_failed(&app.send(get("")).await, &[], "");
}
