//! What an agent reports, checked and in compact rows.
//!
//! An agent is trusted with its own node and nothing more: resources that agents do not serve are
//! dropped here, so that no report can make the controller write another resource's count, and what
//! does not fit its own model makes a GPU unusable rather than the controller wrong.

use std::{collections::BTreeMap, sync::Arc};

use cdmo_proto::agent::{self, MigMode, instance::State};
use mig::{GpuModel, Placement, Profile, ProfileIndex, ProfileName};

use crate::{names::PodKey, requests};

/// Counts of one resource, as the kubelet has confirmed them to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Healthy and unhealthy devices.
    pub capacity: u32,
    /// Healthy devices, held ones included.
    pub allocatable: u32,
}

/// A GPU instance, or a whole GPU as a device.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    /// NVML's GPU-instance id.
    pub gi_id: u32,
    /// Its profile in the GPU's model; `None` for a whole GPU, or a profile the model lacks.
    pub profile: Option<ProfileIndex>,
    /// Where it stands.
    pub placement: Placement,
    /// What the kubelet calls it.
    pub device_id: String,
    /// What it is offered as.
    pub resource: Option<Arc<str>>,
    /// What it is doing.
    pub state: State,
    /// Pods that hold it, as far as known.
    pub holders: Vec<PodKey>,
    /// When the state began, in seconds since the Unix epoch; 0 if not known.
    pub since: i64,
    /// Why it is not in service.
    pub reason: Box<str>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuRow {
    /// NVML's uuid.
    pub uuid: String,
    /// NVML's index, for people.
    pub index: u32,
    /// Product name, for people.
    pub product: Arc<str>,
    /// Version of its state, to be named by plans.
    pub version: u64,
    /// What it can be cut into; `None` if it cannot do MIG.
    pub model: Option<Arc<GpuModel>>,
    /// Its MIG mode.
    pub mode: MigMode,
    /// What stands on it.
    pub instances: Vec<InstanceRow>,
    /// Itself as a device, while MIG is off.
    pub whole: Option<InstanceRow>,
    /// Whether everything on it fits its model; if not, it is left alone.
    pub consistent: bool,
    /// An administrator wants it left alone.
    pub left_alone: bool,
}

impl GpuRow {
    /// The devices of the GPU: instances, or itself as a whole.
    pub fn devices(&self) -> impl Iterator<Item = &InstanceRow> {
        self.instances.iter().chain(&self.whole)
    }
}

/// A node as its agent sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotRow {
    /// Its GPUs.
    pub gpus: Vec<GpuRow>,
    /// Counts of the resources that are ours.
    pub resources: BTreeMap<String, Counts>,
    /// What an administrator should know.
    pub problems: Vec<String>,
    /// Plans that the agent still works on.
    pub plans: Vec<String>,
    /// The node is on its way back, and the agent has nothing left there.
    pub given_back: bool,
}

impl SnapshotRow {
    /// The devices of the node: instances and whole GPUs.
    pub fn devices(&self) -> impl Iterator<Item = &InstanceRow> {
        self.gpus.iter().flat_map(GpuRow::devices)
    }

    /// A GPU by its uuid.
    pub fn gpu(&self, uuid: &str) -> Option<&GpuRow> {
        self.gpus.iter().find(|gpu| gpu.uuid == uuid)
    }
}

/// Equal models and names kept once over all nodes: a cluster has few kinds of GPUs.
#[derive(Debug, Default)]
pub struct Models {
    known: Vec<Arc<GpuModel>>,
    products: Vec<Arc<str>>,
    resources: Vec<Arc<str>>,
}

/// The one copy of a name among few.
fn kept_once(all: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = all.iter().find(|known| ***known == *name) {
        return Arc::clone(known);
    }
    all.retain(|known| Arc::strong_count(known) > 1);
    let name: Arc<str> = name.into();
    all.push(Arc::clone(&name));
    name
}

impl Models {
    fn intern(&mut self, model: GpuModel) -> Arc<GpuModel> {
        if let Some(known) = self.known.iter().find(|known| ***known == model) {
            return Arc::clone(known);
        }
        self.known.retain(|known| Arc::strong_count(known) > 1);
        let model = Arc::new(model);
        self.known.push(Arc::clone(&model));
        model
    }

    /// Reads a snapshot.
    pub fn read(&mut self, snapshot: agent::Snapshot) -> SnapshotRow {
        let models: Vec<_> = snapshot
            .models
            .into_iter()
            .map(|m| self.intern(model(m)))
            .collect();
        let mut problems = snapshot.problems;
        let gpus: Vec<_> = snapshot
            .gpus
            .into_iter()
            .map(|g| {
                let product = kept_once(&mut self.products, &g.name);
                gpu(g, product, &models, &mut self.resources)
            })
            .collect();
        for odd in gpus.iter().filter(|gpu| !gpu.consistent) {
            problems.push(format!(
                "GPU {} ({}) has an instance that its model does not allow, so it is left alone; \
                 destroy the instance or upgrade the agent",
                odd.index, odd.uuid
            ));
        }
        let ours = snapshot
            .resources
            .into_iter()
            .filter(|r| requests::is_ours(&r.resource));
        let counts = |r: &agent::ResourceState| Counts {
            capacity: r.capacity,
            allocatable: r.allocatable.min(r.capacity),
        };
        SnapshotRow {
            gpus,
            resources: ours.map(|r| (r.resource.clone(), counts(&r))).collect(),
            problems,
            plans: snapshot.plans,
            given_back: snapshot.given_back,
        }
    }
}

