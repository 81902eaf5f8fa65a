//! What a table is trained for.

use std::sync::Arc;

use placement::policy::{ByTable, fewest_blocked, longest_run};
use placement::{Geometry, ScoreTable};

use super::search::TrainingError;
use crate::demand::Demand;
use crate::fill::Fill;
use crate::law::Law;
use crate::loss::{Loss, Tally};

/// What a table is to be good at. No table is best at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Pods come and go for ever.
    Loss,
    /// Many pods come at once, and nothing ends meanwhile.
    Fill,
}

impl Aim {
    /// As in commands and in the headers of tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Fill => "fill",
        }
    }

    /// The best rule that needs no training: what a search starts at and is measured against.
    pub fn untrained(self, geometry: &Geometry) -> ScoreTable {
        match self {
            Self::Loss => fewest_blocked(geometry),
            Self::Fill => longest_run(geometry),
        }
    }
}

/// What happens to the GPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scene {
    /// Pods come and go.
    Loss(Loss),
    /// An empty cluster is filled.
    Fill {
        /// What is filled.
        fill: Fill,
        /// How often, with other pods each time; at least 1.
        runs: u32,
    },
}

/// One situation that a table must be good in.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What arrives.
    pub demand: Demand,
    /// To how many GPUs, and for how long.
    pub scene: Scene,
    /// How much it counts.
    pub weight: f64,
}

/// All situations, and how much is lost in them by the best rule that needs no training.
#[derive(Clone, Debug)]
pub struct Goal {
    geometry: Arc<Geometry>,
    aim: Aim,
    cells: Vec<Cell>,
    usual: Vec<(f64, f64)>,
    /// In words, for the header of a table.
    words: String,
}

/// GPUs, load, lifetimes measured after the warm-up, weight. Small clusters run longer, so that all
/// see about as many pods.
const LOADS: [(u32, f64, f64, f64); 5] = [
    (100, 0.85, 40.0, 1.0),
    (100, 1.0, 30.0, 1.5),
    (100, 1.15, 25.0, 0.75),
    (16, 0.95, 200.0, 0.75),
    (2, 0.7, 1500.0, 0.75),
];
/// GPUs, memory slices asked for relative to all, how often, weight.
const FILLS: [(u32, f64, f64, f64); 4] = [
    (100, 0.97, 24.0, 0.5),
    (100, 1.0, 32.0, 1.5),
    (100, 1.1, 16.0, 0.5),
    (16, 1.0, 100.0, 0.5),
];
/// To fill, tables are also trained on mixes drawn at random: so many, from this seed.
const DRAWN: (usize, u64) = (8, 1);
/// The same for those.
const FILLS_OF_DRAWN: (u32, f64, f64, f64) = (100, 1.0, 16.0, 0.75);
/// Percentage points below which a difference in loss is of no interest.
const NEGLIGIBLE: f64 = 0.2;
/// Seeds that the usual losses are measured with; others than those of the search.
const USUAL_SEEDS: std::ops::Range<u64> = 900_000..900_004;

impl Goal {
    /// The four mixes: for [`Aim::Loss`] at three loads on a hundred GPUs, and on few GPUs; for
    /// [`Aim::Fill`] until they asked for about all there is, and then other mixes, too. `scale` shortens or lengthens all runs.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn usual(geometry: &Arc<Geometry>, aim: Aim, scale: f64) -> Result<Self, TrainingError> {
        let scenes: Vec<(Scene, f64)> = match aim {
            Aim::Loss => LOADS
                .map(|(gpus, load, measured, weight)| {
                    (losing(gpus, load, measured * scale), weight)
                })
                .to_vec(),
            Aim::Fill => FILLS
                .map(|(gpus, demand, runs, weight)| (filling(gpus, demand, runs * scale), weight))
                .to_vec(),
        };
        let mixes = Demand::mixes(geometry);
        let names: Vec<&str> = mixes.iter().map(|(name, _)| *name).collect();
        let words: Vec<String> = match aim {
            Aim::Loss => LOADS
                .map(|(gpus, load, ..)| format!("{gpus} GPUs at load {load}"))
                .to_vec(),
            Aim::Fill => FILLS
                .map(|(gpus, demand, ..)| format!("{gpus} GPUs filled to {demand}"))
                .to_vec(),
        };
        let mut words = format!("mixes {} on {}", names.join(", "), words.join(", "));
        let cells = mixes.into_iter().flat_map(|(_, demand)| {
            let cell = move |(scene, weight): &(Scene, f64)| Cell {
                demand: demand.clone(),
                scene: *scene,
                weight: *weight,
            };
            scenes.iter().map(cell).collect::<Vec<_>>()
        });
        let mut cells: Vec<Cell> = cells.collect();
        if aim == Aim::Fill {
            let (count, seed) = DRAWN;
            let (gpus, demand, runs, weight) = FILLS_OF_DRAWN;
            let drawn = Demand::drawn(geometry, seed, count).into_iter();
            cells.extend(drawn.map(|mix| Cell {
                demand: mix,
                scene: filling(gpus, demand, runs * scale),
                weight,
            }));
            words = format!(
                "{words}; {count} mixes drawn from seed {seed} on {gpus} GPUs filled to {demand}"
            );
        }
        Self::of(geometry, aim, cells, words)
    }

    /// Of given situations, which `words` describe.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn of(
        geometry: &Arc<Geometry>,
        aim: Aim,
        cells: Vec<Cell>,
        words: String,
    ) -> Result<Self, TrainingError> {
        let mut goal = Self {
            geometry: Arc::clone(geometry),
            aim,
            cells,
            usual: Vec::new(),
            words,
        };
        let table = aim.untrained(geometry);
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

    /// What a table is to be good at.
    pub fn aim(&self) -> Aim {
        self.aim
    }

    /// The mixes and clusters, in words.
    pub fn words(&self) -> &str {
        &self.words
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
        let mut parts = Vec::with_capacity(self.cells.len());
        let of = |tally: &Tally| (100.0 - tally.pods(), 100.0 - tally.slices());
        for cell in &self.cells {
            let (geometry, demand) = (&self.geometry, &cell.demand);
            match cell.scene {
                Scene::Loss(loss) => {
                    parts.push(of(&loss.run(geometry, demand, &mut policy, seed)?));
                }
                Scene::Fill { fill, runs } => {
                    let (mut pods, mut slices) = (0.0, 0.0);
                    for run in 0..u64::from(runs) {
                        let seed = seed.wrapping_mul(FILLS_APART) + run;
                        let one = of(&fill.run(geometry, demand, &mut policy, seed)?);
                        pods += one.0;
                        slices += one.1;
                    }
                    let runs = f64::from(runs.max(1));
                    parts.push((pods / runs, slices / runs));
                }
            }
        }
        Ok(parts)
    }
}

/// Seeds of one run's fills lie below those of the next.
const FILLS_APART: u64 = 10_000;

fn losing(gpus: u32, load: f64, measured: f64) -> Scene {
    let mut loss = Loss::new(gpus, load);
    loss.law = Law::Exponential;
    loss.warm_up = 6.0;
    loss.measured = measured;
    Scene::Loss(loss)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cut off to what is sensible"
)]
fn filling(gpus: u32, demand: f64, runs: f64) -> Scene {
    Scene::Fill {
        fill: Fill { gpus, demand },
        runs: runs.round().clamp(1.0, 1000.0) as u32,
    }
}
