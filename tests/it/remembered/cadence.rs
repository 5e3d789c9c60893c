//! How often the memory is renewed, what that may cost, and what keeps it true in between.

use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Error, NoTls};

use super::{ANSWERS, REMEMBER_ALL, execute, holds, remember, shaped, subjects, told, true_answer};
use crate::support::database::TestDatabase;
use crate::support::postgres::SUPERUSER;
use crate::support::wait::wait_until;

fn psql(database: &TestDatabase, sql: &str) -> String {
    let told = database.psql(SUPERUSER, sql);
    let told = told.unwrap_or_else(|error| panic!("{sql}: {error}"));
    told.trim().to_owned()
}

/// The subjects that a call looked up.
fn looked_up(database: &TestDatabase, call: &str) -> String {
    let look = "select subject, remembered_at from monitoring.remembered order by 1";
    let before = psql(database, look);
    psql(database, call);
    let after = psql(database, look);
    let is_new = |line: &&str| !before.lines().any(|known| known == *line);
    let subjects = after.lines().filter(is_new);
    let subjects: Vec<_> = subjects.filter_map(|line| line.split('|').next()).collect();
    subjects.join(" ")
}

fn age(database: &TestDatabase, subject: &str, column: &str, interval: &str) {
    let sql = format!(
        "update monitoring.remembered set {column} = now() - interval '{interval}' where subject = '{subject}'"
    );
    psql(database, &sql);
}

/// What was just changed, too, which the server tells a moment later.
async fn remember_everything(database: &TestDatabase) {
    wait_until("it is remembered", async || {
        remember(database).await;
        holds(database)
    })
    .await;
}

#[tokio::test]
async fn one_subject_is_looked_up_a_call_until_all_are() {
    let (_cluster, database) = shaped();
    for subject in ["companions", "tables", "column_grants", "rls_status"] {
        if !subjects(&database).contains(subject) {
            break;
        }
        wait_until(subject, async || {
            looked_up(&database, "select monitoring.remember()") == subject
        })
        .await;
    }
    assert_eq!(looked_up(&database, REMEMBER_ALL), "");
}

#[tokio::test]
async fn what_did_not_change_is_looked_up_now_and_then() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    for subject in subjects(&database).split(' ') {
        let (young, old) = match subject {
            "tables" => ("29 minutes", "31 minutes"),
            // It is compared with what it was made of.
            "rls_status" => ("23 hours", "25 hours"),
            _ => ("59 minutes", "61 minutes"),
        };
        age(&database, subject, "remembered_at", young);
        assert_eq!(looked_up(&database, REMEMBER_ALL), "", "{subject}");
        age(&database, subject, "remembered_at", old);
        assert_eq!(looked_up(&database, REMEMBER_ALL), subject);
        // Or what comes from the future, since the clock was set back.
        age(&database, subject, "remembered_at", "-1 hour");
        assert_eq!(looked_up(&database, REMEMBER_ALL), subject);
    }
}

/// Where tables come and go all day, a look-up is outdated before it is read.
#[tokio::test]
async fn what_changes_all_the_time_is_looked_up_in_proportion_to_its_cost() {
    let (_cluster, database) = shaped();
    if !subjects(&database).contains("rls_status") {
        return;
    }
    remember(&database).await;
    let client = database.superuser().await;
    psql(
        &database,
        "update monitoring.remembered set look_up_ms = 20",
    );
    psql(&database, "drop policy own on rented");
    wait_until("the change has arrived", async || !holds(&database)).await;
    assert_eq!(looked_up(&database, REMEMBER_ALL), "");
    age(&database, "rls_status", "remembered_at", "150 seconds");
    assert_eq!(looked_up(&database, REMEMBER_ALL), "");
    // Meanwhile everybody looks for himself.
    assert_eq!(
        told(&client, ANSWERS[0]).await,
        true_answer(&client, ANSWERS[0]).await
    );
    age(&database, "rls_status", "remembered_at", "201 seconds");
    assert_eq!(looked_up(&database, REMEMBER_ALL), "rls_status");
}

