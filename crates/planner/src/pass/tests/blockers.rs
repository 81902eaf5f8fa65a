//! Who is named for being in the way: that it would help if they ended, that fewer would not do, and the words.

use std::cell::RefCell;

use proptest::prelude::*;

use super::{exactness::any_gpu, *};
use crate::{Names, Planner};

/// Calls GPUs by their uuids and holders by those and their instances' ids, and remembers who was asked for.
#[derive(Default)]
struct Called {
    /// Node, GPU, instance.
    asked: RefCell<Vec<(String, String, u32)>>,
    nameless: bool,
}

impl Names for Called {
    fn gpu(&self, _: &Node, gpu: &Gpu) -> String {
        gpu.uuid.clone()
    }

    fn holder(&self, node: &Node, gpu: &Gpu, instance: &Instance) -> Option<String> {
        let asked = (node.name.clone(), gpu.uuid.clone(), instance.gi_id);
        self.asked.borrow_mut().push(asked);
        let held = instance.usage == Usage::Held && !self.nameless;
        held.then(|| format!("team/{}-{}", gpu.uuid, instance.gi_id))
    }

    fn waiting(&self, key: &str) -> Option<String> {
        (!self.nameless).then(|| key.to_owned())
    }
}

/// Nodes named a, b, c with GPUs numbered on each.
fn named(mut nodes: Vec<Node>) -> Cluster {
    for (node, name) in nodes.iter_mut().zip('a'..) {
        node.name = name.to_string();
        for (number, gpu) in node.gpus.iter_mut().enumerate() {
            gpu.uuid = number.to_string();
        }
    }
    mk_cluster(nodes)
}

fn explained(cluster: &Cluster, demand: &Demand, names: &Called) -> Refusal {
    Planner::from(cluster).explain(demand, names)
}

#[track_caller]
fn assert_explains(nodes: Vec<Node>, wants: &[(&str, u32)], text: &str) {
    let cluster = named(nodes);
    let demand = mk_demand(&cluster, wants);
    let words = explained(&cluster, &demand, &Called::default());
    assert_eq!(words.to_string(), text);
}

fn one(instances: &[(&str, u8, Usage)]) -> Vec<Node> {
    vec![mk_node(vec![a100(instances)])]
}

#[test]
fn whoever_is_in_the_way_is_named() {
    assert_explains(
        one(&[("3g.20gb", 4, Usage::Held)]),
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by team/0-1 on GPU 0 of node a",
    );
    assert_explains(
        one(&[("3g.20gb", 0, Usage::Held), ("3g.20gb", 4, Usage::Held)]),
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by team/0-1 and team/0-2 on GPU 0 of \
         node a",
    );
    let seven: Vec<_> = (0..7).map(|start| ("1g.5gb", start, Usage::Held)).collect();
    assert_explains(
        one(&seven),
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by team/0-1, team/0-2 and 5 more on \
         GPU 0 of node a",
    );
}

#[test]
fn those_are_named_of_whom_the_fewest_would_have_to_end() {
    let small = [("1g.5gb", 0, Usage::Held), ("1g.5gb", 1, Usage::Held)];
    let large = [("4g.20gb", 0, Usage::Held)];
    let nodes = vec![
        mk_node(vec![a100(&small), a100(&small)]),
        mk_node(vec![a100(&small), a100(&large)]),
    ];
    assert_explains(
        nodes,
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 2 nodes: 7g.40gb blocked, least by team/1-1 on GPU 1 of node b",
    );
}

