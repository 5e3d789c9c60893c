//! Applying the migrations: what a database lacks, has already, or does not let us do.

use serde_json::json;

use super::{READS, one, refusal, works};
use crate::migrations::{apply, rollbacks};
use crate::support::app::SUBJECT;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain, supabase};
use crate::support::scratch;
use crate::support::templates::migrations;

/// The original's view of tables asked for a column of another catalog, and so was never created.
#[tokio::test]
async fn pg_stat_user_tables_has_relname_and_not_tablename() {
    let database = plain().database();
    let client = database.superuser().await;
    let original = "select schemaname, tablename from pg_stat_user_tables";
    assert_eq!(refusal(&client, original).await, "42703");
    let ours = "select count(*) from monitoring_table_health where tablename = 'monitoring_events'";
    assert_eq!(one(&client, ours).await.get::<_, i64>(0), 1);
}

/// Each file is one transaction, in which an index cannot be built concurrently.
#[tokio::test]
async fn create_index_concurrently_is_in_no_migration() {
    let database = plain().empty_database();
    let original = "create table t (a int);\ncreate index concurrently on t (a);\n";
    let original = scratch::file("concurrently.sql", original);
    let error = database.psql_file(SUPERUSER, &original);
    let error = error.expect_err("building an index concurrently");
    assert!(
        error.contains("cannot run inside a transaction block"),
        "{error}"
    );
    for path in migrations().into_iter().chain(rollbacks()) {
        let text = std::fs::read_to_string(&path).expect("reading a migration");
        // What a check advises is a string; what a migration does is none.
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
        {
            let done: String = line.split('\'').step_by(2).collect();
            assert!(
                !done.to_lowercase().contains("concurrently"),
                "{}: {line}",
                path.display()
            );
        }
    }
}

/// Plain PostgreSQL and RDS have none of it, and a Supabase project not always all of it.
#[tokio::test]
async fn organization_members_auth_users_auth_uid_and_uuid_generate_v4_are_not_needed() {
    let bare = plain().empty_database();
    let reduced = supabase().empty_database();
    let reduce = "drop table public.organization_members; drop schema auth cascade";
    reduced.psql(SUPERUSER, reduce).expect("taking it away");
    for database in [bare, reduced] {
        let there = "select num_nonnulls(to_regclass('public.organization_members'), to_regclass('auth.users'),
            to_regproc('auth.uid'), to_regproc('uuid_generate_v4'))";
        assert_eq!(database.psql(SUPERUSER, there).as_deref(), Ok("0\n"));
        apply(&database, &migrations());
        works(&database);
        let ids = "select count(*) from monitoring_events where id is not null and user_id is null";
        assert_eq!(database.psql(SUPERUSER, ids).as_deref(), Ok("1\n"));
    }
}

/// An audit column with a foreign key would keep the user for as long as the event.
#[tokio::test]
async fn a_user_whose_events_exist_can_be_deleted_from_auth_users() {
    let database = supabase().database();
    let user = format!("insert into auth.users values ('{SUBJECT}')");
    database.psql(SUPERUSER, &user).expect("adding a user");
    let claims = json!({"sub": SUBJECT, "app_metadata": {"role": "admin"}});
    let client = database.as_caller(Caller::Authenticated(claims)).await;
    let record = "select public.record_monitoring_event('performance_alert', '{}')";
    client.query(record, &[]).await.expect("recording an event");
    let delete = format!("delete from auth.users where id = '{SUBJECT}' returning id");
    let deleted = database.psql(SUPERUSER, &delete).expect("deleting");
    assert_eq!(deleted.trim(), SUBJECT);
    let kept = "select user_id from monitoring_events";
    let kept = database.psql(SUPERUSER, kept).expect("reading");
    assert_eq!(kept.trim(), SUBJECT, "who it was stays on record");
}

/// A migrating role that is no superuser and owns its database, with what else it may.
fn with_master(may: &str) -> (Cluster, TestDatabase) {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let master = format!(
        "create role master login createrole createdb; {may}; alter database {} owner to master;",
        database.name
    );
    database
        .psql(SUPERUSER, &master)
        .expect("creating a master");
    (cluster, database)
}

fn as_master(database: &TestDatabase, sql: &str) -> Result<String, String> {
    let sql = format!("set session authorization master;\n{sql}");
    database.psql(SUPERUSER, &sql)
}

