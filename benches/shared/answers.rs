//! Whether an answer of the app is whole.

use serde_json::Value;

use crate::support::app::Answer;

/// How many sections have something in them; none where anything is missing.
pub(crate) fn sections_of(answer: &Answer) -> i64 {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let is_whole = answer.status == 200
        && body.pointer("/metadata/degraded") == Some(&Value::Array(Vec::new()));
    let is_filled = |section: &&Value| match section {
        Value::Array(rows) => !rows.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    };
    let sections = body["data"].as_object().into_iter().flatten();
    let filled = sections
        .map(|(_, section)| section)
        .filter(is_filled)
        .count();
    if is_whole {
        i64::try_from(filled).unwrap_or(0)
    } else {
        0
    }
}
