//! Windows of demands that waited too long.

use std::{fmt::Write as _, sync::Arc};

use mig::SliceMask;

use super::{Planner, touch};
use crate::{
    demand::Demand,
    outcome::{GivenUp, GpuPlan, NodePlan, Outcome, Refusal, RefusalKind},
    state::Node,
    window::{Part, Search, Window},
    work::IdleInstance,
};

/// GPUs of a hundred that may have windows; one in any case.
const MOST_IN_A_HUNDRED: usize = 3;
/// Searches for new windows in one pass. Whoever comes later is looked at in a later pass, as those that have one
/// by then are not searched for again.
const MOST_SEARCHES: usize = 4;

impl Planner {
    /// Slices that are kept free, as the last pass left it.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// A demand cannot be served now. Keeps slices free for it if it waited long enough.
    pub(super) fn reserve_for(
        &mut self,
        demand: &Demand,
        wish: usize,
        refusal: Refusal,
    ) -> Outcome {
        let key = demand.window.as_ref();
        let key = key.filter(|_| refusal.kind == RefusalKind::NoRoom && self.has_room_for(1));
        let found = key.and_then(|key| {
            self.known_window(demand, key)
                .or_else(|| self.new_window(demand, key, wish))
        });
        let Some((node, window)) = found else {
            return Outcome::Refused(refusal);
        };
        let clear = self.keep_free(node, &window);
        let reserved = Outcome::Reserved {
            refusal: Refusal {
                kind: refusal.kind,
                text: words(&window, &refusal.text),
            },
            clear,
        };
        self.kept.push(window);
        reserved
    }

    /// The window that it has, if that may still come free.
    fn known_window(&self, demand: &Demand, key: &Arc<str>) -> Option<(usize, Window)> {
        let window = self.windows.iter().find(|window| window.key == *key)?;
        let node = self.find(&window.node).ok()?;
        let allowed = demand.nodes.allowed().contains(node);
        let overlaps = self.kept.iter().any(|other| other.overlaps(window));
        let good = allowed && !overlaps && window.is_on(self.node(node)?) && self.has_room(window);
        good.then(|| (node, window.clone()))
    }

    fn new_window(
        &mut self,
        demand: &Demand,
        key: &Arc<str>,
        wish: usize,
    ) -> Option<(usize, Window)> {
        if self.searches == MOST_SEARCHES {
            return None;
        }
        self.searches += 1;
        let answers = &self.answers[wish];
        let search = Search {
            wants: &answers.wants,
            goal: &answers.goal,
            nodes: &demand.nodes,
            windows: &self.kept,
        };
        let (at, slices) = search.best(&self.slots)?;
        let node = self.node(at)?;
        let window = Window {
            key: Arc::clone(key),
            node: node.name.clone(),
            parts: parts(node, slices),
        };
        self.has_room(&window).then_some((at, window))
    }

    /// Whether so many more GPUs may have windows. The first one may be of any number.
    fn has_room_for(&self, more: usize) -> bool {
        let taken: usize = self.kept.iter().map(|window| window.parts.len()).sum();
        let gpus = || -> usize { self.slots.iter().map(|slot| slot.node.gpus.len()).sum() };
        taken == 0 || taken + more <= gpus() * MOST_IN_A_HUNDRED / 100
    }

    fn has_room(&self, window: &Window) -> bool {
        self.has_room_for(window.parts.len())
    }

    /// Nobody else is given these slices for the rest of the pass. Returns what has to be given up there.
    fn keep_free(&mut self, node: usize, window: &Window) -> Option<NodePlan> {
        let (work, slot) = touch(&mut self.touched, &mut self.slots, node);
        let mut gpus = Vec::new();
        for part in &window.parts {
            let (Some(board), Some(gpu)) =
                (work.boards.get_mut(part.gpu), slot.node.gpus.get(part.gpu))
            else {
                continue;
            };
            let idle = board.keep_free(part.slices);
            let gone = |idle: &IdleInstance| {
                Some(GivenUp {
                    gi_id: idle.gi_id,
                    profile: board.model.profile(idle.profile)?.name,
                    placement: idle.placement,
                    resource: idle.resource.clone(),
                })
            };
            let give_up: Vec<_> = idle
                .iter()
                .filter(|idle| !idle.arriving && !board.busy)
                .filter_map(gone)
                .collect();
            if !give_up.is_empty() {
                board.busy = true;
                gpus.push(GpuPlan {
                    gpu: part.gpu,
                    uuid: gpu.uuid.clone(),
                    version: gpu.version,
                    give_up,
                    expose: Vec::new(),
                    create: Vec::new(),
                });
            }
        }
        self.versions += 1;
        slot.state.promised(work, &mut self.boards, self.versions);
        self.promised_on.push(node);
        (!gpus.is_empty()).then_some(NodePlan { node, gpus })
    }
}

impl Window {
    fn overlaps(&self, other: &Self) -> bool {
        let mut pairs = self
            .parts
            .iter()
            .flat_map(|a| other.parts.iter().map(move |b| (a, b)));
        let shared = |(a, b): (&Part, &Part)| a.uuid == b.uuid && a.slices.overlaps(b.slices);
        self.node == other.node && pairs.any(shared)
    }
}

fn parts(node: &Node, slices: Vec<(usize, SliceMask)>) -> Vec<Part> {
    let part = |(gpu, slices): (usize, SliceMask)| {
        let uuid = node.gpus.get(gpu)?.uuid.clone();
        Some(Part { gpu, uuid, slices })
    };
    slices.into_iter().filter_map(part).collect()
}

/// The refusal, with what is kept free in front: what follows may be cut off.
fn words(window: &Window, refusal: &str) -> Arc<str> {
    let mut text = String::new();
    for part in &window.parts {
        let joint = if text.is_empty() { "" } else { " and " };
        let (first, last) = ends(part.slices);
        let _ = write!(text, "{joint}slices {first}-{last} of {}", part.uuid);
    }
    let _ = write!(
        text,
        " on node {} are kept free for it; {refusal}",
        window.node
    );
    text.into()
}

/// The first and the last slice. A window of one GPU may have gaps, which nobody needs to be told of.
fn ends(slices: SliceMask) -> (u32, u32) {
    let bits = slices.bits();
    (bits.trailing_zeros(), 15 - bits.leading_zeros().min(15))
}
