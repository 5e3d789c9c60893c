//! Catalogs and settings are read the short way, and told as they are.

use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::workload::Workload;

/// What a check finds, and what could not be looked at.
fn told(database: &TestDatabase, check_id: &str, before: &str) -> String {
    let sql = format!(
        "{before};
         select string_agg(f.object, ' ' order by f.object) from monitoring.findings() f where f.check_id = '{check_id}';
         select s -> 'degraded' from public.get_database_monitoring_summary() s
         where s ->> 'degraded' like '%{check_id}%'"
    );
    let told = database.psql(SUPERUSER, &sql);
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
