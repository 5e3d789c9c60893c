//! Records a week: a real application on a real server, by day and by night, with all that an ordinary week brings. A real second
//! stands for forty minutes. README.md in `benches/` says what becomes of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::report::say;
use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, PASSWORD, SUPERUSER};
use crate::support::random::Random;
use crate::{SERIES, application};

/// What a reading stands for.
const READING_MINUTES: u32 = 10;

/// What it takes.
const READING: Duration = Duration::from_millis(250);

const WEEK_MINUTES: u32 = 7 * 24 * 60;

/// Sessions that work.
const WORKERS: u64 = 6;

/// Servers are watched with what they are delivered with, autovacuum among it; a minute is 25 ms here.
const SETTINGS: &str = "
autovacuum = on
autovacuum_naptime = 1s
checkpoint_timeout = 30s
shared_buffers = 64MB
restart_after_crash = on
";

/// What everybody asks, by the number in its comment; README.md says what of it is kept.
const STATEMENTS: [&str; 6] = [
    "select /*1*/ g.id, g.name, g.answer from guests g where g.wedding_id = {}",
    "select /*2*/ w.day, count(*) from weddings w where w.day between date '2025-01-01' + {} % 700 and date '2025-01-01' + {} % 700 + 14 group by w.day",
    "update /*3*/ guests set answer = 'yes' where id = {}",
    "insert /*4*/ into messages (wedding_id, sent_at, body) values ({}, now(), repeat('x', 200))",
    "update /*5*/ seats set taken = taken + 1 where id = 1 + {} % 10",
    "select /*6*/ w.venue_id, count(*), min(g.name) from weddings w join guests g on g.wedding_id = w.id group by 1 order by 2 desc limit {} % 7 + 1",
];

/// Numbers of a reading, gauges first; the counters are as the server has them.
const READ: &str = "select concat_ws(E'\\t',
    concat_ws(',', s.active_sessions, s.idle_sessions, s.idle_in_transaction, s.active_on_cpu, s.active_on_lock, s.active_on_lwlock, s.active_on_io,
      s.active_on_client, s.active_on_ipc, s.active_on_other, s.autovacuum_workers, coalesce(s.longest_statement_ms, 0),
      (select sum(c.database_connections) from monitoring.connections() c), pg_database_size(current_database()), s.xid_age),
    concat_ws(',', s.commits, s.rollbacks, s.blocks_read, s.blocks_hit, s.tuples_returned, s.tuples_fetched, s.tuples_inserted, s.tuples_updated,
      s.tuples_deleted, s.temp_files, s.temp_bytes, s.deadlocks, s.wal_bytes, s.checkpoints_timed, s.checkpoints_requested),
    coalesce((select string_agg(format('%s:%s:%s', t.tablename, t.live_tuples, t.dead_tuples), ',' order by t.tablename) from monitoring.table_states t where t.needs_vacuum), '-'),
    (select string_agg(format('%s:%s:%s:%s', coalesce(q.calls, 0), coalesce(q.exec_us, 0), coalesce(q.hit, 0), coalesce(q.read, 0)), ',' order by n)
      from generate_series(1, 6) n left join lateral (
        select sum(p.calls) as calls, round(sum(p.total_exec_time) * 1000) as exec_us, sum(p.shared_blks_hit) as hit, sum(p.shared_blks_read) as read
        from pg_stat_statements p where p.query like format('%%/*%s*/%%', n) and p.query not like '%generate_series%' and p.dbid = (select d.oid from pg_database d where d.datname = current_database())
      ) q on true))
  from monitoring.collect_sample(monitoring.look_at_backends()) s";

/// How busy it is: a curve over the day, and Saturday's is another.
fn busy(minute: u32) -> f64 {
    let hour = f64::from(minute % 1440) / 60.0;
    let day = f64::from((minute / 1440) % 7);
    let by_day = if (6.0..23.0).contains(&hour) {
        (std::f64::consts::PI * (hour - 6.0) / 17.0).sin()
    } else {
        0.0
    };
    let weight = match day {
        d if d >= 6.0 => 0.5,
        d if d >= 5.0 => 1.0,
        _ => 0.7,
    };
    0.08 + 0.92 * weight * by_day
}

