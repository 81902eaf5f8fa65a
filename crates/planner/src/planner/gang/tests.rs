use std::iter;

use proptest::prelude::*;

use super::*;
use crate::{
    Cluster, Eligibility, Node, Usage,
    pass::tests::{a100, exactness::any_gpu, mk_cluster, mk_demand, mk_node},
    plan,
};

fn group(name: &str) -> Group {
    Group {
        key: format!("team-a/{name}").into(),
        name: name.into(),
        held_back: None,
    }
}

/// Demands of one group.
fn gang<'a>(
    cluster: &Cluster,
    wants: impl IntoIterator<Item = &'a [(&'a str, u32)]>,
) -> Vec<Demand> {
    let group = Arc::new(group("train"));
    let one = |wants| Demand {
        group: Some(Arc::clone(&group)),
        ..mk_demand(cluster, wants)
    };
    wants.into_iter().map(one).collect()
}

fn alike<'a>(
    wants: &'a [(&'a str, u32)],
    times: usize,
) -> impl Iterator<Item = &'a [(&'a str, u32)]> {
    iter::repeat_n(wants, times)
}

fn is_served(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Covered { .. } | Outcome::Plan(_) | Outcome::Wait { .. }
    )
}

fn text(outcome: &Outcome) -> (RefusalKind, &str) {
    match outcome {
        Outcome::Refused(refusal) => (refusal.kind, &refusal.text),
        other => panic!("served: {other:?}"),
    }
}

#[test]
fn a_group_that_fits_is_served_as_its_pods_alone_would_be() {
    let cluster = mk_cluster(vec![
        mk_node(vec![a100(&[])]),
        mk_node(vec![a100(&[]), a100(&[])]),
    ]);
    let members = gang(&cluster, alike(&[("3g.20gb", 1)], 6));
    let mut alone = members.clone();
    for member in &mut alone {
        member.group = None;
    }
    assert_eq!(plan(&cluster, &members), plan(&cluster, &alone));
}

#[test]
fn a_group_that_does_not_fit_gets_nothing_and_leaves_all_to_others() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let mut demands = gang(&cluster, alike(&[("3g.20gb", 1)], 5));
    let other = Demand {
        created: 1,
        ..mk_demand(&cluster, &[("3g.20gb", 1)])
    };
    demands.push(other.clone());
    let outcomes = plan(&cluster, &demands);
    for outcome in &outcomes[..5] {
        assert_eq!(
            text(outcome),
            (
                RefusalKind::Group,
                "of the 5 waiting pods of its group train, 4 would fit at the same time; they start together or not \
                 at all"
            )
        );
    }
    assert_eq!(outcomes[5..], plan(&cluster, &[other]));
}

#[test]
fn a_group_goes_behind_whatever_goes_before_any_of_its_pods() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let last_of = |change: &dyn Fn(&mut Demand)| {
        let mut demands = gang(&cluster, alike(&[("3g.20gb", 1)], 2));
        change(&mut demands[1]);
        demands.push(Demand {
            created: 1,
            ..mk_demand(&cluster, &[("7g.40gb", 1)])
        });
        is_served(&plan(&cluster, &demands)[2])
    };
    assert!(!last_of(&|_| {}), "the group came first");
    assert!(last_of(&|last| last.created = 2));
    assert!(last_of(&|last| last.priority = -1));
    assert!(!last_of(&|last| last.priority = 1));
}

#[test]
fn members_are_moved_for_each_other_where_the_cheapest_place_of_one_is_in_the_way() {
    let held = ("3g.20gb", 4, Usage::Held);
    let cluster = mk_cluster(vec![
        mk_node(vec![a100(&[("3g.20gb", 0, Usage::Idle)])]),
        mk_node(vec![a100(&[held])]),
    ]);
    let members = gang(&cluster, [&[("3g.20gb", 1)][..], &[("7g.40gb", 1)]]);
    let outcomes = plan(&cluster, &members);
    assert!(
        matches!(&outcomes[0], Outcome::Plan(plan) if plan.node == 1),
        "{outcomes:?}"
    );
    let Outcome::Plan(plan) = &outcomes[1] else {
        panic!("{outcomes:?}");
    };
    assert_eq!((plan.node, plan.gpus[0].give_up.len()), (0, 1));
}

