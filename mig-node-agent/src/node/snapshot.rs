//! The node as the controller sees it.

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;
use device_plugin::Registration;
use nvml_mig::MigMode;

use super::Node;
use super::gpu::{Gpu, Life, Slot, Unit};

/// Attempts to register after which an administrator is told.
const PATIENT_ATTEMPTS: u32 = 3;

impl Node {
    /// Everything, whole.
    pub fn snapshot(&self) -> api::Snapshot {
        api::Snapshot {
            models: self.models.iter().map(model).collect(),
            gpus: self.gpus.iter().map(|gpu| self.gpu(gpu)).collect(),
            resources: self.resources(),
            problems: self.problem_sentences(),
            plans: self.plans.keys().cloned().collect(),
            given_back: self.is_given_back(),
        }
    }

    /// Notes since when each unit is in its state.
    pub(super) fn date_states(&mut self) {
        for at in 0..self.gpus.len() {
            let gpu = &self.gpus[at];
            let states: Vec<_> = gpu
                .units
                .values()
                .map(|unit| (unit.slot, self.state(gpu, unit)))
                .collect();
            let now = self.now.unix;
            for (slot, state) in states {
                if let Some(unit) = self.gpus[at].units.get_mut(&slot)
                    && unit.shown.0 != state
                {
                    unit.shown = (state, now);
                }
            }
        }
    }

    fn state(&self, gpu: &Gpu, unit: &Unit) -> State {
        match unit.life {
            Life::Bare | Life::Completing => return State::Stuck,
            Life::Withdrawing | Life::Withdrawn | Life::Fencing | Life::Fenced => {
                return State::Withdrawing;
            }
            Life::Forgetting | Life::Destroying => return State::Withdrawing,
            Life::Unlisted | Life::Offering | Life::Offered | Life::Returning => {}
        }
        if unit.sick.is_some() || gpu.fault.is_some() {
            return State::Unhealthy;
        }
        let off = unit.life == Life::Unlisted && self.withheld(gpu, unit.slot).is_some();
        if unit.device.is_none() || unit.resource.is_none() || off {
            return State::Parked;
        }
        if self.is_held(unit) {
            return State::Held;
        }
        let listed = unit.listed.as_ref();
        let device = listed.and_then(|(resource, id)| self.plugins.device(resource, id));
        match device {
            Some(device) if device.confirmed && unit.life == Life::Offered => State::Idle,
            _ => State::Offering,
        }
    }

    fn gpu(&self, gpu: &Gpu) -> api::Gpu {
        let instance = |unit: &Unit| self.instance(gpu, unit);
        let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        api::Gpu {
            uuid: gpu.info.uuid.clone(),
            index: gpu.info.index,
            minor: gpu.info.minor,
            model: gpu.model.map_or(0, index),
            mig_mode: mode(gpu.mode).into(),
            state_version: gpu.version,
            instances: gpu
                .units
                .values()
                .filter(|unit| unit.slot != Slot::Whole)
                .map(instance)
                .collect(),
            whole: gpu.units.get(&Slot::Whole).map(instance),
            name: gpu.info.name.clone(),
            left_alone: gpu.left_alone,
        }
    }

    fn instance(&self, gpu: &Gpu, unit: &Unit) -> api::Instance {
        let (state, since) = unit.shown;
        let holders = self.hold_on(unit).map_or(&[][..], |hold| &hold.holders[..]);
        let faulty = matches!(state, State::Stuck | State::Unhealthy | State::Parked);
        let withheld = self
            .withheld(gpu, unit.slot)
            .filter(|_| state == State::Parked);
        let reason = unit
            .sick
            .clone()
            .or_else(|| gpu.fault.clone())
            .or_else(|| withheld.map(str::to_owned))
            .unwrap_or_else(|| unit.reason.clone());
        api::Instance {
            gpu_instance_id: match unit.slot {
                Slot::Whole => 0,
                Slot::Instance(id) => id,
            },
            profile: unit.profile.map(|p| p.to_string()).unwrap_or_default(),
            start: unit.placement.start.into(),
            size: unit.placement.size.into(),
            device_id: unit.device.clone().unwrap_or_default(),
            resource: match withheld {
                Some(_) => String::new(),
                None => unit.resource.clone().unwrap_or_default(),
            },
            state: state.into(),
            // Earlier holders matter for the proofs only.
            holders: holders
                .last()
                .map(|holder| api::Holder {
                    namespace: holder.namespace.clone(),
                    pod: holder.pod.clone(),
                    container: holder.container.clone(),
                    uid: String::new(),
                })
                .into_iter()
                .collect(),
            reason: if faulty { reason } else { String::new() },
            since,
        }
    }

