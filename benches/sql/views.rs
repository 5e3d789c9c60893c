//! What is measured: each view or function of the monitor's beside its floor and its naive form.

use crate::measure::number;
use crate::scale::Scale;
use crate::support::database::TestDatabase;

/// The least that the same data costs: the scan of the catalog, the statistics functions, nothing else.
mod floor {
    pub(super) const ACTIVITY: &str = "select count(a) from pg_stat_get_activity(null) a";
    pub(super) const TABLES: &str = "select count(x) from (select c.oid, c.relnamespace, c.relname, c.relpages, c.relfrozenxid, \
        pg_stat_get_live_tuples(c.oid), pg_stat_get_dead_tuples(c.oid), pg_stat_get_tuples_inserted(c.oid), \
        pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_deleted(c.oid), pg_stat_get_numscans(c.oid), \
        pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid), \
        pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid) \
        from pg_class c where c.relkind in ('r', 'm') and c.oid >= 16384) x";
    pub(super) const RELATIONS: &str = "select count(x) from (select c.oid, c.relnamespace, c.relname, c.relowner, c.relacl, \
        c.relrowsecurity, c.relforcerowsecurity from pg_class c where c.relkind in ('r', 'p') and c.oid >= 16384) x";
    /// What is remembered cannot be had for less than the scan of a table with as many rows.
    pub(super) const REMEMBERED: &str = "select count(*) from monitoring.remembered_tables";
    pub(super) const STATEMENTS: &str =
        "select count(s) from extensions.pg_stat_statements(false) s";
    pub(super) const EVERYTHING: &str = "select (select count(a) from pg_stat_get_activity(null) a) + (select count(x) from ( \
        select c.oid, c.relnamespace, c.relname, c.relowner, c.relacl, c.relrowsecurity, c.relpages, c.relfrozenxid, \
        pg_stat_get_live_tuples(c.oid), pg_stat_get_dead_tuples(c.oid) \
        from pg_class c where c.relkind in ('r', 'p', 'm') and c.oid >= 16384) x)";
}

/// What a monitor asks that was written without measuring. A row is counted as a whole, so that every column is computed.
mod naive {
    pub(super) const SLOW: &str = "select count(x) from (select pid, usename, application_name, client_addr, state, query_start, \
        left(query, 200) as query_preview, extract(epoch from now() - query_start) * 1000 as duration_ms, wait_event_type from pg_stat_activity where state <> 'idle' \
        and now() - query_start > interval '100 milliseconds' order by query_start) x";
    pub(super) const CONNECTIONS: &str = "select count(x) from (select \
        (select count(*) from pg_stat_activity where state = 'active') as active_connections, \
        (select count(*) from pg_stat_activity where state = 'idle') as idle_connections, \
        (select count(*) from pg_stat_activity where state = 'idle in transaction') as idle_in_transaction, \
        (select count(*) from pg_stat_activity) as total_connections, \
        (select count(*) from pg_stat_activity where wait_event_type = 'Lock') as waiting, \
        (select max(now() - xact_start) from pg_stat_activity) as longest_transaction, \
        (select setting::int from pg_settings where name = 'max_connections') as max_connections, \
        (select count(*) from pg_stat_activity) * 100.0 / (select setting::int from pg_settings where name = 'max_connections')) x";
    pub(super) const TABLES: &str = "select count(x) from (select schemaname, relname, \
        pg_size_pretty(pg_total_relation_size(schemaname || '.' || relname)), \
        pg_total_relation_size(schemaname || '.' || relname) as total_size_bytes, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, \
        n_dead_tup, round(100.0 * n_dead_tup / nullif(n_live_tup + n_dead_tup, 0), 2), last_vacuum, last_autovacuum, last_analyze, \
        last_autoanalyze, seq_scan, idx_scan from pg_stat_user_tables order by total_size_bytes desc) x";
    pub(super) const RLS: &str = "select count(x) from (select t.schemaname, t.tablename, t.rowsecurity, \
        count(p.policyname) as policy_count from pg_tables t left join pg_policies p \
        on p.schemaname = t.schemaname and p.tablename = t.tablename \
        where t.schemaname not in ('pg_catalog', 'information_schema') group by 1, 2, 3) x";
    pub(super) const STATEMENTS: &str = "select count(x) from (select * from extensions.pg_stat_statements order by total_exec_time desc) x";
    pub(super) const SUMMARY: &str = "select (select count(*) from pg_stat_activity where state = 'active' \
          and now() - query_start > interval '100 milliseconds') \
        + (select count(*) from pg_stat_activity) \
        + (select setting::int from pg_settings where name = 'max_connections') \
        + (select count(*) from pg_stat_activity where state = 'idle in transaction') \
        + (select count(*) from pg_stat_activity where wait_event_type = 'Lock') \
        + (select count(*) from pg_tables where not rowsecurity and schemaname not in ('pg_catalog', 'information_schema')) \
        + (select count(*) from (select t.tablename from pg_tables t left join pg_policies p \
            on p.schemaname = t.schemaname and p.tablename = t.tablename \
            where t.rowsecurity group by t.schemaname, t.tablename having count(p.policyname) = 0) x) \
        + (select count(*) from pg_stat_user_tables where n_dead_tup > 50 + 0.2 * n_live_tup) \
        + (select count(*) from (select pg_total_relation_size(relid) as size from pg_stat_user_tables) x where size > 1000000000) \
        + (select count(*) from public.monitoring_events where resolved_at is null)";
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As {
    Reader,
    Agent,
    /// The app itself, by a GET: what would be the statement is its query string.
    Api,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) caller: As,
    /// What a superuser does before each call, unmeasured.
    pub(crate) before: &'static str,
    /// Whether asking leaves everything as it was, so that the next call is the same.
    pub(crate) is_repeatable: bool,
    /// Computes every row and sends only their number; `None` where the function is not there (yet).
    pub(crate) sql: Option<&'static str>,
    /// Sends every row.
    pub(crate) sent: Option<&'static str>,
    pub(crate) floor: Option<&'static str>,
    /// Several statements where it takes several.
    pub(crate) naive: Vec<&'static str>,
    pub(crate) cpu_target_ms: Option<f64>,
    /// Fewer is a wrong answer, however fast it came.
    pub(crate) at_least: i64,
}

