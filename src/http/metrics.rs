//! `GET /api/monitoring/metrics`: for Prometheus and whatever else scrapes.
//!
//! [OpenMetrics 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/) for who accepts it, as Prometheus does; else the
//! [text format](https://prometheus.io/docs/instrumenting/exposition_formats/) it came from. They differ in what a counter's
//! family is called.

use std::{fmt::Write as _, time::Duration};

use lambda_http::http::header::ACCEPT;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Access, Success, ask, compression::is_refusal, limits::Caller, problem::Problem};
use crate::{
    db::{Database, Query},
    event::HttpRequest,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A row of `monitoring.metrics()`.
#[derive(Deserialize)]
struct Sample {
    metric: String,
    kind: String,
    help: String,
    labels: Map<String, Value>,
    // As PostgreSQL wrote it: counters pass what a float holds exactly.
    value: Box<RawValue>,
}

/// Answers the numbers of now.
pub(super) async fn get(
    database: &Database,
    caller: &Caller,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    caller.identity.require_role("read monitoring")?;
    access.sections = "metrics".to_owned();
    let query = Query {
        name: "metrics",
        sql: "select json_agg(m)::text from monitoring.metrics() m",
        params: Vec::new(),
    };
    let answer = ask(database, caller, &query, budget).await;
    let (json, _) = answer.map_err(|error| Problem::from_database(&error, "read monitoring"))?;
    let samples: Vec<Sample> = serde_json::from_str(&json).map_err(|error| {
        tracing::error!("monitoring.metrics() cannot be read: {error}");
        Problem::internal()
    })?;
    let accepted = request.headers.get_all(ACCEPT).iter();
    // lambda_http words a media type it does not know as binary.
    let is_open_metrics = request.takes_binary
        && accepted
            .filter_map(|accept| accept.to_str().ok())
            .flat_map(|accept| accept.split(','))
            .any(is_for_open_metrics);
    Ok(if is_open_metrics {
        Success::text(OPEN_METRICS, exposition(&samples, Format::OpenMetrics))
    } else {
        Success::text(TEXT_FORMAT, exposition(&samples, Format::Text))
    })
}

/// Whether a media range of an Accept header asks for it.
fn is_for_open_metrics(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    media_type.eq_ignore_ascii_case("application/openmetrics-text") && !parts.any(is_refusal)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Text,
}

/// The samples, those of one metric together and headed by what it is. The end is marked in both: in the older format it is
/// a comment.
fn exposition(samples: &[Sample], format: Format) -> String {
    let mut text = String::new();
    let mut headed = "";
    for sample in samples {
        if sample.metric != headed {
            headed = &sample.metric;
            let family = match format {
                Format::OpenMetrics => headed.strip_suffix("_total").unwrap_or(headed),
                Format::Text => headed,
            };
            let help = escaped(&sample.help, format);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "# HELP {family} {help}\n# TYPE {family} {}\n",
                sample.kind
            );
        }
        text.push_str(headed);
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| {
                let value = value.as_str().unwrap_or_default();
                format!("{name}=\"{}\"", escaped(value, Format::OpenMetrics))
            })
            .collect();
        if !labels.is_empty() {
            let _ = write!(text, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(text, " {}", sample.value);
    }
    text.push_str("# EOF\n");
    text
}

/// Backslashes, ends of lines and quotes, which the older format leaves alone in a help text.
fn escaped(text: &str, format: Format) -> String {
    let text = text.replace('\\', r"\\").replace('\n', r"\n");
    match format {
        Format::OpenMetrics => text.replace('"', r#"\""#),
        Format::Text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(json: &str) -> Vec<Sample> {
        serde_json::from_str(json).expect("reading samples")
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        for (range, expected) in [
            ("application/openmetrics-text", true),
            (" Application/OpenMetrics-Text ; version=1.0.0; q=0.5", true),
            ("application/openmetrics-text;q=0.0", false),
            ("x-application/openmetrics-text", false),
            ("text/plain", false),
            ("*/*", false),
        ] {
            assert_eq!(is_for_open_metrics(range), expected, "{range}");
        }
    }

    #[test]
    fn each_format_has_its_own_name_for_a_counter() {
        let samples = samples(
            r#"[{"metric":"a_total","kind":"counter","help":"Has \"quotes\" and\na \\.","labels":{"b":"c\"d"},"value":9007199254740993},
                {"metric":"a_total","kind":"counter","help":"x","labels":{"b":"e"},"value":0.50},
                {"metric":"g","kind":"gauge","help":"G.","labels":{},"value":1}]"#,
        );
        assert_eq!(
            exposition(&samples, Format::OpenMetrics),
            "# HELP a Has \\\"quotes\\\" and\\na \\\\.\n# TYPE a counter\na_total{b=\"c\\\"d\"} 9007199254740993\na_total{b=\"e\"} 0.50\n\
             # HELP g G.\n# TYPE g gauge\ng 1\n# EOF\n"
        );
        assert_eq!(
            exposition(&samples, Format::Text),
            "# HELP a_total Has \"quotes\" and\\na \\\\.\n# TYPE a_total counter\na_total{b=\"c\\\"d\"} 9007199254740993\na_total{b=\"e\"} 0.50\n\
             # HELP g G.\n# TYPE g gauge\ng 1\n# EOF\n"
        );
    }
}
