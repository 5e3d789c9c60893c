//! What is printed: tables for people, JSON lines for programs.

use std::env;
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::measure::{MEDIAN, P95, Series};
use crate::rounds::Line;
use crate::scale::{COLD_WALL_TARGET_MS, Scale, WALL_TARGET_MS};

/// Where everything that is found out goes.
pub(crate) struct Report {
    json: File,
    path: PathBuf,
    problems: Vec<String>,
}

impl Report {
    /// Writes its JSON lines to `PGVIGIL_BENCH_JSON`, else to `bench-sql.json` in cargo's target directory.
    pub(crate) fn new() -> Self {
        let beside_build = || {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
            target
                .unwrap_or_else(|| Path::new("."))
                .join("bench-sql.json")
        };
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

    /// The main table of a database.
    pub(crate) fn lines(&mut self, scale: &Scale, lines: &[Line]) {
        let mut rows = vec![words(&[
            "view",
            "rows",
            "CPU",
            "p95",
            "wall",
            "p95",
            "cold CPU",
            "p95",
            "cold wall",
            "p95",
            "sent CPU",
            "wall",
            "floor",
            "CPU/floor",
            "naive",
            "naive/CPU",
            "target",
            "CPU",
            "wall",
            "cold",
        ])];
        for line in lines {
            rows.push(row(line));
            self.json(&record(scale, line));
        }
        table(&rows);
    }
}

fn row(line: &Line) -> Vec<String> {
    let Line {
        view,
        own,
        sent,
        cold,
        floor,
        naive,
        ..
    } = line;
    let cpu = own.cpu(MEDIAN);
    let has_target = view.cpu_target_ms.is_some();
    let wall_target = |target| has_target.then_some(target);
    vec![
        view.name.to_owned(),
        line.count.map_or_else(dash, |count| count.to_string()),
        ms(cpu),
        ms(own.cpu(P95)),
        ms(own.wall(MEDIAN)),
        ms(own.wall(P95)),
        ms(cold.cpu(MEDIAN)),
        ms(cold.cpu(P95)),
        ms(cold.wall(MEDIAN)),
        ms(cold.wall(P95)),
        ms(sent.cpu(MEDIAN)),
        ms(sent.wall(MEDIAN)),
        ms(floor.cpu(MEDIAN)),
        ratio(cpu, floor.cpu(MEDIAN)),
        ms(naive.cpu(MEDIAN)),
        ratio(naive.cpu(MEDIAN), cpu),
        view.cpu_target_ms
            .map_or_else(dash, |target| target.to_string()),
        verdict(cpu, view.cpu_target_ms),
        verdict(own.wall(P95), wall_target(WALL_TARGET_MS)),
        verdict(cold.wall(P95), wall_target(COLD_WALL_TARGET_MS)),
    ]
}

fn record(scale: &Scale, line: &Line) -> Value {
    let series = |series: &Series| {
        json!({
            "cpu_median_ms": series.cpu(MEDIAN),
            "cpu_p95_ms": series.cpu(P95),
            "wall_median_ms": series.wall(MEDIAN),
            "wall_p95_ms": series.wall(P95),
        })
    };
    json!({
        "part": "views",
        "database": scale.name,
        "view": line.view.name,
        "count": line.count,
        "warm": series(&line.own),
        "cold": series(&line.cold),
        "sent": series(&line.sent),
        "floor": series(&line.floor),
        "naive": series(&line.naive),
        "cpu_target_ms": line.view.cpu_target_ms,
    })
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

fn ratio(value: Option<f64>, base: Option<f64>) -> String {
    match (value, base) {
        (Some(value), Some(base)) if base > 0.0 => format!("{:.1}", value / base),
        _ => dash(),
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

fn dash() -> String {
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
