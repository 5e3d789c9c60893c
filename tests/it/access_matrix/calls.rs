//! What every function is called with, and what every table holds. The two lists to extend with a new object.

/// Arguments with which a call works and harms nothing, for each function that has parameters. A function may stand here
/// more than once; then its lines in the files name the arguments.
pub(super) const CALLS: &[(&str, &str)] = &[
    (
        "public.record_monitoring_event(text, jsonb, text, inet, text)",
        "'performance_alert', '{}'",
    ),
    ("monitoring.authorize(text)", "'read'"),
    ("monitoring.companion_pages(oid, oid)", "0, 0"),
    (
        "monitoring.estimated_pages(integer, real, bigint, integer)",
        "0, 0, 0, 4",
    ),
    ("monitoring.catalog_writes(regclass[])", "'pg_class'"),
    ("monitoring.degraded(text)", "null"),
    ("monitoring.blind_spots(text)", "null"),
    ("monitoring.is_off(text)", "'track_counts'"),
    ("monitoring.first_names(jsonb)", "'[]'"),
    // A catalog that none of these calls writes to: of one that was, a session knows until it has reported it, which is
    // sooner or later.
    ("monitoring.has_written(regclass[])", "'pg_am'"),
    (
        "monitoring.delete_events(text, timestamptz, timestamptz)",
        "'true or resolved_at', now(), now()",
    ),
    ("monitoring.ensure_sample_partition(date)", "'2001-01-01'"),
    ("monitoring.health_score(jsonb)", "'[]'"),
    ("monitoring.holds_while(text)", "'companions'"),
    (
        "monitoring.is_application_schema(name, name[])",
        "'public', null",
    ),
    (
        "monitoring.compares_constant_with_itself(text)",
        "'{OPEXPR'",
    ),
    ("monitoring.is_remembered(text)", "'companions'"),
    ("monitoring.locks(integer)", "1"),
    (
        "monitoring.make_private(text[])",
        "'table public.monitoring_connections'",
    ),
    ("monitoring.may(text)", "'read'"),
    ("monitoring.may(text)", "'record'"),
    ("monitoring.may(text)", "'resolve'"),
    ("monitoring.may(text)", "'operate'"),
    ("monitoring.may(text)", "'anything'"),
    ("monitoring.reachers(oid, oid, oid[])", "0, 10, null"),
    ("monitoring.redact(text)", "'select 1'"),
    (
        "monitoring.resolve_event(uuid, text)",
        "'00000000-0000-4000-8000-000000000001'",
    ),
    ("monitoring.has_turn(text, text)", "'GET', 'one'"),
    ("monitoring.require_turn(text, text)", "'GET', 'one'"),
    ("monitoring.take_turn(text, text)", "'GET', 'one'"),
    ("monitoring.holds_own(text)", "'monitoring_connections'"),
    ("monitoring.is_legible(text)", "'x'"),
    ("monitoring.is_true_anyway(text)", "'x'"),
    ("monitoring.legible(text)", "'x'"),
    ("monitoring.may_become(oid, oid)", "null, null"),
    ("monitoring.may_do(oid, oid, text)", "null, null, null"),
    ("monitoring.role_name(oid)", "null"),
    ("monitoring.rls_kinds(integer)", "1"),
    (
        "monitoring.record_event(text, jsonb, text, inet, text)",
        "'performance_alert', '{}', 'low', null, null",
    ),
    ("monitoring.rls_status(integer)", "1"),
    ("monitoring.sample(timestamptz)", "now()"),
    (
        "monitoring.schema_users(oid[])",
        "array['monitoring'::regnamespace]",
    ),
    ("monitoring.setting(text)", "'exposed_schemas'"),
    ("monitoring.setting_list(text)", "'exposed_schemas'"),
    ("monitoring.slow_queries(integer)", "1"),
    (
        "monitoring.slow_sessions(integer, monitoring.seen_backend[])",
        "1, '{}'",
    ),
    ("monitoring.lock_trees(monitoring.seen_backend[])", "'{}'"),
    ("monitoring.maintaining(monitoring.seen_backend[])", "'{}'"),
    (
        "monitoring.connections_of(monitoring.seen_backend[])",
        "'{}'",
    ),
    (
        "monitoring.collect_sample(monitoring.seen_backend[])",
        "'{}'",
    ),
    ("monitoring.statements(integer)", "1"),
    ("monitoring.table_health(integer)", "1"),
    ("monitoring.trends(interval)", "'1 hour'"),
    (
        "monitoring.activity(timestamptz, timestamptz)",
        "now() - interval '1 hour', now()",
    ),
    (
        "monitoring.statement_activity(timestamptz, timestamptz)",
        "now() - interval '1 hour', now()",
    ),
    (
        "monitoring.table_activity(timestamptz, timestamptz)",
        "now() - interval '1 hour', now()",
    ),
    (
        "monitoring.sum_up(integer, timestamptz, timestamptz, bigint)",
        "0, now() - interval '1 hour', now(), 60",
    ),
    (
        "monitoring.roll_up_again(timestamptz)",
        "'2025-06-07 20:31+00'",
    ),
    (
        "monitoring.roll_up_hour(timestamptz)",
        "'2025-06-07 20:00+00'",
    ),
    (
        "monitoring.roll_up_day(timestamptz)",
        "'2025-06-07 00:00+00'",
    ),
    (
        "monitoring.sample_metrics(monitoring.samples, jsonb)",
        "null, '{}'",
    ),
    (
        "monitoring.sample_statements(timestamptz, timestamptz)",
        "'2025-06-07 20:31+00', null",
    ),
    (
        "monitoring.sample_tables(timestamptz, timestamptz)",
        "'2025-06-07 20:31+00', null",
    ),
    ("monitoring.look_at_watched(integer, boolean)", "null"),
    ("monitoring.note_changes(jsonb)", "null"),
    (
        "monitoring.note_differences(text[], boolean, monitoring.watched[])",
        "'{rls}', false, '{}'",
    ),
    (
        "monitoring.run_sampler_part(monitoring.sampler_parts, timestamptz, numeric)",
        "row('size', 900, 0.1, null, null, null, null, 0, null, null)::monitoring.sampler_parts, '2025-06-07 20:31+00', 30",
    ),
    (
        "monitoring.judge_sample(timestamptz, monitoring.seen_backend[], monitoring.samples)",
        "'2025-06-07 20:31+00', '{}', null",
    ),
    ("monitoring.health_status(integer)", "100"),
    ("monitoring.windows(integer)", "1"),
    ("monitoring.readiness(uuid)", "null"),
    (
        "monitoring.add_window(timestamptz, timestamptz, text)",
        "now(), now() + interval '1 hour', 'a ceremony'",
    ),
    (
        "monitoring.remove_window(uuid)",
        "'00000000-0000-4000-8000-000000000002'",
    ),
    (
        "monitoring.assess(text, monitoring.seen_backend[], monitoring.samples)",
        "null",
    ),
    ("monitoring.last_hour(monitoring.samples)", "null"),
    ("monitoring.event_type_of(text)", "'tables'"),
    ("monitoring.severity_rank(text)", "'high'"),
    ("monitoring.outbox_batch(integer)", "1"),
    ("monitoring.utc_text(timestamptz)", "'2025-06-07 20:31+00'"),
    (
        "monitoring.next_sample(timestamptz, timestamptz)",
        "null, null",
    ),
    (
        "monitoring.note_return(timestamptz, text, text)",
        "'2025-06-07 20:31+00', 'default', null",
    ),
    (
        "monitoring.after_sample(timestamptz, timestamptz, timestamptz, text, text)",
        "'2025-06-07 20:31+00', null, null, 'default', null",
    ),
    ("monitoring.outbox_mark(jsonb)", "'[]'"),
    (
        "monitoring.reconcile(jsonb, text[], timestamptz)",
        "'[]', '{}', now()",
    ),
    (
        "monitoring.run_checks(text[], monitoring.seen_backend[], monitoring.samples)",
        "'{prepared-transaction}'",
    ),
    (
        "monitoring.set_threshold(text, numeric, numeric)",
        "'dead-tuples', 20, 50",
    ),
    (
        "monitoring.suppress(text, text, timestamptz)",
        "'0123456789abcdef0123456789abcdef', 'a reason', now() + interval '1 day'",
    ),
    (
        "monitoring.unsuppress(text)",
        "'00000000000000000000000000000000'",
    ),
    (
        "monitoring.check_slow_statement(monitoring.seen_statement[])",
        "'{}'",
    ),
    (
        "monitoring.check_blocking_session(monitoring.seen_blocker[])",
        "'{}'",
    ),
    (
        "monitoring.check_idle_in_transaction(monitoring.seen_session[])",
        "'{}'",
    ),
    (
        "monitoring.check_long_transaction(monitoring.seen_session[])",
        "'{}'",
    ),
    (
        "monitoring.check_sequential_scans(monitoring.seen_scanned[])",
        "'{}'",
    ),
    (
        "monitoring.check_connection_utilization(bigint, bigint, numeric)",
        "1, 1, 1",
    ),
    (
        "monitoring.check_dead_tuples(monitoring.seen_table[])",
        "'{}'",
    ),
    (
        "monitoring.check_transaction_id_age(monitoring.seen_table[])",
        "'{}'",
    ),
    (
        "monitoring.check_rls_exposed(monitoring.seen_protection[])",
        "'{}'",
    ),
    (
        "monitoring.check_frequent_checkpoints(monitoring.seen_hour)",
        "null",
    ),
    ("monitoring.check_temp_files(monitoring.seen_hour)", "null"),
    (
        "monitoring.check_cache_misses(monitoring.seen_hour)",
        "null",
    ),
    ("monitoring.check_deadlocks(monitoring.seen_hour)", "null"),
    ("monitoring.check_sampler_gap(timestamptz)", "now()"),
    ("monitoring.check_blind_spot(text[])", "'{}'"),
    ("monitoring.check_check_failed(jsonb)", "'{}'"),
    (
        "monitoring.add_window_rule(text, text[], text, text, text, text, text)",
        "'weddings', '{saturday}', '10:00', '23:00', 'Europe/London'",
    ),
    (
        "monitoring.moment(timestamp without time zone, text, boolean)",
        "'2025-06-07 20:30', 'America/New_York', false",
    ),
    (
        "monitoring.windows_between(timestamptz, timestamptz)",
        "now(), now()",
    ),
    ("monitoring.window_effect(timestamptz)", "now()"),
    ("monitoring.read_calendar(text)", "'business.hours'"),
    ("monitoring.read_member(text, text)", "'a', 'b'"),
    ("monitoring.integer_option(text)", "'10'"),
    ("monitoring.checked_limit(integer)", "10"),
    ("monitoring.look_at_invoked_tables(oid)", "0"),
    ("monitoring.is_security_invoker(text[])", "null"),
    ("monitoring.is_constant_true(text)", "'{CONST '"),
    (
        "monitoring.judge_readiness(jsonb, jsonb, timestamptz)",
        "'{\"findings\": [], \"degraded\": []}', null, now()",
    ),
    ("monitoring.forecasts(timestamptz)", "now()"),
    (
        "monitoring.extrapolate(timestamptz[], double precision[], double precision, timestamptz)",
        "'{}', '{}', 1, now()",
    ),
    ("monitoring.remember_checks(text)", "null"),
    (
        "monitoring.known_windows(timestamptz, timestamptz)",
        "now(), now()",
    ),
    ("monitoring.effective_budgets(boolean)", "false"),
    (
        "monitoring.breaches(text, jsonb, boolean)",
        "'vitals', '{}', false",
    ),
    ("monitoring.breaches_in_words(jsonb)", "'[]'"),
    ("monitoring.token_hash(text)", "'a token'"),
    (
        "monitoring.create_lighthouse_project(text, text, text)",
        "'another project'",
    ),
    ("monitoring.rotate_lighthouse_token(text)", "'a project'"),
    ("monitoring.rotate_vitals_key(text)", "'a project'"),
    ("monitoring.revoke_lighthouse_project(text)", "'a project'"),
    (
        "monitoring.take_ingest_turns(text, integer, integer)",
        "'a bucket', 60, 1",
    ),
    ("monitoring.admit_lighthouse(text, text)", "'a token', null"),
    (
        "monitoring.project_as_told(monitoring.lighthouse_projects)",
        "null",
    ),
    (
        "monitoring.build_as_told(monitoring.lighthouse_builds)",
        "null",
    ),
    (
        "monitoring.run_as_told(monitoring.lighthouse_runs, uuid)",
        "null, null",
    ),
    // By a token that nobody has: the guard of these.
    ("monitoring.lighthouse_project(text, text)", "'no token'"),
    (
        "monitoring.lighthouse_builds(text, text, text, text, integer)",
        "'no token', 'a-project', null, null, 1",
    ),
    (
        "monitoring.add_lighthouse_build(text, text, text, text)",
        "'no token', 'a-project', 'main', 'a1b2'",
    ),
    (
        "monitoring.add_lighthouse_run(text, text, uuid, jsonb)",
        "'no token', 'a-project', '00000000-0000-4000-8000-000000000005', '{}'",
    ),
    (
        "monitoring.seal_lighthouse_build(text, text, uuid)",
        "'no token', 'a-project', '00000000-0000-4000-8000-000000000005'",
    ),
    (
        "monitoring.lighthouse_verdict(text, text, text)",
        "'no token', 'a-project', 'a1b2'",
    ),
    ("monitoring.add_vitals(text, jsonb)", "'no key', '[]'"),
    // By the token of the project that is there.
    ("monitoring.lighthouse_project(text, text)", "'a token'"),
    (
        "monitoring.lock_build(uuid, uuid)",
        "'00000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-000000000005'",
    ),
    (
        "monitoring.tell_of_budget(text, text, jsonb, text)",
        "'no fingerprint', 'low', null, null",
    ),
    (
        "monitoring.judge_build(monitoring.lighthouse_builds)",
        "null",
    ),
    ("monitoring.vital_bucket(numeric)", "1"),
    (
        "monitoring.vital_percentile(bigint[], numeric)",
        "'{1}', 0.75",
    ),
    (
        "monitoring.vital_p75(text, bigint[], numeric, numeric)",
        "'LCP', '{1}', 1, 0",
    ),
    ("monitoring.path_class(text)", "'/'"),
    (
        "monitoring.known_path(uuid, text)",
        "'00000000-0000-4000-8000-000000000004', '/'",
    ),
    (
        "monitoring.judge_vitals(monitoring.vitals, text)",
        "row('hour', now(), '00000000-0000-4000-8000-000000000004', 'LCP', '/', 1, 1, 0, 0, array[1] || array_fill(0, array[127]))::monitoring.vitals, 'a project'",
    ),
    ("monitoring.vitals_between(timestamptz)", "now()"),
    ("monitoring.lighthouse(interval)", "'1 hour'"),
    ("monitoring.validation(jsonb)", "null"),
];

