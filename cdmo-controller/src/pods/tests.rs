#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!` reads better by value"
)]

use serde_json::{Value, json};

use super::*;

const ONE: &str = "nvidia.com/mig-1g.5gb";

fn pod(name: &str, changes: Value) -> PodLite {
    let mut value = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "main", "resources": {"limits": {ONE: 1, "cpu": "2"}}}]},
        "status": {"phase": "Pending"},
    });
    for (path, change) in changes.as_object().unwrap() {
        *value.pointer_mut(&format!("/{path}")).unwrap() = change.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn bound(name: &str, node: &str, phase: &str) -> PodLite {
    let mut pod = pod(name, json!({"status/phase": phase}));
    pod.spec.node_name = Some(node.to_owned());
    pod
}

fn key(name: &str) -> PodKey {
    PodKey::new("ns", name)
}

fn used(index: &PodIndex, node: &str, resource: &str) -> i64 {
    index
        .load(node)
        .and_then(|load| load.used.get(resource))
        .copied()
        .unwrap_or(0)
}

#[test]
fn an_unbound_pod_that_asks_for_a_slice_waits_until_it_is_bound() {
    let mut index = PodIndex::default();
    assert!(index.apply(Event::Apply(pod("a", json!({})))).pending);
    assert!(index.waiting(&key("a")).is_some());
    let changed = index.apply(Event::Apply(bound("a", "n", "Pending")));
    assert!(changed.pending && changed.nodes.contains("n"));
    assert!(index.waiting(&key("a")).is_none());
    assert_eq!(used(&index, "n", ONE), 1);
    assert_eq!(used(&index, "n", "cpu"), 2000);
    assert_eq!(used(&index, "n", "pods"), 1);
}

#[test]
fn a_pod_held_back_by_a_foreign_gate_or_being_deleted_does_not_wait() {
    let mut index = PodIndex::default();
    let mut gated = pod("a", json!({}));
    gated.spec.scheduling_gates = vec![crate::objects::Gate {
        name: "queue.example.com/x".into(),
    }];
    index.apply(Event::Apply(gated.clone()));
    assert!(index.waiting(&key("a")).is_none());
    gated.spec.scheduling_gates[0].name = SCHEDULING_GATE.into();
    index.apply(Event::Apply(gated.clone()));
    assert!(index.waiting(&key("a")).is_some());
    gated.metadata.deletion_timestamp = gated.metadata.creation_timestamp.clone();
    index.apply(Event::Apply(gated));
    assert!(index.waiting(&key("a")).is_none());
}

#[test]
fn a_pod_of_another_kind_is_only_load_on_its_node() {
    let mut index = PodIndex::default();
    let plain = json!({"spec/containers": [{"name": "c", "resources": {"requests": {"cpu": 1}}}]});
    let mut other = pod("web", plain);
    assert_eq!(index.apply(Event::Apply(other.clone())), Changed::default());
    other.spec.node_name = Some("n".into());
    index.apply(Event::Apply(other.clone()));
    assert_eq!(used(&index, "n", "cpu"), 1000);
    assert!(index.get(&key("web")).is_none());
    other.status.phase = "Succeeded".into();
    index.apply(Event::Apply(other.clone()));
    assert_eq!(used(&index, "n", "cpu"), 0);
    // Its processes may still be there, and the agent must know that it is no stranger.
    let table = index.table("n", &[]);
    assert!(table.len() == 1 && table[0].uid == "uid-web" && table[0].terminal);
    index.apply(Event::Delete(other));
    assert!(index.load("n").is_none());
}

#[test]
fn a_terminal_pod_frees_its_requests_but_stays_in_the_table() {
    let mut index = PodIndex::default();
    index.apply(Event::Apply(bound("a", "n", "Running")));
    index.apply(Event::Apply(bound("a", "n", "Failed")));
    assert_eq!(used(&index, "n", ONE), 0);
    let table: Vec<_> = index
        .bound("n")
        .map(|(key, row)| row.to_proto(key))
        .collect();
    assert_eq!(table.len(), 1);
    assert!(table[0].terminal && table[0].uid == "uid-a");
    index.apply(Event::Delete(bound("a", "n", "Failed")));
    assert_eq!(index.bound("n").count(), 0);
}

#[test]
fn the_table_names_ordinary_init_containers_as_such() {
    let mut index = PodIndex::default();
    let asks = json!({"limits": {ONE: 2}});
    let mut pod = bound("a", "n", "Running");
    pod.spec.init_containers = serde_json::from_value(json!([
        {"name": "prepare", "resources": asks},
        {"name": "proxy", "resources": asks, "restartPolicy": "Always"},
        {"name": "chown"},
    ]))
    .unwrap();
    index.apply(Event::Apply(pod));
    let (key, row) = index.bound("n").next().unwrap();
    let containers: Vec<_> = row
        .to_proto(key)
        .containers
        .iter()
        .map(|c| (c.name.clone(), c.ordinary_init, c.requests[0].count))
        .collect();
    assert_eq!(
        containers,
        [
            ("prepare".into(), true, 2),
            ("proxy".into(), false, 2),
            ("main".into(), false, 1)
        ]
    );
}

#[test]
fn a_list_that_lacks_a_pod_removes_it() {
    let mut index = PodIndex::default();
    index.apply(Event::Apply(pod("a", json!({}))));
    index.apply(Event::Apply(bound("b", "n", "Running")));
    index.apply(Event::Init);
    index.apply(Event::InitApply(pod("c", json!({}))));
    let changed = index.apply(Event::InitDone);
    assert!(changed.nodes.contains("n") && changed.pending);
    assert_eq!(index.pending().count(), 1);
    assert!(index.load("n").is_none());
}

#[test]
fn pods_of_one_second_keep_the_order_in_which_they_were_seen() {
    let mut index = PodIndex::default();
    for name in ["z", "a", "z"] {
        index.apply(Event::Apply(pod(name, json!({}))));
    }
    assert!(index.get(&key("z")).unwrap().age < index.get(&key("a")).unwrap().age);
}

#[test]
fn it_is_remembered_since_when_a_pod_is_bound() {
    let mut index = PodIndex::default();
    let created = 1_767_225_600;
    let conditions = json!([
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:20:00Z"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:10:00Z"},
    ]);
    let status = json!({"phase": "Running", "conditions": conditions});
    index.apply(Event::Apply(pod("a", json!({"status": status.clone()}))));
    assert_eq!(index.get(&key("a")).unwrap().started, 0);
    let mut known = pod("a", json!({"status": status}));
    known.spec.node_name = Some("n".into());
    index.apply(Event::Apply(known));
    assert_eq!(index.get(&key("a")).unwrap().started, created + 600);
    // Somebody else's scheduler may say nothing of it.
    index.apply(Event::Apply(bound("b", "n", "Running")));
    assert_eq!(index.get(&key("b")).unwrap().started, created);
}

#[test]
fn a_pod_made_again_under_its_name_is_a_new_pod() {
    let mut index = PodIndex::default();
    index.apply(Event::Apply(bound("a", "n", "Running")));
    let mut again = pod("a", json!({}));
    again.metadata.uid = Some("other".into());
    index.apply(Event::Apply(again));
    assert!(index.waiting(&key("a")).is_some());
    assert!(index.load("n").is_none_or(|load| load.asking.is_empty()));
}
