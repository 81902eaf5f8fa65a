//! The planner's own copy of the state, in which promises are written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mig::{GpuModel, Layout, Placement, ProfileIndex, ProfileName, SliceMask, fraction::Class};

use crate::state::{Gpu, Node, Usage};

/// One resource of a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) resource: Arc<str>,
    pub(crate) of: Kind,
    pub(crate) count: u32,
}

/// What a resource stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A profile: the same on every GPU that has it.
    Profile(ProfileName),
    /// A fraction: whatever profile serves it on the GPU.
    Class(Class),
    /// Something that no plan can make.
    Fixed,
}

impl Want {
    /// Whether it names a profile.
    pub(crate) fn is_profile(&self) -> bool {
        matches!(self.of, Kind::Profile(_))
    }

    /// The profile that serves it on GPUs of a model.
    pub(crate) fn profile(&self, model: &GpuModel) -> Option<ProfileIndex> {
        match self.of {
            Kind::Profile(name) => model.find(&name).map(|(index, _)| index),
            Kind::Class(class) => class.profile(model).map(|(index, _)| index),
            Kind::Fixed => None,
        }
    }
}

/// A node with what is promised taken out. It goes through a pass as it is, and is brought back to what it was then.
#[derive(Clone, Debug)]
pub(crate) struct WorkNode {
    pub(crate) fixed: BTreeMap<String, u32>,
    pub(crate) boards: Vec<Board>,
    /// Devices that were promised in this pass, by resource.
    promised: Vec<(Arc<str>, u32)>,
    /// Resources of which the node's status shows none that is free, and would show none if one more were made:
    /// windows hide more of them than are idle.
    pub(crate) closed: BTreeSet<String>,
    /// Devices in use that windows hide.
    hidden: BTreeMap<String, u32>,
    /// What was changed in this pass.
    before: Option<Box<Before>>,
}

/// What a node was before a pass, as far as that may have changed. Nothing is promised and kept free then.
#[derive(Clone, Debug)]
struct Before {
    fixed: BTreeMap<String, u32>,
    /// By the number of their GPU.
    boards: Vec<(usize, Board)>,
}

/// A GPU with what is promised taken out.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) model: Arc<GpuModel>,
    pub(crate) changeable: bool,
    /// A plan is under way, or was made in this pass.
    pub(crate) busy: bool,
    /// What stays whatever is planned.
    pub(crate) firm: Layout,
    /// What may be used, and given up unless it is arriving.
    pub(crate) idle: Vec<IdleInstance>,
    /// Idle instances on slices that are kept free for somebody else.
    pub(crate) aside: Vec<IdleInstance>,
    /// Slices of what was promised in this pass.
    promised: SliceMask,
    /// Slices that are kept free for somebody else, window by window.
    kept: Vec<Kept>,
}

/// Slices of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) slices: SliceMask,
    /// Whether the node's status leaves out what stands there.
    pub(crate) hides: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdleInstance {
    pub(crate) gi_id: u32,
    pub(crate) profile: ProfileIndex,
    pub(crate) placement: Placement,
    pub(crate) resource: Option<Arc<str>>,
    pub(crate) arriving: bool,
    /// It only counts as arriving because a pod may be getting it at this moment.
    reserved: bool,
    /// The node's status shows one fewer of its name for the sake of a window, so that nobody could be sent to it. It
    /// may still be given up for something else, or move to another name.
    pub(crate) hidden: bool,
    /// Its position among the GPU's instances, which is the order of these.
    order: usize,
}

impl IdleInstance {
    fn reserve(&mut self, is: bool) {
        (self.reserved, self.arriving) = (is, is);
    }

    pub(crate) fn is_on(&self, slices: SliceMask) -> bool {
        self.placement.mask().overlaps(slices)
    }
}

impl WorkNode {
    pub(crate) fn new(node: &Node) -> Self {
        let boards = node.gpus.iter().map(Board::new);
        let mut work = Self {
            fixed: node.fixed.clone(),
            boards: boards.collect(),
            promised: Vec::new(),
            closed: BTreeSet::new(),
            hidden: BTreeMap::new(),
            before: None,
        };
        for (resource, count) in &node.reserved {
            // Those that bound pods are about to get come on top.
            let claimed = node.claimed.get(resource).copied().unwrap_or(0);
            work.reserve(resource, count.saturating_add(claimed));
        }
        for (resource, count) in &node.claimed {
            work.promise(resource, *count);
        }
        work
    }

    /// Keeps idle devices of a resource from being given up.
    fn reserve(&mut self, resource: &str, count: u32) {
        let idle = self.boards.iter_mut().flat_map(|board| &mut board.idle);
        let offered = idle.filter(|i| !i.arriving && i.resource.as_deref() == Some(resource));
        for instance in offered.take(as_usize(count)) {
            instance.reserve(true);
        }
    }

