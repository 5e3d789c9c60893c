//! An HTTP request as API Gateway delivers it, and its answer in the same format.
//!
//! The request is read from the event's own fields. `lambda_http` would build a URI of them and panics where they make none
//! (a space in the query, a list in `x-forwarded-proto`, a bad base64); it words the answer, in types that its documentation
//! hides and that stay in this file.

use std::{fmt, future::Future};

use base64::Engine;
use lambda_http::{
    Adapter, Body, LambdaEvent, Response, Service,
    aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest},
    http::{HeaderMap, HeaderName, HeaderValue},
    request::LambdaRequest,
    service_fn,
};
use lambda_runtime::Context;
use serde_json::{Map, Value};

use super::UnknownEvent;

/// An HTTP request as API Gateway delivered it, ready to be answered in the same format.
#[derive(Debug)]
pub struct HttpEvent {
    request: HttpRequest,
    format: Format,
}

/// Which of the gateways' formats an event has, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// REST API, or HTTP API with payload 1.0.
    V1,
    /// HTTP API with payload 2.0, Function URL.
    V2,
}

/// What API Gateway's authorizer said of the caller.
#[derive(Debug, Clone, Default)]
pub struct Authorizer {
    /// The claims of the verified token; none when no authorizer ran.
    pub claims: Option<Map<String, Value>>,
}

/// An HTTP request in plain terms.
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The path without the stage's prefix.
    pub path: String,
    /// Query parameters in order, decoded.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decoded from base64 where the gateway encoded it; none where that is broken.
    pub body: Option<Vec<u8>>,
    /// What the gateway's authorizer said.
    pub authorizer: Authorizer,
    /// Whether the gateway decodes a binary answer from base64. A REST API does so only for media types it was told of.
    pub takes_binary: bool,
    /// The caller's address as the gateway saw it, not as a header claims.
    pub source_ip: Option<String>,
}

