//! Who is searched for, where a pass cannot search for all.

use super::{
    windows::{full, late, named, places, uuids},
    *,
};
use crate::{Ask, Planner};

/// Plans again as long as searches are put off.
fn plan_to_the_end(planner: &mut Planner, demands: &[Demand]) {
    for _ in 0..30 {
        planner.plan(demands);
        if !planner.puts_searches_off() {
            return;
        }
    }
    panic!("it never ends");
}

/// A GPU with two devices of a kind, so that nobody who wants one of those gets a window there.
fn halves() -> Gpu {
    a100(&[("3g.20gb", 0, Usage::Held), ("3g.20gb", 4, Usage::Held)])
}

/// So many demands of different kinds that find no window where there are only [`halves`], and one that finds one.
fn mostly_in_vain(cluster: &Cluster, count: usize) -> Vec<Demand> {
    let vain = |number: usize| Demand {
        created: -1,
        ..late(cluster, &format!("vain-{number}"), &[("3g.20gb", 1)])
    };
    let mut demands: Vec<_> = (0..count).map(vain).collect();
    demands.push(late(cluster, "a", &[("7g.40gb", 1)]));
    demands
}

#[test]
fn searches_that_are_put_off_are_said_to_be_and_end_although_most_are_in_vain() {
    let cluster = named(vec![vec![halves()]]);
    let demands = mostly_in_vain(&cluster, 20);
    let mut planner = Planner::from(&cluster);
    planner.plan(&demands);
    assert!(planner.puts_searches_off() && planner.windows().is_empty());
    plan_to_the_end(&mut planner, &demands);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
    for _ in 0..3 {
        planner.plan(&demands);
        assert!(!planner.puts_searches_off(), "nothing has changed");
    }
    planner.plan(&[]);
    assert!(!planner.puts_searches_off());
}

#[test]
fn who_stood_behind_one_that_had_no_room_is_searched_for_though_nothing_else_happens() {
    let gpus = |count: usize| (0..count).map(|_| full(&[0, 1, 2])).collect::<Vec<_>>();
    let cluster = named((0..10).map(|_| gpus(10)).collect());
    let mut planner = Planner::from(&cluster);
    let came = |number: i64| Demand {
        created: number,
        ..late(&cluster, &number.to_string(), &[("7g.40gb", 1)])
    };
    let all: Vec<_> = (0..5).map(came).collect();
    plan_to_the_end(&mut planner, &all);
    assert_eq!(planner.windows().len(), 3);
    // Two of those that have windows are gone: the fourth is the first in line.
    plan_to_the_end(&mut planner, &all[2..]);
    assert_eq!(planner.windows().len(), 3);
}

#[test]
fn who_needs_more_gpus_than_have_room_is_not_searched_for_again_and_stays_the_first_in_line() {
    let gpus = |count: usize| (0..count).map(|_| full(&[0, 1, 2])).collect::<Vec<_>>();
    let cluster = named((0..10).map(|_| gpus(10)).collect());
    let mut planner = Planner::from(&cluster);
    let came = |created: i64, name: &str, count: u32| Demand {
        created,
        ..late(&cluster, name, &[("7g.40gb", count)])
    };
    let two: Vec<_> = ["a", "b"].map(|name| came(0, name, 1)).into();
    plan_to_the_end(&mut planner, &two);
    // They came at the same moment, and more of them than a pass searches for.
    let wide = ["c", "d", "e", "f", "g"].map(|name| came(1, name, 2));
    let mut all: Vec<_> = two.into_iter().chain(wide).collect();
    all.push(came(2, "later", 1));
    for _ in 0..3 {
        plan_to_the_end(&mut planner, &all);
        assert_eq!(planner.windows().len(), 2);
    }
    // One of those that have windows is gone.
    plan_to_the_end(&mut planner, &all[1..]);
    let owners: Vec<_> = places(&planner).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(owners, ["b", "c", "c"]);
}

