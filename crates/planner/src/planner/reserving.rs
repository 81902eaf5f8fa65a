//! Windows of demands that waited too long: who has one, and what that means for the others.
//!
//! A window is in force for all demands that do not come before its own by priority, until that one's turn. Windows that
//! are in force together never overlap. One that stands in the way of what was promised before it came into force is
//! given up: who comes before may use the slices, and has to be shown what is promised to it.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Planner,
    granting::{Granting, own_kind},
    touch,
};
use crate::{
    demand::Demand,
    outcome::{GivenUp, GpuPlan, NodePlan, Outcome, Refusal},
    state::Node,
    window::Window,
    work::{IdleInstance, WorkNode},
};

/// All windows: first as the last pass left them, then as the pass under way does.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Those of the last pass whose demands are in this one, by priority, the highest first.
    known: Vec<Known>,
    /// Positions in that.
    by_key: HashMap<Arc<str>, usize>,
    /// How many of them came into force: those of demands that do not come after the present one by priority.
    reached: usize,
    /// Those of this pass, or of the last one between passes.
    pub(super) kept: Vec<Window>,
    pub(super) granting: Granting,
}

/// What others got of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Nothing that it was kept free for.
    No,
    /// One of several devices, or more: there may be a better place now.
    InPart,
    /// The only one.
    All,
}

#[derive(Debug)]
struct Known {
    window: Window,
    /// The node on which it is in force.
    at: Option<usize>,
    /// Its demand was not looked at yet, and it is not given up.
    pending: bool,
}

impl Windows {
    /// Windows that an earlier demand has, or that a later one of at least this priority had so far.
    pub(super) fn others(&self, priority: i32) -> impl Iterator<Item = &Window> {
        let known = self
            .known
            .iter()
            .filter(move |known| known.pending && known.window.priority >= priority);
        self.kept.iter().chain(known.map(|known| &known.window))
    }
}

impl Planner {
    /// Slices that are kept free, as the last pass left it.
    pub fn windows(&self) -> &[Window] {
        &self.windows.kept
    }

