use serde_json::json;

use super::*;

fn node() -> Value {
    json!({
        "metadata": { "name": "a", "labels": { "zone": "x", "gpus": "8" } },
        "spec": { "taints": [{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }] },
    })
}

fn with_terms(terms: &Value) -> Value {
    json!({ "spec": { "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
    }}}})
}

#[test]
fn one_matching_term_is_enough_and_every_expression_in_it_is_needed() {
    let zone = |zone: &str| json!({ "key": "zone", "operator": "In", "values": [zone] });
    let many = json!({ "key": "gpus", "operator": "Gt", "values": ["4"] });
    let few = json!({ "key": "gpus", "operator": "Lt", "values": ["4"] });
    let other = json!({ "matchExpressions": [zone("y")] });
    let good = json!({ "matchExpressions": [zone("x"), many] });
    let bad = json!({ "matchExpressions": [zone("x"), few] });
    assert!(selects(&with_terms(&json!([other, good])), &node()));
    assert!(!selects(&with_terms(&json!([other, bad])), &node()));
}

#[test]
fn an_empty_term_matches_no_node() {
    assert!(!selects(&with_terms(&json!([{}])), &node()));
}

#[test]
fn a_field_term_names_the_node() {
    let term = |name: &str| {
        json!([{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": [name] },
        ]}])
    };
    assert!(selects(&with_terms(&term("a")), &node()));
    assert!(!selects(&with_terms(&term("b")), &node()));
}

#[test]
fn a_label_that_is_absent_satisfies_not_in_and_does_not_exist() {
    let term = |operator: &str| json!([{ "matchExpressions": [{ "key": "no", "operator": operator, "values": ["x"] }] }]);
    assert!(selects(&with_terms(&term("NotIn")), &node()));
    assert!(selects(&with_terms(&term("DoesNotExist")), &node()));
    assert!(!selects(&with_terms(&term("Exists")), &node()));
}

#[test]
fn a_taint_keeps_out_all_pods_but_those_that_tolerate_it() {
    let pod = |toleration: Value| json!({ "spec": { "tolerations": [toleration] } });
    let effects = ["NoSchedule", "NoExecute"];
    let refused = |pod: &Value| untolerated_taint(pod, &node(), &effects).is_some();
    assert!(refused(&json!({})));
    assert!(refused(&pod(json!({ "key": "gpu", "value": "no" }))));
    assert!(refused(&pod(
        json!({ "key": "gpu", "value": "yes", "effect": "NoExecute" })
    )));
    assert!(!refused(&pod(
        json!({ "key": "gpu", "operator": "Equal", "value": "yes" })
    )));
    assert!(!refused(&pod(json!({ "operator": "Exists" }))));
}
