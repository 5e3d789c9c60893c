//! Callers whom API Gateway has verified: its four ways to say so, and nothing else.

use serde_json::{Value, json};

use super::{PERFORMANCE, admin, known_key, request};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::templates::MONITOR;
use crate::support::token::fresh_subject;

async fn gateway(database: &TestDatabase, role_claim: &str) -> TestApp {
    let variables = [("AUTH_MODE", "gateway"), ("AUTH_ROLE_CLAIM", role_claim)];
    TestApp::with_login(database, MONITOR, &variables).await
}

/// The context of each authorizer for a caller with this in the role's claim, and the format in which it comes.
fn contexts(name: &str, role: &str) -> [(&'static str, bool, Value); 5] {
    let claims =
        json!({ "sub": fresh_subject(), name: role, "token_use": "id", "exp": "1749319200" });
    let context = json!({ "sub": fresh_subject(), name: role });
    let scalars = json!({ "principalId": fresh_subject(), name: role, "integrationLatency": 5 });
    [
        (
            "HTTP API, JWT",
            false,
            json!({ "jwt": { "claims": claims, "scopes": null } }),
        ),
        (
            "HTTP API, JWT, version 1.0",
            true,
            json!({ "claims": claims, "scopes": null }),
        ),
        ("HTTP API, Lambda", false, json!({ "lambda": context })),
        ("REST API, Cognito", true, json!({ "claims": claims })),
        ("REST API, Lambda", true, scalars),
    ]
}

fn event(request: &Request, is_v1: bool) -> Value {
    if is_v1 {
        request.event_v1()
    } else {
        request.event()
    }
}

#[tokio::test]
async fn each_authorizers_claims_are_read_where_it_puts_them() {
    let database = plain().database();
    for name in [
        "cognito:groups",
        "role",
        "https://example.com/role",
        "app_metadata.role",
    ] {
        let app = gateway(&database, name).await;
        for (role, may_read, may_resolve) in [
            ("admin", true, true),
            ("OWNER", true, true),
            ("developer", true, false),
            ("caterer", false, false),
            ("", false, false),
        ] {
            for (authorizer, is_v1, context) in contexts(name, role) {
                let read = request().authorizer(context.clone());
                let answer = app.send_event(&event(&read, is_v1)).await;
                let what = format!("{authorizer}, {name}: {role}");
                let status = if may_read { 200 } else { 403 };
                assert_eq!(answer.status, status, "{what}: {}", answer.text);
                let resolve = json!({"action": "resolve_event", "event_id": "00000000-0000-0000-0000-000000000000"});
                let resolve = Request::post(PERFORMANCE, &resolve.to_string()).authorizer(context);
                let answer = app.send_event(&event(&resolve, is_v1)).await;
                let status = if may_resolve { 404 } else { 403 };
                assert_eq!(answer.status, status, "{what}: {}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn the_subject_is_the_authorizers() {
    let database = plain().database();
    let app = gateway(&database, "role").await;
    let record = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    for (authorizer, is_v1, context) in contexts("role", "developer") {
        let subjects = [
            "/jwt/claims/sub",
            "/claims/sub",
            "/lambda/sub",
            "/principalId",
        ];
        let subject = subjects
            .iter()
            .find_map(|place| context.pointer(place)?.as_str());
        let subject = subject.expect("finding the subject").to_owned();
        let post = Request::post(PERFORMANCE, &record.to_string()).authorizer(context.clone());
        let answer = app.send_event(&event(&post, is_v1)).await;
        assert_eq!(answer.status, 201, "{authorizer}: {}", answer.text);
        let recorded = "with gone as (delete from monitoring_events returning user_id) select user_id from gone";
        let recorded = database.psql(SUPERUSER, recorded);
        assert_eq!(recorded, Ok(format!("{subject}\n")), "{authorizer}");
    }
}

/// A gateway words a list as text, each its own way.
#[tokio::test]
async fn a_list_of_groups_is_read_as_the_gateway_words_it() {
    let database = plain().database();
    let app = gateway(&database, "cognito:groups").await;
    for (groups, is_known) in [
        (json!("[editors admin]"), true),
        (json!("[admin]"), true),
        (json!("editors,admin"), true),
        (json!("editors, Admin"), true),
        (json!(["editors", "admin"]), true),
        (json!("[]"), false),
        (json!("[editors]"), false),
        (json!("administrators"), false),
        (json!("[administrators not-admin]"), false),
        (json!("admin editors"), false),
        (json!("admin;owner"), false),
        (json!("[admin"), false),
        (json!("ａdmin"), false),
        (json!("[\u{a0}admin]"), false),
        (json!({ "admin": true }), false),
        (json!(null), false),
    ] {
        let claims = json!({ "claims": { "sub": fresh_subject(), "cognito:groups": groups } });
        let asked = request().authorizer(claims);
        let answer = app.send_event(&asked.event_v1()).await;
        let status = if is_known { 200 } else { 403 };
        assert_eq!(answer.status, status, "{groups}: {}", answer.text);
    }
}

/// A route somebody forgot to give an authorizer, or gave one that says nothing of the caller.
#[tokio::test]
async fn without_an_authorizers_claims_nobody_is_let_in() {
    let database = plain().database();
    let app = gateway(&database, "role").await;
    for context in [
        json!(null),
        json!({}),
        json!([]),
        json!("admin"),
        json!({ "iam": { "userArn": "arn:aws:iam::123456789012:user/x", "role": "admin" } }),
        json!({ "jwt": null }),
        json!({ "jwt": { "claims": null } }),
        json!({ "jwt": { "claims": "role=admin" } }),
        json!({ "claims": null }),
        json!({ "claims": ["admin"] }),
        json!({ "claims": "admin" }),
        json!({ "lambda": null }),
        json!({ "lambda": "admin" }),
        json!({ "role": "admin" }),
        json!({ "sub": "x", "role": "admin" }),
    ] {
        let asked = request().authorizer(context.clone());
        for event in [asked.event(), asked.event_v1()] {
            let answer = app.send_event(&event).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (401, "unauthenticated"),
                "{context}"
            );
        }
    }
    // A Lambda authorizer's context holds scalars only: claims worded as text are one, and no claims.
    let claims = json!({ "role": "admin" }).to_string();
    let worded = json!({ "principalId": fresh_subject(), "claims": claims });
    for context in [
        worded,
        json!({ "claims": {} }),
        json!({ "principalId": "x" }),
    ] {
        let answer = app
            .send_event(&request().authorizer(context.clone()).event_v1())
            .await;
        assert_eq!(answer.status, 403, "{context}: {}", answer.text);
    }
}

/// Nobody has verified a token that comes along: what the gateway let through counts, and it alone.
#[tokio::test]
async fn a_bearer_token_beside_the_authorizer_is_not_read() {
    let database = plain().database();
    let app = gateway(&database, "app_metadata.role").await;
    let token = known_key().token(None, &admin());
    let alone = request().bearer(&token);
    for event in [alone.event(), alone.event_v1()] {
        assert_eq!(app.send_event(&event).await.status, 401);
    }
    for (authorizer, is_v1, context) in contexts("app_metadata.role", "caterer") {
        let both = request().bearer(&token).authorizer(context);
        let answer = app.send_event(&event(&both, is_v1)).await;
        assert_eq!(answer.status, 403, "{authorizer}");
    }
}

/// Users write `user_metadata` themselves, and an issuer may let them write more than the one claim that counts.
#[tokio::test]
async fn another_claims_role_does_not_count() {
    let database = plain().database();
    let app = gateway(&database, "cognito:groups").await;
    for claims in [
        json!({ "app_metadata": { "role": "owner" } }),
        json!({ "user_metadata": { "role": "owner" } }),
        json!({ "role": "owner", "custom:role": "owner" }),
        json!({ "app_metadata": { "role": "owner" }, "cognito:groups": "[editors]" }),
        json!({ "Cognito:Groups": "[owner]" }),
    ] {
        let mut claims = claims;
        claims["sub"] = json!(fresh_subject());
        for context in [
            json!({ "jwt": { "claims": claims } }),
            json!({ "claims": claims }),
        ] {
            let asked = request().authorizer(context);
            let answer = app.send_event(&asked.event()).await;
            assert_eq!(answer.status, 403, "{claims}: {}", answer.text);
        }
    }
}
