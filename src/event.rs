//! What woke the function: an HTTP request or a task.
//!
//! Each kind is known by its discriminator, not by trying to read it as everything: an HTTP event has a `requestContext`,
//! a task names itself in `task`, EventBridge wraps that in `detail`. The types of `lambda_http` that its documentation
//! hides stay in this file.

use std::future::Future;

use lambda_http::{
    Adapter, Body, LambdaEvent, RequestExt, Response, Service,
    aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest},
    http::HeaderMap,
    request::LambdaRequest,
    service_fn,
};
use lambda_runtime::Context;
use serde_json::{Map, Value};

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

/// An HTTP request as API Gateway delivered it, ready to be answered in the same format.
#[derive(Debug)]
pub struct HttpEvent {
    request: LambdaRequest,
    authorizer: Authorizer,
    source_ip: Option<String>,
    stage: Option<String>,
}

/// What API Gateway's authorizer said of the caller.
#[derive(Debug, Clone, Default)]
pub struct Authorizer {
    /// The claims of the verified token; none when no authorizer ran.
    pub claims: Option<Map<String, Value>>,
}

/// An HTTP request in plain terms.
#[derive(Debug)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The path without the stage's prefix.
    pub path: String,
    /// Query parameters in order, decoded.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decoded from base64 where the gateway encoded it.
    pub body: Vec<u8>,
    /// What the gateway's authorizer said.
    pub authorizer: Authorizer,
    /// The caller's address as the gateway saw it, not as a header claims.
    pub source_ip: Option<String>,
}

/// What is sent back.
pub type HttpResponse = Response<Body>;

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

impl HttpEvent {
    fn from_fields(mut fields: Map<String, Value>) -> Result<Self, UnknownEvent> {
        let context = fields
            .get_mut("requestContext")
            .and_then(Value::as_object_mut);
        let Some(context) = context else {
            return Err(UnknownEvent(
                "\"requestContext\" must be an object".to_owned(),
            ));
        };
        // The authorizer is taken out before the event is read into types: those insist on claims being text.
        let authorizer = Authorizer::from_context(context.remove("authorizer"));
        let is_v2 = context.contains_key("http");
        let source_ip = ["/http/sourceIp", "/identity/sourceIp"]
            .iter()
            .find_map(|pointer| {
                Value::Object(context.clone())
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            });
        let stage = context
            .get("stage")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let request = if is_v2 {
            serde_json::from_value::<ApiGatewayV2httpRequest>(Value::Object(fields))
                .map(LambdaRequest::ApiGatewayV2)
        } else if fields.contains_key("httpMethod") {
            serde_json::from_value::<ApiGatewayProxyRequest>(Value::Object(fields))
                .map(LambdaRequest::ApiGatewayV1)
        } else {
            return Err(UnknownEvent("an HTTP event needs \"httpMethod\" (REST API) or \"requestContext.http\" (HTTP API, Function URL)".to_owned()));
        };
        match request {
            Ok(request) => Ok(Self {
                request,
                authorizer,
                source_ip,
                stage,
            }),
            Err(error) => Err(UnknownEvent(format!(
                "not a well-formed HTTP event (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }

    /// Answers the request through `handler` and words the response as the gateway that asked expects it.
    ///
    /// # Errors
    ///
    /// When the response cannot be worded as JSON, which no handler here causes.
    pub async fn answer<F, A>(
        self,
        context: Context,
        handler: F,
    ) -> Result<Value, serde_json::Error>
    where
        F: FnOnce(HttpRequest) -> A + Send,
        A: Future<Output = HttpResponse> + Send,
    {
        let Self {
            request,
            authorizer,
            source_ip,
            stage,
        } = self;
        let mut parts = Some((handler, authorizer, source_ip, stage));
        let mut adapter = Adapter::from(service_fn(move |request: lambda_http::Request| {
            let taken = parts.take();
            async move {
                match taken {
                    Some((handler, authorizer, source_ip, stage)) => {
                        Ok::<_, std::convert::Infallible>(
                            handler(HttpRequest::new(request, authorizer, source_ip, stage)).await,
                        )
                    }
                    None => Ok(Response::new(Body::Empty)),
                }
            }
        }));
        match adapter.call(LambdaEvent::new(request, context)).await {
            Ok(response) => serde_json::to_value(response),
            Err(impossible) => match impossible {},
        }
    }
}

impl Authorizer {
    /// HTTP API: `jwt.claims`; REST API with Cognito: `claims`; a Lambda authorizer: its context itself.
    fn from_context(authorizer: Option<Value>) -> Self {
        let Some(Value::Object(mut authorizer)) = authorizer else {
            return Self::default();
        };
        let claims = match (
            authorizer.remove("jwt"),
            authorizer.remove("claims"),
            authorizer.remove("lambda"),
        ) {
            (Some(Value::Object(mut jwt)), _, _) => jwt.remove("claims"),
            (_, Some(claims), _) => Some(claims),
            (_, _, Some(context)) => Some(context),
            _ => None,
        };
        Self {
            claims: claims.and_then(|claims| {
                if let Value::Object(claims) = claims {
                    Some(claims)
                } else {
                    None
                }
            }),
        }
    }
}

impl HttpRequest {
    fn new(
        request: lambda_http::Request,
        authorizer: Authorizer,
        source_ip: Option<String>,
        stage: Option<String>,
    ) -> Self {
        let raw_path = request.raw_http_path().to_owned();
        // An HTTP API puts its stage before the path, unless the stage is $default.
        let path = stage
            .and_then(|stage| {
                raw_path
                    .strip_prefix(&format!("/{stage}"))
                    .filter(|rest| rest.starts_with('/'))
                    .map(str::to_owned)
            })
            .unwrap_or(raw_path);
        let query = request
            .query_string_parameters_ref()
            .map(|query| {
                query
                    .iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            })
            .unwrap_or_default();
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method.as_str().to_owned(),
            path,
            query,
            headers: parts.headers,
            body: body.to_vec(),
            authorizer,
            source_ip,
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
            (
                json!({"requestContext": {"http": 5}}),
                "not a well-formed HTTP event",
            ),
            (json!({"task": "sample", "scheduled_at": 5}), "scheduled_at"),
        ] {
            let error =
                Event::from_json(event.clone()).expect_err("an unknown event must be refused");
            assert!(error.to_string().contains(hint), "{event}: {error}");
        }
    }

    #[test]
    fn claims_are_found_where_each_authorizer_puts_them() {
        for authorizer in [
            json!({"jwt": {"claims": {"sub": "s"}, "scopes": null}}),
            json!({"claims": {"sub": "s"}}),
            json!({"lambda": {"sub": "s"}}),
        ] {
            let claims = Authorizer::from_context(Some(authorizer.clone())).claims;
            assert_eq!(
                claims.as_ref().and_then(|claims| claims.get("sub")),
                Some(&json!("s")),
                "{authorizer}"
            );
        }
        assert!(Authorizer::from_context(None).claims.is_none());
        assert!(
            Authorizer::from_context(Some(json!({"iam": {}})))
                .claims
                .is_none()
        );
    }
}
