use std::collections::BTreeSet;

use super::*;
use crate::{
    ClassSet, PlacementId, ScoreTable,
    geometry::tests::{a30, a100, fine_twelve, rtx},
    placements,
    policy::{best_fit::best_fit, fewest_blocked},
};
use proptest::prelude::*;

/// One step of a random history; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Place {
        profile: usize,
        bonus: u32,
        classes: u8,
        only: u32,
    },
    Hold {
        gpu: usize,
        spot: usize,
    },
    Release {
        gpu: usize,
        nth: usize,
        idle: bool,
    },
    AddIdle {
        gpu: usize,
        spot: usize,
    },
    DestroyIdle {
        gpu: usize,
        spot: usize,
    },
    Reserve {
        gpu: usize,
        spot: Option<usize>,
    },
    Block {
        gpu: usize,
        spot: Option<usize>,
    },
    Health {
        gpu: usize,
        healthy: bool,
    },
    Class {
        gpu: usize,
        class: u16,
    },
    Add {
        class: u16,
        node: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..1000;
    prop_oneof![
        8 => (n.clone(), 0u32..6, any::<u8>(), 1u32..4)
            .prop_map(|(profile, bonus, classes, only)| Step::Place { profile, bonus, classes, only }),
        1 => (n.clone(), n.clone()).prop_map(|(gpu, spot)| Step::Hold { gpu, spot }),
        6 => (n.clone(), n.clone(), any::<bool>())
            .prop_map(|(gpu, nth, idle)| Step::Release { gpu, nth, idle }),
        2 => (n.clone(), n.clone()).prop_map(|(gpu, spot)| Step::AddIdle { gpu, spot }),
        1 => (n.clone(), n.clone()).prop_map(|(gpu, spot)| Step::DestroyIdle { gpu, spot }),
        1 => (n.clone(), proptest::option::of(n.clone()))
            .prop_map(|(gpu, spot)| Step::Reserve { gpu, spot }),
        1 => (n.clone(), proptest::option::of(n.clone()))
            .prop_map(|(gpu, spot)| Step::Block { gpu, spot }),
        1 => (n.clone(), any::<bool>()).prop_map(|(gpu, healthy)| Step::Health { gpu, healthy }),
        1 => (n.clone(), class()).prop_map(|(gpu, class)| Step::Class { gpu, class }),
        1 => (class(), 0u32..5).prop_map(|(class, node)| Step::Add { class, node }),
    ]
}

/// Few classes, one of them in the second word of a set.
fn class() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..4, Just(70)]
}

fn class_set(bits: u8) -> Option<ClassSet> {
    let members = [0, 1, 2, 3, 70].into_iter().enumerate();
    let chosen = members
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, class)| ClassId(class));
    // Every third demand is not constrained.
    (!bits.is_multiple_of(3)).then(|| chosen.collect())
}

fn start(which: usize, coarse: bool) -> Pool {
    let geometry = Arc::new([a100, a30, rtx, fine_twelve][which]());
    // A coarse table has many ties, in which most mistakes would show.
    let table = if coarse {
        ScoreTable::from_fn("ties", &geometry, |mask, id| {
            i32::try_from((u32::from(mask) * 7 + u32::from(id.0)) % 5).unwrap()
        })
    } else {
        best_fit(&geometry)
    };
    let index = Arc::new(Index::new(&geometry, &table).unwrap());
    let mut pool = Pool::new(geometry, index);
    pool.keep_order();
    for n in 0..5u16 {
        pool.add(GpuPlace {
            node: NodeId(u32::from(n) / 2),
            class: ClassId(n % 3),
        });
    }
    pool
}

