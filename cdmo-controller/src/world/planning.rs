//! One planning pass over the waiting pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use planner::{Cluster, Demand, Eligibility, Node, Outcome, Usage};
use tokio::time::Instant;

use super::{GATHER, World, alarms::Alarm, demand::Standing};
use crate::{
    constraints::Constraints,
    names::PodKey,
    requests::Amounts,
    snapshot::GpuRow,
    view::{self, Facts, Marks},
};

/// How long a report is taken for out of date at most, should no newer one come.
const OUTDATED: Duration = Duration::from_secs(2);
/// First rest of a GPU after a failure; doubles up to [`LONGEST_REST`].
const REST: Duration = Duration::from_secs(1);
/// Longest rest of a GPU; a failure so long after the last rest is a first one again.
pub(super) const LONGEST_REST: Duration = Duration::from_mins(5);
/// Longest rest of a GPU whose plan was called off for a pod's sake: nothing is wrong with it.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The planner's input, kept up to date node by node.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Sorted by name.
    pub(super) cluster: Cluster,
    stale: BTreeSet<String>,
    /// Versions of GPU states that are known to be out of date, and until when that is believed.
    outdated: HashMap<String, (u64, Instant)>,
    /// GPUs left alone.
    resting: HashMap<String, Rest>,
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
    /// The node must be looked at before the next pass.
    pub(super) fn mark_stale(&mut self, node: &str) {
        self.stale.insert(node.to_owned());
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

    fn put(&mut self, name: &str, node: Option<Node>) {
        let nodes = &mut self.cluster.nodes;
        match (
            nodes.binary_search_by(|known| known.name.as_str().cmp(name)),
            node,
        ) {
            (Ok(at), Some(node)) => nodes[at] = node,
            (Ok(at), None) => {
                nodes.remove(at);
            }
            (Err(at), Some(node)) => nodes.insert(at, node),
            (Err(_), None) => {}
        }
    }
}

/// Free devices by resource, for nodes that have any (by position in the cluster).
type Free = Vec<(usize, BTreeMap<String, u32>)>;

/// A waiting pod in a pass.
struct Candidate {
    key: PodKey,
    demand: Demand,
    /// Nodes whose free devices cover it.
    ready_on: Vec<usize>,
    /// Nodes set aside whose free devices it may be about to get all the same.
    guarded: Vec<usize>,
}

impl World {
    /// Looks at every waiting pod once, and begins to carry out what was planned.
    pub(super) fn plan(&mut self, now: Instant) {
        if !self.is_synced() || !(self.agents.is_settled() || now >= self.started + GATHER) {
            return;
        }
        self.forget_demands();
        self.refresh_board(now);
        let candidates = self.candidates(now);
        self.protect(&candidates);
        let (demands, rest): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .map(|candidate| (candidate.demand, (candidate.key, candidate.ready_on)))
            .unzip();
        let outcomes = planner::plan(&self.board.cluster, &demands);
        let served: HashSet<PodKey> = self
            .operations
            .values()
            .map(|operation| operation.pod.0.clone())
            .collect();
        for ((key, ready_on), outcome) in rest.into_iter().zip(outcomes) {
            self.conclude(&key, &ready_on, served.contains(&key), outcome, now);
            self.tend_gate(&key, now);
        }
        self.count_demands();
    }

    fn conclude(
        &mut self,
        key: &PodKey,
        ready_on: &[usize],
        served: bool,
        outcome: Outcome,
        now: Instant,
    ) {
        let name = |node: usize| {
            self.board
                .cluster
                .nodes
                .get(node)
                .map(|node| node.name.clone())
        };
        match outcome {
            Outcome::Covered { node } | Outcome::Wait { node } if ready_on.contains(&node) => {
                let Some(node) = name(node) else { return };
                self.cover(key, &node, served);
            }
            // Free for the agent, but the node's status does not show it yet.
            Outcome::Covered { .. } | Outcome::Wait { .. } => {
                let standing = if served {
                    Standing::Planned
                } else {
                    Standing::Waiting
                };
                self.stand(key, standing);
            }
            Outcome::Plan(plan) => {
                let Some(node) = name(plan.node) else { return };
                self.stand(key, Standing::Planned);
                self.begin(&node, plan, key, now);
            }
            Outcome::Refused(refusal) => self.refuse(key, refusal, now),
        }
    }

    pub(super) fn stand(&mut self, key: &PodKey, standing: Standing) {
        if let Some(demand) = self.demands.get_mut(key) {
            demand.standing = standing;
        }
    }

    /// Brings the planner's input up to date.
    pub(super) fn refresh_board(&mut self, now: Instant) {
        let stale = std::mem::take(&mut self.board.stale);
        for name in stale {
            let view = self.view_of(&name, now);
            self.board.put(&name, view);
        }
    }

    fn view_of(&self, name: &str, now: Instant) -> Option<Node> {
        let row = self.nodes.get(name)?;
        let agent = self.agents.get(name);
        if !row.managed && agent.is_none() && !row.offers_devices() {
            return None;
        }
        let operations: Vec<_> = self
            .operations
            .values()
            .filter(|o| o.node == name)
            .collect();
        let bound: Vec<_> = self.pods.bound(name).collect();
        let load = self.pods.load(name);
        let facts = Facts {
            row,
            load,
            agent,
            operations: &operations,
            bound: &bound,
            now,
        };
        Some(view::node(&facts, &self.board))
    }

