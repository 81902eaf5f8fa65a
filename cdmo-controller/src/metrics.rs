//! What the controller counts and measures.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use serving::metrics::{Described, Registrar};

use crate::slices::{Counts, Owner, Use};

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
    slices: IntGaugeVec,
    kept_free: IntGauge,
    node_slices: IntGaugeVec,
    tables: IntGaugeVec,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Self::described(registry).map(|(metrics, _)| metrics)
    }

    /// The same, with what they are called.
    pub fn described(registry: &Registry) -> Result<(Self, Vec<Described>), prometheus::Error> {
        let mut make = Registrar::new(registry);
        let metrics = Self {
            stages: make.histograms(
                "cdmo_stage_seconds",
                "Time that each stage of serving a pod took.",
                &["stage"],
                &BUCKETS,
            )?,
            passes: make.histograms(
                "cdmo_planning_pass_seconds",
                "Time of one turn of the controller's loop, planning included.",
                &[],
                &BUCKETS,
            )?,
            pending: make.gauges(
                "cdmo_pending_demands",
                "Pods that wait for devices, by reason.",
                &["reason"],
            )?,
            plans: make.counters("cdmo_plans_total", "Plans by outcome.", &["outcome"])?,
            status_patches: make.counters(
                "cdmo_node_status_patches_total",
                "Patches of node status by outcome.",
                &["outcome"],
            )?,
            events: make.counters("cdmo_events_total", "Events on pods by reason.", &["reason"])?,
            sessions: make.gauge("cdmo_agent_sessions", "Sessions with agents that stand.")?,
            session_failures: make.counters(
                "cdmo_agent_session_failures_total",
                "Sessions that ended or did not come about, by reason.",
                &["reason"],
            )?,
            slices: make.gauges(
                "cdmo_slices",
                "Memory slices of all GPUs, by the profile of the device they belong to and by use.",
                &["profile", "state"],
            )?,
            kept_free: make.gauge(
                "cdmo_kept_free_slices",
                "Memory slices that are kept free for pods that waited long for room.",
            )?,
            node_slices: make.gauges(
                "cdmo_node_slices",
                "Memory slices of a node's GPUs by use.",
                &["node", "state"],
            )?,
            tables: make.gauges(
                "cdmo_placement_table",
                "1 for the table that decides where instances go on GPUs that are cut like this.",
                &["geometry", "table"],
            )?,
        };
        Ok((metrics, make.described()))
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

    /// Slices are kept free.
    pub fn kept_free(&self, windows: &[planner::Window]) {
        let parts = windows.iter().flat_map(|window| &window.parts);
        let slices: u32 = parts.map(|part| part.slices.len()).sum();
        self.kept_free.set(slices.into());
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

    /// The slices of a node are used otherwise than before. A node without slices is forgotten.
    pub fn slices(&self, node: &str, old: &Counts, new: &Counts) {
        let of = |owner: Owner, state: Use| {
            self.slices
                .with_label_values(&[owner.word().as_str(), state.word()])
        };
        for ((owner, state), count) in new {
            of(*owner, *state).add(i64::from(*count));
        }
        for ((owner, state), count) in old {
            of(*owner, *state).sub(i64::from(*count));
        }
        // Profiles come and go with GPUs; those that no GPU has any more leave no series behind.
        for (owner, _) in old.keys() {
            let (word, uses) = (owner.word(), owner.uses());
            let left: i64 = uses.iter().map(|state| of(*owner, *state).get()).sum();
            if left == 0 {
                for state in uses {
                    // It is there: it was just read.
                    let _ = self
                        .slices
                        .remove_label_values(&[word.as_str(), state.word()]);
                }
            }
        }
        for state in Use::ALL {
            if new.is_empty() {
                // One that was never counted is not there.
                let _ = self.node_slices.remove_label_values(&[node, state.word()]);
            } else {
                self.node_slices
                    .with_label_values(&[node, state.word()])
                    .set(sum(new, state));
            }
        }
    }

    /// Which table decides on each kind of GPU.
    pub fn tables<'a>(&self, tables: impl Iterator<Item = (&'a str, &'a str)>) {
        self.tables.reset();
        for (geometry, table) in tables {
            self.tables.with_label_values(&[geometry, table]).set(1);
        }
    }

    /// A session ended or did not come about.
    pub fn session_failure(&self, reason: &str) {
        self.session_failures.with_label_values(&[reason]).inc();
    }
}

