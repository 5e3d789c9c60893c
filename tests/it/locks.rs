//! Who waits for a lock, and who is at the head of the queue.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::workload::Workload;

async fn locks(database: &TestDatabase) -> Vec<Value> {
    let client = database.superuser().await;
    let sql = "select coalesce(jsonb_agg(to_jsonb(l)), '[]')::text from monitoring.locks() l";
    let row = client.query_one(sql, &[]).await.expect("reading the locks");
    serde_json::from_str(row.get(0)).expect("parsing the locks")
}

fn pids(locks: &[Value]) -> Vec<i64> {
    locks
        .iter()
        .filter_map(|lock| lock["pid"].as_i64())
        .collect()
}

#[tokio::test]
async fn a_quiet_database_has_none() {
    assert_eq!(locks(&plain().database()).await, Vec::<Value>::new());
}

/// A writer holds a row; two want it; a migration wants the table, and so a reader has to wait who disturbs nobody.
#[tokio::test]
async fn a_queue_is_one_tree_with_its_root_first() {
    let database = plain().database();
    let setup = "create table guests (id int primary key, name text); insert into guests values (1, 'Anna')";
    database.psql(SUPERUSER, setup).expect("creating a table");
    let session = async || database.superuser().await;
    let holder = Workload::idle_in_transaction(
        &database,
        session().await,
        "update guests set name = 'Bella' where id = 1",
    )
    .await;
    let mut waiting = Vec::new();
    for sql in [
        "update guests set name = 'Clara' where id = 1",
        "update guests set name = 'Dora' where id = 1",
        "alter table guests add column table_number int",
        "select name from guests where id = 7",
    ] {
        waiting.push(Workload::blocked(&database, session().await, sql).await);
    }

    let tree = locks(&database).await;
    let expected: Vec<i64> = [&holder]
        .into_iter()
        .chain(&waiting)
        .map(|session| i64::from(session.pid))
        .collect();
    assert_eq!(pids(&tree), expected, "the root, then who waits longest");
    assert!(tree.iter().all(|lock| lock["root_pid"] == holder.pid));
    let root = &tree[0];
    assert_eq!(
        (
            &root["is_root"],
            &root["state"],
            &root["blocked_by"],
            &root["wants"]
        ),
        (
            &json!(true),
            &json!("idle in transaction"),
            &json!([]),
            &Value::Null
        )
    );
    assert!(
        root["transaction_ms"].is_i64() && root["waiting_ms"].is_null(),
        "{root}"
    );
    assert!(
        root["holds"]
            .to_string()
            .contains("RowExclusiveLock on public.guests"),
        "{root}"
    );
    assert_eq!(tree[1]["wants"], "ShareLock on a row of public.guests");
    assert_eq!(tree[1]["blocked_by"], json!([holder.pid]));
    assert_eq!(tree[2]["blocked_by"], json!([waiting[0].pid]));
    assert_eq!(tree[3]["wants"], "AccessExclusiveLock on public.guests");
    assert_eq!(tree[4]["wants"], "AccessShareLock on public.guests");
    assert_eq!(
        tree[4]["blocked_by"],
        json!([waiting[2].pid]),
        "the reader waits for the migration"
    );
    let waits: Vec<i64> = tree[1..]
        .iter()
        .filter_map(|lock| lock["waiting_ms"].as_i64())
        .collect();
    assert!(
        waits.len() == 4 && waits.is_sorted_by(|a, b| a >= b),
        "{waits:?}"
    );
    for lock in &tree {
        let preview = lock["query_preview"].as_str().unwrap_or_default();
        assert!(
            !["Bella", "Clara", "Dora", "7"]
                .iter()
                .any(|literal| preview.contains(literal)),
            "{preview}"
        );
    }

    let app = TestApp::new(&database).await;
    for (role, query, shows_people) in [
        ("admin", "query_type=locks&include_details=true", true),
        ("admin", "query_type=locks", false),
        ("developer", "query_type=locks&include_details=true", false),
    ] {
        let answer = app.get_as(role, query).await.json();
        let section = answer["data"]["locks"]
            .as_array()
            .expect("reading the section");
        assert_eq!(pids(section), expected);
        assert_eq!(
            section[0].get("username").is_some(),
            shows_people,
            "{role}: {query}"
        );
    }
    // Another database of the server has nothing to do with it.
    assert_eq!(locks(&plain().database()).await, Vec::<Value>::new());
}

/// Waiters of a long queue wait for all before them: the ways through it double with each, the sessions do not.
#[tokio::test]
async fn a_long_queue_is_told_in_time() {
    let database = plain().database();
    let table = "create table seats (id int)";
    database.psql(SUPERUSER, table).expect("creating a table");
    let [holder, first] = Workload::lock_queue(&database, "public.seats").await;
    let mut waiting = vec![first];
    for place in 0..20 {
        let sql = format!("lock table seats in access exclusive mode /* {place} */");
        let session = database.superuser().await;
        session.batch_execute("begin").await.expect("beginning");
        waiting.push(Workload::blocked(&database, session, &sql).await);
    }
    let tree = locks(&database).await;
    assert_eq!(tree.len(), 22);
    assert_eq!(tree[0]["pid"], holder.pid);
    // After deadlock_timeout a session that waits looks whether it is in a deadlock, and is not said to wait meanwhile.
    let client = database.superuser().await;
    let trees = "select count(*), count(distinct t.root_pid), min(t.root_pid)
        from monitoring.lock_trees(array(
          select case when b.pid = $1 then jsonb_populate_record(b, '{\"wait_event_type\": null, \"wait_event\": null}') else b end
          from unnest(monitoring.look_at_backends()) b)) t";
    let row = client.query_one(trees, &[&waiting[5].pid]).await;
    let row = row.expect(trees);
    let told: (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(told, (22, 1, holder.pid));
}

/// A prepared transaction has no session: nobody to end, somebody to name.
#[tokio::test]
async fn a_prepared_transaction_can_be_the_root() {
    let cluster = Cluster::start(ClusterOptions {
        settings: "max_prepared_transactions = 5",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let prepare = "create table seats (id int); begin; lock table seats in access exclusive mode; prepare transaction 'forgotten'";
    database
        .psql(SUPERUSER, prepare)
        .expect("preparing a transaction");
    let session = database.superuser().await;
    let _waiter = Workload::blocked(&database, session, "select from public.seats").await;
    let tree = locks(&database).await;
    assert_eq!(tree.len(), 2, "{tree:?}");
    assert_eq!(
        (&tree[0]["pid"], &tree[0]["state"]),
        (&json!(0), &json!("prepared transaction"))
    );
    let end = database.psql(SUPERUSER, "rollback prepared 'forgotten'");
    end.expect("ending it");
}
