//! The planner that remembers against the one that looks at everything each time: whatever happened
//! before, both say the same, to the last byte.

use proptest::{prelude::*, sample::Index};

use super::{exactness::any_gpu, *};
use crate::{Names, Planner, reference};

const RESOURCES: [&str; 16] = [
    "nvidia.com/mig-1g.5gb",
    "nvidia.com/mig-1g.6gb",
    "nvidia.com/mig-1g.10gb",
    "nvidia.com/mig-1g.5gb.me",
    "nvidia.com/mig-2g.10gb",
    "nvidia.com/mig-2g.12gb",
    "nvidia.com/mig-3g.20gb",
    "nvidia.com/mig-3g.40gb",
    "nvidia.com/mig-7g.40gb",
    "cdmo.clear.ml/fraction-0.125",
    "cdmo.clear.ml/fraction-0.250",
    "cdmo.clear.ml/fraction-0.500",
    "cdmo.clear.ml/fraction-1.000",
    "nvidia.com/gpu",
    "nvidia.com/mig-banana",
    "cdmo.clear.ml/fraction-0.300",
];

fn any_amounts(most: usize) -> impl Strategy<Value = BTreeMap<String, u32>> {
    let count = prop_oneof![4 => 0u32..4, 1 => Just(200)];
    let one = (0..14usize, count);
    prop::collection::vec(one, 0..=most).prop_map(|all| {
        let named = |(at, count): (usize, u32)| (RESOURCES[at].to_owned(), count);
        all.into_iter().map(named).collect()
    })
}

