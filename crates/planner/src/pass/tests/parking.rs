use super::*;
use crate::{Idle, Planner};

fn planner(nodes: Vec<Node>) -> (Planner, Cluster) {
    let mut planner = Planner::new(Idle::Parked);
    let cluster = mk_cluster(nodes);
    for (at, node) in cluster.nodes.iter().enumerate() {
        planner.insert(at, node.clone());
    }
    (planner, cluster)
}

fn parked(mut gpu: Gpu) -> Gpu {
    let idle = gpu.instances.iter_mut().filter(|i| i.usage == Usage::Idle);
    idle.for_each(|instance| instance.resource = None);
    gpu
}

#[test]
fn what_is_idle_and_promised_to_nobody_is_taken_off_offer() {
    let gpu = a100(&[
        ("1g.5gb", 0, Usage::Idle),
        ("1g.5gb", 1, Usage::Held),
        ("2g.10gb", 2, Usage::Idle),
    ]);
    let (mut planner, cluster) = planner(vec![mk_node(vec![
        gpu,
        parked(a100(&[("7g.40gb", 0, Usage::Idle)])),
    ])]);
    let outcomes = planner.plan(&[mk_demand(&cluster, &[("1g.5gb", 1)])]);
    assert_eq!(outcomes, [Outcome::Covered { node: 0 }]);
    let [plan] = planner.parking() else {
        panic!("{:?}", planner.parking());
    };
    let expose = &plan.gpus[0].expose;
    assert_eq!((plan.gpus.len(), expose.len()), (1, 1));
    assert_eq!(expose[0].profile.to_string(), "2g.10gb");
    assert_eq!(
        (expose[0].from.as_deref(), expose[0].to.as_str()),
        (Some("nvidia.com/mig-2g.10gb"), "")
    );
}

#[test]
fn nothing_is_parked_unless_that_was_chosen() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("1g.5gb", 0, Usage::Idle)])])]);
    let mut planner = Planner::from(&cluster);
    planner.plan(&[]);
    assert!(planner.parking().is_empty());
}

#[test]
fn a_parked_instance_is_offered_again_unless_its_place_is_much_worse() {
    let good = parked(a100(&[("3g.20gb", 4, Usage::Idle)]));
    let (mut one, cluster) = planner(vec![mk_node(vec![good])]);
    let outcome = one
        .plan(&[mk_demand(&cluster, &[("3g.20gb", 1)])])
        .remove(0);
    assert_eq!(planned(&outcome).gpus[0].expose.len(), 1);
    // On a GPU that is whole but for it, while half of another one is free.
    let bad = parked(a100(&[("3g.20gb", 0, Usage::Idle)]));
    let half = a100(&[("3g.20gb", 0, Usage::Held)]);
    let (mut one, cluster) = planner(vec![mk_node(vec![bad, half])]);
    let outcome = one
        .plan(&[mk_demand(&cluster, &[("3g.20gb", 1)])])
        .remove(0);
    let plan = &planned(&outcome).gpus[0];
    assert_eq!((plan.gpu, plan.create.len()), (1, 1));
}
