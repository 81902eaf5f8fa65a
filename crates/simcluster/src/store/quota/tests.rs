//! What a quota refuses, and what it counts.

use serde_json::{Value, json};

use crate::store::{DeleteOptions, Kind, Status, Store};

const GPU: &str = "requests.nvidia.com/mig-1g.5gb";

fn with(hard: &Value) -> Store {
    let store = Store::default();
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": hard } });
    store.create(Kind::ResourceQuota, "default", quota).unwrap();
    store
}

fn make(store: &Store, name: &str, limits: &Value) -> Result<(), Status> {
    let container = json!({ "name": "c", "image": "i", "resources": { "limits": limits } });
    let pod = json!({ "metadata": { "name": name }, "spec": { "containers": [container] } });
    store.create(Kind::Pod, "default", pod).map(drop)
}

fn used(store: &Store, what: &str) -> Value {
    let quota = store.find(Kind::ResourceQuota, "default", "q").unwrap();
    quota["status"]["used"][what].clone()
}

#[test]
fn a_pod_that_asks_for_more_than_is_left_is_refused_with_the_sum() {
    let store = with(&json!({ GPU: 2, "pods": 10 }));
    make(&store, "a", &json!({ "nvidia.com/mig-1g.5gb": 1 })).unwrap();
    let refused = make(&store, "b", &json!({ "nvidia.com/mig-1g.5gb": 2 })).unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: \
         requests.nvidia.com/mig-1g.5gb=2, used: requests.nvidia.com/mig-1g.5gb=1, limited: \
         requests.nvidia.com/mig-1g.5gb=2"
    );
    make(&store, "c", &json!({ "nvidia.com/mig-1g.5gb": 1 })).unwrap();
    assert_eq!(used(&store, GPU), "2");
    assert_eq!(used(&store, "pods"), "2");
}

#[test]
fn what_ended_or_is_gone_is_given_back() {
    let store = with(&json!({ GPU: 1 }));
    let gpu = json!({ "nvidia.com/mig-1g.5gb": 1 });
    make(&store, "a", &gpu).unwrap();
    let end = |pod: &mut Value| pod["status"]["phase"] = "Succeeded".into();
    store.modify(Kind::Pod, "default", "a", end).unwrap();
    assert_eq!(used(&store, GPU), "0");
    make(&store, "b", &gpu).unwrap();
    let now = DeleteOptions::now();
    store.delete(Kind::Pod, "default", "b", &now).unwrap();
    assert_eq!(used(&store, GPU), "0");
}

#[test]
fn a_quota_on_memory_wants_every_container_to_name_it() {
    let store = with(&json!({ "limits.memory": "1Gi", "requests.cpu": 1 }));
    let refused = make(&store, "a", &json!({ "cpu": 1 })).unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c"
    );
    make(&store, "a", &json!({ "cpu": "500m", "memory": "512Mi" })).unwrap();
    assert_eq!(used(&store, "limits.memory"), "512Mi");
    assert_eq!(used(&store, "requests.cpu"), "500m");
    let refused = make(&store, "b", &json!({ "cpu": 1, "memory": "1Gi" })).unwrap_err();
    assert!(
        refused.message.ends_with(
            "requested: limits.memory=1Gi,requests.cpu=1, used: \
             limits.memory=512Mi,requests.cpu=500m, limited: limits.memory=1Gi,requests.cpu=1"
        ),
        "{refused}"
    );
}

#[test]
fn a_quota_counts_what_was_there_before_it_and_follows_its_own_change() {
    let store = Store::default();
    make(&store, "a", &json!({})).unwrap();
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": 1 } } });
    store.create(Kind::ResourceQuota, "default", quota).unwrap();
    assert_eq!(used(&store, "pods"), "1");
    assert_eq!(make(&store, "b", &json!({})).unwrap_err().code, 403);
    let raised = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": 2 } } });
    store
        .update(Kind::ResourceQuota, "default", "q", raised)
        .unwrap();
    make(&store, "b", &json!({})).unwrap();
    assert_eq!(used(&store, "pods"), "2");
}

#[test]
fn a_quota_of_one_scope_does_not_count_the_others() {
    let store = Store::default();
    let quota = json!({
        "metadata": { "name": "q" },
        "spec": { "hard": { "pods": 1 }, "scopes": ["BestEffort"] },
    });
    store.create(Kind::ResourceQuota, "default", quota).unwrap();
    make(&store, "a", &json!({ "cpu": 1 })).unwrap();
    assert_eq!(used(&store, "pods"), "0");
    make(&store, "b", &json!({})).unwrap();
    assert_eq!(make(&store, "c", &json!({})).unwrap_err().code, 403);
}

#[test]
fn other_objects_are_counted_by_their_resource() {
    let store = with(&json!({ "count/jobs.batch": 1, "configmaps": 0 }));
    let map = json!({ "metadata": { "name": "m" } });
    let refused = store.create(Kind::ConfigMap, "default", map).unwrap_err();
    assert!(
        refused.message.ends_with(
            "exceeded quota: q, requested: configmaps=1, used: configmaps=0, limited: configmaps=0"
        ),
        "{refused}"
    );
}

#[test]
fn a_dry_run_is_refused_as_the_real_one_would_be() {
    let store = with(&json!({ "pods": 0 }));
    let options = crate::store::WriteOptions {
        dry_run: true,
        ..crate::store::WriteOptions::default()
    };
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    let refused = store.create_with(Kind::Pod, "default", pod, &options);
    assert_eq!(refused.unwrap_err().code, 403);
}
