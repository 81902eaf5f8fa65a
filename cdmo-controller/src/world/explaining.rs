//! Refusals as people read them: with who is in the way.
//!
//! A pass only finds out that something is, which is what decisions need. Names are added for what somebody is going to
//! read: an Event, a report, an answer to a question.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use planner::{Demand, Eligibility, Gpu, Instance, Names, Node, Refusal, RefusalKind};
use tokio::time::Instant;

use super::{
    World,
    board::Board,
    demand::{DemandState, Standing},
    operations::Operations,
};
use crate::{
    agents::AgentTable,
    names::PodKey,
    nodes::NodeIndex,
    pods::{PodIndex, PodRow},
    snapshot::GpuRow,
};

/// Why a node was set aside for a pod, as it fits behind "1 node: ".
pub(super) const SET_ASIDE: &str = "set aside, the pod was not bound there in time";

/// Different wishes of pods for which one page or answer looks for who is in the way. There are fewer; others are told
/// what the pass said.
const MOST_WISHES: usize = 64;

/// Puts refusals into words, each once for pods that ask for the same and could run on the same nodes.
pub(super) struct Explainer<'a> {
    board: &'a mut Board,
    nodes: &'a NodeIndex,
    pods: &'a PodIndex,
    demands: &'a BTreeMap<PodKey, DemandState>,
    who: Who<'a>,
    /// By the addresses of wants and nodes, which the demand keeps.
    said: HashMap<(usize, usize), (Demand, Option<Refusal>)>,
    /// The addresses of the wants.
    wishes: HashSet<usize>,
}

impl World {
    /// What puts refusals into words as things stand.
    pub(super) fn explainer(&mut self) -> Explainer<'_> {
        Explainer {
            board: &mut self.board,
            nodes: &self.nodes,
            pods: &self.pods,
            demands: &self.demands,
            who: Who {
                agents: &self.agents,
                operations: &self.operations,
                is_told: self.config.name_holders,
            },
            said: HashMap::new(),
            wishes: HashSet::new(),
        }
    }
}

impl Explainer<'_> {
    /// The words for a waiting pod that is refused; nothing for one that is not.
    pub(super) fn waiting(&mut self, key: &PodKey, now: Instant) -> Option<Arc<str>> {
        let state = self.demands.get(key)?;
        let Standing::Refused { kind, text, .. } = &state.standing else {
            return None;
        };
        if *kind != RefusalKind::NoRoom {
            return Some(Arc::clone(text));
        }
        let row = self.pods.get(key)?;
        let demand = demand((row, Some(state)), self.board, (self.nodes, self.pods), now);
        let words = self.words(&demand, *kind, text);
        let name = key.to_string();
        let mut windows = self.board.planner.windows().iter();
        let Some(window) = windows.find(|window| *window.key == *name) else {
            return Some(words);
        };
        let kept = window.words();
        let said = words.starts_with(&kept);
        Some(if said {
            words
        } else {
            format!("{kept}; {words}").into()
        })
    }

    /// The words for every waiting pod that is refused.
    pub(super) fn all_waiting(&mut self, now: Instant) -> HashMap<PodKey, Arc<str>> {
        let pending = self.pods.pending();
        pending
            .filter_map(|(key, _)| Some((key.clone(), self.waiting(key, now)?)))
            .collect()
    }

    /// The words for a demand that the last pass refused with these.
    pub(super) fn words(
        &mut self,
        demand: &Demand,
        kind: RefusalKind,
        text: &Arc<str>,
    ) -> Arc<str> {
        if kind != RefusalKind::NoRoom {
            return Arc::clone(text);
        }
        let key = (
            Arc::as_ptr(&demand.wants).addr(),
            Arc::as_ptr(&demand.nodes).addr(),
        );
        if !self.wishes.contains(&key.0) && self.wishes.len() >= MOST_WISHES {
            return Arc::clone(text);
        }
        self.wishes.insert(key.0);
        let (_, said) = self.said.entry(key).or_insert_with(|| {
            let refusal = self.board.planner.explain(demand, &self.who);
            // Otherwise the nodes have changed since the pass, and another one follows.
            let holds = refusal.kind == RefusalKind::NoRoom;
            (demand.clone(), holds.then_some(refusal))
        });
        said.as_ref()
            .map_or_else(|| Arc::clone(text), |refusal| Arc::clone(&refusal.text))
    }
}

/// What a waiting pod demands, as passes know it.
pub(super) fn demand(
    (row, state): (&PodRow, Option<&DemandState>),
    board: &mut Board,
    (nodes, pods): (&NodeIndex, &PodIndex),
    now: Instant,
) -> Demand {
    let kind = board.kind(&row.wants, &row.constraints, nodes, pods);
    let mut nodes = Arc::clone(board.kinds.nodes(kind));
    let aside = state.into_iter().flat_map(|state| {
        let nodes = state.aside.nodes();
        nodes.filter(move |name| state.aside.contains(name, now))
    });
    for at in aside.filter_map(|name| board.planner.find(name).ok()) {
        Arc::make_mut(&mut nodes).set(at, Eligibility::Excluded(SET_ASIDE.into()));
    }
    Demand {
        id: String::new(),
        priority: row.priority,
        created: row.age,
        window: None,
        group: None,
        wants: Arc::clone(&row.wants),
        nodes,
    }
}

/// Who has what, as agents report it and operations under way will have it.
struct Who<'a> {
    agents: &'a AgentTable,
    operations: &'a Operations,
    is_told: bool,
}

impl Who<'_> {
    fn gpu(&self, node: &Node, gpu: &Gpu) -> Option<&GpuRow> {
        let snapshot = self.agents.get(&node.name)?.snapshot.as_ref()?;
        snapshot.gpu(&gpu.uuid)
    }

    /// The pod that the agent says has it.
    fn reported(&self, node: &Node, gpu: &Gpu, instance: &Instance) -> Option<&PodKey> {
        // An id may be another instance's by now.
        let mut rows = self.gpu(node, gpu)?.instances.iter();
        let row = rows.find(|row| {
            row.gi_id == instance.gi_id
                && row.placement == instance.placement
                && row.profile == Some(instance.profile)
        })?;
        row.holders.first()
    }

    /// The pod that it is being made for, or moved to another name.
    fn coming(&self, node: &Node, gpu: &Gpu, instance: &Instance) -> Option<&PodKey> {
        let is_there = |placement| instance.placement == placement;
        let mut all = self.operations.of_node(&node.name);
        let operation = all.find(|operation| {
            let mut gpus = operation.gpus.iter().filter(|plan| plan.uuid == gpu.uuid);
            gpus.any(|plan| {
                plan.create.iter().any(|new| is_there(new.placement))
                    || plan.expose.iter().any(|moved| is_there(moved.placement))
            })
        })?;
        Some(&operation.pod.0).filter(|pod| !pod.is_nobody())
    }
}

impl Names for Who<'_> {
    fn gpu(&self, node: &Node, gpu: &Gpu) -> String {
        let row = self.gpu(node, gpu);
        row.map_or_else(|| gpu.uuid.clone(), |row| row.index.to_string())
    }

    fn holder(&self, node: &Node, gpu: &Gpu, instance: &Instance) -> Option<String> {
        if !self.is_told {
            return None;
        }
        let pod = self
            .reported(node, gpu, instance)
            .or_else(|| self.coming(node, gpu, instance))?;
        Some(pod.to_string())
    }
    fn waiting(&self, key: &str) -> Option<String> {
        self.is_told.then(|| key.to_owned())
    }
}