/// The counters tell of every temporary table; the catalogs tell that it is none of ours.
#[tokio::test]
async fn what_is_remembered_outlives_temporary_tables_without_a_look() {
    let (_cluster, database) = shaped();
    if !subjects(&database).contains("rls_status") {
        return;
    }
    remember(&database).await;
    let client = database.superuser().await;
    for (change, outlives) in [
        ("create temp table passing (id int)", true),
        ("create temp table passing (id int); drop table bare", false),
        (
            "set role app; reset role; grant select on lazy to app",
            false,
        ),
        ("create temp table passing (id int)", false),
    ] {
        psql(&database, change);
        wait_until("the change has arrived", async || !holds(&database)).await;
        // Not sooner than it is worth.
        psql(
            &database,
            "update monitoring.remembered set look_up_ms = 20",
        );
        assert_eq!(looked_up(&database, REMEMBER_ALL), "");
        assert!(!holds(&database), "{change}");
        for subject in ["rls_status", "tables"] {
            age(&database, subject, "checked_at", "21 seconds");
        }
        assert_eq!(looked_up(&database, REMEMBER_ALL), "");
        assert_eq!(holds(&database), outlives, "{change}");
        let answer = told(&client, ANSWERS[0]).await;
        assert_eq!(answer, true_answer(&client, ANSWERS[0]).await, "{change}");
    }
}

/// A session that has changed something and goes on with a long statement: what it sends in one go is one, and it reports what it wrote
/// between two.
struct Busy {
    canceller: CancelToken,
    session: JoinHandle<Result<(), Error>>,
}

impl Busy {
    async fn after(database: &TestDatabase, change: &str) -> Self {
        let client = database.superuser().await;
        let canceller = client.cancel_token();
        let sql = format!("begin; {change}; commit; select pg_sleep(600)");
        let session = tokio::spawn(async move { client.batch_execute(&sql).await });
        Self { canceller, session }
    }

    async fn end(self) {
        let cancelled = self.canceller.cancel_query(NoTls).await;
        cancelled.expect("ending the statement");
        let ended = self.session.await.expect("joining");
        ended.expect_err("cancelled");
    }
}