/// A row for each table that the migrations leave empty, so that seeing none is an answer. By the owner, whose partitions
/// they are.
pub(super) const SEED: &str = "
set role monitoring_owner;
insert into public.monitoring_events (id, event_type, event_data)
values ('00000000-0000-4000-8000-000000000001', 'performance_alert', '{}');
select monitoring.ensure_sample_partition('2025-06-07');
insert into monitoring.samples (tick_at, sampled_at, duration_ms) values ('2025-06-07 20:30+00', '2025-06-07 20:30+00', 1);
insert into monitoring.statement_samples
select t, t, t, '{1}', '{10}', '{true}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}'
from (values ('2025-06-07 20:30+00'::timestamptz)) v (t);
insert into monitoring.table_samples
select t, t, t, '{1}', '{public.guests}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}', '{1}', '{0}', '{1}', '{1}', '{1}'
from (values ('2025-06-07 20:30+00'::timestamptz)) v (t);
insert into monitoring.samples_hourly (at, samples) values ('2025-06-07 20:00+00', 1);
insert into monitoring.samples_half_daily (at, samples) values ('2025-06-07 12:00+00', 1);
insert into monitoring.samples_daily (at, samples) values ('2025-06-07 00:00+00', 1);
insert into monitoring.statements_hourly values ('2025-06-07 20:00+00', 3600, '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}');
insert into monitoring.statements_daily values ('2025-06-07 00:00+00', 86400, '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}');
insert into monitoring.changes (kind, object, was, now) values ('rls', 'public.guests', 'on', 'off');
insert into monitoring.watched values ('rls', '1', 'public.guests', 'off');
insert into monitoring.statement_counters values (1, 10, true, 1, 1, 1, 1, 1, 1);
insert into monitoring.table_counters values (1, 1, 1, 1, 1);
insert into monitoring.statement_texts values (1, 'select ?', now());
insert into monitoring.remembered values ('rls_status', now(), now(), 1, 'nothing');
insert into monitoring.remembered_companions values (1, 1, 1, '3', '1');
insert into monitoring.remembered_tables (table_oid, toast_oid, schemaname, tablename, relpages, reltuples)
values (1, 0, 'public', 'guests', 1, 1);
insert into monitoring.critical_windows (id, starts_at, ends_at, label)
values ('00000000-0000-4000-8000-000000000002', now(), now() + interval '1 hour', 'a wedding');
insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone) values ('a wedding', '{6}', '10:00', '23:00', 'Europe/London');
insert into monitoring.calendar_windows values ('00000000-0000-4000-8000-000000000003', now(), now() + interval '1 hour', 'a wedding');
insert into monitoring.calendar_status (view_name, tried_at) values ('business.hours', now());
insert into monitoring.sequence_positions values ('public.guests_id_seq', now(), 80);
insert into monitoring.readiness_reports values
  ('00000000-0000-4000-8000-000000000003', 'hour', now(), now(), now() + interval '1 hour', 'a wedding', 'go', '[]');
