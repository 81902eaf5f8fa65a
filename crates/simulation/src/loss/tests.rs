use placement::policy::{ByTable, FirstFit, best_fit};

use super::*;
use crate::exact::{Chain, Decisions, Measure};
use crate::testing::a100;

fn uniform(geometry: &Geometry) -> Demand {
    Demand::new(geometry, &[1, 1, 1, 1, 1, 1]).unwrap()
}

fn packer(geometry: &Geometry) -> ByTable {
    ByTable::new(geometry, &best_fit(geometry)).unwrap()
}

#[test]
fn a_long_run_on_two_gpus_agrees_with_the_exact_chain() {
    let geometry = a100();
    let demand = uniform(&geometry);
    let mut first = FirstFit::lowest_start(&geometry).unwrap();
    let decisions = Decisions::of(&geometry, &mut first).unwrap();
    let exact = Chain::new(&geometry, &demand, 0.7).evaluate(&decisions, Measure::Pods);
    let mut loss = Loss::new(2, 0.7);
    loss.measured = 400_000.0;
    let simulated = loss.run(&geometry, &demand, &mut first, 1).unwrap().pods();
    assert!(
        (simulated - exact.middle()).abs() < 0.1,
        "{simulated} {exact:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_tally() {
    let geometry = a100();
    let demand = uniform(&geometry);
    let run = |seed| {
        let mut policy = packer(&geometry);
        Loss::new(16, 1.0)
            .run(&geometry, &demand, &mut policy, seed)
            .unwrap()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn all_policies_meet_the_same_pods() {
    let geometry = a100();
    let demand = uniform(&geometry);
    let mut first = FirstFit::lowest_start(&geometry).unwrap();
    let loss = Loss::new(16, 1.3);
    let one = loss.run(&geometry, &demand, &mut first, 3).unwrap();
    let other = loss.run_repacked(&geometry, &demand, 3).unwrap();
    assert_eq!(one.asked, other.asked);
    assert!(one.slices() < other.slices());
}

#[test]
fn low_load_is_accepted_whatever_the_law_of_lifetimes() {
    let geometry = a100();
    let demand = uniform(&geometry);
    for (name, law) in Law::SHOWN {
        let mut loss = Loss::new(50, 0.5);
        loss.law = law;
        let tally = loss
            .run(&geometry, &demand, &mut packer(&geometry), 2)
            .unwrap();
        assert!(tally.pods() > 99.5, "{name}: {}", tally.pods());
    }
}

#[test]
fn active_gpus_are_between_what_is_needed_and_what_is_there() {
    let geometry = a100();
    let demand = uniform(&geometry);
    let tally = Loss::new(50, 0.6)
        .run(&geometry, &demand, &mut packer(&geometry), 2)
        .unwrap();
    assert!(
        tally.active > 28.0 && tally.active < 40.0,
        "{}",
        tally.active
    );
}

#[test]
fn idle_instances_are_taken_again_by_whoever_decides() {
    let geometry = a100();
    let demand = uniform(&geometry);
    let created = |reuse, policy: &mut ByTable| {
        let mut loss = Loss::new(50, 0.9);
        loss.reuse = reuse;
        let tally = loss.run(&geometry, &demand, policy, 2).unwrap();
        tally.created_per_start()
    };
    let by_policy = created(Reuse::Policy, &mut packer(&geometry));
    let by_scheduler = created(Reuse::Scheduler, &mut packer(&geometry));
    let never = created(Reuse::Policy, &mut packer(&geometry).destroying());
    assert!((never - 1.0).abs() < 1e-9);
    assert!(
        by_policy < 0.7 && by_scheduler < 0.3,
        "{by_policy} {by_scheduler}"
    );
}
