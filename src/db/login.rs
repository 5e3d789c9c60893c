//! How to sign in: what a secret in RDS's format says.

use serde::Deserialize;
use tokio_postgres::Config;

use crate::{
    config::{Tls, is_loopback},
    secrets::{Secret, SecretError},
};

/// Where the server is, who signs in, and by what.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// With a password, unless each connection gets a token of its own.
    pub(super) config: Config,
    /// Signs in with a token of RDS's IAM authentication.
    pub(super) uses_iam: bool,
}

/// A secret as RDS writes it; without a password it says what is used instead.
#[derive(Deserialize)]
struct DatabaseSecret {
    username: String,
    password: Option<String>,
    auth: Option<String>,
    host: String,
    #[serde(default = "default_port")]
    port: Port,
    dbname: Option<String>,
}

/// RDS writes a number, people often text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

fn default_port() -> Port {
    Port::Number(5432)
}

impl Login {
    /// What a connection URL says.
    pub(super) fn from_url(config: &Config) -> Self {
        Self {
            config: config.clone(),
            uses_iam: false,
        }
    }

    /// What a secret says.
    ///
    /// # Errors
    ///
    /// [`SecretError::Malformed`], with what is wrong and none of the value.
    pub(super) fn from_secret(id: &str, secret: &Secret, tls: Tls) -> Result<Self, SecretError> {
        let malformed = |reason: &str| SecretError::Malformed {
            id: id.to_owned(),
            reason: reason.to_owned(),
        };
        // The parser's message can quote the value.
        let login: DatabaseSecret = serde_json::from_str(secret.expose()).map_err(|_| {
            malformed(
                "it must be JSON with username, password, host, port and dbname, as RDS writes it",
            )
        })?;
        let port = match login.port {
            Port::Number(port) => port,
            Port::Text(text) => text
                .parse()
                .map_err(|_| malformed("its port is no number"))?,
        };
        if tls == Tls::Disable && !is_loopback(&login.host) {
            return Err(malformed(
                "its host is not loopback while DATABASE_TLS is disable: remove DATABASE_TLS",
            ));
        }
        let mut config = Config::new();
        config
            .user(login.username)
            .host(login.host)
            .port(port)
            .dbname(login.dbname.as_deref().unwrap_or("postgres"));
        let uses_iam = match (login.password, login.auth.as_deref()) {
            (Some(password), None) => {
                config.password(password);
                false
            }
            (None, Some("iam")) => true,
            (Some(_), Some(_)) => {
                return Err(malformed("it holds both password and auth: keep one"));
            }
            (None, _) => {
                return Err(malformed(
                    "it must hold a password, or \"auth\": \"iam\" for tokens of RDS's IAM authentication",
                ));
            }
        };
        Ok(Self { config, uses_iam })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, tls: Tls) -> Result<Login, SecretError> {
        Login::from_secret("s", &Secret::new(text), tls)
    }

    #[test]
    fn a_secret_is_read_as_rds_and_people_write_it() {
        for port in ["5433", "\"5433\""] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"db","port":{port},"dbname":"d","engine":"postgres"}}"#
            );
            let login = parse(&text, Tls::VerifyFull).expect("reading a well-formed secret");
            let config = login.config;
            assert_eq!(
                (config.get_user(), config.get_dbname(), config.get_ports()),
                (Some("u"), Some("d"), &[5433][..])
            );
            assert!(!login.uses_iam && config.get_password() == Some(b"p"));
        }
    }

    #[test]
    fn a_token_takes_the_place_of_a_password_only_where_it_is_said() {
        let secret = |rest: &str| format!(r#"{{"username":"u","host":"h"{rest}}}"#);
        let login = parse(&secret(r#","auth":"iam""#), Tls::VerifyFull).expect("reading it");
        assert!(login.uses_iam && login.config.get_password().is_none());
        for rest in [
            "",
            r#","auth":"IAM""#,
            r#","auth":"hunter2""#,
            r#","password":null"#,
            r#","password":"hunter2","auth":"iam""#,
        ] {
            let error = parse(&secret(rest), Tls::VerifyFull).err().expect(rest);
            let error = error.to_string();
            assert!(
                error.contains("password") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_malformed_secret_is_named_and_not_shown() {
        for text in [
            "hunter2",
            r#"{"password":"hunter2"}"#,
            r#"{"username":"u","password":"hunter2","host":"h","port":"hunter2"}"#,
        ] {
            let error = parse(text, Tls::VerifyFull).err();
            let error = error.expect("a malformed secret must be refused");
            let error = error.to_string();
            assert!(
                error.contains("secret s is malformed") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn without_tls_only_loopback_is_reached() {
        let secret = |host: &str| format!(r#"{{"username":"u","password":"p","host":"{host}"}}"#);
        assert!(parse(&secret("127.0.0.1"), Tls::Disable).is_ok());
        let error = parse(&secret("db.example.com"), Tls::Disable).err();
        let error = error.expect("plain text over a network").to_string();
        assert!(error.contains("DATABASE_TLS"), "{error}");
    }
}
