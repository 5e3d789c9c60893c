//! What a sample holds; what it leaves out, and says so, when it would cost too much or a part of it fails.

// What changed in settings and privileges.
mod changes;
// Turns, budgets, failures, load.
mod parts;

use serde_json::Value;
use tokio_postgres::Client;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, plain, supabase};
use crate::support::templates::FRESH_LOGIN;
use crate::support::wait::wait_until;

/// So many minutes before now, so that a test of minutes takes seconds; and now is when the session first asked, so that the tick
/// after this one is the next.
pub(crate) fn tick(minutes_ago: i32) -> String {
    format!(
        "coalesce(nullif(current_setting('tests.now', true), ''), set_config('tests.now', now()::text, false))::timestamptz \
         - interval '{minutes_ago} minutes'"
    )
}

/// The sample of a tick of the test.
pub(super) async fn sample(agent: &Client, minutes_ago: i32) -> Value {
    let sql = format!("select monitoring.sample({})::text", tick(minutes_ago));
    let row = agent.query_one(&sql, &[]).await;
    let row = row.unwrap_or_else(|error| panic!("sampling: {error:?}"));
    let report: Value = serde_json::from_str(row.get(0)).expect("parsing a report");
    assert_eq!(report["status"], "done", "{report}");
    report
}

pub(super) async fn execute(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The only field of the only row, as text.
pub(super) async fn text(client: &Client, sql: &str) -> Option<String> {
    let row = client
        .query_one(&format!("select ({sql})::text"), &[])
        .await;
    row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .get(0)
}

pub(super) async fn agent(database: &TestDatabase) -> Client {
    let agent = database.login().await;
    execute(&agent, "set role monitoring_agent").await;
    agent
}

/// Statistics arrive late; before 15 by half a second more.
pub(super) async fn statistics_arrive(client: &Client, condition: &str) {
    wait_until(condition, async || {
        execute(client, "select pg_stat_clear_snapshot()").await;
        text(client, condition).await.as_deref() == Some("true")
    })
    .await;
}

/// The reason why a part was left out.
pub(super) fn reason(report: &Value, part: &str) -> Option<String> {
    let skipped = report["skipped"].as_array().into_iter().flatten();
    let mut reasons = skipped.filter(|skipped| skipped["part"] == part);
    reasons
        .next()
        .and_then(|skipped| skipped["reason"].as_str())
        .map(str::to_owned)
}

#[tokio::test]
async fn a_sample_holds_what_the_server_shows() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let agent = agent(&database).await;
        let busy = database.superuser().await;
        let idle = database.superuser().await;
        execute(&idle, "begin; select 1").await;
        let observer = database.superuser().await;
        let sleeping =
            tokio::spawn(async move { busy.batch_execute("select pg_sleep(600)").await });
        wait_until("it sleeps", async || {
            let seen = "select count(*) > 0 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active' and datname = current_database()";
            text(&observer, seen).await.as_deref() == Some("true")
        })
        .await;
        // Before 15 the counters come half a second late.
        let counted = "select xact_commit > 0 and blks_hit > 0 and tup_returned > 0 from pg_stat_database where datname = current_database()";
        statistics_arrive(&observer, counted).await;
        let report = sample(&agent, 0).await;
        sleeping.abort();
        let row = observer
            .query_one("select to_jsonb(s)::text from monitoring.samples s", &[])
            .await
            .expect("reading the sample");
        let row: Value = serde_json::from_str(row.get(0)).expect("parsing a row");
        // pg_sleep waits for a timeout, which is none of the usual waits.
        for (column, at_least) in [
            ("active_sessions", 1),
            ("active_on_other", 1),
            ("idle_in_transaction", 1),
            ("total_connections", 4),
            ("commits", 1),
            ("blocks_hit", 1),
            ("tuples_returned", 1),
            ("wal_bytes", 1),
            ("checkpoints_timed", 0),
            ("database_size_bytes", 1_000_000),
            ("xid_age", 1),
            ("multixact_age", 0),
            ("standbys", 0),
            ("inactive_slots", 0),
            ("autovacuum_workers", 0),
            ("timeline", 1),
        ] {
            assert!(
                row[column].as_f64() >= Some(f64::from(at_least)),
                "{column} in {row}"
            );
            if !["checkpoints_timed", "commits"].contains(&column)
                && report["metrics"].get(column).is_some()
            {
                assert_eq!(report["metrics"][column], row[column], "{column}");
            }
        }
        assert!(row["longest_statement_ms"].as_i64() >= Some(0), "{row}");
        assert!(row["skipped"].is_null(), "{row}");
    }
}

