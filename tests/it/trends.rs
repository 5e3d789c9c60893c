//! How it has been: bounded, gauges at their worst, movements that are never negative, a gap where nobody looked.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

/// Samples every minute for the last so many minutes, but for those that a condition on the minutes' age leaves out: twenty
/// transactions and a thousand blocks a minute.
fn history(database: &TestDatabase, minutes: u32, condition: &str) {
    let sql = format!(
        "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, {minutes} / 1440 + 1) d;
         insert into monitoring.samples (tick_at, sampled_at, duration_ms, health_score, status, slow_queries, blocked_sessions,
           total_connections, connection_utilization_percent, high_risk_tables, tables_needing_vacuum, unresolved_events, findings,
           active_sessions, commits, rollbacks, blocks_read, blocks_hit, tuples_returned, deadlocks)
         select t, t, 1, 100 - age % 7, 'good', age % 5, 0, age, age / 1000.0, 0, 0, 0, 0,
           age % 4, n * 20, 0, n * 100, n * 900, n, 0
         from (select to_timestamp(floor(extract(epoch from now()) / 60 - age) * 60) as t, age, {minutes} - age as n
           from generate_series(0, {minutes}) age) s
         where {condition}"
    );
    database.psql(SUPERUSER, &sql).expect("making history");
}

/// What the sampler does when an hour is over, as often as it takes to catch up.
fn roll_up(database: &TestDatabase) {
    let sql = "select count(monitoring.roll_up()) from generate_series(1, 20)";
    database.psql(SUPERUSER, sql).expect("summing up");
}