#[test]
fn it_is_said_for_whom_slices_are_kept_free() {
    let small: Vec<_> = (2..6).map(|at| ("1g.5gb", at, Usage::Held)).collect();
    let cluster = named(one(&small));
    let mut planner = Planner::from(&cluster);
    let large = Demand {
        window: Some(crate::Ask {
            key: "team-a/train-3".into(),
            kind: 0,
            spent: 0,
            avoid: Arc::default(),
            stays: false,
            leaves: false,
            now: 0,
            grain: 0,
        }),
        ..mk_demand(&cluster, &[("7g.40gb", 1)])
    };
    planner.plan(&[large]);
    let one = mk_demand(&cluster, &[("1g.5gb", 1)]);
    for (nameless, whom) in [
        (false, "team-a/train-3"),
        (true, "a pod that has waited longer"),
    ] {
        let names = Called {
            nameless,
            ..Called::default()
        };
        let words = planner.explain(&one, &names).to_string();
        let text = format!(
            "no room for 1x nvidia.com/mig-1g.5gb now: 1 node: what would do is kept free for {whom}"
        );
        assert_eq!(words, text);
    }
}

#[test]
fn idle_instances_that_would_not_help_are_counted() {
    let instances = [("4g.20gb", 0, Usage::Held), ("1g.5gb", 4, Usage::Idle)];
    let node = || mk_node(vec![a100(&instances)]);
    assert_explains(
        vec![node()],
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by team/0-1 on GPU 0 of node a, 1 idle \
         1g.5gb would not help",
    );
    assert_explains(
        vec![node(), node()],
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 2 nodes: 7g.40gb blocked, least by team/0-1 on GPU 0 of node a, \
         2 idle 1g.5gb would not help",
    );
}

#[test]
fn each_class_of_nodes_has_its_own_words() {
    let nodes = vec![
        mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])]),
        mk_node(vec![mk_gpu("NVIDIA A30", &[("4g.24gb", 0, Usage::Held)])]),
        mk_node(vec![h100(&[("3g.40gb", 0, Usage::Held)])]),
        mk_node(vec![h100(&[("4g.40gb", 0, Usage::Held)])]),
    ];
    assert_explains(
        nodes,
        &[("cdmo.clear.ml/fraction-0.500", 2)],
        "no room for 2x cdmo.clear.ml/fraction-0.500 (0.5 of a GPU) now: 2 nodes: 2x 3g.40gb blocked, least by \
         team/0-1 on GPU 0 of node c; 1 node: 2x 3g.20gb blocked by team/0-1 on GPU 0 of node a; 1 node: 2x 2g.12gb \
         blocked by team/0-1 on GPU 0 of node b",
    );
}

#[test]
fn a_demand_of_several_things_is_blocked_over_several_gpus() {
    let half = [("3g.20gb", 0, Usage::Held), ("3g.20gb", 4, Usage::Held)];
    assert_explains(
        vec![mk_node(vec![a100(&half), a100(&half)])],
        &[("4g.20gb", 1), ("3g.20gb", 2)],
        "no room for 2x nvidia.com/mig-3g.20gb + 1x nvidia.com/mig-4g.20gb now: 1 node: blocked by team/0-1, \
         team/1-1 and 1 more on GPU 0 and GPU 1 of node a",
    );
}

#[test]
fn an_instance_that_nobody_can_end_is_not_blamed_on_a_pod() {
    assert_explains(
        one(&[("3g.20gb", 0, Usage::Stuck), ("1g.5gb", 4, Usage::Held)]),
        &[("3g.20gb", 1)],
        "no room for 1x nvidia.com/mig-3g.20gb now: 1 node: 3g.20gb blocked by team/0-2 on GPU 0 of node a",
    );
    assert_explains(
        one(&[("3g.20gb", 0, Usage::Stuck)]),
        &[("7g.40gb", 1)],
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by 1 instance out of service on GPU 0 \
         of node a",
    );
}

#[test]
fn names_that_are_not_to_be_told_are_counts() {
    let cluster = named(one(&[
        ("3g.20gb", 0, Usage::Held),
        ("3g.20gb", 4, Usage::Held),
    ]));
    let names = Called {
        nameless: true,
        ..Called::default()
    };
    let words = explained(&cluster, &mk_demand(&cluster, &[("7g.40gb", 1)]), &names);
    assert_eq!(
        words.to_string(),
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by 2 instances in use on GPU 0 of node a"
    );
}

