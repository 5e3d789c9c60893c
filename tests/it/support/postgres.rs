//! Throw-away PostgreSQL clusters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use super::leash::Leash;
use super::programs::{as_account, client, give_to_account, run, server_programs, with_libraries};
use super::scratch::{self, free_port, unique};
use super::templates::Templates;
use super::tls::Certificate;

/// The superuser of every cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// What every login role of every cluster of this process signs in with.
pub(crate) static PASSWORD: LazyLock<String> = LazyLock::new(|| unique(""));

/// Trades every durability a throw-away cluster does not need for speed, and every surprise for repeatability.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_wal_size = 256MB
max_prepared_transactions = 0
log_min_messages = log
log_checkpoints = off
timezone = 'UTC'
";

/// Arguments: the template, the copy, what to add to its configuration, the server program.
const LAUNCH: &str = r#"cp -a "$1" "$2" && cat "$3" >> "$2/postgresql.conf" && exec "$4" -D "$2""#;

/// What surrounds the migrations in a cluster's databases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flavour {
    /// Nothing; a superuser migrates.
    Plain,
    /// Supabase's roles, `auth` schema and default privileges; its restricted `postgres` migrates.
    Supabase,
    /// Nothing; a master user as RDS makes one migrates: no superuser, may create roles, owns the database.
    Rds,
}

/// How a cluster differs from the usual.
#[derive(Debug)]
pub(crate) struct ClusterOptions {
    pub(crate) flavour: Flavour,
    /// Preloads `pg_stat_statements` and creates it in every database.
    pub(crate) pg_stat_statements: bool,
    pub(crate) max_connections: u32,
    /// Lets the server speak TLS. It still admits clients that do not ask for it.
    pub(crate) certificate: Option<Certificate>,
    /// More lines for `postgresql.conf`, which win over the rest.
    pub(crate) settings: &'static str,
    /// The directory of another server's programs.
    pub(crate) programs: Option<PathBuf>,
    /// A data directory of that server to start from, instead of a fresh one.
    pub(crate) data: Option<PathBuf>,
    /// Gives the parts of a sample all the time they take, as a busy machine needs for tests of what they hold. Otherwise they have
    /// what they are shipped with.
    pub(crate) lets_samples_take_time: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            flavour: Flavour::Plain,
            pg_stat_statements: true,
            max_connections: 100,
            certificate: None,
            settings: "",
            programs: None,
            data: None,
            lets_samples_take_time: true,
        }
    }
}

/// A running cluster. It stops when the last handle to it, or to one of its databases, is gone.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(super) server: Arc<Server>,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) flavour: Flavour,
    pub(super) pg_stat_statements: bool,
    pub(super) lets_samples_take_time: bool,
    pub(super) major_version: u32,
    pub(super) templates: Templates,
    pub(super) programs: PathBuf,
    directory: PathBuf,
    leash: Leash,
}

/// For the sessions of all tests that share a cluster: were they many of those there can be, that would be a finding in each.
const SHARED_CONNECTIONS: u32 = 500;

/// The cluster that tests share when they need nothing special.
#[track_caller]
pub(crate) fn plain() -> &'static Cluster {
    static CLUSTER: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::shared(Flavour::Plain));
    CLUSTER
        .as_ref()
        .unwrap_or_else(|problem| panic!("{problem}"))
}

/// The cluster that tests share when they need Supabase's surroundings.
#[track_caller]
pub(crate) fn supabase() -> &'static Cluster {
    static CLUSTER: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::shared(Flavour::Supabase));
    CLUSTER
        .as_ref()
        .unwrap_or_else(|problem| panic!("{problem}"))
}

