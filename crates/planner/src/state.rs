//! What the planner is told of the cluster.

use std::{collections::BTreeMap, sync::Arc};

use mig::{GpuModel, Placement, ProfileIndex};

/// Every node that can be planned for.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// In a stable order: ties between nodes go to the earlier one.
    pub nodes: Vec<Node>,
}

/// What becomes of idle instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// They stay offered under the name they have: any pod may take them, whether anybody plans or not.
    #[default]
    Offered,
    /// They are taken off offer, and offered again to the pod for which a plan chooses them: pods start where
    /// the cluster loses least by it, and a little later.
    Parked,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, for words only.
    pub name: String,
    /// Its GPUs with MIG.
    pub gpus: Vec<Gpu>,
    /// Free devices of resources that no plan can change, for example whole GPUs.
    pub fixed: BTreeMap<String, u32>,
    /// Devices by resource that pods bound to the node count on but do not hold yet.
    pub claimed: BTreeMap<String, u32>,
    /// Idle devices by resource that a pod may be getting at this moment, on top of `claimed`: they may
    /// be counted on, but are not given up. It is the first so many, in the order of `gpus`.
    pub reserved: BTreeMap<String, u32>,
    /// Positions in `gpus` of those that are not changeable for a moment only, as while their agent starts anew: slices
    /// may be kept free there, as on those that are.
    pub soon_changeable: Vec<usize>,
}

/// One GPU with MIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// NVML's uuid.
    pub uuid: String,
    /// State version that a plan made from this state must name.
    pub version: u64,
    /// What it can be cut into.
    pub model: Arc<GpuModel>,
    /// Whether instances may be made and given up: MIG mode is on and its agent is there.
    pub changeable: bool,
    /// A plan for it is under way; its outcome is already in `instances` as
    /// [`Usage::Arriving`] and [`Usage::Leaving`].
    pub busy: bool,
    /// What stands on it.
    pub instances: Vec<Instance>,
}

/// One GPU instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// NVML's id; meaningless while it is arriving.
    pub gi_id: u32,
    /// Its profile, in the GPU's model.
    pub profile: ProfileIndex,
    /// Where it stands.
    pub placement: Placement,
    /// The resource name it is offered under; `None` if under none.
    pub resource: Option<Arc<str>>,
    /// What may become of it.
    pub usage: Usage,
    /// When the pod that has it got it, in seconds since the Unix epoch; 0 if nobody has it or that is not known. It only
    /// tells where slices are kept free: GPUs that differ in nothing else are alike.
    pub since: i64,
}

/// What may become of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// A pod has it, or it is not proven free. Never touched.
    Held,
    /// Offered and free: may be used, or given up.
    Idle,
    /// Being made or offered: may be counted on, but not given up.
    Arriving,
    /// Being given up: its slices will be free.
    Leaving,
    /// Can be neither used nor given up now.
    Stuck,
}
