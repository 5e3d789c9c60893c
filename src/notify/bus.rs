//! The bus: what goes into one call, and how each entry of it went.

use std::time::{Duration, Instant};

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_eventbridge::{
    Client, Config,
    error::{ProvideErrorMetadata, SdkError},
    primitives::{DateTime, DateTimeFormat},
    types::PutEventsRequestEntry,
};
use serde_json::{Map, Value, json};

/// What rules match our events by.
pub const SOURCE: &str = "pgvigil";

/// What EventBridge takes in one call.
const CALL_ENTRIES: usize = 10;
const CALL_BYTES: usize = 256 * 1024;

/// What one entry may have of it: a target such as SQS gets it in an envelope, and takes 256 kB with that.
const ENTRY_BYTES: usize = 240 * 1024;

/// After so many calls in a row that failed, it is not the entries.
const HOPELESS: u32 = 3;

/// What is left of a text in an entry that is cut down.
const CUT_CHARACTERS: usize = 1000;

/// Something to be announced.
#[derive(Debug, Clone)]
pub(super) struct Announcement {
    /// With its version, like `pgvigil.event.opened.v1`.
    pub(super) detail_type: String,
    pub(super) detail: Map<String, Value>,
    /// When it happened, RFC 3339; else it is when it is announced.
    pub(super) happened_at: Option<String>,
    /// It has a call of its own: with others it has failed too often.
    pub(super) is_alone: bool,
}

/// An event bus of EventBridge.
#[derive(Debug)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// A bus by its name or ARN; talks to nobody yet.
    pub fn new(aws: &SdkConfig, name: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            // An answer that is only late is waited for: to ask again would announce everything twice.
            .disable_operation_attempt_timeout()
            .operation_timeout(Duration::from_millis(3500))
            .build();
        let config = Config::from(aws)
            .to_builder()
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts)
            .build();
        Self {
            client: Client::from_conf(config),
            name,
        }
    }

    /// Announces these in order, and says of each in the same order whether EventBridge has it, or why not.
    ///
    /// A call is refused as a whole where a single entry of it is at fault. Such entries come to stand alone
    /// ([`Announcement::is_alone`]), and that one of those is refused says nothing of the next. What was confirmed before the
    /// time was over stays so.
    pub(super) async fn put(
        &self,
        announcements: &[Announcement],
        limit: Duration,
    ) -> Vec<Result<(), Failure>> {
        let started = Instant::now();
        let entries: Vec<Entry<'_>> = announcements.iter().map(Entry::from).collect();
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut rest = entries.as_slice();
        let mut failed_in_a_row = 0;
        while !rest.is_empty() {
            let (call, later) = rest.split_at(fitting(rest));
            let left = limit.saturating_sub(started.elapsed());
            let answer = tokio::time::timeout(left, self.call(call)).await;
            match answer.unwrap_or_else(|_| Err(Failure::of("no answer in time"))) {
                Ok(results) => {
                    failed_in_a_row = 0;
                    outcomes.extend(results);
                }
                Err(failure) => {
                    failed_in_a_row += 1;
                    let is_its_own =
                        failure.is_refusal && call.iter().all(|entry| entry.of.is_alone);
                    outcomes.resize(outcomes.len() + call.len(), Err(failure.clone()));
                    if !is_its_own || failed_in_a_row >= HOPELESS {
                        // The next call would fare no better.
                        outcomes.resize(entries.len(), Err(Failure::of(failure.reason)));
                        break;
                    }
                }
            }
            rest = later;
        }
        outcomes
    }

    async fn call(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let wanted = entries.iter().map(|entry| entry.request(&self.name));
        let answer = self
            .client
            .put_events()
            .set_entries(Some(wanted.collect()))
            .send()
            .await
            .map_err(|error| {
                let reason = reason(&error);
                let status = error.raw_response().map(|answer| answer.status().as_u16());
                Failure {
                    is_refusal: status.is_some_and(|status| status < 500 && status != 429)
                        && is_of_the_entry(&reason),
                    reason,
                }
            })?;
        // In the order of the request (API reference, PutEvents). What is not answered for is not there.
        let mut results = answer.entries().iter();
        let of_each = entries.iter().map(|_| match results.next() {
            Some(result) => match (result.error_code(), result.event_id()) {
                (Some(code), _) => Err(Failure {
                    reason: code.to_owned(),
                    is_refusal: is_of_the_entry(code),
                }),
                (None, Some(_)) => Ok(()),
                (None, None) => Err(Failure::of("no answer for it")),
            },
            None => Err(Failure::of("no answer for it")),
        });
        Ok(of_each.collect())
    }
}

