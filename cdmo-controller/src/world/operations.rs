//! Operations under way, found by their id and by their node: thousands may be under way, and each node
//! that is tended asks for its own.

use std::collections::{BTreeMap, HashMap};

use crate::operation::Operation;

/// All operations under way.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// By node, then id; no node without any.
    by_node: HashMap<String, BTreeMap<String, Operation>>,
    /// The node of each id.
    nodes: HashMap<String, String>,
}

impl Operations {
    /// One by its id.
    pub(super) fn get(&self, id: &str) -> Option<&Operation> {
        self.by_node.get(self.nodes.get(id)?)?.get(id)
    }

    /// One by its id. Its node and id stay what they are.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Operation> {
        self.by_node.get_mut(self.nodes.get(id)?)?.get_mut(id)
    }

    /// A new one.
    pub(super) fn insert(&mut self, operation: Operation) {
        let (id, node) = (operation.id.clone(), operation.node.clone());
        self.nodes.insert(id.clone(), node.clone());
        let of_node = self.by_node.entry(node).or_default();
        of_node.insert(id, operation);
    }

    /// One is over.
    pub(super) fn remove(&mut self, id: &str) -> Option<Operation> {
        let node = self.nodes.remove(id)?;
        let of_node = self.by_node.get_mut(&node)?;
        let gone = of_node.remove(id);
        if of_node.is_empty() {
            self.by_node.remove(&node);
        }
        gone
    }

    /// All, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Operation> {
        self.by_node.values().flat_map(BTreeMap::values)
    }

    /// Those of a node, by id.
    pub(super) fn of_node<'a>(
        &'a self,
        node: &str,
    ) -> impl Iterator<Item = &'a Operation> + Clone + use<'a> {
        let of_node = self.by_node.get(node).into_iter();
        of_node.flat_map(BTreeMap::values)
    }

    /// Whether any is under way on a node.
    pub(super) fn is_busy(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }
}