    fn candidates(&mut self, now: Instant) -> Vec<Candidate> {
        let free = self.free_devices();
        let mut known: HashMap<*const Constraints, Arc<[Eligibility]>> = HashMap::new();
        let mut candidates = Vec::new();
        let pending: Vec<_> = self.pods.pending().map(|(key, _)| key.clone()).collect();
        for key in pending {
            let (Some(row), Some(state)) = (self.pods.get(&key), self.demands.get_mut(&key)) else {
                continue;
            };
            let nodes = known
                .entry(Arc::as_ptr(&row.constraints))
                .or_insert_with(|| {
                    let nodes = self.board.cluster.nodes.iter();
                    nodes
                        .map(|node| eligibility(&row.constraints, node, &self.nodes, &self.pods))
                        .collect()
                });
            let mut nodes = Arc::clone(nodes);
            let names = &self.board.cluster.nodes;
            let ready: Vec<usize> = free
                .iter()
                .filter(|(at, free)| {
                    nodes.get(*at) == Some(&Eligibility::Allowed)
                        && !state.aside.contains(&names[*at].name, now)
                        && covers(free, &row.wants)
                })
                .map(|(at, _)| *at)
                .collect();
            for name in state
                .aside
                .review(ready.iter().map(|at| names[*at].name.as_str()), now)
            {
                tracing::info!(pod = %key, node = name, "devices lie ready, but the pod is not bound; setting the node aside");
            }
            let may_come = |at: &usize| {
                row.constraints.binds_slowly && state.aside.may_be_bound_to(&names[*at].name, now)
            };
            let guarded = free
                .iter()
                .filter(|(_, free)| covers(free, &row.wants))
                .map(|(at, _)| *at)
                .filter(may_come)
                .collect();
            if let Some(at) = state.aside.wake_at(now) {
                self.alarms.set(at, Alarm::Plan);
                nodes = set_aside(&nodes, names, |name| state.aside.contains(name, now));
            }
            let ready_on: Vec<usize> = ready
                .into_iter()
                .filter(|at| nodes.get(*at) == Some(&Eligibility::Allowed))
                .collect();
            let demand = Demand {
                id: String::new(),
                priority: row.priority,
                created: row.age,
                wants: row.wants.clone(),
                nodes,
            };
            candidates.push(Candidate {
                key,
                demand,
                ready_on,
                guarded,
            });
        }
        candidates
    }

    /// Free devices as both the agent and the node's status show them: what the scheduler may give.
    fn free_devices(&self) -> Free {
        let mut all = Free::new();
        for (at, node) in self.board.cluster.nodes.iter().enumerate() {
            let Some(row) = self.nodes.get(&node.name) else {
                continue;
            };
            let mut free = node.fixed.clone();
            for instance in node.gpus.iter().flat_map(|gpu| &gpu.instances) {
                if let (Usage::Idle, Some(resource)) = (instance.usage, &instance.resource) {
                    *free.entry(resource.clone()).or_default() += 1;
                }
            }
            let used = self.pods.load(&node.name).map(|load| &load.used);
            let amount = |amounts: Option<&Amounts>, name: &str| {
                amounts.and_then(|a| a.get(name)).copied().unwrap_or(0)
            };
            free.retain(|resource, count| {
                let claimed = node.claimed.get(resource).copied().unwrap_or(0);
                let shown = amount(Some(&row.allocatable), resource) - amount(used, resource);
                *count = count
                    .saturating_sub(claimed)
                    .min(u32::try_from(shown).unwrap_or(0));
                *count > 0
            });
            if !free.is_empty() {
                all.push((at, free));
            }
        }
        all
    }

    /// Keeps idle devices that the scheduler may be giving to a waiting pod at this moment from
    /// being given up: the pod may sit between the scheduler's choice and its binding for long, and
    /// would fail on a node that lost the device.
    fn protect(&mut self, candidates: &[Candidate]) {
        let mut needed: BTreeMap<(usize, &str), u32> = BTreeMap::new();
        for candidate in candidates {
            for at in candidate.ready_on.iter().chain(&candidate.guarded) {
                for (resource, count) in &candidate.demand.wants {
                    let sum = needed.entry((*at, resource)).or_default();
                    *sum = sum.saturating_add(*count);
                }
            }
        }
        for ((at, resource), mut count) in needed {
            let node = &mut self.board.cluster.nodes[at];
            self.board.stale.insert(node.name.clone());
            // Those that bound pods are about to get come on top.
            count = count.saturating_add(node.claimed.get(resource).copied().unwrap_or(0));
            for instance in node.gpus.iter_mut().flat_map(|gpu| &mut gpu.instances) {
                let idle = instance.usage == Usage::Idle;
                if count > 0 && idle && instance.resource.as_deref() == Some(resource) {
                    instance.usage = Usage::Arriving;
                    count -= 1;
                }
            }
        }
    }
}

fn covers(free: &BTreeMap<String, u32>, wants: &BTreeMap<String, u32>) -> bool {
    wants
        .iter()
        .all(|(resource, count)| free.get(resource).is_some_and(|have| have >= count))
}

pub(super) fn eligibility(
    constraints: &Constraints,
    node: &Node,
    nodes: &crate::nodes::NodeIndex,
    pods: &crate::pods::PodIndex,
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

fn set_aside(
    nodes: &Arc<[Eligibility]>,
    names: &[Node],
    is_aside: impl Fn(&str) -> bool,
) -> Arc<[Eligibility]> {
    let aside = || Eligibility::Excluded("set aside, the pod was not bound there in time".into());
    nodes
        .iter()
        .zip(names)
        .map(|(known, node)| {
            if is_aside(&node.name) {
                aside()
            } else {
                known.clone()
            }
        })
        .collect()
}
