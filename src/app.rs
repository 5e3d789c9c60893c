//! The composition root: what is built once an instance, and the one handler for every event.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lambda_runtime::{Context, Diagnostic};
use serde_json::Value;
use tracing::Instrument;

use crate::{
    aws,
    config::{AuthMode, Config, LoginSource},
    db::Targets,
    event::Event,
    http::Api,
    notify::Bus,
    secrets::SecretStore,
    task::Tasks,
    telemetry::metrics::MetricLines,
};

/// The function between two events: its connections, its keys, its configuration.
#[derive(Debug)]
pub struct App {
    api: Api,
    tasks: Tasks,
    targets: Arc<Targets>,
    // The next request will need two secrets, of which neither is there.
    is_cold: AtomicBool,
}

/// Left for wording and sending the answer before Lambda ends the invocation.
const RESERVE: Duration = Duration::from_millis(500);

/// Where no deadline is known.
const DEFAULT_BUDGET: Duration = Duration::from_secs(30);

impl App {
    /// Builds everything from the configuration. Nothing is connected to yet: the first event does that.
    pub async fn new(config: Config) -> Self {
        let needs_secrets = matches!(config.database.login, LoginSource::Secret(_))
            || config.database.migration_login.is_some()
            || !config.targets.is_empty()
            || matches!(config.auth.mode, AuthMode::Token { .. });
        let event_bus = config.event_bus.clone();
        if !needs_secrets && event_bus.is_none() {
            return Self::with_secrets(config, None);
        }
        let aws = aws::from_environment().await;
        let secrets = needs_secrets.then(|| SecretStore::new(&aws));
        let app = Self::with_secrets(config, secrets);
        match event_bus {
            Some(name) => app.with_bus(Bus::new(&aws, name)),
            None => app,
        }
    }

    /// The same with a secret store that is set up already.
    pub fn with_secrets(config: Config, secrets: Option<SecretStore>) -> Self {
        let secrets = secrets.map(Arc::new);
        let targets = Arc::new(Targets::new(&config, secrets.as_ref()));
        let is_cold = AtomicBool::new(matches!(config.auth.mode, AuthMode::Token { .. }));
        Self {
            api: Api::new(
                config.auth,
                config.allowed_origins,
                &config.dashboard,
                secrets,
                Arc::clone(&targets),
            ),
            tasks: Tasks::new(Arc::clone(&targets), config.cloudwatch_metrics),
            targets,
            is_cold,
        }
    }

    /// The same with a bus on which its tasks announce what there is to announce.
    #[must_use]
    pub fn with_bus(self, bus: Bus) -> Self {
        let tasks = self.tasks.with_bus(bus);
        Self { tasks, ..self }
    }

    /// The same with its metrics elsewhere than on standard output.
    #[must_use]
    pub fn with_metrics_to(self, metrics: MetricLines) -> Self {
        let tasks = self.tasks.with_metrics_to(metrics);
        Self { tasks, ..self }
    }

    /// Handles one event: answers a request in its gateway's format, or returns a task's report.
    ///
    /// # Errors
    ///
    /// An unknown event and a task that failed, so that Lambda's retries, dead-letter queue and error metric see them.
    /// A request is always answered.
    pub async fn handle(&self, event: Value, context: Context) -> Result<Value, Diagnostic> {
        let span = tracing::info_span!("invocation", request_id = context.request_id);
        // Boxed: nested in the runtime's own futures, its layout would pass the compiler's depth limit.
        Box::pin(self.dispatch(event, context))
            .instrument(span)
            .await
    }

    async fn dispatch(&self, event: Value, context: Context) -> Result<Value, Diagnostic> {
        let budget = budget(&context);
        match Event::from_json(event) {
            Ok(Event::Http(event)) => {
                let request_id = context.request_id.clone();
                let answered = Box::pin(event.answer(context, |request| {
                    self.api.answer(request, request_id, budget)
                }));
                let answered = self.with_login_on_its_way(answered).await;
                answered.map_err(|error| diagnostic("Response", &error.to_string()))
            }
            Ok(Event::Task(task)) => self
                .tasks
                .run(&task, budget)
                .await
                .map_err(|error| diagnostic(error.code(), &error.to_string())),
            Err(error) => {
                tracing::error!("{error}");
                Err(diagnostic("UnknownEvent", &error.to_string()))
            }
        }
    }
}

impl App {
    /// The first request of an instance waits for the keys and then for the login: the second is fetched meanwhile.
    async fn with_login_on_its_way<T>(&self, answer: impl Future<Output = T>) -> T {
        if !self.is_cold.load(Ordering::Relaxed) {
            return answer.await;
        }
        let mut answer = pin!(answer);
        // Only where the answer waits for something: the page does not, and what it will ask for comes after it.
        let prepare = async {
            self.is_cold.store(false, Ordering::Relaxed);
            self.targets.default_target().database.prepare().await;
        };
        tokio::select! {
            biased;
            answered = &mut answer => return answered,
            () = prepare => {}
        }
        answer.await
    }
}

fn diagnostic(error_type: &str, error_message: &str) -> Diagnostic {
    Diagnostic {
        error_type: error_type.to_owned(),
        error_message: error_message.to_owned(),
    }
}

/// What is left until Lambda ends the invocation. Emulators send deadlines that are long past, which Lambda never does:
/// those are none.
fn budget(context: &Context) -> Duration {
    let deadline = UNIX_EPOCH + Duration::from_millis(context.deadline);
    match deadline.duration_since(SystemTime::now()) {
        Ok(left) => left.saturating_sub(RESERVE),
        Err(_) => DEFAULT_BUDGET,
    }
}
