//! What is printed: tables for people, JSON lines for programs.

use std::env;
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::Value;

use crate::measure::TELLS_CPU;

/// Where everything that is found out goes.
pub(crate) struct Report {
    json: File,
    path: PathBuf,
    problems: Vec<String>,
}

impl Report {
    /// Writes its JSON lines to `PGVIGIL_BENCH_JSON`, else to a file of this name in cargo's target directory.
    pub(crate) fn new(file_name: &str) -> Self {
        let beside_build = || {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
            target.unwrap_or_else(|| Path::new(".")).join(file_name)
        };
        if !*TELLS_CPU {
            print(
                "This system does not tell the CPU time of a process (/proc/PID/task/*/schedstat, Linux): wall times only.\n",
            );
        }
        let path = env::var_os("PGVIGIL_BENCH_JSON").map_or_else(beside_build, PathBuf::from);
        let json = File::create(&path);
        Self {
            json: json.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            path,
            problems: Vec::new(),
        }
    }

    /// Notes an answer that cannot be right, once.
    pub(crate) fn problem(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Says where the JSON is and what was wrong; whether nothing was.
    pub(crate) fn end(self) -> bool {
        print(&format!(
            "\nThe same as JSON lines: {}\n",
            self.path.display()
        ));
        for problem in &self.problems {
            print(&format!("IMPLAUSIBLE: {problem}\n"));
        }
        self.problems.is_empty()
    }

    pub(crate) fn json(&mut self, value: &Value) {
        writeln!(self.json, "{value}").expect("writing JSON");
    }
}

/// A time, with as many digits as can be believed.
pub(crate) fn ms(value: Option<f64>) -> String {
    match value {
        None => dash(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// Whether a time keeps to its target. The bench prints it and does not fail by it: what is slow here may be the machine.
pub(crate) fn verdict(value: Option<f64>, target: Option<f64>) -> String {
    match (value, target) {
        (Some(value), Some(target)) if value <= target => "met".to_owned(),
        (Some(_), Some(_)) => "OVER".to_owned(),
        _ => dash(),
    }
}

pub(crate) fn dash() -> String {
    "-".to_owned()
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Prints rows under their heading, the first column to the left, numbers to the right.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in rows {
        let mut text = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => text += &format!("{cell:width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        print(&format!("{}\n", text.trim_end()));
    }
}

/// Prints at once: a bench takes minutes, and whoever waits wants to see where it is.
pub(crate) fn print(text: &str) {
    let mut out = stdout().lock();
    // A reader that has gone (`| head`) is no reason to leave the work.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One step, with the time since the bench began.
pub(crate) fn say(step: &str) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    print(&format!("[{:3}s] {step}\n", START.elapsed().as_secs()));
}
