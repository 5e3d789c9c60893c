//! The admin API: routes, identity, answers. The only place that knows status codes.

mod compression;
mod dashboard;
mod health;
mod identity;
mod keys;
mod lighthouse;
mod limits;
mod metrics;
mod openapi;
mod performance;
mod problem;
mod readiness;
mod request;
mod session;
pub mod signatures;
mod suppressions;
mod target;
mod thresholds;
mod validation;
mod vitals;
mod windows;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lambda_http::{
    Body, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, REFERRER_POLICY,
            STRICT_TRANSPORT_SECURITY, VARY,
        },
    },
};

use crate::{
    config::{AuthConfig, DashboardConfig},
    db::{Database, DbError, Query, Target, Targets},
    event::{HttpRequest, HttpResponse},
    secrets::SecretStore,
};
use dashboard::Dashboard;
use identity::{Identity, Verifier};
use limits::{Caller, Limits};
use problem::Problem;
use vitals::Sources;

/// Longer than this nobody waits for a dashboard; API Gateway itself gives up after 30 s.
const REQUEST_BUDGET: Duration = Duration::from_secs(10);

/// Where pages send their Web Vitals.
const VITALS: &str = "/api/monitoring/vitals";

/// Of a request's time, what is not for statements: identity, connecting, wording the answer.
const OVERHEAD: Duration = Duration::from_secs(2);

/// The time one of several statements may take, so that all of them together end before the request does: the caller is told
/// which section was slow, and the others arrive.
fn statement_timeout(budget: Duration, statements: u32) -> Duration {
    let share = budget.saturating_sub(OVERHEAD) / statements.max(1);
    share.clamp(Duration::from_millis(100), Duration::from_secs(5))
}

/// The time a request has taken so far, as answers tell it.
fn response_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Asks one query as the caller, for a route that answers nothing else: its JSON text, and the server's time as JSON text.
async fn ask(
    database: &Database,
    caller: &Caller,
    query: &Query,
    budget: Duration,
) -> Result<(String, String), DbError> {
    let session = caller.session(statement_timeout(budget, 1));
    let answer = database.read(&session, std::slice::from_ref(query)).await?;
    let timestamp_json = answer.timestamp_json.clone();
    Ok((answer.only_result(query.name)?, timestamp_json))
}

/// The same as the answer's data, for whoever may read.
async fn tell(
    database: &Database,
    caller: &Caller,
    query: &Query,
    started: Instant,
    budget: Duration,
) -> Result<Success, Problem> {
    let answer = ask(database, caller, query, budget).await;
    let (data_json, timestamp_json) =
        answer.map_err(|error| Problem::from_database(&error, "read monitoring"))?;
    Ok(Success::data(&data_json, &timestamp_json, started))
}

/// The API of one instance.
#[derive(Debug)]
pub struct Api {
    targets: Arc<Targets>,
    verifier: Verifier,
    limits: Limits,
    dashboard: Dashboard,
    sources: Sources,
    allowed_origins: Vec<String>,
}

/// The routes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Health,
    Lighthouse,
    Metrics,
    OpenApi,
    Performance,
    Readiness,
    Session,
    Suppressions,
    Thresholds,
    Validation,
    Vitals,
    Windows,
}

impl Route {
    const ALL: [(&str, Self); 12] = [
        ("/api/monitoring/health", Self::Health),
        ("/api/monitoring/lighthouse", Self::Lighthouse),
        ("/api/monitoring/metrics", Self::Metrics),
        ("/api/monitoring/openapi.json", Self::OpenApi),
        ("/api/monitoring/performance", Self::Performance),
        ("/api/monitoring/readiness", Self::Readiness),
        ("/api/monitoring/session", Self::Session),
        ("/api/monitoring/suppressions", Self::Suppressions),
        ("/api/monitoring/thresholds", Self::Thresholds),
        ("/api/monitoring/validation", Self::Validation),
        (VITALS, Self::Vitals),
        ("/api/monitoring/windows", Self::Windows),
    ];

    fn at(path: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == path);
        found
            .map(|(_, route)| route)
            .ok_or_else(|| Problem::not_found("there is no such route"))
    }

    /// The methods it answers, as `Allow` lists them.
    fn allowed(self) -> &'static str {
        match self {
            Self::Performance | Self::Thresholds => "GET, POST, OPTIONS",
            Self::Suppressions | Self::Windows => "GET, POST, DELETE, OPTIONS",
            Self::Vitals => "POST, OPTIONS",
            _ => "GET, OPTIONS",
        }
    }
}

/// What a route answers when all went well.
#[derive(Debug)]
struct Success {
    status: StatusCode,
    content_type: &'static str,
    text: String,
}

