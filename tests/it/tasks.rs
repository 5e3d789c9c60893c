//! Scheduled work: done once, however often and however oddly it is delivered.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain, supabase};

fn samples(database: &TestDatabase) -> String {
    let count = database.psql(SUPERUSER, "select count(*) from monitoring.samples");
    count.expect("counting samples").trim().to_owned()
}

#[tokio::test]
async fn a_sample_is_one_row_with_its_heartbeat() {
    for cluster in [plain(), supabase()] {
        let database = cluster.database();
        let app = TestApp::new(&database).await;
        let report = app.task(json!({"task": "sample"})).await;
        assert_eq!(
            (&report["status"], &report["task"]),
            (&json!("done"), &json!("sample")),
            "{report}"
        );
        assert_eq!(
            (&report["health_score"], &report["health_status"]),
            (&json!(100), &json!("excellent"))
        );
        assert!(report["duration_ms"].is_u64() && report["metrics"]["total_connections"].is_u64());
        let row = "select health_score, total_connections > 0, sampled_at <= now(), duration_ms > 0 from monitoring.samples";
        assert_eq!(database.psql(SUPERUSER, row).as_deref(), Ok("100|t|t|t\n"));
        let partitions =
            "select count(*) from pg_inherits where inhparent = 'monitoring.samples'::regclass";
        assert_eq!(
            database.psql(SUPERUSER, partitions).as_deref(),
            Ok("2\n"),
            "today's and tomorrow's"
        );
    }
}

/// EventBridge delivers at least once.
#[tokio::test]
async fn a_tick_delivered_twice_is_one_sample() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let now = database.psql(
        SUPERUSER,
        "select to_json(date_trunc('minute', now()) - interval '5 minutes') #>> '{}'",
    );
    let now = now.expect("asking the time").trim().to_owned();
    let envelope =
        json!({"version": "0", "source": "aws.events", "time": now, "detail": {"task": "sample"}});
    let first = app.task(envelope.clone()).await;
    assert_eq!(first["status"], "done", "{first}");
    assert!(first["late_ms"].as_i64() >= Some(300_000), "{first}");
    let second = app.task(envelope).await;
    assert_eq!(
        (&second["status"], &second["reason"]),
        (&json!("skipped"), &json!("this tick has its sample"))
    );
    assert_eq!(samples(&database), "1");
}

#[tokio::test]
async fn overlapping_samples_are_skipped() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let other = database.superuser().await;
    other
        .batch_execute(
            "begin; select from monitoring.migrations where version = '20250825000003' for update",
        )
        .await
        .expect("being another sampler");
    let report = app.task(json!({"task": "sample"})).await;
    assert_eq!(
        (&report["status"], &report["reason"]),
        (&json!("skipped"), &json!("another sample is being taken"))
    );
    other.batch_execute("rollback").await.expect("ending");
    let (one, two) = (TestApp::new(&database).await, TestApp::new(&database).await);
    let event = json!({"task": "sample", "scheduled_at": null});
    let reports = tokio::join!(
        one.task(event.clone()),
        two.task(event.clone()),
        app.task(event)
    );
    let done = [&reports.0, &reports.1, &reports.2]
        .iter()
        .filter(|report| report["status"] == "done")
        .count();
    assert!(done >= 1, "{reports:?}");
    assert_eq!(samples(&database), done.to_string());
}

#[tokio::test]
async fn cleanup_drops_old_samples_by_partition() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    let setup = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from (values (0), (7), (8), (30)) v (d)";
    database.psql(SUPERUSER, setup).expect("making partitions");
    let app = TestApp::new(&database).await;
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        (&report["status"], &report["sample_partitions"]),
        (&json!("done"), &json!(2)),
        "{report}"
    );
    assert_eq!(
        app.task(json!({"task": "cleanup"})).await["sample_partitions"],
        0
    );
    let count = "select count(*) from pg_inherits where inhparent = 'monitoring.samples'::regclass";
    assert_eq!(database.psql(SUPERUSER, count).as_deref(), Ok("2\n"));
}

