//! What the project says of its own placement table, on arrivals that it was not trained on.
//!
//! The bars: on a hundred GPUs at high load, more than MFI on every mix by two standard errors, and
//! never less than the best rule of others by more than a tenth of a point and two standard errors.
//! On two GPUs, near the optimum that no policy can pass.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::exact::{Chain, Decisions, Measure, Refusal};
use simulation::fill::Fill;
use simulation::loss::{Loss, Tally};
use simulation::statistics::Estimate;

/// Training draws its seeds from a million on.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;

/// Those that were close to the best in at least one situation; the others are far behind.
const OTHERS: [Contestant; 5] = [
    Contestant::BestFit,
    Contestant::Mfi,
    Contestant::MfiAll,
    Contestant::MfiPartlyAll,
    Contestant::Fgd,
];

fn a100() -> Arc<Geometry> {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    Arc::new(Geometry::new(&model).unwrap())
}

fn runs(
    contestant: Contestant,
    geometry: &Arc<Geometry>,
    demand: &Demand,
    load: f64,
) -> Vec<Tally> {
    let run = |seed| {
        let mut policy = contestant.policy(geometry, demand, seed).unwrap();
        let loss = Loss::new(100, load);
        loss.run(geometry, demand, policy.as_mut(), seed).unwrap()
    };
    SEEDS.map(run).collect()
}

#[test]
fn ours_accepts_more_than_mfi_and_as_much_as_the_best() {
    let geometry = a100();
    for load in [0.85, 1.0] {
        for (mix, demand) in Demand::mixes(&geometry) {
            let ours = runs(Contestant::Ours, &geometry, &demand, load);
            for contestant in OTHERS {
                let theirs = runs(contestant, &geometry, &demand, load);
                for measure in [Tally::pods, Tally::slices] {
                    let of =
                        |tallies: &[Tally]| -> Vec<f64> { tallies.iter().map(measure).collect() };
                    let difference = Estimate::of_difference(&of(&ours), &of(&theirs));
                    let what = format!("{mix} at {load}, {contestant:?}: {difference:?}");
                    assert!(!difference.is_worse_than(0.1, 2.0), "{what}");
                    if contestant == Contestant::Mfi {
                        assert!(difference.is_above_zero(2.0), "{what}");
                    }
                }
            }
        }
    }
}

/// Filling an empty cluster, the rule that fills best of those of others.
#[test]
fn ours_fills_an_empty_cluster_as_well_as_the_longest_run() {
    let geometry = a100();
    let fill = Fill {
        gpus: 100,
        demand: 1.0,
    };
    let run = |contestant: Contestant, demand: &Demand| -> Vec<f64> {
        let run = |seed| {
            let mut policy = contestant.policy(&geometry, demand, seed).unwrap();
            let tally = fill.run(&geometry, demand, policy.as_mut(), seed);
            tally.unwrap().pods()
        };
        (1..=200).map(run).collect()
    };
    for (mix, demand) in Demand::mixes(&geometry) {
        let ours = run(Contestant::Ours, &demand);
        let difference = Estimate::of_difference(&ours, &run(Contestant::LongestRun, &demand));
        assert!(!difference.is_worse_than(0.1, 2.0), "{mix}: {difference:?}");
        // What a batch is needs no telling: it is seen from an empty cluster where nothing ends.
        let mfi = run(Contestant::MfiAll, &demand);
        let gain = Estimate::of_difference(&ours, &mfi);
        assert!(gain.is_above_zero(2.0), "{mix}: {gain:?}");
    }
}

#[test]
fn ours_is_near_the_optimum_on_two_gpus() {
    let geometry = a100();
    let mixes = Demand::mixes(&geometry);
    let (_, demand) = mixes.iter().find(|(mix, _)| *mix == "skew-small").unwrap();
    let chain = Chain::new(&geometry, demand, 0.7);
    let policy = Contestant::Ours.in_the_long_run(&geometry, demand, 1);
    let mut policy = policy.unwrap();
    let decisions = Decisions::of(&geometry, policy.as_mut()).unwrap();
    for (measure, most) in [(Measure::Pods, 0.5), (Measure::Slices, 0.8)] {
        let optimum = chain.optimum(measure, Refusal::Never).middle();
        let ours = chain.evaluate(&decisions, measure).middle();
        assert!(ours > optimum - most, "{measure:?}: {ours} of {optimum}");
    }
}
