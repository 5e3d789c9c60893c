//! Costly parts have turns, budgets and failures of their own; the heartbeat has none of these.

use tokio_postgres::Client;

use super::{agent, execute, reason, sample, text};
use crate::support::postgres::{Cluster, ClusterOptions, plain};

#[tokio::test]
async fn a_failing_part_costs_only_itself_and_is_tried_again_later_and_later() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    sample(&agent, 58).await;
    execute(
        &client,
        "alter table monitoring.statement_samples rename to gone",
    )
    .await;
    let report = sample(&agent, 57).await;
    let why = reason(&report, "statements").unwrap_or_default();
    assert!(
        why.contains("42P01") && why.contains("statement_samples"),
        "{report}"
    );
    assert!(
        report["parts_ms"]["texts"].is_number() || reason(&report, "texts").is_some(),
        "the others go on: {report}"
    );
    let stored = "select skipped::text from monitoring.samples order by tick_at desc limit 1";
    assert!(
        text(&client, stored)
            .await
            .is_some_and(|skipped| skipped.contains("42P01")),
        "the sample says so"
    );

    // After the first failure two minutes, then four.
    let report = sample(&agent, 56).await;
    let why = reason(&report, "statements").unwrap_or_default();
    assert!(
        why.starts_with("failed 1 times, tried again at "),
        "{report}"
    );
    let report = sample(&agent, 55).await;
    assert!(
        reason(&report, "statements")
            .is_some_and(|why| why.contains("42P01") && !why.starts_with("failed")),
        "{report}"
    );
    for minutes_ago in [54, 53, 52] {
        let report = sample(&agent, minutes_ago).await;
        let why = reason(&report, "statements").unwrap_or_default();
        assert!(why.starts_with("failed 2 times"), "{minutes_ago}: {report}");
    }
    execute(
        &client,
        "alter table monitoring.gone rename to statement_samples",
    )
    .await;
    let report = sample(&agent, 51).await;
    assert_eq!(reason(&report, "statements"), None, "{report}");
    assert!(report["parts_ms"]["statements"].is_number());
    let failures = "select failures from monitoring.sampler_parts where part = 'statements'";
    assert_eq!(text(&client, failures).await.as_deref(), Some("0"));
}

/// A time limit that took the sample with it would take every sample after it.
#[tokio::test]
async fn a_cancelled_part_does_not_take_the_heartbeat_with_it() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(
        &client,
        "set role monitoring_owner; create or replace function monitoring.roll_up() returns void language sql as 'select pg_sleep(600)'; reset role",
    )
    .await;
    execute(&agent, "set statement_timeout = '4s'").await;
    let report = sample(&agent, 30).await;
    execute(&agent, "reset statement_timeout").await;
    assert!(
        reason(&report, "rollup").is_some_and(|why| why.starts_with("cancelled after ")),
        "{report}"
    );
    assert_eq!(
        reason(&report, "statements").as_deref(),
        Some("the time was used up by rollup"),
        "{report}"
    );
    assert!(report["health_score"].is_number());
    assert_eq!(
        text(&client, "select count(*) from monitoring.samples")
            .await
            .as_deref(),
        Some("1")
    );
    let report = sample(&agent, 29).await;
    assert!(
        reason(&report, "rollup").is_some_and(|why| why.starts_with("failed 1 times")),
        "{report}"
    );
    assert_eq!(
        reason(&report, "statements"),
        None,
        "the others have their turn again: {report}"
    );
}

/// A time limit strikes once in a statement. What has caught it must not go on without one.
#[tokio::test]
async fn after_the_time_limit_nothing_more_is_begun() {
    let slow_look = "create or replace function monitoring.look_at_settings() returns setof monitoring.watched language plpgsql
        as $$ begin perform pg_sleep(600); end $$";
    let slow_check = "create or replace function monitoring.check_multixact_age() returns setof monitoring.candidate language plpgsql
        as $$ begin perform pg_sleep(600); end $$";
    // Both would be too slow; only the first is begun.
    let cases: [(&[&str], &str, &str, &str); 2] = [
        (
            &[slow_look, slow_check],
            "changes",
            "judgement",
            "the time was used up by changes",
        ),
        (
            &[slow_check],
            "judgement",
            "rollup",
            "the time was used up by the judgement",
        ),
    ];
    for (slow, first, next, why_not) in cases {
        let database = plain().database();
        let (agent, client) = (agent(&database).await, database.superuser().await);
        for function in slow {
            execute(
                &client,
                &format!("set role monitoring_owner; {function}; reset role"),
            )
            .await;
        }
        execute(&agent, "set statement_timeout = '5s'").await;
        let report = sample(&agent, 30).await;
        assert!(
            reason(&report, first).is_some_and(|why| why.starts_with("cancelled")),
            "{report}"
        );
        for part in [next, "statements", "tables"] {
            assert_eq!(reason(&report, part).as_deref(), Some(why_not), "{report}");
        }
        assert!(
            report["health_score"].is_null(),
            "what was not judged is not healthy: {report}"
        );
        let kept = "select count(*) from monitoring.samples where active_sessions is not null";
        assert_eq!(text(&client, kept).await.as_deref(), Some("1"));
    }
}

