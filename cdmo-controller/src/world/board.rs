//! The planner's input, kept up to date node by node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use planner::{Eligibilities, Eligibility, Node, NodeSet, Planner, Usage, Wants};
use tokio::time::Instant;

use super::kinds::{Devices, KindId, Kinds};
use crate::{
    constraints::Constraints,
    nodes::{NodeIndex, NodeRow},
    pods::PodIndex,
    requests::Amounts,
    snapshot::GpuRow,
    view::Marks,
};

/// How long a report is taken for out of date at most, should no newer one come.
const OUTDATED: Duration = Duration::from_secs(2);
/// First rest of a GPU after a failure; doubles up to [`LONGEST_REST`].
const REST: Duration = Duration::from_secs(1);
/// Longest rest of a GPU; a failure so long after the last rest is a first one again.
pub(super) const LONGEST_REST: Duration = Duration::from_mins(5);
/// Longest rest of a GPU whose plan was called off for a pod's sake: nothing is wrong with it.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What passes rest on.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Nodes sorted by name.
    pub(super) planner: Planner,
    /// What each of them has to give, in the same order.
    offers: Vec<Offer>,
    pub(super) kinds: Kinds,
    /// Nodes on which devices are reserved.
    reserved: NodeSet,
    pub(super) stale: BTreeSet<String>,
    /// Versions of GPU states that are known to be out of date, and until when that is believed.
    outdated: HashMap<String, (u64, Instant)>,
    /// GPUs left alone.
    resting: HashMap<String, Rest>,
}

/// What a node has to give.
#[derive(Debug, Default)]
struct Offer {
    /// Free devices as both the agent and the node's status show them: what the scheduler may give.
    free: Devices,
    /// Idle instances, by the resource they are offered under.
    idle: Devices,
}

/// A GPU is left alone.
#[derive(Debug)]
pub(super) struct Rest {
    /// Until when.
    pub(super) until: Instant,
    /// How often it failed in a row.
    pub(super) failures: u32,
    /// How it failed last.
    pub(super) why: Box<str>,
}

impl Marks for Board {
    fn is_outdated(&self, gpu: &GpuRow, now: Instant) -> bool {
        self.outdated
            .get(&gpu.uuid)
            .is_some_and(|(version, until)| gpu.version <= *version && now < *until)
    }

    fn is_resting(&self, gpu: &str, now: Instant) -> bool {
        self.resting_for(gpu, now).is_some()
    }
}

impl Board {
    pub(super) fn new(idle: planner::Idle) -> Self {
        Self {
            planner: Planner::new(idle),
            ..Self::default()
        }
    }

    /// The node must be looked at before the next pass.
    pub(super) fn mark_stale(&mut self, node: &str) {
        if !self.stale.contains(node) {
            self.stale.insert(node.to_owned());
        }
    }

    /// The GPU's state has moved beyond this version; returns until when that is believed.
    pub(super) fn outdate(&mut self, gpu: &str, version: u64, now: Instant) -> Instant {
        let until = now + OUTDATED;
        self.outdated.insert(gpu.to_owned(), (version, until));
        until
    }

    /// A report of this version came.
    pub(super) fn reported(&mut self, gpu: &str, version: u64) {
        if self
            .outdated
            .get(gpu)
            .is_some_and(|(old, _)| version > *old)
        {
            self.outdated.remove(gpu);
        }
    }

    /// Leaves a GPU alone after a failure, for `longest` at most; returns until when.
    pub(super) fn rest(
        &mut self,
        gpu: &str,
        longest: Duration,
        why: &str,
        now: Instant,
    ) -> Instant {
        let known = self.resting.get(gpu);
        let failures = known
            .filter(|rest| now < rest.until + LONGEST_REST)
            .map_or(0, |rest| rest.failures);
        let until = now + (REST * 2u32.pow(failures.min(9))).min(longest);
        let rest = Rest {
            until,
            failures: failures + 1,
            why: why.into(),
        };
        self.resting.insert(gpu.to_owned(), rest);
        until
    }

    /// Why a GPU is left alone now, if it is.
    pub(super) fn resting_for(&self, gpu: &str, now: Instant) -> Option<&Rest> {
        self.resting.get(gpu).filter(|rest| now < rest.until)
    }

    /// The GPU works.
    pub(super) fn forgive(&mut self, gpu: &str) {
        self.resting.remove(gpu);
    }

    /// The name of a node by its position.
    pub(super) fn name(&self, at: usize) -> &str {
        self.planner.node(at).map_or("", |node| &node.name)
    }

    /// A node is seen like this now, or is none that can be planned for.
    pub(super) fn put(
        &mut self,
        name: &str,
        view: Option<Node>,
        nodes: &NodeIndex,
        pods: &PodIndex,
        now: Instant,
    ) {
        let at = match (self.planner.find(name), view) {
            (Ok(at), Some(mut view)) => {
                if let Some(known) = self.planner.node(at) {
                    view.reserved.clone_from(&known.reserved);
                }
                self.planner.replace(at, view);
                at
            }
            (Ok(at), None) => {
                self.planner.remove(at);
                self.offers.remove(at);
                self.kinds.remove(at);
                self.reserved.remove(at);
                return;
            }
            (Err(at), Some(view)) => {
                self.planner.insert(at, view);
                self.offers.insert(at, Offer::default());
                self.kinds.insert(at);
                self.reserved.insert(at, false);
                at
            }
            (Err(_), None) => return,
        };
        let Some(view) = self.planner.node(at) else {
            return;
        };
        let nothing = Amounts::new();
        let used = pods.load(name).map_or(&nothing, |load| &load.used);
        self.offers[at] = offer(view, nodes.get(name), used);
        let eligibility = |constraints: &Constraints| eligibility(constraints, view, nodes, pods);
        let free = &self.offers[at].free;
        self.kinds.change(at, free, eligibility, now);
    }

