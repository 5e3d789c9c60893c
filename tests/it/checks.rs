//! What is looked at, and what is made of it.

// What is read of catalogs and settings, and what is in the way.
mod catalogs;
// Findings become events, and events end.
mod events;
// What takes as long as it takes.
mod maintenance;
// What is announced, once.
mod outbox;
// What a small database tells without looking again.
mod remembered;
// What is accepted, and where the lines are.
mod suppressions;
// A case file, step by step.
mod walk;

use std::collections::BTreeSet;
use std::env;
use std::fs;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::migrations::apply;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::project_file;
use crate::support::random::Random;
use crate::support::templates::migrations;

async fn json_of(client: &Client, expression: &str) -> Value {
    let row = client
        .query_one(&format!("select ({expression})::text"), &[])
        .await;
    let row = row.unwrap_or_else(|error| panic!("{expression}: {error:?}"));
    serde_json::from_str(row.get(0)).expect("parsing an answer")
}

fn lines(database: &TestDatabase, sql: &str) -> BTreeSet<String> {
    let told = database.psql(SUPERUSER, sql);
    let told = told.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    told.lines().map(str::to_owned).collect()
}

/// The case files, by the check that they walk through.
fn cases() -> Vec<(String, String)> {
    let folder = fs::read_dir(project_file("tests/cases/check")).expect("listing cases");
    let mut cases: Vec<_> = folder
        .map(|entry| entry.expect("listing cases").path())
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("reading a case"))
        })
        .collect();
    cases.sort();
    cases
}

/// One share of the cases; `PGVIGIL_CHECK=<id>` picks one.
async fn walk_share(share: usize) {
    let only = env::var_os("PGVIGIL_CHECK");
    for (number, (check_id, case)) in cases().iter().enumerate() {
        if number % 3 == share
            && only
                .as_ref()
                .is_none_or(|only| only.to_str() == Some(check_id))
        {
            let steps = walk::walk(check_id, case).await;
            assert!(steps >= 3, "{check_id} walks from none to one to none");
        }
    }
}

#[tokio::test]
async fn each_check_finds_nothing_then_something_then_nothing() {
    walk_share(0).await;
}

#[tokio::test]
async fn each_check_finds_nothing_then_something_then_nothing_second_share() {
    walk_share(1).await;
}

#[tokio::test]
async fn each_check_finds_nothing_then_something_then_nothing_third_share() {
    walk_share(2).await;
}

#[tokio::test]
async fn every_check_has_a_threshold_a_function_a_section_and_a_case() {
    let database = plain().database();
    let checks = lines(&database, "select check_id from monitoring.checks");
    assert!(checks.len() >= 30, "{checks:?}");
    let thresholds = lines(&database, "select check_id from monitoring.thresholds");
    assert_eq!(checks, thresholds);
    let functions = "select replace(substr(proname, 7), '_', '-') from pg_proc
        where pronamespace = 'monitoring'::regnamespace and proname like 'check\\_%' and prorettype = 'monitoring.candidate'::regtype";
    assert_eq!(checks, lines(&database, functions));
    let page = fs::read_to_string(project_file("docs/checks.md")).expect("reading the page");
    let sections = page.lines().filter_map(|line| line.strip_prefix("### "));
    assert_eq!(checks, sections.map(str::to_owned).collect());
    assert_eq!(
        checks,
        cases().into_iter().map(|(check_id, _)| check_id).collect()
    );
    // And the runner knows it.
    let run = "select jsonb_array_elements_text(monitoring.assess() -> 'checks_run')";
    assert_eq!(checks, lines(&database, run));
}

#[tokio::test]
async fn the_page_says_the_thresholds_that_are_there() {
    let database = plain().database();
    let told = "select format('`%s` | %s | %s | %s | %s', check_id, warning, critical, unit, window_factor) from monitoring.thresholds_list()";
    let page = fs::read_to_string(project_file("docs/checks.md")).expect("reading the page");
    for line in lines(&database, told) {
        assert!(page.contains(&line), "docs/checks.md lacks: {line}");
    }
}

#[tokio::test]
async fn the_page_says_the_settings_that_are_there() {
    // The template gives a sample more time than it is given by default.
    let database = plain().empty_database();
    apply(&database, &migrations());
    let page = fs::read_to_string(project_file("docs/operations.md")).expect("reading the page");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Settings"));
    let section = section.expect("finding the section");
    let mut told = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim()).collect();
        let keys: Vec<&str> = cells[1].split(", ").collect();
        // Where a row is of several settings, it tells their numbers in the same order.
        let values: Vec<&str> = match keys.len() {
            1 => vec![cells[2]],
            _ => cells[2].split(", ").collect(),
        };
        assert_eq!(keys.len(), values.len(), "{row}");
        let pairs = keys.iter().zip(values);
        told.extend(pairs.map(|(key, value)| format!("{key} {value}").replace('`', "")));
    }
    let there = "select format('%s %s', key, value) from monitoring.settings";
    assert_eq!(told, lines(&database, there));
}

