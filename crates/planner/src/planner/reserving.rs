//! Windows of demands that waited too long.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use mig::SliceMask;

use super::{Planner, touch};
use crate::{
    demand::Demand,
    outcome::{GivenUp, GpuPlan, NodePlan, Outcome, Refusal, RefusalKind},
    state::Node,
    window::{Part, Search, Window},
    work::{Board, IdleInstance},
};

/// GPUs of a hundred that may have windows; one in any case.
const MOST_IN_A_HUNDRED: usize = 3;
/// Searches for new windows in one pass. Whoever comes later is looked at in a later pass, as those that have one
/// by then are not searched for again.
const MOST_SEARCHES: usize = 4;

/// All windows: first as the last pass left them, then as the pass under way does.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Those of the last pass whose demands are in this one, by priority, the highest first.
    known: Vec<Known>,
    /// Positions in that.
    by_key: HashMap<Arc<str>, usize>,
    /// How many of them are in force: those of demands that do not come after the present one by priority.
    reached: usize,
    /// Those of this pass, or of the last one between passes.
    kept: Vec<Window>,
    /// Searches for new ones in this pass.
    searches: usize,
}

#[derive(Debug)]
struct Known {
    window: Window,
    /// The node on which it is in force.
    at: Option<usize>,
    /// Its demand was not looked at yet.
    pending: bool,
}

impl Windows {
    /// Windows that an earlier demand has, or that a later one of at least this priority had so far.
    fn others(&self, priority: i32) -> impl Iterator<Item = &Window> {
        let known = self
            .known
            .iter()
            .filter(move |known| known.pending && known.window.priority >= priority);
        self.kept.iter().chain(known.map(|known| &known.window))
    }

    pub(super) fn end(&mut self) {
        self.known.clear();
        self.by_key.clear();
        (self.reached, self.searches) = (0, 0);
    }
}

impl Planner {
    /// Slices that are kept free, as the last pass left it.
    pub fn windows(&self) -> &[Window] {
        &self.windows.kept
    }

    /// A pass over these demands begins: windows of others are no more.
    pub(super) fn begin_windows(&mut self, demands: &[Demand]) {
        let mut kept = std::mem::take(&mut self.windows.kept);
        if kept.is_empty() {
            return;
        }
        let keys: HashSet<_> = demands
            .iter()
            .filter_map(|demand| demand.window.as_ref())
            .collect();
        kept.retain(|window| keys.contains(&window.key));
        kept.sort_by_key(|window| Reverse(window.priority));
        let keys = kept.iter().zip(0..);
        self.windows.by_key = keys
            .map(|(window, at)| (Arc::clone(&window.key), at))
            .collect();
        let known = |window| Known {
            window,
            at: None,
            pending: true,
        };
        self.windows.known = kept.into_iter().map(known).collect();
    }

    /// Demands of this priority and lower ones come now: they do not get what is kept free for those of the same
    /// priority, older or not.
    pub(super) fn keep_for_others(&mut self, priority: i32) {
        while let Some(known) = self.windows.known.get(self.windows.reached) {
            if known.window.priority < priority {
                return;
            }
            let window = known.window.clone();
            let node = self.find(&window.node).ok();
            let at = node.filter(|at| self.node(*at).is_some_and(|node| window.is_on(node)));
            if let Some(at) = at {
                self.on_boards(at, &window, Board::keep_free);
            }
            let reached = self.windows.reached;
            self.windows.known[reached].at = at;
            self.windows.reached += 1;
        }
    }

    /// The window of this demand, which it may use now.
    pub(super) fn open_window(&mut self, demand: &Demand) -> Option<Window> {
        let key = demand.window.as_ref()?;
        let at = *self.windows.by_key.get(key)?;
        let known = self
            .windows
            .known
            .get_mut(at)
            .filter(|known| known.pending)?;
        known.pending = false;
        let (window, node) = (known.window.clone(), known.at.take()?);
        self.on_boards(node, &window, Board::free_again);
        for answers in &mut self.answers {
            answers.gives_back(node);
        }
        Some(window)
    }

