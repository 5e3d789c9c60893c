//! The statements that took the most time: the numbers of `pg_stat_statements`, without its literals and secrets.

// Where they come from, and what can be in the way.
mod source;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::app::TestApp;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain, supabase};
use crate::support::templates::FRESH_LOGIN;

const ALL: &str =
    "select coalesce(jsonb_agg(to_jsonb(s)), '[]')::text from monitoring.statements(5000) s";

/// As the sampler does, which reads the texts of what it has counted.
const NOTE_TEXTS: &str =
    "select monitoring.sample_statements(now(), null); select monitoring.note_statement_texts()";

async fn execute(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn statements(client: &Client) -> Vec<Value> {
    let row = client
        .query_one(ALL, &[])
        .await
        .expect("asking for statements");
    serde_json::from_str(row.get(0)).expect("parsing statements")
}

/// The previews that contain this.
async fn previews(client: &Client, part: &str) -> Vec<String> {
    let found = statements(client).await;
    let previews = found.iter().filter_map(|row| row["query_preview"].as_str());
    previews
        .filter(|preview| preview.contains(part))
        .map(str::to_owned)
        .collect()
}

fn reasons(database: &TestDatabase) -> String {
    let sql = "select reason from monitoring.degraded() where section = 'statements'";
    let reasons = database.psql(SUPERUSER, sql);
    reasons.expect("asking what is degraded").trim().to_owned()
}

fn counted(database: &TestDatabase) -> i64 {
    let count = database.psql(
        SUPERUSER,
        "select count(*) from monitoring.statements(5000)",
    );
    count
        .expect("counting")
        .trim()
        .parse()
        .expect("reading a number")
}

#[tokio::test]
async fn the_numbers_are_those_of_pg_stat_statements_largest_first() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(&client, "create table guests (id int); select pg_sleep(3)").await;
    for id in 0..7 {
        execute(
            &client,
            &format!("insert into guests select generate_series(1, {id} * 100)"),
        )
        .await;
    }
    execute(&client, "create table noted as select * from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())").await;
    let seen = statements(&client).await;
    let totals: Vec<f64> = seen
        .iter()
        .filter_map(|row| row["total_exec_ms"].as_f64())
        .collect();
    assert!(totals.is_sorted_by(|one, next| one >= next) && totals.len() == seen.len());
    assert!(
        seen[0]["query_preview"]
            .as_str()
            .is_some_and(|text| text.contains("pg_sleep")),
        "{}",
        seen[0]
    );
    let compared = "select s.calls = n.calls and s.rows = n.rows and s.username = 'postgres' and n.calls = 7
          and abs(s.total_exec_ms - n.total_exec_time::numeric) < 0.001 and abs(s.max_exec_ms - n.max_exec_time::numeric) < 0.001
          and abs(s.mean_exec_ms - n.mean_exec_time::numeric) < 0.001 and s.temp_blocks_written = n.temp_blks_written
          and s.cache_hit_percent = round(100.0 * n.shared_blks_hit / (n.shared_blks_hit + n.shared_blks_read), 2)
        from noted n join monitoring.statements(5000) s on s.query_id = n.queryid where n.query like 'insert into guests%'";
    let row = client.query_one(compared, &[]).await.expect("comparing");
    assert!(row.get::<_, bool>(0));
    let shares: f64 = statements(&client)
        .await
        .iter()
        .filter_map(|row| row["time_percent"].as_f64())
        .sum();
    assert!((99.0..101.0).contains(&shares), "{shares}");
    let limited = client
        .query("select from monitoring.statements(3)", &[])
        .await;
    assert_eq!(limited.expect("asking for three").len(), 3);
}

/// However busy the machine is: no part of the sample is left out for what it costs.
async fn sample_everything(client: &Client) {
    let budget = "update monitoring.settings set value = '10000' where key = 'sample_budget_ms'";
    execute(client, budget).await;
    execute(client, "select monitoring.sample()").await;
}

