//! Whether a pod fits a node, why not, and what is said of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::behaviour::Behaviour;
use crate::nodematch;
use crate::store::object;

use super::cache::{Cache, NodeChange, NodeInfo, pod_limit};
use super::pod::PodInfo;

/// Which check refused a pod, over all nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Resources, number of pods included.
    pub resources: bool,
    /// Node selector and node affinity.
    pub selector: bool,
    /// Taints, and nodes that take no pods.
    pub taints: bool,
}

impl Rejections {
    /// A change of a node is the business of a check that refused the pod.
    pub fn concerned_by(self, change: NodeChange) -> bool {
        (self.resources && change.allocatable)
            || (self.selector && change.labels)
            || (self.taints && change.taints)
            // A node that another check hid may now be one with room.
            || (self.resources && (change.labels || change.taints))
    }
}

/// Why a pod fits no node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfit {
    /// The checks that refused it.
    pub rejections: Rejections,
    reasons: BTreeMap<String, usize>,
    nodes: usize,
}

impl Unfit {
    /// The sentence that kube-scheduler writes onto the pod.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        format!(
            "0/{} nodes are available: {}.",
            self.nodes,
            parts.join(", ")
        )
    }
}

/// What was found unfit while nothing changed: pods of the same class need not be tried again.
#[derive(Debug, Default)]
pub struct Unfitness {
    version: u64,
    known: HashMap<Arc<str>, Unfit>,
}

impl Unfitness {
    /// [`choose`], but for pods whose like was just refused.
    pub fn choose<'a>(
        &mut self,
        behaviour: Behaviour,
        cache: &'a Cache,
        pod: &PodInfo,
    ) -> Result<&'a NodeInfo, Unfit> {
        if self.version != cache.version() {
            self.known.clear();
            self.version = cache.version();
        }
        if let Some(unfit) = self.known.get(&pod.class) {
            return Err(unfit.clone());
        }
        choose(behaviour, cache, pod).inspect_err(|unfit| {
            self.known.insert(pod.class.clone(), unfit.clone());
        })
    }
}

/// The pod's best node: it fits, most of its CPU and memory is left, first by name among equals.
pub fn choose<'a>(
    behaviour: Behaviour,
    cache: &'a Cache,
    pod: &PodInfo,
) -> Result<&'a NodeInfo, Unfit> {
    let mut unfit = Unfit::default();
    let mut best: Option<(i64, &NodeInfo)> = None;
    for node in cache.nodes() {
        unfit.nodes += 1;
        match check(behaviour, pod, node) {
            Ok(()) => {
                let score = node.score(&pod.requests);
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, node));
                }
            }
            Err(refusal) => refusal.count_into(&mut unfit),
        }
    }
    best.map(|(_, node)| node).ok_or(unfit)
}

/// Whether the pod fits one node. The checks go in kube-scheduler's order; the first that refuses
/// ends them.
pub fn check(behaviour: Behaviour, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let cordoned = node.node.pointer("/spec/unschedulable") == Some(&true.into());
    if cordoned && !nodematch::tolerates_cordon(&pod.object) {
        return Err(Refusal::Taints("node(s) were unschedulable".to_owned()));
    }
    let effects = ["NoSchedule", "NoExecute"];
    if let Some(taint) = nodematch::untolerated_taint(&pod.object, &node.node, &effects) {
        let (key, value) = (object::text(taint, "/key"), object::text(taint, "/value"));
        return Err(Refusal::Taints(match behaviour {
            Behaviour::V1_20 => {
                format!("node(s) had taint {{{key}: {value}}}, that the pod didn't tolerate")
            }
            _ => format!("node(s) had untolerated taint {{{key}: {value}}}"),
        }));
    }
    if !nodematch::selects(&pod.object, &node.node) {
        return Err(Refusal::Selector(match behaviour {
            Behaviour::V1_20 => "node(s) didn't match Pod's node affinity",
            _ => "node(s) didn't match Pod's node affinity/selector",
        }));
    }
    let mut missing = Vec::new();
    if node.pods + 1 > pod_limit(node) {
        missing.push("Too many pods".to_owned());
    }
    for (name, amount) in pod.requests.iter() {
        if amount > 0 && amount > node.allocatable.get(name) - node.requested.get(name) {
            missing.push(format!("Insufficient {name}"));
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Resources(missing))
    }
}

/// Why a pod does not fit one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It repels the pod.
    Taints(String),
    /// The pod does not want it.
    Selector(&'static str),
    /// It has too little of these.
    Resources(Vec<String>),
}

impl Refusal {
    fn count_into(self, unfit: &mut Unfit) {
        let mut count = |reason: String| *unfit.reasons.entry(reason).or_default() += 1;
        match self {
            Self::Taints(reason) => {
                unfit.rejections.taints = true;
                count(reason);
            }
            Self::Selector(reason) => {
                unfit.rejections.selector = true;
                count(reason.to_owned());
            }
            Self::Resources(missing) => {
                unfit.rejections.resources = true;
                missing.into_iter().for_each(count);
            }
        }
    }
}

#[cfg(test)]
mod tests;