/// What the access log says of a request beside its answer.
#[derive(Debug, Default)]
struct Access {
    target: Option<String>,
    subject: Option<String>,
    role: Option<&'static str>,
    sections: String,
}

impl Api {
    /// An API on these databases.
    pub fn new(
        auth: AuthConfig,
        allowed_origins: Vec<String>,
        dashboard: &DashboardConfig,
        secrets: Option<Arc<SecretStore>>,
        targets: Arc<Targets>,
    ) -> Self {
        Self {
            targets,
            verifier: Verifier::new(auth, secrets),
            limits: Limits::default(),
            dashboard: Dashboard::new(dashboard),
            sources: Sources::default(),
            allowed_origins,
        }
    }

    /// Answers a request; every failure has an answer too.
    pub async fn answer(
        &self,
        request: HttpRequest,
        request_id: String,
        budget: Duration,
    ) -> HttpResponse {
        let started = Instant::now();
        let origin = request
            .headers
            .get(ORIGIN)
            .and_then(|origin| origin.to_str().ok())
            .map(str::to_owned);
        if let Some(file) = dashboard::file_of(&request.path) {
            return self.hand_out(&request, file, &request_id, started);
        }
        let (method, path) = (request.method.clone(), request.path.clone());
        let mut access = Access::default();
        let budget = budget.min(REQUEST_BUDGET);
        let routed = self.route(&request, &request_id, &mut access, started, budget);
        let result = tokio::time::timeout(budget, routed)
            .await
            .unwrap_or_else(|_| Err(Problem::timed_out()));
        self.settle(&access).await;
        let mut response = match result {
            Ok(success) => success.into_response(),
            Err(problem) => problem.into_response(&request_id),
        };
        self.allow_origin(origin.as_deref(), &path, &mut response);
        if request.takes_binary {
            compression::compress(&request.headers, &mut response);
        }
        let status = response.status().as_u16();
        let duration_ms = response_ms(started);
        tracing::info!(
            subject = access.subject,
            role = access.role,
            method,
            route = path,
            target = access.target,
            status,
            sections = access.sections,
            duration_ms,
            "access"
        );
        response
    }

    /// Answers a file of the page, which neither identity nor a database has a part in.
    fn hand_out(
        &self,
        request: &HttpRequest,
        file: &str,
        request_id: &str,
        started: Instant,
    ) -> HttpResponse {
        let answer = self.dashboard.answer(request, file);
        let response = answer.unwrap_or_else(|problem| problem.into_response(request_id));
        let status = response.status().as_u16();
        let duration_ms = response_ms(started);
        tracing::info!(
            method = request.method,
            route = request.path,
            status,
            duration_ms,
            "access"
        );
        response
    }

    async fn route(
        &self,
        request: &HttpRequest,
        request_id: &str,
        access: &mut Access,
        started: Instant,
        budget: Duration,
    ) -> Result<Success, Problem> {
        if lighthouse::is_upload(&request.path) {
            let database = self.targets.default_target().database;
            return lighthouse::answer(database, request, access, budget).await;
        }
        let route = Route::at(&request.path)?;
        match (route, request.method.as_str()) {
            (_, "OPTIONS") => Ok(Success::empty()),
            (Route::Health, "GET") => {
                health::get(self.targets.default_target().database, request).await
            }
            (Route::OpenApi, "GET") => {
                let identity = self.identify(request, access).await?;
                openapi::get(&identity)
            }
            (Route::Session, "GET") => {
                let identity = self.identify(request, access).await?;
                session::get(&identity, &self.targets, started)
            }
            (Route::Vitals, "POST") => {
                let (database, origins) = (
                    self.targets.default_target().database,
                    &self.allowed_origins,
                );
                vitals::post(database, request, origins, &self.sources, access, budget).await
            }
            (Route::Vitals, _) => Err(Problem::method_not_allowed(route.allowed())),
            (_, "GET") => {
                let (caller, database) = self.admit(request, "GET", request_id, access).await?;
                let answer = match route {
                    Route::Lighthouse => {
                        lighthouse::get(database, &caller, request, access, started, budget).await
                    }
                    Route::Metrics => {
                        metrics::get(database, &caller, request, access, budget).await
                    }
                    Route::Readiness => {
                        readiness::get(database, &caller, request, access, started, budget).await
                    }
                    Route::Suppressions => {
                        suppressions::get(database, &caller, access, started, budget).await
                    }
                    Route::Thresholds => {
                        thresholds::get(database, &caller, access, started, budget).await
                    }
                    Route::Windows => {
                        windows::get(database, &caller, request, access, started, budget).await
                    }
                    Route::Validation => {
                        validation::get(database, &caller, access, started, budget).await
                    }
                    _ => {
                        performance::get(database, &caller, request, access, started, budget).await
                    }
                };
                self.limits.learn(&caller, &answer);
                answer
            }
            (
                Route::Performance | Route::Suppressions | Route::Thresholds | Route::Windows,
                "POST",
            )
            | (Route::Suppressions | Route::Windows, "DELETE") => {
                let (caller, database) = self.admit(request, "POST", request_id, access).await?;
                let answer = match (route, request.method.as_str()) {
                    (Route::Windows, "DELETE") => {
                        windows::delete(database, &caller, request, access, budget).await
                    }
                    (Route::Suppressions, "DELETE") => {
                        suppressions::delete(database, &caller, request, access, budget).await
                    }
                    (Route::Suppressions, _) => {
                        suppressions::post(database, &caller, request, access, budget).await
                    }
                    (Route::Thresholds, _) => {
                        thresholds::post(database, &caller, request, access, budget).await
                    }
                    (Route::Windows, _) => {
                        windows::post(database, &caller, request, access, budget).await
                    }
                    _ => performance::post(database, &caller, request, access, budget).await,
                };
                self.limits.learn(&caller, &answer);
                answer
            }
            _ => Err(Problem::method_not_allowed(route.allowed())),
        }
    }

