//! Who gets a new window, and where.
//!
//! There are few windows at a time, so those who ask stand in line: by priority, then by age, of which the time does not
//! count that they have had windows in vain. Who is first in that line and has no room keeps those behind it from new
//! ones, so that everybody gets a turn. A search in vain is not repeated before something has changed.

use std::{cmp::Reverse, sync::Arc};

use mig::SliceMask;

use super::{
    Planner,
    turns::{self, Prospect, Turns},
};
use crate::{
    blockers::{Purpose, STUCK, Terms, blockers},
    demand::Demand,
    outcome::{Refusal, RefusalKind},
    state::Node,
    window::{Ask, Part, Window},
    work::Want,
};

/// GPUs of a hundred that may have windows; one in any case.
const MOST_IN_A_HUNDRED: usize = 3;
/// GPUs that may have windows in any cluster. Each window costs every pass something.
const MOST_GPUS: usize = 24;
/// Nodes that one search looks at closely. They come by what would have to end if nothing were promised, so that those
/// left out are hardly better. If none of them will do, the next search goes on behind them.
const MOST_NODES: usize = 256;

/// A place in the line; the smallest is the first.
type Rank = (Reverse<i32>, i64);

/// Slices by the position of their GPU.
type Slices = Vec<(usize, SliceMask)>;

/// What is remembered of those who ask for windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Granting {
    /// Counts changes of nodes.
    changes: u64,
    /// Counts changes of windows from pass to pass.
    windows: u64,
    /// GPUs that may have windows.
    most: usize,
    /// Who was the first that had no room, in the last pass and in this one.
    first: Option<Rank>,
    next: Option<Rank>,
    /// Somebody stands behind that one, and there is room now.
    is_kept_back: bool,
    /// There may be none that has no room any more, for whose sake others were kept back.
    is_freed: bool,
    turns: Turns,
    /// Windows as the last pass left them.
    before: Vec<Window>,
    /// GPUs that have windows, as seen by demands of this priority.
    taken: Option<(i32, usize)>,
}

impl Granting {
    /// A node is not what it was.
    pub(super) fn node_changed(&mut self) {
        self.changes += 1;
    }

    /// There is a window more or less.
    pub(super) fn changed(&mut self) {
        self.taken = None;
    }

    pub(super) fn begin(&mut self, gpus: usize) {
        self.most = (gpus * MOST_IN_A_HUNDRED / 100).clamp(1, MOST_GPUS);
        self.is_kept_back = false;
        self.turns.begin();
        self.taken = None;
    }

    pub(super) fn end(&mut self, kept: &[Window]) {
        let next = self.next.take();
        self.is_freed = self.is_kept_back && next != self.first;
        self.first = next;
        let is_changed = self.before != kept;
        if is_changed {
            self.before = kept.to_vec();
            self.windows += 1;
        }
        self.turns.end(is_changed);
    }

    fn state(&self) -> turns::State {
        (self.changes, self.windows)
    }

    fn has_no_room(&mut self, rank: Rank) {
        self.next = self.next.into_iter().chain([rank]).min();
    }
}

impl Planner {
    /// How many GPUs may have windows at a time, but for one that needs more alone; as the last pass saw it.
    pub fn most_window_gpus(&self) -> usize {
        self.windows.granting.most.max(1)
    }

    /// Whether the last pass put off or cut off searches for windows that another pass would make, though nothing
    /// changes in between. After a bounded number of such passes none are left.
    pub fn puts_searches_off(&self) -> bool {
        let granting = &self.windows.granting;
        granting.turns.is_unfinished() || granting.is_freed
    }

    /// Whether so many GPUs may have a window for a demand of this priority. The first one may be of any number.
    pub(super) fn has_room(&mut self, priority: i32, gpus: usize) -> bool {
        let taken = match self.windows.granting.taken {
            Some((known, taken)) if known == priority => taken,
            _ => {
                let others = self.windows.others(priority);
                others.map(|window| window.parts.len()).sum()
            }
        };
        self.windows.granting.taken = Some((priority, taken));
        taken == 0 || taken + gpus <= self.windows.granting.most
    }

    /// Whether a window may stay though fewer GPUs are known for a moment, as while an agent starts anew: the last of
    /// those who have one goes then.
    pub(super) fn may_keep(&self, own: &Window) -> bool {
        let kept = self.windows.kept.iter();
        let taken: usize = kept.map(|window| window.parts.len()).sum();
        taken == 0 || taken + own.parts.len() <= self.windows.granting.most
    }

