//! Who is compared on what, and the figures of one run after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use mig::GpuModel;
use placement::{Geometry, ProfileId};
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::loss::{Loss, Tally};
use simulation::statistics::Estimate;

use super::spread::spread;

/// A row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A policy.
    By(Contestant),
    /// What moving everything at any moment would reach.
    Repacked,
}

/// All rows with their names: the policies, ours last of them, and the reference.
pub(super) fn everybody() -> Vec<(&'static str, Who)> {
    let policies = Contestant::ALL.into_iter();
    let mut all: Vec<_> = policies.map(|(name, who)| (name, Who::By(who))).collect();
    all.push(("REPACK", Who::Repacked));
    all
}

/// The figures of one row in one cell, one per seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) pods: Vec<f64>,
    pub(super) slices: Vec<f64>,
    pub(super) whole: Vec<f64>,
    pub(super) active: Vec<f64>,
    pub(super) created: Vec<f64>,
}

impl Samples {
    pub(super) fn add(&mut self, tally: &Tally) {
        self.pods.push(tally.pods());
        self.slices.push(tally.slices());
        self.whole.push(tally.of(ProfileId(0)));
        self.active.push(tally.active);
        self.created.push(tally.created_per_start());
    }
}

/// A cell of the comparison: what arrives, and on what.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) demand: &'a Demand,
    pub(super) loss: Loss,
}

/// What all blocks share.
pub(super) struct Field {
    pub(super) model: GpuModel,
    pub(super) geometry: Arc<Geometry>,
    pub(super) mixes: Vec<(&'static str, Demand)>,
    pub(super) stop: Arc<AtomicBool>,
    quick: bool,
    threads: usize,
}

impl Field {
    pub(super) fn new(quick: bool, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of("NVIDIA A100-SXM4-80GB", quick, threads, stop)
    }

    /// The same with GPUs of another model.
    pub(super) fn with(&self, model: &str) -> anyhow::Result<Self> {
        Self::of(model, self.quick, self.threads, Arc::clone(&self.stop))
    }

    fn of(model: &str, quick: bool, threads: usize, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let model = GpuModel::known(model).with_context(|| format!("no table of the {model}"))?;
        let geometry = Arc::new(Geometry::new(&model)?);
        Ok(Self {
            mixes: Demand::mixes(&geometry),
            model,
            geometry,
            quick,
            stop,
            threads,
        })
    }

    /// So many seeds, or few in a quick run.
    pub(super) fn seeds(&self, full: u64) -> u64 {
        if self.quick {
            full.div_ceil(5).clamp(2, 4)
        } else {
            full
        }
    }

    pub(super) fn is_quick(&self) -> bool {
        self.quick
    }

    /// On all cores, in the order of the tasks.
    pub(super) fn spread<T: Sync, R: Send>(
        &self,
        tasks: &[T],
        work: impl Fn(&T) -> anyhow::Result<R> + Sync,
    ) -> anyhow::Result<Vec<R>> {
        spread(tasks, self.threads, &self.stop, work)
    }

    /// One run of one row.
    pub(super) fn lose(&self, cell: &Cell<'_>, who: Who, seed: u64) -> anyhow::Result<Tally> {
        Ok(match who {
            Who::By(contestant) => {
                let mut policy = contestant.policy(&self.geometry, cell.demand, seed)?;
                let policy = policy.as_mut();
                cell.loss.run(&self.geometry, cell.demand, policy, seed)?
            }
            Who::Repacked => cell.loss.run_repacked(&self.geometry, cell.demand, seed)?,
        })
    }

    /// Every row in every cell, on seeds from 1: by cell, then by row.
    pub(super) fn run(
        &self,
        cells: &[Cell<'_>],
        rows: &[(&'static str, Who)],
        seeds: u64,
    ) -> anyhow::Result<Vec<Vec<Samples>>> {
        let tasks: Vec<_> = cells
            .iter()
            .flat_map(|cell| rows.iter().map(move |(_, who)| (cell, *who)))
            .collect();
        let done = self.spread(&tasks, |(cell, who)| {
            let mut samples = Samples::default();
            for seed in 1..=seeds {
                samples.add(&self.lose(cell, *who, seed)?);
            }
            Ok(samples)
        })?;
        Ok(done.chunks(rows.len()).map(<[_]>::to_vec).collect())
    }
}

/// The row of that name; all tables have those that are asked for.
pub(super) fn row<'a, T>(
    rows: &[(&'static str, Who)],
    figures: &'a [T],
    name: &str,
) -> anyhow::Result<&'a T> {
    let at = rows.iter().position(|(known, _)| *known == name);
    at.and_then(|at| figures.get(at))
        .with_context(|| format!("no row {name}"))
}

/// Half the width of the bar that holds the true mean in 95 of 100 repetitions.
pub(super) fn half(estimate: Estimate) -> f64 {
    estimate.half_bar()
}

/// A mean with its bar.
pub(super) fn with_bar(samples: &[f64]) -> String {
    let estimate = Estimate::of(samples);
    format!("{:.2} ±{:.2}", estimate.mean, half(estimate))
}

/// A difference with its sign and its bar.
pub(super) fn difference(estimate: Estimate) -> String {
    format!("{:+.2} ±{:.2}", estimate.mean, half(estimate))
}

/// Which side of zero a difference is on, if it is surely on one.
pub(super) fn verdict(difference: Estimate) -> &'static str {
    if difference.is_surely_above_zero() {
        "ahead"
    } else if difference.is_surely_below_zero() {
        "behind"
    } else {
        "tie"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_within_its_error_is_a_tie() {
        let of = |samples: &[f64]| verdict(Estimate::of(samples));
        assert_eq!(of(&[1.0, 1.1, 0.9]), "ahead");
        assert_eq!(of(&[-1.0, -1.1, -0.9]), "behind");
        assert_eq!(of(&[1.0, -1.0, 0.1]), "tie");
        assert_eq!(of(&[0.0, 0.0, 0.0]), "tie");
    }

    #[test]
    fn figures_do_not_depend_on_the_number_of_threads() {
        let mut field = Field::new(true, Arc::default()).unwrap();
        let rows: Vec<_> = everybody().split_off(15);
        let run = |field: &Field| {
            let loss = Loss {
                measured: 5.0,
                ..Loss::new(8, 1.0)
            };
            let demand = &field.mixes[0].1;
            let figures = field.run(&[Cell { demand, loss }], &rows, 2).unwrap();
            format!("{figures:?}")
        };
        field.threads = 1;
        let one = run(&field);
        field.threads = 5;
        assert_eq!(one, run(&field));
    }
}
