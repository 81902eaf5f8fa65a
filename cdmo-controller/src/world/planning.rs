//! One planning pass over the waiting pods.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use planner::{Demand, Eligibilities, Group, Node, NodeSet, Outcome, Wants};
use tokio::time::Instant;

use super::{
    GATHER, World,
    absent::soon_changeable,
    alarms::Alarm,
    board::Board,
    demand::{DemandState, Kind, OwnNodes, Standing},
    explaining::SET_ASIDE,
    gates,
    kinds::KindId,
    laps::Laps,
    windows::{ask, stays},
};
use crate::{
    names::PodKey,
    pods::PodRow,
    view::{self, Facts},
};

/// What tells of the parts of a pass in the log, at the level debug; `cargo xtask bench controller` reads it.
const PASSES: &str = "cdmo_controller::passes";

/// A waiting pod in a pass.
struct Candidate {
    key: PodKey,
    ready: Ready,
    /// It has our scheduling gate.
    gated: bool,
    /// The group that it starts with.
    group: Option<Arc<Group>>,
    /// It was kept back for its group in the last pass.
    held_back: bool,
    /// How it stood before the pass.
    standing: Standing,
}

impl Candidate {
    /// Whether free devices cover it on a node, as the node's status shows.
    fn is_ready(&self, node: usize, board: &Board) -> bool {
        match &self.ready {
            Ready::Kind(kind) => board.kinds.ready(*kind).contains(node),
            Ready::Own(nodes) => nodes.contains(node),
        }
    }
}

/// Nodes whose free devices cover a pod.
enum Ready {
    /// Those of all pods of its kind.
    Kind(KindId),
    /// Other ones: some were set aside for it.
    Own(NodeSet),
}

/// All waiting pods in a pass.
#[derive(Default)]
struct Candidates {
    all: Vec<Candidate>,
    /// What each of them demands.
    demands: Vec<Demand>,
    /// Devices on nodes that single pods may be getting.
    guarded: Vec<(usize, Arc<Wants>)>,
    /// After how long slices are kept free for a pod.
    after: Option<Duration>,
    /// When something changes by time alone.
    wake_at: Option<Instant>,
}

impl World {
    /// Looks at every waiting pod once, and begins to carry out what was planned.
    pub(super) fn plan(&mut self, now: Instant) {
        let can = self.can_plan(now);
        if can {
            self.alarms.planning();
        }
        let gathered = self.started + GATHER;
        if now < gathered {
            // Less has to be known then to plan.
            self.alarms.set(gathered, Alarm::Plan);
        }
        if !can {
            return;
        }
        self.passed = true;
        let mut laps = Laps::start();
        self.forget_demands();
        self.refresh_board(now);
        let board_us = laps.lap();
        let candidates = self.candidates(now);
        let before = self.board.planner.windows().to_vec();
        if let Some(at) = candidates.wake_at {
            self.alarms.set(at, Alarm::Plan);
        }
        self.board.protect(&candidates.guarded);
        let candidates_us = laps.lap();
        let outcomes = self.board.planner.plan(&candidates.demands);
        let plan_us = laps.lap();
        let pods = candidates.all.len();
        let apart = self.apart(&candidates.all, &outcomes);
        for (mut candidate, outcome) in candidates.all.into_iter().zip(outcomes) {
            let group = candidate.group.as_ref();
            let held_back = group.is_some_and(|group| apart.contains(&group.key));
            if held_back != candidate.held_back
                && let Some(demand) = self.demands.get_mut(&candidate.key)
            {
                demand.held_back = held_back;
                if demand.standing == Standing::Covered {
                    // The scheduler has yet to hear of it.
                    demand.standing = Standing::Waiting;
                    candidate.standing = Standing::Waiting;
                }
            }
            self.conclude(&candidate, outcome, now);
            if candidate.gated {
                self.tend_gate(&candidate.key, now);
            }
        }
        self.park(now);
        self.note_windows(&before, now);
        self.count_demands();
        let conclude_us = laps.lap();
        let total_us = laps.total();
        tracing::debug!(
            target: PASSES,
            pods,
            board_us,
            candidates_us,
            plan_us,
            conclude_us,
            total_us,
            "a planning pass"
        );
    }

