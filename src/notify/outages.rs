//! What this instance remembers of databases that could not be reached: a database that is away cannot be asked whether its
//! absence was announced.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_eventbridge::primitives::{DateTime, DateTimeFormat};

/// By the name of the database.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<HashMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The tick of the last sample that this instance took.
    last_sample_at: Option<String>,
    /// When this instance last found no database.
    missed_at: Option<SystemTime>,
    outage: Option<Outage>,
}

/// After so long without a miss an outage is another one: this instance may not have been asked when the database came back.
const STALE: Duration = Duration::from_secs(300);

/// A time in which a database cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    /// What its beginning and its end are told under.
    pub(super) name: String,
    pub(super) last_sample_at: Option<String>,
    pub(super) is_announced: bool,
}

impl Outages {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outage that was announced and whose end was not.
    pub(super) fn announced(&self, target: &str) -> Option<String> {
        let known = self.known();
        let outage = known.get(target)?.outage.as_ref()?;
        outage.is_announced.then(|| outage.name.clone())
    }

    /// A sample was taken, and the end of the outage, if there was one, will be told.
    pub(super) fn over(&self, target: &str, tick_at: Option<&str>) {
        let mut known = self.known();
        let known = known.entry(target.to_owned()).or_default();
        known.outage = None;
        if let Some(tick_at) = tick_at {
            known.last_sample_at = Some(tick_at.to_owned());
        }
    }

    /// A sample found no database: in which outage.
    ///
    /// Named by the last sample, as SQL names the gap when it is over, so that instances that know of the same sample agree.
    /// One that has taken none yet has only its clock; by the hour, so that several such say the same for a while.
    pub(super) fn missed(&self, target: &str, now: SystemTime) -> Outage {
        let mut known = self.known();
        let known = known.entry(target.to_owned()).or_default();
        let is_stale = |at: SystemTime| now.duration_since(at).is_ok_and(|since| since > STALE);
        if known.missed_at.replace(now).is_some_and(is_stale) {
            known.outage = None;
        }
        let last_sample_at = known.last_sample_at.clone();
        let outage = known.outage.get_or_insert_with(|| Outage {
            name: match &last_sample_at {
                Some(tick_at) => format!("{target} since {tick_at}"),
                None => format!("{target} in the hour of {}", hour(now)),
            },
            last_sample_at,
            is_announced: false,
        });
        outage.clone()
    }

    /// The outage was announced.
    pub(super) fn told(&self, target: &str) {
        if let Some(known) = self.known().get_mut(target)
            && let Some(outage) = &mut known.outage
        {
            outage.is_announced = true;
        }
    }
}

fn hour(at: SystemTime) -> String {
    let seconds = DateTime::from(at).secs();
    text(DateTime::from_secs(seconds - seconds.rem_euclid(3600)))
}

/// A moment as our SQL writes it.
pub(super) fn text(at: DateTime) -> String {
    at.fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const EVENING: Duration = Duration::from_secs(1_749_322_833); // 2025-06-07T19:00:33Z

    #[test]
    fn an_outage_is_told_once_and_named_by_the_last_sample() {
        let outages = Outages::default();
        let now = UNIX_EPOCH + EVENING;
        outages.over("default", Some("2025-06-07T18:59:00Z"));
        let outage = outages.missed("default", now);
        assert_eq!(outage.name, "default since 2025-06-07T18:59:00Z");
        assert!(!outage.is_announced);
        assert_eq!(outages.announced("default"), None);
        // It could not be announced, so it is tried again, under the same name.
        assert_eq!(outages.missed("default", now), outage);
        outages.told("default");
        assert!(outages.missed("default", now).is_announced);
        assert_eq!(outages.announced("default"), Some(outage.name));
        assert_eq!(outages.announced("reports"), None);
        outages.over("default", Some("2025-06-07T19:05:00Z"));
        assert_eq!(outages.announced("default"), None);
        let next = outages.missed("default", now);
        assert_eq!(next.name, "default since 2025-06-07T19:05:00Z");
        assert!(!next.is_announced);
        // Another instance saw it come back: what is missed hours later is another outage.
        outages.told("default");
        assert!(outages.missed("default", now + STALE).is_announced);
        let later = now + STALE + STALE + Duration::from_secs(1);
        assert!(!outages.missed("default", later).is_announced);
    }

    #[test]
    fn who_has_seen_nothing_goes_by_the_hour() {
        let names = [0, 1500, 3600].map(|later| {
            let now = UNIX_EPOCH + EVENING + Duration::from_secs(later);
            Outages::default().missed("default", now).name
        });
        assert_eq!(names[0], "default in the hour of 2025-06-07T19:00:00Z");
        assert_eq!(names[0], names[1]);
        assert_eq!(names[2], "default in the hour of 2025-06-07T20:00:00Z");
    }
}
