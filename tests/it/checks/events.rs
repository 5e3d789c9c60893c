//! Findings become events; events are counted, escalated, resolved and opened again.

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::json_of;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::wait::wait_until;

const CHECK: &str = "connection-utilization";

/// A database and what its sampler finds, minute by minute.
struct Watch {
    database: TestDatabase,
    client: Client,
    minute: i32,
}

impl Watch {
    async fn new() -> Self {
        let database = plain().database();
        let client = database.superuser().await;
        Self {
            database,
            client,
            minute: 0,
        }
    }

    /// The next sample: `severity object` each.
    async fn sample(&mut self, found: &[&str]) -> Value {
        self.sample_by(found, &[CHECK]).await
    }

    async fn sample_by(&mut self, found: &[&str], checks_run: &[&str]) -> Value {
        self.minute += 1;
        let findings: Vec<Value> = found
            .iter()
            .filter_map(|line| line.split_once(' '))
            .map(|(severity, object)| {
                json!({"check_id": CHECK, "severity": severity, "object": object, "value": self.minute, "threshold": 70,
                    "detail": "many", "remediation": "close some", "fingerprint": format!("fingerprint of {object}")})
            })
            .collect();
        let sql = "select monitoring.reconcile($1::text::jsonb, $2, timestamptz '2025-06-07 20:30+00' + $3 * interval '1 minute')::text";
        let findings = Value::Array(findings).to_string();
        let checks_run: Vec<String> = checks_run.iter().map(ToString::to_string).collect();
        let row = self
            .client
            .query_one(sql, &[&findings, &checks_run, &f64::from(self.minute)])
            .await;
        serde_json::from_str(row.expect("reconciling").get(0)).expect("parsing the counts")
    }

