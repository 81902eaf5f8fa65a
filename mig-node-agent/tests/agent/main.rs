//! The agent as a whole: in this process, or as a process of its own, on the simulated driver, with
//! a small kubelet and a controller over mutual TLS.

// Clippy takes only functions marked as tests for tests; the helpers here are no less.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod beside;
mod cdi;
mod certificates;
mod controller;
mod crashes;
mod grants;
mod host;
mod kubelet;
mod plans;
mod sessions;
mod starting;

use std::time::Duration;

/// Longest that anything in these tests is waited for. Nothing is ever expected to take so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until something is there.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("never came: {what}"))
}
