//! Signed identities, as an identity provider like Supabase's issues them.

use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

/// What the tests sign with and the app verifies with; HS256 wants 256 bits.
pub(crate) const KEY: &str = "a key for tests, long enough for HS256";
pub(crate) const ISSUER: &str = "https://issuer.example/auth/v1";
pub(crate) const AUDIENCE: &str = "authenticated";

/// The claims of a user whom the issuer has given a role, valid for an hour.
pub(crate) fn claims(subject: &str, role: &str) -> Value {
    let now = get_current_timestamp();
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "role": "authenticated",
        "app_metadata": { "role": role },
        "iat": now,
        "exp": now + 3600,
    })
}

/// A token with these claims, except that each override replaces one, or removes it where it is null.
pub(crate) fn token(subject: &str, role: &str, overrides: &Value) -> String {
    let mut claims = claims(subject, role);
    for (name, value) in overrides.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    sign(&claims, KEY)
}

/// A token with exactly these claims, signed with any key.
pub(crate) fn sign(claims: &Value, key: &str) -> String {
    let key = EncodingKey::from_secret(key.as_bytes());
    encode(&Header::default(), claims, &key).expect("signing a token")
}