impl View {
    fn new(name: &'static str, sql: &'static str, sent: &'static str) -> Self {
        Self {
            name,
            caller: As::Reader,
            before: "",
            is_repeatable: true,
            sql: Some(sql),
            sent: Some(sent),
            floor: None,
            naive: Vec::new(),
            cpu_target_ms: None,
            at_least: 1,
        }
    }

    fn beside(self, floor: &'static str, naive: &'static str) -> Self {
        Self {
            floor: Some(floor),
            naive: vec![naive],
            ..self
        }
    }

    fn within(self, cpu_target_ms: f64, scale: &Scale) -> Self {
        Self {
            cpu_target_ms: scale.cpu_target_ms.or(Some(cpu_target_ms)),
            ..self
        }
    }

    fn at_least(self, at_least: i64) -> Self {
        Self { at_least, ..self }
    }
}

const RLS: [&str; 2] = [
    "select count(*) from public.monitoring_rls_status",
    "select * from public.monitoring_rls_status",
];
const SUMMARY: [&str; 2] = [
    "select (public.get_database_monitoring_summary() -> 'metrics' ->> 'slow_queries')::int",
    "select public.get_database_monitoring_summary()",
];

/// How many tables the views must show.
const TABLES: &str = "select count(*) from pg_class where relkind in ('r', 'm') and relpersistence <> 't' \
    and relnamespace::regnamespace::text !~ '^(pg_|information_schema$|monitoring$)'";
const RELATIONS: &str = "select count(*) from pg_class where relkind in ('r', 'p') and relpersistence <> 't' \
    and relnamespace::regnamespace::text !~ '^(pg_|information_schema$|monitoring$)'";

