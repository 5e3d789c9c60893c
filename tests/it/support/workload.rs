//! Situations worth monitoring, made for real: a slow query, a lock queue, an idle transaction.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::database::TestDatabase;
use super::postgres::Server;
use super::wait::wait_until;

/// A session that does something, or nothing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The session's process id on the server.
    pub(crate) pid: i32,
    server: Arc<Server>,
    task: JoinHandle<()>,
}

impl Workload {
    /// A session that is executing this statement.
    pub(crate) async fn running(database: &TestDatabase, client: Client, sql: &str) -> Self {
        Self::begin(database, client, sql, "state = 'active' and query = $2").await
    }

    /// A session whose statement is waiting for a lock.
    pub(crate) async fn blocked(database: &TestDatabase, client: Client, sql: &str) -> Self {
        Self::begin(
            database,
            client,
            sql,
            "wait_event_type = 'Lock' and query = $2",
        )
        .await
    }

    /// A session that has executed this statement in a transaction, and forgotten it open.
    pub(crate) async fn idle_in_transaction(
        database: &TestDatabase,
        client: Client,
        sql: &str,
    ) -> Self {
        let begun = client.batch_execute("begin").await;
        begun.expect("beginning a transaction");
        Self::begin(
            database,
            client,
            sql,
            "state = 'idle in transaction' and query = $2",
        )
        .await
    }

    /// A session that holds a table, and one that waits for it.
    pub(crate) async fn lock_queue(database: &TestDatabase, table: &str) -> [Self; 2] {
        let (holder, waiter) = (database.superuser().await, database.superuser().await);
        let lock = format!("lock table {table} in access exclusive mode");
        let read = format!("select from {table}");
        [
            Self::idle_in_transaction(database, holder, &lock).await,
            Self::blocked(database, waiter, &read).await,
        ]
    }

    /// Sends the statement, and returns when the server shows what the caller wants to see.
    async fn begin(database: &TestDatabase, client: Client, sql: &str, sign: &str) -> Self {
        let pid = client.query_one("select pg_backend_pid()", &[]).await;
        let pid: i32 = pid.expect("asking for the process id").get(0);
        let statement = sql.to_owned();
        let workload = Self {
            pid,
            server: Arc::clone(&database.server),
            task: tokio::spawn(async move {
                // However it ends, the session stays open: the workload's drop is what closes it.
                let _ = client.batch_execute(&statement).await;
                std::future::pending().await
            }),
        };
        let observer = database.superuser().await;
        let question = format!("select from pg_stat_activity where pid = $1 and {sign}");
        wait_until(&format!("{sign}, for: {sql}"), async || {
            let found = observer.query_opt(&question, &[&pid, &sql]).await;
            found.expect("watching a session").is_some()
        })
        .await;
        workload
    }
}

impl Drop for Workload {
    /// Terminates the session, and waits until it is gone: a backend that sleeps does not notice that its client left.
    fn drop(&mut self) {
        let terminate = format!("select pg_terminate_backend({}, 5000)", self.pid);
        // It may be gone already, with its database.
        let _ = self.server.administer("postgres", &terminate);
        self.task.abort();
    }
}
