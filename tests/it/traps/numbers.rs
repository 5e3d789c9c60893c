//! Counters, durations and orders that say something else than they seem to.

use serde_json::json;

use super::{execute, one, refusal};
use crate::migrations::rollbacks;
use crate::support::caller::Caller;
use crate::support::postgres::{Cluster, ClusterOptions, PASSWORD, SUPERUSER, plain};
use crate::support::project_file;
use crate::support::templates::{MONITOR, migrations};
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

/// Ordinary roles are refused long before `max_connections`: 50 % of it can be all there is.
#[tokio::test]
async fn max_connections_includes_the_reserved_ones() {
    // Ten are reserved, by both parameters where there are two.
    let settings = match plain().major_version() {
        ..16 => "superuser_reserved_connections = 10",
        16.. => "superuser_reserved_connections = 4\nreserved_connections = 6",
    };
    let cluster = Cluster::start(ClusterOptions {
        max_connections: 20,
        settings,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let observer = database.superuser().await;
    let developer = json!({"app_metadata": {"role": "developer"}});
    let developer = Caller::Reader(developer);
    let mut held = Vec::new();
    while held.len() < 9 {
        held.push(database.as_caller(developer.clone()).await);
    }
    let refused = database.connect_as(MONITOR, &PASSWORD).await;
    assert!(refused.is_err(), "10 of 20 taken, and that is all");
    let utilization =
        "select utilization_percent::float8, total_connections from monitoring_connections";
    wait_until("the refused one is gone", async || {
        one(&observer, utilization).await.get::<_, i64>(1) == 10
    })
    .await;
    let utilization: f64 = one(&observer, utilization).await.get(0);
    assert!((utilization - 100.0).abs() < 0.01, "{utilization}");
}

/// An int of milliseconds is full on the 25th day, and the view of the longest query is then an error.
#[tokio::test]
async fn duration_ms_does_not_overflow_after_24_9_days() {
    let database = plain().database();
    let client = database.superuser().await;
    let original = "select (extract(epoch from interval '25 days') * 1000)::int";
    assert_eq!(refusal(&client, original).await, "22003");
    let narrow = "select string_agg(attrelid::regclass || '.' || attname, ', ') from pg_attribute
        where attname like '%\\_ms' and atttypid not in ('bigint'::regtype, 'numeric'::regtype, 'float8'::regtype, 'float8[]'::regtype)
          and attrelid in (select oid from pg_class where pg_get_userbyid(relowner) = 'monitoring_owner')";
    assert_eq!(one(&client, narrow).await.get::<_, Option<&str>>(0), None);
    // No session of ours will be 25 days old: what the functions compute is taken from their source, with another interval.
    let computed = "select distinct found.m[1] || ' as ms' as expression
        from pg_proc p, regexp_matches(p.prosrc, '(\\(extract\\(epoch from [^()]+(?:\\(\\))?[^()]*\\) \\* 1000\\)::\\w+)', 'g') found (m)
        where pg_get_userbyid(p.proowner) = 'monitoring_owner'";
    let computed = client.query(computed, &[]).await.expect("reading sources");
    assert!(computed.len() >= 3, "the expressions are found");
    for row in computed {
        let expression: &str = row.get(0);
        let (before, rest) = expression.split_once("epoch from ").expect("splitting it");
        let (_, after) = rest.split_once(") * 1000").expect("splitting it");
        let sql = format!("select {before}epoch from interval '400 days') * 1000{after}");
        let ms = one(&client, &sql).await.get::<_, i64>(0);
        assert_eq!(ms, 400 * 86_400_000, "{expression}");
    }
}

/// A part of an interval is not the interval: `microseconds` without the seconds, `milliseconds` without the minutes.
#[tokio::test]
async fn duration_ms_does_not_drop_the_seconds() {
    let database = plain().database();
    let client = database.superuser().await;
    let busy = database.superuser().await;
    let _busy = Workload::running(&database, busy, "select pg_sleep(600)").await;
    execute(&client, "select pg_sleep(1.2)").await;
    let seen = one(
        &client,
        "select duration_ms, transaction_ms from monitoring_slow_queries",
    )
    .await;
    let (duration, transaction) = (seen.get::<_, i64>(0), seen.get::<_, i64>(1));
    assert!((1200..600_000).contains(&duration), "{duration}");
    assert!(transaction >= duration, "{transaction}");
}

/// As text the worst comes in the middle, or last.
#[tokio::test]
async fn sorting_by_high_risk_low_risk_medium_risk_as_text_hides_the_worst() {
    let database = plain().database();
    let setup = "create schema inner_room; create table inner_room.unknown (a int);
        create table high (a int);
        create table medium (a int); alter table medium enable row level security;
        create table low (a int); alter table low enable row level security; create policy own on low using (a = 1)";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let order = |by: &str| {
        let sql = format!(
            "select string_agg(tablename, ' ' order by {by}) from monitoring_rls_status where tablename <> 'monitoring_events'"
        );
        database.psql(SUPERUSER, &sql).expect("sorting")
    };
    assert_eq!(order("security_risk_level"), "high low medium unknown\n");
    assert_eq!(
        order("security_risk_level desc"),
        "unknown medium low high\n"
    );
    assert_eq!(order("risk_rank"), "high medium low unknown\n");
    let unsorted =
        "select string_agg(tablename, ' ') from (select tablename from monitoring_rls_status
        where tablename <> 'monitoring_events') as_it_comes";
    let unsorted = database.psql(SUPERUSER, unsorted);
    assert_eq!(unsorted.as_deref(), Ok("high medium low unknown\n"));
}

