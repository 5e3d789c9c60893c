//! How it has been: bounded, the worst of each time, a gap where nobody looked.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

/// Samples every minute for the last so many minutes, but for those that a condition on the minutes' age leaves out.
fn history(database: &TestDatabase, minutes: u32, condition: &str) {
    let sql = format!(
        "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, {minutes} / 1440 + 1) d;
         insert into monitoring.samples
         select t, t, 1, 100 - age % 7, 'good', age % 5, 0, age, age / 1000.0, null, 0, 0, 0, 0
         from (select to_timestamp(floor(extract(epoch from now()) / 60 - age) * 60) as t, age from generate_series(0, {minutes}) age) s
         where {condition}"
    );
    database.psql(SUPERUSER, &sql).expect("making history");
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

#[tokio::test]
async fn an_hour_has_a_point_for_each_sample() {
    let database = plain().database();
    history(&database, 200, "true");
    let app = TestApp::new(&database).await;
    let points = trends(&app, "1h").await;
    assert!((60..=61).contains(&points.len()), "{}", points.len());
    let times: Vec<&str> = points
        .iter()
        .filter_map(|point| point["at"].as_str())
        .collect();
    assert!(times.is_sorted());
    assert!(points.iter().all(|point| point["samples"] == 1));
    assert_eq!(points[points.len() - 1]["total_connections"], 0);
    assert_eq!(points[points.len() - 2]["total_connections"], 1);
}

#[tokio::test]
async fn longer_ranges_have_at_most_300_points_each_the_worst_of_its_samples() {
    let database = plain().database();
    history(&database, 8 * 1440, "true");
    let app = TestApp::new(&database).await;
    for (range, at_least, minutes) in [
        ("6h", 180, 2),
        ("24h", 280, 5),
        ("7d", 290, 34),
        ("30d", 70, 144),
    ] {
        let points = trends(&app, range).await;
        assert!(
            (at_least..=300).contains(&points.len()),
            "{range}: {}",
            points.len()
        );
        let middle = &points[points.len() / 2];
        assert_eq!(middle["samples"], minutes, "{range}: {middle}");
        if minutes >= 7 {
            assert_eq!(
                (&middle["health_score"], &middle["slow_queries"]),
                (&json!(94), &json!(4))
            );
        }
        let total: u64 = points
            .iter()
            .filter_map(|point| point["samples"].as_u64())
            .sum();
        assert!(total <= 8 * 1440 + 1);
    }
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
    history(&database, 59, "age not between 20 and 39");
    let app = TestApp::new(&database).await;
    assert_eq!(trends(&app, "1h").await.len(), 40);
    // Nor is what is not there invented: before the first sample there is nothing.
    let points = trends(&app, "24h").await.len();
    assert!((8..=10).contains(&points), "{points}");
    let empty = plain().database();
    let app = TestApp::new(&empty).await;
    assert!(trends(&app, "30d").await.is_empty());
}
