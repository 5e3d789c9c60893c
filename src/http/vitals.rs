//! `POST /api/monitoring/vitals`: Web Vitals of visitors' browsers.
//!
//! The key is public, since it stands in the source of every page: all it allows is to be counted, up to limits that are the
//! project's in the database and, here, one address's. That address is kept nowhere but in memory, for a minute.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lambda_http::http::header::{HOST, ORIGIN};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Access, Success, problem::Problem, request, statement_timeout};
use crate::{
    db::{Database, DbErrorKind, Query, Session},
    event::HttpRequest,
};

/// Twenty beacons need a tenth of it.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// As many as the database takes at once.
const MAX_BEACONS: usize = 20;

/// What one address may have counted in a minute by one instance: six page views with all five metrics.
const BEACONS_PER_SOURCE: usize = 30;

/// More than an instance can serve in a minute of those that send honestly.
const SOURCES_AT_MOST: usize = 10_000;

/// How many beacons each address has sent in its current minute.
#[derive(Debug, Default)]
pub(super) struct Sources {
    counted: Mutex<HashMap<IpAddr, (Instant, usize)>>,
}

impl Sources {
    /// Counts so many beacons of an address, or says after how many seconds it may send again.
    fn admit(&self, source: Option<&str>, beacons: usize, now: Instant) -> Result<(), u32> {
        const MINUTE: Duration = Duration::from_secs(60);
        let Some(source) = source.and_then(|source| source.parse().ok()) else {
            return Ok(());
        };
        let source = network(source);
        // What is counted is whole after any panic.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= SOURCES_AT_MOST {
            counted.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
            if counted.len() >= SOURCES_AT_MOST && !counted.contains_key(&source) {
                return Err(60);
            }
        }
        let (since, sent) = counted.entry(source).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *sent) = (now, 0);
        }
        if *sent + beacons > BEACONS_PER_SOURCE {
            let left = MINUTE.saturating_sub(now.duration_since(*since));
            return Err(u32::try_from(left.as_secs()).unwrap_or(60).max(1));
        }
        *sent += beacons;
        Ok(())
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        IpAddr::V4(_) => address,
    }
}

/// One or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Beacons {
    Several(Vec<Map<String, Value>>),
    One(Map<String, Value>),
}

/// Counts the beacons of a page.
pub(super) async fn post(
    database: &Database,
    request: &HttpRequest,
    allowed_origins: &[String],
    sources: &Sources,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    access.sections = "add_vitals".to_owned();
    if !is_from_allowed_origin(request, allowed_origins) {
        return Err(Problem::forbidden_origin());
    }
    let key = request::parameter(request, "key")?;
    let key = key.filter(|key| is_key(key));
    let key = key.ok_or_else(Problem::bad_project_token)?;
    // A page sends text/plain without asking first, and JSON after a preflight.
    let types = ["application/json", "text/plain"];
    let body = request::body(request, &types, MAX_BODY_BYTES, "16 kB")?;
    let beacons = match serde_json::from_slice(body) {
        Ok(Beacons::One(beacon)) => vec![beacon],
        Ok(Beacons::Several(beacons)) if (1..=MAX_BEACONS).contains(&beacons.len()) => beacons,
        Ok(Beacons::Several(_)) => {
            return Err(Problem::invalid_body("the body must hold 1 to 20 beacons"));
        }
        Err(_) => {
            return Err(Problem::invalid_body(
                "the body must be a beacon as JSON, or a list of them",
            ));
        }
    };
    let beacons: Vec<Value> = beacons.iter().map(beacon).collect::<Result<_, _>>()?;
    sources
        .admit(request.source_ip.as_deref(), beacons.len(), Instant::now())
        .map_err(Problem::too_many_requests)?;
    let query = Query {
        name: "add_vitals",
        sql: "select coalesce(monitoring.add_vitals($1, $2::jsonb) ->> 'wait_seconds', '')",
        params: vec![Some(key.to_owned()), Some(Value::from(beacons).to_string())],
    };
    let nobody = Session::caller("{}".to_owned(), statement_timeout(budget, 1));
    let added = database.write(&nobody, &query).await;
    let wait_seconds = added.map_err(|error| {
        if error.is_the_guards_no() {
            tracing::info!("refused: {error}");
            return Problem::bad_project_token();
        }
        match error.kind() {
            // So many at once that they wait for each other.
            DbErrorKind::LockTimeout => Problem::too_many_requests(1),
            _ => Problem::from_database(&error, "send Web Vitals"),
        }
    })?;
    match wait_seconds.parse() {
        Ok(seconds) => Err(Problem::too_many_requests(seconds)),
        Err(_) => Ok(Success::empty()),
    }
}

