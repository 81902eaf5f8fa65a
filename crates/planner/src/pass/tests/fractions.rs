//! Fractions: which profile serves them where, and when an idle instance changes its name for them.

use super::*;

const EIGHTH: &str = "cdmo.clear.ml/fraction-0.125";
const QUARTER: &str = "cdmo.clear.ml/fraction-0.250";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";
const WHOLE: &str = "cdmo.clear.ml/fraction-1.000";

/// The instance at a slice goes by this name.
fn named(mut gpu: Gpu, start: u8, name: &str) -> Gpu {
    let mut instances = gpu.instances.iter_mut();
    let found = instances.find(|instance| instance.placement.start == start);
    found.unwrap().resource = Some(name.into());
    gpu
}

#[track_caller]
fn assert_made(gpu: Gpu, want: &str, profile: &str) {
    let mut cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    let outcome = plan_one(&cluster, &[(want, 1)]);
    let made = &planned(&outcome).gpus[0].create;
    let names: Vec<_> = made.iter().map(|new| new.profile.to_string()).collect();
    assert_eq!(
        (names, made[0].resource.as_str()),
        (vec![profile.to_owned()], want)
    );
    apply(&mut cluster, planned(&outcome));
    assert_eq!(
        plan_one(&cluster, &[(want, 1)]),
        Outcome::Covered { node: 0 }
    );
}

#[test]
fn a_fraction_is_made_of_the_profile_that_serves_it_on_the_gpu() {
    let a30 = || mk_gpu("NVIDIA A30", &[]);
    for (want, small, large) in [
        (EIGHTH, "1g.6gb", "1g.5gb"),
        (QUARTER, "1g.6gb", "2g.10gb"),
        (HALF, "2g.12gb", "3g.20gb"),
        (WHOLE, "4g.24gb", "7g.40gb"),
    ] {
        assert_made(a30(), want, small);
        assert_made(a100(&[]), want, large);
    }
}

#[test]
fn a_fraction_runs_on_whatever_model_has_room() {
    let full = || mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])]);
    let cluster = mk_cluster(vec![full(), mk_node(vec![h100(&[])])]);
    let outcome = plan_one(&cluster, &[(HALF, 1)]);
    let plan = planned(&outcome);
    assert_eq!(plan.node, 1);
    assert_eq!(plan.gpus[0].create[0].profile.to_string(), "3g.40gb");
}

#[test]
fn an_idle_instance_of_that_name_comes_before_one_that_would_have_to_move() {
    let cluster = mk_cluster(vec![
        mk_node(vec![a100(&[("3g.20gb", 0, Usage::Idle)])]),
        mk_node(vec![named(a100(&[("3g.20gb", 0, Usage::Idle)]), 0, HALF)]),
    ]);
    assert_eq!(
        plan_one(&cluster, &[(HALF, 1)]),
        Outcome::Covered { node: 1 }
    );
}

#[test]
fn an_idle_instance_moves_to_the_fraction_before_anything_is_made_or_given_up() {
    for gpu in [
        a100(&[("3g.20gb", 4, Usage::Idle)]),
        a100(&[("3g.20gb", 0, Usage::Idle), ("3g.20gb", 4, Usage::Held)]),
    ] {
        let mut cluster = mk_cluster(vec![mk_node(vec![gpu])]);
        let outcome = plan_one(&cluster, &[(HALF, 1)]);
        let plan = &planned(&outcome).gpus[0];
        assert!(plan.create.is_empty() && plan.give_up.is_empty());
        assert_eq!(
            plan.expose[0].from.as_deref(),
            Some("nvidia.com/mig-3g.20gb")
        );
        assert_eq!(plan.expose[0].to, HALF);
        apply(&mut cluster, planned(&outcome));
        assert_eq!(
            plan_one(&cluster, &[(HALF, 1)]),
            Outcome::Covered { node: 0 }
        );
    }
}

#[test]
fn an_idle_instance_in_a_place_that_is_much_worse_is_not_moved() {
    // On a GPU that is whole but for it, while half of another one is free.
    let idle = a100(&[("3g.20gb", 0, Usage::Idle)]);
    let half = a100(&[("3g.20gb", 0, Usage::Held)]);
    let cluster = mk_cluster(vec![mk_node(vec![idle, half])]);
    let outcome = plan_one(&cluster, &[(HALF, 1)]);
    let plan = &planned(&outcome).gpus[0];
    assert_eq!((plan.gpu, plan.create[0].placement.start), (1, 4));
    assert!(plan.expose.is_empty() && plan.give_up.is_empty());
}

#[test]
fn an_idle_instance_moves_back_to_its_profile_and_on_to_another_fraction() {
    let half = named(a100(&[("3g.20gb", 4, Usage::Idle)]), 4, HALF);
    let outcome = plan_one(&mk_cluster(vec![mk_node(vec![half])]), &[("3g.20gb", 1)]);
    assert_eq!(
        planned(&outcome).gpus[0].expose[0].from.as_deref(),
        Some(HALF)
    );
    // The smallest of an A30 is an eighth and a quarter.
    let eighth = named(
        mk_gpu("NVIDIA A30", &[("1g.6gb", 0, Usage::Idle)]),
        0,
        EIGHTH,
    );
    let outcome = plan_one(&mk_cluster(vec![mk_node(vec![eighth])]), &[(QUARTER, 1)]);
    assert_eq!(planned(&outcome).gpus[0].expose[0].to, QUARTER);
}

