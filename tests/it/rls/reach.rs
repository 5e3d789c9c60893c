//! Who can reach a table, and what they find there.

use serde_json::json;

use super::{database, execute, judged, level, reason, reasons, rows};

#[tokio::test]
async fn what_anon_may_as_a_member_counts_as_open() {
    let (_cluster, database) = database(
        "create schema private; create table private.lists (id int);
        create role anon nologin; create role web_readers nologin; grant web_readers to anon;
        grant select on private.lists to web_readers",
    );
    let client = database.superuser().await;
    assert_eq!(level(&client, "lists").await, "HIGH_RISK");
    assert_eq!(rows(&client, "anon", "private.lists").await, None);
    execute(&client, "grant usage on schema private to web_readers").await;
    assert_eq!(rows(&client, "anon", "private.lists").await, Some(0));
    assert_eq!(
        reasons(&client, "lists").await,
        ["row-level security is off", "open to PUBLIC or anon"]
    );
    execute(&client, "revoke web_readers from anon").await;
    assert_eq!(level(&client, "lists").await, "UNKNOWN");
}

/// Without any grant on the table.
#[tokio::test]
async fn what_anon_may_by_its_roles_alone_counts_as_open() {
    let (_cluster, database) = database(
        "create schema private; create table private.lists (id int); create schema business; create table business.plans (id int);
        create role anon nologin; create role landlord nologin; alter table private.lists owner to landlord; grant landlord to anon",
    );
    let client = database.superuser().await;
    assert_eq!(level(&client, "lists").await, "HIGH_RISK");
    assert_eq!(rows(&client, "anon", "private.lists").await, None);
    execute(&client, "grant usage on schema private to anon").await;
    assert_eq!(rows(&client, "anon", "private.lists").await, Some(0));
    let mut open = vec![
        "row-level security is off",
        "open to PUBLIC or anon",
        "owned by anon or authenticated, or a role they are members of",
    ];
    assert_eq!(reasons(&client, "lists").await, open);
    open.pop();
    assert_eq!(level(&client, "plans").await, "UNKNOWN");
    execute(&client, "grant pg_read_all_data to anon").await;
    assert_eq!(rows(&client, "anon", "business.plans").await, Some(0));
    assert_eq!(level(&client, "plans").await, "HIGH_RISK");
    assert_eq!(reasons(&client, "plans").await, open);
    execute(
        &client,
        "revoke pg_read_all_data from anon; revoke landlord from anon",
    )
    .await;
    for table in ["lists", "plans"] {
        assert_eq!(level(&client, table).await, "UNKNOWN", "{table}");
    }
}

const FINDING: &str = "select coalesce((select json_agg(f)::text from monitoring.findings() f where f.check_id = 'rls-exposed' and f.object ~ 'diary'), '[]')";

/// Whom policies do not bind, they do not restrict.
#[tokio::test]
async fn policies_that_do_not_bind_who_comes_are_no_protection() {
    let (_cluster, database) = database(
        "create role anon nologin; create role authenticated nologin; create role landlord nologin;
        create table diary (id int); insert into diary values (1); alter table diary owner to landlord;
        alter table diary enable row level security; create policy none on diary using (id = 99)",
    );
    let client = database.superuser().await;
    for (before, seen, after) in [
        ("select", None, "select"),
        (
            "grant landlord to anon",
            Some(1),
            "revoke landlord from anon",
        ),
        (
            "grant landlord to anon; alter table diary force row level security",
            Some(0),
            "revoke landlord from anon; alter table diary no force row level security",
        ),
        (
            "grant select on diary to anon; alter role anon bypassrls",
            Some(1),
            "revoke select on diary from anon; alter role anon nobypassrls",
        ),
        (
            "grant select on diary to anon",
            Some(0),
            "revoke select on diary from anon",
        ),
    ] {
        execute(&client, before).await;
        assert_eq!(rows(&client, "anon", "diary").await, seen, "{before}");
        let expected = if seen == Some(1) {
            "MEDIUM_RISK"
        } else {
            "LOW_RISK"
        };
        assert_eq!(level(&client, "diary").await, expected, "{before}");
        let said = reason(&client, "diary", "does not bind anon").await;
        assert_eq!(said.is_some(), seen == Some(1), "{before}");
        let found = client.query_one(FINDING, &[]).await.expect("asking");
        let found: &str = found.get(0);
        assert_eq!(found.contains("critical"), seen == Some(1), "{found}");
        execute(&client, after).await;
    }
}

