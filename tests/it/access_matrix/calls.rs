//! What every function is called with, and what every table holds. The two lists to extend with a new object.

/// Arguments with which a call works and harms nothing, for each function that has parameters. A function may stand here
/// more than once; then its lines in the files name the arguments.
pub(super) const CALLS: &[(&str, &str)] = &[
    (
        "public.record_monitoring_event(text, jsonb, text, inet, text)",
        "'performance_alert', '{}'",
    ),
    ("monitoring.authorize(text)", "'read'"),
    (
        "monitoring.delete_events(text, timestamptz, timestamptz)",
        "'true or resolved_at', now(), now()",
    ),
    ("monitoring.ensure_sample_partition(date)", "'2001-01-01'"),
    (
        "monitoring.is_application_schema(name, name[])",
        "'public', null",
    ),
    (
        "monitoring.make_private(text[])",
        "'table public.monitoring_connections'",
    ),
    ("monitoring.may(text)", "'read'"),
    ("monitoring.may(text)", "'record'"),
    ("monitoring.may(text)", "'resolve'"),
    ("monitoring.may(text)", "'operate'"),
    ("monitoring.may(text)", "'anything'"),
    ("monitoring.redact(text)", "'select 1'"),
    (
        "monitoring.resolve_event(uuid, text)",
        "'00000000-0000-4000-8000-000000000001'",
    ),
    ("monitoring.rls_status(integer)", "1"),
    ("monitoring.sample(timestamptz)", "now()"),
    ("monitoring.setting(text)", "'exposed_schemas'"),
    ("monitoring.setting_list(text)", "'exposed_schemas'"),
    ("monitoring.slow_queries(integer)", "1"),
    ("monitoring.table_health(integer)", "1"),
    ("monitoring.table_health_rows(integer, boolean)", "1, true"),
];

/// A row for each table that the migrations leave empty, so that seeing none is an answer. By the owner, whose partitions
/// they are.
pub(super) const SEED: &str = "
set role monitoring_owner;
insert into public.monitoring_events (id, event_type, event_data)
values ('00000000-0000-4000-8000-000000000001', 'performance_alert', '{}');
select monitoring.ensure_sample_partition('2025-06-07');
insert into monitoring.samples values
  ('2025-06-07 20:30+00', '2025-06-07 20:30+00', 1, 100, 'excellent', 0, 0, 0, 0, 0, 0, 0, 0, 0);
reset role;
";