    /// What pods may be getting is elsewhere than on slices that are kept free, as far as there is enough: there it is
    /// not shown to them.
    fn reserve_elsewhere(&mut self) {
        let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let boards = self.boards.iter_mut();
        for idle in boards.flat_map(|board| board.idle.iter_mut().chain(&mut board.aside)) {
            if let (true, Some(resource)) = (idle.reserved, &idle.resource) {
                *counts.entry(resource.clone()).or_default() += 1;
                idle.reserve(false);
            }
        }
        for (resource, count) in counts {
            let (idle, aside): (Vec<_>, Vec<_>) = self
                .boards
                .iter_mut()
                .map(|board| (board.idle.iter_mut(), board.aside.iter_mut()))
                .unzip();
            let all = idle.into_iter().chain(aside).flatten();
            let may = |i: &&mut IdleInstance| !i.arriving && i.resource.as_ref() == Some(&resource);
            all.filter(may)
                .take(count)
                .for_each(|idle| idle.reserve(true));
        }
    }

    /// A pass begins in which the node changes.
    pub(crate) fn begin(&mut self) {
        self.before = Some(Box::new(Before {
            fixed: self.fixed.clone(),
            boards: Vec::new(),
        }));
    }

    /// The pass is over.
    pub(crate) fn end(&mut self) {
        let Some(before) = self.before.take() else {
            return;
        };
        self.fixed = before.fixed;
        for (number, board) in before.boards {
            self.boards[number] = board;
        }
        self.promised.clear();
        self.closed.clear();
        self.hidden.clear();
    }

    /// A GPU that changes in this pass.
    pub(crate) fn board_mut(&mut self, number: usize) -> Option<&mut Board> {
        let board = self.boards.get_mut(number)?;
        if let Some(before) = &mut self.before
            && !before.boards.iter().any(|(known, _)| *known == number)
        {
            before.boards.push((number, board.clone()));
        }
        Some(board)
    }

    /// Whether a plan is under way on any GPU, or was made in this pass.
    pub(crate) fn is_busy(&self) -> bool {
        self.boards.iter().any(|board| board.busy)
    }

    /// Finds out what windows hide of the node's devices: of each name, as many idle ones as hidden ones in use are
    /// of no use, for the scheduler subtracts from what the status shows what all pods of the node ask for.
    pub(crate) fn hide(&mut self, gpus: &[Gpu]) {
        for number in 0..self.boards.len() {
            self.board_mut(number);
        }
        self.reserve_elsewhere();
        self.hidden.clear();
        self.closed.clear();
        for (board, gpu) in self.boards.iter_mut().zip(gpus) {
            for idle in &mut board.idle {
                idle.hidden = false;
            }
            for (resource, count) in hidden(gpu, |placement| board.hides(placement)) {
                *self.hidden.entry(resource.to_owned()).or_default() += count;
            }
        }
        for (resource, hidden) in &self.hidden {
            let mut left = *hidden;
            // One that is arriving will be shown when it is there: it is the last that is of no use.
            for arriving in [false, true] {
                let idle = self.boards.iter_mut().flat_map(|board| &mut board.idle);
                let same = |i: &&mut IdleInstance| {
                    i.arriving == arriving && i.resource.as_deref() == Some(resource)
                };
                for idle in idle.filter(same).take(as_usize(left)) {
                    idle.hidden = true;
                    left -= 1;
                }
            }
            if left > 0 {
                self.closed.insert(resource.clone());
            }
        }
    }

    /// Whether windows hide something, so that promises change what else is hidden.
    pub(crate) fn hides(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Whether something was promised that could not be shown if these slices, by GPU, were a window, too.
    pub(crate) fn would_hide_promised(&self, gpus: &[Gpu], slices: &[(usize, SliceMask)]) -> bool {
        let mut more: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, slices) in slices {
            let (Some(gpu), Some(board)) = (gpus.get(*number), self.boards.get(*number)) else {
                continue;
            };
            let is_new = |placement: Placement| {
                placement.mask().overlaps(*slices) && !board.hides(placement)
            };
            for (resource, count) in hidden(gpu, is_new) {
                *more.entry(resource).or_default() += count;
            }
        }
        let on_them = |number: usize, idle: &IdleInstance| {
            let mut slices = slices.iter().filter(|(gpu, _)| *gpu == number);
            slices.any(|(_, slices)| idle.is_on(*slices))
        };
        more.into_iter().any(|(resource, more)| {
            let idle = self.boards.iter().enumerate().flat_map(|(number, board)| {
                let idle = board.idle.iter().filter(move |idle| !on_them(number, idle));
                idle.filter(|idle| !idle.hidden && idle.resource.as_deref() == Some(resource))
            });
            let mut promised = self.promised.iter();
            promised.any(|(known, count)| **known == *resource && *count > 0)
                && idle.count() < as_usize(more)
        })
    }

    /// So many devices of a resource were promised in this pass.
    pub(crate) fn note_promised(&mut self, resource: &Arc<str>, count: u32) {
        match self
            .promised
            .iter_mut()
            .find(|(known, _)| known == resource)
        {
            Some((_, known)) => *known += count,
            None => self.promised.push((Arc::clone(resource), count)),
        }
    }

