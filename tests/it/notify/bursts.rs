//! In a critical window one invocation takes several samples, and outside of one it does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ask, event};
use crate::cloudwatch::told;
use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::plain;

fn open_window(database: &TestDatabase) {
    ask(
        database,
        "insert into monitoring.critical_windows (starts_at, ends_at, label) values (now() + interval '50 minutes', now() + interval '3 hours', 'wedding')",
    );
}

#[tokio::test]
async fn in_the_lead_time_of_a_window_samples_are_ten_seconds_apart() {
    let database = plain().database();
    open_window(&database);
    let app = TestApp::new(&database).await;
    let twin = TestApp::new(&database).await;
    // Soon after a tick, so that the first sample is over long before the next one.
    let until_tick = "select ceil(1000 * (10 - extract(epoch from clock_timestamp()) % 10))";
    let until_tick: u64 = ask(&database, until_tick).parse().expect("milliseconds");
    tokio::time::sleep(Duration::from_millis(until_tick)).await;
    let event = event(&database, 0);
    let limit = Duration::from_secs(28);
    let started = Instant::now();
    let (one, other) = tokio::join!(
        app.invoke_within(&event, limit),
        twin.invoke_within(&event, limit)
    );
    let took = started.elapsed();
    assert!(took > Duration::from_secs(18) && took < limit, "{took:?}");
    let reports = [one.expect("sampling"), other.expect("sampling")];
    // The schedule was delivered twice: one of them goes on, and each tick has one sample.
    let mut samples: Vec<u64> = reports
        .iter()
        .filter_map(|r| r["samples"].as_u64())
        .collect();
    samples.sort_unstable();
    assert_eq!(samples[0], 0, "{reports:?}");
    // The last one begins with five seconds left, at most 23 after the first: two ticks of ten seconds lie in between.
    assert_eq!(samples[1], 3, "{reports:?}");
    let stored = ask(&database, "select count(*) from monitoring.samples");
    assert_eq!(stored, samples[1].to_string());
    let ticks = "select bool_and(extract(epoch from tick_at)::bigint % 10 = 0 and (gap is null or gap = interval '10 seconds')) from
        (select tick_at, tick_at - lag(tick_at) over (order by tick_at) as gap from monitoring.samples) t";
    assert_eq!(ask(&database, ticks), "t");
    let lines: Vec<Value> = [&app, &twin]
        .iter()
        .flat_map(|app| app.metrics())
        .map(|line| told(&line))
        .collect();
    let count = |name: &str| {
        lines
            .iter()
            .filter(|line| line[name] == 1)
            .count()
            .to_string()
    };
    assert_eq!(
        (count("SamplesTaken"), count("SamplesSkipped")),
        (stored, "1".to_owned())
    );
    let longest = lines
        .iter()
        .filter_map(|line| line["SampleDuration"].as_u64())
        .max();
    assert!(
        longest < Some(10_000),
        "a sample's own time, not that of all: {longest:?}"
    );
}

#[tokio::test]
async fn outside_of_a_window_there_is_one() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let report = app.task(event(&database, 0)).await;
    assert_eq!(
        (&report["samples"], &report["status"]),
        (&json!(1), &json!("done"))
    );
    assert!(
        report.get("after").is_none() && report.get("due").is_none(),
        "{report}"
    );
}

/// A window that is not told must not cost a sample.
#[tokio::test]
async fn a_window_that_cannot_be_told_leaves_the_usual_ticks() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    open_window(&database);
    let interval = "select monitoring.sample_interval_seconds()";
    assert_eq!(ask(&database, interval), "10");
    ask(
        &database,
        "alter function monitoring.is_critical_time() rename to gone",
    );
    assert_eq!(ask(&database, interval), "60");
    let report = app.task(event(&database, 3)).await;
    assert_eq!(
        (&report["samples"], &report["status"]),
        (&json!(1), &json!("done")),
        "{report}"
    );
}

#[test]
fn the_next_tick_is_this_invocations_until_the_next_ones_own() {
    let database = plain().database();
    let next = |scheduled: &str, until: &str| {
        let sql = format!(
            "select coalesce(monitoring.next_sample({scheduled}, {until}) - 'in_ms', '{{}}')"
        );
        serde_json::from_str::<Value>(&ask(&database, &sql)).expect("parsing an answer")
    };
    assert_eq!(next("now()", "null"), json!({}), "no window");
    open_window(&database);
    // A schedule that comes so many seconds after the minute: its own next tick is cut like all others.
    let long_ago = "now() - interval '61 seconds'";
    assert_eq!(
        next(long_ago, "null"),
        json!({}),
        "the next invocation is there"
    );
    assert_eq!(next("now()", "now()"), json!({}), "its time is over");
    assert_eq!(
        next("null", "null"),
        json!({}),
        "one that somebody takes by hand"
    );
    let of = |sql: &str| {
        ask(
            &database,
            &format!(
                "select {sql} from monitoring.next_sample(now() - interval '20 seconds', null) n"
            ),
        )
    };
    let seconds = of("extract(epoch from (n ->> 'until')::timestamptz - now())");
    let seconds: f64 = seconds.parse().expect("a number");
    assert!(seconds > 29.0 && seconds <= 40.0, "{seconds}");
    assert_eq!(
        of("extract(epoch from (n ->> 'tick_at')::timestamptz)::bigint % 10"),
        "0"
    );
    assert_eq!(of("(n ->> 'in_ms')::int between 0 and 10000"), "t");
    let ahead = next("now() + interval '1 day'", "null");
    let bounded = format!(
        "select '{}'::timestamptz <= now() + interval '61 seconds'",
        ahead["until"].as_str().expect("a time")
    );
    assert_eq!(ask(&database, &bounded), "t", "a clock that is wrong");
    // Where samples are as frequent anyway there is nothing to add.
    ask(
        &database,
        "update monitoring.settings set value = '10' where key = 'sample_interval_seconds'",
    );
    assert_eq!(next("now()", "null"), json!({}));
    for (value, is_taken) in [
        ("10", true),
        ("3600", true),
        ("9", false),
        ("\"10\"", false),
    ] {
        let sql = format!(
            "update monitoring.settings set value = '{value}' where key = 'window_sample_interval_seconds'"
        );
        assert_eq!(
            database
                .psql(crate::support::postgres::SUPERUSER, &sql)
                .is_ok(),
            is_taken,
            "{value}"
        );
    }
}
