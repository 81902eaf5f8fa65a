//! The node's own object: what a kubelet puts into it when it starts, and which part of the status
//! it patches afterwards.
//!
//! The patch is made against the kubelet's cached node and carries no resource version: what others
//! wrote meanwhile is overwritten where the kubelet believes something else, and kept where it has
//! no opinion (`pkg/kubelet/kubelet_node_status.go`, `pkg/kubelet/nodestatus/setters.go`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::resources::is_extended;
use crate::store::object;

use super::devices::Capacity;

/// What a node is made of.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    /// Its name.
    pub(super) name: String,
    /// Labels from the configuration.
    pub(super) labels: BTreeMap<String, String>,
    /// Quantity.
    pub(super) cpu: String,
    /// Quantity.
    pub(super) memory: String,
    /// Pods it takes.
    pub(super) pods: u32,
    /// Its address.
    pub(super) ip: String,
    /// `v1.33.6`.
    pub(super) version: &'static str,
}

impl NodeFacts {
    fn resources(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "memory": self.memory,
            "ephemeral-storage": "100Gi",
            "pods": self.pods.to_string(),
        })
    }

    /// The object that a kubelet registers.
    pub(super) fn object(&self, now: Timestamp) -> Value {
        let mut labels = json!({
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        });
        for (name, value) in &self.labels {
            labels[name] = value.as_str().into();
        }
        json!({
            "metadata": { "name": self.name, "labels": labels },
            "status": {
                "capacity": self.resources(),
                "allocatable": self.resources(),
                "conditions": conditions(now, None),
                "addresses": [
                    { "type": "InternalIP", "address": self.ip },
                    { "type": "Hostname", "address": self.name },
                ],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
                "nodeInfo": {
                    "architecture": "amd64",
                    "bootID": "",
                    "containerRuntimeVersion": "simcluster://1",
                    "kernelVersion": "6.1.0",
                    "kubeProxyVersion": self.version,
                    "kubeletVersion": self.version,
                    "machineID": self.name,
                    "operatingSystem": "linux",
                    "osImage": "simcluster",
                    "systemUUID": self.name,
                },
            },
        })
    }
}

fn conditions(now: Timestamp, current: Option<&Value>) -> Value {
    let now = format!("{now:.0}");
    let kinds = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ];
    let all = kinds.map(|(kind, status, reason)| {
        let known = current
            .into_iter()
            .flat_map(|node| object::array(node, "/status/conditions"))
            .find(|c| c["type"] == kind && c["status"] == status);
        let since = known.map_or_else(|| json!(now), |c| c["lastTransitionTime"].clone());
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": reason,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        })
    });
    Value::from(all.to_vec())
}

/// The patch that brings the cached node's status to what the kubelet believes. `None` if they
/// agree and no heartbeat is due.
pub(super) fn patch(
    cached: &Value,
    devices: &Capacity,
    heartbeat: bool,
    now: Timestamp,
) -> Option<Value> {
    let list = |name: &str| -> Map<String, Value> {
        cached
            .pointer(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (old_capacity, old_allocatable) = (list("/status/capacity"), list("/status/allocatable"));
    let mut capacity = old_capacity.clone();
    for (name, count) in &devices.capacity {
        capacity.insert(name.clone(), count.to_string().into());
    }
    for name in &devices.removed {
        capacity.insert(name.clone(), "0".into());
    }
    // Capacity that others put there is allocatable in full.
    let mut allocatable = old_allocatable.clone();
    allocatable.retain(|name, _| capacity.contains_key(name) || !is_extended(name));
    for (name, amount) in &capacity {
        allocatable.insert(name.clone(), amount.clone());
    }
    for (name, count) in &devices.allocatable {
        allocatable.insert(name.clone(), count.to_string().into());
    }
    let mut status = json!({});
    for (member, old, new) in [
        ("capacity", old_capacity, capacity),
        ("allocatable", old_allocatable, allocatable),
    ] {
        let changes = difference(&old, &new);
        if !changes.is_empty() {
            status[member] = changes.into();
        }
    }
    if !heartbeat && status == json!({}) {
        return None;
    }
    status["conditions"] = conditions(now, Some(cached));
    Some(json!({ "status": status }))
}

fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let changed = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value));
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    let changed = changed.map(|(name, value)| (name.clone(), value.clone()));
    changed
        .chain(removed.map(|name| (name.clone(), Value::Null)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "nvidia.com/mig-1g.5gb";

    fn cached(capacity: &Value, allocatable: &Value) -> Value {
        json!({ "status": { "capacity": capacity, "allocatable": allocatable } })
    }

    fn devices(capacity: i64, allocatable: i64) -> Capacity {
        Capacity {
            capacity: BTreeMap::from([(DEVICE.to_owned(), capacity)]),
            allocatable: BTreeMap::from([(DEVICE.to_owned(), allocatable)]),
            removed: Vec::new(),
        }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn nothing_is_patched_while_the_cached_node_agrees() {
        let node = cached(&json!({ DEVICE: "2" }), &json!({ DEVICE: "1" }));
        assert_eq!(patch(&node, &devices(2, 1), false, now()), None);
        let beat = patch(&node, &devices(2, 1), true, now()).unwrap();
        assert!(beat["status"].get("capacity").is_none());
    }

    #[test]
    fn what_others_wrote_about_our_devices_is_undone_and_the_rest_is_kept() {
        let theirs = json!({ DEVICE: "7", "example.com/other": "3" });
        let patch = patch(&cached(&theirs, &theirs), &devices(2, 1), false, now()).unwrap();
        assert_eq!(patch["status"]["capacity"], json!({ DEVICE: "2" }));
        assert_eq!(patch["status"]["allocatable"], json!({ DEVICE: "1" }));
    }

    #[test]
    fn unknown_capacity_is_made_allocatable_in_full() {
        let node = cached(
            &json!({ "example.com/x": "3" }),
            &json!({ "example.com/x": "1" }),
        );
        let patch = patch(&node, &Capacity::default(), false, now()).unwrap();
        assert_eq!(
            patch["status"]["allocatable"],
            json!({ "example.com/x": "3" })
        );
    }

    #[test]
    fn a_resource_whose_plugin_is_gone_becomes_zero_and_stays_named() {
        let node = cached(&json!({ DEVICE: "1" }), &json!({ DEVICE: "0" }));
        let gone = Capacity {
            removed: vec![DEVICE.to_owned()],
            ..Capacity::default()
        };
        let patch = patch(&node, &gone, false, now()).unwrap();
        assert_eq!(patch["status"]["capacity"], json!({ DEVICE: "0" }));
    }

    #[test]
    fn allocatable_without_capacity_is_removed() {
        let node = cached(&json!({}), &json!({ DEVICE: "1" }));
        let patch = patch(&node, &Capacity::default(), false, now()).unwrap();
        assert_eq!(patch["status"]["allocatable"], json!({ DEVICE: null }));
    }
}