/// One statement for all checks would fail with the first of them.
#[tokio::test]
async fn a_check_that_fails_is_named_and_costs_no_other_its_findings() {
    let database = plain().database();
    let client = database.superuser().await;
    let break_some = "create table guests (id int); grant select on guests to public;
        create or replace function monitoring.check_multixact_age() returns setof monitoring.candidate language plpgsql stable
            as $$ begin raise exception 'a secret' using errcode = '22012'; end $$;
        alter function monitoring.lock_trees(monitoring.seen_backend[]) rename to elsewhere;
        alter function monitoring.check_unused_index() rename to elsewhere_too";
    client
        .batch_execute(break_some)
        .await
        .expect("breaking checks");
    let seen = json_of(&client, "monitoring.assess()").await;
    let findings = seen["findings"].as_array().expect("findings");
    let of = |check_id: &str| {
        let all = findings
            .iter()
            .filter(|finding| finding["check_id"] == check_id);
        let mut objects: Vec<_> = all
            .filter_map(|finding| finding["object"].as_str())
            .collect();
        objects.sort_unstable();
        objects
    };
    assert_eq!(of("rls-exposed"), ["public.guests"]);
    assert_eq!(
        of("check-failed"),
        ["blocking-session", "multixact-age", "unused-index"]
    );
    assert!(!seen.to_string().contains("a secret") && seen.to_string().contains("22012"));
    let run = seen["checks_run"].to_string();
    assert!(
        !run.contains("multixact-age")
            && !run.contains("blocking-session")
            && run.contains("rls-exposed")
    );
    assert_eq!(
        seen["metrics"]["blocked_sessions"],
        Value::Null,
        "not zero: unknown"
    );
}

/// Windows are not all that there is to tell.
#[tokio::test]
async fn a_summary_without_windows_is_told_and_says_so() {
    let database = plain().database();
    let client = database.superuser().await;
    client
        .batch_execute("alter table monitoring.window_rules rename to elsewhere")
        .await
        .expect("taking the windows away");
    let told = json_of(&client, "public.get_database_monitoring_summary()").await;
    assert_eq!(told["window"], Value::Null);
    let degraded = told["degraded"].to_string();
    assert!(
        degraded.contains("critical window is unknown") && degraded.contains("42P01"),
        "{degraded}"
    );
    assert!(told["health_score"].is_number());
}

/// An alarm goes by it: the longer nobody samples, the more it matters.
#[tokio::test]
async fn the_last_sample_is_told_however_long_ago_it_was() {
    let database = plain().database();
    let client = database.superuser().await;
    let last = "monitoring.assess() #> '{metrics,last_sample_at}'";
    assert_eq!(json_of(&client, last).await, Value::Null);
    client
        .batch_execute(
            "set role monitoring_owner; set timezone = 'UTC';
            do $$ begin perform monitoring.ensure_sample_partition('2026-01-01'); end $$;
            insert into monitoring.samples (tick_at, sampled_at, duration_ms) values ('2026-01-01 00:00+00', '2026-01-01 00:00:01+00', 1);
            reset role",
        )
        .await
        .expect("adding an old sample");
    assert_eq!(json_of(&client, last).await, "2026-01-01T00:00:01+00:00");
}

/// Of too many the worst are told, and of those that say the same one.
#[tokio::test]
async fn a_hundred_findings_of_a_check_are_enough() {
    let database = plain().database();
    let client = database.superuser().await;
    client
        .batch_execute(
            "create or replace function monitoring.check_deadlocks(p_hour monitoring.seen_hour) returns setof monitoring.candidate
            language plpgsql stable as $$ begin
              return query
                select 'deadlocks', format('object %s', n), 1000.0 + n, 'of many', 'none' from generate_series(1, 150) n
                union all select 'deadlocks', 'object 150', 1150.0, 'a twin', 'none'
                union all select 'deadlocks', 'object of no value', null, 'not seen', 'none';
            end $$",
        )
        .await
        .expect("finding too much");
    let told = json_of(
        &client,
        "(select jsonb_build_object('count', count(*), 'least', min(f.value), 'twin', jsonb_agg(f.detail) filter (where f.object = 'object 150'))
          from monitoring.findings() f where f.check_id = 'deadlocks')",
    )
    .await;
    assert_eq!(
        told,
        json!({"count": 99, "least": 1052.0, "twin": ["a twin"]}),
        "a hundred, of which two are one"
    );
}

