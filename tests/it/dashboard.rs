//! The page: served as it should be, with nothing in it that its own policy would refuse.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine;
use pgvigil::config::Config;
use serde_json::{Value, json};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::project_file;

/// What answers without a database, a secret or anybody's name: nothing listens there.
async fn app(variables: &[(&str, &str)]) -> TestApp {
    let mut all = vec![(
        "DATABASE_URL",
        "postgres://nobody@127.0.0.1:9/none?sslmode=disable",
    )];
    all.extend(variables);
    TestApp::exactly(&all).await
}

fn get(path: &str) -> Request {
    Request::get(path, "")
}

/// The addresses that an attribute of the page holds.
fn addresses(page: &str) -> Vec<&str> {
    let after = |marker| page.split(marker).skip(1);
    let all = after("href=\"").chain(after("src=\""));
    let values = all.filter_map(|rest| rest.split('"').next());
    values.filter(|value| !value.starts_with('#')).collect()
}

/// The page, and its files by the addresses it has for them.
async fn everything(app: &TestApp) -> (Answer, Vec<(String, Answer)>) {
    let page = app.send(get("/dashboard")).await;
    assert_eq!(page.status, 200);
    let mut files = Vec::new();
    for address in addresses(&page.text) {
        // Relative, so that it is found behind a gateway's stage as well.
        assert!(address.starts_with("dashboard/"), "{address}");
        let file = app.send(get(&format!("/{address}"))).await;
        assert_eq!(file.status, 200, "{address}");
        files.push((address.to_owned(), file));
    }
    (page, files)
}

#[tokio::test]
async fn the_page_and_all_its_files_come_from_the_binary() {
    let app = app(&[]).await;
    let (page, files) = everything(&app).await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["cache-control"], "no-cache");
    assert!(
        !page.text.contains("{{"),
        "a file that the page names is missing"
    );
    let kinds: BTreeSet<&str> = files
        .iter()
        .map(|(_, file)| file.headers["content-type"].as_str())
        .collect();
    let expected = [
        "image/svg+xml",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
    ];
    assert_eq!(kinds, expected.into());
    assert_eq!(files.len(), 4);
    for (address, file) in &files {
        assert_eq!(
            file.headers["cache-control"], "public, max-age=31536000, immutable",
            "{address}"
        );
    }
}

#[tokio::test]
async fn each_answer_carries_a_policy_that_lets_nothing_else_in() {
    let app = app(&[]).await;
    let (page, files) = everything(&app).await;
    let config = app.send(get("/dashboard/config.json")).await;
    let all = [&page, &config]
        .into_iter()
        .chain(files.iter().map(|(_, file)| file));
    for answer in all {
        assert_eq!(
            answer.headers["content-security-policy"],
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(answer.headers[name], value, "{name}");
        }
        assert!(answer.headers["permissions-policy"].contains("camera=()"));
        // It is the same for everybody, and asks for nobody's cookies.
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        assert!(!answer.headers.contains_key("set-cookie"));
    }
}

/// What the policy would refuse in the browser should not be there to be refused.
#[tokio::test]
async fn nothing_in_the_page_is_inline() {
    let app = app(&[]).await;
    let (page, _) = everything(&app).await;
    let markup = page.text.to_ascii_lowercase();
    for script in markup.split("<script").skip(1) {
        let (tag, rest) = script.split_once('>').expect("a whole tag");
        assert!(tag.contains("src=\"dashboard/"), "{tag}");
        assert!(rest.starts_with("</script>"), "an inline script");
    }
    for refused in [
        "<style",
        " style=",
        "javascript:",
        "<base",
        "<iframe",
        "<object",
        "<embed",
        "http://",
        "https://",
    ] {
        assert!(!markup.contains(refused), "{refused}");
    }
    // No attribute is a listener.
    let listener = markup.split(" on").skip(1).find(|rest| {
        let name = rest.split('=').next().unwrap_or_default();
        rest.contains('=') && !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())
    });
    assert_eq!(listener, None);
}

/// A query preview, a label, an application name may be made of markup: nothing here makes markup of text, or code.
#[test]
fn no_script_makes_markup_of_text() {
    let scripts = fs::read_dir(project_file("src/dashboard/js")).expect("listing the scripts");
    let mut read = 0;
    for script in scripts.filter_map(Result::ok) {
        let source = fs::read_to_string(script.path()).expect("reading a script");
        for refused in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "createContextualFragment",
            "DOMParser",
            "setHTML",
            "srcdoc",
            "eval(",
            "new Function",
            "localStorage",
            "document.cookie",
            "\"style\"",
            "cssText",
        ] {
            assert!(
                !source.contains(refused),
                "{refused} in {:?}",
                script.path()
            );
        }
        // Attributes get what the page says; of what a database says only classes of looks, keys and times are made.
        assert!(
            !source.contains("href:") && !source.contains("src:"),
            "{:?}",
            script.path()
        );
        read += 1;
    }
    assert!(read >= 20, "{read}");
}

