//! How often a subject may ask: exactly so often in any minute, whoever counts.

use std::fs;

use serde_json::{Value, json};

use tokio_postgres::{Client, error::SqlState};

use crate::support::app::{Answer, Request, SUBJECT, TestApp};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER, plain};
use crate::support::token::token;

const GETS: usize = 30;
const POSTS: usize = 10;

fn connections() -> Request {
    Request::get("/api/monitoring/performance", "query_type=connections").by("developer")
}

fn record() -> Request {
    let event = json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
    Request::post("/api/monitoring/performance", &event.to_string()).by("developer")
}

async fn statuses(app: &TestApp, request: impl Fn() -> Request, times: usize) -> Vec<u64> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(app.send(request()).await.status);
    }
    statuses
}

/// Lets so much time pass for everything that was counted.
fn pass(database: &TestDatabase, seconds: u32) {
    let sql = format!(
        "update monitoring.request_turns set taken_at = array(select t - interval '{seconds} s' from unnest(taken_at) t order by t)"
    );
    database.psql(SUPERUSER, &sql).expect("letting time pass");
}

/// As if what was counted so far had been taken so many seconds ago, the first of it first; however slowly it was.
fn taken(database: &TestDatabase, ages: &[(usize, u32)]) {
    let ages = ages
        .iter()
        .flat_map(|&(count, seconds)| std::iter::repeat_n(seconds, count));
    let ages: Vec<String> = ages.map(|seconds| seconds.to_string()).collect();
    let sql = format!(
        "update monitoring.request_turns set taken_at = array(select now() - s * interval '1 second' from unnest('{{{0}}}'::int[]) s)
         where cardinality(taken_at) = cardinality('{{{0}}}'::int[]) returning 1",
        ages.join(",")
    );
    let done = database.psql(SUPERUSER, &sql);
    assert_eq!(done.as_deref(), Ok("1\n"), "as many as were counted");
}

/// A refusal that is whole, and the seconds it names.
fn retry_after(answer: &Answer) -> u64 {
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (429, "too_many_requests")
    );
    let seconds = &answer.headers["retry-after"];
    assert!(answer.detail().contains(seconds), "{}", answer.detail());
    seconds.parse().expect("whole seconds")
}

#[tokio::test]
async fn the_31st_get_and_the_11th_post_of_a_minute_are_too_many() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_eq!(statuses(&app, connections, GETS).await, [200; GETS]);
    assert_eq!(statuses(&app, record, POSTS).await, [201; POSTS]);
    for counted in [GETS, POSTS] {
        taken(&database, &[(counted, 0)]);
    }
    for request in [connections(), record()] {
        let seconds = retry_after(&app.send(request).await);
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    // What came too late was not done either.
    let recorded = database.psql(SUPERUSER, "select count(*) from monitoring_events");
    assert_eq!(recorded.as_deref(), Ok("10\n"));
    // All routes that ask the database count together; the one that needs no identity does not count.
    let validation = Request::get("/api/monitoring/validation", "").by("developer");
    retry_after(&app.send(validation).await);
    let health = Request::get("/api/monitoring/health", "");
    assert_eq!(app.send(health).await.status, 200);
    // Another subject has a minute of its own, and so has the same one for what it may not do: that is not counted.
    let other = token("somebody-else", "developer", &json!({}));
    assert_eq!(app.send(connections().bearer(&other)).await.status, 200);
    let nobody = token(SUBJECT, "guest", &json!({}));
    assert_eq!(app.send(connections().bearer(&nobody)).await.status, 429);
}

#[tokio::test]
async fn the_minute_slides() {
    let database = plain().database();
    let first = TestApp::new(&database).await;
    let second = TestApp::new(&database).await;
    assert_eq!(statuses(&first, connections, 20).await, [200; 20]);
    taken(&database, &[(20, 40)]);
    assert_eq!(statuses(&second, connections, 10).await, [200; 10]);
    taken(&database, &[(20, 40), (10, 0)]);
    // Room comes when the first of the twenty is a minute old.
    let seconds = retry_after(&first.send(connections()).await);
    assert!((10..=20).contains(&seconds), "{seconds}");
    pass(&database, 25);
    // The instance that was refused waits as long as it was told, without asking again; any other asks.
    let again = retry_after(&first.send(connections()).await);
    assert!(again <= seconds, "{again}");
    assert_eq!(statuses(&second, connections, 20).await, [200; 20]);
    retry_after(&second.send(connections()).await);
}