    /// `object severity occurrences open|resolved`, the oldest first.
    async fn events(&self) -> Vec<String> {
        let sql = "select format('%s %s %s %s', event_data ->> 'object', severity, occurrences, case when resolved_at is null then 'open' else 'resolved' end)
            from public.monitoring_events order by created_at, event_data ->> 'object'";
        let rows = self.client.query(sql, &[]).await.expect("reading events");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn announced(&self) -> Vec<String> {
        let sql = "select split_part(detail_type, '.', 3) || ' ' || (detail #>> '{finding,object}') from monitoring.outbox order by place";
        let rows = self
            .client
            .query(sql, &[])
            .await
            .expect("reading the outbox");
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn psql(&self, sql: &str) {
        self.database
            .psql(SUPERUSER, sql)
            .unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    }
}

fn counts(opened: i32, escalated: i32, firing: i32, reopened: i32, resolved: i32) -> Value {
    json!({"opened": opened, "escalated": escalated, "firing": firing, "reopened": reopened, "resolved": resolved})
}

#[tokio::test]
async fn a_finding_opens_one_event_that_counts_escalates_and_ends() {
    let mut watch = Watch::new().await;
    assert_eq!(watch.sample(&["warning a"]).await, counts(1, 0, 0, 0, 0));
    assert_eq!(watch.sample(&["warning a"]).await, counts(0, 0, 1, 0, 0));
    assert_eq!(watch.events().await, ["a medium 2 open"]);
    assert_eq!(
        watch.sample(&["critical a", "warning b"]).await,
        counts(1, 1, 0, 0, 0)
    );
    // It has been critical: that it is less now is no news, nor that it is critical again.
    assert_eq!(
        watch.sample(&["warning a", "warning b"]).await,
        counts(0, 0, 2, 0, 0)
    );
    assert_eq!(
        watch.sample(&["critical a", "warning b"]).await,
        counts(0, 0, 2, 0, 0)
    );
    assert_eq!(
        watch.events().await,
        ["a critical 5 open", "b medium 3 open"]
    );
    for _ in 0..2 {
        assert_eq!(watch.sample(&["warning b"]).await, counts(0, 0, 1, 0, 0));
    }
    assert_eq!(watch.sample(&["warning b"]).await, counts(0, 0, 1, 0, 1));
    assert_eq!(
        watch.events().await,
        ["a critical 5 resolved", "b medium 6 open"]
    );
    assert_eq!(
        watch.announced().await,
        ["opened a", "escalated a", "opened b", "resolved a"]
    );
    let event = json_of(
        &watch.client,
        "(select to_jsonb(e) from public.monitoring_events e where e.resolved_at is not null)",
    )
    .await;
    assert_eq!(
        (
            &event["event_type"],
            &event["last_seen_at"],
            &event["event_data"]["value"]
        ),
        (
            &json!("connection_issue"),
            &json!("2025-06-07T20:35:00+00:00"),
            &json!(5)
        )
    );
    assert_eq!(event["resolution_notes"], "gone by itself, for 3 samples");
}

/// A row for each event with every sample would be much for nothing.
#[tokio::test]
async fn what_still_fires_is_counted_and_nothing_else_is_written() {
    let mut watch = Watch::new().await;
    let state = "(select to_jsonb(s) || jsonb_build_object('version', s.ctid::text) from monitoring.event_states s)";
    watch.sample(&["warning a"]).await;
    let opened = json_of(&watch.client, state).await;
    for _ in 0..5 {
        watch.sample(&["warning a"]).await;
    }
    assert_eq!(watch.events().await, ["a medium 6 open"]);
    assert_eq!(json_of(&watch.client, state).await, opened);
    // Once a day it is, or some day nobody would have seen it for a month.
    watch.minute += 1440;
    watch.sample(&["warning a"]).await;
    let later = json_of(&watch.client, state).await;
    assert_eq!(later["last_seen_at"], "2025-06-08T20:37:00+00:00");
    // So it is with what is answered and goes on.
    watch.psql("select monitoring.resolve_event((select id from public.monitoring_events))");
    watch.sample(&["warning a"]).await;
    let answered = json_of(&watch.client, state).await;
    assert_eq!(answered["resolved_by"], "somebody");
    for _ in 0..5 {
        watch.sample(&["warning a"]).await;
    }
    assert_eq!(json_of(&watch.client, state).await, answered);
    assert_eq!(watch.events().await, ["a medium 7 resolved"]);
}

/// Every other sample is not three without.
#[tokio::test]
async fn what_comes_and_goes_is_one_event_and_one_announcement() {
    let mut watch = Watch::new().await;
    for _ in 0..20 {
        watch.sample(&["warning a"]).await;
        watch.sample(&[]).await;
        watch.sample(&[]).await;
    }
    assert_eq!(watch.events().await, ["a medium 20 open"]);
    assert_eq!(watch.announced().await, ["opened a"]);
}

/// Gone for just long enough each time, for a whole day: without a brake 360 times two announcements.
#[tokio::test]
async fn flapping_does_not_storm() {
    let mut watch = Watch::new().await;
    let mut gone_for = 0;
    for minute in 0..1440 {
        let is_open = watch
            .events()
            .await
            .last()
            .is_some_and(|event| event.ends_with("open"));
        // As spiteful as can be: it comes back as soon as it is resolved.
        let found: &[&str] = if minute == 0 || !is_open {
            &["warning a"]
        } else {
            &[]
        };
        gone_for = if found.is_empty() { gone_for + 1 } else { 0 };
        watch.sample(found).await;
    }
    assert_eq!(
        watch.events().await.len(),
        1,
        "the same event again and again"
    );
    let announced = watch.announced().await;
    assert!((10..50).contains(&announced.len()), "{}", announced.len());
    assert!(gone_for < 97);
}

#[tokio::test]
async fn back_within_an_hour_is_the_same_event_and_later_another() {
    let mut watch = Watch::new().await;
    watch.sample(&["critical a"]).await;
    for _ in 0..3 {
        watch.sample(&[]).await;
    }
    watch.minute += 30;
    assert_eq!(watch.sample(&["warning a"]).await, counts(0, 0, 0, 1, 0));
    assert_eq!(watch.events().await, ["a medium 2 open"]);
    // And may escalate again.
    assert_eq!(watch.sample(&["critical a"]).await, counts(0, 1, 0, 0, 0));
    for _ in 0..5 {
        assert_eq!(watch.sample(&[]).await, counts(0, 0, 0, 0, 0));
    }
    assert_eq!(
        watch.sample(&[]).await,
        counts(0, 0, 0, 0, 1),
        "twice as patient"
    );
    watch.minute += 60;
    assert_eq!(watch.sample(&["warning a"]).await, counts(1, 0, 0, 0, 0));
    assert_eq!(
        watch.events().await,
        ["a critical 3 resolved", "a medium 1 open"]
    );
    let announced = watch.announced().await;
    assert_eq!(
        announced,
        [
            "opened a",
            "resolved a",
            "reopened a",
            "escalated a",
            "resolved a",
            "opened a"
        ]
    );
}

#[tokio::test]
async fn a_humans_resolution_stays_until_the_finding_vanishes_and_returns() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a"]).await;
    watch.psql(
        "select monitoring.resolve_event((select id from public.monitoring_events), 'we know')",
    );
    for _ in 0..5 {
        assert_eq!(watch.sample(&["critical a"]).await, counts(0, 0, 0, 0, 0));
    }
    // Two samples without are not enough to say that it is over.
    for _ in 0..2 {
        watch.sample(&[]).await;
    }
    assert_eq!(watch.sample(&["critical a"]).await, counts(0, 0, 0, 0, 0));
    assert_eq!(watch.events().await, ["a medium 1 resolved"]);
    // Even when the clean-up has taken the event.
    watch.psql("delete from public.monitoring_events");
    assert_eq!(watch.sample(&["critical a"]).await, counts(0, 0, 0, 0, 0));
    for _ in 0..3 {
        watch.sample(&[]).await;
    }
    assert_eq!(watch.sample(&["critical a"]).await, counts(1, 0, 0, 0, 0));
    assert_eq!(watch.events().await, ["a critical 1 open"]);
    assert_eq!(
        watch.announced().await,
        ["opened a", "resolved a", "opened a"]
    );
}

/// Who resolves between a sample's look and its writing was first.
#[tokio::test]
async fn a_resolution_in_the_middle_of_a_sample_is_not_undone() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a"]).await;
    for _ in 0..2 {
        watch.sample(&[]).await;
    }
    // The sample has looked by the time it asks for the type of what it found.
    watch.psql(
        "alter function monitoring.event_type_of(text) rename to event_type_as_ever;
         create function monitoring.event_type_of(p_category text) returns text language plpgsql as $$
         begin perform pg_advisory_xact_lock(20250825); return monitoring.event_type_as_ever(p_category); end $$",
    );
    let somebody = watch.database.superuser().await;
    let held = somebody
        .batch_execute("select pg_advisory_lock(20250825)")
        .await;
    held.expect("holding the sample up");
    let resolving = async {
        wait_until("the sample waits", async || {
            let waits = "select exists (select from pg_locks where locktype = 'advisory' and objid = 20250825 and not granted)";
            let row = somebody.query_one(waits, &[]).await;
            row.expect("asking for locks").get(0)
        })
        .await;
        let resolve =
            "select monitoring.resolve_event((select id from public.monitoring_events), 'we know');
            select pg_advisory_unlock(20250825)";
        let resolved = somebody.batch_execute(resolve).await;
        resolved.expect("resolving");
    };
    let (sample, ()) = tokio::join!(watch.sample(&["warning b"]), resolving);
    assert_eq!(sample, counts(1, 0, 0, 0, 0));
    watch.sample(&["warning a", "warning b"]).await;
    assert_eq!(
        watch.events().await,
        ["a medium 1 resolved", "b medium 2 open"]
    );
    let notes = watch.database.psql(
        SUPERUSER,
        "select resolution_notes from public.monitoring_events where resolved_at is not null",
    );
    assert_eq!(notes.as_deref(), Ok("we know\n"));
}

