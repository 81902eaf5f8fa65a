//! A score table as a policy.

use std::sync::Arc;

use super::Policy;
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Ask, Choice, Pool},
    score::{ScoreTable, TableError},
};

/// Always the placement with the highest score of one table, over all GPUs.
#[derive(Clone, Debug)]
pub struct ByTable {
    index: Arc<Index>,
    reuse_bonus: u32,
    keeps_idle: bool,
}

impl ByTable {
    /// A policy of that table. It reuses idle instances among equals.
    ///
    /// # Errors
    /// [`TableError::Shape`] if the table is for another geometry.
    pub fn new(geometry: &Geometry, table: &ScoreTable) -> Result<Self, TableError> {
        Ok(Self {
            index: Arc::new(Index::new(geometry, table)?),
            reuse_bonus: 0,
            keeps_idle: true,
        })
    }

    /// Reuses idle instances also where that scores lower by up to `bonus`, see
    /// [`Ask::reuse_bonus`].
    #[must_use]
    pub fn reuse_bonus(mut self, bonus: u32) -> Self {
        self.reuse_bonus = bonus;
        self
    }

    /// Destroys every instance as soon as nobody holds it.
    #[must_use]
    pub fn destroying(mut self) -> Self {
        self.keeps_idle = false;
        self
    }
}

impl Policy for ByTable {
    fn name(&self) -> &str {
        self.index.table().name()
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let ask = Ask::new(profile).reuse_bonus(self.reuse_bonus);
        if Arc::ptr_eq(pool.index(), &self.index) {
            pool.choose(&ask)
        } else {
            pool.choose_by(&self.index, &ask)
        }
    }

    fn keeps_idle(&self) -> bool {
        self.keeps_idle
    }
}
