//! The cluster's pods in compact rows.
//!
//! Pods that ask for our devices are kept in full, bound or not. Of all other bound pods only their
//! requests are kept, because a plan must not count on CPU that is taken, and their uids: an agent
//! takes processes of a pod that the API does not know for those of a pod deleted by force, which may
//! still use a device. Both kinds stay until the API forgets them, for containers may outlive a
//! terminal phase. Everything else is dropped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cdmo_proto::agent;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use planner::{Group, Wants};

use crate::{
    constraints::Constraints,
    groups::{self, Groups, Tag},
    interner::Interner,
    names::{PodKey, SCHEDULING_GATE},
    objects::{ContainerLite, PodLite, PodSpec},
    relist::Relist,
    requests::{self, Amounts},
};

/// Sightings that are told apart within a second of creation.
const AGE_GRAIN: i64 = 1_000_000_000;

/// A pod that asks for our devices.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PodRow {
    /// Kubernetes' uid.
    pub uid: String,
    /// The node it is bound to.
    pub node: Option<Arc<str>>,
    /// Phase Succeeded or Failed.
    pub terminal: bool,
    /// Phase Succeeded.
    pub succeeded: bool,
    /// Has a deletion timestamp.
    pub deleting: bool,
    /// The group that it starts with.
    pub group: Option<Arc<Tag>>,
    /// A scheduling gate other than ours holds it back.
    pub gated: bool,
    /// Which of its scheduling gates is ours, if it has it.
    pub gate: Option<usize>,
    /// Priority; higher goes first.
    pub priority: i32,
    /// Orders pods by age: creation time, and within its one-second grain the order of sighting.
    pub age: i64,
    /// When it was bound, in seconds since the Unix epoch; 0 while it is not.
    pub started: i64,
    /// Devices by resource name.
    pub wants: Arc<Wants>,
    /// The containers that ask for them.
    pub containers: Arc<Vec<agent::Container>>,
    /// What else it demands of its node.
    pub constraints: Arc<Constraints>,
}

impl PodRow {
    /// Whether it waits for devices and nothing that we cannot provide holds it back.
    pub fn is_pending(&self) -> bool {
        self.node.is_none() && !self.terminal && !self.deleting && !self.gated
    }

    /// When it was created, to the second.
    pub fn created(&self) -> Timestamp {
        Timestamp::from_second(self.age.div_euclid(AGE_GRAIN)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The row as agents are told of it.
    pub fn to_proto(&self, key: &PodKey) -> agent::Pod {
        agent::Pod {
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            uid: self.uid.clone(),
            terminal: self.terminal,
            deleting: self.deleting,
            containers: self.containers.as_ref().clone(),
        }
    }
}

/// What one pod adds to its node.
#[derive(Clone, Debug, PartialEq)]
struct Load {
    node: Arc<str>,
    requests: Arc<Amounts>,
}

/// A bound pod that asks for no device of ours.
#[derive(Clone, Debug, PartialEq)]
struct Bystander {
    node: Arc<str>,
    uid: Box<str>,
    terminal: bool,
    deleting: bool,
}

impl Bystander {
    fn to_proto(&self, key: &PodKey) -> agent::Pod {
        agent::Pod {
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            uid: self.uid.to_string(),
            terminal: self.terminal,
            deleting: self.deleting,
            containers: Vec::new(),
        }
    }
}

/// What the bound pods of one node add up to.
#[derive(Debug, Default)]
pub struct NodeLoad {
    /// Requests of all non-terminal pods, `pods` among them.
    pub used: Amounts,
    /// The bound pods that ask for our devices, terminal ones included.
    pub asking: BTreeSet<PodKey>,
    /// All other bound pods.
    pub bystanders: BTreeSet<PodKey>,
}

/// What an event changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Nodes on which something changed that plans depend on.
    pub nodes: BTreeSet<Arc<str>>,
    /// Nodes whose table of pods changed.
    pub tables: BTreeSet<Arc<str>>,
    /// Whether the set of waiting pods or anything about them changed.
    pub pending: bool,
}

/// All pods.
#[derive(Debug, Default)]
pub struct PodIndex {
    /// Pods that wait for devices, in the order in which passes look at them.
    pending: BTreeMap<PodKey, PodRow>,
    /// All others that ask for some.
    asking: HashMap<PodKey, PodRow>,
    groups: Groups,
    loads: HashMap<PodKey, Load>,
    bystanders: HashMap<PodKey, Bystander>,
    nodes: HashMap<Arc<str>, NodeLoad>,
    wants: Interner<Wants>,
    amounts: Interner<Amounts>,
    constraints: Interner<Constraints>,
    containers: Interner<Vec<agent::Container>>,
    relist: Relist<PodKey>,
    sightings: i64,
}

impl PodIndex {
    /// Takes in what the watch says.
    pub fn apply(&mut self, event: Event<PodLite>) -> Changed {
        let mut changed = Changed::default();
        match event {
            Event::Apply(pod) => self.put(pod, &mut changed),
            Event::InitApply(pod) => {
                self.relist.saw(key_of(&pod));
                self.put(pod, &mut changed);
            }
            Event::Delete(pod) => self.remove(&key_of(&pod), &mut changed),
            Event::Init => self.relist.begin(),
            Event::InitDone => {
                let asking = self.pending.keys().chain(self.asking.keys());
                let known = asking.chain(self.bystanders.keys()).cloned();
                for key in self.relist.finish(known) {
                    self.remove(&key, &mut changed);
                }
                self.wants.sweep();
                self.amounts.sweep();
                self.constraints.sweep();
                self.containers.sweep();
                changed.pending = true;
            }
        }
        changed
    }