    /// Groups for which devices are not all ready yet.
    fn apart(&self, candidates: &[Candidate], outcomes: &[Outcome]) -> HashSet<Arc<str>> {
        let mut apart = HashSet::new();
        for (candidate, outcome) in candidates.iter().zip(outcomes) {
            let Some(group) = &candidate.group else {
                continue;
            };
            let ready = match outcome {
                Outcome::Covered { node } => candidate.is_ready(*node, &self.board),
                // Devices that pods may be getting at this moment count as under way, too.
                Outcome::Wait { node } => {
                    let mut under_way = self.operations.of_node(self.board.name(*node));
                    candidate.is_ready(*node, &self.board) && under_way.next().is_none()
                }
                _ => false,
            };
            if !ready {
                apart.insert(Arc::clone(&group.key));
            }
        }
        apart
    }

    /// Takes off offer what is idle and promised to nobody, if such instances are parked.
    fn park(&mut self, now: Instant) {
        for plan in self.board.planner.parking().to_vec() {
            let node = self.board.name(plan.node).to_owned();
            for gpu in plan.gpus {
                self.clear(&node, gpu, now);
            }
        }
    }

    /// Whether enough of the cluster is known: everything that is listed, and what agents have, but for
    /// those that keep silent for long.
    pub(super) fn can_plan(&self, now: Instant) -> bool {
        self.is_synced() && (self.agents.is_settled() || now >= self.started + GATHER)
    }

    /// Draws the conclusion for one pod. Thousands may wait for long, and for most of them it is that of the last pass: then
    /// what is known of them is not looked up.
    fn conclude(&mut self, candidate: &Candidate, outcome: Outcome, now: Instant) {
        let key = &candidate.key;
        let is_ready = |node: usize| candidate.is_ready(node, &self.board);
        match outcome {
            Outcome::Covered { node } | Outcome::Wait { node } if is_ready(node) => {
                if candidate.standing != Standing::Covered {
                    let node = self.board.name(node).to_owned();
                    self.cover(key, &node, self.operations.serve(key), now);
                }
            }
            // Free for the agent, but the node's status does not show it yet.
            Outcome::Covered { .. } | Outcome::Wait { .. } => {
                let standing = if self.operations.serve(key) {
                    Standing::Planned
                } else {
                    Standing::Waiting
                };
                if candidate.standing != standing {
                    self.stand(key, standing);
                }
            }
            Outcome::Plan(plan) => {
                let node = self.board.name(plan.node).to_owned();
                self.stand(key, Standing::Planned);
                self.begin(&node, plan, key, now);
            }
            Outcome::Reserved { refusal, clear } => {
                self.refuse(key, refusal, now);
                if let Some(plan) = clear {
                    let node = self.board.name(plan.node).to_owned();
                    for gpu in plan.gpus {
                        self.clear(&node, gpu, now);
                    }
                }
            }
            Outcome::Refused(refusal) => {
                let is_known = match &candidate.standing {
                    Standing::Refused { text, .. } => Arc::ptr_eq(text, &refusal.text),
                    _ => false,
                };
                if !is_known {
                    self.refuse(key, refusal, now);
                }
            }
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
            self.board.put(&name, view, &self.nodes, &self.pods, now);
        }
    }

    fn view_of(&self, name: &str, now: Instant) -> Option<Node> {
        let row = self.nodes.get(name)?;
        let agent = self.agents.get(name);
        if !row.managed && agent.is_none() && !row.offers_devices() {
            return None;
        }
        let operations: Vec<_> = self.operations.of_node(name).collect();
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
        let mut view = view::node(&facts, &self.board);
        view.soon_changeable = soon_changeable(&view, &facts, &self.board);
        Some(view)
    }

    fn candidates(&mut self, now: Instant) -> Candidates {
        let after = self.config.window_after;
        let clock = (now, self.second(now));
        let board = &mut self.board;
        let mut candidates = Candidates {
            all: Vec::with_capacity(self.demands.len()),
            demands: Vec::with_capacity(self.demands.len()),
            after,
            ..Candidates::default()
        };
        let mut groups = HashMap::new();
        board.kinds.begin(now);
        // Both are sorted by key: looking up each of thousands takes most of a pass.
        let mut states = self.demands.iter_mut().peekable();
        for (key, row) in self.pods.pending() {
            while states.next_if(|(known, _)| *known < key).is_some() {}
            let Some((_, state)) = states.next_if(|(known, _)| *known == key) else {
                continue;
            };
            recognise(state, row, now);
            let kind = board.kind(&row.wants, &row.constraints, &self.nodes, &self.pods);
            let (ready, nodes) = candidates.review((key, row), state, kind, board, now);
            let group = self.pods.group(row, &mut groups);
            candidates.all.push(Candidate {
                key: key.clone(),
                ready,
                gated: row.gate.is_some(),
                group: group.clone(),
                held_back: state.held_back,
                standing: state.standing.clone(),
            });
            let mut window = None;
            if group.is_none() {
                candidates.wake(state.waiting.wake_at(after, now));
                window = ask((key, row), state, after, clock);
            }
            if let Some(window) = &mut window {
                window.stays = stays((key, row), state, &board.planner, &self.nodes, now);
            }
            candidates.demands.push(Demand {
                id: String::new(),
                priority: row.priority,
                created: row.age,
                window,
                group,
                wants: Arc::clone(&row.wants),
                nodes: nodes.unwrap_or_else(|| Arc::clone(board.kinds.nodes(kind))),
            });
        }
        candidates
    }
}