fn run(pool: &mut Pool, step: &Step) {
    let geometry = Arc::clone(pool.geometry());
    let gpu = |n: usize| GpuId(u32::try_from(n % pool.len()).unwrap());
    let spot = |n: usize| PlacementId(u8::try_from(n % geometry.spots().len()).unwrap());
    let slices = |n: Option<usize>| n.map_or(0, |n| geometry.spot(spot(n)).mask);
    // Steps that do not go with the state are refused, which is part of what is tested.
    match *step {
        Step::Place {
            profile,
            bonus,
            classes,
            only,
        } => {
            let profile = ProfileId(u8::try_from(profile % geometry.profiles().len()).unwrap());
            let classes = class_set(classes);
            let mut ask = Ask::new(profile).reuse_bonus(bonus);
            if let Some(classes) = &classes {
                ask = ask.within(classes);
            }
            // Every GPU, every second or every third.
            let wanted = |gpu: GpuId| gpu.0.is_multiple_of(only);
            let choice = pool.choose_if(&ask, wanted);
            let truth = by_looking_at_all(pool, profile, bonus, |gpu| {
                let class = pool.place(gpu).class;
                wanted(gpu) && classes.as_ref().is_none_or(|c| c.contains(class))
            });
            assert_eq!(choice, truth);
            if only == 1 {
                assert_eq!(choice, pool.choose(&ask));
                assert_eq!(choice, pool.choose_by(&pool.index.clone(), &ask));
            }
            if let Some(choice) = choice {
                assert_eq!(pool.commit(&choice).unwrap().reused, choice.reuse);
            }
        }
        Step::Hold { gpu: g, spot: s } => {
            let (gpu, spot) = (gpu(g), spot(s));
            let free = geometry.free(pool.mask(gpu)) & spot.bit() != 0;
            assert_eq!(pool.hold(gpu, spot).is_ok(), free);
        }
        Step::Release { gpu: g, nth, idle } => {
            let gpu = gpu(g);
            let held: Vec<_> = placements(pool.state(gpu).held).collect();
            if !held.is_empty() {
                let after = if idle { After::Idle } else { After::Destroyed };
                pool.release(gpu, held[nth % held.len()], after).unwrap();
            }
        }
        Step::AddIdle { gpu: g, spot: s } => {
            let (gpu, spot) = (gpu(g), spot(s));
            let _ = pool.add_idle(gpu, spot);
        }
        Step::DestroyIdle { gpu: g, spot: s } => {
            let (gpu, spot) = (gpu(g), spot(s));
            let there = pool.state(gpu).idle & spot.bit() != 0;
            assert_eq!(pool.destroy_idle(gpu, spot).is_ok(), there);
        }
        Step::Reserve { gpu: g, spot: s } => {
            let (gpu, slices) = (gpu(g), slices(s));
            pool.set_reserved(gpu, slices).unwrap();
        }
        Step::Block { gpu: g, spot: s } => {
            let (gpu, slices) = (gpu(g), slices(s));
            pool.set_blocked(gpu, slices).unwrap();
        }
        Step::Health { gpu: g, healthy } => {
            let gpu = gpu(g);
            pool.set_healthy(gpu, healthy).unwrap();
        }
        Step::Class { gpu: g, class } => {
            let gpu = gpu(g);
            pool.set_class(gpu, ClassId(class)).unwrap();
        }
        Step::Add { class, node } => {
            pool.add(GpuPlace {
                node: NodeId(node),
                class: ClassId(class),
            });
        }
    }
}

/// The decision as its documentation says it, by a look at every placement of every GPU.
fn by_looking_at_all(
    pool: &Pool,
    profile: ProfileId,
    bonus: u32,
    wanted: impl Fn(GpuId) -> bool,
) -> Option<Choice> {
    let candidates = pool.gpus().filter(|gpu| wanted(*gpu)).flat_map(|gpu| {
        let free = pool.geometry.free_of(pool.mask(gpu), profile);
        placements(free).map(move |placement| Choice {
            gpu,
            placement,
            reuse: pool.state(gpu).idle & placement.bit() != 0,
            score: pool.index.table().score(pool.mask(gpu), placement),
        })
    });
    candidates.min_by_key(|c| {
        let extra = if c.reuse { i64::from(bonus) } else { 0 };
        let order = pool.index.order(profile);
        let rank = order
            .iter()
            .position(|mask| *mask == pool.mask(c.gpu))
            .unwrap();
        let at = pool.gpus[c.gpu.index()];
        (
            std::cmp::Reverse((i64::from(c.score) + extra, c.reuse)),
            (rank, c.placement, at.class, at.slot),
        )
    })
}