/// What is asked while nothing changes: the sampler has run, nobody has touched a table or a policy since.
pub(crate) async fn quiet(database: &TestDatabase, scale: &Scale) -> Vec<View> {
    let superuser = database.superuser().await;
    let tables = number(&superuser, TABLES).await;
    let relations = number(&superuser, RELATIONS).await;
    let active = i64::try_from(scale.active).expect("counting sessions");
    // A small database remembers nothing, and none does before 15.
    let remembered = match number(&superuser, floor::REMEMBERED).await {
        0 => floor::RELATIONS,
        _ => floor::REMEMBERED,
    };
    vec![
        View::new(
            "slow queries",
            "select count(*) from public.monitoring_slow_queries",
            "select * from public.monitoring_slow_queries",
        )
        .beside(floor::ACTIVITY, naive::SLOW)
        .within(10.0, scale)
        .at_least(active),
        View::new(
            "connections",
            "select count(*) from public.monitoring_connections",
            "select * from public.monitoring_connections",
        )
        .beside(floor::ACTIVITY, naive::CONNECTIONS)
        .within(5.0, scale),
        View::new(
            "table health, all rows",
            "select count(*) from public.monitoring_table_health",
            "select * from public.monitoring_table_health",
        )
        .beside(floor::TABLES, naive::TABLES)
        .within(40.0, scale)
        .at_least(tables),
        View::new(
            "table health, 20 largest",
            "select count(*) from monitoring.table_health(20)",
            "select * from monitoring.table_health(20)",
        )
        .beside(floor::TABLES, naive::TABLES)
        .at_least(20),
        View::new("RLS status, unchanged", RLS[0], RLS[1])
            .beside(remembered, naive::RLS)
            .within(1.0, scale)
            .at_least(relations),
        View::new(
            "RLS status, 20 worst",
            "select count(*) from monitoring.rls_status(20)",
            "select * from monitoring.rls_status(20)",
        )
        .beside(remembered, naive::RLS)
        .within(1.0, scale)
        .at_least(20),
        View {
            sent: None,
            ..View::new(
                "RLS status, whole rows",
                "select count(x) from public.monitoring_rls_status x",
                "",
            )
            .beside(remembered, naive::RLS)
            .at_least(relations)
        },
        View::new("summary", SUMMARY[0], SUMMARY[1])
            .beside(floor::EVERYTHING, naive::SUMMARY)
            .within(40.0, scale)
            .at_least(active),
        View::new(
            "findings",
            "select count(*) from monitoring.findings()",
            "select * from monitoring.findings()",
        )
        .beside(floor::EVERYTHING, naive::SUMMARY),
        View {
            caller: As::Agent,
            // Or the tick would have its sample already.
            before: "delete from monitoring.samples",
            is_repeatable: false,
            sent: None,
            ..View::new(
                "sample",
                "select case monitoring.sample() ->> 'status' when 'done' then 1 else 0 end",
                "",
            )
            .beside(floor::EVERYTHING, naive::SUMMARY)
        },
        View {
            caller: As::Api,
            sent: None,
            naive: vec![
                naive::SUMMARY,
                naive::SLOW,
                naive::CONNECTIONS,
                naive::TABLES,
                naive::RLS,
            ],
            ..View::new("full GET", "", "")
                .beside(floor::EVERYTHING, "")
                .at_least(5)
        },
    ]
}

/// What may remember, asked after something has changed. Changes are counted by the statistics, which a session passes on only
/// now and then unless told to.
pub(crate) async fn changed(database: &TestDatabase, scale: &Scale) -> Vec<View> {
    const CHANGE: &str = "do $$ begin execute format('alter table public.changing_now %s row level security', \
        case when (select relrowsecurity from pg_class where oid = 'public.changing_now'::regclass) \
        then 'disable' else 'enable' end); \
        if current_setting('server_version_num')::int >= 150000 then perform pg_stat_force_next_flush(); end if; end $$";
    let superuser = database.superuser().await;
    let relations = number(&superuser, RELATIONS).await;
    let after_a_change = |view: View| View {
        before: CHANGE,
        ..view
    };
    vec![
        after_a_change(View::new("RLS status, all rows", RLS[0], RLS[1]))
            .beside(floor::RELATIONS, naive::RLS)
            .within(30.0, scale)
            .at_least(relations),
        after_a_change(View::new("summary, changed", SUMMARY[0], SUMMARY[1]))
            .beside(floor::EVERYTHING, naive::SUMMARY)
            .within(40.0, scale)
            .at_least(i64::try_from(scale.active).expect("counting sessions")),
    ]
}

/// The statements, where the function is there; their floor and their naive form in any case.
pub(crate) async fn statements(database: &TestDatabase, scale: &Scale) -> Vec<View> {
    let superuser = database.superuser().await;
    let there = number(
        &superuser,
        "select count(to_regprocedure('monitoring.statements(int)'))",
    )
    .await
        == 1;
    let heaviest = |name, before| View {
        before: if there { before } else { "" },
        ..View::new(
            name,
            "select count(*) from monitoring.statements(20)",
            "select * from monitoring.statements(20)",
        )
        .beside(floor::STATEMENTS, naive::STATEMENTS)
        .at_least(20)
    };
    [
        heaviest(
            "statements, 20 heaviest",
            "select monitoring.sample_statements(now(), null); select monitoring.note_statement_texts()",
        )
        .within(25.0, scale),
        heaviest(
            "statements, texts not noted",
            "delete from monitoring.statement_texts",
        ),
    ]
    .map(|view| View {
        sql: view.sql.filter(|_| there),
        sent: view.sent.filter(|_| there),
        ..view
    })
    .into()
}
