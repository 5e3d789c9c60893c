//! Bounded polling, so that no test sleeps blindly and none hangs.

use std::time::{Duration, Instant};

/// Long enough for a machine that is busy with much else; a test that needs more is wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
///
/// # Panics
///
/// When it does not hold in time, with the words of `expectation`.
pub(crate) async fn wait_until(expectation: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "still not so: {expectation}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As if so much time had passed, for what goes by tokio's clock; what goes by the system's or the server's notices nothing.
pub(crate) async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
