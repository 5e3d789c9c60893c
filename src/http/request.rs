//! Reading what a request asks, with an error that names what is wrong.

use std::collections::HashMap;

use lambda_http::http::header::CONTENT_TYPE;
use serde_json::{Map, Value, value::RawValue};

use super::problem::Problem;
use crate::event::HttpRequest;

/// The most a body may hold, unless its route says otherwise.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;

/// A query parameter that may be given once.
pub(super) fn parameter<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = request
        .query
        .iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str());
    let value = values.next();
    if values.next().is_some() {
        return Err(Problem::invalid(name, "is given more than once"));
    }
    Ok(value)
}

/// A query parameter that is one of a list; the list's first entry where it is absent.
pub(super) fn choice<T: Copy>(
    request: &HttpRequest,
    name: &str,
    choices: &[(&'static str, T)],
) -> Result<(&'static str, T), Problem> {
    let words = || {
        choices
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(value) = parameter(request, name)? else {
        return choices
            .first()
            .copied()
            .ok_or_else(|| Problem::invalid(name, "is missing"));
    };
    let found = choices.iter().find(|(word, _)| *word == value).copied();
    found.ok_or_else(|| Problem::invalid(name, &format!("must be one of {}", words())))
}

/// The body, of a type that the route takes and not larger than it may be.
pub(super) fn body<'a>(
    request: &'a HttpRequest,
    types: &[&'static str],
    max_bytes: usize,
    max_in_words: &str,
) -> Result<&'a [u8], Problem> {
    let content_type = request
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !types
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
    {
        return Err(Problem::unsupported_media_type(types));
    }
    let Some(body) = &request.body else {
        return Err(Problem::invalid_body(
            "the body is no base64, as its event says",
        ));
    };
    if body.len() > max_bytes {
        return Err(Problem::too_large(max_in_words));
    }
    Ok(body)
}

/// A body that says it is JSON.
pub(super) fn json_body<'a>(
    request: &'a HttpRequest,
    max_bytes: usize,
    max_in_words: &str,
) -> Result<&'a [u8], Problem> {
    body(request, &["application/json"], max_bytes, max_in_words)
}

/// The body as a JSON object.
pub(super) fn json_object(request: &HttpRequest) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(json_body(request, MAX_BODY_BYTES, "256 kB")?) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::invalid_body("the body must be a JSON object")),
        Err(error) => Err(Problem::invalid_body(&format!(
            "the body is no JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// A field of the body as it was sent: read into numbers of Rust's, large ones would change.
pub(super) fn raw_field(request: &HttpRequest, name: &str) -> Result<String, Problem> {
    let body = request.body.as_deref().unwrap_or_default();
    let fields: HashMap<String, Box<RawValue>> = serde_json::from_slice(body)
        .map_err(|_| Problem::invalid_body("the body must be a JSON object"))?;
    let field = fields.get(name);
    let field = field.ok_or_else(|| Problem::invalid(name, "is required"))?;
    Ok(field.get().to_owned())
}

/// A field of the body that must be text.
pub(super) fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => {
            Err(Problem::invalid(name, "must not hold a NUL character"))
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::invalid(name, "must be a string")),
    }
}

/// A field of the body that must be there.
pub(super) fn required_text(fields: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    text(fields, name)?.ok_or_else(|| Problem::invalid(name, "is required"))
}

/// A field of the body that must be a time as RFC 3339 has it, with its zone: PostgreSQL itself would take `tomorrow` too.
/// Whether there is such a day is for PostgreSQL to say.
pub(super) fn timestamp(fields: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    let text = required_text(fields, name)?;
    if is_timestamp(&text) {
        return Ok(text);
    }
    Err(Problem::invalid(
        name,
        "must be a time with its zone, like 2025-06-07T17:00:00Z",
    ))
}

pub(super) fn is_timestamp(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let fits = |text: &[u8], shape: &[u8]| {
        let mut pairs = text.iter().zip(shape);
        text.len() == shape.len()
            && pairs.all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                shape => byte.eq_ignore_ascii_case(shape),
            })
    };
    let Some((time, mut rest)) = text.as_bytes().split_at_checked(SHAPE.len()) else {
        return false;
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        if digits == 0 {
            return false;
        }
        rest = fraction.get(digits..).unwrap_or_default();
    }
    fits(time, SHAPE) && (fits(rest, b"Z") || fits(rest, b"+dd:dd") || fits(rest, b"-dd:dd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_zone() {
        for good in [
            "2025-06-07T17:00:00Z",
            "2025-06-07t17:00:00z",
            "2025-06-07T17:00:00.123456+05:30",
            "2025-06-07T17:00:00-08:00",
        ] {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in [
            "",
            "tomorrow",
            "infinity",
            "2025-06-07",
            "2025-06-07T17:00:00",
            "2025-06-07 17:00:00Z",
            "2025-06-07T17:00:00.Z",
            "2025-06-07T17:00:00 Europe/London",
            "2025-06-07T17:00:00+0530",
            "2025-06-07T17:00:0\u{661}Z",
        ] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }
}