fn model(model: agent::Model) -> GpuModel {
    let slices = u8::try_from(model.slices).unwrap_or(0).min(mig::MAX_SLICES);
    let profile = |p: agent::Profile| -> Option<Profile> {
        let size = u8::try_from(p.size).ok()?;
        let place = |start: u32| Some(Placement::new(u8::try_from(start).ok()?, size));
        let mut placements: Vec<_> = p
            .starts
            .into_iter()
            .filter_map(place)
            .filter(|placement| placement.is_within(slices))
            .collect();
        placements.sort_unstable();
        Some(Profile {
            name: p.name.parse().ok()?,
            id: p.id,
            placements,
            max_instances: u8::try_from(p.max_instances).unwrap_or(u8::MAX),
            multiprocessors: p.multiprocessors,
            memory_mib: p.memory_mib,
        })
    };
    // A profile whose name this controller cannot read cannot be asked for either.
    let profiles = model.profiles.into_iter().filter_map(profile).collect();
    GpuModel {
        name: model.name,
        slices,
        profiles,
    }
}

fn gpu(
    gpu: agent::Gpu,
    product: Arc<str>,
    models: &[Arc<GpuModel>],
    resources: &mut Vec<Arc<str>>,
) -> GpuRow {
    let mode = gpu.mig_mode();
    let can_mig = !matches!(mode, MigMode::NotCapable | MigMode::Unspecified);
    let model = usize::try_from(gpu.model)
        .ok()
        .and_then(|at| models.get(at))
        .filter(|_| can_mig)
        .map(Arc::clone);
    let instances: Vec<_> = gpu
        .instances
        .into_iter()
        .map(|i| instance(i, model.as_deref(), resources))
        .collect();
    GpuRow {
        consistent: instances.iter().all(|i| i.profile.is_some()),
        uuid: gpu.uuid,
        index: gpu.index,
        product,
        version: gpu.state_version,
        model,
        mode,
        left_alone: gpu.left_alone,
        instances,
        whole: gpu.whole.map(|whole| instance(whole, None, resources)),
    }
}

fn instance(
    instance: agent::Instance,
    model: Option<&GpuModel>,
    resources: &mut Vec<Arc<str>>,
) -> InstanceRow {
    let state = instance.state();
    let profile = || {
        let name: ProfileName = instance.profile.parse().ok()?;
        model?.find(&name).map(|(index, _)| index)
    };
    let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    InstanceRow {
        gi_id: instance.gpu_instance_id,
        profile: profile(),
        placement: Placement::new(small(instance.start), small(instance.size)),
        device_id: instance.device_id,
        resource: requests::is_ours(&instance.resource)
            .then(|| kept_once(resources, &instance.resource)),
        state,
        holders: instance
            .holders
            .iter()
            .filter(|h| !h.pod.is_empty())
            .map(|h| PodKey::new(&h.namespace, &h.pod))
            .collect(),
        since: instance.since,
        reason: instance.reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_model() -> agent::Model {
        let a100 = GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
        agent::Model {
            name: a100.name.clone(),
            slices: a100.slices.into(),
            profiles: a100
                .profiles
                .iter()
                .map(|p| agent::Profile {
                    name: p.name.to_string(),
                    id: p.id,
                    starts: p.placements.iter().map(|p| p.start.into()).collect(),
                    size: p.size().into(),
                    max_instances: p.max_instances.into(),
                    multiprocessors: p.multiprocessors,
                    memory_mib: p.memory_mib,
                })
                .collect(),
        }
    }

    fn wire_gpu(profile: &str) -> agent::Gpu {
        agent::Gpu {
            uuid: "GPU-0".into(),
            mig_mode: MigMode::On.into(),
            state_version: 3,
            instances: vec![agent::Instance {
                gpu_instance_id: 1,
                profile: profile.into(),
                start: 4,
                size: 4,
                resource: "nvidia.com/mig-3g.20gb".into(),
                ..agent::Instance::default()
            }],
            ..agent::Gpu::default()
        }
    }

    #[test]
    fn a_model_survives_the_wire_and_is_kept_once() {
        let mut models = Models::default();
        let snapshot = || agent::Snapshot {
            models: vec![wire_model()],
            gpus: vec![wire_gpu("3g.20gb")],
            ..agent::Snapshot::default()
        };
        let (one, two) = (models.read(snapshot()), models.read(snapshot()));
        let of = |row: &SnapshotRow| row.gpus[0].model.clone().unwrap();
        assert_eq!(*of(&one), GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap());
        assert!(Arc::ptr_eq(&of(&one), &of(&two)));
        assert!(one.gpus[0].consistent && one.problems.is_empty());
    }

    #[test]
    fn a_gpu_that_contradicts_its_model_is_left_alone_and_named() {
        let mut models = Models::default();
        for profile in ["9g.99gb", "nonsense"] {
            let snapshot = agent::Snapshot {
                models: vec![wire_model()],
                gpus: vec![wire_gpu(profile)],
                ..agent::Snapshot::default()
            };
            let row = models.read(snapshot);
            assert!(!row.gpus[0].consistent);
            assert!(row.problems[0].contains("GPU-0"));
        }
    }

    #[test]
    fn an_agent_cannot_report_a_resource_that_is_not_ours() {
        let state = |resource: &str| agent::ResourceState {
            resource: resource.into(),
            capacity: 5,
            allocatable: 9,
        };
        let row = Models::default().read(agent::Snapshot {
            resources: vec![state("cpu"), state("nvidia.com/mig-1g.5gb")],
            ..agent::Snapshot::default()
        });
        let counts = Counts {
            capacity: 5,
            allocatable: 5,
        };
        assert_eq!(
            row.resources,
            BTreeMap::from([("nvidia.com/mig-1g.5gb".into(), counts)])
        );
    }
}