    /// A pass over these demands begins: windows of others are no more, nor those that their demands leave.
    pub(super) fn begin_windows(&mut self, demands: &[Demand]) {
        let gpus = self.slots.iter().map(|slot| slot.node.gpus.len()).sum();
        self.windows.granting.begin(gpus);
        let mut kept = std::mem::take(&mut self.windows.kept);
        if kept.is_empty() {
            return;
        }
        let asks = demands.iter().filter_map(|demand| demand.window.as_ref());
        let stay = asks.filter(|ask| !ask.leaves);
        let keys: HashSet<_> = stay.map(|ask| &ask.key).collect();
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

    /// The pass is over; what it decides about windows holds until the next one.
    pub(super) fn end_windows(&mut self) {
        self.windows.known.clear();
        self.windows.by_key.clear();
        self.windows.reached = 0;
        self.windows.granting.end(&self.windows.kept);
    }

    /// Demands of this priority and lower ones come now: they do not get what is kept free for those of the same
    /// priority, older or not.
    pub(super) fn keep_for_others(&mut self, priority: i32) {
        while let Some(known) = self.windows.known.get(self.windows.reached) {
            if known.window.priority < priority {
                return;
            }
            let window = known.window.clone();
            let at = self.come_into_force(&window);
            let reached = self.windows.reached;
            self.windows.reached += 1;
            self.windows.granting.changed();
            if let Some(known) = self.windows.known.get_mut(reached) {
                known.pending = at.is_ok();
                known.at = at.unwrap_or_default();
            }
        }
    }

    /// The node on which a window of the last pass is in force from now on, or none as long as nothing is known of it.
    /// An error if it has to be given up.
    fn come_into_force(&mut self, window: &Window) -> Result<Option<usize>, ()> {
        let at = self.find(&window.node).map_err(|_| ())?;
        let slot = self.slots.get(at).ok_or(())?;
        match window.is_on(&slot.node) {
            None => return Ok(None),
            Some(true) => {}
            Some(false) => return Err(()),
        }
        let mut kept = self.windows.kept.iter();
        if kept.any(|other| other.overlaps(window)) {
            return Err(());
        }
        if slot.touched {
            let slices: Vec<_> = window.parts.iter().map(|p| (p.gpu, p.slices)).collect();
            let mut parts = slices.iter();
            let promised = parts.any(|(gpu, slices)| {
                let board = slot.work.boards.get(*gpu);
                board.is_some_and(|board| board.is_promised(*slices))
            });
            let hides = || window.hides && slot.work.would_hide_promised(&slot.node.gpus, &slices);
            if promised || hides() {
                return Err(());
            }
        }
        self.close(at, window);
        Ok(Some(at))
    }

    /// The window of this demand, which it may use now, and the node on which that was in force.
    pub(super) fn open_window(&mut self, demand: &Demand) -> Option<Window> {
        let key = &demand.window.as_ref()?.key;
        let at = *self.windows.by_key.get(key)?;
        let known = self.windows.known.get_mut(at)?;
        if !std::mem::take(&mut known.pending) {
            return None;
        }
        let (window, node) = (known.window.clone(), known.at.take());
        self.windows.granting.changed();
        if let Some(node) = node {
            self.change(node, |work, node| {
                for part in &window.parts {
                    if let Some(board) = work.board_mut(part.gpu) {
                        board.free_again(window.kept(part));
                    }
                }
                work.hide(&node.gpus);
            });
            for answers in &mut self.answers {
                answers.gives_back(node);
            }
        }
        Some(Window {
            priority: demand.priority,
            ..window
        })
    }

    /// Something on this node is promised to a demand that has this window. It stays until its pod has what was
    /// promised: somebody else may get that, or it may not come about.
    pub(super) fn keep_on(&mut self, window: Window, promised: usize) {
        let at = self.find(&window.node).ok();
        let window = Window {
            hides: at != Some(promised),
            ..window
        };
        if let Some(at) = at.filter(|at| self.is_on(&window, *at)) {
            self.close(at, &window);
        }
        self.keep(window);
    }

    /// A demand cannot be served now. Keeps slices free for it if it waited long enough, those of its window so far as
    /// long as they are there.
    pub(super) fn reserve_for(
        &mut self,
        demand: &Demand,
        own: Option<Window>,
        wish: usize,
        refusal: Refusal,
    ) -> Outcome {
        let Some(ask) = &demand.window else {
            return Outcome::Refused(refusal);
        };
        let own = own.filter(|window| self.may_keep(window));
        let is_allowed = |planner: &Self, window: &Window| {
            let at = planner.find(&window.node).ok();
            at.is_some_and(|at| demand.nodes.allowed().contains(at))
        };
        let lost = match &own {
            Some(own) => self.is_lost(own, wish),
            None => Lost::No,
        };
        let (own, new) = match own {
            Some(own) if lost == Lost::No && (is_allowed(self, &own) || ask.stays) => {
                (Some(own), None)
            }
            // That may be for a moment only, and is better than none; unless something there was promised to the
            // demand before, and in vain.
            own => {
                let new = self.new_window(demand, ask, wish, &refusal);
                let may_stay = |own: &Window| match lost {
                    Lost::No => own.hides,
                    Lost::InPart => is_allowed(self, own),
                    Lost::All => false,
                };
                (own.filter(may_stay), new)
            }
        };
        let Some(window) = new.or(own) else {
            return Outcome::Refused(refusal);
        };
        let window = Window {
            hides: true,
            ..window
        };
        let node = self.find(&window.node).ok();
        let clear = node.filter(|at| self.is_on(&window, *at)).and_then(|node| {
            self.close(node, &window);
            let may = is_allowed(self, &window);
            may.then(|| self.clear(node, &window)).flatten()
        });
        let text = format!("{}; {}", window.words(), refusal.text).into();
        self.keep(window);
        Outcome::Reserved {
            refusal: Refusal {
                kind: refusal.kind,
                text,
            },
            clear,
        }
    }

    /// What somebody else got of what could be made on the slices of a window at last. The only device that its
    /// demand asks for is no use to be waited for again there; and if it asks for several, what has to end now may be
    /// more than elsewhere.
    fn is_lost(&self, window: &Window, wish: usize) -> Lost {
        let node = self.find(&window.node).ok().and_then(|at| self.node(at));
        let (Some(node), Some(answers)) = (node, self.answers.get(wish)) else {
            return Lost::No;
        };
        let mut held = window.held(node);
        match own_kind(&answers.wants) {
            Some(kind) if held.any(|i| i.resource.as_deref() == Some(kind)) => Lost::All,
            None if !window.hides && held.next().is_some() => Lost::InPart,
            _ => Lost::No,
        }
    }

    fn is_on(&self, window: &Window, node: usize) -> bool {
        let node = self.node(node);
        node.is_some_and(|node| window.is_on(node) == Some(true))
    }

    fn keep(&mut self, window: Window) {
        self.windows.kept.push(window);
        self.windows.granting.changed();
    }

    /// For the rest of the pass, or until it is opened again, a window is in force.
    fn close(&mut self, node: usize, window: &Window) {
        self.change(node, |work, node| {
            for part in &window.parts {
                if let Some(board) = work.board_mut(part.gpu) {
                    board.keep_free(window.kept(part));
                }
            }
            work.hide(&node.gpus);
        });
    }

    fn change<T>(&mut self, node: usize, change: impl FnOnce(&mut WorkNode, &Node) -> T) -> T {
        let slot = touch(&mut self.touched, &mut self.slots, node);
        let result = change(&mut slot.work, &slot.node);
        self.versions += 1;
        slot.state
            .changed(&slot.work, &mut self.boards, self.versions);
        self.promised_on.push(node);
        result
    }

    /// What has to be given up on the slices of a window.
    fn clear(&mut self, node: usize, window: &Window) -> Option<NodePlan> {
        let gpus = self.change(node, |work, node| {
            let mut gpus = Vec::new();
            for part in &window.parts {
                let (Some(board), Some(gpu)) = (work.board_mut(part.gpu), node.gpus.get(part.gpu))
                else {
                    continue;
                };
                let gone = |idle: &IdleInstance| {
                    Some(GivenUp {
                        gi_id: idle.gi_id,
                        profile: board.model.profile(idle.profile)?.name,
                        placement: idle.placement,
                        resource: idle.resource.as_deref().map(str::to_owned),
                    })
                };
                let idle = board.aside.iter().filter(|idle| idle.is_on(part.slices));
                let may_go =
                    |idle: &&IdleInstance| !idle.arriving && !board.busy && board.changeable;
                let give_up: Vec<_> = idle.filter(may_go).filter_map(gone).collect();
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
            gpus
        });
        (!gpus.is_empty()).then_some(NodePlan { node, gpus })
    }
}
