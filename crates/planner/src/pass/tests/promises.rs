use super::*;

#[test]
fn an_empty_gpu_gets_the_instance_that_was_asked_for() {
    let mut cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let outcome = plan_one(&cluster, &[("3g.20gb", 1)]);
    apply(&mut cluster, planned(&outcome));
    assert_eq!(
        plan_one(&cluster, &[("3g.20gb", 1)]),
        Outcome::Covered { node: 0 }
    );
}

#[test]
fn idle_instance_is_reused_before_a_new_one_is_made() {
    let cluster = mk_cluster(vec![
        mk_node(vec![a100(&[])]),
        mk_node(vec![a100(&[("2g.10gb", 2, Usage::Idle)])]),
    ]);
    assert_eq!(
        plan_one(&cluster, &[("2g.10gb", 1)]),
        Outcome::Covered { node: 1 }
    );
}

#[test]
fn free_slices_are_used_before_an_idle_instance_is_given_up() {
    let cluster = mk_cluster(vec![
        mk_node(vec![a100(&[
            ("3g.20gb", 0, Usage::Idle),
            ("3g.20gb", 4, Usage::Idle),
        ])]),
        mk_node(vec![a100(&[("1g.5gb", 6, Usage::Held)])]),
    ]);
    let outcome = plan_one(&cluster, &[("2g.10gb", 1)]);
    let plan = planned(&outcome);
    assert_eq!(plan.node, 1);
    assert!(plan.gpus[0].give_up.is_empty());
}

#[test]
fn as_few_idle_instances_as_possible_are_given_up() {
    let held = ("1g.5gb", 2, Usage::Held);
    let two = a100(&[("1g.5gb", 0, Usage::Idle), ("1g.5gb", 1, Usage::Idle), held]);
    let one = a100(&[("1g.5gb", 1, Usage::Idle), held]);
    let cluster = mk_cluster(vec![mk_node(vec![two, one])]);
    let outcome = plan_one(&cluster, &[("2g.10gb", 1)]);
    let plan = planned(&outcome);
    assert_eq!((plan.gpus[0].gpu, plan.gpus[0].give_up.len()), (1, 1));
}

#[test]
fn small_idle_instances_are_given_up_where_a_large_one_stands_in_a_better_place() {
    let gpu = a100(&[
        ("1g.5gb", 0, Usage::Idle),
        ("1g.5gb", 1, Usage::Idle),
        ("1g.5gb", 2, Usage::Held),
        ("3g.20gb", 4, Usage::Idle),
    ]);
    let cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    let outcome = plan_one(&cluster, &[("2g.10gb", 1)]);
    let plan = planned(&outcome);
    assert_eq!(plan.gpus[0].create[0].placement.start, 0);
    assert_eq!(plan.gpus[0].give_up.len(), 2);
}

#[test]
fn held_and_stuck_instances_are_never_given_up() {
    for usage in [Usage::Held, Usage::Stuck] {
        let cluster = mk_cluster(vec![mk_node(vec![a100(&[("1g.5gb", 3, usage)])])]);
        let outcome = plan_one(&cluster, &[("7g.40gb", 1)]);
        assert_eq!(refused(&outcome).kind, RefusalKind::NoRoom);
    }
}

#[test]
fn an_arriving_instance_is_waited_for_instead_of_made_twice() {
    let mut gpu = a100(&[("1g.5gb", 0, Usage::Arriving)]);
    gpu.busy = true;
    let cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    assert_eq!(
        plan_one(&cluster, &[("1g.5gb", 1)]),
        Outcome::Wait { node: 0 }
    );
    // A second one has to wait until the GPU can be planned for again.
    assert_eq!(
        plan_one(&cluster, &[("1g.5gb", 2)]),
        Outcome::Wait { node: 0 }
    );
}

#[test]
fn an_arriving_instance_is_never_given_up() {
    let mut gpu = a100(&[("1g.5gb", 0, Usage::Arriving)]);
    gpu.busy = true;
    let cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    assert_eq!(
        refused(&plan_one(&cluster, &[("7g.40gb", 1)])).kind,
        RefusalKind::NoRoom
    );
}

#[test]
fn slices_of_a_leaving_instance_are_waited_for() {
    let mut gpu = a100(&[("7g.40gb", 0, Usage::Leaving)]);
    gpu.busy = true;
    let cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    assert_eq!(
        plan_one(&cluster, &[("4g.20gb", 1)]),
        Outcome::Wait { node: 0 }
    );
}

#[test]
fn a_device_is_promised_once() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("4g.20gb", 0, Usage::Idle)])])]);
    let demand = mk_demand(&cluster, &[("4g.20gb", 1)]);
    let outcomes = plan(&cluster, &[demand.clone(), demand]);
    assert_eq!(outcomes[0], Outcome::Covered { node: 0 });
    assert_eq!(refused(&outcomes[1]).kind, RefusalKind::NoRoom);
}

#[test]
fn what_bound_pods_count_on_is_not_promised_again() {
    let mut node = mk_node(vec![a100(&[("7g.40gb", 0, Usage::Idle)])]);
    node.claimed.insert("nvidia.com/mig-7g.40gb".to_owned(), 1);
    let cluster = mk_cluster(vec![node]);
    for profile in ["7g.40gb", "1g.5gb"] {
        assert_eq!(
            refused(&plan_one(&cluster, &[(profile, 1)])).kind,
            RefusalKind::NoRoom
        );
    }
}

