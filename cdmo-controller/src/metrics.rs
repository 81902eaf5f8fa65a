//! What the controller counts and measures.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// Bounds of the latency histograms in seconds: from what a patch takes to what a stuck destroy
/// takes.
const BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0,
];

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    stages: HistogramVec,
    pending: IntGaugeVec,
    plans: IntCounterVec,
    status_patches: IntCounterVec,
    events: IntCounterVec,
    sessions: IntGauge,
    session_failures: IntCounterVec,
    passes: HistogramVec,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            register(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label])?,
            )
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            register(registry, HistogramVec::new(opts, labels)?)
        };
        Ok(Self {
            stages: histograms(
                "cdmo_stage_seconds",
                "Time that each stage of serving a demand took: planning, withdrawing, making, \
                 showing, and total from the sight of the pod.",
                &["stage"],
            )?,
            passes: histograms(
                "cdmo_planning_pass_seconds",
                "Time of one planning pass.",
                &[],
            )?,
            pending: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "cdmo_pending_demands",
                        "Pods that wait for devices, by reason.",
                    ),
                    &["reason"],
                )?,
            )?,
            plans: counters("cdmo_plans_total", "Plans by outcome.", "outcome")?,
            status_patches: counters(
                "cdmo_node_status_patches_total",
                "Patches of node status by outcome.",
                "outcome",
            )?,
            events: counters("cdmo_events_total", "Events on pods by reason.", "reason")?,
            sessions: register(
                registry,
                IntGauge::new("cdmo_agent_sessions", "Sessions with agents that stand.")?,
            )?,
            session_failures: counters(
                "cdmo_agent_session_failures_total",
                "Sessions that ended or did not come about, by reason.",
                "reason",
            )?,
        })
    }

    /// A stage of serving a demand ended.
    pub fn stage(&self, stage: &str, took: Duration) {
        self.stages
            .with_label_values(&[stage])
            .observe(took.as_secs_f64());
    }

    /// A planning pass ended.
    pub fn pass(&self, took: Duration) {
        self.passes
            .with_label_values::<&str>(&[])
            .observe(took.as_secs_f64());
    }

    /// How many pods wait, by reason.
    pub fn pending<'a>(&self, counts: impl Iterator<Item = (&'a str, i64)>) {
        self.pending.reset();
        for (reason, count) in counts {
            self.pending.with_label_values(&[reason]).set(count);
        }
    }

    /// A plan ended.
    pub fn plan(&self, outcome: &str) {
        self.plans.with_label_values(&[bounded(outcome)]).inc();
    }

    /// A patch of node status was answered.
    pub fn status_patch(&self, outcome: &str) {
        self.status_patches.with_label_values(&[outcome]).inc();
    }

    /// An Event was sent.
    pub fn event(&self, reason: &str) {
        self.events.with_label_values(&[reason]).inc();
    }

    /// How many sessions stand.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A session ended or did not come about.
    pub fn session_failure(&self, reason: &str) {
        self.session_failures.with_label_values(&[reason]).inc();
    }
}

/// Outcomes that agents report are words of theirs; those that no agent of ours uses are counted
/// together, so that no agent can make labels without end.
fn bounded(outcome: &str) -> &str {
    const KNOWN: [&str; 35] = [
        "doubt",
        "aborted",
        "bad_placement",
        "bad_plan",
        "bad_resource",
        "busy",
        "closed",
        "commit_timeout",
        "counted_on",
        "driver_busy",
        "driver_stuck",
        "foreign",
        "gpu_fault",
        "held",
        "in_use",
        "incomplete",
        "insufficient_resources",
        "journal",
        "mig_off",
        "no_device",
        "no_such_gpu",
        "no_such_instance",
        "no_such_profile",
        "not_shown",
        "offering",
        "pods_missing",
        "ready",
        "reset_required",
        "session_lost",
        "stale",
        "status",
        "timed_out",
        "unconfirmed",
        "unlucky",
        "void",
    ];
    KNOWN
        .iter()
        .find(|known| **known == outcome)
        .copied()
        .unwrap_or("other")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_register_once_and_labels_stay_bounded() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.plan("ready");
        metrics.plan("a word that some agent made up");
        metrics.stage("making", Duration::from_millis(640));
        metrics.pending([("no_room", 3)].into_iter());
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(
            text.contains("cdmo_plans_total{outcome=\"ready\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("cdmo_plans_total{outcome=\"other\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("cdmo_pending_demands{reason=\"no_room\"} 3"),
            "{text}"
        );
        assert!(
            Metrics::new(&registry).is_err(),
            "twice is a mistake in the wiring"
        );
    }
}
