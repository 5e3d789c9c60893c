//! What a small database tells without looking again: as long as its catalogs are the same, and no longer.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::checks::json_of;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions};
use crate::support::wait::wait_until;

const SETUP: &str = "create role app login; create role team; create role other;
    create schema inner_part; grant usage on schema inner_part to app;
    create table guests (id int primary key, name text, seat int); alter table guests enable row level security;
    create policy own on guests to app using (name = current_user);
    create table seats (id int primary key); alter table seats enable row level security;
    create index by_name on guests (name); create index by_name_too on guests (name);
    create sequence numbers;
    create view names as select name from guests;
    create function seated() returns int language sql security definer set search_path = pg_catalog as 'select 1'";

/// In the memory, and nowhere in the database.
const MARK: &str = "told from memory";

/// A database whose checks the sampler has just made; what it remembers of each is marked.
async fn remembered() -> (Cluster, TestDatabase, Client) {
    // Roles are the whole cluster's.
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    execute(&client, SETUP).await;
    execute(&client, "select monitoring.remember_checks()").await;
    let mark = format!(
        "update monitoring.remembered_checks
         set candidates = array[row(check_id, 'mark', 1000000, '{MARK}', 'none')::monitoring.candidate]"
    );
    execute(&client, &mark).await;
    (cluster, database, client)
}

