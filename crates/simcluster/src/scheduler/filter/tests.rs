use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::resources::Resources;

fn node(name: &str, allocatable: &Value) -> Arc<Value> {
    Arc::new(json!({
        "metadata": { "name": name, "labels": { "name": name } },
        "status": { "allocatable": allocatable },
    }))
}

fn pod(uid: &str, requests: &Value) -> PodInfo {
    PodInfo::new(
        Arc::new(json!({
            "metadata": { "name": uid, "namespace": "default", "uid": uid },
            "spec": { "containers": [{ "name": "c", "resources": { "limits": requests } }] },
        })),
        0,
    )
}

fn roomy() -> Value {
    json!({ "cpu": "4", "memory": "8Gi", "pods": "10", "nvidia.com/mig-3g.20gb": "0" })
}

const NOW: Behaviour = Behaviour::V1_33;

#[test]
fn the_message_is_the_schedulers_own() {
    let mut cache = Cache::default();
    let mut tainted = Value::clone(&node("b", &roomy()));
    tainted["spec"]["taints"] = json!([{ "key": "gpu", "value": "", "effect": "NoSchedule" }]);
    cache.set_node(node("a", &roomy()));
    cache.set_node(Arc::new(tainted));
    let unfit = choose(
        NOW,
        &cache,
        &pod("p", &json!({ "nvidia.com/mig-3g.20gb": "1" })),
    );
    assert_eq!(
        unfit.unwrap_err().message(),
        "0/2 nodes are available: 1 Insufficient nvidia.com/mig-3g.20gb, \
         1 node(s) had untolerated taint {gpu: }."
    );
}

#[test]
fn without_nodes_the_message_says_so() {
    let unfit = choose(NOW, &Cache::default(), &pod("p", &json!({}))).unwrap_err();
    assert_eq!(unfit.message(), "no nodes available to schedule pods");
}

#[test]
fn an_assumed_pod_takes_room_at_once_and_gives_it_back_when_forgotten() {
    let mut cache = Cache::default();
    cache.set_node(node("a", &json!({ "pods": "10", "example.com/x": "1" })));
    let pod = pod("p", &json!({ "example.com/x": "1" }));
    cache.assume("other", "a", &pod.requests);
    assert!(choose(NOW, &cache, &pod).is_err());
    assert_eq!(cache.forget("other").as_deref(), Some("a"));
    assert!(choose(NOW, &cache, &pod).is_ok());
}

#[test]
fn a_confirmed_pod_is_not_forgotten_and_not_counted_twice() {
    let mut cache = Cache::default();
    cache.set_node(node("a", &roomy()));
    let requests = pod("p", &json!({ "cpu": "1" })).requests;
    cache.assume("p", "a", &requests);
    cache.confirm("p", "a", &requests);
    assert_eq!(cache.forget("p"), None);
    assert_eq!(cache.node("a").unwrap().requested.get("cpu"), 1_000);
    cache.remove_pod("p");
    assert_eq!(cache.node("a").unwrap().requested.get("cpu"), 0);
    assert_eq!(cache.node("a").unwrap().pods, 0);
}

#[test]
fn a_node_that_comes_after_its_pods_counts_them() {
    let mut cache = Cache::default();
    cache.confirm("p", "a", &pod("p", &json!({ "cpu": "3" })).requests);
    cache.set_node(node("a", &roomy()));
    let unfit = choose(NOW, &cache, &pod("q", &json!({ "cpu": "2" }))).unwrap_err();
    assert_eq!(
        unfit.message(),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
}

#[test]
fn the_emptier_node_wins_and_the_first_name_among_equals() {
    let mut cache = Cache::default();
    for name in ["c", "b", "a"] {
        cache.set_node(node(name, &roomy()));
    }
    let pod = pod("p", &json!({ "cpu": "1" }));
    assert_eq!(choose(NOW, &cache, &pod).unwrap().name(), "a");
    cache.assume("x", "a", &pod.requests);
    assert_eq!(choose(NOW, &cache, &pod).unwrap().name(), "b");
}

#[test]
fn a_full_node_says_too_many_pods() {
    let mut cache = Cache::default();
    cache.set_node(node("a", &json!({ "pods": "1" })));
    cache.assume("x", "a", &Resources::default());
    let unfit = choose(NOW, &cache, &pod("p", &json!({}))).unwrap_err();
    assert_eq!(unfit.message(), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn what_was_unfit_is_tried_again_as_soon_as_anything_changed() {
    let mut cache = Cache::default();
    cache.set_node(node("a", &json!({ "pods": "10", "example.com/x": "1" })));
    let pod = pod("p", &json!({ "example.com/x": "1" }));
    cache.assume("other", "a", &pod.requests);
    let mut unfitness = Unfitness::default();
    for _ in 0..2 {
        assert!(unfitness.choose(NOW, &cache, &pod).is_err());
    }
    cache.remove_pod("other");
    assert!(unfitness.choose(NOW, &cache, &pod).is_ok());
}
