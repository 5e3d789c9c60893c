//! The migrations: applied, applied again, undone, refused; by psql and by the task, on every kind of database.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER, plain, supabase};
use crate::support::project_file;
use crate::support::templates::{ACCEPT_SETTINGS, migrations};

pub(crate) fn rollbacks() -> Vec<PathBuf> {
    let twin = |path: PathBuf| {
        let name = path.file_name().expect("naming a migration").to_owned();
        path.with_file_name("rollback").join(name)
    };
    migrations().into_iter().map(twin).rev().collect()
}

pub(crate) fn apply(database: &TestDatabase, files: &[PathBuf]) {
    for file in files {
        let applied = database.psql_file(database.migrator(), file);
        applied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

fn file(name: &str) -> PathBuf {
    project_file("migrations").join(name)
}

#[tokio::test]
async fn up_up_down_up_leaves_the_same_schema() {
    for cluster in [plain(), supabase()] {
        let database = cluster.empty_database();
        let before = database.dump_schema();
        apply(&database, &migrations());
        let applied = database.dump_schema();
        assert_ne!(before, applied);
        apply(&database, &migrations());
        assert_eq!(
            applied,
            database.dump_schema(),
            "a second run changes nothing"
        );
        apply(&database, &rollbacks());
        assert_eq!(
            before,
            database.dump_schema(),
            "rolled back, all is as before"
        );
        apply(&database, &rollbacks());
        apply(&database, &migrations());
        assert_eq!(applied, database.dump_schema());
    }
}

/// What is unqualified could be somebody else's before that, and after it the session's path is its own again.
#[test]
fn each_file_begins_with_the_systems_own_search_path_and_ends_as_it_was() {
    let first = read(&migrations()[0]);
    let beginning = first.find("do $begin$").expect("beginning");
    let end = first.find("$path$;\n").expect("setting the path");
    let beginning = &first[beginning..end];
    assert!(beginning.contains("set_config('search_path', 'pg_catalog, pg_temp'"));
    let end = &first[first.rfind("do $end$").expect("ending")..];
    assert!(end.contains(
        "set_config('search_path', pg_catalog.current_setting('pgvigil.migrating_search_path')"
    ));
    for file in migrations().into_iter().chain(rollbacks()) {
        let text = read(&file);
        let (comments, statements) = text
            .split_once(beginning)
            .unwrap_or_else(|| panic!("{} begins otherwise", file.display()));
        let mut comments = comments.lines();
        assert!(
            comments.all(|line| line.is_empty() || line.starts_with("--")),
            "{}",
            file.display()
        );
        assert!(statements.ends_with(end), "{}", file.display());
    }
}

/// The same file again, alone: a person who repairs one object runs just that.
#[tokio::test]
async fn each_file_alone_can_run_again() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let before = database.dump_schema();
        for migration in migrations() {
            apply(&database, &[migration]);
            assert_eq!(before, database.dump_schema());
        }
    }
}

