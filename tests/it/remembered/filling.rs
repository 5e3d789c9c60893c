//! When the memory is filled, emptied, and left alone.

use std::time::Duration;

use super::{
    ALL_HOLD, ANSWERS, REMEMBER_ALL, always, execute, holds, remember, shaped, subjects, told,
    true_answer,
};
use crate::sampling::tick;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

fn remembered(database: &TestDatabase) -> String {
    let subjects = "select string_agg(subject, ' ' order by subject) from monitoring.remembered";
    let subjects = database.psql(SUPERUSER, subjects);
    subjects.expect("reading the memory").trim().to_owned()
}

fn setting(database: &TestDatabase, relations: &str) {
    let sql = format!(
        "update monitoring.settings set value = '{relations}' where key = 'remember_from_relations'"
    );
    database
        .psql(SUPERUSER, &sql)
        .expect("changing the setting");
}

#[tokio::test]
async fn a_small_database_remembers_nothing_and_forgets_what_it_knew() {
    let database = plain().database();
    // However busy the machine is, its turn comes at every tick.
    let budget = "update monitoring.settings set value = '10000' where key = 'sample_budget_ms'";
    database.psql(SUPERUSER, budget).expect("allowing for it");
    let agent = database.as_caller(Caller::Agent).await;
    // Turns go by ticks, so these go on.
    let mut minutes = 60;
    let mut sample = async || {
        minutes -= 1;
        let sql = format!("select monitoring.sample({}) ->> 'status'", tick(minutes));
        assert_eq!(told(&agent, &sql).await, "(done)");
    };
    sample().await;
    assert_eq!(remembered(&database), "");
    setting(&database, "0");
    wait_until("the sampler has remembered", async || {
        sample().await;
        remembered(&database) == subjects(&database)
    })
    .await;
    setting(&database, "1000000000");
    // Its next turn is the later, the longer it took to remember.
    wait_until("the sampler has forgotten", async || {
        sample().await;
        remembered(&database).is_empty()
    })
    .await;
    assert!(!holds(&database));
}

/// What was written, where, and by which transaction. Not of catalogs and our own tables: their indexes are always in use.
const WRITTEN: &str = "select string_agg(w.at::text, ' ') from (
      select (r.tableoid, r.xmin, r.ctid) from monitoring.remembered_companions r join pg_class c on c.oid = r.table_oid
        where c.oid >= 16384 and pg_get_userbyid(c.relowner) <> 'monitoring_owner' union all
      select (r.tableoid, r.xmin, r.ctid) from monitoring.remembered_tables r join pg_class c on c.oid = r.table_oid
        where pg_get_userbyid(c.relowner) <> 'monitoring_owner' union all
      select (r.tableoid, r.xmin, r.ctid) from monitoring.remembered_column_grants r union all
      select (r.tableoid, r.xmin, r.ctid) from monitoring.remembered_rls_kinds r) w (at)";

#[tokio::test]
async fn where_nothing_changed_nothing_is_written() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let heads = "select string_agg((xmin, ctid)::text, ' ') from monitoring.remembered";
    let look = |sql: &str| database.psql(SUPERUSER, sql).expect("looking");
    if subjects(&database) == "companions" {
        let before = look(WRITTEN);
        look("update monitoring.remembered set remembered_at = now() - interval '61 minutes'");
        look(REMEMBER_ALL);
        assert_eq!(look(WRITTEN), before);
        return;
    }
    let (before, heads_before) = (look(WRITTEN), look(heads));
    assert!(before.matches('(').count() > 40, "{before}");
    look(REMEMBER_ALL);
    assert_eq!(
        (look(WRITTEN), look(heads)),
        (before.clone(), heads_before.clone())
    );
    // Looked up again after an hour, and found the same.
    look("update monitoring.remembered set remembered_at = now() - interval '61 minutes'");
    look(REMEMBER_ALL);
    assert_eq!(look(WRITTEN), before);
    assert_ne!(look(heads), heads_before);
    // One change is one kind of tables.
    look("alter table bare enable row level security");
    let client = database.superuser().await;
    wait_until("it is remembered", async || {
        remember(&database).await;
        !told(
            &client,
            "select from monitoring.remembered_rls_kinds where tablenames = '{bare}' and rls_enabled",
        )
        .await
        .is_empty()
    })
    .await;
    let (before, after) = (before.trim().to_owned(), look(WRITTEN));
    let kept = before.split(' ').filter(|row| after.contains(row)).count();
    assert_eq!(kept, before.split(' ').count() - 1, "{before}\n{after}");
}

