//! Who is asking: claims from the gateway or from a token verified here, and the role in them.
//!
//! This is the first of two guards; the second is PostgreSQL, which gets the same claims and judges for itself. RFC 8725
//! (JWT best current practices) is why the algorithm follows from the key and not from the token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm},
};
use lambda_http::http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::problem::Problem;
use crate::{
    config::{AuthConfig, AuthMode},
    event::HttpRequest,
    secrets::{Secret, SecretError, SecretStore},
};

/// What a caller may be, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Service,
    Owner,
    Admin,
    Developer,
}

impl Role {
    const ALL: [Self; 4] = [Self::Service, Self::Owner, Self::Admin, Self::Developer];

    /// As claims, logs and SQL spell it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
        }
    }

    /// Whether it may resolve events.
    pub(super) fn may_resolve(self) -> bool {
        self != Self::Developer
    }

    /// Whether it may see who the sessions and events belong to.
    pub(super) fn may_see_people(self) -> bool {
        matches!(self, Self::Admin | Self::Owner)
    }
}

/// A caller whose claims are verified.
#[derive(Debug)]
pub(super) struct Identity {
    claims: Map<String, Value>,
    role: Option<Role>,
}

impl Identity {
    /// The role is read from one claim, named in the configuration. For PostgreSQL it is then written where its guard
    /// looks by default; nothing else of the claims is changed.
    fn new(mut claims: Map<String, Value>, role_claim: &str) -> Self {
        let role = claim(&claims, role_claim).and_then(role_of);
        if !matches!(claims.get("app_metadata"), Some(Value::Object(_))) {
            claims.insert("app_metadata".to_owned(), json!({}));
        }
        if let Some(Value::Object(metadata)) = claims.get_mut("app_metadata") {
            metadata.insert("role".to_owned(), json!(role.map(Role::name)));
        }
        Self { claims, role }
    }

    /// The token's subject.
    pub(super) fn subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(Value::as_str)
    }

    /// The role, if it is one we know.
    pub(super) fn role(&self) -> Option<Role> {
        self.role
    }

    /// The role, or 403.
    pub(super) fn require(
        &self,
        action: &str,
        may: impl Fn(Role) -> bool,
    ) -> Result<Role, Problem> {
        self.role
            .filter(|&role| may(role))
            .ok_or_else(|| Problem::forbidden(action))
    }

    /// The claims for `request.jwt.claims`.
    pub(super) fn claims_json(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }
}

/// The value of a claim: by its whole name, which may hold dots (`https://example.com/role`), or by a dotted path.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut parts = name.split('.');
    let mut value = claims.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}

/// One role, or the strongest of several. Gateways word a list claim as text: `[admin editors]`, or `admin,editors`.
fn role_of(value: &Value) -> Option<Role> {
    let named = |word: &str| {
        let word = word.trim_matches([' ', '"']);
        Role::ALL
            .into_iter()
            .find(|role| role.name().eq_ignore_ascii_case(word))
    };
    match value {
        Value::String(text) => match text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            Some(list) => list.split([' ', ',']).filter_map(named).min(),
            None => text.split(',').filter_map(named).min(),
        },
        Value::Array(list) => list
            .iter()
            .filter_map(Value::as_str)
            .filter_map(named)
            .min(),
        _ => None,
    }
}

