//! The databases: one connection each an instance, transactions as the caller or as the agent, errors from SQLSTATE.

mod cancel;
mod connection;
mod error;
pub mod iam;
mod login;
pub mod migrate;
mod pipeline;
mod session;
mod targets;
mod tls;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::Mutex;
use tokio_postgres::Client;

pub use error::{DbError, DbErrorKind};
pub use session::{Query, Session};
pub use targets::{Target, Targets};

use crate::{
    config::{DatabaseConfig, LoginSource},
    secrets::SecretStore,
};
use connection::Connector;

/// A monitored database, as this instance reaches it.
///
/// Holds at most one connection, opened when it is first needed and kept between invocations.
#[derive(Debug)]
pub struct Database {
    connector: Connector,
    migrator: Option<Connector>,
    // Empty while the connection is in use: whoever is interrupted half-way drops it, and the next opens a new one.
    idle: Mutex<Option<Client>>,
    has_told_of_difference: AtomicBool,
}

/// What a read brought back.
#[derive(Debug)]
pub struct Answer {
    /// The server's time at the start of the transaction, RFC 3339 in UTC, as JSON text.
    pub timestamp_json: String,
    /// One result per query, in order: the JSON text it returned.
    pub results: Vec<Result<String, DbError>>,
}

impl Answer {
    /// The result of a read that asked one query.
    ///
    /// # Errors
    ///
    /// The query's own error.
    pub fn only_result(self, name: &'static str) -> Result<String, DbError> {
        let only = self.results.into_iter().next();
        only.unwrap_or_else(|| Err(DbError::unreadable(name)))
    }
}

impl Database {
    /// Prepares access to the database; connects to nothing yet.
    pub fn new(config: &DatabaseConfig, secrets: Option<Arc<SecretStore>>) -> Self {
        let connector =
            |login: &LoginSource| Connector::new(config, login.clone(), secrets.clone());
        Self {
            connector: connector(&config.login),
            migrator: config.migration_login.as_ref().map(connector),
            idle: Mutex::new(None),
            has_told_of_difference: AtomicBool::new(false),
        }
    }

    /// Fetches the login where it is not known, so that whoever connects later need not wait for it.
    pub async fn prepare(&self) {
        self.connector.prepare().await;
    }

    /// Runs read-only queries in one transaction and one round trip; one that fails leaves the others alone.
    ///
    /// A connection that turns out to be gone is replaced once: nothing was changed, so nothing is done twice.
    ///
    /// # Errors
    ///
    /// When the session could not be opened at all; errors of single queries are in the answer.
    pub async fn read(&self, session: &Session, queries: &[Query]) -> Result<Answer, DbError> {
        let answer = self
            .with_client(async |client| session.read(client, queries).await)
            .await;
        match answer {
            Err(error) if error.kind() == DbErrorKind::Closed => {
                self.with_client(async |client| session.read(client, queries).await)
                    .await
            }
            answer => answer,
        }
    }

    /// Runs one query that writes, in a transaction of its own.
    ///
    /// A connection that turns out to be gone before the transaction has begun is replaced once; later it is not, since
    /// nobody can tell whether the commit arrived. So is one that leads to a server which has become a standby.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being done; nothing is left half-done.
    pub async fn write(&self, session: &Session, query: &Query) -> Result<String, DbError> {
        let result = self
            .with_client(async |client| session.write(client, query).await)
            .await;
        match result {
            Err(error) if error.is_before_any_work() => {
                self.with_client(async |client| session.write(client, query).await)
                    .await
            }
            result => result,
        }
    }

    /// Runs one read-only query as the migrating login, on a connection of its own; `None` where no such login is configured.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being answered.
    pub async fn read_as_migrator(
        &self,
        query: &Query,
        statement_timeout: Duration,
    ) -> Option<Result<String, DbError>> {
        let session = Session::login(statement_timeout);
        self.as_migrator(async |client| {
            let answer = session.read(client, std::slice::from_ref(query)).await?;
            answer.only_result(query.name)
        })
        .await
    }

    /// Runs `work` on a connection of the migrating role, closed afterwards; `None` where no such login is configured.
    pub(crate) async fn as_migrator<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, DbError>,
    ) -> Option<Result<T, DbError>> {
        let migrator = self.migrator.as_ref()?;
        let mut in_use = match migrator.connect().await {
            Ok(client) => InUse {
                client: Some(client),
                connector: migrator,
            },
            Err(error) => return Some(Err(error)),
        };
        let client = in_use.client.as_mut()?;
        let result = work(client).await;
        // The server answers an error before it has let go of the locks: whoever came next would find them held.
        // Where nothing is open, this does nothing; a connection that is gone holds no locks.
        let _ = client.batch_execute("rollback").await;
        in_use.client = None;
        Some(result)
    }

    /// Waits, though not for long, until the server has been asked to stop what was given up: when the invocation has ended,
    /// Lambda freezes the instance, and a request that has not gone out by then stays with it.
    pub async fn settle(&self) {
        let settled = async {
            self.connector.settle().await;
            if let Some(migrator) = &self.migrator {
                migrator.settle().await;
            }
        };
        let _ = tokio::time::timeout(CANCEL_PATIENCE, settled).await;
    }

    async fn with_client<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let idle = self
            .idle
            .lock()
            .await
            .take()
            .filter(|client| !client.is_closed());
        let client = match idle {
            Some(client) => client,
            None => self.connector.connect().await?,
        };
        let mut in_use = InUse {
            client: Some(client),
            connector: &self.connector,
        };
        let result = match &in_use.client {
            Some(client) => work(client).await,
            None => return Err(DbError::new("connect", DbErrorKind::Closed)),
        };
        let client = in_use.client.take();
        // Any other error has ended its transaction; after these the connection is not to be used again.
        if result
            .as_ref()
            .err()
            .is_none_or(DbError::leaves_connection_usable)
        {
            *self.idle.lock().await = client;
        }
        result
    }
}

/// A connection at work. Whoever drops it half-way (a time-out, a caller who has gone) leaves statements on the server
/// behind, which are asked to stop.
struct InUse<'a> {
    client: Option<Client>,
    connector: &'a Connector,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.connector.cancel(client);
        }
    }
}

/// What is left of an invocation's time for asking the server to stop. A round trip or two, with TLS; a server that does not
/// even take the request is not waited for.
const CANCEL_PATIENCE: Duration = Duration::from_millis(250);

/// The name a session shows in `pg_stat_activity`.
pub(crate) const APPLICATION_NAME: &str = "pgvigil";

/// Waiting longer than this for a lock would make the monitor part of the queue it reports.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
