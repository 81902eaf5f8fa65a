//! Slices that are kept free for a demand that waited too long.
//!
//! Small demands fill every gap as it comes, so that a large one could wait for ever. After a while it gets
//! a window: slices of one node that nobody else is given any more, so that it starts once the pods end
//! that have some of them. Of all windows it is one for which the fewest have to end.
//!
//! Who waits for nothing but devices of the kind that it asks for gets none: whichever pod the stock scheduler
//! gives the next of them, nothing is gained by hiding one.

use std::{collections::HashMap, sync::Arc};

use mig::SliceMask;

use crate::{
    boards::{BoardId, Boards},
    cost::Cost,
    demand::Eligibilities,
    options::{Choice, Options, options},
    search::{Found, Goal, by_counts},
    slot::Slot,
    state::{Idle, Node, Usage},
    work::{Board, IdleInstance, Want, WorkNode},
};

/// Different states of GPUs that one search looks at. Beyond that only nodes count of which all is known:
/// in a cluster so large, one that is not the best is nearly so.
const MOST_LOOKED_AT: usize = 512;
/// Partial sums that one search may look at, for demands of many devices.
const MOST_SUMS: usize = 200_000;

/// Slices kept free for one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whose it is: [`crate::Demand::window`].
    pub key: Arc<str>,
    /// The priority of its demand: who has a higher one may use the slices.
    pub priority: i32,
    /// Name of the node.
    pub node: String,
    /// The GPUs, and the slices of each; none is without.
    pub parts: Vec<Part>,
}

/// Slices of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index into [`crate::Node::gpus`].
    pub gpu: usize,
    /// NVML's uuid.
    pub uuid: String,
    /// The slices.
    pub slices: SliceMask,
}

impl Window {
    /// What is kept free, as half a sentence about the demand.
    pub fn words(&self) -> String {
        let slices = |part: &Part| {
            let bits = part.slices.bits();
            // There may be gaps, which nobody needs to be told of.
            let (first, last) = (bits.trailing_zeros(), bits.checked_ilog2().unwrap_or(0));
            format!("slices {first}-{last} of {}", part.uuid)
        };
        let parts: Vec<_> = self.parts.iter().map(slices).collect();
        let parts = parts.join(" and ");
        format!("{parts} on node {} are kept free for it", self.node)
    }

    /// Whether it can still come free on this node.
    pub(crate) fn is_on(&self, node: &Node) -> bool {
        self.node == node.name && self.parts.iter().all(|part| part.is_on(node))
    }
}

impl Part {
    fn is_on(&self, node: &Node) -> bool {
        let gpu = node.gpus.get(self.gpu).filter(|gpu| gpu.uuid == self.uuid);
        gpu.is_some_and(|gpu| {
            let stuck = gpu.instances.iter().filter(|i| i.usage == Usage::Stuck);
            let mut masks = stuck.map(|instance| instance.placement.mask());
            gpu.changeable && !masks.any(|mask| mask.overlaps(self.slices))
        })
    }
}

/// Slices by the position of their GPU.
pub(crate) type Slices = Vec<(usize, SliceMask)>;

/// What is looked for.
pub(crate) struct Search<'a> {
    pub(crate) wants: &'a [Want],
    pub(crate) goal: &'a Goal,
    pub(crate) nodes: &'a Eligibilities,
    /// What becomes of idle instances.
    pub(crate) idle: Idle,
    /// Those of others.
    pub(crate) windows: Vec<&'a Window>,
}

