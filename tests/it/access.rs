//! The guard against what a matrix of callers and objects cannot say (that is `access_matrix`): settings of the monitor and
//! of the session, search paths, subjects, membership, what an update may mean.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::migrations::{apply, rollbacks};
use crate::support::app::{Request, SUBJECT, TestApp};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain, supabase};
use crate::support::templates::{FRESH_LOGIN, migrations};

/// What a caller is let do: every object of the façade, and what is behind it.
const READS: [&str; 6] = [
    "select count(*) from public.monitoring_slow_queries",
    "select count(*) from public.monitoring_connections",
    "select count(*) from public.monitoring_table_health",
    "select count(*) from public.monitoring_rls_status",
    "select 1 from public.monitoring_events limit 1",
    "select public.get_database_monitoring_summary()",
];
const RECORD: &str = "select public.record_monitoring_event('performance_alert', '{}')";
const CLEAN_UP: &str = "select public.cleanup_old_monitoring_data()";
const SAMPLE: &str = "select monitoring.sample()";

/// Allowed means that it worked and gave a row: for a table, no rows is how row-level security says no.
async fn may(client: &Client, sql: &str) -> bool {
    client.batch_execute("begin").await.expect("beginning");
    let result = client.query(sql, &[]).await;
    client
        .batch_execute("rollback")
        .await
        .expect("rolling back");
    match result {
        Ok(rows) => !rows.is_empty(),
        Err(error) => {
            let code = error
                .as_db_error()
                .map(|error| error.code().code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error:?}");
            false
        }
    }
}

fn role(role: &str) -> Value {
    json!({"sub": SUBJECT, "app_metadata": {"role": role}})
}

async fn with_an_event(database: &TestDatabase) {
    database
        .psql(SUPERUSER, RECORD)
        .expect("recording an event");
}

/// Any tenant's own "owner" passed the original's admin check.
#[tokio::test]
async fn any_tenants_own_owner_passes_no_admin_check() {
    let database = supabase().database();
    let organization = "11111111-1111-1111-1111-111111111111";
    let join =
        format!("insert into organization_members values ('{organization}', '{SUBJECT}', 'ADMIN')");
    database.psql(SUPERUSER, &join).expect("adding a member");
    let member = database
        .as_caller(Caller::Authenticated(json!({"sub": SUBJECT})))
        .await;
    assert!(!may(&member, READS[0]).await, "no operator is named");
    for (operator, expected) in [
        ("22222222-2222-2222-2222-222222222222", false),
        (organization, true),
    ] {
        let configure = format!(
            "update monitoring.settings set value = to_jsonb('{operator}'::text) where key = 'operator_organization_id'"
        );
        database
            .psql(SUPERUSER, &configure)
            .expect("naming the operator");
        assert_eq!(may(&member, READS[0]).await, expected, "{operator}");
    }
    // Whoever alters the table keeps nobody waiting: while it is locked, who is a member cannot be told, and nobody is one.
    let migrating = database.superuser().await;
    let altering = "begin; alter table organization_members add column added int";
    migrating.batch_execute(altering).await.expect("altering");
    for read in READS.iter().filter(|read| !read.contains("events")) {
        let asked = format!("set statement_timeout = '5s'; {read}");
        let refused = member.batch_execute(&asked).await.expect_err(read);
        assert_eq!(
            refused.code(),
            Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
            "{read}: {refused:?}"
        );
    }
    migrating.batch_execute("rollback").await.expect("ending");
    assert!(may(&member, READS[0]).await, "let in again");
}

/// Locks what it gains a number for: that is neither undone nor refused. Number 0 is that it ran at all.
const TRIES: &str = "
create function public.tries(p_seed text default '') returns boolean language plpgsql as $$
declare
  v_sql text;
  v_number int := 0;
