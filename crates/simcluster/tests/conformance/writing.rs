//! Create, replace, the patch types, subresources, deletion.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Node, ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{
    DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, ValidationDirective,
};
use kube::runtime::events::{Event as NewEvent, EventType, Recorder, Reporter};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::{Server, code, pod};

async fn with_pod() -> (Server, Api<Pod>) {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    pods.create(&PostParams::default(), &pod("a"))
        .await
        .unwrap();
    (server, pods)
}

async fn node(server: &Server) -> Api<Node> {
    let nodes: Api<Node> = Api::all(server.client.clone());
    let node = json!({
        "metadata": { "name": "n" },
        "status": { "capacity": { "cpu": "4" }, "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    let node = serde_json::from_value(node).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    nodes
}

#[tokio::test]
async fn an_outdated_replace_is_a_409_and_a_fresh_one_is_not() {
    let (_server, pods) = with_pod().await;
    let mut first = pods.get("a").await.unwrap();
    let mut second = first.clone();
    first.labels_mut().insert("x".into(), "1".into());
    pods.replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    second.labels_mut().insert("x".into(), "2".into());
    assert_eq!(
        code(pods.replace("a", &PostParams::default(), &second).await),
        409
    );
    assert_eq!(
        code(pods.create(&PostParams::default(), &pod("a")).await),
        409
    );
}

#[tokio::test]
async fn every_patch_type_that_kube_sends_is_understood() {
    let (_server, pods) = with_pod().await;
    let params = PatchParams::default();
    let merge = json!({ "metadata": { "labels": { "merge": "1" } } });
    pods.patch("a", &params, &Patch::Merge(&merge))
        .await
        .unwrap();
    let strategic = json!({ "spec": { "containers": [{ "name": "main", "image": "new" }] } });
    pods.patch("a", &params, &Patch::Strategic(&strategic))
        .await
        .unwrap();
    let operations: json_patch::Patch =
        serde_json::from_value(json!([{ "op": "remove", "path": "/metadata/labels/merge" }]))
            .unwrap();
    pods.patch("a", &params, &Patch::<()>::Json(operations))
        .await
        .unwrap();
    let apply = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "labels": { "apply": "1" } },
    });
    let me = PatchParams::apply("me");
    let patched = pods.patch("a", &me, &Patch::Apply(&apply)).await.unwrap();
    assert_eq!(
        patched.labels(),
        &BTreeMap::from([("apply".to_owned(), "1".to_owned())])
    );
    let container = &patched.spec.unwrap().containers[0];
    assert_eq!(
        (container.name.as_str(), container.image.as_deref()),
        ("main", Some("new"))
    );
}

#[tokio::test]
async fn apply_creates_what_is_missing_and_respects_other_managers() {
    let server = Server::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client.clone());
    let config = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "c" }, "data": { "k": value },
        })
    };
    let one = PatchParams::apply("one");
    let made = maps
        .patch("c", &one, &Patch::Apply(&config("1")))
        .await
        .unwrap();
    assert_eq!(made.managed_fields()[0].manager.as_deref(), Some("one"));
    let two = PatchParams::apply("two");
    let other = maps.patch("c", &two, &Patch::Apply(&config("2"))).await;
    assert_eq!(code(other), 409);
    let forced = maps
        .patch("c", &two.force(), &Patch::Apply(&config("2")))
        .await
        .unwrap();
    assert_eq!(forced.data.unwrap()["k"], "2");
    assert_eq!(
        code(
            maps.patch("c", &PatchParams::default(), &Patch::Apply(&config("2")))
                .await
        ),
        422
    );
}

#[tokio::test]
async fn a_patch_that_names_a_version_is_refused_once_it_is_outdated() {
    let server = Server::start().await;
    let nodes = node(&server).await;
    let version = nodes.get("n").await.unwrap().resource_version().unwrap();
    let patch = |cpu: &str| {
        Patch::Merge(json!({
            "metadata": { "resourceVersion": version },
            "status": { "capacity": { "cpu": cpu } },
        }))
    };
    let params = PatchParams::default();
    nodes.patch_status("n", &params, &patch("5")).await.unwrap();
    assert_eq!(
        code(nodes.patch_status("n", &params, &patch("6")).await),
        409
    );
}

