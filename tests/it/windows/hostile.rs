//! Whoever may change the calendar view, or a function in it, decides what runs when it is read. It gains nothing.

use serde_json::json;

use super::calendar::{ask, refresh};
use crate::support::app::{Request, TestApp};
use crate::support::caller::Caller;
use crate::support::postgres::{SUPERUSER, plain};

/// Tries everything, and answers what worked. Undone or not, what it leaves behind is looked for afterwards.
const HOSTILE: &str = "
create schema business;
grant usage on schema business to public;
create table business.open_to_all (n int);
grant insert, select on business.open_to_all to public;
create function business.tries(p_sql text) returns text language plpgsql as $$
begin
  execute p_sql;
  return p_sql || '; ';
exception when others then
  return '';
end $$;
create function business.hostile() returns text language plpgsql as $$
declare
  v_gained text := '';
  v_sql text;
begin
  perform set_config('search_path', 'business, pg_catalog', false);
  perform set_config('request.jwt.claims', '{\"app_metadata\": {\"role\": \"owner\"}}', false);
  perform set_config('statement_timeout', '0', false);
  foreach v_sql in array array[
    'set local role monitoring_agent', 'set role monitoring_reader', 'set role monitoring_owner', 'reset role',
    'set session authorization default', 'select set_config(''role'', ''monitoring_agent'', false)',
    'select public.record_monitoring_event(''slow_query'', ''{}'')', 'select public.cleanup_old_monitoring_data()',
    'select public.get_database_monitoring_summary()', 'select * from public.monitoring_events',
    'select * from monitoring.settings', 'select monitoring.may(''read'')', 'select monitoring.read_calendar(''business.hours'')',
    'select monitoring.refresh_calendar()', 'insert into business.open_to_all values (1)', 'create temp table left_behind (n int)',
    'set transaction read write', 'select set_config(''transaction_read_only'', ''off'', true)', 'listen gossip',
    'create table monitoring.mine (n int)', 'create function monitoring.mine() returns int language sql as ''select 1''',
    'alter function monitoring.read_calendar(text) set search_path = business',
    'alter function monitoring.read_calendar(text) security invoker',
    'create or replace function monitoring.read_calendar(p_view text) returns jsonb language sql as ''select null::jsonb''',
    'drop function monitoring.read_calendar(text)', 'grant monitoring_calendar to pgvigil',
    'alter role monitoring_calendar login', 'select pg_terminate_backend(pid) from pg_stat_activity where usename is not null'] loop
    v_gained := v_gained || business.tries(v_sql);
  end loop;
  return current_user || ' gained: ' || v_gained;
end $$;
-- Found before the system's own, were the search path left changed.
create function business.to_json(timestamptz) returns json language plpgsql as $$
  begin insert into business.open_to_all values (2); return '\"trapped\"'; end $$;
create view business.hours as
  select now() + interval '1 hour' as starts_at, now() + interval '2 hours' as ends_at, business.hostile() as label;
grant usage on schema business to monitoring_calendar;
grant select on business.hours to monitoring_calendar;
grant select on business.hours to public;
update monitoring.settings set value = '\"business.hours\"' where key = 'calendar_view'";

#[tokio::test]
async fn a_hostile_calendar_gains_nothing() {
    let database = plain().database();
    ask(&database, HOSTILE);

    // The trap is there: who reads such a view in the role of a task lends it all that the role may.
    let agent = database.as_caller(Caller::Agent).await;
    let row = agent
        .query_one("select label from business.hours", &[])
        .await;
    let gained: String = row.expect("reading as the agent").get(0);
    for power in [
        "set role monitoring_reader",
        "record_monitoring_event",
        "open_to_all values",
        "listen gossip",
    ] {
        assert!(gained.contains(power), "{power}: {gained}");
    }
    drop(agent);
    ask(
        &database,
        "delete from monitoring_events; delete from business.open_to_all; delete from monitoring.calendar_status; delete from monitoring.calendar_windows",
    );

    let app = TestApp::new(&database).await;
    let told = refresh(&app, &database).await;
    assert_eq!(
        (&told["status"], &told["windows"]),
        (&json!("done"), &json!(1)),
        "{told}"
    );
    // LISTEN is anybody's, and ended with the rest.
    let label = ask(&database, "select label from monitoring.calendar_windows");
    assert_eq!(
        label.trim_end(),
        "monitoring_calendar gained: listen gossip;"
    );
    // What it did to the session, whose next transactions are another caller's, is undone.
    for _ in 0..2 {
        let answer = app.get_as("developer", "query_type=summary").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("trapped"), "{}", answer.text);
    }
    let guest = Request::get("/api/monitoring/windows", "").by("guest");
    assert_eq!(app.send(guest).await.status, 403);
    assert_eq!(
        ask(
            &database,
            "select (select count(*) from monitoring_events where event_data = '{}'), (select count(*) from business.open_to_all)"
        ),
        "0|0"
    );
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and usename = 'pgvigil'";
    assert_eq!(ask(&database, sessions), "1", "the connection was kept");
}

/// Restored by a role that may not give functions away it would be that role's, and run the view as it.
#[tokio::test]
async fn a_reader_that_belongs_to_somebody_else_reads_nothing() {
    let database = plain().database();
    ask(&database, HOSTILE);
    ask(
        &database,
        &format!(
            "alter function monitoring.read_calendar(text) owner to {SUPERUSER}; grant execute on function monitoring.read_calendar(text) to monitoring_owner"
        ),
    );
    let app = TestApp::new(&database).await;
    let told = refresh(&app, &database).await;
    assert_eq!(told["status"], "failed", "{told}");
    assert!(
        told["problem"]
            .as_str()
            .is_some_and(|text| text.contains("belongs to")),
        "{told}"
    );
    assert_eq!(
        ask(
            &database,
            "select count(*) from monitoring.calendar_windows"
        ),
        "0"
    );
}