impl Search<'_> {
    /// The window for which the fewest instances in use have to end, and where that is, if there is any.
    pub(crate) fn best(&self, slots: &[Slot]) -> Option<(usize, Slices)> {
        let mut known = Known {
            boards: Boards::new(self.idle),
            options: HashMap::new(),
        };
        let mut left = MOST_SUMS;
        let mut best: Option<(Cost, usize, Slices)> = None;
        for at in self.nodes.allowed().iter() {
            let Some(node) = slots.get(at).map(|slot| &slot.node) else {
                continue;
            };
            let boards = self.boards(node);
            let Some(all) = known.options(self, &boards) else {
                continue;
            };
            let start: Vec<_> = self.wants.iter().map(|want| fixed(node, want)).collect();
            let (found, choices) = by_counts(self.goal, &start, &all, &mut left);
            let (Found::Served(cost), Some(choices)) = (found, choices) else {
                continue;
            };
            if best.as_ref().is_none_or(|(known, ..)| cost < *known) {
                let of_use = self.helps(&boards, &choices);
                let slices = of_use.then(|| slices(&boards, &choices));
                best = Some((cost, at, slices.unwrap_or_default()));
            }
        }
        let (_, at, slices) = best?;
        Some((at, slices)).filter(|(_, slices)| !slices.is_empty())
    }

    /// Whether anything has to end that others wait for than those who want the same.
    fn helps(&self, boards: &[Board], choices: &[&Choice]) -> bool {
        let gone = boards.iter().zip(choices).flat_map(|(board, choice)| {
            let gone = choice.give_up.iter();
            gone.filter_map(|gone| board.idle.get(*gone))
        });
        let own = |name: &str| self.wants.iter().any(|want| want.resource == name);
        let mut held = gone.filter(|idle| idle.held);
        held.any(|idle| !idle.resource.as_deref().is_some_and(own))
    }

    /// A node as if everything in use could end, but for what others have windows on.
    fn boards(&self, node: &Node) -> Vec<Board> {
        let mut boards = WorkNode::new(node).boards;
        let taken = self
            .windows
            .iter()
            .filter(|window| window.node == node.name);
        let taken: Vec<_> = taken.flat_map(|window| &window.parts).collect();
        for ((board, gpu), number) in boards.iter_mut().zip(&node.gpus).zip(0..) {
            let held = gpu.instances.iter().filter(|i| i.usage == Usage::Held);
            for instance in held {
                if board.firm.remove(instance.placement).is_some() {
                    board.idle.push(IdleInstance {
                        gi_id: instance.gi_id,
                        profile: instance.profile,
                        placement: instance.placement,
                        resource: instance.resource.clone(),
                        arriving: false,
                        held: true,
                    });
                }
            }
            for part in taken.iter().filter(|part| part.gpu == number) {
                board.keep_free(part.slices);
            }
        }
        boards
    }
}

fn fixed(node: &Node, want: &Want) -> u32 {
    let free = node.fixed.get(&want.resource).copied().unwrap_or(0);
    free.min(want.count)
}

/// The slices that these choices make something on, by GPU, with those of instances elsewhere that have
/// what there is only one of, such as the media engines.
fn slices(boards: &[Board], choices: &[&Choice]) -> Slices {
    let of = |(number, choice): (usize, &&Choice)| {
        let made = choice.create.iter().map(|made| made.2.mask());
        let made = made.fold(SliceMask::EMPTY, SliceMask::union);
        let idle = &boards.get(number)?.idle;
        let gone = choice.give_up.iter().filter_map(|gone| idle.get(*gone));
        let elsewhere = gone
            .map(|idle| idle.placement.mask())
            .filter(|mask| !mask.overlaps(made));
        let mask = elsewhere.fold(made, SliceMask::union);
        (!mask.is_empty()).then_some((number, mask))
    };
    choices.iter().enumerate().filter_map(of).collect()
}

/// What GPUs can do, by their state.
struct Known {
    boards: Boards,
    options: HashMap<BoardId, Arc<Options>>,
}

impl Known {
    /// For each GPU of a node; nothing if too much was looked at before.
    fn options(&mut self, search: &Search<'_>, boards: &[Board]) -> Option<Vec<Arc<Options>>> {
        let each = boards.iter().map(|board| {
            let id = self.boards.id(board);
            if let Some(known) = self.options.get(&id) {
                return Some(Arc::clone(known));
            }
            if self.options.len() >= MOST_LOOKED_AT {
                return None;
            }
            let (board, worth) = self.boards.with_worth(id)?;
            let new = Arc::new(options(board, worth, search.wants, search.goal));
            self.options.insert(id, Arc::clone(&new));
            Some(new)
        });
        each.collect()
    }
}
