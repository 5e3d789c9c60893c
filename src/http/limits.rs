//! How often a subject may ask. PostgreSQL counts, for all instances together; this remembers its no until it is over.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{identity::Identity, problem::Problem};
use crate::db::Session;

/// A caller whose request is counted.
#[derive(Debug)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) identity: Identity,
    target: String,
    method: &'static str,
    request: String,
}

impl Caller {
    /// A caller with a request that has a name of its own: the id alone repeats under emulators, the time alone on two
    /// instances.
    pub(super) fn new(
        identity: Identity,
        target: &str,
        method: &'static str,
        request_id: &str,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.unwrap_or_default().as_nanos();
        Self {
            identity,
            target: target.to_owned(),
            method,
            request: format!("{request_id} {now_ns}"),
        }
    }

    /// The database as this caller, its request counted first.
    pub(super) fn session(&self, statement_timeout: Duration) -> Session {
        Session::caller(self.identity.claims_json(), statement_timeout)
            .counted(self.method, self.request.clone())
    }
}

/// Who was refused, and until when: nothing can make room earlier, so a flood costs the database one refusal for each
/// instance. Lost with the instance.
#[derive(Debug, Default)]
pub(super) struct Limits {
    refused_until: Mutex<HashMap<Key, Instant>>,
}

/// More subjects than an honest team has.
const REMEMBERED_AT_MOST: usize = 1000;

impl Limits {
    /// Refuses whom the database has refused, until the time it named.
    ///
    /// # Errors
    ///
    /// 429 with the seconds that are left.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let refused_until = self.refused_until();
        let Some(until) = refused_until.get(&key(caller)) else {
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let whole_seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Err(Problem::too_many_requests(
            u32::try_from(whole_seconds).unwrap_or(u32::MAX),
        ))
    }

    /// Remembers a refusal that an answer tells of.
    pub(super) fn learn<T>(&self, caller: &Caller, answer: &Result<T, Problem>) {
        let Some(wait_seconds) = answer.as_ref().err().and_then(Problem::wait_seconds) else {
            return;
        };
        let now = Instant::now();
        let mut refused_until = self.refused_until();
        if refused_until.len() >= REMEMBERED_AT_MOST {
            refused_until.retain(|_, until| *until > now);
        }
        if refused_until.len() < REMEMBERED_AT_MOST {
            let until = now + Duration::from_secs(wait_seconds.into());
            refused_until.insert(key(caller), until);
        }
    }

    fn refused_until(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Instant>> {
        // What is remembered is whole after any panic.
        self.refused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each database counts for itself. By the subject's JSON: one that is no text must not be taken for another.
type Key = (String, String, &'static str);

fn key(caller: &Caller) -> Key {
    let subject = caller.identity.subject_json();
    (caller.target.clone(), subject, caller.method)
}
