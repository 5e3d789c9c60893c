//! Databases: isolated from each other, asked by whom the test wants, busy as the test wants.

use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::support::caller::Caller;
use crate::support::postgres::{SUPERUSER, plain, supabase};
use crate::support::scratch;
use crate::support::templates::{FRESH_LOGIN, MONITOR, SUPABASE_OWNER, migrations};
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

const USER: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

#[tokio::test]
async fn databases_are_isolated() {
    let (one, other) = (plain().database(), plain().database());
    one.psql(SUPERUSER, "create table public.mine ()")
        .expect("creating a table");
    let question = "select to_regclass('public.mine') is not null";
    let exists = |row: tokio_postgres::Row| row.get::<_, bool>(0);
    let answer = one.superuser().await.query_one(question, &[]).await;
    assert!(exists(answer.expect("asking one")));
    let answer = other.superuser().await.query_one(question, &[]).await;
    assert!(!exists(answer.expect("asking the other")));
}

#[tokio::test]
async fn database_is_dropped_with_whoever_is_connected() {
    let cluster = plain();
    let (database, observer) = (cluster.empty_database(), cluster.empty_database());
    let name = database.name.clone();
    let straggler = database.superuser().await;
    drop(database);
    let observer = observer.superuser().await;
    let question = "select from pg_database where datname = $1";
    let found = observer.query_opt(question, &[&name]).await;
    assert!(found.expect("looking for the database").is_none());
    wait_until("the straggler is cut off", async || straggler.is_closed()).await;
}

