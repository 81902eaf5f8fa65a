//! Who is in the way of a demand, in a few words for each class of nodes.
//!
//! This costs more than to find out that something is in the way, so it is done when somebody is to read it, and in
//! passes only to choose slices that are to be kept free. What a node's instances would cost is remembered until
//! something on the node changes. Who holds what is asked of the caller at the end: it decides about nothing, so GPUs
//! that differ in nothing else stay equal.

use std::collections::BTreeMap;

use mig::ProfileName;

use crate::{
    blockers::{Blocker, Blockers, Purpose, blockers},
    node_set::NodeSet,
    search::Goal,
    slot::Slot,
    state::{Gpu, Instance, Node, Usage},
    window::Window,
    work::{Want, WorkNode},
};

/// Pods that are named for a class of nodes; the others are counted.
const MOST_NAMES: usize = 2;
/// GPUs that are named for a class of nodes.
const MOST_GPUS: usize = 2;
/// Profiles of which idle instances are counted one by one.
const MOST_PROFILES: usize = 2;

/// How people call what is in the way.
pub trait Names {
    /// A GPU of a node, as its number on the node; it stands behind the word "GPU".
    fn gpu(&self, node: &Node, gpu: &Gpu) -> String;

    /// Who has an instance that is in use, as "namespace/pod"; nothing if that is not known, or not to be told.
    fn holder(&self, node: &Node, gpu: &Gpu, instance: &Instance) -> Option<String>;

    /// Whose slices are kept free under this name ([`crate::Ask::key`]), as "namespace/pod"; nothing if that is not to
    /// be told.
    fn waiting(&self, key: &str) -> Option<String>;
}

/// What is in the way of demands that ask for the same, on every node.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    /// Nodes by the price of what is in the way; a node where the demand does not fit for other reasons is in none.
    prices: BTreeMap<u32, NodeSet>,
    /// The same, where GPUs count that are away for a moment only.
    soon: BTreeMap<u32, NodeSet>,
    /// What was looked at: [`Slot::put`], by node.
    looked_at: Vec<u64>,
    /// The planner's count of changes then.
    version: u64,
}

impl Blocked {
    /// Forgets all, for nodes have other positions now.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks at the nodes that changed; `version` rises whenever one does.
    pub(crate) fn refresh(
        &mut self,
        slots: &mut [Slot],
        wants: &[Want],
        goal: &Goal,
        version: u64,
    ) {
        if std::mem::replace(&mut self.version, version) == version {
            return;
        }
        self.looked_at.resize(slots.len(), 0);
        for (at, (slot, seen)) in slots.iter_mut().zip(&mut self.looked_at).enumerate() {
            if std::mem::replace(seen, slot.put) == slot.put {
                continue;
            }
            for nodes in self.prices.values_mut().chain(self.soon.values_mut()) {
                nodes.set(at, false);
            }
            let work = slot.without_promises();
            let price = |purpose| {
                let found = blockers(&slot.node, &work, wants, goal, purpose);
                found.map(|found| found.price)
            };
            let now = price(Purpose::Words);
            let soon = match slot.node.soon_changeable[..] {
                [] => now,
                _ => price(Purpose::Order),
            };
            for (prices, price) in [(&mut self.prices, now), (&mut self.soon, soon)] {
                if let Some(price) = price {
                    prices.entry(price).or_default().set(at, true);
                }
            }
            if slot.idle.is_none() {
                slot.idle = Some(idle(&work));
            }
        }
        self.prices.retain(|_, nodes| !nodes.is_empty());
        self.soon.retain(|_, nodes| !nodes.is_empty());
    }

    /// Of these nodes those where something has to end, by how much that is; with GPUs that are away for a moment only.
    pub(crate) fn dear<'a>(
        &'a self,
        nodes: &'a NodeSet,
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        let dear = self.soon.iter().filter(|(price, _)| **price > 0);
        dear.flat_map(move |(price, known)| {
            let nodes = known.iter().filter(|at| nodes.contains(*at));
            nodes.map(move |at| (*price, at))
        })
    }

    /// A window on one of these nodes that has room enough.
    fn kept_for<'a>(
        &self,
        nodes: &NodeSet,
        slots: &[Slot],
        windows: &'a [Window],
    ) -> Option<&'a Window> {
        let free = self.prices.get(&0)?;
        windows.iter().find(|window| {
            let mut slots = slots.iter();
            let at = slots.position(|slot| slot.node.name == window.node);
            at.is_some_and(|at| nodes.contains(at) && free.contains(at))
        })
    }

    /// The words for the nodes of a class that are allowed; nothing if nobody's end would help.
    pub(crate) fn words(
        &self,
        nodes: &NodeSet,
        slots: &[Slot],
        (wants, goal): (&[Want], &Goal),
        (windows, names): (&[Window], &dyn Names),
    ) -> Option<String> {
        if let Some(window) = self.kept_for(nodes, slots, windows) {
            let pod = names.waiting(&window.key);
            let pod = pod.as_deref().unwrap_or("a pod that has waited longer");
            return Some(format!("what would do is kept free for {pod}"));
        }
        let mut dear = self.prices.iter().filter(|(price, _)| **price > 0);
        let Some(at) = dear.find_map(|(_, known)| known.first_common(nodes)) else {
            let (price, _) = self
                .prices
                .iter()
                .find(|(_, known)| known.first_common(nodes).is_some())?;
            return (*price == 0)
                .then(|| "what would do is promised to pods that come first".to_owned());
        };
        let slot = slots.get(at)?;
        let node = &slot.node;
        let work = slot.without_promises();
        let found = blockers(node, &work, wants, goal, Purpose::Words)?;
        let blocked = match nodes.len() {
            1 => "blocked by",
            _ => "blocked, least by",
        };
        let words = format!(
            "{}{blocked} {} on {}",
            what(node, &found, wants),
            holders(node, &found, names),
            place(node, &found, names)
        );
        let free = self.prices.get(&0);
        let full = nodes
            .iter()
            .filter(|at| free.is_none_or(|free| !free.contains(*at)));
        let idle = full.filter_map(|at| slots.get(at)?.idle.as_deref());
        Some(words + &useless(idle.flatten()))
    }
}

