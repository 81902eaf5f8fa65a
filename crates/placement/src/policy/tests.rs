use std::sync::Arc;

use super::*;
use crate::{
    GpuId, GpuPlace, NodeId, PlacementId, ScoreTable,
    geometry::tests::{a30, a100, fine_twelve, rtx},
    placements,
    pool::After,
};
use proptest::prelude::*;

fn all(geometry: &Geometry) -> Vec<Box<dyn Policy>> {
    let mut all = baselines(geometry, &Mix::uniform(geometry), 1).unwrap();
    let ours = ByTable::new(geometry, &ours(geometry).unwrap()).unwrap();
    all.push(Box::new(ours));
    all
}

fn pool(geometry: Geometry, policy: &dyn Policy, gpus: u32) -> Pool {
    let mut pool = Pool::new(Arc::new(geometry), Arc::clone(policy.index()));
    for n in 0..gpus {
        pool.add(GpuPlace {
            node: NodeId(n / 2),
            ..GpuPlace::default()
        });
    }
    pool
}

fn spot(pool: &Pool, name: &str, start: u8) -> PlacementId {
    let profile = pool.geometry().find(&name.parse().unwrap()).unwrap();
    pool.geometry().spot_at(profile, start).unwrap()
}

fn profile(pool: &Pool, name: &str) -> ProfileId {
    pool.geometry().find(&name.parse().unwrap()).unwrap()
}

/// Where a policy puts instances one after another, as (GPU, start).
fn starts(policy: &mut dyn Policy, pool: &mut Pool, names: &[&str]) -> Vec<(u32, u8)> {
    let place = |name: &&str| {
        let choice = policy.place(pool, profile(pool, name)).unwrap();
        pool.commit(&choice).unwrap();
        (
            choice.gpu.0,
            pool.geometry().spot(choice.placement).placement.start,
        )
    };
    names.iter().map(place).collect()
}

