//! What is kept of a Lighthouse report: its numbers. The report itself, megabytes of it, is read past.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use super::super::{problem::Problem, request};

/// A run as Lighthouse CI sends it: the page, and the report as a JSON text within the JSON.
#[derive(Deserialize)]
struct Upload<'a> {
    url: String,
    #[serde(borrow)]
    lhr: Cow<'a, str>,
}

/// The fields of a report that are read; serde passes over the others without keeping them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    lighthouse_version: String,
    fetch_time: String,
    #[serde(default)]
    config_settings: Settings,
    runtime_error: Option<RuntimeError>,
    categories: Categories,
    audits: Audits,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(alias = "emulatedFormFactor")]
    form_factor: Option<String>,
}

#[derive(Deserialize)]
struct RuntimeError {
    code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Categories {
    performance: Option<Category>,
    accessibility: Option<Category>,
    best_practices: Option<Category>,
    seo: Option<Category>,
}

#[derive(Deserialize)]
struct Category {
    score: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Audits {
    largest_contentful_paint: Option<Audit>,
    cumulative_layout_shift: Option<Audit>,
    total_blocking_time: Option<Audit>,
    first_contentful_paint: Option<Audit>,
    speed_index: Option<Audit>,
    interactive: Option<Audit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Audit {
    numeric_value: Option<f64>,
}

/// An hour; Lighthouse gives up after a minute.
const LONGEST_MS: f64 = 3_600_000.0;

/// Many times the worst page there is.
const LARGEST_SHIFT: f64 = 1000.0;

/// As long as the database takes.
const LONGEST_URL: usize = 500;

/// The numbers of an uploaded run, as the JSON that the database takes.
pub(super) fn run_json(body: &[u8]) -> Result<String, Problem> {
    let upload: Upload<'_> =
        serde_json::from_slice(body).map_err(|error| unreadable("the body", &error))?;
    let url = plain_url(&upload.url).ok_or_else(|| {
        Problem::invalid(
            "url",
            "must be an http or https address, of 500 characters at most without its query",
        )
    })?;
    let report: Report =
        serde_json::from_str(&upload.lhr).map_err(|error| unreadable("lhr", &error))?;
    // Lighthouse writes a report also where it could not load the page.
    if let Some(error) = report.runtime_error
        && error.code != "NO_ERROR"
    {
        return Err(Problem::invalid(
            "lhr",
            "tells of an error: Lighthouse could not measure the page",
        ));
    }
    let version = report.lighthouse_version;
    let is_version = (1..=40).contains(&version.len())
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte));
    if !is_version {
        return Err(Problem::invalid("lhr", "has no lighthouseVersion"));
    }
    if !request::is_timestamp(&report.fetch_time) {
        return Err(Problem::invalid("lhr", "has no fetchTime"));
    }
    let form_factor = match report.config_settings.form_factor.as_deref() {
        Some("desktop") => "desktop",
        Some("none") => "none",
        // What Lighthouse does unless it is told otherwise.
        Some("mobile") | None => "mobile",
        Some(_) => return Err(Problem::invalid("lhr", "has a formFactor that is unknown")),
    };
    let (categories, audits) = (report.categories, report.audits);
    let score = |name: &str, category: Option<Category>| {
        let score = category.and_then(|category| category.score);
        measured(name, score, 1.0)
    };
    let value = |name: &str, audit: Option<Audit>, most: f64| {
        let value = audit.and_then(|audit| audit.numeric_value);
        measured(name, value, most)
    };
    let ms = |name: &str, audit: Option<Audit>| value(name, audit, LONGEST_MS);
    let run = json!({
        "url": url,
        "form_factor": form_factor,
        "lighthouse_version": version,
        "fetched_at": report.fetch_time,
        "performance": score("performance", categories.performance)?,
        "accessibility": score("accessibility", categories.accessibility)?,
        "best_practices": score("best-practices", categories.best_practices)?,
        "seo": score("seo", categories.seo)?,
        "lcp_ms": ms("largest-contentful-paint", audits.largest_contentful_paint)?,
        "cls": value("cumulative-layout-shift", audits.cumulative_layout_shift, LARGEST_SHIFT)?,
        "tbt_ms": ms("total-blocking-time", audits.total_blocking_time)?,
        "fcp_ms": ms("first-contentful-paint", audits.first_contentful_paint)?,
        "si_ms": ms("speed-index", audits.speed_index)?,
        "tti_ms": ms("interactive", audits.interactive)?,
    });
    let numbers = run.as_object().into_iter().flatten();
    if !numbers.into_iter().any(|(_, value)| value.is_number()) {
        return Err(Problem::invalid("lhr", "measured nothing that is kept"));
    }
    Ok(run.to_string())
}

/// Where it stops being what it should be, without a word of what stands there.
fn unreadable(what: &str, error: &serde_json::Error) -> Problem {
    let wrong = if error.is_data() {
        "not as Lighthouse writes it"
    } else {
        "no JSON"
    };
    Problem::invalid_body(&format!(
        "{what} is {wrong}: line {}, column {}",
        error.line(),
        error.column()
    ))
}

fn measured(name: &str, value: Option<f64>, most: f64) -> Result<Option<f64>, Problem> {
    match value {
        Some(value) if !(0.0..=most).contains(&value) => Err(Problem::invalid(
            "lhr",
            &format!("has a value for {name} that is no measurement"),
        )),
        value => Ok(value),
    }
}

/// The address without user, query and fragment, which carry secrets. Read by hand: Lighthouse CI replaces parts of it
/// (`http://localhost:PORT/`), so that it is no address to a parser.
fn plain_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    let url = format!("{scheme}://{host}{}", path.replace('@', "%40"));
    let is_plain = !host.is_empty()
        && url.chars().count() <= LONGEST_URL
        && !url.chars().any(|c| c.is_control() || c.is_whitespace());
    is_plain.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_without_what_may_be_secret() {
        for (given, kept) in [
            ("https://shop.example", Some("https://shop.example/")),
            (
                "HTTPS://user:secret@shop.example/a?token=1#x",
                Some("https://shop.example/a"),
            ),
            (
                "http://a@b@shop.example/@ann",
                Some("http://shop.example/%40ann"),
            ),
            (
                "http://localhost:PORT/UUID#/route",
                Some("http://localhost:PORT/UUID"),
            ),
            (
                "https://shop.example?secret@x/y",
                Some("https://shop.example/"),
            ),
            ("https://[::1]:3000/", Some("https://[::1]:3000/")),
            ("https://", None),
            ("https://user@", None),
            ("https:///path", None),
            ("ftp://shop.example/", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://shop.example/a b", None),
            ("https://shop.example/\u{0}", None),
            ("https://shop.example/\u{85}", None),
            ("", None),
        ] {
            assert_eq!(plain_url(given).as_deref(), kept, "{given}");
        }
        assert_eq!(
            plain_url(&format!("https://a/{}", "x".repeat(LONGEST_URL))),
            None
        );
    }
}