/// Counters of the heaviest since the look before; the text once, without its literals.
#[tokio::test]
async fn statements_are_kept_by_what_they_did_since() {
    // What else runs on the server would be among the heaviest.
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    // Reading the first text takes more than a slow machine's share of a minute.
    execute(&client, "select ceil(1) as before_all").await;
    sample(&agent, 10).await;
    let none = "select count(*) from monitoring.statement_samples";
    assert_eq!(
        text(&client, none).await.as_deref(),
        Some("0"),
        "nothing to compare with yet"
    );
    execute(
        &client,
        "select ceil(2) as before_all; select abs(42) as since_then, 'hunter2' as secret",
    )
    .await;
    sample(&agent, 9).await;
    let of = |name: &str| {
        format!(
            "select (array_agg(u.calls), array_agg(u.before)) from monitoring.statement_samples s, unnest(s.query_ids, s.calls, s.calls_before) u (id, calls, before)
             join monitoring.statement_texts t on t.query_id = u.id where t.query_preview like '%{name}%'"
        )
    };
    assert_eq!(
        text(&client, &of("before_all")).await.as_deref(),
        Some("({2},{1})")
    );
    assert_eq!(
        text(&client, &of("since_then")).await.as_deref(),
        Some("({1},{NULL})")
    );
    let preview = "select string_agg(query_preview, '') from monitoring.statement_texts where query_preview like '%since_then%'";
    assert_eq!(
        text(&client, preview).await.as_deref(),
        Some("select abs($1) as since_then, $2 as secret")
    );
    // Forgotten by the server and back: all it has counted came since.
    execute(
        &client,
        "select pg_stat_statements_reset(); select ceil(3) as before_all",
    )
    .await;
    sample(&agent, 8).await;
    assert_eq!(
        text(&client, &of("before_all")).await.as_deref(),
        Some("(\"{2,1}\",\"{1,NULL}\")")
    );
    let total = "select calls from monitoring.statement_activity(now() - interval '1 hour', now()) a join monitoring.statement_texts t using (query_id)
                 where query_preview like '%before_all%'";
    assert_eq!(text(&client, total).await.as_deref(), Some("2"));
    let negative = "select count(*) from monitoring.statement_activity(now() - interval '1 hour', now()) where calls < 0 or exec_ms < 0 or rows < 0";
    assert_eq!(text(&client, negative).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn the_tables_that_changed_most_are_kept_every_quarter_of_an_hour() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(&client, "create table guests (id int primary key, name text); create table quiet (id int); create table \"Guest List\" (id int)").await;
    sample(&agent, 50).await;
    execute(&client, "insert into guests select n, 'x' from generate_series(1, 500) n; update guests set name = 'y' where id <= 200; delete from guests where id <= 100;
        insert into \"Guest List\" select 1").await;
    statistics_arrive(
        &client,
        "select n_tup_del = 100 from pg_stat_user_tables where relname = 'guests'",
    )
    .await;
    sample(&agent, 40).await;
    let rows = "select count(*) from monitoring.table_samples";
    assert_eq!(
        text(&client, rows).await.as_deref(),
        Some("0"),
        "not its turn yet"
    );
    sample(&agent, 35).await;
    assert_eq!(text(&client, rows).await.as_deref(), Some("1"));
    let told = "select string_agg(format('%s %s %s %s', table_name, inserts, updates, deletes), '; ' order by inserts desc)
                from monitoring.table_activity(now() - interval '1 hour', now()) where table_name <> 'public.monitoring_events'";
    let told = text(&client, told).await.unwrap_or_default();
    assert!(
        told.starts_with("public.guests 500 200 100; public.\"Guest List\" 1 0 0"),
        "{told}"
    );
    assert!(!told.contains("quiet"), "{told}");
    let sizes = "select string_agg(coalesce(size_bytes::text, 'none'), ' ' order by inserts desc)
                 from monitoring.table_activity(now() - interval '1 hour', now())";
    let sizes = text(&client, sizes).await.unwrap_or_default();
    assert!(!sizes.contains("none"), "{sizes}");
    let guests = sizes.split(' ').next().and_then(|size| size.parse().ok());
    assert!(guests >= Some(10 * 8192), "{sizes}");
    execute(
        &client,
        "drop table quiet; insert into guests select n, 'x' from generate_series(1000, 1010) n",
    )
    .await;
    statistics_arrive(
        &client,
        "select n_tup_ins = 511 from pg_stat_user_tables where relname = 'guests'",
    )
    .await;
    sample(&agent, 20).await;
    let last = "select inserts[1] - inserts_before[1] from monitoring.table_samples order by tick_at desc limit 1";
    assert_eq!(text(&client, last).await.as_deref(), Some("11"));
    let forgotten = "select count(*) from monitoring.table_counters where not exists (select from pg_class where oid = table_oid)";
    assert_eq!(text(&client, forgotten).await.as_deref(), Some("0"));
}

/// A tick delivered late belongs into an hour that may be summed up already.
#[tokio::test]
async fn a_late_tick_is_summed_up_too() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("hour");
    let (agent, client) = (agent(&database).await, database.superuser().await);
    let of_the_hour_before = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, 1) d;
         insert into monitoring.samples (tick_at, sampled_at, duration_ms)
         select t, t, 1 from (select to_timestamp(floor(extract(epoch from now()) / 3600) * 3600) - m * interval '90 seconds' as t
           from generate_series(1, 3) m) s";
    execute(&client, of_the_hour_before).await;
    sample(&agent, 0).await;
    let hour = "select sum(samples) from monitoring.samples_hourly";
    assert_eq!(text(&client, hour).await.as_deref(), Some("3"));
    // Of the last minute, and not an hour ago before this one ends.
    let late = "select monitoring.sample(to_timestamp(floor(extract(epoch from now()) / 3600) * 3600) - interval '20 seconds') ->> 'status'";
    let taken = agent.query_one(late, &[]).await.expect("sampling");
    assert_eq!(taken.get::<_, &str>(0), "done");
    assert_eq!(text(&client, hour).await.as_deref(), Some("4"));
}

