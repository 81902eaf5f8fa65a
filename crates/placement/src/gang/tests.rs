use std::sync::Arc;

use super::*;
use crate::{
    ClassId, Geometry, GpuPlace, Index, ScoreTable,
    geometry::tests::{a30, a100},
    policy::{fewest_blocked, worst_fit},
};
use proptest::prelude::*;

fn pool(geometry: Geometry, table: fn(&Geometry) -> ScoreTable, gpus: u32) -> Pool {
    let geometry = Arc::new(geometry);
    let index = Arc::new(Index::new(&geometry, &table(&geometry)).unwrap());
    let mut pool = Pool::new(geometry, index);
    for n in 0..gpus {
        let class = ClassId(u16::try_from(n % 2).unwrap());
        pool.add(GpuPlace {
            node: NodeId(n / 2),
            class,
        });
    }
    pool
}

fn profiles(pool: &Pool, names: &[&str]) -> Vec<ProfileId> {
    names
        .iter()
        .map(|n| pool.geometry().find(&n.parse().unwrap()).unwrap())
        .collect()
}

fn states(pool: &Pool) -> Vec<crate::GpuState> {
    pool.gpus().map(|gpu| *pool.state(gpu)).collect()
}

fn hold(pool: &mut Pool, gpu: u32, name: &str, start: u8) {
    let profile = pool.geometry().find(&name.parse().unwrap()).unwrap();
    let spot = pool.geometry().spot_at(profile, start).unwrap();
    pool.hold(GpuId(gpu), spot).unwrap();
}

/// Whether there is a way, by trying every one.
fn by_force(pool: &mut Pool, wanted: &[ProfileId]) -> bool {
    let Some((first, rest)) = wanted.split_first() else {
        return true;
    };
    for gpu in pool.gpus() {
        for id in placements(pool.geometry().free_of(pool.mask(gpu), *first)) {
            let mark = pool.mark();
            pool.hold(gpu, id).unwrap();
            let found = by_force(pool, rest);
            pool.rollback(mark);
            if found {
                return true;
            }
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_gang_is_placed_exactly_if_there_is_a_way_and_otherwise_nothing_changes(
        small: bool,
        standing in proptest::collection::vec((0u32..3, 0u8..64), 0..8),
        wanted in proptest::collection::vec(0u8..6, 1..6),
    ) {
        // Worst fit goes wrong often, so that the search has something to do.
        let mut pool = pool(if small { a30() } else { a100() }, worst_fit, 3);
        let geometry = Arc::clone(pool.geometry());
        for (gpu, spot) in standing {
            let spot = spot % u8::try_from(geometry.spots().len()).unwrap();
            let _ = pool.hold(GpuId(gpu), PlacementId(spot));
        }
        let width = u8::try_from(geometry.profiles().len()).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|p| ProfileId(p % width)).collect();
        let before = states(&pool);
        let possible = by_force(&mut pool, &wanted);
        match pool.place_gang(&Gang::new(&wanted)) {
            Outcome::Placed(choices) => {
                prop_assert!(possible);
                prop_assert_eq!(choices.len(), wanted.len());
                for (choice, profile) in choices.iter().zip(&wanted) {
                    prop_assert_eq!(geometry.spot(choice.placement).profile, *profile);
                    let now = pool.state(choice.gpu).held & choice.placement.bit();
                    let then = before[choice.gpu.index()].held & choice.placement.bit();
                    prop_assert!(now != 0 && then == 0);
                }
            }
            Outcome::CannotFit(_) => {
                prop_assert!(!possible);
                prop_assert_eq!(states(&pool), before);
            }
            Outcome::NotFound { .. } => prop_assert!(false, "five instances are within the bound"),
        }
    }
}

#[test]
fn what_could_not_fit_even_if_moved_is_told_from_what_stands_in_the_way() {
    let mut pool = pool(a100(), fewest_blocked, 2);
    let wanted = profiles(&pool, &["7g.80gb", "7g.80gb", "1g.10gb"]);
    let outcome = pool.place_gang(&Gang::new(&wanted));
    assert_eq!(outcome, Outcome::CannotFit(Proof::NotEvenIfMoved));
    hold(&mut pool, 0, "1g.10gb", 0);
    hold(&mut pool, 1, "1g.10gb", 0);
    let wanted = profiles(&pool, &["7g.80gb"]);
    assert_eq!(
        pool.place_gang(&Gang::new(&wanted)),
        Outcome::CannotFit(Proof::Tried)
    );
}

#[test]
fn a_search_that_is_cut_off_does_not_claim_that_there_is_no_way() {
    let mut pool = pool(a100(), fewest_blocked, 2);
    hold(&mut pool, 0, "1g.10gb", 0);
    hold(&mut pool, 1, "1g.10gb", 4);
    let before = states(&pool);
    let wanted = profiles(
        &pool,
        &["3g.40gb", "3g.40gb", "2g.20gb", "2g.20gb", "2g.20gb"],
    );
    let gang = Gang {
        most_steps: 1,
        ..Gang::new(&wanted)
    };
    assert_eq!(pool.place_gang(&gang), Outcome::NotFound { steps: 2 });
    assert_eq!(states(&pool), before);
    let gang = Gang::new(&wanted);
    assert_eq!(pool.place_gang(&gang), Outcome::CannotFit(Proof::Tried));
}

#[test]
fn a_gang_stays_on_its_node_or_its_classes() {
    let mut pool = pool(a100(), fewest_blocked, 4);
    let two = profiles(&pool, &["7g.80gb", "7g.80gb"]);
    let three = profiles(&pool, &["7g.80gb"; 3]);
    let on_node = |profiles| Gang {
        node: Some(NodeId(1)),
        ..Gang::new(profiles)
    };
    let outcome = pool.place_gang(&on_node(&three));
    assert_eq!(outcome, Outcome::CannotFit(Proof::NotEvenIfMoved));
    let classes: ClassSet = [ClassId(1)].into_iter().collect();
    let within = Gang {
        classes: Some(&classes),
        ..Gang::new(&three)
    };
    assert_eq!(
        pool.place_gang(&within),
        Outcome::CannotFit(Proof::NotEvenIfMoved)
    );
    let Outcome::Placed(choices) = pool.place_gang(&on_node(&two)) else {
        panic!("the node is empty");
    };
    let gpus: Vec<_> = choices.iter().map(|c| c.gpu).collect();
    assert_eq!(gpus, [GpuId(2), GpuId(3)]);
}

#[test]
fn an_idle_instance_on_the_node_is_reused() {
    let mut pool = pool(a100(), fewest_blocked, 2);
    let one = profiles(&pool, &["1g.10gb"]);
    let spot = pool.geometry().spot_at(one[0], 3).unwrap();
    pool.add_idle(GpuId(1), spot).unwrap();
    let gang = Gang {
        node: Some(NodeId(0)),
        reuse_bonus: 1000,
        ..Gang::new(&one)
    };
    let Outcome::Placed(choices) = pool.place_gang(&gang) else {
        panic!("the node is empty");
    };
    assert_eq!(
        (choices[0].gpu, choices[0].placement, choices[0].reuse),
        (GpuId(1), spot, true)
    );
}
