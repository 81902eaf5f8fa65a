//! What the demo says at its end: how long pods waited, and whether all was right.

use std::fmt::Write as _;
use std::time::Duration;

use testbed::journey::{Journey, Stage};
use testbed::verdict::Fault;

use super::style::{self, paint, short_name};
use super::words;

/// Most faults that are spelled out.
const MOST: usize = 20;

/// The closing lines.
pub(crate) fn draw(journeys: &[Journey], given_up: Option<u64>, faults: &[Fault]) -> String {
    let mut text = String::new();
    let (reused, made): (Vec<&Journey>, Vec<&Journey>) = journeys
        .iter()
        .filter(|journey| journey.has_run() && !journey.grants.is_empty())
        .partition(|journey| journey.reused);
    waits(&mut text, "got new instances", &made);
    waits(&mut text, "took idle instances over", &reused);
    if let Some(count) = given_up.filter(|count| *count > 0) {
        let _ = writeln!(text, "{count:>4} idle instances were given up to make room");
    }
    text.push('\n');
    if faults.is_empty() {
        let line = format!(
            "All {} pods ran with exactly the devices they asked for.",
            journeys.len()
        );
        let _ = writeln!(text, "{}", paint(style::good(), &line));
        return text;
    }
    for fault in faults.iter().take(MOST) {
        let pod = paint(style::bad(), short_name(&fault.pod.name));
        let _ = writeln!(text, "{pod}: {}", fault.message);
    }
    if faults.len() > MOST {
        let _ = writeln!(text, "and {} more faults", faults.len() - MOST);
    }
    let mut pods: Vec<_> = faults.iter().map(|fault| &fault.pod).collect();
    pods.sort();
    pods.dedup();
    let line = format!(
        "{} of {} pods did not run with exactly the devices they asked for.",
        pods.len(),
        journeys.len()
    );
    let _ = writeln!(text, "{}", paint(style::bad(), &line));
    text
}

fn waits(text: &mut String, what: &str, journeys: &[&Journey]) {
    let mut times: Vec<Duration> = journeys
        .iter()
        .filter_map(|journey| journey.took(Stage::Allocated))
        .collect();
    times.sort();
    let (Some(middle), Some(longest)) = (times.get(times.len() / 2), times.last()) else {
        return;
    };
    let _ = writeln!(
        text,
        "{:>4} {} {what}: allocated after {}, {} at most",
        times.len(),
        if times.len() == 1 { "pod" } else { "pods" },
        words::seconds(*middle),
        words::seconds(*longest)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstream::adapter::strip_str;
    use testbed::journey::PodKey;

    #[test]
    fn faults_are_spelled_out_and_counted_by_pod() {
        let pod = PodKey {
            namespace: "team".into(),
            name: "one".into(),
        };
        let fault = |message: &str| Fault {
            pod: pod.clone(),
            message: message.into(),
        };
        let text = draw(&[], None, &[fault("it failed"), fault("it was wrong")]);
        let text = strip_str(&text).to_string();
        assert!(
            text.contains("one: it failed\none: it was wrong\n1 of 0 pods"),
            "{text}"
        );
    }

    #[test]
    fn no_fault_is_one_sentence() {
        assert!(draw(&[], None, &[]).contains("exactly the devices they asked for"));
    }
}
