//! Extended resources and the rest of validation, by the words that users see.

use serde_json::{Value, json};

use crate::store::{Kind, Status, Store};

fn pod(resources: &Value) -> Value {
    json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] },
    })
}

fn refused(object: Value) -> Status {
    Store::default()
        .create(Kind::Pod, "default", object)
        .unwrap_err()
}

#[test]
fn a_fraction_of_an_extended_resource_is_refused_in_limits_and_requests() {
    let status = refused(pod(&json!({"limits": {"clear.ml/fraction-1": "0.5"}})));
    assert_eq!((status.code, status.reason), (422, "Invalid"));
    assert_eq!(
        status.message,
        "Pod \"p\" is invalid: [spec.containers[0].resources.limits[clear.ml/fraction-1]: Invalid \
         value: \"500m\": must be an integer, spec.containers[0].resources.requests\
         [clear.ml/fraction-1]: Invalid value: \"500m\": must be an integer]"
    );
}

#[test]
fn a_request_for_an_extended_resource_must_equal_its_limit() {
    let both = json!({
        "limits": {"nvidia.com/mig-1g.5gb": 2}, "requests": {"nvidia.com/mig-1g.5gb": 1},
    });
    assert!(refused(pod(&both)).message.contains(
        "resources.requests: Invalid value: \"1\": must be equal to nvidia.com/mig-1g.5gb limit of 2"
    ));
    let request_only = json!({"requests": {"nvidia.com/mig-1g.5gb": 1}});
    assert!(
        refused(pod(&request_only))
            .message
            .contains("Limit must be set for non overcommitable resources")
    );
}

#[test]
fn a_limit_becomes_a_request_in_canonical_form() {
    let store = Store::default();
    let limits = json!({"limits": {"nvidia.com/mig-3g.20gb": 1, "memory": "1024Mi"}});
    let made = store.create(Kind::Pod, "default", pod(&limits)).unwrap();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources["requests"],
        json!({"nvidia.com/mig-3g.20gb": "1", "memory": "1Gi"})
    );
    assert_eq!(resources["requests"], resources["limits"]);
}

#[test]
fn resource_names_must_be_standard_or_qualified() {
    for (name, why) in [
        ("gpu", "must be a standard resource type or fully qualified"),
        ("nvidia.com/mig 3g", "name part must consist of"),
        ("-x/y", "prefix part"),
        ("nvidia.com/", "name part must be non-empty"),
    ] {
        let status = refused(pod(&json!({"limits": {name: "1"}})));
        assert!(status.message.contains(why), "{name}: {}", status.message);
    }
}

#[test]
fn an_amount_that_is_no_quantity_is_a_bad_request() {
    let status = refused(pod(&json!({"limits": {"cpu": "lots"}})));
    assert_eq!(status.code, 400);
    assert!(
        status.message.contains("quantities must match"),
        "{}",
        status.message
    );
}

#[test]
fn every_fault_of_a_pod_is_named_at_once() {
    let status = refused(json!({
        "metadata": { "name": "Bad_Name" },
        "spec": {
            "restartPolicy": "Sometimes",
            "containers": [{ "name": "c" }, { "name": "c", "image": "i" }],
        },
    }));
    for part in [
        "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain",
        "spec.containers[0].image: Required value",
        "spec.containers[1].name: Duplicate value: \"c\"",
        "spec.restartPolicy: Unsupported value: \"Sometimes\"",
    ] {
        assert!(
            status.message.contains(part),
            "{part} in {}",
            status.message
        );
    }
    let causes = status.details.unwrap()["causes"].as_array().unwrap().len();
    assert_eq!(causes, 4);
}

#[test]
fn a_pod_without_containers_or_name_is_refused() {
    let empty = refused(json!({"metadata": {"name": "p"}, "spec": {}}));
    assert!(
        empty.message.contains("spec.containers: Required value"),
        "{}",
        empty.message
    );
    let nameless = refused(json!({"spec": {}}));
    assert!(
        nameless
            .message
            .contains("name or generateName is required"),
        "{}",
        nameless.message
    );
}

#[test]
fn of_a_pods_spec_only_images_and_a_few_more_may_change() {
    let store = Store::default();
    let made = store.create(Kind::Pod, "default", pod(&json!({}))).unwrap();
    let mut allowed = Value::clone(&made);
    allowed["spec"]["containers"][0]["image"] = "j".into();
    allowed["spec"]["activeDeadlineSeconds"] = 5.into();
    allowed["spec"]["tolerations"]
        .as_array_mut()
        .unwrap()
        .push(json!({"operator": "Exists"}));
    allowed["metadata"]["labels"] = json!({"x": "y"});
    let made = store.update(Kind::Pod, "default", "p", allowed).unwrap();
    for (pointer, value) in [
        ("/spec/nodeName", json!("n")),
        ("/spec/containers/0/command", json!(["x"])),
        ("/spec/hostNetwork", json!(true)),
        ("/spec/tolerations", json!([])),
        ("/spec/schedulingGates", json!([{"name": "a.b/c"}])),
    ] {
        let mut forbidden = Value::clone(&made);
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        forbidden.pointer_mut(parent).unwrap()[member] = value;
        let status = store
            .update(Kind::Pod, "default", "p", forbidden)
            .unwrap_err();
        assert_eq!(status.code, 422, "{pointer}");
        assert!(
            status.message.contains("Forbidden"),
            "{pointer}: {}",
            status.message
        );
    }
}

#[test]
fn scheduling_gates_can_only_be_taken_away() {
    let store = Store::default();
    let mut gated = pod(&json!({}));
    gated["spec"]["schedulingGates"] = json!([{"name": "cdmo.clear.ml/plan"}]);
    store.create(Kind::Pod, "default", gated).unwrap();
    assert_eq!(store.bind("default", "p", "n").unwrap_err().code, 409);
    let mut open = Value::clone(&store.get(Kind::Pod, "default", "p").unwrap());
    open["spec"]["schedulingGates"] = json!([]);
    store.update(Kind::Pod, "default", "p", open).unwrap();
    store.bind("default", "p", "n").unwrap();
}

#[test]
fn a_nodes_extended_resources_are_whole_numbers() {
    let store = Store::default();
    let node =
        json!({"metadata": {"name": "n"}, "status": {"capacity": {"nvidia.com/gpu": "1.5"}}});
    assert!(
        store
            .create(Kind::Node, "", node)
            .unwrap_err()
            .message
            .contains("must be an integer")
    );
}