fn migrate_as_master(database: &TestDatabase) {
    for path in migrations() {
        let sql = std::fs::read_to_string(&path).expect("reading a migration");
        let sql = format!("begin;\n{sql}\ncommit;");
        as_master(database, &sql).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// From 16 on the creator may administer its role and no more; giving a thing away takes CREATE for the new owner, which
/// nobody has on `public` from 15 on.
#[tokio::test]
async fn who_creates_a_role_may_not_set_role_to_it_nor_give_it_a_table_in_public() {
    let (cluster, database) = with_master("grant pg_monitor to master with admin option");
    let become_it = as_master(&database, "create role made nologin; set role made");
    assert!(become_it.is_err(), "{become_it:?}");
    let give = "create role maid nologin; grant maid to master; create table public.gift (); \
                alter table public.gift owner to maid";
    let given = as_master(&database, give);
    assert_eq!(given.is_err(), cluster.major_version() >= 15, "{given:?}");
    migrate_as_master(&database);
    works(&database);
    let became = "select pg_has_role('master', 'monitoring_owner', 'usage'),
        has_schema_privilege('monitoring_owner', 'public', 'create') and current_setting('server_version_num')::int >= 150000";
    assert_eq!(
        database.psql(SUPERUSER, became).as_deref(),
        Ok("f|f\n"),
        "what was borrowed is given back"
    );
}

/// A login that inherits nothing is how the monitor's own is known, and a master may be one.
#[tokio::test]
async fn who_migrates_without_inheriting_is_not_taken_for_the_monitor() {
    let (cluster, database) = with_master(
        "alter role master noinherit; grant pg_monitor to master with admin option; alter schema public owner to master",
    );
    migrate_as_master(&database);
    let own = "select 'master'::regrole::oid = any (monitoring.own_logins())";
    assert_eq!(database.psql(SUPERUSER, own).as_deref(), Ok("f\n"));
    let become_it = if cluster.major_version() < 16 {
        "set role monitoring_agent;"
    } else {
        ""
    };
    let read = format!("{become_it} select count(*) > 0 from monitoring_connections");
    assert_eq!(as_master(&database, &read).as_deref(), Ok("t\n"));

    // From 16 on it is the membership that does not inherit.
    let watches = if cluster.major_version() < 16 {
        "create role watcher login noinherit; grant monitoring_agent to watcher;"
    } else {
        "create role watcher login; grant monitoring_agent to watcher with inherit false;"
    };
    let own = format!("{watches} select 'watcher'::regrole::oid = any (monitoring.own_logins())");
    assert_eq!(database.psql(SUPERUSER, &own).as_deref(), Ok("t\n"));
}

/// From 16 on who creates a role may have asked to be a member of each; of the monitor's that would be the end of their separation.
#[tokio::test]
async fn who_keeps_what_he_creates_does_not_keep_the_monitors_owner() {
    for kept in ["set", "set, inherit"] {
        let (cluster, database) = with_master("grant pg_monitor to master with admin option");
        if cluster.major_version() >= 16 {
            let keeps = format!("alter role master set createrole_self_grant = '{kept}'");
            database.psql(SUPERUSER, &keeps).expect("keeping");
        }
        migrate_as_master(&database);
        works(&database);
        let becomes = if cluster.major_version() < 16 {
            "MEMBER"
        } else {
            "SET"
        };
        let became = format!(
            "select pg_has_role('master', 'monitoring_owner', 'usage'), pg_has_role('master', 'monitoring_owner', '{becomes}'),
              has_table_privilege('master', 'monitoring.settings', 'select')"
        );
        assert_eq!(
            database.psql(SUPERUSER, &became).as_deref(),
            Ok("f|f|t\n"),
            "{kept}"
        );
    }
}

/// From 16 on CREATEROLE alone may not pass on a predefined role. Of `pg_monitor` one part is needed.
#[tokio::test]
async fn grant_pg_monitor_fails_on_16_and_pg_read_all_stats_is_enough() {
    let (cluster, database) = with_master("grant pg_read_all_stats to master with admin option");
    let granted = as_master(&database, "create role probe; grant pg_monitor to probe");
    assert_eq!(
        granted.is_err(),
        cluster.major_version() >= 16,
        "{granted:?}"
    );
    migrate_as_master(&database);
    works(&database);
    let sees = "select pg_has_role('monitoring_owner', 'pg_read_all_stats', 'usage'), count(*) from monitoring.degraded()";
    assert_eq!(database.psql(SUPERUSER, sees).as_deref(), Ok("t|0\n"));
}

/// On 14 the option is an error, so it cannot be in the view's own text.
#[tokio::test]
async fn security_invoker_views_do_not_exist_before_15() {
    let database = plain().database();
    let invokers = "select count(*) filter (where reloptions @> '{security_invoker=true}'), count(*) from pg_class
        where relkind = 'v' and relnamespace = 'public'::regnamespace and relname like 'monitoring%'";
    let expected = match plain().major_version() {
        ..15 => "0|4\n",
        15.. => "4|4\n",
    };
    assert_eq!(database.psql(SUPERUSER, invokers).as_deref(), Ok(expected));
}

/// `blk_read_time` became `shared_blk_read_time` in 17, and `pg_stat_bgwriter` lost columns: a view on them stops an upgrade,
/// and even one on `*` is bound to the columns of its day.
#[tokio::test]
async fn a_view_on_blk_read_time_or_pg_stat_bgwriter_breaks_an_upgrade() {
    let database = plain().database();
    let named = "select string_agg(distinct v.relname || ' on ' || c.oid::regclass, ', ')
        from pg_depend d
          join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
          join pg_class v on v.oid = r.ev_class
          join pg_class c on c.oid = d.refobjid and d.refclassid = 'pg_class'::regclass and c.oid <> v.oid
        where v.relname like any (array['monitoring%', 'theirs'])";
    let named = || {
        let found = database.psql(SUPERUSER, named);
        found.expect("reading dependencies").trim().to_owned()
    };
    assert_eq!(
        named(),
        "",
        "our views stand on functions, whose text is read anew"
    );
    let theirs = "create view theirs as select blks_read, blk_read_time from pg_stat_database";
    database.psql(SUPERUSER, theirs).expect("creating a view");
    assert_eq!(named(), "theirs on pg_stat_database");
}

/// 1.4 has `total_time` on every server, and an update renames it under whoever reads it.
#[tokio::test]
async fn pg_stat_statements_follows_the_extensions_version_and_not_the_servers() {
    let database = plain().empty_database();
    let old =
        "drop extension pg_stat_statements; create extension pg_stat_statements version '1.4'";
    database
        .psql(SUPERUSER, old)
        .expect("creating it as of 9.6");
    let time = |column: &str| {
        let sql = format!("select count({column}) >= 0 from pg_stat_statements");
        database.psql(SUPERUSER, &sql).is_ok()
    };
    assert!(time("total_time") && !time("total_exec_time"));
    apply(&database, &migrations());
    works(&database);
    let update = "alter extension pg_stat_statements update";
    database.psql(SUPERUSER, update).expect("updating it");
    assert!(!time("total_time") && time("total_exec_time"));
    works(&database);
    apply(&database, &migrations());
}

/// Created in a database of a server that does not load it, it is there and refuses every read.
#[tokio::test]
async fn pg_stat_statements_created_but_not_preloaded_raises_55000() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        ..ClusterOptions::default()
    });
    let (before, after) = (cluster.empty_database(), cluster.database());
    let create = "create extension pg_stat_statements";
    before.psql(SUPERUSER, create).expect("creating it");
    after.psql(SUPERUSER, create).expect("creating it later");
    let client = before.superuser().await;
    let read = "select count(*) from pg_stat_statements";
    assert_eq!(refusal(&client, read).await, "55000");
    apply(&before, &migrations());
    works(&before);
    works(&after);
    let developer = json!({"app_metadata": {"role": "developer"}});
    let developer = after.as_caller(Caller::Reader(developer)).await;
    for sql in READS {
        let read = developer.query(sql, &[]).await;
        read.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// The server loads it and the database lacks it.
#[tokio::test]
async fn pg_stat_statements_preloaded_but_not_created_does_no_harm() {
    let database = plain().empty_database();
    let drop = "drop extension pg_stat_statements";
    database.psql(SUPERUSER, drop).expect("dropping it");
    apply(&database, &migrations());
    works(&database);
    let create = "create extension pg_stat_statements";
    database.psql(SUPERUSER, create).expect("creating it later");
    works(&database);
}
