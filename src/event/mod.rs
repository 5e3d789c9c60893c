//! What woke the function: an HTTP request or a task.
//!
//! Each kind is known by its discriminator, not by trying to read it as everything: an HTTP event has a `requestContext`,
//! a task names itself in `task`, EventBridge wraps that in `detail`.

mod http;

use serde_json::{Map, Value};

pub use http::{Authorizer, HttpEvent, HttpRequest, HttpResponse};

/// What an event turned out to be.
#[derive(Debug)]
pub enum Event {
    /// API Gateway (REST v1 or HTTP v2) or a Function URL.
    Http(Box<HttpEvent>),
    /// A schedule, a rule or a person wants work done.
    Task(TaskEvent),
}

/// The event is none we know; the message says what would be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown event: {0}")]
pub struct UnknownEvent(String);

/// Work to be done, as the event words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// Which task, not yet checked.
    pub name: String,
    /// When the schedule meant it to run: `scheduled_at` of the task or `time` of the EventBridge envelope, RFC 3339.
    pub scheduled_at: Option<String>,
    /// The task's own fields: `confirm`, `target`.
    pub fields: Map<String, Value>,
}

impl Event {
    /// Tells what an event is.
    ///
    /// # Errors
    ///
    /// When it is neither, or both; the message names what is missing.
    pub fn from_json(event: Value) -> Result<Self, UnknownEvent> {
        let Value::Object(fields) = event else {
            return Err(UnknownEvent("it must be a JSON object".to_owned()));
        };
        match (fields.contains_key("requestContext"), fields.contains_key("task"), fields.contains_key("detail")) {
            (true, false, false) => HttpEvent::from_fields(fields).map(|event| Self::Http(Box::new(event))),
            (false, true, false) => TaskEvent::from_fields(fields, None).map(Self::Task),
            (false, false, true) => TaskEvent::from_envelope(fields).map(Self::Task),
            (false, false, false) => Err(UnknownEvent(
                "it needs \"task\" (a task, alone or in \"detail\" of an EventBridge event) or \"requestContext\" (an HTTP request)".to_owned(),
            )),
            _ => Err(UnknownEvent("it must have only one of \"task\", \"detail\" and \"requestContext\"".to_owned())),
        }
    }
}

impl TaskEvent {
    fn from_fields(
        mut fields: Map<String, Value>,
        time: Option<String>,
    ) -> Result<Self, UnknownEvent> {
        let Some(Value::String(name)) = fields.remove("task") else {
            return Err(UnknownEvent("\"task\" must be a string".to_owned()));
        };
        let scheduled_at = match fields.remove("scheduled_at") {
            None | Some(Value::Null) => time,
            Some(Value::String(scheduled_at)) => Some(scheduled_at),
            Some(_) => {
                return Err(UnknownEvent(
                    "\"scheduled_at\" must be a time as text, like 2025-06-07T17:00:00Z".to_owned(),
                ));
            }
        };
        Ok(Self {
            name,
            scheduled_at,
            fields,
        })
    }

    fn from_envelope(mut fields: Map<String, Value>) -> Result<Self, UnknownEvent> {
        let time = fields
            .get("time")
            .and_then(Value::as_str)
            .map(str::to_owned);
        match fields.remove("detail") {
            Some(Value::Object(detail)) if detail.contains_key("task") => Self::from_fields(detail, time),
            _ => Err(UnknownEvent(
                "an EventBridge event must carry the task in \"detail\", like {\"detail\":{\"task\":\"sample\"}}; give the rule or schedule that input".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(event: Value) -> TaskEvent {
        match Event::from_json(event) {
            Ok(Event::Task(task)) => task,
            other => panic!("not a task: {other:?}"),
        }
    }

    #[test]
    fn a_task_is_known_alone_and_in_an_envelope() {
        assert_eq!(task(json!({"task": "sample"})).name, "sample");
        let wrapped = task(
            json!({"source": "aws.events", "time": "2025-06-07T17:00:00Z", "detail": {"task": "sample"}}),
        );
        assert_eq!(
            (wrapped.name.as_str(), wrapped.scheduled_at.as_deref()),
            ("sample", Some("2025-06-07T17:00:00Z"))
        );
        let rollback = task(json!({"task": "rollback", "confirm": "weddings"}));
        assert_eq!(
            rollback.fields,
            *json!({"confirm": "weddings"}).as_object().unwrap()
        );
    }

    #[test]
    fn anything_else_is_refused_and_says_why() {
        for (event, hint) in [
            (json!([]), "JSON object"),
            (json!({}), "\"task\""),
            (json!({"task": 7}), "must be a string"),
            (
                json!({"detail": {}}),
                "give the rule or schedule that input",
            ),
            (
                json!({"detail": "sample"}),
                "give the rule or schedule that input",
            ),
            (
                json!({"task": "sample", "requestContext": {}}),
                "only one of",
            ),
            (json!({"requestContext": {}}), "httpMethod"),
            (json!({"requestContext": 1}), "must be an object"),
            (json!({"requestContext": {"http": 5}}), "httpMethod"),
            (
                json!({"requestContext": {"http": {"method": "GET"}}}),
                "rawPath",
            ),
            (json!({"task": "sample", "scheduled_at": 5}), "scheduled_at"),
        ] {
            let error =
                Event::from_json(event.clone()).expect_err("an unknown event must be refused");
            assert!(error.to_string().contains(hint), "{event}: {error}");
        }
    }
}
