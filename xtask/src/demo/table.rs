//! The table of pods in the live view: one line a pod, with its way from Pending to Running.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::Style;
use testbed::journey::{Journey, Stage};

use super::style::{self, column, fit, paint, short_name};
use super::words;

/// Columns of the table; with the blanks between them they make 79.
const NAME: usize = 16;
const ASKS: usize = 14;
const STATE: usize = 9;
const PLACE: usize = 13;

/// The narrowest terminal that the table fits on.
pub(crate) const NARROWEST: usize = 80;

/// The table with at most `rows` pods; those that have been running longest make way first.
pub(crate) fn draw(journeys: &[Journey], now: Duration, rows: usize) -> String {
    let shown = choose(journeys, rows);
    let mut text = heading();
    for journey in journeys
        .iter()
        .zip(&shown)
        .filter(|(_, shown)| **shown)
        .map(|(j, _)| j)
    {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", row(journey, now));
    }
    let hidden = shown.iter().filter(|shown| !**shown).count();
    if hidden > 0 {
        let note = format!("  and {hidden} more");
        let _ = writeln!(text, "{}", paint(style::faint(), &note));
    }
    text
}

fn heading() -> String {
    let text = format!(
        "  {:NAME$} {:ASKS$} {:TRACK$} {:STATE$} {:PLACE$} {:>7}",
        "POD", "ASKS FOR", "WAY", "NOW", "WHERE", "AFTER"
    );
    format!("{}\n", paint(style::faint(), &text))
}

/// Five stages and what joins them.
const TRACK: usize = 13;

/// Which pods are shown: those that are still on their way, then the youngest of the others.
fn choose(journeys: &[Journey], rows: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..journeys.len()).collect();
    order.sort_by_key(|&at| (journeys[at].is_settled(), std::cmp::Reverse(at)));
    if let Some(first_settled) = order.iter().position(|&at| journeys[at].is_settled()) {
        order[..first_settled].reverse();
    } else {
        order.reverse();
    }
    let mut shown = vec![false; journeys.len()];
    for at in order.into_iter().take(rows) {
        shown[at] = true;
    }
    shown
}

fn row(journey: &Journey, now: Duration) -> String {
    let name = column(short_name(&journey.pod.name), NAME);
    let asks = column(&words::asks(journey), ASKS);
    let state = paint(state_style(journey), &column(&words::state(journey), STATE));
    let waits = journey.stage() < Stage::Running && !journey.is_settled();
    let place = match &journey.reason {
        Some((reason, _)) if !journey.has_run() && !reason.starts_with("Slice") => reason.clone(),
        _ if waits => String::new(),
        _ => words::places(journey),
    };
    let place = column(&place, PLACE);
    let created = journey
        .reached
        .get(&Stage::Pending)
        .copied()
        .unwrap_or_default();
    let took = journey
        .took(Stage::Running)
        .unwrap_or_else(|| now.saturating_sub(created));
    let time = fit(&format!("{:.2}s", took.as_secs_f64()), 7);
    format!(
        "  {name} {asks} {} {state} {place} {time:>7}",
        track(journey)
    )
}

fn state_style(journey: &Journey) -> Style {
    match words::state(journey).as_str() {
        "Running" | "Completed" => style::good(),
        "Failed" | "Refused" => style::bad(),
        "Pending" => Style::new(),
        _ => style::busy(),
    }
}

/// `●──●──●··○··○`: what was reached, and what is still to come. Where a stage was not needed, the
/// line goes straight on.
fn track(journey: &Journey) -> String {
    let reached = journey.stage();
    let colour = if reached == Stage::Running {
        style::good()
    } else {
        style::busy()
    };
    let (mut done, mut open) = (String::new(), String::new());
    for (stage, at) in Stage::ALL.into_iter().zip(0..) {
        if stage <= reached {
            if at > 0 {
                done.push_str("──");
            }
            done.push(if journey.reached.contains_key(&stage) {
                '●'
            } else {
                '─'
            });
        } else {
            open.push_str("··○");
        }
    }
    format!("{}{}", paint(colour, &done), paint(style::faint(), &open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstream::adapter::strip_str;
    use serde_json::json;
    use testbed::journey::{Device, Grant, Journeys};

    fn pod(name: &str, resource: &str, count: u32, phase: &str) -> serde_json::Value {
        json!({
            "metadata": { "namespace": "team", "name": name, "uid": name },
            "spec": { "containers": [
                { "name": "main", "resources": { "limits": { resource: count } } },
            ] },
            "status": { "phase": phase },
        })
    }

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn planned(name: &str, reason: &str) -> serde_json::Value {
        json!({
            "involvedObject": { "kind": "Pod", "namespace": "team", "name": name, "uid": name },
            "reportingComponent": "cdmo-controller", "reason": reason, "message": "because",
        })
    }

    fn three() -> Journeys {
        let mut journeys = Journeys::default();
        let task = "clearml-id-0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        journeys.pod_seen(&pod(task, "nvidia.com/mig-3g.20gb", 1, "Pending"), ms(0));
        journeys.event_seen(&planned(task, "SlicePlanned"), ms(5));
        journeys.event_seen(&planned(task, "SliceReady"), ms(700));
        let grant = Grant {
            container: "main".into(),
            resource: "nvidia.com/mig-3g.20gb".into(),
            device_id: "MIG-1".into(),
            device: Some(Device {
                gpu_uuid: "GPU-1".into(),
                gpu_index: 1,
                profile: "3g.20gb".into(),
                start: 4,
                size: 4,
                serial: 1,
                resources: vec!["nvidia.com/mig-3g.20gb".into()],
            }),
        };
        let key = journeys.all()[0].pod.clone();
        journeys.granted(&key, "a", vec![grant], ms(710));
        journeys.pod_seen(&pod(task, "nvidia.com/mig-3g.20gb", 1, "Running"), ms(800));
        journeys.pod_seen(
            &pod("waits", "nvidia.com/mig-7g.40gb", 2, "Pending"),
            ms(100),
        );
        journeys.event_seen(&planned("waits", "NoRoom"), ms(120));
        journeys.pod_seen(
            &pod("never", "nvidia.com/mig-9g.90gb", 1, "Pending"),
            ms(100),
        );
        journeys.event_seen(&planned("never", "NoSuchProfile"), ms(120));
        journeys
    }

    #[test]
    fn a_table_of_pods_on_their_way() {
        let table = strip_str(&draw(three().all(), ms(2100), 20)).to_string();
        assert!(
            table.lines().all(|line| line.chars().count() < NARROWEST),
            "{table}"
        );
        insta::assert_snapshot!(table);
    }

    #[test]
    fn pods_that_run_make_way_for_pods_that_wait() {
        let table = strip_str(&draw(three().all(), ms(2100), 1)).to_string();
        assert!(
            table.contains("waits") && !table.contains("0a1b2c3d"),
            "{table}"
        );
        assert!(table.contains("and 2 more"), "{table}");
    }
}
