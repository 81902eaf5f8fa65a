//! Pods and nodes with only the fields that matter here.
//!
//! Serde skips the rest while it parses, so a watch never builds the 48 kB that a whole `Pod` takes
//! in memory; what stays for longer than an event is smaller still (see [`crate::pods`] and
//! [`crate::nodes`]).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelector, Taint, Toleration},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Quantities by resource name, as the API writes them.
pub type ResourceList = BTreeMap<String, Quantity>;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
pub struct PodLite {
    /// Name, namespace, uid, labels.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it wants.
    #[serde(default)]
    pub spec: PodSpec,
    /// What became of it.
    #[serde(default)]
    pub status: PodStatus,
}

/// What a pod wants.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// Resolved from its priority class; 0 if it has none.
    pub priority: Option<i32>,
    /// Why the scheduler must not look at it yet.
    pub scheduling_gates: Vec<Gate>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Of its affinities, only the node's matters here.
    pub affinity: Option<Affinity>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Claims of dynamic resource allocation.
    pub resource_claims: Vec<IgnoredAny>,
    /// Taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// Its containers.
    pub containers: Vec<ContainerLite>,
    /// Its init containers, sidecars among them.
    pub init_containers: Vec<ContainerLite>,
    /// What the runtime class adds to its requests.
    pub overhead: ResourceList,
    /// Requests of the pod as a whole, which replace the containers' sums.
    pub resources: Option<Resources>,
}

impl PodSpec {
    /// Whether its binding may take minutes after the scheduler has chosen a node: volumes and
    /// claimed resources are provided in between.
    pub fn binds_slowly(&self) -> bool {
        let claims = |v: &Volume| v.persistent_volume_claim.is_some() || v.ephemeral.is_some();
        !self.resource_claims.is_empty() || self.volumes.iter().any(claims)
    }
}

/// A volume; which it is does not matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// It is claimed by name.
    pub persistent_volume_claim: Option<IgnoredAny>,
    /// It is claimed by the pod itself.
    pub ephemeral: Option<IgnoredAny>,
}

/// A scheduling gate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// Its name.
    pub name: String,
}

/// Affinities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// Towards nodes.
    pub node_affinity: Option<NodeAffinity>,
}

/// Node affinity, without the preferences.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinity {
    /// What a node must fulfil.
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerLite {
    /// Its name.
    pub name: String,
    /// Its requests and limits.
    pub resources: Resources,
    /// `Always` on an init container makes it a sidecar.
    pub restart_policy: Option<String>,
    /// Its named ports.
    pub ports: Vec<Port>,
}

/// Requests and limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What is set aside for it.
    pub requests: ResourceList,
    /// What it may use at most.
    pub limits: ResourceList,
}

/// A container port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The port in the pod.
    pub container_port: u16,
}

/// What became of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Its address, once it has one.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// When it was bound: of its conditions, only this one matters here.
    #[serde(rename = "conditions", deserialize_with = "scheduled_at")]
    pub scheduled_at: Option<Time>,
    /// How its containers do.
    pub container_statuses: Vec<ContainerStatus>,
    /// How its init containers do.
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

fn scheduled_at<'de, D: Deserializer<'de>>(conditions: D) -> Result<Option<Time>, D::Error> {
    let all = Option::<Vec<PodCondition>>::deserialize(conditions)?;
    let mut all = all.into_iter().flatten();
    let scheduled = all.find(|one| one.kind == "PodScheduled" && one.status == "True");
    Ok(scheduled.and_then(|condition| condition.last_transition_time))
}

/// How a container does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Whether it serves; of an init container, whether it has ended well.
    pub ready: bool,
    /// What it does now.
    pub state: ContainerState,
    /// What the one before it did.
    pub last_state: ContainerState,
}

/// What a container does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It has not started.
    pub waiting: Option<Waiting>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Why a container has not started.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// In one word.
    pub reason: String,
    /// In a sentence, or empty.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// 0 if all went well.
    pub exit_code: i32,
    /// In one word.
    pub reason: String,
    /// What it left behind; of agents, the end of the log.
    pub message: String,
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::core::v1::Node")]
pub struct NodeLite {
    /// Name, labels, annotations, resource version.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Taints and cordon.
    #[serde(default)]
    pub spec: NodeSpec,
    /// Capacity and allocatable.
    #[serde(default)]
    pub status: NodeStatus,
}

/// Taints and cordon.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Cordoned.
    pub unschedulable: bool,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// Capacity and allocatable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// All there is.
    pub capacity: ResourceList,
    /// What pods may use.
    pub allocatable: ResourceList,
    /// When the kubelet wrote.
    pub conditions: Vec<NodeCondition>,
}

/// When the kubelet wrote a condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeCondition {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: String,
    /// None in some conditions of others.
    pub last_heartbeat_time: Option<Time>,
}