#[tokio::test]
async fn status_is_patched_only_through_its_subresource() {
    let server = Server::start().await;
    let nodes = node(&server).await;
    let patch = json!({
        "status": { "capacity": { "nvidia.com/mig-1g.5gb": "2" } },
        "spec": { "unschedulable": true },
    });
    let params = PatchParams::default();
    let main = nodes
        .patch("n", &params, &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(main.status.unwrap().capacity.unwrap().len(), 1);
    assert_eq!(main.spec.unwrap().unschedulable, Some(true));
    nodes.uncordon("n").await.unwrap();
    let status = nodes
        .patch_status("n", &params, &Patch::Strategic(&patch))
        .await
        .unwrap();
    assert_eq!(
        status.status.unwrap().capacity.unwrap()["nvidia.com/mig-1g.5gb"].0,
        "2"
    );
    assert_ne!(status.spec.unwrap().unschedulable, Some(true));
}

#[tokio::test]
async fn a_pod_is_bound_and_evicted_through_its_subresources() {
    let (server, pods) = with_pod().await;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": "a" }, "target": { "apiVersion": "v1", "kind": "Node", "name": "n" },
    });
    let bind = || async {
        let request = http::Request::post("/api/v1/namespaces/default/pods/a/binding")
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&binding).unwrap())
            .unwrap();
        server.client.request::<Value>(request).await
    };
    assert_eq!(bind().await.unwrap()["status"], "Success");
    assert_eq!(
        pods.get("a")
            .await
            .unwrap()
            .spec
            .unwrap()
            .node_name
            .as_deref(),
        Some("n")
    );
    assert_eq!(code(bind().await), 409);
    pods.evict("a", &EvictParams::default()).await.unwrap();
    assert!(
        pods.get("a")
            .await
            .unwrap()
            .meta()
            .deletion_timestamp
            .is_some()
    );
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("a", &at_once).await.unwrap();
    assert!(pods.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let (_server, pods) = with_pod().await;
    let mut labelled = pod("b");
    labelled.labels_mut().insert("x".into(), "y".into());
    pods.create(&PostParams::default(), &labelled)
        .await
        .unwrap();
    let chosen = ListParams::default().labels("x=y");
    pods.delete_collection(&DeleteParams::default(), &chosen)
        .await
        .unwrap();
    let left = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["a"]
    );
}

#[tokio::test]
async fn an_event_of_kubes_recorder_has_both_faces_and_counts_up() {
    let (server, pods) = with_pod().await;
    let about: ObjectReference = pods.get("a").await.unwrap().object_ref(&());
    let reporter = Reporter {
        controller: "tester".into(),
        instance: None,
    };
    let recorder = Recorder::new(server.client.clone(), reporter);
    let event = NewEvent {
        type_: EventType::Normal,
        reason: "SliceReady".into(),
        note: Some("made".into()),
        action: "Plan".into(),
        secondary: None,
    };
    recorder.publish(&event, &about).await.unwrap();
    recorder.publish(&event, &about).await.unwrap();
    let new: Api<Event> = Api::default_namespaced(server.client.clone());
    let new = new.list(&ListParams::default()).await.unwrap();
    assert_eq!(new.items.len(), 1);
    assert_eq!(new.items[0].note.as_deref(), Some("made"));
    assert_eq!(new.items[0].series.as_ref().unwrap().count, 2);
    let core: Api<CoreEvent> = Api::default_namespaced(server.client.clone());
    let chosen = ListParams::default().fields("involvedObject.name=a,type=Normal");
    let core = core.list(&chosen).await.unwrap();
    assert_eq!(core.items[0].message.as_deref(), Some("made"));
    assert_eq!(core.items[0].involved_object.name.as_deref(), Some("a"));
    assert_eq!(core.items[0].reporting_component.as_deref(), Some("tester"));
}