#[tokio::test]
async fn it_contacts_no_other_origin() {
    let app = app(&[]).await;
    let (_, files) = everything(&app).await;
    for (address, file) in &files {
        // The names of XML's vocabularies and uPlot's own address, in a comment, are not asked.
        let text = file.text.replace("http://www.w3.org/2000/svg", "");
        let text = text.replace("https://github.com/leeoniya/uPlot", "");
        for scheme in ["http://", "https://", "ws://", "wss://", "@import"] {
            assert!(!text.contains(scheme), "{scheme} in {address}");
        }
        assert!(
            !address.ends_with(".css") || !text.contains("url("),
            "{address}"
        );
    }
}

/// What the vendored library is, its own files say.
#[tokio::test]
async fn the_chart_library_is_what_its_note_says_it_is() {
    let read = |name: &str| {
        let path = project_file(format!("src/dashboard/vendor/uplot/{name}"));
        fs::read_to_string(path).expect(name)
    };
    let (library, note) = (read("uPlot.iife.min.js"), read("README.md"));
    let version = library
        .split("(v")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    let version = version.expect("a version");
    assert!(
        note.contains(&format!("Version {version}, MIT")),
        "{version}"
    );
    assert!(read("LICENSE").contains("The MIT License"));
    let served = everything(&app(&[]).await).await.1;
    let (_, served) = served
        .iter()
        .find(|(name, _)| name.contains("uplot"))
        .expect("uPlot");
    assert_eq!(served.text, library);
}

