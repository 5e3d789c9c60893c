//! What will have crossed its limit when a window ends, or honestly why that cannot be told.

use serde_json::json;

use super::calendar::ask;
use super::{add, new_window, readiness, sample};
use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

/// A history of hours up to the last one; `n` in the expression is how many hours ago.
fn hours(database: &TestDatabase, hours: u32, column: &str, expression: &str) {
    ask(
        database,
        &format!(
            "set role monitoring_owner; truncate monitoring.samples_hourly;
             insert into monitoring.samples_hourly (at, samples, {column})
             select now() - n::int * interval '1 hour', 60, {expression} from generate_series(1::numeric, {hours}) n"
        ),
    );
}

/// The forecast of one subject: until when it is asked, in hours; its crossing, in whole hours from now; its words.
fn forecast(database: &TestDatabase, subject: &str, ahead_hours: u32) -> (String, String) {
    let sql = format!(
        "select coalesce(round(extract(epoch from crosses_at - now()) / 3600)::text, 'never'), evidence
         from monitoring.forecasts(now() + interval '{ahead_hours} hours') where subject = '{subject}'"
    );
    let answer = ask(database, &sql);
    let (crosses, evidence) = answer.split_once('|').expect("a forecast");
    (crosses.to_owned(), evidence.to_owned())
}

/// Points are hours, and an hour more or less is what they can tell.
#[track_caller]
fn assert_near((crosses, evidence): &(String, String), expected: i32) {
    let crosses = crosses.parse::<i32>().unwrap_or(i32::MAX);
    assert!(
        (expected - 1..=expected + 1).contains(&crosses),
        "{crosses}: {evidence}"
    );
}

#[test]
fn what_grows_steadily_crosses_when_it_would() {
    let database = plain().database();
    ask(
        &database,
        "update monitoring.settings set value = '20000000000' where key = 'database_size_limit_bytes'",
    );
    // Ten megabytes an hour, 100 of them to go; every thirteenth hour somebody loads and drops three gigabytes.
    let growth = "19000000000 - n * 10000000 + case when n % 13 = 0 then 3000000000 else 0 end";
    hours(&database, 336, "database_size_bytes", growth);
    let told = forecast(&database, "database-size", 120);
    assert_near(&told, 100);
    let (_, evidence) = told;
    assert!(
        evidence.contains("+10000000 an hour: 20000000000 at "),
        "{evidence}"
    );
    let (crosses, evidence) = forecast(&database, "database-size", 24);
    assert_eq!(crosses, "never");
    assert!(evidence.ends_with("then, of 20000000000"), "{evidence}");
    // Of connections, the threshold that an administrator set is the limit.
    hours(
        &database,
        100,
        "connection_utilization_percent",
        "80 - n * 0.5",
    );
    assert_near(&forecast(&database, "connections", 48), 20);
    ask(
        &database,
        "update monitoring.thresholds set critical = 85 where check_id = 'connection-utilization'",
    );
    assert_near(&forecast(&database, "connections", 48), 10);
    assert_eq!(forecast(&database, "connections", 8).0, "never");
    // Over it already.
    hours(&database, 100, "connection_utilization_percent", "95");
    assert_eq!(forecast(&database, "connections", 8).0, "0");
}

#[test]
fn what_only_moves_is_no_trend() {
    let database = plain().database();
    let day_and_night = "40 + 20 * sin(n * 2 * pi() / 24)";
    hours(
        &database,
        336,
        "connection_utilization_percent",
        day_and_night,
    );
    let (crosses, evidence) = forecast(&database, "connections", 72);
    assert_eq!(crosses, "never");
    assert!(evidence.contains("no trend"), "{evidence}");
    // One bad hour a day.
    hours(
        &database,
        336,
        "connection_utilization_percent",
        "case when n % 24 = 5 then 99 else 40 end",
    );
    assert!(
        forecast(&database, "connections", 72)
            .1
            .starts_with("40.00 percent now, no trend")
    );
}

