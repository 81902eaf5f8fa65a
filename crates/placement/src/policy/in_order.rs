//! First fit and round robin: GPUs in their order, whatever is on them.
//!
//! Baselines of the MFI paper (arXiv 2511.18906): first fit takes the first GPU with room, round
//! robin goes on after the GPU that was used last. On the GPU both take the first free start of an
//! order: ascending, or the best index of [`mod@super::best_fit`].

use std::sync::Arc;

use super::{Policy, best_fit::best_index, nodes::choice};
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Choice, GpuId, Pool},
    score::{ScoreTable, TableError},
};

/// The order of starts on a GPU, as a table in which earlier starts score higher.
pub(super) fn by_start(geometry: &Geometry) -> ScoreTable {
    ScoreTable::from_fn("lowest start", geometry, |_, id| -i32::from(id.0))
}

fn on(index: &Index, pool: &Pool, profile: ProfileId, gpu: GpuId) -> Option<Choice> {
    let placement = index.best(profile, pool.mask(gpu))?;
    Some(choice(pool, gpu, placement))
}

/// The first GPU with room. Fast on pools that keep their order, see [`Pool::keep_order`].
#[derive(Clone, Debug)]
pub struct FirstFit {
    name: &'static str,
    index: Arc<Index>,
}

impl FirstFit {
    /// First fit, lowest start.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn lowest_start(geometry: &Geometry) -> Result<Self, TableError> {
        Ok(Self {
            name: "first fit",
            index: Arc::new(Index::new(geometry, &by_start(geometry))?),
        })
    }

    /// First fit, best index.
    ///
    /// # Errors
    /// As [`FirstFit::lowest_start`].
    pub fn best_index(geometry: &Geometry) -> Result<Self, TableError> {
        Ok(Self {
            name: "first fit, best index",
            index: Arc::new(Index::new(geometry, &best_index(geometry))?),
        })
    }
}

impl Policy for FirstFit {
    fn name(&self) -> &str {
        self.name
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let gpu = pool.first_with_room(profile, GpuId(0))?;
        on(&self.index, pool, profile, gpu)
    }
}

/// The next GPU with room after the one that was used last, lowest start.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    index: Arc<Index>,
    next: GpuId,
}

impl RoundRobin {
    /// Starts at the first GPU.
    ///
    /// # Errors
    /// As [`FirstFit::lowest_start`].
    pub fn new(geometry: &Geometry) -> Result<Self, TableError> {
        Ok(Self {
            index: Arc::new(Index::new(geometry, &by_start(geometry))?),
            next: GpuId(0),
        })
    }
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round robin"
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let gpu = pool
            .first_with_room(profile, self.next)
            .or_else(|| pool.first_with_room(profile, GpuId(0)))?;
        self.next = GpuId(gpu.0 + 1);
        on(&self.index, pool, profile, gpu)
    }
}
