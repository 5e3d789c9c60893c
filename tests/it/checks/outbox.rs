//! What is to be announced: everything, in order, and by one publisher at a time.

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::json_of;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

async fn batch(client: &Client, limit: i32) -> Vec<Value> {
    let sql =
        format!("(select coalesce(jsonb_agg(b), '[]') from monitoring.outbox_batch({limit}) b)");
    let batch = json_of(client, &sql).await;
    batch.as_array().expect("a batch").clone()
}

async fn mark(client: &Client, results: &Value) -> Value {
    json_of(client, &format!("monitoring.outbox_mark('{results}')")).await
}

fn record(database: &TestDatabase, count: i32) {
    let sql = format!(
        "select record_monitoring_event('slow_query', '{{\"secret\": \"x\"}}', 'high') from generate_series(1, {count})"
    );
    database.psql(SUPERUSER, &sql).expect("recording");
}

#[tokio::test]
async fn each_change_is_announced_whoever_makes_it_and_without_what_people_wrote() {
    let database = plain().database();
    let client = database.superuser().await;
    record(&database, 1);
    for sql in [
        "update monitoring_events set occurrences = 2, last_seen_at = now()",
        "select monitoring.resolve_event((select id from monitoring_events), 'a secret note')",
        "select monitoring.resolve_event((select id from monitoring_events), 'again')",
        "insert into monitoring_events (event_type, event_data, resolved_at) values ('slow_query', '{}', now())",
    ] {
        database.psql(SUPERUSER, sql).expect(sql);
    }
    let told = batch(&client, 10).await;
    let types: Vec<_> = told
        .iter()
        .filter_map(|row| row["detail_type"].as_str())
        .collect();
    assert_eq!(
        types,
        ["pgvigil.event.opened.v1", "pgvigil.event.resolved.v1"]
    );
    let (opened, resolved) = (&told[0]["detail"], &told[1]["detail"]);
    assert_eq!(opened["event_id"], resolved["event_id"]);
    assert_eq!(
        (&opened["severity"], &opened["finding"]),
        (&json!("high"), &Value::Null)
    );
    assert_eq!(
        (&opened["change"], &opened["database"]),
        (&json!("opened"), &json!(database.name))
    );
    assert!(
        resolved["resolved_at"].is_string()
            && !Value::from(told.clone()).to_string().contains("secret")
    );
    assert_ne!(told[0]["dedup_key"], told[1]["dedup_key"]);
}

#[tokio::test]
async fn a_batch_is_one_publishers_until_its_time_is_over() {
    let database = plain().database();
    let (one, other) = (database.superuser().await, database.superuser().await);
    record(&database, 5);
    one.batch_execute("begin").await.expect("beginning");
    let first = batch(&one, 2).await;
    // While the first is still at it the second takes what is left, and does not wait.
    other
        .batch_execute("set lock_timeout = '1s'")
        .await
        .expect("setting a limit");
    let second = batch(&other, 10).await;
    one.batch_execute("commit").await.expect("committing");
    let place = |row: &Value| row["detail"]["place"].as_i64().expect("a place");
    assert_eq!((first.len(), second.len()), (2, 3));
    assert!(first.iter().chain(&second).map(place).is_sorted());
    assert!(batch(&other, 10).await.is_empty(), "all are taken");
    // Whoever took the first has died.
    let later = "update monitoring.outbox set leased_until = leased_until - interval '61 seconds' where place in (select min(place) from monitoring.outbox)";
    database.psql(SUPERUSER, later).expect("letting time pass");
    let again = batch(&other, 10).await;
    assert_eq!(again.len(), 1);
    assert_eq!(
        (&again[0]["dedup_key"], &again[0]["attempts"]),
        (&first[0]["dedup_key"], &json!(2))
    );
}

#[tokio::test]
async fn what_failed_is_tried_again_after_a_rest_and_what_was_published_never() {
    let database = plain().database();
    let client = database.superuser().await;
    record(&database, 2);
    let taken = batch(&client, 10).await;
    let results = json!([{"id": taken[0]["id"], "error": "ThrottlingException"}, {"id": taken[1]["id"], "error": null},
        {"id": "00000000-0000-4000-8000-000000000009", "error": null}]);
    assert_eq!(
        mark(&client, &results).await,
        json!({"published": 1, "failed": 1, "given_up": 0})
    );
    assert!(batch(&client, 10).await.is_empty(), "it rests");
    let state = "(select jsonb_build_object('error', last_error, 'rests', leased_until between now() + interval '1 second' and now() + interval '25 seconds')
        from monitoring.outbox where published_at is null)";
    assert_eq!(
        json_of(&client, state).await,
        json!({"error": "ThrottlingException", "rests": true})
    );
    // The news that it failed after all comes too late.
    let late = json!([{"id": taken[1]["id"], "error": "too late"}]);
    assert_eq!(
        mark(&client, &late).await,
        json!({"published": 0, "failed": 0, "given_up": 0})
    );
    let often = "update monitoring.outbox set leased_until = now(), attempts = 40 where published_at is null";
    database.psql(SUPERUSER, often).expect("letting time pass");
    let again = batch(&client, 10).await;
    assert_eq!(again.len(), 1);
    let failed = json!([{"id": again[0]["id"], "error": "x".repeat(9000)}]);
    assert_eq!(
        mark(&client, &failed).await,
        json!({"published": 0, "failed": 1, "given_up": 0})
    );
    let bounded = "(select to_jsonb(length(last_error) = 500 and leased_until < now() + interval '61 minutes') from monitoring.outbox where published_at is null)";
    assert_eq!(json_of(&client, bounded).await, json!(true));
}

