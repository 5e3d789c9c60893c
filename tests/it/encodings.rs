//! One cluster, several encodings: names of roles are the cluster's, texts of statements come of all its databases.

use std::fmt::Write as _;

use tokio_postgres::NoTls;

use crate::support::postgres::{Cluster, ClusterOptions, PASSWORD, SUPERUSER};
use crate::support::templates::migrations;
use crate::support::wait::wait_until;

#[tokio::test]
async fn a_role_named_in_another_encoding_stops_no_judgement() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let named = "create table guests (id int);
        create database elsewhere template template0 encoding 'latin1' locale 'C';
        \\connect elsewhere
        set client_encoding = 'utf8';
        create role \"Jos\u{e9}\" login; grant pg_read_all_data to \"Jos\u{e9}\"";
    database.psql(SUPERUSER, named).expect("naming a role");
    let judged = "select s -> 'skipped', s #>> '{events,opened}' <> '0' from monitoring.sample() s";
    assert_eq!(database.psql(SUPERUSER, judged).as_deref(), Ok("[]|t\n"));
    let told = "select object, position('roles that can reach it: Jos\\351' in detail) > 0 from monitoring.findings() where check_id = 'rls-exposed'
        union all
        select event_data ->> 'object', true from monitoring_events where event_data ->> 'check_id' = 'rls-exposed'";
    assert_eq!(
        database.psql(SUPERUSER, told).as_deref(),
        Ok("public.guests|t\npublic.guests|t\n")
    );
    let exposed = "select exposed_to from monitoring_rls_status where tablename = 'guests'";
    assert_eq!(
        database.psql(SUPERUSER, exposed).as_deref(),
        Ok("{\"Jos\\\\351\"}\n")
    );
    // And what changes about it: who reads of it may be no more than a client that takes text for text.
    let noted = format!(
        "\\connect elsewhere
        set client_encoding = 'utf8';
        alter role \"Jos\u{e9}\" createdb;
        \\connect {}
        select monitoring.note_changes('{{}}') is not null;
        select object, now from monitoring.changes where kind = 'role'",
        database.name
    );
    assert_eq!(
        database.psql(SUPERUSER, &noted).as_deref(),
        Ok("t\nJos\\351|login, creates databases\n")
    );
}

#[tokio::test]
async fn who_blocks_from_a_database_of_another_encoding_is_seen() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let elsewhere = "create database elsewhere template template0 encoding 'latin1' locale 'C'";
    database.psql(SUPERUSER, elsewhere).expect("creating it");
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(database.port());
    config
        .user(SUPERUSER)
        .password(PASSWORD.as_str())
        .dbname("elsewhere");
    let (holder, connection) = config.connect(NoTls).await.expect("connecting");
    tokio::spawn(connection);
    // A table of the whole cluster that nothing else reads.
    let lock = "begin; lock table pg_replication_origin; select 'caf\u{e9}'";
    holder.batch_execute(lock).await.expect("locking");
    let waiting = database.superuser().await;
    let waits = tokio::spawn(async move {
        let lock = "begin; lock table pg_replication_origin";
        waiting.batch_execute(lock).await
    });
    let client = database.superuser().await;
    wait_until("it is seen", async || {
        let roots = "select string_agg(query_preview, '') from monitoring.locks() where is_root";
        let row = client.query_one(roots, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{error:?}"));
        row.get::<_, Option<&str>>(0) == Some("[not readable: in another encoding]")
    })
    .await;
    holder.batch_execute("rollback").await.expect("letting go");
    waits.await.expect("waiting").expect("having the lock");
}

#[tokio::test]
async fn a_statement_in_another_encoding_hides_no_numbers() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let mut latin = "create database latin template template0 encoding 'latin1' locale 'C';
        \\connect latin
        create extension pg_stat_statements;
"
    .to_owned();
    for file in migrations() {
        latin += &format!("begin;\n\\i {}\ncommit;\n", file.display());
    }
    latin += "select count(*) from pg_class;\n";
    database.psql(SUPERUSER, &latin).expect("migrating");
    let foreign = "set client_encoding = 'utf8'; select 1 as \"\u{42e}\"";
    database.psql(SUPERUSER, foreign).expect("asking");
    let told = "\\connect latin
        select count(*) > 0, min(query_preview) from monitoring.statements(5)";
    assert_eq!(
        database.psql(SUPERUSER, told).as_deref(),
        Ok("t|[not readable: a statement of another database is in another encoding]\n")
    );
}

/// Whatever the database is kept in and the client speaks: one letter that is not ASCII's would end a migration, or be kept as two others.
#[tokio::test]
async fn a_database_of_any_encoding_takes_the_migrations() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.empty_database();
    let checked = "select string_agg(v.check_id, ' ' order by v.check_id) filter (where v.pass) from monitoring.validation() v";
    let passed = "extension functions performance row_level_security security views\n";
    for (encoding, client, word) in [
        ("sql_ascii", "utf8", "\u{43f}\u{438}\u{440}"),
        ("win1251", "utf8", "\u{43f}\u{438}\u{440}"),
        ("koi8r", "win1251", "\u{43f}\u{438}\u{440}"),
        ("euc_jp", "utf8", "\u{5bb4}"),
        ("latin5", "latin5", "\u{e7}a"),
    ] {
        let mut script = format!(
            "create database kept_as_{encoding} template template0 encoding '{encoding}' locale 'C';
            \\connect kept_as_{encoding}
            create extension pg_stat_statements;
            set client_encoding = '{client}';\n"
        );
        for file in migrations() {
            writeln!(script, "begin;\n\\i {}\ncommit;", file.display()).expect("a string");
        }
        writeln!(script, "{checked};\nset client_encoding = 'utf8';").expect("a string");
        writeln!(
            script,
            "select monitoring.redact('select ''{word}'' from \"{word}\"');"
        )
        .expect("a string");
        assert_eq!(
            database.psql(SUPERUSER, &script),
            Ok(format!("{passed}select ? from \"{word}\"\n")),
            "{encoding}, {client}"
        );
    }
}
