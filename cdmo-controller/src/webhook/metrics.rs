//! What the webhook counts and measures.

use std::time::Duration;

use admission::Decision;
use prometheus::{HistogramVec, IntCounterVec, Registry};
use serving::metrics::{Described, Registrar};

/// Bounds of the latency histogram in seconds: from what a small pod takes to what an API server
/// waits for at most.
const BUCKETS: [f64; 13] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Allowed, with changes.
    Changed,
    /// Allowed as it was.
    Unchanged,
    /// Allowed with warnings, with changes or without.
    Warned,
    /// Denied.
    Denied,
    /// It was no review.
    Malformed,
    /// There was no room for it.
    Busy,
}

impl Outcome {
    /// That of an answered review.
    pub(super) fn of(decision: &Decision) -> Self {
        if decision.denial.is_some() {
            Self::Denied
        } else if !decision.warnings.is_empty() {
            Self::Warned
        } else if decision.patch.is_empty() {
            Self::Unchanged
        } else {
            Self::Changed
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Warned => "warned",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
        }
    }
}

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Self::described(registry).map(|(metrics, _)| metrics)
    }

    /// The same, with what they are called.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn described(registry: &Registry) -> Result<(Self, Vec<Described>), prometheus::Error> {
        let mut make = Registrar::new(registry);
        let metrics = Self {
            requests: make.counters(
                "cdmo_webhook_requests_total",
                "Requests to the webhook by outcome.",
                &["outcome"],
            )?,
            seconds: make.histograms(
                "cdmo_webhook_request_seconds",
                "Time from a request's headers to its answer.",
                &[],
                &BUCKETS,
            )?,
        };
        Ok((metrics, make.described()))
    }

    /// A request was answered.
    pub(super) fn answered(&self, outcome: Outcome, took: Duration) {
        self.requests.with_label_values(&[outcome.word()]).inc();
        self.seconds
            .with_label_values::<&str>(&[])
            .observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let document = include_str!("../../../docs/metrics.md");
        let (_, described) = Metrics::described(&Registry::new()).unwrap();
        let faults = serving::metrics::undocumented(&described, document, "Webhook");
        assert!(faults.is_empty(), "docs/metrics.md: {faults:#?}");
    }
}