/// A person's transaction may stay open for long: the sample does not wait for it, and does not undo it.
#[tokio::test]
async fn a_resolution_that_is_under_way_is_neither_waited_for_nor_undone() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a", "warning b"]).await;
    let person = watch.database.superuser().await;
    let resolve = "begin; update public.monitoring_events set resolved_at = now() where event_data ->> 'object' = 'a'";
    person.batch_execute(resolve).await.expect("resolving");
    let limit = "set lock_timeout = '100ms'";
    watch
        .client
        .batch_execute(limit)
        .await
        .expect("setting a limit");
    assert_eq!(
        watch.sample(&["critical a", "critical b"]).await,
        counts(0, 1, 0, 0, 0)
    );
    for _ in 0..4 {
        watch.sample(&[]).await;
    }
    person.batch_execute("commit").await.expect("committing");
    assert_eq!(
        watch.events().await,
        ["a medium 1 resolved", "b critical 2 resolved"]
    );
    // It was answered, and has not been gone for three looks since.
    assert_eq!(watch.sample(&["critical a"]).await, counts(0, 0, 0, 0, 0));
}

/// A hundred are as many as a check tells, suppressed ones among them: what is not among them is not over for that.
#[tokio::test]
async fn suppressed_findings_have_their_place_among_the_hundred() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a", "warning b"]).await;
    let suppressed = |count: i32, and: &str| {
        format!(
            "(select jsonb_agg(jsonb_build_object('check_id', '{CHECK}', 'severity', 'warning', 'object', n::text, 'fingerprint', n::text,
              'until', now() + interval '1 day', 'reason', 'known')) {and} from generate_series(1, {count}) n)"
        )
    };
    let reconcile = async |watch: &mut Watch, findings: String| {
        watch.minute += 1;
        let sql = format!(
            "monitoring.reconcile({findings}, '{{{CHECK}}}', timestamptz '2025-06-07 20:30+00' + {} * interval '1 minute')",
            watch.minute
        );
        json_of(&watch.client, &sql).await
    };
    for _ in 0..5 {
        let counted = reconcile(&mut watch, suppressed(100, "")).await;
        assert_eq!(counted, counts(0, 0, 0, 0, 0), "there may be more");
    }
    assert_eq!(watch.events().await, ["a medium 1 open", "b medium 1 open"]);
    // One that is suppressed itself is known to be no event.
    let a = r#"|| jsonb_build_array(jsonb_build_object('check_id', 'connection-utilization', 'fingerprint', 'fingerprint of a', 'until', now() + interval '1 day'))"#;
    for _ in 0..3 {
        reconcile(&mut watch, suppressed(100, a)).await;
    }
    assert_eq!(
        watch.events().await,
        ["a medium 1 resolved", "b medium 1 open"]
    );
    for _ in 0..3 {
        reconcile(&mut watch, suppressed(99, "")).await;
    }
    assert_eq!(
        watch.events().await,
        ["a medium 1 resolved", "b medium 1 resolved"]
    );
}