/// Adds up the slices of one use.
fn sum(counts: &Counts, wanted: Use) -> i64 {
    let of_use = counts.iter().filter(|((_, state), _)| *state == wanted);
    of_use.map(|(_, count)| i64::from(*count)).sum()
}

/// Outcomes that agents report are words of theirs; those that no agent of ours uses are counted
/// together, so that no agent can make labels without end.
fn bounded(outcome: &str) -> &str {
    const KNOWN: [&str; 45] = [
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
        // NVML's own words for what an agent's plan may end in.
        "changed",
        "driver_not_loaded",
        "gpu_is_lost",
        "invalid_argument",
        "memory",
        "no_permission",
        "not_supported",
        "remains",
        "uninitialized",
        "unknown",
    ];
    KNOWN
        .iter()
        .find(|known| **known == outcome)
        .copied()
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn metrics_register_once_and_labels_stay_bounded() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.plan("ready");
        metrics.plan("a word that some agent made up");
        metrics.stage("making", Duration::from_millis(640));
        metrics.pending([("no_room", 3)].into_iter());
        let text = text(&registry);
        for line in [
            "cdmo_plans_total{outcome=\"ready\"} 1",
            "cdmo_plans_total{outcome=\"other\"} 1",
            "cdmo_pending_demands{reason=\"no_room\"} 3",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(
            Metrics::new(&registry).is_err(),
            "twice is a mistake in the wiring"
        );
    }

    #[test]
    fn a_table_that_no_longer_decides_leaves_no_series_behind() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.tables([("7g.40gb", "ours"), ("4g.24gb", "ours")].into_iter());
        metrics.tables([("7g.40gb", "FGD-MIG"), ("4g.24gb", "ours")].into_iter());
        let now = text(&registry);
        assert_eq!(now.matches("cdmo_placement_table{").count(), 2, "{now}");
        let line = "cdmo_placement_table{geometry=\"7g.40gb\",table=\"FGD-MIG\"} 1";
        assert!(now.contains(line), "{now}");
    }

    #[test]
    fn slices_follow_what_nodes_report_and_leave_nothing_behind() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let three = Owner::Profile("3g.20gb".parse().unwrap());
        let empty = Counts::new();
        let one = Counts::from([((three, Use::Held), 4), ((Owner::None, Use::Free), 4)]);
        let two = Counts::from([((three, Use::Idle), 4), ((Owner::None, Use::Free), 4)]);
        metrics.slices("a", &empty, &one);
        metrics.slices("b", &empty, &one);
        metrics.slices("a", &one, &two);
        let now = text(&registry);
        for line in [
            "cdmo_slices{profile=\"3g.20gb\",state=\"held\"} 4",
            "cdmo_slices{profile=\"3g.20gb\",state=\"idle\"} 4",
            "cdmo_slices{profile=\"none\",state=\"free\"} 8",
            "cdmo_node_slices{node=\"a\",state=\"held\"} 0",
            "cdmo_node_slices{node=\"b\",state=\"held\"} 4",
        ] {
            assert!(now.contains(line), "no {line} in\n{now}");
        }
        metrics.slices("a", &two, &empty);
        metrics.slices("b", &one, &empty);
        assert!(!text(&registry).contains("slices{"), "{}", text(&registry));
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let document = include_str!("../../docs/metrics.md");
        let (_, described) = Metrics::described(&Registry::new()).unwrap();
        let faults = serving::metrics::undocumented(&described, document, "Controller");
        assert!(faults.is_empty(), "docs/metrics.md: {faults:#?}");
    }
}