#[test]
fn pods_that_a_node_can_serve_only_together_are_made_room_for_by_one_plan() {
    // One after the other, the first pod would use the idle instance that is in the way of the last.
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[
        ("1g.5gb", 0, Usage::Held),
        ("2g.10gb", 2, Usage::Idle),
    ])])]);
    let members = gang(&cluster, [&[("2g.10gb", 1)][..], &[("3g.20gb", 1)]]);
    let outcomes = plan(&cluster, &members);
    assert!(outcomes.iter().all(is_served), "{outcomes:?}");
}

#[test]
fn a_group_whose_pods_are_not_all_there_gets_nothing() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let mut members = gang(&cluster, alike(&[("1g.5gb", 1)], 2));
    for member in &mut members {
        member.group = Some(Arc::new(Group {
            held_back: Some("waits for 2 more pods".into()),
            ..group("train")
        }));
    }
    for outcome in plan(&cluster, &members) {
        assert_eq!(
            text(&outcome),
            (RefusalKind::Group, "waits for 2 more pods")
        );
    }
}

#[test]
fn a_member_that_could_never_be_served_is_told_so_and_the_others_of_it() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("1g.5gb", 0, Usage::Held)])])]);
    for (wants, kind) in [
        ("banana", RefusalKind::InvalidProfile),
        ("7g.40gb", RefusalKind::NoRoom),
    ] {
        let members = gang(&cluster, [&[("1g.5gb", 1)][..], &[(wants, 1)]]);
        let outcomes = plan(&cluster, &members);
        let (own, why) = text(&outcomes[1]);
        assert_eq!(own, kind);
        assert_eq!(
            text(&outcomes[0]),
            (
                RefusalKind::Group,
                &*format!("another pod of its group train cannot be served: {why}")
            )
        );
    }
}

#[test]
fn it_is_not_said_that_a_group_does_not_fit_if_not_all_ways_were_tried() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let kinds: [&[(&str, u32)]; 4] = [
        &[("1g.5gb", 1)],
        &[("2g.10gb", 1)],
        &[("3g.20gb", 1)],
        &[("1g.10gb", 1)],
    ];
    let all = kinds.iter().flat_map(|kind| alike(kind, 5));
    let members = gang(&cluster, all);
    let outcomes = plan(&cluster, &members);
    let (kind, text) = text(&outcomes[0]);
    assert_eq!(kind, RefusalKind::Group);
    assert!(text.contains("not all ways could be tried"), "{text}");
}

#[test]
fn groups_of_the_same_kind_are_refused_without_another_search() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let mut demands = Vec::new();
    for name in ["one", "two", "three"] {
        let group = Arc::new(group(name));
        demands.extend(
            gang(&cluster, alike(&[("3g.20gb", 1)], 5))
                .into_iter()
                .map(|demand| Demand {
                    group: Some(Arc::clone(&group)),
                    wants: Arc::new(demand.wants.as_ref().clone()),
                    ..demand
                }),
        );
    }
    let nodes = Arc::clone(&demands[0].nodes);
    for demand in &mut demands {
        demand.nodes = Arc::clone(&nodes);
    }
    let outcomes = plan(&cluster, &demands);
    for (outcome, name) in outcomes.chunks(5).zip(["one", "two", "three"]) {
        assert!(
            text(&outcome[0]).1.contains(&format!("group {name},")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_group_that_waits_costs_nothing_while_nothing_changes() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let members = gang(&cluster, alike(&[("3g.20gb", 1)], 5));
    let looks = |planner: &Planner| MOST.looks - planner.gangs.left.looks;
    let mut planner = Planner::from(&cluster);
    let refused = planner.plan(&members);
    assert!(!is_served(&refused[0]) && looks(&planner) > 0);
    assert_eq!(planner.plan(&members), refused);
    assert_eq!(looks(&planner), 0);
    let more = mk_node(vec![a100(&[]), a100(&[])]);
    planner.replace(1, more);
    assert!(planner.plan(&members).iter().all(is_served));
}

#[test]
fn pods_with_nodes_of_their_own_are_alike_if_these_are_the_same() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[]), a100(&[])]); 3]);
    let mut members = gang(&cluster, alike(&[("3g.20gb", 1)], 11));
    let refused = |members: &[Demand]| {
        let mut planner = Planner::from(&cluster);
        let refused = planner.plan(members);
        planner.plan(members);
        assert_eq!(planner.gangs.left.looks, MOST.looks, "remembered");
        text(&refused[0]).1.to_owned()
    };
    for member in &mut members {
        let mut own = Eligibilities::clone(&member.nodes);
        own.set(2, Eligibility::Excluded("set aside".into()));
        member.nodes = Arc::new(own);
    }
    let said = refused(&members);
    assert!(
        said.starts_with("of the 11 waiting pods of its group train, 8 would fit"),
        "{said}"
    );
}