#[tokio::test]
async fn the_last_database_takes_the_roles_with_it() {
    let cluster = Cluster::start(ClusterOptions::default());
    let (one, other) = (cluster.empty_database(), cluster.empty_database());
    let roles = "select count(*) from pg_roles where rolname like 'monitoring%'";
    let sequence = "create table t (id serial)";
    let granted = "grant select on all sequences in schema public to monitoring_owner;
        grant select (id) on t to monitoring_reader;
        alter default privileges in schema public grant select on sequences to monitoring_owner";
    let mut before = Vec::new();
    for database in [&one, &other] {
        database.psql(SUPERUSER, sequence).expect("a sequence");
        before.push(database.dump_schema());
        apply(database, &migrations());
        database.psql(SUPERUSER, granted).expect("granting");
    }
    apply(&one, &rollbacks());
    assert_eq!(before[0], one.dump_schema(), "what was granted by hand");
    assert_eq!(
        other.psql(SUPERUSER, roles).as_deref(),
        Ok("5\n"),
        "the other database needs them"
    );
    let accepted = other.psql(SUPERUSER, ACCEPT_SETTINGS);
    accepted.expect("accepting the settings");
    let summary = other.psql(
        SUPERUSER,
        "select get_database_monitoring_summary() ->> 'status'",
    );
    assert_eq!(summary.as_deref(), Ok("excellent\n"));
    // What the business granted for its calendar goes with the role.
    let grant = "create view hours as select now() as starts_at; grant select on hours to monitoring_calendar";
    other.psql(SUPERUSER, grant).expect("granting");
    apply(&other, &rollbacks());
    assert_eq!(one.psql(SUPERUSER, roles).as_deref(), Ok("0\n"));

    // Where even the roles are unknown, a schema of the same name is somebody else's.
    let foreign = "create schema monitoring; create table monitoring.samples (precious int); create table monitoring.changes (x int);
        create table monitoring.outbox (x int); create function monitoring.summary() returns int language sql as 'select 1'";
    one.psql(SUPERUSER, foreign).expect("somebody's schema");
    let before = one.dump_schema();
    for file in rollbacks() {
        let refused = one.psql_file(SUPERUSER, &file).expect_err("refused");
        assert!(refused.contains("is not pgvigil's"), "{refused}");
    }
    assert_eq!(before, one.dump_schema());
}

/// Somebody's default may be a tablespace that `monitoring_owner` may not use, or that holds no tables at all.
#[tokio::test]
async fn a_default_tablespace_is_nobodys_business() {
    let database = plain().empty_database();
    let default = "do $$ begin execute format('alter database %I set default_tablespace = pg_global', current_database()); end $$";
    database.psql(SUPERUSER, default).expect("setting");
    apply(&database, &migrations());
    apply(&database, &migrations());
    let sampled = "show default_tablespace; select monitoring.sample() ->> 'status'; select monitoring.ensure_sample_partition('2001-01-01')";
    assert_eq!(
        database.psql(SUPERUSER, sampled).as_deref(),
        Ok("pg_global\ndone\nt\n")
    );
    apply(&database, &rollbacks());
}

/// While a second run goes on, what reads and writes goes on too: nothing that is as it should be is locked for longer than to look.
#[tokio::test]
async fn a_second_run_waits_for_no_writer_of_events() {
    let database = plain().database();
    let writer = database.superuser().await;
    let writing = "begin; select count(*) from monitoring_events; select count(*) from monitoring.remembered_checks;
        select count(*) from monitoring.thresholds; update monitoring.thresholds set warning = warning where false";
    writer.batch_execute(writing).await.expect("reading");
    let inserting =
        "insert into monitoring_events (event_type, event_data) values ('slow_query', '{}')";
    writer.batch_execute(inserting).await.expect("writing");
    apply(&database, &migrations());
    let recording = "select record_monitoring_event('slow_query', '{}'); commit";
    writer.batch_execute(recording).await.expect("writing");
}

/// Where all tables are published (`for all tables`), what has neither a key nor another identity cannot be deleted from.
#[tokio::test]
async fn all_that_is_kept_can_be_published() {
    let database = plain().database();
    let unidentified = "select string_agg(c.oid::regclass::text, ' ') from pg_class c
        where c.relnamespace = 'monitoring'::regnamespace and c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.relreplident <> 'f'
          and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)";
    assert_eq!(database.psql(SUPERUSER, unidentified).as_deref(), Ok("\n"));
    let published = "create publication everything for all tables;
        insert into monitoring.changes select now() - interval '500 days', 'rls', 'public.guests', 'on', 'off'";
    database.psql(SUPERUSER, published).expect("publishing");
    let cleaned = "select r ->> 'complete', r ->> 'failed', r ->> 'changes' from cleanup_old_monitoring_data() r";
    assert_eq!(
        database.psql(SUPERUSER, cleaned).as_deref(),
        Ok("true|{}|1\n")
    );
}

