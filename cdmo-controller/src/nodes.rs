//! The cluster's nodes in compact rows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use kube::runtime::watcher::Event;

use crate::{
    names::{
        LEAVE_ALONE_ANNOTATION, OPERATOR_ANNOTATION, PARTITIONING_LABEL, PARTITIONING_MIG,
        PROBLEMS_ANNOTATION,
    },
    objects::{NodeCondition, NodeLite},
    relist::Relist,
    requests::{self, Amounts},
};

/// What is kept of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// The version of the object that this row was made from.
    pub resource_version: String,
    /// All labels: selectors may name any.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What pods may use, all resources.
    pub allocatable: Amounts,
    /// Capacity, of resources that agents serve only.
    pub capacity: Amounts,
    /// When its kubelet last wrote its status, in seconds of Unix time by the node's clock.
    pub heartbeat: i64,
    /// Our annotation about problems, as it stands.
    pub problems: Option<String>,
    /// Our annotation with the GPU operator's labels as they were.
    pub operator_labels: Option<String>,
    /// The administrator's annotation about GPUs to be left alone.
    pub leave_alone: Option<String>,
    /// Whether an administrator handed the node to us.
    pub managed: bool,
}

impl NodeRow {
    /// The row of a node.
    pub fn of(node: NodeLite) -> Self {
        let labels = node.metadata.labels.unwrap_or_default();
        let managed = labels
            .get(PARTITIONING_LABEL)
            .is_some_and(|v| v == PARTITIONING_MIG);
        let mut annotations = node.metadata.annotations.unwrap_or_default();
        let mut capacity = requests::amounts(&node.status.capacity);
        capacity.retain(|name, _| requests::is_ours(name));
        Self {
            name: node.metadata.name.unwrap_or_default(),
            resource_version: node.metadata.resource_version.unwrap_or_default(),
            labels,
            taints: node.spec.taints,
            unschedulable: node.spec.unschedulable,
            allocatable: requests::amounts(&node.status.allocatable),
            capacity,
            heartbeat: heartbeat(&node.status.conditions),
            problems: annotations.remove(PROBLEMS_ANNOTATION),
            operator_labels: annotations.remove(OPERATOR_ANNOTATION),
            leave_alone: annotations.remove(LEAVE_ALONE_ANNOTATION),
            managed,
        }
    }

    /// Whether any resource that agents serve is offered here, by whomever.
    pub fn offers_devices(&self) -> bool {
        self.allocatable
            .iter()
            .any(|(name, amount)| requests::is_ours(name) && *amount > 0)
    }

    /// Whether `other` was certainly written before this row. The API calls versions opaque, but
    /// they are numbers of one sequence, and a wrong answer here costs one retried patch.
    fn is_newer_than(&self, other: &Self) -> bool {
        let number = |row: &Self| row.resource_version.parse::<u64>().ok();
        matches!((number(self), number(other)), (Some(ours), Some(theirs)) if ours > theirs)
    }
}

impl From<NodeLite> for NodeRow {
    fn from(node: NodeLite) -> Self {
        Self::of(node)
    }
}

/// That of the condition which only kubelets write: node-problem-detector and network plugins give
/// theirs heartbeats, too.
fn heartbeat(conditions: &[NodeCondition]) -> i64 {
    let mut all = conditions.iter();
    let ready = all.find(|condition| condition.kind == "Ready");
    let time = ready.and_then(|condition| condition.last_heartbeat_time.as_ref());
    time.map_or(0, |time| time.0.as_second())
}

/// A node about which something was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Its name.
    pub name: String,
    /// Whether more than version and heartbeat changed.
    pub matters: bool,
    /// What is known of the kubelet's last write, if the heartbeat changed.
    pub wrote: Option<Wrote>,
}

/// A kubelet wrote a node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// A moment ago.
    Now,
    /// In this second of Unix time.
    At(i64),
}

/// All nodes.
#[derive(Debug, Default)]
pub struct NodeIndex {
    rows: BTreeMap<String, NodeRow>,
    relist: Relist<String>,
}

impl NodeIndex {
    /// Takes in what the watch says; returns the nodes that changed.
    pub fn apply(&mut self, event: Event<NodeLite>) -> Vec<NodeChange> {
        match event {
            Event::Apply(node) => self.put(node, true),
            Event::InitApply(node) => {
                let row = NodeRow::of(node);
                self.relist.saw(row.name.clone());
                self.put_row(row, false)
            }
            Event::Delete(node) => {
                let name = node.metadata.name.unwrap_or_default();
                let known = self.rows.remove(&name).is_some();
                if known {
                    vec![NodeChange {
                        name,
                        matters: true,
                        wrote: None,
                    }]
                } else {
                    Vec::new()
                }
            }
            Event::Init => {
                self.relist.begin();
                Vec::new()
            }
            Event::InitDone => {
                let gone = self.relist.finish(self.rows.keys().cloned());
                self.rows.retain(|name, _| !gone.contains(name));
                gone.into_iter()
                    .map(|name| NodeChange {
                        name,
                        matters: true,
                        wrote: None,
                    })
                    .collect()
            }
        }
    }

