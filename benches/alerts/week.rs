//! A recorded week, minute by minute, judged as if it were now: nothing in it is to be told.

use std::cell::RefCell;
use std::fs;

use serde_json::json;
use tokio_postgres::Client;

use crate::report::{Report, print, say, table, words};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::{SERIES, SETTINGS, application};

/// Its Monday. On its Sunday the clocks in Europe are set back.
const BEGINS: &str = "2025-10-20 00:00+00";

const DAY: i32 = 1440;

/// Minutes without a sample: the schedule failed to deliver.
const MISSED: [i32; 6] = [37, 1450, 1452, 3000, 5000, 7777];

/// The server's clock is found to be fast, and set back; and an hour later forward, too far.
const SET_BACK: (i32, i32) = (4 * DAY + 900, -120);
const SET_FORWARD: (i32, i32) = (4 * DAY + 960, -30);

/// When the week's deploys are, as they were recorded.
const DEPLOYS: [i32; 2] = [DAY + 600, 3 * DAY + 960];

/// One tick after the other, each a transaction of its own.
const SAMPLE: &str = "do $$
declare
  v_second int;
  v_report jsonb;
  v_due jsonb;
begin
  foreach v_second in array '{:seconds}'::int[] loop
    perform set_config('replay.at', (timestamptz ':begins' + v_second * interval '1 second')::text, false);
    v_report := monitoring.sample(null);
    if v_report ->> 'status' = 'done' then
      v_due := monitoring.windows_due();
      if (v_due ->> 'report')::boolean then
        perform monitoring.report_readiness();
      end if;
    elsif v_report ->> 'reason' <> 'this tick has its sample' then
      raise exception '%', v_report;
    end if;
    if v_report -> 'skipped' <> '[]' then
      raise exception 'not everything was looked at: %', v_report;
    end if;
    commit;
  end loop;
end $$";

/// What the week was, day by day.
const DAYS: &str = "select to_char(d.day, 'Dy'), count(s.tick_at), count(s.tick_at) filter (where w.in_window),
    max(s.connection_utilization_percent)::text, min(s.health_score)
  from generate_series(timestamptz ':begins', timestamptz ':begins' + interval '6 days', interval '1 day') d (day)
    left join monitoring.samples s on s.tick_at >= d.day and s.tick_at < d.day + interval '1 day'
    left join lateral (select case when s.tick_at is not null then exists (
      select from monitoring.windows_between(s.tick_at, s.tick_at + interval '1 hour')) end as in_window) w on true
  group by d.day order by d.day";

pub(crate) async fn run(report: &RefCell<Report>) {
    let cluster = Cluster::start(ClusterOptions {
        settings: SETTINGS,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    stage(&database);
    say("week: replaying it");
    let superuser = database.superuser().await;
    let sampler = database.as_caller(Caller::Agent).await;
    let zone = sampler.batch_execute("set timezone = 'Europe/London'");
    zone.await.expect("setting the time zone");
    let days = std::env::var_os("PGVIGIL_BENCH_DAYS");
    let days: i32 = days
        .and_then(|days| days.to_string_lossy().parse().ok())
        .unwrap_or(7);
    for hour in 0..days * 24 {
        for deploy in DEPLOYS {
            if deploy / 60 == hour {
                deploy_at(&superuser, deploy).await;
            }
        }
        let minutes = hour * 60..(hour + 1) * 60;
        let seconds: Vec<String> = minutes
            .filter(|minute| !MISSED.contains(minute))
            .map(|minute| (minute * 60 + set_by(minute)).to_string())
            .collect();
        let sql = SAMPLE
            .replace(":seconds", &seconds.join(","))
            .replace(":begins", BEGINS);
        let sampled = sampler.batch_execute(&sql).await;
        sampled.unwrap_or_else(|error| panic!("hour {hour} of the week: {error:?}"));
        if hour % 24 == 23 {
            say(&format!("week: day {} of {days}", hour / 24 + 1));
        }
    }
    tell(&superuser, report).await;
}

/// By how many seconds the clock is wrong.
fn set_by(minute: i32) -> i32 {
    let steps = [SET_BACK, SET_FORWARD];
    let last = steps.iter().rfind(|(at, _)| *at <= minute);
    last.map_or(0, |(_, seconds)| *seconds)
}

fn stage(database: &TestDatabase) {
    say("week: setting the stage");
    application(database, 1);
    let replay = include_str!("clock.sql").to_owned() + include_str!("replay.sql");
    let replay = replay.replace(":begins", BEGINS);
    let ran = database.psql(SUPERUSER, &replay);
    ran.unwrap_or_else(|problem| panic!("turning the clock: {problem}"));
    let series = fs::read_to_string(SERIES);
    let series = series.unwrap_or_else(|error| panic!("{SERIES}: {error}"));
    let mut copy = String::from("copy replay.readings from stdin;\n");
    for line in series.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let array = |field: &str| format!("{{{}}}", if field == "-" { "" } else { field });
        let [minute, server, arrays @ ..] = fields.as_slice() else {
            panic!("{SERIES}: {line}")
        };
        let arrays: Vec<String> = arrays.iter().map(|field| array(field)).collect();
        copy += &format!("{minute}\t{server}\t{}\n", arrays.join("\t"));
    }
    copy += "\\.\nselect replay.fill_week_before();
        insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone) values ('weddings', '{6}', '10:00', '23:00', 'Europe/London');";
    let copied = database.psql(SUPERUSER, &copy);
    copied.unwrap_or_else(|problem| panic!("reading the series: {problem}"));
}

