//! Which roots a server's certificate may be signed by.
//!
//! The certificate is always checked against them and against the host's name (libpq's `verify-full`); there is no
//! setting that checks less.

use std::path::Path;

use native_tls::{Certificate, TlsConnector};
use tokio_postgres::config::Host;

/// Amazon's roots; see the head of the file for source and date.
const AMAZON_RDS_ROOTS: &str = include_str!("../../certs/amazon-rds.pem");

/// Builds the connector for a server: the system's roots, Amazon's where the host is one of theirs, and the file's.
///
/// # Errors
///
/// A sentence that names the file that cannot be used.
pub(super) fn connector(hosts: &[Host], ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut builder = TlsConnector::builder();
    for host in hosts {
        if let Host::Tcp(name) = host {
            add_roots(&mut builder, &amazon_roots(name))
                .map_err(|error| format!("the built-in roots: {error}"))?;
        }
    }
    if let Some(path) = ca_file {
        let name = path.display();
        let pem = std::fs::read_to_string(path)
            .map_err(|error| format!("DATABASE_CA_FILE {name}: {error}"))?;
        if add_roots(&mut builder, &pem)
            .map_err(|error| format!("DATABASE_CA_FILE {name}: {error}"))?
            == 0
        {
            return Err(format!(
                "DATABASE_CA_FILE {name}: it holds no certificate in PEM"
            ));
        }
    }
    builder
        .build()
        .map_err(|error| format!("setting up TLS: {error}"))
}

fn add_roots(
    builder: &mut native_tls::TlsConnectorBuilder,
    pem: &str,
) -> Result<usize, native_tls::Error> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let mut count = 0;
    for rest in pem.split(BEGIN).skip(1) {
        builder.add_root_certificate(Certificate::from_pem(format!("{BEGIN}{rest}").as_bytes())?);
        count += 1;
    }
    Ok(count)
}

/// The roots a host of Amazon's may use. Reading all regions' takes OpenSSL some 25 ms, so only the host's are carried.
fn amazon_roots(host: &str) -> String {
    let is_amazon = host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn");
    if !is_amazon {
        return String::new();
    }
    AMAZON_RDS_ROOTS
        .split("# region ")
        .skip(1)
        .filter(|section| {
            let region = section.lines().next().unwrap_or_default().trim();
            region == "*" || host.split('.').any(|label| label == region)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_amazons_carries_the_roots_of_its_region_only() {
        let roots = amazon_roots("weddings.abc123.eu-west-1.rds.amazonaws.com");
        assert!(
            roots.contains("eu-west-1 Root CA RSA2048 G1") && roots.contains("Amazon Root CA 1")
        );
        assert!(!roots.contains("us-east-1"));
        assert!(amazon_roots("db.example.com").is_empty());
        assert!(amazon_roots("rds.amazonaws.com.attacker.example").is_empty());
    }

    #[test]
    fn every_built_in_root_can_be_read() {
        let mut builder = TlsConnector::builder();
        assert!(
            add_roots(&mut builder, AMAZON_RDS_ROOTS).expect("reading the built-in roots") > 80
        );
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let error =
            connector(&[], Some(Path::new("Cargo.toml"))).expect_err("a file that is no PEM");
        assert!(
            error.contains("Cargo.toml") && error.contains("no certificate"),
            "{error}"
        );
    }
}