/// The cheap part takes so many seconds more.
async fn slow_down(client: &Client, seconds: f64) {
    let slow = format!(
        "set role monitoring_owner; create or replace function monitoring.check_multixact_age() returns setof monitoring.candidate \
         language plpgsql as $$ begin perform pg_sleep({seconds}); end $$; reset role"
    );
    execute(client, &slow).await;
}

/// Or a large database would never be remembered on a machine where reading it takes long.
#[tokio::test]
async fn what_makes_the_next_sample_cheaper_does_not_wait_for_a_cheap_one() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    // Over ten times this budget, however fast the machine is.
    slow_down(&client, 0.05).await;
    execute(&client, "update monitoring.settings set value = case key when 'sample_budget_ms' then '1' else '0' end::jsonb \
        where key in ('sample_budget_ms', 'remember_from_relations')").await;
    let report = sample(&agent, 30).await;
    for part in ["remember", "table_checks"] {
        assert!(report["parts_ms"][part].is_number(), "{part}: {report}");
    }
    assert!(
        reason(&report, "statements").is_some_and(|why| why.starts_with("the cheap part took ")),
        "{report}"
    );
}

/// Or where the cheap part never is there would be no history of statements and tables, for ever.
#[tokio::test]
async fn a_part_that_had_no_turn_for_an_hour_has_one_however_slow_the_rest() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    slow_down(&client, 0.05).await;
    execute(
        &client,
        "update monitoring.settings set value = '1' where key = 'sample_budget_ms'",
    )
    .await;
    let shed = ["checks", "statements", "texts", "tables", "size"];
    let report = sample(&agent, 30).await;
    for part in shed {
        assert!(report["parts_ms"][part].is_null(), "{part}: {report}");
    }
    execute(
        &client,
        "select monitoring.ensure_sample_partition(((now() - interval '2 hours') at time zone 'UTC')::date); \
         insert into monitoring.samples (tick_at, sampled_at, duration_ms) select t, t, 1 from (select now() - interval '2 hours') v (t)",
    )
    .await;
    for (minutes_ago, part) in (25..30).rev().zip(shed) {
        let report = sample(&agent, minutes_ago).await;
        for other in shed {
            assert_eq!(
                report["parts_ms"][other].is_number(),
                other == part,
                "{other} at the turn of {part}: {report}"
            );
        }
    }
    let report = sample(&agent, 24).await;
    for part in shed {
        assert!(report["parts_ms"][part].is_null(), "{part}: {report}");
    }
    // More than all parts together may take: that is not theirs.
    slow_down(&client, 5.2).await;
    execute(
        &client,
        "update monitoring.sampler_parts set last_tick_at = last_tick_at - interval '2 hours', next_at = null",
    )
    .await;
    let report = sample(&agent, 23).await;
    assert!(report["parts_ms"]["checks"].is_number(), "{report}");
}

