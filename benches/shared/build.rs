//! Builds the databases: tables, policies, statements.

use crate::measure::number;
use crate::report::say;
use crate::scale::Scale;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour};
use crate::support::templates::SUPABASE_OWNER;

/// Trades the harness's small server for one of a realistic size. Parallel workers are off, because their CPU would not be
/// the backend's; so is JIT, which the monitor's functions switch off themselves and which would only burden the others.
const SETTINGS: &str = "
shared_buffers = 256MB
max_wal_size = 4GB
pg_stat_statements.max = 12000
max_parallel_workers_per_gather = 0
jit = off
";

/// Tables made in one transaction: each holds seven locks until it commits.
const BATCH: usize = 500;

/// Starts a server and builds the scale's database on it.
pub(crate) async fn database(scale: &Scale) -> TestDatabase {
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Supabase,
        max_connections: 700,
        settings: SETTINGS,
        lets_samples_take_time: false,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    say(&format!("{}: building the tables", scale.name));
    // As a plain task would: half the tables by each of two sessions.
    schemas(&database, scale).await;
    let half = scale.tables / 2;
    tokio::join!(
        tables(&database, scale, 1, half),
        tables(&database, scale, half + 1, scale.tables)
    );
    others(&database, scale).await;
    say(&format!("{}: vacuum", scale.name));
    let superuser = database.superuser().await;
    let vacuum = superuser.batch_execute("vacuum (analyze)").await;
    vacuum.expect("vacuuming");
    // What piles up until the next vacuum.
    wear(&database, scale).await;
    let reset = superuser.batch_execute("select extensions.pg_stat_statements_reset()");
    reset.await.expect("forgetting the statements so far");
    statements(&database, scale, scale.statements).await;
    database
}

/// Where table number `n` is.
fn table(scale: &Scale, n: usize) -> String {
    let schema = match n % scale.schemas {
        0 => "public".to_owned(),
        schema => format!("app_{schema}"),
    };
    format!("{schema}.records_of_module_{n}")
}

async fn schemas(database: &TestDatabase, scale: &Scale) {
    let superuser = database.superuser().await;
    let mut sql = String::new();
    for n in 1..scale.schemas {
        sql += &format!("create schema app_{n} authorization {SUPABASE_OWNER};");
        sql += &format!("grant usage on schema app_{n} to authenticated, service_role;");
        // A few schemas are granted as Supabase grants public, to those who are signed in.
        if n % 4 == 1 {
            sql += &format!(
                "alter default privileges for role {SUPABASE_OWNER} in schema app_{n} \
                 grant all on tables to authenticated, service_role;"
            );
        }
    }
    superuser
        .batch_execute(&sql)
        .await
        .expect("creating schemas");
}

async fn tables(database: &TestDatabase, scale: &Scale, first: usize, last: usize) {
    let owner = database.session(SUPABASE_OWNER).await;
    for first in (first..=last).step_by(BATCH) {
        let last = last.min(first + BATCH - 1);
        let sql = filled(include_str!("build.sql"), scale, first, last);
        owner.batch_execute(&sql).await.expect("creating tables");
    }
}

async fn others(database: &TestDatabase, scale: &Scale) {
    let owner = database.session(SUPABASE_OWNER).await;
    for first in (1..=scale.policies).step_by(BATCH) {
        let last = scale.policies.min(first + BATCH - 1);
        let sql = filled(include_str!("policies.sql"), scale, first, last);
        owner.batch_execute(&sql).await.expect("creating policies");
    }
    let changing = "create table public.changing_now (id int primary key)";
    owner
        .batch_execute(changing)
        .await
        .expect("creating a table");
    for n in 1..=scale.partitioned {
        let sql = format!(
            "create table public.measured_{n} (at timestamptz not null, value float8) partition by range (at);
             do $$ begin for m in 1..12 loop execute format('create table public.measured_{n}_%s partition of public.measured_{n} '
               'for values from (%L) to (%L)', m, make_date(2025, m, 1), make_date(2025, m, 1) + interval '1 month'); end loop; end $$;
             insert into public.measured_{n} select '2025-01-01'::timestamptz + n * interval '5 hours', n from generate_series(1, 1500) n;
             create materialized view public.measured_{n}_monthly as
               select date_trunc('month', at) as month, sum(value) from public.measured_{n} group by 1;"
        );
        owner
            .batch_execute(&sql)
            .await
            .expect("creating partitions");
    }
}

