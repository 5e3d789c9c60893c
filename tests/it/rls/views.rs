//! Views that show what policies hide: they read as their owner.

use super::{database, execute, reason, rows};

const SETUP: &str = "
    create role app nologin; create role anon nologin; create role landlord nologin; create role tenant nologin; create role past_it nologin bypassrls;
    grant create, usage on schema public to landlord, tenant, past_it;
    create table t (id int); insert into t values (1), (2); alter table t owner to landlord;
    alter table t enable row level security; create policy one on t using (id = 1);
    grant select on t to public;";

/// What is said, beside what really is: `app` may see one row, and whoever reads past the policy sees two.
#[tokio::test]
async fn a_view_that_reads_past_the_policies_is_named() {
    let (cluster, database) = database(SETUP);
    let client = database.superuser().await;
    assert_eq!(rows(&client, "app", "t").await, Some(1));
    // From 15 on a view can read as its reader; before, the option is refused.
    let since_15 = cluster.major_version() >= 15;
    let invoker = if since_15 {
        "with (security_invoker = on)"
    } else {
        ""
    };
    let invoked = if since_15 {
        None
    } else {
        Some("public.v (open to app)")
    };
    let v = "public.v (open to app)";
    let cases: &[(&str, String, Option<&str>)] = &[
        ("as superuser", "create view v as select * from t; grant select on v to app".into(), Some(v)),
        ("as the table's owner", "set role landlord; create view v as select * from t; grant select on v to app; reset role".into(), Some(v)),
        ("as BYPASSRLS", "set role past_it; create view v as select * from t; grant select on v to app; reset role".into(), Some(v)),
        ("as somebody bound", "set role tenant; create view v as select * from t; grant select on v to app; reset role".into(), None),
        ("as the reader", format!("create view v {invoker} as select * from t; grant select on v to app"), invoked),
        ("a view on it", "create view w as select * from t; create view v as select id from w; grant select on v to app".into(), Some(v)),
        ("a view on it as the reader", format!("create view w {invoker} as select * from t; create view v as select id from w; grant select on v to app"), invoked),
        (
            "as the reader, on one that is not",
            format!("create view w as select * from t; grant select on w to app; create view v {invoker} as select id from w; grant select on v to app"),
            Some("public.v (open to app), public.w (open to app)"),
        ),
        (
            "as one whom a policy lets have everything",
            "create policy all_of_it on t for select to tenant using (true); create view v as select * from t; alter view v owner to tenant; grant select on v to app".into(),
            Some(v),
        ),
        (
            "as one whom a policy lets have everything and another does not",
            "create policy all_of_it on t for select to tenant using (true); create policy less on t as restrictive using (id = 1); \
             create view v as select * from t; alter view v owner to tenant; grant select on v to app".into(),
            None,
        ),
        (
            "as BYPASSRLS without a grant",
            "revoke all on t from public; set role past_it; create view v as select * from t; grant select on v to app; reset role".into(),
            None,
        ),
        ("in a subquery", "create view v as select 1 as id where exists (select from t where id = 2); grant select on v to app".into(), Some(v)),
        (
            "of another table, by a rule that writes",
            "create table notes (id int); create view v as select * from notes; \
             create rule r as on insert to v do instead insert into t values (new.id) returning id; grant select, insert on v to app".into(),
            Some(v),
        ),
        ("materialized", "create materialized view v as select * from t; grant select on v to app".into(), Some(v)),
        ("on a materialized one", "create materialized view w as select * from t; create view v as select * from w; grant select on v to app".into(), Some(v)),
        ("to everybody", "create view v as select * from t; grant select on v to public".into(), Some("public.v (open to PUBLIC)")),
        ("to several", "create view v as select * from t; grant select on v to app, anon".into(), Some("public.v (open to anon, app)")),
        ("to nobody", "create view v as select * from t".into(), None),
        ("not to read", "create view v as select * from t; grant references on v to app".into(), None),
        ("behind a closed door", "create schema closed; create view closed.v as select * from t; grant select on closed.v to app".into(), None),
        (
            "behind an open door",
            "create schema \"Open House\"; create view \"Open House\".v as select * from t; grant select on \"Open House\".v to app; grant usage on schema \"Open House\" to app".into(),
            Some("\"Open House\".v (open to app)"),
        ),
        (
            "of its owner, when forced",
            "alter table t force row level security; set role landlord; create view v as select * from t; grant select on v to app; reset role".into(),
            None,
        ),
        (
            "of a superuser, even when forced",
            "alter table t force row level security; create view v as select * from t; grant select on v to app".into(),
            Some(v),
        ),
        ("without row-level security", "alter table t disable row level security; create view v as select * from t; grant select on v to app".into(), None),
        ("another table's", "create table u (id int); create view v as select * from u; grant select on v to app".into(), None),
    ];
    for (name, setup, expected) in cases {
        execute(&client, "begin").await;
        execute(&client, setup).await;
        let found = reason(&client, "t", "read past its policies through ").await;
        let expected = expected.map(|views| format!("read past its policies through {views}"));
        assert_eq!(found, expected, "{name}: {setup}");
        execute(&client, "rollback").await;
    }
}

