//! Child processes that cannot outlive the tests.
//!
//! Rust drops no statics and a killed process drops nothing at all, so `Drop` alone would leave servers behind.
//! Each child is held by a small shell instead, which reads a pipe that only the test process holds open: when the
//! pipe closes, for whatever reason, the shell stops the child and removes its directory.

use std::io::{Read, pipe};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Arguments: the directory to remove (or nothing), the signal that stops the child, the child's command line.
///
/// The signals of a terminal are ignored, and that of a log nobody reads any more, but only after the child has started:
/// a child inherits what is ignored. The last line takes along whatever is left of the process group.
const SHELL: &str = r#"
directory=$1 signal=$2
shift 2
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
trap '' HUP INT PIPE TERM
{ read -r _ <&3; kill -s "$signal" "$child"; sleep 5; kill -s KILL "$child"; } &
exec 3<&-
wait "$child"
if [ -n "$directory" ]; then
    for _ in 1 2 3 4 5; do
        rm -rf -- "$directory" && break
        sleep 0.2
    done
fi
kill -s KILL 0
"#;

/// A server on a busy two-core machine starts within this, or something is wrong with it.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running child process, and everything it has printed.
#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
    /// Never written to: that it is open is the message.
    rope: Option<ChildStdin>,
    log: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Leash {
    /// Begins a command line: the caller appends the program with its arguments, and may set its environment.
    pub(crate) fn command(stop_signal: &str, remove: Option<&Path>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SHELL, "leash"]);
        command.arg(remove.unwrap_or_else(|| Path::new("")));
        command.arg(stop_signal);
        command
    }

    /// Starts what [`Leash::command`] began.
    ///
    /// In a process group of its own, so that Ctrl-C ends the tests and leaves the clean-up to the shell.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let (output, input) = pipe().expect("opening a pipe for the log");
        let second_input = input.try_clone().expect("cloning the log's pipe");
        command.stdin(Stdio::piped()).stdout(input);
        command.stderr(second_input).process_group(0);
        let mut shell = command.spawn().expect("starting a shell");
        let log = Arc::default();
        Self {
            rope: shell.stdin.take(),
            reader: collect(output, Arc::clone(&log)),
            shell,
            log,
        }
    }

    /// Everything the child has printed so far, on either stream.
    pub(crate) fn log(&self) -> String {
        let bytes = self.log.lock().expect("reading the log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Blocks until `is_ready`, which is shown the log; gives up at once when the child has ended.
    pub(crate) fn wait_until_ready(
        &self,
        name: &str,
        mut is_ready: impl FnMut(&str) -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !is_ready(&self.log()) {
            if self.reader.is_finished() {
                return Err(format!("{name} ended while starting:\n{}", self.log()));
            }
            if start.elapsed() > START_LIMIT {
                return Err(format!("{name} is not ready:\n{}", self.log()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Leash {
    /// Takes the same way out as a killed test process, and waits until it has been walked.
    fn drop(&mut self) {
        drop(self.rope.take());
        let _ = self.shell.wait();
    }
}

/// Keeps reading, because a child that nobody listens to blocks when the pipe is full.
fn collect(mut output: impl Read + Send + 'static, log: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = output.read(&mut chunk) {
            let mut log = log.lock().expect("writing the log");
            log.extend_from_slice(&chunk[..length]);
        }
    })
}
