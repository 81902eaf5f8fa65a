//! `cargo demo`: the whole system at work, for somebody who has none of it.

mod json;
mod manifest;
mod map;
mod options;
mod screen;
pub(crate) mod style;
mod table;
mod words;

pub(crate) use options::Options;

use crate::outcome::Outcome;

/// Runs the demo.
#[allow(clippy::unused_async, reason = "filled in below")]
pub(crate) async fn run(_options: Options) -> anyhow::Result<Outcome> {
    Ok(Outcome::Good)
}