/// A customer had a `cleanup_old_monitoring_data()` and a `monitoring_events` of their own; CREATE OR REPLACE would have
/// destroyed the one without a word.
#[tokio::test]
async fn another_cleanup_old_monitoring_data_that_already_existed_is_never_replaced() {
    for (foreign, name) in [
        (
            "create function cleanup_old_monitoring_data() returns void language sql as 'select 1'",
            "cleanup_old_monitoring_data",
        ),
        (
            "create procedure record_monitoring_event() language sql as 'select 1'",
            "alter procedure public.record_monitoring_event() rename to",
        ),
        (
            "create table monitoring_events (mine int)",
            "monitoring_events",
        ),
        (
            "create view monitoring_slow_queries as select 1 as mine",
            "monitoring_slow_queries",
        ),
        (
            "create schema monitoring; create table monitoring.mine (a int)",
            "schema \"monitoring\"",
        ),
    ] {
        let database = plain().empty_database();
        database
            .psql(SUPERUSER, foreign)
            .expect("creating a foreign object");
        let before = database.dump_schema();
        let refused = migrations()
            .iter()
            .find_map(|file| database.psql_file(SUPERUSER, file).err());
        let error = refused.unwrap_or_else(|| panic!("{name} was replaced"));
        assert!(
            error.contains(name) && error.contains("not pgvigil's"),
            "{error}"
        );
        assert!(error.contains("Rename it"), "names the way out: {error}");
        assert_eq!(
            before,
            database.dump_schema(),
            "{name}: nothing is left behind"
        );
        for file in rollbacks() {
            // Refused or without effect; never a drop of what is not ours.
            let _ = database.psql_file(SUPERUSER, &file);
        }
        assert_eq!(before, database.dump_schema(), "{name} survives a rollback");
    }
}

#[tokio::test]
async fn a_foreign_role_of_the_same_name_is_never_taken_over() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    database
        .psql(SUPERUSER, "create role monitoring_agent login superuser")
        .expect("creating a role");
    let error = database
        .psql_file(SUPERUSER, &migrations()[0])
        .expect_err("a foreign role");
    assert!(
        error.contains("monitoring_agent") && error.contains("Rename it"),
        "{error}"
    );
    let left = database.psql(
        SUPERUSER,
        "select count(*) from pg_roles where rolname = 'monitoring_owner'",
    );
    assert_eq!(left.as_deref(), Ok("0\n"), "nothing is left behind");
}

/// An RDS master user: no superuser, may create roles, owns the database, may pass on `pg_monitor`.
#[tokio::test]
async fn an_rds_like_master_can_migrate_and_roll_back() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let master = "create role master login createrole createdb password 'x'; \
                  grant pg_monitor to master with admin option;";
    database.psql(SUPERUSER, master).expect("creating a master");
    let own = format!("alter database {} owner to master", database.name);
    database
        .psql(SUPERUSER, &own)
        .expect("giving the database away");
    let before = database.dump_schema();
    let run = |files: Vec<PathBuf>| {
        for file in files {
            let as_master = format!("set session authorization master;\n{}", read(&file));
            let done = database.psql(SUPERUSER, &as_master);
            done.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    };
    run(migrations());
    let sees = database.psql(
        SUPERUSER,
        "select pg_has_role('monitoring_owner', 'pg_read_all_stats', 'usage')",
    );
    assert_eq!(sees.as_deref(), Ok("t\n"));
    run(migrations());
    run(rollbacks());
    assert_eq!(before, database.dump_schema());
}

