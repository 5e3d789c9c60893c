//! The worked examples of docs/windows.md, run as they stand there.

use super::calendar::{ask, refresh};
use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::project_file;

fn example(name: &str) -> String {
    let page = std::fs::read_to_string(project_file("docs/windows.md")).expect("reading the page");
    let head = format!("```sql\n-- example: {name}\n");
    let (_, rest) = page.split_once(&head).expect("finding the example");
    let (sql, _) = rest.split_once("```").expect("finding its end");
    sql.to_owned()
}

/// Every window, in minutes from a day's midnight of UTC, with its label.
fn windows(database: &TestDatabase, day: &str) -> Vec<String> {
    let midnight = format!("timestamptz '{day} 00:00Z'");
    let sql = format!(
        "select format('%s to %s %s', round(extract(epoch from starts_at - {midnight}) / 60), round(extract(epoch from ends_at - {midnight}) / 60), label)
         from monitoring.calendar_windows order by starts_at, ends_at"
    );
    let rows = ask(database, &sql);
    rows.lines().map(str::to_owned).collect()
}

/// Tomorrow in UTC, in whose zones without summer time minutes are counted; it stays this day when midnight passes.
fn tomorrow(database: &TestDatabase) -> String {
    ask(database, "select (now() at time zone 'UTC')::date + 1")
}

#[tokio::test]
async fn a_date_a_local_time_and_a_zone() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let sql = example("the table there is");
    ask(&database, &sql);
    let day = tomorrow(&database);
    ask(
        &database,
        &format!(
            "insert into business.openings values
               ('{day}', '10:00', '23:00', 'Asia/Kolkata', 'five and a half hours ahead'),
               ('{day}', '20:30', '00:30', 'etc/utc ', 'past midnight'),
               ('{day}', '20:30', '23:00', 'Atlantis', 'no zone'),
               ('{day}', null, '23:00', 'UTC', 'no time')"
        ),
    );
    let told = refresh(&app, &database).await;
    assert_eq!(
        (told["status"].as_str(), told["refused"].as_str()),
        (Some("done"), Some("2 without a time")),
        "{told}"
    );
    assert_eq!(
        windows(&database, &day),
        [
            "270 to 1050 five and a half hours ahead",
            "1230 to 1470 past midnight"
        ]
    );
}

#[tokio::test]
async fn wedsyncs_timelines() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let day = tomorrow(&database);
    ask(
        &database,
        &format!(
            "create table public.wedding_timelines (wedding_date date, timezone text, start_time time, end_time time);
             insert into public.wedding_timelines values
               ('{day}', 'UTC', '16:00', '22:00'),
               ('{day}', 'UTC', '20:30', '01:00'),
               ('{day}', 'UTC', null, null),
               ('{day}', 'UTC', '18:00', null),
               ('{day}', 'UTC', null, '02:00'),
               ('{day}', 'half past four', '16:00', '22:00'),
               ('{day}', null, '16:00', '22:00'),
               (null, 'UTC', '16:00', '22:00'),
               (date '{day}' - 10, 'UTC', '16:00', '22:00'),
               (date '{day}' + 70, 'UTC', '16:00', '22:00')"
        ),
    );
    let sql = example("WedSync");
    ask(&database, &sql);
    let told = refresh(&app, &database).await;
    assert_eq!(
        (told["status"].as_str(), told["refused"].as_str()),
        (Some("done"), Some("2 without a time")),
        "{told}"
    );
    assert_eq!(
        windows(&database, &day),
        [
            "0 to 1440 wedding",
            "0 to 1560 wedding",
            "960 to 1320 wedding",
            "1080 to 1440 wedding",
            "1230 to 1500 wedding"
        ]
    );
    // New York's Saturday 20:30, as the table has it, is Sunday in UTC.
    ask(
        &database,
        "truncate public.wedding_timelines;
         insert into public.wedding_timelines
         select day, 'America/New_York', '20:30', '00:30' from generate_series(current_date, current_date + 8, '1 day') day where extract(isodow from day) = 6 limit 1",
    );
    refresh(&app, &database).await;
    let sunday = "select extract(isodow from starts_at at time zone 'UTC'), to_char(starts_at at time zone 'America/New_York', 'FMDay HH24:MI')
        from monitoring.calendar_windows";
    assert_eq!(ask(&database, sunday), "7|Saturday 20:30");
    // The whole page's rules as well.
    let page = std::fs::read_to_string(project_file("docs/windows.md")).expect("reading the page");
    for line in page
        .lines()
        .filter(|line| line.starts_with("select monitoring.add_window_rule("))
    {
        let sql = format!(
            "set role monitoring_reader; set request.jwt.claims = '{{\"app_metadata\": {{\"role\": \"admin\"}}}}'; {line}"
        );
        let added = database.psql(SUPERUSER, &sql);
        added.unwrap_or_else(|problem| panic!("{line}: {problem}"));
    }
    assert_eq!(
        ask(&database, "select count(*) from monitoring.window_rules"),
        "2"
    );
}
