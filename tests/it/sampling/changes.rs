//! A switched-off row-level security is known at the next sample; what did not change is no change.

use super::{agent, execute, sample, statistics_arrive, text};
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};

/// What changed since the last time it was asked.
async fn changes(client: &tokio_postgres::Client) -> Vec<String> {
    let told = "select coalesce(string_agg(format('%s %s: %s > %s', kind, object, coalesce(was, '-'), coalesce(now, '-')), chr(10) order by kind, object), '')
                from monitoring.changes";
    let told = text(client, told).await.unwrap_or_default();
    execute(client, "delete from monitoring.changes").await;
    told.lines().map(str::to_owned).collect()
}

/// What tells that somebody may have changed something.
const WRITTEN: &str = "concat_ws(' ', monitoring.catalog_writes('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_proc'), \
    pg_stat_get_tuples_updated('pg_attribute'::regclass))";

/// The counters say that somebody wrote; which takes up to a second.
async fn counted(client: &tokio_postgres::Client, since: &str) {
    let condition = format!("select {WRITTEN} is distinct from '{since}'");
    statistics_arrive(client, &condition).await;
}

async fn written(client: &tokio_postgres::Client) -> String {
    // What was written before has to have arrived, or it would be taken for what comes next.
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    execute(client, "select pg_stat_clear_snapshot()").await;
    text(client, &format!("select {WRITTEN}"))
        .await
        .unwrap_or_default()
}