#[test]
fn a_question_what_would_be_takes_nobodys_turn() {
    let cluster = named(vec![vec![halves()]]);
    let demands = mostly_in_vain(&cluster, 20);
    let mut planner = Planner::from(&cluster);
    for _ in 0..11 {
        planner.plan(&demands);
        planner.suppose(&demands);
        planner.suppose(&[mk_demand(&cluster, &[("1g.5gb", 1)])]);
    }
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn demands_of_one_kind_take_one_turn_together() {
    let cluster = named(vec![vec![halves()]]);
    let mut demands = mostly_in_vain(&cluster, 20);
    for demand in demands.iter_mut().take(20) {
        demand.window = demand.window.take().map(|ask| Ask { kind: 1, ..ask });
    }
    let mut planner = Planner::from(&cluster);
    planner.plan(&demands);
    assert_eq!(places(&planner), [("a", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn who_comes_first_by_priority_is_searched_for_though_nothing_was_found_for_others_of_its_kind() {
    let cluster = named(vec![vec![full(&[2, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let kind = |demand: Demand| Demand {
        window: demand.window.map(|ask| Ask { kind: 1, ..ask }),
        ..demand
    };
    let first = late(&cluster, "first", &[("4g.20gb", 1)]);
    planner.plan(std::slice::from_ref(&first));
    let low = kind(late(&cluster, "low", &[("7g.40gb", 1)]));
    let high = Demand {
        priority: 1,
        ..kind(late(&cluster, "high", &[("7g.40gb", 1)]))
    };
    plan_to_the_end(&mut planner, &[first.clone(), low.clone()]);
    assert_eq!(places(&planner), [("first", "GPU-0-0", 0b1111)]);
    planner.plan(&[first, low, high]);
    assert_eq!(places(&planner), [("high", "GPU-0-0", 0b1111_1111)]);
}

#[test]
fn kinds_of_pods_take_turns_also_if_something_about_their_nodes_changes_in_every_pass() {
    let all = vec![full(&[0, 1, 2, 3, 4, 5, 6])];
    let cluster = named(vec![vec![halves()], all.clone(), all]);
    let mut planner = Planner::from(&cluster);
    let vain = |number: usize, pass: usize| {
        // The verdict on the last node is another each time; it never is that the pod could run there.
        let last = Eligibility::Excluded(format!("not enough {pass}").into());
        let nodes = [
            Eligibility::Allowed,
            Eligibility::Excluded("cordoned".into()),
            last,
        ];
        Demand {
            created: -1,
            nodes: Arc::new(nodes.into_iter().collect()),
            ..late(&cluster, &format!("vain-{number}"), &[("3g.20gb", 1)])
        }
    };
    for pass in 0..20 {
        let mut node = cluster.nodes[0].clone();
        node.gpus[0].busy = pass % 2 == 0;
        planner.replace(0, node);
        let mut demands: Vec<_> = (0..8).map(|number| vain(number, pass)).collect();
        demands.push(late(&cluster, "a", &[("7g.40gb", 1)]));
        planner.plan(&demands);
    }
    assert_eq!(planner.windows().len(), 1);
    assert_eq!(&*planner.windows()[0].key, "a");
}

#[test]
fn searches_in_vain_do_not_keep_others_from_a_window() {
    let cluster = named(vec![vec![halves()], vec![full(&[0, 1, 2, 3, 4, 5, 6])]]);
    let mut planner = Planner::from(&cluster);
    let only_first: Arc<Eligibilities> = Arc::new(
        [
            Eligibility::Allowed,
            Eligibility::Excluded("set aside".into()),
        ]
        .into_iter()
        .collect(),
    );
    let vain = |number: usize| Demand {
        created: -1,
        nodes: Arc::new(Eligibilities::clone(&only_first)),
        ..late(&cluster, &format!("vain-{number}"), &[("3g.20gb", 1)])
    };
    let mut demands: Vec<_> = (0..20).map(vain).collect();
    demands.push(late(&cluster, "a", &[("7g.40gb", 1)]));
    for number in 0..12 {
        // Something changes in each pass.
        let mut node = cluster.nodes[0].clone();
        node.gpus[0].busy = number % 2 == 0;
        planner.replace(0, node);
        planner.plan(&demands);
    }
    assert_eq!(planner.windows().len(), 1);
    assert_eq!(&*planner.windows()[0].key, "a");
}

#[test]
fn a_place_is_found_behind_many_where_nothing_is_gained() {
    let mut nodes = vec![vec![halves()]; 300];
    nodes.push(vec![full(&[0, 1, 2, 3, 4, 5, 6])]);
    let nodes = nodes.into_iter().enumerate().map(|(number, gpus)| Node {
        name: format!("n{number:03}"),
        ..mk_node(uuids(number, gpus))
    });
    let cluster = mk_cluster(nodes.collect());
    let mut planner = Planner::from(&cluster);
    let demand = late(&cluster, "a", &[("3g.20gb", 1)]);
    plan_to_the_end(&mut planner, &[demand]);
    assert_eq!(places(&planner), [("a", "GPU-300-0", 0b1111_0000)]);
}
