//! How large a database is, and what watching it may cost.

use std::env;

/// The contents of a bench database and of its server.
#[derive(Debug)]
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    pub(crate) schemas: usize,
    pub(crate) tables: usize,
    /// Partitioned tables with a few partitions each, beside `tables`.
    pub(crate) partitioned: usize,
    pub(crate) policies: usize,
    pub(crate) statements: usize,
    /// Entries for the measurement of the statements alone.
    pub(crate) most_statements: usize,
    pub(crate) connections: usize,
    /// Sessions that execute a statement, those that wait for a lock among them.
    pub(crate) active: usize,
    pub(crate) waiting: usize,
    pub(crate) idle_in_transaction: usize,
    /// Backend CPU every view may take, in place of its own target.
    pub(crate) cpu_target_ms: Option<f64>,
    rounds: usize,
}

pub(crate) const SMALL: Scale = Scale {
    name: "small",
    schemas: 2,
    tables: 50,
    partitioned: 1,
    policies: 30,
    statements: 300,
    most_statements: 300,
    connections: 20,
    active: 4,
    waiting: 1,
    idle_in_transaction: 2,
    cpu_target_ms: Some(5.0),
    rounds: 30,
};

pub(crate) const LARGE: Scale = Scale {
    name: "large",
    schemas: 20,
    tables: 10_000,
    partitioned: 5,
    policies: 3_000,
    statements: 6_000,
    most_statements: 10_000,
    connections: 500,
    active: 80,
    waiting: 10,
    idle_in_transaction: 5,
    cpu_target_ms: None,
    rounds: 20,
};

/// The time a call may take, at p95: what anybody waits for, whatever the size of the database.
pub(crate) const WALL_TARGET_MS: f64 = 50.0;
/// The same for the first call on a connection.
pub(crate) const COLD_WALL_TARGET_MS: f64 = 100.0;

impl Scale {
    pub(crate) fn rounds(&self) -> usize {
        number("PGVIGIL_BENCH_ROUNDS", self.rounds)
    }
}

/// How often each view is asked on a new connection.
pub(crate) fn cold_rounds() -> usize {
    number("PGVIGIL_BENCH_COLD_ROUNDS", 10)
}

/// How many events the clean-up is measured with.
pub(crate) fn events() -> usize {
    number("PGVIGIL_BENCH_EVENTS", 1_000_000)
}

fn number(variable: &str, default: usize) -> usize {
    env::var_os(variable).map_or(default, |value| {
        let value = value.to_string_lossy();
        let number = value.parse();
        number.unwrap_or_else(|_| panic!("{variable} must be a number, not {value}"))
    })
}
