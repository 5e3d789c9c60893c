//! Ways around a policy that are nobody's plain grant: for each is tried that `anon` gets there, and seen that it is told.

use super::database;
use crate::support::postgres::SUPERUSER;

const SETUP: &str = "
    create role anon; create role authenticated; create role service_role bypassrls; create role app; create role boss superuser; create schema priv;
    create table priv.t (id int); insert into priv.t values (1); alter table priv.t enable row level security;
    create table priv.forced (id int); insert into priv.forced values (1); alter table priv.forced enable row level security;
    alter table priv.forced force row level security;";

/// What is done, what `anon` then does (one row, or it did not get there), and what the table is called.
const WAYS: [(&str, &str, &str, &str); 15] = [
    (
        "a view of a superuser whose member it is",
        "create view v as select * from priv.forced; alter view v owner to boss; grant boss to anon",
        "select from v",
        "forced",
    ),
    (
        "as a member of the superuser who owns it",
        "alter table priv.t owner to boss; grant boss to anon; grant usage on schema priv to anon",
        "select from priv.t",
        "t",
    ),
    (
        "a view of a role with BYPASSRLS whose member it is",
        "grant select on priv.t to service_role; create view v as select * from priv.t; alter view v owner to service_role; grant service_role to anon",
        "select from v",
        "t",
    ),
    (
        "a view without a grant, since it reads everything",
        "create view v as select * from priv.t; grant pg_read_all_data to anon",
        "select from v",
        "t",
    ),
    (
        "an insert through a view whose owner may insert anything",
        "create policy p on priv.t for insert to app with check (true); grant insert on priv.t to app;
         create view v as select * from priv.t; alter view v owner to app; grant insert on v to anon",
        "insert into v values (2)",
        "t",
    ),
    (
        "a delete through a view whose owner may do anything but read",
        "create policy p on priv.t to app using (true); create policy n on priv.t as restrictive for select to app using (false);
         grant delete on priv.t to app; create view v as select * from priv.t; alter view v owner to app; grant delete on v to anon",
        "delete from v",
        "t",
    ),
    (
        "a rule of a table",
        "create table log (id int); grant select, insert on log to anon; create rule r as on insert to log do instead insert into priv.t values (new.id) returning t.id",
        "insert into log values (1) returning id",
        "t",
    ),
    (
        "BYPASSRLS, and it reads everything",
        "create policy p on priv.t using (false); alter role anon bypassrls; grant pg_read_all_data to anon",
        "select from priv.t",
        "t",
    ),
    (
        "a superuser, forced or not",
        "alter role anon superuser",
        "select from priv.forced",
        "forced",
    ),
    (
        "a rule that leads back to its table",
        "grant usage on schema priv to anon; grant select, delete on priv.t to anon; create policy s on priv.t for select using (id > 0);
         create policy d on priv.t for delete using (id > 5); create rule r as on delete to priv.t do instead update priv.t set id = 0 where id = old.id",
        "delete from priv.t where id = 1; reset role; select from priv.t where id = 0",
        "t",
    ),
    // From here on by views that read as their reader.
    (
        "a rule of a view that reads as its reader",
        "create table log (id int); create view v with (security_invoker) as select id from log; grant select, insert on v to anon;
         create rule r as on insert to v do instead insert into priv.t values (new.id) returning t.id",
        "insert into v values (1) returning id",
        "t",
    ),
    (
        "a view that reads as its reader on another, of a schema that it may not use",
        "create policy p on priv.t for select to anon using (true); grant select on priv.t to anon;
         create view priv.w with (security_invoker) as select * from priv.t; grant select on priv.w to anon;
         create view v with (security_invoker) as select * from priv.w; grant select on v to anon",
        "select from v",
        "t",
    ),
    (
        "a view in front of one that reads as its reader",
        "create policy p on priv.t for select to anon using (true); grant select on priv.t to anon;
         create view priv.w with (security_invoker) as select * from priv.t;
         create view v as select * from priv.w; grant select on v to anon",
        "select from v",
        "t",
    ),
    (
        "as a member of the owner, through a view that reads as its reader",
        "alter table priv.t owner to app; grant app to anon; create view v with (security_invoker) as select * from priv.t; grant select on v to anon",
        "select from v",
        "t",
    ),
    (
        "BYPASSRLS, through a view that reads as its reader",
        "create policy p on priv.t using (false); alter role anon bypassrls; grant select on priv.t to anon;
         create view v with (security_invoker) as select * from priv.t; grant select on v to anon",
        "select from v",
        "t",
    ),
];