/// Whatever the roles are called that a view is open to.
#[tokio::test]
async fn who_reads_past_the_policies_as_a_member_reads_past_them() {
    let (_cluster, database) = database(
        "create role anon nologin; create role authenticated nologin; create role readers nologin; create role \"a) (open to anon\" nologin;
        grant readers to authenticated; create table diary (id int); insert into diary values (1);
        alter table diary enable row level security; create policy none on diary using (id = 99); create view past as select * from diary",
    );
    let client = database.superuser().await;
    for (grantees, past) in [
        ("readers", true),
        ("public", true),
        ("\"a) (open to anon\"", false),
        ("\"a) (open to anon\", anon", true),
    ] {
        execute(
            &client,
            &format!("begin; grant select on past to {grantees}"),
        )
        .await;
        let found = client.query_one(FINDING, &[]).await.expect("asking");
        let found: &str = found.get(0);
        assert_eq!(found.contains("critical"), past, "{grantees}: {found}");
        execute(&client, "rollback").await;
    }
}

/// Whoever comes through an API has what a role of his has, and what he owns: it is as open as if it were granted to him.
#[tokio::test]
async fn what_is_open_to_whoever_comes_is_critical() {
    let (_cluster, database) = database(
        "create role anon nologin; create role authenticated nologin; create role visitors nologin; grant visitors to authenticated;
        create role app nologin; create table diary (id int); insert into diary values (1)",
    );
    let client = database.superuser().await;
    for (given, seen, found) in [
        ("grant select on diary to app", None, "warning"),
        ("grant select on diary to visitors", Some(1), "critical"),
        ("alter table diary owner to authenticated", Some(1), "critical"),
        ("alter table diary owner to visitors", Some(1), "critical"),
        (
            "alter table diary enable row level security; alter table diary force row level security;
             create policy all_of_it on diary using (true); alter table diary owner to visitors",
            Some(1),
            "critical",
        ),
        (
            "alter table diary enable row level security; alter table diary force row level security;
             create policy none on diary using (id = 99); alter table diary owner to visitors",
            Some(0),
            "[]",
        ),
    ] {
        execute(&client, given).await;
        assert_eq!(
            rows(&client, "authenticated", "diary").await,
            seen,
            "{given}"
        );
        let severity = client.query_one(FINDING, &[]).await.expect("asking");
        let severity: &str = severity.get(0);
        assert!(severity.contains(found), "{given}: {severity}");
        let undo = "alter table diary owner to current_user; revoke all on diary from app, visitors;
            drop policy if exists all_of_it on diary; alter table diary disable row level security, no force row level security";
        execute(&client, undo).await;
    }
}

/// Where a member of theirs gets at a table, these do not.
#[tokio::test]
async fn what_only_a_member_of_whoever_comes_may_enter_is_not_critical() {
    let (_cluster, database) = database(
        "create role anon nologin; create role authenticated nologin; create role backend nologin; grant anon to backend;
        create role guests nologin; grant guests to authenticated, backend;
        create schema closed; grant usage on schema closed to backend; create table closed.diary (id int);
        update monitoring.settings set value = '[\"closed\"]' where key = 'exposed_schemas'",
    );
    let client = database.superuser().await;
    for (grantee, opening) in [
        ("anon", "grant usage on schema closed to anon"),
        ("guests", "grant usage on schema closed to authenticated"),
    ] {
        execute(
            &client,
            &format!("grant select on closed.diary to {grantee}"),
        )
        .await;
        for (change, critical) in [("select", false), (opening, true)] {
            execute(&client, change).await;
            let seen = (
                rows(&client, "anon", "closed.diary").await.is_some(),
                rows(&client, "authenticated", "closed.diary")
                    .await
                    .is_some(),
            );
            assert_eq!(seen.0 || seen.1, critical, "{grantee}, {change}");
            let open = "select bool_or(k.is_open_to_anyone) from monitoring.look_at_rls_kinds() k where k.schemaname = 'closed'";
            let open = client.query_one(open, &[]).await.expect("asking");
            assert_eq!(open.get::<_, bool>(0), critical, "{grantee}, {change}");
            let found = client.query_one(FINDING, &[]).await.expect("asking");
            let found: &str = found.get(0);
            assert_eq!(
                found.contains("critical"),
                critical,
                "{grantee}, {change}: {found}"
            );
        }
        execute(
            &client,
            &format!("revoke all on closed.diary from {grantee}; revoke usage on schema closed from anon, authenticated"),
        )
        .await;
    }
}

