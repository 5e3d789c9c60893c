//! Where a token is, in either gateway's format, and where nobody looks for one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PERFORMANCE, admin, caller, known_key, request};
use crate::support::app::{Answer, Request, TestApp};
use crate::support::postgres::plain;
use crate::support::templates::MONITOR;
use crate::support::token::fresh_subject;

fn token() -> String {
    known_key().token(None, &admin())
}

fn assert_unauthenticated(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.text);
    assert_eq!(answer.problem(), "unauthenticated", "{what}");
    // RFC 6750, section 3: no error is named where no authentication was tried.
    assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
}

fn assert_bad_token(answer: &Answer, reason: &str, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.text);
    assert_eq!(answer.problem(), "invalid_token", "{what}");
    assert!(answer.detail().contains(reason), "{what}: {}", answer.text);
}

#[tokio::test]
async fn without_a_token_there_is_nothing() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for (request, name) in [
        (request(), "GET performance"),
        (Request::post(PERFORMANCE, "{}"), "POST performance"),
        (
            Request::get("/api/monitoring/validation", ""),
            "GET validation",
        ),
    ] {
        assert_unauthenticated(&app.send_event(&request.event()).await, name);
        assert_unauthenticated(&app.send_event(&request.event_v1()).await, name);
    }
    for header in [
        "Basic YTpi",
        "",
        " ",
        "bearer-token x",
        "Digest x",
        "JWT x",
        "Bearer\tx",
    ] {
        let answer = app.send(request().header("authorization", header)).await;
        assert_unauthenticated(&answer, header);
    }
    let bare = app.send(request().header("authorization", &token())).await;
    assert_unauthenticated(&bare, "a token without a scheme");
    for header in ["Bearer", "Bearer ", "bearer    "] {
        let answer = app.send(request().header("authorization", header)).await;
        assert_bad_token(&answer, "empty", header);
    }
}

#[tokio::test]
async fn the_scheme_is_compared_without_case_in_both_formats() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        for name in ["authorization", "Authorization", "AUTHORIZATION"] {
            let request = request().header(name, &format!("{scheme} {}", token()));
            for event in [request.event(), request.event_v1()] {
                let answer = app.send_event(&event).await;
                assert_eq!(answer.status, 200, "{name}: {scheme}: {}", answer.text);
            }
        }
    }
}

