//! What holds for the store whatever the kind: versions, history, deletion, owners.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
}

fn with_pod() -> Store {
    let store = Store::default();
    store.create(Kind::Pod, "default", pod("a")).unwrap();
    store
}

fn label(store: &Store, value: &str) -> Arc<Value> {
    store
        .modify(Kind::Pod, "default", "a", |pod| {
            pod["metadata"]["labels"] = json!({ "x": value });
        })
        .unwrap()
}

fn current(store: &Store) -> Arc<Value> {
    store.find(Kind::Pod, "default", "a").unwrap()
}

#[tokio::test]
async fn a_watch_shows_every_change_after_its_version_in_order() {
    let store = Store::default();
    let (items, mut watch) = store.list_and_watch(Kind::Pod);
    assert!(items.is_empty());
    store.create(Kind::Pod, "default", pod("a")).unwrap();
    label(&store, "y");
    store
        .delete(Kind::Pod, "default", "a", &DeleteOptions::default())
        .unwrap();
    let mut last = 0;
    for wanted in [Change::Added, Change::Modified, Change::Deleted] {
        let event = watch.next().await.unwrap();
        assert_eq!(event.change, wanted);
        assert_eq!(object::version(&event.object), event.rv);
        assert!(event.rv > last);
        last = event.rv;
    }
}

#[tokio::test]
async fn a_watch_wakes_up_for_a_change_that_comes_later() {
    let store = Store::default();
    let (_, mut watch) = store.list_and_watch(Kind::Pod);
    let waiting = tokio::spawn(async move { watch.next().await.unwrap().change });
    tokio::task::yield_now().await;
    store.create(Kind::Pod, "default", pod("a")).unwrap();
    assert_eq!(waiting.await.unwrap(), Change::Added);
}

#[tokio::test]
async fn a_watch_that_fell_off_the_history_is_told_so() {
    let store = Store::new(&StoreOptions {
        history: 3,
        seed: None,
        ..StoreOptions::default()
    });
    let (_, mut watch) = store.list_and_watch(Kind::Pod);
    store.create(Kind::Pod, "default", pod("a")).unwrap();
    for value in ["1", "2", "3"] {
        label(&store, value);
    }
    let gone = watch.next().await.unwrap_err();
    assert!(gone.asked < gone.oldest);
    assert!(store.watch(Kind::Pod, gone.asked).is_err());
    assert!(store.watch(Kind::Pod, gone.oldest).is_ok());
}

#[test]
fn an_earlier_list_can_be_read_until_history_is_compacted() {
    let store = with_pod();
    let version = store.version();
    store.create(Kind::Pod, "default", pod("b")).unwrap();
    store
        .delete(Kind::Pod, "default", "a", &DeleteOptions::default())
        .unwrap();
    let before = store.list_at(Kind::Pod, Some("default"), version).unwrap();
    assert_eq!(
        before
            .iter()
            .map(|pod| object::name(pod))
            .collect::<Vec<_>>(),
        ["a"]
    );
    store.compact();
    assert!(store.list_at(Kind::Pod, Some("default"), version).is_err());
}

#[test]
fn a_write_from_an_outdated_copy_is_a_conflict_and_an_equal_one_is_no_write() {
    let store = with_pod();
    let old = current(&store);
    let new = label(&store, "1");
    let status = store
        .update(Kind::Pod, "default", "a", Value::clone(&old))
        .unwrap_err();
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    let same = store
        .update(Kind::Pod, "default", "a", Value::clone(&new))
        .unwrap();
    assert_eq!(object::version(&same), object::version(&new));
}

#[test]
fn generation_counts_changes_of_the_spec_only() {
    let store = with_pod();
    label(&store, "1");
    let status = |pod: &mut Value| pod["status"]["phase"] = "Running".into();
    store.modify(Kind::Pod, "default", "a", status).unwrap();
    assert_eq!(current(&store)["metadata"]["generation"], 1);
    let spec = |pod: &mut Value| pod["spec"]["activeDeadlineSeconds"] = 9.into();
    store.modify(Kind::Pod, "default", "a", spec).unwrap();
    assert_eq!(current(&store)["metadata"]["generation"], 2);
}

