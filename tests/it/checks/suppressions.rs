//! What is accepted for a while, where the lines are, and what the hour changes.

use serde_json::{Value, json};

use super::json_of;
use crate::support::caller::Caller;
use crate::support::postgres::{SUPERUSER, plain};

const OPEN_TABLE: &str = "create table guests (id int); grant select on guests to public";

fn caller(role: &str) -> Caller {
    Caller::Reader(
        json!({"sub": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "app_metadata": {"role": role}}),
    )
}

#[tokio::test]
async fn a_suppressed_finding_counts_nowhere_and_is_told_as_such() {
    let database = plain().database();
    let client = database.superuser().await;
    client
        .batch_execute(OPEN_TABLE)
        .await
        .expect("creating a table");
    let seen = json_of(&client, "monitoring.assess()").await;
    let fingerprint = seen["findings"][0]["fingerprint"]
        .as_str()
        .expect("a fingerprint")
        .to_owned();
    let admin = database.as_caller(caller("admin")).await;
    let suppress = format!(
        "select monitoring.suppress('{fingerprint}', ' a demo ', now() + interval '1 day')"
    );
    admin.batch_execute(&suppress).await.expect("suppressing");
    let seen = json_of(&client, "monitoring.assess()").await;
    assert_eq!(
        (&seen["findings"], &seen["metrics"]["findings"]),
        (&json!([]), &json!(0))
    );
    let told: Vec<_> = seen["suppressed"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|told| told["fingerprint"] == json!(fingerprint))
        .collect();
    assert_eq!(told.len(), 1, "{seen}");
    assert_eq!(
        (&told[0]["object"], &told[0]["reason"]),
        (&json!("public.guests"), &json!("a demo"))
    );
    assert_eq!(
        json_of(
            &client,
            "get_database_monitoring_summary() -> 'health_score'"
        )
        .await,
        100
    );
    let summary = json_of(&client, "get_database_monitoring_summary() -> 'metrics'").await;
    assert_eq!(
        summary["suppressed_findings"],
        json!(seen["suppressed"].as_array().map_or(0, Vec::len)),
        "the summary says how many there are"
    );
    let listed = json_of(&client, &format!("(select to_jsonb(s) from monitoring.suppressions() s where s.fingerprint = '{fingerprint}')")).await;
    assert_eq!(listed["created_by"], "6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
    // Its time is over.
    let over =
        "update monitoring.suppressions set until = now(), created_at = now() - interval '1 day'";
    client.batch_execute(over).await.expect("letting time pass");
    let seen = json_of(&client, "monitoring.assess()").await;
    assert!(seen["findings"].to_string().contains(&fingerprint));
    // Said again it holds again, and can be taken back.
    admin
        .batch_execute(&suppress)
        .await
        .expect("suppressing again");
    assert!(
        !json_of(&client, "monitoring.assess() -> 'findings'")
            .await
            .to_string()
            .contains(&fingerprint)
    );
    let unsuppress = format!("select monitoring.unsuppress('{fingerprint}')");
    admin
        .batch_execute(&unsuppress)
        .await
        .expect("taking it back");
    assert!(
        json_of(&client, "monitoring.assess() -> 'findings'")
            .await
            .to_string()
            .contains(&fingerprint)
    );
    let gone = admin
        .batch_execute(&unsuppress)
        .await
        .expect_err("nothing to take back");
    assert_eq!(
        gone.code().map(tokio_postgres::error::SqlState::code),
        Some("P0002")
    );
}

#[tokio::test]
async fn an_event_of_what_is_suppressed_ends_and_says_so() {
    let database = plain().database();
    let client = database.superuser().await;
    let finding = json!([{"check_id": "dead-tuples", "severity": "warning", "object": "public.guests", "value": 1, "threshold": 1,
        "detail": "d", "remediation": "r", "fingerprint": "0123456789abcdef0123456789abcdef"}]);
    let reconcile =
        |findings: &Value| format!("select monitoring.reconcile('{findings}', '{{dead-tuples}}')");
    client
        .batch_execute(&reconcile(&finding))
        .await
        .expect("opening");
    let suppress = "select monitoring.suppress('0123456789abcdef0123456789abcdef', 'being moved', now() + interval '1 day')";
    let admin = database.as_caller(caller("owner")).await;
    admin.batch_execute(suppress).await.expect("suppressing");
    for _ in 0..3 {
        client
            .batch_execute(&reconcile(&json!([])))
            .await
            .expect("reconciling");
    }
    let event = json_of(&client, "(select to_jsonb(e) from monitoring_events e)").await;
    assert_eq!(event["resolution_notes"], "suppressed: being moved");
    let listed = json_of(
        &client,
        "(select to_jsonb(s) from monitoring.suppressions() s where s.object is not null)",
    )
    .await;
    assert_eq!(
        (&listed["check_id"], &listed["object"]),
        (&json!("dead-tuples"), &json!("public.guests"))
    );
}

#[tokio::test]
async fn only_admin_and_owner_suppress_and_move_thresholds() {
    let database = plain().database();
    for (role, may) in [
        ("admin", true),
        ("owner", true),
        ("developer", false),
        ("service", false),
        ("guest", false),
    ] {
        let client = database.as_caller(caller(role)).await;
        for sql in [
            "select monitoring.suppress('0123456789abcdef0123456789abcdef', 'a reason', now() + interval '1 day')",
            "select monitoring.unsuppress('0123456789abcdef0123456789abcdef')",
            "select monitoring.set_threshold('dead-tuples', 20, 50)",
        ] {
            let done = client.batch_execute(sql).await;
            let code = done
                .err()
                .and_then(|error| Some(error.code()?.code().to_owned()));
            let expected = (!may).then(|| "42501".to_owned());
            assert_eq!(code, expected, "{role}: {sql}");
        }
    }
}

#[tokio::test]
async fn odd_suppressions_and_thresholds_are_refused() {
    let database = plain().database();
    let client = database.as_caller(caller("admin")).await;
    let print = "'0123456789abcdef0123456789abcdef'";
    for (call, code) in [
        (
            "suppress('short', 'r', now() + interval '1 day')".to_owned(),
            "22023",
        ),
        (
            "suppress(null, 'r', now() + interval '1 day')".to_owned(),
            "22023",
        ),
        (
            format!("suppress({print}, ' ', now() + interval '1 day')"),
            "22023",
        ),
        (
            format!("suppress({print}, null, now() + interval '1 day')"),
            "22023",
        ),
        (
            format!("suppress({print}, repeat('x', 501), now() + interval '1 day')"),
            "22023",
        ),
        (format!("suppress({print}, 'r', now())"), "22023"),
        (format!("suppress({print}, 'r', 'infinity')"), "22023"),
        (
            format!("suppress({print}, 'r', now() + interval '367 days')"),
            "22023",
        ),
        (format!("suppress({print}, 'r', null)"), "22023"),
        (format!("unsuppress({print})"), "P0002"),
        ("set_threshold('nobody-knows', 1, 2)".to_owned(), "P0002"),
        ("set_threshold(null, 1, 2)".to_owned(), "P0002"),
        ("set_threshold('dead-tuples', 3, 2)".to_owned(), "22023"),
        ("set_threshold('dead-tuples', -1, 2)".to_owned(), "22023"),
        ("set_threshold('dead-tuples', null, 2)".to_owned(), "22023"),
        ("set_threshold('dead-tuples', 1, null)".to_owned(), "22023"),
        ("set_threshold('dead-tuples', 1, 'NaN')".to_owned(), "22023"),
        (
            "set_threshold('dead-tuples', 1, 'Infinity')".to_owned(),
            "22023",
        ),
    ] {
        let refused = client
            .batch_execute(&format!("select monitoring.{call}"))
            .await;
        let refused = refused.expect_err(&call);
        assert_eq!(
            refused.code().map(tokio_postgres::error::SqlState::code),
            Some(code),
            "{call}"
        );
    }
}

/// Tighter lines, and a level worse: but not for what has nothing to do with the hour.
#[tokio::test]
async fn a_critical_window_tightens_and_raises() {
    let database = plain().database();
    let client = database.superuser().await;
    let setup = "create table guests (id int); alter table guests enable row level security;
        update monitoring.thresholds set warning = 60000, critical = 600000, window_factor = 0.01 where check_id = 'idle-in-transaction';
        create table open_to_none (id int)";
    client
        .batch_execute(setup)
        .await
        .expect("setting the stage");
    let idle = database.superuser().await;
    idle.batch_execute("begin; select from guests")
        .await
        .expect("beginning");
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let of = |seen: &Value, check_id: &str| {
        let all = seen["findings"].as_array().expect("findings").clone();
        let found = all
            .into_iter()
            .find(|finding| finding["check_id"] == check_id);
        found.map(|finding| {
            (
                finding["severity"].clone(),
                finding["threshold"].clone(),
                finding["fingerprint"].clone(),
            )
        })
    };
    let before = json_of(&client, "monitoring.assess()").await;
    assert_eq!(of(&before, "idle-in-transaction"), None);
    let open = "insert into monitoring.critical_windows (starts_at, ends_at, label) values (now() - interval '1 hour', now() + interval '1 hour', 'a wedding')";
    database.psql(SUPERUSER, open).expect("opening a window");
    let within = json_of(&client, "monitoring.assess()").await;
    let (severity, threshold, _) = of(&within, "idle-in-transaction").expect("found");
    assert_eq!((severity, threshold), (json!("critical"), json!(600)));
    let (rls_before, rls_within) = (of(&before, "rls-exposed"), of(&within, "rls-exposed"));
    assert_eq!(rls_before, rls_within, "a policy is as good by night");
    assert!(rls_before.is_some_and(|found| found.0 == json!("warning")));
}