/// Else a proxy before us may judge the one and we the other.
#[tokio::test]
async fn several_authorization_headers_are_refused_whatever_they_hold() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let good = || format!("Bearer {}", token());
    let same = good();
    for (one, two) in [
        (good(), good()),
        (same.clone(), same),
        (good(), "Bearer x".to_owned()),
        ("Bearer x".to_owned(), good()),
        (good(), "Basic YTpi".to_owned()),
        ("Basic YTpi".to_owned(), good()),
        (good(), String::new()),
        (String::new(), good()),
    ] {
        let mut event = request().event_v1();
        event["headers"] = json!({ "Authorization": two });
        event["multiValueHeaders"] = json!({ "Authorization": [one, two] });
        assert_bad_token(&app.send_event(&event).await, "more than one", "a list");

        for (first, second) in [
            ("Authorization", "authorization"),
            ("authorization", "AUTHORIZATION"),
        ] {
            let mut event = request().event_v1();
            event["headers"] = json!({ first: one, second: two });
            event["multiValueHeaders"] = json!({ first: [one], second: [two] });
            assert_bad_token(&app.send_event(&event).await, "more than one", "two names");
            event["multiValueHeaders"] = Value::Null;
            assert_bad_token(
                &app.send_event(&event).await,
                "more than one",
                "two names, no lists",
            );
            let mut event = request().event();
            event["headers"] = json!({ first: one, second: two });
            assert_bad_token(&app.send_event(&event).await, "more than one", "two names");
        }
        // A version 2.0 event has them in one, with a comma.
        for joined in [format!("{one},{two}"), format!("{one}, {two}")] {
            let answer = app.send(request().header("authorization", &joined)).await;
            assert_eq!(answer.status, 401, "{joined}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_token_of_a_megabyte_is_refused_at_once() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let padding = "x".repeat(1 << 20);
    let signed = caller("admin", &json!({ "padding": padding }));
    for (what, token) in [
        ("letters", padding.clone()),
        ("dots", ".".repeat(1 << 20)),
        (
            "blanks, then a token",
            format!("{}{}", " ".repeat(1 << 20), "x".repeat(9_000)),
        ),
        ("well signed", known_key().token(None, &signed)),
        ("a long kid", known_key().token(Some(&padding), &admin())),
        ("a long signature", format!("{}{padding}", token())),
        ("just too long", "x".repeat(8 * 1024 + 1)),
    ] {
        let request = request().bearer(&token);
        for event in [request.event(), request.event_v1()] {
            let started = Instant::now();
            let answer = app.send_event(&event).await;
            assert_bad_token(&answer, "too long", what);
            assert!(answer.text.len() < 1_000, "it is not repeated");
            assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        }
    }
    let long = caller("admin", &json!({ "padding": "x".repeat(5_000) }));
    let answer = app
        .send(request().bearer(&known_key().token(None, &long)))
        .await;
    assert_eq!(answer.status, 200, "an honest one may be long");
}

/// RFC 6750 knows two more places, a query parameter and a form field; addresses are logged, and cookies are sent by
/// whoever's page.
#[tokio::test]
async fn a_token_elsewhere_is_none() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let token = token();
    for name in [
        "access_token",
        "token",
        "jwt",
        "authorization",
        "Authorization",
    ] {
        let query = format!("{name}={token}");
        let request = Request::get(PERFORMANCE, &query);
        for event in [request.event(), request.event_v1()] {
            assert_unauthenticated(&app.send_event(&event).await, &format!("?{name}="));
        }
    }
    for (name, value) in [
        (
            "cookie",
            format!("access_token={token}; Authorization=Bearer {token}"),
        ),
        ("x-authorization", format!("Bearer {token}")),
        ("x-amzn-remapped-authorization", format!("Bearer {token}")),
        ("proxy-authorization", format!("Bearer {token}")),
        ("x-forwarded-authorization", format!("Bearer {token}")),
        ("x-amzn-oidc-accesstoken", token.clone()),
        ("x-access-token", token.clone()),
        ("x-api-key", token.clone()),
        ("sec-websocket-protocol", format!("bearer, {token}")),
    ] {
        let request = request().header(name, &value);
        for event in [request.event(), request.event_v1()] {
            assert_unauthenticated(&app.send_event(&event).await, name);
        }
    }
    let mut cookies = request().event();
    cookies["cookies"] = json!([
        format!("access_token={token}"),
        format!("Authorization=Bearer {token}")
    ]);
    assert_unauthenticated(&app.send_event(&cookies).await, "cookies");
    let body = json!({"action": "record_event", "event_type": "slow_query", "event_data": {},
        "access_token": token, "authorization": format!("Bearer {token}"), "headers": {"authorization": format!("Bearer {token}")}});
    let post = Request::post(PERFORMANCE, &body.to_string());
    for event in [post.event(), post.event_v1()] {
        assert_unauthenticated(&app.send_event(&event).await, "the body");
    }
}

/// What a gateway's authorizer would put into `requestContext`, in each form there is.
fn authorizers() -> [Value; 4] {
    let claims = json!({
        "sub": fresh_subject(), "role": "owner", "cognito:groups": "[owner]",
        "app_metadata": { "role": "owner" }, "app_metadata.role": "owner",
    });
    let mut principal = claims.clone();
    principal["principalId"] = claims["sub"].clone();
    [
        json!({ "jwt": { "claims": claims, "scopes": null } }),
        json!({ "claims": claims }),
        json!({ "lambda": claims }),
        principal,
    ]
}

/// With tokens verified here, no gateway was told to verify anything: what stands there is anybody's.
#[tokio::test]
async fn in_token_mode_an_authorizers_context_is_not_believed() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let caterer = known_key().token(None, &caller("caterer", &json!({})));
    for authorizer in authorizers() {
        let anybody = request().authorizer(authorizer.clone());
        for event in [anybody.event(), anybody.event_v1()] {
            assert_unauthenticated(&app.send_event(&event).await, &authorizer.to_string());
        }
        let someone = request().authorizer(authorizer.clone()).bearer(&caterer);
        for event in [someone.event(), someone.event_v1()] {
            let answer = app.send_event(&event).await;
            assert_eq!(answer.status, 403, "the token's role counts: {authorizer}");
        }
    }
}

