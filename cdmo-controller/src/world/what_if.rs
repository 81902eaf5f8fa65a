//! What would become of pods that are not there yet: the planner's answer, with nothing begun.
//!
//! They are looked at as if each had been created now, and so behind all pods of their priority that wait. What one is
//! promised is not promised to the next; only CPU, memory and the like are held against each of them
//! alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use planner::{Demand, Group, Outcome, Wants};
use serde::Deserialize;
use status_report::{API_VERSION, Fate, MOST_PODS, Prospect, WhatIf};
use tokio::time::Instant;

use super::{Clock, World, explaining::demand, report::pieces, windows::ask};
use crate::{
    constraints::Constraints,
    groups::{Muster, Tag},
    objects::PodSpec,
    requests, words,
};

/// Different pods that one question may be about.
const MOST_KINDS: usize = 64;
/// Resources of ours that one of them may ask for.
const MOST_WANTS: usize = 16;
/// Bytes of a name: a workload's kind and a name as Kubernetes allows it.
const LONGEST_NAME: usize = 300;

/// Pods that somebody asks about.
#[derive(Clone, Debug, Deserialize)]
pub struct Supposed {
    /// What they are called in the answer.
    #[serde(default)]
    pub name: String,
    /// How many there are.
    #[serde(default = "one")]
    pub count: usize,
    /// Their annotations; those that name a group matter.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Each of them.
    pub spec: PodSpec,
}

fn one() -> usize {
    1
}

/// Reads a question. What an answer costs is bounded by what a question may hold.
///
/// # Errors
/// A sentence: it is not the JSON that it should be, or it is about too much.
pub fn read(text: &str) -> Result<Vec<Supposed>, String> {
    let pods: Vec<Supposed> = serde_json::from_str(text).map_err(|error| {
        format!(
            "failed to read the query's pods: {error}; give a JSON list of name, count and spec"
        )
    })?;
    let count = pods
        .iter()
        .fold(0usize, |sum, pod| sum.saturating_add(pod.count));
    if count > MOST_PODS {
        return Err(format!(
            "the question is about {count} pods; ask about {MOST_PODS} at most"
        ));
    }
    if pods.len() > MOST_KINDS {
        return Err(format!(
            "the question is about {} different pods; ask about {MOST_KINDS} at most",
            pods.len()
        ));
    }
    for pod in &pods {
        if pod.name.len() > LONGEST_NAME {
            return Err(format!(
                "a pod's name has {} bytes; give it {LONGEST_NAME} at most",
                pod.name.len()
            ));
        }
        let total = requests::of_pod(&pod.spec);
        let wants = total.keys().filter(|name| requests::is_ours(name)).count();
        if wants > MOST_WANTS {
            return Err(format!(
                "pod {} asks for {wants} different slices and fractions; ask about {MOST_WANTS} at most",
                pod.name
            ));
        }
    }
    Ok(pods)
}

/// The groups of these pods, which are none of those that wait; only pods that ask for our devices count.
fn supposed_groups(supposed: &[Supposed]) -> Vec<Option<Arc<Group>>> {
    let tags = supposed.iter().map(|pods| {
        let total = requests::of_pod(&pods.spec);
        let asks = total.keys().any(|name| requests::is_ours(name));
        // No namespace has this name.
        asks.then(|| Tag::of("", &pods.annotations, &[])).flatten()
    });
    let tags: Vec<_> = tags.collect();
    let mut musters: HashMap<&str, Muster> = HashMap::new();
    for (pods, tag) in supposed.iter().zip(&tags) {
        if let Some(tag) = tag {
            let muster = musters.entry(&tag.key).or_default();
            muster.come(u32::try_from(pods.count).unwrap_or(u32::MAX));
            muster.hear(tag);
        }
    }
    let group = |tag: &Option<Tag>| {
        let tag = tag.as_ref()?;
        Some(Arc::new(musters.get(&*tag.key)?.group(tag)))
    };
    tags.iter().map(group).collect()
}