    /// Takes up to `count` free devices of a resource out of reach.
    fn promise(&mut self, resource: &str, count: u32) {
        let mut left = count - self.take_fixed(resource, count);
        for arriving in [false, true] {
            for board in &mut self.boards {
                while left > 0 && board.promise_one(resource, arriving) {
                    left -= 1;
                }
            }
        }
    }

    /// Takes up to `count` free devices that no plan can change out of reach; returns how many.
    pub(crate) fn take_fixed(&mut self, resource: &str, count: u32) -> u32 {
        let Some(free) = self.fixed.get_mut(resource) else {
            return 0;
        };
        let taken = count.min(*free);
        *free -= taken;
        taken
    }
}

/// Devices of a GPU that are in use where `hides` says so, by resource.
fn hidden(gpu: &Gpu, hides: impl Fn(Placement) -> bool) -> impl Iterator<Item = (&str, u32)> {
    let held = gpu.instances.iter().filter(|i| i.usage == Usage::Held);
    let there = held.filter(move |instance| hides(instance.placement));
    there.filter_map(|instance| Some((instance.resource.as_deref()?, 1)))
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Board {
    fn new(gpu: &Gpu) -> Self {
        let mut board = Self {
            model: Arc::clone(&gpu.model),
            changeable: gpu.changeable,
            busy: gpu.busy,
            firm: Layout::default(),
            idle: Vec::new(),
            aside: Vec::new(),
            promised: SliceMask::EMPTY,
            kept: Vec::new(),
        };
        for (order, instance) in gpu.instances.iter().enumerate() {
            match instance.usage {
                Usage::Leaving => {}
                Usage::Held | Usage::Stuck => board.stand(instance.profile, instance.placement),
                Usage::Idle | Usage::Arriving => board.idle.push(IdleInstance {
                    gi_id: instance.gi_id,
                    profile: instance.profile,
                    placement: instance.placement,
                    resource: instance.resource.clone(),
                    arriving: instance.usage == Usage::Arriving,
                    reserved: false,
                    hidden: false,
                    order,
                }),
            }
        }
        board
    }

    /// A GPU on which nothing stands.
    pub(crate) fn empty(model: Arc<GpuModel>) -> Self {
        Self {
            model,
            changeable: true,
            busy: false,
            firm: Layout::default(),
            idle: Vec::new(),
            aside: Vec::new(),
            promised: SliceMask::EMPTY,
            kept: Vec::new(),
        }
    }

    /// Puts an instance where it is never touched.
    pub(crate) fn stand(&mut self, profile: ProfileIndex, placement: Placement) {
        // A refusal means that the slices are taken already, which is all that matters here.
        let _ = self.firm.place(&self.model, profile, placement);
    }

    /// Puts down what was promised in this pass.
    pub(crate) fn promise(&mut self, profile: ProfileIndex, placement: Placement) {
        self.stand(profile, placement);
        self.promised = self.promised.union(placement.mask());
    }

    /// Whether anything on these slices was promised in this pass.
    pub(crate) fn is_promised(&self, slices: SliceMask) -> bool {
        self.promised.overlaps(slices)
    }

    /// Keeps slices for somebody: nothing is made there, and what is idle there is not used.
    pub(crate) fn keep_free(&mut self, kept: Kept) {
        let before = self.kept_free();
        self.kept.push(kept);
        self.set_aside(before);
    }

    /// The slices are for all again, but for what other windows have of them.
    pub(crate) fn free_again(&mut self, kept: Kept) {
        let before = self.kept_free();
        if let Some(at) = self.kept.iter().position(|known| *known == kept) {
            self.kept.remove(at);
        }
        self.set_aside(before);
    }

    /// All slices that are kept free for others.
    pub(crate) fn kept_free(&self) -> SliceMask {
        let kept = self.kept.iter().map(|kept| kept.slices);
        kept.fold(SliceMask::EMPTY, SliceMask::union)
    }

    fn set_aside(&mut self, before: SliceMask) {
        let slices = self.kept_free();
        self.firm.unblock(before);
        self.firm.block(slices);
        let mut all = std::mem::take(&mut self.idle);
        all.append(&mut self.aside);
        // What was found out about this GPU before has indices into this order.
        all.sort_by_key(|idle| idle.order);
        (self.aside, self.idle) = all.into_iter().partition(|idle| idle.is_on(slices));
    }

    fn hides(&self, placement: Placement) -> bool {
        let mut kept = self.kept.iter().filter(|kept| kept.hides);
        kept.any(|kept| placement.mask().overlaps(kept.slices))
    }

    fn promise_one(&mut self, resource: &str, arriving: bool) -> bool {
        let free =
            |i: &IdleInstance| i.arriving == arriving && i.resource.as_deref() == Some(resource);
        let Some(at) = self.idle.iter().position(free) else {
            return false;
        };
        let taken = self.idle.remove(at);
        self.stand(taken.profile, taken.placement);
        true
    }
}
