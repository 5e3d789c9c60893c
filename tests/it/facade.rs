//! The façade in `public`: what each view and function promises, on situations made for real.

// More than one list or one batch holds.
mod many;

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

/// The rows of a query, as JSON.
async fn rows(client: &Client, query: &str) -> Vec<Value> {
    let sql = format!("select to_jsonb(found)::text from ({query}) found");
    let rows = client.query(&sql, &[]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let parse = |row: &tokio_postgres::Row| {
        serde_json::from_str(row.get::<_, &str>(0)).expect("parsing a row")
    };
    rows.iter().map(parse).collect()
}

async fn row(client: &Client, query: &str) -> Value {
    let rows = rows(client, query).await;
    assert_eq!(rows.len(), 1, "{query}: {rows:?}");
    rows.into_iter().next().unwrap_or_default()
}

fn columns(database: &TestDatabase, relation: &str) -> String {
    let sql = format!(
        "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum) \
         from pg_attribute where attrelid = 'public.{relation}'::regclass and attnum > 0"
    );
    database
        .psql(SUPERUSER, &sql)
        .expect("reading columns")
        .trim()
        .to_owned()
}

#[test]
fn columns_are_those_of_the_contract() {
    let database = plain().database();
    for (relation, expected) in [
        (
            "monitoring_slow_queries",
            "query_start timestamp with time zone, state text, query_preview text, duration_ms bigint, pid integer, \
             username name, application_name text, client_addr inet, wait_event_category text, query_id bigint, \
             transaction_ms bigint, blocked_by integer[]",
        ),
        (
            "monitoring_connections",
            "active_connections bigint, idle_connections bigint, idle_in_transaction bigint, total_connections bigint, \
             utilization_percent numeric, database_name name, database_connections bigint, max_connections integer, \
             waiting_for_lock bigint, longest_transaction_ms bigint",
        ),
        (
            "monitoring_table_health",
            "schemaname name, tablename name, total_size text, total_size_bytes bigint, inserts bigint, updates bigint, \
             deletes bigint, live_tuples bigint, dead_tuples bigint, dead_tuple_percent numeric, \
             last_vacuum timestamp with time zone, last_autovacuum timestamp with time zone, \
             last_analyze timestamp with time zone, last_autoanalyze timestamp with time zone, \
             sequential_scans bigint, index_scans bigint, index_usage_percent numeric, xid_age integer, \
             needs_vacuum boolean",
        ),
        (
            "monitoring_rls_status",
            "schemaname name, tablename name, rls_enabled boolean, rls_status text, policy_count bigint, \
             security_risk_level text, rls_forced boolean, risk_rank integer, exposed_to name[], reasons text[]",
        ),
        (
            "monitoring_events",
            "id uuid, event_type text, event_data jsonb, severity text, created_at timestamp with time zone, \
             user_id uuid, source_ip inet, user_agent text, resolved_at timestamp with time zone, \
             resolution_notes text, fingerprint text, last_seen_at timestamp with time zone, occurrences integer",
        ),
    ] {
        assert_eq!(
            columns(&database, relation),
            expected.replace("             ", ""),
            "{relation}"
        );
    }
}

#[tokio::test]
async fn a_slow_query_is_seen_redacted_and_the_reader_itself_is_not() {
    let database = plain().database();
    let client = database.superuser().await;
    let sql = "select pg_sleep(600), 'caterer@example.com' as secret";
    let slow = Workload::running(&database, database.superuser().await, sql).await;
    wait_until("the query is slow", async || {
        rows(&client, "select * from monitoring_slow_queries")
            .await
            .len()
            == 1
    })
    .await;
    let seen = row(&client, "select * from monitoring_slow_queries").await;
    assert_eq!(seen["pid"], slow.pid);
    assert_eq!(seen["query_preview"], "select pg_sleep(?), ? as secret");
    assert_eq!(
        (&seen["state"], &seen["blocked_by"]),
        (&json!("active"), &json!([]))
    );
    assert!(
        seen["duration_ms"].as_i64() >= Some(100) && seen["transaction_ms"].is_i64(),
        "{seen}"
    );
}

/// A query that merely mentioned `pg_stat` hid itself from the original view.
#[tokio::test]
async fn a_query_that_mentions_pg_stat_does_not_hide() {
    let database = plain().database();
    let client = database.superuser().await;
    let sql =
        "set application_name = 'pgvigil'; select pg_sleep(600) from pg_stat_activity limit 1";
    let _slow = Workload::running(&database, database.superuser().await, sql).await;
    wait_until("it is seen", async || {
        !rows(&client, "select * from monitoring_slow_queries")
            .await
            .is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_monitors_own_sessions_are_not_slow_queries() {
    let database = plain().database();
    let client = database.superuser().await;
    let sampler = database.login().await;
    let _own = Workload::running(&database, sampler, "select pg_sleep(600)").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        rows(&client, "select * from monitoring_slow_queries").await,
        Vec::<Value>::new()
    );
}

#[tokio::test]
async fn the_slow_query_threshold_is_a_setting() {
    let database = plain().database();
    let client = database.superuser().await;
    let _slow = Workload::running(
        &database,
        database.superuser().await,
        "select pg_sleep(600)",
    )
    .await;
    wait_until("it is slow", async || {
        !rows(&client, "select * from monitoring_slow_queries")
            .await
            .is_empty()
    })
    .await;
    database
        .psql(
            SUPERUSER,
            "update monitoring.settings set value = '60000' where key = 'slow_query_threshold_ms'",
        )
        .expect("changing the threshold");
    assert!(
        rows(&client, "select * from monitoring_slow_queries")
            .await
            .is_empty()
    );
    for (key, value) in [
        ("slow_query_threshold_ms", "\"fast\""),
        ("slow_query_threshold_ms", "0"),
        ("sample_interval_seconds", "60.0"),
        ("no_such_key", "1"),
    ] {
        let sql = format!(
            "insert into monitoring.settings values ('{key}', '{value}', '') on conflict (key) do update set value = excluded.value"
        );
        let error = database.psql(SUPERUSER, &sql).expect_err("a bad setting");
        assert!(error.contains("settings_value_is_valid"), "{error}");
    }
}

/// Joining `pg_locks` to itself blames innocent readers.
#[tokio::test]
async fn a_blocked_session_names_its_blocker() {
    let database = plain().database();
    let client = database.superuser().await;
    client
        .batch_execute("create table guests (id int)")
        .await
        .expect("creating a table");
    let [holder, waiter] = Workload::lock_queue(&database, "guests").await;
    wait_until("it has waited", async || {
        !rows(&client, "select * from monitoring_slow_queries")
            .await
            .is_empty()
    })
    .await;
    let seen = row(&client, "select * from monitoring_slow_queries").await;
    assert_eq!(
        (&seen["pid"], &seen["blocked_by"]),
        (&json!(waiter.pid), &json!([holder.pid]))
    );
    assert_eq!(seen["wait_event_category"], "Lock");
    let connections = format!(
        "select * from monitoring_connections where database_name = '{}'",
        database.name
    );
    assert_eq!(row(&client, &connections).await["waiting_for_lock"], 1);
}

/// Utilization counted active connections only: a pool exhausted by idle ones looked idle.
#[tokio::test]
async fn a_pool_exhausted_by_idle_connections_does_not_look_idle() {
    let cluster = Cluster::start(ClusterOptions {
        max_connections: 23,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let client = database.superuser().await;
    let mut idle = Vec::new();
    for _ in 0..9 {
        idle.push(database.superuser().await);
    }
    // Whoever made the database may still be on the way out.
    wait_until("nobody else is connected", async || {
        row(&client, "select * from monitoring_connections").await["total_connections"] == 10
    })
    .await;
    let seen = row(&client, "select * from monitoring_connections").await;
    assert_eq!(
        (&seen["total_connections"], &seen["idle_connections"]),
        (&json!(10), &json!(9))
    );
    assert_eq!(
        (&seen["active_connections"], &seen["max_connections"]),
        (&json!(1), &json!(23))
    );
    assert_eq!(
        seen["utilization_percent"],
        json!(50.0),
        "10 of 23 less 3 reserved"
    );
}

/// A name made of schema and table by `||` fails in `pg_total_relation_size`: sizes are asked by oid.
#[tokio::test]
async fn a_table_named_guest_list_has_its_size() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = r#"
        create schema "Wedding Day";
        create table "Wedding Day"."Guest List" (id int primary key, name text);
        insert into "Wedding Day"."Guest List" select i, repeat('x', 200) from generate_series(1, 1000) i;
        delete from "Wedding Day"."Guest List" where id <= 600;
        create table plain (id int); insert into plain values (1); select * from plain;
        create materialized view counted as select count(*) from plain;
        create table parent (day date) partition by range (day);
        create table child partition of parent for values from ('2025-01-01') to ('2026-01-01');
    "#;
    client.batch_execute(setup).await.expect("creating tables");
    wait_until("the counters arrive", async || {
        let seen = row(
            &client,
            "select * from monitoring_table_health where tablename = 'Guest List'",
        )
        .await;
        seen["dead_tuples"] == 600
    })
    .await;
    let seen = row(
        &client,
        "select * from monitoring_table_health where tablename = 'Guest List'",
    )
    .await;
    assert_eq!(
        (&seen["live_tuples"], &seen["dead_tuple_percent"]),
        (&json!(400), &json!(60.0))
    );
    assert_eq!(
        (&seen["inserts"], &seen["deletes"]),
        (&json!(1000), &json!(600))
    );
    let exact = row(
        &client,
        r#"select pg_total_relation_size('"Wedding Day"."Guest List"') as bytes"#,
    )
    .await;
    assert_eq!(seen["total_size_bytes"], exact["bytes"]);
    assert_eq!(
        seen["needs_vacuum"], true,
        "600 dead, never vacuumed: past 50 + 20 % of none"
    );
    let names = rows(
        &client,
        "select tablename from monitoring_table_health order by 1",
    )
    .await;
    let names: Vec<&str> = names
        .iter()
        .filter_map(|row| row["tablename"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Guest List",
            "child",
            "counted",
            "monitoring_events",
            "plain"
        ]
    );
}

#[tokio::test]
async fn needs_vacuum_follows_the_tables_own_options() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "
        create table eager (id int); create table lazy (id int) with (autovacuum_vacuum_threshold = 5000);
        insert into eager select generate_series(1, 1000); insert into lazy select generate_series(1, 1000);
        analyze eager; analyze lazy;
        delete from eager where id <= 400; delete from lazy where id <= 400;";
    client.batch_execute(setup).await.expect("creating tables");
    let needing = "select tablename from monitoring_table_health where needs_vacuum";
    wait_until("the counters arrive", async || {
        !rows(&client, needing).await.is_empty()
    })
    .await;
    assert_eq!(
        rows(&client, needing).await,
        [json!({"tablename": "eager"})]
    );
}

/// Autovacuum goes by a TOAST table's own options where it has any, and by the table's otherwise.
#[tokio::test]
async fn needs_vacuum_follows_the_toast_tables_own_options() {
    let database = plain().database();
    let client = database.superuser().await;
    for (options, table_age, toast_age, needs_vacuum) in [
        ("autovacuum_freeze_max_age = 100000", 0, 150_000, true),
        ("autovacuum_freeze_max_age = 100000", 150_000, 0, true),
        (
            "autovacuum_freeze_max_age = 100000, toast.autovacuum_vacuum_cost_delay = 1",
            0,
            150_000,
            false,
        ),
        (
            "autovacuum_freeze_max_age = 100000, toast.autovacuum_vacuum_cost_delay = 1",
            150_000,
            0,
            true,
        ),
        (
            "toast.autovacuum_freeze_max_age = 100000",
            150_000,
            0,
            false,
        ),
        ("toast.autovacuum_freeze_max_age = 100000", 0, 150_000, true),
        ("fillfactor = 50", 150_000, 150_000, false),
    ] {
        let setup = format!(
            "create table aged (id int, diary text) with (autovacuum_enabled = off, {options});
            set allow_system_table_mods = on;
            update pg_class c set relfrozenxid = ((txid_current() - a.age + 4294967296) % 4294967296)::text::xid
            from (select c.oid, {table_age} as age from pg_class c where c.relname = 'aged'
              union all select c.reltoastrelid, {toast_age} from pg_class c where c.relname = 'aged') a
            where c.oid = a.oid;
            reset allow_system_table_mods"
        );
        client.batch_execute(&setup).await.expect(options);
        let told = "select needs_vacuum from monitoring_table_health where tablename = 'aged'";
        assert_eq!(
            rows(&client, told).await,
            [json!({"needs_vacuum": needs_vacuum})],
            "{options} at {table_age} and {toast_age}"
        );
        client
            .batch_execute("drop table aged")
            .await
            .expect("dropping");
    }
}

/// What is not measured is told by pages and rows: of a table as dense as it is, and of a TOAST table that no VACUUM has seen yet.
#[tokio::test]
async fn what_is_not_measured_is_about_as_large_as_it_is() {
    let database = plain().database();
    let client = database.superuser().await;
    // A VACUUM counts what is there, and what arrives after it is counted on top.
    let counted = async |name: &str, rows_at_least: i64| {
        let sql = format!(
            "select count(*) as n from pg_class c where c.relname = '{name}'
               and greatest(pg_stat_get_live_tuples(c.oid), pg_stat_get_live_tuples(c.reltoastrelid)) >= {rows_at_least}"
        );
        wait_until("the counters arrive", async || {
            rows(&client, &sql).await == [json!({"n": 1})]
        })
        .await;
    };
    let execute = async |sql: &str| client.batch_execute(sql).await.expect(sql);
    execute("create table narrow (id int); insert into narrow select generate_series(1, 100000)")
        .await;
    execute("create table grown (id int); insert into grown select generate_series(1, 10000)")
        .await;
    execute("create table toasted (diary text); alter table toasted alter column diary set storage external").await;
    execute("insert into toasted select repeat('x', 1000000) from generate_series(1, 10)").await;
    counted("narrow", 100_000).await;
    counted("grown", 10_000).await;
    execute("vacuum analyze narrow").await;
    execute("vacuum analyze grown").await;
    execute("insert into grown select generate_series(1, 90000)").await;
    counted("grown", 100_000).await;
    counted("toasted", 5000).await;
    let exact = "select relname as tablename, pg_total_relation_size(oid) as bytes from pg_class where relname in ('grown', 'narrow', 'toasted') order by 1";
    let exact = rows(&client, exact).await;
    let holder = database.superuser().await;
    let lock = "begin; lock table grown, narrow, toasted in access exclusive mode";
    holder.batch_execute(lock).await.expect(lock);
    let told = "select tablename, total_size_bytes as bytes from monitoring_table_health where tablename in ('grown', 'narrow', 'toasted') order by 1";
    let told = rows(&client, told).await;
    for (exact, told) in exact.iter().zip(&told) {
        let ratio =
            told["bytes"].as_f64().expect("a size") / exact["bytes"].as_f64().expect("a size");
        assert!((0.85..1.15).contains(&ratio), "{told} for {exact}");
    }
}

/// The server keeps an option as it was written, and so does anybody who owns a table.
#[tokio::test]
async fn numbers_of_a_tables_options_are_read_as_the_server_reads_them() {
    let database = plain().database();
    let client = database.superuser().await;
    for (written, read) in [
        ("300000", 300_000),
        ("3e5", 300_000),
        ("300000.5", 300_000),
        ("300001.5", 300_002),
        ("0x493E0", 300_000),
        ("01111740", 300_000),
        (" +300000 ", 300_000),
        ("00300000.4", 300_000),
        (&format!("{}1111740", "0".repeat(150_000)), 300_000),
    ] {
        let create = format!(
            "create table told (id int) with (autovacuum_vacuum_threshold = '{written}', autovacuum_freeze_max_age = '{written}',
               autovacuum_multixact_freeze_max_age = '{written}', autovacuum_vacuum_scale_factor = '1e-1')"
        );
        client.batch_execute(&create).await.expect(written);
        let options = "select vacuum_threshold::bigint as threshold, freeze_max_age, multixact_freeze_max_age, vacuum_scale_factor
            from monitoring.look_at_tables() where tablename = 'told'";
        assert_eq!(
            rows(&client, options).await,
            [
                json!({"threshold": read, "freeze_max_age": read, "multixact_freeze_max_age": read, "vacuum_scale_factor": 0.1})
            ],
            "{written}"
        );
        let told = "select needs_vacuum from monitoring_table_health where tablename = 'told'";
        assert_eq!(rows(&client, told).await, [json!({"needs_vacuum": false})]);
        client
            .batch_execute("drop table told")
            .await
            .expect("dropping");
    }
}

/// `index_usage_percent` of a table without indexes is NULL, not 0.
#[tokio::test]
async fn index_usage_percent_of_a_table_without_indexes_is_null() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "create table bare (id int); create table keyed (id int primary key);
                 insert into keyed select generate_series(1, 10); select count(*) from bare; select count(*) from keyed;";
    client.batch_execute(setup).await.expect("creating tables");
    let health = "select tablename, index_usage_percent from monitoring_table_health where tablename in ('bare', 'keyed') order by 1";
    wait_until("the counters arrive", async || {
        rows(&client, health).await[1]["index_usage_percent"] == 0.0
    })
    .await;
    assert_eq!(
        rows(&client, health).await[0]["index_usage_percent"],
        Value::Null
    );
}

/// Every form that measures a size hangs while a migration holds ACCESS EXCLUSIVE on one table.
#[tokio::test]
async fn no_view_waits_for_a_migrations_lock() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "create table locked (id int primary key, name text); insert into locked values (1);
                 alter table locked enable row level security; create policy p on locked using (id > 0);
                 create table free (id int); insert into free values (1); set statement_timeout = '20s'";
    client.batch_execute(setup).await.expect("creating tables");
    let filled =
        "insert into locked select i, repeat(i::text, 9000) from generate_series(2, 2000) i";
    client.batch_execute(filled).await.expect("filling a table");
    let vacuum = "vacuum analyze locked";
    client.batch_execute(vacuum).await.expect("vacuuming");
    let remembered = row(
        &client,
        "select sum(c.relpages) * 8192 as bytes
         from pg_class l join pg_class c on c.oid in (l.oid, l.reltoastrelid)
           or c.oid in (select i.indexrelid from pg_index i where i.indrelid in (l.oid, l.reltoastrelid))
         where l.relname = 'locked'",
    )
    .await;
    let [_holder, _waiter] = Workload::lock_queue(&database, "locked").await;
    for view in [
        "slow_queries",
        "connections",
        "table_health",
        "rls_status",
        "events",
    ] {
        rows(&client, &format!("select * from monitoring_{view}")).await;
    }
    let seen = row(
        &client,
        "select get_database_monitoring_summary() as summary",
    )
    .await;
    assert!(seen["summary"]["health_score"].is_u64());
    let sizes = rows(
        &client,
        "select tablename, total_size_bytes from monitoring_table_health order by 1",
    )
    .await;
    let size_of = |table: &str| {
        let row = sizes.iter().find(|row| row["tablename"] == table);
        row.expect("finding the table")["total_size_bytes"].as_i64()
    };
    assert!(size_of("free") > Some(0), "measured: {sizes:?}");
    // With its TOAST table and the indexes of both.
    assert!(size_of("locked") > Some(100 * 8192), "{sizes:?}");
    assert_eq!(size_of("locked"), remembered["bytes"].as_i64());
}