#[test]
fn a_group_is_looked_at_again_when_others_are_promised_something_else() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let mut demands = gang(&cluster, alike(&[("3g.20gb", 1)], 4));
    demands.push(Demand {
        priority: 1,
        ..mk_demand(&cluster, &[("1g.5gb", 1)])
    });
    let mut planner = Planner::from(&cluster);
    assert!(!is_served(&planner.plan(&demands)[0]));
    assert!(planner.plan(&demands[..4]).iter().all(is_served));
    assert!(!is_served(&planner.plan(&demands)[0]));
}

#[test]
fn one_group_does_not_use_up_what_others_may_look_at() {
    let mut nodes = vec![mk_node(vec![a100(&[])]); 20];
    nodes.push(mk_node(vec![a100(&[
        ("1g.5gb", 0, Usage::Held),
        ("2g.10gb", 2, Usage::Idle),
    ])]));
    let cluster = mk_cluster(nodes);
    let only = |demand: &mut Demand, last: bool| {
        let nodes = Arc::make_mut(&mut demand.nodes);
        for at in 0..21 {
            if (at == 20) != last {
                nodes.set(at, Eligibility::Excluded("not its own".into()));
            }
        }
    };
    let mut demands = gang(&cluster, alike(&[("7g.40gb", 1)], 21));
    demands.extend(gang(&cluster, alike(&[("1g.5gb", 1)], 7)));
    let large = demands.len();
    only(&mut demands[0], false);
    let nodes = Arc::clone(&demands[0].nodes);
    for demand in &mut demands {
        demand.nodes = Arc::clone(&nodes);
    }
    // Only dealt out: one after the other, the first would use what is in the way of the last.
    let small = Arc::new(group("small"));
    for mut demand in gang(&cluster, [&[("2g.10gb", 1)][..], &[("3g.20gb", 1)]]) {
        only(&mut demand, true);
        demand.group = Some(Arc::clone(&small));
        demand.created = 1;
        demands.push(demand);
    }
    let mut planner = Planner::from(&cluster);
    planner.gangs.most.looks = 60;
    let outcomes = planner.plan(&demands);
    assert!(
        text(&outcomes[0]).1.contains("not all ways could be tried"),
        "{outcomes:?}"
    );
    assert!(outcomes[large..].iter().all(is_served), "{outcomes:?}");
}

