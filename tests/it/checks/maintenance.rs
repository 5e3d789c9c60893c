//! What takes as long as it takes is not told; who only calls himself so is.

use tokio_postgres::Client;

use crate::support::postgres::{SUPERUSER, plain};
use crate::support::templates::FRESH_LOGIN;
use crate::support::wait::wait_until;

/// How long a statement may take in seconds before this test would see it end.
const LONG: u32 = 600;

/// Anybody may set `application_name`.
async fn begin(session: Client, statement: String) -> (i32, tokio::task::JoinHandle<()>) {
    let pid = session.query_one("select pg_backend_pid()", &[]).await;
    let pid = pid.expect("asking for the process id").get(0);
    let named = session.batch_execute("set application_name = 'pg_dump'");
    named.await.expect("taking a name");
    let task = tokio::spawn(async move {
        let _ = session.batch_execute(&statement).await;
    });
    (pid, task)
}

#[tokio::test]
async fn only_who_may_read_everything_takes_a_backup() {
    let database = plain().database();
    let observer = database.superuser().await;
    // An owner of the database may; nobody else who has no right to all of it.
    let given = format!(
        "create table guests as select n, repeat('x', 1000) as note from generate_series(1, 50000) n; grant select on guests to {FRESH_LOGIN}"
    );
    database.psql(SUPERUSER, &given).expect("setting the stage");
    let tenants = begin(
        database.session(FRESH_LOGIN).await,
        format!("select pg_sleep({LONG}) as tenants"),
    );
    let backups = begin(
        database.superuser().await,
        format!("select pg_sleep({LONG}) as backups"),
    );
    let (tenant, tenants_task) = tenants.await;
    let (backup, backups_task) = backups.await;
    // Nobody reads what it copies out, so it does not end.
    let copying = database.session(FRESH_LOGIN).await;
    let rows = copying.copy_out("copy guests to stdout").await;
    let rows = rows.expect("copying out");
    let are_at_it = "select (select count(*) from pg_stat_activity where query like 'select pg_sleep(%) as %' and state = 'active' and datname = current_database()) = 2
        and exists (select from pg_stat_progress_copy where datname = current_database())";
    wait_until("all are at it", async || {
        let answer = observer.query_one(are_at_it, &[]).await;
        answer.expect("watching").get(0)
    })
    .await;
    let maintaining = "select coalesce(array_agg(a.usename::text || ' ' || left(a.query, 4) order by a.usename), '{}')
        from pg_stat_activity a where a.datname = current_database() and a.pid = any (monitoring.maintaining(monitoring.look_at_backends()))";
    let maintaining: Vec<String> = observer
        .query_one(maintaining, &[])
        .await
        .expect("asking who maintains")
        .get(0);
    assert_eq!(
        maintaining,
        [format!("{FRESH_LOGIN} copy"), format!("{SUPERUSER} sele")]
    );
    drop(rows);
    for pid in [tenant, backup] {
        let end = format!("select pg_terminate_backend({pid}, 5000)");
        let ended = observer.batch_execute(&end);
        ended.await.expect("ending a session");
    }
    tenants_task.await.expect("ending");
    backups_task.await.expect("ending");
}