    async fn identify(
        &self,
        request: &HttpRequest,
        access: &mut Access,
    ) -> Result<Identity, Problem> {
        let identity = self.verifier.identify(request).await?;
        access.subject = identity.subject().map(str::to_owned);
        access.role = identity.role().map(identity::Role::name);
        Ok(identity)
    }

    /// Who is asking which database, if its subject has not just been told to wait there.
    async fn admit(
        &self,
        request: &HttpRequest,
        method: &'static str,
        request_id: &str,
        access: &mut Access,
    ) -> Result<(Caller, &Database), Problem> {
        let identity = self.identify(request, access).await?;
        let Target { name, database } = target::of(&self.targets, request, &identity)?;
        access.target = Some(name.to_owned()).filter(|_| target::is_named(request));
        let caller = Caller::new(identity, name, method, request_id);
        self.limits.admit(&caller)?;
        Ok((caller, database))
    }

    /// Lets what was given up be stopped at the database that was asked; no other is waited for.
    async fn settle(&self, access: &Access) {
        let default = self.targets.default_target();
        let asked = access.target.as_deref();
        let target = asked.and_then(|name| self.targets.get(name));
        target.unwrap_or(default).database.settle().await;
    }

    /// CORS for the origins that are listed, and only those (Fetch standard, "CORS protocol").
    fn allow_origin(&self, origin: Option<&str>, path: &str, response: &mut HttpResponse) {
        if self.allowed_origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) =
            origin.filter(|origin| self.allowed_origins.iter().any(|allowed| allowed == origin))
        else {
            return;
        };
        let Ok(origin) = HeaderValue::from_str(origin) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // A beacon is sent with the cookies of this origin, of which there are none, and is not sent at all where those are
        // not welcome (Beacon, section "sendBeacon method").
        if path == VITALS {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, content-type, cache-control"),
        );
        // Of those that a page may not read unasked, what it needs for asking again.
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

impl Success {
    fn ok(json: String) -> Self {
        Self::text("application/json", json)
    }

    /// JSON text of PostgreSQL's, as it came, with when and how fast it was had.
    fn data(data_json: &str, timestamp_json: &str, started: Instant) -> Self {
        Self::ok(format!(
            "{{\"data\":{data_json},\"metadata\":{{\"timestamp\":{timestamp_json},\"responseTime\":{}}}}}",
            response_ms(started)
        ))
    }

    fn created(json: String) -> Self {
        Self {
            status: StatusCode::CREATED,
            ..Self::ok(json)
        }
    }

    fn text(content_type: &'static str, text: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            text,
        }
    }

    /// The answer to a preflight.
    fn empty() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            ..Self::ok(String::new())
        }
    }

    fn into_response(self) -> HttpResponse {
        let mut response = Response::new(if self.text.is_empty() {
            Body::Empty
        } else {
            Body::Text(self.text)
        });
        *response.status_mut() = self.status;
        set_headers(&mut response, self.content_type);
        response
    }
}

/// What every answer carries: nothing here may be kept by a cache, guessed at by a browser, or shown inside somebody's page.
fn set_headers(response: &mut HttpResponse, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // A year; a browser heeds it only where it came over TLS (RFC 6797, section 8.1).
    headers.insert(
        STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000"),
    );
}
