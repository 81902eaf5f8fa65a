//! What a pod asks for.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{node_set::NodeSet, window::Ask};

/// Devices by resource name, each at least 1.
pub type Wants = BTreeMap<String, u32>;

/// What one pod asks of one node.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The caller's key; comes back nowhere but in its own bookkeeping.
    pub id: String,
    /// Higher goes first.
    pub priority: i32,
    /// Lower goes first among equal priorities; for example the creation time.
    pub created: i64,
    /// What it asks for; all must come from one node. Shared among pods that ask for the same: a pass
    /// reads each copy once.
    pub wants: Arc<Wants>,
    /// If it cannot be served now, slices are kept free for it; none if it has not waited long enough for that.
    pub window: Option<Ask>,
    /// The group that it starts with, if it starts with others or not at all. No slices are kept free for such a
    /// demand.
    pub group: Option<Arc<Group>>,
    /// Where the pod could run. Shared among pods with equal constraints: a pass explains a refusal once
    /// for each copy.
    pub nodes: Arc<Eligibilities>,
}

/// Demands that are served together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Equal for demands of the same group.
    pub key: Arc<str>,
    /// As people call it.
    pub name: Arc<str>,
    /// Why none of its demands may be served yet, whatever is free: a sentence.
    pub held_back: Option<Arc<str>>,
}

/// Whether a pod could run on a node, devices aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It could.
    Allowed,
    /// It could not; a few words that fit behind "2 nodes: ".
    Excluded(Cow<'static, str>),
}

/// For each node of the cluster, in its order, whether a pod could run there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eligibilities {
    count: usize,
    allowed: NodeSet,
    /// The others by what excludes them; no set is empty. There are few different words.
    excluded: Vec<(Cow<'static, str>, NodeSet)>,
}

impl Hash for Eligibilities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.allowed.hash(state);
    }
}

impl Eligibilities {
    /// How many nodes it speaks of.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it speaks of no node.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The nodes where the pod could run.
    pub fn allowed(&self) -> &NodeSet {
        &self.allowed
    }

    /// The other nodes, by what excludes them.
    pub fn excluded(&self) -> impl Iterator<Item = (&Cow<'static, str>, &NodeSet)> {
        self.excluded.iter().map(|(text, nodes)| (text, nodes))
    }

    /// What is said of a node.
    pub fn get(&self, node: usize) -> Option<Eligibility> {
        if self.allowed.contains(node) {
            return Some(Eligibility::Allowed);
        }
        let mut all = self.excluded.iter();
        let (text, _) = all.find(|(_, nodes)| nodes.contains(node))?;
        Some(Eligibility::Excluded(text.clone()))
    }

    /// Whether this is said of a node.
    pub fn says(&self, node: usize, eligibility: &Eligibility) -> bool {
        match eligibility {
            Eligibility::Allowed => self.allowed.contains(node),
            Eligibility::Excluded(text) => {
                let mut all = self.excluded.iter();
                all.any(|(known, nodes)| known == text && nodes.contains(node))
            }
        }
    }

    /// Says something else of a node below [`Eligibilities::len`]; others are passed over.
    pub fn set(&mut self, node: usize, eligibility: Eligibility) {
        if node >= self.count {
            return;
        }
        self.allowed.set(node, false);
        for (_, nodes) in &mut self.excluded {
            nodes.set(node, false);
        }
        match eligibility {
            Eligibility::Allowed => self.allowed.set(node, true),
            Eligibility::Excluded(text) => self.exclude(node, text),
        }
        self.excluded.retain(|(_, nodes)| !nodes.is_empty());
    }

    /// Makes room for a new node at a position up to [`Eligibilities::len`]: those from there on move up
    /// by one.
    pub fn insert(&mut self, node: usize, eligibility: Eligibility) {
        self.allowed.insert(node, false);
        for (_, nodes) in &mut self.excluded {
            nodes.insert(node, false);
        }
        self.count = self.count.max(node) + 1;
        self.set(node, eligibility);
    }

    /// Closes the gap that a node leaves: those behind it move down by one.
    pub fn remove(&mut self, node: usize) {
        if node >= self.count {
            return;
        }
        self.count -= 1;
        self.allowed.remove(node);
        for (_, nodes) in &mut self.excluded {
            nodes.set(node, false);
            nodes.remove(node);
        }
        self.excluded.retain(|(_, nodes)| !nodes.is_empty());
    }

    fn exclude(&mut self, node: usize, text: Cow<'static, str>) {
        let known = self.excluded.iter_mut().find(|(known, _)| *known == text);
        if let Some((_, nodes)) = known {
            nodes.set(node, true);
            return;
        }
        let mut nodes = NodeSet::default();
        nodes.set(node, true);
        self.excluded.push((text, nodes));
    }
}

impl FromIterator<Eligibility> for Eligibilities {
    fn from_iter<T: IntoIterator<Item = Eligibility>>(all: T) -> Self {
        let mut new = Self::default();
        for eligibility in all {
            let node = new.count;
            new.count += 1;
            match eligibility {
                Eligibility::Allowed => new.allowed.set(node, true),
                Eligibility::Excluded(text) => new.exclude(node, text),
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_eligibility() -> impl Strategy<Value = Eligibility> {
        prop_oneof![
            Just(Eligibility::Allowed),
            Just(Eligibility::Excluded("cordoned".into())),
            Just(Eligibility::Excluded("set aside".into())),
        ]
    }

    proptest! {
        #[test]
        fn it_says_of_each_node_what_was_said_last(
            mut said in prop::collection::vec(any_eligibility(), 0..100),
            steps in prop::collection::vec((0u8..3, any_eligibility(), any::<prop::sample::Index>()), 0..20),
        ) {
            let mut all: Eligibilities = said.iter().cloned().collect();
            for (step, eligibility, at) in steps {
                if step == 0 {
                    let at = at.index(said.len() + 1);
                    all.insert(at, eligibility.clone());
                    said.insert(at, eligibility);
                } else if !said.is_empty() && step == 1 {
                    let at = at.index(said.len());
                    all.remove(at);
                    said.remove(at);
                } else if !said.is_empty() {
                    let at = at.index(said.len());
                    all.set(at, eligibility.clone());
                    said[at] = eligibility;
                }
                prop_assert_eq!(all.len(), said.len());
                let answers: Vec<_> = (0..all.len()).filter_map(|n| all.get(n)).collect();
                prop_assert_eq!(&answers, &said);
                prop_assert!(said.iter().enumerate().all(|(n, said)| all.says(n, said)));
                prop_assert!(all.excluded().all(|(_, nodes)| !nodes.is_empty()));
                prop_assert_eq!(all.get(said.len()), None);
            }
        }
    }
}
