//! What is taken off offer where idle instances are parked.

use super::Planner;
use crate::{
    outcome::{Exposure, GpuPlan, NodePlan},
    slot::Slot,
    state::{Gpu, Idle},
    work::{Board, IdleInstance},
};

impl Planner {
    /// What the last pass left idle and offered though it was promised to nobody, if idle instances are
    /// parked: to be offered under no name, which an empty one stands for. GPUs with a plan come later.
    pub fn parking(&self) -> &[NodePlan] {
        &self.parking
    }

    pub(super) fn surplus(&self) -> Vec<NodePlan> {
        if self.boards.idle == Idle::Offered {
            return Vec::new();
        }
        let nodes = self.slots.iter().enumerate();
        let with_some = nodes.filter(|(_, slot)| offers_idle(slot));
        let plans = with_some.filter_map(|(node, slot)| {
            let gpus = parked(slot);
            (!gpus.is_empty()).then_some(NodePlan { node, gpus })
        });
        plans.collect()
    }
}

fn offers_idle(slot: &Slot) -> bool {
    let mut instances = slot.node.gpus.iter().flat_map(|gpu| &gpu.instances);
    instances.any(|one| one.usage == crate::Usage::Idle && one.resource.is_some())
}

fn parked(slot: &Slot) -> Vec<GpuPlan> {
    let gpus = slot.node.gpus.iter().zip(&slot.work.boards).enumerate();
    gpus.filter_map(|(number, (gpu, board))| plan(number, gpu, board))
        .collect()
}

fn plan(number: usize, gpu: &Gpu, board: &Board) -> Option<GpuPlan> {
    let off = |idle: &IdleInstance| {
        let from = idle.resource.as_deref().filter(|_| !idle.arriving)?;
        Some(Exposure {
            gi_id: idle.gi_id,
            profile: board.model.profile(idle.profile)?.name,
            placement: idle.placement,
            from: Some(from.to_owned()),
            to: String::new(),
        })
    };
    let expose: Vec<_> = board.idle.iter().filter_map(off).collect();
    let may = board.changeable && !board.busy && !expose.is_empty();
    may.then(|| GpuPlan {
        gpu: number,
        uuid: gpu.uuid.clone(),
        version: gpu.version,
        give_up: Vec::new(),
        expose,
        create: Vec::new(),
    })
}