#[tokio::test]
async fn the_summary_has_its_shape_and_a_finding_lowers_the_score() {
    let database = plain().database();
    let client = database.superuser().await;
    let healthy = row(&client, "select get_database_monitoring_summary() as s").await["s"].clone();
    assert_eq!(
        (&healthy["health_score"], &healthy["status"]),
        (&json!(100), &json!("excellent")),
        "{healthy}"
    );
    assert_eq!(
        (&healthy["findings"], &healthy["window"]),
        (&json!([]), &Value::Null)
    );
    for metric in [
        "slow_queries",
        "connection_utilization_percent",
        "high_risk_tables",
        "unresolved_events",
    ] {
        assert!(
            healthy["metrics"][metric].is_number(),
            "{metric} in {healthy}"
        );
    }
    client
        .batch_execute("create table unprotected (id int)")
        .await
        .expect("creating a table");
    let warned = row(&client, "select get_database_monitoring_summary() as s").await["s"].clone();
    client
        .batch_execute("grant select on unprotected to public")
        .await
        .expect("opening it");
    let critical = row(&client, "select get_database_monitoring_summary() as s").await["s"].clone();
    assert_eq!(
        (&warned["health_score"], &critical["health_score"]),
        (&json!(92), &json!(80))
    );
    assert_eq!(
        (&warned["status"], &critical["status"]),
        (&json!("excellent"), &json!("good"))
    );
    let finding = &critical["findings"][0];
    assert_eq!(
        (&finding["check_id"], &finding["severity"]),
        (&json!("rls-exposed"), &json!("critical"))
    );
    assert_eq!(
        finding["fingerprint"], warned["findings"][0]["fingerprint"],
        "the same matter keeps its fingerprint"
    );
    assert_eq!(
        critical["recommendations"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn an_event_is_recorded_whole_or_refused_by_name() {
    let database = plain().database();
    let client = database.superuser().await;
    let record = "select record_monitoring_event('slow_query', '{\"a\": 1}', 'high', '203.0.113.7', 'agent') as id";
    let id = row(&client, record).await["id"].clone();
    let event = row(&client, "select * from monitoring_events").await;
    assert_eq!(
        (&event["id"], &event["severity"], &event["occurrences"]),
        (&id, &json!("high"), &json!(1))
    );
    assert_eq!(
        (&event["source_ip"], &event["resolved_at"]),
        (&json!("203.0.113.7"), &Value::Null)
    );
    for (call, named) in [
        ("'other', '{}'", "event_type"),
        ("null, '{}'", "event_type"),
        ("'slow_query', '[]'", "event_data"),
        ("'slow_query', null", "event_data"),
        ("'slow_query', '{}', 'urgent'", "severity"),
        (
            "'slow_query', jsonb_build_object('a', repeat('x', 65536))",
            "64 kB",
        ),
    ] {
        let error = database
            .psql(
                SUPERUSER,
                &format!("select record_monitoring_event({call})"),
            )
            .expect_err(call);
        assert!(error.contains(named), "{call}: {error}");
    }
    assert_eq!(
        rows(&client, "select * from monitoring_events").await.len(),
        1
    );
}

/// Unresolved critical events were deleted after seven days while still burning.
#[tokio::test]
async fn unresolved_events_are_not_deleted_while_still_burning() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "insert into monitoring_events (event_type, event_data, fingerprint, created_at, last_seen_at, resolved_at)
        select 'slow_query', '{}', name, now() - created, now() - seen, now() - resolved from (values
            ('still fires', interval '90 days', interval '1 hour', null::interval),
            ('silent', interval '90 days', interval '8 days', null),
            ('silent for less', interval '90 days', interval '6 days', null),
            ('resolved long ago', interval '90 days', interval '90 days', interval '31 days'),
            ('resolved lately', interval '90 days', interval '90 days', interval '29 days')) v (name, created, seen, resolved)";
    client.batch_execute(setup).await.expect("inserting events");
    let report = row(&client, "select cleanup_old_monitoring_data() as r").await["r"].clone();
    assert_eq!(
        (&report["resolved_events"], &report["unresolved_events"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    let kept = rows(
        &client,
        "select fingerprint as name from monitoring_events order by 1",
    )
    .await;
    let kept: Vec<&str> = kept.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(kept, ["resolved lately", "silent for less", "still fires"]);
    let again = row(&client, "select cleanup_old_monitoring_data() as r").await["r"].clone();
    assert_eq!(
        (&again["resolved_events"], &again["complete"]),
        (&json!(0), &json!(true))
    );
}

#[tokio::test]
async fn one_open_event_per_fingerprint() {
    let database = plain().database();
    let insert = "insert into monitoring_events (event_type, event_data, fingerprint) values ('slow_query', '{}', 'f')";
    database.psql(SUPERUSER, insert).expect("opening an event");
    let error = database
        .psql(SUPERUSER, insert)
        .expect_err("a second open event");
    assert!(error.contains("open_fingerprint"), "{error}");
    database
        .psql(
            SUPERUSER,
            "update monitoring_events set resolved_at = now()",
        )
        .expect("resolving");
    database.psql(SUPERUSER, insert).expect("opening it again");
}

/// Without `pg_read_all_stats` a healthy-looking empty list is blindness: the answer says so.
#[tokio::test]
async fn a_healthy_looking_empty_list_is_named_blindness() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    assert!(
        rows(&client, "select * from monitoring.degraded()")
            .await
            .is_empty()
    );
    client
        .batch_execute("revoke pg_monitor from monitoring_owner")
        .await
        .expect("blinding the owner");
    let named = rows(&client, "select * from monitoring.degraded()").await;
    assert!(
        named.iter().any(|row| row["section"] == "slowQueries"),
        "{named:?}"
    );
    let summary = row(&client, "select get_database_monitoring_summary() as s").await;
    assert!(
        summary["s"]["health_score"].as_i64() <= Some(80),
        "going blind is no recovery"
    );
    assert!(
        summary["s"]["degraded"]
            .to_string()
            .contains("pg_read_all_stats"),
        "{summary}"
    );
}

/// Ending the session a victim waits for may only end the next victim: the finding names the head of the queue.
#[tokio::test]
async fn a_lock_queue_is_one_finding_on_the_session_at_its_head() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "create table guests (id int); insert into guests values (1);
        update monitoring.thresholds set warning = 0 where check_id = 'blocking-session'";
    client.batch_execute(setup).await.expect("creating a table");
    let (one, two, three) = (
        database.superuser().await,
        database.superuser().await,
        database.superuser().await,
    );
    let head =
        Workload::idle_in_transaction(&database, one, "select * from guests for update").await;
    let _second = Workload::blocked(&database, two, "update guests set id = 2").await;
    let _third = Workload::blocked(&database, three, "update guests set id = 3").await;
    let findings =
        "select object, detail from monitoring.findings() where check_id = 'blocking-session'";
    let finding = row(&client, findings).await;
    assert_eq!(finding["object"], format!("pid {}", head.pid));
    let detail = finding["detail"].as_str().unwrap_or_default();
    assert!(
        detail.starts_with("2 session(s) wait for it") && detail.contains("idle in transaction"),
        "{detail}"
    );
}

/// Whoever asks for a number of rows that is none is told so, and not of a LIMIT that he did not write.
#[tokio::test]
async fn a_limit_is_a_number_of_rows() {
    let database = plain().database();
    for function in [
        "slow_queries",
        "locks",
        "table_health",
        "rls_kinds",
        "rls_status",
        "statements",
        "windows",
    ] {
        let of = |limit: &str| {
            let sql = format!("select count(*) from monitoring.{function}({limit})");
            database.psql(SUPERUSER, &sql)
        };
        let error = of("-1").expect_err(function);
        assert!(
            error.contains("limit must be 0 or more, or null for all"),
            "{function}: {error}"
        );
        assert_eq!(of("0").as_deref().map(str::trim), Ok("0"), "{function}");
        of("null").expect(function);
    }
}

/// An error names what was wrong with it, in the caller's words.
#[tokio::test]
async fn bad_input_is_named() {
    let database = plain().database();
    for (call, words) in [
        ("window_effect(null)", "at must be a time"),
        ("window_effect('infinity')", "at must be a time"),
        ("window_effect('294276-12-31')", "at must be a time"),
        (
            "outbox_mark('[1]')",
            "results must be a JSON array of objects",
        ),
        (
            "take_turn(null, 'a')",
            "method must be GET or POST, and request a name",
        ),
        (
            "take_turn('PUT', 'a')",
            "method must be GET or POST, and request a name",
        ),
    ] {
        let sql = format!("select monitoring.{call}");
        let error = database.psql(SUPERUSER, &sql).expect_err(call);
        assert!(error.contains(words), "{call}: {error}");
    }
    for range in ["178000000 years", "-178000000 years"] {
        let sql = format!("select monitoring.lighthouse('{range}') ->> 'builds'");
        assert_eq!(database.psql(SUPERUSER, &sql).as_deref(), Ok("[]\n"));
    }
}

#[tokio::test]
async fn settings_are_whole_and_stay() {
    let database = plain().database();
    for (sql, reason) in [
        (
            "update monitoring.settings set value = '30.5' where key = 'sample_retention_days'",
            "settings_value_is_valid",
        ),
        (
            "update monitoring.settings set value = '[\"user_metadata\", \"role\"]' where key = 'role_claim_path'",
            "settings_value_is_valid",
        ),
        ("delete from monitoring.settings", "changed, not removed"),
        ("truncate monitoring.settings", "changed, not removed"),
    ] {
        let error = database.psql(SUPERUSER, sql).expect_err(sql);
        assert!(error.contains(reason), "{error}");
    }
}
