//! What the agent counts. Every label takes few values.

use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::{Instance, Snapshot};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

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
    /// Plans by their last stage and category.
    pub plans: IntCounterVec,
    /// Controller sessions by how they ended.
    pub sessions: IntCounterVec,
    /// Faults that the driver reported.
    pub faults: IntCounter,
    instances: IntGaugeVec,
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
        let seconds = HistogramOpts::new(
            "cdmo_agent_nvml_duration_seconds",
            "How long NVML operations took.",
        );
        let metrics = Self {
            nvml_operations: IntCounterVec::new(
                Opts::new("cdmo_agent_nvml_operations_total", "NVML operations."),
                &["operation", "code"],
            )?,
            nvml_seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["operation"])?,
            plans: IntCounterVec::new(
                Opts::new("cdmo_agent_plans_total", "Plans by how they ended."),
                &["stage", "category"],
            )?,
            sessions: IntCounterVec::new(
                Opts::new(
                    "cdmo_agent_sessions_total",
                    "Controller sessions by how they ended.",
                ),
                &["end"],
            )?,
            faults: IntCounter::new(
                "cdmo_agent_gpu_faults_total",
                "Faults (critical XIDs) that the driver reported.",
            )?,
            instances: IntGaugeVec::new(
                Opts::new("cdmo_agent_instances", "Instances by profile and state."),
                &["profile", "state"],
            )?,
            held: IntGaugeVec::new(
                Opts::new(
                    "cdmo_agent_held_devices",
                    "Devices that a pod holds or may hold.",
                ),
                &["resource"],
            )?,
            connected: IntGauge::new(
                "cdmo_agent_controller_connected",
                "Whether a controller's session is live.",
            )?,
            problems: IntGauge::new(
                "cdmo_agent_problems",
                "Sentences that the agent has for an administrator.",
            )?,
        };
        registry.register(Box::new(metrics.nvml_operations.clone()))?;
        registry.register(Box::new(metrics.nvml_seconds.clone()))?;
        registry.register(Box::new(metrics.plans.clone()))?;
        registry.register(Box::new(metrics.sessions.clone()))?;
        registry.register(Box::new(metrics.faults.clone()))?;
        registry.register(Box::new(metrics.instances.clone()))?;
        registry.register(Box::new(metrics.held.clone()))?;
        registry.register(Box::new(metrics.connected.clone()))?;
        registry.register(Box::new(metrics.problems.clone()))?;
        Ok(metrics)
    }

    /// Takes over what a snapshot says.
    pub fn show(&self, snapshot: &Snapshot) {
        self.instances.reset();
        self.held.reset();
        self.problems
            .set(i64::try_from(snapshot.problems.len()).unwrap_or(i64::MAX));
        for gpu in &snapshot.gpus {
            for instance in gpu.instances.iter().chain(&gpu.whole) {
                self.show_instance(instance);
            }
        }
    }

    fn show_instance(&self, instance: &Instance) {
        let state = instance.state();
        let word = state.as_str_name().to_ascii_lowercase();
        let profile = match instance.profile.as_str() {
            "" => "whole",
            profile => profile,
        };
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
