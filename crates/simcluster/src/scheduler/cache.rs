//! What the scheduler believes of the nodes: allocatable, and the requests of bound and assumed
//! pods.
//!
//! A pod counts from the moment it is assumed, before it is bound, so that no two pods are promised
//! the same room while a slow binding is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::resources::{CPU, MEMORY, PODS, Resources};
use crate::store::object;

/// CPU and memory that a container which asks for none is counted with in scores, as
/// `GetNonzeroRequests` does: 0.1 core, 200 MB.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// One node and what is left on it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The object.
    pub node: Arc<Value>,
    /// `status.allocatable`.
    pub allocatable: Resources,
    /// Sum of the requests of the pods on it.
    pub requested: Resources,
    /// Pods on it.
    pub pods: i64,
    /// CPU and memory with defaults for pods that ask for none; for scores only.
    scored: Resources,
}

impl NodeInfo {
    fn new(node: Arc<Value>) -> Self {
        Self {
            allocatable: Resources::parse(node.pointer("/status/allocatable")),
            requested: Resources::default(),
            pods: 0,
            scored: Resources::default(),
            node,
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        object::name(&self.node)
    }

    fn add(&mut self, requests: &Resources) {
        self.pods += 1;
        self.requested.add(requests);
        self.scored.add(&scored(requests));
    }

    fn subtract(&mut self, requests: &Resources) {
        self.pods -= 1;
        self.requested.subtract(requests);
        self.scored.subtract(&scored(requests));
    }

    /// 0 to 100: how much of CPU and memory would be left with this pod on it.
    pub fn score(&self, requests: &Resources) -> i64 {
        let added = scored(requests);
        let left = |name: &str| {
            let all = self.allocatable.get(name);
            let free = all - self.scored.get(name) - added.get(name);
            if all <= 0 {
                0
            } else {
                free.max(0).saturating_mul(100) / all
            }
        };
        i64::midpoint(left(CPU), left(MEMORY))
    }
}

fn scored(requests: &Resources) -> Resources {
    let mut scored = Resources::default();
    scored.set(CPU, requests.find(CPU).unwrap_or(DEFAULT_CPU));
    scored.set(MEMORY, requests.find(MEMORY).unwrap_or(DEFAULT_MEMORY));
    scored
}

/// What changed on a node, as far as it can make a pod schedulable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// `status.allocatable`.
    pub allocatable: bool,
    /// Labels.
    pub labels: bool,
    /// Taints, and `spec.unschedulable`.
    pub taints: bool,
}

impl NodeChange {
    /// Everything, as for a node that is new.
    pub const ALL: Self = Self {
        allocatable: true,
        labels: true,
        taints: true,
    };

    fn between(old: &NodeInfo, new: &NodeInfo) -> Self {
        let differs = |path: &str| old.node.pointer(path) != new.node.pointer(path);
        Self {
            allocatable: old.allocatable != new.allocatable,
            labels: differs("/metadata/labels"),
            taints: differs("/spec/taints") || differs("/spec/unschedulable"),
        }
    }

    /// Nothing that matters to the scheduler.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

#[derive(Debug)]
struct Placed {
    node: String,
    requests: Resources,
    assumed: bool,
}

/// All nodes and all pods that have a place.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    pods: HashMap<String, Placed>,
    version: u64,
}

impl Cache {
    /// Changes whenever anything in here does.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// Takes in a new state of a node, and tells what changed.
    pub fn set_node(&mut self, node: Arc<Value>) -> NodeChange {
        let mut info = NodeInfo::new(node);
        let name = info.name().to_owned();
        self.version += 1;
        let change = if let Some(old) = self.nodes.get(&name) {
            let change = NodeChange::between(old, &info);
            info.requested = old.requested.clone();
            info.scored = old.scored.clone();
            info.pods = old.pods;
            change
        } else {
            for placed in self.pods.values().filter(|placed| placed.node == name) {
                info.add(&placed.requests);
            }
            NodeChange::ALL
        };
        self.nodes.insert(name, info);
        change
    }

    /// Forgets a node; its pods stay known.
    pub fn remove_node(&mut self, name: &str) {
        self.version += 1;
        self.nodes.remove(name);
    }

    /// Counts a pod on a node before it is bound there.
    pub fn assume(&mut self, uid: &str, node: &str, requests: &Resources) {
        self.place(uid, node, requests, true);
    }

    /// Counts a pod on the node that it is bound to; an assumption is confirmed or corrected.
    pub fn confirm(&mut self, uid: &str, node: &str, requests: &Resources) {
        if let Some(placed) = self.pods.get_mut(uid)
            && placed.node == node
            && placed.requests == *requests
        {
            placed.assumed = false;
            return;
        }
        self.remove_pod(uid);
        self.place(uid, node, requests, false);
    }

    fn place(&mut self, uid: &str, node: &str, requests: &Resources, assumed: bool) {
        self.version += 1;
        if let Some(info) = self.nodes.get_mut(node) {
            info.add(requests);
        }
        let placed = Placed {
            node: node.to_owned(),
            requests: requests.clone(),
            assumed,
        };
        self.pods.insert(uid.to_owned(), placed);
    }

    /// Takes an assumption back, unless the pod has been seen bound; returns the node.
    pub fn forget(&mut self, uid: &str) -> Option<String> {
        if self.pods.get(uid)?.assumed {
            self.remove_pod(uid)
        } else {
            None
        }
    }

    /// Stops counting a pod that ended or went; returns the node it was on.
    pub fn remove_pod(&mut self, uid: &str) -> Option<String> {
        let placed = self.pods.remove(uid)?;
        self.version += 1;
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            info.subtract(&placed.requests);
        }
        Some(placed.node)
    }

    /// The pod has a place, assumed or bound.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }
}

/// Pods a node takes: `status.allocatable.pods`.
pub fn pod_limit(node: &NodeInfo) -> i64 {
    node.allocatable.get(PODS)
}
