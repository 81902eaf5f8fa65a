//! Operations under way, found by their id and by their node: thousands may be under way, and each node
//! that is tended asks for its own.

use std::collections::{BTreeMap, HashMap};

use crate::{names::PodKey, operation::Operation};

/// All operations under way.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// By node, then id; no node without any.
    by_node: HashMap<String, BTreeMap<String, Operation>>,
    /// The node of each id.
    nodes: HashMap<String, String>,
    /// The ids of those for each pod.
    pods: HashMap<PodKey, Vec<Box<str>>>,
}

impl Operations {
    /// One by its id.
    pub(super) fn get(&self, id: &str) -> Option<&Operation> {
        self.by_node.get(self.nodes.get(id)?)?.get(id)
    }

    /// One by its id. Its node, id and pod stay what they are.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Operation> {
        self.by_node.get_mut(self.nodes.get(id)?)?.get_mut(id)
    }

    /// A new one.
    pub(super) fn insert(&mut self, operation: Operation) {
        let (id, node) = (operation.id.clone(), operation.node.clone());
        self.nodes.insert(id.clone(), node.clone());
        let pod = &operation.pod.0;
        if !pod.is_nobody() {
            let of_pod = self.pods.entry(pod.clone()).or_default();
            of_pod.push(id.as_str().into());
        }
        let of_node = self.by_node.entry(node).or_default();
        of_node.insert(id, operation);
    }

    /// One is over.
    pub(super) fn remove(&mut self, id: &str) -> Option<Operation> {
        let node = self.nodes.remove(id)?;
        let of_node = self.by_node.get_mut(&node)?;
        let gone = of_node.remove(id)?;
        if of_node.is_empty() {
            self.by_node.remove(&node);
        }
        let pod = &gone.pod.0;
        if let Some(of_pod) = self.pods.get_mut(pod) {
            of_pod.retain(|known| **known != *id);
            if of_pod.is_empty() {
                self.pods.remove(pod);
            }
        }
        Some(gone)
    }

    /// Those of a node, by id.
    pub(super) fn of_node<'a>(
        &'a self,
        node: &str,
    ) -> impl Iterator<Item = &'a Operation> + Clone + use<'a> {
        let of_node = self.by_node.get(node).into_iter();
        of_node.flat_map(BTreeMap::values)
    }

    /// Whether any is under way for a pod of this name.
    pub(super) fn serve(&self, pod: &PodKey) -> bool {
        self.pods.contains_key(pod)
    }

    /// Those for pods of this name, in no order.
    pub(super) fn of_pod(&self, pod: &PodKey) -> impl Iterator<Item = &Operation> {
        let of_pod = self.pods.get(pod).into_iter();
        of_pod.flatten().filter_map(|id| self.get(id))
    }

    /// Whether any is under way on a node.
    pub(super) fn is_busy(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }
}
