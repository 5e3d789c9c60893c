//! The main table: a view a line.

use serde_json::{Value, json};

use crate::measure::{MEDIAN, P95, Series};
use crate::report::{Report, dash, ms, table, verdict, words};
use crate::rounds::Line;
use crate::scale::{COLD_WALL_TARGET_MS, Scale, WALL_TARGET_MS};

/// Prints the views of a database.
pub(crate) fn print(scale: &Scale, lines: &[Line], report: &mut Report) {
    let mut rows = vec![words(&[
        "view",
        "rows",
        "CPU",
        "p95",
        "wall",
        "p95",
        "again",
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
        "again",
        "wall",
        "cold",
    ])];
    for line in lines {
        rows.push(row(line));
        report.json(&record(scale, line));
    }
    table(&rows);
}

fn row(line: &Line) -> Vec<String> {
    let Line {
        view,
        own,
        again,
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
        ms(again.cpu(MEDIAN)),
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
        verdict(again.cpu(MEDIAN), view.cpu_target_ms),
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
        "again": series(&line.again),
        "cold": series(&line.cold),
        "sent": series(&line.sent),
        "floor": series(&line.floor),
        "naive": series(&line.naive),
        "cpu_target_ms": line.view.cpu_target_ms,
    })
}

fn ratio(value: Option<f64>, base: Option<f64>) -> String {
    match (value, base) {
        (Some(value), Some(base)) if base > 0.0 => format!("{:.1}", value / base),
        _ => dash(),
    }
}