#[tokio::test]
async fn what_changed_in_privileges_is_known_at_the_next_sample() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client, observer) = (
        agent(&database).await,
        database.superuser().await,
        database.superuser().await,
    );
    execute(
        &client,
        "create table guests (id int primary key); alter table guests enable row level security;
         create table vendors (id int); create policy everybody on guests using (id > 0); create role planner; create role caterer",
    )
    .await;
    sample(&agent, 50).await;
    assert!(
        changes(&observer).await.is_empty(),
        "the first look is what later ones are compared with"
    );

    let mut minutes_ago = 49;
    for (change, expected) in [
        (
            "alter table guests disable row level security",
            "rls public.guests: on > off",
        ),
        (
            "alter table guests enable row level security",
            "rls public.guests: off > on",
        ),
        (
            "alter table guests force row level security",
            "rls public.guests: on > on, forced",
        ),
        (
            "grant select on guests to public",
            "grant public.guests: owner only > {postgres=arwdDxt",
        ),
        (
            "alter policy everybody on guests using (true)",
            "policy policy everybody on public.guests: permissive, for all, to public, expression ",
        ),
        (
            "drop policy everybody on guests",
            "policy policy everybody on public.guests: permissive, for all, to public, expression ",
        ),
        (
            "create policy own on guests as restrictive for select to planner using (id = 1)",
            "policy policy own on public.guests: - > restrictive, for select, to planner, expression ",
        ),
        (
            "alter role planner bypassrls",
            "role planner: no login > no login, bypasses row-level security",
        ),
        (
            "grant planner to caterer",
            "membership caterer in planner: - > member",
        ),
        (
            "grant planner to caterer with admin option",
            "membership caterer in planner: member > member, may grant it",
        ),
        (
            "revoke planner from caterer",
            "membership caterer in planner: member, may grant it > -",
        ),
        (
            "grant create on schema public to planner",
            "grant schema public: ",
        ),
        (
            "alter role caterer login superuser",
            "role caterer: no login > login, superuser",
        ),
    ] {
        let before = written(&observer).await;
        execute(&client, change).await;
        counted(&observer, &before).await;
        sample(&agent, minutes_ago).await;
        minutes_ago -= 1;
        let changes = changes(&observer).await;
        assert_eq!(changes.len(), 1, "{change}: {changes:?}");
        assert!(changes[0].starts_with(expected), "{change}: {changes:?}");
    }

    // A table that is new, or has another name, has not changed; nor has one that is gone.
    for change in [
        "create table venues (id int); grant select on venues to planner",
        "alter table vendors rename to suppliers",
        "analyze guests; vacuum guests",
        "insert into suppliers values (1); create index on suppliers (id)",
        "drop table suppliers",
    ] {
        for statement in change.split("; ") {
            execute(&client, statement).await;
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    sample(&agent, minutes_ago).await;
    let changes = changes(&observer).await;
    assert!(changes.is_empty(), "{changes:?}");
}

/// What is granted on a column is not written to the row of its table, and what is granted on a function to no table at all.
#[tokio::test]
async fn grants_on_columns_and_functions_are_watched() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client, observer) = (
        agent(&database).await,
        database.superuser().await,
        database.superuser().await,
    );
    execute(
        &client,
        "create role planner; create table guests (id int primary key, name text); grant select (name) on guests to planner;
         create function seat(guest int) returns int language sql as 'select 1'",
    )
    .await;
    sample(&agent, 50).await;
    assert!(changes(&observer).await.is_empty());

    let mut minutes_ago = 49;
    for (change, from, to) in [
        (
            "grant select (id) on guests to planner",
            "grant public.guests: owner only, column name {planner=r/postgres} > ",
            "owner only, column id {planner=r/postgres}, column name {planner=r/postgres}",
        ),
        (
            "revoke select (id, name) on guests from planner",
            "grant public.guests: owner only, column id ",
            " > owner only",
        ),
        (
            "revoke execute on function seat(int) from public",
            "grant function public.seat(integer): everybody > {postgres=X/postgres}",
            "",
        ),
        (
            "grant execute on function seat(int) to planner",
            "grant function public.seat(integer): {postgres=X/postgres} > ",
            ",planner=X/postgres}",
        ),
    ] {
        let before = written(&observer).await;
        execute(&client, change).await;
        counted(&observer, &before).await;
        sample(&agent, minutes_ago).await;
        minutes_ago -= 1;
        let changes = changes(&observer).await;
        assert_eq!(changes.len(), 1, "{change}: {changes:?}");
        assert!(
            changes[0].starts_with(from) && changes[0].ends_with(to),
            "{change}: {changes:?}"
        );
    }

    // What is new has not changed, however it is granted; nor what is written anew with the same rights.
    for statement in [
        "create table venues (id int)",
        "grant select (id) on venues to planner",
        "create function table_for(guest int) returns int language sql as 'select 2'",
        "create or replace function seat(guest int) returns int language sql as 'select 3'",
        "alter table guests alter column name set not null",
    ] {
        execute(&client, statement).await;
    }
    written(&observer).await;
    sample(&agent, minutes_ago).await;
    let changes = changes(&observer).await;
    assert!(changes.is_empty(), "{changes:?}");
}

/// Whose a policy is does not depend on what its table is called by then.
#[tokio::test]
async fn a_policy_that_goes_while_its_table_gets_another_name_is_told() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client, observer) = (
        agent(&database).await,
        database.superuser().await,
        database.superuser().await,
    );
    execute(
        &client,
        "create table guests (id int); create policy own on guests using (id > 0); create policy other on guests using (id > 1);
         create table gone (id int); create policy own on gone using (id > 0)",
    )
    .await;
    sample(&agent, 50).await;
    assert!(changes(&observer).await.is_empty());
    let before = written(&observer).await;
    execute(
        &client,
        "drop policy own on guests; alter table guests rename to invited; drop table gone;
         create table guests (id int); create policy own on guests using (id > 0)",
    )
    .await;
    counted(&observer, &before).await;
    sample(&agent, 49).await;
    let told = changes(&observer).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("policy policy own on public.guests: permissive, ")
            && told[0].ends_with(" > -"),
        "{told:?}"
    );
}

