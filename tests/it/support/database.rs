//! One database for one test.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};

use super::postgres::{Cluster, PASSWORD, SUPERUSER, Server};
use super::programs::{client_major_version, run};
use super::scratch::unique;
use super::templates::MONITOR;

/// A database of the test's own, dropped with whatever is still connected to it.
///
/// Roles belong to the cluster: a test that creates or alters one needs a cluster of its own, or a role of its own
/// ([`TestDatabase::new_monitor_login`]).
#[derive(Debug)]
pub(crate) struct TestDatabase {
    pub(super) server: Arc<Server>,
    pub(crate) name: String,
    /// When it was first asked for a moment.
    pub(super) moment: OnceLock<String>,
}

impl Cluster {
    /// A fresh database with every migration applied.
    #[track_caller]
    pub(crate) fn database(&self) -> TestDatabase {
        TestDatabase::create(&self.server, self.server.migrated())
    }

    /// A fresh database as the migrations find it.
    #[track_caller]
    pub(crate) fn empty_database(&self) -> TestDatabase {
        TestDatabase::create(&self.server, self.server.base())
    }
}

impl TestDatabase {
    #[track_caller]
    fn create(server: &Arc<Server>, template: Result<&str, String>) -> Self {
        let name = unique("test_");
        template
            .and_then(|template| server.clone_database(&name, template))
            .unwrap_or_else(|problem| panic!("{problem}"));
        Self::of(server, name)
    }

    /// A database that is there.
    pub(super) fn of(server: &Arc<Server>, name: String) -> Self {
        Self {
            server: Arc::clone(server),
            name,
            moment: OnceLock::new(),
        }
    }

    /// The role that owns the database and runs its migrations.
    pub(crate) fn migrator(&self) -> &'static str {
        self.server.migrator()
    }

    /// The port of its server.
    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    /// So many minutes before one and the same moment, as the format of events has it: of two ticks a minute lies between, also
    /// where one has begun since the first was asked for.
    pub(crate) fn minutes_ago(&self, minutes: i32) -> String {
        let moment = self.moment.get_or_init(|| {
            let now = self.psql(SUPERUSER, "select now()");
            now.expect("asking the time").trim().to_owned()
        });
        let sql = format!(
            "select to_json(timestamptz '{moment}' - interval '{minutes} minutes') #>> '{{}}'"
        );
        let time = self.psql(SUPERUSER, &sql).expect("counting back");
        time.trim().to_owned()
    }

    /// Begins no test in the last half minute of an `hour` or a `day` (of UTC) that is to be the same one at its end.
    pub(crate) fn keep_clear_of_the_end_of(&self, unit: &str) {
        let left = format!(
            "select ceil(extract(epoch from date_trunc('{unit}', now(), 'UTC') + interval '1 {unit}' - now()))"
        );
        let left = self.psql(SUPERUSER, &left).expect("asking the time");
        let left: u64 = left.trim().parse().expect("reading seconds");
        if left <= 30 {
            thread::sleep(Duration::from_secs(left));
        }
    }

    /// Opens a session.
    pub(crate) async fn connect_as(
        &self,
        user: &str,
        password: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        self.connect_through(self.server.port, user, password).await
    }

    /// Opens a session through what listens on this port and leads to the server.
    pub(crate) async fn connect_through(
        &self,
        port: u16,
        user: &str,
        password: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port);
        config.user(user).password(password).dbname(&self.name);
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client, or with the server; whoever uses the client is told.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Opens a session of one of the harness's own login roles.
    pub(crate) async fn session(&self, user: &str) -> Client {
        let session = self.connect_as(user, &PASSWORD).await;
        session.unwrap_or_else(|error| panic!("signing in as {user}: {error}"))
    }

    /// Opens a session that may do everything.
    pub(crate) async fn superuser(&self) -> Client {
        self.session(SUPERUSER).await
    }

    /// Opens a session of the monitor's login role, before it has switched to any other.
    pub(crate) async fn login(&self) -> Client {
        self.session(MONITOR).await
    }

    /// Creates a login role like the monitor's, for tests that change its password or take away its rights.
    pub(crate) fn new_monitor_login(&self) -> String {
        let name = unique("pgvigil_");
        let created = self.server.create_monitor_login(&name);
        created.expect("creating a login role");
        name
    }

    /// The connection string of a login role, as `DATABASE_URL` wants it.
    pub(crate) fn url_for(&self, user: &str) -> String {
        let (port, name) = (self.server.port, &self.name);
        format!("postgres://{user}:{}@127.0.0.1:{port}/{name}", *PASSWORD)
    }

    /// The same as a secret in RDS's format.
    pub(crate) fn credentials(&self, user: &str) -> Value {
        self.credentials_through(self.server.port, user)
    }

    /// The same through what listens on this port and leads to the server.
    pub(crate) fn credentials_through(&self, port: u16, user: &str) -> Value {
        json!({
            "username": user,
            "password": *PASSWORD,
            "host": "127.0.0.1",
            "port": port,
            "dbname": self.name,
        })
    }

    /// Runs statements through the real `psql`: what it printed, or its complaint.
    pub(crate) fn psql(&self, user: &str, sql: &str) -> Result<String, String> {
        run(self.server.psql(user, &self.name), sql)
    }

    /// Runs a file through the real `psql`, the way a migration is applied: in one transaction, one file at a time.
    pub(crate) fn psql_file(&self, user: &str, path: &Path) -> Result<String, String> {
        self.server.psql_file(user, &self.name, path)
    }

    /// The whole database's definition, without the lines that differ from dump to dump.
    ///
    /// By `pg_dump`, or, on a server that is newer than it and that it refuses, as the catalogs have it.
    pub(crate) fn dump_schema(&self) -> String {
        if self.server.major_version > client_major_version() {
            let snapshot = self.psql(SUPERUSER, include_str!("schema.sql"));
            return snapshot.expect("reading the catalogs");
        }
        let mut pg_dump = self.server.client("pg_dump", SUPERUSER, &self.name);
        pg_dump.arg("--schema-only");
        let dump = run(pg_dump, "").expect("dumping the schema");
        dump.lines()
            .filter(|line| !is_noise(line))
            .fold(String::with_capacity(dump.len()), |kept, line| {
                kept + line + "\n"
            })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let sql = format!("drop database {} with (force)", self.name);
        // A cluster that a test has stopped takes its databases along.
        let _ = self.server.administer("postgres", &sql);
    }
}

/// A random key against injection, and the versions of the programs.
fn is_noise(line: &str) -> bool {
    ["\\restrict ", "\\unrestrict ", "-- Dumped "]
        .iter()
        .any(|noise| line.starts_with(noise))
}
