//! What the agent counts. Every label takes few values.

use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::{Gpu, Instance, MigMode, Snapshot};
use prometheus::{
    HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};
use serving::metrics::{Described, Registrar};

/// NVML calls take from below a millisecond (looks) to seconds (changes).
const SECONDS: [f64; 11] = [
    0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0,
];

/// The agent's metrics. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// NVML operations by name and by what came of them.
    pub nvml_operations: IntCounterVec,
    /// How long they took.
    pub nvml_seconds: HistogramVec,
    kubelet_seconds: HistogramVec,
    /// Plans by their last stage and category.
    pub plans: IntCounterVec,
    /// Controller sessions by how they ended.
    pub sessions: IntCounterVec,
    /// Faults that the driver reported.
    pub faults: IntCounter,
    instances: IntGaugeVec,
    slices: IntGaugeVec,
    held: IntGaugeVec,
    connected: IntGauge,
    problems: IntGauge,
}

impl Metrics {
    /// Makes them and enters them into the registry.
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
            nvml_operations: make.counters(
                "cdmo_agent_nvml_operations_total",
                "NVML operations by what came of them.",
                &["operation", "code"],
            )?,
            nvml_seconds: make.histograms(
                "cdmo_agent_nvml_duration_seconds",
                "How long NVML operations took.",
                &["operation"],
                &SECONDS,
            )?,
            kubelet_seconds: make.histograms(
                "cdmo_agent_kubelet_duration_seconds",
                "How long the steps between agent and kubelet took for a device.",
                &["step"],
                &SECONDS,
            )?,
            plans: make.counters(
                "cdmo_agent_plans_total",
                "Plans by how they ended.",
                &["stage", "category"],
            )?,
            sessions: make.counters(
                "cdmo_agent_sessions_total",
                "Controller sessions by how they ended.",
                &["end"],
            )?,
            faults: make.counter(
                "cdmo_agent_gpu_faults_total",
                "Faults (critical XIDs) that the driver reported.",
            )?,
            instances: make.gauges(
                "cdmo_agent_instances",
                "Instances by profile and state.",
                &["profile", "state"],
            )?,
            slices: make.gauges(
                "cdmo_agent_slices",
                "Memory slices by the profile and state of the instance they belong to.",
                &["profile", "state"],
            )?,
            held: make.gauges(
                "cdmo_agent_held_devices",
                "Devices that a pod holds or may hold.",
                &["resource"],
            )?,
            connected: make.gauge(
                "cdmo_agent_controller_connected",
                "Whether a controller's session is live.",
            )?,
            problems: make.gauge(
                "cdmo_agent_problems",
                "Sentences that the agent has for an administrator.",
            )?,
        };
        Ok((metrics, make.described()))
    }

    /// Times a step between agent and kubelet.
    pub fn kubelet(&self, step: &str) -> HistogramTimer {
        self.kubelet_seconds
            .with_label_values(&[step])
            .start_timer()
    }

    /// Takes over what a snapshot says.
    pub fn show(&self, snapshot: &Snapshot) {
        self.instances.reset();
        self.slices.reset();
        self.held.reset();
        self.problems
            .set(i64::try_from(snapshot.problems.len()).unwrap_or(i64::MAX));
        for gpu in &snapshot.gpus {
            for instance in gpu.instances.iter().chain(&gpu.whole) {
                self.show_instance(instance);
            }
            self.show_slices(snapshot, gpu);
        }
    }

    fn show_slices(&self, snapshot: &Snapshot, gpu: &Gpu) {
        let model = usize::try_from(gpu.model).ok();
        let model = model.and_then(|model| snapshot.models.get(model));
        let (Some(model), false) = (model, gpu.mig_mode() == MigMode::NotCapable) else {
            return;
        };
        let mut free = i64::from(model.slices);
        for instance in gpu.instances.iter().chain(&gpu.whole) {
            let size = match instance.size {
                0 => i64::from(model.slices),
                size => i64::from(size),
            };
            free -= size;
            let (profile, state) = words(instance);
            self.slices.with_label_values(&[profile, &state]).add(size);
        }
        self.slices
            .with_label_values(&["none", "free"])
            .add(free.max(0));
    }

    fn show_instance(&self, instance: &Instance) {
        let state = instance.state();
        let (profile, word) = words(instance);
        self.instances.with_label_values(&[profile, &word]).inc();
        if state == State::Held {
            self.held.with_label_values(&[&instance.resource]).inc();
        }
    }

    /// Whether a controller's session is live.
    pub fn connected(&self, live: bool) {
        self.connected.set(live.into());
    }
}

/// Labels of an instance: profile and state.
fn words(instance: &Instance) -> (&str, String) {
    let profile = match instance.profile.as_str() {
        "" => "whole",
        profile => profile,
    };
    let state = instance.state().as_str_name().to_ascii_lowercase();
    (profile, state)
}

#[cfg(test)]
mod tests {
    use cdmo_proto::agent::Model;

    use super::*;

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let document = include_str!("../../docs/metrics.md");
        let (_, described) = Metrics::described(&Registry::new()).unwrap();
        let faults = serving::metrics::undocumented(&described, document, "Agent");
        assert!(faults.is_empty(), "docs/metrics.md: {faults:#?}");
    }

    #[test]
    fn every_slice_of_the_node_is_counted_once() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let instance = |profile: &str, size, state: State| Instance {
            profile: profile.into(),
            size,
            state: state.into(),
            ..Instance::default()
        };
        let gpu = |instances, whole| Gpu {
            mig_mode: MigMode::On.into(),
            instances,
            whole,
            ..Gpu::default()
        };
        let divided = vec![
            instance("3g.20gb", 4, State::Held),
            instance("1g.5gb", 1, State::Idle),
        ];
        let snapshot = Snapshot {
            models: vec![Model {
                slices: 8,
                ..Model::default()
            }],
            gpus: vec![
                gpu(divided, None),
                gpu(Vec::new(), Some(instance("", 0, State::Idle))),
            ],
            ..Snapshot::default()
        };
        // Twice: a snapshot replaces what the one before it said.
        metrics.show(&snapshot);
        metrics.show(&snapshot);
        let of = |profile, state| metrics.slices.with_label_values(&[profile, state]).get();
        let counts = [
            of("3g.20gb", "held"),
            of("1g.5gb", "idle"),
            of("none", "free"),
            of("whole", "idle"),
        ];
        assert_eq!(counts, [4, 1, 3, 8]);
    }
}