    /// A pod that asks for our devices.
    pub fn get(&self, key: &PodKey) -> Option<&PodRow> {
        self.asking.get(key).or_else(|| self.pending.get(key))
    }

    /// Pods that wait for devices, by their keys.
    pub fn pending(&self) -> impl Iterator<Item = (&PodKey, &PodRow)> {
        self.pending.iter()
    }

    /// A pod that waits for devices, with its key as it is kept here.
    pub fn waiting(&self, key: &PodKey) -> Option<(&PodKey, &PodRow)> {
        self.pending.get_key_value(key)
    }

    /// The group of a pod, assembled once for all pods that share `known`.
    pub fn group(
        &self,
        row: &PodRow,
        known: &mut HashMap<Arc<str>, Arc<Group>>,
    ) -> Option<Arc<Group>> {
        let tag = row.group.as_ref()?;
        let group = known.entry(Arc::clone(&tag.key)).or_insert_with(|| {
            let members = self.groups.members(&tag.key);
            let rows = members.filter_map(|member| self.get(member));
            Arc::new(groups::assemble(tag, rows))
        });
        Some(Arc::clone(group))
    }

    /// What a node's bound pods add up to.
    pub fn load(&self, node: &str) -> Option<&NodeLoad> {
        self.nodes.get(node)
    }

    /// The bound pods of a node that ask for our devices, terminal ones included.
    pub fn bound(&self, node: &str) -> impl Iterator<Item = (&PodKey, &PodRow)> {
        let keys = self
            .nodes
            .get(node)
            .into_iter()
            .flat_map(|load| &load.asking);
        keys.filter_map(|key| Some((key, self.get(key)?)))
    }

    /// All pods bound to a node, as its agent is told of them, with `more` among them.
    pub fn table(&self, node: &str, more: &[(PodKey, PodRow)]) -> Vec<agent::Pod> {
        let mut rows: BTreeMap<&PodKey, agent::Pod> = self
            .bound(node)
            .map(|(key, row)| (key, row.to_proto(key)))
            .collect();
        let load = self.nodes.get(node).into_iter();
        for key in load.flat_map(|load| &load.bystanders) {
            if let Some(pod) = self.bystanders.get(key) {
                rows.insert(key, pod.to_proto(key));
            }
        }
        for (key, row) in more {
            rows.entry(key).or_insert_with(|| row.to_proto(key));
        }
        rows.into_values().collect()
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.relist.is_synced()
    }