/// To 16 a policy's expression is kept with the places at which its parts stood in the statement that made it.
#[tokio::test]
async fn a_policy_that_is_made_again_in_other_spacing_is_the_same() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client, observer) = (
        agent(&database).await,
        database.superuser().await,
        database.superuser().await,
    );
    execute(
        &client,
        "create table guests (id int, name text);
         create policy own on guests using (id = 12 and exists (select from guests g where g.name = 'location 12'))",
    )
    .await;
    sample(&agent, 50).await;
    let before = written(&observer).await;
    execute(
        &client,
        "alter policy own on guests using (   id =    12 and exists (select from   guests g where g.name = 'location 12'))",
    )
    .await;
    counted(&observer, &before).await;
    sample(&agent, 49).await;
    let told = changes(&observer).await;
    assert!(told.is_empty(), "{told:?}");

    // Dropped and made anew it was gone in between; but what it was it is again, and nobody is warned.
    let before = written(&observer).await;
    execute(
        &client,
        "drop policy own on guests; create policy own on guests
           using (id = 12 and exists (select from guests g where g.name = 'location 12'))",
    )
    .await;
    counted(&observer, &before).await;
    sample(&agent, 48).await;
    let found = "select count(*) from monitoring.check_rls_changed()";
    assert_eq!(text(&observer, found).await.as_deref(), Some("0"));
    assert_eq!(changes(&observer).await.len(), 2);

    for (n, other) in ["id = 13", "id = 1 or id = 12", "name = 'location 13'"]
        .into_iter()
        .enumerate()
    {
        let before = written(&observer).await;
        execute(
            &client,
            &format!("alter policy own on guests using ({other})"),
        )
        .await;
        counted(&observer, &before).await;
        sample(&agent, 47 - i32::try_from(n).unwrap_or(0)).await;
        assert_eq!(changes(&observer).await.len(), 1, "{other}");
    }
}

/// The counters are lost in a crash and can be reset; every hour the catalogs themselves are compared whatever they say.
/// What `pg_upgrade` does to a policy: another oid, and its expression in another release's words.
#[tokio::test]
async fn a_policy_that_another_release_writes_another_way_is_the_same() {
    let database = plain().database();
    let client = database.superuser().await;
    execute(
        &client,
        "create table guests (id int); alter table guests enable row level security; create policy own on guests using (id > 0);
         create temp table noted as select monitoring.note_changes('{}') as by;
         update monitoring.watched set key = key || '0', state = state || ' (as 13 has it)' where kind = 'policy'",
    )
    .await;
    let again = "update noted set by = monitoring.note_changes(by || '{\"compared_at\": \"2020-01-01 00:00 UTC\"}')";
    let by_13 = "update noted set by = by || '{\"major\": \"13\", \"contents\": \"\"}'";
    execute(&client, by_13).await;
    execute(&client, again).await;
    let told = changes(&client).await;
    assert!(told.is_empty(), "{told:?}");
    execute(&client, "alter policy own on guests using (id > 1)").await;
    execute(&client, again).await;
    let told = changes(&client).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("policy policy own on public.guests: permissive"),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_the_counters_did_not_tell_is_found_within_the_hour() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(
        &client,
        "create table guests (id int); alter table guests enable row level security",
    )
    .await;
    sample(&agent, 50).await;
    // Now what the first one wrote itself is counted.
    written(&client).await;
    sample(&agent, 49).await;
    let before = written(&client).await;
    execute(&client, "alter table guests disable row level security").await;
    counted(&client, &before).await;
    // As if they had not been counted.
    let noted = "update monitoring.sampler_parts set noted = noted || jsonb_build_object('written',
        monitoring.catalog_writes('pg_class', 'pg_policy', 'pg_namespace', 'pg_authid', 'pg_auth_members', 'pg_proc'),
        'columns', pg_stat_get_tuples_updated('pg_attribute'::regclass)::text) where part = 'changes'";
    execute(&client, noted).await;
    sample(&agent, 48).await;
    assert!(changes(&client).await.is_empty());
    let an_hour_ago = "update monitoring.sampler_parts set noted = noted || jsonb_build_object('compared_at', now() - interval '61 minutes') where part = 'changes'";
    execute(&client, an_hour_ago).await;
    sample(&agent, 47).await;
    assert_eq!(changes(&client).await, ["rls public.guests: on > off"]);
}

