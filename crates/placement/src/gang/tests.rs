use std::sync::Arc;

use super::*;
use crate::{
    ClassId, Geometry, GpuPlace, Index, ScoreTable,
    geometry::tests::{a30, a100},
    policy::{best_fit::worst_fit, fewest_blocked},
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
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_gang_is_placed_exactly_if_there_is_a_way_and_otherwise_nothing_changes(
        small: bool,
        // Or by the search alone, which is seldom reached otherwise.
        at_once: bool,
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
        let gang = Gang::new(&wanted);
        let outcome = if at_once {
            pool.place_gang(&gang)
        } else {
            let order = pool.order(&gang);
            pool.search_for(&gang, &order)
        };
        match outcome {
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
        Outcome::CannotFit(Proof::Tried { steps: 0 })
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
    let outcome = pool.place_gang(&Gang::new(&wanted));
    assert!(
        matches!(outcome, Outcome::CannotFit(Proof::Tried { .. })),
        "{outcome:?}"
    );
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

#[test]
fn a_pod_with_several_devices_gets_the_node_where_they_cost_least() {
    let mut pool = pool(a100(), fewest_blocked, 6);
    let nodes: Vec<_> = (0..3).map(NodeId).collect();
    hold(&mut pool, 2, "4g.40gb", 0);
    let pair = profiles(&pool, &["3g.40gb", "7g.80gb"]);
    let Outcome::Placed(choices) = pool.place_gang_on_one_of(&Gang::new(&pair), &nodes) else {
        panic!("there is room");
    };
    let gpus: Vec<_> = choices.iter().map(|c| c.gpu).collect();
    assert_eq!(
        gpus,
        [GpuId(2), GpuId(3)],
        "the half that is left, and the whole GPU beside it"
    );
    let before = states(&pool);
    let three = profiles(&pool, &["7g.80gb"; 3]);
    let outcome = pool.place_gang_on_one_of(&Gang::new(&three), &nodes);
    assert_eq!(outcome, Outcome::CannotFit(Proof::NotEvenIfMoved));
    assert_eq!(states(&pool), before);
}

#[test]
fn several_devices_find_the_one_node_where_only_the_search_fits_them() {
    // Worst fit puts the 2g into the empty half where the 3g must go.
    let mut pool = pool(a100(), worst_fit, 2);
    hold(&mut pool, 0, "7g.80gb", 0);
    hold(&mut pool, 1, "1g.10gb", 0);
    let wanted = profiles(&pool, &["2g.20gb", "1g.20gb", "1g.20gb"]);
    let outcome = pool.place_gang_on_one_of(&Gang::new(&wanted), &[NodeId(0)]);
    assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
}

#[test]
fn no_node_is_no_way() {
    let mut pool = pool(a100(), fewest_blocked, 2);
    let one = profiles(&pool, &["1g.10gb"]);
    let outcome = pool.place_gang_on_one_of(&Gang::new(&one), &[]);
    assert_eq!(outcome, Outcome::CannotFit(Proof::NotEvenIfMoved));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn several_devices_are_placed_exactly_if_some_node_can_take_them_all(
        standing in proptest::collection::vec((0u32..4, 0u8..18), 0..14),
        wanted in proptest::collection::vec(0u8..6, 1..5),
    ) {
        let mut pool = pool(a100(), worst_fit, 4);
        for (gpu, spot) in standing {
            let _ = pool.hold(GpuId(gpu), PlacementId(spot));
        }
        let wanted: Vec<_> = wanted.into_iter().map(ProfileId).collect();
        let nodes = [NodeId(0), NodeId(1)];
        let possible = nodes.iter().any(|node| {
            let mut alone = pool.clone();
            for gpu in pool.gpus().filter(|gpu| pool.place(*gpu).node != *node) {
                alone.set_healthy(gpu, false).unwrap();
            }
            by_force(&mut alone, &wanted)
        });
        let before = states(&pool);
        match pool.place_gang_on_one_of(&Gang::new(&wanted), &nodes) {
            Outcome::Placed(choices) => {
                prop_assert!(possible);
                let node = pool.place(choices[0].gpu).node;
                prop_assert!(choices.iter().all(|c| pool.place(c.gpu).node == node));
            }
            outcome => {
                prop_assert!(!possible, "{:?}", outcome);
                prop_assert_eq!(states(&pool), before);
            }
        }
    }
}
