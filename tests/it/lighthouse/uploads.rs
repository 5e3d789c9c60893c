//! Who may upload, what happens twice, and what the real client sends.

use serde_json::{Value, json};

use super::{LIGHTHOUSE, PAGE, Project, put, report, rows, slow_report, stored};
use crate::support::app::{Request, TestApp};
use crate::support::postgres::{SUPERUSER, plain, supabase};

/// `lhci upload` 0.15.1 as it was recorded, its reports shortened: with a token and ids that are others here.
const RECORDED: &str = include_str!("../../cases/lighthouse/upload.json");
const RECORDED_TOKEN: &str =
    "pgvl_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RECORDED_PROJECT: &str = "6b20f6ea-a8c8-4029-83ee-d28bd74b7335";
const RECORDED_BUILD: &str = "51451a96-610b-4669-9317-5ca7b18409b1";

#[tokio::test]
async fn what_the_real_client_sends_is_answered_and_only_its_numbers_are_kept() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let app = TestApp::new(&database).await;
        let project = Project::new(&database, "Shop");
        let requests: Vec<Value> = serde_json::from_str(RECORDED).expect("parsing the recording");
        let mut build = RECORDED_BUILD.to_owned();
        let mut statuses = Vec::new();
        for request in &requests {
            let adapted = |text: &Value| {
                let text = text.as_str().expect("a text");
                text.replace(RECORDED_TOKEN, &project.token)
                    .replace(RECORDED_PROJECT, &project.id)
                    .replace(RECORDED_BUILD, &build)
            };
            let (path, body) = (adapted(&request["path"]), adapted(&request["body"]));
            let mut sent = match request["method"].as_str() {
                Some("PUT") => put(&path, &body),
                _ => Request::post(&path, &body),
            };
            for (name, value) in request["headers"].as_object().expect("headers") {
                sent = sent.header(name, &adapted(value));
            }
            let answer = app.send(sent).await;
            statuses.push(answer.status);
            if path.ends_with("/builds") {
                build = answer.json()["id"].as_str().expect("an id").to_owned();
            }
        }
        assert_eq!(statuses, [200, 201, 201, 201, 201, 201, 204]);
        let judged = "select url, form_factor, lighthouse_version, performance, accessibility, best_practices, seo, breaches
             from monitoring.lighthouse_runs where is_representative order by url";
        assert_eq!(
            rows(&database, judged),
            "http://localhost:PORT/|mobile|12.6.1|1|1|0.96|1|[]\n\
             http://localhost:PORT/index.html|mobile|12.6.1|1|1|0.96|1|[]"
        );
        // People and secrets: the author, and a session in the query.
        let kept = rows(
            &database,
            "select b, r from monitoring.lighthouse_builds b, monitoring.lighthouse_runs r",
        );
        assert!(kept.contains("efa011ec9ee66b34918225ab0cf087abee456297"));
        for secret in ["Ann", "example.com", "session", "gravatar", "first"] {
            assert!(RECORDED.contains(secret), "{secret} was sent");
            assert!(!kept.contains(secret), "{secret} is kept");
        }
    }
}

#[tokio::test]
async fn without_the_token_of_the_project_nothing_is_told_or_stored() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let other = Project::new(&database, "Other");
    let build = project.begin(&app, "main", "a1b2").await;
    let before = stored(&database);
    let requests = || {
        let at = |rest: &str| project.path(&format!("/builds/{build}/{rest}"));
        let run = json!({"url": PAGE, "lhr": report().to_string()}).to_string();
        let new = json!({"branch": "main", "hash": "c3d4"}).to_string();
        vec![
            Request::get(&project.path(""), ""),
            Request::get(&project.path("/builds"), ""),
            Request::post(&project.path("/builds"), &new),
            Request::post(&at("runs"), &run),
            put(&at("lifecycle"), "\"sealed\""),
            Request::get(&at("verdict"), ""),
        ]
    };
    let unknown = format!("pgvl_{}", "0".repeat(64));
    // The last is the public key, which opens nothing here.
    for token in [
        None,
        Some(""),
        Some("' or true --"),
        Some(unknown.as_str()),
        Some(project.key.as_str()),
    ] {
        for request in requests() {
            let request = match token {
                Some(token) => request.header("x-lhci-build-token", token),
                None => request,
            };
            // Nor does a role: these routes know no claims.
            let answer = app.send(request.by("admin")).await;
            assert_eq!(answer.status, 401, "{token:?}: {}", answer.text);
            assert_eq!(answer.problem(), "invalid_token");
        }
        let body = json!({"token": token.unwrap_or_default()}).to_string();
        let lookup = Request::post(&format!("{LIGHTHOUSE}/v1/projects/lookup"), &body);
        // What makes the client say that there is no project with this token.
        assert_eq!(app.send(lookup).await.status, 404, "{token:?}");
    }
    // The other project's token is a good one, and not for this project or this build.
    for request in requests() {
        let answer = app.send(other.signed(request)).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    let run = other.add_run(&app, &build, PAGE, &report()).await;
    assert_eq!(run.status, 404, "{}", run.text);
    assert_eq!(other.seal(&app, &build).await.status, 404);
    assert_eq!(stored(&database), before);
}

