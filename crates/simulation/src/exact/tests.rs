use std::sync::Arc;

use placement::policy::{ByTable, FirstFit, best_fit};

use super::*;
use crate::demand::Demand;
use crate::testing::a100;

fn demand(name: &str) -> Demand {
    let mixes = Demand::mixes(&a100());
    mixes
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap()
        .1
}

#[test]
fn whole_gpus_alone_follow_the_formula_of_erlang() {
    let geometry = a100();
    let whole = Demand::new(&geometry, &[1]).unwrap();
    let chain = Chain::new(&geometry, &whole, 0.7);
    // Two servers at 1.4 erlangs.
    let lost = (1.4 * 1.4 / 2.0) / (1.0 + 1.4 + 1.4 * 1.4 / 2.0);
    let gain = chain.optimum(Measure::Pods, Refusal::Never);
    assert!(gain.most - gain.least < 0.01);
    assert!(
        (gain.middle() - 100.0 * (1.0 - lost)).abs() < 0.01,
        "{gain:?}"
    );
}

#[test]
fn an_a100_has_half_a_million_pairs_of_layouts() {
    assert_eq!(
        Chain::new(&a100(), &demand("uniform"), 0.7).states(),
        723 * 723
    );
}

#[test]
fn two_gpus_accept_at_best_what_was_found_before() {
    // Found independently with a C program; the percentages are rounded and were not proved.
    let chain = Chain::new(&a100(), &demand("uniform"), 0.7);
    let pods = chain.optimum(Measure::Pods, Refusal::Never).middle();
    assert!((pods - 79.20).abs() < 0.06, "{pods}");
    let slices = chain.optimum(Measure::Slices, Refusal::Never).middle();
    assert!((slices - 67.69).abs() < 0.06, "{slices}");
}

#[test]
fn policies_accept_what_was_found_before_and_never_more_than_the_optimum() {
    let geometry = a100();
    let chain = Chain::new(&geometry, &demand("skew-big"), 0.7);
    let optimum = chain.optimum(Measure::Slices, Refusal::Never);
    let mut first = FirstFit::lowest_start(&geometry).unwrap();
    let mut best = ByTable::new(&geometry, &best_fit(&geometry)).unwrap();
    let first = Decisions::of(&geometry, &mut first).unwrap();
    let best = Decisions::of(&geometry, &mut best).unwrap();
    for (decisions, known) in [(first, 63.74), (best, 66.46)] {
        let slices = chain.evaluate(&decisions, Measure::Slices);
        assert!((slices.middle() - known).abs() < 0.02, "{slices:?}");
        assert!(slices.least <= optimum.most);
    }
}

#[test]
fn turning_away_what_fits_can_only_help() {
    let small = mig::GpuModel::known("NVIDIA A30").unwrap();
    let geometry = Arc::new(placement::Geometry::new(&small).unwrap());
    let demand = Demand::new(&geometry, &[1, 1, 1]).unwrap();
    let chain = Chain::new(&geometry, &demand, 1.0);
    let forced = chain.optimum(Measure::Pods, Refusal::Never);
    let free = chain.optimum(Measure::Pods, Refusal::Allowed);
    assert!(free.least > forced.most + 0.1, "{forced:?} {free:?}");
}
