//! What is remembered of a large database is never told for what it is not: each answer is compared with the one without
//! the memory.

// How often it is renewed, and what keeps it true in between.
mod cadence;
// Restarted, crashed, cloned, restored: it is not the same database any more.
mod elsewhere;
// When it is filled, emptied, and left alone.
mod filling;

use tokio_postgres::Client;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::support::wait::wait_until;

/// Every answer that is, or may be, told from memory. Of the summary what other sessions cannot change meanwhile.
const ANSWERS: [&str; 5] = [
    "select * from monitoring_rls_status order by risk_rank, schemaname, tablename",
    "select * from monitoring_table_health where tablename <> 'monitoring_events'",
    "select * from monitoring.findings() where check_id in ('rls-exposed', 'dead-tuples', 'transaction-id-age')",
    "select s #> '{metrics,high_risk_tables}', s #> '{metrics,tables_needing_vacuum}', s -> 'health_score'
       from get_database_monitoring_summary() s",
    "select * from monitoring.column_grants() order by 1, 2, 3",
];

/// Before 15 only what would be old and not wrong is remembered.
const ALL_HOLD: &str = "select bool_and(monitoring.is_remembered(s) = (s = 'companions' or current_setting('server_version_num')::int >= 150000))
    from unnest('{companions,tables,column_grants,rls_status}'::text[]) s";

/// Tables of every shape that makes a difference to an answer.
const SHAPES: &str = r#"
    create role app nologin; create role anon nologin; create role past_it nologin bypassrls; create role team nologin;
    create role teammate nologin; grant team to teammate; create role landlord nologin;
    create schema "Wedding Day"; grant usage on schema "Wedding Day" to app; create schema back_room;
    create table bare (id int); create table keyed (id int primary key, note text unique);
    insert into keyed select i, repeat(md5(i::text), 200) from generate_series(1, 300) i; analyze keyed;
    select count(*) from keyed where id = 7;
    create table eager (id int) with (autovacuum_vacuum_threshold = 10, autovacuum_freeze_max_age = 200000);
    insert into eager select generate_series(1, 1000); analyze eager; delete from eager where id <= 900;
    create table lazy (id int) with (autovacuum_vacuum_threshold = 100000); insert into lazy select generate_series(1, 1000);
    analyze lazy; delete from lazy where id <= 900;
    create table "Wedding Day"."Guest List" (id int primary key, name text);
    grant select on "Wedding Day"."Guest List" to app; create unlogged table quick (id int);
    create table parent (id int) partition by range (id); create table child partition of parent for values from (1) to (9);
    alter table parent enable row level security; create policy p on parent using (id > 0); grant select on child to app;
    create materialized view counted as select count(*) from keyed;
    create table hollow (id int); alter table hollow enable row level security; create policy "all of it" on hollow using (true);
    create table narrowed (id int); alter table narrowed enable row level security; create policy a on narrowed using (true);
    create policy b on narrowed as restrictive using (id > 1); grant all on narrowed to public;
    create table mute (id int); alter table mute enable row level security; grant select on mute to anon;
    create table asleep (id int); create policy p on asleep to app using (id > 0); grant select on asleep to team;
    create table halves (id int, name text); alter table halves enable row level security, force row level security;
    create policy r on halves for select to app using (id > 0); create policy w on halves for insert with check (true);
    grant select (id), update (name) on halves to app; grant select (name) on halves to public; grant select on halves to past_it;
    create table back_room.inside (id int); grant select (id) on back_room.inside to anon; grant select on back_room.inside to team;
    create table rented (id int); alter table rented owner to landlord; alter table rented enable row level security;
    create policy own on rented using (id = 1); create view all_of_it as select * from rented; grant select on all_of_it to anon;
    create materialized view kept as select * from rented; grant select on kept to app;
    create view back_room.closed as select * from rented; grant select on back_room.closed to app;
"#;

/// A database of every shape that remembers, however small it is, on a cluster that may be given roles.
fn shaped() -> (Cluster, TestDatabase) {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    database.psql(SUPERUSER, SHAPES).expect("creating tables");
    always(&database);
    (cluster, database)
}

