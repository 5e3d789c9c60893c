//! Starts the Lambda function: configuration, logs, then one event after the other.

use std::process::ExitCode;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use pgvigil::{
    app::App,
    config::{Config, DEFAULT_LOG_FILTER},
    telemetry,
};
use serde_json::Value;

/// One thread is enough: an instance handles one event at a time and waits for the network.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Error> {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            telemetry::init(DEFAULT_LOG_FILTER);
            tracing::error!(problems = ?error.problems(), "configuration refused: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    telemetry::init(&config.log_filter);
    let app = App::new(config).await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async {
        app.handle(event.payload, event.context).await
    }))
    .await?;
    Ok(ExitCode::SUCCESS)
}