#[test]
fn an_instance_that_is_offered_under_no_name_can_be_given_one() {
    let mut gpu = a100(&[("7g.40gb", 0, Usage::Idle)]);
    gpu.instances[0].resource = None;
    let outcome = plan_one(&mk_cluster(vec![mk_node(vec![gpu])]), &[(WHOLE, 1)]);
    assert_eq!(planned(&outcome).gpus[0].expose[0].from, None);
}

#[test]
fn an_idle_instance_of_another_size_never_serves_a_fraction() {
    let gpu = a100(&[("4g.20gb", 0, Usage::Idle)]);
    let outcome = plan_one(&mk_cluster(vec![mk_node(vec![gpu])]), &[(HALF, 1)]);
    let plan = &planned(&outcome).gpus[0];
    assert!(plan.expose.is_empty());
    assert_eq!(plan.create[0].profile.to_string(), "3g.20gb");
}

#[test]
fn what_is_held_or_about_to_be_used_does_not_move() {
    for usage in [Usage::Held, Usage::Stuck, Usage::Arriving] {
        let mut gpu = a100(&[("7g.40gb", 0, usage)]);
        gpu.busy = usage == Usage::Arriving;
        let outcome = plan_one(&mk_cluster(vec![mk_node(vec![gpu])]), &[(WHOLE, 1)]);
        assert_eq!(refused(&outcome).kind, RefusalKind::NoRoom, "{usage:?}");
    }
    let mut unchangeable = a100(&[("7g.40gb", 0, Usage::Idle)]);
    unchangeable.changeable = false;
    let outcome = plan_one(
        &mk_cluster(vec![mk_node(vec![unchangeable])]),
        &[(WHOLE, 1)],
    );
    refused(&outcome);
}

#[test]
fn what_a_bound_pod_counts_on_does_not_move() {
    let mut node = mk_node(vec![a100(&[("7g.40gb", 0, Usage::Idle)])]);
    node.claimed.insert("nvidia.com/mig-7g.40gb".to_owned(), 1);
    let outcome = plan_one(&mk_cluster(vec![node]), &[(WHOLE, 1)]);
    assert_eq!(refused(&outcome).kind, RefusalKind::NoRoom);
}

#[test]
fn several_fractions_and_a_profile_share_what_is_idle() {
    // One stays what it is, the other moves.
    let gpu = a100(&[("3g.20gb", 0, Usage::Idle), ("3g.20gb", 4, Usage::Idle)]);
    let mut cluster = mk_cluster(vec![mk_node(vec![gpu])]);
    let wants = [(HALF, 1), ("3g.20gb", 1)];
    let outcome = plan_one(&cluster, &wants);
    let plan = &planned(&outcome).gpus[0];
    assert_eq!(
        (plan.expose.len(), plan.create.len(), plan.give_up.len()),
        (1, 0, 0)
    );
    apply(&mut cluster, planned(&outcome));
    assert_eq!(plan_one(&cluster, &wants), Outcome::Covered { node: 0 });
}

#[test]
fn an_instance_that_was_moved_for_one_pod_is_not_promised_to_the_next() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("3g.20gb", 4, Usage::Idle)])])]);
    let half = mk_demand(&cluster, &[(HALF, 1)]);
    let three = mk_demand(&cluster, &[("3g.20gb", 1)]);
    let outcomes = plan(&cluster, &[half, three]);
    planned(&outcomes[0]);
    // The GPU has a plan now; the second pod needs another instance.
    assert_eq!(outcomes[1], Outcome::Wait { node: 0 });
}

#[test]
fn a_refusal_speaks_of_fractions_as_users_do() {
    let full = mk_cluster(vec![mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])])]);
    assert_eq!(
        &*refused(&plan_one(&full, &[(HALF, 1), (QUARTER, 2)])).text,
        "no room for 2x cdmo.clear.ml/fraction-0.250 (0.25 of a GPU) + 1x \
         cdmo.clear.ml/fraction-0.500 (0.5 of a GPU) now: 1 node: running pods are in the way"
    );
    let outcome = plan_one(&full, &[(HALF, 3)]);
    assert_eq!(
        (refused(&outcome).kind, &*refused(&outcome).text),
        (
            RefusalKind::TooMany,
            "3x cdmo.clear.ml/fraction-0.500 (0.5 of a GPU) is more than any node can give: 1 node: at \
             most 2; ask for less in one pod"
        )
    );
    let none = mk_cluster(vec![mk_node(vec![])]);
    assert_eq!(
        &*refused(&plan_one(&none, &[(HALF, 1)])).text,
        "no node offers 1x cdmo.clear.ml/fraction-0.500 (0.5 of a GPU): 1 node: no GPU has it"
    );
}

#[test]
fn a_fraction_that_is_no_class_is_answered_with_those_there_are() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let outcome = plan_one(&cluster, &[("cdmo.clear.ml/fraction-0.3", 1)]);
    assert_eq!(
        (refused(&outcome).kind, &*refused(&outcome).text),
        (
            RefusalKind::InvalidProfile,
            "\"cdmo.clear.ml/fraction-0.3\" is not a fraction that is served: those are \
             cdmo.clear.ml/fraction-0.125, 0.250, 0.500, 1.000; correct the pod's limits"
        )
    );
}