#[test]
fn a_profile_with_media_engines_is_blocked_by_whoever_has_them() {
    assert_explains(
        one(&[("1g.5gb+me", 0, Usage::Held), ("1g.5gb", 1, Usage::Held)]),
        &[("1g.5gb.me", 1)],
        "no room for 1x nvidia.com/mig-1g.5gb.me now: 1 node: 1g.5gb+me blocked by team/0-1 on GPU 0 of node a",
    );
}

#[test]
fn a_profile_of_which_a_gpu_has_no_more_is_blocked_by_one_of_them() {
    let mut gpu = a100(&[
        ("2g.10gb", 0, Usage::Held),
        ("1g.5gb", 2, Usage::Stuck),
        ("1g.5gb", 3, Usage::Held),
    ]);
    let small = gpu.instances[1].profile;
    Arc::make_mut(&mut gpu.model).profiles[usize::from(small.0)].max_instances = 2;
    assert_explains(
        vec![mk_node(vec![gpu])],
        &[("1g.5gb", 1)],
        "no room for 1x nvidia.com/mig-1g.5gb now: 1 node: 1g.5gb blocked by team/0-3 on GPU 0 of node a",
    );
}

#[test]
fn what_is_promised_to_others_is_not_blamed_on_anybody() {
    let cluster = named(one(&[]));
    let demands = [(); 2].map(|()| mk_demand(&cluster, &[("7g.40gb", 1)]));
    let mut planner = Planner::from(&cluster);
    let outcomes = planner.plan(&demands);
    assert!(matches!(
        outcomes[..],
        [Outcome::Plan(_), Outcome::Refused(_)]
    ));
    let words = planner.explain(&demands[1], &Called::default());
    assert_eq!(
        words.to_string(),
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: what would do is promised to pods that come first"
    );
}

#[test]
fn other_refusals_are_explained_as_ever() {
    let cluster = named(one(&[]));
    for wants in [("1g.5gb", 99), ("3g.40gb", 1), ("banana", 1)] {
        let demand = mk_demand(&cluster, &[wants]);
        let outcome = plan(&cluster, std::slice::from_ref(&demand)).remove(0);
        let words = explained(&cluster, &demand, &Called::default());
        assert_eq!(&words, refused(&outcome));
    }
}

#[test]
fn an_explanation_fits_an_event_and_counts_the_nodes_that_it_leaves_out() {
    let excluded = |at: usize| Eligibility::Excluded(format!("{at:03} {}", "x".repeat(60)).into());
    let node = || mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])]);
    let cluster = named((0..26).map(|_| node()).collect());
    let mut demand = mk_demand(&cluster, &[("7g.40gb", 1)]);
    let of = |at| {
        if at < 2 {
            Eligibility::Allowed
        } else {
            excluded(at)
        }
    };
    demand.nodes = Arc::new((0..26).map(of).collect());
    let outcome = plan(&cluster, std::slice::from_ref(&demand)).remove(0);
    for text in [
        refused(&outcome).to_string(),
        explained(&cluster, &demand, &Called::default()).to_string(),
    ] {
        assert!(text.len() <= 1024 && text.len() > 900, "{}", text.len());
        assert!(text.contains("now: 2 nodes: "), "{text}");
        let shown: usize = text.matches("1 node: ").count() + 2;
        assert!(
            text.ends_with(&format!("; and {} more nodes", 26 - shown)),
            "{text}"
        );
    }
}

/// The GPU with these instances of the node gone.
fn without(cluster: &Cluster, node: &str, gone: &[(String, String, u32)]) -> Cluster {
    let mut cluster = cluster.clone();
    cluster.nodes.retain(|known| known.name == node);
    for gpu in cluster.nodes.iter_mut().flat_map(|node| &mut node.gpus) {
        let is_gone = |i: &Instance| gone.contains(&(node.to_owned(), gpu.uuid.clone(), i.gi_id));
        gpu.instances.retain(|i| !is_gone(i));
    }
    cluster
}

