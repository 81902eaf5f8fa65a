use placement::policy::{ByTable, best_fit};

use super::*;
use crate::testing::a100;

fn whole(geometry: &Geometry) -> Demand {
    Demand::new(geometry, &[1]).unwrap()
}

fn run(demand: &Demand, load: f64, discipline: Discipline, seed: u64) -> Waits {
    let geometry = a100();
    let mut policy = ByTable::new(&geometry, &best_fit(&geometry)).unwrap();
    let queue = Queue::new(40, load, discipline);
    queue.run(&geometry, demand, &mut policy, seed).unwrap()
}

const RESERVING: Discipline = Discipline::Reserving {
    after: 1.0,
    part: 0.1,
};

#[test]
fn one_gpu_waits_as_the_formula_says() {
    // M/M/1 at 60 %: the mean wait is 0.6 / 0.4 lifetimes.
    let geometry = a100();
    let mut policy = ByTable::new(&geometry, &best_fit(&geometry)).unwrap();
    let mut queue = Queue::new(1, 0.6, Discipline::Fifo);
    queue.measured = 200_000.0;
    let waits = queue
        .run(&geometry, &whole(&geometry), &mut policy, 3)
        .unwrap();
    assert!(
        (waits.mean(None).unwrap() - 1.5).abs() < 0.05,
        "{:?}",
        waits.mean(None)
    );
    assert!(
        (waits.utilisation - 60.0).abs() < 0.5,
        "{}",
        waits.utilisation
    );
}

#[test]
fn going_ahead_shortens_the_mean_wait() {
    let demand = Demand::new(&a100(), &[1, 1, 1, 1, 1, 1]).unwrap();
    let wait = |discipline| run(&demand, 0.95, discipline, 2).mean(None).unwrap();
    assert!(wait(Discipline::Backfill) < wait(Discipline::Fifo));
}

#[test]
fn a_kept_window_helps_those_that_need_a_whole_gpu() {
    let demand = Demand::new(&a100(), &[1, 1, 1, 1, 1, 1]).unwrap();
    let seven = Some(ProfileId(0));
    let mean = |discipline| -> f64 {
        let waits = (1..=6).map(|seed| run(&demand, 1.05, discipline, seed));
        waits.filter_map(|waits| waits.mean(seven)).sum()
    };
    assert!(mean(RESERVING) < mean(Discipline::Backfill));
}

#[test]
fn nothing_waits_on_an_empty_cluster() {
    let demand = Demand::new(&a100(), &[1, 1, 1, 1, 1, 1]).unwrap();
    for discipline in [Discipline::Fifo, Discipline::Backfill, RESERVING] {
        let waits = run(&demand, 0.2, discipline, 1);
        assert!(waits.quantile(None, 0.999).unwrap() < 1e-9);
        assert_eq!(waits.left, 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_waits() {
    let demand = Demand::new(&a100(), &[30, 15, 5, 5, 15, 30]).unwrap();
    assert_eq!(
        run(&demand, 1.0, RESERVING, 9),
        run(&demand, 1.0, RESERVING, 9)
    );
}