fn always(database: &TestDatabase) {
    let always = "update monitoring.settings set value = '0' where key = 'remember_from_relations'";
    database
        .psql(SUPERUSER, always)
        .expect("changing the setting");
}

/// One call for each subject.
const REMEMBER_ALL: &str = "select monitoring.remember(); select monitoring.remember();
    select monitoring.remember(); select monitoring.remember();";

/// Remembers everything anew, as soon as the counters of whoever was here before have arrived.
async fn remember(database: &TestDatabase) {
    let anew = format!("delete from monitoring.remembered; {REMEMBER_ALL}");
    wait_until("everything is remembered", async || {
        database.psql(SUPERUSER, &anew).expect("remembering");
        holds(database)
    })
    .await;
}

/// What there is to remember on this server: before 15 only what would be old and not wrong.
fn subjects(database: &TestDatabase) -> &'static str {
    let before_15 = "select current_setting('server_version_num')::int < 150000";
    match database.psql(SUPERUSER, before_15).as_deref() {
        Ok("t\n") => "companions",
        _ => "column_grants companions rls_status tables",
    }
}

fn holds(database: &TestDatabase) -> bool {
    database.psql(SUPERUSER, ALL_HOLD).as_deref() == Ok("t\n")
}

async fn execute(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The rows of a query, in its order, as text.
async fn told(client: &Client, query: &str) -> String {
    let sql = format!("select coalesce(string_agg(a::text, e'\\n'), '') from ({query}) a");
    let row = client.query_one(&sql, &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    row.get(0)
}

/// The same without the memory, which is back afterwards.
async fn true_answer(client: &Client, query: &str) -> String {
    execute(client, "begin; delete from monitoring.remembered").await;
    let answer = told(client, query).await;
    execute(client, "rollback").await;
    answer
}

#[tokio::test]
async fn every_answer_is_the_same_with_and_without_the_memory() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let client = database.superuser().await;
    // Ages are of one transaction, so both are asked in one.
    execute(&client, "begin").await;
    assert_eq!(told(&client, ALL_HOLD).await, "(t)");
    let mut remembered = Vec::new();
    for query in ANSWERS {
        remembered.push(told(&client, query).await);
    }
    execute(&client, "delete from monitoring.remembered").await;
    assert_eq!(told(&client, ALL_HOLD).await, "(f)");
    for (query, remembered) in ANSWERS.iter().zip(remembered) {
        assert!(!remembered.is_empty(), "{query}");
        assert_eq!(remembered, told(&client, query).await, "{query}");
    }
    execute(&client, "rollback").await;
    // What is compared has the shapes that it should have.
    let judged = told(&client, ANSWERS[0]).await;
    for words in [
        "HIGH_RISK",
        "MEDIUM_RISK",
        "LOW_RISK",
        "UNKNOWN",
        "read past",
        "without a policy",
    ] {
        assert!(judged.contains(words), "{words} in {judged}");
    }
}

/// What a small database looks up table by table a large one reads all at once.
#[tokio::test]
async fn large_or_small_the_same_is_seen() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    let more = "grant select (id) on all_of_it to app; grant select (count) on counted to public; grant update (id) on parent to team;
        grant select (ctid) on bare to anon";
    execute(&client, more).await;
    // Ages and counters are of one transaction.
    execute(&client, "begin").await;
    let seen = async |from_relations: &str| {
        let set = format!(
            "update monitoring.settings set value = '{from_relations}' where key = 'remember_from_relations'"
        );
        execute(&client, &set).await;
        let mut all = Vec::new();
        for query in [
            "select g.table_oid::regclass, g.grantee, g.privilege_type from monitoring.look_at_column_grants() g
               where g.table_oid not in (select c.oid from pg_class c where c.relnamespace = 'monitoring'::regnamespace) order by 1, 2, 3",
            // Pages that nobody remembers are looked up by who asks for them.
            "select to_jsonb(t) - 'companion_pages' from monitoring.table_states t order by t.oid",
            ANSWERS[0],
            ANSWERS[1],
        ] {
            all.push(told(&client, query).await);
        }
        all
    };
    let (large, small) = (seen("0").await, seen("1000000").await);
    assert_eq!(large, small);
    for words in ["all_of_it", "counted", "halves", "parent", "bare"] {
        assert!(small[0].contains(words), "{words} in {}", small[0]);
    }
    execute(&client, "rollback").await;
}

