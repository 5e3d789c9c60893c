//! The outbox: read, publish, mark.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{
    Bus,
    bus::{Announcement, Failure},
};
use crate::db::{Database, DbError, Query, Session, Target};

/// As many as go into one call.
const BATCH: &str = "select coalesce(jsonb_agg(to_jsonb(b) order by (b.detail ->> 'place')::bigint), '[]')::text \
                     from monitoring.outbox_batch(10) b";

/// Reading and marking are short; more would be a lock, or a database that has gone.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// In less time nothing is taken out of the outbox: it would only rest until its lease is over.
const WORTH_TRYING: Duration = Duration::from_secs(2);

/// After so many attempts an entry goes alone: the call is refused as a whole where one entry is at fault.
const TOGETHER: u64 = 3;

/// What is left of the time for saying how it went.
const MARKING: Duration = Duration::from_millis(500);

/// How announcing went.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) published: u64,
    pub(super) failed: u64,
    /// Of those that failed: what is not tried again.
    pub(super) given_up: u64,
    /// What is still to be announced; not known where it could not be asked.
    pub(super) left: Option<u64>,
    /// The first failure.
    pub(super) problem: Option<String>,
}

impl Published {
    pub(super) fn report(&self) -> Value {
        let mut report =
            json!({"published": self.published, "failed": self.failed, "left": self.left});
        if self.given_up > 0 {
            report["given_up"] = json!(self.given_up);
        }
        if let Some(problem) = &self.problem {
            report["problem"] = json!(problem);
        }
        report
    }
}

/// Publishes what is due, oldest first, until there is no more, the bus refuses a whole batch, or the time is over.
///
/// Nothing is marked as published that the bus has not confirmed. Where it has and the mark is lost, the same entry is
/// published again after its lease, under the same `dedup_key`.
pub(super) async fn publish(bus: &Bus, target: Target<'_>, budget: Duration) -> Published {
    let started = Instant::now();
    let left = || budget.saturating_sub(started.elapsed());
    let mut sum = Published::default();
    while left() >= WORTH_TRYING {
        match publish_batch(bus, target, left()).await {
            Ok(None) => break,
            Ok(Some(batch)) => {
                let is_hopeless = batch.published == 0;
                sum.published += batch.published;
                sum.failed += batch.failed;
                sum.given_up += batch.given_up;
                sum.left = batch.left;
                sum.problem = sum.problem.or(batch.problem);
                if is_hopeless {
                    break;
                }
            }
            Err(error) => {
                sum.failed += error.unmarked;
                sum.left = None;
                sum.problem = sum.problem.or(Some(error.problem));
                break;
            }
        }
    }
    sum
}

/// The database did not let it be read or marked.
struct Unmarked {
    unmarked: u64,
    problem: String,
}

impl Unmarked {
    fn of(unmarked: usize) -> impl FnOnce(DbError) -> Self {
        move |error| Self {
            unmarked: unmarked as u64,
            problem: error.to_string(),
        }
    }
}

async fn publish_batch(
    bus: &Bus,
    target: Target<'_>,
    budget: Duration,
) -> Result<Option<Published>, Unmarked> {
    let started = Instant::now();
    let batch = ask(target.database, "outbox_batch", BATCH, Vec::new())
        .await
        .map_err(Unmarked::of(0))?;
    let batch: Vec<Value> = match batch {
        Value::Array(batch) if !batch.is_empty() => batch,
        _ => return Ok(None),
    };
    let announcements: Vec<Announcement> = batch
        .iter()
        .map(|row| announcement(row, target.name))
        .collect();
    let patience = budget.saturating_sub(started.elapsed() + MARKING);
    let outcomes = bus.put(&announcements, patience).await;
    let failures: Vec<Option<Failure>> = outcomes.into_iter().map(Result::err).collect();
    let results: Vec<Value> = batch
        .iter()
        .zip(&announcements)
        .zip(&failures)
        .map(|((row, sent), failure)| {
            json!({
                "id": row["id"],
                "error": failure.as_ref().map(|failure| &failure.reason),
                "is_its_own": sent.is_alone && failure.as_ref().is_some_and(|failure| failure.is_refusal),
            })
        })
        .collect();
    let problem = failures.into_iter().flatten().next();
    let marked = ask(
        target.database,
        "outbox_mark",
        "select (monitoring.outbox_mark($1::jsonb) || jsonb_build_object('left', monitoring.outbox_left()))::text",
        vec![Some(Value::Array(results).to_string())],
    )
    .await
    .map_err(Unmarked::of(batch.len()))?;
    Ok(Some(Published {
        published: marked["published"].as_u64().unwrap_or_default(),
        failed: marked["failed"].as_u64().unwrap_or_default(),
        given_up: marked["given_up"].as_u64().unwrap_or_default(),
        left: marked["left"].as_u64(),
        problem: problem.map(|failure| failure.reason),
    }))
}

async fn ask(
    database: &Database,
    name: &'static str,
    sql: &'static str,
    params: Vec<Option<String>>,
) -> Result<Value, DbError> {
    let query = Query { name, sql, params };
    let text = database
        .write(&Session::agent(STATEMENT_TIMEOUT), &query)
        .await?;
    serde_json::from_str(&text).map_err(|_| DbError::unreadable(name))
}

/// A row of the outbox as it goes out. Which database this is, only the function knows by name.
fn announcement(row: &Value, target: &str) -> Announcement {
    let mut detail: Map<String, Value> = row["detail"].as_object().cloned().unwrap_or_default();
    detail.insert("target".to_owned(), json!(target));
    detail.insert("dedup_key".to_owned(), row["dedup_key"].clone());
    Announcement {
        detail_type: row["detail_type"].as_str().unwrap_or_default().to_owned(),
        detail,
        happened_at: row["created_at"].as_str().map(str::to_owned),
        // The attempt that this is counts.
        is_alone: row["attempts"].as_u64() > Some(TOGETHER),
    }
}
