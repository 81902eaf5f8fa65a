//! Nodes that refuse for the same reasons.
//!
//! Why a node does not serve a demand depends on what kind of node it is, not on what stands there at the
//! moment. There are few kinds, and refusals are explained by kind.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mig::{GpuModel, ProfileName};

use crate::{
    boards::Boards,
    node_set::NodeSet,
    state::{Gpu, Node},
};

/// What explanations look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Numbers of the GPUs' models, in order.
    models: Vec<u32>,
    /// Resources that no plan can change.
    fixed: Vec<String>,
    /// There are GPUs, and none may be partitioned.
    stuck: bool,
}

/// Nodes that are alike.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) nodes: NodeSet,
    models: Vec<Arc<GpuModel>>,
}

/// All classes; empty ones stay, so that numbers last.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    ids: HashMap<Key, usize>,
    all: Vec<Class>,
    /// Rises whenever a node comes, goes, or becomes of another class.
    version: u64,
}

impl Classes {
    /// The class of a node, which is not put there.
    pub(crate) fn of(&mut self, node: &Node, boards: &mut Boards) -> usize {
        let key = Key {
            models: node.gpus.iter().map(|g| boards.model(&g.model)).collect(),
            fixed: node.fixed.keys().cloned().collect(),
            stuck: is_stuck(node),
        };
        *self.ids.entry(key).or_insert_with(|| {
            let mut models: Vec<Arc<GpuModel>> = Vec::new();
            for gpu in &node.gpus {
                if !models.iter().any(|known| Arc::ptr_eq(known, &gpu.model)) {
                    models.push(Arc::clone(&gpu.model));
                }
            }
            let nodes = NodeSet::default();
            self.all.push(Class { nodes, models });
            self.all.len() - 1
        })
    }

    /// A node comes; those from this position on move up by one.
    pub(crate) fn insert(&mut self, node: usize, class: usize) {
        for (number, known) in self.all.iter_mut().enumerate() {
            known.nodes.insert(node, number == class);
        }
        self.version += 1;
    }

    /// A node goes; those behind it move down by one.
    pub(crate) fn remove(&mut self, node: usize) {
        for known in &mut self.all {
            known.nodes.remove(node);
        }
        self.version += 1;
    }

    /// A node may have become of another class.
    pub(crate) fn change(&mut self, node: usize, from: usize, to: usize) {
        if from == to {
            return;
        }
        self.all[from].nodes.set(node, false);
        self.all[to].nodes.set(node, true);
        self.version += 1;
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.all.clear();
        self.version += 1;
    }

    /// Those that have nodes, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Class)> {
        let all = self.all.iter().enumerate();
        all.filter(|(_, class)| !class.nodes.is_empty())
    }

    /// How many there are, empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Equal versions explain alike.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Every profile that some GPU has, smallest first.
    pub(crate) fn profiles(&self) -> BTreeSet<ProfileName> {
        let models = self.iter().flat_map(|(_, class)| &class.models);
        models
            .flat_map(|model| model.profiles.iter().map(|profile| profile.name))
            .collect()
    }
}

/// Whether two nodes are certainly of the same class, which is quicker to see than of which.
pub(crate) fn are_alike(a: &Node, b: &Node) -> bool {
    let same_model = |(a, b): (&Gpu, &Gpu)| Arc::ptr_eq(&a.model, &b.model);
    a.gpus.len() == b.gpus.len()
        && a.gpus.iter().zip(&b.gpus).all(same_model)
        && a.fixed.keys().eq(b.fixed.keys())
        && is_stuck(a) == is_stuck(b)
}

/// Whether there are GPUs and none may be partitioned.
pub(crate) fn is_stuck(node: &Node) -> bool {
    !node.gpus.is_empty() && !node.gpus.iter().any(|gpu| gpu.changeable)
}
