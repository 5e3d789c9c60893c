//! A database as it is watched: built, under load, remembered by the sampler.

use std::time::Duration;

use crate::build;
use crate::load::{self, Load};
use crate::report::say;
use crate::scale::Scale;
use crate::support::database::TestDatabase;
use crate::support::postgres::SUPERUSER;

/// Which of a bench's parts its arguments name: all where they name none.
///
/// # Errors
///
/// What is said of an argument that names no part.
pub(crate) fn chosen<'a>(parts: &[&'a str]) -> Result<Vec<&'a str>, String> {
    // Cargo adds an option of its own.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let Some(unknown) = named.iter().find(|part| !parts.contains(&part.as_str())) {
        return Err(format!("{unknown} is none of {}\n", parts.join(", ")));
    }
    let is_chosen = |part: &&&str| named.is_empty() || named.iter().any(|each| each == **part);
    Ok(parts.iter().filter(is_chosen).copied().collect())
}

/// Builds the scale's database, with everything that goes on in it.
pub(crate) async fn database(scale: &Scale) -> (TestDatabase, Load) {
    let database = build::database(scale).await;
    say(&format!("{}: opening the connections", scale.name));
    let load = load::start(&database, scale).await;
    // Statistics arrive up to a second late; what the sampler remembers must not be older than they are. It remembers one subject
    // a sample, and the next when its budget allows, which is minutes later.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let sample = "delete from monitoring.samples; update monitoring.sampler_parts set next_at = null where part = 'remember';
        set role monitoring_agent; select monitoring.sample(); reset role";
    for _ in 0..5 {
        let sampled = database.psql(SUPERUSER, sample);
        sampled.expect("taking a sample");
    }
    (database, load)
}