/// `pg_stat_statements` before 16 keeps utility statements verbatim, passwords and comments included.
#[tokio::test]
async fn no_secret_and_no_literal_is_shown_or_noted() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    let statements = "create table cards (number text, id int); create role x password 's3cr3t-1';
        alter role x password 's3cr3t-2'; set app.token to 's3cr3t-3'; comment on table cards is 's3cr3t-4';
        insert into cards values ('s3cr3t-5', 4111); select 1 as one /* s3cr3t-6 */ from cards where number = 's3cr3t-7';
        do $$ begin perform 's3cr3t-8'; end $$; create view v as select 's3cr3t-9'::text as a; explain select 's3cr3t-10'";
    for statement in statements.split(";\n").flat_map(|line| {
        if line.contains("$$") {
            vec![line]
        } else {
            line.split("; ").collect()
        }
    }) {
        execute(&client, statement).await;
    }
    let raw = "select count(*) from pg_stat_statements where query like '%s3cr3t%'";
    let raw: i64 = client
        .query_one(raw, &[])
        .await
        .expect("reading the texts")
        .get(0);
    assert!(raw > 0, "the trap: the texts have them");
    sample_everything(&client).await;
    for shown in [
        "select coalesce(string_agg(query_preview, e'\\n'), '') from monitoring.statements(5000)",
        "select coalesce(string_agg(query_preview, e'\\n'), '') from monitoring.statement_texts",
    ] {
        let shown: String = client
            .query_one(shown, &[])
            .await
            .expect("reading previews")
            .get(0);
        assert!(
            shown.contains("cards") && shown.contains("[REDACTED]"),
            "{shown}"
        );
        for secret in ["s3cr3t", "4111"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn the_monitors_own_statements_and_other_databases_are_not_shown() {
    let (database, other) = (plain().database(), plain().database());
    let own = database.login().await;
    execute(&own, "select sqrt(4) as asked_by_the_monitor").await;
    other
        .psql(SUPERUSER, "select floor(1) as asked_elsewhere")
        .expect("asking elsewhere");
    database
        .psql(FRESH_LOGIN, "select ceil(1) as asked_by_somebody")
        .expect("asking");
    let client = database.superuser().await;
    assert_eq!(
        previews(&client, "asked_by").await,
        ["select ceil($1) as asked_by_somebody"]
    );
    assert!(previews(&client, "asked_elsewhere").await.is_empty());
    let raw = "select count(*) from pg_stat_statements where query like 'select %($1) as asked%'";
    let raw: i64 = client
        .query_one(raw, &[])
        .await
        .expect("reading the texts")
        .get(0);
    assert!(raw >= 3, "they are all counted: {raw}");
}

/// Of the statements inside of functions, which are counted where somebody wants it, those inside of ours are ours.
#[tokio::test]
async fn what_the_monitors_functions_ask_is_its_own_too() {
    let cluster = Cluster::start(ClusterOptions {
        settings: "pg_stat_statements.track = 'all'\n",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let client = database.superuser().await;
    let agent = database.as_caller(Caller::Agent).await;
    execute(&client, "select pg_stat_statements_reset()").await;
    execute(&agent, "select monitoring.summary(), monitoring.sample()").await;
    let somebody = "do $$ begin perform ceil(1) as asked_inside_by_somebody; end $$";
    database.psql(FRESH_LOGIN, somebody).expect("asking");
    let inside = "select count(*) from pg_stat_statements where userid = 'monitoring_owner'::regrole and not toplevel";
    let inside = client.query_one(inside, &[]).await;
    assert!(inside.expect("counting").get::<_, i64>(0) > 50);
    let shown = statements(&client).await;
    assert!(
        shown.iter().all(|row| !row["username"]
            .as_str()
            .is_some_and(|name| name.starts_with("monitoring_"))),
        "{shown:?}"
    );
    assert_eq!(
        previews(&client, "asked_inside").await.len(),
        1,
        "{shown:?}"
    );
    sample_everything(&client).await;
    let kept = "select count(*) from monitoring.statement_counters where user_id = 'monitoring_owner'::regrole";
    let kept = client.query_one(kept, &[]).await;
    assert_eq!(kept.expect("counting").get::<_, i64>(0), 0);
}

/// Texts are in a file that can have tens of megabytes: a noted one is not looked up again, an unknown one is.
#[tokio::test]
async fn noted_texts_are_used_and_unknown_ones_looked_up() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(&client, "select abs(1) as known_early").await;
    sample_everything(&client).await;
    let noted = "select query_preview from monitoring.statement_texts where query_preview like '%known_early'";
    let row = client
        .query_one(noted, &[])
        .await
        .expect("looking for the note");
    assert_eq!(row.get::<_, &str>(0), "select abs($1) as known_early");
    execute(&client, "update monitoring.statement_texts set query_preview = 'by the note' where query_preview like '%known_early'").await;
    execute(&client, "select ceil(1) as known_late").await;
    assert_eq!(previews(&client, "by the note").await.len(), 1);
    assert!(previews(&client, "known_early").await.is_empty());
    assert_eq!(
        previews(&client, "known_late").await,
        ["select ceil($1) as known_late"]
    );
    // Noted once, and not written again on the same day.
    let xmin =
        "select xmin::text from monitoring.statement_texts where query_preview = 'by the note'";
    let before: String = client.query_one(xmin, &[]).await.expect("looking").get(0);
    execute(&client, NOTE_TEXTS).await;
    let after: String = client.query_one(xmin, &[]).await.expect("looking").get(0);
    assert_eq!(before, after);
    execute(&client, "update monitoring.statement_texts set last_seen_at = now() - interval '31 days' where query_preview = 'by the note'").await;
    execute(&client, "select cleanup_old_monitoring_data()").await;
    assert!(previews(&client, "by the note").await.is_empty());
}

#[tokio::test]
async fn where_there_are_no_statements_the_reason_is_named() {
    // Preloaded, but not created here.
    let database = plain().database();
    assert_eq!(
        (reasons(&database).as_str(), counted(&database) > 0),
        ("", true)
    );
    database
        .psql(SUPERUSER, "drop extension pg_stat_statements")
        .expect("dropping it");
    let not_created =
        "pg_stat_statements is not created in this database: create extension pg_stat_statements";
    assert_eq!(
        (reasons(&database).as_str(), counted(&database)),
        (not_created, 0)
    );
    database
        .psql(SUPERUSER, "select monitoring.sample()")
        .expect("sampling without it");
    database
        .psql(SUPERUSER, "create extension pg_stat_statements")
        .expect("creating it");
    assert_eq!(
        (reasons(&database).as_str(), counted(&database) > 0),
        ("", true),
        "seen without a restart"
    );

    // Created, but not preloaded: the function raises 55000.
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    assert!(
        reasons(&database).contains("not created") && reasons(&database).contains("not loaded")
    );
    database
        .psql(SUPERUSER, "create extension pg_stat_statements")
        .expect("creating it");
    let error = database
        .psql(SUPERUSER, "select from pg_stat_statements")
        .expect_err("reading what is not loaded");
    assert!(error.contains("must be loaded via"), "{error}");
    assert_eq!(counted(&database), 0);
    assert!(reasons(&database).starts_with("pg_stat_statements is not loaded"));
    let pretended =
        "set pg_stat_statements.max = 100; select count(*) from monitoring.statements()";
    assert_eq!(database.psql(SUPERUSER, pretended).as_deref(), Ok("0\n"));
    database
        .psql(SUPERUSER, "select monitoring.sample()")
        .expect("sampling without it");
    let first = "select pass, evidence from monitoring.validation() limit 1";
    let first = database.psql(SUPERUSER, first).expect("validating");
    assert!(
        first.starts_with("f|") && first.contains("not loaded by the server"),
        "{first}"
    );

    // Counting nothing.
    let cluster = Cluster::start(ClusterOptions {
        settings: "pg_stat_statements.track = none\n",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    assert_eq!(counted(&database), 0);
    assert_eq!(
        reasons(&database),
        "pg_stat_statements.track is none: statements are not counted"
    );
}

/// The columns follow the extension's version, not the server's.
#[tokio::test]
async fn an_old_version_of_the_extension_is_understood() {
    let database = plain().database();
    for version in ["1.4", "1.7", "1.8", "1.9"] {
        let old = format!(
            "drop extension pg_stat_statements; create extension pg_stat_statements version '{version}'; select pg_sleep(0.01)"
        );
        database
            .psql(SUPERUSER, &old)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        let client = database.superuser().await;
        let seen = statements(&client).await;
        assert!(
            seen.iter()
                .any(|row| row["total_exec_ms"].as_f64() >= Some(10.0)),
            "{version}: {seen:?}"
        );
        execute(
            &client,
            "select monitoring.sample(now() - interval '1 minute')",
        )
        .await;
        let first = "select pass from monitoring.validation() limit 1";
        assert!(
            client
                .query_one(first, &[])
                .await
                .expect("validating")
                .get::<_, bool>(0),
            "{version}"
        );
    }
}

#[tokio::test]
async fn somebody_elses_function_of_that_name_is_not_called() {
    let database = plain().database();
    let setup = "drop extension pg_stat_statements; create schema theirs;
        create function theirs.pg_stat_statements(showtext boolean, out queryid bigint) returns setof bigint language plpgsql
          as $$ begin raise exception 'called'; end $$;
        create function public.pg_stat_statements(showtext boolean, out queryid bigint) returns setof bigint language plpgsql
          as $$ begin raise exception 'called'; end $$; grant usage on schema theirs to public;";
    database.psql(SUPERUSER, setup).expect("creating another");
    assert_eq!(counted(&database), 0);
    assert!(reasons(&database).contains("not created"));
    database
        .psql(
            SUPERUSER,
            "drop function public.pg_stat_statements; create extension pg_stat_statements",
        )
        .expect("creating it");
    assert!(counted(&database) > 0);
}

/// Other tools reset it: numbers begin again at nothing, and none is negative.
#[tokio::test]
async fn after_a_reset_nothing_is_negative() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    execute(&client, "select abs(1) as before_the_reset").await;
    execute(&client, NOTE_TEXTS).await;
    execute(&client, "select pg_stat_statements_reset()").await;
    execute(&client, "select ceil(1) as after_the_reset").await;
    assert!(previews(&client, "before_the_reset").await.is_empty());
    assert_eq!(previews(&client, "after_the_reset").await.len(), 1);
    for row in statements(&client).await {
        for (name, value) in row.as_object().into_iter().flatten() {
            let is_a_count = ![
                "query_id",
                "query_preview",
                "username",
                "is_toplevel",
                "counted_since",
            ]
            .contains(&name.as_str());
            assert!(
                !is_a_count || value.is_null() || value.as_f64() >= Some(0.0),
                "{name} in {row}"
            );
        }
        assert!(row["calls"].as_i64() >= Some(1), "{row}");
    }
}

/// A total says nothing without the time it was counted in. From 17 on each statement has its own.
#[tokio::test]
async fn since_when_a_statement_is_counted_is_told() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    execute(&client, "select abs(2) as counted").await;
    let since = async || {
        let sql = "select s.counted_since::text, (s.counted_since between pg_postmaster_start_time() - interval '1 minute' and clock_timestamp())::text
            from monitoring.statements(5000) s where s.query_preview like '%as counted%'";
        let row = client.query_one(sql, &[]).await.expect("asking since when");
        (row.get::<_, String>(0), row.get::<_, String>(1))
    };
    let (before, plausible) = since().await;
    assert_eq!(plausible, "true", "{before}");
    execute(&client, "select pg_stat_statements_reset()").await;
    execute(&client, "select abs(2) as counted").await;
    let (after, _) = since().await;
    assert!(after > before, "{before}, then {after}");
}

/// The same statement by itself and inside a function is two entries; which is which is told.
#[tokio::test]
async fn a_statement_inside_a_function_is_told_from_one_by_itself() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(
        &client,
        "create function wrapped() returns void language plpgsql as $$ begin perform 1 as wrapped_statement; end $$;
         set pg_stat_statements.track = 'all'",
    )
    .await;
    execute(&client, "select wrapped()").await;
    execute(&client, "select 1 as wrapped_statement").await;
    let mut toplevel: Vec<_> = statements(&client)
        .await
        .into_iter()
        .filter(|row| {
            let preview = row["query_preview"].as_str().unwrap_or_default();
            preview.to_lowercase().contains("as wrapped_statement")
        })
        .map(|row| row["is_toplevel"].clone())
        .collect();
    toplevel.sort_by_key(Value::to_string);
    assert_eq!(toplevel, [json!(false), json!(true)]);
}

#[tokio::test]
async fn over_http_statements_name_nobody_unless_admin_or_owner_ask() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        database
            .psql(SUPERUSER, "select 1 as asked_by_somebody, 's3cr3t'")
            .expect("asking");
        let app = TestApp::new(&database).await;
        for (role, details, named) in [
            ("developer", "false", false),
            ("developer", "true", false),
            ("admin", "false", false),
            ("admin", "true", true),
            ("owner", "true", true),
        ] {
            let query = format!("query_type=statements&include_details={details}");
            let answer = app.get_as(role, &query).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(!answer.text.contains("s3cr3t"));
            let body = answer.json();
            assert_eq!(body["metadata"]["degraded"], json!([]));
            let rows = body["data"]["statements"]
                .as_array()
                .expect("reading the section");
            assert!(!rows.is_empty());
            for row in rows {
                assert_eq!(
                    row.get("username").is_some(),
                    named,
                    "{role}, {details}: {row}"
                );
            }
        }
        database
            .psql(SUPERUSER, "drop extension pg_stat_statements cascade")
            .expect("dropping it");
        let body = app.get_as("admin", "query_type=statements").await.json();
        assert_eq!(body["data"]["statements"], json!([]));
        let degraded = &body["metadata"]["degraded"][0];
        assert_eq!(degraded["section"], "statements");
        assert!(
            degraded["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("create extension")),
            "{degraded}"
        );
    }
}

/// Of an extension that has no such function yet, anybody may make one: it would run as the owner of everything.
#[tokio::test]
async fn a_function_that_is_not_the_extensions_is_never_called() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        settings: "shared_preload_libraries = 'pg_stat_statements'",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let trap = "create extension pg_stat_statements version '1.8';
        create role mallory; grant create on schema public to mallory; set role mallory;
        create function public.pg_stat_statements_info() returns void language plpgsql as $$
          begin raise exception 'run by %', current_user; end $$;
        reset role;";
    database.psql(SUPERUSER, trap).expect("setting a trap");
    let asked = "select count(*) > 0 from monitoring.statements(); select monitoring.sample() ->> 'not_remembered'";
    assert_eq!(database.psql(SUPERUSER, asked).as_deref(), Ok("t\n\n"));
}

/// Before 1.9 it does not say which of two entries is the nested one; the server counts them apart since 14.
#[tokio::test]
async fn a_statement_that_is_nested_too_is_one_where_the_extension_does_not_tell() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        settings: "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track = all",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let twice = "create extension pg_stat_statements version '1.8';
        create role app; grant pg_read_all_stats to app; set role app;
        do $$ begin perform pg_sleep(0); perform pg_sleep(0); end $$; select pg_sleep(0);
        reset role;
        select count(*) from pg_stat_statements(true) where query like '%pg_sleep($1)' and userid = 'app'::regrole";
    let entries = database.psql(SUPERUSER, twice).expect("executing it");
    assert!(entries.trim().ends_with('2'), "the trap: {entries}");
    let sampled = "select monitoring.sample() -> 'skipped';
        select string_agg(problem, ' ') from monitoring.sampler_parts;
        select calls from monitoring.statement_counters k where user_id = 'app'::regrole
          and query_id = (select distinct queryid from pg_stat_statements(true) where query like '%pg_sleep($1)' and userid = 'app'::regrole)";
    assert_eq!(
        database.psql(SUPERUSER, sampled).as_deref(),
        Ok("[]\n\n3\n")
    );
}
