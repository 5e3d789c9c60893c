//! Logs: one JSON object a line, as CloudWatch Logs Insights reads them; and lines that are metrics.

pub mod metrics;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// What is never logged, whatever `RUST_LOG` says: the runtime's trace holds events with the tokens in them, and its word on
/// a failed task repeats ours.
const SILENCED: &str = "lambda_runtime=warn,lambda_runtime::layers::panic=off";

/// Sends the process's log lines to standard output as flat JSON.
///
/// A second call in one process changes nothing.
pub fn init(filter: &str) {
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false);
    // An error here only says that a subscriber is installed already.
    let _ = tracing_subscriber::registry()
        .with(EnvFilter::new(format!("{filter},{SILENCED}")))
        .with(lines)
        .try_init();
}