/// The first so many tables are told from the first so many kinds of them.
#[tokio::test]
async fn the_first_tables_are_the_first_of_all_with_and_without_the_memory() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let client = database.superuser().await;
    execute(&client, "begin").await;
    let first = |limit: usize| format!("select * from monitoring.rls_status({limit})");
    let ranks = "select risk_rank from monitoring_rls_status";
    for memory in ["with", "without"] {
        let all = told(&client, "select * from monitoring.rls_status()").await;
        let all: Vec<&str> = all.lines().collect();
        assert!(all.len() > 15, "{all:?}");
        for limit in 0..=all.len() + 1 {
            let told = told(&client, &first(limit)).await;
            let expected = all.get(..limit).unwrap_or(&all).join("\n");
            assert_eq!(told, expected, "{memory} the memory, {limit}");
        }
        let view = told(&client, ANSWERS[0]).await;
        let in_view: Vec<&str> = view.lines().collect();
        assert_eq!(in_view, all, "{memory} the memory");
        let ranks = told(&client, ranks).await;
        assert!(ranks.lines().is_sorted(), "worst first: {ranks}");
        execute(&client, "delete from monitoring.remembered").await;
    }
    execute(&client, "rollback").await;
}

/// Each of these makes another answer true. The last ones need no row of a catalog.
const CHANGES: [&str; 30] = [
    "create policy more on mute using (id > 0)",
    "alter policy more on mute using (true)",
    "alter policy more on mute to app",
    "alter policy more on mute rename to less; alter policy less on mute to public",
    "drop policy less on mute",
    "alter table bare enable row level security",
    "alter table bare force row level security",
    "alter table bare disable row level security, no force row level security",
    "grant select on keyed to app",
    "revoke select on keyed from app",
    "grant select (note) on keyed to anon",
    "revoke select (note) on keyed from anon",
    "alter table halves drop column name",
    "grant usage on schema back_room to anon",
    "revoke usage on schema back_room from anon",
    "grant team to anon",
    "revoke team from anon",
    "alter role app bypassrls; grant select on mute to app",
    "alter role app nobypassrls",
    "alter role past_it rename to past_us",
    "create table new_here (id int)",
    "alter table new_here rename to renamed",
    "alter table renamed set schema back_room",
    "drop table back_room.renamed",
    "create view another as select * from rented; grant select on another to app",
    "create or replace view another as select 1 as id",
    "alter table rented owner to postgres",
    "alter table parent detach partition child",
    "update monitoring.settings set value = '[\"back_room\"]' where key = 'exposed_schemas'",
    "update monitoring.settings set value = '[\"back_room\", \"public\"]' where key = 'application_schemas'",
];

/// A session that disconnects reports at once.
#[tokio::test]
async fn what_another_session_changed_is_seen() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    for change in CHANGES {
        remember(&database).await;
        let before = told(&client, ANSWERS[0]).await;
        database
            .psql(SUPERUSER, change)
            .unwrap_or_else(|error| panic!("{change}: {error}"));
        let after = true_answer(&client, ANSWERS[0]).await;
        assert_ne!(before, after, "{change}");
        wait_until(change, async || told(&client, ANSWERS[0]).await == after).await;
    }
}

/// Tables that came, went or got settings of their own since they were remembered.
#[tokio::test]
async fn what_another_session_did_to_a_table_is_seen() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    let health = "select schemaname, tablename, needs_vacuum from monitoring_table_health
        where tablename <> 'monitoring_events' order by 1, 2";
    for change in [
        "create table new_here (id int)",
        "alter table new_here rename to renamed",
        "alter table renamed set schema back_room",
        "alter schema back_room rename to pantry",
        "drop table pantry.renamed",
        "alter table lazy set (autovacuum_vacuum_threshold = 10)",
        "alter table lazy set (autovacuum_vacuum_threshold = 100000)",
        "update monitoring.settings set value = '[\"pantry\"]' where key = 'application_schemas'",
    ] {
        remember(&database).await;
        let before = told(&client, health).await;
        database
            .psql(SUPERUSER, change)
            .unwrap_or_else(|error| panic!("{change}: {error}"));
        let after = true_answer(&client, health).await;
        assert_ne!(before, after, "{change}");
        wait_until("the change is seen", async || {
            told(&client, health).await == after
        })
        .await;
    }
}

