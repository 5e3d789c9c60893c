//! Scheduled work: one report a task, an error where Lambda must see a failure.

mod cleanup;
pub mod metrics;
mod migrate;
mod sample;
mod validate;
mod windows;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sample::Sampler;
use serde_json::{Value, json};

use crate::{
    config::CloudWatchMetrics,
    db::{Database, DbError, Target, Targets, migrate::MigrateError},
    event::TaskEvent,
    notify::{Bus, Notifier},
    telemetry::metrics::MetricLines,
};

/// What can be asked for, as the error names it.
const TASKS: &str = "sample, cleanup, validate, migrate, rollback";

/// Runs tasks on the databases.
#[derive(Debug)]
pub struct Tasks {
    targets: Arc<Targets>,
    notifier: Notifier,
    metrics: MetricLines,
    published: CloudWatchMetrics,
}

/// A task that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No task has this name.
    #[error("unknown task \"{0}\": must be one of {TASKS}")]
    Unknown(String),
    /// The event asks for a database that is not configured.
    #[error(
        "\"target\" names \"{asked}\", and no such database is configured: must be one of {known}"
    )]
    UnknownTarget {
        /// What it asks for.
        asked: String,
        /// Those that are configured.
        known: String,
    },
    /// A field of the event is missing or wrong.
    #[error("{0}")]
    BadField(&'static str),
    /// A field that the task does not have; it may be a misspelt one that matters.
    #[error("\"{0}\" is no field of this task")]
    UnknownField(String),
    /// The time until Lambda's deadline was used up.
    #[error("task {0} was not done before the deadline")]
    Deadline(String),
    /// The database refused or could not be reached.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The migrations could not be applied or undone.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

impl TaskError {
    /// A stable name for the kind of failure, for alarms and retries to tell apart.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "UnknownTask",
            Self::UnknownTarget { .. } | Self::BadField(_) | Self::UnknownField(_) => "BadTask",
            Self::Deadline(_) => "Deadline",
            Self::Database(_) | Self::Migrate(MigrateError::Database(_)) => "Database",
            Self::Migrate(_) => "Migration",
        }
    }
}

impl Tasks {
    /// Tasks on these databases, which tell CloudWatch these of their metrics.
    pub fn new(targets: Arc<Targets>, published: CloudWatchMetrics) -> Self {
        Self {
            targets,
            notifier: Notifier::default(),
            metrics: MetricLines::to_standard_output(),
            published,
        }
    }

    /// The same with a bus to announce on.
    pub fn with_bus(self, bus: Bus) -> Self {
        let notifier = Notifier::on(bus);
        Self { notifier, ..self }
    }

    /// The same with its metrics elsewhere.
    pub fn with_metrics_to(self, metrics: MetricLines) -> Self {
        Self { metrics, ..self }
    }

    /// Runs a task and returns its report: the SQL's own, with the task's name and the time it took in ms.
    ///
    /// # Errors
    ///
    /// See [`TaskError`]. Work that another run is doing is no error: the report says `skipped`.
    pub async fn run(&self, task: &TaskEvent, budget: Duration) -> Result<Value, TaskError> {
        let started = Instant::now();
        let target = self.target_of(task).inspect_err(|error| {
            tracing::error!(task = task.name, "task failed: {error}");
        })?;
        let result = match check_fields(task) {
            Ok(()) if task.name == "sample" => self.sample(target, task, budget).await,
            Ok(()) => {
                let done = tokio::time::timeout(budget, dispatch(target.database, task, budget))
                    .await
                    .unwrap_or_else(|_| Err(TaskError::Deadline(task.name.clone())));
                target.database.settle().await;
                done
            }
            Err(error) => {
                let refused = Err(error);
                if task.name == "sample" {
                    let sampler = self.sampler(target);
                    sampler.tell(&refused, sample::milliseconds(started), None);
                }
                refused
            }
        };
        let duration_ms = sample::milliseconds(started);
        let result = result.map(|mut report| {
            report["task"] = json!(task.name);
            // A sample's own is in its metrics already.
            if task.name != "sample" {
                report["duration_ms"] = json!(duration_ms);
            }
            report
        });
        match result {
            Ok(report) => {
                tracing::info!(
                    task = task.name,
                    target = target.name,
                    status = report["status"].as_str(),
                    duration_ms,
                    "task done"
                );
                Ok(report)
            }
            Err(error) => {
                tracing::error!(
                    task = task.name,
                    target = target.name,
                    duration_ms,
                    "task failed: {error}"
                );
                Err(error)
            }
        }
    }

    async fn sample(
        &self,
        target: Target<'_>,
        task: &TaskEvent,
        budget: Duration,
    ) -> Result<Value, TaskError> {
        let sampler = self.sampler(target);
        let sampled = sampler.run(task.scheduled_at.as_deref(), budget).await;
        if !matches!(&sampled, Err(TaskError::Database(error)) if error.is_without_answer()) {
            Box::pin(target.database.tell_of_difference()).await;
        }
        sampled
    }

    fn sampler<'a>(&'a self, target: Target<'a>) -> Sampler<'a> {
        Sampler {
            target,
            notifier: &self.notifier,
            metrics: &self.metrics,
            published: &self.published,
        }
    }

    fn target_of(&self, task: &TaskEvent) -> Result<Target<'_>, TaskError> {
        match task.fields.get("target") {
            None | Some(Value::Null) => Ok(self.targets.default_target()),
            Some(Value::String(asked)) => {
                let found = self.targets.get(asked);
                found.ok_or_else(|| TaskError::UnknownTarget {
                    asked: asked.clone(),
                    known: self.targets.names(),
                })
            }
            Some(_) => Err(TaskError::BadField("\"target\" must be a string")),
        }
    }
}

/// Whether the task is known, and has only the fields it can have.
fn check_fields(task: &TaskEvent) -> Result<(), TaskError> {
    let known: &[&str] = match task.name.as_str() {
        "rollback" => &["target", "confirm", "discard_events"],
        "sample" | "cleanup" | "validate" | "migrate" => &["target"],
        _ => return Err(TaskError::Unknown(task.name.clone())),
    };
    let mut names = task.fields.keys();
    match names.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(TaskError::UnknownField(name.clone())),
        None => Ok(()),
    }
}

async fn dispatch(
    database: &Database,
    task: &TaskEvent,
    budget: Duration,
) -> Result<Value, TaskError> {
    match task.name.as_str() {
        "cleanup" => cleanup::run(database, budget).await,
        "validate" => validate::run(database, budget).await,
        "migrate" => migrate::migrate(database, budget).await,
        "rollback" => migrate::rollback(database, task, budget).await,
        _ => Err(TaskError::Unknown(task.name.clone())),
    }
}

/// How long after a task's deadline the server stops what it is doing by itself: a request to stop comes first, if it arrives.
const GRACE: Duration = Duration::from_millis(500);

/// What one statement of a task may take: what is usual for it, or what is left until the deadline.
fn statement_timeout(usual: Duration, budget: Duration) -> Duration {
    usual.min(budget + GRACE)
}

/// A report that SQL worded.
fn report(text: &str, query: &'static str) -> Result<Value, TaskError> {
    serde_json::from_str(text).map_err(|_| DbError::unreadable(query).into())
}