/// Idle instances of a node that could be given up, by profile.
fn idle(work: &WorkNode) -> Box<[(ProfileName, u32)]> {
    let mut counts: BTreeMap<ProfileName, u32> = BTreeMap::new();
    for board in work.boards.iter().filter(|board| board.changeable) {
        for instance in board.idle.iter().filter(|idle| !idle.arriving) {
            if let Some(profile) = board.model.profile(instance.profile) {
                *counts.entry(profile.name).or_default() += 1;
            }
        }
    }
    counts.into_iter().collect()
}

/// ", 1 idle 1g.5gb would not help".
fn useless<'a>(idle: impl Iterator<Item = &'a (ProfileName, u32)>) -> String {
    let mut counts: BTreeMap<ProfileName, u32> = BTreeMap::new();
    for (name, count) in idle {
        *counts.entry(*name).or_default() += count;
    }
    match counts.len() {
        0 => String::new(),
        1..=MOST_PROFILES => {
            let each = counts.iter().map(|(name, n)| format!("{n} idle {name}"));
            let each: Vec<_> = each.collect();
            format!(", {} would not help", each.join(" and "))
        }
        _ => {
            let sum: u32 = counts.values().sum();
            format!(", {sum} idle instances would not help")
        }
    }
}

/// "2x 3g.20gb ", or nothing for a demand of several things.
fn what(node: &Node, found: &Blockers, wants: &[Want]) -> String {
    let model = |blocker: &Blocker| node.gpus.get(blocker.gpu).map(|gpu| &gpu.model);
    let ([want], Some(model)) = (wants, found.all.first().and_then(model)) else {
        return String::new();
    };
    let profile = want.profile(model).and_then(|index| model.profile(index));
    match profile {
        Some(profile) if want.count == 1 => format!("{} ", profile.name),
        Some(profile) => format!("{}x {} ", want.count, profile.name),
        None => String::new(),
    }
}

/// "team-a/train-3 and 2 more".
fn holders(node: &Node, found: &Blockers, call: &dyn Names) -> String {
    let mut pods: Vec<String> = Vec::new();
    let (mut used, mut stuck) = (0, 0);
    for blocker in &found.all {
        let Some(gpu) = node.gpus.get(blocker.gpu) else {
            continue;
        };
        let Some(instance) = gpu.instances.get(blocker.instance) else {
            continue;
        };
        match call.holder(node, gpu, instance) {
            Some(name) if pods.contains(&name) => {}
            Some(name) => pods.push(name),
            None if instance.usage == Usage::Stuck => stuck += 1,
            None => used += 1,
        }
    }
    let more = (pods.len() + used + stuck).saturating_sub(pods.len().min(MOST_NAMES));
    pods.truncate(MOST_NAMES);
    match &pods[..] {
        [] => {
            let count = |n: usize, state: &str| match n {
                0 => None,
                1 => Some(format!("1 instance {state}")),
                _ => Some(format!("{n} instances {state}")),
            };
            let both = [count(used, "in use"), count(stuck, "out of service")];
            both.into_iter().flatten().collect::<Vec<_>>().join(" and ")
        }
        all if more == 0 => all.join(" and "),
        all => format!("{} and {more} more", all.join(", ")),
    }
}

/// "GPU 0 of node a".
fn place(node: &Node, found: &Blockers, names: &dyn Names) -> String {
    let mut gpus: Vec<usize> = found.all.iter().map(|blocker| blocker.gpu).collect();
    gpus.dedup();
    let gpu = match gpus.len() {
        0..=MOST_GPUS => {
            let each = gpus.iter().filter_map(|at| node.gpus.get(*at));
            let each: Vec<_> = each
                .map(|gpu| format!("GPU {}", names.gpu(node, gpu)))
                .collect();
            each.join(" and ")
        }
        count => format!("{count} GPUs"),
    };
    format!("{gpu} of node {}", node.name)
}