#[tokio::test]
async fn a_token_ends_when_it_is_rotated_or_revoked() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let mut project = Project::new(&database, "Shop");
    assert_eq!(project.get(&app, "", "").await.status, 200);
    // A person names a project by its slug, and so does a client that looks for it.
    for name in [project.slug.clone(), format!("slug:{}", project.slug)] {
        let path = format!("{LIGHTHOUSE}/v1/projects/{name}");
        let answer = app.send(project.signed(Request::get(&path, ""))).await;
        assert_eq!(answer.json()["id"], json!(project.id), "{name}");
    }
    let rotate = "select monitoring.rotate_lighthouse_token('Shop')";
    let rotated = rows(&database, rotate);
    assert_eq!(project.get(&app, "", "").await.status, 401);
    project.token = rotated;
    assert_eq!(project.get(&app, "", "").await.status, 200);
    let revoke = "select monitoring.revoke_lighthouse_project('Shop')";
    rows(&database, revoke);
    assert_eq!(project.get(&app, "", "").await.status, 401);
    // Nowhere is it kept, only its hash.
    let kept = rows(&database, "select p from monitoring.lighthouse_projects p");
    assert!(!kept.contains("pgvl_"), "{kept}");
    for (call, problem) in [
        ("create_lighthouse_project('Shop')", "of that name"),
        ("create_lighthouse_project('SHOP!')", "of that name"),
        ("create_lighthouse_project('...')", "letters or digits"),
        (
            "create_lighthouse_project('x', 'https://user@shop')",
            "url must",
        ),
        ("rotate_lighthouse_token('x')", "no project of that name"),
        ("rotate_vitals_key('x')", "no project of that name"),
        ("revoke_lighthouse_project('x')", "no project of that name"),
    ] {
        let refused = database.psql(SUPERUSER, &format!("select monitoring.{call}"));
        let refused = refused.expect_err("refused");
        assert!(refused.contains(problem), "{call}: {refused}");
    }
}

#[tokio::test]
async fn a_replayed_build_makes_nothing_twice() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    let build = project.begin(&app, "main", "a1b2").await;
    // Interrupted before it was sealed, the same commit goes on with the same build.
    assert_eq!(project.begin(&app, "main", "a1b2").await, build);
    let mut runs = Vec::new();
    for _ in 0..2 {
        let run = project.add_run(&app, &build, PAGE, &slow_report()).await;
        assert_eq!(run.status, 201, "{}", run.text);
        runs.push(run.json()["id"].clone());
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(stored(&database), "1|1");
    assert_eq!(project.seal(&app, &build).await.status, 204);
    let told = "select count(*), sum(occurrences), (select count(*) from monitoring.outbox) from monitoring_events";
    assert_eq!(rows(&database, told), "1|1|1");

    assert_eq!(project.seal(&app, &build).await.status, 204);
    let body = json!({"branch": "main", "hash": "a1b2"});
    let again = project.post(&app, "/builds", &body).await;
    assert_eq!((again.status, again.problem().as_str()), (409, "conflict"));
    // What the client looks for with --ignoreDuplicateBuildFailure.
    assert!(again.detail().starts_with("Build already exists"));
    // The same run is the same; another one comes too late.
    let same = project.add_run(&app, &build, PAGE, &slow_report()).await;
    assert_eq!(same.json()["id"], runs[0]);
    let mut later = report();
    later["fetchTime"] = "2025-06-07T17:01:00Z".into();
    let late = project.add_run(&app, &build, PAGE, &later).await;
    assert_eq!((late.status, late.problem().as_str()), (409, "conflict"));
    assert_eq!(stored(&database), "1|1");
    assert_eq!(rows(&database, told), "1|1|1");
    // On another branch the same commit is another build.
    assert_ne!(project.begin(&app, "feature", "a1b2").await, build);
}