/// Nobody has looked: that is not recovery.
#[tokio::test]
async fn a_check_that_was_not_made_resolves_nothing() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a"]).await;
    for _ in 0..10 {
        assert_eq!(
            watch.sample_by(&[], &["dead-tuples"]).await,
            counts(0, 0, 0, 0, 0)
        );
    }
    assert_eq!(watch.events().await, ["a medium 1 open"]);
}

#[tokio::test]
async fn an_event_that_somebody_deleted_is_opened_anew() {
    let mut watch = Watch::new().await;
    watch.sample(&["warning a"]).await;
    watch.psql("delete from public.monitoring_events");
    assert_eq!(watch.sample(&["warning a"]).await, counts(1, 0, 0, 0, 0));
    // One that was there before anything was remembered is taken over.
    watch.psql("truncate monitoring.event_states");
    assert_eq!(watch.sample(&["warning a"]).await, counts(0, 0, 1, 0, 0));
    assert_eq!(watch.events().await, ["a medium 2 open"]);
}

#[tokio::test]
async fn what_is_rolled_back_was_neither_opened_nor_announced() {
    let mut watch = Watch::new().await;
    watch
        .client
        .batch_execute("begin")
        .await
        .expect("beginning");
    watch.sample(&["warning a"]).await;
    watch
        .client
        .batch_execute("rollback")
        .await
        .expect("rolling back");
    assert!(watch.events().await.is_empty() && watch.announced().await.is_empty());
}

#[tokio::test]
async fn odd_findings_are_refused_or_left_out() {
    let mut watch = Watch::new().await;
    // Twice the same, an unknown check, no fingerprint.
    assert_eq!(
        watch.sample(&["warning a", "critical a"]).await,
        counts(1, 0, 0, 0, 0)
    );
    assert_eq!(watch.events().await, ["a critical 1 open"]);
    let unknown = r#"monitoring.reconcile('[{"check_id": "nobody-knows", "severity": "warning", "fingerprint": "f"},
        {"check_id": "dead-tuples", "severity": "warning"}]', '{}')"#;
    assert_eq!(json_of(&watch.client, unknown).await, counts(0, 0, 0, 0, 0));
    for call in [
        "'{}', '{}'",
        "'[1]', '{}'",
        "null, '{}'",
        "'[]', null",
        "'[]', '{}', null",
        "'[]', '{}', 'infinity'",
    ] {
        let sql = format!("select monitoring.reconcile({call})");
        let refused = watch.database.psql(SUPERUSER, &sql).expect_err(call);
        assert!(refused.contains("must be a JSON array"), "{refused}");
    }
}