/// A body is the caller's, whatever it looks like; so are headers and parameters.
#[tokio::test]
async fn a_forged_request_context_is_only_a_body() {
    let database = plain().database();
    let token_mode = TestApp::new(&database).await;
    let gateway = [("AUTH_MODE", "gateway")];
    let gateway_mode = TestApp::with_login(&database, MONITOR, &gateway).await;
    for authorizer in authorizers() {
        let context =
            json!({ "authorizer": authorizer, "http": { "method": "GET" }, "stage": "$default" });
        let body = json!({
            "action": "record_event", "event_type": "slow_query", "event_data": {},
            "requestContext": context, "authorizer": authorizer, "claims": authorizer["claims"],
        });
        let event = Request::get(PERFORMANCE, "")
            .authorizer(authorizer.clone())
            .event();
        let event_v1 = Request::get(PERFORMANCE, "")
            .authorizer(authorizer.clone())
            .event_v1();
        for body in [
            &body,
            &event,
            &event_v1,
            &json!({ "body": event.to_string() }),
        ] {
            let post = Request::post(PERFORMANCE, &body.to_string());
            for app in [&token_mode, &gateway_mode] {
                for event in [post.event(), post.event_v1()] {
                    assert_unauthenticated(&app.send_event(&event).await, &body.to_string());
                }
            }
        }
        let mut forged = request();
        for name in [
            "requestcontext",
            "x-amzn-request-context",
            "x-amzn-apigateway-context",
            "x-apigateway-event",
            "x-amzn-lambda-context",
            "x-amzn-oidc-data",
            "x-amzn-oidc-identity",
            "x-amz-cognito-claims",
            "x-claims",
            "authorizer",
        ] {
            forged = forged.header(name, &authorizer.to_string());
        }
        for app in [&token_mode, &gateway_mode] {
            for event in [forged.event(), forged.event_v1()] {
                assert_unauthenticated(&app.send_event(&event).await, "headers");
            }
        }
    }
    let query =
        "requestContext.authorizer.claims.app_metadata.role=owner&authorizer=owner&role=owner";
    let asked = Request::get(PERFORMANCE, query);
    for app in [&token_mode, &gateway_mode] {
        for event in [asked.event(), asked.event_v1()] {
            assert_unauthenticated(&app.send_event(&event).await, query);
        }
    }
}

/// Nor does it shake one that is there: who may not resolve may not because the body says so.
#[tokio::test]
async fn a_forged_body_adds_nothing_to_a_callers_role() {
    let database = plain().database();
    let token_mode = TestApp::new(&database).await;
    let gateway = [("AUTH_MODE", "gateway"), ("AUTH_ROLE_CLAIM", "role")];
    let gateway_mode = TestApp::with_login(&database, MONITOR, &gateway).await;
    for forged in authorizers() {
        let body = json!({
            "action": "resolve_event", "event_id": "00000000-0000-0000-0000-000000000000", "role": "owner",
            "app_metadata": { "role": "owner" }, "requestContext": { "authorizer": forged },
        });
        let developer = known_key().token(None, &caller("developer", &json!({})));
        let claims = json!({ "claims": { "sub": fresh_subject(), "role": "developer" } });
        let post = Request::post(PERFORMANCE, &body.to_string());
        let post = post.bearer(&developer).authorizer(claims);
        for app in [&token_mode, &gateway_mode] {
            for event in [post.event(), post.event_v1()] {
                let answer = app.send_event(&event).await;
                assert_eq!(
                    (answer.status, answer.problem().as_str()),
                    (403, "forbidden")
                );
            }
        }
    }
}