#[test]
fn where_nothing_can_be_told_it_says_why() {
    let database = plain().database();
    for (hours_of_history, expression, ahead_hours, words) in [
        (0, "1", 10, "0 hours of history are too few"),
        (23, "80 - n", 10, "23 hours of history are too few"),
        (
            30,
            "80 - n",
            100,
            "29 hours of history say nothing of 100 hours ahead",
        ),
        (
            100,
            "case n % 5 when 0 then 10 when 1 then 85 when 2 then 30 when 3 then 70 else 50 end",
            20,
            "it moves too much to tell",
        ),
        // Since five hours ago it is another server.
        (
            100,
            "case when n <= 5 then 80 else 20 end",
            20,
            "it has left the course of its history",
        ),
        (100, "null::numeric", 20, "0 hours of history are too few"),
    ] {
        hours(
            &database,
            hours_of_history,
            "connection_utilization_percent",
            expression,
        );
        let (crosses, evidence) = forecast(&database, "connections", ahead_hours);
        assert_eq!(crosses, "never", "{expression}");
        assert!(
            evidence.starts_with(&format!("no forecast: {words}")),
            "{expression}: {evidence}"
        );
    }
    hours(
        &database,
        100,
        "connection_utilization_percent",
        "80 - n * 0.5",
    );
    ask(
        &database,
        "delete from monitoring.samples_hourly where at > now() - interval '9 hours'",
    );
    let (_, evidence) = forecast(&database, "connections", 20);
    assert!(
        evidence.starts_with("no forecast: the history ends "),
        "{evidence}"
    );
    let (_, evidence) = forecast(&database, "database-size", 20);
    assert_eq!(
        evidence,
        "no forecast: no limit is known: setting database_size_limit_bytes"
    );
    for time in ["null", "'infinity'"] {
        let sql = format!("select * from monitoring.forecasts({time})");
        let refused = database.psql(SUPERUSER, &sql).expect_err(time);
        assert!(refused.contains("p_until must be a time"), "{refused}");
    }
}

/// A vacuum makes transaction ids young and dead tuples few: what was before says nothing any more.
#[test]
fn what_was_vacuumed_is_followed_from_then_on() {
    let database = plain().database();
    let sawtooth = |since: u32| {
        format!(
            "case when n > {since} then 1100000000 else 1000000000 - n * 10000000 end - 150000000 * (n <= {since})::int"
        )
    };
    hours(&database, 300, "xid_age", &sawtooth(10));
    let (_, evidence) = forecast(&database, "transaction-id-age", 10);
    assert!(
        evidence.starts_with("no forecast: 10 hours of history"),
        "{evidence}"
    );
    hours(&database, 300, "xid_age", &sawtooth(40));
    // 850 million now, 10 an hour: 1,200 million in 35 hours.
    assert_near(&forecast(&database, "transaction-id-age", 48), 35);

    let tables = |share: &str| {
        format!(
            "set role monitoring_owner;
             select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, 3) d;
             delete from monitoring.table_samples;
             insert into monitoring.table_samples
             select date_trunc('hour', now()) - n * interval '1 hour', now(), now(), '{{1,2}}', '{{public.guests,public.small}}', '{{0,0}}', '{{0,0}}',
               '{{0,0}}', '{{0,0}}', '{{0,0}}', '{{0,0}}', '{{0,0}}', '{{0,0}}', array[100000 - s.dead, 10], array[s.dead, 90], '{{1,1}}'
             from generate_series(1, 48) n cross join lateral (select ({share})::bigint as dead) s"
        )
    };
    // 40 percent now, half a percent an hour.
    ask(&database, &tables("40000 - n * 500"));
    assert_near(&forecast(&database, "dead-tuples", 30), 20);
    ask(
        &database,
        &tables("case when n > 6 then 48000 - n * 100 else 5000 - n * 500 end"),
    );
    let (_, evidence) = forecast(&database, "dead-tuples", 30);
    assert!(
        evidence.starts_with("no forecast: 6 hours of history"),
        "{evidence}"
    );
}

