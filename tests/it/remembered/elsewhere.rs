//! A memory that came along to another database, or lost its counters, is not believed. To see whether it is, it lies.

use std::process::Command;

use tokio_postgres::Client;

use super::{
    ANSWERS, SHAPES, always, execute, holds, remember, shaped, subjects, told, true_answer,
};
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::support::programs::{run, whole_server_programs};
use crate::support::scratch::unique;
use crate::support::wait::wait_until;

const LIE: &str = "insert into monitoring.remembered_rls_kinds
      select 'public', 'no_such_table', true, 'ENABLED', 1, 'LOW_RISK', true, 3, '{}', '{}', false, false, false, false, '{no_such_table}';
    insert into monitoring.remembered_column_grants values ('keyed'::regclass, 0, 'SELECT');
    update monitoring.remembered_companions set index_scans = 123456789;
    update monitoring.remembered_tables set index_scans = 123456789;";

/// A memory that is believed, and wrong.
async fn lying(database: &TestDatabase) {
    remember(database).await;
    database.psql(SUPERUSER, LIE).expect("planting lies");
    let client = database.superuser().await;
    assert!(lies(&client).await, "the memory is not used at all");
    assert!(holds(database));
}

async fn lies(client: &Client) -> bool {
    for lie in [
        "select from monitoring_rls_status where tablename = 'no_such_table'",
        "select from monitoring_table_health where index_scans = 123456789",
        "select from monitoring.column_grants() where grantee = 0 and table_oid = 'keyed'::regclass",
    ] {
        if !told(client, lie).await.is_empty() {
            return true;
        }
    }
    false
}

/// Everything is answered truly, now and when it is remembered anew.
async fn tells_the_truth(database: &TestDatabase) {
    let client = database.superuser().await;
    assert!(!lies(&client).await);
    assert!(told(&client, ANSWERS[0]).await.contains("halves"));
    remember(database).await;
    assert!(!lies(&client).await);
    for query in [ANSWERS[0], ANSWERS[4]] {
        assert_eq!(
            told(&client, query).await,
            true_answer(&client, query).await
        );
    }
}

#[tokio::test]
async fn the_memory_of_the_database_it_was_cloned_from_is_not_believed() {
    let (cluster, database) = shaped();
    lying(&database).await;
    let clone = unique("clone_");
    let sql = format!("create database {clone} template {}", database.name);
    let administrator = cluster.database();
    wait_until("nobody is connected any more", async || {
        administrator.psql(SUPERUSER, &sql).is_ok()
    })
    .await;
    let clone = cluster.existing_database(&clone);
    let left = clone.psql(SUPERUSER, "select count(*) from monitoring.remembered");
    let known = subjects(&database).split(' ').count();
    assert_eq!(left, Ok(format!("{known}\n")), "it came along");
    tells_the_truth(&clone).await;
    assert!(
        lies(&database.superuser().await).await,
        "the original's is its own"
    );
}

#[tokio::test]
async fn the_memory_in_a_restored_dump_is_not_believed() {
    // Of the version that pg_dump is of, and not 14, which remembers too little to lie about.
    let on_system = || {
        let programs = whole_server_programs().unwrap_or_else(|problem| panic!("{problem}"));
        Cluster::start(ClusterOptions {
            programs: Some(programs),
            ..ClusterOptions::default()
        })
    };
    let source = on_system();
    let database = source.database();
    database.psql(SUPERUSER, SHAPES).expect("creating tables");
    always(&database);
    lying(&database).await;
    let target = on_system();
    tells_the_truth(&target.restore(&database.dump())).await;
}

/// The postmaster takes a backend that was killed for a crash: it empties what is not logged, and forgets all counters.
#[tokio::test]
async fn after_a_crash_nothing_is_remembered_and_all_is_answered() {
    let (_cluster, database) = shaped();
    // The harness commits without waiting for the log to be written; what the crash takes should be the memory alone.
    database
        .psql(SUPERUSER, "checkpoint")
        .expect("writing all down");
    lying(&database).await;
    let victim = database.superuser().await;
    let pid: i32 = victim
        .query_one("select pg_backend_pid()", &[])
        .await
        .expect("asking the process id")
        .get(0);
    let mut kill = Command::new("kill");
    kill.args(["-KILL", &pid.to_string()]);
    run(kill, "").expect("killing a backend");
    wait_until("the server is back", async || {
        victim.is_closed() && database.psql(SUPERUSER, "select").is_ok()
    })
    .await;
    let left = "select (select count(*) from monitoring.remembered), (select count(*) from monitoring.remembered_rls_kinds)";
    assert_eq!(database.psql(SUPERUSER, left).as_deref(), Ok("0|0\n"));
    tells_the_truth(&database).await;
}

/// Counters that begin again at nothing can come to where they were.
#[tokio::test]
async fn after_a_reset_of_the_counters_the_memory_is_not_believed() {
    for reset in [
        "select pg_stat_reset()",
        "select pg_stat_reset_single_table_counters('pg_policy'::regclass)",
    ] {
        let (_cluster, database) = shaped();
        lying(&database).await;
        let client = database.superuser().await;
        execute(&client, reset).await;
        wait_until("the reset has arrived", async || !lies(&client).await).await;
        tells_the_truth(&database).await;
    }
}

/// Without counters no change can be told.
#[tokio::test]
async fn without_counters_the_memory_is_not_believed() {
    let (_cluster, database) = shaped();
    lying(&database).await;
    let client = database.superuser().await;
    execute(&client, "set track_counts = off").await;
    assert!(!lies(&client).await);
    execute(
        &client,
        "delete from monitoring.remembered; select monitoring.remember()",
    )
    .await;
    assert_eq!(told(&client, "select from monitoring.remembered").await, "");
}

#[tokio::test]
async fn the_memory_is_not_believed_for_ever() {
    let (_cluster, database) = shaped();
    lying(&database).await;
    let client = database.superuser().await;
    execute(
        &client,
        "update monitoring.remembered set remembered_at = now() - interval '9 minutes'",
    )
    .await;
    assert!(lies(&client).await);
    execute(
        &client,
        "update monitoring.remembered set remembered_at = now() - interval '27 hours'",
    )
    .await;
    tells_the_truth(&database).await;
}
