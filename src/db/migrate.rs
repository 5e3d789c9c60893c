//! Applying and undoing the migrations, for those who do not use psql.
//!
//! The same files, byte for byte, that `psql --single-transaction -f` or `supabase db push` run: each enters itself in
//! `monitoring.migrations`, so it does not matter who applied it.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_postgres::{Client, types::Type};

use super::{Database, DbError};

/// A migration with its rollback twin.
#[derive(Debug)]
pub struct Migration {
    /// Fourteen digits; migrations run in this order.
    pub version: &'static str,
    /// The rest of the file's name.
    pub name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            up: include_str!(concat!("../../migrations/", $version, "_", $name, ".sql")),
            down: include_str!(concat!(
                "../../migrations/rollback/",
                $version,
                "_",
                $name,
                ".sql"
            )),
        }
    };
}

/// Every migration, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    migration!("20250825000000", "monitoring_foundation"),
    migration!("20250825000001", "monitoring_history"),
    migration!("20250825000002", "database_monitoring_views"),
    migration!("20250825000003", "monitoring_sampler"),
    migration!("20250825000004", "monitoring_validation"),
    migration!("20250825000005", "monitoring_request_limits"),
    migration!("20250825000006", "monitoring_metrics"),
    migration!("20250825000007", "monitoring_trends"),
    migration!("20250825000008", "monitoring_windows"),
    migration!("20250825000009", "monitoring_checks"),
    migration!("20250825000010", "monitoring_bursts"),
];

/// What a run of `migrate` or `rollback` did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These versions were applied or undone, in this order.
    Done(Vec<&'static str>),
    /// Another run is under way.
    Skipped,
}

/// What `rollback` is asked for.
#[derive(Debug)]
pub struct Rollback {
    /// The database's name, typed by the one who asks.
    pub confirm: String,
    /// Lose unresolved critical events.
    pub discard_events: bool,
}

/// No login for migrations is configured.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Neither `MIGRATION_SECRET_ID` nor, for a target, its entry in `DATABASE_TARGETS` is set.
    #[error(
        "MIGRATION_SECRET_ID is not set (for a target: <name>.migration in DATABASE_TARGETS): name the secret of a role that may create roles and owns the database"
    )]
    NoLogin,
    /// The confirmation does not name the database.
    #[error(
        "\"confirm\" does not name the database: it must be the name of the database to roll back"
    )]
    NotConfirmed,
    /// A migration that is applied differs from the one in this binary.
    #[error(
        "migration {0} was changed after it was applied: deploy the binary it came with, or add a new migration"
    )]
    Changed(&'static str),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Database {
    /// Applies every migration that is not applied yet, each in a transaction of its own.
    ///
    /// # Errors
    ///
    /// See [`MigrateError`]. The failing migration leaves nothing behind; earlier ones stay.
    pub async fn migrate(&self, statement_timeout: Duration) -> Result<Outcome, MigrateError> {
        self.as_migrator(async |client| Ok(migrate(client, statement_timeout).await))
            .await
            .ok_or(MigrateError::NoLogin)??
    }

    /// Undoes every migration, newest first, in one transaction.
    ///
    /// # Errors
    ///
    /// See [`MigrateError`]. After an error everything is as it was.
    pub async fn rollback(
        &self,
        request: &Rollback,
        statement_timeout: Duration,
    ) -> Result<Outcome, MigrateError> {
        self.as_migrator(async |client| Ok(rollback(client, request, statement_timeout).await))
            .await
            .ok_or(MigrateError::NoLogin)??
    }
}

async fn migrate(
    client: &mut Client,
    statement_timeout: Duration,
) -> Result<Outcome, MigrateError> {
    let mut applied = Vec::new();
    for (position, migration) in MIGRATIONS.iter().enumerate() {
        let sha256 = hex_sha256(migration.up);
        begin(client, statement_timeout).await?;
        // Whoever is not first leaves at once; between two migrations of this run another may have had its turn.
        if position > 0 {
            command(client, "migration lock", WAIT_FOR_LOCK).await?;
        } else if !try_lock(client).await? {
            command(client, "rollback", "rollback").await?;
            return Ok(Outcome::Skipped);
        }
        match known_hash(client, migration.version).await? {
            Known::Applied(Some(hash)) if hash != sha256 => {
                return Err(MigrateError::Changed(migration.version));
            }
            Known::Applied(_) => {}
            Known::Missing => {
                let say_hash = format!("set local pgvigil.sha256 = '{sha256}'");
                command(client, "migration hash", &say_hash).await?;
                command(client, migration.name, migration.up).await?;
                applied.push(migration.version);
            }
        }
        command(client, "commit", "commit").await?;
    }
    Ok(Outcome::Done(applied))
}

