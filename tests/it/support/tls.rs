//! Certificates, good ones and wrong ones.

use std::path::PathBuf;

use openssl::asn1::{Asn1Integer, Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

use super::scratch;

/// How long a certificate is good.
const DAYS: u32 = 7;

/// Long past.
const A_DAY_IN_2025: i64 = 1_756_123_200;

/// A certificate authority that nobody trusts until they are told to.
#[derive(Debug)]
pub(crate) struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// What a server identifies itself with.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::try_new(name).expect("making a certificate authority")
    }

    /// The authority's own certificate, as the file that a client is told to trust.
    pub(crate) fn file(&self) -> PathBuf {
        let pem = self.certificate.to_pem().expect("encoding a certificate");
        scratch::file("ca.pem", pem)
    }

    /// A certificate for `localhost` and 127.0.0.1.
    pub(crate) fn issue_local(&self) -> Certificate {
        let mut names = SubjectAlternativeName::new();
        self.issue(names.dns("localhost").ip("127.0.0.1"))
    }

    /// A certificate for a host that no test server is.
    pub(crate) fn issue_foreign(&self) -> Certificate {
        let mut names = SubjectAlternativeName::new();
        self.issue(names.dns("elsewhere.example"))
    }

    /// A certificate for this machine that was good until yesterday.
    pub(crate) fn issue_expired(&self) -> Certificate {
        let mut names = SubjectAlternativeName::new();
        let names = names.dns("localhost").ip("127.0.0.1");
        self.try_issue(
            names,
            &Asn1Time::from_unix(A_DAY_IN_2025).expect("naming a day"),
        )
        .expect("issuing a certificate")
    }

    fn issue(&self, names: &SubjectAlternativeName) -> Certificate {
        let until = Asn1Time::days_from_now(DAYS).expect("naming a day");
        self.try_issue(names, &until)
            .expect("issuing a certificate")
    }

    fn try_new(name: &str) -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let name = common_name(name)?;
        let mut builder = begin(&name, &name, &key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    fn try_issue(
        &self,
        names: &SubjectAlternativeName,
        until: &Asn1TimeRef,
    ) -> Result<Certificate, ErrorStack> {
        let key = new_key()?;
        let issuer = self.certificate.subject_name().to_owned()?;
        let mut builder = begin(&common_name("server")?, &issuer, &key)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let names = names.build(&context)?;
        builder.append_extension(names)?;
        builder.set_not_before(&*Asn1Time::from_unix(A_DAY_IN_2025 - 86_400)?)?;
        builder.set_not_after(until)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Certificate {
            certificate_pem: builder.build().to_pem()?,
            key_pem: key.private_key_to_pem_pkcs8()?,
        })
    }
}

/// An elliptic-curve key, because an RSA key can take a second to find.
fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

/// What every certificate has; extensions and the signature are up to the caller.
fn begin(
    subject: &X509Name,
    issuer: &X509Name,
    key: &PKey<Private>,
) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}