/// All of it has its retention, and what was removed is told by kind.
#[tokio::test]
async fn cleanup_does_retention_for_all_of_the_history() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    let setup = "
        create function hour(p_ago interval) returns timestamptz language sql as $$ select date_trunc('hour', now(), 'UTC') - p_ago $$;
        create function day(p_ago interval) returns timestamptz language sql as $$ select date_trunc('day', now(), 'UTC') - p_ago $$;
        insert into monitoring.samples_hourly (at, samples) values (hour('89 days'), 1), (hour('91 days'), 1);
        insert into monitoring.samples_half_daily (at, samples) values (day('91 days'), 1);
        insert into monitoring.samples_daily (at, samples) values (day('399 days'), 1), (day('401 days'), 1);
        insert into monitoring.statements_hourly
        select hour(a), 1, '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}' from (values (interval '1 day'), (interval '91 days'), (interval '92 days')) v (a);
        insert into monitoring.statements_daily
        select day(a), 1, '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}' from (values (interval '1 day'), (interval '401 days')) v (a);
        insert into monitoring.changes select now() - a, 'rls', 'public.guests', 'on', 'off' from (values (interval '1 day'), (interval '401 days')) v (a);
        insert into monitoring.statement_texts values (1, 'kept', now()), (2, 'gone', now() - interval '31 days');
        select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - 8);";
    database.psql(SUPERUSER, setup).expect("making a history");
    let app = TestApp::new(&database).await;
    let report = app.task(json!({"task": "cleanup"})).await;
    for (kind, count) in [
        ("sample_partitions", 1),
        ("statement_sample_partitions", 1),
        ("table_sample_partitions", 1),
        ("sample_partitions_postponed", 0),
        ("hourly_points", 4),
        ("daily_points", 2),
        ("changes", 1),
        ("statement_texts", 1),
    ] {
        assert_eq!(report[kind], count, "{kind} in {report}");
    }
    let left = "select (select count(*) from monitoring.samples_hourly), (select count(*) from monitoring.samples_daily),
        (select count(*) from monitoring.statements_hourly), (select count(*) from monitoring.changes)";
    // The hour that went was summed up before.
    assert_eq!(database.psql(SUPERUSER, left).as_deref(), Ok("1|2|1|1\n"));
    // Other retentions are rows, too.
    let shorter = "update monitoring.settings set value = '30' where key in ('hourly_retention_days', 'daily_retention_days')";
    database.psql(SUPERUSER, shorter).expect("setting");
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        (&report["hourly_points"], &report["daily_points"]),
        (&json!(1), &json!(3)),
        "{report}"
    );
}

/// After a pause of the sampler, beside a sample, with a clock that was ahead: no sample goes before it is in its hour and its day.
#[tokio::test]
async fn cleanup_drops_nothing_that_is_not_summed_up() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    let client = database.superuser().await;
    let samples = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(8, 30) d;
        insert into monitoring.samples (tick_at, sampled_at, duration_ms, commits)
        select t, t, 1, 1 from generate_series(date_trunc('day', now(), 'UTC') - interval '30 days',
          date_trunc('day', now(), 'UTC') - interval '7 days 1 minute', interval '5 minutes') t;
        -- Later hours that are summed up, and one that is still to come.
        insert into monitoring.samples_hourly (at, samples) values (date_trunc('hour', now()) - interval '1 day', 1), (date_trunc('hour', now()) + interval '2 days', 1)";
    client.batch_execute(samples).await.expect("a history");
    let app = TestApp::new(&database).await;
    let sampler = database.superuser().await;
    let sampling = "begin; select from monitoring.migrations where version = '20250825000003' for no key update";
    sampler.batch_execute(sampling).await.expect("sampling");
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        (
            &report["sample_partitions"],
            &report["sample_partitions_postponed"],
            &report["complete"]
        ),
        // Nor the statements of the same days, which are summed up with them.
        (&json!(0), &json!(46), &json!(false)),
        "{report}"
    );
    sampler.batch_execute("rollback").await.expect("ending");
    // Ten days' worth at a time.
    for (dropped, postponed) in [(10, 26), (10, 6), (3, 0)] {
        let report = app.task(json!({"task": "cleanup"})).await;
        assert_eq!(
            (
                &report["sample_partitions"],
                &report["sample_partitions_postponed"]
            ),
            (&json!(dropped), &json!(postponed)),
            "{report}"
        );
    }
    let sums = "select sum(samples)::int, min(samples), max(samples) from monitoring.";
    for (of, expected) in [
        ("samples_hourly where samples > 1", "6624|12|12\n"),
        ("samples_daily", "6624|288|288\n"),
    ] {
        let sums = database.psql(SUPERUSER, &format!("{sums}{of}"));
        assert_eq!(sums.as_deref(), Ok(expected), "{of}");
    }
}