    /// The row of a pod that asks for our devices; `None` for any other.
    pub fn row_of(&mut self, pod: &PodLite, total: &Amounts) -> Option<PodRow> {
        let wants: Wants = total
            .iter()
            .filter(|(name, _)| requests::is_ours(name))
            .map(|(name, count)| (name.clone(), u32::try_from(*count).unwrap_or(u32::MAX)))
            .collect();
        let node: Option<Arc<str>> = node_of(pod).map(Arc::from);
        let terminal = is_terminal(pod);
        if wants.is_empty() || (terminal && node.is_none()) {
            return None;
        }
        let known = self
            .get(&key_of(pod))
            .filter(|row| Some(&row.uid) == pod.metadata.uid.as_ref());
        let age = known.map(|row| row.age);
        let created = pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        self.sightings += 1;
        Some(PodRow {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            terminal,
            succeeded: pod.status.phase == "Succeeded",
            deleting: pod.metadata.deletion_timestamp.is_some(),
            group: tag_of(pod).map(Arc::new),
            gated: pod
                .spec
                .scheduling_gates
                .iter()
                .any(|gate| gate.name != SCHEDULING_GATE),
            gate: gate(&pod.spec),
            priority: pod.spec.priority.unwrap_or(0),
            age: age.unwrap_or_else(|| {
                created.as_second().saturating_mul(AGE_GRAIN) + self.sightings % AGE_GRAIN
            }),
            started: node.as_ref().map_or(0, |_| {
                let bound = pod.status.scheduled_at.as_ref();
                bound.map_or(created, |time| time.0).as_second()
            }),
            node,
            wants: self.wants.intern(wants),
            containers: self.containers.intern(asking_containers(&pod.spec)),
            constraints: self.constraints.intern(Constraints::of(&pod.spec, total)),
        })
    }

    fn put(&mut self, pod: PodLite, changed: &mut Changed) {
        let key = key_of(&pod);
        let mut total = requests::of_pod(&pod.spec);
        let row = self.row_of(&pod, &total);
        let node: Option<Arc<str>> = node_of(&pod).map(Arc::from);
        let terminal = is_terminal(&pod);
        let bystander = node
            .clone()
            .filter(|_| row.is_none())
            .map(|node| Bystander {
                node,
                uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
                terminal,
                deleting: pod.metadata.deletion_timestamp.is_some(),
            });
        let load = node.filter(|_| !terminal).map(|node| {
            total.insert("pods".to_owned(), 1);
            Load {
                node,
                requests: self.amounts.intern(total),
            }
        });
        drop(pod);
        self.put_load(&key, load, changed);
        self.put_bystander(&key, bystander, changed);
        self.put_row(&key, row, changed);
    }

    fn remove(&mut self, key: &PodKey, changed: &mut Changed) {
        self.put_load(key, None, changed);
        self.put_bystander(key, None, changed);
        self.put_row(key, None, changed);
    }

    fn put_bystander(&mut self, key: &PodKey, pod: Option<Bystander>, changed: &mut Changed) {
        if self.bystanders.get(key) == pod.as_ref() {
            return;
        }
        if let Some(old) = self.bystanders.remove(key) {
            if let Some(load) = self.nodes.get_mut(&old.node) {
                load.bystanders.remove(key);
            }
            self.drop_if_empty(&old.node);
            changed.tables.insert(old.node);
        }
        if let Some(new) = pod {
            let load = self.nodes.entry(Arc::clone(&new.node)).or_default();
            load.bystanders.insert(key.clone());
            changed.tables.insert(Arc::clone(&new.node));
            self.bystanders.insert(key.clone(), new);
        }
    }

    fn put_load(&mut self, key: &PodKey, load: Option<Load>, changed: &mut Changed) {
        if self.loads.get(key) == load.as_ref() {
            return;
        }
        if let Some(old) = self.loads.remove(key) {
            self.charge(&old, -1);
            changed.nodes.insert(old.node);
        }
        if let Some(new) = load {
            self.charge(&new, 1);
            changed.nodes.insert(Arc::clone(&new.node));
            self.loads.insert(key.clone(), new);
        }
    }