/// Verifies callers.
pub(super) struct Verifier {
    auth: AuthConfig,
    secrets: Option<Arc<SecretStore>>,
    keys: Mutex<Option<Keys>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Keys {
    keys: Arc<[Key]>,
    fetched_at: Instant,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// A header field of API Gateway holds 10 kB; no honest token is near it.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Keys that do not fit are fetched again, but not for every forged token.
const REFETCH_INTERVAL: Duration = Duration::from_secs(60);

/// Seconds by which clocks may differ.
const LEEWAY_SECONDS: u64 = 30;

impl Verifier {
    pub(super) fn new(auth: AuthConfig, secrets: Option<Arc<SecretStore>>) -> Self {
        Self {
            auth,
            secrets,
            keys: Mutex::new(None),
        }
    }

    /// The caller of a request.
    pub(super) async fn identify(&self, request: &HttpRequest) -> Result<Identity, Problem> {
        let claims = match &self.auth.mode {
            AuthMode::Gateway => request
                .authorizer
                .claims
                .clone()
                .ok_or_else(Problem::no_token)?,
            AuthMode::Token { secret_id } => self.verify(bearer_token(request)?, secret_id).await?,
        };
        Ok(Identity::new(claims, &self.auth.role_claim))
    }

    async fn verify(&self, token: &str, secret_id: &str) -> Result<Map<String, Value>, Problem> {
        let keys = self.keys(secret_id, false).await?;
        match self.check(token, &keys.keys) {
            // Perhaps signed with a key that came with a rotation.
            Err(Rejection::NoKey) if keys.fetched_at.elapsed() >= REFETCH_INTERVAL => {
                let keys = self.keys(secret_id, true).await?;
                self.check(token, &keys.keys)
                    .map_err(|rejection| Problem::bad_token(rejection.reason()))
            }
            result => result.map_err(|rejection| Problem::bad_token(rejection.reason())),
        }
    }

    async fn keys(&self, secret_id: &str, again: bool) -> Result<Keys, Problem> {
        let mut known = self.keys.lock().await;
        if let Some(keys) = known.as_ref().filter(|_| !again) {
            return Ok(keys.clone());
        }
        let secrets = self
            .secrets
            .as_ref()
            .ok_or_else(|| SecretError::Unavailable {
                id: secret_id.to_owned(),
                reason: "no access to Secrets Manager was set up".to_owned(),
            });
        let fetched = match secrets {
            Ok(secrets) => secrets
                .fetch(secret_id)
                .await
                .and_then(|secret| parse_keys(secret_id, &secret)),
            Err(error) => Err(error),
        };
        let keys = Keys {
            keys: fetched
                .map_err(|error| Problem::from_secret(&error))?
                .into(),
            fetched_at: Instant::now(),
        };
        *known = Some(keys.clone());
        Ok(keys)
    }

    fn check(&self, token: &str, keys: &[Key]) -> Result<Map<String, Value>, Rejection> {
        let header = decode_header(token).map_err(|_| Rejection::Malformed)?;
        let fitting = keys.iter().filter(|key| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.id.is_none() || header.kid == key.id)
        });
        let mut rejection = Rejection::NoKey;
        for key in fitting {
            match decode::<Map<String, Value>>(
                token,
                &key.decoding,
                &self.validation(key.algorithm),
            ) {
                Ok(token) => return Ok(token.claims),
                Err(error) => rejection = Rejection::from_kind(error.kind()),
            }
            if rejection != Rejection::NoKey {
                break;
            }
        }
        Err(rejection)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.auth.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.auth.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// Why a token is not accepted, in words that are safe to answer.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Rejection {
    NoKey,
    Malformed,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    MissingClaim,
}

impl Rejection {
    fn from_kind(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
                Self::MissingClaim
            }
            ErrorKind::InvalidSignature => Self::NoKey,
            _ => Self::Malformed,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NoKey => "no known key has signed it",
            Self::Malformed => "it is malformed",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::Issuer => "its issuer is not the configured one",
            Self::Audience => "its audience is not the configured one",
            Self::MissingClaim => "a required claim is missing or malformed",
        }
    }
}

/// The token of the one Authorization header (RFC 6750, section 2.1).
fn bearer_token(request: &HttpRequest) -> Result<&str, Problem> {
    let mut headers = request.headers.get_all(AUTHORIZATION).iter();
    let header = headers.next().ok_or_else(Problem::no_token)?;
    if headers.next().is_some() {
        return Err(Problem::bad_token(
            "there is more than one Authorization header",
        ));
    }
    let header = header
        .to_str()
        .map_err(|_| Problem::bad_token("it is malformed"))?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::no_token());
    }
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(Problem::bad_token("it is empty or too long"));
    }
    Ok(token)
}