    /// A window for a demand that was refused for this reason and has none, if it is its turn.
    pub(super) fn new_window(
        &mut self,
        demand: &Demand,
        ask: &Ask,
        wish: usize,
        refusal: &Refusal,
    ) -> Option<Window> {
        if refusal.kind != RefusalKind::NoRoom {
            return None;
        }
        let (key, state) = (turns::key(demand, ask), self.windows.granting.state());
        let rank = (
            Reverse(demand.priority),
            demand.created.saturating_add(ask.spent),
        );
        match self.windows.granting.turns.prospect(key, demand, state) {
            Prospect::Nothing => return None,
            Prospect::Hope if self.has_room(demand.priority, 1) => {}
            Prospect::TooMuch(gpus) if self.has_room(demand.priority, gpus) => {}
            Prospect::Hope | Prospect::TooMuch(_) => {
                self.windows.granting.has_no_room(rank);
                return None;
            }
        }
        let granting = &mut self.windows.granting;
        if granting.first.is_some_and(|first| rank > first) {
            granting.is_kept_back = true;
            return None;
        }
        if !granting.turns.takes(key, demand, state) {
            if granting.first == Some(rank) {
                // It is not known yet whether there is room enough for it.
                granting.has_no_room(rank);
            }
            return None;
        }
        let skip = granting.turns.skip(key);
        let (found, skip) = self.best_window(demand, ask, wish, skip);
        let Some((at, parts)) = found else {
            self.windows.granting.turns.found_nothing(key, skip);
            return None;
        };
        if !self.has_room(demand.priority, parts.len()) {
            let too_much = Prospect::TooMuch(parts.len());
            self.windows.granting.turns.found(key, too_much);
            self.windows.granting.has_no_room(rank);
            return None;
        }
        self.windows.granting.turns.found(key, Prospect::Hope);
        Some(Window {
            key: Arc::clone(&ask.key),
            priority: demand.priority,
            node: self.node(at)?.name.clone(),
            parts,
            hides: true,
        })
    }

    /// The slices whose pods are the fewest and youngest, of nodes behind the first `skip` that tie those of the first. If
    /// there are none, others may be found behind so many nodes.
    fn best_window(
        &mut self,
        demand: &Demand,
        ask: &Ask,
        wish: usize,
        skip: usize,
    ) -> (Option<(usize, Vec<Part>)>, usize) {
        let Some(answers) = self.answers.get_mut(wish) else {
            return (None, 0);
        };
        answers.look_at_blockers(&mut self.slots, self.versions);
        let by_price = answers.blocked_nodes(demand.nodes.allowed());
        let (wants, goal) = (&answers.wants, &answers.goal);
        let terms = Terms {
            own: own_kind(wants),
            avoid: &ask.avoid,
            now: ask.now,
            grain: ask.grain,
        };
        let mut best: Option<(u32, usize, Slices)> = None;
        let mut looked = 0;
        for (least, at) in by_price.skip(skip).take(MOST_NODES) {
            looked += 1;
            if best.as_ref().is_some_and(|(price, ..)| *price <= least) {
                break;
            }
            let Some(slot) = self.slots.get(at) else {
                continue;
            };
            let work = &slot.work;
            let is_closed = |want: &Want| work.closed.contains(&*want.resource);
            let Some(found) = blockers(&slot.node, work, wants, goal, Purpose::Window(&terms))
            else {
                continue;
            };
            let better = best.as_ref().is_none_or(|(price, ..)| found.price < *price);
            if (1..STUCK).contains(&found.price)
                && better
                && !wants.iter().any(is_closed)
                && !work.would_hide_promised(&slot.node.gpus, &found.made)
            {
                best = Some((found.price, at, found.made));
            }
        }
        let found = best.and_then(|(_, at, slices)| {
            let parts = parts(self.node(at)?, slices);
            (!parts.is_empty()).then_some((at, parts))
        });
        let all = looked < MOST_NODES;
        (found, if all { 0 } else { skip + looked })
    }
}

/// The name of the only device that is wanted.
pub(super) fn own_kind(wants: &[Want]) -> Option<&str> {
    match wants {
        [want] if want.count == 1 => Some(&want.resource),
        _ => None,
    }
}

fn parts(node: &Node, slices: Slices) -> Vec<Part> {
    let part = |(gpu, slices): (usize, SliceMask)| {
        let uuid = node.gpus.get(gpu)?.uuid.clone();
        Some(Part { gpu, uuid, slices })
    };
    slices.into_iter().filter_map(part).collect()
}