    fn charge(&mut self, load: &Load, sign: i64) {
        let node = self.nodes.entry(Arc::clone(&load.node)).or_default();
        for (name, amount) in load.requests.iter() {
            let used = node.used.entry(name.clone()).or_default();
            *used = used.saturating_add(amount.saturating_mul(sign));
        }
        node.used.retain(|_, used| *used != 0);
        self.drop_if_empty(&load.node);
    }

    fn drop_if_empty(&mut self, node: &str) {
        let empty = |load: &NodeLoad| {
            load.used.is_empty() && load.asking.is_empty() && load.bystanders.is_empty()
        };
        if self.nodes.get(node).is_some_and(empty) {
            self.nodes.remove(node);
        }
    }

    fn put_row(&mut self, key: &PodKey, row: Option<PodRow>, changed: &mut Changed) {
        if self.get(key) == row.as_ref() {
            return;
        }
        let waited = self.pending.remove(key);
        changed.pending |= waited.is_some();
        let old = waited.or_else(|| self.asking.remove(key));
        if let Some(tag) = old.as_ref().and_then(|old| old.group.as_ref()) {
            self.groups.remove(tag, key);
            changed.pending = true;
        }
        if let Some(node) = old.and_then(|old| old.node) {
            if let Some(load) = self.nodes.get_mut(&node) {
                load.asking.remove(key);
            }
            self.drop_if_empty(&node);
            changed.tables.insert(Arc::clone(&node));
            changed.nodes.insert(node);
        }
        if let Some(row) = row {
            if let Some(tag) = &row.group {
                self.groups.insert(tag, key);
                changed.pending = true;
            }
            if let Some(node) = &row.node {
                self.nodes
                    .entry(Arc::clone(node))
                    .or_default()
                    .asking
                    .insert(key.clone());
                changed.tables.insert(Arc::clone(node));
                changed.nodes.insert(Arc::clone(node));
            }
            if row.is_pending() {
                self.pending.insert(key.clone(), row);
                changed.pending = true;
            } else {
                self.asking.insert(key.clone(), row);
            }
        }
    }
}

/// The pod's key.
pub fn key_of(pod: &PodLite) -> PodKey {
    PodKey::new(
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

fn tag_of(pod: &PodLite) -> Option<Tag> {
    let metadata = &pod.metadata;
    Tag::of(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.annotations.as_ref()?,
        metadata.owner_references.as_deref().unwrap_or_default(),
    )
}

fn node_of(pod: &PodLite) -> Option<&str> {
    pod.spec
        .node_name
        .as_deref()
        .filter(|node| !node.is_empty())
}

/// Which of a pod's scheduling gates is ours, if it has it.
pub fn gate(spec: &PodSpec) -> Option<usize> {
    let mut gates = spec.scheduling_gates.iter();
    gates.position(|gate| gate.name == SCHEDULING_GATE)
}

/// Whether a pod has ended.
pub fn is_terminal(pod: &PodLite) -> bool {
    pod.status.phase == "Succeeded" || pod.status.phase == "Failed"
}

fn asking_containers(spec: &PodSpec) -> Vec<agent::Container> {
    let of = |container: &ContainerLite, ordinary_init: bool| agent::Container {
        name: container.name.clone(),
        ordinary_init,
        requests: requests::of_container(container)
            .into_iter()
            .filter(|(name, _)| requests::is_ours(name))
            .map(|(resource, count)| agent::ResourceCount {
                resource,
                count: u32::try_from(count).unwrap_or(u32::MAX),
            })
            .collect(),
    };
    let init = spec
        .init_containers
        .iter()
        .map(|c| of(c, !requests::is_sidecar(c)));
    let all = init.chain(spec.containers.iter().map(|c| of(c, false)));
    all.filter(|container| !container.requests.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