/// A table that is new, with what protects it, and an index on one that is not.
async fn deploy_at(superuser: &Client, minute: i32) {
    let sql = format!(
        "create table feature_{minute} (id int generated always as identity primary key, wedding_id int references weddings);
         create index on feature_{minute} (wedding_id); alter table feature_{minute} enable row level security;
         create policy own on feature_{minute} to web using (current_setting('app.user', true) <> '');
         grant select, insert, update on feature_{minute} to web;
         alter table guests add column extra_{minute} text;"
    );
    superuser.batch_execute(&sql).await.expect("deploying");
    let index = format!("create index concurrently on guests (extra_{minute}, name)");
    superuser
        .batch_execute(&index)
        .await
        .expect("creating an index");
}

async fn tell(superuser: &Client, report: &RefCell<Report>) {
    let days = superuser
        .query(&DAYS.replace(":begins", BEGINS), &[])
        .await
        .expect("summing up");
    let alerts = "select to_char(e.created_at at time zone 'UTC', 'Dy HH24:MI'), coalesce(e.event_data ->> 'check_id', e.event_data ->> 'readiness', e.event_type),
          coalesce(e.event_data ->> 'object', ''), e.severity, e.occurrences, e.event_data::text
        from public.monitoring_events e order by e.created_at";
    let alerts = superuser
        .query(alerts, &[])
        .await
        .expect("asking for events");
    let mut report = report.borrow_mut();
    print("\nthe quiet week\n");
    let mut rows = vec![words(&[
        "day",
        "samples judged",
        "of them for a window",
        "connections, %",
        "lowest score",
    ])];
    let mut judged = 0;
    for day in &days {
        let samples: i64 = day.get(1);
        judged += samples;
        rows.push(vec![
            day.get(0),
            samples.to_string(),
            day.get::<_, i64>(2).to_string(),
            day.get::<_, Option<String>>(3).unwrap_or_default(),
            day.get::<_, Option<i32>>(4).unwrap_or_default().to_string(),
        ]);
    }
    table(&rows);
    print(&format!(
        "samples judged: {judged}, alerts: {}\n",
        alerts.len()
    ));
    for alert in &alerts {
        let (at, check, object): (&str, &str, &str) = (alert.get(0), alert.get(1), alert.get(2));
        let data: &str = alert.get(5);
        let occurrences: i32 = alert.get(4);
        report.problem(format!(
            "a false alert, {at}: {check} {object}, {occurrences} times: {data}"
        ));
    }
    report.json(&json!({"part": "week", "samples": judged, "alerts": alerts.len()}));
}
