use super::*;

#[track_caller]
fn assert_says(cluster: &Cluster, wants: &[(&str, u32)], kind: RefusalKind, text: &str) {
    let outcome = plan_one(cluster, wants);
    let refusal = refused(&outcome);
    assert_eq!((refusal.kind, refusal.to_string().as_str()), (kind, text));
}

#[test]
fn a_profile_that_no_gpu_has_is_answered_with_those_there_are() {
    let cluster = mk_cluster(vec![mk_node(vec![mk_gpu("NVIDIA A30", &[])])]);
    assert_says(
        &cluster,
        &[("3g.40gb", 1)],
        RefusalKind::NoSuchProfile,
        "no node offers 1x nvidia.com/mig-3g.40gb: 1 node: no GPU has it; the nodes of this cluster \
         have 1g.6gb, 1g.6gb+me, 2g.12gb, 2g.12gb+me, 4g.24gb",
    );
}

#[test]
fn nonsense_is_answered_with_what_is_wrong_in_it() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    assert_says(
        &cluster,
        &[("banana", 1)],
        RefusalKind::InvalidProfile,
        "\"nvidia.com/mig-banana\" is not a MIG profile: expected a form like 3g.20gb; correct the \
         pod's limits",
    );
}

#[test]
fn a_count_beyond_every_node_is_told_from_a_full_node() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[]), h100(&[])])]);
    assert_says(
        &cluster,
        &[("1g.5gb", 99)],
        RefusalKind::TooMany,
        "99x nvidia.com/mig-1g.5gb is more than any node can give: 1 node: at most 7; ask for less \
         in one pod",
    );
    let full = mk_cluster(vec![mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])])]);
    assert_says(
        &full,
        &[("1g.5gb", 7)],
        RefusalKind::NoRoom,
        "no room for 7x nvidia.com/mig-1g.5gb now: 1 node: running pods are in the way",
    );
}

#[test]
fn nodes_with_the_same_reason_are_counted_together() {
    let held = || mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])]);
    let cluster = mk_cluster(vec![mk_node(vec![h100(&[])]), held(), held()]);
    assert_says(
        &cluster,
        &[("2g.10gb", 1)],
        RefusalKind::NoRoom,
        "no room for 1x nvidia.com/mig-2g.10gb now: 2 nodes: running pods are in the way; 1 node: \
         no GPU has it",
    );
}

#[test]
fn no_managed_node_at_all_says_which_label_is_missing() {
    let cluster = mk_cluster(vec![]);
    let outcome = plan_one(&cluster, &[("1g.5gb", 1)]);
    assert_eq!(refused(&outcome).kind, RefusalKind::NoNode);
    assert!(
        refused(&outcome)
            .text
            .contains("cdmo.clear.ml/gpu-partitioning=mig")
    );
}

#[test]
fn an_absurd_demand_is_cut_off_and_says_so() {
    let cluster = mk_cluster(vec![mk_node((0..16).map(|_| a100(&[])).collect())]);
    let wants = [
        ("1g.5gb", 30),
        ("1g.10gb", 20),
        ("2g.10gb", 20),
        ("3g.20gb", 9),
        ("1g.5gb.me", 9),
    ];
    let outcome = plan_one(&cluster, &wants);
    assert_eq!(refused(&outcome).kind, RefusalKind::TooComplex);
    assert!(refused(&outcome).text.contains("ask for fewer"));
}

#[test]
fn a_full_node_with_fixed_devices_is_not_told_to_lack_them() {
    let mut node = mk_node(vec![]);
    node.fixed.insert("nvidia.com/mig-3g.20gb".to_owned(), 0);
    let cluster = mk_cluster(vec![node]);
    assert_says(
        &cluster,
        &[("3g.20gb", 1)],
        RefusalKind::NoRoom,
        "no room for 1x nvidia.com/mig-3g.20gb now: 1 node: running pods are in the way",
    );
}

#[test]
fn whole_gpus_are_not_answered_with_profiles() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    assert_says(
        &cluster,
        &[("nvidia.com/gpu", 1)],
        RefusalKind::NoSuchProfile,
        "no node offers 1x nvidia.com/gpu: 1 node: no GPU has it",
    );
}