#[test]
fn status_and_spec_are_written_through_doors_of_their_own() {
    let store = with_pod();
    let mut both = Value::clone(&current(&store));
    both["status"]["phase"] = "Running".into();
    both["spec"]["activeDeadlineSeconds"] = 9.into();
    let after = store
        .update(Kind::Pod, "default", "a", both.clone())
        .unwrap();
    assert_eq!(after["status"]["phase"], "Pending");
    assert_eq!(after["spec"]["activeDeadlineSeconds"], 9);
    both["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"].clone();
    both["spec"]["activeDeadlineSeconds"] = 1.into();
    let after = store
        .update_status(Kind::Pod, "default", "a", both)
        .unwrap();
    assert_eq!(after["status"]["phase"], "Running");
    assert_eq!(after["spec"]["activeDeadlineSeconds"], 9);
}

#[test]
fn nobody_but_the_server_writes_system_metadata() {
    let store = with_pod();
    let old = current(&store);
    let mut forged = Value::clone(&old);
    for member in ["creationTimestamp", "deletionTimestamp"] {
        forged["metadata"][member] = "2020-01-01T00:00:00Z".into();
    }
    let after = store.update(Kind::Pod, "default", "a", forged).unwrap();
    assert_eq!(after["metadata"], old["metadata"]);
    let mut other = Value::clone(&old);
    other["metadata"]["uid"] = "other".into();
    assert_eq!(
        store
            .update(Kind::Pod, "default", "a", other)
            .unwrap_err()
            .code,
        409
    );
}

#[test]
fn generated_names_differ_and_the_same_seed_gives_the_same_ones() {
    let names = || {
        let store = Store::new(&StoreOptions {
            seed: Some(7),
            ..StoreOptions::default()
        });
        let mut template = pod("");
        template["metadata"]["generateName"] = "a-".into();
        let make = || {
            store
                .create(Kind::Pod, "default", template.clone())
                .unwrap()
        };
        [make(), make()].map(|pod| (object::name(&pod).to_owned(), object::uid(&pod).to_owned()))
    };
    let [first, second] = names();
    assert_ne!(first.0, second.0);
    assert!(
        first.0.starts_with("a-") && first.0.len() == 7,
        "{}",
        first.0
    );
    assert_eq!(names(), [first, second]);
}