/// Two who look at the same time read the catalogs in another order, and what somebody changes in between only one of them sees.
#[tokio::test]
async fn two_who_remember_at_once_remember_each_table_once() {
    let (_cluster, database) = shaped();
    if subjects(&database) == "companions" {
        return; // the others are not remembered
    }
    // Rows of the catalog that are not in the order of their numbers.
    let many = "do $$ begin
        for i in 1..60 loop execute format('create table many_%s (id int)', i); end loop;
        for i in 1..60 by 7 loop execute format('alter table many_%s set (fillfactor = 90)', i); end loop;
        end $$";
    let anew = "delete from monitoring.remembered_rls_kinds;
        update monitoring.remembered set remembered_at = '-infinity' where subject = 'rls_status'";
    let twice = "select tablename, count(*) from monitoring.remembered_rls_kinds k, unnest(k.tablenames) t (tablename)
        group by k.schemaname, tablename having count(*) > 1";
    database.psql(SUPERUSER, many).expect("making tables");
    // The table that its kind is known by.
    let change = "do $$ begin execute format('alter table %I enable row level security',
        (select k.known_by from monitoring.look_at_rls_kinds() k where 'many_5' = any (k.tablenames))); end $$";
    for change in ["select", change] {
        remember(&database).await;
        database.psql(SUPERUSER, anew).expect("forgetting");
        let (first, second) = (database.superuser().await, database.superuser().await);
        execute(&first, "set enable_indexscan = off; set enable_bitmapscan = off; begin; select monitoring.remember()").await;
        database.psql(SUPERUSER, change).expect("changing");
        let pid = told(&second, "select pg_backend_pid()").await;
        let pid = pid.trim_matches(['(', ')']);
        let waits = format!("select wait_event_type from pg_stat_activity where pid = {pid}");
        tokio::join!(
            execute(
                &second,
                "set enable_seqscan = off; set enable_hashjoin = off; select monitoring.remember()"
            ),
            async {
                wait_until("the second waits for the first", async || {
                    database.psql(SUPERUSER, &waits).as_deref() == Ok("Lock\n")
                })
                .await;
                execute(&first, "commit").await;
            }
        );
        assert_eq!(told(&second, twice).await, "", "{change}");
        remember(&database).await;
        assert_eq!(told(&second, twice).await, "", "{change}");
        assert_eq!(
            told(&second, ANSWERS[0]).await,
            true_answer(&second, ANSWERS[0]).await
        );
    }
}

#[tokio::test]
async fn what_is_gone_is_forgotten() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let gone = "select (select string_agg(t, ' ' order by t) from monitoring.remembered_rls_kinds r, unnest(r.tablenames) t where t in ('keyed', 'halves')),
        (select count(*) from monitoring.remembered_companions r where not exists (select from pg_class c where c.oid = r.table_oid)),
        (select count(*) from monitoring.remembered_tables r where not exists (select from pg_class c where c.oid = r.table_oid)),
        (select count(*) from monitoring.remembered_column_grants r where not exists (select from pg_class c where c.oid = r.table_oid))";
    let look = || database.psql(SUPERUSER, gone);
    let known = match subjects(&database) {
        "companions" => "|0|0|0\n",
        _ => "halves keyed|0|0|0\n",
    };
    assert_eq!(look().as_deref(), Ok(known));
    let drop = "drop table keyed, halves cascade; update monitoring.remembered set remembered_at = '-infinity'";
    database.psql(SUPERUSER, drop).expect("dropping tables");
    assert_ne!(look().as_deref(), Ok("|0|0|0\n"));
    remember(&database).await;
    wait_until("it is forgotten", async || {
        remember(&database).await;
        look().as_deref() == Ok("|0|0|0\n")
    })
    .await;
}

/// A snapshot of the transaction's beginning could be older than the counters.
#[tokio::test]
async fn with_a_fixed_snapshot_nothing_is_remembered() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    for level in ["repeatable read", "serializable"] {
        execute(
            &client,
            &format!("begin isolation level {level}; select monitoring.remember(); commit"),
        )
        .await;
        assert_eq!(remembered(&database), "");
    }
}

