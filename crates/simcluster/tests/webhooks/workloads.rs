//! Templates and the pods made from them, with the embedded controllers at work.

use std::time::Duration;

use serde_json::{Value, json};
use simcluster::store::{Kind, Store};
use simcluster::workloads;
use tokio_util::sync::CancellationToken;

use crate::hook::{Hook, allow};
use crate::support::{Api, DEPLOYMENTS, deployment};

const LIMITS: &str = "/spec/template/spec/containers/0/resources/limits";

/// Waits until the objects of a kind are so.
async fn until(store: &Store, kind: Kind, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let (_, mut watch) = store.list_and_watch(kind);
    let wait = async {
        loop {
            let (items, _) = store.list(kind, None);
            let items: Vec<Value> = items.iter().map(|item| Value::clone(item)).collect();
            if holds(&items) {
                return items;
            }
            watch.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_template_is_shown_without_requests_and_refused_with_its_fraction() {
    let api = Api::new();
    let object = deployment("d", &json!({ "clear.ml/fraction-1": "0.5" }));
    let refused = api.post(DEPLOYMENTS, &object).await.refused(422);
    assert_eq!(
        refused,
        "Deployment.apps \"d\" is invalid: spec.template.spec.containers[0].resources\
         .limits[clear.ml/fraction-1]: Invalid value: \"500m\": must be an integer"
    );
    let hook = Hook::start(&["127.0.0.1"], |_| {
        allow(&json!([
            { "op": "remove", "path": format!("{LIMITS}/clear.ml~1fraction-1") },
            { "op": "add", "path": format!("{LIMITS}/x.y~1half"), "value": "1" },
        ]))
    })
    .await;
    let rule = json!({
        "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"],
    });
    api.hooks("h", &[hook.entry("h.x.y", &json!({ "rules": [rule] }))]);
    let made = api.post(DEPLOYMENTS, &object).await.made();
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({ "x.y/half": "1" }));
    let seen = &hook.requests()[0];
    let shown = seen["object"].pointer("/spec/template/spec/containers/0/resources");
    assert_eq!(shown.unwrap()["limits"]["clear.ml/fraction-1"], "500m");
    assert!(shown.unwrap().get("requests").is_none());
    assert_eq!(seen["resource"]["group"], "apps");
}

#[tokio::test]
async fn pods_that_controllers_make_come_by_the_webhook() {
    let api = Api::new();
    let hook = Hook::patching(json!([
        { "op": "add", "path": "/metadata/annotations", "value": { "seen": "yes" } },
    ]))
    .await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let stop = CancellationToken::new();
    tokio::spawn(workloads::run(api.store.clone(), stop.clone()));
    api.post(DEPLOYMENTS, &deployment("d", &json!({})))
        .await
        .made();
    let pods = until(&api.store, Kind::Pod, |pods| pods.len() == 2).await;
    for pod in pods {
        assert_eq!(pod["metadata"]["annotations"]["seen"], "yes");
    }
    let user = &hook.requests()[0]["userInfo"]["username"];
    assert_eq!(
        user,
        "system:serviceaccount:kube-system:replicaset-controller"
    );
    stop.cancel();
}

#[tokio::test]
async fn pods_of_daemon_sets_come_by_the_webhook() {
    let api = Api::new();
    let hook = Hook::patching(json!([
        { "op": "add", "path": "/metadata/annotations", "value": { "seen": "yes" } },
    ]))
    .await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let stop = CancellationToken::new();
    tokio::spawn(simcluster::daemonset::run(api.store.clone(), stop.clone()));
    let node = json!({ "metadata": { "name": "n" } });
    api.store.create(Kind::Node, "", node).unwrap();
    let template = deployment("s", &json!({}))["spec"]["template"].clone();
    let set = json!({
        "metadata": { "name": "s" },
        "spec": { "selector": { "matchLabels": { "app": "s" } }, "template": template },
    });
    api.store.create(Kind::DaemonSet, "default", set).unwrap();
    let pods = until(&api.store, Kind::Pod, |pods| pods.len() == 1).await;
    assert_eq!(pods[0]["metadata"]["annotations"]["seen"], "yes");
    stop.cancel();
}

#[tokio::test]
async fn a_controller_tries_again_until_the_webhook_lets_its_pods_through() {
    let api = Api::new();
    let denials = std::sync::atomic::AtomicUsize::new(0);
    let hook = Hook::start(&["127.0.0.1"], move |_| {
        let asked = denials.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        json!({ "allowed": asked >= 2 })
    })
    .await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let stop = CancellationToken::new();
    tokio::spawn(workloads::run(api.store.clone(), stop.clone()));
    api.post(DEPLOYMENTS, &deployment("d", &json!({})))
        .await
        .made();
    until(&api.store, Kind::Pod, |pods| pods.len() == 2).await;
    let events = until(&api.store, Kind::Event, |events| {
        events.iter().any(|event| event["reason"] == "FailedCreate")
    })
    .await;
    let failed = events
        .iter()
        .find(|event| event["reason"] == "FailedCreate");
    let message = failed.unwrap()["message"].as_str().unwrap();
    let wanted = "Error creating: admission webhook \"h.x.y\" denied the request";
    assert!(message.starts_with(wanted), "{message}");
    stop.cancel();
}