/// Notes what the pod asks for if that is new.
fn recognise(state: &mut DemandState, row: &PodRow, now: Instant) {
    let known = state.kind.as_ref().is_some_and(|kind| {
        Arc::ptr_eq(&kind.wants, &row.wants) && Arc::ptr_eq(&kind.constraints, &row.constraints)
    });
    if !known {
        state.kind = Some(Kind {
            wants: Arc::clone(&row.wants),
            constraints: Arc::clone(&row.constraints),
            since: now,
        });
    }
}

impl Candidates {
    /// Sets nodes aside for a pod where devices lie ready in vain. Returns where they lie ready now, and where it
    /// could run if that is not where its kind could.
    fn review(
        &mut self,
        (key, row): (&PodKey, &PodRow),
        state: &mut DemandState,
        kind: KindId,
        board: &mut Board,
        now: Instant,
    ) -> (Ready, Option<Arc<Eligibilities>>) {
        let kinds = &mut board.kinds;
        let is_shut = row.gate.is_some() && row.group.is_some();
        let is_shut = is_shut && (state.held_back || state.opened.is_none());
        if let (true, Some(known)) = (is_shut, &mut state.kind) {
            // It is we who keep it from its devices, so that none need to be kept for it, unless its gate went a moment
            // ago.
            known.since = now;
            let shown = state.opened.map(|at| at + gates::SHOWN);
            if shown.is_some_and(|until| now < until) {
                self.wake(shown);
                kinds.count(kind);
            }
            return (Ready::Kind(kind), None);
        }
        let since = state.kind.as_ref().map_or(now, |kind| kind.since);
        if state.aside.is_blank() {
            let in_vain = kinds.ready_in_vain(kind, since);
            if in_vain.is_none_or(|at| now < at) {
                self.wake(in_vain);
                kinds.count(kind);
                return (Ready::Kind(kind), None);
            }
            for at in kinds.ready(kind).iter() {
                let since = kinds.ready_since(kind, at).max(Some(since)).unwrap_or(now);
                let name = board.planner.node(at).map_or("", |node| &node.name);
                state.aside.was_ready(name, since);
            }
        }
        let mut ready = board.kinds.ready(kind).clone();
        let aside: Vec<usize> = state
            .aside
            .nodes()
            .filter(|name| state.aside.contains(name, now))
            .filter_map(|name| board.planner.find(name).ok())
            .collect();
        for at in aside {
            ready.set(at, false);
        }
        let names: Vec<&str> = ready.iter().map(|at| board.name(at)).collect();
        for name in state.aside.review(names.into_iter(), now) {
            tracing::info!(pod = %key, node = name, "devices lie ready, but the pod is not bound; setting the node aside");
            let waiting = &mut state.waiting;
            waiting.set_aside(key, &name, &board.planner, self.after, now);
        }
        let wants = state.kind.as_ref().map(|kind| &kind.wants);
        let mut aside = Vec::new();
        for name in state.aside.nodes() {
            let Ok(at) = board.planner.find(name) else {
                continue;
            };
            if row.constraints.binds_slowly
                && state.aside.may_be_bound_to(name, now)
                && board.kinds.covered(kind).contains(at)
            {
                self.guarded.extend(wants.map(|w| (at, Arc::clone(w))));
            }
            if state.aside.contains(name, now) {
                aside.push(at);
                ready.set(at, false);
            }
        }
        for at in ready.iter() {
            self.guarded.extend(wants.map(|w| (at, Arc::clone(w))));
        }
        self.wake(state.aside.wake_at(now));
        let known = state.nodes.take();
        state.nodes = (!aside.is_empty())
            .then(|| OwnNodes::without(known, board.kinds.nodes(kind), aside, SET_ASIDE));
        let nodes = state.nodes.as_ref().map(OwnNodes::nodes);
        (Ready::Own(ready), nodes)
    }

    fn wake(&mut self, at: Option<Instant>) {
        self.wake_at = self.wake_at.into_iter().chain(at).min();
    }
}

#[cfg(test)]
mod tests;
