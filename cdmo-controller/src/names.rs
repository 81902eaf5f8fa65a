//! Labels, annotations and other names that the controller shares with users and agents.

use std::{fmt, sync::Arc};

/// Label with which an administrator hands a node to us; see [`PARTITIONING_MIG`].
pub const PARTITIONING_LABEL: &str = "cdmo.clear.ml/gpu-partitioning";
/// The label's value for dynamic MIG.
pub const PARTITIONING_MIG: &str = "mig";
/// Node annotation: sentences about what an administrator should mend; absent when all is well.
pub const PROBLEMS_ANNOTATION: &str = "cdmo.clear.ml/problems";
/// Our own label on every node that is ours. It keeps the agent there until everything is put back in order
/// after the administrator's label was taken off.
pub const MANAGED_LABEL: &str = "cdmo.clear.ml/managed";
/// Node annotation: the GPU operator's labels as they were before we changed them.
pub const OPERATOR_ANNOTATION: &str = "cdmo.clear.ml/operator-labels";
/// Node annotation with which an administrator keeps GPUs to himself: indices or uuids, separated by commas.
pub const LEAVE_ALONE_ANNOTATION: &str = "cdmo.clear.ml/leave-alone";
/// The GPU operator's label on a node whose driver it replaces.
pub const DRIVER_UPGRADE_LABEL: &str = "nvidia.com/gpu-driver-upgrade-state";
/// Pod annotation: which node, GPU and placement were made for the pod.
pub const PLAN_ANNOTATION: &str = "cdmo.clear.ml/plan";
/// Pod annotation: the group of its namespace with which it starts together or not at all.
pub const GROUP_ANNOTATION: &str = "cdmo.clear.ml/group";
/// Pod annotation: how many pods its group has.
pub const GROUP_SIZE_ANNOTATION: &str = "cdmo.clear.ml/group-size";
/// Lease annotation: the highest fencing epoch that was taken.
pub const EPOCH_ANNOTATION: &str = "cdmo.clear.ml/epoch";
/// The scheduling gate that is ours; a pod gated by nothing else is planned for.
pub const SCHEDULING_GATE: &str = "cdmo.clear.ml/partitioning";
/// Name of the Lease, and of the component in Events.
pub const CONTROLLER: &str = "cdmo-controller";

/// A pod's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey(Arc<str>);

impl From<&Arc<str>> for PodKey {
    /// Of what [`PodKey::text`] gave.
    fn from(text: &Arc<str>) -> Self {
        Self(Arc::clone(text))
    }
}

impl PodKey {
    /// A key of its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    /// Namespace and name as one text, which is shared.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The key of what is done for no pod.
    pub fn nobody() -> Self {
        Self("".into())
    }

    /// Whether this is [`PodKey::nobody`].
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