#[tokio::test]
async fn databases_are_made_concurrently() {
    let make = || std::thread::spawn(|| plain().database().name.clone());
    let makers: Vec<_> = (0..4).map(|_| make()).collect();
    let mut names: Vec<_> = makers.into_iter().flat_map(|maker| maker.join()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
}

#[test]
fn migrated_and_empty_databases_differ_by_the_migrations() {
    for cluster in [plain(), supabase()] {
        let (migrated, empty) = (cluster.database(), cluster.empty_database());
        let migrator = migrated.migrator();
        for path in migrations() {
            empty.psql_file(migrator, &path).expect("migrating");
        }
        assert_eq!(migrated.dump_schema(), empty.dump_schema());
        assert_eq!(
            migrations().is_empty(),
            !migrated.dump_schema().contains("monitoring")
        );
    }
}

#[test]
fn schema_dump_holds_what_exists_and_no_noise() {
    let database = plain().empty_database();
    let sql = "create table public.guests (name text)";
    database.psql(SUPERUSER, sql).expect("creating a table");
    let dump = database.dump_schema();
    assert!(dump.contains("public.guests"));
    assert!(!dump.contains("restrict ") && !dump.contains("Dumped"));
}

#[test]
fn psql_reports_what_went_wrong_and_leaves_nothing() {
    let database = plain().empty_database();
    let file = scratch::file("broken.sql", "create table public.half ();\nselect 1/0;\n");
    let complaint = database
        .psql_file(SUPERUSER, &file)
        .expect_err("running it");
    assert!(complaint.contains("broken.sql:2: ERROR:  division by zero"));
    let question = "select to_regclass('public.half') is null";
    assert_eq!(database.psql(SUPERUSER, question).as_deref(), Ok("t\n"));
}

#[tokio::test]
async fn every_caller_is_who_they_say() {
    let database = supabase().database();
    let user = json!({ "sub": USER, "role": "authenticated" });
    let mut cases = vec![
        (Caller::Superuser, SUPERUSER, SUPERUSER, None),
        (Caller::Migrator, SUPABASE_OWNER, SUPABASE_OWNER, None),
        (Caller::FreshLogin, FRESH_LOGIN, FRESH_LOGIN, None),
        (Caller::Anon, "authenticator", "anon", Some("anon")),
        (
            Caller::Authenticated(user.clone()),
            "authenticator",
            "authenticated",
            Some("authenticated"),
        ),
        (
            Caller::ServiceRole,
            "authenticator",
            "service_role",
            Some("service_role"),
        ),
    ];
    if !migrations().is_empty() {
        cases.push((
            Caller::Reader(user),
            MONITOR,
            "monitoring_reader",
            Some("authenticated"),
        ));
        cases.push((Caller::Agent, MONITOR, "monitoring_agent", None));
        cases.push((Caller::Owner, SUPERUSER, "monitoring_owner", None));
    }
    let question = "select session_user::text, current_user::text,
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'";
    for (caller, login, role, claimed) in cases {
        let client = database.as_caller(caller.clone()).await;
        let row = client
            .query_one(question, &[])
            .await
            .expect("asking who it is");
        let answer: (&str, &str, Option<&str>) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(answer, (login, role, claimed), "{caller:?}");
    }
}

#[tokio::test]
async fn supabase_helpers_read_the_claims() {
    let database = supabase().empty_database();
    let user = json!({ "sub": USER, "role": "authenticated" });
    let client = database.as_caller(Caller::Authenticated(user)).await;
    let question = "select auth.uid()::text, auth.role(), auth.jwt() ->> 'sub'";
    let row = client
        .query_one(question, &[])
        .await
        .expect("asking the helpers");
    let answer: (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(answer, (USER, "authenticated", USER));
}

#[tokio::test]
async fn supabase_grants_every_new_table_to_the_internet() {
    let database = supabase().empty_database();
    let sql = "create table public.opened (id int); insert into public.opened values (1)";
    database
        .psql(SUPABASE_OWNER, sql)
        .expect("creating a table");
    let anon = database.as_caller(Caller::Anon).await;
    let read = |table| anon.query(table, &[]);
    assert_eq!(
        read("select from public.opened")
            .await
            .expect("reading")
            .len(),
        1
    );
    let members = read("select from public.organization_members").await;
    assert!(
        members
            .expect("reading behind row-level security")
            .is_empty()
    );
    let refused = read("select from auth.users")
        .await
        .expect_err("reading users");
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}

#[test]
fn supabase_owner_is_no_superuser() {
    let database = supabase().empty_database();
    let refused = database.psql(SUPABASE_OWNER, "create role other superuser");
    assert!(refused.expect_err("making a superuser").contains("ERROR:"));
}

#[tokio::test]
async fn monitor_logins_sign_in_by_url_secret_and_password() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let secret = database.credentials(&login);
    let text = |name: &str| secret[name].as_str().expect("reading a secret");
    let client = database
        .connect_as(text("username"), text("password"))
        .await;
    client
        .expect("signing in")
        .batch_execute("select 1")
        .await
        .expect("asking");

    let url = database.url_for(MONITOR).parse::<tokio_postgres::Config>();
    assert_eq!(
        url.expect("parsing the address").get_dbname(),
        Some(&*database.name)
    );
    let user = database
        .login()
        .await
        .query_one("select current_user::text", &[])
        .await;
    assert_eq!(user.expect("asking").get::<_, &str>(0), MONITOR);

    let refused = database
        .connect_as(&login, "wrong")
        .await
        .expect_err("signing in");
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn workloads_are_seen_and_end_when_dropped() {
    let database = plain().empty_database();
    let observer = database.superuser().await;
    observer
        .batch_execute("create table public.seats ()")
        .await
        .expect("creating a table");

    let sleeper = database.superuser().await;
    let sleeper = Workload::running(&database, sleeper, "select pg_sleep(600)").await;
    let [holder, waiter] = Workload::lock_queue(&database, "public.seats").await;
    let blockers = observer
        .query_one("select pg_blocking_pids($1)", &[&waiter.pid])
        .await;
    assert_eq!(
        blockers.expect("asking who blocks").get::<_, Vec<i32>>(0),
        [holder.pid]
    );

    let pids = [sleeper.pid, holder.pid, waiter.pid];
    drop((sleeper, holder, waiter));
    let question = "select from pg_stat_activity where pid = any ($1)";
    let left = observer.query(question, &[&&pids[..]]).await;
    assert!(left.expect("looking for the sessions").is_empty());
}
