//! A score table turned into look-ups: for each profile, the best placement on each mask, and all
//! masks from the best to the worst.
//!
//! Ties, in this order: the higher score; the mask with more occupied slices (a fuller GPU, so that
//! others stay empty); the smaller mask as a number; the placement with the lower start.

use std::cmp::Reverse;

use crate::{
    geometry::{Geometry, PlacementId, ProfileId, placements},
    score::{INFEASIBLE, ScoreTable, TableError},
};

/// No rank: the profile does not fit on the mask.
pub(crate) const UNRANKED: u16 = u16::MAX;

/// A [`ScoreTable`] with its ranking of masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    table: ScoreTable,
    masks: usize,
    profiles: Vec<Ranking>,
    /// Row by mask, column by profile, so that a mask's ranks lie side by side.
    ranks: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranking {
    best: Vec<PlacementId>,
    order: Vec<u16>,
}

impl Index {
    /// Ranks a table.
    ///
    /// # Errors
    /// [`TableError::Shape`] if the table is for another geometry.
    pub fn new(geometry: &Geometry, table: &ScoreTable) -> Result<Self, TableError> {
        table.check(geometry)?;
        let masks = geometry.mask_count();
        let width = geometry.profiles().len();
        let mut ranks = vec![UNRANKED; masks * width];
        let mut profiles = Vec::with_capacity(width);
        for profile in geometry.profile_ids() {
            let best = |mask: u16| {
                let row = table.row(mask);
                placements(geometry.free_of(mask, profile))
                    .max_by_key(|id| (row[id.index()], Reverse(*id)))
            };
            let best: Vec<Option<PlacementId>> = geometry.masks().map(best).collect();
            let score =
                |mask: u16| best[usize::from(mask)].map_or(INFEASIBLE, |id| table.score(mask, id));
            let mut order: Vec<u16> = geometry
                .masks()
                .filter(|m| score(*m) != INFEASIBLE)
                .collect();
            order.sort_by_key(|mask| (Reverse(score(*mask)), Reverse(mask.count_ones()), *mask));
            for (mask, rank) in order.iter().zip(0u16..) {
                ranks[usize::from(*mask) * width + profile.index()] = rank;
            }
            let best = best
                .into_iter()
                .map(|id| id.unwrap_or(PlacementId(0)))
                .collect();
            profiles.push(Ranking { best, order });
        }
        Ok(Self {
            table: table.clone(),
            masks,
            profiles,
            ranks,
        })
    }

    /// The table that was ranked.
    pub fn table(&self) -> &ScoreTable {
        &self.table
    }

    /// How many masks it was made for.
    pub(crate) fn mask_count(&self) -> usize {
        self.masks
    }

    /// The masks on which the profile fits, from the best to the worst.
    ///
    /// # Panics
    /// If the profile is of another geometry.
    pub fn order(&self, profile: ProfileId) -> &[u16] {
        &self.profiles[profile.index()].order
    }

    /// The best placement of a profile on a mask, if one fits.
    ///
    /// # Panics
    /// If the profile or the mask is of another geometry.
    pub fn best(&self, profile: ProfileId, mask: u16) -> Option<PlacementId> {
        let fits = self.ranks(mask)[profile.index()] != UNRANKED;
        fits.then(|| self.profiles[profile.index()].best[usize::from(mask)])
    }

    /// The score of [`Index::best`], or [`INFEASIBLE`].
    ///
    /// # Panics
    /// As [`Index::best`].
    pub fn best_score(&self, profile: ProfileId, mask: u16) -> i32 {
        self.best(profile, mask)
            .map_or(INFEASIBLE, |id| self.table.score(mask, id))
    }

    /// The place of a mask in [`Index::order`] for each profile; [`UNRANKED`] where it does not fit.
    pub(crate) fn ranks(&self, mask: u16) -> &[u16] {
        let width = self.profiles.len();
        let start = usize::from(mask) * width;
        &self.ranks[start..start + width]
    }
}

#[cfg(test)]
mod tests;