begin
  perform pg_advisory_lock_shared(7, 0);
  perform set_config('request.jwt.claims', '{\"app_metadata\": {\"role\": \"owner\"}}', false);
  perform set_config('search_path', 'nowhere', false);
  foreach v_sql in array array['alter table public.monitoring_events disable row level security', 'select * from public.monitoring_events',
    'update monitoring.settings set value = value', 'select monitoring.may(''read'')', 'select public.get_database_monitoring_summary()',
    'set local role monitoring_owner', 'set role monitoring_reader', 'reset role', 'create temp table public_no_more (n int)',
    'select 1 / pg_has_role(''pg_read_all_stats'', ''usage'')::int', 'select 1 / (current_user <> ''monitoring_members'')::int',
    'insert into public.open_to_all values (1)', 'alter role monitoring_members login',
    'drop function monitoring.read_member(text, text)', 'alter function monitoring.read_member(text, text) security invoker'] loop
    v_number := v_number + 1;
    begin
      execute v_sql;
      perform pg_advisory_lock_shared(7, v_number);
    exception when others then
      null;
    end;
  end loop;
  return true;
end $$;
create table public.open_to_all (n int); grant all on public.open_to_all to public;";

/// The table of members is the application's: whoever owns it decides what runs when it is read.
#[tokio::test]
async fn who_owns_the_table_of_members_gains_nothing_by_it() {
    let organization = "11111111-1111-1111-1111-111111111111";
    for hostile in [
        "create policy m on organization_members as restrictive using (tries(role::text))",
        // The planner runs it.
        "create function tries_early(text) returns boolean language plpgsql immutable as 'begin return public.tries(); end';
         drop policy \"pgvigil reads operator members\" on organization_members; drop policy members_see_themselves on organization_members;
         create policy m on organization_members using (tries_early('x'))",
        "alter table organization_members rename to members; alter table members owner to fresh_login;
         create view organization_members as select * from members where tries(role::text); grant select on organization_members to public",
        "create type rank as enum ('ADMIN');
         create function as_text(rank) returns text language sql as 'select case when public.tries(enum_out($1)::text) then ''admin'' end';
         create cast (rank as text) with function as_text(rank);
         alter table organization_members drop column role; alter table organization_members add column role rank default 'ADMIN'",
    ] {
        let database = supabase().database();
        let setup = format!(
            "insert into organization_members values ('{organization}', '{SUBJECT}', 'ADMIN');
             update monitoring.settings set value = to_jsonb('{organization}'::text) where key = 'operator_organization_id';
             {TRIES}
             {hostile}; alter table organization_members owner to fresh_login; grant usage on schema public to fresh_login"
        );
        database.psql(SUPERUSER, &setup).expect("laying the trap");
        let member = database
            .as_caller(Caller::Authenticated(json!({"sub": SUBJECT})))
            .await;
        let before = "select current_setting('request.jwt.claims') || current_setting('search_path')";
        let before: String = member.query_one(before, &[]).await.expect("asking").get(0);
        assert!(may(&member, READS[0]).await, "{hostile}");
        let gained = "select string_agg(objid::text, ' ' order by objid), current_setting('request.jwt.claims') || current_setting('search_path'),
            current_setting('transaction_read_only') from pg_locks where locktype = 'advisory' and classid = 7 and pid = pg_backend_pid()";
        let row = member.query_one(gained, &[]).await.expect("asking");
        assert_eq!(row.get::<_, Option<&str>>(0), Some("0"), "{hostile}");
        assert_eq!((row.get::<_, String>(1), row.get(2)), (before, "off"));
        // The trap is one: who reads the table in a role of power lends it that.
        let owner = database.as_caller(Caller::Owner).await;
        let read = "set search_path = pg_catalog, pg_temp; select role::text from public.organization_members";
        let _ = owner.batch_execute(read).await;
        let gained = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7 and objid > 0 and pid = pg_backend_pid()";
        let row = owner.query_one(gained, &[]).await.expect("asking");
        assert!(row.get::<_, i64>(0) > 5, "{hostile}");
    }
}

/// Restored by a role that may not give functions away it would be that role's, and read the table as it.
#[tokio::test]
async fn members_are_read_by_their_own_role_or_not_at_all() {
    let database = supabase().database();
    let organization = "11111111-1111-1111-1111-111111111111";
    let setup = format!(
        "insert into organization_members values ('{organization}', '{SUBJECT}', 'ADMIN');
         update monitoring.settings set value = to_jsonb('{organization}'::text) where key = 'operator_organization_id'"
    );
    database.psql(SUPERUSER, &setup).expect("adding a member");
    let member = database
        .as_caller(Caller::Authenticated(json!({"sub": SUBJECT})))
        .await;
    assert!(may(&member, READS[0]).await);
    let give = format!(
        "alter function monitoring.read_member(text, text) owner to {SUPERUSER};
         grant execute on function monitoring.read_member(text, text) to monitoring_owner"
    );
    database.psql(SUPERUSER, &give).expect("giving it away");
    assert!(!may(&member, READS[0]).await);
}