/// So that within the hour it is enough to compare them: each kind of change by itself.
#[tokio::test]
async fn the_contents_of_the_catalogs_tell_every_change() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let client = database.superuser().await;
    execute(
        &client,
        "create table guests (id int primary key, name text); create view guest_list as select * from guests;
         create policy everybody on guests using (id > 0); create role planner; create role caterer;
         create function seats() returns int language sql as 'select 8';
         create foreign data wrapper nobody; create server nowhere foreign data wrapper nobody;
         create foreign table menus (id int) server nowhere; create schema kitchen",
    )
    .await;
    let contents = "select monitoring.watched_contents()";
    for change in [
        "alter table guests enable row level security",
        "alter table guests force row level security",
        "grant select on guests to planner",
        "grant update (name) on guests to planner",
        "revoke update (name) on guests from planner; grant update (id) on guests to planner",
        "grant select on guest_list to planner",
        "grant select on menus to planner",
        "revoke execute on function seats() from public",
        "grant usage on schema kitchen to planner",
        "alter policy everybody on guests using (id > 1)",
        "drop policy everybody on guests",
        "grant planner to caterer",
        "revoke planner from caterer",
        "alter role caterer login",
        "alter role caterer createrole",
        "alter role caterer createdb",
        "alter role caterer replication",
        "alter role caterer bypassrls",
        "alter role caterer superuser",
        "alter role caterer rename to cook",
        "update monitoring.settings set value = '[\"kitchen\"]' where key = 'application_schemas'",
    ] {
        let before = text(&client, contents).await;
        execute(&client, change).await;
        assert_ne!(text(&client, contents).await, before, "{change}");
    }
    for nothing in [
        "insert into guests select n from generate_series(1, 100) n",
        "create temp table seated (id int); grant select on seated to planner",
        "analyze guests",
        "alter role planner set work_mem = '8MB'",
    ] {
        let before = text(&client, contents).await;
        execute(&client, nothing).await;
        assert_eq!(text(&client, contents).await, before, "{nothing}");
    }
}

/// Of a setting that may hold a secret only that it changed.
#[tokio::test]
async fn settings_that_changed_are_told_without_secrets() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    sample(&agent, 50).await;
    changes(&client).await;
    for sql in [
        "alter system set work_mem = '7MB'",
        "alter system set restore_command = 'copy --password hunter2'",
        "alter system set primary_conninfo = 'host=standby password=hunter2'",
        "select pg_reload_conf()",
    ] {
        execute(&client, sql).await;
    }
    let reloaded = database.superuser().await;
    super::statistics_arrive(
        &reloaded,
        "select setting = '7168' from pg_settings where name = 'work_mem'",
    )
    .await;
    // The agent's session reads the new configuration before its next statement.
    sample(&agent, 49).await;
    let told = changes(&client).await;
    assert!(
        told.contains(&"setting work_mem: 4096 kB > 7168 kB".to_owned()),
        "{told:?}"
    );
    for name in ["restore_command", "primary_conninfo"] {
        let line = format!("setting {name}: hidden > hidden");
        assert!(told.contains(&line), "{told:?}");
    }
    assert!(!told.join(" ").contains("hunter2"), "{told:?}");
    let kept = database.psql(
        SUPERUSER,
        "select count(*) from monitoring.watched where state like '%hunter2%'",
    );
    assert_eq!(kept.as_deref(), Ok("0\n"));
    sample(&agent, 48).await;
    assert!(changes(&client).await.is_empty());
}

