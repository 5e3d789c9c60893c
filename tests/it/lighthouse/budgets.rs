//! Budgets: judged once, tighter when it matters, told as events, and a verdict for the pipeline.

use serde_json::{Value, json};

use super::{LIGHTHOUSE, PAGE, Project, report, rows, slow_report};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

const EVENTS: &str = "select severity, occurrences, resolved_at is not null from monitoring_events order by created_at";

/// The database's health as a sample would have it.
fn sampled(database: &TestDatabase, score: u32) {
    let sql = format!(
        "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date);
         delete from monitoring.samples;
         insert into monitoring.samples (tick_at, sampled_at, duration_ms, health_score)
         values (date_trunc('minute', now()), now(), 1, {score})"
    );
    database.psql(SUPERUSER, &sql).expect("taking a sample");
}

/// A report whose values lie between the budgets of everyday and of a critical window.
fn middling() -> Value {
    let mut middling = report();
    middling["categories"]["performance"]["score"] = 0.91.into();
    middling
}

#[tokio::test]
async fn a_breach_is_an_event_until_the_next_build_is_within_budget() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    project.upload(&app, "main", "a1", &report()).await;
    assert_eq!(rows(&database, EVENTS), "");
    project.upload(&app, "main", "b2", &slow_report()).await;
    assert_eq!(rows(&database, EVENTS), "medium|1|f");
    let event = "select event_type, event_data ->> 'detail', event_data ->> 'object', event_data ->> 'branch', event_data ->> 'hash'
        from monitoring_events";
    assert_eq!(
        rows(&database, event),
        format!(
            "performance_alert|lcp_ms is 3120, its budget 2500; performance is 0.71, its budget 0.9|{PAGE}|main|b2"
        )
    );
    project.upload(&app, "main", "c3", &slow_report()).await;
    assert_eq!(rows(&database, EVENTS), "medium|2|f");
    // What another branch does is another matter, and nobody's emergency.
    project.upload(&app, "feature", "d4", &slow_report()).await;
    assert_eq!(rows(&database, EVENTS), "medium|2|f\nlow|1|f");
    project.upload(&app, "main", "e5", &report()).await;
    assert_eq!(rows(&database, EVENTS), "medium|2|t\nlow|1|f");
    let announced = "select detail ->> 'change', detail -> 'finding' ->> 'check_id' from monitoring.outbox order by place";
    assert_eq!(
        rows(&database, announced),
        "opened|lighthouse-budget\nopened|lighthouse-budget\nresolved|lighthouse-budget"
    );
    // What is known and accepted is no event, for as long as that holds.
    let accept = "insert into monitoring.suppressions (fingerprint, reason, until)
        select fingerprint, 'a widget', now() + interval '1 day' from monitoring_events where resolved_at is null";
    rows(&database, accept);
    project.upload(&app, "feature", "f6", &slow_report()).await;
    assert_eq!(rows(&database, EVENTS), "medium|2|t\nlow|1|t");
    // The sampler knows nothing of these, and leaves them alone.
    for _ in 0..4 {
        rows(&database, "select monitoring.reconcile('[]', '{}')");
    }
    assert_eq!(rows(&database, EVENTS), "medium|2|t\nlow|1|t");
}

#[tokio::test]
async fn a_build_that_is_sealed_after_a_newer_one_says_nothing_of_now() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let old = project.begin(&app, "main", "a1").await;
    project.add_run(&app, &old, PAGE, &report()).await;
    project.upload(&app, "main", "b2", &slow_report()).await;
    assert_eq!(project.seal(&app, &old).await.status, 204);
    assert_eq!(rows(&database, EVENTS), "medium|1|f");
    let older = project.begin(&app, "late", "c3").await;
    project.add_run(&app, &older, PAGE, &slow_report()).await;
    project.upload(&app, "late", "d4", &report()).await;
    assert_eq!(project.seal(&app, &older).await.status, 204);
    assert_eq!(rows(&database, EVENTS), "medium|1|f");
}

