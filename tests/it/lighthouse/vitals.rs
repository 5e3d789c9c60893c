//! Web Vitals: counted, bounded, and nothing kept of whoever sent them.

use serde_json::{Value, json};

use super::{LIGHTHOUSE, Project, rows};
use crate::support::app::{Answer, Request, TestApp};
use crate::support::postgres::{SUPERUSER, plain, supabase};
use crate::support::templates::MONITOR;

const VITALS: &str = "/api/monitoring/vitals";

fn beacon(key: &str, body: &Value) -> Request {
    Request::post(VITALS, &body.to_string()).asking(&format!("key={key}"))
}

/// Sends it from an address of its own, so that no address's share is used up.
async fn send(app: &TestApp, key: &str, body: &Value, n: usize) -> Answer {
    let address = format!("198.51.{}.{}", n / 250, n % 250);
    app.send(beacon(key, body).from(&address)).await
}

fn lcp(value: f64) -> Value {
    json!({"metric": "LCP", "value": value, "rating": "good", "path": "/guests"})
}

const COUNTED: &str = "select metric, path, samples, good, needs_improvement, poor from monitoring.vitals where span = 'hour' order by metric, path";

#[tokio::test]
async fn beacons_are_counted_by_hour_and_day_and_nothing_else_is_kept() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        database.keep_clear_of_the_end_of("hour");
        let app = TestApp::new(&database).await;
        let project = Project::new(&database, "Shop");
        let now_ms = rows(&database, "select floor(extract(epoch from now()) * 1000)");
        let now = rows(
            &database,
            "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
        );
        let now_ms: u64 = now_ms.parse().expect("milliseconds");
        let bodies = [
            // As the request for this has it; the rating is not believed.
            json!({"metric": "LCP", "value": 1800.5, "rating": "poor", "timestamp": now_ms}),
            json!([
                {"metric": "LCP", "value": 3000, "path": "https://shop.example/guests/4711?token=secret#x", "timestamp": now},
                {"metric": "CLS", "value": 0.3, "path": "/guests", "id": "v4-secret", "delta": 0.3},
                {"metric": "INP", "value": 0},
                {"metric": "FCP", "value": 900},
                {"metric": "TTFB", "value": 120000},
            ]),
        ];
        for (n, body) in bodies.iter().enumerate() {
            let answer = send(&app, &project.key, body, n).await;
            assert_eq!(answer.status, 204, "{}", answer.text);
        }
        // What sendBeacon() sends of a text.
        let text = beacon(&project.key, &json!({"metric": "FCP", "value": 2000}))
            .header("content-type", "text/plain;charset=UTF-8");
        assert_eq!(app.send(text).await.status, 204);
        assert_eq!(
            rows(&database, COUNTED),
            "CLS|/guests|1|0|0|1\n\
             FCP|/|2|1|1|0\n\
             INP|/|1|1|0|0\n\
             LCP|/|1|1|0|0\n\
             LCP|/guests/:id|1|0|1|0\n\
             TTFB|/|1|0|0|1"
        );
        let days = "select count(*) from monitoring.vitals where span = 'day'";
        assert_eq!(rows(&database, days), "6");
        let dump = rows(
            &database,
            "select (select string_agg(v::text, ' ') from monitoring.vitals v),
                (select string_agg(p::text, ' ') from monitoring.vitals_paths p), (select string_agg(t::text, ' ') from monitoring.ingest_turns t)",
        );
        for trace in ["198.51", "203.0.113", "secret", "4711", "test"] {
            assert!(!dump.contains(trace), "{trace}: {dump}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_not_counted() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let many = vec![lcp(1.0); 21];
    let cases = [
        (json!({}), "metric"),
        (json!([]), "1 to 20"),
        (json!(many), "1 to 20"),
        (json!("LCP"), "beacon"),
        (json!([1]), "beacon"),
        (json!({"metric": "FID", "value": 1}), "metric"),
        (json!({"metric": "lcp", "value": 1}), "metric"),
        (json!({"metric": "<script>", "value": 1}), "metric"),
        (json!({"metric": "LCP\u{0}", "value": 1}), "metric"),
        (json!({"metric": "LCP"}), "value"),
        (json!({"metric": "LCP", "value": "1"}), "value"),
        (json!({"metric": "LCP", "value": null}), "value"),
        (json!({"metric": "LCP", "value": -1}), "value"),
        (json!({"metric": "LCP", "value": 120_001}), "value"),
        (json!({"metric": "CLS", "value": 101}), "value"),
        (
            json!({"metric": "LCP", "value": 1, "rating": "fine"}),
            "rating",
        ),
        (
            json!({"metric": "LCP", "value": 1, "path": "/\u{0}"}),
            "path",
        ),
        (json!({"metric": "LCP", "value": 1, "path": 7}), "path"),
        (
            json!({"metric": "LCP", "value": 1, "timestamp": 1_000}),
            "timestamp",
        ),
        (
            json!({"metric": "LCP", "value": 1, "timestamp": 4_102_444_800_000_u64}),
            "timestamp",
        ),
        (
            json!({"metric": "LCP", "value": 1, "timestamp": "2025-06-07T17:00:00Z"}),
            "timestamp",
        ),
        (
            json!({"metric": "LCP", "value": 1, "timestamp": "yesterday"}),
            "timestamp",
        ),
        (
            json!({"metric": "LCP", "value": 1, "timestamp": 1e300}),
            "refused a value",
        ),
        // One that cannot be takes the others with it.
        (json!([lcp(1.0), {"metric": "LCP", "value": -1}]), "value"),
    ];
    for (n, (body, named)) in cases.into_iter().enumerate() {
        let answer = send(&app, &project.key, &body, n).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(
            answer.detail().contains(named),
            "{body}: {}",
            answer.detail()
        );
    }
    let plain_text = |body: &str| {
        beacon(&project.key, &json!(null))
            .with_body(body)
            .header("content-type", "text/plain")
    };
    for body in ["", "LCP=1", "{\"metric\":\"LCP\",\"value\":1e999}"] {
        assert_eq!(app.send(plain_text(body)).await.status, 400, "{body}");
    }
    let large = app.send(plain_text(&" ".repeat(16 * 1024 + 1))).await;
    assert_eq!(
        (large.status, large.problem().as_str()),
        (413, "payload_too_large")
    );
    let form =
        beacon(&project.key, &lcp(1.0)).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(app.send(form).await.status, 415);
    // No key, one that nobody has, one that is none, and the token, which is not for pages.
    let unknown = format!("pgvk_{}", "0".repeat(32));
    for key in ["", unknown.as_str(), "%27", project.token.as_str()] {
        let answer = app.send(beacon(key, &lcp(1.0)).by("admin")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (401, "invalid_token"),
            "{key}"
        );
    }
    assert_eq!(rows(&database, COUNTED), "");
    let rotated = rows(&database, "select monitoring.rotate_vitals_key('Shop')");
    assert_eq!(app.send(beacon(&project.key, &lcp(1.0))).await.status, 401);
    assert_eq!(app.send(beacon(&rotated, &lcp(1.0))).await.status, 204);
    assert_eq!(
        app.send(Request::get(VITALS, "").by("admin")).await.status,
        405
    );
}

#[tokio::test]
async fn pages_of_listed_origins_may_send_and_others_may_not() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let origins = [("ALLOWED_ORIGINS", "https://shop.example")];
    let app = TestApp::with_login(&database, MONITOR, &origins).await;
    let project = Project::new(&database, "Shop");
    let from = |origin: &str| beacon(&project.key, &lcp(1.0)).header("origin", origin);
    let listed = app.send(from("https://shop.example")).await;
    assert_eq!(listed.status, 204);
    assert_eq!(
        listed.headers["access-control-allow-origin"],
        "https://shop.example"
    );
    // Without it no browser sends a JSON beacon.
    assert_eq!(listed.headers["access-control-allow-credentials"], "true");
    let preflight = Request::new("OPTIONS", VITALS).header("origin", "https://shop.example");
    let preflight = app.send(preflight).await;
    assert_eq!(
        preflight.headers["access-control-allow-credentials"],
        "true"
    );
    // Elsewhere cookies stay unwelcome.
    let people = Request::new("OPTIONS", LIGHTHOUSE).header("origin", "https://shop.example");
    let people = app.send(people).await;
    assert!(
        !people
            .headers
            .contains_key("access-control-allow-credentials")
    );
    for origin in [
        "https://evil.example",
        "null",
        "https://shop.example.evil.example",
        "http://shop.example",
    ] {
        let answer = app.send(from(origin)).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (403, "forbidden"),
            "{origin}"
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    // The API's own pages need no listing.
    let own = from("https://api.example.com").header("host", "api.example.com");
    assert_eq!(app.send(own).await.status, 204);
    assert_eq!(rows(&database, COUNTED), "LCP|/guests|2|2|0|0");
}

#[tokio::test]
async fn a_flood_is_stopped_and_costs_nobody_else() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let twenty = json!(vec![lcp(1.0); 20]);
    // One address has its share.
    let one_address = || beacon(&project.key, &twenty);
    assert_eq!(app.send(one_address()).await.status, 204);
    let refused = app.send(one_address()).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (429, "too_many_requests")
    );
    assert!(refused.headers.contains_key("retry-after"));
    // Many addresses share the project's.
    rows(
        &database,
        "update monitoring.settings set value = '40' where key = 'vitals_beacons_per_minute'",
    );
    let full =
        "update monitoring.ingest_turns set full_at = now() + interval '1 minute' where bucket = ";
    assert_eq!(send(&app, &project.key, &twenty, 1).await.status, 204);
    rows(&database, &format!("{full} '{} vitals'", project.id));
    assert_eq!(send(&app, &project.key, &twenty, 2).await.status, 429);
    let neighbour = Project::new(&database, "Other");
    assert_eq!(send(&app, &neighbour.key, &twenty, 3).await.status, 204);
    // All projects together have theirs.
    rows(
        &database,
        "update monitoring.ingest_turns set full_at = now()",
    );
    rows(&database, &format!("{full} 'vitals'"));
    rows(
        &database,
        "update monitoring.settings set value = '20' where key = 'vitals_total_beacons_per_minute'",
    );
    assert_eq!(send(&app, &neighbour.key, &twenty, 4).await.status, 429);
    // People's limits and Lighthouse CI's are not touched by any of it.
    assert_eq!(
        rows(&database, "select count(*) from monitoring.request_turns"),
        "0"
    );
    let people = Request::get(LIGHTHOUSE, "").by("developer");
    assert_eq!(app.send(people).await.status, 200);
    assert_eq!(project.get(&app, "", "").await.status, 200);
}