pub(crate) async fn run() {
    let cluster = Cluster::start(ClusterOptions {
        settings: SETTINGS,
        ..ClusterOptions::default()
    });
    let database = Arc::new(cluster.database());
    say("record: building the application");
    application(&database, 4);
    // What is kept and hardly ever looked at: more than the cache holds, and all of it is in the backup.
    let photos = "create table photos as select n as id, repeat(md5(n::text), 60) as body from generate_series(1, 60000) n;
        alter table photos enable row level security; create policy own on photos to web using (id > 0); vacuum analyze photos";
    database.psql(SUPERUSER, photos).expect("filling a table");
    let started = Instant::now();
    let minute_now = move || u32::try_from(started.elapsed().as_millis() / 25).unwrap_or(u32::MAX);
    let is_over = Arc::new(AtomicBool::new(false));
    let workers: Vec<JoinHandle<()>> = (0..WORKERS)
        .map(|n| {
            tokio::spawn(work(
                Arc::clone(&database),
                n,
                minute_now,
                Arc::clone(&is_over),
            ))
        })
        .collect();
    let mut lines = String::from(
        "# minute\tserver\tgauges\tcounters\ttables past their threshold\tstatements\n",
    );
    let mut reader = connected(&database).await;
    let mut pool: Vec<Client> = Vec::new();
    let mut server = 0;
    let mut minute = 0;
    say("record: a week, in about four minutes");
    while minute < WEEK_MINUTES {
        let due = READING * (minute / READING_MINUTES);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        // An application's pool is as large as it is busy.
        let wanted = (8..32)
            .take_while(|n| f64::from(*n) < 8.0 + busy(minute) * 24.0)
            .count()
            + 8;
        pool.truncate(wanted);
        pool.retain(|client| !client.is_closed());
        while pool.len() < wanted {
            pool.push(connected(&database).await);
        }
        let mark = happens(minute, &database, &mut reader, &mut pool).await;
        server += u32::from(mark);
        let line = read(&database, &mut reader).await;
        lines += &format!("{minute}\t{server}\t{line}\n");
        minute += READING_MINUTES;
    }
    is_over.store(true, Ordering::Relaxed);
    for worker in workers {
        let _ = worker.await;
    }
    fs::write(SERIES, lines).expect("writing the series");
    say(&format!("record: {SERIES}"));
}

/// What happens once: whether counters began anew by it.
async fn happens(
    minute: u32,
    database: &Arc<TestDatabase>,
    reader: &mut Client,
    pool: &mut Vec<Client>,
) -> bool {
    let (day, time) = (minute / 1440, minute % 1440);
    // Deploys, Tuesday and Thursday: every client comes anew.
    if (day, time) == (1, 600) || (day, time) == (3, 960) {
        pool.clear();
        let deploy = format!(
            "create table feature_{day} (id int primary key, wedding_id int references weddings, at timestamptz);
             create index on feature_{day} (wedding_id); alter table feature_{day} enable row level security;
             create policy own on feature_{day} to web using (current_setting('app.user', true) <> '');
             alter table guests add column extra_{day} text"
        );
        reader.batch_execute(&deploy).await.expect("deploying");
        let index =
            format!("create index concurrently guests_answer_{day} on guests (answer, name)");
        reader
            .batch_execute(&index)
            .await
            .expect("creating an index");
    }
    // The report of each night, and the backup of Sunday.
    if time == 120 {
        let report = STATEMENTS[5].replace("{}", "3");
        reader.batch_execute(&report).await.expect("reporting");
    }
    if (day, time) == (6, 180) {
        for table in [
            "venues", "weddings", "guests", "messages", "seats", "photos",
        ] {
            let copy = format!("copy {table} to '/dev/null'");
            reader.batch_execute(&copy).await.expect("copying out");
        }
    }
    if (day, time) == (3, 720) {
        reader
            .batch_execute("select pg_stat_reset()")
            .await
            .expect("resetting");
        return true;
    }
    // A process dies, and the server with it; it comes again by itself.
    if (day, time) == (2, 250) {
        let pid = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() limit 1";
        let victim: i32 = reader.query_one(pid, &[]).await.expect("choosing").get(0);
        let kill = format!("copy (select 1) to program 'kill -9 {victim}'");
        // It may not live to answer.
        let _ = reader.batch_execute(&kill).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        pool.clear();
        *reader = connected(database).await;
        return true;
    }
    false
}

async fn read(database: &Arc<TestDatabase>, reader: &mut Client) -> String {
    loop {
        match reader.query_one(READ, &[]).await {
            Ok(row) => return row.get(0),
            Err(error) if reader.is_closed() || error.is_closed() => {
                *reader = connected(database).await
            }
            Err(error) => panic!("reading: {error:?}"),
        }
    }
}

/// Works as much as the minute wants, until it is over.
async fn work(
    database: Arc<TestDatabase>,
    number: u64,
    minute: impl Fn() -> u32,
    is_over: Arc<AtomicBool>,
) {
    let mut random = Random::new();
    let mut client = connected(&database).await;
    for _ in 0..number {
        random.below(2); // each its own
    }
    while !is_over.load(Ordering::Relaxed) {
        let of_hundred = random.below(100);
        let which = match of_hundred {
            0..=59 => 0,
            60..=69 => 1,
            70..=79 => 2,
            80..=84 => 3,
            _ => 4,
        };
        let value = 1 + random.below(8000);
        let sql = STATEMENTS[which].replace("{}", &value.to_string());
        if client.batch_execute(&sql).await.is_err() {
            client = connected(&database).await;
        }
        let pause = 8.0 / busy(minute());
        tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await;
    }
}

/// A session as soon as the server takes one.
async fn connected(database: &TestDatabase) -> Client {
    loop {
        match database.connect_as(SUPERUSER, &PASSWORD).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