/// An RDS master has `pg_monitor` by a role that has it, and such a membership need not inherit: then he is no possible grantor.
#[tokio::test]
async fn without_a_right_to_grant_pg_monitor_the_migration_warns_and_goes_on() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let version = database.psql(SUPERUSER, "show server_version_num");
    let version: u32 = version
        .expect("asking")
        .trim()
        .parse()
        .expect("reading a version");
    let (inherits, by) = if version >= 160_000 {
        ("", " with inherit false")
    } else {
        (" noinherit", "")
    };
    let master = format!(
        "create role platform; grant pg_monitor to platform with admin option;
         create role master login createrole createdb password 'x'{inherits}; grant platform to master{by};
         alter database {} owner to master",
        database.name
    );
    database
        .psql(SUPERUSER, &master)
        .expect("creating a master");
    let run = |file: PathBuf| {
        let as_master = format!("set session authorization master;\n{}", read(&file));
        database.psql(SUPERUSER, &as_master)
    };
    if (150_000..160_000).contains(&version) {
        // There public is its by a membership, too.
        let error = run(migrations().remove(0)).expect_err("who inherits nothing");
        assert!(error.contains("alter role master inherit"), "{error}");
        database
            .psql(SUPERUSER, "alter role master inherit")
            .expect("letting it inherit");
    }
    for file in migrations() {
        run(file).unwrap_or_else(|error| panic!("{error}"));
    }
    let summary = "select get_database_monitoring_summary() ->> 'health_score' is not null";
    assert_eq!(database.psql(SUPERUSER, summary).as_deref(), Ok("t\n"));
}

/// docs/checks.md, "sequence-exhaustion", says what to grant; whatever else there is to grant, somebody has.
#[tokio::test]
async fn what_the_roles_were_granted_by_hand_goes_with_them() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let shop = "create schema shop; create table shop.t (id serial, name text); create role \"Odd-Owner\";
        create procedure shop.pr() language sql as 'select 1'; create type shop.mood as enum ('calm'); select lo_create(4711);
        grant usage, create on schema shop to \"Odd-Owner\"";
    database.psql(SUPERUSER, shop).expect("making a shop");
    let before = database.dump_schema();
    apply(&database, &migrations());
    let grants = format!(
        "grant usage on schema shop to monitoring_owner; grant select on all sequences in schema shop to monitoring_owner;
         alter default privileges in schema shop grant select on sequences to monitoring_owner;
         alter default privileges for role \"Odd-Owner\" in schema shop grant select on tables to monitoring_reader;
         alter default privileges grant usage on types to monitoring_members;
         grant select (name) on shop.t to monitoring_calendar; grant execute on all routines in schema shop to monitoring_owner;
         grant usage on type shop.mood to monitoring_agent; grant select on large object 4711 to monitoring_reader;
         grant usage on language sql to monitoring_agent; grant connect on database {} to monitoring_reader;
         set role \"Odd-Owner\"; create table shop.later (id int); reset role; drop table shop.later",
        database.name
    );
    database.psql(SUPERUSER, &grants).expect("granting");
    apply(&database, &rollbacks());
    assert_eq!(before, database.dump_schema());
    assert_eq!(roles(&database), "");
}

/// What is granted on the whole cluster's objects is not this database's alone.
#[tokio::test]
async fn rolling_back_one_database_leaves_the_others_what_they_need() {
    for flavour in [Flavour::Plain, Flavour::Rds] {
        let cluster = Cluster::start(ClusterOptions {
            flavour,
            ..ClusterOptions::default()
        });
        let (one, other) = (cluster.empty_database(), cluster.empty_database());
        for database in [&one, &other] {
            apply(database, &migrations());
        }
        let grants = format!(
            "revoke connect on database {0} from public; grant connect on database {0} to monitoring_agent, monitoring_reader",
            other.name
        );
        one.psql(SUPERUSER, &grants).expect("granting");
        let before = other.dump_schema();
        let rights = format!(
            "select datacl from pg_database where datname = '{}'",
            other.name
        );
        let rights_before = other.psql(SUPERUSER, &rights);
        let members = "select string_agg(format('%s %s %s', roleid::regrole, member::regrole, admin_option), ' ' order by roleid::regrole::text, member::regrole::text, admin_option)
            from pg_auth_members where roleid::regrole::text ~ '^monitoring_'";
        let members_before = other.psql(SUPERUSER, members);
        apply(&one, &rollbacks());
        assert_eq!(before, other.dump_schema());
        assert_eq!(rights_before, other.psql(SUPERUSER, &rights));
        assert_eq!(members_before, other.psql(SUPERUSER, members));
        let works = "select bool_and(pass) from monitoring.validation() where check_id in ('views', 'functions')";
        assert_eq!(other.psql(SUPERUSER, works).as_deref(), Ok("t\n"));
        apply(&other, &rollbacks());
        assert_eq!(roles(&other), "");
    }
}