/// Another database's session changes what belongs to the whole cluster.
#[tokio::test]
async fn what_changed_in_another_database_is_seen() {
    let (cluster, database) = shaped();
    let other = cluster.database();
    let client = database.superuser().await;
    for change in [
        "grant team to anon",
        "alter role past_it nobypassrls",
        "alter role anon rename to nobody",
    ] {
        remember(&database).await;
        let before = told(&client, ANSWERS[0]).await;
        other.psql(SUPERUSER, change).expect(change);
        let after = true_answer(&client, ANSWERS[0]).await;
        assert_ne!(before, after, "{change}");
        wait_until(change, async || told(&client, ANSWERS[0]).await == after).await;
    }
}

/// An idle session reports within ten seconds.
#[tokio::test]
async fn what_a_session_changed_that_stays_is_seen() {
    let (_cluster, database) = shaped();
    let (client, writer) = (database.superuser().await, database.superuser().await);
    remember(&database).await;
    let before = told(&client, ANSWERS[0]).await;
    execute(&writer, "select 1").await;
    execute(&writer, "drop policy own on rented").await;
    let after = true_answer(&client, ANSWERS[0]).await;
    assert_ne!(before, after);
    wait_until("it is seen", async || {
        told(&client, ANSWERS[0]).await == after
    })
    .await;
}

#[tokio::test]
async fn what_this_very_session_changed_is_seen_at_once() {
    let (_cluster, database) = shaped();
    let client = database.superuser().await;
    for change in CHANGES {
        remember(&database).await;
        let before = true_answer(&client, ANSWERS[0]).await;
        for end in ["rollback", "commit"] {
            execute(&client, &format!("begin; {change}")).await;
            let inside = told(&client, ANSWERS[0]).await;
            execute(&client, "savepoint s; delete from monitoring.remembered").await;
            assert_eq!(inside, told(&client, ANSWERS[0]).await, "inside: {change}");
            assert_ne!(inside, before, "{change}");
            execute(&client, &format!("rollback to s; {end}")).await;
            let outside = told(&client, ANSWERS[0]).await;
            let truth = match end {
                "commit" => &inside,
                _ => &before,
            };
            assert_eq!(&outside, truth, "after {end}: {change}");
        }
    }
}

#[tokio::test]
async fn a_table_younger_than_the_memory_has_its_exact_numbers() {
    let (_cluster, database) = shaped();
    remember(&database).await;
    let setup = "create table young (id int primary key, note text); create index on young (note);
        alter table young alter note set storage external;
        insert into young select i, repeat(md5(i::text), 80) from generate_series(1, 500) i; analyze young;
        create materialized view young_view as select id from young; create table young_bare (id int);
        set enable_seqscan = off; select * from young where id = 3; select * from young where id = 4;";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let client = database.superuser().await;
    let seen = "select tablename::text, total_size_bytes, index_scans, xid_age, index_usage_percent is null as unknown, needs_vacuum
        from monitoring_table_health where tablename like 'young%' order by 1";
    let exact = "select c.relname::text, pg_total_relation_size(c.oid),
          case c.relname when 'young' then 2 else 0 end, greatest(age(c.relfrozenxid), age(t.relfrozenxid)), c.relname <> 'young', false
        from pg_class c left join pg_class t on t.oid = c.reltoastrelid
        where c.relname like 'young%' and c.relkind in ('r', 'm') order by 1";
    wait_until("the scans are counted", async || {
        let held = database.psql(SUPERUSER, "select monitoring.is_remembered('companions')");
        assert_eq!(
            held.as_deref(),
            Ok("t\n"),
            "no table makes it forget its companions"
        );
        execute(&client, "begin").await;
        let (seen, exact) = (told(&client, seen).await, told(&client, exact).await);
        execute(&client, "commit").await;
        seen == exact
    })
    .await;
}
