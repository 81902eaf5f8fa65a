//! Dynamic resource allocation of Kubernetes with NVIDIA's driver: any node, first fit on the node.
//!
//! The allocator takes the first device of the node's list that fits (kubernetes/kubernetes 138765
//! calls it naive first fit; scoring of devices is open, kubernetes/enhancements 4970). MIG devices
//! are partitions with a counter for each memory slice (KEP 4815), listed by GPU and placement. The
//! scheduler has nothing that tells nodes with room apart, so that one is drawn, from a generator
//! with a fixed seed. Instances are destroyed as soon as their claim is gone.

use std::sync::Arc;

use super::{
    Policy, in_order,
    nodes::{choice, has_room, nodes},
};
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Choice, NodeId, Pool},
    score::TableError,
};

/// A node with room at random, first fit on it.
#[derive(Clone, Debug)]
pub struct Dra {
    index: Arc<Index>,
    state: u64,
}

impl Dra {
    /// The policy; the same seed draws the same nodes.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn new(geometry: &Geometry, seed: u64) -> Result<Self, TableError> {
        let index = Arc::new(Index::new(geometry, &in_order::by_start(geometry))?);
        Ok(Self { index, state: seed })
    }

    /// A number below `bound`. `SplitMix64`, whose stream never changes; the bias of the division is
    /// far below anything measured here.
    fn draw(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(mixed % bound).unwrap_or(0)
    }
}

impl Policy for Dra {
    fn name(&self) -> &'static str {
        "Kubernetes DRA"
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let with_room: Vec<NodeId> = nodes(pool)
            .filter(|node| has_room(pool, *node, profile))
            .collect();
        let node = *with_room.get(self.draw(with_room.len()))?;
        let mut gpus = pool.node_gpus(node).iter().copied();
        gpus.find_map(|gpu| {
            let placement = self.index.best(profile, pool.mask(gpu))?;
            Some(choice(pool, gpu, placement))
        })
    }

    fn keeps_idle(&self) -> bool {
        false
    }
}