/// Somebody repacks or restores one of our own tables: what was seen is kept.
#[tokio::test]
async fn a_table_that_is_locked_does_not_take_the_heartbeat_with_it() {
    for (table, tick, part, why) in [
        ("samples_hourly", "now()", "rollup", "canceling statement"),
        // Its hour is summed up again.
        (
            "statements_hourly",
            "(to_timestamp(floor(extract(epoch from now()) / 3600) * 3600) - interval '20 seconds')",
            "rollup",
            "the hour of a late tick: canceling statement",
        ),
        ("outbox", "now()", "", ""),
    ] {
        let database = plain().database();
        database.keep_clear_of_the_end_of("hour");
        let (agent, client) = (agent(&database).await, database.superuser().await);
        if tick != "now()" {
            let of_the_hour_before = "select monitoring.ensure_sample_partition((now() at time zone 'UTC')::date - d) from generate_series(0, 1) d;
                insert into monitoring.samples (tick_at, sampled_at, duration_ms)
                select t, t, 1 from (select date_trunc('hour', now()) - m * interval '90 seconds' as t from generate_series(1, 3) m) s";
            execute(&client, of_the_hour_before).await;
            sample(&agent, 0).await;
        }
        execute(&agent, "set lock_timeout = '100ms'").await;
        execute(
            &client,
            &format!("begin; lock table monitoring.{table} in access exclusive mode"),
        )
        .await;
        let taken = format!("select monitoring.sample({tick})::text");
        let report = text(&agent, &taken).await.expect("sampling");
        let report: serde_json::Value = serde_json::from_str(&report).expect("reading a report");
        assert_eq!(report["status"], "done", "{table}: {report}");
        let skipped = report["skipped"].as_array().expect("what was left out");
        assert!(
            part.is_empty()
                || skipped.iter().any(|left| left["part"] == part
                    && left["reason"]
                        .as_str()
                        .is_some_and(|reason| reason.starts_with(why))),
            "{table}: {report}"
        );
        let after = "select monitoring.after_sample(now(), now(), now() + interval '1 minute', 'default', null)::text";
        let after = text(&agent, after).await.expect("asking what follows");
        assert_eq!(
            after.contains("\"left\": null"),
            table == "outbox",
            "{after}"
        );
        execute(&client, "rollback").await;
        let kept = format!(
            "select coalesce(skipped, '[]')::text from monitoring.samples where tick_at = '{}'",
            report["tick_at"].as_str().expect("a tick")
        );
        let kept = text(&client, &kept).await.expect("the sample");
        let kept: serde_json::Value =
            serde_json::from_str(&kept).expect("reading what was left out");
        assert_eq!(kept, report["skipped"], "{table}");
    }
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    let broken = "set role monitoring_owner; create or replace function monitoring.sample_metrics(p_sample monitoring.samples, p_seen jsonb) \
        returns jsonb language plpgsql as $$ begin raise division_by_zero; end $$; reset role";
    execute(&client, broken).await;
    let report = sample(&agent, 0).await;
    assert!(
        report["metrics"].is_null()
            && reason(&report, "metrics").is_some_and(|why| why.contains("22012")),
        "{report}"
    );
}