/// What a view asks of its reader is the right to the table, and not to its schema.
#[tokio::test]
async fn a_schema_keeps_nobody_out_of_a_view_that_reads_as_its_reader() {
    let (cluster, database) = database(
        "create role anon nologin; create role authenticated nologin; create role app nologin; create schema private; create schema closed;
        create table private.diary (id int); insert into private.diary values (1); grant select on private.diary to anon, authenticated, app;",
    );
    if cluster.major_version() < 15 {
        return; // they come with 15
    }
    let client = database.superuser().await;
    let closed =
        "granted to PUBLIC or anon: only its schema, which they may not use, keeps them out";
    for (grant, seen, exposed) in [
        ("select on past to app", None, json!([])),
        ("select (id) on past to anon", Some(1), json!(["anon"])),
        (
            "select on past to authenticated",
            None,
            json!(["authenticated"]),
        ),
        (
            "select on past to public",
            Some(1),
            json!(["anon", "authenticated"]),
        ),
        (
            "select on past to public; alter view past set schema closed",
            None,
            json!([]),
        ),
    ] {
        let view = format!(
            "create view past with (security_invoker) as select id from private.diary; grant {grant}"
        );
        execute(&client, &view).await;
        let schema = if grant.contains("closed") {
            "closed"
        } else {
            "public"
        };
        assert_eq!(rows(&client, "anon", "private.diary").await, None);
        assert_eq!(
            rows(&client, "anon", &format!("{schema}.past")).await,
            seen,
            "{grant}"
        );
        let judged = judged(&client, "diary").await;
        assert_eq!(judged["exposed_to"], exposed, "{grant}");
        let open = if seen.is_some() {
            "open to PUBLIC or anon"
        } else {
            closed
        };
        assert_eq!(
            judged["reasons"],
            json!(["row-level security is off", open]),
            "{grant}"
        );
        let found = client.query_one(FINDING, &[]).await.expect("asking");
        let found: &str = found.get(0);
        assert_eq!(
            found.contains("critical"),
            exposed != json!([]),
            "{grant}: {found}"
        );
        execute(&client, &format!("drop view {schema}.past")).await;
    }
}

/// Each privilege that shows or changes rows counts, on the table or on one column; others do not.
#[tokio::test]
async fn exposed_to_is_who_was_granted_rows() {
    let (_cluster, database) =
        database("create role app nologin; create table t (id int, name text)");
    let client = database.superuser().await;
    for (grant, exposed) in [
        ("select on t", true),
        ("insert on t", true),
        ("update on t", true),
        ("delete on t", true),
        ("truncate on t", true),
        ("select (name) on t", true),
        ("insert (id) on t", true),
        ("update (id) on t", true),
        ("references on t", false),
        ("trigger on t", false),
        ("references (id) on t", false),
    ] {
        execute(&client, &format!("begin; grant {grant} to app")).await;
        let expected = if exposed { json!(["app"]) } else { json!([]) };
        assert_eq!(
            judged(&client, "t").await["exposed_to"],
            expected,
            "{grant}"
        );
        execute(&client, "rollback").await;
    }
    // A dropped column takes its grants along.
    execute(
        &client,
        "grant select (name) on t to app; alter table t drop column name",
    )
    .await;
    assert_eq!(judged(&client, "t").await["exposed_to"], json!([]));
}

