//! Signed identities, as an identity provider like Supabase's issues them, and as an attacker words them.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::get_current_timestamp;
use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};

use super::scratch::unique;

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
    SigningKey::hs256(KEY).token(None, &claims)
}

/// A subject that nobody else has: what is counted by subject counts one request of it.
pub(crate) fn fresh_subject() -> String {
    let random = unique("");
    format!("6f9619ff-8b86-4d01-{}-{}0000", &random[..4], &random[4..12])
}

/// Bytes in the form in which tokens and keys hold them.
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key, which signs whatever it is given: tokens are put together here by hand, since no library makes bad ones.
#[derive(Debug, Clone)]
pub(crate) enum SigningKey {
    Hs256(Vec<u8>),
    Rs256(PKey<Private>),
    Es256(PKey<Private>),
    EdDsa(PKey<Private>),
}

impl SigningKey {
    pub(crate) fn hs256(secret: impl Into<Vec<u8>>) -> Self {
        Self::Hs256(secret.into())
    }

    pub(crate) fn rs256() -> Self {
        let key = Rsa::generate(2048).expect("making an RSA key");
        Self::Rs256(PKey::from_rsa(key).expect("wrapping a key"))
    }

    pub(crate) fn es256() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("naming P-256");
        let key = EcKey::generate(&group).expect("making a P-256 key");
        Self::Es256(PKey::from_ec_key(key).expect("wrapping a key"))
    }

    pub(crate) fn ed25519() -> Self {
        Self::EdDsa(PKey::generate_ed25519().expect("making an Ed25519 key"))
    }

    /// One key of each kind, made once.
    pub(crate) fn each() -> &'static [Self; 4] {
        static KEYS: LazyLock<[SigningKey; 4]> = LazyLock::new(|| {
            let secret = unique("an HS256 secret that is long enough, ");
            [
                SigningKey::hs256(secret),
                SigningKey::rs256(),
                SigningKey::es256(),
                SigningKey::ed25519(),
            ]
        });
        &KEYS
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    /// The private key of an algorithm with a public one.
    pub(crate) fn pair(&self) -> &PKey<Private> {
        match self {
            Self::Hs256(_) => panic!("an HS256 key has no public half"),
            Self::Rs256(key) | Self::Es256(key) | Self::EdDsa(key) => key,
        }
    }

    /// What verifies its signatures, as an entry of a JWK set.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Hs256(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
            Self::Rs256(key) => {
                let key = key.rsa().expect("reading an RSA key");
                let (n, e) = (key.n().to_vec(), key.e().to_vec());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Self::Es256(key) => {
                let key = key.ec_key().expect("reading a P-256 key");
                let mut context = BigNumContext::new().expect("making a context");
                let (form, point) = (
                    openssl::ec::PointConversionForm::UNCOMPRESSED,
                    key.public_key(),
                );
                let point = point.to_bytes(key.group(), form, &mut context);
                let point = point.expect("encoding a point");
                let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Self::EdDsa(key) => {
                let x = key.raw_public_key().expect("reading an Ed25519 key");
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(x) })
            }
        };
        jwk["kid"] = json!(id);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The signature as JWS wants it.
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let signature = match self {
            Self::Hs256(secret) => return hmac(secret, message),
            Self::EdDsa(key) => Signer::new_without_digest(key)
                .and_then(|mut signer| signer.sign_oneshot_to_vec(message)),
            Self::Rs256(key) | Self::Es256(key) => Signer::new(MessageDigest::sha256(), key)
                .and_then(|mut signer| signer.sign_oneshot_to_vec(message)),
        };
        let signature = signature.expect("signing");
        match self {
            Self::Es256(_) => {
                let pair = EcdsaSig::from_der(&signature).expect("reading a signature");
                let padded = |number: &openssl::bn::BigNumRef| number.to_vec_padded(32);
                let (r, s) = (padded(pair.r()), padded(pair.s()));
                [r.expect("padding r"), s.expect("padding s")].concat()
            }
            _ => signature,
        }
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm() });
        if let Some(id) = id {
            header["kid"] = json!(id);
        }
        self.token_with(&header.to_string(), &claims.to_string())
    }

    /// A token of these very words, well signed.
    pub(crate) fn token_with(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    // A short key is filled up with zeros anyway, and OpenSSL takes no empty one.
    let secret = if secret.is_empty() { &[0] } else { secret };
    let signature = PKey::hmac(secret).and_then(|key| {
        Signer::new(MessageDigest::sha256(), &key)
            .and_then(|mut signer| signer.sign_oneshot_to_vec(message))
    });
    signature.expect("signing")
}
