//! The function: as a process under AWS's emulator, and as a library inside this one.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::measure::{Call, difference, milliseconds, settled_cpu_ms};
use crate::support::app::{Answer, TestApp};
use crate::support::database::TestDatabase;
use crate::support::emulator::Emulator;
use crate::support::secrets::{Secret, store};
use crate::support::templates::MONITOR;

/// The process, in token mode, with its secrets in the store.
pub(crate) struct Function {
    emulator: Emulator,
    pid: Option<i32>,
    // Kept for as long as it may read them.
    _secrets: Vec<Secret>,
}

/// An answer, and what it took.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    /// The body as the gateway would send it, compressed or not.
    pub(crate) body_bytes: usize,
    pub(crate) wall_ms: f64,
    pub(crate) cpu_ms: Option<f64>,
}

impl Answered {
    /// As a call that counted this many of something.
    pub(crate) fn call(&self, count: i64) -> Call {
        Call {
            cpu_ms: self.cpu_ms,
            wall_ms: self.wall_ms,
            count,
        }
    }

    fn new(answer: &Value, wall_ms: f64, cpu_ms: Option<f64>) -> Self {
        let text = answer["body"].as_str().unwrap_or_default();
        let body_bytes = match answer["isBase64Encoded"] == true {
            // Four characters are three bytes, less what fills up the last four.
            true => text.len() / 4 * 3 - text.bytes().filter(|&byte| byte == b'=').count(),
            false => text.len(),
        };
        Self {
            answer: Answer::from_gateway(answer),
            body_bytes,
            wall_ms,
            cpu_ms,
        }
    }
}

impl Function {
    /// Starts the emulator, which starts the function when it is first invoked.
    pub(crate) fn start(database: &TestDatabase) -> Self {
        let login = store().create(&database.credentials(MONITOR));
        let (emulator, secrets) = Emulator::start_on(database, "token", login);
        Self {
            emulator,
            pid: None,
            _secrets: secrets,
        }
    }

    /// Invokes it, on a new connection to the emulator. The first time there is no process yet, so no CPU is told.
    pub(crate) fn invoke(&mut self, event: &Value) -> Answered {
        let event = event.to_string();
        let before = self.pid.and_then(settled_cpu_ms);
        let start = Instant::now();
        let response = self.emulator.invoke(&event);
        let wall_ms = milliseconds(start.elapsed());
        let cpu_ms = difference(before, self.pid.and_then(settled_cpu_ms));
        if self.pid.is_none() {
            self.pid = find_process();
        }
        let answer = serde_json::from_str(&response.body);
        let answer: Value =
            answer.unwrap_or_else(|error| panic!("{error}: {}", self.emulator.log()));
        Answered::new(&answer, wall_ms, cpu_ms)
    }

    /// What the process has taken since it was started, and the most memory it has held.
    pub(crate) fn cpu_ms(&self) -> Option<f64> {
        self.pid.and_then(settled_cpu_ms)
    }

    pub(crate) fn peak_memory_kb(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        peak.split_whitespace().next()?.parse().ok()
    }
}

/// The function's process: of all that this one has started, and that these have, the one that runs our binary. None where the
/// system does not tell (Linux does).
fn find_process() -> Option<i32> {
    let binary = Path::new(env!("CARGO_BIN_EXE_pgvigil"));
    let is_ours =
        |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary);
    let mut found = children(i32::try_from(std::process::id()).ok()?);
    let mut asked = 0;
    while let Some(&pid) = found.get(asked) {
        found.extend(children(pid));
        asked += 1;
    }
    found.into_iter().find(is_ours)
}

/// Each thread has children of its own.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let lists = threads
        .flatten()
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let lists: String = lists.collect();
    let pids = lists.split_whitespace().map(str::parse);
    pids.flatten().collect()
}

/// The same code in this process, on a connection of its own: the difference is the emulator's, and the runtime's client.
pub(crate) async fn ask_inside(app: &TestApp, event: &Value) -> Answered {
    let start = Instant::now();
    let answer = app.invoke(event).await;
    let wall_ms = milliseconds(start.elapsed());
    let answer = answer.unwrap_or_else(|error| panic!("{error:?}"));
    Answered::new(&answer, wall_ms, None)
}
