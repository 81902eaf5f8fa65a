//! Tables of the scheduler's rules.

#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!` reads better by value"
)]

use serde_json::{Value, json};

use super::*;
use crate::objects::NodeLite;

fn node(value: Value) -> NodeRow {
    let mut full = json!({"metadata": {"name": "a", "labels": {
        "zone": "north", "gpus": "4", "kubernetes.io/os": "linux",
    }}, "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "10"}}});
    json_patch_merge(&mut full, &value);
    NodeRow::of(serde_json::from_value::<NodeLite>(full).unwrap())
}

fn json_patch_merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                json_patch_merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

fn check_used(pod: Value, node: &NodeRow, used: &Amounts) -> Eligibility {
    let spec: PodSpec = serde_json::from_value(pod).unwrap();
    Constraints::of(&spec, &requests::of_pod(&spec)).check(node, used)
}

fn check(pod: Value, node: &NodeRow) -> Eligibility {
    check_used(pod, node, &Amounts::new())
}

fn affinity(terms: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
    }}})
}

#[track_caller]
fn assert_excluded(outcome: &Eligibility, word: &str) {
    match outcome {
        Eligibility::Excluded(why) => assert!(why.contains(word), "{why:?} lacks {word:?}"),
        Eligibility::Allowed => panic!("expected an exclusion about {word:?}"),
    }
}

#[test]
fn a_pod_without_constraints_may_run_anywhere() {
    assert_eq!(check(json!({}), &node(json!({}))), Eligibility::Allowed);
}

#[test]
fn every_label_of_the_node_selector_must_match() {
    let node = node(json!({}));
    assert_eq!(
        check(json!({"nodeSelector": {"zone": "north"}}), &node),
        Eligibility::Allowed
    );
    assert_excluded(
        &check(json!({"nodeSelector": {"zone": "south"}}), &node),
        "selector",
    );
    assert_excluded(
        &check(json!({"nodeSelector": {"zone": "north", "x": "y"}}), &node),
        "selector",
    );
}

#[test]
fn every_operator_of_node_affinity_works() {
    for (expression, matches) in [
        (
            json!({"key": "zone", "operator": "In", "values": ["south", "north"]}),
            true,
        ),
        (
            json!({"key": "zone", "operator": "In", "values": ["south"]}),
            false,
        ),
        (
            json!({"key": "zone", "operator": "NotIn", "values": ["south"]}),
            true,
        ),
        (
            json!({"key": "zone", "operator": "NotIn", "values": ["north"]}),
            false,
        ),
        (
            json!({"key": "none", "operator": "NotIn", "values": ["north"]}),
            true,
        ),
        (json!({"key": "zone", "operator": "Exists"}), true),
        (json!({"key": "none", "operator": "Exists"}), false),
        (json!({"key": "none", "operator": "DoesNotExist"}), true),
        (json!({"key": "zone", "operator": "DoesNotExist"}), false),
        (
            json!({"key": "gpus", "operator": "Gt", "values": ["3"]}),
            true,
        ),
        (
            json!({"key": "gpus", "operator": "Gt", "values": ["4"]}),
            false,
        ),
        (
            json!({"key": "gpus", "operator": "Lt", "values": ["5"]}),
            true,
        ),
        (
            json!({"key": "zone", "operator": "Lt", "values": ["5"]}),
            false,
        ),
        (
            json!({"key": "zone", "operator": "Nonsense", "values": ["5"]}),
            false,
        ),
    ] {
        let pod = affinity(json!([{"matchExpressions": [expression]}]));
        let allowed = check(pod, &node(json!({}))) == Eligibility::Allowed;
        assert_eq!(allowed, matches, "{expression}");
    }
}

#[test]
fn terms_are_alternatives_and_requirements_of_a_term_are_not() {
    let north = json!({"key": "zone", "operator": "In", "values": ["north"]});
    let south = json!({"key": "zone", "operator": "In", "values": ["south"]});
    let either = json!([{"matchExpressions": [south]}, {"matchExpressions": [north]}]);
    let both = json!([{"matchExpressions": [south, north]}]);
    assert_eq!(
        check(affinity(either), &node(json!({}))),
        Eligibility::Allowed
    );
    assert_excluded(&check(affinity(both), &node(json!({}))), "affinity");
    assert_excluded(&check(affinity(json!([{}])), &node(json!({}))), "affinity");
}

#[test]
fn a_node_can_be_named_by_its_field() {
    let named = |name: &str| {
        affinity(json!([{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [name]},
        ]}]))
    };
    assert_eq!(check(named("a"), &node(json!({}))), Eligibility::Allowed);
    assert_excluded(&check(named("b"), &node(json!({}))), "affinity");
}

#[test]
fn a_taint_is_borne_only_with_a_matching_toleration() {
    let taint = |effect: &str| {
        node(json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": effect}]}}))
    };
    assert_excluded(
        &check(json!({}), &taint("NoSchedule")),
        "taint gpu=yes:NoSchedule",
    );
    assert_excluded(&check(json!({}), &taint("NoExecute")), "NoExecute");
    assert_eq!(
        check(json!({}), &taint("PreferNoSchedule")),
        Eligibility::Allowed
    );
    for (toleration, bears) in [
        (json!({"key": "gpu", "operator": "Exists"}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"key": "gpu", "value": "yes"}), true),
        (
            json!({"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}),
            true,
        ),
        (json!({"key": "gpu", "value": "no"}), false),
        (
            json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
            false,
        ),
        (json!({"key": "other", "operator": "Exists"}), false),
    ] {
        let pod = json!({"tolerations": [toleration]});
        let allowed = check(pod, &taint("NoSchedule")) == Eligibility::Allowed;
        assert_eq!(allowed, bears, "{toleration}");
    }
}

#[test]
fn a_cordoned_node_takes_only_pods_that_bear_it() {
    let node = node(json!({"spec": {"unschedulable": true}}));
    assert_excluded(&check(json!({}), &node), "cordoned");
    assert!(!Constraints::default().admits(&node));
    let pod = json!({"tolerations": [{"key": UNSCHEDULABLE, "operator": "Exists"}]});
    assert_eq!(check(pod, &node), Eligibility::Allowed);
}

#[test]
fn other_resources_must_be_free() {
    let pod =
        |limits: Value| json!({"containers": [{"name": "c", "resources": {"limits": limits}}]});
    let node = node(json!({}));
    let used = Amounts::from([("cpu".into(), 6000), ("pods".into(), 9)]);
    assert_eq!(
        check_used(pod(json!({"cpu": 2})), &node, &used),
        Eligibility::Allowed
    );
    assert_excluded(
        &check_used(pod(json!({"cpu": "2100m"})), &node, &used),
        "cpu",
    );
    assert_excluded(
        &check_used(pod(json!({"memory": "17Gi"})), &node, &used),
        "memory",
    );
    assert_excluded(
        &check_used(pod(json!({"amd.com/gpu": 1})), &node, &used),
        "amd.com/gpu",
    );
    let full = Amounts::from([("pods".into(), 10)]);
    assert_excluded(&check_used(pod(json!({})), &node, &full), "pods");
    // Devices of ours are the planner's business.
    let ours = pod(json!({"nvidia.com/mig-1g.5gb": 99}));
    assert_eq!(check(ours, &node), Eligibility::Allowed);
}
