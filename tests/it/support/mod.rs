//! What the tests stand on: real parts, started on first use, gone when the test process is gone.
//!
//! A missing part is never a reason to skip. It is a failure that names the command which installs it.

// The app, called as Lambda calls it.
pub(crate) mod app;
// A real EventBridge endpoint, and an edge before it that fails.
pub(crate) mod bus;
// A caller of the database: which login, which role, which claims.
pub(crate) mod caller;
// One database for one test.
pub(crate) mod database;
pub(crate) mod description;
// The Lambda binary under AWS's runtime interface emulator.
pub(crate) mod emulator;
// Just enough HTTP to talk to the emulator and to the secret store.
pub(crate) mod http;
// A hot standby.
pub(crate) mod standby;
// Child processes that cannot outlive the tests.
pub(crate) mod leash;
// A pooler in front of a cluster.
pub(crate) mod pgbouncer;
// Throw-away PostgreSQL clusters.
pub(crate) mod postgres;
// Where PostgreSQL's programs are, and how they are run.
pub(crate) mod programs;
// Chance that can be repeated.
pub(crate) mod random;
// Names, passwords, ports and files that are ours alone.
pub(crate) mod scratch;
// A real Secrets Manager endpoint.
pub(crate) mod secrets;
// What a cluster's databases are cloned from.
pub(crate) mod templates;
// Certificates, good ones and wrong ones.
pub(crate) mod tls;
// Signed identities.
pub(crate) mod token;
// What goes over the wire between the app and a cluster.
pub(crate) mod wire;
// Bounded polling.
pub(crate) mod wait;
// A database taken to a newer server.
pub(crate) mod upgrade;
// Situations worth monitoring, made for real.
pub(crate) mod workload;

use std::path::{Path, PathBuf};

/// A file of the project. By what cargo says now and not when the tests were built: clones may share a target directory.
pub(crate) fn project_file(path: impl AsRef<Path>) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = root.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    root.join(path)
}

/// Where `script/setup` installs what PostgreSQL's packages do not bring; `PGVIGIL_TOOLS` points elsewhere.
pub(crate) fn tools() -> PathBuf {
    let chosen = std::env::var_os("PGVIGIL_TOOLS").map(PathBuf::from);
    chosen.unwrap_or_else(|| project_file(".tools"))
}

/// One of those tools.
///
/// # Panics
///
/// When the tool is not there, naming the command that installs it.
#[track_caller]
pub(crate) fn tool(path: &str) -> PathBuf {
    let tool = tools().join(path);
    assert!(
        tool.exists(),
        "{path} is not installed; this installs it: make test"
    );
    tool
}
