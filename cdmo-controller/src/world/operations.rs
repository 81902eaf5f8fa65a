//! Operations under way, found by their id and by their node: thousands may be under way, and each node
//! that is tended asks for its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::operation::Operation;

/// All operations under way.
#[derive(Debug, Default)]
pub(super) struct Operations {
    all: BTreeMap<String, Operation>,
    /// Ids by node; no set is empty.
    by_node: HashMap<String, BTreeSet<String>>,
}

impl Operations {
    /// One by its id.
    pub(super) fn get(&self, id: &str) -> Option<&Operation> {
        self.all.get(id)
    }

    /// One by its id. Its node and id stay what they are.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Operation> {
        self.all.get_mut(id)
    }

    /// A new one.
    pub(super) fn insert(&mut self, operation: Operation) {
        let ids = self.by_node.entry(operation.node.clone()).or_default();
        ids.insert(operation.id.clone());
        self.all.insert(operation.id.clone(), operation);
    }

    /// One is over.
    pub(super) fn remove(&mut self, id: &str) -> Option<Operation> {
        let gone = self.all.remove(id)?;
        if let Some(ids) = self.by_node.get_mut(&gone.node) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_node.remove(&gone.node);
            }
        }
        Some(gone)
    }

    /// All, by id.
    pub(super) fn values(&self) -> impl Iterator<Item = &Operation> {
        self.all.values()
    }

    /// Those of a node, by id.
    pub(super) fn of_node<'a>(
        &'a self,
        node: &str,
    ) -> impl Iterator<Item = &'a Operation> + Clone + use<'a> {
        let ids = self.by_node.get(node).into_iter().flatten();
        ids.filter_map(|id| self.all.get(id))
    }

    /// Whether any is under way on a node.
    pub(super) fn is_busy(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }
}
