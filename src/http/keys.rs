//! The keys that tokens are verified with: from a secret, kept for a while, fetched again with care.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use tokio::{sync::Mutex, time::Instant};

use super::signatures;
use crate::secrets::{Secret, SecretError, SecretStore};

/// A key with the one algorithm it is for.
pub(super) struct Key {
    /// Its `kid`, where it has one.
    pub(super) id: Option<String>,
    /// Follows from the key's type; a token's header has no say in it (RFC 8725, section 3.1).
    pub(super) algorithm: Algorithm,
    /// The key itself.
    pub(super) decoding: DecodingKey,
}

/// The keys of one secret.
pub(super) struct Keyring {
    secret_id: String,
    secrets: Option<Arc<SecretStore>>,
    cache: Mutex<Cache>,
}

/// The keys as last fetched. An attempt that failed leaves them, and counts: nobody can have us ask the store for every
/// forged token.
#[derive(Default)]
struct Cache {
    keys: Option<Arc<[Key]>>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// Keys that do not fit are fetched again, but not more often than this.
const REFETCH_INTERVAL: Duration = Duration::from_secs(60);

/// Keys that fit are fetched again after this, so that one that was withdrawn is not trusted for as long as an instance lives.
const KEYS_AGE_AT_MOST: Duration = Duration::from_secs(600);

impl Keyring {
    /// The keys that a secret holds; nothing is fetched yet.
    pub(super) fn new(secret_id: String, secrets: Option<Arc<SecretStore>>) -> Self {
        signatures::install();
        Self {
            secret_id,
            secrets,
            cache: Mutex::new(Cache::default()),
        }
    }

    /// The keys, not older than ten minutes unless the store cannot be asked.
    ///
    /// # Errors
    ///
    /// When there are none yet and none can be had.
    pub(super) async fn keys(&self) -> Result<Arc<[Key]>, SecretError> {
        self.younger_than(KEYS_AGE_AT_MOST).await
    }

    /// The keys as they are now, as far as the store may be asked again.
    ///
    /// # Errors
    ///
    /// As for [`Self::keys`].
    pub(super) async fn newest_keys(&self) -> Result<Arc<[Key]>, SecretError> {
        self.younger_than(REFETCH_INTERVAL).await
    }

    async fn younger_than(&self, max_age: Duration) -> Result<Arc<[Key]>, SecretError> {
        let mut cache = self.cache.lock().await;
        let is_due = |at: Option<Instant>, age| at.is_none_or(|at| at.elapsed() >= age);
        if let Some(keys) = &cache.keys
            && (!is_due(cache.fetched_at, max_age) || !is_due(cache.tried_at, REFETCH_INTERVAL))
        {
            return Ok(Arc::clone(keys));
        }
        cache.tried_at = Some(Instant::now());
        match (self.fetch().await, &cache.keys) {
            (Ok(keys), _) => {
                let keys: Arc<[Key]> = keys.into();
                cache.keys = Some(Arc::clone(&keys));
                cache.fetched_at = Some(Instant::now());
                Ok(keys)
            }
            (Err(error), Some(keys)) => {
                tracing::error!("going on with the keys as last fetched: {error}");
                Ok(Arc::clone(keys))
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, SecretError> {
        let Some(secrets) = &self.secrets else {
            return Err(SecretError::Unavailable {
                id: self.secret_id.clone(),
                reason: "no access to Secrets Manager was set up".to_owned(),
            });
        };
        parse_keys(&self.secret_id, &secrets.fetch(&self.secret_id).await?)
    }
}

/// RFC 7518, section 3.2: a key for HS256 is at least as long as its hash.
const HS256_KEY_BYTES: usize = 32;

/// RFC 7518, section 3.3: 2048 bits.
const RS256_KEY_BYTES: usize = 256;

/// RFC 8032, section 5.1.5.
const ED25519_KEY_BYTES: usize = 32;

/// Reads a secret with keys: a JWK set, one JWK, or an HS256 secret as plain text.
fn parse_keys(id: &str, secret: &Secret) -> Result<Vec<Key>, SecretError> {
    let malformed = |reason: &str| SecretError::Malformed {
        id: id.to_owned(),
        reason: reason.to_owned(),
    };
    let text = secret.expose().trim();
    if !text.starts_with(['{', '[']) {
        // A public key or an address taken for an HS256 secret would let everybody sign who knows it.
        if text.contains("-----BEGIN") || text.contains("://") {
            return Err(malformed(
                "it is a PEM or a URL; public keys must be a JWK set",
            ));
        }
        if text.len() < HS256_KEY_BYTES {
            return Err(malformed(
                "an HS256 secret must have at least 32 characters",
            ));
        }
        return Ok(vec![Key {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(text.as_bytes()),
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
            "it holds no usable key for HS256, RS256, ES256 or EdDSA",
        ));
    }
    Ok(keys)
}

/// The key of a JWK, with the algorithm that its type allows; none where it is for something else.
fn key_from_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(key) if key.value.len() * 3 / 4 >= HS256_KEY_BYTES => {
            Algorithm::HS256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let common = &jwk.common;
    let says_so = common
        .key_algorithm
        .is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    let is_for_signatures = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption));
    if !says_so || !is_for_signatures {
        return None;
    }
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    let is_long_enough = match (algorithm, decoding.kind()) {
        // The library cuts one that is longer.
        (Algorithm::EdDSA, _) => decoding.try_get_as_bytes().ok()?.len() == ED25519_KEY_BYTES,
        (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            signatures::without_leading_zeros(n).len() >= RS256_KEY_BYTES
        }
        _ => true,
    };
    if !is_long_enough {
        return None;
    }
    Some(Key {
        id: common.key_id.clone(),
        algorithm,
        decoding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_each_form_and_errors_hide_them() {
        let parse = |text: &str| parse_keys("auth", &Secret::new(text)).map(|keys| keys.len());
        assert_eq!(parse("0123456789abcdef0123456789abcdef"), Ok(1));
        let oct = r#"{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}"#;
        assert_eq!(parse(oct), Ok(1));
        let ed25519 =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(
            parse(&format!(
                r#"{{"keys":[{ed25519},{{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}}]}}"#
            )),
            Ok(1)
        );
        for text in [
            "too-short-hunter2",
            r#"{"hunter2":1}"#,
            r#"{"keys":[]}"#,
            r#"{"kty":"oct","k":""}"#,
            r#"{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY","use":"enc"}"#,
            "-----BEGIN PUBLIC KEY-----\nhunter2hunter2hunter2hunter2\n-----END PUBLIC KEY-----",
            "https://issuer.example/hunter2/.well-known/jwks.json",
            r#"["hunter2hunter2hunter2hunter2hunter2hunter2"]"#,
        ] {
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
