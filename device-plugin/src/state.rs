//! What the library tells about itself; every change is pushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Holder;

/// Everything the library knows, by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginState {
    /// One entry per resource that has an endpoint.
    pub resources: BTreeMap<String, ResourceState>,
    /// Why podresources cannot be asked at present; `None` while it answers.
    pub pod_resources_problem: Option<String>,
    /// Sockets of other plugins for the same devices; while there are any, nothing is registered.
    pub rivals: Arc<[String]>,
}

impl PluginState {
    /// The device of that id under that resource.
    pub fn device(&self, resource: &str, id: &str) -> Option<&DeviceState> {
        self.resources
            .get(resource)?
            .devices
            .iter()
            .find(|device| device.id == id)
    }
}

/// One resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceState {
    /// Where its registration with the kubelet stands.
    pub registration: Registration,
    /// Devices that the kubelet is known to count, healthy or not.
    pub capacity: u32,
    /// Devices that the kubelet is known to regard as healthy, held ones included.
    pub allocatable: u32,
    /// All devices of the list, in the order offered.
    pub devices: Vec<DeviceState>,
}

/// Where an endpoint's registration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// The kubelet's socket does not exist; it is waited for.
    #[default]
    KubeletAbsent,
    /// Being registered.
    Registering {
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// The last attempt failed; another one follows.
    Retrying {
        /// Number of the attempt that failed.
        attempt: u32,
        /// Why, as one sentence.
        reason: String,
    },
    /// Another plugin serves the same devices, or is to: see [`Plugins::stand_down`](crate::Plugins::stand_down).
    Yielding,
    /// The kubelet reads our list.
    Registered,
    /// The library was shut down.
    Closed,
}

/// One device of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// Device id.
    pub id: String,
    /// Its group (GPU uuid).
    pub group: String,
    /// Where it is in its life.
    pub phase: DevicePhase,
    /// Why it is sick, if [`Plugins::mark_unhealthy`](crate::Plugins::mark_unhealthy) said so.
    pub sick: Option<String>,
    /// The kubelet is known to have taken over the health we last told it.
    pub confirmed: bool,
    /// Set while a pod holds it or may hold it.
    pub hold: Option<HoldState>,
}

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DevicePhase {
    /// Listed as healthy (unless sick); granted when asked for.
    Offered,
    /// Listed as unhealthy; a grant that the kubelet decided on before it read so is still honoured.
    Withdrawing,
    /// Listed as unhealthy; every grant is refused; nobody holds it.
    Fenced,
    /// Gone or not offered (yet), but perhaps still held: listed as unhealthy until proven free.
    Lost,
}

/// A hold as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldState {
    /// As in [`Hold::holders`](crate::Hold::holders).
    pub holders: Vec<Holder>,
    /// podresources shows it at present.
    pub shown: bool,
    /// Why a hold that podresources no longer shows does not end, as half a sentence.
    pub doubt: Option<String>,
}