    /// A demand cannot be served now. Keeps slices free for it if it waited long enough, those of its window so
    /// far if they may still come free.
    pub(super) fn reserve_for(
        &mut self,
        demand: &Demand,
        own: Option<Window>,
        wish: usize,
        refusal: Refusal,
    ) -> Outcome {
        let may = refusal.kind == RefusalKind::NoRoom && self.has_room(demand, 1);
        let key = demand.window.as_ref().filter(|_| may);
        let own = own
            .filter(|_| may)
            .and_then(|own| self.renewed(demand, own));
        let found = own.or_else(|| self.new_window(demand, key?, wish));
        let Some((node, window)) = found else {
            return Outcome::Refused(refusal);
        };
        self.on_boards(node, &window, Board::keep_free);
        let reserved = Outcome::Reserved {
            refusal: Refusal {
                kind: refusal.kind,
                text: format!("{}; {}", window.words(), refusal.text).into(),
            },
            clear: self.clear(node, &window),
        };
        self.windows.kept.push(window);
        reserved
    }

    fn renewed(&self, demand: &Demand, window: Window) -> Option<(usize, Window)> {
        let node = self.find(&window.node).ok()?;
        let allowed = demand.nodes.allowed().contains(node);
        let overlaps = self
            .windows
            .kept
            .iter()
            .any(|other| other.overlaps(&window));
        let good = allowed && !overlaps && self.has_room(demand, window.parts.len());
        good.then_some((
            node,
            Window {
                priority: demand.priority,
                ..window
            },
        ))
    }

    fn new_window(
        &mut self,
        demand: &Demand,
        key: &Arc<str>,
        wish: usize,
    ) -> Option<(usize, Window)> {
        if self.windows.searches == MOST_SEARCHES {
            return None;
        }
        self.windows.searches += 1;
        let answers = &self.answers[wish];
        let search = Search {
            wants: &answers.wants,
            goal: &answers.goal,
            nodes: &demand.nodes,
            idle: self.boards.idle,
            windows: self.windows.others(demand.priority).collect(),
        };
        let (at, slices) = search.best(&self.slots)?;
        let node = self.node(at)?;
        let window = Window {
            key: Arc::clone(key),
            priority: demand.priority,
            node: node.name.clone(),
            parts: parts(node, slices),
        };
        let room = self.has_room(demand, window.parts.len());
        room.then_some((at, window))
    }

    /// Whether so many GPUs may have a window for this demand. The first one may be of any number.
    fn has_room(&self, demand: &Demand, gpus: usize) -> bool {
        let others = self.windows.others(demand.priority);
        let taken: usize = others.map(|window| window.parts.len()).sum();
        let all = || -> usize { self.slots.iter().map(|slot| slot.node.gpus.len()).sum() };
        taken == 0 || taken + gpus <= all() * MOST_IN_A_HUNDRED / 100
    }

    /// Changes the GPUs of a window for the rest of the pass.
    fn on_boards(&mut self, node: usize, window: &Window, change: impl Fn(&mut Board, SliceMask)) {
        let (work, slot) = touch(&mut self.touched, &mut self.slots, node);
        for part in &window.parts {
            if let Some(board) = work.boards.get_mut(part.gpu) {
                change(board, part.slices);
            }
        }
        self.versions += 1;
        slot.state.promised(work, &mut self.boards, self.versions);
        self.promised_on.push(node);
    }

    /// What has to be given up on the slices of a window.
    fn clear(&mut self, node: usize, window: &Window) -> Option<NodePlan> {
        let (work, slot) = touch(&mut self.touched, &mut self.slots, node);
        let mut gpus = Vec::new();
        for part in &window.parts {
            let (Some(board), Some(gpu)) =
                (work.boards.get_mut(part.gpu), slot.node.gpus.get(part.gpu))
            else {
                continue;
            };
            let gone = |idle: &IdleInstance| {
                Some(GivenUp {
                    gi_id: idle.gi_id,
                    profile: board.model.profile(idle.profile)?.name,
                    placement: idle.placement,
                    resource: idle.resource.clone(),
                })
            };
            let idle = board.aside.iter().filter(|idle| idle.is_on(part.slices));
            let give_up: Vec<_> = idle
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
        if gpus.is_empty() {
            return None;
        }
        self.versions += 1;
        slot.state.promised(work, &mut self.boards, self.versions);
        self.promised_on.push(node);
        Some(NodePlan { node, gpus })
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