/// What cannot be removed, for whatever reason, is named, and costs the rest nothing.
#[tokio::test]
async fn what_cannot_be_removed_costs_a_cleanup_nothing_else() {
    let database = plain().database();
    database.keep_clear_of_the_end_of("day");
    let setup = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - 9);
        do $$ begin execute format('create view somebodys as select * from monitoring.samples_%s', to_char((now() at time zone 'UTC')::date - 9, 'YYYYMMDD')); end $$;
        insert into public.monitoring_events (event_type, event_data, severity, resolved_at)
        select 'slow_query', '{}', 'low', now() - interval '60 days' from generate_series(1, 300);
        create table refers (event uuid references public.monitoring_events deferrable initially deferred);
        insert into refers select id from public.monitoring_events limit 1;
        create function refuse() returns trigger language plpgsql as $$ begin raise exception 'kept for the auditors'; end $$;
        create trigger keep before delete on monitoring.changes for each statement execute function refuse();
        insert into monitoring.statement_texts values (2, 'gone', now() - interval '31 days')";
    database.psql(SUPERUSER, setup).expect("setting up");
    let app = TestApp::new(&database).await;
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        report["failed"],
        json!({"events": "23503", "history": "P0001"}),
        "{report}"
    );
    assert_eq!(
        (
            &report["complete"],
            &report["resolved_events"],
            &report["statement_texts"],
            &report["sample_partitions_postponed"],
            &report["statement_sample_partitions"]
        ),
        (&json!(false), &json!(299), &json!(1), &json!(1), &json!(1)),
        "{report}"
    );
    let mended = "drop view somebodys; drop table refers; drop trigger keep on monitoring.changes";
    database.psql(SUPERUSER, mended).expect("mending");
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        (
            &report["failed"],
            &report["complete"],
            &report["resolved_events"],
            &report["sample_partitions"]
        ),
        (&json!({}), &json!(true), &json!(1), &json!(1)),
        "{report}"
    );
}

/// Dropping a partition waits behind one idle reader, and every insert waits behind the drop.
#[tokio::test]
async fn a_partition_in_use_is_left_for_the_next_cleanup() {
    let database = plain().database();
    database
        .psql(
            SUPERUSER,
            "select monitoring.ensure_sample_partition(current_date - 30)",
        )
        .expect("making a partition");
    let reader = database.superuser().await;
    reader
        .batch_execute("begin; select * from monitoring.samples")
        .await
        .expect("reading samples");
    let app = TestApp::new(&database).await;
    let report = app.task(json!({"task": "cleanup"})).await;
    assert_eq!(
        (&report["sample_partitions_postponed"], &report["complete"]),
        (&json!(1), &json!(false)),
        "{report}"
    );
    reader.batch_execute("rollback").await.expect("ending");
    assert_eq!(
        app.task(json!({"task": "cleanup"})).await["sample_partitions"],
        1
    );
}

/// Somebody repacks or restores one of our own tables: the rest is cleaned up all the same.
#[tokio::test]
async fn what_is_locked_is_left_for_the_next_cleanup() {
    let database = plain().database();
    let expire = "insert into monitoring_events (event_type, event_data, resolved_at) values ('slow_query', '{}', now() - interval '60 days');
        insert into monitoring.statement_texts values (1, 'gone', now() - interval '31 days');
        insert into monitoring.samples_hourly (at, samples) values (date_trunc('hour', now()) - interval '91 days', 1);
        insert into monitoring.outbox (detail_type, dedup_key, detail, published_at) values ('pgvigil.test', gen_random_uuid()::text, '{}', now() - interval '8 days')";
    let holder = database.superuser().await;
    let app = TestApp::new(&database).await;
    for (table, kind, count) in [
        ("public.monitoring_events", "events", "resolved_events"),
        (
            "monitoring.statement_texts",
            "statement_texts",
            "statement_texts",
        ),
        ("monitoring.outbox", "announcements", "announcements"),
        ("monitoring.samples_hourly", "history", "hourly_points"),
    ] {
        database
            .psql(SUPERUSER, expire)
            .expect("making what is expired");
        let lock = format!("begin; lock table {table} in access exclusive mode");
        holder.batch_execute(&lock).await.expect("locking");
        let report = app.task(json!({"task": "cleanup"})).await;
        assert_eq!(
            (&report["locked"], &report["complete"]),
            (&json!([kind]), &json!(false)),
            "{table}: {report}"
        );
        for other in [
            "resolved_events",
            "statement_texts",
            "announcements",
            "hourly_points",
        ] {
            assert_eq!(
                report[other].as_u64() > Some(0),
                other != count,
                "{other} beside {table}: {report}"
            );
        }
        holder.batch_execute("rollback").await.expect("letting go");
        let report = app.task(json!({"task": "cleanup"})).await;
        assert!(report[count].as_u64() > Some(0), "{table}: {report}");
        assert_eq!(
            (&report["locked"], &report["complete"]),
            (&json!([]), &json!(true)),
            "{table}: {report}"
        );
    }
}