/// What the database is told of a beacon. Whether its numbers can be is judged there.
fn beacon(fields: &Map<String, Value>) -> Result<Value, Problem> {
    let metric = request::required_text(fields, "metric")?;
    let value = fields.get("value").filter(|value| value.is_number());
    let value = value.ok_or_else(|| Problem::invalid("value", "must be a number"))?;
    let rating = request::text(fields, "rating")?;
    let rating = rating.as_deref().unwrap_or("good");
    if !["good", "needs-improvement", "poor"].contains(&rating) {
        return Err(Problem::invalid(
            "rating",
            "must be good, needs-improvement or poor",
        ));
    }
    let mut told = json!({"metric": metric, "value": value});
    if let Some(path) = request::text(fields, "path")? {
        told["path"] = path.into();
    }
    match fields.get("timestamp") {
        None | Some(Value::Null) => {}
        Some(Value::Number(ms)) => told["sent_ms"] = ms.clone().into(),
        Some(_) => told["sent_at"] = request::timestamp(fields, "timestamp")?.into(),
    }
    Ok(told)
}

/// A browser says where its page is from; no page can say otherwise. One of the API's own origin needs no listing.
fn is_from_allowed_origin(request: &HttpRequest, allowed_origins: &[String]) -> bool {
    let text = |name| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let Some(origin) = text(ORIGIN) else {
        return !request.headers.contains_key(ORIGIN);
    };
    let is_own = origin
        .split_once("://")
        .is_some_and(|(_, host)| Some(host) == text(HOST));
    is_own || allowed_origins.iter().any(|allowed| allowed == origin)
}

fn is_key(text: &str) -> bool {
    let hex = text.strip_prefix("pgvk_").unwrap_or_default();
    hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_a_minute() {
        let (sources, now) = (Sources::default(), Instant::now());
        assert_eq!(sources.admit(Some("203.0.113.7"), 20, now), Ok(()));
        assert_eq!(sources.admit(Some("203.0.113.7"), 10, now), Ok(()));
        assert_eq!(sources.admit(Some("203.0.113.7"), 1, now), Err(60));
        assert_eq!(sources.admit(Some("203.0.113.8"), 1, now), Ok(()));
        let later = now + Duration::from_secs(60);
        assert_eq!(sources.admit(Some("203.0.113.7"), 30, later), Ok(()));
        // One network of IPv6 is one.
        assert_eq!(sources.admit(Some("2001:db8:1:2::3"), 30, now), Ok(()));
        assert_eq!(sources.admit(Some("2001:db8:1:2:ffff::4"), 1, now), Err(60));
        assert_eq!(sources.admit(Some("2001:db8:1:3::3"), 30, now), Ok(()));
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory() {
        let (sources, now) = (Sources::default(), Instant::now());
        for n in 0..20_000_u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
            let admitted = sources.admit(Some(&address), 1, now);
            assert_eq!(admitted.is_ok(), n < 10_000, "{n}");
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(sources.admit(Some("203.0.113.7"), 1, later), Ok(()));
        assert_eq!(sources.counted.lock().expect("counting").len(), 1);
    }
}