#[tokio::test]
async fn another_issuers_role_claim_can_be_configured() {
    let database = plain().database();
    let configure = "update monitoring.settings set value = '[\"cognito:groups\"]' where key = 'role_claim_path'";
    database
        .psql(SUPERUSER, configure)
        .expect("configuring the claim");
    let groups =
        json!({"cognito:groups": ["editors", "admin"], "app_metadata": {"role": "nobody"}});
    for (claims, expected) in [(groups, true), (role("admin"), false)] {
        let reader = database.as_caller(Caller::Reader(claims.clone())).await;
        assert_eq!(may(&reader, READS[0]).await, expected, "{claims}");
    }
}

#[test]
fn definer_functions_pin_their_search_path() {
    let unpinned = plain().database().psql(
        SUPERUSER,
        "select p.oid::regprocedure from pg_proc p where pg_get_userbyid(p.proowner) = 'monitoring_owner'
         and p.prosecdef and not coalesce(p.proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'",
    );
    assert_eq!(unpinned.as_deref(), Ok(""));
}

/// A definer function without a pinned `search_path` runs the caller's functions and operators as its owner.
#[tokio::test]
async fn a_hostile_search_path_changes_nothing() {
    let database = plain().database();
    let setup = "create schema evil; grant usage, create on schema evil to public; grant temporary on database \"{}\" to public;";
    database
        .psql(SUPERUSER, &setup.replace("{}", &database.name))
        .expect("opening a schema");
    let client = database.as_caller(Caller::Reader(role("developer"))).await;
    let traps = "
        create function evil.lower(text) returns text language plpgsql as $$ begin raise exception 'trapped as %', current_user; end $$;
        create function evil.now() returns timestamptz language plpgsql as $$ begin raise exception 'trapped as %', current_user; end $$;
        create function evil.length(text) returns int language plpgsql as $$ begin raise exception 'trapped'; end $$;
        create temp table monitoring_events (id int); create temp table settings (key text, value jsonb);
        create temp view pg_stat_activity as select 1 as pid; create temp view pg_class as select 1 as oid;
        set search_path = evil, pg_temp, pg_catalog";
    client.batch_execute(traps).await.expect("setting traps");
    for sql in READS.iter().chain([&RECORD]) {
        client
            .query(*sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// In schema public others may make an operator that fits better than the system's, and whoever migrates is often a superuser.
#[tokio::test]
async fn what_others_have_made_in_public_does_not_run_as_who_migrates() {
    let database = plain().empty_database();
    let open = format!("grant usage, create on schema public to {FRESH_LOGIN}");
    database.psql(SUPERUSER, &open).expect("opening public");
    // Of every name for every two types that have none of the system's; and functions that fit better.
    let traps = r"
        create function public.trap(anyelement, anyelement) returns boolean language plpgsql as 'begin raise exception $t$trapped as %$t$, current_user; end';
        do $traps$
        declare
          v_types regtype[] := '{oid,regclass,regnamespace,regrole,regproc,regprocedure,name,text,varchar,smallint,integer,bigint,numeric,double precision,boolean,interval,timestamptz,timestamp,date,uuid,jsonb,inet}';
          v_left regtype;
          v_right regtype;
          v_name text;
        begin
          foreach v_left in array v_types loop
            foreach v_right in array v_types loop
              continue when v_left = v_right;
              execute format('create function public.trap(%s, %s) returns boolean language plpgsql as $f$ begin raise exception $t$trapped as %%$t$, current_user; end $f$', v_left, v_right);
              foreach v_name in array '{=,<>,<,<=,>,>=,%,~,!~}'::text[] loop
                continue when exists (select from pg_operator o where o.oprname = v_name and o.oprleft = v_left and o.oprright = v_right);
                execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.trap)', v_name, v_left, v_right);
              end loop;
            end loop;
          end loop;
        end
        $traps$;
        create function public.hashtextextended(text, int) returns bigint language plpgsql as 'begin raise exception $t$trapped$t$; end';
        create function public.array_position(text[], name) returns int language plpgsql as 'begin raise exception $t$trapped$t$; end';";
    database.psql(FRESH_LOGIN, traps).expect("setting traps");
    let before = database.dump_schema();
    apply(&database, &migrations());
    // Once more, as who runs a file without a transaction does.
    for file in migrations() {
        let applied = database.psql(SUPERUSER, &format!("\\i {}", file.display()));
        applied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let kept = "set search_path = pg_catalog; select count(*) from pg_depend d where d.refobjid in (select o.oid from pg_operator o where o.oprnamespace = 'public'::regnamespace)";
    assert_eq!(database.psql(SUPERUSER, kept).as_deref(), Ok("0\n"));
    let path = "select current_setting('search_path');";
    for (begin, commit) in [("", ""), ("begin;", "commit;")] {
        let file = migrations()[0].display().to_string();
        let applied = format!("{begin}\n\\i {file}\n{path}{commit}\n{path}");
        assert_eq!(
            database.psql(SUPERUSER, &applied).as_deref(),
            Ok("\"$user\", public\n\"$user\", public\n"),
            "as it was before"
        );
    }
    apply(&database, &rollbacks());
    assert_eq!(before, database.dump_schema());

    let app = TestApp::new(&database).await;
    let hostile = format!(
        "alter database {} set search_path = public, pg_catalog",
        database.name
    );
    database.psql(SUPERUSER, &hostile).expect("setting a path");
    let report = app.task(json!({"task": "migrate"})).await;
    assert_eq!(report["status"], "done", "{report}");
    for task in ["sample", "cleanup"] {
        assert_eq!(app.task(json!({"task": task})).await["status"], "done");
    }
    let rollback = json!({"task": "rollback", "confirm": database.name});
    assert_eq!(app.task(rollback).await["status"], "done");
}

/// Functions of our names that fit a call better, or as well: nobody of ours runs them, nothing of ours fails of them.
#[tokio::test]
async fn namesakes_in_public_are_not_run_and_silence_nobody() {
    let database = plain().database();
    let open = format!("grant usage, create on schema public to {FRESH_LOGIN}");
    database.psql(SUPERUSER, &open).expect("opening public");
    let run = "language plpgsql as 'begin raise exception $t$ran as %$t$, current_user using errcode = $t$XX000$t$; end'";
    for namesake in [
        "record_monitoring_event(text, text)",
        "record_monitoring_event(varchar, jsonb, text, inet, varchar)",
        "record_monitoring_event(text, jsonb, text, inet, text, x int default 1)",
        "get_database_monitoring_summary(x int default 1)",
        "cleanup_old_monitoring_data(x int default 1)",
    ] {
        let create = format!("create function public.{namesake} returns jsonb {run}");
        database.psql(FRESH_LOGIN, &create).expect(namesake);
    }
    let told = "select string_agg(check_id, ' ' order by check_id) from monitoring.validation() where not pass and evidence ~ 'is not pgvigil''s'
        and evidence !~ 'ran as'";
    assert_eq!(database.psql(SUPERUSER, told).as_deref(), Ok("functions\n"));
    let app = TestApp::new(&database).await;
    let get = Request::get("/api/monitoring/performance", "query_type=summary").by("admin");
    let summary = app.send(get).await;
    assert!(
        summary.json()["data"]["summary"]["health_score"].is_u64(),
        "{summary:?}"
    );
    let event = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    let event = event.to_string();
    let post = Request::post("/api/monitoring/performance", &event).by("admin");
    assert_eq!(app.send(post).await.status, 201);
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(report["status"], "done", "{report}");
}

/// Under `service_role` the audit's `user_id` was NULL: record the subject.
#[tokio::test]
async fn under_service_role_the_subject_is_recorded() {
    let database = supabase().database();
    let client = database.as_caller(Caller::ServiceRole).await;
    let claims = json!({"role": "service_role", "sub": SUBJECT}).to_string();
    client
        .execute(
            "select set_config('request.jwt.claims', $1, false)",
            &[&claims],
        )
        .await
        .expect("setting claims");
    client.query(RECORD, &[]).await.expect("recording");
    let recorded = database
        .psql(SUPERUSER, "select user_id from monitoring_events")
        .expect("reading");
    assert_eq!(recorded.trim(), SUBJECT);
    let client = database
        .as_caller(Caller::Authenticated(
            json!({"sub": "auth0|7", "app_metadata": {"role": "admin"}}),
        ))
        .await;
    client
        .query(RECORD, &[])
        .await
        .expect("recording with a subject that is no uuid");
}

/// Whoever migrates was a member of the owner for ever after, and past a `FORCE`d tenant policy with it.
#[tokio::test]
async fn migrating_opens_no_table_to_who_migrated() {
    let database = supabase().database();
    let force = format!(
        "alter table organization_members force row level security;
         insert into organization_members values ('11111111-1111-1111-1111-111111111111', '{SUBJECT}', 'owner');
         grant all on organization_members to fresh_login"
    );
    database
        .psql(SUPERUSER, &force)
        .expect("forcing row-level security");
    let member = format!(
        "select pg_has_role('{0}', 'monitoring_owner', 'usage'), pg_has_role('{0}', 'monitoring_agent', 'usage')",
        database.migrator()
    );
    assert_eq!(database.psql(SUPERUSER, &member).as_deref(), Ok("f|t\n"));
    let seen = database.psql("fresh_login", "select count(*) from organization_members");
    assert_eq!(
        seen.as_deref(),
        Ok("0\n"),
        "no policy of ours is for anybody else"
    );
}

/// A resolution that is backdated is gone with the next clean-up; one that is undone never was.
#[tokio::test]
async fn an_event_is_resolved_now_and_once() {
    let database = plain().database();
    with_an_event(&database).await;
    let admin = database.as_caller(Caller::Reader(role("admin"))).await;
    let resolved = "select resolved_at between now() - interval '1 minute' and now(), resolution_notes from monitoring_events";
    for (update, expected) in [
        ("resolution_notes = 'looking into it'", "|looking into it\n"),
        (
            "resolved_at = '1970-01-01', resolution_notes = 'done'",
            "t|done\n",
        ),
        (
            "resolved_at = null, resolution_notes = 'undone'",
            "t|done\n",
        ),
        ("resolved_at = 'infinity'", "t|done\n"),
    ] {
        let sql = format!("update public.monitoring_events set {update}");
        admin
            .execute(&sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{update}: {error:?}"));
        assert_eq!(
            database.psql(SUPERUSER, resolved).as_deref(),
            Ok(expected),
            "{update}"
        );
    }
    let backdate = "update monitoring_events set resolved_at = '1970-01-01'";
    database.psql(SUPERUSER, backdate).expect("backdating");
    let backdated = "select resolved_at < '1970-01-03' from monitoring_events";
    assert_eq!(
        database.psql(SUPERUSER, backdated).as_deref(),
        Ok("t\n"),
        "a superuser knows what it does"
    );
}

/// Settings of a session that change how SQL is read, and who may read it.
#[tokio::test]
async fn a_sessions_settings_do_not_break_the_monitor() {
    let database = plain().database();
    // What is read past its policies is known by its words.
    let setup = "create table seen (id int); alter table seen enable row level security; create view past as select * from seen;
        grant select on past to public";
    database.psql(SUPERUSER, setup).expect("setting up");
    for setting in [
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "row_security = off",
        "jit = on",
        "bytea_output = escape",
        "datestyle = 'german'",
        "timezone = 'Pacific/Apia'",
    ] {
        let client = database.as_caller(Caller::Agent).await;
        client
            .batch_execute(&format!("set {setting}"))
            .await
            .expect("changing a setting");
        let reads = READS
            .iter()
            .filter(|sql| !sql.contains("monitoring_events"));
        for sql in reads.chain([
            &RECORD,
            &CLEAN_UP,
            &SAMPLE,
            &"select monitoring.redact('x')",
            &"select monitoring.readiness()",
            &"select count(*) from monitoring.metrics()",
        ]) {
            let result = client.query(*sql, &[]).await;
            result.unwrap_or_else(|error| panic!("{setting}, {sql}: {error:?}"));
        }
        // What it is called is half of its fingerprint.
        let exposed = "select string_agg(f.object, ' ') from monitoring.findings() f where f.check_id in ('rls-exposed', 'check-failed')";
        let row = client.query_one(exposed, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{setting}: {error:?}"));
        let exposed: Option<&str> = row.get(0);
        assert_eq!(exposed, Some("public.seen"), "{setting}");
    }
}
