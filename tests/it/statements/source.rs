//! Where the numbers come from: a schema that is closed, a library that only seems to be loaded, rights that are gone.

use serde_json::json;

use super::{counted, execute, previews, reasons, statements};
use crate::migrations::{apply, rollbacks};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER, plain, supabase};
use crate::support::templates::{FRESH_LOGIN, migrations};

/// The first check of the validation: whether it passes, what it saw, what it advises.
fn extension_check(database: &TestDatabase) -> String {
    let first =
        "select pass, evidence, remedy from monitoring.validation() where check_id = 'extension'";
    database.psql(SUPERUSER, first).expect("validating")
}

fn sampled(database: &TestDatabase) -> String {
    let sample = "select monitoring.sample() ->> 'status'";
    database.psql(SUPERUSER, sample).expect("sampling")
}

/// A function that the extension's calls fit as well: each of them would end as ambiguous.
#[tokio::test]
async fn a_function_called_as_the_extensions_is_named() {
    let database = plain().database();
    let others = "create function public.pg_stat_statements(text, text) returns int language sql as 'select 1'";
    database.psql(SUPERUSER, others).expect("creating another");
    assert_eq!(reasons(&database), "");
    for namesake in [
        "pg_stat_statements_info(x int default 1)",
        "pg_stat_statements(showtext boolean, x int default 1)",
    ] {
        let create =
            format!("create function public.{namesake} returns int language sql as 'select 1'");
        database.psql(SUPERUSER, &create).expect(namesake);
        assert_eq!(counted(&database), 0, "{namesake}");
        let expected = "another function in schema public is called as pg_stat_statements' own";
        assert_eq!(
            reasons(&database),
            format!("{expected}: drop or rename it"),
            "{namesake}"
        );
        let check = extension_check(&database);
        assert_eq!(
            check,
            format!("f|{expected}|As the owner of that schema: drop or rename it;\n")
        );
        let drop = format!(
            "drop function public.{}",
            namesake.replace(" default 1", "")
        );
        database.psql(SUPERUSER, &drop).expect(namesake);
    }
    assert_eq!(reasons(&database), "");
}

/// The schema is open, and the function is not: another grant is the way out, and it is one.
#[tokio::test]
async fn a_function_the_monitor_may_not_execute_is_named_with_the_grant_that_opens_it() {
    let database = plain().database();
    let revoke = "revoke execute on function public.pg_stat_statements(boolean) from public";
    database.psql(SUPERUSER, revoke).expect("revoking");
    let grant = "grant execute on function public.pg_stat_statements(boolean) to monitoring_owner";
    let problem = "monitoring_owner may not use pg_stat_statements";
    assert_eq!(reasons(&database), format!("{problem}: {grant}"));
    assert_eq!(
        extension_check(&database),
        format!("f|{problem}|As the owner of the extension: {grant};\n")
    );
    database.psql(SUPERUSER, grant).expect("granting");
    assert_eq!(reasons(&database), "");
    assert!(extension_check(&database).starts_with("t|"));
}

#[tokio::test]
async fn a_schema_the_monitor_may_not_use_is_named_with_the_grant_that_opens_it() {
    for schema in ["ext", "\"Ext Room\""] {
        let database = plain().database();
        let setup = format!(
            "drop extension pg_stat_statements; create schema {schema}; create extension pg_stat_statements schema {schema}"
        );
        database.psql(SUPERUSER, &setup).expect("moving it");
        assert_eq!(counted(&database), 0, "{schema}");
        let grant = format!("grant usage on schema {schema} to monitoring_owner");
        let expected = format!("monitoring_owner may not use pg_stat_statements: {grant}");
        assert_eq!(reasons(&database), expected);
        let check = extension_check(&database);
        assert!(
            check.starts_with("f|monitoring_owner may not use pg_stat_statements|")
                && check.contains("grant usage on schema"),
            "{check}"
        );
        assert_eq!(sampled(&database), "done\n", "{schema}");

        database.psql(SUPERUSER, &grant).expect("opening it");
        assert!(counted(&database) > 0, "{schema}");
        assert_eq!(reasons(&database), "", "{schema}");
        let check = extension_check(&database);
        assert!(check.starts_with("t|"), "{check}");
    }
}

#[tokio::test]
async fn migrating_opens_the_extensions_schema_to_the_monitor_alone_and_undoing_closes_it() {
    for (cluster, schema) in [(plain(), "ext"), (supabase(), "extensions")] {
        let database = cluster.empty_database();
        if schema == "ext" {
            let setup = "drop extension pg_stat_statements; create schema ext; create extension pg_stat_statements schema ext";
            database.psql(SUPERUSER, setup).expect("moving it");
        }
        let open_to = |role: &str| {
            let sql = format!("select has_schema_privilege('{role}', '{schema}', 'usage')");
            database.psql(SUPERUSER, &sql).expect("asking for a right")
        };
        let before = database.dump_schema();
        apply(&database, &migrations());
        assert_eq!(open_to("monitoring_owner"), "t\n", "{schema}");
        for role in [
            "public",
            FRESH_LOGIN,
            "monitoring_reader",
            "monitoring_agent",
        ] {
            assert_eq!(open_to(role), "f\n", "{role} in {schema}");
        }
        assert_eq!(reasons(&database), "", "{schema}");
        assert!(counted(&database) > 0, "{schema}");
        apply(&database, &rollbacks());
        assert_eq!(before, database.dump_schema(), "{schema}");
    }
}

