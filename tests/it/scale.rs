//! Thousands of anything: no look compares each with each.
//!
//! Told by what the server's own plans say that they did, not by the clock: how many rows each node handled or threw away. Whose
//! number grows with the square of the objects is found with a thousand of them, where it would still answer in time.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::support::wait::wait_until;

/// So many of each thing.
const OBJECTS: u64 = 1000;

/// What may be handled for each: the rows that a thing has in the catalogs, in each of the few that are read. The square would be 1000.
const ROWS_PER_OBJECT: u64 = 100;

/// Everything that looks at the database, as it is asked and as the sampler asks it.
const LOOKS: [&str; 11] = [
    "select count(*) from monitoring.look_at_rls_kinds()",
    "select count(*) from public.monitoring_table_health",
    "select monitoring.summary()",
    "select monitoring.remember_checks()",
    "select monitoring.sample()",
    "select count(*) from monitoring.rls_status(100)",
    "select count(*) from monitoring.statements(50)",
    "select count(*) from monitoring.degraded()",
    "select count(*) from monitoring.look_at_watched(null, true)",
    "select monitoring.catalog_contents(), monitoring.catalog_versions()",
    "select monitoring.validation_facts()",
];

/// The thing, and how a database comes to have as many.
const THINGS: [(&str, &str); 16] = [
    (
        "tables that a policy opens to everybody",
        "do $$ begin for i in 1..1000 loop
           execute format('create table t%s (id int); alter table t%1$s enable row level security; create policy all_of_it on t%1$s using (true)', i);
         end loop; end $$",
    ),
    (
        "tables with a restrictive policy",
        "do $$ begin for i in 1..1000 loop
           execute format('create table t%s (id int); alter table t%1$s enable row level security;
             create policy a_part on t%1$s using (id > 0); create policy fewer on t%1$s as restrictive using (id < 9)', i);
         end loop; end $$",
    ),
    (
        "policies of one table",
        "create table guests (id int); alter table guests enable row level security;
         do $$ begin for i in 1..1000 loop
           execute format('create policy p%s on guests as %s for %s using (%s)', i, (array['permissive', 'restrictive'])[1 + i % 2],
             (array['select', 'all', 'delete'])[1 + i % 3], (array['true', 'id > 0'])[1 + i / 2 % 2]);
         end loop; end $$",
    ),
    (
        "views of one table",
        "create table guests (id int); alter table guests enable row level security; create policy a_part on guests using (id > 0);
         do $$ begin for i in 1..1000 loop
           execute format('create view v%s as select * from guests; grant select on v%1$s to public', i);
         end loop; end $$",
    ),
    (
        "columns with grants of their own",
        "do $$ begin for i in 1..1000 loop
           execute format('create table t%s (id int, name text); grant select (id) on t%1$s to public', i);
         end loop; end $$",
    ),
    (
        "views that read as their reader, one on the other",
        "create table guests (id int); alter table guests enable row level security; create policy a_part on guests using (id > 0);
         do $$ begin for i in 1..1000 loop
           execute format('create view v%s as select * from %s; grant select on v%1$s to public', i, case when i % 10 = 1 then 'guests' else 'v' || i - 1 end);
           if current_setting('server_version_num')::int >= 150000 then execute format('alter view v%s set (security_invoker = true)', i); end if;
         end loop; end $$",
    ),
    (
        "schemas with a table each",
        "do $$ begin for i in 1..1000 loop
           execute format('create schema s%s; create table s%1$s.guests (id int); grant select on s%1$s.guests to public', i);
         end loop; end $$",
    ),
    (
        "functions with their owner's rights",
        "do $$ begin for i in 1..1000 loop
           execute format('create function f%s() returns int language sql security definer as $f$ select 1 $f$', i);
         end loop; end $$",
    ),
    (
        "sequences",
        "do $$ begin for i in 1..1000 loop execute format('create sequence q%s as smallint', i); end loop; end $$",
    ),
    (
        "partitions of one table",
        "create table visits (id int primary key, name text) partition by list (id); alter table visits enable row level security;
         create policy a_part on visits using (id > 0);
         do $$ begin for i in 1..1000 loop execute format('create table visits_%s partition of visits for values in (%1$s)', i); end loop; end $$",
    ),
    (
        "tables that refer to one",
        "create table halls (id int primary key);
         do $$ begin for i in 1..1000 loop execute format('create table t%s (id int primary key, hall int references halls)', i); end loop; end $$",
    ),
    (
        "indexes of one table",
        "do $$ begin
           execute (select format('create table wide (%s)', string_agg(format('c%s int', n), ', ')) from generate_series(1, 40) n);
           for i in 1..1000 loop execute format('create index on wide (c%s, c%s)', 1 + i % 40, 1 + (i / 40 + i % 40 + 1) % 40); end loop;
         end $$",
    ),
    // Roles are the cluster's: these come last.
    (
        "schemas of a role each",
        "do $$ begin for i in 1..1000 loop
           execute format('create role tenant_%s login; create schema s%1$s authorization tenant_%1$s; set role tenant_%1$s;
             create table s%1$s.guests (id int); alter table s%1$s.guests enable row level security;
             create policy a_part on s%1$s.guests using (id > 0); create view s%1$s.all_of_it as select * from s%1$s.guests;
             grant select on s%1$s.all_of_it to public', i);
           reset role;
         end loop; end $$",
    ),
    (
        "schemas that a role each may use",
        "do $$ begin for i in 1..1000 loop
           execute format('create schema s%s; grant usage on schema s%1$s to tenant_%1$s; create table s%1$s.guests (id int);
             alter table s%1$s.guests enable row level security; create policy all_of_it on s%1$s.guests using (true);
             grant select on s%1$s.guests to tenant_%1$s', i);
         end loop; end $$",
    ),
    (
        "grantees of one table",
        "create table guests (id int);
         do $$ begin for i in 1..1000 loop
           execute format('grant select on guests to tenant_%s; grant pg_monitor to tenant_%1$s', i);
         end loop; end $$",
    ),
    (
        "roles that may read everything",
        "do $$ begin for i in 1..1000 loop
           execute format('grant pg_read_all_data to tenant_%s', i);
           if i <= 200 then
             execute format('create table t%s (id int); alter table t%1$s enable row level security; create policy theirs on t%1$s to tenant_%1$s using (true)', i);
           end if;
         end loop; end $$",
    ),
];

#[tokio::test]
async fn no_look_compares_each_of_many_with_each() {
    let cluster = Cluster::start(ClusterOptions::default());
    let mut squares = BTreeSet::new();
    for (things, setup) in THINGS {
        let database = cluster.database();
        database.psql(SUPERUSER, setup).expect(things);
        squares.extend(
            too_many_rows(
                &cluster,
                &database,
                things,
                &LOOKS,
                OBJECTS * ROWS_PER_OBJECT,
            )
            .await,
        );
    }
    assert_eq!(squares, BTreeSet::new());
}

/// Sixty read, somebody wants to alter what they read, and sixty more wait behind him: each of these waits in the tree of each of those,
/// which makes some 3,700 rows. What a session wants and holds is looked for once.
#[tokio::test]
async fn a_queue_behind_many_heads_is_worded_once_a_session() {
    const SIDE: usize = 60;
    let cluster = Cluster::start(ClusterOptions {
        max_connections: 200,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let guests = "create table guests (id int)";
    database.psql(SUPERUSER, guests).expect(guests);
    let observer = database.superuser().await;
    let waiting = async || {
        let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        let row = observer.query_one(sql, &[]).await;
        row.expect(sql).get::<_, i64>(0)
    };
    let mut readers = vec![];
    for _ in 0..SIDE {
        let reader = database.superuser().await;
        let read = "begin; select from guests";
        reader.batch_execute(read).await.expect(read);
        readers.push(reader);
    }
    for (nth, statement) in std::iter::once("alter table guests add name text")
        .chain(std::iter::repeat_n("select from guests", SIDE))
        .enumerate()
    {
        let queued = database.superuser().await;
        tokio::spawn(async move { queued.batch_execute(statement).await });
        if nth == 0 || nth == SIDE {
            wait_until("they wait", async || {
                usize::try_from(waiting().await) == Ok(nth + 1)
            })
            .await;
        }
    }
    let looks = [
        "select count(*) from monitoring.locks(10)",
        "select count(*) from monitoring.locks()",
    ];
    let trees = SIDE * (SIDE + 2);
    let allowed = u64::try_from(3 * trees).expect("a small number");
    let squares = too_many_rows(&cluster, &database, "sessions", &looks, allowed).await;
    assert_eq!(squares, BTreeSet::new());
    let told = "select count(*) from monitoring.locks()";
    let row = observer.query_one(told, &[]).await.expect(told);
    assert_eq!(usize::try_from(row.get::<_, i64>(0)), Ok(trees));
}

/// The nodes of plans that handle more rows than are allowed while looks are taken, in words.
async fn too_many_rows(
    cluster: &Cluster,
    database: &TestDatabase,
    things: &str,
    looks: &[&str],
    allowed: u64,
) -> BTreeSet<String> {
    let client = database.superuser().await;
    // Of what is fast nothing is written: there is too much of it, and it handles few rows.
    let explained = "load 'auto_explain'; set auto_explain.log_min_duration = 5; set auto_explain.log_nested_statements = on;
        set auto_explain.log_analyze = on; set auto_explain.log_timing = off; set auto_explain.log_format = 'json'";
    client.batch_execute(explained).await.expect("explaining");
    let before = cluster.log().len();
    for look in looks {
        client.batch_execute(look).await.expect(look);
    }
    let end = format!("these were {things}");
    let say = format!("do $$ begin raise log $end${end}$end$; end $$");
    client.batch_execute(&say).await.expect("ending the log");
    wait_until("the log is written", async || cluster.log().contains(&end)).await;
    let plans = plans(&cluster.log()[before..]);
    assert_ne!(plans.len(), 0, "{things}");
    let mut found = BTreeSet::new();
    for plan in plans {
        let text = plan["Query Text"].as_str().unwrap_or_default();
        visit(&plan["Plan"], &mut |node, rows| {
            if rows > allowed {
                found.insert(format!("{things}: {rows} rows in {node} of {text:.200}"));
            }
        });
    }
    found
}

/// The plans that `auto_explain` wrote (manual, appendix F): each begins on a line of its own, its lines indented by a tab.
fn plans(log: &str) -> Vec<Value> {
    log.split("  plan:\n")
        .skip(1)
        .filter_map(|rest| {
            serde_json::Deserializer::from_str(rest)
                .into_iter::<Value>()
                .next()
        })
        .map(|plan| plan.expect("a plan in JSON"))
        .collect()
}

/// Tells each node's name and how many rows it handed on or threw away in all its loops.
fn visit(node: &Value, tell: &mut impl FnMut(&str, u64)) {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let rows = number("Actual Rows")
        + number("Rows Removed by Filter")
        + number("Rows Removed by Join Filter")
        + number("Rows Removed by Index Recheck");
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, and not near the end"
    )]
    let rows = (rows * number("Actual Loops")) as u64;
    tell(node["Node Type"].as_str().unwrap_or("?"), rows);
    for child in node["Plans"].as_array().into_iter().flatten() {
        visit(child, tell);
    }
}