    /// The kind of pods that ask for this under these constraints.
    pub(super) fn kind(
        &mut self,
        wants: &Arc<Wants>,
        constraints: &Arc<Constraints>,
        nodes: &NodeIndex,
        pods: &PodIndex,
    ) -> KindId {
        let free = self.offers.iter().map(|offer| &offer.free);
        let planner = &self.planner;
        let eligible = |constraints: &Constraints| eligible(planner, constraints, nodes, pods);
        self.kinds.kind(wants, constraints, free, eligible)
    }

    /// Where pods could run under these constraints.
    pub(super) fn eligible(
        &self,
        constraints: &Constraints,
        nodes: &NodeIndex,
        pods: &PodIndex,
    ) -> Eligibilities {
        eligible(&self.planner, constraints, nodes, pods)
    }

    /// Keeps idle devices that the scheduler may be giving to a waiting pod at this moment from
    /// being given up: the pod may sit between the scheduler's choice and its binding for long, and
    /// would fail on a node that lost the device. `more` are nodes with what single pods may be getting there.
    pub(super) fn protect(&mut self, more: &[(usize, Arc<Wants>)]) {
        let mut needed = Needed::new(self.offers.len());
        for (pods, wants, ready) in self.kinds.counted() {
            for (resource, count) in wants {
                let resource = needed.number(resource);
                let count = count.saturating_mul(pods);
                ready.iter().for_each(|at| needed.add(at, resource, count));
            }
        }
        for (at, wants) in more {
            for (resource, count) in wants.iter() {
                let resource = needed.number(resource);
                needed.add(*at, resource, *count);
            }
        }
        for (at, offer) in self.offers.iter().enumerate() {
            // More than there are makes no difference, and the scheduler gives none that it is not shown.
            let least = |(resource, count): (&str, u32)| {
                let (idle, free) = (offer.idle.get(resource)?, offer.free.get(resource)?);
                Some((resource.to_owned(), count.min(*idle).min(*free)))
            };
            let new: BTreeMap<_, _> = needed.of(at).filter_map(least).collect();
            if new.is_empty() && !self.reserved.contains(at) {
                continue;
            }
            self.reserved.set(at, !new.is_empty());
            self.planner.reserve(at, new);
        }
    }
}

/// Devices that pods may be getting, by node and resource.
struct Needed<'a> {
    resources: Vec<&'a str>,
    /// By resource, then node.
    counts: Vec<Vec<u32>>,
    nodes: usize,
}

impl<'a> Needed<'a> {
    fn new(nodes: usize) -> Self {
        Self {
            resources: Vec::new(),
            counts: Vec::new(),
            nodes,
        }
    }

    fn number(&mut self, resource: &'a str) -> usize {
        let mut known = self.resources.iter();
        known
            .position(|known| *known == resource)
            .unwrap_or_else(|| {
                self.resources.push(resource);
                self.counts.push(vec![0; self.nodes]);
                self.resources.len() - 1
            })
    }

    fn add(&mut self, node: usize, resource: usize, count: u32) {
        if let Some(sum) = self.counts[resource].get_mut(node) {
            *sum = sum.saturating_add(count);
        }
    }

    fn of(&self, node: usize) -> impl Iterator<Item = (&'a str, u32)> {
        let all = self.resources.iter().zip(&self.counts);
        all.map(move |(resource, counts)| (*resource, counts[node]))
            .filter(|(_, count)| *count > 0)
    }
}

fn offer(node: &Node, row: Option<&NodeRow>, used: &Amounts) -> Offer {
    let mut idle = Devices::new();
    for instance in node.gpus.iter().flat_map(|gpu| &gpu.instances) {
        if let (Usage::Idle, Some(resource)) = (instance.usage, &instance.resource) {
            match idle.get_mut(&**resource) {
                Some(count) => *count += 1,
                None => {
                    idle.insert(resource.to_string(), 1);
                }
            }
        }
    }
    let Some(row) = row else {
        let free = Devices::new();
        return Offer { free, idle };
    };
    let mut free = node.fixed.clone();
    for (resource, count) in &idle {
        *free.entry(resource.clone()).or_default() += count;
    }
    let amount = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(0);
    free.retain(|resource, count| {
        let claimed = node.claimed.get(resource).copied().unwrap_or(0);
        let shown = amount(&row.allocatable, resource) - amount(used, resource);
        *count = count
            .saturating_sub(claimed)
            .min(u32::try_from(shown).unwrap_or(0));
        *count > 0
    });
    Offer { free, idle }
}

fn eligible(
    planner: &Planner,
    constraints: &Constraints,
    nodes: &NodeIndex,
    pods: &PodIndex,
) -> Eligibilities {
    planner
        .nodes()
        .map(|view| eligibility(constraints, view, nodes, pods))
        .collect()
}

fn eligibility(
    constraints: &Constraints,
    node: &Node,
    nodes: &NodeIndex,
    pods: &PodIndex,
) -> Eligibility {
    let Some(row) = nodes.get(&node.name) else {
        return Eligibility::Excluded("gone".into());
    };
    if row.managed && node.gpus.is_empty() && node.fixed.is_empty() {
        return Eligibility::Excluded("nothing is known of its GPUs (yet)".into());
    }
    let nothing = Amounts::new();
    let used = pods.load(&node.name).map_or(&nothing, |load| &load.used);
    constraints.check(row, used)
}
