//! The kubelet's device manager: which devices exist, which are healthy, and who has them.
//!
//! A state machine without I/O. It follows pkg/kubelet/cm/devicemanager (manager.go,
//! `pod_devices.go`) of Kubernetes 1.20 and 1.36, faults included; [`Behaviour`] says which. Times
//! are durations since any fixed start.

pub mod allocation;
pub mod checkpoint;
pub mod held;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::behaviour::Behaviour;

use held::Held;

/// How long a resource outlives its plugin (`endpointStopGracePeriod`).
pub const STOP_GRACE: Duration = Duration::from_mins(5);

/// Identifies one connection to a plugin; a larger number is a newer one.
pub type EndpointId = u64;

/// Ids of devices.
pub type Ids = BTreeSet<String>;

/// What a plugin asks for in `GetDevicePluginOptions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PluginOptions {
    /// `PreStartContainer` before each container start.
    pub pre_start: bool,
    /// It has an opinion on which devices go together.
    pub preferred: bool,
}

#[derive(Debug)]
struct Endpoint {
    /// None after a kubelet restart, until the plugin registers again.
    id: Option<EndpointId>,
    options: Option<PluginOptions>,
    stopped: Option<Duration>,
}

/// What the device manager adds to the node's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Healthy and unhealthy devices by resource.
    pub capacity: BTreeMap<String, i64>,
    /// Healthy devices by resource.
    pub allocatable: BTreeMap<String, i64>,
    /// Resources whose plugin is gone for good: their capacity becomes 0.
    pub removed: Vec<String>,
}

/// Devices by resource, and the pods that have them.
#[derive(Debug)]
pub struct DeviceManager {
    behaviour: Behaviour,
    stop_grace: Duration,
    endpoints: HashMap<String, Endpoint>,
    healthy: BTreeMap<String, Ids>,
    unhealthy: BTreeMap<String, Ids>,
    /// In use, by resource. May lag behind `held` until the next clean-up.
    allocated: BTreeMap<String, Ids>,
    held: Held,
    /// The pod being admitted, which is not among the active ones yet.
    admitting: Option<String>,
    /// Devices of that pod's init containers, by resource, for its other containers.
    reusable: BTreeMap<String, Ids>,
    last_endpoint: EndpointId,
}

impl DeviceManager {
    /// A device manager that knows nothing; resources outlive their plugin by `stop_grace`.
    pub fn new(behaviour: Behaviour, stop_grace: Duration) -> Self {
        Self {
            behaviour,
            stop_grace,
            endpoints: HashMap::new(),
            healthy: BTreeMap::new(),
            unhealthy: BTreeMap::new(),
            allocated: BTreeMap::new(),
            held: Held::default(),
            admitting: None,
            reusable: BTreeMap::new(),
            last_endpoint: 0,
        }
    }

    /// A plugin has connected and told its options: from here on it is the one for the resource.
    pub fn connected(&mut self, resource: &str, options: PluginOptions) -> EndpointId {
        self.last_endpoint += 1;
        let id = self.last_endpoint;
        let endpoint = Endpoint {
            id: Some(id),
            options: Some(options),
            stopped: None,
        };
        self.endpoints.insert(resource.to_owned(), endpoint);
        id
    }

    /// A plugin sent its whole list of devices: id, and whether it is healthy.
    pub fn listed(&mut self, resource: &str, devices: impl IntoIterator<Item = (String, bool)>) {
        let (mut healthy, mut unhealthy) = (Ids::new(), Ids::new());
        for (id, is_healthy) in devices {
            if is_healthy {
                healthy.insert(id)
            } else {
                unhealthy.insert(id)
            };
        }
        self.healthy.insert(resource.to_owned(), healthy);
        self.unhealthy.insert(resource.to_owned(), unhealthy);
    }

    /// The list stream of one connection ended: the resource's devices become unhealthy. Returns
    /// the newer connection that must be closed, too: the kubelets of kubernetes#135437 tear down
    /// whatever is registered under the name.
    pub fn disconnected(
        &mut self,
        resource: &str,
        id: EndpointId,
        now: Duration,
    ) -> Option<EndpointId> {
        let endpoint = self.endpoints.get_mut(resource)?;
        let victim = (endpoint.id != Some(id)).then_some(endpoint.id).flatten();
        if endpoint.id != Some(id) && !self.behaviour.old_stream_ends_new_endpoint() {
            return None;
        }
        endpoint.stopped.get_or_insert(now);
        if let Some(healthy) = self.healthy.get_mut(resource) {
            let lost = std::mem::take(healthy);
            self.unhealthy
                .entry(resource.to_owned())
                .or_default()
                .extend(lost);
        }
        victim
    }

    /// What the node's status says of devices; forgets resources whose plugin has been gone for
    /// too long.
    pub fn capacity(&mut self, now: Duration) -> Capacity {
        let names: BTreeSet<String> = self
            .healthy
            .keys()
            .chain(self.unhealthy.keys())
            .cloned()
            .collect();
        let mut report = Capacity::default();
        for name in names {
            let gone = self.endpoints.get(&name).is_none_or(|endpoint| {
                endpoint
                    .stopped
                    .is_some_and(|since| now >= since + self.stop_grace)
            });
            if gone {
                self.endpoints.remove(&name);
                self.healthy.remove(&name);
                self.unhealthy.remove(&name);
                report.removed.push(name);
                continue;
            }
            let count =
                |ids: Option<&Ids>| i64::try_from(ids.map_or(0, BTreeSet::len)).unwrap_or(i64::MAX);
            let healthy = count(self.healthy.get(&name));
            let all = healthy + count(self.unhealthy.get(&name));
            report.capacity.insert(name.clone(), all);
            report.allocatable.insert(name, healthy);
        }
        report
    }

    /// When [`DeviceManager::capacity`] will next forget a resource.
    pub fn deadline(&self) -> Option<Duration> {
        let stopped = self
            .endpoints
            .values()
            .filter_map(|endpoint| endpoint.stopped);
        stopped.map(|since| since + self.stop_grace).min()
    }

    /// Healthy devices by resource, at this moment, as `GetAllocatableResources` tells them.
    pub fn allocatable(&self) -> &BTreeMap<String, Ids> {
        &self.healthy
    }

    /// The resource belongs to a plugin, or did and some pod still has devices of it. Only then
    /// does the device manager take part in a container's admission.
    pub fn manages(&self, resource: &str) -> bool {
        self.healthy.contains_key(resource) || self.allocated.contains_key(resource)
    }

    /// Frees the devices of pods that are not active any more. There is no other way in which
    /// devices become free: the kubelet looks when it needs to know.
    pub fn release_inactive(&mut self, active: &BTreeSet<String>) {
        let admitting = self.admitting.as_deref();
        if self
            .held
            .retain(|pod| active.contains(pod) || admitting == Some(pod))
        {
            self.allocated = self.held.by_resource();
        }
    }

    /// Devices in use by resource; the resource predicate never refuses a pod for what it was
    /// already granted (`sanitizeNodeAllocatable`).
    pub fn in_use(&self) -> &BTreeMap<String, Ids> {
        &self.allocated
    }

    /// Who has which devices.
    pub fn held(&self) -> &Held {
        &self.held
    }

    fn knows(&self, resource: &str, id: &str) -> bool {
        let has = |ids: Option<&Ids>| ids.is_some_and(|ids| ids.contains(id));
        has(self.healthy.get(resource)) || has(self.unhealthy.get(resource))
    }
}

#[cfg(test)]
mod tests;
