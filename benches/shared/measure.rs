//! One call and what it took: the server process's CPU, and the time until the answer was there.

use std::fs;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

/// Whether the system tells the CPU time of a process in nanoseconds.
pub(crate) static TELLS_CPU: LazyLock<bool> =
    LazyLock::new(|| cpu_ms(i32::try_from(std::process::id()).unwrap_or(0)).is_some());

/// A session that is measured.
#[derive(Debug)]
pub(crate) struct Probe {
    client: Client,
    pid: i32,
}

/// What one call took and brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) wall_ms: f64,
    /// The number in the answer's only field, or how many rows there were.
    pub(crate) count: i64,
}

impl Probe {
    pub(crate) async fn new(client: Client) -> Self {
        let pid = client.query_one("select pg_backend_pid()", &[]).await;
        let pid = pid.expect("asking for the process id").get(0);
        Self { client, pid }
    }

    /// Runs what is not measured.
    pub(crate) async fn prepare(&self, sql: &str) {
        let done = self.client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Sends the statement, which answers as text, and reads the whole answer.
    pub(crate) async fn call(&self, sql: &str) -> Call {
        let before = settled_cpu_ms(self.pid);
        let start = Instant::now();
        let answer = self.client.simple_query(sql).await;
        let wall_ms = milliseconds(start.elapsed());
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let cpu_ms = difference(before, settled_cpu_ms(self.pid));
        Call {
            cpu_ms,
            wall_ms,
            count: count_of(&answer),
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

pub(crate) fn difference(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some(after? - before?)
}

/// What a process has taken so far, once it sleeps: while it runs, the count lags behind by up to a tick of the kernel, and a
/// backend still runs for a moment after its answer has arrived.
pub(crate) fn settled_cpu_ms(pid: i32) -> Option<f64> {
    for _ in 0..1000 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the state follows it.
        if stat.rsplit_once(')')?.1.trim_start().starts_with('S') {
            break;
        }
        thread::sleep(Duration::from_micros(100));
    }
    cpu_ms(pid)
}

/// Of all its threads; the first field is the time on a CPU in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
fn cpu_ms(pid: i32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanoseconds: f64 = threads
        .flatten()
        .filter_map(|thread| {
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<f64>().ok()
        })
        .sum();
    (nanoseconds > 0.0).then_some(nanoseconds / 1e6)
}

/// The number that a statement answers.
pub(crate) async fn number(client: &Client, sql: &str) -> i64 {
    let row = client.query_one(sql, &[]).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .get(0)
}

fn count_of(answer: &[SimpleQueryMessage]) -> i64 {
    let rows: Vec<_> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    let only_number = match rows.as_slice() {
        [row] if row.len() == 1 => row.get(0).and_then(|text| text.parse().ok()),
        _ => None,
    };
    only_number.unwrap_or_else(|| i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

/// The calls of one candidate.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    cpu_ms: Vec<f64>,
    wall_ms: Vec<f64>,
}

impl Series {
    pub(crate) const fn new() -> Self {
        Self {
            cpu_ms: Vec::new(),
            wall_ms: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.wall_ms.len()
    }

    /// Leaves out a call that was only to warm up.
    pub(crate) fn push_if(&mut self, counts: bool, call: Call) {
        if counts {
            self.push(call);
        }
    }

    pub(crate) fn push(&mut self, call: Call) {
        self.cpu_ms.extend(call.cpu_ms);
        self.wall_ms.push(call.wall_ms);
    }

    /// Round by round, what both took.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let sum = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a + b).collect();
        Self {
            cpu_ms: sum(&self.cpu_ms, &other.cpu_ms),
            wall_ms: sum(&self.wall_ms, &other.wall_ms),
        }
    }

    /// The value below which this share of the CPU times lies; none where the system does not tell them.
    pub(crate) fn cpu(&self, share: f64) -> Option<f64> {
        percentile(&self.cpu_ms, share)
    }

    /// The mean of the CPU times: what many calls take in all.
    #[allow(dead_code, reason = "only the bench of sampling asks for it")]
    pub(crate) fn cpu_mean(&self) -> Option<f64> {
        let count = u32::try_from(self.cpu_ms.len())
            .ok()
            .filter(|count| *count > 0)?;
        Some(self.cpu_ms.iter().sum::<f64>() / f64::from(count))
    }

    pub(crate) fn wall(&self, share: f64) -> Option<f64> {
        percentile(&self.wall_ms, share)
    }
}

pub(crate) const MEDIAN: f64 = 0.5;
pub(crate) const P95: f64 = 0.95;

/// The nearest rank, so that a value is always one that was measured.
fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The smallest position at or above the share of the whole.
    let below = sorted.iter().zip(1_u32..).find(|(_, rank)| {
        f64::from(*rank) >= share * f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX))
    });
    below.map(|(value, _)| *value)
}
