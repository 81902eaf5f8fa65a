//! What rules that look at nodes share.

use crate::{
    geometry::{PlacementId, ProfileId},
    pool::{Choice, GpuId, NodeId, Pool},
};

/// All nodes of a pool.
pub(super) fn nodes(pool: &Pool) -> impl Iterator<Item = NodeId> + use<> {
    (0..u32::try_from(pool.node_count()).unwrap_or(u32::MAX)).map(NodeId)
}

/// Whether some GPU of a node has room.
pub(super) fn has_room(pool: &Pool, node: NodeId, profile: ProfileId) -> bool {
    let room = |gpu: &GpuId| pool.geometry().free_of(pool.mask(*gpu), profile) != 0;
    pool.node_gpus(node).iter().any(room)
}

/// Slices of a node that are occupied, and all of them.
pub(super) fn occupied(pool: &Pool, node: NodeId) -> (u64, u64) {
    let gpus = pool.node_gpus(node).iter();
    gpus.fold((0, 0), |(used, all), gpu| {
        let slices = u64::from(pool.geometry().slices());
        (used + u64::from(pool.mask(*gpu).count_ones()), all + slices)
    })
}

/// A choice of a rule that knows no scores.
pub(super) fn choice(pool: &Pool, gpu: GpuId, placement: PlacementId) -> Choice {
    Choice {
        gpu,
        placement,
        reuse: pool.state(gpu).idle & placement.bit() != 0,
        score: 0,
    }
}