/// A table is reached through its schema: what is granted in a closed one exposes nothing until somebody may enter.
#[tokio::test]
async fn a_schema_that_may_not_be_used_keeps_its_tables() {
    let (_cluster, database) = database(
        "create role app nologin; create role team nologin; create role teammate nologin; grant team to teammate;
         create schema closed; create table closed.direct (id int); grant select on closed.direct to app;
         create table closed.by_team (id int); grant select on closed.by_team to team;
         create table closed.to_all (id int); grant select on closed.to_all to public;
         create table closed.of_nobody (id int);",
    );
    let client = database.superuser().await;
    let exposed = async |table: &str| judged(&client, table).await["exposed_to"].clone();
    for table in ["direct", "by_team", "to_all", "of_nobody"] {
        assert_eq!(exposed(table).await, json!([]), "{table}");
    }
    assert_eq!(
        reasons(&client, "to_all").await,
        [
            "row-level security is off",
            "granted to PUBLIC or anon: only its schema, which they may not use, keeps them out"
        ]
    );
    assert_eq!(level(&client, "to_all").await, "HIGH_RISK");
    assert_eq!(level(&client, "direct").await, "UNKNOWN");

    execute(&client, "grant usage on schema closed to app").await;
    assert_eq!(rows(&client, "app", "closed.direct").await, Some(0));
    assert_eq!(exposed("direct").await, json!(["app"]));
    assert_eq!(exposed("by_team").await, json!([]));
    assert_eq!(rows(&client, "app", "closed.to_all").await, Some(0));
    assert_eq!(
        exposed("to_all").await,
        json!(["app"]),
        "PUBLIC is who may enter"
    );

    // A member enters by a right of its own and reads by the group's.
    execute(&client, "grant usage on schema closed to teammate").await;
    assert_eq!(rows(&client, "teammate", "closed.by_team").await, Some(0));
    assert_eq!(exposed("by_team").await, json!(["team"]));
    assert_eq!(exposed("to_all").await, json!(["app", "teammate"]));

    execute(&client, "grant usage on schema closed to public").await;
    assert_eq!(exposed("to_all").await, json!(["PUBLIC"]));
    assert_eq!(exposed("direct").await, json!(["app"]));
    assert_eq!(exposed("of_nobody").await, json!([]));
    assert!(
        reasons(&client, "to_all")
            .await
            .contains(&"open to PUBLIC or anon".to_owned())
    );
}