fn any_usage() -> impl Strategy<Value = Option<Usage>> {
    prop_oneof![
        8 => Just(None),
        1 => Just(Some(Usage::Arriving)),
        1 => Just(Some(Usage::Leaving)),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let usages = prop::collection::vec(any_usage(), 8);
    let gpu = (any_gpu(), usages, prop::bool::weighted(0.1)).prop_map(|(mut gpu, usages, busy)| {
        gpu.busy = busy;
        for (instance, usage) in gpu.instances.iter_mut().zip(usages) {
            instance.usage = usage.unwrap_or(instance.usage);
        }
        gpu
    });
    let gpus = prop::collection::vec(gpu, 0..3);
    let fixed = prop_oneof![2 => Just(BTreeMap::new()), 1 => any_amounts(1)];
    (gpus, fixed, any_amounts(1), any_amounts(2)).prop_map(|(gpus, fixed, claimed, reserved)| {
        Node {
            name: "a".to_owned(),
            gpus,
            fixed,
            claimed,
            reserved,
            soon_changeable: Vec::new(),
        }
    })
}

fn any_eligibilities() -> impl Strategy<Value = Arc<Eligibilities>> {
    let one = prop_oneof![
        4 => Just(Eligibility::Allowed),
        1 => Just(Eligibility::Excluded("cordoned".into())),
        1 => Just(Eligibility::Excluded("no GPU has it".into())),
    ];
    prop::collection::vec(one, 0..7).prop_map(|all| Arc::new(all.into_iter().collect()))
}

fn any_wants() -> impl Strategy<Value = Arc<crate::Wants>> {
    let count = prop_oneof![6 => 1u32..3, 1 => 3u32..9, 1 => Just(150)];
    prop::collection::btree_map(0..RESOURCES.len(), count, 1..4).prop_map(|all| {
        let named = |(at, count): (usize, u32)| (RESOURCES[at].to_owned(), count);
        Arc::new(all.into_iter().map(named).collect())
    })
}

/// Demands of few different wants and constraints, as in a cluster.
fn any_demands() -> impl Strategy<Value = Vec<Demand>> {
    let wants = prop::collection::vec(any_wants(), 1..4);
    let nodes = prop::collection::vec(any_eligibilities(), 1..3);
    let picks = prop::collection::vec((any::<Index>(), any::<Index>(), 0i32..2, 0i64..3), 1..10);
    (wants, nodes, picks).prop_map(|(wants, nodes, picks)| {
        let one = |(want, node, priority, created): (Index, Index, i32, i64)| Demand {
            id: String::new(),
            priority,
            created,
            window: None,
            group: None,
            wants: Arc::clone(want.get(&wants)),
            nodes: Arc::clone(node.get(&nodes)),
        };
        picks.into_iter().map(one).collect()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Comes(Index, Node),
    Changes(Index, Node),
    Reserves(Index, BTreeMap<String, u32>),
    Goes(Index),
    Forgets(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<Index>(), any_node()).prop_map(|(at, node)| Step::Comes(at, node)),
        (any::<Index>(), any_node()).prop_map(|(at, node)| Step::Changes(at, node)),
        (any::<Index>(), any_amounts(2)).prop_map(|(at, all)| Step::Reserves(at, all)),
        any::<Index>().prop_map(Step::Goes),
        any::<bool>().prop_map(Step::Forgets),
    ]
}

/// The cluster with the same devices reserved as the caller of the straightforward planner did it.
fn protected(cluster: &Cluster) -> Cluster {
    let mut cluster = cluster.clone();
    for node in &mut cluster.nodes {
        for (resource, count) in &node.reserved {
            let claimed = node.claimed.get(resource).copied().unwrap_or(0);
            let mut count = count + claimed;
            for instance in node.gpus.iter_mut().flat_map(|gpu| &mut gpu.instances) {
                let idle = instance.usage == Usage::Idle;
                if count > 0 && idle && instance.resource.as_deref() == Some(resource) {
                    instance.usage = Usage::Arriving;
                    count -= 1;
                }
            }
        }
    }
    cluster
}

/// Calls everything by its id.
struct Ids;

impl Names for Ids {
    fn gpu(&self, _: &Node, gpu: &Gpu) -> String {
        gpu.uuid.clone()
    }

    fn holder(&self, _: &Node, _: &Gpu, instance: &Instance) -> Option<String> {
        Some(instance.gi_id.to_string())
    }

    fn waiting(&self, key: &str) -> Option<String> {
        Some(key.to_owned())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_remembered_changes_no_answer(
        nodes in prop::collection::vec(any_node(), 0..5),
        demands in prop::collection::vec(any_demands(), 1..3),
        steps in prop::collection::vec(any_step(), 0..6),
    ) {
        let mut cluster = mk_cluster(nodes);
        let mut planner = Planner::from(&cluster);
        let agree = |planner: &mut Planner, cluster: &Cluster| -> Result<(), TestCaseError> {
            for demands in &demands {
                prop_assert_eq!(planner.plan(demands), reference::plan(&protected(cluster), demands));
                for demand in demands {
                    let fresh = Planner::from(cluster).explain(demand, &Ids);
                    prop_assert_eq!(planner.explain(demand, &Ids), fresh);
                }
            }
            Ok(())
        };
        agree(&mut planner, &cluster)?;
        for step in steps {
            let count = cluster.nodes.len();
            match step {
                Step::Comes(at, node) => {
                    let at = at.index(count + 1);
                    cluster.nodes.insert(at, node.clone());
                    planner.insert(at, node);
                }
                Step::Forgets(true) => planner.forget_all(),
                Step::Forgets(false) => planner.forget_wishes(),
                _ if count == 0 => {}
                Step::Changes(at, node) => {
                    cluster.nodes[at.index(count)] = node.clone();
                    planner.replace(at.index(count), node);
                }
                Step::Reserves(at, reserved) => {
                    cluster.nodes[at.index(count)].reserved = reserved.clone();
                    planner.reserve(at.index(count), reserved);
                }
                Step::Goes(at) => {
                    cluster.nodes.remove(at.index(count));
                    planner.remove(at.index(count));
                }
            }
            agree(&mut planner, &cluster)?;
        }
    }
}