/// Everything that decisions depend on, spelled out.
#[derive(Debug, PartialEq)]
struct Contents {
    gpus: Vec<(GpuState, GpuPlace, u32)>,
    counts: Vec<u32>,
    ranked: Vec<u64>,
    bucket_classes: Vec<u64>,
    idle_counts: Vec<u32>,
    members: Vec<(usize, u16, Vec<GpuId>)>,
    idle_members: Vec<(usize, PlacementId, u16, Vec<GpuId>)>,
    room: Vec<Vec<GpuId>>,
}

fn contents(pool: &Pool) -> Contents {
    let mut members = Vec::new();
    let mut idle_members = Vec::new();
    for (class, shard) in pool.shards.iter().enumerate() {
        for mask in pool.geometry.masks().filter(|m| pool.count(*m) > 0) {
            let mut all = Vec::new();
            shard.first(mask, |gpu| {
                all.push(gpu);
                false
            });
            for id in placements(pool.geometry.free(0)) {
                let mut idle = Vec::new();
                shard.first_idle(mask, id, |gpu| {
                    idle.push(gpu);
                    false
                });
                if !idle.is_empty() {
                    idle_members.push((class, id, mask, idle));
                }
            }
            if !all.is_empty() {
                members.push((class, mask, all));
            }
        }
    }
    let room = pool.geometry.profile_ids().map(|profile| {
        let mut from = GpuId(0);
        std::iter::from_fn(|| {
            let found = pool.first_with_room(profile, from)?;
            from = GpuId(found.0 + 1);
            Some(found)
        })
        .collect()
    });
    Contents {
        gpus: pool
            .gpus()
            .map(|gpu| {
                (
                    *pool.state(gpu),
                    pool.place(gpu),
                    pool.gpus[gpu.index()].slot,
                )
            })
            .collect(),
        counts: pool.counts.clone(),
        ranked: pool.ranked.clone(),
        bucket_classes: pool.bucket_classes.clone(),
        idle_counts: pool.idle_counts.clone(),
        room: room.collect(),
        members,
        idle_members,
    }
}