/// The reason is told of what can be read: each way is tried.
#[tokio::test]
async fn what_is_read_past_the_policies_is_really_read() {
    let (cluster, database) = database(SETUP);
    let client = database.superuser().await;
    for (setup, seen) in [
        (
            "create view v as select * from t; grant select on v to app",
            2,
        ),
        (
            "set role landlord; create view v as select * from t; grant select on v to app; reset role",
            2,
        ),
        (
            "set role tenant; create view v as select * from t; grant select on v to app; reset role",
            1,
        ),
        (
            "create materialized view v as select * from t; grant select on v to app",
            2,
        ),
        (
            "create policy all_of_it on t for select to tenant using (true); set role tenant; create view v as select * from t; grant select on v to app; reset role",
            2,
        ),
        (
            "create view w as select * from t; create view v as select * from w; grant select on v to app",
            2,
        ),
        (
            "alter table t force row level security; create view v as select * from t; alter view v owner to landlord; grant select on v to app",
            1,
        ),
    ] {
        execute(&client, &format!("begin; {setup}; commit")).await;
        assert_eq!(rows(&client, "app", "v").await, Some(seen), "{setup}");
        let said = reason(&client, "t", "read past").await;
        assert_eq!(said.is_some(), seen == 2, "{setup}: {said:?}");
        let kind = if setup.contains("materialized") {
            "materialized view"
        } else {
            "view"
        };
        execute(
            &client,
            &format!(
                "drop {kind} v; drop view if exists w; alter table t no force row level security; drop policy if exists all_of_it on t"
            ),
        )
        .await;
    }
    let option =
        "create view v with (security_invoker = yes) as select * from t; grant select on v to app";
    if cluster.major_version() < 15 {
        let error = client
            .batch_execute(option)
            .await
            .expect_err("an option of 15");
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("22023"));
        return;
    }
    for value in ["yes", "true", "on", "1", "t"] {
        execute(&client, &option.replace("yes", value)).await;
        assert_eq!(rows(&client, "app", "v").await, Some(1));
        assert_eq!(reason(&client, "t", "read past").await, None, "{value}");
        execute(&client, "drop view v").await;
    }
    execute(&client, &option.replace("yes", "false")).await;
    assert_eq!(rows(&client, "app", "v").await, Some(2));
    assert!(reason(&client, "t", "read past").await.is_some());
}

/// Its columns are what a view on its row type depends on, and from 18 on one on a function that answers its rows.
#[tokio::test]
async fn who_names_the_row_type_does_not_read_the_table() {
    let (_cluster, database) = database(SETUP);
    let client = database.superuser().await;
    let typed = "create table holder (held t);
        create function answers() returns table (held t, id int) language sql as 'select null::public.t, 1'";
    execute(&client, typed).await;
    for (view, seen) in [
        ("select (null::t).*", 1),
        ("select x.* from unnest(null::t[]) x", 0),
        ("select x.* from json_populate_record(null::t, '{}') x", 1),
        ("select * from rows_of_t()", 1),
        ("select (h.held).id from holder h", 1),
        ("select (f.held).id from answers() f", 1),
        ("select (h.held).id from holder h, t", 2),
        ("select t from t where t is distinct from null::t", 2),
        (
            "select t.* from t, rows_of_t() x where t is distinct from x",
            2,
        ),
    ] {
        let setup = format!(
            "begin; create function rows_of_t() returns setof t language sql stable as 'select * from t';
             create view v as {view}; grant select on v, t to app; commit"
        );
        execute(&client, &setup).await;
        let said = reason(&client, "t", "read past").await;
        assert_eq!(said.is_some(), seen == 2, "{view}: {said:?}");
        if view.starts_with("select *") {
            let policed = rows(&client, "app", "t").await;
            assert_eq!(rows(&client, "app", "v").await, policed, "{view}");
        }
        execute(&client, "drop view v; drop function rows_of_t()").await;
    }
}

/// A grant on a table has many forms, and so has one on a view.
#[tokio::test]
async fn every_form_of_grant_on_a_view_opens_it() {
    let (_cluster, database) = database(SETUP);
    let client = database.superuser().await;
    execute(
        &client,
        "create role team nologin; create role teammate nologin; grant team to teammate;
         create schema closed; create view v as select * from t; create view closed.v as select * from t",
    )
    .await;
    let v = Some("public.v (open to app)");
    for (grants, expected) in [
        ("grant select (id) on v to app", v),
        ("grant update (id) on v to app", v),
        ("grant references (id) on v to app", None),
        ("grant insert on v to app", v),
        ("grant update on v to app", v),
        ("grant delete on v to app", v),
        ("grant trigger on v to app", None),
        ("grant select on closed.v to team", None),
        (
            "grant select on closed.v to team; grant usage on schema closed to teammate",
            Some("closed.v (open to team)"),
        ),
        (
            "grant select (id) on closed.v to team; grant usage on schema closed to teammate",
            Some("closed.v (open to team)"),
        ),
        ("grant select on closed.v to public", None),
        (
            "grant select on closed.v to public; grant usage on schema closed to app, anon",
            Some("closed.v (open to anon, app)"),
        ),
        (
            "grant select on closed.v to public; grant usage on schema closed to public",
            Some("closed.v (open to PUBLIC)"),
        ),
    ] {
        execute(&client, &format!("begin; {grants}")).await;
        let found = reason(&client, "t", "read past its policies through ").await;
        let expected = expected.map(|views| format!("read past its policies through {views}"));
        assert_eq!(found, expected, "{grants}");
        execute(&client, "rollback").await;
    }
    // Who may only write gets at the hidden row as well.
    for (right, write, left) in [
        ("delete", "delete from v", 0),
        ("update", "update v set id = 7", 0),
        ("insert", "insert into v values (2)", 3),
    ] {
        let tried = format!("begin; grant {right} on v to app; set local role app; {write}");
        execute(&client, &tried).await;
        execute(&client, "reset role").await;
        let hidden = "select count(*) from t where id in (1, 2)";
        let hidden = client.query_one(hidden, &[]).await.expect("counting");
        assert_eq!(hidden.get::<_, i64>(0), left, "{write}");
        execute(&client, "rollback").await;
    }
}
