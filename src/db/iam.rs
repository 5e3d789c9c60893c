//! Tokens of RDS's IAM authentication: a password for a quarter of an hour, signed here and known to nobody before
//! (Amazon RDS User Guide, "IAM database authentication").

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use tokio_postgres::{Config, config::Host};

use crate::secrets::Secret;

/// What RDS allows at most. A token is for signing in only: what is connected stays.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The endpoint and the user that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The name of the instance, cluster or proxy, as Amazon gave it: another name for it makes another token.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database user.
    pub user: String,
}

impl Recipient {
    /// Whom a connection signs in to; a secret names one host.
    pub(super) fn of(config: &Config) -> Self {
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            _ => String::new(),
        };
        Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or_default().to_owned(),
        }
    }

    /// The region in the endpoint's name: a database may be in another than the function.
    fn region(&self) -> Option<&str> {
        let (name, _) = self.host.split_once(".rds.amazonaws.com")?;
        name.rsplit_once('.').map(|(_, region)| region)
    }

    /// A token that is good from `at` on, for as long as RDS allows.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn token(
        &self,
        credentials: Credentials,
        own_region: Option<&str>,
        at: SystemTime,
    ) -> Result<Secret, &'static str> {
        const UNSIGNED: &str = "the token could not be signed";
        let region = self.region().or(own_region);
        let region = region.ok_or("no region: its host is no endpoint of RDS")?;
        let mut settings = SigningSettings::default();
        settings.expires_in = Some(LIFETIME);
        settings.signature_location = SignatureLocation::QueryParams;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("rds-db")
            .time(at)
            .settings(settings)
            .build()
            .map_err(|_| UNSIGNED)?;
        let Self { host, port, user } = self;
        let user = encoded(user);
        let mut url = format!("https://{host}:{port}/?Action=connect&DBUser={user}");
        let request = SignableRequest::new("GET", &*url, std::iter::empty(), SignableBody::empty());
        let request = request.map_err(|_| UNSIGNED)?;
        let signed = sign(request, &params.into()).map_err(|_| UNSIGNED)?;
        for (name, value) in signed.output().params() {
            url.push_str(&format!("&{name}={}", encoded(value)));
        }
        // The token is the address without its scheme.
        Ok(Secret::new(url.split_off("https://".len())))
    }
}

/// Percent-encoded as a signature wants it (RFC 3986, section 2.3), which a form is not quite.
fn encoded(text: &str) -> String {
    let form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    form.replace('+', "%20")
        .replace('*', "%2A")
        .replace("%7E", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_databases_own() {
        for (host, region) in [
            ("db.abc123.eu-west-1.rds.amazonaws.com", Some("eu-west-1")),
            (
                "p.proxy-abc.cn-north-1.rds.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("db.example.com", None),
        ] {
            let recipient = Recipient {
                host: host.to_owned(),
                port: 5432,
                user: "u".to_owned(),
            };
            assert_eq!(recipient.region(), region, "{host}");
        }
    }
}