#[test]
fn a_pod_on_a_node_waits_for_its_kubelet_and_any_other_is_gone_at_once() {
    let store = with_pod();
    store.bind("default", "a", "node").unwrap();
    let left = store
        .delete(Kind::Pod, "default", "a", &DeleteOptions::default())
        .unwrap();
    assert_eq!(left["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(object::is_deleting(&current(&store)));
    let shorter = DeleteOptions {
        grace_period_seconds: Some(5),
        ..DeleteOptions::default()
    };
    store.delete(Kind::Pod, "default", "a", &shorter).unwrap();
    assert_eq!(current(&store)["metadata"]["deletionGracePeriodSeconds"], 5);
    let longer = DeleteOptions {
        grace_period_seconds: Some(60),
        ..DeleteOptions::default()
    };
    store.delete(Kind::Pod, "default", "a", &longer).unwrap();
    assert_eq!(current(&store)["metadata"]["deletionGracePeriodSeconds"], 5);
    store
        .delete(Kind::Pod, "default", "a", &DeleteOptions::now())
        .unwrap();
    assert!(store.get(Kind::Pod, "default", "a").is_none());

    store.create(Kind::Pod, "default", pod("unbound")).unwrap();
    store
        .delete(Kind::Pod, "default", "unbound", &DeleteOptions::default())
        .unwrap();
    assert!(store.get(Kind::Pod, "default", "unbound").is_none());
}

#[test]
fn a_pod_is_bound_once_and_only_while_it_lives() {
    let store = with_pod();
    let bound = store.bind("default", "a", "one").unwrap();
    assert_eq!(bound["spec"]["nodeName"], "one");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let twice = store.bind("default", "a", "two").unwrap_err();
    assert!(
        twice.message.contains("already assigned to node \"one\""),
        "{twice}"
    );
    assert_eq!(store.bind("default", "none", "one").unwrap_err().code, 404);
}

#[test]
fn a_deletion_waits_for_finalizers_and_takes_no_new_ones() {
    let store = Store::default();
    let guarded = json!({ "metadata": { "name": "c", "finalizers": ["a.b/c"] } });
    store.create(Kind::ConfigMap, "default", guarded).unwrap();
    store
        .delete(Kind::ConfigMap, "default", "c", &DeleteOptions::default())
        .unwrap();
    let mut more = Value::clone(&store.find(Kind::ConfigMap, "default", "c").unwrap());
    more["metadata"]["finalizers"] = json!(["a.b/c", "d.e/f"]);
    assert_eq!(
        store
            .update(Kind::ConfigMap, "default", "c", more.clone())
            .unwrap_err()
            .code,
        422
    );
    more["metadata"]["finalizers"] = json!([]);
    store.update(Kind::ConfigMap, "default", "c", more).unwrap();
    assert!(store.get(Kind::ConfigMap, "default", "c").is_none());
}

#[test]
fn a_deletion_can_be_bound_to_one_object_and_one_version() {
    let store = with_pod();
    let other = |uid: Option<&str>, version: Option<&str>| DeleteOptions {
        uid: uid.map(str::to_owned),
        resource_version: version.map(str::to_owned),
        ..DeleteOptions::default()
    };
    for options in [other(Some("x"), None), other(None, Some("1"))] {
        let status = store
            .delete(Kind::Pod, "default", "a", &options)
            .unwrap_err();
        assert_eq!(status.code, 409);
    }
}

fn owned_by(owner: &Value, name: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
    }]);
    pod
}

#[test]
fn what_an_object_owns_goes_with_it_unless_it_is_orphaned() {
    let store = Store::default();
    for (propagation, left) in [(Propagation::Background, 0), (Propagation::Orphan, 1)] {
        let owner = json!({ "metadata": { "name": "owner" } });
        let owner = store.create(Kind::ConfigMap, "default", owner).unwrap();
        store
            .create(Kind::Pod, "default", owned_by(&owner, "child"))
            .unwrap();
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        store
            .delete(Kind::ConfigMap, "default", "owner", &options)
            .unwrap();
        assert_eq!(store.list(Kind::Pod, None).0.len(), left, "{propagation:?}");
        if left == 0 {
            // It came too late: its owner was gone already.
            store
                .create(Kind::Pod, "default", owned_by(&owner, "late"))
                .unwrap();
            assert!(store.get(Kind::Pod, "default", "late").is_none());
        }
    }
}

#[test]
fn a_namespace_takes_its_content_along_and_nothing_new_in() {
    let store = Store::default();
    let create = |kind, namespace: &str, object| store.create(kind, namespace, object);
    create(Kind::Namespace, "", json!({ "metadata": { "name": "ns" } })).unwrap();
    create(Kind::Pod, "ns", pod("a")).unwrap();
    create(
        Kind::ConfigMap,
        "ns",
        json!({ "metadata": { "name": "c" } }),
    )
    .unwrap();
    store.bind("ns", "a", "node").unwrap();
    store
        .delete(Kind::Namespace, "", "ns", &DeleteOptions::default())
        .unwrap();
    let namespace = store.find(Kind::Namespace, "", "ns").unwrap();
    assert_eq!(namespace["status"]["phase"], "Terminating");
    assert_eq!(create(Kind::Pod, "ns", pod("b")).unwrap_err().code, 403);
    store
        .delete(Kind::Pod, "ns", "a", &DeleteOptions::now())
        .unwrap();
    assert!(store.get(Kind::Namespace, "", "ns").is_none());
    assert_eq!(create(Kind::Pod, "ns", pod("b")).unwrap_err().code, 404);
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let store = with_pod();
    let version = store.version();
    let options = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    store
        .create_with(Kind::Pod, "default", pod("b"), &options)
        .unwrap();
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "x": "y" } } }));
    let key = Key::new(Kind::Pod, "default", "a");
    let patched = store
        .patch(&key, &patch, Subresource::None, &options)
        .unwrap();
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    let delete = DeleteOptions {
        dry_run: true,
        ..DeleteOptions::default()
    };
    store.delete(Kind::Pod, "default", "a", &delete).unwrap();
    assert_eq!(store.version(), version);
    assert_eq!(store.list(Kind::Pod, None).0.len(), 1);
}