#[tokio::test]
async fn overlapping_cleanups_are_skipped() {
    let database = plain().database();
    let other = database.superuser().await;
    other
        .batch_execute(
            "begin; select from monitoring.migrations where version = '20250825000002' for update",
        )
        .await
        .expect("being another clean-up");
    let report = TestApp::new(&database)
        .await
        .task(json!({"task": "cleanup"}))
        .await;
    assert_eq!(report["status"], "skipped", "{report}");
}

#[tokio::test]
async fn what_is_no_task_is_a_clear_error() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for (event, kind, hint) in [
        (json!({}), "UnknownEvent", "\"task\""),
        (json!([1]), "UnknownEvent", "JSON object"),
        (json!("sample"), "UnknownEvent", "JSON object"),
        (
            json!({"task": "sampel"}),
            "UnknownTask",
            "sample, cleanup, validate, migrate, rollback",
        ),
        (json!({"task": ["sample"]}), "UnknownEvent", "string"),
        (
            json!({"detail": {"job": "sample"}}),
            "UnknownEvent",
            "give the rule or schedule that input",
        ),
        (
            json!({"task": "sample", "target": "other"}),
            "BadTask",
            "\"other\", and no such database is configured: must be one of default",
        ),
        (json!({"task": "sample", "target": 5}), "BadTask", "target"),
        (
            json!({"task": "rollback", "confirm": "x", "discard_event": true}),
            "BadTask",
            "discard_event",
        ),
        (
            json!({"task": "sample", "scheduled_at": "soon"}),
            "BadTask",
            "scheduled_at",
        ),
    ] {
        let error = app
            .invoke(&event)
            .await
            .expect_err("an event that is no task");
        assert_eq!(error.error_type, kind, "{event}: {error:?}");
        assert!(error.error_message.contains(hint), "{event}: {error:?}");
    }
    assert_eq!(
        app.task(json!({"task": "sample"})).await["status"],
        "done",
        "the next one works"
    );
}

#[tokio::test]
async fn migrate_without_its_own_secret_says_so() {
    let database = plain().database();
    let url = database.url_for("pgvigil");
    let app = TestApp::exactly(&[("DATABASE_URL", &url), ("DATABASE_TLS", "disable")]).await;
    for event in [
        json!({"task": "migrate"}),
        json!({"task": "rollback", "confirm": database.name}),
    ] {
        let error = app
            .invoke(&event)
            .await
            .expect_err("no login to migrate with");
        assert!(
            error.error_message.contains("MIGRATION_SECRET_ID"),
            "{error:?}"
        );
    }
    assert_eq!(
        app.task(json!({"task": "sample"})).await["status"],
        "done",
        "a URL on loopback is enough for the rest"
    );
}

/// The report's numbers are the summary's: nothing is computed twice.
#[tokio::test]
async fn the_sample_and_the_summary_agree() {
    let database = plain().database();
    database
        .psql(
            SUPERUSER,
            "create table open_to_all (id int); grant select on open_to_all to public",
        )
        .expect("creating a table");
    let report = TestApp::new(&database)
        .await
        .task(json!({"task": "sample"}))
        .await;
    let summary = database
        .psql(SUPERUSER, "select get_database_monitoring_summary()")
        .expect("asking for the summary");
    let summary: Value = serde_json::from_str(&summary).expect("parsing the summary");
    assert_eq!(report["health_score"], summary["health_score"]);
    for metric in ["high_risk_tables", "findings", "unresolved_events"] {
        assert_eq!(
            report["metrics"][metric], summary["metrics"][metric],
            "{metric}"
        );
    }
}

/// Its own tick is gone: what is taken is the sample of now, and the report says how late it is.
#[tokio::test]
async fn a_tick_that_comes_days_late_is_a_sample_of_now() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for time in ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        let report = app
            .task(json!({"time": time, "detail": {"task": "sample"}}))
            .await;
        assert!(
            report["late_ms"].is_i64() || report["status"] == "skipped",
            "{report}"
        );
    }
    let now =
        "select count(*) from monitoring.samples where tick_at > now() - interval '2 minutes'";
    let now = database.psql(SUPERUSER, now).expect("counting samples");
    assert_eq!(now.trim(), samples(&database));
}