/// Whose the grants are decides who may take them back, and what somebody made as a role of ours is not ours to drop.
#[tokio::test]
async fn a_role_that_cannot_go_stays_and_says_why() {
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Rds,
        ..ClusterOptions::default()
    });
    let database = cluster.empty_database();
    apply(&database, &migrations());
    let theirs = "create role app; create schema shop authorization app;
        set role app; grant usage on schema shop to monitoring_owner; reset role;
        grant usage, create on schema shop to monitoring_calendar; set role monitoring_calendar; create table shop.kept (id int)";
    database.psql(SUPERUSER, theirs).expect("granting");
    apply(&database, &rollbacks());
    assert_eq!(roles(&database), "monitoring_calendar monitoring_owner");
    let kept = "select count(*) from shop.kept";
    assert_eq!(database.psql(SUPERUSER, kept).as_deref(), Ok("0\n"));
    // As the notice advises.
    let drop = "drop owned by monitoring_owner; drop role monitoring_owner";
    database.psql(SUPERUSER, drop).expect("dropping it");
}

/// Roles of these names that were never ours are left alone, with what they have.
#[tokio::test]
async fn rolling_back_what_was_never_applied_touches_nobodys_roles() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let theirs = "create role monitoring_owner; create role monitoring_reader login; create table t (id int);
        grant select on t to monitoring_owner; alter default privileges grant select on tables to monitoring_reader";
    database
        .psql(SUPERUSER, theirs)
        .expect("making roles of that name");
    let before = database.dump_schema();
    apply(&database, &rollbacks());
    assert_eq!(before, database.dump_schema());
    assert_eq!(roles(&database), "monitoring_owner monitoring_reader");
}

fn roles(database: &TestDatabase) -> String {
    let sql = "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname ~ '^monitoring_'";
    let roles = database.psql(SUPERUSER, sql).expect("asking for roles");
    roles.trim().to_owned()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("reading a migration")
}

#[tokio::test]
async fn rollback_refuses_while_critical_events_are_open() {
    let database = plain().database();
    // Also where a session gets an error in place of what its policies let it see.
    let unseen = format!("alter database {} set row_security = off", database.name);
    database.psql(SUPERUSER, &unseen).expect("setting it");
    let record = "select record_monitoring_event('performance_alert', '{}', 'critical')";
    database
        .psql(SUPERUSER, record)
        .expect("recording an event");
    let rollback = file("rollback/20250825000002_database_monitoring_views.sql");
    let error = database
        .psql_file(SUPERUSER, &rollback)
        .expect_err("an open critical event");
    assert!(
        error.contains("1 unresolved critical event") && error.contains("discard_events"),
        "{error}"
    );

    // By hand, file by file: the first one refuses, so nothing is undone.
    let before = database.dump_schema();
    for rollback in rollbacks().iter().take(2) {
        let error = database
            .psql_file(SUPERUSER, rollback)
            .expect_err("an open critical event");
        assert!(error.contains("discard_events"), "{error}");
    }
    assert_eq!(before, database.dump_schema());

    let app = TestApp::new(&database).await;
    let event = json!({"task": "rollback", "confirm": database.name});
    let error = app
        .invoke(&event)
        .await
        .expect_err("an open critical event");
    assert!(error.error_message.contains("discard_events"), "{error:?}");
    let event = json!({"task": "rollback", "confirm": database.name, "discard_events": true});
    assert_eq!(app.task(event).await["status"], "done");
}