    /// Takes in the answer to a write, which may be newer than what the watch has shown.
    pub fn put_written(&mut self, node: NodeLite) -> Vec<NodeChange> {
        let known = node
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| self.rows.contains_key(name));
        // An answer about a node that is gone must not bring it back.
        if known {
            self.put(node, true)
        } else {
            Vec::new()
        }
    }

    /// A node's row.
    pub fn get(&self, name: &str) -> Option<&NodeRow> {
        self.rows.get(name)
    }

    /// All rows, by name.
    pub fn iter(&self) -> impl Iterator<Item = &NodeRow> {
        self.rows.values()
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.relist.is_synced()
    }

    fn put(&mut self, node: NodeLite, skip_older: bool) -> Vec<NodeChange> {
        self.put_row(NodeRow::of(node), skip_older)
    }

    /// A watch event can be older than the answer to a write of ours; a list never is older than
    /// what was listed before, but etcd may have been restored from a backup.
    fn put_row(&mut self, row: NodeRow, skip_older: bool) -> Vec<NodeChange> {
        let name = row.name.clone();
        let beat = row.heartbeat;
        let (matters, wrote) = match self.rows.get_mut(&name) {
            Some(known) if *known == row || (skip_older && known.is_newer_than(&row)) => {
                return Vec::new();
            }
            Some(known) => {
                // What a list shows may have been written long ago.
                let wrote = if skip_older {
                    Wrote::Now
                } else {
                    Wrote::At(beat)
                };
                let wrote = (known.heartbeat != beat).then_some(wrote);
                known.resource_version.clone_from(&row.resource_version);
                known.heartbeat = beat;
                (*known != row, wrote)
            }
            None => (true, (beat != 0).then_some(Wrote::At(beat))),
        };
        self.rows.insert(name.clone(), row);
        vec![NodeChange {
            name,
            matters,
            wrote,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, version: &str, slices: u32) -> NodeLite {
        serde_json::from_value(json!({
            "metadata": {"name": name, "resourceVersion": version, "labels": {
                "cdmo.clear.ml/gpu-partitioning": "mig",
            }, "annotations": {"cdmo.clear.ml/problems": "the GPU is on fire"}},
            "status": {
                "capacity": {"cpu": "8", "nvidia.com/mig-1g.5gb": slices.to_string()},
                "allocatable": {"cpu": "7500m", "nvidia.com/mig-1g.5gb": slices.to_string()},
                "conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_row_keeps_what_decisions_need() {
        let row = NodeRow::of(node("a", "1", 2));
        assert!(row.managed);
        assert_eq!(row.problems.as_deref(), Some("the GPU is on fire"));
        assert_eq!(row.allocatable["cpu"], 7500);
        assert_eq!(
            row.capacity,
            Amounts::from([("nvidia.com/mig-1g.5gb".into(), 2)])
        );
    }

    fn changed(name: &str) -> [NodeChange; 1] {
        [NodeChange {
            name: name.into(),
            matters: true,
            wrote: None,
        }]
    }

    #[test]
    fn a_heartbeat_is_told_from_a_change() {
        let mut index = NodeIndex::default();
        index.apply(Event::Apply(node("a", "5", 0)));
        let mut later = node("a", "6", 0);
        later.status.conditions = serde_json::from_value(json!([
            {"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:10Z"},
        ]))
        .unwrap();
        let heartbeat = index.apply(Event::Apply(later));
        assert_eq!(
            heartbeat,
            [NodeChange {
                name: "a".into(),
                matters: false,
                wrote: Some(Wrote::Now),
            }]
        );
        assert_eq!(index.get("a").unwrap().resource_version, "6");
    }

    #[test]
    fn a_condition_that_somebody_else_writes_is_no_heartbeat() {
        let mut index = NodeIndex::default();
        index.apply(Event::Apply(node("a", "5", 0)));
        let mut later = node("a", "6", 0);
        later.status.conditions = serde_json::from_value(json!([
            {"type": "KernelDeadlock", "lastHeartbeatTime": "2026-01-01T00:00:04Z"},
            {"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
        ]))
        .unwrap();
        assert_eq!(index.apply(Event::Apply(later))[0].wrote, None);
    }

    #[test]
    fn a_new_nodes_heartbeat_tells_when_its_kubelet_wrote() {
        let new = NodeIndex::default().apply(Event::Apply(node("a", "5", 0)));
        assert_eq!(new[0].wrote, Some(Wrote::At(1_767_225_600)));
    }

    #[test]
    fn an_event_older_than_the_answer_to_our_patch_is_passed_over() {
        let mut index = NodeIndex::default();
        index.apply(Event::Apply(node("a", "5", 0)));
        assert_eq!(index.put_written(node("a", "9", 3)), changed("a"));
        assert!(index.apply(Event::Apply(node("a", "7", 0))).is_empty());
        assert_eq!(
            index.get("a").unwrap().allocatable["nvidia.com/mig-1g.5gb"],
            3
        );
        assert_eq!(index.apply(Event::Apply(node("a", "11", 1))), changed("a"));
    }

    #[test]
    fn the_answer_to_a_patch_does_not_bring_a_deleted_node_back() {
        let mut index = NodeIndex::default();
        index.apply(Event::Apply(node("a", "5", 0)));
        index.apply(Event::Delete(node("a", "6", 0)));
        assert!(index.put_written(node("a", "6", 0)).is_empty());
        assert!(index.get("a").is_none());
    }

    #[test]
    fn a_list_replaces_what_was_there() {
        let mut index = NodeIndex::default();
        index.apply(Event::Apply(node("a", "5", 0)));
        index.apply(Event::Init);
        index.apply(Event::InitApply(node("b", "2", 0)));
        assert!(index.get("a").is_some() && !index.is_synced());
        assert_eq!(index.apply(Event::InitDone), changed("a"));
        assert!(index.get("a").is_none() && index.get("b").is_some() && index.is_synced());
    }
}
