use proptest::prelude::*;

use super::{exactness::any_gpu, *};
use crate::Planner;

/// Nodes with names, as [`Planner::find`] needs them.
fn named(nodes: Vec<Vec<Gpu>>) -> Cluster {
    let node = |(number, gpus): (usize, Vec<Gpu>)| Node {
        name: format!("n{number:02}"),
        ..mk_node(uuids(number, gpus))
    };
    mk_cluster(nodes.into_iter().enumerate().map(node).collect())
}

fn uuids(node: usize, gpus: Vec<Gpu>) -> Vec<Gpu> {
    let gpus = gpus.into_iter().enumerate();
    gpus.map(|(number, gpu)| Gpu {
        uuid: format!("GPU-{node}-{number}"),
        ..gpu
    })
    .collect()
}

fn late(cluster: &Cluster, name: &str, wants: &[(&str, u32)]) -> Demand {
    Demand {
        window: Some(name.into()),
        ..mk_demand(cluster, wants)
    }
}

fn full(held: &[u8]) -> Gpu {
    let ones: Vec<_> = held.iter().map(|at| ("1g.5gb", *at, Usage::Held)).collect();
    a100(&ones)
}

fn places(planner: &Planner) -> Vec<(&str, &str, u16)> {
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
fn a_window_stays_where_it_is_until_its_demand_is_served_or_gone() {
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
            prop_assert!(planner.windows().is_empty());
        }
    }
}
