//! The search for weights.

use placement::{
    Features, Geometry, Origin, PoolError, ScoreTable, Shape, TableError, WeightsError,
};

use super::cmaes::Search;
use super::goal::{Aim, Goal};
use crate::random::{Purpose, Random};

/// Why training failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainingError {
    /// A simulation found the policy placing on what is not free.
    #[error("failed to simulate a table")]
    Pool(#[from] PoolError),
    /// A table does not go with the geometry.
    #[error("failed to make a table")]
    Table(#[from] TableError),
    /// Weights do not go with the features.
    #[error("failed to weigh the features")]
    Weights(#[from] WeightsError),
}

/// What the search is about to do or has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Generations done.
    pub generation: u32,
    /// How much the best proposal of this generation lost, see [`Goal::rate`].
    pub best: f64,
    /// How much all proposals of this generation lost in the mean.
    pub mean: f64,
    /// How far proposals are from one another.
    pub step: f64,
}

/// Which features a search weighs; the others weigh nothing. More of them can say more, and take
/// more generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What profiles and the whole GPU tell.
    Coarse,
    /// Also each state of each half of the GPU.
    Halves,
}

impl Detail {
    fn takes(self, feature: &str) -> bool {
        self == Self::Halves || !feature.contains(" half: free placements")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Coarse => "coarse",
            Self::Halves => "all",
        }
    }
}

/// A search for weights.
pub struct Training<'a> {
    goal: &'a Goal,
    features: Features,
    detail: Detail,
    /// The features that are weighed, and the spread of each over the masks that occur.
    weighed: Vec<(usize, f64)>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// Weight of each feature of [`Features`].
    pub weights: Vec<i32>,
    /// Seed of the search.
    pub seed: u64,
    /// Generations of the search.
    pub generations: u32,
}

/// Weights are whole numbers of this part of a feature's spread.
const FINENESS: f64 = 1000.0;
/// Spread of the first proposals, as a part of what one slice is worth. To fill, the rule that it starts
/// at is so good that most of what is far from it is bad.
fn first_step(aim: Aim) -> f64 {
    match aim {
        Aim::Loss => 0.12,
        Aim::Fill => 0.04,
    }
}

/// Generations after which each proposal is measured once more: what is left to find becomes smaller
/// than what chance does to one run.
const LONGER: u32 = 80;

impl<'a> Training<'a> {
    /// Prepares a search for a goal.
    pub fn new(goal: &'a Goal, detail: Detail) -> Self {
        let features = Features::new(goal.geometry());
        let spread = spread(goal.geometry(), &features);
        let weighed = spread.into_iter().enumerate();
        Self {
            goal,
            detail,
            weighed: weighed
                .filter(|(column, _)| detail.takes(&features.names()[*column]))
                .collect(),
            features,
        }
    }

    /// Searches from the seed, through that many generations. `progress` is told after each.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn search(
        &self,
        seed: u64,
        generations: u32,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Trained, TrainingError> {
        let mut random = Random::new(seed, Purpose::Training);
        let mut search = Search::new(self.start(), first_step(self.goal.aim()));
        for generation in 0..generations {
            // Other pods in every generation, so that the table does not learn them by heart; the
            // same for all proposals, so that luck does not decide between them.
            let runs = 1 + generation / LONGER;
            let first = u64::from(generation) * 100 + seed.wrapping_mul(1_000_000) + 1_000_000;
            let proposals = search.propose(&mut random);
            let mut losses = Vec::with_capacity(proposals.len());
            for proposal in &proposals {
                let table = self.table(&self.weights(&proposal.point))?;
                let mut sum = 0.0;
                for pods in first..first + u64::from(runs) {
                    sum += self.goal.rate(&table, pods)?;
                }
                losses.push(sum / f64::from(runs));
            }
            search.learn(&proposals, &losses);
            let count = u32::try_from(losses.len()).unwrap_or(u32::MAX);
            progress(Progress {
                generation: generation + 1,
                best: losses.iter().copied().fold(f64::INFINITY, f64::min),
                mean: losses.iter().sum::<f64>() / f64::from(count),
                step: search.step(),
            });
        }
        Ok(Trained {
            weights: self.weights(search.mean()),
            seed,
            generations,
        })
    }

    /// The table of given weights.
    ///
    /// # Errors
    /// If there is not one weight for each feature.
    pub fn table(&self, weights: &[i32]) -> Result<ScoreTable, TrainingError> {
        let values = self.features.values(weights)?;
        Ok(ScoreTable::from_values(
            "trained",
            self.goal.geometry(),
            &values,
        )?)
    }

    /// What the search found as a table in plain text, under a name. `command` makes it again.
    ///
    /// # Errors
    /// If the weights are of another geometry.
    pub fn text(
        &self,
        trained: &Trained,
        name: &str,
        command: &str,
    ) -> Result<String, TrainingError> {
        let table = self.table(&trained.weights)?.named(name);
        let origin = Origin {
            made: format!(
                "by {command}; value of a mask = weighted structural features ({}), weights by \
                 CMA-ES; {}",
                self.detail.name(),
                self.goal.words()
            ),
            seed: Some(trained.seed),
        };
        Ok(table.to_text(self.goal.geometry(), &origin)?)
    }

    /// Where the search starts: at the best rule that needs no training, in about the same units.
    fn start(&self) -> Vec<f64> {
        let geometry = self.goal.geometry();
        let rule: Vec<(String, f64)> = match self.goal.aim() {
            // Each free placement is worth its slices.
            Aim::Loss => {
                let of = |profile: &Shape| {
                    let name = format!("{}: free placements", profile.name);
                    (name, f64::from(profile.size))
                };
                geometry.profiles().iter().map(of).collect()
            }
            // What leaves the longest run of free slices, then the most placements.
            Aim::Fill => vec![
                ("longest free run".to_owned(), 5.0),
                ("placements possible".to_owned(), 0.25),
            ],
        };
        let start = self.weighed.iter().map(|(column, spread)| {
            let name = &self.features.names()[*column];
            let known = rule.iter().find(|(known, _)| known == name);
            known.map_or(0.0, |(_, weight)| weight * spread)
        });
        start.collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "cut off where it would not fit"
    )]
    fn weights(&self, point: &[f64]) -> Vec<i32> {
        let mut weights = vec![0; self.features.len()];
        for (value, (column, spread)) in point.iter().zip(&self.weighed) {
            weights[*column] = (value / spread * FINENESS).round() as i32;
        }
        weights
    }
}

/// Standard deviation of each feature over the masks that occur; 1 for one that never changes.
fn spread(geometry: &Geometry, features: &Features) -> Vec<f64> {
    let masks = geometry.reachable();
    let count = f64::from(u32::try_from(masks.len()).unwrap_or(u32::MAX));
    let of = |column: usize| {
        let values = || {
            masks
                .iter()
                .map(|mask| f64::from(features.row(*mask)[column]))
        };
        let mean = values().sum::<f64>() / count;
        let variance = values()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f64>()
            / count;
        if variance > 0.0 { variance.sqrt() } else { 1.0 }
    };
    (0..features.len()).map(of).collect()
}
