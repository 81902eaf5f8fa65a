use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::{exactness::any_gpu, *};
use crate::{Ask, Planner};

/// Nodes with names, as [`Planner::find`] needs them.
pub(super) fn named(nodes: Vec<Vec<Gpu>>) -> Cluster {
    let node = |(number, gpus): (usize, Vec<Gpu>)| Node {
        name: format!("n{number:02}"),
        ..mk_node(uuids(number, gpus))
    };
    mk_cluster(nodes.into_iter().enumerate().map(node).collect())
}

pub(super) fn uuids(node: usize, gpus: Vec<Gpu>) -> Vec<Gpu> {
    let gpus = gpus.into_iter().enumerate();
    gpus.map(|(number, gpu)| Gpu {
        uuid: format!("GPU-{node}-{number}"),
        ..gpu
    })
    .collect()
}

pub(super) fn late(cluster: &Cluster, name: &str, wants: &[(&str, u32)]) -> Demand {
    Demand {
        window: Some(ask(name)),
        ..mk_demand(cluster, wants)
    }
}

/// Each asks for something else, unless it is said otherwise.
pub(super) fn ask(name: &str) -> Ask {
    let mut kind = DefaultHasher::new();
    name.hash(&mut kind);
    Ask {
        key: name.into(),
        kind: kind.finish(),
        spent: 0,
        avoid: Arc::default(),
        stays: false,
        leaves: false,
        now: NOW,
        grain: 600,
    }
}

/// Seconds of Unix time at which demands are looked at.
const NOW: i64 = 1_800_000_000;

/// What is there has been in use for so many minutes.
fn aged(minutes: i64, gpu: Gpu) -> Gpu {
    let mut gpu = gpu;
    for instance in &mut gpu.instances {
        instance.since = NOW - minutes * 60;
    }
    gpu
}

pub(super) fn full(held: &[u8]) -> Gpu {
    let ones: Vec<_> = held.iter().map(|at| ("1g.5gb", *at, Usage::Held)).collect();
    a100(&ones)
}

pub(super) fn places(planner: &Planner) -> Vec<(&str, &str, u16)> {
    let windows = planner.windows().iter();
    let parts = windows.flat_map(|window| window.parts.iter().map(move |part| (window, part)));
    parts
        .map(|(window, part)| (&*window.key, part.uuid.as_str(), part.slices.bits()))
        .collect()
}

#[test]
fn a_demand_that_waited_long_gets_the_slices_for_which_the_fewest_pods_must_end() {
    let cluster = named(vec![
        vec![full(&[0, 1, 2, 3, 4, 5, 6])],
        vec![full(&[2, 4, 5, 6])],
    ]);
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("3g.20gb", 1)]);
    let outcome = planner.plan(&[demand]).remove(0);
    let Outcome::Reserved { refusal, clear } = outcome else {
        panic!("no window: {outcome:?}");
    };
    assert_eq!(clear, None);
    assert_eq!(places(&planner), [("a", "GPU-1-0", 0b1111)]);
    assert!(
        refusal
            .text
            .starts_with("slices 0-3 of GPU-1-0 on node n01 are kept free for it; no room for"),
        "{}",
        refusal.text
    );
}

#[test]
fn two_pods_that_started_lately_are_waited_for_rather_than_one_that_has_run_for_days() {
    let service = a100(&[("4g.20gb", 0, Usage::Held)]);
    let young = full(&[0, 2]);
    let window = |gpus: Vec<Gpu>| {
        let cluster = named(vec![gpus]);
        let mut planner = Planner::from(&cluster);
        planner.plan(&[late(&cluster, "a", &[("7g.40gb", 1)])]);
        planner.windows()[0].parts[0].uuid.clone()
    };
    let days = aged(5 * 24 * 60, service.clone());
    assert_eq!(window(vec![days, aged(20, young.clone())]), "GPU-0-1");
    // If nothing is known of its age, or it is young itself, the fewest are.
    assert_eq!(window(vec![service.clone(), young.clone()]), "GPU-0-0");
    assert_eq!(window(vec![aged(9, service), aged(9, young)]), "GPU-0-0");
}

