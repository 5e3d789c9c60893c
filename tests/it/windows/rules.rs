//! Weekly rules, by clocks that are set forward and back; windows that overlap and touch.

use serde_json::{Value, json};

use super::{WINDOWS, add, labels, new_window};
use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};

fn ask(database: &TestDatabase, sql: &str) -> String {
    let answer = database.psql(SUPERUSER, &format!("set timezone = 'UTC'; {sql}"));
    let answer = answer.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    answer.trim().to_owned()
}

/// Rules are for admin and owner, whom only claims name.
fn add_rule(database: &TestDatabase, arguments: &str) -> Result<String, String> {
    let sql = format!(
        "set role monitoring_reader; set request.jwt.claims = '{{\"app_metadata\": {{\"role\": \"owner\"}}}}';
         select monitoring.add_window_rule({arguments})"
    );
    database.psql(SUPERUSER, &sql)
}

/// The windows between two moments, as `HH:MM` in UTC with the day of the month.
fn between(database: &TestDatabase, from: &str, to: &str) -> Vec<String> {
    let sql = format!(
        "select to_char(starts_at, 'DD HH24:MI') || ' to ' || to_char(ends_at, 'DD HH24:MI')
         from monitoring.windows_between('{from}', '{to}') order by starts_at, ends_at"
    );
    ask(database, &sql).lines().map(str::to_owned).collect()
}

fn effect(database: &TestDatabase, at: &str) -> String {
    let sql = format!(
        "select in_window, is_open, label, to_char(window_starts_at, 'DD HH24:MI'), to_char(window_ends_at, 'DD HH24:MI'), opens_in_seconds
         from monitoring.window_effect('{at}')"
    );
    ask(database, &sql)
}

#[test]
fn saturday_evening_in_new_york_is_sunday_in_utc() {
    let database = plain().database();
    add_rule(
        &database,
        "'ceremony', '{saturday}', '20:30', '00:30', 'America/New_York'",
    )
    .expect("adding");
    // Summer time, four hours behind; winter time, five.
    assert_eq!(
        between(&database, "2025-06-07 12:00Z", "2025-06-09 00:00Z"),
        ["08 00:30 to 08 04:30"]
    );
    assert_eq!(
        between(&database, "2025-12-06 12:00Z", "2025-12-08 00:00Z"),
        ["07 01:30 to 07 05:30"]
    );
    assert!(effect(&database, "2025-06-08 00:31Z").starts_with("t|t|ceremony|08 00:30|08 04:30|0"));
    // From Sunday's end of the week on, it is next week's.
    assert!(effect(&database, "2025-06-08 04:30Z").starts_with("f|f|ceremony|15 00:30"));
}

/// What everybody may ask of any moment, and what is asked with every sample of this one.
#[test]
fn a_critical_time_is_one_that_windows_have_an_effect_on() {
    let database = plain().database();
    let seen = ask(
        &database,
        "begin;
        create temporary table seen (is_critical boolean);
        do $$
        declare
          v_starts interval;
          v_lasts interval;
          v_lead int;
          v_next boolean;
        begin
          foreach v_lead in array '{0,1,60}'::int[] loop
            update monitoring.settings set value = to_jsonb(v_lead) where key = 'window_lead_minutes';
            foreach v_starts in array '{-2 days,-2 hours,-1 hour,-1 microsecond,0,1 microsecond,1 minute,1 hour,61 minutes,7 days}'::interval[] loop
              foreach v_lasts in array '{1 microsecond,1 hour,2 hours,2 days}'::interval[] loop
                foreach v_next in array '{f,t}'::boolean[] loop
                  delete from monitoring.critical_windows;
                  insert into monitoring.critical_windows (starts_at, ends_at, label)
                  select now() + v_starts + n * v_lasts, now() + v_starts + (n + 1) * v_lasts, 'one'
                  from generate_series(0, v_next::int) n; -- the second begins as the first ends
                  if monitoring.is_critical_time() is distinct from (select w.in_window from monitoring.window_effect(now()) w) then
                    raise exception 'lead %, from % for %, and another: %', v_lead, v_starts, v_lasts, v_next;
                  end if;
                  insert into seen values (monitoring.is_critical_time());
                end loop;
              end loop;
            end loop;
          end loop;
        end $$;
        select bool_or(is_critical), bool_and(is_critical), count(*) from seen;
        rollback",
    );
    assert!(seen.contains("t|f|240"), "{seen}");
}