#[tokio::test]
async fn a_read_only_transaction_is_answered_with_and_without_the_memory() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    let truth = told(&client, ANSWERS[0]).await;
    let ask = async || {
        execute(&client, "begin read only").await;
        for query in ANSWERS {
            told(&client, query).await;
        }
        let answer = told(&client, ANSWERS[0]).await;
        execute(&client, "commit").await;
        answer
    };
    assert_eq!(ask().await, truth);
    remember(&database).await;
    assert_eq!(told(&client, ALL_HOLD).await, "(t)");
    assert_eq!(ask().await, truth);
}

#[tokio::test]
async fn a_locked_table_stalls_neither_remembering_nor_answering() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    let truth = told(&client, ANSWERS[0]).await;
    let _locked = [
        Workload::lock_queue(&database, "keyed").await,
        Workload::lock_queue(&database, "halves").await,
        Workload::lock_queue(&database, "parent").await,
        Workload::lock_queue(&database, "all_of_it").await,
    ];
    execute(
        &client,
        "set statement_timeout = '20s'; set lock_timeout = '1s'",
    )
    .await;
    wait_until("everything is remembered", async || {
        execute(&client, "delete from monitoring.remembered").await;
        for _ in 0..4 {
            execute(&client, "select monitoring.remember()").await;
        }
        holds(&database)
    })
    .await;
    for query in &ANSWERS[..4] {
        told(&client, query).await;
    }
    assert_eq!(told(&client, ANSWERS[0]).await, truth);
    assert_eq!(true_answer(&client, ANSWERS[0]).await, truth);
}

/// An uncommitted change is neither remembered nor does it hide once it is committed.
#[tokio::test]
async fn a_change_that_is_committed_after_the_memory_was_filled_is_seen() {
    let (_cluster, database) = shaped();
    let (writer, client) = (database.superuser().await, database.superuser().await);
    execute(
        &writer,
        "begin; alter table bare enable row level security; create policy p on bare using (true)",
    )
    .await;
    remember(&database).await;
    let before = told(&client, ANSWERS[0]).await;
    assert_eq!(before, true_answer(&client, ANSWERS[0]).await);
    execute(&writer, "commit").await;
    drop(writer);
    let after = true_answer(&client, ANSWERS[0]).await;
    assert_ne!(before, after);
    tokio::time::sleep(Duration::from_millis(600)).await;
    wait_until("it is seen", async || {
        told(&client, ANSWERS[0]).await == after
    })
    .await;
}

/// Before 15 the counters of another session arrive too late to tell that an answer has become wrong.
#[tokio::test]
async fn row_level_security_is_remembered_from_15_on() {
    let (cluster, database) = shaped();
    remember(&database).await;
    let client = database.superuser().await;
    let look = "select monitoring.is_remembered('rls_status'), (select count(*) > 0 from monitoring.remembered_rls_kinds)";
    let expected = match cluster.major_version() {
        ..15 => "(f,f)",
        15.. => "(t,t)",
    };
    assert_eq!(told(&client, look).await, expected);
}

/// A transaction sees the counters as it saw them first: after ten seconds they tell it nothing any more.
#[tokio::test]
async fn a_long_transaction_is_told_the_truth_and_not_the_memory() {
    let (cluster, database) = shaped();
    remember(&database).await;
    let client = database.superuser().await;
    execute(&client, "begin isolation level read committed").await;
    let before = told(&client, ANSWERS[0]).await;
    let change = "alter table bare enable row level security; drop policy own on rented";
    database
        .psql(SUPERUSER, change)
        .expect("changing what is remembered");
    if cluster.major_version() >= 15 {
        let still = told(&client, ANSWERS[0]).await;
        assert_eq!(still, before, "the trap: its counters stand still");
        execute(&client, "select pg_sleep(10.5)").await;
    }
    let after = told(&client, ANSWERS[0]).await;
    execute(&client, "commit").await;
    assert_ne!(after, before);
    assert_eq!(after, true_answer(&client, ANSWERS[0]).await);
}

/// Nobody but the owner and superusers fills it or reads it.
#[tokio::test]
async fn only_its_owner_reaches_the_memory() {
    let database = plain().database();
    always(&database);
    for caller in [Caller::Agent, Caller::Login, Caller::FreshLogin] {
        let client = database.as_caller(caller.clone()).await;
        for sql in [
            "select monitoring.remember()",
            "select * from monitoring.remembered_rls_kinds",
            "insert into monitoring.remembered select 'rls_status', now(), now(), 1, ''",
        ] {
            let error = client.batch_execute(sql).await.expect_err(sql);
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{caller:?}: {sql}");
        }
    }
}
