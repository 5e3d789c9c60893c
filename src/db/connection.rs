//! Opening a connection: credentials, TLS, time limits.

use std::{
    future::poll_fn,
    mem::take,
    net::SocketAddr,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;
use serde::Deserialize;
use tokio::{
    sync::{Mutex, OnceCell},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket,
    config::{Host, SslMode},
};

use super::{APPLICATION_NAME, DbError, DbErrorKind, cancel, tls};
use crate::{
    config::{DatabaseConfig, LoginSource, Tls, is_loopback},
    secrets::{Secret, SecretError, SecretStore},
};

/// Time given to open a connection, so that a dead address does not use up the caller's patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens connections for one login.
pub(super) struct Connector {
    login: LoginSource,
    tls: Tls,
    ca_file: Option<std::path::PathBuf>,
    secrets: Option<Arc<SecretStore>>,
    // The login as last fetched; fetched again when the server refuses it.
    known: Mutex<Option<Config>>,
    connector: OnceCell<TlsConnector>,
    // Requests to stop that are on their way.
    cancelling: SyncMutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("login", &self.login)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(
        config: &DatabaseConfig,
        login: LoginSource,
        secrets: Option<Arc<SecretStore>>,
    ) -> Self {
        Self {
            login,
            tls: config.tls,
            ca_file: config.ca_file.clone(),
            secrets,
            known: Mutex::new(None),
            connector: OnceCell::new(),
            cancelling: SyncMutex::default(),
        }
    }

    /// Connects; a login the server refuses is fetched again, since the secret may just have been rotated, and tried again
    /// if it is another one. A host that cannot be reached is forgotten, since the secret may name a new one by now.
    pub(super) async fn connect(&self) -> Result<Client, DbError> {
        let known = self.known.lock().await.clone();
        let (config, is_fresh) = match known {
            Some(config) => (config, false),
            None => (self.fetch().await?, true),
        };
        let mut result = self.open(&config).await;
        if is_refused(&result) && !is_fresh {
            let fetched = self.fetch().await?;
            if fetched != config {
                tracing::warn!(
                    "the database refused the login: trying the one its secret holds now"
                );
                result = self.open(&fetched).await;
            }
        }
        if result.is_err() {
            *self.known.lock().await = None;
        }
        result
    }

    /// Asks the server to stop what a connection that is left behind is doing, and closes it; [`Self::settle`] waits for it.
    pub(super) fn cancel(&self, client: Client) {
        let connector = self.connector.get().cloned();
        let config = self.known.try_lock().ok().and_then(|known| known.clone());
        let cancelling = tokio::spawn(async move {
            let cancelled = tokio::time::timeout(CONNECT_TIMEOUT, async {
                let (host, address) = address_of(config.as_ref()).await.ok_or("no address")?;
                let tls = connector.map(|connector| (connector, host));
                cancel::cancel(client.cancel_token(), address, tls).await
            });
            if !matches!(cancelled.await, Ok(Ok(()))) {
                tracing::warn!("a statement that was given up could not be cancelled");
            }
            // Not before: a pooler forgets whose statement it was when the connection is closed.
            drop(client);
        });
        self.cancelling().push(cancelling);
    }

    /// Waits until every request to stop has gone out or failed. Given up, they go on by themselves.
    pub(super) async fn settle(&self) {
        let cancelling = take(&mut *self.cancelling());
        for cancelled in cancelling {
            // It panics nowhere, and nobody aborts it.
            let _ = cancelled.await;
        }
    }

    fn cancelling(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        // A list is whole after any panic.
        self.cancelling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Config, DbError> {
        let config = match (&self.login, &self.secrets) {
            (LoginSource::Url(config), _) => (**config).clone(),
            (LoginSource::Secret(id), Some(secrets)) => {
                let secret = secrets
                    .fetch(id)
                    .await
                    .map_err(|error| DbError::from_secret(&error))?;
                config_from_secret(id, &secret, self.tls)
                    .map_err(|error| DbError::from_secret(&error))?
            }
            (LoginSource::Secret(id), None) => {
                let reason = "no access to Secrets Manager was set up".to_owned();
                return Err(DbError::from_secret(&SecretError::Unavailable {
                    id: id.clone(),
                    reason,
                }));
            }
        };
        *self.known.lock().await = Some(config.clone());
        Ok(config)
    }

    async fn open(&self, config: &Config) -> Result<Client, DbError> {
        let mut config = config.clone();
        config
            .application_name(APPLICATION_NAME)
            .connect_timeout(CONNECT_TIMEOUT)
            // A host that died while the instance was frozen is noticed within seconds, not minutes.
            .tcp_user_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .ssl_mode(match self.tls {
                Tls::VerifyFull => SslMode::Require,
                Tls::Disable => SslMode::Disable,
            });
        // The driver's limit is for one address and for the TCP handshake only.
        let opened = tokio::time::timeout(CONNECT_TIMEOUT * 2, async {
            match self.tls {
                Tls::Disable => spawn(config.connect(NoTls).await),
                Tls::VerifyFull => spawn(
                    config
                        .connect(MakeTlsConnector::new(self.tls_connector(&config).await?))
                        .await,
                ),
            }
        });
        opened.await.unwrap_or_else(|_| {
            Err(DbError::new("connect", DbErrorKind::Connect)
                .with_message("the server did not answer in time"))
        })
    }

    async fn tls_connector(&self, config: &Config) -> Result<TlsConnector, DbError> {
        let connector = self.connector.get_or_try_init(async || {
            tls::connector(config.get_hosts(), self.ca_file.as_deref()).map_err(|reason| {
                DbError::new("connect", DbErrorKind::Connect).with_message(reason)
            })
        });
        connector.await.cloned()
    }
}

/// Where the server is: the first host there is, which is the only one that a secret names.
async fn address_of(config: Option<&Config>) -> Option<(String, SocketAddr)> {
    let config = config?;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        _ => String::new(),
    };
    if let Some(address) = config.get_hostaddrs().first() {
        return Some((host, SocketAddr::new(*address, port)));
    }
    let address = {
        let mut addresses = tokio::net::lookup_host((host.as_str(), port)).await.ok()?;
        addresses.next()?
    };
    Some((host, address))
}

/// Whether another password might help. PgBouncer has one SQLSTATE for whatever it refuses, a wrong password too.
fn is_refused(result: &Result<Client, DbError>) -> bool {
    matches!(result, Err(error) if error.kind() == DbErrorKind::Authentication || error.sqlstate() == Some("08P01"))
}

/// The driver's connection is a future of its own that moves the bytes; it ends when the client is dropped.
fn spawn<T>(
    opened: Result<(Client, Connection<Socket, T>), tokio_postgres::Error>,
) -> Result<Client, DbError>
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    let (client, mut connection) = opened.map_err(|error| DbError::from_connect(&error))?;
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => log_warning(&notice),
                Ok(_) => {}
                // Whoever waits for an answer is told; the text could hold the server's message.
                Err(_) => break,
            }
        }
    });
    Ok(client)
}

