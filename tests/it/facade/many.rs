//! More than one list or one batch holds: the worst is still named, and the rest is still cleaned up.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{row, rows};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::wait::wait_until;

/// A hundred tables are past their threshold and no finding: none of them takes the place of the one that is.
#[tokio::test]
async fn the_worst_of_many_tables_past_their_threshold_is_named() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "do $$ begin
          for i in 1..100 loop
            execute format('create table large_%s (id int) with (autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0)', i);
            execute format('insert into large_%s select generate_series(1, 1000)', i);
            execute format('delete from large_%s where id <= 195', i);
          end loop;
          create table worst (id int) with (autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0);
          insert into worst select generate_series(1, 20000);
          delete from worst where id <= 19200;
        end $$";
    client.batch_execute(setup).await.expect("creating tables");
    let past = "select tablename, dead_tuple_percent from monitoring_table_health
        where needs_vacuum and tablename <> 'monitoring_events'";
    wait_until("the counters arrive", async || {
        rows(&client, past).await.len() == 101
    })
    .await;
    let others = format!("{past} and dead_tuple_percent = 19.5");
    assert_eq!(rows(&client, &others).await.len(), 100);
    let named =
        "select object, value, severity from monitoring.findings() where check_id = 'dead-tuples'";
    assert_eq!(
        rows(&client, named).await,
        [json!({"object": "public.worst", "value": 96.0, "severity": "critical"})]
    );
}

/// Events that are past their retention: more than two batches of open ones, some of resolved ones.
fn expired(database: &TestDatabase) {
    let setup = "insert into monitoring_events (event_type, event_data, fingerprint, last_seen_at)
          select 'slow_query', '{}', format('open %s', i), now() - interval '90 days' from generate_series(1, 25000) i;
        insert into monitoring_events (event_type, event_data, fingerprint, last_seen_at, resolved_at)
          select 'slow_query', '{}', format('done %s', i), now() - interval '90 days', now() - interval '90 days'
          from generate_series(1, 100) i";
    database.psql(SUPERUSER, setup).expect("inserting events");
}

const KEPT: &str = "select coalesce(jsonb_agg(fingerprint order by fingerprint), '[]') as kept from monitoring_events";

/// Three sessions each have an event in hand that would be deleted.
#[tokio::test]
async fn a_clean_up_deletes_around_events_in_other_hands_and_waits_for_nobody() {
    let database = plain().database();
    expired(&database);
    let client = database.superuser().await;
    let mut holders = Vec::new();
    for change in [
        "update monitoring_events set resolved_at = now() where fingerprint = 'open 15000'",
        "update monitoring_events set last_seen_at = now() where fingerprint = 'open 20'",
        "update monitoring_events set resolution_notes = 'seen' where fingerprint = 'done 7'",
    ] {
        let holder = database.superuser().await;
        let begun = holder.batch_execute(&format!("begin; {change}")).await;
        begun.expect("taking an event in hand");
        holders.push(holder);
    }
    let cleanup = "select cleanup_old_monitoring_data() as r";
    let started_at = Instant::now();
    let report = row(&client, cleanup).await["r"].clone();
    let took = started_at.elapsed();
    assert_eq!(
        (&report["resolved_events"], &report["unresolved_events"]),
        (&json!(99), &json!(24_998)),
        "{report}"
    );
    assert_eq!(
        row(&client, KEPT).await["kept"],
        json!(["done 7", "open 15000", "open 20"])
    );
    // Usually well under a second. Nobody lets go of anything before it has ended, and it would go on for 20 seconds.
    assert!(took < Duration::from_secs(18), "{took:?}");

    // One is resolved now and one was seen again: these stay. The third change is given up.
    for (holder, end) in holders.iter().zip(["commit", "commit", "rollback"]) {
        holder.batch_execute(end).await.expect("letting go");
    }
    let report = row(&client, cleanup).await["r"].clone();
    assert_eq!(
        (&report["resolved_events"], &report["unresolved_events"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(
        row(&client, KEPT).await["kept"],
        json!(["open 15000", "open 20"])
    );
    let silent = "update monitoring_events set last_seen_at = now() - interval '90 days', resolved_at = null";
    database.psql(SUPERUSER, silent).expect("ageing the rest");
    let report = row(&client, cleanup).await["r"].clone();
    assert_eq!(report["unresolved_events"], json!(2), "{report}");
    assert_eq!(row(&client, KEPT).await["kept"], json!([]));
}

/// It was expired when the clean-up looked for what is to go, and is not when the clean-up comes to it.
#[tokio::test]
async fn an_event_that_is_seen_again_during_the_clean_up_stays() {
    let database = plain().database();
    expired(&database);
    let (client, holder) = (database.superuser().await, database.superuser().await);
    let again =
        "begin; update monitoring_events set last_seen_at = now() where fingerprint = 'open 20'";
    holder.batch_execute(again).await.expect("seeing it again");
    let cleaner = database.superuser().await;
    let cleanup = "select cleanup_old_monitoring_data()";
    // Returns as soon as the clean-up waits, which it does for a tenth of a second.
    let waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let running = tokio::spawn(async move { cleaner.batch_execute(cleanup).await });
    wait_until("the clean-up has come to it, or passed it", async || {
        !rows(&client, waiting).await.is_empty() || running.is_finished()
    })
    .await;
    holder.batch_execute("commit").await.expect("committing");
    running.await.expect("joining").expect("cleaning up");
    assert_eq!(row(&client, KEPT).await["kept"], json!(["open 20"]));
}
