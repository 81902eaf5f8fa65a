//! How good every placement is on every mask.
//!
//! Scores are whole numbers, larger is better, so that decisions are the same on every CPU. A score
//! says what one placement does to one GPU; the engine compares scores across all GPUs of a pool.

use crate::geometry::{Geometry, PlacementId, placements};

/// The score of a placement that does not fit.
pub const INFEASIBLE: i32 = i32::MIN;

/// Scores of all placements on all masks of one shape of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreTable {
    name: String,
    unit: u32,
    columns: usize,
    /// Row by mask, column by placement.
    scores: Vec<i32>,
    values: Option<Vec<i32>>,
}

/// A table that does not go with a geometry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Made for GPUs that are cut otherwise.
    #[error(
        "failed to use the placement table {name}: it is for other GPUs ({rows} masks of {columns} placements)"
    )]
    Shape {
        /// The table's name.
        name: String,
        /// Masks in the table.
        rows: usize,
        /// Placements in the table.
        columns: usize,
    },
    /// Not one value for every mask.
    #[error("failed to make the placement table {name}: {given} values for {wanted} masks")]
    Values {
        /// The table's name.
        name: String,
        /// Values given.
        given: usize,
        /// Masks of the geometry.
        wanted: usize,
    },
}

impl ScoreTable {
    /// A table of what `score` says of each placement that fits on a mask. [`INFEASIBLE`] is not a
    /// score: it is raised by one.
    pub fn from_fn(
        name: &str,
        geometry: &Geometry,
        mut score: impl FnMut(u16, PlacementId) -> i32,
    ) -> Self {
        let columns = geometry.spots().len();
        let mut scores = vec![INFEASIBLE; geometry.mask_count() * columns];
        for (mask, row) in geometry.masks().zip(scores.chunks_mut(columns)) {
            for id in placements(geometry.free(mask)) {
                row[id.index()] = score(mask, id).max(INFEASIBLE + 1);
            }
        }
        let most = scores.iter().filter(|s| **s != INFEASIBLE);
        let unit = most.map(|s| s.unsigned_abs()).max().unwrap_or(1).max(1);
        Self {
            name: name.to_owned(),
            unit,
            columns,
            scores,
            values: None,
        }
    }

    /// A table of what a value for each mask says: the score of a placement is the value after it
    /// less the value before. Its unit is the value of an empty GPU above that of a full one.
    ///
    /// # Errors
    /// [`TableError::Values`] if there is not one value for each of [`Geometry::masks`].
    pub fn from_values(
        name: &str,
        geometry: &Geometry,
        values: &[i32],
    ) -> Result<Self, TableError> {
        if values.len() != geometry.mask_count() {
            return Err(TableError::Values {
                name: name.to_owned(),
                given: values.len(),
                wanted: geometry.mask_count(),
            });
        }
        let value = |mask: u16| values[usize::from(mask)];
        let mut table = Self::from_fn(name, geometry, |mask, id| {
            value(mask | geometry.spot(id).mask).saturating_sub(value(mask))
        });
        table.unit = value(0).abs_diff(value(geometry.full())).max(1);
        table.values = Some(values.to_vec());
        Ok(table)
    }

    /// The table's name, for logs and comparisons.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same table under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// What one whole GPU is worth in this table's scores, at least 1. Scores of different tables
    /// are compared in parts of it.
    pub fn unit(&self) -> u32 {
        self.unit
    }

    pub(crate) fn set_unit(&mut self, unit: u32) {
        self.unit = unit.max(1);
    }

    /// The value of each mask, if the table was made of values.
    pub fn values(&self) -> Option<&[i32]> {
        self.values.as_deref()
    }

    /// The score of a placement on a mask; [`INFEASIBLE`] if it does not fit.
    ///
    /// # Panics
    /// If the mask or the placement is of another geometry.
    pub fn score(&self, mask: u16, placement: PlacementId) -> i32 {
        self.row(mask)[placement.index()]
    }

    /// Scores of all placements on a mask, by [`PlacementId`].
    ///
    /// # Panics
    /// If the mask is of another geometry.
    pub fn row(&self, mask: u16) -> &[i32] {
        let start = usize::from(mask) * self.columns;
        &self.scores[start..start + self.columns]
    }

    /// Fails unless the table has a row for each mask and a column for each placement, and says
    /// the same of what fits.
    pub(crate) fn check(&self, geometry: &Geometry) -> Result<(), TableError> {
        let shaped = self.columns == geometry.spots().len()
            && self.scores.len() == geometry.mask_count() * self.columns;
        let fits = |mask: u16| {
            let row = self.row(mask).iter().zip(0..);
            row.fold(0, |set, (s, id)| set | u64::from(*s != INFEASIBLE) << id)
        };
        if shaped
            && geometry
                .masks()
                .all(|mask| fits(mask) == geometry.free(mask))
        {
            return Ok(());
        }
        Err(TableError::Shape {
            name: self.name.clone(),
            rows: self.scores.len() / self.columns.max(1),
            columns: self.columns,
        })
    }
}