#[test]
fn the_nights_in_which_clocks_change_lose_nothing() {
    let database = plain().database();
    for rule in [
        "'over it', '{saturday,sunday}', '00:30', '02:30', 'Europe/London'",
        "'into it', '{sunday}', '00:15', '01:30', 'Europe/London'",
        "'out of it', '{sunday}', '01:30', '03:00', 'Europe/London'",
    ] {
        add_rule(&database, rule).expect(rule);
    }
    // 29 March 2026: after 00:59 GMT comes 02:00 BST, an hour behind it in UTC; 01:30 is no time at all.
    let spring = between(&database, "2026-03-28 12:00Z", "2026-03-29 12:00Z");
    assert_eq!(
        spring,
        [
            "29 00:15 to 29 01:30",
            "29 00:30 to 29 01:30",
            "29 00:30 to 29 02:00"
        ]
    );
    // 25 October 2026: 01:30 is a time twice, at 00:30 and at 01:30 in UTC.
    let autumn = between(&database, "2026-10-24 12:00Z", "2026-10-25 12:00Z");
    assert_eq!(
        autumn,
        [
            "24 23:15 to 25 01:30",
            "24 23:30 to 25 02:30",
            "25 00:30 to 25 03:00"
        ]
    );
    // Half an hour on Lord Howe Island, 1:30 to 2:00 twice on 5 April 2026.
    add_rule(
        &database,
        "'island', '{sunday}', '01:45', '01:50', 'Australia/Lord_Howe'",
    )
    .expect("adding");
    let island = between(&database, "2026-04-04 12:00Z", "2026-04-04 18:00Z");
    assert_eq!(island, ["04 14:45 to 04 15:20"]);
}

#[test]
fn rules_end_past_midnight_and_past_the_week_and_hold_for_their_dates() {
    let database = plain().database();
    add_rule(
        &database,
        "'night', '{sunday}', '22:00', '22:00', 'UTC', '2025-06-08', '2025-06-15'",
    )
    .expect("adding");
    add_rule(
        &database,
        "'day', '{monday}', '00:00', '24:00', 'UTC', '2025-06-09', '2025-06-09'",
    )
    .expect("adding");
    assert_eq!(
        between(&database, "2025-06-01 00:00Z", "2025-07-01 00:00Z"),
        [
            "08 22:00 to 09 22:00",
            "09 00:00 to 10 00:00",
            "15 22:00 to 16 22:00"
        ]
    );
    // Asked at its very end it is over, at its beginning it is open.
    assert_eq!(
        between(&database, "2025-06-16 22:00Z", "2025-06-16 22:00Z"),
        [""; 0]
    );
    assert_eq!(
        between(&database, "2025-06-15 22:00Z", "2025-06-15 22:00Z").len(),
        1
    );
}

#[test]
fn windows_that_overlap_or_touch_are_one_where_a_moment_is_judged() {
    let database = plain().database();
    ask(
        &database,
        "insert into monitoring.critical_windows (starts_at, ends_at, label) values
           ('2025-06-07 10:00Z', '2025-06-07 12:00Z', 'first'), ('2025-06-07 11:00Z', '2025-06-07 13:00Z', 'second'),
           ('2025-06-07 11:15Z', '2025-06-07 11:30Z', 'inside'), ('2025-06-07 13:00Z', '2025-06-07 14:00Z', 'touching'),
           ('2025-06-07 14:01Z', '2025-06-07 15:00Z', 'after')",
    );
    for (at, expected) in [
        ("2025-06-07 08:59Z", "f|f|first|07 10:00|07 14:00|3660"),
        ("2025-06-07 09:00Z", "t|f|first|07 10:00|07 14:00|3600"),
        ("2025-06-07 10:00Z", "t|t|first|07 10:00|07 14:00|0"),
        (
            "2025-06-07 11:20Z",
            "t|t|first and 2 more|07 10:00|07 14:00|0",
        ),
        ("2025-06-07 12:59:59Z", "t|t|second|07 10:00|07 14:00|0"),
        ("2025-06-07 13:00Z", "t|t|touching|07 10:00|07 14:00|0"),
        ("2025-06-07 14:00Z", "t|f|after|07 14:01|07 15:00|60"),
        ("2025-06-07 15:00Z", "f|f||||"),
        // Far enough away, none is known.
        ("2025-05-30 10:00Z", "f|f||||"),
    ] {
        assert_eq!(effect(&database, at), expected, "{at}");
    }
    // Told one by one.
    assert_eq!(
        between(&database, "2025-06-07 10:00Z", "2025-06-07 14:01Z").len(),
        5
    );
    ask(
        &database,
        "update monitoring.settings set value = '0' where key = 'window_lead_minutes'",
    );
    assert!(effect(&database, "2025-06-07 09:59Z").starts_with("f|f|first"));
}