/// What somebody has dropped or revoked comes back, and what is there stays as it is.
#[tokio::test]
async fn applying_again_restores_what_is_gone() {
    let database = plain().database();
    let before = database.dump_schema();
    for broken in [
        "drop policy monitoring_events_read on monitoring_events",
        "drop policy monitoring_events_owner on monitoring_events; drop view monitoring_connections",
        "drop function cleanup_old_monitoring_data(); revoke all on monitoring_events from monitoring_reader",
        "alter table monitoring_events no force row level security; drop index monitoring_events_created_at_idx",
        "alter table monitoring_events drop constraint monitoring_events_pkey, drop constraint monitoring_events_severity_check",
    ] {
        database.psql(SUPERUSER, broken).expect(broken);
        assert_ne!(before, database.dump_schema(), "{broken}");
        apply(&database, &migrations());
        assert_eq!(before, database.dump_schema(), "{broken}");
    }
    // Rows that were written meanwhile stay, are named, and can be corrected.
    let broken = "alter table monitoring_events drop constraint monitoring_events_severity_check;
        insert into monitoring_events (event_type, event_data, severity) values ('slow_query', '{}', 'odd')";
    database.psql(SUPERUSER, broken).expect(broken);
    apply(&database, &migrations());
    let is_valid =
        "select convalidated from pg_constraint where conname = 'monitoring_events_severity_check'";
    assert_eq!(database.psql(SUPERUSER, is_valid).as_deref(), Ok("f\n"));
    let lacking = "select pass, evidence ~ 'lacks monitoring_events_severity_check' from monitoring.validation() where check_id = 'functions'";
    assert_eq!(database.psql(SUPERUSER, lacking).as_deref(), Ok("f|t\n"));
    let correct = "update monitoring_events set severity = 'low'";
    database.psql(SUPERUSER, correct).expect(correct);
    apply(&database, &migrations());
    assert_eq!(database.psql(SUPERUSER, is_valid).as_deref(), Ok("t\n"));
    database
        .psql(SUPERUSER, "delete from monitoring_events")
        .expect("clearing");
    assert_eq!(before, database.dump_schema());
    // Whose making was cut short.
    let invalid = "set allow_system_table_mods = on;
        update pg_index set indisvalid = false where indexrelid = 'monitoring_events_created_at_idx'::regclass";
    database.psql(SUPERUSER, invalid).expect(invalid);
    apply(&database, &migrations());
    let valid = "select indisvalid from pg_index where indexrelid = 'monitoring_events_created_at_idx'::regclass";
    assert_eq!(database.psql(SUPERUSER, valid).as_deref(), Ok("t\n"));
    let twice = "alter table monitoring_events drop constraint monitoring_events_pkey;
        insert into monitoring_events (id, event_type, event_data)
        select '00000000-0000-0000-0000-000000000000', 'slow_query', '{}' from generate_series(1, 2)";
    database.psql(SUPERUSER, twice).expect(twice);
    let again = migrations()
        .iter()
        .find_map(|path| database.psql_file(SUPERUSER, path).err())
        .expect("two events of one id");
    assert!(again.contains("has events of the same id"), "{again}");
}

#[tokio::test]
async fn the_task_and_psql_know_of_each_other() {
    for cluster in [plain(), supabase()] {
        let database = cluster.empty_database();
        let before = database.dump_schema();
        let app = TestApp::new(&database).await;
        apply(&database, &migrations()[..1]);
        let report = app.task(json!({"task": "migrate"})).await;
        let applied = report["applied"].as_array().expect("reading the report");
        assert_eq!(applied.len(), migrations().len() - 1, "{report}");
        assert_eq!(
            app.task(json!({"task": "migrate"})).await["applied"],
            json!([])
        );
        let report = app
            .task(json!({"task": "rollback", "confirm": database.name}))
            .await;
        assert_eq!(
            report["undone"].as_array().map(Vec::len),
            Some(migrations().len()),
            "{report}"
        );
        assert_eq!(before, database.dump_schema());
    }
}

