//! Who asks: a session of the reader or the agent, or the app by a GET.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Instant;

use lambda_runtime::Context;
use pgvigil::{app::App, config::Config};
use serde_json::json;
use tokio_postgres::Client;

use crate::answers::sections_of;
use crate::measure::{Call, Probe, difference, milliseconds, settled_cpu_ms};
use crate::support::app::{Answer, Request};
use crate::support::caller::Caller;
use crate::support::database::TestDatabase;
use crate::support::scratch::unique;
use crate::support::templates::MONITOR;
use crate::support::token;
use crate::views::As;

/// Whoever asks for a view.
pub(crate) enum Asker {
    Session(Probe),
    Api(Box<Api>),
}

impl Asker {
    /// A new connection; the app opens its own when it is first asked.
    pub(crate) async fn new(database: &TestDatabase, caller: As) -> Self {
        let caller = match caller {
            As::Api => return Self::Api(Box::new(Api::new(database).await)),
            As::Agent => Caller::Agent,
            As::Reader => Caller::Reader(token::claims("bench", "admin")),
        };
        Self::Session(Probe::new(database.as_caller(caller).await).await)
    }

    pub(crate) async fn call(&self, sql: &str) -> Call {
        match self {
            Self::Session(probe) => probe.call(sql).await,
            Self::Api(api) => api.get(sql).await,
        }
    }
}

/// The app, as Lambda calls it behind a gateway that has verified the caller.
pub(crate) struct Api {
    app: App,
    observer: Client,
    /// The process that serves the app's connection, once there is one.
    pid: Cell<Option<i32>>,
}

impl Api {
    async fn new(database: &TestDatabase) -> Self {
        let url = database.url_for(MONITOR);
        let variables = HashMap::from([
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_TLS", "disable"),
            ("AUTH_MODE", "gateway"),
            ("AUTH_ROLE_CLAIM", "cognito:groups"),
        ]);
        let config = Config::from_vars(|name| variables.get(name).map(|&value| value.to_owned()));
        let config = config.unwrap_or_else(|error| panic!("configuring the app: {error}"));
        Self {
            app: App::with_secrets(config, None),
            observer: database.superuser().await,
            pid: Cell::new(None),
        }
    }

    /// A GET of the performance endpoint. The first one connects, so that its CPU is all its backend ever took.
    async fn get(&self, query: &str) -> Call {
        // Each by another caller: what a caller may ask in a minute is limited.
        let claims = json!({"sub": unique("bench-"), "cognito:groups": "[admin]"});
        let request = Request::get("/api/monitoring/performance", query)
            .authorizer(json!({"jwt": {"claims": claims, "scopes": null}}));
        let before = self.pid.get().map_or(Some(0.0), settled_cpu_ms);
        let start = Instant::now();
        let answer = self.app.handle(request.event(), Context::default()).await;
        let wall_ms = milliseconds(start.elapsed());
        let answer = answer.unwrap_or_else(|error| panic!("GET ?{query}: {error:?}"));
        if self.pid.get().is_none() {
            self.pid.set(self.find_backend().await);
        }
        Call {
            cpu_ms: difference(before, self.pid.get().and_then(settled_cpu_ms)),
            wall_ms,
            count: sections_of(&Answer::from_gateway(&answer)),
        }
    }

    /// The newest of the app's connections.
    async fn find_backend(&self) -> Option<i32> {
        let newest = "select pid from pg_stat_activity where application_name = 'pgvigil' and datname = current_database() \
                      order by backend_start desc limit 1";
        let found = self.observer.query_opt(newest, &[]).await;
        found
            .expect("looking for the app's connection")
            .map(|row| row.get(0))
    }
}