async fn execute(client: &Client, sql: &str) {
    client
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The checks that are told from memory.
async fn told(client: &Client, assess: &str) -> Vec<String> {
    let seen = json_of(client, assess).await;
    let findings = seen["findings"].as_array().expect("findings");
    let mut told: Vec<String> = findings
        .iter()
        .filter(|finding| finding["detail"] == MARK)
        .map(|finding| finding["check_id"].as_str().expect("a check").to_owned())
        .collect();
    told.sort_unstable();
    told
}

async fn remembered_ids(client: &Client) -> Vec<String> {
    let ids = json_of(
        client,
        "select jsonb_agg(r.check_id order by r.check_id collate \"C\") from monitoring.remembered_checks r
         where r.check_id <> 'unsafe-setting'", // which files say
    );
    serde_json::from_value(ids.await).expect("names")
}

#[tokio::test]
async fn a_small_database_tells_what_its_catalogs_alone_decide_until_they_change() {
    let (_cluster, database, client) = remembered().await;
    let all = remembered_ids(&client).await;
    assert!(all.contains(&"rls-exposed".to_owned()), "{all:?}");
    assert!(all.contains(&"duplicate-index".to_owned()), "{all:?}");
    assert!(!all.contains(&"dead-tuples".to_owned()), "{all:?}");
    assert_eq!(told(&client, "monitoring.assess()").await, all);

    let changes = [
        "grant select (name) on guests to public",
        "grant select (ctid) on seats to other",
        "grant select on guests to other",
        "alter table guests disable row level security",
        "alter table guests force row level security",
        "alter table guests owner to other",
        "alter table guests rename to persons",
        "alter table guests set schema inner_part",
        "alter table guests alter seat type bigint",
        "create policy everybody on guests using (true)",
        "alter policy own on guests using (true)",
        "drop policy own on guests",
        "create or replace view names as select name from guests where seat > 1",
        "alter view names owner to other",
        "drop view names",
        "create view seat_names as select id from seats",
        "grant team to app",
        "create role third bypassrls",
        "alter role app bypassrls",
        "alter role app rename to web",
        "alter role app valid until '2020-01-01'",
        "alter extension plpgsql add function seated()",
        "grant usage on schema inner_part to other",
        "alter schema inner_part rename to part",
        "drop index by_name_too",
        "alter index by_name_too rename to by_name_once",
        "create index by_seat on guests (seat)",
        "update pg_index set indisvalid = false where indexrelid = 'by_name'::regclass",
        "alter table guests add foreign key (seat) references seats",
        "alter sequence numbers maxvalue 100",
        "alter function seated() reset search_path",
        "create function standing() returns int language sql security definer as 'select 1'",
        "update monitoring.settings set value = '[]' where key = 'exposed_schemas'",
        "update monitoring.settings set value = '0' where key = 'unused_index_after_days'",
        "update monitoring.thresholds set warning = 0 where check_id = 'unused-index'",
        "create or replace function monitoring.platform_roles() returns oid[] language sql as $$ select '{}'::oid[] $$",
    ];
    for change in changes {
        execute(&client, &format!("begin; {change}")).await;
        let none: [&str; 0] = [];
        assert_eq!(told(&client, "monitoring.assess()").await, none, "{change}");
        execute(&client, "rollback").await;
        assert_eq!(told(&client, "monitoring.assess()").await, all, "{change}");
    }

    // What is no change of theirs leaves them alone.
    let others = "insert into seats values (1); vacuum analyze seats; select nextval('numbers'); create unlogged table monitoring.mine ();
        drop table monitoring.mine";
    for other in others.split(';') {
        execute(&client, other).await;
    }
    assert_eq!(told(&client, "monitoring.assess()").await, all);

    // Nor are temporary tables, which are not judged.
    let elsewhere = database.superuser().await;
    let temporary = "create temporary table basket (id serial primary key, note text); create temporary view noted as select note from basket";
    execute(&elsewhere, temporary).await;
    assert_eq!(told(&client, "monitoring.assess()").await, all);

    // Whoever's change it is: it is known with the commit, however busy that session is.
    execute(
        &elsewhere,
        "begin; alter table guests disable row level security",
    )
    .await;
    assert_eq!(told(&client, "monitoring.assess()").await, all);
    execute(&elsewhere, "commit").await;
    let seen = json_of(&client, "monitoring.assess()").await.to_string();
    assert!(!seen.contains(MARK), "{seen}");
    assert!(seen.contains("row-level security is off"), "{seen}");
}

#[tokio::test]
async fn a_memory_that_is_old_failed_or_of_another_server_is_not_told() {
    let (_cluster, _database, client) = remembered().await;
    let all = remembered_ids(&client).await;
    for spoiled in [
        "checked_at = now() - interval '16 minutes'",
        "checked_at = now() + interval '1 minute'",
        "failed = '57014'",
        "holds_while = null",
        "holds_while = holds_while || '1'",
    ] {
        let spoil = format!(
            "begin; update monitoring.remembered_checks set {spoiled} where check_id <> 'unused-index'"
        );
        execute(&client, &spoil).await;
        assert_eq!(
            told(&client, "monitoring.assess()").await,
            ["unused-index"],
            "{spoiled}"
        );
        execute(&client, "rollback").await;
    }
    let fifteen = "update monitoring.remembered_checks set checked_at = now() - interval '15 minutes 30 seconds'";
    execute(&client, fifteen).await;
    assert_eq!(told(&client, "monitoring.assess()").await, all);
}

/// The sampler is told so, too: exactly the same is as good as made, so events end by it.
#[tokio::test]
async fn what_is_exactly_the_same_counts_as_made() {
    let (_cluster, _database, client) = remembered().await;
    let sample = "monitoring.assess('sample')";
    execute(
        &client,
        "update monitoring.remembered_checks set is_reconciled = true",
    )
    .await;
    let run = json_of(&client, &format!("{sample} -> 'checks_run'")).await;
    let run = run.as_array().expect("checks");
    assert!(run.contains(&json!("rls-exposed")), "{run:?}");
    // Of what is counted it is an answer of a quarter of an hour ago.
    assert!(!run.contains(&json!("unused-index")), "{run:?}");
    assert!(
        told(&client, sample)
            .await
            .contains(&"rls-exposed".to_owned())
    );
    execute(&client, "drop policy own on guests").await;
    let seen = json_of(&client, sample).await;
    let run = seen["checks_run"].as_array().expect("checks");
    assert!(run.contains(&json!("rls-exposed")), "{run:?}");
    let exposed: Vec<&Value> = seen["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|finding| finding["check_id"] == "rls-exposed")
        .collect();
    assert!(
        exposed.iter().all(|finding| finding["detail"] != MARK),
        "{exposed:?}"
    );
}

/// A platform may refuse a catalog: then nothing is told from memory, and all the rest goes on.
#[tokio::test]
async fn a_catalog_that_is_refused_costs_the_memory_and_nothing_else() {
    let (_cluster, _database, client) = remembered().await;
    execute(
        &client,
        "revoke select on pg_catalog.pg_rewrite from public",
    )
    .await;
    let none: [&str; 0] = [];
    execute(&client, "set role monitoring_owner").await;
    assert_eq!(told(&client, "monitoring.assess()").await, none);
    let versions = json_of(&client, "jsonb_build_array(monitoring.catalog_versions())").await;
    assert_eq!(versions, json!([null]));
}

/// A large database tells its checks whatever its catalogs hold: to compare those would take longer than is saved.
#[tokio::test]
async fn a_large_database_does_not_compare() {
    let (_cluster, _database, client) = remembered().await;
    let large = "update monitoring.settings set value = '0' where key = 'remember_from_relations';
        update monitoring.remembered_checks set checked_at = now() - interval '1 day' where check_id = 'rls-exposed';
        drop policy own on guests";
    execute(&client, large).await;
    let made = json_of(&client, "to_jsonb(monitoring.remember_checks())").await;
    assert_eq!(
        made,
        json!(["dead-tuples", "rls-exposed", "transaction-id-age"])
    );
    let compared = json_of(
        &client,
        "select coalesce(jsonb_agg(r.check_id), '[]') from monitoring.remembered_checks r
         where r.check_id in ('dead-tuples', 'rls-exposed') and r.holds_while is not null",
    );
    assert_eq!(compared.await, json!([]));
    let told = told(&client, "monitoring.assess()").await;
    assert!(told.contains(&"unused-index".to_owned()), "{told:?}");
    assert!(!told.contains(&"rls-exposed".to_owned()), "{told:?}");
}

/// Privileges are answered from the session's caches, which do not hear of others' changes for as long as it takes no lock.
#[tokio::test]
async fn what_the_sessions_caches_have_not_heard_of_is_not_remembered() {
    let (_cluster, database, client) = remembered().await;
    // What is granted elsewhere is committed while it sleeps, holding every lock that another look takes.
    let setup = "create role anon; create table inner_part.plain (id int); grant select on inner_part.plain to anon;
        create procedure look_on() language plpgsql as $$
        declare
          v_before text := (select n.xmin::text from pg_namespace n where n.nspname = 'inner_part');
        begin
          perform monitoring.assess('sample');
          for i in 1..8 loop
            delete from monitoring.remembered_checks;
            perform monitoring.remember_checks('sized');
            while i = 7 and v_before = (select n.xmin::text from pg_namespace n where n.nspname = 'inner_part') loop
              perform pg_sleep(0.01);
            end loop;
          end loop;
        end
        $$";
    execute(&client, setup).await;
    let elsewhere = database.superuser().await;
    execute(
        &elsewhere,
        "begin; grant usage on schema inner_part to anon",
    )
    .await;
    let looker = database.superuser().await;
    let looking = tokio::spawn(async move { looker.batch_execute("call look_on()").await });
    let sleeps = "select count(*) from pg_stat_activity where query = 'call look_on()' and wait_event = 'PgSleep'";
    wait_until("it looks", async || {
        json_of(&client, sleeps).await == json!(1)
    })
    .await;
    execute(&elsewhere, "commit").await;
    looking.await.expect("looking").expect("looking");
    let told = json_of(
        &client,
        "select jsonb_agg(c.detail) from monitoring.remembered_checks r cross join unnest(r.candidates) c
         where c.object = 'inner_part.plain' and r.holds_while = monitoring.catalog_versions()",
    );
    let told = told.await.to_string();
    assert!(told.contains("open to PUBLIC or anon"), "{told}");
}

/// What a transaction writes has one version, however often it writes it.
#[tokio::test]
async fn what_a_transaction_that_changes_tables_sees_is_not_remembered() {
    let (_cluster, _database, client) = remembered().await;
    execute(
        &client,
        "begin; alter table guests disable row level security; alter table guests enable row level security;
         delete from monitoring.remembered_checks; select monitoring.remember_checks(); alter table guests disable row level security; commit",
    )
    .await;
    let seen = json_of(&client, "monitoring.assess()").await.to_string();
    assert!(seen.contains("row-level security is off"), "{seen}");
}

/// An index that is built is not called invalid, and no catalog says that the building ended.
#[tokio::test]
async fn an_index_that_was_built_at_the_last_turn_is_looked_at_again() {
    let (_cluster, database, client) = remembered().await;
    let holder = database.superuser().await;
    execute(&holder, "begin; insert into seats values (7)").await;
    let builder = database.superuser().await;
    let token = builder.cancel_token();
    let building = tokio::spawn(async move {
        builder
            .batch_execute("create index concurrently half on seats (id)")
            .await
    });
    let waits = "select count(*) from pg_stat_progress_create_index where phase like 'waiting%'";
    wait_until("the building waits", async || {
        json_of(&client, waits).await == json!(1)
    })
    .await;
    let make = "delete from monitoring.remembered_checks; select monitoring.remember_checks()";
    execute(&client, make).await;
    let is_told = "monitoring.assess() #> '{findings}' @> '[{\"check_id\": \"invalid-index\"}]'";
    assert_eq!(json_of(&client, is_told).await, json!(false));
    token
        .cancel_query(tokio_postgres::NoTls)
        .await
        .expect("cancelling");
    building
        .await
        .expect("building")
        .expect_err("the building was cancelled");
    // The server answers first and gives up what it was doing then.
    wait_until("the index that was left half is told", async || {
        json_of(&client, is_told).await == json!(true)
    })
    .await;
    execute(&holder, "rollback").await;
}