insert into monitoring.request_turns values ('nobody', 'GET', array[now()], array[gen_random_uuid()]);
insert into monitoring.remembered_column_grants values (1, 0, 'SELECT');
insert into monitoring.remembered_rls_kinds values ('public', 'guests', true, 'ENABLED', 1, 'LOW_RISK', true, 3, '{}', '{}', false, false, false, false, '{guests}');
insert into monitoring.suppressions (fingerprint, reason, until) values ('00000000000000000000000000000000', 'a reason', now() + interval '1 day');
insert into monitoring.remembered_checks values ('dead-tuples', now(), '{}');
insert into monitoring.event_states values ('a fingerprint', 'dead-tuples', gen_random_uuid(), now());
insert into monitoring.outbox (detail_type, dedup_key, detail) values ('pgvigil.event.opened.v1', 'a key', '{}');
insert into monitoring.lighthouse_projects (id, name, slug, base_branch, token_hash)
values ('00000000-0000-4000-8000-000000000004', 'a project', 'a-project', 'main', monitoring.token_hash('a token'));
insert into monitoring.lighthouse_builds (id, project_id, branch, hash)
values ('00000000-0000-4000-8000-000000000005', '00000000-0000-4000-8000-000000000004', 'main', 'a1b2');
insert into monitoring.lighthouse_runs (build_id, url, form_factor, lighthouse_version, fetched_at)
values ('00000000-0000-4000-8000-000000000005', 'https://shop.example/', 'mobile', '12.6.1', '2025-06-07 20:30+00');
insert into monitoring.ingest_turns values ('nobody', now());
insert into monitoring.vitals values ('day', '2025-06-07 00:00+00', '00000000-0000-4000-8000-000000000004', 'LCP', '/', 1, 1, 0, 0,
  array[1] || array_fill(0, array[127]));
insert into monitoring.vitals_paths values ('00000000-0000-4000-8000-000000000004', '/', '2025-06-07');
reset role;
";
