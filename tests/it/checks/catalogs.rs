//! Catalogs and settings are read the short way, and told as they are.

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::templates::FRESH_LOGIN;
use crate::support::workload::Workload;

/// What a check finds, and what could not be looked at.
fn told(database: &TestDatabase, check_id: &str, before: &str) -> String {
    told_to(SUPERUSER, database, check_id, before)
}

fn own_database() -> (Cluster, TestDatabase) {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    (cluster, database)
}

fn told_to(who: &str, database: &TestDatabase, check_id: &str, before: &str) -> String {
    let sql = format!(
        "{before};
         select string_agg(f.object, ' ' order by f.object) from monitoring.findings() f where f.check_id = '{check_id}';
         select s -> 'degraded' from public.get_database_monitoring_summary() s
         where s ->> 'degraded' like '%{check_id}%'"
    );
    let told = database.psql(who, &sql);
    told.unwrap_or_else(|problem| panic!("{check_id}: {problem}"))
        .trim()
        .to_owned()
}

/// The server's settings are asked for by setting the session's back. That is over when the check is, and nobody's session is a finding.
#[tokio::test]
async fn a_session_keeps_its_settings_and_they_are_no_findings() {
    let database = plain().database();
    let own = "set row_security = off; set enable_seqscan = off; set synchronous_commit = off; set work_mem = '2GB'; set effective_cache_size = '1GB';
        set zero_damaged_pages = on; set ignore_checksum_failure = on";
    assert_eq!(told(&database, "unsafe-setting", own), "");
    let kept = format!(
        "{own}; begin; set local enable_indexscan = off; do $$ begin perform monitoring.findings(); end $$;
         select concat_ws(' ', current_setting('row_security'), current_setting('enable_seqscan'), current_setting('synchronous_commit'),
           current_setting('work_mem'), current_setting('effective_cache_size'), current_setting('enable_indexscan'))"
    );
    let kept = database.psql(SUPERUSER, &kept).expect("asking again");
    assert_eq!(kept.trim(), "off off off 2GB 1GB off");

    // What a role or a connection begins with is its own.
    let (_cluster, roles) = own_database();
    let setup = "alter role fresh_login superuser; alter role fresh_login set effective_cache_size = '8MB'; alter role fresh_login set track_activities = off;
        alter role fresh_login set track_counts = off; alter role fresh_login set zero_damaged_pages = on; alter role fresh_login set synchronous_commit = off";
    roles.psql(SUPERUSER, setup).expect("setting it for a role");
    assert_eq!(told_to(FRESH_LOGIN, &roles, "unsafe-setting", ""), "");
    assert_eq!(told_to(FRESH_LOGIN, &roles, "blind-spot", ""), "");
    let blind = roles.psql(
        FRESH_LOGIN,
        "select count(*) from monitoring.degraded() where reason like 'track%is off:%'",
    );
    assert_eq!(blind.as_deref(), Ok("0\n"));

    // What every session begins with is the database's.
    let name = database
        .psql(SUPERUSER, "select current_database()")
        .expect("asking for its name");
    let everybodys = format!(
        "alter database {name} set enable_seqscan = off; alter database {name} set work_mem = '10GB'",
        name = name.trim()
    );
    database
        .psql(SUPERUSER, &everybodys)
        .expect("setting it for everybody");
    let own = "set enable_seqscan = on; set work_mem = '1MB'";
    assert_eq!(
        told(&database, "unsafe-setting", own),
        "enable_seqscan work_mem"
    );
    let remedies = "select remediation from monitoring.findings() where check_id = 'unsafe-setting' order by object";
    let remedies = database.psql(SUPERUSER, remedies).expect("asking");
    database
        .psql(
            SUPERUSER,
            remedies.trim().lines().next().unwrap_or_default(),
        )
        .expect(&remedies);
    assert_eq!(told(&database, "unsafe-setting", own), "work_mem");
}

/// To read a sequence is to lock it as if it were written, and who alters it may take long.
#[tokio::test]
async fn a_sequence_that_is_being_altered_is_left_out_and_nobody_waits() {
    let database = plain().database();
    let setup = "create table guests (id int generated always as identity); create table tables (id int generated always as identity);
        grant select on all sequences in schema public to monitoring_owner;
        select setval('guests_id_seq', 2000000000), setval('tables_id_seq', 2000000000)";
    database.psql(SUPERUSER, setup).expect("creating sequences");
    let both = "public.guests_id_seq public.tables_id_seq";
    assert_eq!(told(&database, "sequence-exhaustion", "select"), both);
    for alter in [
        "alter sequence tables_id_seq increment by 2",
        "alter table tables alter id type bigint",
    ] {
        let session = database.superuser().await;
        let altering = Workload::idle_in_transaction(&database, session, alter).await;
        assert_eq!(
            told(&database, "sequence-exhaustion", "select"),
            "public.guests_id_seq",
            "{alter}"
        );
        drop(altering);
    }
}

