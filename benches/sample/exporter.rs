//! Debian's prometheus-postgres-exporter with its default collectors, on the same database.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::Client;

use crate::measure::{Call, MEDIAN, Series, difference, milliseconds, settled_cpu_ms};
use crate::report::{Report, print, say};
use crate::scale::Scale;
use crate::support::database::TestDatabase;
use crate::support::postgres::PASSWORD;
use crate::support::scratch::free_port;
use crate::support::tools;

const ROLE: &str = "exporter";
const SCRAPES: usize = 11;

/// Ends with the bench.
struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What its scrapes took; none where the program is not to be had.
pub(crate) async fn run(
    database: &TestDatabase,
    scale: &Scale,
    report: &mut Report,
) -> Option<Series> {
    let program = program()?;
    say(&format!("{}: scrapes of another exporter", scale.name));
    let superuser = database.superuser().await;
    let role = format!(
        "create role {ROLE} login password '{}' in role pg_monitor",
        *PASSWORD
    );
    superuser
        .batch_execute(&role)
        .await
        .expect("creating a role");
    let port = free_port();
    let child = Command::new(program)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .env_clear()
        .env(
            "DATA_SOURCE_NAME",
            format!("{}?sslmode=disable", database.url_for(ROLE)),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starting the exporter");
    let _exporter = Exporter(child);
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "the exporter does not listen"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut series = Series::new();
    let mut lines = 0;
    for scrape in 0..SCRAPES {
        let backends = backends(&superuser).await;
        let before = taken_by(&backends);
        let start = Instant::now();
        let text = tokio::task::spawn_blocking(move || get(port))
            .await
            .expect("scraping");
        let wall_ms = milliseconds(start.elapsed());
        lines = text.lines().filter(|line| !line.starts_with('#')).count();
        if !text.contains("\npg_up 1") {
            report.problem(format!(
                "{}: the exporter does not reach the database",
                scale.name
            ));
        }
        // The first one opens the connections that the others use.
        series.push_if(
            scrape > 0,
            Call {
                cpu_ms: difference(before, taken_by(&backends)),
                wall_ms,
                count: 1,
            },
        );
    }
    print(&format!("{}: {lines} lines a scrape\n", scale.name));
    report.json(&json!({
        "part": "exporter", "database": scale.name, "cpu_median_ms": series.cpu(MEDIAN), "wall_median_ms": series.wall(MEDIAN), "lines": lines,
    }));
    Some(series)
}

fn program() -> Option<PathBuf> {
    let installed = PathBuf::from("/usr/bin/prometheus-postgres-exporter");
    let ours = tools().join("exporter/prometheus-postgres-exporter");
    let found = [ours, installed].into_iter().find(|path| path.exists());
    if found.is_none() {
        print(
            "prometheus-postgres-exporter is not there, so nothing is compared with it; this installs it: script/setup exporter\n",
        );
    }
    found
}

/// It has several.
async fn backends(observer: &Client) -> Vec<i32> {
    let all = "select pid from pg_stat_activity where usename = $1";
    let found = observer.query(all, &[&ROLE]).await;
    let found = found.expect("looking for the exporter's connections");
    found.iter().map(|row| row.get(0)).collect()
}

fn taken_by(backends: &[i32]) -> Option<f64> {
    backends.iter().map(|&pid| settled_cpu_ms(pid)).sum()
}

fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connecting to the exporter");
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        .expect("asking the exporter");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("reading the answer");
    text
}