#[tokio::test]
async fn what_cannot_be_a_build_is_refused_by_name() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let project = Project::new(&database, "Shop");
    for (body, named) in [
        (json!({}), "branch"),
        (json!({"branch": "main"}), "hash"),
        (json!({"branch": "", "hash": "a1"}), "branch"),
        (json!({"branch": "x".repeat(256), "hash": "a1"}), "branch"),
        (json!({"branch": "a\u{0}b", "hash": "a1"}), "branch"),
        (json!({"branch": "a\nb", "hash": "a1"}), "branch"),
        (json!({"branch": ["main"], "hash": "a1"}), "branch"),
        (json!({"branch": "main", "hash": "<script>"}), "hash"),
        (json!({"branch": "main", "hash": "a".repeat(65)}), "hash"),
        (
            json!({"branch": "main", "hash": "a1", "lifecycle": "sealed"}),
            "lifecycle",
        ),
        (json!(["main"]), "JSON object"),
    ] {
        let answer = project.post(&app, "/builds", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        let detail = answer.detail();
        assert!(detail.contains(named), "{body}: {detail}");
    }
    let build = project.begin(&app, "main", "a1b2").await;
    let lifecycle = project.path(&format!("/builds/{build}/lifecycle"));
    for body in ["\"unsealed\"", "sealed", "{\"lifecycle\":\"sealed\"}", ""] {
        let answer = app.send(project.signed(put(&lifecycle, body))).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    for missing in ["00000000-0000-4000-8000-00000000000f", "1", "a1b2", "%27"] {
        assert_eq!(project.seal(&app, missing).await.status, 404, "{missing}");
    }
    for query in ["limit=0", "limit=101", "limit=x", "branch=a%00b"] {
        let answer = project.get(&app, "/builds", query).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
    }
    assert_eq!(stored(&database), "1|0");
    let query = "branch=main&hash=a1b2&limit=1";
    let found = project.get(&app, "/builds", query).await.json();
    assert_eq!(found[0]["id"], json!(build));
    let none = project.get(&app, "/builds", "hash=other").await.json();
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn a_project_has_so_many_requests_whoever_counts() {
    let database = plain().database();
    let project = Project::new(&database, "Shop");
    let limit =
        "update monitoring.settings set value = '5' where key = 'lighthouse_requests_per_minute'";
    rows(&database, limit);
    let (one, other) = (TestApp::new(&database).await, TestApp::new(&database).await);
    // As full as it gets, however slowly this runs.
    let used_up = "update monitoring.ingest_turns set full_at = now() + interval '1 hour'";
    assert_eq!(project.get(&one, "", "").await.status, 200);
    rows(&database, used_up);
    for app in [&one, &other] {
        let refused = project.get(app, "", "").await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (429, "too_many_requests")
        );
        let seconds: u32 = refused.headers["retry-after"].parse().expect("seconds");
        // One of five in a minute.
        assert!((1..=12).contains(&seconds), "{seconds}");
    }
    // What was refused was not done.
    rows(&database, used_up);
    let body = json!({"branch": "main", "hash": "a1"});
    let build = project.post(&other, "/builds", &body).await;
    assert_eq!((build.status, stored(&database).as_str()), (429, "0|0"));
    // Nobody else has to wait: another project, and people.
    let neighbour = Project::new(&database, "Other");
    assert_eq!(neighbour.get(&one, "", "").await.status, 200);
    let people = Request::get(LIGHTHOUSE, "").by("developer");
    assert_eq!(one.send(people).await.status, 200);
    // Two fifths of a minute later there is room for two at least; for more, on a slow machine.
    let pass = "update monitoring.ingest_turns set full_at = now() + interval '36 seconds'";
    rows(&database, pass);
    for app in [&one, &other] {
        assert_eq!(project.get(app, "", "").await.status, 200);
    }
}

/// By the function itself, in one transaction, whose clock this test need not race.
#[test]
fn a_bucket_holds_exactly_so_many() {
    let database = plain().database();
    let taken =
        "select string_agg(coalesce(monitoring.take_ingest_turns('a', 1000, 100)::text, '-'), ' ')
        from generate_series(1, 11) n";
    let taken = rows(&database, taken);
    let taken: Vec<&str> = taken.split(' ').collect();
    assert_eq!(taken[..10], ["-"; 10], "ten hundreds are a thousand");
    let wait: u32 = taken[10].parse().expect("the eleventh waits");
    assert!((1..=6).contains(&wait), "{wait}");
}
