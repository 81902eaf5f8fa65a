//! Two baskets: some GPUs for the largest profile, the others for everything else.
//!
//! The idea of GRMU (arXiv 2502.01909): quotas keep small instances from spoiling GPUs that whole-GPU
//! demands need. A reconstruction of that part alone, from its abstract: the first GPUs in order are
//! the basket of the largest profile; within a basket the first GPU with room, on it the placement
//! that leaves the most placements possible. Its migrations, within GPUs and between them, are left
//! out, and with them a part of what it promises.

use std::sync::Arc;

use super::{Policy, capability::most_capability, nodes::choice};
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Choice, GpuId, Pool},
    score::TableError,
};

/// Two baskets of GPUs.
#[derive(Clone, Debug)]
pub struct Baskets {
    index: Arc<Index>,
    percent: u8,
}

impl Baskets {
    /// The policy; `percent` of the GPUs, rounded up, are for the largest profile alone.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn new(geometry: &Geometry, percent: u8) -> Result<Self, TableError> {
        Ok(Self {
            index: Arc::new(Index::new(geometry, &most_capability(geometry))?),
            percent: percent.min(100),
        })
    }
}

impl Policy for Baskets {
    fn name(&self) -> &'static str {
        "two baskets (GRMU without migration)"
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let large = (pool.len() * usize::from(self.percent)).div_ceil(100);
        let border = GpuId(u32::try_from(large).unwrap_or(u32::MAX));
        // Profiles are ordered from large to small.
        let whole = profile == ProfileId(0);
        let from = if whole { GpuId(0) } else { border };
        let gpu = pool.first_with_room(profile, from)?;
        if whole && gpu >= border {
            return None;
        }
        let placement = self.index.best(profile, pool.mask(gpu))?;
        Some(choice(pool, gpu, placement))
    }
}