/// A session reports what it wrote between two statements. What it sends in one go is one, however long it takes.
#[tokio::test]
async fn what_a_busy_session_has_not_reported_is_found_in_the_catalogs() {
    for change in [
        "drop policy own on rented",
        "alter policy own on rented using (true)",
        "grant select on keyed to app",
        "grant team to anon",
        "alter role past_it nobypassrls",
        "revoke usage on schema \"Wedding Day\" from app",
        "drop view all_of_it",
    ] {
        let (_cluster, database) = shaped();
        if !subjects(&database).contains("rls_status") {
            return;
        }
        remember(&database).await;
        let client = database.superuser().await;
        let before = told(&client, ANSWERS[0]).await;
        let busy = Busy::after(&database, change).await;
        wait_until("it is committed", async || {
            true_answer(&client, ANSWERS[0]).await != before
        })
        .await;
        let after = true_answer(&client, ANSWERS[0]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        assert_eq!(
            told(&client, ANSWERS[0]).await,
            before,
            "the trap: {change}"
        );
        psql(&database, REMEMBER_ALL);
        assert_eq!(told(&client, ANSWERS[0]).await, before, "nobody has looked");
        for subject in ["rls_status", "tables"] {
            age(&database, subject, "checked_at", "11 minutes");
        }
        psql(&database, "select monitoring.remember()");
        assert_eq!(told(&client, ANSWERS[0]).await, after, "{change}");
        busy.end().await;
    }
}

/// Privileges on columns are compared with nothing, but looked up every hour; row-level security, which is not, follows them.
#[tokio::test]
async fn what_a_busy_session_has_granted_on_columns_is_found_within_the_hour() {
    for change in [
        "grant select (id) on bare to team",
        "revoke select (id) on lazy from app",
    ] {
        let (_cluster, database) = shaped();
        if !subjects(&database).contains("rls_status") {
            return;
        }
        psql(&database, "grant select (id) on lazy to app");
        let client = database.superuser().await;
        remember_everything(&database).await;
        let before = told(&client, ANSWERS[0]).await;
        let busy = Busy::after(&database, change).await;
        wait_until("it is committed", async || {
            true_answer(&client, ANSWERS[0]).await != before
        })
        .await;
        let after = true_answer(&client, ANSWERS[0]).await;
        for subject in ["rls_status", "tables"] {
            age(&database, subject, "checked_at", "11 minutes");
        }
        psql(&database, REMEMBER_ALL);
        assert_eq!(
            told(&client, ANSWERS[0]).await,
            before,
            "the trap: {change}"
        );
        age(&database, "column_grants", "remembered_at", "61 minutes");
        assert_eq!(
            looked_up(&database, "select monitoring.remember()"),
            "column_grants"
        );
        // There and then by whoever reads, and by the sampler when it is worth it.
        assert_eq!(told(&client, ANSWERS[0]).await, after, "{change}");
        age(&database, "rls_status", "remembered_at", "1 hour");
        assert_eq!(looked_up(&database, REMEMBER_ALL), "rls_status");
        assert!(holds(&database));
        assert_eq!(told(&client, ANSWERS[0]).await, after, "{change}");
        busy.end().await;
    }
}

/// What was taken was seen, and not remembered; what was given again is as it was remembered.
#[tokio::test]
async fn what_was_granted_on_columns_as_it_was_before_is_found_within_the_hour() {
    let (_cluster, database) = shaped();
    if !subjects(&database).contains("rls_status") {
        return;
    }
    let client = database.superuser().await;
    psql(&database, "grant select (id) on lazy to app");
    remember_everything(&database).await;
    let with = told(&client, ANSWERS[0]).await;
    psql(&database, "revoke select (id) on lazy from app");
    wait_until("the change has arrived", async || !holds(&database)).await;
    // The sampler takes the eldest first.
    age(&database, "rls_status", "remembered_at", "1 hour");
    age(&database, "column_grants", "remembered_at", "2 seconds");
    let once = "update monitoring.remembered set look_up_ms = case subject when 'rls_status' then 1 else 1000 end; select monitoring.remember()";
    assert_eq!(looked_up(&database, once), "rls_status");
    assert_ne!(told(&client, ANSWERS[0]).await, with, "it is gone");
    let busy = Busy::after(&database, "grant select (id) on lazy to app").await;
    wait_until("it is committed", async || {
        true_answer(&client, ANSWERS[0]).await == with
    })
    .await;
    // Now its memory is the one that is there.
    let once = "update monitoring.remembered set look_up_ms = 0; select monitoring.remember()";
    age(&database, "column_grants", "remembered_at", "61 minutes");
    age(&database, "rls_status", "remembered_at", "60 minutes");
    assert_eq!(looked_up(&database, once), "column_grants");
    assert_eq!(told(&client, ANSWERS[0]).await, with);
    busy.end().await;
}

/// Temporary tables, and what VACUUM and ANALYZE note, change nothing of what is remembered.
#[tokio::test]
async fn what_is_not_judged_does_not_count_as_a_change_of_the_catalogs() {
    let (_cluster, database) = shaped();
    let contents = "select monitoring.catalog_contents()";
    let client = database.superuser().await;
    let before = told(&client, contents).await;
    execute(&client, "create temp table passing (id int primary key)").await;
    execute(&client, "vacuum analyze keyed").await;
    let after = told(&client, contents).await;
    assert_eq!(before, after);
    execute(&client, "create table staying (id int)").await;
    assert_ne!(before, told(&client, contents).await);
}

#[tokio::test]
async fn without_a_sampler_nothing_is_believed_for_long() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let believed = |subject: &str| {
        psql(
            &database,
            &format!("select monitoring.is_remembered('{subject}')"),
        )
    };
    for subject in subjects(&database).split(' ') {
        let (young, old) = match subject {
            "tables" | "rls_status" => ("12 minutes", "14 minutes"),
            _ => ("119 minutes", "121 minutes"),
        };
        age(&database, subject, "checked_at", young);
        assert_eq!(believed(subject), "t", "{subject}");
        age(&database, subject, "checked_at", old);
        assert_eq!(believed(subject), "f", "{subject}");
        age(&database, subject, "checked_at", "0 minutes");
        let (young, old) = match subject {
            "rls_status" => ("25 hours", "27 hours"),
            _ => ("119 minutes", "121 minutes"),
        };
        age(&database, subject, "remembered_at", young);
        assert_eq!(believed(subject), "t", "{subject}");
        age(&database, subject, "remembered_at", old);
        assert_eq!(believed(subject), "f", "{subject}");
    }
}
