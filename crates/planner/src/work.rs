//! The planner's own copy of the state, in which promises are written down.

use std::{collections::BTreeMap, sync::Arc};

use mig::{GpuModel, Layout, Placement, ProfileIndex, ProfileName, SliceMask, fraction::Class};

use crate::state::{Gpu, Node, Usage};

/// One resource of a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) resource: String,
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

/// A node with what is promised taken out.
#[derive(Debug)]
pub(crate) struct WorkNode {
    pub(crate) fixed: BTreeMap<String, u32>,
    pub(crate) boards: Vec<Board>,
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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdleInstance {
    pub(crate) gi_id: u32,
    pub(crate) profile: ProfileIndex,
    pub(crate) placement: Placement,
    pub(crate) resource: Option<String>,
    pub(crate) arriving: bool,
    /// A pod has it: it can only be waited for. In searches for a window alone; else it is firm.
    pub(crate) held: bool,
}

impl IdleInstance {
    pub(crate) fn is_on(&self, slices: SliceMask) -> bool {
        self.placement.mask().overlaps(slices)
    }
}

impl WorkNode {
    pub(crate) fn new(node: &Node) -> Self {
        let boards = node.gpus.iter().map(Board::new).collect();
        let mut work = Self {
            fixed: node.fixed.clone(),
            boards,
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
        for instance in offered.take(usize::try_from(count).unwrap_or(usize::MAX)) {
            instance.arriving = true;
        }
    }

    /// Whether a plan is under way on any GPU, or was made in this pass.
    pub(crate) fn is_busy(&self) -> bool {
        self.boards.iter().any(|board| board.busy)
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

impl Board {
    fn new(gpu: &Gpu) -> Self {
        let mut board = Self {
            model: Arc::clone(&gpu.model),
            changeable: gpu.changeable,
            busy: gpu.busy,
            firm: Layout::default(),
            idle: Vec::new(),
            aside: Vec::new(),
        };
        for instance in &gpu.instances {
            match instance.usage {
                Usage::Leaving => {}
                Usage::Held | Usage::Stuck => board.stand(instance.profile, instance.placement),
                Usage::Idle | Usage::Arriving => board.idle.push(IdleInstance {
                    gi_id: instance.gi_id,
                    profile: instance.profile,
                    placement: instance.placement,
                    resource: instance.resource.clone(),
                    arriving: instance.usage == Usage::Arriving,
                    held: false,
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
        }
    }

    /// Puts an instance where it is never touched.
    pub(crate) fn stand(&mut self, profile: ProfileIndex, placement: Placement) {
        let model = Arc::clone(&self.model);
        // A refusal means that the slices are taken already, which is all that matters here.
        let _ = self.firm.place(&model, profile, placement);
    }

    /// Keeps slices for somebody: nothing is made there, and what is idle there is not used.
    pub(crate) fn keep_free(&mut self, slices: SliceMask) {
        let idle = std::mem::take(&mut self.idle).into_iter();
        let (aside, stay): (Vec<_>, Vec<_>) = idle.partition(|idle| idle.is_on(slices));
        self.idle = stay;
        self.aside.extend(aside);
        self.firm.block(slices);
    }

    /// The slices are for all again.
    pub(crate) fn free_again(&mut self, slices: SliceMask) {
        let aside = std::mem::take(&mut self.aside).into_iter();
        let (back, stay): (Vec<_>, Vec<_>) = aside.partition(|idle| idle.is_on(slices));
        self.aside = stay;
        self.idle.extend(back);
        self.idle.sort_by_key(|idle| idle.placement);
        self.firm.unblock(slices);
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
