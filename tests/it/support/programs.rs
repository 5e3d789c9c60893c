//! Where PostgreSQL's programs are, and how they are run.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::tools;

const MISSING: &str =
    "PostgreSQL's server programs are not installed; this installs them: make test";

/// The user and group that PostgreSQL runs as, where the tests run as root, which it refuses.
pub(crate) static ACCOUNT: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    let id = |arguments: &[&str]| output_of("id", arguments)?.trim().parse().ok();
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
});

static SERVER_PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let chosen = env::var_os("PGVIGIL_PG_BINDIR").map(PathBuf::from);
    if chosen.is_some() {
        return chosen;
    }
    let configured = output_of("pg_config", &["--bindir"]).map(|path| path.trim().into());
    configured
        .into_iter()
        .chain(debian_directories())
        .find(|directory: &PathBuf| directory.join("initdb").exists())
});

/// The directory of `initdb` and `postgres`: `PGVIGIL_PG_BINDIR`, else what `pg_config` says, else the newest of Debian's.
pub(crate) fn server_programs() -> Result<&'static Path, String> {
    SERVER_PROGRAMS.as_deref().ok_or_else(|| MISSING.to_owned())
}

/// The same for one major version: the default where it is that, else what `script/setup` installs.
pub(crate) fn server_programs_of(major: u32) -> Result<PathBuf, String> {
    let default = server_programs()?;
    let mut postgres = Command::new(default.join("postgres"));
    with_libraries(&mut postgres, default);
    postgres.arg("--version");
    if major_version(&run(postgres, "")?) == Some(major) {
        return Ok(default.to_owned());
    }
    let installed = tools().join(format!("postgres-{major}/bin"));
    if !installed.join("postgres").exists() {
        return Err(format!(
            "PostgreSQL {major} is not installed; this installs it: script/setup postgres-{major}"
        ));
    }
    Ok(installed)
}

/// Server programs with those beside them that `pg_upgrade` asks of an old cluster: the default, else the newest of Debian's.
pub(crate) fn whole_server_programs() -> Result<PathBuf, String> {
    let default = server_programs()?.to_owned();
    let mut candidates = std::iter::once(default).chain(debian_directories());
    let whole = candidates.find(|directory| directory.join("pg_resetwal").exists());
    whole.ok_or_else(|| {
        "pg_resetwal is not installed; this installs it: script/setup postgres".into()
    })
}

/// Makes a command run as the account that PostgreSQL may run as.
pub(crate) fn as_account(command: &mut Command) {
    if let Some((user, group)) = *ACCOUNT {
        command.uid(user).gid(group);
    }
}

/// Gives a file or directory to that account.
pub(crate) fn give_to_account(path: &Path) {
    if let Some((user, group)) = *ACCOUNT {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("changing an owner");
    }
}

/// Lets server programs find the libraries that a relocated build carries beside them.
pub(crate) fn with_libraries(command: &mut Command, programs: &Path) {
    let libraries = programs.with_file_name("lib");
    if libraries.join("libpq.so.5").exists() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
}

/// A client program (`psql`, `pg_dump`), cut off from whatever the developer's own environment says about PostgreSQL.
///
/// Debian's programs are taken from where they are, because its wrapper in `/usr/bin` costs more than the query.
pub(crate) fn client(program: &str) -> Command {
    let beside_server = SERVER_PROGRAMS.iter().cloned();
    let path = beside_server
        .chain(debian_directories())
        .map(|directory| directory.join(program))
        .find(|path| path.exists());
    let mut command = Command::new(path.unwrap_or_else(|| program.into()));
    let foreign = env::vars_os().filter(|(name, _)| is_libpq_variable(name));
    foreign.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("PGSSLMODE", "disable").env("LC_ALL", "C");
    command
}

/// The major version of `pg_dump`, which refuses servers newer than itself.
pub(crate) fn client_major_version() -> u32 {
    static VERSION: LazyLock<u32> = LazyLock::new(|| {
        let mut pg_dump = client("pg_dump");
        pg_dump.arg("--version");
        let version = run(pg_dump, "").expect("asking pg_dump its version");
        major_version(&version).expect("reading the version of pg_dump")
    });
    *VERSION
}

/// The 15 of `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major_version(version: &str) -> Option<u32> {
    version.split([' ', '.']).find_map(|word| word.parse().ok())
}

/// Runs a command to its end: what it printed, or what it complained about.
pub(crate) fn run(mut command: Command, input: &str) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}; this installs it: make test"))?;
    let mut stdin = child.stdin.take().expect("taking the input");
    // A program that ends early has its own words about why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("waiting for a program");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        // pg_upgrade complains on its standard output.
        false if output.stderr.is_empty() => Err(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, "").ok()
}

/// Debian's directories, one a major version, newest first.
fn debian_directories() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    let newest_first = versions.into_iter().rev();
    newest_first.map(|(_, path)| path.join("bin")).collect()
}

fn is_libpq_variable(name: &OsString) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with("PG") && !name.starts_with("PGVIGIL_"))
}
