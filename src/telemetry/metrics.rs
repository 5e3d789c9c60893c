//! Metrics in CloudWatch's embedded metric format: a log line that CloudWatch Logs reads numbers from.
//!
//! [Specification](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
//! Nothing is sent anywhere, so metrics arrive whatever the database, the network or Secrets Manager do.

use std::{
    fmt, io,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Number, Value, json};

/// Where all our metrics are.
pub const NAMESPACE: &str = "pgvigil";

/// The only dimension: each further one, and each further value of one, is paid for with every metric.
pub const DIMENSION: &str = "Target";

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name in CloudWatch.
    pub name: &'static str,
    /// One of CloudWatch's units.
    pub unit: &'static str,
    /// What it is now.
    pub value: Number,
}

/// Where the lines go.
pub struct MetricLines {
    writer: Mutex<Box<dyn io::Write + Send>>,
}

impl fmt::Debug for MetricLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricLines")
    }
}

impl MetricLines {
    /// To standard output, which Lambda takes to CloudWatch Logs.
    pub fn to_standard_output() -> Self {
        Self::to(io::stdout())
    }

    /// To something else.
    pub fn to(writer: impl io::Write + Send + 'static) -> Self {
        Self {
            writer: Mutex::new(Box::new(writer)),
        }
    }

    /// Writes the numbers of one target as one line, of which CloudWatch takes those that are published.
    pub fn write(&self, target: &str, metrics: &[Metric], is_published: impl Fn(&str) -> bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        // In one piece, so that no line of the log gets in between.
        let line = format!("{}\n", document(target, now_ms, metrics, is_published));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.flush())
        {
            tracing::warn!("metrics could not be written: {error}");
        }
    }
}

/// The root holds a member for the dimension and one for each metric, and in `_aws` what those are that CloudWatch is to take;
/// without any it is a line like others.
fn document(
    target: &str,
    timestamp_ms: u64,
    metrics: &[Metric],
    is_published: impl Fn(&str) -> bool,
) -> Value {
    let definitions: Vec<Value> = metrics
        .iter()
        .filter(|metric| is_published(metric.name))
        .map(|metric| json!({"Name": metric.name, "Unit": metric.unit}))
        .collect();
    let mut root = Map::new();
    if !definitions.is_empty() {
        root.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": timestamp_ms,
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": definitions},
                ],
            }),
        );
    }
    root.insert(DIMENSION.to_owned(), json!(target));
    for metric in metrics {
        root.insert(metric.name.to_owned(), Value::Number(metric.value.clone()));
    }
    Value::Object(root)
}
