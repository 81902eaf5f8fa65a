//! Whom webhooks are asked about, and where they are found.

use serde_json::{Value, json};
use simcluster::cluster::Behaviour;
use simcluster::store::{Kind, WriteOptions};

use crate::hook::Hook;
use crate::support::{Api, DEPLOYMENTS, PODS, deployment, pod};

/// A service `hooks` and the ready pod behind it, which has that address.
fn behind_service(api: &Api, address: std::net::SocketAddr) {
    let service = json!({
        "metadata": { "name": "hooks" },
        "spec": {
            "selector": { "app": "hooks" },
            "ports": [{ "port": 443, "targetPort": "https" }],
        },
    });
    api.store.create(Kind::Service, "default", service).unwrap();
    let port = json!({ "name": "https", "containerPort": address.port() });
    let mut server = pod("server", &json!({}));
    server["metadata"]["labels"] = json!({ "app": "hooks" });
    server["spec"]["containers"][0]["ports"] = json!([port]);
    api.store.create(Kind::Pod, "default", server).unwrap();
    let ready = |pod: &mut Value| {
        pod["status"]["podIP"] = address.ip().to_string().into();
        pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    };
    api.store
        .modify(Kind::Pod, "default", "server", ready)
        .unwrap();
}

/// A configuration without webhooks and name.
fn empty() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {},
    })
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_found_by_its_ready_pods() {
    let api = Api::new();
    let hook = Hook::start(&["hooks.default.svc"], |_| json!({ "allowed": true })).await;
    behind_service(&api, hook.address);
    let config = json!({
        "service": { "name": "hooks", "namespace": "default", "path": "/pods" },
        "caBundle": hook.ca(),
    });
    let mut entry = hook.entry("h.x.y", &json!({}));
    entry["clientConfig"] = config;
    api.hooks("h", &[entry]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    assert_eq!(hook.calls()[0].0, "/pods?timeout=10s");
    let away = |pod: &mut Value| pod["status"]["conditions"][0]["status"] = "False".into();
    api.store
        .modify(Kind::Pod, "default", "server", away)
        .unwrap();
    let refused = api.post(PODS, &pod("q", &json!({}))).await.refused(500);
    assert!(
        refused.ends_with(
            "Post \"https://hooks.default.svc:443/pods?timeout=10s\": no endpoints available for \
             service \"hooks\""
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn only_what_is_selected_is_shown() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let select = |name: &str| json!({ "matchLabels": { name: "yes" } });
    let more = json!({ "namespaceSelector": select("open"), "objectSelector": select("mine") });
    api.hooks("h", &[hook.entry("h.x.y", &more)]);
    let mut mine = pod("a", &json!({}));
    mine["metadata"]["labels"] = json!({ "mine": "yes" });
    api.post(PODS, &mine).await.made();
    assert!(hook.requests().is_empty(), "its namespace is not open");
    let open = |space: &mut Value| space["metadata"]["labels"]["open"] = "yes".into();
    api.store
        .modify(Kind::Namespace, "", "default", open)
        .unwrap();
    api.post(PODS, &pod("b", &json!({}))).await.made();
    assert!(hook.requests().is_empty(), "it is not mine");
    mine["metadata"]["name"] = "c".into();
    api.post(PODS, &mine).await.made();
    api.post(DEPLOYMENTS, &deployment("d", &json!({})))
        .await
        .made();
    assert_eq!(hook.requests().len(), 1);
}

#[tokio::test]
async fn a_status_is_shown_to_those_who_ask_for_it_by_name() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let rule = json!({
        "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods/status"],
    });
    api.hooks("h", &[hook.entry("h.x.y", &json!({ "rules": [rule] }))]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    let running = json!({ "status": { "phase": "Running" } });
    let path = format!("{PODS}/p/status");
    api.patch(&path, "merge-patch+json", &running).await.done();
    let [seen] = &hook.requests()[..] else {
        panic!("{:?}", hook.requests())
    };
    assert_eq!(seen["subResource"], "status");
    assert_eq!(seen["object"]["status"]["phase"], "Running");
}

#[tokio::test]
async fn webhooks_never_hear_of_webhooks() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let all = json!({
        "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"],
    });
    api.hooks("h", &[hook.entry("h.x.y", &json!({ "rules": [all] }))]);
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let mut none = empty();
    none["metadata"]["name"] = "other".into();
    api.post(path, &none).await.made();
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn the_store_itself_asks_nobody() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let options = WriteOptions::default();
    api.store
        .create_with(Kind::Pod, "default", pod("p", &json!({})), &options)
        .unwrap();
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn a_configuration_must_say_what_it_wants() {
    let api = Api::new();
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let mut bad = empty();
    bad["metadata"]["name"] = "bad".into();
    bad["webhooks"] = json!([{
        "name": "short", "clientConfig": {}, "timeoutSeconds": 31, "failurePolicy": "Maybe",
        "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"] }],
    }]);
    let refused = api.post(path, &bad).await.refused(422);
    for wanted in [
        "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three \
         segments separated by dots",
        "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and \
         30 seconds",
        "webhooks[0].failurePolicy: Unsupported value: \"Maybe\"",
        "webhooks[0].rules[0].resources: Required value",
        "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
    ] {
        assert!(refused.contains(wanted), "no {wanted:?} in {refused}");
    }
}

#[tokio::test]
async fn conditions_are_dropped_where_the_server_has_none() {
    for (behaviour, kept) in [(Behaviour::V1_20, false), (Behaviour::V1_28, true)] {
        let api = Api::behaving(behaviour);
        let hook = Hook::patching(json!([])).await;
        let conditions = json!({ "matchConditions": [{ "name": "c", "expression": "true" }] });
        api.hooks("h", &[hook.entry("h.x.y", &conditions)]);
        let kind = Kind::MutatingWebhookConfiguration;
        let stored = api.store.find(kind, "", "h").unwrap();
        let hook = &stored["webhooks"][0];
        assert_eq!(hook.get("matchConditions").is_some(), kept);
        assert_eq!(hook["timeoutSeconds"], 10);
        assert_eq!(hook["failurePolicy"], "Fail");
        assert_eq!(hook["rules"][0]["scope"], "*");
    }
}
