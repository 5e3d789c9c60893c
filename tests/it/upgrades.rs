//! Taken to a newer server, by dump and restore and by `pg_upgrade`: everything is there and works.

use std::collections::BTreeSet;

use serde_json::json;
use tokio_postgres::Client;

use crate::migrations::{apply, rollbacks};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER};
use crate::support::programs::{server_programs_of, whole_server_programs};
use crate::support::templates::migrations;

/// Every view and every function of the façade, and the clock that drives it.
const EVERYTHING: [&str; 13] = [
    "select count(*) from monitoring_slow_queries",
    "select count(*) from monitoring_connections",
    "select count(*) from monitoring_table_health",
    "select count(*) from monitoring_rls_status",
    "select count(*) from monitoring_events",
    "select get_database_monitoring_summary()",
    "select count(*) from monitoring.findings()",
    "select count(*) from monitoring.statements()",
    "select 1 / (bool_and(pass or check_id = 'performance'))::int from monitoring.validation()",
    "select record_monitoring_event('rls_violation', '{\"after\": \"the upgrade\"}', 'low')",
    "update monitoring_events set resolved_at = now() where resolved_at is null returning id",
    "select cleanup_old_monitoring_data()",
    "select monitoring.sample(now() - interval '30 minutes')",
];

/// What a running installation holds: an event, a sample, a setting of its own.
fn in_use(cluster: &Cluster) -> TestDatabase {
    let database = cluster.database();
    let used = "select record_monitoring_event('slow_query', '{\"before\": \"the upgrade\"}', 'high', '203.0.113.7');
        select monitoring.sample();
        update monitoring.settings set value = '250' where key = 'slow_query_threshold_ms'";
    database.psql(SUPERUSER, used).expect("using it");
    database
}

fn options(flavour: Flavour) -> ClusterOptions {
    ClusterOptions {
        flavour,
        ..ClusterOptions::default()
    }
}

async fn outcome(client: &Client, sql: &str) -> Result<(), String> {
    let result = client.query(sql, &[]).await;
    result.map(drop).map_err(|error| {
        let code = error.code().map(|code| code.code().to_owned());
        code.unwrap_or_else(|| error.to_string())
    })
}

/// Everything works as it did before, for those it is for and for nobody else.
async fn works(database: &TestDatabase, flavour: Flavour) {
    let kept = "select e.event_data ->> 'before', e.source_ip, s.value, (select count(*) from monitoring.samples),
          (select count(*) from monitoring.degraded())
        from monitoring_events e, monitoring.settings s where s.key = 'slow_query_threshold_ms'";
    assert_eq!(
        database.psql(SUPERUSER, kept).as_deref(),
        Ok("the upgrade|203.0.113.7|250|1|0\n"),
        "what was there came along, and nothing is invisible"
    );
    let admin = json!({"app_metadata": {"role": "admin"}});
    let admin = database.as_caller(Caller::Reader(admin)).await;
    let agent = database.as_caller(Caller::Agent).await;
    // Where a role may read the table of events, row-level security shows it no rows.
    let mut strangers = vec![
        (Caller::FreshLogin, Err("42501".to_owned())),
        (Caller::Reader(json!({})), Ok(())),
    ];
    if flavour == Flavour::Supabase {
        strangers.push((Caller::Anon, Err("42501".to_owned())));
        strangers.push((Caller::Authenticated(json!({})), Ok(())));
    }
    for sql in EVERYTHING {
        let admitted = match sql.contains("cleanup") || sql.contains("sample") {
            true => &agent,
            false => &admin,
        };
        assert_eq!(outcome(admitted, sql).await, Ok(()), "{sql}");
    }
    for (stranger, on_events) in strangers {
        let client = database.as_caller(stranger.clone()).await;
        for sql in EVERYTHING {
            let expected = match sql.contains(" monitoring_events") {
                true => on_events.clone(),
                false => Err("42501".to_owned()),
            };
            assert_eq!(outcome(&client, sql).await, expected, "{stranger:?}: {sql}");
        }
    }
    let left = "select count(*), count(*) filter (where resolved_at is null),
        (select count(*) from monitoring.samples), (select string_agg(kind || ' ' || object, ', ') from monitoring.changes where kind <> 'setting')
        from monitoring_events";
    assert_eq!(
        database.psql(SUPERUSER, left).as_deref(),
        Ok("2|0|2|\n"),
        "nothing has changed, strangers recorded nothing, and everybody else's was stored"
    );
}

