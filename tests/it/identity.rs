//! Who is asking: every way to be somebody else, against the app with its keys in the real store and real signatures.

// What a token says of its caller.
mod claims;
// Where a token is, and where one is not looked for.
mod envelope;
// Callers that API Gateway has verified.
mod gateway;
// Keys that come and go.
mod rotation;
// What a token is signed with.
mod signatures;

use serde_json::{Value, json};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::secrets::{Secret, store};
use crate::support::templates::MONITOR;
use crate::support::token::{KEY, SigningKey, claims, fresh_subject};

const PERFORMANCE: &str = "/api/monitoring/performance";

fn request() -> Request {
    Request::get(PERFORMANCE, "query_type=events")
}

/// The key that every test app knows.
fn known_key() -> SigningKey {
    SigningKey::hs256(KEY)
}

/// A caller's good claims, except that each override replaces one, or removes it where it is null.
fn caller(role: &str, overrides: &Value) -> Value {
    let mut claims = claims(&fresh_subject(), role);
    for (name, value) in overrides.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

fn admin() -> Value {
    caller("admin", &json!({}))
}

/// A JWK set with these keys, each under its name.
fn key_set(keys: &[(&str, &SigningKey)]) -> Value {
    let keys: Vec<_> = keys.iter().map(|(id, key)| key.jwk(id)).collect();
    json!({ "keys": keys })
}

/// An app whose keys are in this secret.
async fn app_with_keys(database: &TestDatabase, keys: &Secret) -> TestApp {
    TestApp::with_login(database, MONITOR, &[("AUTH_SECRET_ID", &keys.id)]).await
}

/// An app that knows one key of each algorithm, under the algorithm's name.
async fn app_with_each_key(database: &TestDatabase) -> TestApp {
    let keys = SigningKey::each().iter();
    let keys: Vec<_> = keys.map(|key| (key.algorithm(), key)).collect();
    app_with_keys(database, &store().create(&key_set(&keys))).await
}

async fn ask(app: &TestApp, token: &str) -> Answer {
    app.send(request().bearer(token)).await
}

async fn assert_accepted(app: &TestApp, token: &str, what: &str) {
    let answer = ask(app, token).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text);
}

/// Refused as a token, for this reason, and without a word of the token.
async fn assert_refused(app: &TestApp, token: &str, reason: &str, what: &str) {
    let answer = ask(app, token).await;
    assert_eq!(answer.status, 401, "{what}: {}", answer.text);
    assert_eq!(answer.problem(), "invalid_token", "{what}");
    assert!(
        answer.detail().contains(reason),
        "{what}: {}",
        answer.detail()
    );
    let challenge = &answer.headers["www-authenticate"];
    assert_eq!(challenge, "Bearer error=\"invalid_token\"", "{what}");
}