impl Cluster {
    /// Starts a cluster of the test's own: for tests that change roles or settings, fill all connections, or count
    /// what happens on the whole server.
    #[track_caller]
    pub(crate) fn start(options: ClusterOptions) -> Self {
        Self::try_start(&options).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// A cluster for many tests. Its template is migrated before anybody has a database: a test that rolls its own back would take
    /// the roles along while the template, which needs them, is being made.
    fn shared(flavour: Flavour) -> Result<Self, String> {
        let cluster = Self::try_start(&ClusterOptions {
            flavour,
            max_connections: SHARED_CONNECTIONS,
            ..ClusterOptions::default()
        })?;
        cluster.server.migrated()?;
        Ok(cluster)
    }

    fn try_start(options: &ClusterOptions) -> Result<Self, String> {
        let directory = scratch::base().join(unique("pgvigil-cluster-"));
        let port = free_port();
        let programs = match &options.programs {
            Some(programs) => programs.clone(),
            None => server_programs()?.to_owned(),
        };
        let leash = launch(&programs, &directory, port, options)?;
        let version = fs::read_to_string(directory.join("PG_VERSION"));
        Ok(Self {
            server: Arc::new(Server {
                port,
                flavour: options.flavour,
                pg_stat_statements: options.pg_stat_statements,
                lets_samples_take_time: options.lets_samples_take_time,
                major_version: version
                    .ok()
                    .and_then(|v| v.trim().parse().ok())
                    .expect("reading PG_VERSION"),
                templates: Templates::default(),
                programs,
                directory,
                leash,
            }),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    pub(crate) fn major_version(&self) -> u32 {
        self.server.major_version
    }

    /// The data directory, gone when the cluster is.
    pub(crate) fn directory(&self) -> &Path {
        &self.server.directory
    }

    /// The server's log so far.
    pub(crate) fn log(&self) -> String {
        self.server.leash.log()
    }

    /// The process id of the server, as it is written in its own lock file.
    pub(crate) fn process_id(&self) -> u32 {
        let lock_file = self.server.directory.join("postmaster.pid");
        let content = fs::read_to_string(lock_file).expect("reading postmaster.pid");
        let first_line = content.lines().next().unwrap_or_default();
        first_line.parse().expect("reading a process id")
    }
}

impl Server {
    /// A client program that signs in to the server.
    pub(super) fn cluster_client(&self, program: &str, user: &str) -> Command {
        let mut command = client(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-U", user]);
        command.env("PGPASSWORD", PASSWORD.as_str());
        command
    }

    /// A client program that signs in to one of the server's databases.
    pub(super) fn client(&self, program: &str, user: &str, database: &str) -> Command {
        let mut command = self.cluster_client(program, user);
        command.args(["-d", database]);
        command
    }

    /// The real `psql`, stopping at the first error, reading the user's start-up file never.
    pub(super) fn psql(&self, user: &str, database: &str) -> Command {
        let mut command = self.client("psql", user, database);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// Runs statements of the harness itself.
    pub(super) fn administer(&self, database: &str, sql: &str) -> Result<String, String> {
        run(self.psql(SUPERUSER, database), sql)
    }
}

/// Initialises one cluster a server, of which every other is a copy: a copy takes a third of the time.
fn data_directory_template(programs: &Path) -> Result<PathBuf, String> {
    static TEMPLATES: Mutex<BTreeMap<PathBuf, Result<PathBuf, String>>> =
        Mutex::new(BTreeMap::new());
    let mut templates = TEMPLATES.lock().expect("taking turns");
    let template = templates
        .entry(programs.to_owned())
        .or_insert_with(|| initialise(programs, &account_directory("initdb").join("data"), &[]));
    template.clone()
}

/// Initialises a data directory.
pub(super) fn initialise(
    programs: &Path,
    data: &Path,
    arguments: &[&str],
) -> Result<PathBuf, String> {
    let mut initdb = Command::new(programs.join("initdb"));
    with_libraries(&mut initdb, programs);
    as_account(&mut initdb);
    initdb.current_dir("/").arg("-D").arg(data);
    initdb.args(["-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile"]);
    initdb.arg(account_file("password", PASSWORD.as_bytes()));
    initdb.args(["--encoding=UTF8", "--no-locale", "--no-sync"]);
    initdb.args(arguments);
    run(initdb, "")?;
    Ok(data.to_owned())
}

/// Copies the template, configures the copy and starts it, all three on the leash.
fn launch(
    programs: &Path,
    directory: &Path,
    port: u16,
    options: &ClusterOptions,
) -> Result<Leash, String> {
    let data = match &options.data {
        Some(data) => data.clone(),
        None => data_directory_template(programs)?,
    };
    let mut server = Leash::command("QUIT", Some(directory));
    with_libraries(&mut server, programs);
    as_account(&mut server);
    server
        .current_dir("/")
        .args(["/bin/sh", "-c", LAUNCH, "launch"]);
    server.arg(data).arg(directory);
    server.arg(account_file(
        "postgresql.conf",
        configuration(port, options).as_bytes(),
    ));
    server.arg(programs.join("postgres"));
    let leash = Leash::spawn(server);
    leash.wait_until_ready("PostgreSQL", |log| {
        // A standby says "read-only connections".
        log.contains("ready to accept ")
    })?;
    Ok(leash)
}

fn configuration(port: u16, options: &ClusterOptions) -> String {
    let mut lines = SETTINGS.to_owned();
    let mut set = |name: &str, value: &str| lines.push_str(&format!("{name} = '{value}'\n"));
    set("port", &port.to_string());
    set("max_connections", &options.max_connections.to_string());
    if options.pg_stat_statements {
        set("shared_preload_libraries", "pg_stat_statements");
        // Hundreds of tests' databases together have more than the usual 5,000, and the least used ones are forgotten.
        set("pg_stat_statements.max", "20000");
    }
    if let Some(certificate) = &options.certificate {
        let path = |name, content| account_file(name, content).display().to_string();
        set(
            "ssl_cert_file",
            &path("server.crt", &certificate.certificate_pem),
        );
        set("ssl_key_file", &path("server.key", &certificate.key_pem));
        set("ssl", "on");
    }
    lines + options.settings
}

/// Makes a directory in which the server may write.
pub(super) fn account_directory(name: &str) -> PathBuf {
    let path = scratch::directory().join(unique(name));
    fs::create_dir(&path).expect("creating a directory");
    give_to_account(&path);
    path
}

/// Writes a file for the server's eyes only: PostgreSQL refuses a key that others can read.
pub(super) fn account_file(name: &str, content: &[u8]) -> PathBuf {
    let path = scratch::file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closing a file");
    give_to_account(&path);
    path
}