/// After a reset, a crash or a failover they begin again at nothing: every number of ours is one that can be.
#[tokio::test]
async fn counters_go_down() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "create table guests (id int primary key); insert into guests select generate_series(1, 1000);
        delete from guests where id <= 300; select count(*) from guests where id = 700";
    execute(&client, setup).await;
    let counted = "select inserts, deletes, live_tuples, dead_tuples, sequential_scans + index_scans,
        dead_tuple_percent::float8, index_usage_percent::float8 from monitoring_table_health where tablename = 'guests'";
    wait_until("the counters arrive", async || {
        one(&client, counted).await.get::<_, i64>(1) == 300
    })
    .await;
    execute(&client, "select pg_stat_reset()").await;
    wait_until("they are gone", async || {
        one(&client, counted).await.get::<_, i64>(1) == 0
    })
    .await;
    execute(&client, "insert into guests values (1)").await;
    let after = one(&client, counted).await;
    for column in 0..5 {
        assert!(after.get::<_, i64>(column) >= 0, "{after:?}");
    }
    for column in 5..7 {
        let percent: Option<f64> = after.get(column);
        assert!(
            percent.is_none_or(|percent| (0.0..=100.0).contains(&percent)),
            "{after:?}"
        );
    }
    let summary =
        "select (get_database_monitoring_summary() ->> 'health_score')::int between 0 and 100";
    assert!(one(&client, summary).await.get::<_, bool>(0));
}

/// Others read `pg_stat_statements` too, and their numbers would go down.
#[test]
fn statistics_are_never_reset_by_us() {
    let mut files: Vec<_> = migrations().into_iter().chain(rollbacks()).collect();
    let mut rooms = vec![project_file("src")];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(room).expect("listing a directory") {
            let path = entry.expect("listing a directory").path();
            if path.is_dir() {
                rooms.push(path);
            } else {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20);
    for path in files {
        let text = std::fs::read_to_string(&path).expect("reading a file");
        let resets = text.contains("pg_stat_reset") || text.contains("pg_stat_statements_reset");
        assert!(!resets, "{}", path.display());
    }
}

/// Whoever has any lock on the table looks like a blocker then; PostgreSQL knows who is.
#[tokio::test]
async fn joining_pg_locks_to_itself_blames_innocent_readers() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(&client, "create table guests (id int)").await;
    let (reader, holder, waiter) = (
        database.superuser().await,
        database.superuser().await,
        database.superuser().await,
    );
    let reader = Workload::idle_in_transaction(&database, reader, "select from guests").await;
    let lock = "lock table guests in share mode";
    let holder = Workload::idle_in_transaction(&database, holder, lock).await;
    let insert = "insert into guests values (1)";
    let waiter = Workload::blocked(&database, waiter, insert).await;
    let original = format!(
        "select array_agg(distinct h.pid order by h.pid) from pg_locks w join pg_locks h
           on h.locktype = w.locktype and h.database = w.database and h.relation = w.relation and h.granted
         where w.pid = {} and not w.granted",
        waiter.pid
    );
    let blamed: Vec<i32> = one(&client, &original).await.get(0);
    assert!(blamed.contains(&reader.pid), "the trap: {blamed:?}");
    execute(&client, "select pg_sleep(0.15)").await;
    let ours = format!(
        "select blocked_by from monitoring_slow_queries where pid = {}",
        waiter.pid
    );
    let ours: Vec<i32> = one(&client, &ours).await.get(0);
    assert_eq!(ours, [holder.pid]);
}

/// The numbers of an hour in which nothing happened are those of an hour in which nobody looked.
#[tokio::test]
async fn idle_and_outage_look_identical_without_a_heartbeat() {
    let database = plain().database();
    let client = database.superuser().await;
    // Idle until half an hour ago, then nothing.
    let history = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, 1) d;
        insert into monitoring.samples (tick_at, sampled_at, duration_ms, health_score, commits, rollbacks, active_sessions)
        select t, t, 1, 100, 1000, 0, 0
        from (select to_timestamp(floor(extract(epoch from now()) / 60 - age) * 60) as t from generate_series(30, 55) age) s";
    execute(&client, history).await;
    let half = |is_idle: &str| {
        format!(
            "from monitoring.trends('1 hour') t where (t.at < now() - interval '29 minutes') = {is_idle}"
        )
    };
    let moved = |is_idle: &str| {
        format!(
            "select coalesce(sum(t.transactions_per_second), 0)::text {}",
            half(is_idle)
        )
    };
    let (idle, outage) = (moved("true"), moved("false"));
    let (idle, outage): (String, String) = (
        one(&client, &idle).await.get(0),
        one(&client, &outage).await.get(0),
    );
    assert_eq!(idle, outage, "the trap: nothing moved");
    let looked =
        |is_idle: &str| format!("select coalesce(sum(t.samples), 0)::int8 {}", half(is_idle));
    let idle: i64 = one(&client, &looked("true")).await.get(0);
    let outage: i64 = one(&client, &looked("false")).await.get(0);
    assert_eq!((idle, outage), (26, 0));
    let gap = "select count(*) from monitoring.findings() where check_id = 'sampler-gap'";
    assert_eq!(one(&client, gap).await.get::<_, i64>(0), 1);
    // Idle and looked at it is none.
    execute(&client, "select monitoring.sample()").await;
    assert_eq!(one(&client, gap).await.get::<_, i64>(0), 0);
}
