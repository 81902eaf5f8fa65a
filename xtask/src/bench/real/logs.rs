//! What our programs write while pods come and go, read from their containers.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::cluster::Node;

/// One line of a log, as far as stages are told by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Line {
    /// Since the Unix epoch.
    pub(super) at: Duration,
    pub(super) message: String,
    /// Of controllers: `namespace/name`.
    pub(super) pod: String,
    /// Of agents: how a plan ended.
    pub(super) stage: String,
    /// Of agents: what is begun.
    pub(super) action: String,
}

#[derive(Deserialize)]
struct Raw {
    timestamp: jiff::Timestamp,
    #[serde(default)]
    message: String,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    action: String,
}

/// What agent and controller have written since a moment, in the order of time.
pub(super) async fn since(node: &Node, moment: jiff::Timestamp) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for pod in node.our_pods().await? {
        let text = node.log(&pod, moment).await?;
        lines.extend(text.lines().filter_map(parse));
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// The moment as lines have it.
pub(super) fn now() -> anyhow::Result<Duration> {
    since_epoch(jiff::Timestamp::now()).context("the clock is before 1970")
}

fn since_epoch(moment: jiff::Timestamp) -> Option<Duration> {
    Duration::try_from(moment.duration_since(jiff::Timestamp::UNIX_EPOCH)).ok()
}

/// A line that is not ours tells nothing.
fn parse(line: &str) -> Option<Line> {
    let raw: Raw = serde_json::from_str(line).ok()?;
    Some(Line {
        at: since_epoch(raw.timestamp)?,
        message: raw.message,
        pod: raw.pod,
        stage: raw.stage,
        action: raw.action,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_our_programs_write_it() {
        let line = parse(
            r#"{"timestamp":"1970-01-01T00:00:02.000250Z","level":"DEBUG","message":"seen",
                "pod":"bench/one","target":"cdmo_controller::world::telling"}"#,
        );
        let expected = Line {
            at: Duration::from_micros(2_000_250),
            message: "seen".to_owned(),
            pod: "bench/one".to_owned(),
            ..Line::default()
        };
        assert_eq!(line, Some(expected));
    }

    #[test]
    fn other_lines_tell_nothing() {
        assert_eq!(parse("Error: the NVML library was not found"), None);
    }
}