/// Why something was not announced.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// The service has looked at it and does not take it; else it was not reached, or not tried.
    pub(super) is_refusal: bool,
}

impl Failure {
    /// Not a refusal.
    pub(super) fn of(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_refusal: false,
        }
    }
}

/// An announcement as it goes out.
#[derive(Debug)]
struct Entry<'a> {
    of: &'a Announcement,
    detail: String,
}

impl<'a> From<&'a Announcement> for Entry<'a> {
    fn from(of: &'a Announcement) -> Self {
        let mut detail = Value::Object(of.detail.clone()).to_string();
        if of.size_with(&detail) > ENTRY_BYTES {
            detail = cut_down(&of.detail).to_string();
        }
        Self { of, detail }
    }
}

impl Announcement {
    /// As the service counts (its guide, "Calculating … event entry size"): 14 bytes are the time.
    fn size_with(&self, detail: &str) -> usize {
        14 + SOURCE.len() + self.detail_type.len() + detail.len()
    }
}

impl Entry<'_> {
    fn size(&self) -> usize {
        self.of.size_with(&self.detail)
    }

    fn request(&self, bus: &str) -> PutEventsRequestEntry {
        let happened_at = self.of.happened_at.as_deref();
        let time = happened_at
            .and_then(|at| DateTime::from_str(at, DateTimeFormat::DateTimeWithOffset).ok());
        PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source(SOURCE)
            .detail_type(&self.of.detail_type)
            .detail(&self.detail)
            .set_time(time)
            .build()
    }
}