/// A statement that is cancelled is no failed check: it ends.
#[tokio::test]
async fn a_time_limit_ends_the_whole_look() {
    let database = plain().database();
    let client = database.superuser().await;
    let slow = "create or replace function monitoring.check_multixact_age() returns setof monitoring.candidate language plpgsql stable
            as $$ begin perform pg_sleep(60); end $$; set statement_timeout = '300ms'";
    client
        .batch_execute(slow)
        .await
        .expect("slowing a check down");
    let error = client.query_one("select monitoring.assess()", &[]).await;
    let error = error.expect_err("a look that takes too long");
    assert_eq!(
        error.code().map(tokio_postgres::error::SqlState::code),
        Some("57014")
    );
}

/// Whatever is wrong, one thing more never makes the score better.
#[tokio::test]
async fn a_new_finding_never_raises_the_score() {
    let database = plain().database();
    let client = database.superuser().await;
    let mut random = Random::new();
    let mut all = Vec::new();
    for _ in 0..60 {
        let mut findings = Vec::new();
        for _ in 0..20 {
            findings.push(json!({
                "check_id": format!("check-{}", random.below(6)),
                "severity": if random.below(3) == 0 { "critical" } else { "warning" },
            }));
        }
        all.push(Value::Array(findings));
    }
    let sql = "select array_agg(monitoring.health_score(
            (select coalesce(jsonb_agg(f order by o), '[]') from jsonb_array_elements(w) with ordinality f (f, o) where o <= n)) order by n)
        from jsonb_array_elements($1::text::jsonb) w, generate_series(0, 20) n group by w";
    let rows = client.query(sql, &[&Value::Array(all).to_string()]).await;
    let rows = rows.expect("scoring");
    assert!(rows.len() >= 50);
    for row in rows {
        let scores: Vec<i32> = row.get(0);
        assert_eq!(scores[0], 100);
        assert!(
            scores.iter().all(|score| (0..=100).contains(score)),
            "{scores:?}"
        );
        assert!(
            scores.is_sorted_by(|one, next| one >= next),
            "{scores:?}, PGVIGIL_SEED={}",
            random.seed()
        );
        assert!(scores[20] < scores[0], "{scores:?}");
    }
}

/// Between two looks at the catalogs the slow checks are told from memory, and look fresh once.
#[tokio::test]
async fn slow_checks_are_made_every_quarter_of_an_hour() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "update monitoring.thresholds set warning = 0 where check_id = 'duplicate-index';
        create table guests (id int primary key); alter table guests enable row level security;
        create index twice on guests (id)";
    client.batch_execute(setup).await.expect("creating a table");
    let has = |seen: &Value, what: &str| {
        (
            seen["checks_run"].to_string().contains(what),
            seen["findings"].to_string().contains(what),
        )
    };
    let sample = "monitoring.assess('sample')";
    assert_eq!(
        has(&json_of(&client, sample).await, "duplicate-index"),
        (false, false)
    );
    let due = json_of(&client, "to_jsonb(monitoring.remember_checks())").await;
    assert!(
        due.as_array()
            .is_some_and(|due| due.contains(&json!("duplicate-index")))
    );
    assert_eq!(
        has(&json_of(&client, sample).await, "duplicate-index"),
        (true, true)
    );
    let reconcile = "select monitoring.reconcile(s -> 'findings', array(select jsonb_array_elements_text(s -> 'checks_run')))
        from monitoring.assess('sample') s";
    client.batch_execute(reconcile).await.expect("reconciling");
    // Gone meanwhile, and nobody has looked: still told, and not as a new look.
    client
        .batch_execute("drop index twice")
        .await
        .expect("dropping");
    assert_eq!(
        json_of(&client, "to_jsonb(monitoring.remember_checks())").await,
        json!([])
    );
    assert_eq!(
        has(&json_of(&client, sample).await, "duplicate-index"),
        (false, true)
    );
    // Who asks without a sampler's haste sees what is.
    assert_eq!(
        has(
            &json_of(&client, "monitoring.assess()").await,
            "duplicate-index"
        ),
        (true, false)
    );
    let later =
        "update monitoring.remembered_checks set checked_at = now() - interval '15 minutes'";
    client
        .batch_execute(later)
        .await
        .expect("letting time pass");
    assert_ne!(
        json_of(&client, "to_jsonb(monitoring.remember_checks())").await,
        json!([])
    );
    assert_eq!(
        has(&json_of(&client, sample).await, "duplicate-index"),
        (true, false)
    );
}
