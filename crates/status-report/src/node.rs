//! Nodes, their GPUs, and what is being done to them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::PodRef;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether an administrator has handed it over with the label.
    pub managed: bool,
    /// Its agent.
    pub agent: Agent,
    /// Its GPUs by index, as the agent last reported them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// What is being done; the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// What an administrator should know, a sentence each; as in the node's annotation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The session with a node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// How it is.
    pub state: AgentState,
    /// Since when; not known where there is no agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it does not stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How the session with an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentState {
    /// It stands.
    Up,
    /// No attempt has ended yet.
    Connecting,
    /// It broke or could not be made.
    Down,
    /// The node has no agent.
    Absent,
    /// A word of a later release.
    #[serde(other)]
    Unknown,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// NVML's index on the node.
    pub index: u32,
    /// NVML's uuid.
    pub uuid: String,
    /// Product name as NVML prints it.
    pub product: String,
    /// Memory slices; 0 if it cannot do MIG.
    pub slices: u8,
    /// Its MIG mode.
    pub mig: MigMode,
    /// What stands on it, by first slice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Itself as a device, while MIG is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Instance>,
    /// Free slices that no instance can use while the others stand where they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out_of_reach: Vec<u8>,
    /// It is left alone after failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// Slices that are kept free for pods that waited long for room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_free: Vec<KeptFree>,
}

/// Slices that are kept free for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptFree {
    /// The slices, ascending.
    pub slices: Vec<u8>,
    /// The pod, as `namespace/name`.
    pub pod: String,
}

/// A GPU's MIG mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MigMode {
    /// The GPU does not have it.
    NotCapable,
    /// Off.
    Off,
    /// On.
    On,
    /// On after a reset of the GPU.
    PendingOn,
    /// Off after a reset of the GPU.
    PendingOff,
    /// Not reported, or a word of a later release.
    #[serde(other)]
    Unknown,
}

/// A GPU instance, or a whole GPU as a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its profile, for example `3g.20gb`; empty for a whole GPU.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Memory slices; 0 for a whole GPU.
    pub size: u8,
    /// NVML's GPU-instance id.
    pub gpu_instance_id: u32,
    /// What kubelet and containers call it; empty while it is no whole MIG device.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    /// The resource name it is offered under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What it is doing.
    pub state: InstanceState,
    /// Since when, by the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Pods that hold it, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<PodRef>,
    /// Why it is not in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceState {
    /// It exists; the kubelet has not confirmed it yet.
    Offering,
    /// Held by nobody.
    Idle,
    /// Granted to a pod, or not yet proven free.
    Held,
    /// Being given up.
    Withdrawing,
    /// Half destroyed or refused by the driver; retried.
    Stuck,
    /// The driver or the GPU reported a fault.
    Unhealthy,
    /// It exists and is offered under no name.
    Parked,
    /// Not reported, or a word of a later release.
    #[serde(other)]
    Unknown,
}

/// A GPU that is left alone after failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// Until when.
    pub until: Timestamp,
    /// How often it failed in a row.
    pub failures: u32,
    /// How it failed last.
    pub reason: String,
}

/// A plan under way on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The plan's id.
    pub id: String,
    /// Where it is.
    pub stage: Stage,
    /// Since when it is there.
    pub since: Timestamp,
    /// When it was planned.
    pub planned: Timestamp,
    /// The pod that it serves; without a name: none, the node is given back.
    pub pod: PodRef,
    /// What it makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub makes: Vec<Piece>,
    /// Idle instances that it gives up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gives_up: Vec<Piece>,
    /// Idle instances that it offers under another name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// Where a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Node status is being lowered by what is given up or moved.
    Lowering,
    /// Pods that are on their way get a moment to arrive.
    Settling,
    /// The API is asked for pods that have arrived.
    Arriving,
    /// The agent takes devices back from the kubelet.
    Withdrawing,
    /// Node status is asserted once more.
    Asserting,
    /// The API is asked for bound pods once more.
    Looking,
    /// The agent destroys and makes instances, and offers them to the kubelet.
    Making,
    /// The agent offers withdrawn devices again.
    Aborting,
    /// Node status is raised by what was made.
    Showing,
    /// It is over, or a word of a later release.
    #[serde(other)]
    Unknown,
}

/// An instance of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// Uuid of the GPU.
    pub gpu: String,
    /// Profile.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
}

/// An idle instance that a plan moves to another resource name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// Uuid of the GPU.
    pub gpu: String,
    /// Profile.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
    /// The name it had; none if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name it gets.
    pub to: String,
}
