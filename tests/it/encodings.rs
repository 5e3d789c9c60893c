//! One cluster, several encodings: names of roles are the cluster's, texts of statements come of all its databases.

use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::support::templates::migrations;

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
