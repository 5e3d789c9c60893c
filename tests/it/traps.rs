//! Defects seen elsewhere, each a test under the trap's own name: it shows that the trap is there on this server, then that
//! we do not fall into it.
//!
//! Where the façade's own tests meet a trap already, their comment says so.

// What a database lacks, has already, or does not let us do.
mod applying;
// Counters, durations, orders that say something else.
mod numbers;
// Who sees too much, and who sees nothing and takes it for health.
mod seeing;

use tokio_postgres::{Client, Row};

use crate::support::database::TestDatabase;
use crate::support::postgres::SUPERUSER;

/// Every view and every function that a reader may call.
const READS: [&str; 7] = [
    "select * from public.monitoring_slow_queries",
    "select * from public.monitoring_connections",
    "select * from public.monitoring_table_health",
    "select * from public.monitoring_rls_status",
    "select * from public.monitoring_events",
    "select public.get_database_monitoring_summary()",
    "select * from monitoring.findings()",
];

/// The only row of a query.
async fn one(client: &Client, sql: &str) -> Row {
    let row = client.query_one(sql, &[]).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

/// With which SQLSTATE a query is refused.
async fn refusal(client: &Client, sql: &str) -> String {
    match client.query(sql, &[]).await {
        Ok(rows) => panic!("{sql} gave {} rows", rows.len()),
        Err(error) => match error.code() {
            Some(code) => code.code().to_owned(),
            None => panic!("{sql}: {error:?}"),
        },
    }
}

async fn execute(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Everything can be read, and an event recorded, resolved and looked for by the clean-up.
fn works(database: &TestDatabase) {
    let writes = [
        "select record_monitoring_event('slow_query', '{}')",
        "select monitoring.resolve_event(id) from monitoring_events",
        "select cleanup_old_monitoring_data()",
        "select monitoring.sample()",
    ];
    for sql in READS.iter().chain(&writes) {
        let done = database.psql(SUPERUSER, sql);
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