fn is_served(cluster: &Cluster, wants: &[(&str, u32)]) -> bool {
    !matches!(plan_one(cluster, wants), Outcome::Refused(_))
}

const RESOURCES: [&str; 10] = [
    "1g.5gb",
    "1g.10gb",
    "1g.5gb.me",
    "2g.10gb",
    "3g.20gb",
    "4g.20gb",
    "7g.40gb",
    "cdmo.clear.ml/fraction-0.125",
    "cdmo.clear.ml/fraction-0.500",
    "cdmo.clear.ml/fraction-1.000",
];

fn any_wants() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
    let one = (prop::sample::select(&RESOURCES[..]), 1u32..4);
    prop::collection::btree_map(one.0, one.1, 1..3).prop_map(|all| all.into_iter().collect())
}

/// Like what a cluster has: much of it in use, some of it still being made.
fn any_node() -> impl Strategy<Value = Node> {
    let usages = prop::collection::vec(0..10usize, 8);
    let gpu = (any_gpu(), usages).prop_map(|(mut gpu, usages)| {
        for (instance, usage) in gpu.instances.iter_mut().zip(usages) {
            instance.usage = match usage {
                0..5 => Usage::Held,
                5 => Usage::Arriving,
                6 => Usage::Leaving,
                _ => instance.usage,
            };
        }
        gpu
    });
    prop::collection::vec(gpu, 1..4).prop_map(mk_node)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn if_whoever_is_in_the_way_ended_the_demand_would_fit(
        nodes in prop::collection::vec(any_node(), 1..4),
        wants in any_wants(),
    ) {
        let cluster = named(nodes);
        let demand = mk_demand(&cluster, &wants);
        prop_assume!(!is_served(&cluster, &wants));
        let names = Called::default();
        let refusal = explained(&cluster, &demand, &names);
        let asked = names.asked.into_inner();
        prop_assert_eq!(asked.is_empty(), !refusal.text.contains("blocked"));
        let nodes: std::collections::BTreeSet<_> = asked.iter().map(|(node, ..)| node).collect();
        for node in nodes {
            prop_assert!(is_served(&without(&cluster, node, &asked), &wants), "{}", refusal);
        }
    }

    #[test]
    fn no_fewer_would_have_to_end(
        gpus in prop::collection::vec(any_gpu(), 1..3),
        wants in any_wants(),
    ) {
        let cluster = named(vec![mk_node(gpus)]);
        let demand = mk_demand(&cluster, &wants);
        prop_assume!(!is_served(&cluster, &wants));
        let names = Called::default();
        explained(&cluster, &demand, &names);
        let asked = names.asked.into_inner();
        let in_use = |usages: &[Usage]| -> Vec<_> {
            let gpus = cluster.nodes[0].gpus.iter();
            let all = gpus.flat_map(|gpu| gpu.instances.iter().map(move |i| (gpu, i)));
            let used = all.filter(|(_, i)| usages.contains(&i.usage));
            used.map(|(gpu, i)| ("a".to_owned(), gpu.uuid.clone(), i.gi_id)).collect()
        };
        let held = in_use(&[Usage::Held]);
        let by_pods = asked.iter().all(|one| held.contains(one));
        // One that is out of service counts more than all that pods have.
        let fewer = if asked.is_empty() {
            vec![in_use(&[Usage::Held, Usage::Stuck])]
        } else if by_pods {
            let mut fewer: Vec<Vec<_>> = vec![Vec::new()];
            for _ in 1..asked.len().min(3) {
                let more = fewer.iter().flat_map(|set| {
                    held.iter().map(|one| set.iter().chain([one]).cloned().collect())
                });
                fewer = more.collect();
            }
            fewer
        } else {
            vec![held.clone()]
        };
        for set in fewer {
            prop_assert!(!is_served(&without(&cluster, "a", &set), &wants), "{:?} would do", set);
        }
    }
}