/// Whatever paths are made up, they take a bounded number of rows.
#[test]
fn invented_paths_share_one_row() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let project = Project::new(&database, "Shop");
    rows(
        &database,
        "update monitoring.settings set value = '100000' where key like 'vitals%per_minute'",
    );
    let flood = format!(
        "select count(monitoring.add_vitals('{}', jsonb_build_array(jsonb_build_object('metric', m, 'value', 1,
            'path', '/' || translate(n::text, '0123456789', 'abcdefghij')))))
         from generate_series(1, 200) n, unnest('{{LCP,CLS}}'::text[]) m",
        project.key
    );
    rows(&database, &flood);
    let counted = "select count(*), count(distinct path), sum(samples) filter (where path = '(other)') from monitoring.vitals where span = 'hour'";
    assert_eq!(rows(&database, counted), "42|21|360");
    let known = rows(&database, "select count(*) from monitoring.vitals_paths");
    assert_eq!(known, "20");
}

#[test]
fn a_path_is_kept_as_a_class() {
    let database = plain().database();
    for (path, class) in [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/guests/", "/guests"),
        (
            "/weddings/smith-jones/seating",
            "/weddings/smith-jones/seating",
        ),
        ("/guests/4711", "/guests/:id"),
        ("/v2/guests", "/v2/guests"),
        ("/invite/ann@example.com", "/invite/:id"),
        ("/r/6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "/r/:id"),
        ("/reset/AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh", "/reset/:id"),
        // Codes that somebody was sent: letters and digits by turns, small and large by turns.
        ("/invite/Ab3dEf6H", "/invite/:id"),
        ("/reset/xK9mQ2vL8pR4", "/reset/:id"),
        ("/verify/kJhGfDsAqWeRtY", "/verify/:id"),
        ("/a/b;c", "/a/:id"),
        ("/<b>", "/:id"),
        (
            "/getGuestsOfTable/step-2-of-3.html",
            "/getGuestsOfTable/step-2-of-3.html",
        ),
        ("/a/b/c/d/e", "/a/b/c/d"),
        ("/a?b=/c#d", "/a"),
        ("https://user:secret@shop.example:8443/a?b", "/a"),
        ("/gäste", "/:id"),
    ] {
        let sql = format!("select monitoring.path_class('{path}')");
        assert_eq!(rows(&database, &sql), class, "{path}");
    }
    let long = "select length(monitoring.path_class('/' || repeat('abcdefghi/', 1000)))";
    let length: usize = rows(&database, long).parse().expect("a length");
    assert!(length <= 120, "{length}");
}

/// The estimate is within a twentieth or so, and never on the wrong side of good.
#[test]
fn the_75th_percentile_is_told_from_buckets() {
    let database = plain().database();
    for (metric, scale, values) in [
        (
            "LCP",
            1,
            "select 100 + n * 37 % 5000 from generate_series(1, 1000) n",
        ),
        ("LCP", 1, "select 2499 from generate_series(1, 100) n"),
        (
            "LCP",
            1,
            "select case when n <= 74 then 100 else 2501 end from generate_series(1, 100) n",
        ),
        ("TTFB", 1, "select 0 from generate_series(1, 10) n"),
        ("INP", 1, "select 119999 from generate_series(1, 10) n"),
        ("CLS", 1000, "select 0.01 * n from generate_series(1, 40) n"),
    ] {
        let sql = format!(
            "with v as materialized ({values}), w (value) as (select * from v),
               m as (select * from monitoring.vital_metrics() where metric = '{metric}'),
               c as (select array_agg(coalesce(k.n, 0) order by b) as counts
                 from generate_series(1, 128) b left join (
                   select monitoring.vital_bucket(value * {scale}) as bucket, count(*) as n from w group by 1) k on k.bucket = b)
             select monitoring.vital_p75('{metric}', c.counts, (select count(*) from w, m where value <= good),
                 (select count(*) from w, m where value > good and value <= poor)),
               (select percentile_disc(0.75) within group (order by value) from w), (select good from m)
             from c"
        );
        let row = rows(&database, &sql);
        let numbers: Vec<f64> = row
            .split('|')
            .map(|n| n.parse().expect("a number"))
            .collect();
        let (estimate, exact, good) = (numbers[0], numbers[1], numbers[2]);
        let off = (estimate - exact).abs();
        assert!(
            off <= exact * 0.11 + 1.0 / f64::from(scale),
            "{metric}: {row}"
        );
        assert_eq!(estimate <= good, exact <= good, "{metric}: {row}");
    }
}

#[tokio::test]
async fn many_slow_visits_are_an_event_until_they_are_fast_again() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let send = |value: f64, times: u32| {
        let sql = format!(
            "select count(monitoring.add_vitals('{}', '[{}]')) from generate_series(1, {times})",
            project.key,
            lcp(value)
        );
        database.psql(SUPERUSER, &sql).expect("sending");
    };
    rows(
        &database,
        "update monitoring.settings set value = '100000' where key like 'vitals%per_minute'",
    );
    let events = "select severity, occurrences, resolved_at is not null, event_data ->> 'object' from monitoring_events";
    send(4000.0, 99);
    assert_eq!(rows(&database, events), "", "too few to say anything");
    send(4000.0, 1);
    assert_eq!(rows(&database, events), "medium|1|f|LCP /guests");
    // The next hour begins.
    rows(
        &database,
        "update monitoring.vitals set at = at - interval '1 hour' where span = 'hour'",
    );
    send(300.0, 100);
    assert_eq!(rows(&database, events), "medium|1|t|LCP /guests");

    let answer = app
        .send(Request::get(LIGHTHOUSE, "time_range=24h").by("developer"))
        .await;
    let vitals = &answer.json()["data"]["vitals"];
    let vital = &vitals[0];
    assert_eq!(
        (
            &vital["metric"],
            &vital["path"],
            &vital["samples"],
            &vital["good_percent"]
        ),
        (&json!("LCP"), &json!("/guests"), &json!(200), &json!(50.0)),
        "{vital}"
    );
    let points = vital["points"].as_array().expect("points");
    assert_eq!(points.len(), 2, "{vital}");
    assert_eq!(
        (&points[0]["samples"], &points[1]["samples"]),
        (&json!(100), &json!(100))
    );
    let answer = app
        .send(Request::get(LIGHTHOUSE, "time_range=30d").by("developer"))
        .await;
    let days = &answer.json()["data"]["vitals"][0];
    assert_eq!(days["samples"], 200, "{days}");
}

/// The key is public: whoever reads the page's source can send what would be a breach in the hours that matter most.
#[test]
fn what_anybody_can_send_wakes_nobody() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let project = Project::new(&database, "Shop");
    rows(
        &database,
        "insert into monitoring.critical_windows (starts_at, ends_at, label) values (now(), now() + interval '5 hours', 'a wedding')",
    );
    // Between the budget of everyday and that of the window.
    let send = format!(
        "select count(monitoring.add_vitals('{}', '[{}]')) from generate_series(1, 100)",
        project.key,
        lcp(2400.0)
    );
    database.psql(SUPERUSER, &send).expect("sending");
    let events = "select severity, occurrences, event_data ->> 'threshold' from monitoring_events";
    assert_eq!(rows(&database, events), "medium|1|2000");
}