    fn resources(&self) -> Vec<api::ResourceState> {
        let registered = self
            .plugins
            .resources
            .iter()
            .filter(|(_, resource)| resource.registration == Registration::Registered);
        registered
            .map(|(name, resource)| api::ResourceState {
                resource: name.clone(),
                capacity: resource.capacity,
                allocatable: resource.allocatable,
            })
            .collect()
    }

    fn problem_sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self.problems.values().cloned().collect();
        let gives_back = self.gives_back();
        // It is there rightly once the node is given back.
        let other = self
            .other_plugin()
            .filter(|_| !(gives_back && self.stood_down));
        sentences.extend(other.map(|failure| failure.message));
        let told = self
            .gpus
            .iter()
            .filter(|gpu| !gives_back || gpu.fault.is_some());
        sentences.extend(told.filter_map(gpu_problem));
        sentences.extend(self.gpus.iter().filter_map(|gpu| self.what_stays(gpu)));
        for (name, resource) in &self.plugins.resources {
            if let Registration::Retrying { attempt, reason } = &resource.registration
                && *attempt >= PATIENT_ATTEMPTS
            {
                sentences.push(format!("The kubelet does not take {name}: {reason}"));
            }
        }
        if let Some(problem) = &self.plugins.pod_resources_problem {
            sentences.push(format!(
                "Holds cannot be checked: {problem}; no device is destroyed, and after a start none \
                 is offered, until the kubelet's podresources socket answers: is kubeletDir of the \
                 chart its --root-dir?"
            ));
        }
        sentences.sort_unstable();
        sentences.dedup();
        sentences
    }
}

fn gpu_problem(gpu: &Gpu) -> Option<String> {
    let (index, name) = (gpu.info.index, &gpu.info.name);
    if let Some(fault) = &gpu.fault {
        return Some(fault.clone());
    }
    let why = gpu.turn_on_problem.as_deref();
    match (gpu.mode, why) {
        (MigMode::NotCapable, _) => Some(format!(
            "GPU {index} ({name}) cannot do MIG; it is offered whole, as {}.",
            mig::GPU_RESOURCE
        )),
        (MigMode::PendingOn, why) => Some(format!(
            "GPU {index} ({name}) needs a reset or a reboot of the node before MIG mode is on{}",
            why.map_or(".".into(), |why| format!(": {why}"))
        )),
        (MigMode::PendingOff, _) => Some(format!(
            "GPU {index} ({name}) is about to leave MIG mode: somebody else turned it off."
        )),
        (MigMode::Off, Some(why)) => Some(format!(
            "MIG mode of GPU {index} ({name}) could not be turned on, so it is offered whole: {why}"
        )),
        (MigMode::Off | MigMode::On, _) => None,
    }
}

fn mode(mode: MigMode) -> api::MigMode {
    match mode {
        MigMode::NotCapable => api::MigMode::NotCapable,
        MigMode::Off => api::MigMode::Off,
        MigMode::On => api::MigMode::On,
        MigMode::PendingOn => api::MigMode::PendingOn,
        MigMode::PendingOff => api::MigMode::PendingOff,
    }
}

fn model(model: &mig::GpuModel) -> api::Model {
    api::Model {
        name: model.name.clone(),
        slices: model.slices.into(),
        profiles: model
            .profiles
            .iter()
            .map(|profile| api::Profile {
                name: profile.name.to_string(),
                id: profile.id,
                starts: profile.placements.iter().map(|p| p.start.into()).collect(),
                size: profile.size().into(),
                max_instances: profile.max_instances.into(),
                multiprocessors: profile.multiprocessors,
                memory_mib: profile.memory_mib,
            })
            .collect(),
    }
}
