//! Whether the answers are right, asked another way: a fast wrong answer is no answer.

use crate::measure::number;
use crate::report::{Report, print};
use crate::scale::Scale;
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::token;

/// What the monitor says, what the catalogs say, and the share by which they may differ.
const AGREE: &[(&str, &str, &str, f64)] = &[
    (
        "live tuples of all tables",
        "select sum(live_tuples)::bigint from public.monitoring_table_health",
        "select sum(n_live_tup)::bigint from pg_stat_user_tables where schemaname <> 'monitoring'",
        0.001,
    ),
    (
        "dead tuples of all tables",
        "select sum(dead_tuples)::bigint from public.monitoring_table_health",
        "select sum(n_dead_tup)::bigint from pg_stat_user_tables where schemaname <> 'monitoring'",
        0.001,
    ),
    (
        "tables of high risk",
        "select count(*) from public.monitoring_rls_status where security_risk_level = 'HIGH_RISK'",
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity",
        0.0,
    ),
    (
        "tables of high risk, by the summary",
        "select (public.get_database_monitoring_summary() -> 'metrics' ->> 'high_risk_tables')::bigint",
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity",
        0.0,
    ),
    (
        "policies of all tables",
        "select sum(policy_count)::bigint from public.monitoring_rls_status",
        "select count(*) from pg_policies",
        0.0,
    ),
    (
        "the twenty largest tables, bytes",
        "select sum(total_size_bytes)::bigint from monitoring.table_health(20)",
        "select sum(size)::bigint from (select pg_total_relation_size(relid) as size from pg_stat_user_tables \
         where schemaname <> 'monitoring' order by 1 desc limit 20) x",
        0.05,
    ),
    (
        "previews that show a literal",
        "select count(*) from public.monitoring_slow_queries where query_preview ~ 'example|hunter|EU-west|a body|checkout|last word'",
        "select 0::bigint",
        0.0,
    ),
];

pub(crate) async fn check(database: &TestDatabase, scale: &Scale, report: &mut Report) {
    let reader = Caller::Reader(token::claims("bench", "admin"));
    let reader = database.as_caller(reader).await;
    let superuser = database.superuser().await;
    for (what, seen, true_value, tolerance) in AGREE {
        let (seen, expected) = (
            number(&reader, seen).await,
            number(&superuser, true_value).await,
        );
        if !is_close(seen, expected, *tolerance) {
            report.problem(format!(
                "{}: {what}: {seen}, which should be {expected}",
                scale.name
            ));
        }
    }
    for (what, seen, least) in [
        (
            "connections",
            "select max(total_connections) from public.monitoring_connections",
            scale.connections,
        ),
        (
            "sessions waiting for a lock",
            "select max(waiting_for_lock) from public.monitoring_connections",
            scale.waiting,
        ),
        (
            "sessions that are blocked",
            "select count(*) from public.monitoring_slow_queries where blocked_by <> '{}'",
            scale.waiting,
        ),
    ] {
        let seen = number(&reader, seen).await;
        if seen < i64::try_from(least).unwrap_or(i64::MAX) {
            report.problem(format!("{}: {what}: {seen} of {least}", scale.name));
        }
    }
    // Sizes may be remembered ones; how far they are off is worth knowing, and no more than that.
    let all = "select sum(total_size_bytes)::bigint from public.monitoring_table_health";
    let exact = "select sum(pg_total_relation_size(relid))::bigint from pg_stat_user_tables where schemaname <> 'monitoring'";
    let (seen, exact) = (number(&reader, all).await, number(&superuser, exact).await);
    print(&format!(
        "The sizes of all tables add up to {} % of what measuring each would give.\n",
        100 * seen / exact.max(1)
    ));
    if seen == 0 {
        report.problem(format!("{}: no table has a size", scale.name));
    }
}

fn is_close(seen: i64, expected: i64, tolerance: f64) -> bool {
    let as_float = |number: i64| number.to_string().parse::<f64>().unwrap_or(f64::NAN);
    (as_float(seen) - as_float(expected)).abs() <= tolerance * as_float(expected)
}