#[test]
fn applying_the_same_again_is_no_write() {
    let store = Store::default();
    let options = WriteOptions {
        manager: "me".into(),
        ..WriteOptions::default()
    };
    let config = json!({ "metadata": { "name": "c" }, "data": { "a": "b" } });
    let key = Key::new(Kind::ConfigMap, "default", "c");
    let apply = || {
        store
            .patch(
                &key,
                &Patch::Apply(config.clone()),
                Subresource::None,
                &options,
            )
            .unwrap()
    };
    let first = apply();
    assert_eq!(first["metadata"]["managedFields"][0]["manager"], "me");
    assert_eq!(apply(), first);
    let anonymous = WriteOptions::default();
    let patch = Patch::Apply(config.clone());
    assert!(
        store
            .patch(&key, &patch, Subresource::None, &anonymous)
            .is_err()
    );
}

#[test]
fn priority_comes_from_the_class_and_an_unknown_class_is_refused() {
    let store = Store::default();
    let classed = |class: &str| {
        let mut pod = pod("p");
        pod["spec"]["priorityClassName"] = class.into();
        pod
    };
    let made = store
        .create(Kind::Pod, "default", classed("system-node-critical"))
        .unwrap();
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    assert_eq!(
        store
            .create(Kind::Pod, "default", classed("none"))
            .unwrap_err()
            .code,
        403
    );
}

#[tokio::test(start_paused = true)]
async fn the_stores_clock_follows_tokios() {
    let store = Store::default();
    let before = store.now();
    tokio::time::advance(std::time::Duration::from_mins(1)).await;
    assert_eq!(store.now().as_second() - before.as_second(), 60);
}

/// JSON out of the words that the server looks for, at the places where it does not expect them.
fn garbled() -> impl Strategy<Value = Value> {
    let word = || {
        prop::sample::select(vec![
            "metadata",
            "spec",
            "status",
            "labels",
            "annotations",
            "containers",
            "resources",
            "limits",
            "requests",
            "cpu",
            "nvidia.com/gpu",
            "tolerations",
            "ownerReferences",
            "finalizers",
            "managedFields",
            "fieldsV1",
            "manager",
            "name",
            "key",
            "env",
            "ports",
            "conditions",
            "volumes",
            "schedulingGates",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "capacity",
            "taints",
            "replace",
            "delete",
            "f:spec",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word(), inner, 0..5).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_however_garbled_brings_the_server_down(
        spec in garbled(), metadata in garbled(), status in garbled(),
    ) {
        let store = with_pod();
        let options = WriteOptions { manager: "m".into(), ..WriteOptions::default() };
        let body = json!({ "metadata": metadata, "spec": spec, "status": status });
        let mut named = body.clone();
        if named["metadata"].is_object() {
            named["metadata"]["name"] = "x".into();
        }
        for kind in Kind::ALL {
            let namespace = if kind.info().namespaced { "default" } else { "" };
            let _ = store.create(kind, namespace, named.clone());
        }
        let key = Key::new(Kind::Pod, "default", "a");
        for patch in [
            Patch::Merge(body.clone()),
            Patch::Strategic(body.clone()),
            Patch::Apply(body.clone()),
            Patch::Json(body.clone()),
        ] {
            for subresource in [Subresource::None, Subresource::Status] {
                let _ = store.patch(&key, &patch, subresource, &options);
            }
        }
        let _ = store.bind_with("default", "a", &body);
        prop_assert!(store.get(Kind::Pod, "default", "a").is_some());
    }
}
