//! What people read: Events on pods and problems of nodes.
//!
//! Each is one sentence that says what, where and, where somebody must act, what to do.

use std::{collections::BTreeMap, time::Duration};

use planner::{Creation, Exposure, NodePlan, RefusalKind};

use crate::{names::PodKey, operation::Operation};

/// Longest note that the API takes, in bytes (events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;
/// Longest quotation of a program's last words, in bytes.
const LONGEST_WHY: usize = 600;

/// An Event on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The pod.
    pub pod: PodKey,
    /// The pod's uid.
    pub uid: String,
    /// CamelCase and of a fixed set.
    pub reason: &'static str,
    /// The sentence.
    pub text: String,
    /// Something is not as it should be.
    pub warning: bool,
}

impl Note {
    /// An Event, cut to what the API takes.
    pub fn new(pod: PodKey, uid: String, reason: &'static str, text: &str, warning: bool) -> Self {
        Self {
            pod,
            uid,
            reason,
            text: cut(text, LONGEST_NOTE),
            warning,
        }
    }
}

/// Reason of an Event about a refusal.
pub fn reason(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::InvalidProfile => "InvalidProfile",
        RefusalKind::NoSuchProfile => "NoSuchProfile",
        RefusalKind::TooMany => "TooMany",
        RefusalKind::NoRoom => "NoRoom",
        RefusalKind::NoNode => "NoNode",
        RefusalKind::TooComplex => "TooComplex",
        RefusalKind::Group => "GroupWaits",
    }
}

/// A plan was made: what is going to happen where.
pub fn planned(node: &str, plan: &NodePlan, gpu_index: impl Fn(&str) -> Option<u32>) -> String {
    let gpus: Vec<_> = plan
        .gpus
        .iter()
        .map(|gpu| {
            let number = gpu_index(&gpu.uuid).map_or_else(String::new, |n| format!("{n} "));
            let made: Vec<_> = gpu
                .create
                .iter()
                .map(new)
                .chain(gpu.expose.iter().map(moved))
                .collect();
            let gone: Vec<_> = gpu
                .give_up
                .iter()
                .map(|old| format!("{} at slice {}", old.profile, old.placement.start))
                .collect();
            let mut words = format!("{} on GPU {number}({})", made.join(" and "), gpu.uuid);
            if made.is_empty() {
                words = format!("room on GPU {number}({})", gpu.uuid);
            }
            if !gone.is_empty() {
                words = format!("{words} in place of idle {}", gone.join(" and "));
            }
            words
        })
        .collect();
    format!("Making {} of node {node}", gpus.join("; "))
}

/// An instance to be made, with the name it gets where that does not say what it is.
fn new(new: &Creation) -> String {
    let what = format!("{} at slice {}", new.profile, new.placement.start);
    if new.resource == new.profile.resource_name() {
        return what;
    }
    format!("{what} as {}", new.resource)
}

/// An idle instance that gets another name.
fn moved(moved: &Exposure) -> String {
    let (profile, start) = (moved.profile, moved.placement.start);
    format!("idle {profile} at slice {start} available as {}", moved.to)
}

/// How long the stages of a served demand took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// From the sight of the pod to the plan.
    pub planning: Duration,
    /// From the plan to the commit, if devices were given up.
    pub withdrawing: Option<Duration>,
    /// Until the driver had made, and the kubelet confirmed, everything.
    pub making: Duration,
    /// Until the node's status showed it.
    pub showing: Duration,
}

/// Everything is there for the pod.
pub fn ready(operation: &Operation, stages: &Stages) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for made in &operation.made {
        *counts.entry(&made.resource).or_default() += 1;
    }
    let made: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count}x {name}"))
        .collect();
    let gave_up = match (operation.withdrawn().count(), stages.withdrawing) {
        (0, _) | (_, None) => String::new(),
        (1, Some(took)) => format!(", 1 idle device withdrawn in {} ms", took.as_millis()),
        (n, Some(took)) => format!(", {n} idle devices withdrawn in {} ms", took.as_millis()),
    };
    format!(
        "{} ready on node {}: planned in {} ms{gave_up}, made in {} ms, shown to the scheduler in \
         {} ms",
        made.join(" and "),
        operation.node,
        stages.planning.as_millis(),
        stages.making.as_millis(),
        stages.showing.as_millis(),
    )
}

/// A plan failed on the agent's side.
pub fn failed(node: &str, message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    format!("The plan for node {node} failed: {message}; another attempt follows by itself")
}

/// The node's agent cannot be talked to.
pub fn unreachable(sentence: &str) -> String {
    format!("no session with this node's agent: {sentence}")
}

/// A node on its way back waits for something.
pub fn returning(held: usize) -> String {
    match held {
        0 => "this node is being given back".to_owned(),
        1 => "this node is given back once the pod that still has a device of its GPUs has ended"
            .to_owned(),
        _ => format!(
            "this node is given back once the pods that still have {held} devices of its GPUs have ended"
        ),
    }
}

/// A labelled node has no agent.
pub fn no_agent(namespace: &str) -> String {
    format!(
        "no agent runs on this node; look at the DaemonSet mig-node-agent and its pods in namespace \
         {namespace}"
    )
}

/// A node's agent ends or cannot be started.
pub fn agent_fails(pod: &PodKey, why: &str) -> String {
    let why = cut(why.trim_end_matches('.'), LONGEST_WHY);
    format!("the agent does not start: {why}; its pod is {pod}")
}

/// A node's agent is not started, and only the kubelet knows why.
pub fn agent_waits(pod: &PodKey, reason: &str) -> String {
    let (namespace, name) = (pod.namespace(), pod.name());
    format!(
        "the agent does not start: its pod stays in {reason}; the Events in `kubectl -n {namespace} \
         describe pod {name}` say what it waits for"
    )
}

/// A waiting pod that no pass has looked at.
pub const NEW: &str = "no planning pass has looked at it yet";
/// A waiting pod that need not wait any more.
pub const COVERED: &str = "devices are free for it, and it is the scheduler's turn; if it stays so, \
                           look at the pod's Events for other reasons of the scheduler";
/// A waiting pod whose turn has not come.
pub const WAITING: &str = "something under way will serve it, or must end before it can be served";

/// A waiting pod that an operation serves.
pub fn being_made(node: Option<&str>) -> String {
    match node {
        Some(node) => format!("devices are being made for it on node {node}"),
        None => "devices are being made for it".to_owned(),
    }
}

/// All problems of a node as one annotation value; `None` if there are none.
pub fn problems(sentences: &[String]) -> Option<String> {
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - "…".len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
