//! Names, passwords, ports and files that are ours alone.

use std::env;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use super::leash::Leash;
use super::programs::run;

/// Ports for servers: below the range from which systems take the ports of outgoing connections, so that no client
/// can take a port between the moment it is found free and the moment its server listens.
const FIRST_PORT: u16 = 15_000;
const PORTS: u16 = 15_000;

/// What a run of all tests can fill; containers often offer much less memory as files.
const ROOM_IN_MEMORY: u64 = 4 << 30;

/// Makes a name (or a password) that nothing else has.
pub(crate) fn unique(prefix: &str) -> String {
    let mut bytes = [0; 8];
    openssl::rand::rand_bytes(&mut bytes).expect("drawing random bytes");
    bytes.iter().fold(prefix.to_owned(), |mut name, byte| {
        write!(name, "{byte:02x}").expect("writing to a string");
        name
    })
}

/// Finds a port on which a server can listen; never the same twice in one process.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let mut bytes = [0; 2];
        openssl::rand::rand_bytes(&mut bytes).expect("drawing random bytes");
        AtomicU16::new(u16::from_ne_bytes(bytes))
    });
    (0..PORTS)
        .map(|_| FIRST_PORT + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("finding a free port")
}

/// Where throw-away files go: `TMPDIR`, else memory where there is room, because creating a database is mostly writing
/// files, and takes a fifth of the time there.
pub(crate) fn base() -> &'static Path {
    static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = "/dev/shm";
        let chosen = env::var_os("TMPDIR").is_some();
        match !chosen && free_bytes(memory) >= Some(ROOM_IN_MEMORY) {
            true => memory.into(),
            false => env::temp_dir(),
        }
    });
    &BASE
}

/// Asks `df`, whose `-P` keeps to one format everywhere: a header, then blocks of 1,024 bytes, the fourth word those free.
fn free_bytes(directory: &str) -> Option<u64> {
    let mut df = Command::new("df");
    df.args(["-P", "-k", directory]);
    let answer = run(df, "").ok()?;
    let free = answer.lines().nth(1)?.split_whitespace().nth(3)?;
    free.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// A directory of this test process, removed when the process ends.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: LazyLock<(PathBuf, Leash)> = LazyLock::new(|| {
        let path = base().join(unique("pgvigil-test-"));
        let mut idler = Leash::command("KILL", Some(&path));
        idler.args(["tail", "-f", "/dev/null"]);
        let leash = Leash::spawn(idler);
        fs::create_dir(&path).expect("creating a scratch directory");
        let traversable = fs::Permissions::from_mode(0o711);
        fs::set_permissions(&path, traversable).expect("opening the scratch directory");
        (path, leash)
    });
    &DIRECTORY.0
}

/// Writes a file that is removed when the test process ends.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory().join(format!("{}-{name}", unique("")));
    fs::write(&path, content).expect("writing a scratch file");
    path
}
