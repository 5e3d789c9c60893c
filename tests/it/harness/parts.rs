//! The parts beside the database: secrets, tokens, the emulator.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

use crate::support::emulator::Emulator;
use crate::support::secrets::store;
use crate::support::token::{AUDIENCE, ISSUER, KEY, SigningKey, claims, token};
use crate::support::wait::wait_until;

const USER: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

#[test]
fn secret_goes_round() {
    let secret = store().create(&json!({ "password": "one" }));
    assert_eq!(store().read(&secret), Ok(json!({ "password": "one" })));
    store().replace(&secret.id, &json!({ "password": "two" }));
    assert_eq!(store().read(&secret), Ok(json!({ "password": "two" })));
    store().delete(&secret);
    let refused = store().read(&secret).expect_err("reading a deleted secret");
    assert!(refused.contains("ResourceNotFoundException"), "{refused}");
}

#[test]
fn token_carries_what_it_was_given() {
    pgvigil::http::signatures::install();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_secret(KEY.as_bytes());
    let verify = |token: &str| decode::<Value>(token, &key, &validation).map(|data| data.claims);

    let overrides = json!({ "email": "anna@example.com", "role": null });
    let claims_seen = verify(&token(USER, "admin", &overrides)).expect("verifying");
    assert_eq!(claims_seen["app_metadata"]["role"], "admin");
    assert_eq!(claims_seen["email"], "anna@example.com");
    assert_eq!(claims_seen.get("role"), None);

    assert!(verify(&token(USER, "admin", &json!({ "exp": 1 }))).is_err());
    assert!(verify(&SigningKey::hs256("another key").token(None, &claims(USER, "admin"))).is_err());
}

/// Without any configuration the function must not start, which the emulator answers with 502.
#[tokio::test]
async fn emulator_runs_the_binary() {
    let mut variables = store().environment();
    variables.push(("DATABASE_SECRET_ID", String::new()));
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let emulator = Emulator::start(&variables);
    let answer = emulator.invoke("{}");
    assert_eq!(answer.status, 502, "{}", answer.body);
    wait_until("it says what it runs", async || {
        emulator.log().contains(env!("CARGO_BIN_EXE_pgvigil"))
    })
    .await;
}