impl World {
    /// What would become of these pods if they were created now; nothing as long as too little of the
    /// cluster is known to plan.
    pub fn what_if(&mut self, supposed: &[Supposed], clock: Clock) -> Option<WhatIf> {
        if !self.can_plan(clock.now) {
            return None;
        }
        self.refresh_board(clock.now);
        let mut demands = self.waiting_demands(clock.now);
        let real = demands.len();
        let mut names = Vec::new();
        for (pods, group) in supposed.iter().zip(supposed_groups(supposed)) {
            let demand = Demand {
                group,
                ..self.suppose(&pods.spec)
            };
            for number in 0..pods.count {
                names.push(match pods.count {
                    1 => pods.name.clone(),
                    _ => format!("{}-{number}", pods.name),
                });
                demands.push(demand.clone());
            }
        }
        let outcomes = self.board.planner.suppose(&demands);
        // Those that really wait come first, and nobody asked about them.
        let mut asked: Vec<_> = demands.into_iter().zip(outcomes).skip(real).collect();
        let mut explainer = self.explainer();
        for (demand, outcome) in &mut asked {
            if let Outcome::Refused(refusal) = outcome {
                refusal.text = explainer.words(demand, refusal.kind, &refusal.text);
            }
        }
        let pods = names
            .into_iter()
            .zip(asked)
            .map(|(name, (demand, outcome))| self.prospect(name, &demand.wants, outcome));
        Some(WhatIf {
            api_version: API_VERSION.to_owned(),
            time: clock.at(clock.now),
            pods: pods.collect(),
        })
    }

    /// NVML's index of a node's GPU, as its agent last reported it.
    pub(super) fn gpu_index(&self, node: &str, uuid: &str) -> Option<u32> {
        let snapshot = self.agents.get(node)?.snapshot.as_ref()?;
        snapshot.gpu(uuid).map(|gpu| gpu.index)
    }

    /// The demands of the pods that wait.
    fn waiting_demands(&mut self, now: Instant) -> Vec<Demand> {
        let after = self.config.window_after;
        let clock = (now, self.second(now));
        let (board, known) = (&mut self.board, (&self.nodes, &self.pods));
        let pending = self.pods.pending();
        let mut groups = HashMap::new();
        pending
            .map(|(key, row)| {
                let state = self.demands.get(key);
                let group = self.pods.group(row, &mut groups);
                let window = state.and_then(|state| ask((key, row), state, after, clock));
                Demand {
                    window: window.filter(|_| group.is_none()),
                    group,
                    ..demand((row, state), board, known, now)
                }
            })
            .collect()
    }

    fn suppose(&self, spec: &PodSpec) -> Demand {
        let total = requests::of_pod(spec);
        let ours = total.iter().filter(|(name, _)| requests::is_ours(name));
        let wants: Wants = ours
            .map(|(name, count)| (name.clone(), u32::try_from(*count).unwrap_or(u32::MAX)))
            .collect();
        let constraints = Constraints::of(spec, &total);
        let nodes = self.board.eligible(&constraints, &self.nodes, &self.pods);
        Demand {
            id: String::new(),
            priority: spec.priority.unwrap_or(0),
            // Younger than all.
            created: i64::MAX,
            window: None,
            group: None,
            wants: Arc::new(wants),
            nodes: Arc::new(nodes),
        }
    }

    fn prospect(&self, name: String, wants: &Wants, outcome: Outcome) -> Prospect {
        let of = |node: usize| self.board.name(node).to_owned();
        let mut prospect = Prospect {
            name,
            wants: wants.clone(),
            fate: Fate::Nothing,
            node: None,
            message: String::new(),
            makes: Vec::new(),
            gives_up: Vec::new(),
            moves: Vec::new(),
        };
        if prospect.wants.is_empty() {
            "It asks for no slice, fraction or GPU.".clone_into(&mut prospect.message);
            return prospect;
        }
        match outcome {
            Outcome::Covered { node } => {
                prospect.fate = Fate::Ready;
                prospect.message = format!("Idle devices on node {} would serve it.", of(node));
                prospect.node = Some(of(node));
            }
            Outcome::Wait { node } => {
                prospect.fate = Fate::Waiting;
                prospect.message = format!(
                    "Node {} would serve it, after what comes before it there.",
                    of(node)
                );
                prospect.node = Some(of(node));
            }
            Outcome::Plan(plan) => {
                let node = of(plan.node);
                let gpu = |uuid: &str| self.gpu_index(&node, uuid);
                prospect.fate = Fate::Planned;
                prospect.message = words::planned(&node, &plan, gpu);
                (prospect.makes, prospect.gives_up, prospect.moves) = pieces(&plan.gpus);
                prospect.node = Some(node);
            }
            Outcome::Refused(refusal) | Outcome::Reserved { refusal, .. } => {
                prospect.fate = Fate::Refused;
                prospect.message = refusal.text.to_string();
            }
        }
        prospect
    }
}