#[tokio::test]
async fn a_migration_changed_after_it_was_applied_is_refused() {
    let database = plain().empty_database();
    let app = TestApp::new(&database).await;
    app.task(json!({"task": "migrate"})).await;
    let change = "update monitoring.migrations set sha256 = repeat('0', 64) where version = '20250825000002'";
    database.psql(SUPERUSER, change).expect("changing a hash");
    let error = app
        .invoke(&json!({"task": "migrate"}))
        .await
        .expect_err("a changed migration");
    assert!(error.error_message.contains("20250825000002"), "{error:?}");
}

#[tokio::test]
async fn rollback_wants_the_databases_name() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for event in [
        json!({"task": "rollback"}),
        json!({"task": "rollback", "confirm": 1}),
        json!({"task": "rollback", "confirm": "another"}),
    ] {
        let error = app
            .invoke(&event)
            .await
            .expect_err("a rollback that is not confirmed");
        assert!(error.error_message.contains("confirm"), "{error:?}");
    }
    let summary = database.psql(
        SUPERUSER,
        "select get_database_monitoring_summary() ->> 'status'",
    );
    assert_eq!(summary.as_deref(), Ok("excellent\n"));
}

#[tokio::test]
async fn two_migrators_at_once_do_it_once() {
    let database = plain().empty_database();
    let (one, other) = (TestApp::new(&database).await, TestApp::new(&database).await);
    let event = json!({"task": "migrate"});
    let (one, other) = tokio::join!(one.invoke(&event), other.invoke(&event));
    let reports = [one.expect("migrating"), other.expect("migrating")];
    let applied: usize = reports
        .iter()
        .filter_map(|report| report["applied"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(applied, migrations().len(), "{reports:?}");
}

/// From 16 on only who made a role may pass it on: a second database, migrated by another role, says what it needs.
#[tokio::test]
async fn another_role_may_migrate_a_second_database() {
    let cluster = Cluster::start(ClusterOptions::default());
    let (first, second) = (cluster.empty_database(), cluster.empty_database());
    apply(&first, &migrations());
    let master = format!(
        "create role master login createrole; alter database {} owner to master",
        second.name
    );
    second.psql(SUPERUSER, &master).expect("creating a master");
    let run = || {
        migrations().iter().try_for_each(|file| {
            let as_master = format!("set session authorization master;\n{}", read(file));
            second.psql(SUPERUSER, &as_master).map(drop)
        })
    };
    if cluster.major_version() >= 16 {
        let error = run().expect_err("roles that another made");
        assert!(
            error.contains("with admin option"),
            "names the way out: {error}"
        );
        let grant = "grant monitoring_owner, monitoring_calendar, monitoring_members to master with admin option, inherit false, set false;
            grant monitoring_reader, monitoring_agent to master with admin option";
        for said in grant.split(";") {
            assert!(error.contains(said.trim()), "says it: {said} in {error}");
        }
        second.psql(SUPERUSER, grant).expect("granting");
    }
    run().unwrap_or_else(|error| panic!("{error}"));
    let accepted = second.psql(SUPERUSER, ACCEPT_SETTINGS);
    accepted.expect("accepting the settings");
    let status = "set role master; select get_database_monitoring_summary() ->> 'status'";
    assert_eq!(second.psql(SUPERUSER, status).as_deref(), Ok("excellent\n"));
    // Who may become the owner to migrate has none of its rights otherwise.
    let secure = "select pass, evidence from monitoring.validation() where check_id = 'security' and not pass";
    assert_eq!(second.psql(SUPERUSER, secure).as_deref(), Ok(""));
}