#[tokio::test]
async fn in_a_critical_window_budgets_are_tighter_and_a_breach_is_critical() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    project.upload(&app, "main", "a1", &middling()).await;
    assert_eq!(rows(&database, EVENTS), "");
    // Its lead time is part of it.
    let window = "insert into monitoring.critical_windows (starts_at, ends_at, label)
        values (now() + interval '40 minutes', now() + interval '5 hours', 'a wedding')";
    rows(&database, window);
    project.upload(&app, "main", "b2", &middling()).await;
    assert_eq!(rows(&database, EVENTS), "critical|1|f");
    let breaches =
        "select breaches, is_critical_time from monitoring.lighthouse_runs where breaches <> '[]'";
    assert_eq!(
        rows(&database, breaches),
        r#"[{"value": 0.91, "budget": 0.92, "metric": "performance"}]|t"#
    );
    project.upload(&app, "feature", "c3", &middling()).await;
    assert_eq!(rows(&database, EVENTS), "critical|1|f\nmedium|1|f");
    let answer = app.send(Request::get(LIGHTHOUSE, "").by("developer")).await;
    let data = &answer.json()["data"];
    assert_eq!(data["is_critical_time"], true);
    let budget = |metric: &str| {
        let budgets = data["budgets"].as_array().expect("budgets");
        let found = budgets.iter().find(|budget| budget["metric"] == metric);
        found.map(|budget| budget["budget"].clone())
    };
    assert_eq!(budget("performance"), Some(json!(0.92)));
    assert_eq!(budget("accessibility"), Some(json!(0.96)));
    assert_eq!(budget("lcp_ms"), Some(json!(2000)));
    assert_eq!(budget("cls"), Some(json!(0.08)));
    assert_eq!(budget("seo"), None, "it is not enabled");
}

/// The representative run is Lighthouse CI's: the one nearest to the medians, not the best, the worst or the last.
#[tokio::test]
async fn the_median_run_speaks_for_its_page() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let build = project.begin(&app, "main", "a1").await;
    for (second, fcp, tti, lcp) in [
        (1, 900, 1500, 1400),
        (2, 5000, 9000, 9000),
        (3, 1000, 1700, 1600),
        (4, 400, 900, 800),
        (5, 1100, 1900, 1900),
    ] {
        let mut run = report();
        run["fetchTime"] = format!("2025-06-07T17:00:0{second}Z").into();
        run["audits"]["first-contentful-paint"]["numericValue"] = fcp.into();
        run["audits"]["interactive"]["numericValue"] = tti.into();
        run["audits"]["largest-contentful-paint"]["numericValue"] = lcp.into();
        let added = project.add_run(&app, &build, PAGE, &run).await;
        assert_eq!(added.status, 201, "{}", added.text);
    }
    project.seal(&app, &build).await;
    let representative = "select lcp_ms from monitoring.lighthouse_runs where is_representative";
    assert_eq!(rows(&database, representative), "1600");
}

#[tokio::test]
async fn the_verdict_says_why_not() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let reasons = |verdict: &Value| {
        let reasons = verdict["reasons"].as_array().expect("reasons");
        assert_eq!(verdict["pass"], reasons.is_empty(), "{verdict}");
        reasons
            .iter()
            .map(|reason| reason.as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let build = project.begin(&app, "main", "a1").await;
    let unsealed = reasons(&project.verdict(&app, &build).await);
    // Not to know is not to be well.
    assert_eq!(unsealed.len(), 2, "{unsealed:?}");
    assert!(unsealed[0].contains("not sealed") && unsealed[1].contains("not known"));
    project.seal(&app, &build).await;
    sampled(&database, 90);
    let empty = reasons(&project.verdict(&app, "a1").await);
    assert!(
        empty.len() == 1 && empty[0].contains("no runs"),
        "{empty:?}"
    );

    project.upload(&app, "main", "b2", &report()).await;
    let good = project.verdict(&app, "b2").await;
    assert_eq!(reasons(&good), Vec::<String>::new());
    assert_eq!(
        (&good["health_score"], &good["health_status"]),
        (&json!(90), &json!("excellent"))
    );
    sampled(&database, 60);
    let ill = reasons(&project.verdict(&app, "b2").await);
    assert_eq!(ill, ["the database: health_score is 60, its budget 75"]);
    project.upload(&app, "main", "c3", &slow_report()).await;
    let both = reasons(&project.verdict(&app, "c3").await);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].contains(PAGE) && both[0].contains("lcp_ms is 3120"));
    // Whoever does not want to be kept by the database says so.
    rows(
        &database,
        "update monitoring.budgets set is_enabled = false where metric = 'health_score'",
    );
    assert_eq!(
        reasons(&project.verdict(&app, "b2").await),
        Vec::<String>::new()
    );
    let missing = project.get(&app, "/builds/zz/verdict", "").await;
    assert_eq!(missing.status, 404, "{}", missing.text);
}