#[tokio::test]
async fn after_the_seconds_it_was_told_a_caller_is_let_in() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_eq!(statuses(&app, record, POSTS).await, [201; POSTS]);
    taken(&database, &[(POSTS, 55)]);
    let seconds = retry_after(&app.send(record()).await);
    assert!(seconds <= 5, "{seconds}");
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    assert_eq!(app.send(record()).await.status, 201);
}

/// A flood costs the database one refusal; its log is not filled by it.
#[tokio::test]
async fn a_flood_is_refused_without_the_database() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    statuses(&app, connections, GETS + 1).await;
    let transactions = || {
        let sql = "select sum(xact_commit + xact_rollback) from pg_stat_database where datname = current_database()";
        let count = database
            .psql(SUPERUSER, sql)
            .expect("counting transactions");
        count.trim().parse::<u64>().expect("a number")
    };
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let before = transactions();
    assert_eq!(statuses(&app, connections, 200).await, [429; 200]);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(transactions() - before < 50);
}

#[tokio::test]
async fn the_settings_say_how_many() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let sql = "update monitoring.settings set value = '2' where key in ('gets_per_minute', 'posts_per_minute')";
    database
        .psql(SUPERUSER, sql)
        .expect("changing the settings");
    assert_eq!(statuses(&app, connections, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&app, record, 3).await, [201, 201, 429]);
    for wrong in ["0", "-1", "1.5", "\"many\"", "10001", "null"] {
        let sql = format!(
            "update monitoring.settings set value = '{wrong}' where key = 'gets_per_minute'"
        );
        let refused = database.psql(SUPERUSER, &sql);
        assert!(
            refused.is_err_and(|error| error.contains("settings_value_is_valid")),
            "{wrong}"
        );
    }
}

/// The subject is nobody's business, and who has gone is forgotten.
#[tokio::test]
async fn subjects_are_kept_as_hashes_and_not_for_long() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let odd = [
        "",
        "an odd 'subject'; drop table x",
        "ünïcode\u{1F470}",
        "6f9619ff",
    ];
    for subject in odd {
        let bearer = token(subject, "admin", &json!({}));
        assert_eq!(
            app.send(connections().bearer(&bearer)).await.status,
            200,
            "{subject}"
        );
    }
    let kept = "select count(*), count(distinct subject_hash), bool_and(subject_hash ~ '^[0-9a-f]{64}$') from monitoring.request_turns";
    assert_eq!(database.psql(SUPERUSER, kept).as_deref(), Ok("4|4|t\n"));
    pass(&database, 3601);
    assert_eq!(app.send(connections()).await.status, 200);
    assert_eq!(database.psql(SUPERUSER, kept).as_deref(), Ok("1|1|t\n"));
}

/// The SQLSTATE with which a request without a turn ends.
async fn require(reader: &Client, request: &str) -> Option<String> {
    let sql = format!("select monitoring.require_turn('POST', '{request}')");
    let error = reader.query_one(&sql, &[]).await.err()?;
    error.code().map(|code| code.code().to_owned())
}

/// A request whose answer was lost is asked again under its name, and is the same turn.
#[tokio::test]
async fn the_same_request_is_one_turn() {
    let database = plain().database();
    let of =
        |subject: &str| Caller::Reader(json!({"sub": subject, "app_metadata": {"role": "admin"}}));
    let reader = database.as_caller(of("s")).await;
    let take = async |request: &str| -> Option<i32> {
        let sql = format!("select monitoring.take_turn('POST', '{request}')");
        reader
            .query_one(&sql, &[])
            .await
            .expect("taking a turn")
            .get(0)
    };
    for _ in 0..3 {
        for n in 0..POSTS {
            assert_eq!(take(&format!("request {n}")).await, None);
        }
    }
    let wait = take("one more").await.expect("to be refused");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(require(&reader, "request 3").await, None);
    assert_eq!(require(&reader, "one more").await, Some("PV429".to_owned()));
    // Of another method, and of another subject.
    let get = "select monitoring.take_turn('GET', 'request 3')";
    let turn = reader.query_one(get, &[]).await.expect("taking a turn");
    assert_eq!(turn.get::<_, Option<i32>>(0), None);
    let reader = database.as_caller(of("t")).await;
    assert_eq!(
        require(&reader, "request 3").await,
        Some("PV429".to_owned())
    );
}

