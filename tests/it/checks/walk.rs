//! A case file is a walk: what is given, in SQL, and what the check then finds.
//!
//! ```text
//! -- cluster: <a setting>    a server of its own, for what would be seen from other databases
//! -- standby:                one with a standby that follows it
//! -- object: <pattern>       only findings about such objects count
//! -- given: <words>          then SQL, as psql runs it
//! -- session a: <SQL>        another session begins it, and stays
//! -- end: a                  and is gone
//! -- on standby: <SQL>
//! -- then: none
//! -- then: warning <object>  `{a}` is the process id of session a, `*` is anything
//! ```

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, PASSWORD, SUPERUSER, plain};
use crate::support::wait::wait_until;

/// Where a case happens.
struct Stage {
    database: TestDatabase,
    standby: Option<Cluster>,
    sessions: BTreeMap<String, (i32, JoinHandle<()>)>,
}

/// Walks through a case; how many steps were checked.
pub(super) async fn walk(check_id: &str, case: &str) -> usize {
    let mut stage = Stage::set(case).await;
    let pattern = directive(case, "object").unwrap_or("*");
    let (mut given, mut sql, mut checked) = ("nothing", String::new(), 0);
    for line in case.lines() {
        let Some((word, rest)) = line
            .strip_prefix("-- ")
            .and_then(|line| line.split_once(':'))
        else {
            sql.push_str(line);
            sql.push('\n');
            continue;
        };
        stage.run(&mut sql);
        let rest = rest.trim();
        match word.split_once(' ').map_or((word, ""), |pair| pair) {
            ("cluster" | "standby" | "object", "") => {}
            ("given", "") => given = rest,
            ("session", name) => stage.begin(name, rest).await,
            ("end", "") => stage.end(rest).await,
            ("on", "standby") => stage.on_standby(rest).await,
            ("then", "") => {
                let expected = stage.named(rest);
                stage.expect(check_id, pattern, given, &expected).await;
                checked += 1;
            }
            _ => panic!("{check_id}: what is {line}?"),
        }
    }
    assert_eq!(sql.trim(), "", "{check_id}: nobody looks at the end");
    checked
}

fn directive<'a>(case: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("-- {name}:");
    let mut lines = case.lines();
    lines
        .find_map(|line| line.strip_prefix(&start))
        .map(str::trim)
}

impl Stage {
    async fn set(case: &str) -> Self {
        let (setting, follows) = (
            directive(case, "cluster"),
            directive(case, "standby").is_some(),
        );
        let cluster = match setting {
            Some(setting) => Some(Cluster::start(ClusterOptions {
                settings: setting.to_owned().leak(),
                ..ClusterOptions::default()
            })),
            None => follows.then(|| Cluster::start(ClusterOptions::default())),
        };
        let database = cluster.as_ref().unwrap_or_else(|| plain()).database();
        let standby = match &cluster {
            Some(primary) if follows => {
                let (port, password) = (primary.port(), &*PASSWORD);
                let settings = format!(
                    "primary_conninfo = 'host=127.0.0.1 port={port} user={SUPERUSER} password={password}'"
                );
                let options = ClusterOptions {
                    settings: settings.leak(),
                    ..ClusterOptions::default()
                };
                Some(primary.standby(options).await)
            }
            _ => None,
        };
        Self {
            database,
            standby,
            sessions: BTreeMap::new(),
        }
    }

    /// Runs what has gathered.
    fn run(&self, sql: &mut String) {
        let gathered = std::mem::take(sql);
        if !gathered.trim().is_empty() {
            let ran = self.database.psql(SUPERUSER, &gathered);
            ran.unwrap_or_else(|problem| panic!("{gathered}{problem}"));
        }
    }

    async fn begin(&mut self, name: &str, sql: &str) {
        let client = self.database.superuser().await;
        let pid = client.query_one("select pg_backend_pid()", &[]).await;
        let pid = pid.expect("asking for the process id").get(0);
        let last = sql.rsplit("; ").next().unwrap_or(sql).to_owned();
        let sql = sql.to_owned();
        let task = tokio::spawn(async move {
            // Statement by statement: what follows `begin` waits by itself.
            for statement in sql.split("; ") {
                let _ = client.batch_execute(statement).await;
            }
            std::future::pending().await
        });
        // A row that one of them is to wait for must be locked first.
        let observer = self.database.superuser().await;
        let is_there = "select from pg_stat_activity where pid = $1 and (query = $2 or wait_event_type = 'Lock')";
        wait_until(&format!("session {name} has begun"), async || {
            let found = observer.query_opt(is_there, &[&pid, &last]).await;
            found.expect("watching a session").is_some()
        })
        .await;
        self.sessions.insert(name.to_owned(), (pid, task));
    }

    async fn end(&mut self, name: &str) {
        let (pid, task) = self.sessions.remove(name).expect("a session of that name");
        let terminate = format!("select pg_terminate_backend({pid}, 5000)");
        self.database
            .psql(SUPERUSER, &terminate)
            .expect("ending a session");
        task.abort();
    }

    async fn on_standby(&self, sql: &str) {
        let standby = self.standby.as_ref().expect("a standby");
        let ran = standby.existing_database("postgres").psql(SUPERUSER, sql);
        ran.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
    }

    fn named(&self, text: &str) -> String {
        let name = |text: String, (name, (pid, _)): (&String, &(i32, JoinHandle<()>))| {
            text.replace(&format!("{{{name}}}"), &pid.to_string())
        };
        self.sessions.iter().fold(text.to_owned(), name)
    }

    /// Waits until the check finds this, and only this: counters arrive when they arrive.
    async fn expect(&self, check_id: &str, pattern: &str, given: &str, expected: &str) {
        let client = self.database.superuser().await;
        let mut found = Vec::new();
        let what = format!("{check_id}, given {given}: {expected}");
        let start = std::time::Instant::now();
        wait_until(&what, async || {
            found = findings(&client, check_id, pattern).await;
            let is_so = match (expected, found.as_slice()) {
                ("none", []) => true,
                (_, [only]) => matches(expected, only),
                _ => false,
            };
            assert!(
                is_so || start.elapsed().as_secs() < 50,
                "{what}; found: {found:#?}"
            );
            is_so
        })
        .await;
    }
}

async fn findings(client: &Client, check_id: &str, pattern: &str) -> Vec<String> {
    let sql = "select severity || ' ' || object from monitoring.findings() where check_id = $1";
    let rows = client.query(sql, &[&check_id]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{check_id}: {error:?}"));
    let all = rows.iter().map(|row| row.get::<_, String>(0));
    let about = |line: &String| {
        line.split_once(' ')
            .is_some_and(|(_, object)| matches(pattern, object))
    };
    all.filter(about).collect()
}

/// Whether a text is what a pattern says; `*` is anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, "")) => text.starts_with(start),
        Some((start, end)) => text.starts_with(start) && text[start.len()..].ends_with(end),
    }
}
