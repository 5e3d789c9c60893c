//! The app as Lambda calls it, without Lambda: an event in, an answer out.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::config::Credentials;
use base64::Engine;
use flate2::read::GzDecoder;
use lambda_runtime::{Context, Diagnostic};
use pgvigil::{app::App, config::Config, secrets::SecretStore, telemetry::metrics::MetricLines};
use serde_json::{Value, json};

use super::bus::TestBus;
use super::database::TestDatabase;
use super::description;
use super::secrets::{Secret, store};
use super::templates::MONITOR;
use super::token::{AUDIENCE, ISSUER, KEY, token};

/// A subject that is a uuid, as most issuers' are.
pub(crate) const SUBJECT: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// An app on a test's database, with secrets from the real store.
pub(crate) struct TestApp {
    app: App,
    metrics: Written,
    // Kept for as long as the app may read them.
    _secrets: Vec<Secret>,
}

/// What is kept of what was written.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("keeping metrics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An HTTP answer, taken out of the gateway's format.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) text: String,
}

impl Answer {
    /// As a gateway would pass it on, and a client unpack it.
    pub(crate) fn from_gateway(answer: &Value) -> Self {
        // A version 1.0 answer has its headers in lists only.
        let headers = answer["headers"].as_object().into_iter().flatten();
        let lists = answer["multiValueHeaders"]
            .as_object()
            .into_iter()
            .flatten();
        let first = lists.map(|(name, values)| (name, &values[0]));
        let headers: HashMap<String, String> = headers
            .chain(first)
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let body = answer["body"].as_str().unwrap_or_default();
        let mut text = body.to_owned();
        if answer["isBase64Encoded"] == true {
            let bytes = base64::engine::general_purpose::STANDARD.decode(body);
            let bytes = bytes.expect("decoding base64");
            text.clear();
            let read = match headers.get("content-encoding").map(String::as_str) {
                Some("gzip") => GzDecoder::new(bytes.as_slice()).read_to_string(&mut text),
                None => bytes.as_slice().read_to_string(&mut text),
                other => panic!("content-encoding {other:?}"),
            };
            read.expect("unpacking the body");
        }
        Self {
            status: answer["statusCode"].as_u64().unwrap_or_default(),
            headers,
            text,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The stable code of a problem, once it is sure that it is a whole one.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["detail"], problem["error"]);
        for name in ["type", "title", "requestId"] {
            assert!(problem[name].is_string(), "{name} in {problem}");
        }
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl TestApp {
    /// Token mode, with the monitor's login and the migrating role's as secrets.
    pub(crate) async fn new(database: &TestDatabase) -> Self {
        Self::with_login(database, MONITOR, &[]).await
    }

    /// The same with another login role and further variables.
    pub(crate) async fn with_login(
        database: &TestDatabase,
        login: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let login = store().create(&database.credentials(login));
        Self::with_secret(database, login, variables).await
    }

    /// The same through what listens on this port and leads to the database's server.
    pub(crate) async fn through(database: &TestDatabase, port: u16, login: &str) -> Self {
        let secret = |login| store().create(&database.credentials_through(port, login));
        let migration = secret(database.migrator());
        Self::with_secrets(secret(login), migration, &[], store().port).await
    }

    /// The same with a bus to announce on, through what listens on this port.
    pub(crate) async fn announcing(database: &TestDatabase, port: u16, bus: &TestBus) -> Self {
        let app = Self::through(database, port, MONITOR).await;
        Self {
            app: app.app.with_bus(bus.client().await),
            ..app
        }
    }

    /// The same with a secret that the test goes on to change.
    pub(crate) async fn with_secret(
        database: &TestDatabase,
        login: Secret,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::with_store(database, login, variables, store().port).await
    }

    /// The same with the store behind another port.
    pub(crate) async fn with_store(
        database: &TestDatabase,
        login: Secret,
        variables: &[(&str, &str)],
        store_port: u16,
    ) -> Self {
        let migration = store().create(&database.credentials(database.migrator()));
        Self::with_secrets(login, migration, variables, store_port).await
    }

    async fn with_secrets(
        login: Secret,
        migration: Secret,
        variables: &[(&str, &str)],
        store_port: u16,
    ) -> Self {
        let auth = store().create_text(KEY);
        let mut all = HashMap::from([
            ("DATABASE_SECRET_ID", login.id.as_str()),
            ("MIGRATION_SECRET_ID", migration.id.as_str()),
            ("DATABASE_TLS", "disable"),
            ("AUTH_MODE", "token"),
            ("AUTH_SECRET_ID", auth.id.as_str()),
            ("AUTH_ISSUER", ISSUER),
            ("AUTH_AUDIENCE", AUDIENCE),
        ]);
        all.extend(variables.iter().copied());
        let metrics = Written::default();
        Self {
            app: Self::from_variables(&all, store_port, &metrics).await,
            metrics,
            _secrets: vec![login, migration, auth],
        }
    }

    /// An app with exactly these variables.
    pub(crate) async fn exactly(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().copied().collect();
        let metrics = Written::default();
        Self {
            app: Self::from_variables(&variables, store().port, &metrics).await,
            metrics,
            _secrets: Vec::new(),
        }
    }

    async fn from_variables(
        variables: &HashMap<&str, &str>,
        store_port: u16,
        metrics: &Written,
    ) -> App {
        let config = Config::from_vars(|name| variables.get(name).map(|&value| value.to_owned()));
        let config = config.unwrap_or_else(|error| panic!("configuring the app: {error}"));
        App::with_secrets(config, Some(secret_store(store_port).await))
            .with_metrics_to(MetricLines::to(metrics.clone()))
    }

    /// The metrics written since this was last asked, as lines of the log.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.metrics.0.lock().expect("reading metrics"));
        let text = String::from_utf8(written).expect("reading UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    /// Handles an event as the function's handler does.
    pub(crate) async fn invoke(&self, event: &Value) -> Result<Value, Diagnostic> {
        let mut context = Context::default();
        context.request_id = "00000000-test".to_owned();
        self.app.handle(event.clone(), context).await
    }

    /// The same with the deadline that Lambda would give.
    pub(crate) async fn invoke_within(
        &self,
        event: &Value,
        limit: Duration,
    ) -> Result<Value, Diagnostic> {
        let deadline = SystemTime::now() + limit;
        let since_epoch = deadline
            .duration_since(UNIX_EPOCH)
            .expect("reading the clock");
        let mut context = Context::default();
        context.deadline = u64::try_from(since_epoch.as_millis()).expect("counting milliseconds");
        self.app.handle(event.clone(), context).await
    }

    /// Runs a task and returns its report.
    pub(crate) async fn task(&self, event: Value) -> Value {
        let report = self.invoke(&event).await;
        report.unwrap_or_else(|error| panic!("{event}: {error:?}"))
    }

    /// Sends a request through the gateway's format and back.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        self.send_event(&request.event()).await
    }

    /// Sends a request as an event that was made or changed by hand.
    pub(crate) async fn send_event(&self, event: &Value) -> Answer {
        answered(event, &self.invoke(event).await)
    }

    /// Sends a request that Lambda would end soon.
    pub(crate) async fn send_within(&self, request: Request, limit: Duration) -> Answer {
        let event = request.event();
        answered(&event, &self.invoke_within(&event, limit).await)
    }

    /// A GET of the performance endpoint by a caller with this role.
    pub(crate) async fn get_as(&self, role: &str, query: &str) -> Answer {
        self.send(Request::get("/api/monitoring/performance", query).by(role))
            .await
    }

    /// A POST to the performance endpoint by a caller with this role.
    pub(crate) async fn post_as(&self, role: &str, body: &Value) -> Answer {
        let request = Request::post("/api/monitoring/performance", &body.to_string());
        self.send(request.by(role)).await
    }
}

/// The answer to a request, once it is sure that it is as the API's description says.
fn answered(event: &Value, answer: &Result<Value, Diagnostic>) -> Answer {
    let answer = answer.as_ref().expect("answering a request");
    let answer = Answer::from_gateway(answer);
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let method = text("/requestContext/http/method").or_else(|| text("/httpMethod"));
    let path = text("/rawPath").or_else(|| text("/path"));
    description::check(
        method.unwrap_or_default(),
        path.unwrap_or_default(),
        &answer,
    );
    answer
}

/// The store of this test process, through the SDK that the function uses.
async fn secret_store(port: u16) -> SecretStore {
    let endpoint = format!("http://127.0.0.1:{port}");
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"));
    SecretStore::new(&pgvigil::aws::from_loader(loader).await)
}

/// A request in the format of an HTTP API.
pub(crate) struct Request {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    authorizer: Value,
    source_ip: String,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: None,
            authorizer: Value::Null,
            source_ip: "203.0.113.7".to_owned(),
        }
    }