#[tokio::test]
async fn whoever_gets_around_the_policies_is_told() {
    let (cluster, database) = database("");
    let mut untold = vec![];
    for (way, setup, deed, table) in WAYS {
        // Before 15 every view reads as its owner.
        if cluster.major_version() < 15 && setup.contains("security_invoker") {
            continue;
        }
        let tried = format!(
            "begin; {SETUP} {setup};
             select string_agg(f ->> 'severity', ', ') from jsonb_array_elements(monitoring.assess() -> 'findings') f
             where f ->> 'check_id' = 'rls-exposed' and f ->> 'object' = 'priv.{table}';
             set local role anon; {deed} \\g /dev/null
             \\echo :ROW_COUNT
             rollback;"
        );
        let seen = database.psql(SUPERUSER, &tried);
        if seen.as_deref() != Ok("critical\n1\n") {
            untold.push(format!("{way}: {seen:?}"));
        }
    }
    assert_eq!(untold, [""; 0]);
}

/// What only looks like a way around is none.
#[tokio::test]
async fn who_does_not_get_around_the_policies_is_not_told() {
    let (_cluster, database) = database("");
    for (way, setup) in [
        (
            "who reads a table with a rule does not do what the rule does",
            "create table log (id int); grant select on log to anon; create rule r as on insert to log do instead delete from priv.t where id = new.id",
        ),
        (
            "who reads a view does not insert through it",
            "create policy p on priv.t for insert to app with check (true); grant insert on priv.t to app;
             create view v as select * from priv.t; alter view v owner to app; grant select on v to anon",
        ),
        (
            "who owns what is in a schema that he may not use does not get there",
            "alter table priv.t owner to app; grant app to anon",
        ),
        (
            "who may write everything writes to no materialized view",
            "create materialized view m as select * from priv.t; grant pg_write_all_data to anon; grant insert on m to authenticated",
        ),
        (
            "who may insert is not let through by a policy for reading",
            "grant usage on schema priv to anon; grant insert on priv.t to anon; create policy p on priv.t for select to anon using (true)",
        ),
        (
            "whom another policy narrows is not let through by one for PUBLIC",
            "grant usage on schema priv to anon; grant select on priv.t to anon; create policy p on priv.t using (true);
             create policy n on priv.t as restrictive to anon, authenticated using (id > 5)",
        ),
        (
            "who reads a view that reads as its reader does not insert into its table",
            "do $$ begin
               create table priv.open (id int); grant insert on priv.open to anon; create view v as select * from priv.open;
               if current_setting('server_version_num')::int >= 150000 then execute 'alter view v set (security_invoker = true)'; end if;
               grant select on v to anon;
             end $$",
        ),
        (
            "who may not use the schema of a view does not read it",
            "create view priv.v as select * from priv.t; grant select on priv.v to anon",
        ),
        (
            "whose owner bypasses nothing, a member reads nothing by",
            "create view v as select * from priv.forced; alter view v owner to app; grant app to anon; grant select on priv.forced to app",
        ),
    ] {
        let tried = format!(
            "begin; {SETUP} {setup};
             select string_agg(f ->> 'detail', ', ') from jsonb_array_elements(monitoring.assess() -> 'findings') f
             where f ->> 'check_id' = 'rls-exposed' and f ->> 'severity' = 'critical' and f ->> 'object' like 'priv.%';
             rollback;"
        );
        assert_eq!(
            database.psql(SUPERUSER, &tried).as_deref(),
            Ok("\n"),
            "{way}"
        );
    }
}

/// Only what is not bound by policies sees rows of a table that has none, and of one that is forced that is not its owner.
#[tokio::test]
async fn without_a_policy_owners_see_rows_unless_it_is_forced() {
    let (_cluster, database) = database("");
    let tried = format!(
        "begin; {SETUP}
         select tablename, (select r from unnest(reasons) r where r like 'no policy%') from monitoring_rls_status where schemaname = 'priv' order by 1;
         rollback;"
    );
    assert_eq!(
        database.psql(SUPERUSER, &tried).as_deref(),
        Ok(
            "forced|no policy: only BYPASSRLS roles see rows\nt|no policy: only owners and BYPASSRLS roles see rows\n"
        )
    );
}

/// The policies of a table bind who asks for it by its own name, not who asks for what it inherits from.
#[tokio::test]
async fn what_is_read_through_a_parent_is_told() {
    let (_cluster, database) = database("");
    let setup = "create schema family; create table family.base (id int); create table family.kid () inherits (family.base);
        create table family.open () inherits (family.base); alter table family.kid enable row level security;
        create table family.whole (id int) partition by list (id); create table family.part partition of family.whole for values in (1);
        alter table family.part enable row level security; create index on family.whole (id);
        create policy own on family.kid using (false); create policy own on family.part using (false)";
    database.psql(SUPERUSER, setup).expect("a family");
    let told = "select tablename, (select string_agg(r, '; ') from unnest(reasons) r where r like '%parent%' or r like '%read through%')
        from monitoring_rls_status where schemaname = 'family' order by 1";
    assert_eq!(
        database.psql(SUPERUSER, told).as_deref(),
        Ok("base|\n\
            kid|its rows are read through family.base by the policies of that, not by its own\n\
            open|\n\
            part|a partition: readable past the policies of its parent; \
            its rows are read through family.whole by the policies of that, not by its own\n\
            whole|\n")
    );
}