#[tokio::test]
async fn a_crossing_before_the_window_ends_puts_it_at_risk() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    add(&app, &new_window(20, 24, "wedding", &database)).await;
    sample(&database);
    // 22 hours from now, while they dance.
    hours(
        &database,
        100,
        "connection_utilization_percent",
        "79 - n * 0.5",
    );
    let at_risk = readiness(&app, "").await;
    assert_eq!(at_risk["verdict"], "at_risk", "{at_risk}");
    let reason = at_risk["reasons"]
        .as_array()
        .and_then(|all| all.iter().find(|reason| reason["check_id"] == "forecast"));
    let reason = reason.expect("the forecast's reason");
    assert_eq!(
        (&reason["severity"], &reason["object"]),
        (&json!("critical"), &json!("connections: server"))
    );
    let forecasts = at_risk["forecasts"].as_array().expect("forecasts");
    assert_eq!(forecasts[0]["subject"], "connections");
    assert_eq!(forecasts.len(), 5, "{forecasts:?}");
    // Ten percent lower it holds until they have gone.
    hours(
        &database,
        100,
        "connection_utilization_percent",
        "69 - n * 0.5",
    );
    let go = readiness(&app, "").await;
    assert_eq!(go["verdict"], "go", "{go}");
    // Forecasts that fail cost the verdict nothing, and are told.
    ask(
        &database,
        "alter function monitoring.extrapolate(timestamptz[], float8[], float8, timestamptz) rename to not_there",
    );
    let without = readiness(&app, "").await;
    assert_eq!(
        (&without["verdict"], &without["forecasts"]),
        (&json!("go"), &json!([]))
    );
    assert!(
        without["degraded"]
            .to_string()
            .contains("there are no forecasts: they ended with SQLSTATE 42883"),
        "{without}"
    );
}

/// Noted once an hour of what the check remembers.
#[tokio::test]
async fn sequences_are_noted_and_foretold() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let app = TestApp::new(&database).await;
    ask(
        &database,
        "create table guests (id smallserial primary key); select setval('guests_id_seq', 28000);
         grant select on all sequences in schema public to monitoring_owner",
    );
    ask(&database, "select monitoring.remember_checks()");
    for _ in 0..2 {
        ask(&database, "delete from monitoring.samples");
        app.task(json!({"task": "sample"})).await;
    }
    let noted = "select count(*), min(round(percent)) from monitoring.sequence_positions where object = 'public.guests_id_seq'";
    assert_eq!(ask(&database, noted), "1|85");
    ask(
        &database,
        "insert into monitoring.sequence_positions select 'public.guests_id_seq', now() - n * interval '1 hour', 85.45 - n * 0.1 from generate_series(1, 48) n",
    );
    assert_near(&forecast(&database, "sequences", 60), 45);
}

/// An hour begins when it does in UTC, whatever zone it is asked in.
#[test]
fn forecasts_are_the_same_in_every_time_zone() {
    let database = plain().database();
    ask(
        &database,
        "insert into monitoring.sequence_positions (object, at, percent)
         select 'app.small', date_trunc('hour', now()) - n * interval '1 hour' + interval '10 minutes', 89.6 - n * 0.5 from generate_series(0, 100) n",
    );
    let [utc, kathmandu] = ["UTC", "Asia/Kathmandu"].map(|zone| {
        let sql = format!(
            "set timezone = '{zone}'; select value_now, extract(epoch from crosses_at)::bigint / 60, evidence
             from monitoring.forecasts(now() + interval '40 minutes') where subject = 'sequences'"
        );
        ask(&database, &sql)
    });
    assert!(utc.contains('|'), "{utc}");
    assert_eq!(utc, kathmandu);
}
