//! Applying and undoing the migrations, for those who do not use psql.
//!
//! The same files, byte for byte, that `psql --single-transaction -f` or `supabase db push` run: each enters itself in
//! `monitoring.migrations`, so it does not matter who applied it.

use std::{sync::atomic::Ordering, time::Duration};

use sha2::{Digest, Sha256};
use tokio_postgres::{Client, types::Type};

use super::{Database, DbError, Query, Session};

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
    migration!("20250825000011", "monitoring_lighthouse"),
];

/// What a run of `migrate` or `rollback` did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Done {
        /// These versions were applied or undone, in this order.
        versions: Vec<&'static str>,
        /// These are there and not of this binary: a newer one has applied them.
        newer: Vec<String>,
    },
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
    /// What this binary would undo is what the rest stands on.
    #[error(
        "migrations {0} are applied and not of this binary: roll back with the one that applied them"
    )]
    Newer(String),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// How the schema of a database differs from the one this binary was made for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Migrations of this binary that are not applied: what needs them fails.
    pub missing: Vec<&'static str>,
    /// Applied migrations that this binary does not know. They keep what it uses (CONTRIBUTING.md, "Where things go").
    pub newer: Vec<String>,
}

impl Difference {
    fn of(applied: &[String]) -> Self {
        let is_applied = |version: &str| applied.iter().any(|known| known == version);
        let versions = MIGRATIONS.iter().map(|migration| migration.version);
        let newer = |version: &&String| versions.clone().all(|known| known != version.as_str());
        Self {
            missing: versions.clone().filter(|v| !is_applied(v)).collect(),
            newer: applied.iter().filter(newer).cloned().collect(),
        }
    }
}

/// Every applied version.
const APPLIED: &str = "select coalesce(pg_catalog.json_agg(m.version order by m.version), '[]')::pg_catalog.text from monitoring.migrations m";

/// An answer to that.
fn applied(text: &str) -> Result<Vec<String>, DbError> {
    serde_json::from_str(text).map_err(|_| DbError::unreadable("schema"))
}

/// What is said of the schema in passing may not take longer.
const PATIENCE: Duration = Duration::from_millis(500);

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

    /// How the schema differs from this binary's, as the agent sees it.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being read.
    pub async fn difference(&self, statement_timeout: Duration) -> Result<Difference, DbError> {
        let query = Query {
            name: "schema",
            sql: APPLIED,
            params: Vec::new(),
        };
        let session = Session::agent(statement_timeout);
        let answer = self.read(&session, &[query]).await?;
        Ok(Difference::of(&applied(&answer.only_result("schema")?)?))
    }

    /// Says in the log, once an instance, that the schema is not this binary's.
    pub(crate) async fn tell_of_difference(&self) {
        if self.has_told_of_difference.swap(true, Ordering::Relaxed) {
            return;
        }
        let told = tokio::time::timeout(PATIENCE, self.difference(PATIENCE)).await;
        let Ok(Ok(Difference { missing, newer })) = told else {
            self.has_told_of_difference.store(false, Ordering::Relaxed);
            return;
        };
        if !missing.is_empty() {
            tracing::warn!(
                ?missing,
                "the schema is older than this function: run the task migrate"
            );
        }
        if !newer.is_empty() {
            tracing::warn!(
                ?newer,
                "the schema is newer than this function: deploy the one that migrated it"
            );
        }
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
    let mut versions = Vec::new();
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
                versions.push(migration.version);
            }
        }
        command(client, "commit", "commit").await?;
    }
    let newer = newer(client).await?;
    Ok(Outcome::Done { versions, newer })
}

/// What is applied and not of this binary.
async fn newer(client: &Client) -> Result<Vec<String>, DbError> {
    let text = scalar(client, "schema", APPLIED, &[]).await?;
    let applied = applied(text.as_deref().unwrap_or("[]"))?;
    Ok(Difference::of(&applied).newer)
}

async fn rollback(
    client: &mut Client,
    request: &Rollback,
    statement_timeout: Duration,
) -> Result<Outcome, MigrateError> {
    begin(client, statement_timeout).await?;
    let sql = "select pg_catalog.current_database()::pg_catalog.text";
    let name = scalar(client, "database name", sql, &[]).await?;
    if name.as_deref() != Some(request.confirm.as_str()) {
        return Err(MigrateError::NotConfirmed);
    }
    if !try_lock(client).await? {
        command(client, "rollback", "rollback").await?;
        return Ok(Outcome::Skipped);
    }
    if exists(client).await? {
        let newer = newer(client).await?;
        if !newer.is_empty() {
            return Err(MigrateError::Newer(newer.join(", ")));
        }
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
    Ok(Outcome::Done {
        versions: undone,
        newer: Vec::new(),
    })
}

/// Statements of a migration may take a while; its locks may not be waited for long; and if the function is stopped in the middle, the
/// transaction must not stay open.
///
/// The search path is the files' to set. What is asked here says itself that it is the system's: others may have made functions in `public`.
async fn begin(client: &Client, statement_timeout: Duration) -> Result<(), DbError> {
    let limit_ms = statement_timeout.as_millis();
    let sql = format!(
        "begin; set local statement_timeout = {limit_ms}; set local lock_timeout = '5s'; \
         set local idle_in_transaction_session_timeout = '10s'"
    );
    command(client, "begin migration", &sql).await
}

/// One run at a time; the lock ends with the transaction, so no pooler can lose it.
const WAIT_FOR_LOCK: &str =
    "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgvigil.migrate', 0))";

async fn try_lock(client: &Client) -> Result<bool, DbError> {
    let sql = "select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('pgvigil.migrate', 0))::pg_catalog.text";
    Ok(scalar(client, "migration lock", sql, &[]).await?.as_deref() == Some("true"))
}

enum Known {
    Missing,
    Applied(Option<String>),
}

/// Whether anything was ever applied.
async fn exists(client: &Client) -> Result<bool, DbError> {
    let sql = "select pg_catalog.to_regclass('monitoring.migrations')::pg_catalog.text";
    let table = scalar(client, "migrations table", sql, &[]).await?;
    Ok(table.is_some())
}

async fn known_hash(client: &Client, version: &str) -> Result<Known, DbError> {
    if !exists(client).await? {
        return Ok(Known::Missing);
    }
    let sql = "select coalesce(sha256, '') from monitoring.migrations where version operator(pg_catalog.=) $1";
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

    #[test]
    fn older_and_newer_schemas_are_told_apart() {
        let all: Vec<String> = MIGRATIONS.iter().map(|m| m.version.to_owned()).collect();
        assert_eq!(Difference::of(&all), Difference::default());
        let last = MIGRATIONS[MIGRATIONS.len() - 1].version;
        let future = "29990101000000".to_owned();
        let mut other = all[..all.len() - 1].to_vec();
        other.push(future.clone());
        let expected = Difference {
            missing: vec![last],
            newer: vec![future],
        };
        assert_eq!(Difference::of(&other), expected);
    }

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