#[test]
fn names_of_policies_are_unique_so_that_comparisons_can_be_read() {
    let all = all(&a100());
    let mut names: Vec<_> = all.iter().map(|policy| policy.name().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_policy_places_what_is_free_and_large_enough_and_says_none_only_if_it_may(
        which in 0usize..3,
        steps in proptest::collection::vec((0u8..6, any::<u8>()), 1..60),
    ) {
        let geometry = [a100, a30, rtx][which]();
        for mut policy in all(&geometry) {
            let mut pool = pool(geometry.clone(), policy.as_ref(), 4);
            for (wanted, then) in &steps {
                let width = u8::try_from(geometry.profiles().len()).unwrap();
                let wanted = ProfileId(wanted % width);
                let choice = policy.place(&pool, wanted);
                let room = pool.first_with_room(wanted, GpuId(0)).is_some();
                // Those that do not know all profiles, layouts or GPUs may refuse, all others may not.
                let limited = ["HAMi", "nos", "two baskets"]
                    .iter()
                    .any(|name| policy.name().starts_with(name));
                prop_assert!(choice.is_some() == room || limited, "{}", policy.name());
                if let Some(choice) = choice {
                    let given = geometry.profile(geometry.spot(choice.placement).profile);
                    let asked = geometry.profile(wanted);
                    prop_assert!(given.size >= asked.size, "{}", policy.name());
                    prop_assert!(given.name.compute_slices() >= asked.name.compute_slices());
                    let done = pool.commit(&choice).unwrap();
                    prop_assert_eq!(done.reused, choice.reuse);
                }
                let gpu = GpuId(u32::from(then % 4));
                if let Some(held) = placements(pool.state(gpu).held).next()
                    && then % 3 == 0
                {
                    let idle = policy.keeps_idle();
                    let after = if idle { After::Idle } else { After::Destroyed };
                    pool.release(gpu, held, after).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_best_index_is_the_order_in_which_a_driver_fills_an_empty_gpu() {
    let geometry = a100();
    let order = |name: &str| -> Vec<u8> {
        let profile = geometry.find(&name.parse().unwrap()).unwrap();
        let order = driver_order(&geometry, profile);
        order
            .into_iter()
            .map(|id| geometry.spot(id).placement.start)
            .collect()
    };
    // As nvidia-smi prints them on boards that are not flipped.
    assert_eq!(order("1g.10gb"), [6, 4, 5, 0, 1, 2, 3]);
    assert_eq!(order("2g.20gb"), [4, 0, 2]);
    assert_eq!(order("3g.40gb"), [4, 0]);
    assert_eq!(order("1g.20gb")[0], 6);
}

#[test]
fn best_fit_fills_the_fullest_gpu_and_worst_fit_the_emptiest() {
    let geometry = a100();
    for (table, gpu) in [(best_fit(&geometry), 1), (worst_fit(&geometry), 0)] {
        let mut policy = ByTable::new(&geometry, &table).unwrap();
        let mut pool = pool(a100(), &policy, 2);
        pool.hold(GpuId(1), spot(&pool, "2g.20gb", 0)).unwrap();
        assert_eq!(starts(&mut policy, &mut pool, &["1g.10gb"]), [(gpu, 6)]);
    }
}

#[test]
fn mfi_counts_the_windows_that_a_placement_blocks() {
    let geometry = a100();
    let spot = |name: &str, start| {
        let profile = geometry.find(&name.parse().unwrap()).unwrap();
        geometry.spot_at(profile, start).unwrap()
    };
    let table = least_fragmentation(&geometry, MfiWindows::Touched, false);
    // A 1g at 0 of an empty GPU blocks 7g (8), 4g (4), 3g at 0 (4), 2g at 0 (2), 1g.20gb at 0 (2)
    // and itself (1); at 6 it blocks 7g, 3g at 4, 1g.20gb at 6 and itself.
    assert_eq!(table.score(0, spot("1g.10gb", 0)), -21);
    assert_eq!(table.score(0, spot("1g.10gb", 6)), -15);
    // As published, profiles larger than the seven slices left are not counted.
    let table = least_fragmentation(&geometry, MfiWindows::Touched, true);
    assert_eq!(table.score(0, spot("1g.10gb", 0)), -13);
    // Half used: 4g and 3g still count before (20), not after (17).
    assert_eq!(table.score(0b1111, spot("1g.10gb", 4)), 3);
    // By partly used windows, what is wholly used is not fragmented.
    let table = least_fragmentation(&geometry, MfiWindows::PartlyTouched, false);
    assert_eq!(table.score(0, spot("1g.10gb", 0)), -20);
    assert_eq!(table.score(0, spot("7g.80gb", 0)), 0);
}

#[test]
fn fgd_with_all_profiles_alike_ranks_as_mfi_over_all_profiles_on_an_empty_gpu() {
    let geometry = a100();
    let fgd = fragmentation_gradient(&geometry, &Mix::uniform(&geometry));
    let mfi = fewest_blocked(&geometry);
    for profile in geometry.profile_ids() {
        let best = |table: &ScoreTable| Index::new(&geometry, table).unwrap().best(profile, 0);
        assert_eq!(best(&fgd), best(&mfi), "{}", geometry.profile(profile).name);
    }
}

#[test]
fn fgd_counts_the_free_slices_that_a_profile_cannot_use() {
    let geometry = a100();
    let table = fragmentation_gradient(&geometry, &Mix::uniform(&geometry));
    let one = geometry.find(&"1g.10gb".parse().unwrap()).unwrap();
    // Empty: 4 for 4g, 2 for 2g, 1 for 1g. With a 1g at 0: 7, 7, 3, 3, 1 and 1, large to small.
    assert_eq!(table.score(0, geometry.spot_at(one, 0).unwrap()), 7 - 22);
}

#[test]
fn fgd_heeds_what_is_asked_for() {
    let geometry = a100();
    let first = |matters: &str| {
        let wanted = geometry.find(&matters.parse().unwrap()).unwrap();
        let parts = geometry
            .profile_ids()
            .map(|id| u32::from(id == wanted))
            .collect();
        let table = fragmentation_gradient(&geometry, &Mix::new(parts));
        let mut policy = ByTable::new(&geometry, &table).unwrap();
        let mut pool = pool(a100(), &policy, 2);
        pool.hold(GpuId(1), spot(&pool, "1g.10gb", 5)).unwrap();
        starts(&mut policy, &mut pool, &["1g.10gb"])[0]
    };
    // A 3g cannot use the right half of the second GPU any more, so that a 1g goes there.
    assert_eq!(first("3g.40gb"), (1, 4));
    // A 1g can use every place as well as any other: the fuller GPU, the lowest start.
    assert_eq!(first("1g.10gb"), (1, 0));
}

#[test]
fn most_capability_prefers_empty_gpus_and_least_lost_does_not() {
    let geometry = a100();
    let mix = Mix::uniform(&geometry);
    let first = |table: ScoreTable| {
        let mut policy = ByTable::new(&geometry, &table).unwrap();
        let mut pool = pool(a100(), &policy, 2);
        pool.hold(GpuId(1), spot(&pool, "3g.40gb", 0)).unwrap();
        starts(&mut policy, &mut pool, &["1g.10gb"])[0].0
    };
    assert_eq!(first(most_capability(&geometry)), 0);
    assert_eq!(first(least_capability_lost(&geometry, &mix)), 1);
}

#[test]
fn first_fit_takes_the_first_gpu_and_round_robin_the_next() {
    let geometry = a100();
    let names = ["3g.40gb", "3g.40gb", "3g.40gb"];
    let mut first = FirstFit::lowest_start(&geometry).unwrap();
    let mut pool_first = pool(a100(), &first, 3);
    assert_eq!(
        starts(&mut first, &mut pool_first, &names),
        [(0, 0), (0, 4), (1, 0)]
    );
    let mut best = FirstFit::best_index(&geometry).unwrap();
    let mut pool_best = pool(a100(), &best, 3);
    assert_eq!(
        starts(&mut best, &mut pool_best, &names),
        [(0, 4), (0, 0), (1, 4)]
    );
    let mut robin = RoundRobin::new(&geometry).unwrap();
    let mut pool_robin = pool(a100(), &robin, 2);
    assert_eq!(
        starts(&mut robin, &mut pool_robin, &names),
        [(0, 0), (1, 0), (0, 4)]
    );
}

#[test]
fn two_baskets_keep_small_instances_off_the_gpus_of_the_largest_profile() {
    let mut policy = Baskets::new(&a100(), 30).unwrap();
    let mut pool = pool(a100(), &policy, 4);
    let names = ["1g.10gb", "7g.80gb", "3g.40gb", "7g.80gb"];
    // A 1g at 6 leaves the most possible.
    assert_eq!(
        starts(&mut policy, &mut pool, &names),
        [(2, 6), (0, 0), (2, 0), (1, 0)]
    );
    let whole = profile(&pool, "7g.80gb");
    assert_eq!(
        policy.place(&pool, whole),
        None,
        "GPU 3 is empty, but of the other basket"
    );
}

#[test]
fn das_goes_to_the_emptiest_node_and_there_to_the_first_gpu() {
    let mut policy = Das::new(&a100()).unwrap();
    let mut pool = pool(a100(), &policy, 4);
    let names = ["2g.20gb", "2g.20gb", "1g.10gb"];
    assert_eq!(
        starts(&mut policy, &mut pool, &names),
        [(0, 0), (2, 0), (0, 2)]
    );
}

#[test]
fn dra_draws_the_same_nodes_from_the_same_seed_and_fits_first_on_them() {
    let run = |seed| {
        let mut policy = Dra::new(&a100(), seed).unwrap();
        let mut pool = pool(a100(), &policy, 16);
        starts(&mut policy, &mut pool, &["1g.10gb"; 30])
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    // The first GPU of a node is filled before its second.
    assert!(run(1).iter().all(|(gpu, _)| gpu % 2 == 0));
}

#[test]
fn hami_packs_nodes_spreads_gpus_and_gives_more_where_nothing_smaller_is_left() {
    let mut policy = Hami::new(&a100(), HamiStart::ByProfile, HamiServes::AtLeast).unwrap();
    let mut pool = pool(a100(), &policy, 4);
    let names = ["1g.10gb", "1g.10gb", "3g.40gb", "2g.20gb"];
    assert_eq!(
        starts(&mut policy, &mut pool, &names),
        [(0, 6), (1, 6), (0, 0), (1, 0)]
    );
    // No double-memory 1g: it gets a 2g.
    let choice = policy.place(&pool, profile(&pool, "1g.20gb")).unwrap();
    let given = pool.geometry().spot(choice.placement).profile;
    assert_eq!(given, profile(&pool, "2g.20gb"));
}

#[test]
fn the_later_hami_rule_leaves_the_longest_run() {
    let mut policy = Hami::new(&a100(), HamiStart::LongestRun, HamiServes::AtLeast).unwrap();
    let mut pool = pool(a100(), &policy, 2);
    // At 0 a 1g leaves a run of seven, at 6 one of six.
    assert_eq!(starts(&mut policy, &mut pool, &["1g.10gb"]), [(0, 0)]);
}

#[test]
fn nos_never_puts_a_4g_beside_a_3g() {
    let mut policy = Nos::new(&a100()).unwrap();
    let mut pool = pool(a100(), &policy, 2);
    let names = ["3g.40gb", "4g.40gb", "2g.20gb", "1g.10gb"];
    assert_eq!(
        starts(&mut policy, &mut pool, &names),
        [(0, 4), (1, 0), (0, 0), (0, 2)]
    );
    assert_eq!(policy.place(&pool, profile(&pool, "1g.20gb")), None);
}

#[test]
fn nos_takes_a_free_instance_first() {
    let mut policy = Nos::new(&a100()).unwrap();
    let mut pool = pool(a100(), &policy, 3);
    let idle = spot(&pool, "1g.10gb", 3);
    pool.add_idle(GpuId(2), idle).unwrap();
    let choice = policy.place(&pool, profile(&pool, "1g.10gb")).unwrap();
    assert_eq!(
        (choice.gpu, choice.placement, choice.reuse),
        (GpuId(2), idle, true)
    );
}

#[test]
fn a_table_decides_alike_on_a_pool_with_another_index() {
    let geometry = a100();
    let mut policy = ByTable::new(&geometry, &fewest_blocked(&geometry)).unwrap();
    let other = ByTable::new(&geometry, &worst_fit(&geometry)).unwrap();
    let (mut own, mut foreign) = (pool(a100(), &policy, 5), pool(a100(), &other, 5));
    let names = [
        "2g.20gb", "1g.10gb", "3g.40gb", "1g.20gb", "4g.40gb", "1g.10gb",
    ];
    let placed = starts(&mut policy, &mut own, &names);
    assert_eq!(starts(&mut policy, &mut foreign, &names), placed);
}

#[test]
fn common_gpus_have_a_table_of_their_own() {
    for product in ["A100-SXM4-40GB", "A100-SXM4-80GB", "H100 80GB HBM3", "A30"] {
        let model = mig::GpuModel::known(product).unwrap();
        let geometry = Geometry::new(&model).unwrap();
        let table = ours(&geometry).unwrap();
        assert_ne!(table.name(), fewest_blocked(&geometry).name(), "{product}");
        assert!(table.values().is_some(), "{product}");
        let fill = ours_to_fill(&geometry).unwrap();
        let untrained = longest_run(&geometry);
        assert_eq!(fill == untrained, product == "A30", "{product}");
    }
}

#[test]
fn a_gpu_with_wider_slices_is_placed_on_as_one_with_fewer() {
    let (wide, narrow) = (rtx(), a30());
    let tables = [ours(&wide).unwrap(), ours(&narrow).unwrap()];
    assert_eq!(tables[0].name(), tables[1].name());
    // Ids are the same, since placements are in the same order.
    for mask in narrow.masks() {
        let widened = (0..4).filter(|slice| mask >> slice & 1 == 1);
        let widened = widened.fold(0u16, |set, slice| set | 0b111 << (3 * slice));
        assert_eq!(tables[0].row(widened), tables[1].row(mask), "{mask:04b}");
    }
    // A slice that is blocked alone spoils the quarter that it is in.
    let one = wide.find(&"1g.24gb".parse().unwrap()).unwrap();
    assert_eq!(
        tables[0].score(0b10, wide.spot_at(one, 0).unwrap()),
        crate::INFEASIBLE
    );
}

#[test]
fn gpus_that_nobody_trained_a_table_for_get_the_best_rule_without_training() {
    let geometry = fine_twelve();
    assert_eq!(ours(&geometry), Ok(fewest_blocked(&geometry)));
    assert_eq!(ours_to_fill(&geometry), Ok(longest_run(&geometry)));
}
