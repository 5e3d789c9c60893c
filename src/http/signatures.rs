//! Signatures of tokens, verified by the cryptography that TLS to AWS's services brings along: another one would be forty
//! crates more.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error, Verifier},
};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
        UnparsedPublicKey,
    },
};

/// What the library asks, which brings none of its own. It reads public keys from JWKs itself, and never signs here.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has tokens verified by this in the whole process; a second call changes nothing. Without it the library panics at the first
/// token.
pub fn install() {
    // An error says that there is a provider already, and no other is ever installed.
    let _ = PROVIDER.install_default();
}

/// One of the four algorithms with a key for it.
enum Verify {
    Hs256(hmac::Key),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
    EdDsa(UnparsedPublicKey<Vec<u8>>),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let bytes = || key.try_get_as_bytes();
    let verify = match (algorithm, key.kind()) {
        (Algorithm::HS256, _) => Verify::Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes()?)),
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Verify::Rs256(RsaPublicKeyComponents {
                n: without_leading_zeros(n),
                e: without_leading_zeros(e),
            })
        }
        (Algorithm::ES256, _) => Verify::Es256(UnparsedPublicKey::new(
            &ECDSA_P256_SHA256_FIXED,
            bytes()?.to_vec(),
        )),
        (Algorithm::EdDSA, _) => Verify::EdDsa(UnparsedPublicKey::new(&ED25519, bytes()?.to_vec())),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(verify))
}

/// RFC 7518, section 2, forbids them; some issuers write one all the same, and the number is the same.
pub(super) fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.iter().skip(zeros).copied().collect()
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

impl Verifier<Vec<u8>> for Verify {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match self {
            Self::Hs256(key) => hmac::verify(key, message, signature),
            Self::Rs256(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Es256(key) | Self::EdDsa(key) => key.verify(message, signature),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Verify {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Rs256(_) => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
            Self::EdDsa(_) => Algorithm::EdDSA,
        }
    }
}