#[test]
fn priority_goes_before_age_and_age_before_position() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let with = |priority, created| Demand {
        priority,
        created,
        ..mk_demand(&cluster, &[("7g.40gb", 1)])
    };
    for (demands, winner) in [
        ([with(0, 1), with(1, 9)], 1),
        ([with(0, 9), with(0, 1)], 1),
        ([with(0, 1), with(0, 1)], 0),
    ] {
        let outcomes = plan(&cluster, &demands);
        planned(&outcomes[winner]);
        refused(&outcomes[1 - winner]);
    }
}

#[test]
fn several_profiles_and_gpus_serve_one_pod_together() {
    let mut cluster = mk_cluster(vec![mk_node(vec![
        a100(&[("4g.20gb", 0, Usage::Held)]),
        a100(&[("1g.5gb", 4, Usage::Held), ("1g.5gb", 2, Usage::Idle)]),
    ])]);
    // One 3g fits on each GPU, on the second only where the idle 1g stands, and no 2g elsewhere.
    let wants = [("3g.20gb", 2), ("1g.5gb", 2)];
    let outcome = plan_one(&cluster, &wants);
    apply(&mut cluster, planned(&outcome));
    assert_eq!(plan_one(&cluster, &wants), Outcome::Covered { node: 0 });
}

#[test]
fn whole_gpus_are_counted_but_never_planned() {
    let mut node = mk_node(vec![]);
    node.fixed.insert("nvidia.com/gpu".to_owned(), 2);
    let cluster = mk_cluster(vec![node]);
    assert_eq!(
        plan_one(&cluster, &[("nvidia.com/gpu", 2)]),
        Outcome::Covered { node: 0 }
    );
    assert!(matches!(
        plan_one(&cluster, &[("nvidia.com/gpu", 3)]),
        Outcome::Refused(_)
    ));
}

#[test]
fn a_node_where_the_pod_cannot_run_is_left_alone() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let mut demand = mk_demand(&cluster, &[("1g.5gb", 1)]);
    let nodes = [
        Eligibility::Excluded("node selector".into()),
        Eligibility::Allowed,
    ];
    demand.nodes = Arc::new(nodes.into_iter().collect());
    assert_eq!(planned(&plan(&cluster, &[demand])[0]).node, 1);
}

#[test]
fn a_gpu_that_cannot_be_changed_still_lends_its_idle_instances() {
    let mut gpu = a100(&[("1g.5gb", 0, Usage::Idle)]);
    gpu.changeable = false;
    let cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    assert_eq!(
        plan_one(&cluster, &[("1g.5gb", 1)]),
        Outcome::Covered { node: 0 }
    );
    assert!(matches!(
        plan_one(&cluster, &[("1g.5gb", 2)]),
        Outcome::Refused(_)
    ));
}

#[test]
fn seven_small_pods_share_one_gpu_of_many() {
    let mut cluster = mk_cluster(vec![mk_node(vec![a100(&[]), a100(&[]), a100(&[])])]);
    for _ in 0..7 {
        let outcome = plan_one(&cluster, &[("1g.5gb", 1)]);
        apply(&mut cluster, planned(&outcome));
        for gpu in &mut cluster.nodes[0].gpus {
            gpu.instances.iter_mut().for_each(|i| i.usage = Usage::Held);
        }
    }
    let used = cluster.nodes[0]
        .gpus
        .iter()
        .filter(|gpu| !gpu.instances.is_empty())
        .count();
    assert_eq!(used, 1);
}

#[test]
fn a_burst_of_pods_is_spread_over_nodes_that_are_nearly_as_good() {
    let half = || a100(&[("3g.20gb", 0, Usage::Held)]);
    let node = || mk_node(vec![half(), half()]);
    let cluster = mk_cluster(vec![node(), node()]);
    let demand = mk_demand(&cluster, &[("3g.20gb", 1)]);
    let outcomes = plan(&cluster, &[demand.clone(), demand]);
    assert_eq!(planned(&outcomes[0]).node, 0);
    assert_eq!(planned(&outcomes[1]).node, 1);
}

#[test]
fn no_second_gpu_is_broken_into_for_the_sake_of_a_second() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![a100(&[])])]);
    let demand = mk_demand(&cluster, &[("1g.5gb", 1)]);
    let outcomes = plan(&cluster, &[demand.clone(), demand]);
    assert_eq!(planned(&outcomes[0]).node, 0);
    assert_eq!(outcomes[1], Outcome::Wait { node: 0 });
}

#[test]
fn an_idle_instance_is_given_up_rather_than_another_gpu_broken_into() {
    let begun = a100(&[
        ("1g.5gb", 6, Usage::Held),
        ("2g.10gb", 4, Usage::Idle),
        ("3g.20gb", 0, Usage::Idle),
    ]);
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])]), mk_node(vec![begun])]);
    let outcome = plan_one(&cluster, &[("1g.5gb", 1)]);
    let plan = planned(&outcome);
    assert_eq!((plan.node, plan.gpus[0].give_up.len()), (1, 1));
    assert_eq!(plan.gpus[0].give_up[0].profile.to_string(), "2g.10gb");
}

#[test]
fn an_idle_instance_is_kept_where_another_place_is_nearly_as_good() {
    let begun = |others: &[_]| {
        let mut all = vec![("1g.5gb", 6, Usage::Held)];
        all.extend(others);
        a100(&all)
    };
    let idle = begun(&[("2g.10gb", 4, Usage::Idle), ("3g.20gb", 0, Usage::Idle)]);
    let cluster = mk_cluster(vec![mk_node(vec![idle]), mk_node(vec![begun(&[])])]);
    let outcome = plan_one(&cluster, &[("1g.5gb", 1)]);
    let plan = planned(&outcome);
    assert_eq!((plan.node, plan.gpus[0].give_up.len()), (1, 0));
}