/// What is granted alike is asked once for schemas that the same roles may use: as many others are not the same.
#[tokio::test]
async fn schemas_that_others_may_use_are_told_apart() {
    let (_cluster, database) = database(
        "create role app nologin; create role team nologin;
         create schema first; create schema second; create schema third;
         grant usage on schema first, third to app; grant usage on schema second to team;
         do $$ declare s text; begin foreach s in array array['first', 'second', 'third'] loop
           execute format('create table %1$s.to_all_%1$s (id int); grant select on %1$s.to_all_%1$s to public;
             create table %1$s.kept_%1$s (id int); alter table %1$s.kept_%1$s enable row level security;
             create view %1$s.past as select * from %1$s.kept_%1$s; grant select on %1$s.past to public', s);
         end loop; end $$",
    );
    let client = database.superuser().await;
    for (schema, role, other) in [
        ("first", "app", "team"),
        ("second", "team", "app"),
        ("third", "app", "team"),
    ] {
        let open = format!("to_all_{schema}");
        let read = format!("{schema}.{open}");
        assert_eq!(rows(&client, role, &read).await, Some(0));
        assert_eq!(rows(&client, other, &read).await, None);
        let exposed = judged(&client, &open).await["exposed_to"].clone();
        assert_eq!(exposed, json!([role]), "{schema}");
        let past = reason(&client, &format!("kept_{schema}"), "read past").await;
        let told = format!("read past its policies through {schema}.past (open to {role})");
        assert_eq!(past, Some(told));
    }
}

/// Who has a grant and no policy finds no rows, and may not know why.
#[tokio::test]
async fn a_grant_that_no_policy_follows_up_is_named() {
    let (_cluster, database) = database(
        "create role app nologin; create role team nologin; create role teammate nologin; grant team to teammate;
         create role past_it nologin bypassrls;",
    );
    let client = database.superuser().await;
    let all = "SELECT to app";
    for (grants, policies, gaps) in [
        (
            "grant select on t to app",
            "create policy p on t using (id > 0)",
            None,
        ),
        (
            "grant select on t to app",
            "create policy p on t to app using (id > 0)",
            None,
        ),
        (
            "grant select on t to app",
            "create policy p on t for select using (id > 0)",
            None,
        ),
        (
            "grant select on t to app",
            "create policy p on t to team using (id > 0)",
            Some(all),
        ),
        (
            "grant select on t to app",
            "create policy p on t for delete using (id > 0)",
            Some(all),
        ),
        (
            "grant select on t to app",
            "create policy p on t as restrictive using (id > 0)",
            Some(all),
        ),
        (
            "grant select (id) on t to app",
            "create policy p on t to team using (id > 0)",
            Some(all),
        ),
        (
            "grant select on t to teammate",
            "create policy p on t to team using (id > 0)",
            None,
        ),
        (
            "grant select on t to team",
            "create policy p on t to app using (id > 0)",
            Some("SELECT to team"),
        ),
        (
            "grant select on t to public",
            "create policy p on t to app using (id > 0)",
            Some("SELECT to PUBLIC"),
        ),
        (
            "grant select on t to public",
            "create policy p on t using (id > 0)",
            None,
        ),
        (
            "grant all on t to app",
            "create policy p on t for select using (id > 0)",
            Some("DELETE to app; INSERT to app; UPDATE to app"),
        ),
        (
            "grant all on t to app",
            "create policy p on t using (id > 0)",
            None,
        ),
        (
            "grant insert, update on t to app, team",
            "create policy p on t for insert to app with check (true)",
            Some("INSERT to team; UPDATE to app, team"),
        ),
        (
            "grant select on t to past_it",
            "create policy p on t to team using (id > 0)",
            None,
        ),
        (
            "grant truncate on t to app",
            "create policy p on t for select using (id > 0)",
            None,
        ),
        ("", "create policy p on t to app using (id > 0)", None),
    ] {
        execute(
            &client,
            "begin; create table t (id int); alter table t enable row level security",
        )
        .await;
        execute(&client, &format!("{grants}; {policies}")).await;
        let found = reason(&client, "t", "granted, but without a policy: ").await;
        let expected = gaps.map(|gaps| format!("granted, but without a policy: {gaps}"));
        assert_eq!(found, expected, "{grants}; {policies}");
        execute(&client, "rollback").await;
    }
}

/// The gap is real: a grant without a policy shows no row, with one it shows those of the policy.
#[tokio::test]
async fn who_has_no_policy_finds_no_rows() {
    let (_cluster, database) = database(
        "create role app nologin; create table t (id int); insert into t values (1), (2);
         alter table t enable row level security; grant select on t to app; create policy w on t for update using (true)",
    );
    let client = database.superuser().await;
    assert_eq!(rows(&client, "app", "t").await, Some(0));
    assert!(
        reason(&client, "t", "granted, but without a policy: SELECT")
            .await
            .is_some()
    );
    execute(
        &client,
        "create policy r on t for select to app using (id = 2)",
    )
    .await;
    assert_eq!(rows(&client, "app", "t").await, Some(1));
    assert_eq!(reason(&client, "t", "granted, but").await, None);
}

#[tokio::test]
async fn roles_that_policies_do_not_bind_are_named() {
    let (_cluster, database) = database(
        "create role past_it nologin bypassrls; create role landlord nologin;
         create table t (id int); insert into t values (1); alter table t owner to landlord;
         alter table t enable row level security; create policy nobody on t using (false)",
    );
    let client = database.superuser().await;
    let unbound = async || reason(&client, "t", "not bound by it").await;
    assert_eq!(unbound().await, None);
    assert_eq!(rows(&client, "landlord", "t").await, Some(1));
    assert_eq!(
        reason(&client, "t", "not forced").await.as_deref(),
        Some("not forced: its owner landlord bypasses it")
    );
    execute(&client, "grant select on t to past_it").await;
    assert_eq!(rows(&client, "past_it", "t").await, Some(1));
    assert_eq!(
        unbound().await.as_deref(),
        Some("not bound by it: past_it (BYPASSRLS)")
    );
    execute(&client, "alter table t force row level security").await;
    assert_eq!(rows(&client, "landlord", "t").await, Some(0));
    assert_eq!(reason(&client, "t", "not forced").await, None);
    execute(&client, "alter role past_it nobypassrls").await;
    assert_eq!(rows(&client, "past_it", "t").await, Some(0));
    assert_eq!(unbound().await, None);
}

/// What everybody may read, anon reads too once it may enter, by whatever name it was let in.
#[tokio::test]
async fn what_is_granted_to_public_is_open_to_anon_who_may_enter_by_name() {
    let (_cluster, database) = database(
        "create role anon nologin; create schema closed; create table closed.t (id int);
         grant select on closed.t to public; grant usage on schema closed to anon",
    );
    let client = database.superuser().await;
    assert_eq!(rows(&client, "anon", "closed.t").await, Some(0));
    assert_eq!(judged(&client, "t").await["exposed_to"], json!(["anon"]));
    assert_eq!(
        reasons(&client, "t").await,
        ["row-level security is off", "open to PUBLIC or anon"]
    );
    execute(&client, "revoke usage on schema closed from anon").await;
    assert_eq!(rows(&client, "anon", "closed.t").await, None);
    assert_eq!(judged(&client, "t").await["exposed_to"], json!([]));
    assert_eq!(reason(&client, "t", "open to").await, None);
    assert!(reason(&client, "t", "granted to PUBLIC").await.is_some());
}

/// The group itself is refused at the schema: that is no table that is said to be open and is not.
#[tokio::test]
async fn a_group_whose_member_may_enter_is_exposed_and_not_called_closed() {
    let (_cluster, database) = database(
        "create role grp nologin; create role insider nologin; create role outsider nologin; grant grp to insider, outsider;
         create schema closed; create table closed.t (id int);
         grant select on closed.t to grp; grant usage on schema closed to insider",
    );
    let client = database.superuser().await;
    for (role, read) in [("grp", None), ("outsider", None), ("insider", Some(0))] {
        assert_eq!(rows(&client, role, "closed.t").await, read, "{role}");
    }
    assert_eq!(judged(&client, "t").await["exposed_to"], json!(["grp"]));
    let probe = "select p ->> 'closed', p ->> 'unseen', p -> 'roles' ? 'grp' from monitoring.probe_exposure() p";
    let row = client.query_one(probe, &[]).await.expect("probing");
    let (closed, unseen): (&str, &str) = (row.get(0), row.get(1));
    assert_eq!((closed, unseen, row.get::<_, bool>(2)), ("[]", "[]", true));
}

/// However a BYPASSRLS role gets at the rows; without the schema it does not get there.
#[tokio::test]
async fn bypassrls_roles_are_named_for_every_way_to_the_rows() {
    let (_cluster, database) = database(
        "create role past_it nologin bypassrls; create role shut_out nologin bypassrls; create role team nologin;
         create role landlord nologin; grant team to past_it, shut_out; create schema closed; grant usage on schema closed to past_it;
         create table closed.t (id int); insert into closed.t values (1); alter table closed.t owner to landlord;
         alter table closed.t enable row level security; create policy nobody on closed.t using (false)",
    );
    let client = database.superuser().await;
    let entering = "grant usage on schema closed to shut_out";
    for (ways, names) in [
        ("select 1", None),
        ("grant select on closed.t to shut_out", None),
        ("grant landlord to shut_out", None),
        ("alter table closed.t owner to shut_out", None),
        ("grant select on closed.t to past_it", Some("past_it")),
        ("grant select on closed.t to team", Some("past_it")),
        ("grant select (id) on closed.t to team", Some("past_it")),
        ("grant select on closed.t to public", Some("past_it")),
        ("grant landlord to past_it", Some("past_it")),
        ("alter table closed.t owner to past_it", Some("past_it")),
        (
            "alter table closed.t owner to past_it; alter table closed.t force row level security",
            Some("past_it"),
        ),
        (
            &format!("{entering}; grant select on closed.t to public"),
            Some("past_it, shut_out"),
        ),
        (
            &format!("{entering}; grant select on closed.t to team; revoke team from past_it"),
            Some("shut_out"),
        ),
    ] {
        execute(&client, &format!("begin; {ways}")).await;
        let named = reason(&client, "t", "not bound by it").await;
        let expected = names.map(|names| format!("not bound by it: {names} (BYPASSRLS)"));
        assert_eq!(named, expected, "{ways}");
        for role in names.into_iter().flat_map(|names| names.split(", ")) {
            let read = rows(&client, role, "closed.t").await;
            assert_eq!(read, Some(1), "{role}: {ways}");
        }
        execute(&client, "rollback").await;
    }
}

/// Who has the owner's rights needs neither grant nor policy.
#[tokio::test]
async fn a_member_of_the_owner_is_neither_exposed_to_nor_without_a_policy() {
    let (_cluster, database) = database(
        "create role landlord nologin; create role clerk nologin; create role app nologin; grant landlord to clerk;
         create schema closed; grant usage on schema closed to landlord, clerk;
         create table closed.t (id int); insert into closed.t values (1), (2); alter table closed.t owner to landlord;
         alter table closed.t enable row level security; create policy p on closed.t to app using (id = 1)",
    );
    let client = database.superuser().await;
    let without = "granted, but without a policy";
    for grants in [
        "grant all on closed.t to clerk",
        "grant select (id) on closed.t to clerk",
        "grant all on closed.t to public",
    ] {
        execute(&client, &format!("begin; {grants}")).await;
        assert_eq!(rows(&client, "clerk", "closed.t").await, Some(2));
        let judged = judged(&client, "t").await;
        assert_eq!(judged["exposed_to"], json!([]), "{grants}");
        assert_eq!(reason(&client, "t", without).await, None, "{grants}");
        execute(&client, "rollback").await;
    }
    // The same for somebody else is both.
    execute(
        &client,
        "revoke landlord from clerk; grant select on closed.t to clerk",
    )
    .await;
    assert_eq!(rows(&client, "clerk", "closed.t").await, Some(0));
    assert_eq!(judged(&client, "t").await["exposed_to"], json!(["clerk"]));
    assert_eq!(
        reason(&client, "t", without).await.as_deref(),
        Some("granted, but without a policy: SELECT to clerk")
    );
}

/// A hundred findings are told, and anybody may make a hundred tables that nobody can reach.
#[tokio::test]
async fn what_anybody_can_read_is_told_before_what_nobody_can() {
    let (_cluster, database) = database(
        "create role anon nologin;
        do $$ begin for n in 1..120 loop execute format('create table a_%s (id int)', n); end loop; end $$;
        create table lists (id int); alter table lists enable row level security; grant select on lists to anon;
        create policy everybody on lists for select to anon using (true)",
    );
    let client = database.superuser().await;
    let told = "select string_agg(object, ' ') from monitoring.findings() where check_id = 'rls-exposed' and severity = 'critical'";
    let row = client.query_one(told, &[]).await.expect("asking");
    assert_eq!(row.get::<_, Option<&str>>(0), Some("public.lists"));
}

/// Each policy is judged by those that restrict it, and told by its name, up to twenty.
#[tokio::test]
async fn many_policies_of_a_table_are_one_reason() {
    let (_cluster, database) = database(
        "create table lists (id int); alter table lists enable row level security;
        do $$ begin for n in 1..600 loop
          execute format('create policy %s on lists using (true)', format('p%s', to_char(n, 'FM0000')));
          execute format('create policy r%s on lists as restrictive using (true)', n);
        end loop; end $$",
    );
    let client = database.superuser().await;
    let told: Vec<String> = reasons(&client, "lists").await;
    let names: Vec<String> = (1..=20).map(|n| format!("p{n:04}")).collect();
    let hollow = format!(
        "lets everybody through: policy {} and 580 more",
        names.join(", ")
    );
    assert!(told.contains(&hollow), "{told:?}");
    execute(
        &client,
        "create policy narrow on lists as restrictive using (id > 1)",
    )
    .await;
    assert_eq!(level(&client, "lists").await, "LOW_RISK");
}