/// Without `pg_read_all_stats` nobody's statements but our own have an identity. When they have it again, what they did before is
/// nothing new.
#[tokio::test]
async fn statements_that_could_not_be_seen_are_not_new_afterwards() {
    let cluster = Cluster::start(ClusterOptions {
        // So that there is a statement of the owner's, which remains to be seen.
        settings: "pg_stat_statements.track = 'all'\n",
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(
        &client,
        "update monitoring.settings set value = '10000' where key = 'sample_budget_ms'",
    )
    .await;
    let at_work = "create table if not exists guests (id int); \
        select count(*) from generate_series(1, 300000) n left join guests on id = n";
    execute(&client, at_work).await;
    let told = "select count(*) from monitoring.statement_samples s, unnest(s.query_ids, s.calls_before) as q (query_id, calls_before) \
        where q.calls_before is null and exists (select from pg_stat_statements(true) p where p.queryid = q.query_id and p.query like '%left join guests%')";
    sample(&agent, 30).await;
    sample(&agent, 29).await;
    execute(&client, "revoke pg_monitor from monitoring_owner").await;
    sample(&agent, 28).await;
    execute(&client, "grant pg_monitor to monitoring_owner").await;
    for minutes_ago in [27, 26] {
        execute(&client, at_work).await;
        let report = sample(&agent, minutes_ago).await;
        assert!(report["parts_ms"]["statements"].is_number(), "{report}");
    }
    assert_eq!(text(&client, told).await.as_deref(), Some("0"));
    let counted = "select count(*) from monitoring.statement_samples s, unnest(s.query_ids, s.calls_before) as q (query_id, calls_before) \
        where q.calls_before is not null and exists (select from pg_stat_statements(true) p where p.queryid = q.query_id and p.query like '%left join guests%')";
    assert_eq!(
        text(&client, counted).await.as_deref(),
        Some("1"),
        "from the second look on it is compared"
    );
}

#[tokio::test]
async fn what_costs_more_than_its_share_is_done_less_often() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(
        &client,
        "update monitoring.settings set value = '1' where key = 'sample_budget_ms'",
    )
    .await;
    execute(
        &client,
        "update monitoring.sampler_parts set budget_share = 0.0001",
    )
    .await;
    // The cheap part itself is over ten times this budget.
    execute(
        &client,
        "update monitoring.sampler_parts set budget_share = null where part = 'statements'",
    )
    .await;
    let report = sample(&agent, 30).await;
    assert!(report["parts_ms"]["statements"].is_number(), "{report}");
    execute(&client, "update monitoring.sampler_parts set budget_share = 0.0001 where part = 'statements'; update monitoring.settings set value = '10000' where key = 'sample_budget_ms'").await;
    let report = sample(&agent, 29).await;
    assert!(report["parts_ms"]["statements"].is_number(), "{report}");
    execute(&client, "update monitoring.sampler_parts set cost_ms = 4000, next_at = last_tick_at + interval '4 minutes' where part = 'statements'").await;
    for minutes_ago in [28, 27, 26] {
        let report = sample(&agent, minutes_ago).await;
        let why = reason(&report, "statements").unwrap_or_default();
        assert!(
            why.starts_with("takes 4000 ms, its turn is at "),
            "{minutes_ago}: {report}"
        );
    }
    assert!(sample(&agent, 25).await["parts_ms"]["statements"].is_number());
    // By its cost: of a budget of 10 s a minute a ten-thousandth is 1 ms a minute, less what the cheap part took of it.
    let cost = "select extract(epoch from next_at - last_tick_at) between greatest(60, 60 * cost_ms) - 1 and greatest(60, 240 * cost_ms) + 1 \
        from monitoring.sampler_parts where part = 'statements'";
    assert_eq!(text(&client, cost).await.as_deref(), Some("true"));
}

/// What a sample does not remember of a table it looks up by index, with nested loops forbidden as they are where samples are compared.
#[tokio::test]
async fn the_catalog_is_not_read_once_for_each_table() {
    let database = plain().database();
    let client = database.superuser().await;
    let tables = "do $$ begin for n in 1..200 loop execute format('create table guests_%s (id int primary key, name text)', n); end loop; end $$";
    execute(&client, tables).await;
    execute(&client, "begin").await;
    let scans = "select pg_stat_get_xact_numscans('pg_class'::regclass)";
    let before = text(&client, scans).await;
    execute(&client, "select monitoring.sample_tables(now(), null)").await;
    let more = format!("{scans} - {}", before.unwrap_or_default());
    let more: i64 = text(&client, &more)
        .await
        .and_then(|more| more.parse().ok())
        .expect("counting scans");
    assert!((1..20).contains(&more), "{more} scans of pg_class");
    let kept = "select count(*) from monitoring.table_counters";
    let kept = text(&client, kept).await.and_then(|kept| kept.parse().ok());
    assert!(kept >= Some(200), "{kept:?} tables");
    execute(&client, "rollback").await;
}

/// What they answered is told for three hours, of a small database for sixteen minutes; what comes after that would be with every sample.
#[tokio::test]
async fn checks_have_their_turn_before_their_answers_are_too_old() {
    for (remember_from, every_seconds, minutes) in [
        (1_000_000, 900, "15"),
        (0, 900, "178"),
        // What an operator wants less often still is less often.
        (0, 14_400, "240"),
        (1_000_000, 14_400, "240"),
    ] {
        let database = plain().database();
        let (agent, client) = (agent(&database).await, database.superuser().await);
        let costly = format!(
            "update monitoring.sampler_parts set budget_share = 0.000000001 where budget_share is not null;
             update monitoring.sampler_parts set every_seconds = {every_seconds} where part like '%checks';
             update monitoring.settings set value = '{remember_from}' where key = 'remember_from_relations'"
        );
        execute(&client, &costly).await;
        sample(&agent, 30).await;
        for (part, expected) in [
            ("checks", minutes),
            ("table_checks", minutes),
            ("size", "true"),
        ] {
            let turn = match part {
                "size" => "extract(epoch from next_at - last_tick_at) / 60 > 180",
                _ => "extract(epoch from next_at - last_tick_at)::int / 60",
            };
            let turn = format!("select {turn} from monitoring.sampler_parts where part = '{part}'");
            assert_eq!(
                text(&client, &turn).await.as_deref(),
                Some(expected),
                "{part} of {remember_from}, {every_seconds}"
            );
        }
    }
}

/// Above 90 percent of the connections a sample is a heartbeat and little more.
#[tokio::test]
async fn a_server_in_trouble_is_asked_for_less() {
    let cluster = Cluster::start(ClusterOptions {
        max_connections: 20,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    sample(&agent, 30).await;
    let mut taken = Vec::new();
    while taken.len() < 15 {
        taken.push(database.superuser().await);
    }
    let report = sample(&agent, 29).await;
    for part in ["remember", "statements"] {
        let why = reason(&report, part).unwrap_or_default();
        assert!(
            why.ends_with(" percent of the connections are taken"),
            "{part}: {report}"
        );
    }
    assert!(
        report["parts_ms"]["changes"].is_number(),
        "what must not wait does not: {report}"
    );
    assert!(report["metrics"]["connection_utilization_percent"].as_f64() > Some(90.0));
    drop(taken);
    super::statistics_arrive(
        &client,
        "select count(*) < 10 from pg_stat_activity where backend_type = 'client backend'",
    )
    .await;
    let report = sample(&agent, 28).await;
    assert_eq!(reason(&report, "statements"), None, "{report}");
}

/// They were read a moment before, and what is told of the last hour goes up to them.
#[tokio::test]
async fn a_sample_is_judged_by_the_counters_that_it_keeps() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    let asked_again = "set role monitoring_owner; \
        create or replace function monitoring.counters_now() returns monitoring.samples language plpgsql \
        as $$ begin raise division_by_zero; end $$; reset role";
    execute(&client, asked_again).await;
    sample(&agent, 30).await;
    let failed =
        "select count(*) from monitoring_events where event_data ->> 'check_id' = 'check-failed'";
    assert_eq!(text(&client, failed).await.as_deref(), Some("0"));
    // Who takes no sample asks.
    let failed = "select string_agg(object, ' ' order by object) from monitoring.findings() where check_id = 'check-failed'";
    assert_eq!(
        text(&client, failed).await.as_deref(),
        Some("cache-misses deadlocks frequent-checkpoints temp-files")
    );
}

/// Who judges may fail: what was seen is kept.
#[tokio::test]
async fn a_sample_without_a_judgement_is_still_a_heartbeat() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    execute(&client, "alter table monitoring.thresholds rename to gone").await;
    let report = sample(&agent, 10).await;
    assert!(
        reason(&report, "judgement").is_some_and(|why| why.contains("42P01")),
        "{report}"
    );
    assert!(
        report["health_score"].is_null() && report["metrics"]["active_sessions"].is_number(),
        "{report}"
    );
    let row = "select health_score is null and active_sessions is not null from monitoring.samples";
    assert_eq!(text(&client, row).await.as_deref(), Some("true"));
}

/// A clock that was ahead for a while leaves turns behind that are far off. Nobody waits for those.
#[tokio::test]
async fn a_clock_that_was_ahead_costs_no_part_its_turn() {
    let database = plain().database();
    let (agent, client) = (agent(&database).await, database.superuser().await);
    sample(&agent, 5).await;
    execute(
        &client,
        "update monitoring.sampler_parts set next_at = next_at + interval '2 days', last_tick_at = last_tick_at + interval '2 days',
           last_at = last_at + interval '2 days';
         insert into monitoring.samples_hourly (at, samples) values (date_trunc('hour', now()) + interval '2 days', 1), (date_trunc('hour', now()), 1)",
    )
    .await;
    let report = sample(&agent, 4).await;
    let parts = report["parts_ms"].as_object().map(|parts| parts.len());
    assert_eq!(parts, Some(9), "{report}");
    assert_eq!(report["skipped"], serde_json::json!([]), "{report}");
    let ahead =
        "select count(*) from monitoring.samples_hourly where at >= date_trunc('hour', now())";
    assert_eq!(text(&client, ahead).await.as_deref(), Some("0"));
    let report = sample(&agent, 3).await;
    let parts = report["parts_ms"].as_object().map(|parts| parts.len());
    assert!(parts < Some(9), "turns are as they were: {report}");
}