    pub(crate) fn get(path: &str, query: &str) -> Self {
        Self {
            query: query.to_owned(),
            ..Self::new("GET", path)
        }
    }

    pub(crate) fn delete(path: &str, query: &str) -> Self {
        Self {
            query: query.to_owned(),
            ..Self::new("DELETE", path)
        }
    }

    pub(crate) fn post(path: &str, body: &str) -> Self {
        let request = Self::new("POST", path).with_body(body);
        request.header("content-type", "application/json")
    }

    pub(crate) fn with_body(self, body: &str) -> Self {
        Self {
            body: Some(body.to_owned()),
            ..self
        }
    }

    /// From another address.
    pub(crate) fn from(self, source_ip: &str) -> Self {
        Self {
            source_ip: source_ip.to_owned(),
            ..self
        }
    }

    pub(crate) fn asking(self, query: &str) -> Self {
        Self {
            query: query.to_owned(),
            ..self
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signed in with a role.
    pub(crate) fn by(self, role: &str) -> Self {
        self.bearer(&token(SUBJECT, role, &json!({})))
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// What API Gateway's authorizer would add.
    pub(crate) fn authorizer(self, authorizer: Value) -> Self {
        Self { authorizer, ..self }
    }

    /// The event that the gateway would make of it.
    pub(crate) fn event(&self) -> Value {
        let headers: serde_json::Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let query: serde_json::Map<String, Value> = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": self.path,
            "rawQueryString": self.query,
            "headers": headers,
            "queryStringParameters": query,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "authorizer": self.authorizer,
                "domainName": "api.example.com",
                "http": {
                    "method": self.method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": self.source_ip,
                    "userAgent": "test",
                },
                "requestId": "request",
                "routeKey": "$default",
                "stage": "$default",
                "time": "07/Jun/2025:17:00:00 +0000",
                "timeEpoch": 1_749_315_600_000_u64,
            },
            "body": self.body,
            "isBase64Encoded": false,
        })
    }

    /// The event that a REST API would make of it.
    pub(crate) fn event_v1(&self) -> Value {
        let lists = |singles: &Value| -> Value {
            let singles = singles.as_object().into_iter().flatten();
            singles
                .map(|(name, value)| (name.clone(), json!([value])))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let v2 = self.event();
        json!({
            "resource": "/{proxy+}",
            "path": self.path,
            "httpMethod": self.method,
            "headers": v2["headers"],
            "multiValueHeaders": lists(&v2["headers"]),
            "queryStringParameters": v2["queryStringParameters"],
            "multiValueQueryStringParameters": lists(&v2["queryStringParameters"]),
            "pathParameters": { "proxy": self.path.trim_start_matches('/') },
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "authorizer": self.authorizer,
                "httpMethod": self.method,
                "identity": { "sourceIp": self.source_ip, "userAgent": "test" },
                "path": format!("/prod{}", self.path),
                "protocol": "HTTP/1.1",
                "requestId": "request",
                "resourcePath": "/{proxy+}",
                "stage": "prod",
            },
            "body": self.body,
            "isBase64Encoded": false,
        })
    }
}