/// Bytes as they travel.
fn travelling_bytes(answer: &Value) -> usize {
    let body = answer["body"].as_str().unwrap_or_default();
    if answer["isBase64Encoded"] != true {
        return body.len();
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(body);
    bytes.expect("decoding base64").len()
}

#[tokio::test]
async fn the_first_load_is_small_and_compressed() {
    let app = app(&[]).await;
    let page = app.send(get("/dashboard")).await;
    let mut paths: Vec<String> = addresses(&page.text)
        .iter()
        .map(|address| format!("/{address}"))
        .collect();
    paths.extend(["/dashboard".to_owned(), "/dashboard/config.json".to_owned()]);
    let mut bytes = 0;
    for path in &paths {
        let event = get(path)
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .event();
        let answer = app.invoke(&event).await.expect("an answer");
        assert_eq!(answer["headers"]["content-encoding"], "gzip", "{path}");
        assert_eq!(answer["headers"]["vary"], "Accept-Encoding", "{path}");
        let unpacked = Answer::from_gateway(&answer).text;
        assert_eq!(unpacked, app.send(get(path)).await.text, "{path}");
        bytes += travelling_bytes(&answer);
    }
    assert!(bytes < 60_000, "{bytes} bytes");
}

/// A REST API hands base64 on as it is, so it gets text.
#[tokio::test]
async fn through_a_rest_api_everything_is_text() {
    let app = app(&[]).await;
    let page = app.send(get("/dashboard")).await;
    for path in addresses(&page.text)
        .iter()
        .map(|address| format!("/{address}"))
        .chain(["/dashboard".to_owned()])
    {
        let request = get(&path).header("accept-encoding", "gzip");
        let answer = app.invoke(&request.event_v1()).await.expect("an answer");
        assert_eq!(answer["statusCode"], 200, "{path}");
        assert_ne!(answer["isBase64Encoded"], true, "{path}");
        let answer = Answer::from_gateway(&answer);
        assert!(!answer.headers.contains_key("content-encoding"), "{path}");
        assert_eq!(answer.text, app.send(get(&path)).await.text, "{path}");
    }
}

#[tokio::test]
async fn it_is_found_behind_a_stage() {
    let app = app(&[]).await;
    for path in ["/dashboard", "/dashboard/config.json"] {
        let mut event = get(&format!("/prod{path}")).event();
        event["requestContext"]["stage"] = json!("prod");
        let answer = Answer::from_gateway(&app.invoke(&event).await.expect("an answer"));
        assert_eq!(
            (answer.status, &answer.text),
            (200, &app.send(get(path)).await.text)
        );
    }
    // With a slash at its end its files would be looked for in another place.
    let moved = app.invoke(&get("/dashboard/").event()).await;
    let moved = Answer::from_gateway(&moved.expect("an answer"));
    assert_eq!(
        (moved.status, moved.headers["location"].as_str()),
        (308, "../dashboard")
    );
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let app = app(&[]).await;
    let (page, files) = everything(&app).await;
    let mut all = vec![("dashboard".to_owned(), page)];
    all.extend(files);
    for (address, answer) in &all {
        let tag = answer.headers["etag"].as_str();
        assert!(tag.starts_with("W/\""), "{tag}");
        let strong = tag.trim_start_matches("W/");
        for (known, status) in [
            (tag, 304),
            (strong, 304),
            ("*", 304),
            (&format!("\"another\", {tag}"), 304),
            ("\"another\"", 200),
            ("", 200),
        ] {
            let again = get(&format!("/{address}")).header("if-none-match", known);
            let again = app.send(again).await;
            assert_eq!(again.status, status, "{address}: {known}");
            assert_eq!(again.headers["etag"], tag);
            assert_eq!(
                again.headers["cache-control"],
                answer.headers["cache-control"]
            );
            assert_eq!(again.text.is_empty(), status == 304);
        }
    }
    let tags: BTreeSet<&str> = all
        .iter()
        .map(|(_, answer)| answer.headers["etag"].as_str())
        .collect();
    assert_eq!(tags.len(), all.len());
}

#[tokio::test]
async fn a_head_is_a_get_without_its_content() {
    let app = app(&[]).await;
    let page = app.send(get("/dashboard")).await;
    let head = app.send(Request::new("HEAD", "/dashboard")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.headers, page.headers);
}

#[tokio::test]
async fn what_it_does_not_answer_it_refuses_clearly() {
    let app = app(&[]).await;
    for path in ["/dashboard", "/dashboard/config.json", "/dashboard/app.js"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let refused = app.send(Request::new(method, path)).await;
            assert_eq!(
                (refused.status, refused.problem()),
                (405, "method_not_allowed".to_owned()),
                "{method} {path}"
            );
            assert_eq!(refused.headers["allow"], "GET, HEAD");
        }
    }
    for path in [
        "/dashboard/app.js",
        "/dashboard/app.0000000000000000.js",
        "/dashboard/../Cargo.toml",
        "/dashboard/page.html",
        "/dashboard//config.json",
        "/dashboards",
        "/dashboard.html",
    ] {
        let missing = app.send(get(path)).await;
        assert_eq!(
            (missing.status, missing.problem()),
            (404, "not_found".to_owned()),
            "{path}"
        );
        assert_eq!(missing.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn without_an_issuer_a_token_is_pasted() {
    let config = app(&[]).await.send(get("/dashboard/config.json")).await;
    assert_eq!((config.status, config.json()), (200, json!({"oidc": null})));
    assert_eq!(config.headers["content-type"], "application/json");
    assert_eq!(config.headers["cache-control"], "no-cache");
}

#[tokio::test]
async fn an_issuer_is_told_and_is_the_one_other_origin() {
    let app = app(&[
        (
            "DASHBOARD_OIDC_ISSUER",
            "https://login.example.com:8443/realms/weddings",
        ),
        ("DASHBOARD_OIDC_CLIENT_ID", "pgvigil"),
        ("DASHBOARD_OIDC_SCOPE", "openid email"),
    ])
    .await;
    let config = app.send(get("/dashboard/config.json")).await;
    let expected = json!({"issuer": "https://login.example.com:8443/realms/weddings", "clientId": "pgvigil", "scope": "openid email"});
    assert_eq!(config.json(), json!({ "oidc": expected }));
    let (page, _) = everything(&app).await;
    let policy = &page.headers["content-security-policy"];
    assert!(
        policy.contains("; connect-src 'self' https://login.example.com:8443; "),
        "{policy}"
    );
}

/// The page's mistakes are found at start, together with all others.
#[test]
fn each_bad_value_stops_the_start() {
    let read = |name: &str| match name {
        "DASHBOARD_OIDC_ISSUER" => Some("https://login.example.com; script-src *".to_owned()),
        "AUTH_MODE" => Some("maybe".to_owned()),
        _ => None,
    };
    let refused = Config::from_vars(read).expect_err("bad values");
    let named = |name: &str| {
        refused
            .problems()
            .iter()
            .any(|problem| problem.starts_with(name))
    };
    for name in [
        "DATABASE_SECRET_ID",
        "AUTH_MODE",
        "DASHBOARD_OIDC_ISSUER",
        "DASHBOARD_OIDC_CLIENT_ID",
    ] {
        assert!(named(name), "{name}: {:?}", refused.problems());
    }
}

/// What the page offers follows from this, not from a guess at the token.
#[tokio::test]
async fn the_api_says_what_a_token_makes_of_its_bearer() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let ask = || get("/api/monitoring/session");
    for (role, may) in [
        ("developer", json!(["read", "record"])),
        ("service", json!(["read", "record", "resolve"])),
        (
            "admin",
            json!(["read", "record", "resolve", "configure", "see_people"]),
        ),
        (
            "OWNER",
            json!(["read", "record", "resolve", "configure", "see_people"]),
        ),
    ] {
        let answer = app.send(ask().by(role)).await;
        assert_eq!(answer.status, 200, "{role}");
        let expected = json!({"role": role.to_lowercase(), "may": may, "targets": ["default"]});
        assert_eq!(answer.json()["data"], expected);
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    assert_eq!(app.send(ask()).await.status, 401);
    assert_eq!(app.send(ask().bearer("a.b.c")).await.status, 401);
    assert_eq!(app.send(ask().by("guest")).await.status, 403);
}

/// It asks no database, so it answers while one is away, and names those there are.
#[tokio::test]
async fn it_is_said_without_a_database() {
    let app = app(&[("DATABASE_TARGETS", "reports=a,archive=b")]).await;
    let signed_in = json!({"jwt": {"claims": {"sub": "s", "app_metadata.role": "developer"}}});
    let answer = app
        .send(get("/api/monitoring/session").authorizer(signed_in))
        .await;
    assert_eq!(
        answer.json()["data"]["targets"],
        json!(["default", "archive", "reports"])
    );
}

/// What a right is called there is what the API lets it do.
#[tokio::test]
async fn a_right_that_is_told_is_one_that_is_had() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for role in ["developer", "service", "admin", "owner"] {
        let session = app
            .send(get("/api/monitoring/session").by(role))
            .await
            .json();
        let is_told = |right: &str| {
            session["data"]["may"]
                .as_array()
                .is_some_and(|may| may.contains(&json!(right)))
        };
        let resolve =
            json!({"action": "resolve_event", "event_id": "00000000-0000-0000-0000-000000000000"});
        // There is no such event, which only those hear who may resolve it.
        let resolved = app.post_as(role, &resolve).await.status;
        assert_eq!(
            resolved,
            if is_told("resolve") { 404 } else { 403 },
            "{role}"
        );
        let window = json!({"starts_at": "2099-06-07T17:00:00Z", "ends_at": "2099-06-07T23:00:00Z", "label": role});
        let window = Request::post("/api/monitoring/windows", &window.to_string());
        let added = app.send(window.by(role)).await.status;
        assert_eq!(
            added,
            if is_told("configure") { 201 } else { 403 },
            "{role}"
        );
        let recorded =
            json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
        assert_eq!(app.post_as(role, &recorded).await.status, 201);
        let events = app
            .get_as(role, "query_type=events&include_details=true")
            .await
            .json();
        let shows_people = events["data"]["recentEvents"][0]
            .get("user_agent")
            .is_some();
        assert_eq!(shows_people, is_told("see_people"), "{role}: {events}");
    }
}

/// Charts of a time range shade the windows that were open in it; those to come are told as ever.
#[tokio::test]
async fn windows_that_are_over_are_told_for_a_time_range() {
    let database = plain().database();
    let windows = "
        insert into monitoring.critical_windows (starts_at, ends_at, label) values
          (now() - interval '3 hours', now() - interval '2 hours', 'lunch'),
          (now() - interval '30 hours', now() - interval '20 hours', 'yesterday'),
          (now() - interval '1 minute', now() + interval '1 hour', 'dinner'),
          (now() + interval '1 day', now() + interval '2 days', 'tomorrow')";
    database.psql(SUPERUSER, windows).expect("adding windows");
    let app = TestApp::new(&database).await;
    let labels = |answer: &Value, list: &str| -> Vec<String> {
        let list = answer["data"][list].as_array().into_iter().flatten();
        list.map(|window| window["label"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    for (query, past) in [
        ("time_range=1h", vec![]),
        ("time_range=6h", vec!["lunch"]),
        ("time_range=24h", vec!["lunch", "yesterday"]),
    ] {
        let answer = app
            .send(Request::get("/api/monitoring/windows", query).by("developer"))
            .await
            .json();
        assert_eq!(labels(&answer, "past"), past, "{query}");
        assert_eq!(
            labels(&answer, "windows"),
            ["dinner", "tomorrow"],
            "{query}"
        );
    }
    let plain = app
        .send(get("/api/monitoring/windows").by("developer"))
        .await
        .json();
    assert!(plain["data"]["past"].is_null(), "{plain}");
    let refused = app
        .send(Request::get("/api/monitoring/windows", "time_range=1y").by("developer"))
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.detail().starts_with("time_range"),
        "{}",
        refused.detail()
    );
}