#[test]
fn a_zone_that_the_server_has_forgotten_hides_no_other_window() {
    let database = plain().database();
    ask(
        &database,
        "alter table monitoring.window_rules disable trigger time_zones_are_known;
         insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone) values
           ('lost', '{1,2,3,4,5,6,7}', '00:00', '12:00', 'US/Pacific-New'), ('kept', '{1,2,3,4,5,6,7}', '00:00', '12:00', 'UTC')",
    );
    assert!(effect(&database, "2025-06-07 08:00Z").starts_with("t|t|kept|"));
    let reasons = ask(
        &database,
        "select monitoring.readiness() -> 'degraded' ->> 0",
    );
    assert!(
        reasons.contains("knows no time zone US/Pacific-New"),
        "{reasons}"
    );
}

#[test]
fn a_bad_rule_is_refused_by_the_name_of_what_is_wrong() {
    let database = plain().database();
    let good = [
        "'a'",
        "'{saturday}'",
        "'10:00'",
        "'23:00'",
        "'Europe/London'",
        "null",
        "null",
    ];
    for (place, values, words) in [
        (0, &["null", "''", "repeat('x', 201)"][..], "label must"),
        (
            1,
            &["null", "'{}'", "'{someday}'", "'{null}'", "'{6}'"],
            "weekdays must",
        ),
        (
            2,
            &[
                "null",
                "'10'",
                "'24:00'",
                "'10:60'",
                "'10:00:00'",
                "'10:00Z'",
                "'noon'",
            ],
            "starts must",
        ),
        (3, &["null", "'24:01'", "' 10:00'"], "ends must"),
        (
            4,
            &[
                "null",
                "''",
                "'BST'",
                "'XYZ5'",
                "'Europ/London'",
                "'localtime2'",
            ],
            "time_zone must",
        ),
        (
            5,
            &["'2025-02-30'", "'today'", "'infinity'", "'1.1.2025'"],
            "valid_from must",
        ),
        (6, &["'2025-02-30'", "'0000-01-01'"], "valid_until must"),
    ] {
        for value in values {
            let mut arguments = good;
            arguments[place] = value;
            let refused = add_rule(&database, &arguments.join(", ")).expect_err(value);
            assert!(refused.contains(words), "{value}: {refused}");
        }
    }
    for (arguments, words) in [
        (
            "'a', '{saturday}', '10:00', '23:00', 'UTC', '2025-06-02', '2025-06-01'",
            "valid_until must not be before",
        ),
        (
            "'a', '{monday,tuesday,wednesday,thursday,friday,saturday,sunday}', '10:00', '10:00', 'UTC'",
            "ends must not",
        ),
    ] {
        let refused = add_rule(&database, arguments).expect_err(arguments);
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(
        ask(&database, "select count(*) from monitoring.window_rules"),
        "0"
    );
    // The table itself, for SQL alone, knows the zones too.
    let insert = "insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone) values ('a', '{6}', '10:00', '11:00', 'XYZ5')";
    let refused = database
        .psql(SUPERUSER, insert)
        .expect_err("an unknown zone");
    assert!(refused.contains("time_zone must"), "{refused}");
}

#[test]
fn there_are_a_hundred_rules_at_most() {
    let database = plain().database();
    ask(
        &database,
        "insert into monitoring.window_rules (label, weekdays, starts, ends, time_zone)
         select 'rule ' || n, '{6}', '10:00', '11:00', 'UTC' from generate_series(1, 100) n",
    );
    let refused = add_rule(&database, "'one more', '{monday}', '10:00', '11:00', 'UTC'")
        .expect_err("one too many");
    assert!(refused.contains("one too many"), "{refused}");
    // The same as one of them is no more.
    add_rule(&database, "'rule 7', '{saturday}', '10:00', '11:00', 'UTC'").expect("the same again");
}

async fn post_rule(app: &TestApp, rule: &Value, role: &str) -> (u64, Value) {
    // Ten a minute are let through for one subject.
    let subject = crate::support::token::token(&rule.to_string(), role, &json!({}));
    let body = json!({ "rule": rule }).to_string();
    let answer = app
        .send(Request::post(WINDOWS, &body).bearer(&subject))
        .await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn rules_are_added_listed_and_removed_over_http() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let rule = json!({"label": "every day", "weekdays": ["Sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
        "starts": "10:00", "ends": "23:00", "time_zone": "Europe/London", "valid_until": "2099-12-31"});
    let (status, answer) = post_rule(&app, &rule, "admin").await;
    assert_eq!(status, 201, "{answer}");
    let id = answer["ruleId"].as_str().unwrap_or_default().to_owned();
    let (_, again) = post_rule(&app, &rule, "owner").await;
    assert_eq!(
        again["ruleId"], answer["ruleId"],
        "the same one twice is one"
    );
    add(&app, &new_window(-1, 1, "dated", &database)).await;

    let listed = app.send(Request::get(WINDOWS, "").by("developer")).await;
    let data = listed.json()["data"].clone();
    assert_eq!(
        data["rules"],
        json!([{"id": id, "label": "every day", "starts": "10:00", "ends": "23:00", "time_zone": "Europe/London",
            "weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
            "valid_from": null, "valid_until": "2099-12-31"}])
    );
    assert_eq!(data["calendar"], json!(null));
    let windows = data["windows"].as_array().expect("windows");
    let of_rule: Vec<&Value> = windows
        .iter()
        .filter(|window| window["source"] == "rule")
        .collect();
    assert!((60..=61).contains(&of_rule.len()), "{}", of_rule.len());
    assert!(
        of_rule
            .iter()
            .all(|window| window["rule_id"] == id.as_str())
    );
    assert_eq!(
        windows
            .iter()
            .filter(|window| window["source"] == "dated")
            .count(),
        1
    );
    // One of its windows has an id by which readiness finds it, and by which it cannot be removed.
    let window = of_rule[1]["id"].as_str().expect("an id");
    let readiness = app
        .send(
            Request::get("/api/monitoring/readiness", &format!("window={window}")).by("developer"),
        )
        .await;
    assert_eq!(readiness.json()["data"]["window"], *of_rule[1]);
    let remove = |id: &str| Request::delete(WINDOWS, &format!("id={id}")).by("owner");
    let refused = app.send(remove(window)).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .detail()
            .starts_with("id is of one window of the rule"),
        "{}",
        refused.detail()
    );
    assert_eq!(app.send(remove(&id)).await.status, 200);
    assert_eq!(app.send(remove(&id)).await.status, 404);
    assert_eq!(labels(&app).await, ["dated"]);
}

#[tokio::test]
async fn a_bad_rule_over_http_is_named_and_nothing_is_kept() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let good = json!({"label": "a", "weekdays": ["saturday"], "starts": "10:00", "ends": "23:00", "time_zone": "Europe/London"});
    for (field, value, detail) in [
        ("label", json!(null), "label is required"),
        (
            "label",
            json!("a\u{0}b"),
            "label must not hold a NUL character",
        ),
        ("weekdays", json!(null), "weekdays is required"),
        (
            "weekdays",
            json!("saturday"),
            "weekdays must be a list of days",
        ),
        ("weekdays", json!([]), "weekdays must name days"),
        ("weekdays", json!([6]), "weekdays must name days"),
        ("weekdays", json!([null]), "weekdays must name days"),
        (
            "weekdays",
            json!(["sat\u{0}urday"]),
            "weekdays must name days",
        ),
        ("weekdays", json!([["saturday"]]), "weekdays must name days"),
        ("starts", json!(10), "starts must be a string"),
        ("starts", json!("10"), "starts must be a local time"),
        ("ends", json!("25:00"), "ends must be a local time"),
        ("time_zone", json!("Mars/Olympus"), "time_zone must be"),
        ("valid_from", json!("tomorrow"), "valid_from must be a day"),
    ] {
        let mut rule = good.clone();
        rule[field] = value;
        let (status, answer) = post_rule(&app, &rule, "admin").await;
        assert_eq!(status, 400, "{rule}: {answer}");
        let told = answer["detail"].as_str().unwrap_or_default();
        assert!(told.starts_with(detail), "{rule}: {told}");
    }
    let body = json!({"rule": "saturdays"}).to_string();
    let answer = app.send(Request::post(WINDOWS, &body).by("admin")).await;
    assert_eq!(
        (answer.status, answer.detail().as_str()),
        (400, "rule must be an object")
    );
    for role in ["developer", "service", "guest"] {
        assert_eq!(post_rule(&app, &good, role).await.0, 403, "{role}");
    }
    assert_eq!(
        ask(&database, "select count(*) from monitoring.window_rules"),
        "0"
    );
}