/// How many of these go into one call; one at least.
fn fitting(entries: &[Entry<'_>]) -> usize {
    if entries.first().is_some_and(|entry| entry.of.is_alone) {
        return 1;
    }
    let mut bytes = 0;
    let fit = entries.iter().take(CALL_ENTRIES).take_while(|entry| {
        bytes += entry.size();
        bytes <= CALL_BYTES && !entry.of.is_alone
    });
    fit.count().max(1)
}

/// The essentials of what is too large: that it happened, to what, how badly. `cut` names what is not whole.
fn cut_down(detail: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    let mut cut = Vec::new();
    for (name, value) in detail {
        match value {
            Value::Array(_) | Value::Object(_) => cut.push(json!(name)),
            Value::String(text) => {
                let short: String = text.chars().take(CUT_CHARACTERS).collect();
                if short.len() < text.len() {
                    cut.push(json!(name));
                }
                kept.insert(name.clone(), json!(short));
            }
            value => {
                kept.insert(name.clone(), value.clone());
            }
        }
    }
    kept.insert("cut".to_owned(), Value::Array(cut));
    Value::Object(kept)
}

/// Whether a code can mean what was sent: not that there was too much at once, nor that the service is itself in trouble.
fn is_of_the_entry(code: &str) -> bool {
    let passing = [
        "Throttl",
        "LimitExceeded",
        "TooMany",
        "Internal",
        "Unavailable",
    ];
    !passing.iter().any(|part| code.contains(part))
}

/// The service's own code, or what went wrong on the way.
fn reason<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    let on_the_way = match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "no answer in time",
        // A connection that ends in the middle of an answer is of no kind, but may be tried again.
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => {
            "no connection to EventBridge"
        }
        SdkError::DispatchFailure(_) => "no region, no credentials or no connection",
        SdkError::ConstructionFailure(_) => "the request could not be built",
        _ => "an answer that could not be read",
    };
    error
        .meta()
        .code()
        .unwrap_or(on_the_way)
        .chars()
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(detail: Value) -> Announcement {
        let Value::Object(detail) = detail else {
            panic!("no object: {detail}")
        };
        Announcement {
            detail_type: "pgvigil.event.opened.v1".to_owned(),
            detail,
            happened_at: None,
            is_alone: false,
        }
    }

    fn sized(bytes: usize) -> Announcement {
        announcement(json!({"dedup_key": "a key", "finding": {"detail": "x".repeat(bytes)}}))
    }

    #[test]
    fn a_call_holds_ten_entries_and_256_kilobytes() {
        let calls = |sizes: &[usize]| {
            let announcements: Vec<Announcement> = sizes.iter().copied().map(sized).collect();
            let entries: Vec<Entry<'_>> = announcements.iter().map(Entry::from).collect();
            let mut rest = entries.as_slice();
            let mut counts = Vec::new();
            while !rest.is_empty() {
                let count = fitting(rest);
                let bytes: usize = rest[..count].iter().map(Entry::size).sum();
                assert!(count == 1 || bytes <= CALL_BYTES, "{bytes}");
                counts.push(count);
                rest = &rest[count..];
            }
            counts
        };
        assert_eq!(calls(&[10; 23]), [10, 10, 3]);
        assert_eq!(calls(&[100_000, 100_000, 100_000, 10]), [2, 2]);
        assert_eq!(calls(&[240_000, 240_000]), [1, 1]);
    }

    #[test]
    fn what_has_failed_too_often_goes_alone() {
        let mut announcements = [1; 6].map(sized);
        for n in [0, 3, 4] {
            announcements[n].is_alone = true;
        }
        let entries: Vec<Entry<'_>> = announcements.iter().map(Entry::from).collect();
        let mut rest = entries.as_slice();
        let mut counts = Vec::new();
        while !rest.is_empty() {
            counts.push(fitting(rest));
            rest = &rest[fitting(rest)..];
        }
        assert_eq!(counts, [1, 2, 1, 1, 1]);
    }

    #[test]
    fn what_is_too_large_keeps_its_essentials_and_says_so() {
        let large = announcement(
            json!({"dedup_key": "a key", "target": "default", "occurrences": 7, "resolved_at": null,
            "finding": {"detail": "x".repeat(300_000)}, "label": "ä".repeat(5000)}),
        );
        let entry = Entry::from(&large);
        assert!(entry.size() < ENTRY_BYTES);
        let detail: Value = serde_json::from_str(&entry.detail).expect("parsing");
        assert_eq!(
            detail,
            json!({"dedup_key": "a key", "target": "default", "occurrences": 7, "resolved_at": null,
                "label": "ä".repeat(1000), "cut": ["finding", "label"]})
        );
        let whole = sized(200_000);
        assert!(!Entry::from(&whole).detail.contains("\"cut\""));
    }

    #[test]
    fn too_much_at_once_is_no_fault_of_an_entry() {
        for code in [
            "ThrottlingException",
            "InternalFailure",
            "InternalException",
            "ServiceUnavailable",
            "RequestLimitExceeded",
        ] {
            assert!(!is_of_the_entry(code), "{code}");
        }
        for code in [
            "ValidationException",
            "MalformedDetail",
            "InvalidArgument",
            "NotAuthorizedForSourceException",
        ] {
            assert!(is_of_the_entry(code), "{code}");
        }
    }

    #[test]
    fn the_time_is_when_it_happened() {
        let mut late = sized(1);
        for (at, seconds) in [
            (Some("2025-06-07T18:00:00.5+01:00"), Some(1_749_315_600)),
            (Some("yesterday"), None),
            (None, None),
        ] {
            late.happened_at = at.map(str::to_owned);
            let request = Entry::from(&late).request("a bus");
            assert_eq!(request.time().map(DateTime::secs), seconds, "{at:?}");
        }
    }
}
