//! The tables: a GET a line.

use serde_json::{Value, json};

use crate::measure::{MEDIAN, P95, Series};
use crate::report::{Report, dash, ms, print as print_text, table, verdict, words};
use crate::rounds::{Line, Measured};
use crate::scale::Scale;

/// What a GET may take: so many times what its statements take, and so many milliseconds.
const TIMES: f64 = 1.15;
const PLUS_MS: f64 = 1.0;

/// Prints what was found out about a database.
pub(crate) fn print(scale: &Scale, measured: &Measured, report: &mut Report) {
    let emulator = measured.preflight.wall(MEDIAN);
    print_text(&format!(
        "\n{}: {} tables, {} connections, {} active; ms, {} rounds\n",
        scale.name,
        scale.tables,
        scale.connections,
        scale.active,
        scale.rounds(),
    ));
    let mut rows = vec![words(&[
        "request",
        "statements",
        "p95",
        "inside",
        "p95",
        "GET",
        "p95",
        "GET/statements",
        "target",
        "",
        "- emulator",
        "",
        "CPU",
        "from server",
        "body",
    ])];
    for line in &measured.lines {
        rows.push(row(line, emulator));
        report.json(&record(scale, line, emulator));
    }
    table(&rows);
    let memory_mb = measured
        .peak_memory_kb
        .map_or_else(dash, |kb| (kb / 1024).to_string());
    for (name, series) in [
        ("preflight", &measured.preflight),
        ("preflight, cold", &measured.cold_preflight),
        ("full GET, cold", &measured.cold),
    ] {
        print_text(&format!(
            "{name}: {} (p95 {}), CPU of the function {}\n",
            ms(series.wall(MEDIAN)),
            ms(series.wall(P95)),
            ms(series.cpu(MEDIAN)),
        ));
        report.json(&json!({
            "part": "http",
            "database": scale.name,
            "request": name,
            "get": json_of(series),
        }));
    }
    print_text(&format!(
        "the function's memory at its most: {memory_mb} MB\n"
    ));
    report.json(&json!({
        "part": "http",
        "database": scale.name,
        "peak_memory_kb": measured.peak_memory_kb,
    }));
}

fn name(line: &Line) -> String {
    let name = line.get.name;
    match line.is_gzip {
        true => format!("{name}, gzip"),
        false => name.to_owned(),
    }
}

fn target(line: &Line) -> Option<f64> {
    Some(line.statements.wall(MEDIAN)? * TIMES + PLUS_MS)
}

fn without(emulator: Option<f64>, line: &Line) -> Option<f64> {
    Some(line.function.wall(MEDIAN)? - emulator?)
}

/// With the digits that the target has.
fn times(own: Option<f64>, statements: Option<f64>) -> String {
    let times = own
        .zip(statements)
        .map(|(own, statements)| own / statements);
    times.map_or_else(dash, |times| format!("{times:.2}"))
}

fn row(line: &Line, emulator: Option<f64>) -> Vec<String> {
    let (statements, own) = (line.statements.wall(MEDIAN), line.function.wall(MEDIAN));
    let (target, without_emulator) = (target(line), without(emulator, line));
    vec![
        name(line),
        ms(statements),
        ms(line.statements.wall(P95)),
        ms(line.inside.wall(MEDIAN)),
        ms(line.inside.wall(P95)),
        ms(own),
        ms(line.function.wall(P95)),
        times(own, statements),
        ms(target),
        verdict(own, target),
        ms(without_emulator),
        verdict(without_emulator, target),
        ms(line.function.cpu(MEDIAN)),
        line.statements_bytes.to_string(),
        line.body_bytes.to_string(),
    ]
}

fn record(scale: &Scale, line: &Line, emulator: Option<f64>) -> Value {
    json!({
        "part": "http",
        "database": scale.name,
        "request": line.get.name,
        "gzip": line.is_gzip,
        "statements": json_of(&line.statements),
        "inside": json_of(&line.inside),
        "get": json_of(&line.function),
        "get_without_emulator_median_ms": without(emulator, line),
        "target_ms": target(line),
        "from_server_bytes": line.statements_bytes,
        "body_bytes": line.body_bytes,
    })
}

fn json_of(series: &Series) -> Value {
    json!({
        "cpu_median_ms": series.cpu(MEDIAN),
        "cpu_p95_ms": series.cpu(P95),
        "wall_median_ms": series.wall(MEDIAN),
        "wall_p95_ms": series.wall(P95),
    })
}