/// The one thing that 14 could not do, and that running the migrations again adds.
fn without_invoker(dump: &str) -> String {
    dump.replace(" WITH (security_invoker='true')", "")
        .replace("{security_invoker=true}", "")
}

/// The lines that one dump has and the other has not.
fn differing<'a>(one: &'a str, other: &'a str) -> Vec<&'a str> {
    let (these, those): (BTreeSet<&str>, BTreeSet<&str>) =
        (one.lines().collect(), other.lines().collect());
    these.symmetric_difference(&those).copied().collect()
}

/// Running the migrations again adds what the old server could not do, and then nothing; the rollbacks leave nothing.
fn migrates_again_and_rolls_back(source: &Cluster, target: &Cluster, database: &TestDatabase) {
    let role = database.migrator();
    let is_superuser = role == SUPERUSER;
    if !is_superuser && source.major_version() < 16 && target.major_version() >= 16 {
        // The old server kept no record of who may administer a role, and the new one asks for it.
        let refused = database.psql_file(role, &migrations()[0]);
        let error = refused.expect_err("a role that may administer none of ours");
        assert!(
            error.contains("with admin option"),
            "names the way out: {error}"
        );
        let grant = format!(
            "grant monitoring_owner to {role} with admin option, inherit false, set false;
             grant monitoring_reader, monitoring_agent to {role} with admin option"
        );
        database.psql(SUPERUSER, &grant).expect("granting");
    }
    let before = database.dump_schema();
    apply(database, &migrations());
    let again = database.dump_schema();
    assert_eq!(
        differing(&without_invoker(&before), &without_invoker(&again)),
        Vec::<&str>::new()
    );
    let invokers = "select count(*) from pg_class where reloptions @> '{security_invoker=true}'";
    let expected = if target.major_version() >= 15 {
        "4\n"
    } else {
        "0\n"
    };
    assert_eq!(database.psql(SUPERUSER, invokers).as_deref(), Ok(expected));
    apply(database, &migrations());
    assert_eq!(again, database.dump_schema(), "a second run");

    apply(database, &rollbacks());
    let left = database.dump_schema();
    assert!(
        !left.contains("monitoring") && !left.contains("pgvigil"),
        "left behind: {left}"
    );
}

/// The oldest server's database, on the server the tests run on: the matrix makes that 14, 15, 16, 17 and 18.
#[tokio::test]
async fn a_dump_of_14_restores_and_works() {
    for flavour in [Flavour::Plain, Flavour::Supabase] {
        let programs = server_programs_of(14).unwrap_or_else(|problem| panic!("{problem}"));
        let source = Cluster::start(ClusterOptions {
            programs: Some(programs),
            ..options(flavour)
        });
        assert_eq!(source.major_version(), 14);
        let dump = in_use(&source).dump();
        let target = Cluster::start(options(flavour));
        let database = target.restore(&dump);
        works(&database, flavour).await;
        migrates_again_and_rolls_back(&source, &target, &database);
    }
}

/// The files themselves, extension versions included, under the newest server. They come from the system's own server: the
/// builds that `script/setup` fetches lack what `pg_upgrade` asks of the old one.
#[tokio::test]
async fn pg_upgrade_brings_everything_along() {
    for flavour in [Flavour::Plain, Flavour::Supabase] {
        let programs = whole_server_programs().unwrap_or_else(|problem| panic!("{problem}"));
        let source = Cluster::start(ClusterOptions {
            programs: Some(programs),
            ..options(flavour)
        });
        let original = in_use(&source);
        let target = source.upgraded(options(flavour));
        assert_eq!(target.major_version(), 18);
        let database = target.existing_database(&original.name);
        works(&database, flavour).await;
        migrates_again_and_rolls_back(&source, &target, &database);
    }
}
