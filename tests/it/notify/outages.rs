//! A database that cannot be reached is announced, once, and so is its return.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ask, event, outbox, sample};
use crate::cloudwatch::told;
use crate::support::app::TestApp;
use crate::support::bus::{Fault, TestBus};
use crate::support::database::TestDatabase;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::templates::MONITOR;

const UNREACHABLE: &str = "pgvigil.database.unreachable.v1";
const REACHABLE: &str = "pgvigil.database.reachable.v1";

/// The only way to the server, which can be taken away.
fn way(database: &TestDatabase) -> PgBouncer {
    PgBouncer::start(database, &[MONITOR, database.migrator()], 2)
}

async fn fails(app: &TestApp, database: &TestDatabase, minutes_ago: i32) {
    let failed = app.invoke(&event(database, minutes_ago)).await;
    let error = failed.expect_err("a sample without a database");
    assert_eq!(error.error_type, "Database", "{error:?}");
}

#[tokio::test]
async fn an_outage_is_one_announcement_and_its_end_another() {
    let database = plain().database();
    let bus = TestBus::new();
    let mut way = way(&database);
    let app = TestApp::announcing(&database, way.port(), &bus).await;
    sample(&app, &database, 9).await;
    bus.delivered();
    way.stop();
    fails(&app, &database, 8).await;
    fails(&app, &database, 7).await;
    let gone = bus.delivered();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0]["detail-type"], UNREACHABLE);
    way.restart();
    sample(&app, &database, 6).await;
    let back = bus.delivered_of(REACHABLE);
    assert_eq!(back.len(), 1, "{back:?}");
    let gone = &gone[0]["detail"];
    let last_sample_at = ask(
        &database,
        "select monitoring.utc_text(min(tick_at)) from monitoring.samples",
    );
    assert_eq!(gone["outage"], format!("default since {last_sample_at}"));
    assert_eq!(gone["outage"], back[0]["outage"]);
    assert_eq!(gone["last_sample_at"], last_sample_at);
    assert_eq!(
        (&gone["target"], &gone["reason"]),
        (&json!("default"), &json!("no connection"))
    );
    assert_eq!(
        (&back[0]["target"], &back[0]["was_announced"]),
        (&json!("default"), &json!(true))
    );
    assert_ne!(gone["dedup_key"], back[0]["dedup_key"]);
    assert!(!gone.to_string().contains("127.0.0.1"), "{gone}");

    // Another outage is another one.
    way.stop();
    fails(&app, &database, 5).await;
    let again = bus.delivered_of(UNREACHABLE);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0]["outage"], gone["outage"]);
    way.restart();
    sample(&app, &database, 4).await;
    let back = bus.delivered_of(REACHABLE);
    assert_eq!((back.len(), &back[0]["outage"]), (1, &again[0]["outage"]));
    assert_eq!(outbox(&database).1, 0);
}

/// A server that refuses is away as well; one that answers badly is not.
#[tokio::test]
async fn only_a_database_that_does_not_answer_is_away() {
    let database = plain().database();
    let other = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    let admit = |is_open: bool| {
        let sql = format!(
            "alter database {} allow_connections {is_open}",
            database.name
        );
        ask(&other, &sql);
    };
    admit(false);
    fails(&app, &other, 9).await;
    let gone = bus.delivered_of(UNREACHABLE);
    admit(true);
    assert_eq!(gone.len(), 1);
    assert_eq!(
        (&gone[0]["sqlstate"], &gone[0]["last_sample_at"]),
        (&json!("55000"), &Value::Null)
    );
    // Whoever has taken no sample yet goes by its clock, and the end is told under the same name.
    let name = gone[0]["outage"].as_str().expect("a name");
    assert!(
        name.starts_with("default in the hour of ") && name.ends_with(":00:00Z"),
        "{name}"
    );
    sample(&app, &database, 8).await;
    assert_eq!(bus.delivered_of(REACHABLE)[0]["outage"], gone[0]["outage"]);
    ask(
        &database,
        "alter function monitoring.windows_due() rename to gone",
    );
    fails(&app, &database, 7).await;
    assert_eq!(bus.delivered(), Vec::<Value>::new());
}

/// Where it could not be announced, the next failed sample announces it.
#[tokio::test]
async fn an_outage_is_announced_when_the_bus_is_back() {
    let database = plain().database();
    let bus = TestBus::new();
    let mut way = way(&database);
    let app = TestApp::announcing(&database, way.port(), &bus).await;
    way.stop();
    bus.fail_by(Fault::Refusal(500, "InternalException"));
    fails(&app, &database, 9).await;
    bus.fail_by(Fault::None);
    fails(&app, &database, 8).await;
    fails(&app, &database, 7).await;
    assert_eq!(bus.delivered_of(UNREACHABLE).len(), 1);
    let lines = app.metrics();
    let failed: Vec<Value> = lines
        .iter()
        .map(|line| told(line)["NotificationsFailed"].clone())
        .collect();
    assert_eq!(failed, [json!(1), json!(0), Value::Null]);
}

/// Whoever announced it is gone: another instance sees the gap in the samples.
#[tokio::test]
async fn an_instance_that_remembers_nothing_announces_the_return() {
    let database = plain().database();
    let bus = TestBus::new();
    let before = TestApp::announcing(&database, database.port(), &bus).await;
    sample(&before, &database, 30).await;
    bus.delivered();
    for minutes_ago in [9, 8] {
        let after = TestApp::announcing(&database, database.port(), &bus).await;
        sample(&after, &database, minutes_ago).await;
    }
    let back = bus.delivered_of(REACHABLE);
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(
        (&back[0]["was_announced"], &back[0]["unseen_seconds"]),
        (&json!(false), &json!(1260))
    );
}

/// A database that hangs uses up its sample's time, and not that of announcing it.
#[tokio::test]
async fn a_database_that_hangs_is_announced_before_the_deadline() {
    let database = plain().database();
    let bus = TestBus::new();
    let app = TestApp::announcing(&database, database.port(), &bus).await;
    let hang = "create or replace function monitoring.sample(p_tick_at timestamptz default null) returns jsonb language plpgsql
        as $$ begin perform pg_sleep(60); return null; end $$";
    database.psql(SUPERUSER, hang).expect("making it hang");
    let limit = Duration::from_secs(12);
    let started = Instant::now();
    let error = app.invoke_within(&json!({"task": "sample"}), limit).await;
    let took = started.elapsed();
    assert_eq!(error.expect_err("a deadline").error_type, "Deadline");
    assert!(took < limit, "{took:?}");
    let gone = bus.delivered_of(UNREACHABLE);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0]["reason"], "no answer before the deadline");
}