/// With `track_planning` what failed when it ran has been planned and never called: dividing by its calls failed.
#[tokio::test]
async fn a_statement_planned_and_never_executed_is_passed_over() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(
        &client,
        "create table zeros (id int); insert into zeros values (0); set pg_stat_statements.track_planning = on",
    )
    .await;
    let fails = "select 1 / id as only_planned from zeros";
    let error = client.batch_execute(fails).await.expect_err(fails);
    let code = error.code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("22012"));
    let raw = "select count(*) from pg_stat_statements where calls = 0 and query like '%as only_planned%'";
    let raw = client.query_one(raw, &[]).await.expect("reading the texts");
    assert_eq!(raw.get::<_, i64>(0), 1, "the trap: a statement of no calls");
    assert!(!statements(&client).await.is_empty());
    assert!(previews(&client, "only_planned").await.is_empty());
    assert_eq!(sampled(&database), "done\n");
    let check = extension_check(&database);
    assert!(check.starts_with("t|"), "{check}");
}

/// The monitor's login is nobody by itself: its statements are counted for the role it has become.
#[tokio::test]
async fn what_the_monitor_runs_in_its_roles_is_its_own() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    let share = async || {
        let sql = "select own_percent::float8 from monitoring.own_time_percent()";
        let row = client
            .query_one(sql, &[])
            .await
            .expect("asking for a share");
        row.get::<_, f64>(0)
    };
    for (caller, role) in [
        (Caller::Agent, "monitoring_agent"),
        (Caller::Reader(json!({})), "monitoring_reader"),
    ] {
        execute(&client, "select pg_stat_statements_reset()").await;
        let somebody = "select pg_sleep(0.1) as asked_by_somebody";
        database.psql(FRESH_LOGIN, somebody).expect("asking");
        let before = share().await;
        assert!(before < 50.0, "{before} % before {role} asks");
        let own = database.as_caller(caller).await;
        execute(&own, "select pg_sleep(2) as asked_by_the_monitor").await;
        let raw = format!(
            "select count(*) from pg_stat_statements where userid = '{role}'::regrole and query like '%asked_by_the_monitor'"
        );
        let raw = client.query_one(&raw, &[]).await;
        let raw: i64 = raw.expect("reading the texts").get(0);
        assert_eq!(raw, 1, "it is counted for {role}");
        assert_eq!(
            previews(&client, "asked_by").await,
            ["select pg_sleep($1) as asked_by_somebody"],
            "{role}"
        );
        let names = statements(&client).await;
        assert!(names.iter().all(|row| row["username"] != role), "{names:?}");
        let after = share().await;
        assert!(after > 50.0, "{after} % after {role} has asked");
    }
}

/// A parameter in the file is there without the library whose parameter it is.
#[tokio::test]
async fn a_parameter_in_the_configuration_does_not_stand_for_the_library() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        settings: "pg_stat_statements.max = 1000\n",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    database
        .psql(SUPERUSER, "create extension pg_stat_statements")
        .expect("creating it");
    let pretended = database.psql(SUPERUSER, "show pg_stat_statements.max");
    assert_eq!(pretended.as_deref(), Ok("1000\n"), "the trap");
    assert_eq!(counted(&database), 0);
    let named = reasons(&database);
    assert!(
        named.starts_with("pg_stat_statements is not loaded"),
        "{named}"
    );
    let check = extension_check(&database);
    assert!(
        check.starts_with("f|") && check.contains("not loaded by the server"),
        "{check}"
    );
    assert_eq!(sampled(&database), "done\n");
}

/// Without `pg_read_all_stats` other roles' statements have no identity, so none of them is told.
#[tokio::test]
async fn an_owner_without_pg_monitor_is_blind_to_statements_too() {
    for flavour in [Flavour::Plain, Flavour::Supabase] {
        let cluster = Cluster::start(ClusterOptions {
            flavour,
            ..ClusterOptions::default()
        });
        let database = cluster.database();
        assert_eq!(reasons(&database), "", "{flavour:?}");
        // From 16 on a grant is its grantor's: another's revoke takes nothing away.
        database
            .psql(
                database.migrator(),
                "revoke pg_monitor from monitoring_owner",
            )
            .expect("blinding the owner");
        assert_eq!(
            reasons(&database),
            "monitoring_owner lacks pg_read_all_stats: sessions of other roles are invisible",
            "{flavour:?}"
        );
    }
}
