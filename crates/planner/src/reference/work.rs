//! The planner's own copy of the state, in which promises are written down.

use std::{collections::BTreeMap, sync::Arc};

use mig::{GpuModel, Layout, Placement, ProfileIndex};

use crate::state::{Gpu, Node, Usage};

/// A node with what is promised taken out.
pub(crate) struct WorkNode {
    pub(crate) fixed: BTreeMap<String, u32>,
    pub(crate) boards: Vec<Board>,
}

/// A GPU with what is promised taken out.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) model: Arc<GpuModel>,
    pub(crate) changeable: bool,
    /// A plan is under way, or was made in this pass.
    pub(crate) busy: bool,
    /// What stays whatever is planned.
    pub(crate) firm: Layout,
    /// What may be used, and given up unless it is arriving.
    pub(crate) idle: Vec<IdleInstance>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct IdleInstance {
    pub(crate) gi_id: u32,
    pub(crate) profile: ProfileIndex,
    pub(crate) placement: Placement,
    pub(crate) resource: Option<String>,
    pub(crate) arriving: bool,
}

impl WorkNode {
    pub(crate) fn new(node: &Node) -> Self {
        let boards = node.gpus.iter().map(Board::new).collect();
        let mut work = Self {
            fixed: node.fixed.clone(),
            boards,
        };
        for (resource, count) in &node.claimed {
            work.promise(resource, *count);
        }
        work
    }

    /// Takes up to `count` free devices of a resource out of reach; returns whether any of them is
    /// still arriving.
    pub(crate) fn promise(&mut self, resource: &str, count: u32) -> bool {
        let mut left = count;
        if let Some(free) = self.fixed.get_mut(resource) {
            let taken = left.min(*free);
            *free -= taken;
            left -= taken;
        }
        let mut waits = false;
        for arriving in [false, true] {
            for board in &mut self.boards {
                while left > 0 && board.promise_one(resource, arriving) {
                    left -= 1;
                    waits |= arriving;
                }
            }
        }
        waits
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
        };
        for instance in &gpu.instances {
            match instance.usage {
                Usage::Leaving => {}
                Usage::Held | Usage::Stuck => board.stand(instance.profile, instance.placement),
                Usage::Idle | Usage::Arriving => board.idle.push(IdleInstance {
                    gi_id: instance.gi_id,
                    profile: instance.profile,
                    placement: instance.placement,
                    resource: instance.resource.as_deref().map(str::to_owned),
                    arriving: instance.usage == Usage::Arriving,
                }),
            }
        }
        board
    }

    /// Puts an instance where it is never touched.
    pub(crate) fn stand(&mut self, profile: ProfileIndex, placement: Placement) {
        let model = Arc::clone(&self.model);
        // A refusal means that the slices are taken already, which is all that matters here.
        let _ = self.firm.place(&model, profile, placement);
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