impl fmt::Debug for HttpRequest {
    /// Without headers, claims and body: a token is in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What is sent back.
pub type HttpResponse = Response<Body>;

impl HttpEvent {
    pub(super) fn from_fields(fields: Map<String, Value>) -> Result<Self, UnknownEvent> {
        let event = Value::Object(fields);
        if !event["requestContext"].is_object() {
            return Err(UnknownEvent(
                "\"requestContext\" must be an object".to_owned(),
            ));
        }
        let (format, method, path) = match (
            event.pointer("/requestContext/http/method"),
            event.get("httpMethod"),
        ) {
            (Some(Value::String(method)), _) => (Format::V2, method, &event["rawPath"]),
            (None, Some(Value::String(method))) => (Format::V1, method, &event["path"]),
            _ => {
                return Err(UnknownEvent(
                    "an HTTP event needs \"httpMethod\" (REST API) or \"requestContext.http.method\" (HTTP API, Function URL)"
                        .to_owned(),
                ));
            }
        };
        let Some(path) = path.as_str() else {
            return Err(UnknownEvent(
                "an HTTP event needs \"path\" (REST API) or \"rawPath\" (HTTP API, Function URL)"
                    .to_owned(),
            ));
        };
        let source_ip = event
            .pointer("/requestContext/http/sourceIp")
            .or_else(|| event.pointer("/requestContext/identity/sourceIp"));
        let request = HttpRequest {
            method: method.to_ascii_uppercase(),
            path: without_stage(path, event.pointer("/requestContext/stage")),
            query: query_of(&event),
            headers: headers_of(&event),
            body: body_of(&event),
            takes_binary: format == Format::V2,
            authorizer: Authorizer::from_context(event.pointer("/requestContext/authorizer")),
            source_ip: source_ip.and_then(Value::as_str).map(str::to_owned),
        };
        Ok(Self { request, format })
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
        F: FnOnce(HttpRequest) -> A,
        A: Future<Output = HttpResponse>,
    {
        let mut response = Some(handler(self.request).await);
        // Only the format of the answer follows from this request, so it carries nothing.
        let blank = match self.format {
            Format::V1 => LambdaRequest::ApiGatewayV1(ApiGatewayProxyRequest::default()),
            Format::V2 => LambdaRequest::ApiGatewayV2(ApiGatewayV2httpRequest::default()),
        };
        let mut adapter = Adapter::from(service_fn(|_: lambda_http::Request| {
            let response = response.take().unwrap_or_default();
            async move { Ok::<_, std::convert::Infallible>(response) }
        }));
        match adapter.call(LambdaEvent::new(blank, context)).await {
            Ok(response) => serde_json::to_value(response),
            Err(impossible) => match impossible {},
        }
    }
}

/// A gateway may put its stage before the path (an HTTP API does, unless it is `$default`). What is left must be one of our
/// paths, so that a stage named `api` takes nothing away.
fn without_stage(path: &str, stage: Option<&Value>) -> String {
    let stage = stage.and_then(Value::as_str).unwrap_or_default();
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(stage))
        .filter(|rest| is_ours(rest) && !stage.is_empty())
        .unwrap_or(path)
        .to_owned()
}

fn is_ours(path: &str) -> bool {
    path == "/dashboard"
        || ["/api/", "/dashboard/"]
            .iter()
            .any(|start| path.starts_with(start))
}

/// Version 2.0 has the query as it came; version 1.0 has it decoded, with every value of a repeated name.
fn query_of(event: &Value) -> Vec<(String, String)> {
    if let Some(raw) = event["rawQueryString"]
        .as_str()
        .filter(|raw| !raw.is_empty())
    {
        return form_urlencoded::parse(raw.as_bytes())
            .into_owned()
            .collect();
    }
    named_values(
        &event["multiValueQueryStringParameters"],
        &event["queryStringParameters"],
    )
}

fn headers_of(event: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in named_values(&event["multiValueHeaders"], &event["headers"]) {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Names with all their values where the gateway lists them, else with the one it gives.
fn named_values(lists: &Value, singles: &Value) -> Vec<(String, String)> {
    let text = |name: &String, value: &Value| Some((name.clone(), value.as_str()?.to_owned()));
    if let Value::Object(lists) = lists {
        return lists
            .iter()
            .flat_map(|(name, values)| {
                let values = values.as_array().into_iter().flatten();
                values.filter_map(move |value| text(name, value))
            })
            .collect();
    }
    let singles = singles.as_object().into_iter().flatten();
    singles
        .filter_map(|(name, value)| text(name, value))
        .collect()
}

fn body_of(event: &Value) -> Option<Vec<u8>> {
    let text = event["body"].as_str().unwrap_or_default();
    if event["isBase64Encoded"] == true {
        return base64::engine::general_purpose::STANDARD.decode(text).ok();
    }
    Some(text.as_bytes().to_vec())
}

impl Authorizer {
    /// HTTP API: `jwt.claims`, or the context of a Lambda authorizer in `lambda`; REST API: Cognito's `claims`, or the
    /// context of a Lambda authorizer beside its `principalId`.
    fn from_context(authorizer: Option<&Value>) -> Self {
        let Some(authorizer) = authorizer else {
            return Self::default();
        };
        let claims = authorizer
            .pointer("/jwt/claims")
            .or_else(|| authorizer.get("claims"))
            .or_else(|| authorizer.get("lambda"));
        let mut claims = claims.and_then(Value::as_object).cloned();
        if let (None, Some(principal)) = (&claims, authorizer.get("principalId")) {
            claims = authorizer.as_object().cloned();
            if let Some(claims) = &mut claims {
                claims.entry("sub").or_insert_with(|| principal.clone());
            }
        }
        Self { claims }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Event, *};

    #[test]
    fn claims_are_found_where_each_authorizer_puts_them() {
        for authorizer in [
            json!({"jwt": {"claims": {"sub": "s"}, "scopes": null}}),
            json!({"claims": {"sub": "s"}}),
            json!({"lambda": {"sub": "s"}}),
            json!({"principalId": "s", "role": "admin"}),
        ] {
            let claims = Authorizer::from_context(Some(&authorizer)).claims;
            assert_eq!(
                claims.as_ref().and_then(|claims| claims.get("sub")),
                Some(&json!("s")),
                "{authorizer}"
            );
        }
        assert!(Authorizer::from_context(None).claims.is_none());
        assert!(
            Authorizer::from_context(Some(&json!({"iam": {}})))
                .claims
                .is_none()
        );
    }

    fn request(event: Value) -> HttpRequest {
        match Event::from_json(event) {
            Ok(Event::Http(event)) => event.request,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn the_stage_is_no_part_of_the_path() {
        for (path, stage, expected) in [
            (
                "/api/monitoring/health",
                "$default",
                "/api/monitoring/health",
            ),
            (
                "/prod/api/monitoring/health",
                "prod",
                "/api/monitoring/health",
            ),
            ("/api/monitoring/health", "api", "/api/monitoring/health"),
            (
                "/api/api/monitoring/health",
                "api",
                "/api/monitoring/health",
            ),
            (
                "/production/api/monitoring/health",
                "prod",
                "/production/api/monitoring/health",
            ),
            ("//api/monitoring/health", "", "//api/monitoring/health"),
            ("/prod/dashboard", "prod", "/dashboard"),
            ("/prod/dashboard/app.js", "prod", "/dashboard/app.js"),
            ("/dashboard/app.js", "dashboard", "/dashboard/app.js"),
            ("/dashboard/dashboard", "dashboard", "/dashboard"),
            ("/prod/dashboards", "prod", "/prod/dashboards"),
        ] {
            let event = json!({"rawPath": path, "requestContext": {"stage": stage, "http": {"method": "get"}}});
            let request = request(event);
            assert_eq!(
                (request.path.as_str(), request.method.as_str()),
                (expected, "GET"),
                "stage {stage}"
            );
        }
    }

    /// What `lambda_http` itself would panic on.
    #[test]
    fn odd_events_are_requests_all_the_same() {
        let request = request(json!({
            "rawPath": "/api/monitoring/health",
            "rawQueryString": "a=b c&d=<\">&e=%zz&f=1+2&d=again",
            "headers": {"x-forwarded-proto": "https,http", "host": "not a host", "bad name": "x", "good": "bad\nvalue"},
            "requestContext": {"http": {"method": "POST", "sourceIp": "203.0.113.7"}},
            "body": "not base64!",
            "isBase64Encoded": true,
        }));
        let query: Vec<_> = request
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(query, ["a=b c", "d=<\">", "e=%zz", "f=1 2", "d=again"]);
        assert_eq!((request.headers.len(), request.body), (2, None));
        assert_eq!(request.source_ip.as_deref(), Some("203.0.113.7"));
    }

    #[test]
    fn version_1_gives_every_value_of_a_name() {
        let request = request(json!({
            "httpMethod": "GET",
            "path": "/api/monitoring/performance",
            "headers": {"Authorization": "Bearer b"},
            "multiValueHeaders": {"Authorization": ["Bearer a", "Bearer b"]},
            "multiValueQueryStringParameters": {"query_type": ["slow", "rls"]},
            "requestContext": {"identity": {"sourceIp": "203.0.113.7"}},
            "body": "eyJhIjoxfQ==",
            "isBase64Encoded": true,
        }));
        assert_eq!(request.headers.get_all("authorization").iter().count(), 2);
        assert_eq!(request.query.len(), 2);
        assert_eq!(request.body.as_deref(), Some(br#"{"a":1}"#.as_slice()));
    }
}
