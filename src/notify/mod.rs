//! Announcing: what the outbox holds, and that a database cannot be reached, on an EventBridge bus.
//!
//! Delivered at least once: whoever must not act twice looks at `dedup_key` (docs/operations.md, Notifications).

mod bus;
mod outages;
mod outbox;

use std::time::{Duration, SystemTime};

use aws_sdk_eventbridge::primitives::DateTime;
use serde_json::{Map, Value, json};

pub use bus::{Bus, SOURCE};

use crate::db::{DbError, Target};
use bus::Announcement;
use outages::Outages;

/// The most that announcing takes of a sample's time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is kept of a sample's time for saying that the database was not there.
const RESERVE: Duration = Duration::from_secs(3);

/// Announces, where there is a bus to announce on.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    bus: Option<Bus>,
    outages: Outages,
}

impl Notifier {
    pub(crate) fn on(bus: Bus) -> Self {
        Self {
            bus: Some(bus),
            outages: Outages::default(),
        }
    }

    /// How much of a sample's time is left to [`Notifier::missed`].
    pub(crate) fn reserve(&self, budget: Duration) -> Duration {
        match self.bus {
            Some(_) => RESERVE.min(budget / 3),
            None => Duration::ZERO,
        }
    }

    /// The outage that this instance has announced, and whose end it has not yet seen.
    pub(crate) fn outage(&self, target: &str) -> Option<String> {
        self.outages.announced(target)
    }

    /// After a sample: publishes what its outbox holds. `after` is what `monitoring.after_sample()` answered, null where the
    /// sample was skipped. Returns what the report says of it.
    pub(crate) async fn sampled(
        &self,
        target: Target<'_>,
        after: &Value,
        may_hold_more: bool,
        budget: Duration,
    ) -> Option<Value> {
        let Some(bus) = &self.bus else {
            let left = after.get("left")?;
            return Some(
                json!({"published": 0, "failed": 0, "left": left, "reason": "EVENT_BUS_NAME is not set"}),
            );
        };
        if after["is_return_noted"] == true {
            self.outages.over(target.name, after["tick_at"].as_str());
        }
        if after.is_null() {
            self.returned_without_outbox(bus, target.name, budget.min(PATIENCE))
                .await;
            return None;
        }
        if after["is_any_due"] != true && !may_hold_more {
            return Some(json!({"published": 0, "failed": 0, "left": after["left"]}));
        }
        let published = outbox::publish(bus, target, budget.min(PATIENCE)).await;
        if published.given_up > 0 {
            tracing::error!(
                target = target.name,
                given_up = published.given_up,
                "the bus refuses what is given up now, and takes others: monitoring.outbox has it"
            );
        }
        if let Some(problem) = &published.problem {
            tracing::warn!(
                target = target.name,
                failed = published.failed,
                "not everything could be announced: {problem}"
            );
        }
        Some(published.report())
    }

    /// After a sample that found no database: announces that, unless it was announced. Returns what there is to tell of it:
    /// whether it failed.
    pub(crate) async fn missed(
        &self,
        target: &str,
        error: Option<&DbError>,
        budget: Duration,
    ) -> Option<bool> {
        let bus = self.bus.as_ref()?;
        let now = SystemTime::now();
        let outage = self.outages.missed(target, now);
        if outage.is_announced {
            return None;
        }
        let announcement = announcement(
            "pgvigil.database.unreachable.v1",
            json!({
                "dedup_key": format!("unreachable: {}", outage.name),
                "target": target,
                "outage": outage.name,
                "last_sample_at": outage.last_sample_at,
                "failed_at": outages::text(DateTime::from(now)),
                "reason": error.map_or("no answer before the deadline", |error| error.kind().words()),
                "sqlstate": error.and_then(DbError::sqlstate),
            }),
        );
        let is_announced = put(bus, target, announcement, budget.min(PATIENCE)).await;
        if is_announced {
            self.outages.told(target);
        }
        Some(!is_announced)
    }

    /// A standby answers and stores nothing: what its outbox cannot tell is told directly.
    async fn returned_without_outbox(&self, bus: &Bus, target: &str, budget: Duration) {
        let Some(outage) = self.outages.announced(target) else {
            return;
        };
        let announcement = announcement(
            "pgvigil.database.reachable.v1",
            json!({
                "dedup_key": format!("reachable: {outage}"),
                "target": target,
                "outage": outage,
                "was_announced": true,
            }),
        );
        if put(bus, target, announcement, budget).await {
            self.outages.over(target, None);
        }
    }
}

fn announcement(detail_type: &str, detail: Value) -> Announcement {
    let detail = match detail {
        Value::Object(detail) => detail,
        _ => Map::new(),
    };
    Announcement {
        detail_type: detail_type.to_owned(),
        detail,
        happened_at: None,
        is_alone: true,
    }
}

/// Whether it was announced.
async fn put(bus: &Bus, target: &str, announcement: Announcement, budget: Duration) -> bool {
    let detail_type = announcement.detail_type.clone();
    let outcomes = bus.put(std::slice::from_ref(&announcement), budget).await;
    let problem = match outcomes.into_iter().next() {
        Some(Ok(())) => return true,
        Some(Err(failure)) => failure.reason,
        None => "no answer for it".to_owned(),
    };
    tracing::warn!(target, "{detail_type} could not be announced: {problem}");
    false
}
