//! Who is asking: claims from the gateway or from a token verified here, and the role in them.
//!
//! This is the first of two guards; the second is PostgreSQL, which gets the same claims and judges for itself. RFC 8725
//! (JWT best current practices) is why the algorithm follows from the key and not from the token.

use std::{fmt, sync::Arc};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use lambda_http::http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use super::{
    keys::{Key, Keyring},
    problem::Problem,
};
use crate::{
    config::{AuthConfig, AuthMode},
    event::HttpRequest,
    secrets::{SecretError, SecretStore},
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

    /// Whether it may change critical windows, suppressions and thresholds.
    pub(super) fn may_configure(self) -> bool {
        matches!(self, Self::Admin | Self::Owner)
    }

    /// Whether it may see who the sessions and events belong to.
    pub(super) fn may_see_people(self) -> bool {
        matches!(self, Self::Admin | Self::Owner)
    }
}

/// A caller whose claims are verified.
pub(super) struct Identity {
    claims: Map<String, Value>,
    role: Option<Role>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.role)
    }
}

impl Identity {
    /// The role is read from one claim, named in the configuration. For PostgreSQL it is then written in plain form to that
    /// claim and to where its guard looks by default; nothing else of the claims is changed.
    fn new(mut claims: Map<String, Value>, role_claim: &str, wording: Wording) -> Self {
        let role = claim(&claims, role_claim).and_then(|value| role_of(value, wording));
        if claims.contains_key(role_claim) {
            claims.insert(role_claim.to_owned(), json!(role.map(Role::name)));
        }
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

    /// The claim as it came, whatever its type.
    pub(super) fn subject_json(&self) -> String {
        self.claims.get("sub").unwrap_or(&Value::Null).to_string()
    }

    /// The role, if it is one we know.
    pub(super) fn role(&self) -> Option<Role> {
        self.role
    }

    /// The role, or 403: whoever has one may read and record.
    pub(super) fn require_role(&self, action: &str) -> Result<Role, Problem> {
        self.role.ok_or_else(|| Problem::no_role(action))
    }

    /// Refuses who may not change how the monitor judges; `action` says what was wanted.
    pub(super) fn require_configurer(&self, action: &str) -> Result<(), Problem> {
        if self.require_role(action)?.may_configure() {
            Ok(())
        } else {
            Err(Problem::forbidden(action))
        }
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

/// How a claim with several values is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wording {
    /// As JSON, in a token that was verified here.
    Json,
    /// As text, by API Gateway: `[admin editors]` (HTTP API) or `admin,editors` (REST API). A name that holds a space or a
    /// comma cannot be told from two, so groups that grant nothing here must not be called like a role in one of their words.
    Gateway,
}

/// One role, or the strongest of several.
fn role_of(value: &Value, wording: Wording) -> Option<Role> {
    // As PostgreSQL's guard compares: what is a blank or a letter to Unicode alone makes another word.
    let named = |word: &str| {
        Role::ALL
            .into_iter()
            .find(|role| role.name().eq_ignore_ascii_case(word.trim_matches(' ')))
    };
    match (value, wording) {
        (Value::String(text), Wording::Json) => named(text),
        (Value::String(text), Wording::Gateway) => {
            let list = text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'));
            match list {
                Some(list) => list.split([' ', ',']).filter_map(named).min(),
                None => text.split(',').filter_map(named).min(),
            }
        }
        (Value::Array(list), _) => list
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
    // Only where tokens are verified here.
    keys: Option<Keyring>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// A header field of API Gateway holds 10 kB; no honest token is near it.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Seconds by which clocks may differ.
const LEEWAY_SECONDS: u64 = 30;

impl Verifier {
    pub(super) fn new(auth: AuthConfig, secrets: Option<Arc<SecretStore>>) -> Self {
        let keys = match &auth.mode {
            AuthMode::Gateway => None,
            AuthMode::Token { secret_id } => Some(Keyring::new(secret_id.clone(), secrets)),
        };
        Self { auth, keys }
    }

    /// The caller of a request.
    pub(super) async fn identify(&self, request: &HttpRequest) -> Result<Identity, Problem> {
        let (claims, wording) = match &self.keys {
            None => {
                let claims = request.authorizer.claims.clone();
                (claims.ok_or_else(Problem::no_token)?, Wording::Gateway)
            }
            Some(keys) => {
                let claims = self.verify(bearer_token(request)?, keys).await?;
                (claims, Wording::Json)
            }
        };
        Ok(Identity::new(claims, &self.auth.role_claim, wording))
    }

    async fn verify(&self, token: &str, keyring: &Keyring) -> Result<Map<String, Value>, Problem> {
        let unavailable = |error: SecretError| Problem::from_secret(&error);
        let mut result = self.check(token, &keyring.keys().await.map_err(unavailable)?);
        if matches!(result, Err(Rejection::NoKey)) {
            // Perhaps signed with a key that came with a rotation.
            result = self.check(token, &keyring.newest_keys().await.map_err(unavailable)?);
        }
        result.map_err(|rejection| Problem::bad_token(rejection.reason()))
    }

    fn check(&self, token: &str, keys: &[Key]) -> Result<Map<String, Value>, Rejection> {
        let header = decode_header(token).map_err(|_| Rejection::Malformed)?;
        // RFC 7515, section 4.1.11: an extension that must be understood and is not.
        if header.crit.is_some() {
            return Err(Rejection::Malformed);
        }
        let fitting = keys.iter().filter(|key| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.id.is_none() || header.kid == key.id)
        });
        for key in fitting {
            let decoded = decode(token, &key.decoding, &self.validation(key.algorithm));
            match decoded.map_err(|error| Rejection::from_kind(error.kind())) {
                Ok(token) => return self.checked(token.claims),
                Err(Rejection::NoKey) => {}
                Err(rejection) => return Err(rejection),
            }
        }
        Err(Rejection::NoKey)
    }

    /// RFC 7519, section 4.1.1: an issuer is one. The library would take a list that has ours among others.
    fn checked(&self, claims: Map<String, Value>) -> Result<Map<String, Value>, Rejection> {
        let is_one = claims.get("iss").is_none_or(Value::is_string);
        if self.auth.issuer.is_some() && !is_one {
            return Err(Rejection::Issuer);
        }
        Ok(claims)
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
            // A key that cannot be used has not signed it either, and must not keep the next from being tried.
            ErrorKind::InvalidSignature
            | ErrorKind::InvalidEcdsaKey
            | ErrorKind::InvalidEddsaKey
            | ErrorKind::InvalidRsaKey(_)
            | ErrorKind::InvalidKeyFormat
            | ErrorKind::Provider(_) => Self::NoKey,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(claims: Value, role_claim: &str, wording: Wording) -> Identity {
        let claims = claims.as_object().cloned().unwrap_or_default();
        Identity::new(claims, role_claim, wording)
    }

    #[test]
    fn the_role_is_the_configured_claim_and_nothing_else() {
        use Wording::{Gateway, Json};
        for (claims, role_claim, wording, expected) in [
            (
                json!({"app_metadata": {"role": "admin"}}),
                "app_metadata.role",
                Json,
                Some(Role::Admin),
            ),
            (
                json!({"app_metadata": {"role": "OWNER"}}),
                "app_metadata.role",
                Json,
                Some(Role::Owner),
            ),
            (
                json!({"app_metadata": {"role": "not admin"}}),
                "app_metadata.role",
                Json,
                None,
            ),
            (
                json!({"app_metadata": {"role": "[admin]"}}),
                "app_metadata.role",
                Json,
                None,
            ),
            (
                json!({"app_metadata": {"role": "x,admin"}}),
                "app_metadata.role",
                Json,
                None,
            ),
            (
                json!({"user_metadata": {"role": "admin"}}),
                "app_metadata.role",
                Json,
                None,
            ),
            (json!({"role": "admin"}), "app_metadata.role", Json, None),
            (
                json!({"app_metadata": "admin"}),
                "app_metadata.role",
                Json,
                None,
            ),
            (
                json!({"app_metadata": {"role": ["developer", "Admin"]}}),
                "app_metadata.role",
                Json,
                Some(Role::Admin),
            ),
            (
                json!({"cognito:groups": ["editors", "developer"]}),
                "cognito:groups",
                Json,
                Some(Role::Developer),
            ),
            (
                json!({"cognito:groups": "[editors admin]"}),
                "cognito:groups",
                Gateway,
                Some(Role::Admin),
            ),
            (
                json!({"cognito:groups": "planners, admin"}),
                "cognito:groups",
                Gateway,
                Some(Role::Admin),
            ),
            (
                json!({"cognito:groups": "administrator"}),
                "cognito:groups",
                Gateway,
                None,
            ),
            (
                json!({"https://example.com/role": "owner"}),
                "https://example.com/role",
                Json,
                Some(Role::Owner),
            ),
            (
                json!({"app_metadata": {"role": "admin"}}),
                "cognito:groups",
                Json,
                None,
            ),
        ] {
            let role = identity(claims.clone(), role_claim, wording).role();
            assert_eq!(role, expected, "{claims} by {role_claim}");
        }
    }

    /// With another claim configured, a role that an issuer lets users write into `app_metadata` must not reach the guard.
    #[test]
    fn postgresql_is_told_the_role_that_was_read() {
        let claims =
            |identity: &Identity| serde_json::from_str::<Value>(&identity.claims_json()).unwrap();
        let forged = json!({"sub": "s", "app_metadata": {"role": "admin", "plan": "x"}});
        let forged = identity(forged, "cognito:groups", Wording::Json);
        assert_eq!(
            claims(&forged),
            json!({"sub": "s", "app_metadata": {"role": null, "plan": "x"}})
        );
        let real = identity(
            json!({"cognito:groups": "[x Owner]"}),
            "cognito:groups",
            Wording::Gateway,
        );
        assert_eq!(
            claims(&real),
            json!({"cognito:groups": "owner", "app_metadata": {"role": "owner"}})
        );
    }
}
