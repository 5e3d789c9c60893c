//! A pooler in the mode that takes most away: PgBouncer, where each transaction may meet another server connection.

use std::env;
use std::fs;
use std::path::PathBuf;

use super::database::TestDatabase;
use super::leash::Leash;
use super::postgres::{PASSWORD, account_file};
use super::programs::as_account;
use super::scratch::free_port;

const MISSING: &str = "PgBouncer is not installed; this installs it: make test";

/// All else is as it comes: above all no startup parameter is ignored that it does not know. Only where it would wait for
/// minutes it waits for less.
const SETTINGS: &str = "
[pgbouncer]
listen_addr = 127.0.0.1
unix_socket_dir =
auth_type = scram-sha-256
pool_mode = transaction
server_login_retry = 0.1
";

/// A running pooler in front of one server.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    port: u16,
    configuration: PathBuf,
    users: PathBuf,
    leash: Option<Leash>,
}

impl PgBouncer {
    /// Starts a pooler that knows these login roles, and keeps this many server connections for each of them.
    #[track_caller]
    pub(crate) fn start(database: &TestDatabase, logins: &[&str], pool_size: u32) -> Self {
        let port = free_port();
        let users = account_file("users.txt", b"");
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n{SETTINGS}listen_port = {port}\n\
             default_pool_size = {pool_size}\nauth_file = {}\n",
            database.port(),
            users.display(),
        );
        let mut pooler = Self {
            port,
            configuration: account_file("pgbouncer.ini", configuration.as_bytes()),
            users,
            leash: None,
        };
        let known: Vec<(&str, &str)> = logins
            .iter()
            .map(|login| (*login, PASSWORD.as_str()))
            .collect();
        pooler.let_in(&known);
        pooler.restart();
        pooler
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Everything it has said since it was last started.
    pub(crate) fn log(&self) -> String {
        self.leash.as_ref().map(Leash::log).unwrap_or_default()
    }

    /// Says who may sign in, and with which password the pooler signs them in to the server; known after a restart.
    pub(crate) fn let_in(&self, logins: &[(&str, &str)]) {
        let lines = logins
            .iter()
            .map(|(login, password)| format!("\"{login}\" \"{password}\"\n"));
        fs::write(&self.users, lines.collect::<String>()).expect("writing the pooler's users");
    }

    /// Ends every connection of every client and to the server.
    pub(crate) fn stop(&mut self) {
        self.leash = None;
    }

    /// Starts it again on the same port.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.stop();
        // TERM is its immediate shutdown.
        let mut command = Leash::command("TERM", None);
        as_account(&mut command);
        command.current_dir("/").arg(program());
        command.arg(&self.configuration);
        let leash = Leash::spawn(command);
        leash
            .wait_until_ready("PgBouncer", |log| log.contains("process up"))
            .unwrap_or_else(|problem| panic!("{problem}"));
        self.leash = Some(leash);
    }
}

/// Debian keeps it where only root's `PATH` looks.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect(MISSING)
}