/// What the contents must be, from the states of the GPUs alone.
fn check(pool: &Pool) {
    let geometry = &pool.geometry;
    let found = contents(pool);
    for gpu in pool.gpus() {
        let state = pool.state(gpu);
        let all: Vec<_> = placements(state.held | state.idle).collect();
        assert_eq!(state.held & state.idle, 0);
        assert_eq!(geometry.cover(state.held), state.used);
        let mut taken = 0;
        for id in all {
            assert_eq!(
                taken & geometry.spot(id).mask,
                0,
                "instances overlap on {gpu:?}"
            );
            taken |= geometry.spot(id).mask;
        }
    }
    let in_order = |class: usize, wanted: &dyn Fn(GpuId) -> bool| -> Vec<GpuId> {
        let here = |g: &GpuId| usize::from(pool.place(*g).class.0) == class && wanted(*g);
        let mut gpus: Vec<_> = pool.gpus().filter(here).collect();
        gpus.sort_by_key(|gpu| pool.gpus[gpu.index()].slot);
        gpus
    };
    let mut members = Vec::new();
    let mut idle_members = Vec::new();
    for class in 0..pool.shards.len() {
        for mask in geometry.masks() {
            let all = in_order(class, &|g| pool.mask(g) == mask);
            let word = pool.bucket_classes[usize::from(mask) * pool.class_words + class / 64];
            assert_eq!(word >> (class % 64) & 1 == 1, !all.is_empty());
            if all.is_empty() {
                continue;
            }
            for id in placements(geometry.free(0)) {
                let idle: Vec<_> = all
                    .iter()
                    .copied()
                    .filter(|g| pool.state(*g).idle & id.bit() != 0)
                    .collect();
                if !idle.is_empty() {
                    idle_members.push((class, id, mask, idle));
                }
            }
            members.push((class, mask, all));
        }
    }
    assert_eq!(found.members, members);
    assert_eq!(found.idle_members, idle_members);
    for mask in geometry.masks() {
        let count = pool.gpus().filter(|g| pool.mask(*g) == mask).count();
        assert_eq!(pool.count(mask) as usize, count);
        for profile in geometry.profile_ids() {
            let rank = pool.index.ranks(mask)[profile.index()];
            if rank != UNRANKED {
                let word = profile.index() * pool.rank_words() + usize::from(rank) / 64;
                assert_eq!(pool.ranked[word] >> (rank % 64) & 1 == 1, count > 0);
            }
        }
    }
    for profile in geometry.profile_ids() {
        let windows = geometry.profile(profile).windows;
        let idle: u32 = pool
            .gpus()
            .map(|g| (pool.state(g).idle & windows).count_ones())
            .sum();
        assert_eq!(pool.idle(profile), idle);
        let room: Vec<_> = pool
            .gpus()
            .filter(|g| geometry.free_of(pool.mask(*g), profile) != 0)
            .collect();
        assert_eq!(found.room[profile.index()], room);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_decision_is_what_a_look_at_every_gpu_would_say_and_nothing_ever_overlaps(
        which in 0usize..3,
        coarse: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut pool = start(which, coarse);
        for step in &steps {
            run(&mut pool, step);
        }
        check(&pool);
    }

    #[test]
    fn undo_puts_back_everything_that_decisions_depend_on(
        which in 0usize..3,
        coarse: bool,
        before in proptest::collection::vec(step(), 0..30),
        within in proptest::collection::vec(step(), 1..30),
        nested in proptest::collection::vec(step(), 1..10),
        keep: bool,
    ) {
        // GPUs that were added or moved stay so, see `Pool::mark`.
        let states_only = |s: &&Step| !matches!(s, Step::Add { .. } | Step::Class { .. });
        let mut pool = start(which, coarse);
        for step in &before {
            run(&mut pool, step);
        }
        let as_it_was = contents(&pool);
        let mark = pool.mark();
        for step in within.iter().filter(states_only) {
            run(&mut pool, step);
        }
        let halfway = contents(&pool);
        let inner = pool.mark();
        for step in nested.iter().filter(states_only) {
            run(&mut pool, step);
        }
        if keep {
            pool.keep(inner);
        } else {
            pool.rollback(inner);
            prop_assert_eq!(contents(&pool), halfway);
        }
        pool.rollback(mark);
        prop_assert_eq!(contents(&pool), as_it_was);
        prop_assert!(pool.log.old_is_empty());
        check(&pool);
    }

    #[test]
    fn the_same_history_gives_the_same_pool(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let (mut one, mut two) = (start(0, true), start(0, true));
        for step in &steps {
            run(&mut one, step);
            run(&mut two, step);
        }
        prop_assert_eq!(contents(&one), contents(&two));
    }

    #[test]
    fn a_new_index_decides_as_if_it_had_been_there_from_the_start(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut pool = start(0, true);
        for step in &steps {
            run(&mut pool, step);
        }
        let other = Index::new(&pool.geometry, &fewest_blocked(&pool.geometry)).unwrap();
        let asks: Vec<_> = pool.geometry.profile_ids().map(Ask::new).collect();
        let before: Vec<_> = asks.iter().map(|ask| pool.choose_by(&other, ask)).collect();
        pool.set_index(Arc::new(other));
        let after: Vec<_> = asks.iter().map(|ask| pool.choose(ask)).collect();
        prop_assert_eq!(before, after);
        check(&pool);
    }
}

#[test]
fn a_pool_with_twelve_slices_decides_as_a_look_at_every_gpu_does() {
    let mut pool = start(3, true);
    for n in 0..120 {
        let place = Step::Place {
            profile: n * 7 + n / 5,
            bonus: 1,
            classes: 0,
            only: 1,
        };
        run(&mut pool, &place);
        if n % 3 == 0 {
            run(
                &mut pool,
                &Step::Release {
                    gpu: n * 5,
                    nth: n,
                    idle: n % 2 == 0,
                },
            );
        }
    }
    check(&pool);
}

#[test]
fn a_pool_grows_past_what_its_sets_were_made_for() {
    let mut pool = start(0, false);
    for n in 0..300u16 {
        let gpu = pool.add(GpuPlace {
            node: NodeId(u32::from(n)),
            class: ClassId(n % 2),
        });
        match n % 3 {
            0 => pool
                .commit(&pool.choose(&Ask::new(ProfileId(0))).unwrap())
                .map(drop)
                .unwrap(),
            1 => pool.add_idle(gpu, PlacementId(1)).unwrap(),
            _ => {}
        }
    }
    check(&pool);
}

#[test]
fn a_gpu_that_takes_the_place_of_another_does_not_take_its_idle_instances() {
    let mut pool = start(0, false);
    let alone = ClassId(9);
    for gpu in [GpuId(0), GpuId(1)] {
        pool.set_class(gpu, alone).unwrap();
        pool.add_idle(gpu, PlacementId(1)).unwrap();
        pool.set_class(gpu, ClassId(0)).unwrap();
    }
    pool.set_class(GpuId(2), alone).unwrap();
    check(&pool);
    let only: ClassSet = [alone].into_iter().collect();
    let four = pool.geometry.spot(PlacementId(1)).profile;
    let choice = pool.choose(&Ask::new(four).within(&only)).unwrap();
    assert_eq!((choice.gpu, choice.reuse), (GpuId(2), false));
}

#[test]
fn a_larger_window_is_kept_for_a_whole_gpu() {
    let mut pool = start(0, false);
    let one = pool.geometry.find(&"1g.10gb".parse().unwrap()).unwrap();
    let first = pool.choose(&Ask::new(one)).unwrap();
    pool.commit(&first).unwrap();
    let gpus: BTreeSet<_> = (0..6)
        .map(|_| {
            let choice = pool.choose(&Ask::new(one)).unwrap();
            pool.commit(&choice).unwrap();
            choice.gpu
        })
        .collect();
    assert_eq!(
        gpus,
        BTreeSet::from([first.gpu]),
        "seven 1g share one GPU, four stay whole"
    );
}

#[test]
fn an_idle_instance_in_the_way_is_destroyed_and_no_other() {
    let mut pool = start(0, false);
    let spot = |name: &str, start| {
        let profile = pool.geometry.find(&name.parse().unwrap()).unwrap();
        pool.geometry.spot_at(profile, start).unwrap()
    };
    let (one, other, three) = (spot("1g.10gb", 0), spot("1g.10gb", 4), spot("3g.40gb", 0));
    pool.add_idle(GpuId(0), one).unwrap();
    pool.add_idle(GpuId(0), other).unwrap();
    let done = pool.hold(GpuId(0), three).unwrap();
    assert_eq!(
        done,
        Committed {
            reused: false,
            destroyed: one.bit()
        }
    );
    assert_eq!(pool.state(GpuId(0)).idle, other.bit());
}

#[test]
fn gpus_of_nodes_that_a_pod_cannot_use_are_not_chosen() {
    let mut pool = start(0, false);
    let only: ClassSet = [ClassId(2)].into_iter().collect();
    let whole = ProfileId(0);
    let ask = Ask::new(whole).within(&only);
    let choice = pool.choose(&ask).unwrap();
    assert_eq!(choice.gpu, GpuId(2));
    pool.commit(&choice).unwrap();
    assert_eq!(pool.choose(&ask), None);
    assert!(pool.choose(&Ask::new(whole)).is_some());
}

#[test]
fn a_change_that_does_not_go_with_the_state_is_refused_and_changes_nothing() {
    let mut pool = start(0, false);
    let before = contents(&pool);
    let gpu = GpuId(0);
    assert_eq!(
        pool.hold(GpuId(99), PlacementId(0)),
        Err(PoolError::NoSuchGpu(GpuId(99)))
    );
    assert_eq!(
        pool.hold(gpu, PlacementId(63)),
        Err(PoolError::NoSuchPlacement(gpu))
    );
    let release = pool.release(gpu, PlacementId(0), After::Idle);
    assert_eq!(release, Err(PoolError::NoSuchInstance(gpu)));
    assert_eq!(contents(&pool), before);
    pool.hold(gpu, PlacementId(0)).unwrap();
    assert_eq!(pool.hold(gpu, PlacementId(1)), Err(PoolError::NotFree(gpu)));
}
