//! Row-level security as it is judged: each level, each reason, each way to reach a table, shown to be so by trying it.

// Ways around a policy that are nobody's plain grant.
mod around;
// Who can reach a table, and what they find there.
mod reach;
// Views that show what policies hide.
mod views;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};

/// A database on a cluster that may be given roles.
fn database(setup: &str) -> (Cluster, TestDatabase) {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    database.psql(SUPERUSER, setup).expect("setting up");
    (cluster, database)
}

async fn execute(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// What is said of a table.
async fn judged(client: &Client, table: &str) -> Value {
    let sql = "select to_jsonb(r)::text from monitoring_rls_status r where tablename = $1";
    let row = client.query_one(sql, &[&table]).await;
    let row = row.unwrap_or_else(|error| panic!("{table}: {error:?}"));
    serde_json::from_str(row.get(0)).expect("parsing a row")
}

async fn level(client: &Client, table: &str) -> String {
    let judged = judged(client, table).await;
    let level = judged["security_risk_level"].as_str();
    level.unwrap_or_default().to_owned()
}

async fn reasons(client: &Client, table: &str) -> Vec<String> {
    let judged = judged(client, table).await;
    let reasons = judged["reasons"].as_array().into_iter().flatten();
    reasons
        .map(|reason| reason.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The one reason that begins so, if there is one.
async fn reason(client: &Client, table: &str, beginning: &str) -> Option<String> {
    let reasons = reasons(client, table).await;
    reasons
        .into_iter()
        .find(|reason| reason.starts_with(beginning))
}

/// How many rows somebody really gets; none when it is refused.
async fn rows(client: &Client, role: &str, relation: &str) -> Option<i64> {
    let sql = format!("set role {role}; select count(*) from {relation}");
    let messages = client.simple_query(&sql).await;
    execute(client, "reset role").await;
    let messages = match messages {
        Ok(messages) => messages,
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{relation}: {error:?}");
            return None;
        }
    };
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

#[tokio::test]
async fn row_level_security_is_judged() {
    let (_cluster, database) = database(
        "create role app nologin; create schema private;
        create table open_table (id int);
        create table hollow (id int); alter table hollow enable row level security;
        create policy all_of_it on hollow using (true);
        create table mute (id int); alter table mute enable row level security;
        create table guarded (tenant name); alter table guarded enable row level security;
        alter table guarded force row level security;
        create policy own on guarded using (tenant = current_user);
        create policy owner_sees_all on guarded to app using (true);
        create table narrowed (tenant name); alter table narrowed enable row level security;
        create policy everybody on narrowed using (true);
        create policy but_only on narrowed as restrictive using (tenant = current_user);
        create table seemingly (a int); alter table seemingly enable row level security;
        create policy everybody on seemingly using (true);
        create policy not_this on seemingly as restrictive for delete using (false);
        create policy nor_this on seemingly as restrictive using (true);
        create policy nor_that on seemingly as restrictive to app using (false);
        create table checked (a int); alter table checked enable row level security;
        create policy own on checked for update using (a = 1) with check (true);
        create table private.inside (id int);
        create table private.shown (id int); grant select (id) on private.shown to public;
        create table parent (id int) partition by range (id);
        alter table parent enable row level security; create policy p on parent using (id > 0);
        create table child partition of parent for values from (1) to (2);
        create temporary table passing (id int); create unlogged table fast (id int);
        grant select on guarded to app;",
    );
    let client = database.superuser().await;
    let all = "select tablename::text, security_risk_level, risk_rank from monitoring_rls_status
        where tablename <> 'monitoring_events' order by risk_rank, tablename";
    let all = client.query(all, &[]).await.expect("asking for all");
    let all: Vec<(&str, &str, i32)> = all
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        all,
        [
            ("child", "HIGH_RISK", 1),
            ("fast", "HIGH_RISK", 1),
            ("open_table", "HIGH_RISK", 1),
            ("shown", "HIGH_RISK", 1),
            ("hollow", "MEDIUM_RISK", 2),
            ("mute", "MEDIUM_RISK", 2),
            ("seemingly", "MEDIUM_RISK", 2),
            ("checked", "LOW_RISK", 3),
            ("guarded", "LOW_RISK", 3),
            ("narrowed", "LOW_RISK", 3),
            ("parent", "LOW_RISK", 3),
            ("inside", "UNKNOWN", 4),
        ]
    );
    let guarded = judged(&client, "guarded").await;
    assert_eq!(
        (&guarded["exposed_to"], &guarded["rls_forced"]),
        (&json!(["app"]), &json!(true))
    );
    assert_eq!(
        (&guarded["rls_status"], &guarded["policy_count"]),
        (&json!("ENABLED"), &json!(2))
    );
    let child = reason(&client, "child", "a partition").await;
    assert_eq!(
        child.as_deref(),
        Some("a partition: readable past the policies of its parent")
    );
    assert_eq!(reason(&client, "parent", "a partition").await, None);
}

/// Tables that are alike are judged together, so each thing in which two can differ is a way to be judged by the other's.
#[tokio::test]
async fn tables_that_differ_in_one_thing_are_told_apart() {
    let differences = [
        ("alter table two force row level security", "rls_forced"),
        ("alter table two owner to app", "reasons"),
        ("alter table two disable row level security", "rls_enabled"),
        ("grant select on two to app", "exposed_to"),
        ("grant select (id) on two to app", "exposed_to"),
        ("create policy more on two using (id > 2)", "policy_count"),
        ("alter policy p on two using (true)", "security_risk_level"),
        (
            "drop policy p on two; create policy p on two as restrictive using (id > 0); grant select on one, two to app",
            "reasons",
        ),
        (
            "alter policy p on two to anon; grant select on one, two to app",
            "reasons",
        ),
        (
            "drop policy p on two; create policy p on two for delete using (id > 0); grant select on one, two to app",
            "reasons",
        ),
        (
            "create view v as select * from two; grant select on v to app",
            "reasons",
        ),
        (
            "alter policy p on one using (true); alter policy p on two using (true); alter policy p on two rename to \"q f{0}p\"",
            "reasons",
        ),
        (
            "create schema other; alter table two set schema other; alter table one disable row level security; alter table other.two disable row level security",
            "security_risk_level",
        ),
    ];
    let (_cluster, database) = database(
        "create role app nologin; create role anon nologin; create table one (id int); create table two (id int);
         alter table one enable row level security; alter table two enable row level security;
         create policy p on one using (id > 0); create policy p on two using (id > 0);",
    );
    let client = database.superuser().await;
    for (difference, column) in differences {
        execute(&client, "begin").await;
        let (mut one, two) = (judged(&client, "one").await, judged(&client, "two").await);
        one["tablename"] = json!("two");
        assert_eq!(one, two, "alike");
        execute(&client, difference).await;
        let (one, two) = (judged(&client, "one").await, judged(&client, "two").await);
        assert_ne!(one[column], two[column], "{difference}");
        execute(&client, "rollback").await;
    }
}

/// They are judged together, and each is told what its own policies are called.
#[tokio::test]
async fn tables_that_differ_in_the_names_of_their_policies_are_told_their_own() {
    let (_cluster, database) = database(
        "create table one (id int); alter table one enable row level security; grant select on one to public;
         create table two (id int); alter table two enable row level security; grant select on two to public;
         create table three (id int); alter table three enable row level security; grant select on three to public;
         create policy \"100%s of it\" on one using (true); create policy \"lets everybody through: policy %s\" on two using (true);
         create policy p on three using (true);",
    );
    let client = database.superuser().await;
    let mut rest = Vec::new();
    for (table, policy) in [
        ("one", "100%s of it"),
        ("two", "lets everybody through: policy %s"),
        ("three", "p"),
    ] {
        let expected = format!("lets everybody through: policy {policy}");
        let mut reasons = reasons(&client, table).await;
        let before = reasons.len();
        reasons.retain(|reason| *reason != expected);
        assert_eq!(reasons.len(), before - 1, "{table}: {reasons:?}");
        rest.push(reasons);
    }
    assert!(rest[0] == rest[1] && rest[1] == rest[2], "{rest:?}");
}

/// In which order its policies and grants were made is no difference between tables.
#[tokio::test]
async fn tables_whose_policies_were_made_in_another_order_are_of_one_kind() {
    let (_cluster, database) = database(
        "create role app; create role team;
         create table one (id int, note text); create table two (id int, note text); create table three (id int, note text);
         alter table one enable row level security; alter table two enable row level security;
         alter table three enable row level security;
         create policy a on one for select to app using (id > 0); create policy b on one for update to team using (id > 0);
         create policy c on one for delete to app using (id > 0);
         create policy x on two for delete to app using (id > 1); create policy y on two for update to team using (id > 1);
         create policy z on two for select to app using (id > 1);
         create policy x on three for update to team using (id > 2); create policy y on three for select to app using (id > 2);
         create policy z on three for delete to app using (id > 2);
         grant select (id) on one to app; grant select (note) on one to team;
         grant select (id) on two to team; grant select (note) on two to app;
         grant select (note) on three to app; grant select (note) on three to team",
    );
    let client = database.superuser().await;
    let kinds = "select array(select t::text from unnest(tablenames) t order by 1) from monitoring.rls_kinds()
        where tablenames && '{one,two,three}'";
    let kinds = client.query(kinds, &[]).await.expect("reading the kinds");
    let kinds: Vec<Vec<String>> = kinds.iter().map(|kind| kind.get(0)).collect();
    assert_eq!(kinds, [["one", "three", "two"]]);
}

/// Enabled, with a policy, and as open as without; and what looks like it and is not.
#[tokio::test]
async fn using_true_lets_everybody_through() {
    let (_cluster, database) = database(
        "create role app nologin; create role anon nologin; create role authenticated nologin;
        create role visitors nologin; grant visitors to anon",
    );
    let client = database.superuser().await;
    for (policies, expected) in [
        ("create policy p on t using (true)", "MEDIUM_RISK"),
        ("create policy p on t using ((true))", "MEDIUM_RISK"),
        ("create policy p on t using ('yes'::boolean)", "MEDIUM_RISK"),
        ("create policy p on t using (1 = 1)", "MEDIUM_RISK"),
        ("create policy p on t using ('a' = 'a')", "MEDIUM_RISK"),
        ("create policy p on t using (true or id = 1)", "MEDIUM_RISK"),
        ("create policy p on t using (id = 1 or id = 2 or true)", "MEDIUM_RISK"),
        ("create policy p on t using (not false)", "MEDIUM_RISK"),
        ("create policy p on t using (id = 1 or (id = 2 and true))", "LOW_RISK"),
        ("create policy p on t using (id = 1 or false)", "LOW_RISK"),
        ("create policy p on t using (null or id = 1)", "LOW_RISK"),
        ("create policy p on t using (true and id = 1)", "LOW_RISK"),
        ("create policy p on t using (not true)", "LOW_RISK"),
        ("create policy p on t using (id = 1 or 1 = 1)", "MEDIUM_RISK"),
        ("create policy p on t using (id = 1 or (id = 2 or true))", "MEDIUM_RISK"),
        ("create policy p on t using (id = 1 or true or id = 2)", "MEDIUM_RISK"),
        ("create policy p on t using (true and 2 <= 2)", "MEDIUM_RISK"),
        ("create policy p on t using (not (id = 1 and false))", "MEDIUM_RISK"),
        ("create policy p on t using (not (id = 1 or true))", "LOW_RISK"),
        ("create policy p on t using (not (id = 1))", "LOW_RISK"),
        ("create policy p on t using (id = 1 or 1 = 2)", "LOW_RISK"),
        ("create policy p on t using ((select true))", "MEDIUM_RISK"),
        ("create policy p on t using ((select 1 = 1 or false))", "MEDIUM_RISK"),
        ("create policy p on t using (id = 1 or (select (select true)))", "MEDIUM_RISK"),
        ("create policy p on t using ((select false))", "LOW_RISK"),
        ("create policy p on t using ((select true where false))", "LOW_RISK"),
        ("create policy p on t using ((select true limit 0))", "LOW_RISK"),
        ("create policy p on t using ((select true having false))", "LOW_RISK"),
        ("create policy p on t using ((select true from pg_class where false))", "LOW_RISK"),
        ("create policy p on t using ((select true union all select false limit 1 offset 1))", "LOW_RISK"),
        // What a name holds is no node; and of what is long only the ends are looked at.
        ("create policy p on t using ((select true as \"{CONST}\"))", "MEDIUM_RISK"),
        ("create policy p on t using (exists (select 1 from pg_class as \"c{\") or true)", "MEDIUM_RISK"),
        ("create policy p on t using (exists (select 1 from pg_class as \"}T\") or id = 1)", "LOW_RISK"),
        ("do $$ begin execute 'create policy p on t using (id in (select id from t where ' || repeat('id = 1 or ', 3) || 'false) or true)'; end $$", "MEDIUM_RISK"),
        ("create policy p on t using ('(nan,nan),(1,1)'::box = '(nan,nan),(1,1)'::box)", "LOW_RISK"),
        ("create policy p on t using (exists (select true where false))", "LOW_RISK"),
        ("create policy p on t using (true = all (select false))", "LOW_RISK"),
        ("create policy p on t using ((select id = 1))", "LOW_RISK"),
        // What is always true narrows nobody.
        (
            "create policy p on t using (true); create policy r on t as restrictive using (id = 1 or 1 = 1)",
            "MEDIUM_RISK",
        ),
        ("create policy p on t using (2 >= 2)", "MEDIUM_RISK"),
        ("create policy p on t using (2 <= 2)", "MEDIUM_RISK"),
        ("create policy p on t using (1 = 2)", "LOW_RISK"),
        ("create policy p on t using (2 > 2)", "LOW_RISK"),
        ("create policy p on t using (1 <> 1)", "LOW_RISK"),
        ("create policy p on t using (null = null)", "LOW_RISK"),
        ("create policy p on t using (id = 1)", "LOW_RISK"),
        ("create policy p on t using (id = id)", "LOW_RISK"),
        (
            "create policy p on t for insert with check (true)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t for update using (true) with check (id > 0)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t for delete using (true)",
            "MEDIUM_RISK",
        ),
        ("create policy p on t to anon using (true)", "MEDIUM_RISK"),
        (
            "create policy p on t to app, authenticated using (true)",
            "MEDIUM_RISK",
        ),
        ("create policy p on t to app using (true)", "LOW_RISK"),
        ("create policy p on t using (false)", "LOW_RISK"),
        ("create policy p on t using (null)", "LOW_RISK"),
        // For ALL it is INSERT's, too.
        ("create policy p on t with check (true)", "MEDIUM_RISK"),
        (
            "create policy p on t using (id = 1) with check (true)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t to authenticated using (id = 1) with check (1 = 1)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t to app using (id = 1) with check (true)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (id = 1) with check (id = 1)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (id = 1) with check (true); create policy r on t as restrictive for insert with check (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (id = 1) with check (true); create policy r on t as restrictive using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (id = 1) with check (true); create policy r on t as restrictive for select using (id > 0)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t for insert with check (true); create policy r on t as restrictive using (id > 0) with check (true)",
            "MEDIUM_RISK",
        ),
        // One for each command is as good as one for all of them.
        (
            "create policy p on t using (true); create policy r on t as restrictive for select using (id > 0);
             create policy u on t as restrictive for update using (id > 0); create policy d on t as restrictive for delete using (id > 0);
             create policy i on t as restrictive for insert with check (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (true); create policy r on t as restrictive for select using (id > 0);
             create policy u on t as restrictive for update using (id > 0); create policy d on t as restrictive for delete using (id > 0)",
            "MEDIUM_RISK",
        ),
        // New rows are bound by it, and those that are there are not.
        (
            "create policy p on t using (true); create policy r on t as restrictive with check (id > 0)",
            "MEDIUM_RISK",
        ),
        // Who is a member is bound, and let through, like who is named.
        (
            "create policy p on t to visitors using (true)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t to anon using (true); create policy r on t as restrictive to visitors using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t to visitors using (true); create policy r on t as restrictive to anon using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t to anon, authenticated using (true); create policy r on t as restrictive to visitors using (id > 0)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t to anon, authenticated using (true); create policy r on t as restrictive to visitors using (id > 0);
             create policy s on t as restrictive to authenticated using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t for update using (id > 0) with check (true)",
            "LOW_RISK",
        ),
        (
            "create policy p on t as restrictive using (true)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (true); create policy r on t as restrictive using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t to anon using (true); create policy r on t as restrictive to anon using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t for select using (true); create policy r on t as restrictive for select using (id > 0)",
            "LOW_RISK",
        ),
        (
            "create policy p on t using (true); create policy r on t as restrictive for select using (id > 0)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t using (true); create policy r on t as restrictive to anon using (id > 0)",
            "MEDIUM_RISK",
        ),
        (
            "create policy p on t using (true); create policy r on t as restrictive using (true)",
            "MEDIUM_RISK",
        ),
    ] {
        execute(
            &client,
            "begin; create table t (id int); alter table t enable row level security",
        )
        .await;
        execute(&client, policies).await;
        assert_eq!(level(&client, "t").await, expected, "{policies}");
        let hollow = reason(&client, "t", "lets everybody through").await;
        assert_eq!(
            hollow.is_some(),
            expected == "MEDIUM_RISK",
            "{policies}: {hollow:?}"
        );
        execute(&client, "rollback").await;
    }
}

#[tokio::test]
async fn policies_of_a_table_without_row_level_security_have_no_effect() {
    let database = plain().database();
    let setup = "create table asleep (id int); insert into asleep values (1), (2);
        create policy a on asleep using (id = 1); create policy b on asleep for delete using (false)";
    database.psql(SUPERUSER, setup).expect("creating a table");
    let client = database.superuser().await;
    let said = reasons(&client, "asleep").await;
    assert_eq!(
        said,
        [
            "row-level security is off",
            "its 2 policies have no effect",
            "schema public is exposed"
        ]
    );
    execute(&client, "alter table asleep enable row level security").await;
    assert_eq!(reason(&client, "asleep", "its 2 policies").await, None);
    execute(&client, "drop policy a on asleep; drop policy b on asleep").await;
    let said = reasons(&client, "asleep").await;
    assert_eq!(
        said[0],
        "no policy: only owners and BYPASSRLS roles see rows"
    );
    assert_eq!(level(&client, "asleep").await, "MEDIUM_RISK");
}

/// Nobody compares them with what they were, so nobody is told that they are watched.
#[tokio::test]
async fn neither_the_systems_schemas_nor_ours_are_watched_also_if_configured() {
    let database = plain().database();
    let client = database.superuser().await;
    let configured = "create table guests (id int); update monitoring.settings
        set value = '[\"public\", \"monitoring\", \"pg_catalog\", \"information_schema\"]' where key = 'application_schemas'";
    execute(&client, configured).await;
    for watched in [
        "select distinct schemaname::text from monitoring_rls_status",
        "select distinct schemaname::text from monitoring_table_health",
        "select distinct split_part(w.name, '.', 1) from monitoring.look_at_watched() w where w.kind = 'rls'",
    ] {
        let schemas = client.query(watched, &[]).await.expect("asking");
        let schemas: Vec<String> = schemas.iter().map(|row| row.get(0)).collect();
        assert_eq!(schemas, ["public"], "{watched}");
    }
}

#[tokio::test]
async fn no_schema_is_none_and_not_all() {
    let database = plain().database();
    let client = database.superuser().await;
    let tables = "select (select count(*) from monitoring_rls_status) + (select count(*) from monitoring_table_health)";
    for (configured, watched) in [("[]", false), ("null", true)] {
        let configure = format!(
            "update monitoring.settings set value = '{configured}' where key = 'application_schemas'"
        );
        execute(&client, &configure).await;
        let row = client.query_one(tables, &[]).await.expect("asking");
        assert_eq!(row.get::<_, i64>(0) > 0, watched, "{configured}");
    }
}

#[tokio::test]
async fn findings_are_capped_and_metrics_are_not() {
    let database = plain().database();
    let setup = "select format('create table exposed_%s (id int)', i) from generate_series(1, 120) i \\gexec";
    database.psql(SUPERUSER, setup).expect("creating tables");
    let client = database.superuser().await;
    let summary =
        "select jsonb_array_length(s -> 'findings'), (s #>> '{metrics,high_risk_tables}')::int,
        (s ->> 'health_score')::int, jsonb_array_length(s -> 'recommendations'),
        (select count(*) from monitoring.findings() where check_id = 'rls-exposed')::int
        from get_database_monitoring_summary() s";
    let row = client
        .query_one(summary, &[])
        .await
        .expect("asking for the summary");
    let [findings, tables, score, recommendations, all]: [i32; 5] =
        std::array::from_fn(|at| row.get(at));
    assert_eq!((findings, tables, all), (50, 120, 100));
    assert_eq!(
        (score, recommendations),
        (70, 10),
        "one subject takes 30 at most"
    );
    // The worst is among the hundred, wherever its name stands.
    execute(
        &client,
        "create table zz_open (id int); grant select on zz_open to public",
    )
    .await;
    let worst = "select s #>> '{findings,0,object}' from get_database_monitoring_summary() s";
    let worst = client.query_one(worst, &[]).await.expect("asking again");
    assert_eq!(worst.get::<_, &str>(0), "public.zz_open");
}