#[tokio::test]
async fn a_lease_changes_hands_only_with_its_version() {
    let server = Server::start().await;
    let leases: Api<Lease> = Api::namespaced(server.client.clone(), "kube-system");
    let lease = json!({
        "metadata": { "name": "l" },
        "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15,
                  "renewTime": "2026-01-01T00:00:00.000000Z" },
    });
    let lease: Lease = serde_json::from_value(lease).unwrap();
    let mut mine = leases.create(&PostParams::default(), &lease).await.unwrap();
    let mut theirs = mine.clone();
    theirs.spec.as_mut().unwrap().holder_identity = Some("b".into());
    leases
        .replace("l", &PostParams::default(), &theirs)
        .await
        .unwrap();
    mine.spec.as_mut().unwrap().lease_transitions = Some(1);
    assert_eq!(
        code(leases.replace("l", &PostParams::default(), &mine).await),
        409
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_where_the_client_is_strict() {
    let (_server, pods) = with_pod().await;
    let patch = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": { "containres": [] },
    });
    let mut strict = PatchParams::apply("me");
    strict.field_validation = Some(ValidationDirective::Strict);
    assert_eq!(
        code(pods.patch("a", &strict, &Patch::Apply(&patch)).await),
        400
    );
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::apply("me")
    };
    pods.patch("a", &dry, &Patch::Apply(&patch)).await.unwrap();
}

async fn post(server: &Server, content_type: &str, body: &str) -> (u16, Value) {
    let path = "/api/v1/namespaces/default/pods";
    let request = http::Request::post(path)
        .header("content-type", content_type)
        .body(body.as_bytes().to_vec())
        .unwrap();
    match server.client.request::<Value>(request).await {
        Ok(made) => (201, made),
        Err(kube::Error::Api(status)) => (status.code, serde_json::to_value(&status).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn garbled_bodies_are_told_what_is_wrong() {
    let server = Server::start().await;
    for (body, wanted, why) in [
        ("{", 400, "couldn't parse"),
        ("[]", 400, "not a JSON object"),
        (
            r#"{"kind":"Node","apiVersion":"v1"}"#,
            400,
            "cannot be handled as a Pod",
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v2"}"#,
            400,
            "does not match the expected API version",
        ),
        (r#"{"metadata":5}"#, 400, "metadata"),
        (
            r#"{"metadata":{"name":5}}"#,
            400,
            "metadata.name: invalid type",
        ),
        (
            r#"{"metadata":{}}"#,
            422,
            "name or generateName is required",
        ),
        (r#"{"metadata":{"name":"a"},"spec":7}"#, 400, "spec"),
        (
            r#"{"metadata":{"name":"a"},"spec":{"containers":"x"}}"#,
            400,
            "spec.containers",
        ),
        (
            r#"{"metadata":{"name":"a","namespace":"b"},"spec":{}}"#,
            400,
            "namespace",
        ),
        (
            r#"{"metadata":{"name":"a"}}"#,
            422,
            "spec.containers: Required value",
        ),
    ] {
        let (code, answer) = post(&server, "application/json", body).await;
        let message = answer["message"].as_str().unwrap();
        assert_eq!(code, wanted, "{body}: {message}");
        assert!(message.contains(why), "{body}: {message}");
    }
    assert_eq!(
        post(&server, "application/vnd.kubernetes.protobuf", "k8s")
            .await
            .0,
        415
    );
    assert_eq!(post(&server, "text/plain", "{}").await.0, 415);
    let yaml = "metadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";
    assert_eq!(post(&server, "application/yaml", yaml).await.0, 201);
    assert_eq!(post(&server, "application/yaml", "a: [").await.0, 400);
    assert!(server.url.starts_with("http://127."));
}