#[test]
fn on_one_gpu_those_that_started_lately_are_waited_for() {
    let mut gpu = full(&[0, 1, 2, 4, 5, 6]);
    for instance in &mut gpu.instances {
        let old = instance.placement.start == 5;
        instance.since = NOW - if old { 24 * 3_600 } else { 1_200 };
    }
    let cluster = named(vec![vec![gpu]]);
    let mut planner = Planner::from(&cluster);
    planner.plan(&[late(&cluster, "a", &[("3g.20gb", 1)])]);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111)]);
}

#[test]
fn gpus_on_which_a_window_was_in_vain_are_the_last_however_old_the_pods_of_others_are() {
    let cluster = named(vec![vec![full(&[0]), aged(1 << 40, full(&[0, 1, 2]))]]);
    let mut planner = Planner::from(&cluster);
    let again = Demand {
        window: Some(Ask {
            avoid: Arc::new(["GPU-0-0".to_owned()]),
            ..ask("a")
        }),
        ..mk_demand(&cluster, &[("7g.40gb", 1)])
    };
    planner.plan(&[again]);
    assert_eq!(places(&planner), [("a", "GPU-0-1", 0b1111_1111)]);
}

#[test]
fn others_are_not_given_what_is_kept_free() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let small = mk_demand(&cluster, &[("1g.5gb", 1)]);
    let large = late(&cluster, "a", &[("3g.20gb", 1)]);
    planned(&planner.plan(std::slice::from_ref(&small))[0]);
    let outcomes = planner.plan(&[large.clone(), small.clone()]);
    assert!(matches!(outcomes[1], Outcome::Refused(_)), "{outcomes:?}");
    // Nor who is older, once it is.
    let older = Demand {
        created: -1,
        ..small.clone()
    };
    let outcomes = planner.plan(&[older, large.clone()]);
    assert!(matches!(outcomes[0], Outcome::Refused(_)), "{outcomes:?}");
    // Who is more important is.
    let urgent = Demand {
        priority: 1,
        ..small
    };
    let outcomes = planner.plan(&[large, urgent]);
    planned(&outcomes[1]);
}

#[test]
fn what_is_idle_there_is_given_up_at_once() {
    let mut gpu = full(&[2, 4, 5, 6]);
    gpu.instances.push(Instance {
        gi_id: 9,
        usage: Usage::Idle,
        placement: Placement::new(0, 1),
        ..gpu.instances[0].clone()
    });
    let cluster = named(vec![vec![gpu]]);
    let mut planner = Planner::from(&cluster);
    let outcome = planner
        .plan(&[late(&cluster, "a", &[("3g.20gb", 1)])])
        .remove(0);
    let Outcome::Reserved {
        clear: Some(plan), ..
    } = outcome
    else {
        panic!("nothing is given up: {outcome:?}");
    };
    let gone: Vec<_> = plan.gpus[0].give_up.iter().map(|gone| gone.gi_id).collect();
    assert_eq!(gone, [9]);
    assert!(plan.gpus[0].create.is_empty());
}

#[test]
fn a_window_stays_where_it_is_until_its_demand_is_gone() {
    let cluster = named(vec![
        vec![full(&[0, 1, 2, 3, 4, 5, 6])],
        vec![full(&[2, 4, 5, 6])],
    ]);
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("3g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&demand));
    let mut better = cluster.nodes[0].clone();
    better.gpus[0].instances.truncate(1);
    better.gpus[0].changeable = false;
    planner.replace(0, better);
    planner.plan(std::slice::from_ref(&demand));
    assert_eq!(places(&planner), [("a", "GPU-1-0", 0b1111)]);
    // Another GPU has the place now.
    let mut other = cluster.nodes[1].clone();
    other.gpus[0].uuid = "GPU-new".to_owned();
    planner.replace(1, other);
    planner.plan(std::slice::from_ref(&demand));
    assert_eq!(places(&planner), [("a", "GPU-new", 0b1111)]);
    planner.replace(0, named(vec![vec![a100(&[])]]).nodes.remove(0));
    planned(&planner.plan(&[demand])[0]);
    // It does not have yet what it was promised.
    assert_eq!(places(&planner), [("a", "GPU-new", 0b1111)]);
    assert!(planner.windows()[0].hides, "it will start elsewhere");
    planner.plan(&[]);
    assert!(planner.windows().is_empty());
}

#[test]
fn the_number_of_gpus_with_windows_is_bounded() {
    let gpus = |count: usize| (0..count).map(|_| full(&[0, 1, 2, 3, 4, 5, 6])).collect();
    let cluster = named((0..10).map(|_| gpus(10)).collect());
    let mut planner = Planner::from(&cluster);
    let demands: Vec<_> = (0..10)
        .map(|number| late(&cluster, &number.to_string(), &[("7g.40gb", 1)]))
        .collect();
    // A pass searches for few of them.
    planner.plan(&demands);
    let outcomes = planner.plan(&demands);
    assert_eq!(planner.windows().len(), 3);
    let reserved = |outcome: &&Outcome| matches!(outcome, Outcome::Reserved { .. });
    assert_eq!(outcomes.iter().filter(reserved).count(), 3);
    let gpus: std::collections::BTreeSet<_> = places(&planner)
        .into_iter()
        .map(|(_, gpu, _)| gpu)
        .collect();
    assert_eq!(gpus.len(), 3, "each has its own");
}

#[test]
fn a_demand_of_several_devices_gets_them_on_one_node() {
    let cluster = named(vec![vec![full(&[0, 4]), full(&[1, 2, 5])]]);
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("3g.20gb", 3)]);
    planner.plan(&[demand]);
    let slices: Vec<_> = places(&planner)
        .into_iter()
        .map(|(_, _, bits)| bits)
        .collect();
    assert_eq!(slices, [0b1111_1111, 0b1111_0000]);
}