/// Locks are few. Of very many sequences those of the largest tables are read, and of those that belong to none some.
#[tokio::test]
async fn of_many_sequences_those_of_the_largest_tables_are_read() {
    let database = plain().database();
    let setup = "do $$ begin for n in 1..300 loop execute format('create sequence loose_%s', n); end loop; end $$;
        create table guests (id int generated always as identity, name text); insert into guests (name) select 'Anna' from generate_series(1, 1000);
        analyze guests;
        create table small (id serial, place smallserial);
        grant select on all sequences in schema public to monitoring_owner;
        select setval('guests_id_seq', 2000000000), setval('small_id_seq', 1900000000), setval('small_place_seq', 32000)";
    database.psql(SUPERUSER, setup).expect("creating sequences");
    assert_eq!(
        told(&database, "sequence-exhaustion", "select"),
        "public.guests_id_seq public.small_id_seq public.small_place_seq"
    );
    let read = "begin; do $$ begin perform monitoring.check_sequence_exhaustion(); end $$;
        select count(*) <= 60 from pg_locks l join pg_class c on c.oid = l.relation and c.relkind = 'S' where l.pid = pg_backend_pid()";
    let few = database.psql(SUPERUSER, read).expect("counting locks");
    assert_eq!(few.trim(), "t");
}

/// Nobody need own a sequence for a column to be filled by it, and a domain is as wide as its type.
#[tokio::test]
async fn a_sequence_that_is_a_columns_default_is_full_when_the_column_is() {
    let database = plain().database();
    let setup = "create sequence loose; create table guests (id int primary key default nextval('loose'));
        create domain number as smallint; create table tables (id number); create sequence owned owned by tables.id;
        create sequence free;
        grant select on all sequences in schema public to monitoring_owner;
        select setval('loose', 2147483000), setval('owned', 32000), setval('free', 2147483000)";
    database.psql(SUPERUSER, setup).expect("creating sequences");
    assert_eq!(
        told(&database, "sequence-exhaustion", "select"),
        "public.loose public.owned"
    );
}

/// What a check makes candidates of, however small.
fn candidates(database: &TestDatabase, check: &str) -> String {
    let sql = format!("select string_agg(object, ' ' order by object) from monitoring.{check}()");
    let found = database.psql(SUPERUSER, &sql);
    found.expect("asking the check").trim().to_owned()
}

#[tokio::test]
async fn a_foreign_key_is_told_once_and_not_where_an_index_serves_it() {
    let database = plain().database();
    let setup = "create table halls (id int primary key) partition by range (id);
        create table small_halls partition of halls for values from (0) to (50); create table large_halls partition of halls for values from (50) to (1000);
        create table weddings (id int primary key, hall int references halls);
        create table guests (id int primary key);
        create table seats (guest int references guests); create index on seats (guest) where guest is not null;
        create table gifts (id int, guest int references guests); create index on gifts (guest) where id is not null;
        create table empties (guest int references guests); create index on empties (guest) where guest is null";
    database.psql(SUPERUSER, setup).expect("creating tables");
    assert_eq!(
        candidates(&database, "check_foreign_key_without_index"),
        "public.empties empties_guest_fkey public.gifts gifts_guest_fkey public.weddings weddings_hall_fkey"
    );
    let version = database.psql(SUPERUSER, "show server_version_num");
    if version.is_ok_and(|version| version.as_str() >= "180000") {
        let unenforced = "create table notes (guest int references guests not enforced); drop table empties, gifts";
        database.psql(SUPERUSER, unenforced).expect("creating one");
        assert_eq!(
            candidates(&database, "check_foreign_key_without_index"),
            "public.weddings weddings_hall_fkey"
        );
    }
}

#[tokio::test]
async fn a_body_whose_names_are_resolved_trusts_no_search_path() {
    let database = plain().database();
    let setup = "create function resolved() returns int language sql security definer begin atomic select 1; end;
        create function trusting() returns int language sql security definer as 'select 1'";
    database.psql(SUPERUSER, setup).expect("creating functions");
    assert_eq!(
        candidates(&database, "check_definer_search_path"),
        "public.trusting()"
    );
}

/// Roles are the cluster's, and their names are of the encoding of whichever database they were made in.
#[tokio::test]
async fn a_role_whose_name_is_no_text_here_blinds_no_check() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let elsewhere = "create database latin encoding 'LATIN1' locale 'C' template template0";
    database
        .psql(SUPERUSER, elsewhere)
        .expect("creating a database");
    let make = "do $$ begin execute format('create role %I login', convert_from('\\x636166e9'::bytea, 'LATIN1')); end $$";
    cluster
        .existing_database("latin")
        .psql(SUPERUSER, make)
        .expect("creating a role");
    let there = "select count(*) from pg_roles where rolname > 'caf' and rolname < 'cag'";
    assert_eq!(database.psql(SUPERUSER, there).as_deref(), Ok("1\n"));
    assert_eq!(told(&database, "check-failed", "select"), "");
}

/// An empty list must not look like health.
#[tokio::test]
async fn where_nobody_looks_for_changes_the_summary_says_so() {
    let database = plain().database();
    let fail = "update monitoring.sampler_parts set failures = 1, problem = 'it fails' where part = 'changes'";
    assert!(
        told(&database, "rls-changed", fail)
            .contains("rls-changed: the sampler's part changes fails: it fails")
    );
}
