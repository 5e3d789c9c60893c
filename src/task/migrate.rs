//! `migrate` and `rollback`: the schema, with a login of its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::{TaskError, statement_timeout};
use crate::{
    db::{
        Database,
        migrate::{Outcome, Rollback},
    },
    event::TaskEvent,
};

/// A migration may take a while, though not longer than the function may run.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(50);

/// Applies what is not applied yet.
pub(super) async fn migrate(database: &Database, budget: Duration) -> Result<Value, TaskError> {
    let timeout = statement_timeout(STATEMENT_TIMEOUT, budget);
    Ok(report("applied", &database.migrate(timeout).await?))
}

/// Undoes everything. The event must name the database, so that nobody rolls back the wrong one.
pub(super) async fn rollback(
    database: &Database,
    task: &TaskEvent,
    budget: Duration,
) -> Result<Value, TaskError> {
    let Some(confirm) = task.fields.get("confirm").and_then(Value::as_str) else {
        return Err(TaskError::BadField(
            "rollback needs \"confirm\" with the name of the database: {\"task\":\"rollback\",\"confirm\":\"…\"}",
        ));
    };
    let discard_events = match task.fields.get("discard_events") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(discard_events)) => *discard_events,
        Some(_) => {
            return Err(TaskError::BadField(
                "\"discard_events\" must be true or false",
            ));
        }
    };
    let request = Rollback {
        confirm: confirm.to_owned(),
        discard_events,
    };
    let timeout = statement_timeout(STATEMENT_TIMEOUT, budget);
    let outcome = database.rollback(&request, timeout).await?;
    Ok(report("undone", &outcome))
}

fn report(done: &str, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done { versions, newer } if newer.is_empty() => {
            json!({"status": "done", done: versions})
        }
        Outcome::Done { versions, newer } => json!({
            "status": "done", done: versions, "newer": newer,
            "remedy": "the schema is newer than this function: deploy the one that migrated it",
        }),
        Outcome::Skipped => {
            json!({"status": "skipped", "reason": "another run is migrating or rolling back"})
        }
    }
}