/// One that the bus never takes is given up, but only where it takes others: a bus that is away takes none.
#[tokio::test]
async fn what_is_refused_by_itself_is_given_up_and_told() {
    let database = plain().database();
    let client = database.superuser().await;
    record(&database, 2);
    let taken = batch(&client, 10).await;
    let [poison, other] = [&taken[0]["id"], &taken[1]["id"]];
    let at_it = |refusals: i32| {
        let sql = format!(
            "update monitoring.outbox set attempts = 40, refusals = {refusals}, leased_until = now() where id = {}",
            poison.to_string().replace('"', "'")
        );
        database.psql(SUPERUSER, &sql).expect("letting time pass");
    };
    let refused = json!([{"id": poison, "error": "ValidationException", "is_its_own": true}]);
    let in_a_batch = json!([{"id": poison, "error": "ValidationException", "is_its_own": false}, {"id": other, "error": null}]);
    let failed = json!({"published": 0, "failed": 1, "given_up": 0});
    let refusals = "(select to_jsonb(refusals) from monitoring.outbox where published_at is null)";
    at_it(7);
    assert_eq!(mark(&client, &refused).await, failed, "nothing goes out");
    let published = json!({"published": 1, "failed": 1, "given_up": 0});
    assert_eq!(mark(&client, &in_a_batch).await, published, "not alone");
    assert_eq!(json_of(&client, refusals).await, json!(7), "neither counts");
    // However often it failed while the bus was away.
    at_it(0);
    assert_eq!(mark(&client, &refused).await, failed, "not often enough");
    assert_eq!(json_of(&client, refusals).await, json!(1));
    at_it(7);
    assert_eq!(
        mark(&client, &refused).await,
        json!({"published": 0, "failed": 1, "given_up": 1})
    );
    at_it(8);
    assert!(batch(&client, 10).await.is_empty(), "tried no more");
    assert_eq!(
        json_of(&client, "to_jsonb(monitoring.outbox_left())").await,
        json!(0)
    );
    let told = "(select to_jsonb(f) from monitoring.findings() f where f.check_id = 'unannounced')";
    let told = json_of(&client, told).await;
    assert_eq!(
        (&told["object"], &told["value"]),
        (&json!("given up"), &json!(1.0))
    );
    assert!(
        told["detail"]
            .as_str()
            .is_some_and(|d| d.contains("ValidationException")),
        "{told}"
    );
}

#[tokio::test]
async fn the_outbox_is_emptied_by_the_clean_up() {
    let database = plain().database();
    let client = database.superuser().await;
    record(&database, 4);
    let ages = "with numbered as (select id, row_number() over (order by place) as n from monitoring.outbox)
        update monitoring.outbox o set published_at = now() - case n when 1 then interval '8 days' when 2 then interval '6 days' end,
          created_at = now() - case n when 3 then interval '31 days' else interval '29 days' end
        from numbered where numbered.id = o.id";
    database.psql(SUPERUSER, ages).expect("letting time pass");
    let report = json_of(&client, "cleanup_old_monitoring_data()").await;
    assert_eq!(
        (&report["announcements"], &report["announcements_lost"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    let left = json_of(&client, "(select to_jsonb(array_agg(published_at is not null order by place)) from monitoring.outbox)").await;
    assert_eq!(left, json!([true, false]), "published lately, or not yet");
}

#[tokio::test]
async fn odd_results_are_refused() {
    let database = plain().database();
    for (sql, reason) in [
        (
            "select monitoring.outbox_mark('{}')",
            "must be a JSON array",
        ),
        (
            "select monitoring.outbox_mark(null)",
            "must be a JSON array",
        ),
        ("select monitoring.outbox_batch(0)", "limit must be"),
        ("select monitoring.outbox_batch(null)", "limit must be"),
    ] {
        let refused = database.psql(SUPERUSER, sql).expect_err(sql);
        assert!(refused.contains(reason), "{refused}");
    }
}

/// Somebody may change an event by hand as often as he likes, without its occurring again.
#[tokio::test]
async fn each_change_by_hand_is_announced_too() {
    let database = plain().database();
    let client = database.superuser().await;
    record(&database, 1);
    for sql in [
        "set severity = 'critical'",
        "set severity = 'low'",
        "set severity = 'critical'",
        "set resolved_at = now()",
        "set resolved_at = null",
        "set resolved_at = now()",
    ] {
        let sql = format!("update monitoring_events {sql}");
        database.psql(SUPERUSER, &sql).expect(&sql);
    }
    let told = batch(&client, 10).await;
    let changes: Vec<_> = told
        .iter()
        .filter_map(|row| row["detail"]["change"].as_str())
        .collect();
    assert_eq!(
        changes,
        [
            "opened",
            "escalated",
            "escalated",
            "resolved",
            "reopened",
            "resolved"
        ]
    );
}