/// Warnings that our migrations raise, in words that are ours; others may repeat values.
fn log_warning(notice: &tokio_postgres::error::DbError) {
    if notice.severity() == "WARNING" && notice.routine() == Some("exec_stmt_raise") {
        tracing::warn!(hint = notice.hint(), "{}", notice.message());
    }
}

/// A secret as RDS writes it.
#[derive(Deserialize)]
struct DatabaseSecret {
    username: String,
    password: String,
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

fn config_from_secret(id: &str, secret: &Secret, tls: Tls) -> Result<Config, SecretError> {
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
        .password(login.password)
        .host(login.host)
        .port(port)
        .dbname(login.dbname.as_deref().unwrap_or("postgres"));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, tls: Tls) -> Result<Config, SecretError> {
        config_from_secret("s", &Secret::new(text), tls)
    }

    #[test]
    fn a_secret_is_read_as_rds_and_people_write_it() {
        for port in ["5433", "\"5433\""] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"db","port":{port},"dbname":"d","engine":"postgres"}}"#
            );
            let config = parse(&text, Tls::VerifyFull).expect("reading a well-formed secret");
            assert_eq!(
                (config.get_user(), config.get_dbname(), config.get_ports()),
                (Some("u"), Some("d"), &[5433][..])
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
            let error = parse(text, Tls::VerifyFull)
                .expect_err("a malformed secret must be refused")
                .to_string();
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
        let error = parse(&secret("db.example.com"), Tls::Disable)
            .expect_err("plain text over a network")
            .to_string();
        assert!(error.contains("DATABASE_TLS"), "{error}");
    }
}