/// Many at once, on instances that know nothing of each other: the row's lock makes it exact.
#[tokio::test]
async fn apps_that_share_the_load_let_in_exactly_so_many() {
    let database = plain().database();
    let apps = [
        TestApp::new(&database).await,
        TestApp::new(&database).await,
        TestApp::new(&database).await,
    ];
    // Each has its connection before it counts.
    for app in &apps {
        app.send(Request::get("/api/monitoring/health", "")).await;
    }
    let [a, b, c] = &apps;
    let (a, b, c) = tokio::join!(
        statuses(a, connections, 17),
        statuses(b, connections, 17),
        statuses(c, connections, 17)
    );
    let all: Vec<u64> = [a, b, c].concat();
    let let_in = all.iter().filter(|&&status| status == 200).count();
    assert_eq!(let_in, GETS, "{all:?}");
    assert!(
        all.iter().all(|&status| status == 200 || status == 429),
        "{all:?}"
    );
    let counted = "select method, cardinality(taken_at) from monitoring.request_turns";
    assert_eq!(database.psql(SUPERUSER, counted).as_deref(), Ok("GET|30\n"));
}

/// A server that is out of transaction ids can be read; that is when its numbers are needed.
#[tokio::test]
async fn a_server_that_is_out_of_transaction_ids_is_read_all_the_same() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let app = TestApp::new(&database).await;
    let server = database.superuser().await;
    let other = "create database doomed";
    server.batch_execute(other).await.expect("a database");
    // Two billion transactions old by the catalog, which the next VACUUM makes known to the server...
    let grown_old = "update pg_database set datfrozenxid = \
        ((pg_current_xact_id()::text::bigint - 2145000000 + 4294967296) % 4294967296)::text::xid \
        where datname = 'doomed' returning oid";
    let row = server.query_one(grown_old, &[]).await.expect("growing old");
    // ... and where autovacuum cannot come to the rescue.
    let oid: u32 = row.get(0);
    let version = format!("base/{oid}/PG_VERSION");
    fs::remove_file(cluster.directory().join(version)).expect("closing the database");
    server
        .batch_execute("vacuum freeze")
        .await
        .expect("a vacuum");
    let refused = server.batch_execute("select pg_current_xact_id()").await;
    let code = refused.expect_err("to be out of ids").code().cloned();
    assert_eq!(code, Some(SqlState::PROGRAM_LIMIT_EXCEEDED));
    let answer = app.send(connections()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Whoever holds the row of one subject keeps nobody else waiting.
#[tokio::test]
async fn a_row_that_is_held_costs_nobody_else_a_turn() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_eq!(app.send(connections()).await.status, 200);
    pass(&database, 3601);
    let mut holder = database.superuser().await;
    let held = holder.transaction().await.expect("beginning");
    held.execute("select from monitoring.request_turns for update", &[])
        .await
        .expect("holding the row");
    let newcomer = token("a newcomer", "developer", &json!({}));
    let answer = app.send(connections().bearer(&newcomer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// The server's clock was set back: what was counted is of a time to come.
#[tokio::test]
async fn nobody_waits_for_a_clock_to_catch_up() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_eq!(statuses(&app, record, POSTS).await, [201; POSTS]);
    let sql = "update monitoring.request_turns set taken_at = array(select t + interval '1 hour' from unnest(taken_at) t order by t)";
    database.psql(SUPERUSER, sql).expect("changing the clock");
    assert_eq!(app.send(record()).await.status, 201);
}

/// Not every issuer's subjects are texts: none of them stands for another.
#[tokio::test]
async fn a_subject_that_is_no_text_has_a_minute_of_its_own() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let of = |subject: Value| {
        let bearer = token("", "developer", &json!({ "sub": subject }));
        record().bearer(&bearer)
    };
    let flood = statuses(&app, || of(json!(1)), POSTS + 1).await;
    assert_eq!(flood[POSTS], 429, "{flood:?}");
    for other in [json!(2), json!("two"), Value::Null] {
        assert_eq!(app.send(of(other.clone())).await.status, 201, "{other}");
    }
    retry_after(&app.send(of(json!(1))).await);
}