async fn rollback(
    client: &mut Client,
    request: &Rollback,
    statement_timeout: Duration,
) -> Result<Outcome, MigrateError> {
    let name = scalar(
        client,
        "database name",
        "select current_database()::text",
        &[],
    )
    .await?;
    if name.as_deref() != Some(request.confirm.as_str()) {
        return Err(MigrateError::NotConfirmed);
    }
    begin(client, statement_timeout).await?;
    if !try_lock(client).await? {
        command(client, "rollback", "rollback").await?;
        return Ok(Outcome::Skipped);
    }
    if request.discard_events {
        command(
            client,
            "discard events",
            "set local pgvigil.discard_events = 'yes'",
        )
        .await?;
    }
    let mut undone = Vec::new();
    for migration in MIGRATIONS.iter().rev() {
        if matches!(
            known_hash(client, migration.version).await?,
            Known::Applied(_)
        ) {
            command(client, migration.name, migration.down).await?;
            undone.push(migration.version);
        }
    }
    command(client, "commit", "commit").await?;
    Ok(Outcome::Done(undone))
}

/// Statements of a migration may take a while; its locks may not be waited for long; and if the function is stopped in the middle, the transaction must not stay open.
async fn begin(client: &Client, statement_timeout: Duration) -> Result<(), DbError> {
    let limit_ms = statement_timeout.as_millis();
    let sql = format!(
        "begin; set local statement_timeout = {limit_ms}; set local lock_timeout = '5s'; \
         set local idle_in_transaction_session_timeout = '10s'"
    );
    command(client, "begin migration", &sql).await
}

/// One run at a time; the lock ends with the transaction, so no pooler can lose it.
const WAIT_FOR_LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('pgvigil.migrate', 0))";

async fn try_lock(client: &Client) -> Result<bool, DbError> {
    let sql = "select pg_try_advisory_xact_lock(hashtextextended('pgvigil.migrate', 0))::text";
    Ok(scalar(client, "migration lock", sql, &[]).await?.as_deref() == Some("true"))
}

enum Known {
    Missing,
    Applied(Option<String>),
}

async fn known_hash(client: &Client, version: &str) -> Result<Known, DbError> {
    let table = scalar(
        client,
        "migrations table",
        "select to_regclass('monitoring.migrations')::text",
        &[],
    )
    .await?;
    if table.is_none() {
        return Ok(Known::Missing);
    }
    let sql = "select coalesce(sha256, '') from monitoring.migrations where version = $1";
    Ok(
        match scalar(client, "migration state", sql, &[version]).await? {
            None => Known::Missing,
            Some(hash) => Known::Applied(Some(hash).filter(|hash| !hash.is_empty())),
        },
    )
}

async fn command(client: &Client, name: &'static str, sql: &str) -> Result<(), DbError> {
    client
        .batch_execute(sql)
        .await
        .map_err(|error| DbError::from_driver(name, &error))
}

async fn scalar(
    client: &Client,
    name: &'static str,
    sql: &str,
    params: &[&str],
) -> Result<Option<String>, DbError> {
    let typed: Vec<_> = params
        .iter()
        .map(|value| {
            (
                value as &(dyn tokio_postgres::types::ToSql + Sync),
                Type::TEXT,
            )
        })
        .collect();
    let row = client
        .query_typed_opt(sql, &typed)
        .await
        .map_err(|error| DbError::from_driver(name, &error))?;
    row.map_or(Ok(None), |row| row.try_get(0))
        .map_err(|error| DbError::from_driver(name, &error))
}

fn hex_sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is not embedded would be applied by psql and missed by the task.
    #[test]
    fn every_file_is_embedded_in_order() {
        let list = |folder: &str| {
            let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .expect("listing migrations")
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.ends_with(".sql"))
                .collect();
            names.sort();
            names
        };
        let embedded: Vec<String> = MIGRATIONS
            .iter()
            .map(|m| format!("{}_{}.sql", m.version, m.name))
            .collect();
        assert_eq!(list("migrations"), embedded);
        assert_eq!(list("migrations/rollback"), embedded);
    }
}
