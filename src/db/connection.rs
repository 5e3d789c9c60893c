//! Opening a connection: credentials, TLS, time limits.

use std::{
    future::poll_fn,
    mem::take,
    net::SocketAddr,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;
use tokio::{
    sync::{Mutex, OnceCell},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket,
    config::{Host, SslMode},
};

use super::{APPLICATION_NAME, DbError, DbErrorKind, cancel, iam::Recipient, login::Login, tls};
use crate::{
    config::{DatabaseConfig, LoginSource, Tls},
    secrets::{Secret, SecretError, SecretStore},
};

/// Time given to open a connection, so that a dead address does not use up the caller's patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What can be wrong where a token is refused.
const TOKEN_REFUSED: &str = "the server refused the token: switch IAM authentication on, grant rds_iam to the login, and \
     allow the function's role rds-db:connect as that login";

/// Opens connections for one login.
pub(super) struct Connector {
    login: LoginSource,
    tls: Tls,
    ca_file: Option<std::path::PathBuf>,
    secrets: Option<Arc<SecretStore>>,
    // Fetched again when the server refuses it. Locked while it is fetched, so that nobody fetches it a second time.
    known: Mutex<Known>,
    connector: OnceCell<TlsConnector>,
    // Requests to stop that are on their way.
    cancelling: SyncMutex<Vec<JoinHandle<()>>>,
}

/// The login as last fetched.
#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    Login(Box<Login>),
    /// It could not be fetched: for those who were waiting for it meanwhile.
    Failed(SecretError, Instant),
}

/// Whoever has waited for what failed is told within this; whoever comes later tries again.
const FAILURE_LASTS: Duration = Duration::from_secs(1);

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
            known: Mutex::default(),
            connector: OnceCell::new(),
            cancelling: SyncMutex::default(),
        }
    }

    /// Connects; a login the server refuses is fetched again, since the secret may just have been rotated, and tried again
    /// if it is another one. A host that cannot be reached is forgotten, since the secret may name a new one by now.
    pub(super) async fn connect(&self) -> Result<Client, DbError> {
        let (login, is_fresh) = self.login().await?;
        let mut result = self.open(&login).await;
        if is_refused(&result) && !is_fresh {
            let fetched = self.fetch().await;
            let fetched = fetched.map_err(|error| DbError::from_secret(&error))?;
            *self.known.lock().await = Known::Login(Box::new(fetched.clone()));
            if fetched != login {
                tracing::warn!(
                    "the database refused the login: trying the one its secret holds now"
                );
                result = self.open(&fetched).await;
            }
        }
        if result.is_err() {
            *self.known.lock().await = Known::Nothing;
        }
        result
    }

    /// Fetches the login, where it is not known, for the one who will connect. It fails there and not here.
    pub(super) async fn prepare(&self) {
        let mut known = self.known.lock().await;
        if matches!(*known, Known::Nothing) {
            *known = match self.fetch().await {
                Ok(login) => Known::Login(Box::new(login)),
                Err(error) => Known::Failed(error, Instant::now()),
            };
        }
    }

    /// The login, and whether it was fetched for this.
    async fn login(&self) -> Result<(Login, bool), DbError> {
        let mut known = self.known.lock().await;
        match &*known {
            Known::Login(login) => return Ok(((**login).clone(), false)),
            Known::Failed(error, at) if at.elapsed() < FAILURE_LASTS => {
                return Err(DbError::from_secret(error));
            }
            _ => {}
        }
        let fetched = self.fetch().await;
        let login = fetched.map_err(|error| DbError::from_secret(&error))?;
        *known = Known::Login(Box::new(login.clone()));
        Ok((login, true))
    }

    /// Asks the server to stop what a connection that is left behind is doing, and closes it; [`Self::settle`] waits for it.
    pub(super) fn cancel(&self, client: Client) {
        let connector = self.connector.get().cloned();
        let config = self.known.try_lock().ok().and_then(|known| match &*known {
            Known::Login(login) => Some(login.config.clone()),
            _ => None,
        });
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

    async fn fetch(&self) -> Result<Login, SecretError> {
        match (&self.login, &self.secrets) {
            (LoginSource::Url(config), _) => Ok(Login::from_url(config)),
            (LoginSource::Secret(id), Some(secrets)) => {
                Login::from_secret(id, &secrets.fetch(id).await?, self.tls)
            }
            (LoginSource::Secret(id), None) => Err(SecretError::Unavailable {
                id: id.clone(),
                reason: "no access to Secrets Manager was set up".to_owned(),
            }),
        }
    }

    /// A token for one connection. It is signed here, from what the function's own role has in its environment.
    async fn token(&self, config: &Config) -> Result<Secret, DbError> {
        let signed = async {
            let secrets = self.secrets.as_ref().ok_or("no credentials were set up")?;
            let credentials = secrets.credentials().await?;
            Recipient::of(config).token(credentials, secrets.region(), SystemTime::now())
        };
        signed.await.map_err(|reason| {
            DbError::new("credentials", DbErrorKind::Secret)
                .with_message(format!("signing in by IAM: {reason}"))
        })
    }

    async fn open(&self, login: &Login) -> Result<Client, DbError> {
        let mut config = login.config.clone();
        if login.uses_iam {
            config.password(self.token(&config).await?.expose());
        }
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
        let opened = opened.await.unwrap_or_else(|_| {
            Err(DbError::new("connect", DbErrorKind::Connect)
                .with_message("the server did not answer in time"))
        });
        match opened {
            Err(error) if login.uses_iam && error.kind() == DbErrorKind::Authentication => {
                Err(error.with_message(TOKEN_REFUSED))
            }
            opened => opened,
        }
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
