//! What a table is trained for.

use std::sync::Arc;

use placement::policy::{ByTable, fewest_blocked};
use placement::{Geometry, ScoreTable};

use super::search::TrainingError;
use crate::demand::Demand;
use crate::law::Law;
use crate::loss::Loss;

/// One situation that a table must be good in.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What arrives.
    pub demand: Demand,
    /// To how many GPUs, at which load, for how long.
    pub loss: Loss,
    /// How much it counts.
    pub weight: f64,
}

/// All situations, and how much is lost in them by the best rule that needs no training.
#[derive(Clone, Debug)]
pub struct Goal {
    geometry: Arc<Geometry>,
    cells: Vec<Cell>,
    usual: Vec<(f64, f64)>,
}

/// GPUs, load, lifetimes measured after the warm-up, weight. Small clusters run longer, so that all
/// see about as many pods.
const SIZES: [(u32, f64, f64, f64); 5] = [
    (100, 0.85, 40.0, 1.0),
    (100, 1.0, 30.0, 1.5),
    (100, 1.15, 25.0, 0.75),
    (16, 0.95, 200.0, 0.75),
    (2, 0.7, 1500.0, 0.75),
];
/// Percentage points below which a difference in loss is of no interest.
const NEGLIGIBLE: f64 = 0.2;
/// Seeds that the usual losses are measured with; others than those of the search.
const USUAL_SEEDS: std::ops::Range<u64> = 900_000..900_004;

impl Goal {
    /// The four mixes at three loads on a hundred GPUs, and on few GPUs. `scale` shortens or
    /// lengthens all runs.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn usual(geometry: &Arc<Geometry>, scale: f64) -> Result<Self, TrainingError> {
        let mut cells = Vec::new();
        for (_, demand) in Demand::mixes(geometry) {
            for (gpus, load, measured, weight) in SIZES {
                let mut loss = Loss::new(gpus, load);
                loss.law = Law::Exponential;
                loss.warm_up = 6.0;
                loss.measured = measured * scale;
                cells.push(Cell {
                    demand: demand.clone(),
                    loss,
                    weight,
                });
            }
        }
        Self::of(geometry, cells)
    }

    /// Of given situations.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn of(geometry: &Arc<Geometry>, cells: Vec<Cell>) -> Result<Self, TrainingError> {
        let mut goal = Self {
            geometry: Arc::clone(geometry),
            cells,
            usual: Vec::new(),
        };
        let table = fewest_blocked(geometry);
        let mut sums = vec![(0.0, 0.0); goal.cells.len()];
        let mut runs = 0.0;
        for seed in USUAL_SEEDS {
            runs += 1.0;
            for (sum, lost) in sums.iter_mut().zip(goal.lost(&table, seed)?) {
                sum.0 += lost.0;
                sum.1 += lost.1;
            }
        }
        goal.usual = sums
            .iter()
            .map(|sum| (sum.0 / runs, sum.1 / runs))
            .collect();
        Ok(goal)
    }

    /// The geometry that it is about.
    pub fn geometry(&self) -> &Arc<Geometry> {
        &self.geometry
    }

    /// How much a table loses, relative to the best rule that needs no training: 1 is as much,
    /// smaller is better. Pods and slices count alike.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn rate(&self, table: &ScoreTable, seed: u64) -> Result<f64, TrainingError> {
        let (mut sum, mut weights) = (0.0, 0.0);
        let lost = self.lost(table, seed)?;
        for ((cell, lost), usual) in self.cells.iter().zip(lost).zip(&self.usual) {
            let relative = |lost: f64, usual: f64| (lost + NEGLIGIBLE) / (usual + NEGLIGIBLE);
            sum += cell.weight * (relative(lost.0, usual.0) + relative(lost.1, usual.1));
            weights += 2.0 * cell.weight;
        }
        Ok(sum / weights)
    }

    /// Percent of pods and of slices lost, by cell.
    fn lost(&self, table: &ScoreTable, seed: u64) -> Result<Vec<(f64, f64)>, TrainingError> {
        let mut policy = ByTable::new(&self.geometry, table)?;
        let mut lost = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let tally = cell
                .loss
                .run(&self.geometry, &cell.demand, &mut policy, seed)?;
            lost.push((100.0 - tally.pods(), 100.0 - tally.slices()));
        }
        Ok(lost)
    }
}
