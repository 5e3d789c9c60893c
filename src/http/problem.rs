//! Errors as callers see them: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! Nothing of the driver's or the server's words gets here; those are in the log under the same request id.

use lambda_http::{
    Body, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde_json::json;

use super::set_headers;
use crate::{
    db::{DbError, DbErrorKind},
    event::HttpResponse,
    secrets::SecretError,
};

/// An answer that is not success.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

/// Seconds after which a database or secret that is unavailable is worth asking again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            header: None,
        }
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// 400: a parameter or a field is wrong; the detail begins with its name.
    pub(super) fn invalid(name: &str, reason: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_parameter",
            format!("{name} {reason}"),
        )
    }

    /// 400: the body as a whole cannot be read.
    pub(super) fn invalid_body(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", reason)
    }

    /// 401 without a token: RFC 6750 wants no error named where no authentication was tried.
    pub(super) fn no_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "a bearer token is required",
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 401 for a token that is not accepted.
    pub(super) fn bad_token(reason: &'static str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            format!("the token is not accepted: {reason}"),
        )
        .with_header(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer error=\"invalid_token\""),
        )
    }

    /// 401 where a project's token or key is missing or not known: it goes where Lighthouse CI or the page puts it.
    pub(super) fn bad_project_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "no project has this token (x-lhci-build-token) or key (?key=)",
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Project"))
    }

    /// 403 for a page of an origin that is not listed.
    pub(super) fn forbidden_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "pages of this origin may not send Web Vitals",
        )
    }

    /// 403: known, but not entitled.
    pub(super) fn forbidden(action: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("your role may not {action}"),
        )
    }

    /// 403 for a caller in whose claims no role was found that means anything here.
    pub(super) fn no_role(action: &str) -> Self {
        let detail = format!("your token carries no role that may {action}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// 405, with the methods there are.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this route answers {allowed}"),
        )
        .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 409: it cannot be done as things are.
    pub(super) fn conflict(reason: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", reason)
    }

    /// 413.
    pub(super) fn too_large(limit: &str) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the body must be at most {limit}"),
        )
    }

    /// 415.
    pub(super) fn unsupported_media_type(types: &[&str]) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("content-type must be {}", types.join(" or ")),
        )
    }

    /// 429, with the whole seconds after which the next request is let in.
    pub(super) fn too_many_requests(wait_seconds: u32) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            format!("too many requests in a minute: ask again in {wait_seconds} s"),
        )
        .with_header(RETRY_AFTER, HeaderValue::from(wait_seconds))
    }

    /// The seconds to wait, where there were too many requests.
    pub(super) fn wait_seconds(&self) -> Option<u32> {
        let (_, seconds) = self.header.as_ref()?;
        let is_refusal = self.status == StatusCode::TOO_MANY_REQUESTS;
        is_refusal.then(|| seconds.to_str().ok()?.parse().ok())?
    }

    /// 504.
    pub(super) fn timed_out() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "the database did not answer in time",
        )
    }

    /// 503: the keys for tokens cannot be had.
    pub(super) fn from_secret(error: &SecretError) -> Self {
        tracing::error!("{error}");
        Self::secret_unavailable()
    }

    /// What an error of the database means to a caller. Logged here, where it is handled.
    pub(super) fn from_database(error: &DbError, action: &str) -> Self {
        // The caller's mistakes are no errors of ours, and must wake nobody.
        if matches!(
            error.kind(),
            DbErrorKind::Invalid | DbErrorKind::NotFound | DbErrorKind::TooMany
        ) || error.is_the_guards_no()
        {
            tracing::info!(sqlstate = error.sqlstate(), "refused: {error}");
        } else {
            tracing::error!(sqlstate = error.sqlstate(), "database: {error}");
        }
        match error.kind() {
            DbErrorKind::Secret => Self::secret_unavailable(),
            DbErrorKind::Connect
            | DbErrorKind::Closed
            | DbErrorKind::Authentication
            | DbErrorKind::LockTimeout
            | DbErrorKind::ReadOnly => Self::database_unavailable(),
            DbErrorKind::Permission if error.is_the_guards_no() => Self::forbidden(action),
            DbErrorKind::Missing if error.is_outdated_schema() => Self::schema_outdated(),
            DbErrorKind::Permission | DbErrorKind::Missing => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database_unavailable",
                "the database is not set up for monitoring; the log says what is missing",
            )
            .with_header(RETRY_AFTER, RETRY_AFTER_SECONDS),
            DbErrorKind::Timeout => Self::timed_out(),
            DbErrorKind::TooMany => Self::too_many_requests(error.wait_seconds().unwrap_or(1)),
            DbErrorKind::Invalid => Self::invalid_body(
                error
                    .message()
                    .unwrap_or("the database refused a value of the body"),
            ),
            DbErrorKind::NotFound => {
                Self::not_found(error.message().unwrap_or("there is no such thing"))
            }
            DbErrorKind::Query => Self::internal(),
        }
    }

    /// 500: our own mistake, which the log explains.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong",
        )
    }

    /// 503: the database cannot be had, for whatever reason.
    pub(super) fn database_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "the database is not available",
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    /// 503: the function is newer than the schema.
    pub(super) fn schema_outdated() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "schema_outdated",
            "the database's schema is older than this function: run the task migrate",
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    fn secret_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "secret_unavailable",
            "the credentials are not available",
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    /// The answer, under the request's id.
    pub(super) fn into_response(self, request_id: &str) -> HttpResponse {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "error": self.detail,
            "code": self.code,
            "requestId": request_id,
        });
        let mut response = Response::new(Body::Text(body.to_string()));
        *response.status_mut() = self.status;
        set_headers(&mut response, "application/problem+json");
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