/// What a session or its role sets for itself is no change, whoever takes the next sample; what the sampler's own functions set hides none.
#[tokio::test]
async fn what_a_session_sets_is_no_change_of_the_server() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let (plain, client) = (agent(&database).await, database.superuser().await);
    let own = database.login().await;
    execute(
        &own,
        "set role monitoring_agent; set work_mem = '1GB'; set timezone = 'Asia/Tokyo'; set lc_time = 'C'; set search_path = nowhere",
    )
    .await;
    sample(&plain, 50).await;
    for minutes_ago in [49, 48] {
        // Asked only after a change of what is configured.
        execute(&client, "update monitoring.sampler_parts set noted = noted - 'configured' where part = 'changes'").await;
        sample(if minutes_ago == 49 { &own } else { &plain }, minutes_ago).await;
        let told = changes(&client).await;
        assert!(told.is_empty(), "{minutes_ago}: {told:?}");
    }
    // Nor what it was not seen to be before, when somebody else asks.
    let other = database.login().await;
    execute(&other, "set role monitoring_agent; set geqo_threshold = 3").await;
    execute(&client, "delete from monitoring.watched where name = 'geqo_threshold'; update monitoring.sampler_parts set noted = noted - 'configured' where part = 'changes'").await;
    sample(&other, 48 - 1).await;
    execute(
        &client,
        "update monitoring.sampler_parts set noted = noted - 'configured' where part = 'changes'",
    )
    .await;
    sample(&plain, 46).await;
    let told = changes(&client).await;
    assert_eq!(
        told, ["setting geqo_threshold: - > not seen"; 0],
        "{told:?}"
    );
    let everybodys = "do $$ begin execute format('alter database %1$I set jit = off; alter database %1$I set work_mem = %2$L; alter database %1$I set search_path = public, extras', current_database(), '6MB'); end $$";
    execute(&client, everybodys).await;
    execute(
        &client,
        "update monitoring.sampler_parts set noted = noted - 'configured' where part = 'changes'",
    )
    .await;
    sample(&agent(&database).await, 45).await;
    assert_eq!(
        changes(&client).await,
        [
            "setting jit: on > off",
            "setting search_path: \"$user\", public > public, extras",
            "setting work_mem: 4096 kB > 6144 kB"
        ]
    );
}

/// A dump brings along what was seen of the database it was made of, where everything has another oid: none of it is a change here.
#[tokio::test]
async fn what_was_seen_of_another_database_is_not_compared() {
    let database = plain().database();
    let client = database.superuser().await;
    let elsewhere = "create table guests (id int); create table vendors (id int); alter table guests enable row level security;
         create temp table noted as select monitoring.note_changes('{}') as by;
         update monitoring.watched set state = 'on, forced' where kind = 'rls' and name = 'public.vendors';
         insert into monitoring.watched values ('role', '1', 'platform_admin', 'login, superuser');
         insert into monitoring.statement_counters values (1, 10, true, 5, 5, 5, 5, 5, 5);
         update noted set by = by || jsonb_build_object('identity', regexp_replace(by ->> 'identity', '^[0-9]+', '1'))";
    execute(&client, elsewhere).await;
    let again = "update noted set by = monitoring.note_changes(by || '{\"written\": \"\"}')";
    execute(&client, again).await;
    let told = changes(&client).await;
    assert!(told.is_empty(), "{told:?}");
    let seen = "select (select count(*) from monitoring.watched where name = 'platform_admin') || ' ' || (select count(*) from monitoring.statement_counters)
        || ' ' || (select state from monitoring.watched where kind = 'rls' and name = 'public.vendors')";
    assert_eq!(text(&client, seen).await.as_deref(), Some("0 0 off"));
    // From here on it is watched as ever.
    execute(&client, "alter table guests disable row level security").await;
    execute(&client, again).await;
    assert_eq!(changes(&client).await, ["rls public.guests: on > off"]);
    // Over pg_upgrade only the server is another one, and of another release.
    let upgraded = "update monitoring.watched set state = 'on' where kind = 'rls' and name = 'public.guests';
        update noted set by = by || jsonb_build_object('identity', regexp_replace(by ->> 'identity', '[0-9]+$', '1'), 'major', '13', 'contents', '', 'compared_at', '2020-01-01 00:00+00')";
    execute(&client, upgraded).await;
    execute(&client, again).await;
    assert_eq!(changes(&client).await, ["rls public.guests: on > off"]);
}