async fn trends(app: &TestApp, range: &str) -> Vec<Value> {
    let query = format!("query_type=trends&time_range={range}");
    let answer = app.get_as("developer", &query).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"]["trends"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// The points of any interval, from the database itself.
async fn points(client: &Client, range: &str) -> Vec<Value> {
    let sql =
        format!("select coalesce(json_agg(t), '[]')::text from monitoring.trends('{range}') t");
    let row = client
        .query_one(&sql, &[])
        .await
        .expect("asking for trends");
    serde_json::from_str(row.get(0)).expect("parsing trends")
}

#[tokio::test]
async fn an_hour_has_a_point_for_each_sample() {
    let database = plain().database();
    history(&database, 200, "true");
    let app = TestApp::new(&database).await;
    let points = trends(&app, "1h").await;
    // One fewer where a minute has begun since there was a sample.
    assert!((59..=61).contains(&points.len()), "{}", points.len());
    let since = points[0]["at"].as_str().unwrap_or_default();
    let taken = format!("select count(*) from monitoring.samples where tick_at >= '{since}'");
    let taken = database.psql(SUPERUSER, &taken).expect("counting samples");
    assert_eq!(taken.trim(), points.len().to_string());
    let times: Vec<&str> = points
        .iter()
        .filter_map(|point| point["at"].as_str())
        .collect();
    assert!(times.is_sorted());
    assert!(points.iter().all(|point| point["samples"] == 1));
    assert_eq!(points[points.len() - 1]["total_connections"], 0);
    assert_eq!(points[points.len() - 2]["total_connections"], 1);
    // The first one too is compared with the one before it, which is not shown.
    for point in &points {
        assert_eq!(point["transactions_per_second"], json!(0.33), "{point}");
        assert_eq!(point["cache_hit_percent"], json!(90), "{point}");
    }
}

#[tokio::test]
async fn longer_ranges_have_at_most_300_points_each_the_worst_of_its_samples() {
    let database = plain().database();
    history(&database, 8 * 1440, "true");
    roll_up(&database);
    let app = TestApp::new(&database).await;
    for (range, at_least, samples) in [
        ("6h", 180, 2),
        ("24h", 280, 5),
        ("7d", 165, 60),
        ("30d", 14, 720),
    ] {
        let points = trends(&app, range).await;
        assert!(
            (at_least..=300).contains(&points.len()),
            "{range}: {}",
            points.len()
        );
        let middle = &points[points.len() / 2];
        assert_eq!(middle["samples"], samples, "{range}: {middle}");
        assert_eq!(middle["transactions_per_second"], json!(0.33));
        if samples >= 7 {
            assert_eq!(
                (&middle["health_score"], &middle["slow_queries"]),
                (&json!(94), &json!(4))
            );
            assert_eq!(middle["average_active_sessions"], json!(1.5), "{middle}");
        }
        let newest = &points[points.len() - 1];
        assert_eq!(
            newest["samples"].as_i64().map(|samples| samples >= 1),
            Some(true),
            "what is not summed up yet is there too"
        );
        let total: u64 = points
            .iter()
            .filter_map(|point| point["samples"].as_u64())
            .sum();
        assert!(total <= 8 * 1440 + 1);
    }
}

/// Whatever is read, the same is told: hours and days are the samples of theirs, no more, no less.
#[tokio::test]
async fn hours_and_days_say_what_their_samples_said() {
    let database = plain().database();
    history(&database, 4 * 1440, "age not between 1000 and 1300");
    let client = database.superuser().await;
    // Of the same time whenever it is asked.
    let now = database
        .psql(SUPERUSER, "select now()")
        .expect("asking the time");
    let sum = "select count(*), sum(samples)::bigint, sum(commits)::bigint, min(health_score), max(total_connections), sum(seconds)
               from monitoring.sum_up(LEVEL, timestamptz 'NOW' - interval '3 days', 'NOW', 86400)";
    let at = |level: i32| {
        let sum = sum.replace("LEVEL", &level.to_string());
        sum.replace("NOW", now.trim())
    };
    let before = client.query_one(&at(0), &[]).await.expect("summing up");
    roll_up(&database);
    let hours: i64 = client
        .query_one("select count(*) from monitoring.samples_hourly", &[])
        .await
        .expect("counting")
        .get(0);
    assert!((90..=97).contains(&hours), "{hours}");
    let days: i64 = client
        .query_one("select count(*) from monitoring.samples_daily", &[])
        .await
        .expect("counting")
        .get(0);
    assert!((3..=5).contains(&days), "{days}");
    for level in [0, 1, 2, 3] {
        let after = client.query_one(&at(level), &[]).await.expect("summing up");
        // What lies across the border is left out: an hour, half a day, a day.
        let missing = before.get::<_, i64>(1) - after.get::<_, i64>(1);
        let at_most = [1, 60, 720, 1440][usize::try_from(level).unwrap_or(0)];
        assert!((0..at_most).contains(&missing), "{level}: {missing}");
        assert_eq!(
            before.get::<_, i64>(2) - after.get::<_, i64>(2),
            missing * 20
        );
    }
    let again = "select sum(samples)::bigint, count(*) from monitoring.samples_hourly";
    let first = client.query_one(again, &[]).await.expect("counting");
    roll_up(&database);
    let second = client.query_one(again, &[]).await.expect("counting");
    assert_eq!(
        first.get::<_, i64>(0),
        second.get::<_, i64>(0),
        "a second time changes nothing"
    );
}

/// A year by the day reads a row a day, however many samples it took.
/// From half past to half past: the whole hours between, and what the samples say of the two halves.
#[tokio::test]
async fn what_a_statement_did_before_the_first_whole_hour_counts_too() {
    let database = plain().database();
    let client = database.superuser().await;
    let history = "
        create function base() returns timestamptz language sql as $$ select date_trunc('hour', now()) - interval '6 hours' $$;
        select monitoring.ensure_sample_partition(((now() - d * interval '6 hours') at time zone 'UTC')::date) from generate_series(0, 1) d;
        insert into monitoring.statement_samples
        select t, t, t - interval '1 minute', '{1}', '{10}', '{t}', array[10 * n], array[10 * n - 10], '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}'
        from (select base() + n * interval '1 minute' as t, n from generate_series(0, 299) n) s;
        insert into monitoring.statements_hourly
        select base() + h * interval '1 hour', 3600, '{1}', '{600}', '{0}', '{0}', '{0}', '{0}', '{0}' from generate_series(0, 4) h";
    client
        .batch_execute(history)
        .await
        .expect("making a history");
    for (from, to) in [
        (0, 120),
        (30, 210),
        (30, 240),
        (30, 270),
        (0, 300),
        (59, 241),
    ] {
        let sql = format!(
            "select calls from monitoring.statement_activity(base() + interval '{from} minutes', base() + interval '{to} minutes')"
        );
        let told = client.query_one(&sql, &[]).await.expect("asking");
        assert_eq!(told.get::<_, i64>(0), 10 * (to - from), "{from} to {to}");
    }
}

#[tokio::test]
async fn a_year_of_daily_points_is_bounded() {
    let database = plain().database();
    let client = database.superuser().await;
    client
        .batch_execute(
            "insert into monitoring.samples_daily (at, samples, health_score, commits, rollbacks, seconds)
             select to_timestamp(floor(extract(epoch from now()) / 86400 - d) * 86400), 1440, 90 + d % 10, 8640, 0, 86400 from generate_series(1, 365) d",
        )
        .await
        .expect("making a year");
    let points = points(&client, "365 days").await;
    assert!((180..=300).contains(&points.len()), "{}", points.len());
    assert_eq!(points[10]["samples"], 2880);
    assert_eq!(points[10]["transactions_per_second"], json!(0.1));
}

/// From psql any interval can be asked for.
#[tokio::test]
async fn odd_ranges_are_answered_too() {
    let database = plain().database();
    history(&database, 200, "true");
    for (range, points) in [
        ("0", "0"),
        ("-1 hour", "0"),
        ("1 second", "0|1"),
        ("1000 years", "1|2"),
        ("100000 years", "1|2"),
        ("-100000 years", "0"),
    ] {
        let sql = format!("select count(*) from monitoring.trends('{range}')");
        let found = database.psql(SUPERUSER, &sql).expect("asking");
        assert!(
            points.split('|').any(|points| points == found.trim()),
            "{range}: {found}"
        );
    }
}

#[tokio::test]
async fn a_gap_is_a_gap() {
    let database = plain().database();
    // It ends well inside the hour that is asked for, also when minutes have passed until then.
    history(&database, 54, "age not between 20 and 34");
    let app = TestApp::new(&database).await;
    let points = trends(&app, "1h").await;
    assert_eq!(points.len(), 40);
    // What moved meanwhile is spread over all of the time that it took.
    assert!(
        points[1..]
            .iter()
            .all(|point| point["transactions_per_second"] == json!(0.33))
    );
    // Nor is what is not there invented: before the first sample there is nothing.
    let points = trends(&app, "24h").await.len();
    assert!((8..=10).contains(&points), "{points}");
    let empty = plain().database();
    let app = TestApp::new(&empty).await;
    assert!(trends(&app, "30d").await.is_empty());
}

/// After a reset, a crash or a failover there is nothing between two samples, and never less than nothing.
#[tokio::test]
async fn no_rate_is_negative() {
    for (name, change) in [
        (
            "a reset",
            "counted_since = now(), commits = commits - 100000",
        ),
        ("a reset that is not told", "commits = commits - 400"),
        ("a failover", "timeline = 2"),
        (
            "a failover to a server that has counted more",
            "timeline = 2, commits = commits + 1000000000",
        ),
        ("the WAL's own reset", "wal_counted_since = now()"),
        (
            "a checkpointer's own reset",
            "checkpoints_counted_since = now()",
        ),
        (
            "one counter alone",
            "deadlocks = -5, blocks_read = blocks_read - 100000",
        ),
    ] {
        let database = plain().database();
        history(&database, 50, "true");
        let client = database.superuser().await;
        let break_at = format!(
            "update monitoring.samples set timeline = 1; update monitoring.samples set {change} where tick_at >= now() - interval '30 minutes'"
        );
        client
            .batch_execute(&break_at)
            .await
            .expect("changing what was counted");
        let points = points(&client, "1 hour").await;
        assert_eq!(points.len(), 51, "{name}");
        let mut unknown = 0;
        for point in &points {
            for (key, value) in point.as_object().into_iter().flatten() {
                assert!(
                    value.as_f64().is_none_or(|number| number >= 0.0),
                    "{name}: {key} in {point}"
                );
            }
            let rate = &point["transactions_per_second"];
            assert!(rate.is_null() || rate == &json!(0.33), "{name}: {point}");
            unknown += usize::from(rate.is_null());
        }
        // The first of all, and the first after the break.
        let expected = if name == "one counter alone" {
            1..=1
        } else {
            2..=2
        };
        assert!(expected.contains(&unknown), "{name}: {unknown}");
    }
}

/// A tick that is delivered late is taken after the next one: its time and what moved in it count once.
#[tokio::test]
async fn a_late_tick_counts_its_time_once() {
    let database = plain().database();
    history(&database, 10, "true");
    let late = "update monitoring.samples set sampled_at = sampled_at + interval '80 seconds', commits = commits + 25,
        blocks_hit = blocks_hit + 1125, blocks_read = blocks_read + 125, tuples_returned = tuples_returned + 2
        where tick_at = (select tick_at from monitoring.samples order by tick_at desc offset 5 limit 1)";
    database.psql(SUPERUSER, late).expect("being late");
    let sums = "select sum(commits), sum(seconds), min(commits), min(seconds) > 0 from monitoring.activity(now() - interval '1 hour', now())";
    let sums = database.psql(SUPERUSER, sums);
    assert_eq!(sums.as_deref(), Ok("200|600|5|t\n"));
}

/// Also where the hour ends between the tick and its sample: neither an hour nor a sample by itself takes or loses another's time.
#[tokio::test]
async fn a_late_tick_counts_its_time_once_across_the_hour() {
    let database = plain().database();
    // A tick a minute, a commit a second; that of 10:58 is taken after that of 11:01.
    let samples = "select monitoring.ensure_sample_partition('2025-01-02');
        insert into monitoring.samples (tick_at, sampled_at, duration_ms, server_started_at, commits, rollbacks, blocks_read,
          blocks_hit, tuples_returned)
        select t, t + late, 1, '2025-01-01', extract(epoch from t + late), 0, 0, 0, 0
        from generate_series(timestamptz '2025-01-02 10:00+00', '2025-01-02 11:59+00', '1 minute') t
          cross join lateral (select case when t = '2025-01-02 10:58+00' then interval '190 seconds' else '5 seconds' end) l (late)";
    database.psql(SUPERUSER, samples).expect("a history");
    for (from, to, expected) in [
        // 119 minutes are between the first and the last.
        ("10:00", "10:59", "60|3545|3545|120\n"),
        ("11:00", "11:59", "60|3595|3595|60\n"),
        ("10:58", "10:58", "1|5|5|5\n"),
        ("10:59", "10:59", "1|120|120|120\n"),
        ("11:02", "11:02", "1|55|55|55\n"),
    ] {
        let sums = format!(
            "select count(*), sum(seconds), sum(commits), max(seconds)
             from monitoring.activity('2025-01-02 {from}+00', '2025-01-02 {to}+00')"
        );
        let sums = database.psql(SUPERUSER, &sums);
        assert_eq!(sums.as_deref(), Ok(expected), "{from} to {to}");
    }
}

/// However late, and whatever is missing around it: the hours add up to what passed.
#[tokio::test]
async fn hours_with_late_ticks_and_gaps_add_up() {
    for (interval, samples, passed) in [
        // Almost an hour late, and nothing else at the border of the hour.
        (
            60,
            "10:40/10:40:01 11:20/11:20:01 10:50/11:45:00 12:20/12:20:01",
            6000,
        ),
        // And an outage after it.
        (60, "05:00/05:00:01 04:30/05:20:01 09:00/09:00:01", 14400),
        // By an hour and the interval, to which the tick is cut.
        (
            3600,
            "08:00/08:00:01 11:00/11:00:01 10:00/11:29:00 12:00/12:00:01",
            14400,
        ),
        (
            60,
            "10:05/11:04:30 10:58/11:02:10 10:59/11:02:20 11:00/11:00:01 11:01/11:01:01 11:02/11:02:01 11:05/11:05:01",
            300,
        ),
    ] {
        let database = plain().database();
        let rows: Vec<String> = samples
            .split(' ')
            .map(|sample| {
                let (tick, taken) = sample.split_once('/').expect("a tick and a time");
                format!("('2025-01-02 {tick}+00', timestamptz '2025-01-02 {taken}+00')")
            })
            .collect();
        let sums = format!(
            "update monitoring.settings set value = '{interval}' where key = 'sample_interval_seconds';
             do $$ begin perform monitoring.ensure_sample_partition('2025-01-02'); end $$;
             insert into monitoring.samples (tick_at, sampled_at, duration_ms, server_started_at, commits, rollbacks, blocks_read, blocks_hit, tuples_returned)
             select t::timestamptz, s, 1, '2025-01-01', extract(epoch from s), 0, 0, 0, 0 from (values {}) v (t, s);
             select sum(a.seconds), sum(a.commits)
             from generate_series(timestamptz '2025-01-02 00:00+00', '2025-01-02 23:00+00', '1 hour') h
               cross join lateral (select * from monitoring.activity(h, h + interval '1 hour') a where a.at < h + interval '1 hour') a",
            rows.join(", ")
        );
        let sums = database.psql(SUPERUSER, &sums);
        let expected = format!("{passed}|{passed}\n");
        assert_eq!(sums, Ok(expected), "{samples}");
    }
}

/// A day has 24 hours, whatever the clocks of the session's time zone do.
#[tokio::test]
async fn days_are_those_of_utc_in_every_time_zone() {
    let database = plain().database();
    for (zone, first) in [
        ("America/New_York", "2026-03-05"),
        ("Europe/Berlin", "2026-10-22"),
    ] {
        let sums = format!(
            "begin; set local timezone = '{zone}';
             insert into monitoring.samples_hourly (at, samples) select h, 60
             from generate_series(timestamptz '{first} 00:00+00', timestamptz '{first} 00:00+00' + interval '240 hours', '1 hour') h;
             do $$ begin perform monitoring.roll_up(); end $$;
             select count(*), min(samples), max(samples) from monitoring.samples_daily;
             select count(*), min(samples), max(samples) from monitoring.samples_half_daily; rollback"
        );
        let sums = database.psql(SUPERUSER, &sums);
        assert_eq!(sums.as_deref(), Ok("11|60|1440\n21|60|720\n"), "{zone}");
    }
}
