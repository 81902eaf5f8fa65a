//! Durations in annotations, written as Go does: `250ms`, `1m30s`.

use std::time::Duration;

use serde_json::Value;

/// Reads a duration; `None` if it is none, or negative.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * scale).ok()?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// The duration in a pod's annotation, if there is a readable one.
pub(crate) fn annotation(object: &Value, name: &str) -> Option<Duration> {
    parse(
        object
            .get("metadata")?
            .get("annotations")?
            .get(name)?
            .as_str()?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1_500)));
        for text in ["", "3", "s", "3 s", "-1s", "3d", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