/// Somebody keeps a copy of a day, or restores one.
#[tokio::test]
async fn a_detached_partition_is_attached_again() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    let (agent, client) = (agent(&database).await, database.superuser().await);
    sample(&agent, 0).await;
    let detach = "do $$ begin execute format('alter table monitoring.samples detach partition monitoring.samples_%s',
        to_char(now() at time zone 'UTC', 'YYYYMMDD')); end $$; ";
    execute(&client, detach).await;
    let emptied = "do $$ begin execute format('delete from monitoring.samples_%s', to_char(now() at time zone 'UTC', 'YYYYMMDD')); end $$";
    execute(&client, emptied).await;
    sample(&agent, 0).await;
    let kept = "select count(*) from monitoring.samples";
    assert_eq!(text(&client, kept).await.as_deref(), Some("1"));

    // Detaching concurrently waits for who reads; who gives up waiting leaves half of it behind.
    let reader = database.superuser().await;
    let reading = format!("begin; {kept}");
    execute(&reader, &reading).await;
    let today = "select to_char(now() at time zone 'UTC', 'YYYYMMDD')";
    let today = text(&client, today).await.expect("today");
    execute(&client, "set statement_timeout = '1s'").await;
    let detach = format!(
        "alter table monitoring.samples detach partition monitoring.samples_{today} concurrently"
    );
    let given_up = client.batch_execute(&detach).await;
    given_up.expect_err("somebody reads");
    execute(&client, "reset statement_timeout").await;
    execute(&reader, "commit").await;
    let emptied = format!("delete from monitoring.samples_{today}");
    execute(&client, &emptied).await;
    sample(&agent, 0).await;
    assert_eq!(text(&client, kept).await.as_deref(), Some("1"));
}

/// Whoever cannot see finds nothing: what was open stays open until it is looked at again.
#[tokio::test]
async fn going_blind_resolves_nothing() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    // A session of another role than the owner's, which cannot see it without the privilege.
    let slow = database.session(FRESH_LOGIN).await;
    let pid = slow.query_one("select pg_backend_pid()", &[]).await;
    let pid: i32 = pid.expect("asking for the process id").get(0);
    let task = tokio::spawn(async move {
        let _ = slow.batch_execute("select pg_sleep(600)").await;
    });
    statistics_arrive(
        &client,
        "select exists (select from monitoring.findings() f where f.check_id = 'slow-statement')",
    )
    .await;
    sample(&agent, 50).await;
    let open = "select string_agg(event_data ->> 'check_id', ' ' order by event_data ->> 'check_id') from public.monitoring_events
        where resolved_at is null and event_data ->> 'check_id' in ('slow-statement', 'blind-spot')";
    assert_eq!(text(&client, open).await.as_deref(), Some("slow-statement"));
    execute(&client, "revoke pg_monitor from monitoring_owner").await;
    for minutes_ago in (40..45).rev() {
        sample(&agent, minutes_ago).await;
    }
    assert_eq!(
        text(&client, open).await.as_deref(),
        Some("blind-spot slow-statement")
    );
    execute(&client, "grant pg_monitor to monitoring_owner").await;
    let end = format!("select pg_terminate_backend({pid}, 5000)");
    execute(&client, &end).await;
    task.await.expect("ending");
    for minutes_ago in (30..35).rev() {
        sample(&agent, minutes_ago).await;
    }
    assert_eq!(text(&client, open).await, None);
}