#[test]
fn who_waits_for_devices_of_its_own_kind_gets_no_window() {
    let cluster = named(vec![vec![full(&[0, 1, 2, 3, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    refused(&planner.plan(&[late(&cluster, "a", &[("1g.5gb", 1)])])[0]);
    assert!(planner.windows().is_empty());
}

#[test]
fn what_could_never_fit_gets_no_window() {
    let cluster = named(vec![vec![full(&[0])]]);
    let mut planner = Planner::from(&cluster);
    let outcome = planner
        .plan(&[late(&cluster, "a", &[("7g.40gb", 2)])])
        .remove(0);
    refused(&outcome);
    assert!(planner.windows().is_empty());
}

#[test]
fn who_waits_for_a_device_of_its_own_kind_gets_another_place_if_one_would_help() {
    let halves = a100(&[("3g.20gb", 0, Usage::Held), ("3g.20gb", 4, Usage::Held)]);
    let cluster = named(vec![vec![halves.clone(), full(&[0, 1, 2, 3, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    planner.plan(&[late(&cluster, "a", &[("3g.20gb", 1)])]);
    assert_eq!(places(&planner), [("a", "GPU-0-1", 0b1111_0000)]);
    // Of several it needs all at once.
    let cluster = named(vec![vec![halves]]);
    let mut planner = Planner::from(&cluster);
    planner.plan(&[late(&cluster, "a", &[("3g.20gb", 2)])]);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn a_window_on_which_something_is_promised_to_a_more_important_pod_is_given_up() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let large = late(&cluster, "a", &[("3g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&large));
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111)]);
    let urgent = Demand {
        priority: 1,
        ..mk_demand(&cluster, &[("1g.5gb", 1)])
    };
    let outcomes = planner.plan(&[large.clone(), urgent]);
    let Outcome::Plan(plan) = &outcomes[1] else {
        panic!("{outcomes:?}");
    };
    let made = plan.gpus[0].create[0].placement.mask();
    let kept = planner.windows().iter().flat_map(|window| &window.parts);
    assert!(
        kept.clone().all(|part| !part.slices.overlaps(made)),
        "{kept:?}"
    );
}

#[test]
fn idle_devices_of_a_node_of_which_a_window_hides_as_many_are_not_counted_on() {
    let held: Vec<_> = (0..4).map(|at| ("1g.5gb", at, Usage::Held)).collect();
    for (idle, served) in [(4u8, false), (5, true)] {
        let spare: Vec<_> = (0..idle).map(|at| ("1g.5gb", at, Usage::Idle)).collect();
        let mut blocked = spare.clone();
        blocked.push(("1g.5gb", 6, Usage::Stuck));
        let cluster = named(vec![vec![a100(&held), a100(&blocked)]]);
        let mut planner = Planner::from(&cluster);
        let large = late(&cluster, "a", &[("7g.40gb", 1)]);
        let small = mk_demand(&cluster, &[("1g.5gb", 1)]);
        let half = mk_demand(&cluster, &[("3g.20gb", 1)]);
        planner.plan(std::slice::from_ref(&large));
        assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
        let outcomes = planner.plan(&[large.clone(), small.clone()]);
        assert_eq!(
            matches!(outcomes[1], Outcome::Covered { .. }),
            served,
            "{outcomes:?}"
        );
        // They may be given up for something else, and then there are fewer.
        let outcomes = planner.plan(&[large, half, small]);
        assert!(
            !planned(&outcomes[1]).gpus[0].give_up.is_empty(),
            "{outcomes:?}"
        );
        refused(&outcomes[2]);
    }
}

#[test]
fn who_had_no_window_yet_goes_before_one_whose_was_in_vain() {
    let cluster = named(vec![vec![full(&[0, 1, 2, 3, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let old = |spent: i64, window: bool| Demand {
        created: -1,
        window: window.then(|| Ask {
            spent,
            ..ask("old")
        }),
        ..mk_demand(&cluster, &[("7g.40gb", 1)])
    };
    let new = late(&cluster, "new", &[("4g.20gb", 1)]);
    let owners = |planner: &Planner| -> Vec<String> {
        let all = planner.windows().iter();
        all.map(|window| window.key.to_string()).collect()
    };
    planner.plan(&[old(0, true), new.clone()]);
    assert_eq!(owners(&planner), ["old"]);
    // It pauses, and comes back at the same moment at which the other one could have had one.
    planner.plan(&[old(10, false)]);
    assert!(owners(&planner).is_empty());
    planner.plan(&[old(10, false), new.clone()]);
    assert_eq!(owners(&planner), ["new"]);
    planner.plan(&[old(10, true), new.clone()]);
    assert_eq!(owners(&planner), ["new"]);
    let came = |name: &str, created: i64| Demand {
        created,
        ..late(&cluster, name, &[("3g.20gb", 1)])
    };
    planner.plan(&[old(10, true), new, came("third", 8)]);
    planner.plan(&[old(10, true), came("third", 8)]);
    assert_eq!(owners(&planner), ["third"]);
    // But not behind all that will ever come.
    planner.plan(&[old(10, true), came("third", 8), came("fourth", 10)]);
    planner.plan(&[old(10, true), came("fourth", 10)]);
    assert_eq!(owners(&planner), ["old"]);
}

#[test]
fn a_window_stays_on_a_node_that_its_demand_may_not_use_for_a_moment() {
    let cluster = named(vec![vec![full(&[0])], vec![full(&[0, 1])]]);
    let mut nodes = Eligibilities::clone(&allowed(2));
    nodes.set(0, Eligibility::Excluded("not enough cpu".into()));
    for (stays, at) in [(true, "GPU-0-0"), (false, "GPU-1-0")] {
        let mut planner = Planner::from(&cluster);
        let demand = late(&cluster, "a", &[("7g.40gb", 1)]);
        planner.plan(std::slice::from_ref(&demand));
        assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
        let window = Some(Ask { stays, ..ask("a") });
        let nodes = Arc::new(nodes.clone());
        planner.plan(&[Demand {
            window,
            nodes,
            ..demand
        }]);
        assert_eq!(places(&planner), [("a", at, 0b1111_1111)]);
    }
}

#[test]
fn a_window_of_which_others_got_a_part_stays_while_nothing_else_can_be_looked_for() {
    let cluster = named(vec![vec![full(&[0])]]);
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("3g.20gb", 2)]);
    planner.plan(std::slice::from_ref(&demand));
    let mut node = cluster.nodes[0].clone();
    for usage in [Usage::Idle, Usage::Held] {
        let halves = [("3g.20gb", 0, usage), ("3g.20gb", 4, usage)];
        node.gpus[0].instances = a100(&halves).instances;
        planner.replace(0, node.clone());
        // They are before it, and search in vain.
        let older = ["b", "c"].map(|name| Demand {
            created: -1,
            ..late(&cluster, name, &[("3g.20gb", 1)])
        });
        let all: Vec<_> = match usage {
            Usage::Held => older.into_iter().chain([demand.clone()]).collect(),
            _ => vec![demand.clone()],
        };
        planner.plan(&all);
        assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    }
}

#[test]
fn a_window_on_which_another_pod_got_the_device_is_of_no_use_any_more() {
    let cluster = named(vec![vec![full(&[0]), full(&[0, 1, 2])]]);
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("7g.40gb", 1)]);
    planner.plan(std::slice::from_ref(&demand));
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    let mut node = cluster.nodes[0].clone();
    node.gpus[0].instances = a100(&[("7g.40gb", 0, Usage::Idle)]).instances;
    planner.replace(0, node.clone());
    assert!(matches!(
        planner.plan(std::slice::from_ref(&demand))[0],
        Outcome::Covered { .. }
    ));
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    node.gpus[0].instances[0].usage = Usage::Held;
    planner.replace(0, node.clone());
    planner.plan(std::slice::from_ref(&demand));
    assert_eq!(places(&planner), [("a", "GPU-0-1", 0b1111_1111)]);
    // Nor is it kept if there is nothing better.
    node.gpus[1].instances = node.gpus[0].instances.clone();
    planner.replace(0, node);
    refused(&planner.plan(&[demand])[0]);
    assert!(planner.windows().is_empty());
}

#[test]
fn a_window_for_several_devices_moves_if_others_got_them_and_less_is_in_the_way_elsewhere() {
    let cluster = named(vec![vec![full(&[0])], vec![full(&[0, 1])]]);
    let demand = late(&cluster, "a", &[("3g.20gb", 2)]);
    let node = |at: usize, gpu: Gpu| Node {
        gpus: vec![Gpu {
            instances: gpu.instances,
            ..cluster.nodes[at].gpus[0].clone()
        }],
        ..cluster.nodes[at].clone()
    };
    let halves = |usage| node(0, a100(&[("3g.20gb", 0, usage), ("3g.20gb", 4, usage)]));
    for (others, at) in [(full(&[0, 1]), "GPU-0-0"), (full(&[0]), "GPU-1-0")] {
        let mut planner = Planner::from(&cluster);
        planner.plan(std::slice::from_ref(&demand));
        assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
        planner.replace(0, halves(Usage::Idle));
        planner.plan(std::slice::from_ref(&demand));
        assert!(!planner.windows()[0].hides);
        planner.replace(0, halves(Usage::Held));
        planner.replace(1, node(1, others));
        planner.plan(std::slice::from_ref(&demand));
        assert_eq!(places(&planner), [("a", at, 0b1111_1111)]);
    }
}

#[test]
fn the_next_window_is_elsewhere_if_it_can_be() {
    let cluster = named(vec![vec![full(&[0]), full(&[0, 1, 2])]]);
    let mut planner = Planner::from(&cluster);
    let again = |avoid: &[&str]| Demand {
        window: Some(Ask {
            spent: 1,
            avoid: avoid.iter().map(ToString::to_string).collect(),
            ..ask("a")
        }),
        ..mk_demand(&cluster, &[("7g.40gb", 1)])
    };
    planner.plan(&[again(&[])]);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    planner.plan(&[]);
    planner.plan(&[again(&["GPU-0-0"])]);
    assert_eq!(places(&planner), [("a", "GPU-0-1", 0b1111_1111)]);
    planner.plan(&[]);
    planner.plan(&[again(&["GPU-0-0", "GPU-0-1"])]);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn a_window_outlives_that_nothing_is_known_of_its_gpus_for_a_while() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let large = late(&cluster, "a", &[("3g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&large));
    let kept = planner.windows().to_vec();
    let mut without = cluster.nodes[0].clone();
    without.gpus[0].changeable = false;
    planner.replace(0, without.clone());
    planner.plan(std::slice::from_ref(&large));
    assert_eq!(planner.windows(), kept);
    without.gpus.clear();
    planner.replace(0, without);
    planner.plan(std::slice::from_ref(&large));
    assert_eq!(planner.windows(), kept);
    planner.replace(0, cluster.nodes[0].clone());
    planner.plan(std::slice::from_ref(&large));
    assert_eq!(planner.windows(), kept);
    planner.remove(0);
    planner.plan(&[large]);
    assert!(planner.windows().is_empty());
}

#[test]
fn a_gpu_that_cannot_be_partitioned_gets_a_window_only_if_that_is_for_a_moment() {
    let mut cluster = named(vec![vec![full(&[0, 1])], vec![full(&[0, 1, 2])]]);
    let demand = late(&cluster, "a", &[("7g.40gb", 1)]);
    let window = |cluster: &Cluster| {
        let mut planner = Planner::from(cluster);
        planner.plan(std::slice::from_ref(&demand));
        let all = places(&planner).into_iter();
        all.map(|(_, gpu, _)| gpu.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(window(&cluster), ["GPU-0-0"]);
    cluster.nodes[0].gpus[0].changeable = false;
    assert_eq!(window(&cluster), ["GPU-1-0"]);
    cluster.nodes[0].soon_changeable = vec![0];
    assert_eq!(window(&cluster), ["GPU-0-0"]);
    cluster.nodes.truncate(1);
    assert_eq!(window(&cluster), ["GPU-0-0"]);
    cluster.nodes[0].soon_changeable.clear();
    assert!(window(&cluster).is_empty());
}

#[test]
fn a_window_that_is_left_is_elsewhere_or_nowhere_until_its_gpus_are_back() {
    let cluster = named(vec![vec![full(&[0])], vec![full(&[0, 1])]]);
    let demand = late(&cluster, "a", &[("7g.40gb", 1)]);
    let leaving = Demand {
        window: Some(Ask {
            leaves: true,
            ..ask("a")
        }),
        ..demand.clone()
    };
    let mut away = cluster.nodes[0].clone();
    away.gpus[0].changeable = false;
    let mut planner = Planner::from(&cluster);
    planner.plan(std::slice::from_ref(&demand));
    planner.replace(0, away.clone());
    planner.plan(std::slice::from_ref(&demand));
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    planner.plan(std::slice::from_ref(&leaving));
    assert_eq!(places(&planner), [("a", "GPU-1-0", 0b1111_1111)]);
    let mut planner = Planner::from(&cluster);
    planner.plan(std::slice::from_ref(&demand));
    planner.replace(0, away);
    planner.remove(1);
    let leaving = Demand {
        nodes: allowed(1),
        ..leaving
    };
    refused(&planner.plan(std::slice::from_ref(&leaving))[0]);
    let demand = Demand {
        nodes: allowed(1),
        ..demand
    };
    refused(&planner.plan(std::slice::from_ref(&demand))[0]);
    planner.replace(0, cluster.nodes[0].clone());
    planner.plan(&[demand]);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn what_is_only_supposed_moves_no_window() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let large = late(&cluster, "a", &[("3g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&large));
    let kept = planner.windows().to_vec();
    assert_eq!(kept.len(), 1);
    planner.suppose(&[late(&cluster, "b", &[("7g.40gb", 1)])]);
    assert_eq!(planner.windows(), kept);
}

#[test]
fn windows_of_different_priorities_do_not_undo_each_other() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let low = late(&cluster, "low", &[("3g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&low));
    let high = Demand {
        priority: 1,
        ..late(&cluster, "high", &[("7g.40gb", 1)])
    };
    let small = mk_demand(&cluster, &[("1g.5gb", 1)]);
    let outcomes = planner.plan(&[low, high, small]);
    assert_eq!(places(&planner), [("high", "GPU-0-0", 0b1111_1111)]);
    refused(&outcomes[0]);
    refused(&outcomes[2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_demand_starts_once_what_its_window_has_is_gone(
        nodes in prop::collection::vec(prop::collection::vec(any_gpu(), 1..3), 1..4),
        pick in 0usize..6,
        count in 1u32..3,
    ) {
        let mut cluster = named(nodes);
        let model = Arc::clone(&cluster.nodes[0].gpus[0].model);
        prop_assume!(pick < model.profiles.len());
        let resource = model.profiles[pick].name.resource_name();
        let demand = late(&cluster, "a", &[(&resource, count)]);
        let mut planner = Planner::from(&cluster);
        let outcome = planner.plan(std::slice::from_ref(&demand)).remove(0);
        let windows = planner.windows().to_vec();
        prop_assert_eq!(windows.len(), usize::from(matches!(outcome, Outcome::Reserved { .. })));
        for window in windows {
            let at = planner.find(&window.node).unwrap();
            for part in &window.parts {
                let gpu = &mut cluster.nodes[at].gpus[part.gpu];
                gpu.instances.retain(|i| !i.placement.mask().overlaps(part.slices));
            }
            planner.replace(at, cluster.nodes[at].clone());
            let outcome = planner.plan(std::slice::from_ref(&demand)).remove(0);
            prop_assert!(matches!(outcome, Outcome::Plan(_)), "{:?}", outcome);
            let kept = planner.windows().to_vec();
            prop_assert_eq!(kept.len(), 1);
            prop_assert!(!kept[0].hides, "it must be shown what is made for it");
            planner.plan(&[]);
            prop_assert!(planner.windows().is_empty());
        }
    }
}