/// Whether there is any way to deal these out over the nodes, by asking each node for each part.
fn brute_force(cluster: &Cluster, wants: &[&[(&'static str, u32)]]) -> bool {
    let nodes = cluster.nodes.len();
    let ways = nodes.pow(u32::try_from(wants.len()).unwrap());
    (0..ways).any(|way| {
        let node_of = |member: usize| way / nodes.pow(u32::try_from(member).unwrap()) % nodes;
        (0..nodes).all(|node| {
            let mut sum: BTreeMap<&str, u32> = BTreeMap::new();
            for (member, wants) in wants
                .iter()
                .enumerate()
                .filter(|(m, _)| node_of(*m) == node)
            {
                let _ = member;
                for (name, count) in *wants {
                    *sum.entry(name).or_default() += count;
                }
            }
            let sum: Vec<_> = sum.into_iter().collect();
            let alone = mk_cluster(vec![cluster.nodes[node].clone()]);
            sum.is_empty() || is_served(&plan(&alone, &[mk_demand(&alone, &sum)])[0])
        })
    })
}

const KINDS: [&[(&str, u32)]; 5] = [
    &[("1g.5gb", 1)],
    &[("2g.10gb", 1)],
    &[("3g.20gb", 1)],
    &[("1g.5gb", 1), ("3g.20gb", 1)],
    &[("7g.40gb", 1)],
];

fn any_node() -> impl Strategy<Value = Node> {
    prop::collection::vec(any_gpu(), 1..3).prop_map(mk_node)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_group_is_served_exactly_when_there_is_a_way(
        nodes in prop::collection::vec(any_node(), 1..4),
        kinds in prop::collection::vec(0..KINDS.len(), 1..5),
    ) {
        let cluster = mk_cluster(nodes);
        let wants: Vec<_> = kinds.iter().map(|kind| KINDS[*kind]).collect();
        let members = gang(&cluster, wants.iter().copied());
        let outcomes = plan(&cluster, &members);
        let served = outcomes.iter().filter(|outcome| is_served(outcome)).count();
        prop_assert!(served == 0 || served == members.len());
        prop_assert_eq!(served > 0, brute_force(&cluster, &wants), "{:?}", outcomes);
    }

    #[test]
    fn a_group_that_is_refused_changes_nothing_for_those_after_it(
        nodes in prop::collection::vec(any_node(), 1..4),
        kinds in prop::collection::vec(0..KINDS.len(), 2..6),
        later in prop::collection::vec(0..KINDS.len(), 1..6),
    ) {
        let cluster = mk_cluster(nodes);
        let mut demands = gang(&cluster, kinds.iter().map(|kind| KINDS[*kind]));
        let count = demands.len();
        let later: Vec<_> = later.iter().map(|kind| Demand {
            created: 1,
            ..mk_demand(&cluster, KINDS[*kind])
        }).collect();
        demands.extend(later.iter().cloned());
        let mut planner = Planner::from(&cluster);
        let outcomes = planner.plan(&demands);
        if matches!(outcomes[0], Outcome::Refused(_)) {
            prop_assert_eq!(&outcomes[count..], &plan(&cluster, &later)[..]);
        }
        // Nor does anything stay behind for the next pass.
        prop_assert_eq!(planner.plan(&demands), outcomes);
        prop_assert_eq!(planner.plan(&later), plan(&cluster, &later));
    }

    #[test]
    fn what_is_remembered_of_groups_changes_no_answer(
        nodes in prop::collection::vec(any_node(), 1..4),
        kinds in prop::collection::vec((0..KINDS.len(), 0usize..4, 0..3i32), 2..9),
        passes in prop::collection::vec((any::<u16>(), prop::option::of((0usize..4, any_node()))), 1..6),
    ) {
        let mut cluster = mk_cluster(nodes);
        let groups = ["one", "two", "three"].map(|name| Arc::new(group(name)));
        let everywhere = Arc::clone(&mk_demand(&cluster, KINDS[0]).nodes);
        let demands: Vec<_> = kinds.iter().map(|(kind, group, priority)| Demand {
            group: groups.get(*group).cloned(),
            priority: *priority,
            nodes: Arc::clone(&everywhere),
            ..mk_demand(&cluster, KINDS[*kind])
        }).collect();
        let mut planner = Planner::from(&cluster);
        for (there, change) in passes {
            if let Some((at, node)) = change.filter(|(at, _)| *at < cluster.nodes.len()) {
                cluster.nodes[at] = Node { name: cluster.nodes[at].name.clone(), ..node };
                planner.replace(at, cluster.nodes[at].clone());
            }
            let waiting = demands.iter().enumerate().filter(|(n, _)| there >> n & 1 == 1);
            let waiting: Vec<_> = waiting.map(|(_, demand)| demand.clone()).collect();
            prop_assert_eq!(planner.plan(&waiting), plan(&cluster, &waiting));
            prop_assert_eq!(planner.plan(&waiting), plan(&cluster, &waiting));
        }
    }
}