#[tokio::test]
async fn what_pages_measured_stands_beside_the_databases_health() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    project.upload(&app, "main", "a1", &report()).await;
    sampled(&database, 77);
    project.upload(&app, "main", "b2", &slow_report()).await;
    let of_long_ago = "insert into monitoring.lighthouse_builds (project_id, branch, hash, created_at, sealed_at)
        select id, 'main', 'old', now() - interval '31 days', now() - interval '31 days' from monitoring.lighthouse_projects";
    rows(&database, of_long_ago);
    let asked = |query: &str| app.send(Request::get(LIGHTHOUSE, query).by("developer"));
    let answer = asked("time_range=24h").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["metadata"]["timeRange"], "24h");
    let builds = answer["data"]["builds"].as_array().expect("builds");
    let told: Vec<_> = builds
        .iter()
        .map(|build| {
            json!([
                build["hash"],
                build["within_budget"],
                build["health_score"],
                build["health_status"]
            ])
        })
        .collect();
    assert_eq!(
        json!(told),
        json!([["b2", false, 77, "good"], ["a1", true, null, null]])
    );
    assert_eq!(builds[0]["url"], PAGE);
    assert_eq!(builds[0]["lcp_ms"], 3120);
    for (request, status) in [
        (Request::get(LIGHTHOUSE, "time_range=2h").by("admin"), 400),
        (Request::get(LIGHTHOUSE, "").by("guest"), 403),
        (Request::get(LIGHTHOUSE, ""), 401),
        // A project's token is no token here.
        (project.signed(Request::get(LIGHTHOUSE, "")), 401),
    ] {
        assert_eq!(app.send(request).await.status, status);
    }
}

#[test]
fn a_budget_that_cannot_be_is_refused() {
    let database = plain().database();
    for change in [
        "value = 1.1 where metric = 'performance'",
        "value = -0.1 where metric = 'performance'",
        "value = 'NaN' where metric = 'lcp_ms'",
        "value = 0 where metric = 'lcp_ms'",
        "value = 101 where metric = 'health_score'",
        "window_factor = 0",
        "window_factor = 1.1",
        "best = 5 where metric = 'cls'",
        "unit = 'parsec' where metric = 'cls'",
    ] {
        let changed = database.psql(
            SUPERUSER,
            &format!("update monitoring.budgets set {change}"),
        );
        assert!(changed.is_err(), "{change}");
    }
    let changed = "update monitoring.budgets set value = 0.5, window_factor = 1 where metric = 'performance' returning 1";
    assert_eq!(rows(&database, changed), "1");
}

#[tokio::test]
async fn what_is_past_its_time_is_removed() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    project.upload(&app, "main", "new", &report()).await;
    project.upload(&app, "main", "old", &report()).await;
    let age = format!(
        "update monitoring.lighthouse_builds set created_at = now() - interval '401 days' where hash = 'old';
         insert into monitoring.vitals
         select s, now() - a, '{}', 'LCP', '/', 1, 1, 0, 0, array[1] || array_fill(0, array[127])
         from (values ('hour', interval '2 days'), ('hour', interval '4 days'), ('day', interval '89 days'), ('day', interval '91 days')) v (s, a);
         insert into monitoring.vitals_paths values ('{}', '/new', (now() at time zone 'UTC')::date), ('{}', '/old', '2025-06-07')",
        project.id, project.id, project.id
    );
    database.psql(SUPERUSER, &age).expect("letting time pass");
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(report["lighthouse_builds"], 1, "{report}");
    assert_eq!(report["vitals"], 2, "{report}");
    let left = "select (select count(*) from monitoring.lighthouse_runs), (select count(*) from monitoring.vitals),
        (select string_agg(path, ' ') from monitoring.vitals_paths)";
    assert_eq!(rows(&database, left), "1|2|/new");
}

/// Each event is announced, and in a critical window each wakes somebody: a token that got out must not do so by the hundred.
#[tokio::test]
async fn a_project_has_a_hundred_open_events_at_most() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let build = project.begin(&app, "main", "a1").await;
    let run = |from: u32, build: &str| {
        format!(
            "select count(monitoring.add_lighthouse_run('{}', '{}', '{build}', jsonb_build_object('url', 'https://shop.example/' || n,
                'form_factor', 'mobile', 'lighthouse_version', '12', 'fetched_at', now(), 'lcp_ms', 9000)))
            from generate_series({from}, {from} + 109) n",
            project.token, project.slug
        )
    };
    rows(
        &database,
        "update monitoring.settings set value = '10000' where key = 'lighthouse_requests_per_minute'",
    );
    rows(&database, &run(1000, &build));
    assert_eq!(project.seal(&app, &build).await.status, 204);
    let open = "select count(*), sum(occurrences), (select count(*) from monitoring.outbox) from monitoring_events";
    assert_eq!(rows(&database, open), "100|100|100");
    let verdict = project.get(&app, "/builds/a1/verdict", "").await.json();
    assert_eq!(verdict["pages"].as_array().map(Vec::len), Some(110));
    // Those that are open are counted on.
    let again = project.begin(&app, "main", "b2").await;
    rows(&database, &run(1000, &again));
    assert_eq!(project.seal(&app, &again).await.status, 204);
    assert_eq!(rows(&database, open), "100|200|100");
    // Nobody else has fewer.
    let other = Project::new(&database, "Other");
    other.upload(&app, "main", "a1", &slow_report()).await;
    assert_eq!(rows(&database, open), "101|201|101");
}