fn filled(sql: &str, scale: &Scale, first: usize, last: usize) -> String {
    sql.replace(":first", &first.to_string())
        .replace(":last", &last.to_string())
        .replace(":tables", &scale.tables.to_string())
        .replace(":schemas", &scale.schemas.to_string())
}

/// Leaves dead tuples and scans behind, in one table in a hundred, past what autovacuum waits for.
async fn wear(database: &TestDatabase, scale: &Scale) {
    let owner = database.session(SUPABASE_OWNER).await;
    let filled = (1..=scale.tables).filter(|n| n / scale.schemas % 10 == 3);
    for n in filled.step_by(if scale.tables > 1_000 { 10 } else { 2 }) {
        let table = table(scale, n);
        let sql = format!(
            "update {table} set status = 'closed' where id % 3 = 0; delete from {table} where id % 3 = 1; \
             select count(*) from {table} where customer = 'customer 7'"
        );
        owner.batch_execute(&sql).await.expect("wearing a table");
    }
}

/// Adds entries to `pg_stat_statements` until there are this many: one statement a table, in as many shapes as it takes.
pub(crate) async fn statements(database: &TestDatabase, scale: &Scale, wanted: usize) {
    let owner = database.session(SUPABASE_OWNER).await;
    let superuser = database.superuser().await;
    let entries = "select count(*) from extensions.pg_stat_statements(false)";
    let known = number(&superuser, entries).await;
    let mut first = usize::try_from(known).expect("counting the entries");
    // Entries of the bench itself, and of statements that turned out to be the same, make it a few more or fewer.
    while first < wanted {
        let last = wanted.min(first + BATCH);
        let sent = owner
            .batch_execute(&batch(scale, first, last - first))
            .await;
        sent.expect("executing statements");
        first = last;
    }
    let there = number(&superuser, entries).await;
    let wanted = i64::try_from(wanted).expect("counting the entries");
    assert!(
        there >= wanted,
        "{there} of {wanted} entries in pg_stat_statements"
    );
}

/// Statements numbered from `first` on, so many of them, as one batch.
pub(crate) fn batch(scale: &Scale, first: usize, count: usize) -> String {
    let batch: Vec<String> = (first..first + count)
        .map(|n| statement(scale, n))
        .collect();
    batch.join(";")
}

/// Statement number `n`: as long as those that a mapper of objects writes, and like no other, because what is compared is the
/// table (from 18 on its alias) and the shape of the conditions, not their values.
fn statement(scale: &Scale, n: usize) -> String {
    let (table, shape) = (table(scale, 1 + n % scale.tables), n / scale.tables);
    let r = format!("r{n}");
    let conditions = format!(" and {r}.amount between 10.5 and 99.9").repeat(shape);
    format!(
        "select {r}.id, {r}.owner_id, {r}.customer, {r}.amount, {r}.status, {r}.details -> 'note' as note, {r}.created_at, {r}.updated_at, \
         coalesce({r}.updated_at, {r}.created_at) as touched_at, lower({r}.customer) as customer_key, {r}.amount * 1.19 as gross \
         from {table} {r} where {r}.customer = 'customer {n}' and {r}.status in ('open', 'closed', 'new') and {r}.created_at > now() \
         and {r}.owner_id = '6f9619ff-8b86-4d01-b42d-00cf4fc964ff'{conditions} order by {r}.created_at desc, {r}.id limit 25"
    )
}
