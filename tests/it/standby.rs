//! On a hot standby: what can be read is read, what is kept on the primary is named, and nothing fails for want of writing.

use serde_json::{Value, json};

use crate::cloudwatch::told;
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};

/// A primary with a table of everything, and its standby; the primary remembers what it has found.
async fn standby() -> (TestDatabase, Cluster) {
    let primary = Cluster::start(ClusterOptions::default());
    let database = primary.database();
    let setup = "
        create table guests (name text primary key); insert into guests select g::text from generate_series(1, 1000) g;
        select record_monitoring_event('performance_alert', '{}', 'high');
        update monitoring.settings set value = '0' where key = 'remember_from_relations';
        select monitoring.remember(); analyze guests; checkpoint;";
    database
        .psql(SUPERUSER, setup)
        .expect("filling the primary");
    let standby = primary.standby(ClusterOptions::default()).await;
    (database, standby)
}

#[tokio::test]
async fn a_standby_is_watched_and_what_the_primary_keeps_is_named() {
    let (original, standby) = standby().await;
    let database = standby.existing_database(&original.name);
    let recovering = database.psql(SUPERUSER, "select pg_is_in_recovery()");
    assert_eq!(recovering.as_deref(), Ok("t\n"));
    let app = TestApp::new(&database).await;

    let answer = app.get_as("admin", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    let degraded: Vec<&Value> = body["metadata"]["degraded"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    assert!(
        matches!(degraded.as_slice(), [only] if only["section"] == "tableHealth"
            && only["reason"].as_str().is_some_and(|reason| reason.contains("standby"))),
        "{degraded:?}"
    );
    let health = body["data"]["tableHealth"].to_string();
    assert!(health.contains("\"guests\""), "{health}");
    assert_eq!(body["data"]["summary"]["metrics"]["unresolved_events"], 1);
    assert_eq!(
        body["data"]["summary"]["metrics"]["tables_needing_vacuum"],
        Value::Null,
        "unknown is not none"
    );
    let blind = body["data"]["summary"]["degraded"].to_string();
    for check in ["dead-tuples", "sequential-scans"] {
        assert!(
            blind.contains(&format!("{check}: the server is a standby")),
            "{blind}"
        );
    }
    assert!(body["data"]["rlsStatus"].to_string().contains("HIGH_RISK"));

    for task in ["sample", "cleanup"] {
        let report = app.task(json!({"task": task})).await;
        assert_eq!(report["status"], "skipped", "{report}");
        assert!(
            report["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("standby")),
            "{report}"
        );
        if task == "sample" {
            // What cannot be stored is told all the same.
            let metrics = &report["metrics"];
            for metric in [
                "total_connections",
                "active_sessions",
                "xid_age",
                "high_risk_tables",
            ] {
                assert!(metrics[metric].is_number(), "{metric} in {report}");
            }
        }
    }
    let metrics = app.metrics();
    assert_eq!(metrics.len(), 1, "the sample's: {metrics:?}");
    let metrics = told(&metrics[0]);
    assert_eq!(
        (&metrics["SamplesSkipped"], &metrics["DatabaseReachable"]),
        (&json!(1), &json!(1))
    );
    let refused = app
        .post_as(
            "admin",
            &json!({"action": "record_event", "event_type": "slow_query", "event_data": {}}),
        )
        .await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "database_unavailable"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn a_standby_passes_validation_with_a_note() {
    let (original, standby) = standby().await;
    let database = standby.existing_database(&original.name);
    let app = TestApp::new(&database).await;
    let answer = app
        .send(Request::get("/api/monitoring/validation", "").by("admin"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    for check in body["data"]["checks"].as_array().into_iter().flatten() {
        assert!(
            check["pass"] == true || check["check_id"] == "performance",
            "{check}"
        );
    }
    assert!(
        body["data"]["checks"][1]["evidence"]
            .to_string()
            .contains("the server is a standby")
    );
}
