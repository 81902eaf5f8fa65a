//! What the planner says.

use std::{fmt, sync::Arc};

use mig::{Placement, ProfileName};

/// What becomes of a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Free devices on the node (index into [`crate::Cluster::nodes`]) cover it: nothing to do.
    Covered {
        /// The node whose devices are now promised to it; the scheduler may choose another.
        node: usize,
    },
    /// Carry this out.
    Plan(NodePlan),
    /// An operation under way on the node will cover it, or must end before a plan can be made.
    Wait {
        /// The node it will be served on.
        node: usize,
    },
    /// Nothing can be done now.
    Refused(Refusal),
    /// Nothing can be done now, but slices are kept free for it: [`crate::Planner::windows`] has them.
    Reserved {
        /// Why it waits.
        refusal: Refusal,
        /// Gives up what is idle there; makes nothing.
        clear: Option<NodePlan>,
    },
}

/// What to do on one node for one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Index into [`crate::Cluster::nodes`].
    pub node: usize,
    /// The GPUs that change.
    pub gpus: Vec<GpuPlan>,
}

/// What to do on one GPU: first everything is given up and taken off its old name, then everything is
/// made and offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuPlan {
    /// Index into [`crate::Node::gpus`].
    pub gpu: usize,
    /// NVML's uuid.
    pub uuid: String,
    /// State version it was made from.
    pub version: u64,
    /// Idle instances to destroy.
    pub give_up: Vec<GivenUp>,
    /// Idle instances to offer under another name.
    pub expose: Vec<Exposure>,
    /// Instances to make.
    pub create: Vec<Creation>,
}

/// An idle instance that makes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// NVML's GPU-instance id.
    pub gi_id: u32,
    /// Its profile.
    pub profile: ProfileName,
    /// Where it stands.
    pub placement: Placement,
    /// The resource name it is offered under.
    pub resource: Option<String>,
}

/// An idle instance that moves to another resource name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// NVML's GPU-instance id.
    pub gi_id: u32,
    /// Its profile.
    pub profile: ProfileName,
    /// Where it stands.
    pub placement: Placement,
    /// The resource name it is offered under so far; `None` if under none.
    pub from: Option<String>,
    /// The resource name to offer it under.
    pub to: String,
}

/// An instance to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its profile.
    pub profile: ProfileName,
    /// Where.
    pub placement: Placement,
    /// The resource name to offer it under.
    pub resource: String,
}

/// Why a demand cannot be served now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The bounded kind.
    pub kind: RefusalKind,
    /// One sentence for people: what, where, what to do. Shared among demands that are refused for the same
    /// reasons.
    pub text: Arc<str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// A resource name is no profile at all.
    InvalidProfile,
    /// No GPU that the pod may use has such a profile.
    NoSuchProfile,
    /// More than any node could ever give.
    TooMany,
    /// It would fit, but running pods are in the way.
    NoRoom,
    /// No node may run the pod, or there is none.
    NoNode,
    /// The search was cut off: neither found nor excluded.
    TooComplex,
    /// It starts with others or not at all, and they are not all there or do not all fit at the same time.
    Group,
}

impl RefusalKind {
    /// Word for metrics.
    pub const fn category(self) -> &'static str {
        match self {
            Self::InvalidProfile => "invalid_profile",
            Self::NoSuchProfile => "no_such_profile",
            Self::TooMany => "too_many",
            Self::NoRoom => "no_room",
            Self::NoNode => "no_node",
            Self::TooComplex => "too_complex",
            Self::Group => "group",
        }
    }
}