/// Reads a secret with keys: a JWK set, one JWK, or an HS256 secret as plain text.
fn parse_keys(id: &str, secret: &Secret) -> Result<Vec<Key>, SecretError> {
    let malformed = |reason: &str| SecretError::Malformed {
        id: id.to_owned(),
        reason: reason.to_owned(),
    };
    let text = secret.expose().trim();
    if !text.starts_with('{') {
        // RFC 7518, section 3.2: a key as long as the hash.
        if text.len() < 32 {
            return Err(malformed(
                "an HS256 secret must have at least 32 characters",
            ));
        }
        let decoding = DecodingKey::from_secret(text.as_bytes());
        return Ok(vec![Key {
            id: None,
            algorithm: Algorithm::HS256,
            decoding,
        }]);
    }
    let jwks = match serde_json::from_str::<JwkSet>(text) {
        Ok(set) => set.keys,
        Err(_) => vec![
            serde_json::from_str::<Jwk>(text)
                .map_err(|_| malformed("it is neither a JWK set nor a JWK"))?,
        ],
    };
    let keys: Vec<Key> = jwks.iter().filter_map(key_from_jwk).collect();
    if keys.is_empty() {
        return Err(malformed(
            "it holds no key for HS256, RS256, ES256 or EdDSA",
        ));
    }
    Ok(keys)
}

fn key_from_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let says_so = jwk
        .common
        .key_algorithm
        .is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    if !says_so {
        return None;
    }
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key {
        id: jwk.common.key_id.clone(),
        algorithm,
        decoding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(claims: Value, role_claim: &str) -> Identity {
        Identity::new(claims.as_object().cloned().unwrap_or_default(), role_claim)
    }

    #[test]
    fn the_role_is_the_configured_claim_and_nothing_else() {
        for (claims, role_claim, expected) in [
            (
                json!({"app_metadata": {"role": "admin"}}),
                "app_metadata.role",
                Some(Role::Admin),
            ),
            (
                json!({"app_metadata": {"role": "OWNER"}}),
                "app_metadata.role",
                Some(Role::Owner),
            ),
            (
                json!({"user_metadata": {"role": "admin"}}),
                "app_metadata.role",
                None,
            ),
            (json!({"role": "admin"}), "app_metadata.role", None),
            (json!({"app_metadata": "admin"}), "app_metadata.role", None),
            (
                json!({"app_metadata": {"role": ["developer", "Admin"]}}),
                "app_metadata.role",
                Some(Role::Admin),
            ),
            (
                json!({"cognito:groups": ["editors", "developer"]}),
                "cognito:groups",
                Some(Role::Developer),
            ),
            (
                json!({"cognito:groups": "[editors admin]"}),
                "cognito:groups",
                Some(Role::Admin),
            ),
            (
                json!({"cognito:groups": "planners, admin"}),
                "cognito:groups",
                Some(Role::Admin),
            ),
            (
                json!({"app_metadata": {"role": "not admin"}}),
                "app_metadata.role",
                None,
            ),
            (
                json!({"cognito:groups": "administrator"}),
                "cognito:groups",
                None,
            ),
            (
                json!({"https://example.com/role": "owner"}),
                "https://example.com/role",
                Some(Role::Owner),
            ),
            (
                json!({"app_metadata": {"role": "admin"}}),
                "cognito:groups",
                None,
            ),
        ] {
            assert_eq!(
                identity(claims.clone(), role_claim).role(),
                expected,
                "{claims} by {role_claim}"
            );
        }
    }

    /// With another claim configured, a role that an issuer lets users write into `app_metadata` must not reach the guard.
    #[test]
    fn postgresql_is_told_the_role_that_was_read() {
        let forged = identity(
            json!({"sub": "s", "app_metadata": {"role": "admin", "plan": "x"}}),
            "cognito:groups",
        );
        let claims: Value = serde_json::from_str(&forged.claims_json()).unwrap();
        assert_eq!(
            claims,
            json!({"sub": "s", "app_metadata": {"role": null, "plan": "x"}})
        );
        let real = identity(json!({"cognito:groups": ["Owner"]}), "cognito:groups");
        let claims: Value = serde_json::from_str(&real.claims_json()).unwrap();
        assert_eq!(claims["app_metadata"]["role"], "owner");
    }

    #[test]
    fn keys_are_read_in_each_form_and_errors_hide_them() {
        let parse = |text: &str| parse_keys("auth", &Secret::new(text)).map(|keys| keys.len());
        assert_eq!(parse("0123456789abcdef0123456789abcdef"), Ok(1));
        assert_eq!(
            parse(r#"{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}"#),
            Ok(1)
        );
        assert_eq!(
            parse(
                r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}"#
            ),
            Ok(1)
        );
        for text in ["too-short-hunter2", r#"{"hunter2":1}"#, r#"{"keys":[]}"#] {
            let error = parse(text)
                .expect_err("keys that cannot be used")
                .to_string();
            assert!(
                error.starts_with("secret auth is malformed") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
