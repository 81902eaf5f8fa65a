//! What a webhook sees, and what becomes of what it changes.

use serde_json::json;
use simcluster::cluster::Behaviour;

use crate::hook::{Hook, allow};
use crate::support::{Api, PODS, pod};

const FRACTION: &str = "/spec/containers/0/resources/limits/clear.ml~1fraction-1";

/// Turns a fraction into whole numbers, where there is one.
fn whole(request: &serde_json::Value) -> serde_json::Value {
    if request["object"].pointer(FRACTION).is_none() {
        return json!({ "allowed": true });
    }
    let requests = FRACTION.replace("limits", "requests");
    allow(&json!([
        { "op": "remove", "path": FRACTION },
        { "op": "remove", "path": requests },
        { "op": "add", "path": "/spec/containers/0/resources/limits/x.y~1half", "value": "1" },
    ]))
}

#[tokio::test]
async fn a_webhook_comes_between_defaulting_and_validation() {
    let api = Api::new();
    let fraction = json!({ "clear.ml/fraction-1": "0.5" });
    let refused = api.post(PODS, &pod("p", &fraction)).await.refused(422);
    let at = "spec.containers[0].resources";
    for list in ["limits", "requests"] {
        let wanted = format!(
            "{at}.{list}[clear.ml/fraction-1]: Invalid value: \"500m\": must be an integer"
        );
        assert!(refused.contains(&wanted), "{refused}");
    }
    let hook = Hook::start(&["127.0.0.1"], whole).await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let made = api.post(PODS, &pod("p", &fraction)).await.made();
    let resources = &made["spec"]["containers"][0]["resources"];
    // What the webhook adds as a limit is requested, too: the object is defaulted again.
    let half = json!({ "limits": { "x.y/half": "1" }, "requests": { "x.y/half": "1" } });
    assert_eq!(*resources, half);
    let seen = &hook.requests()[0]["object"];
    let shown = &seen["spec"]["containers"][0]["resources"];
    for list in ["limits", "requests"] {
        assert_eq!(shown[list]["clear.ml/fraction-1"], "500m");
    }
    assert!(seen["metadata"].get("uid").is_none(), "{seen}");
}

#[tokio::test]
async fn a_request_says_who_does_what_to_which_object() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({ "timeoutSeconds": 7 }))]);
    let mut object = pod("", &json!({}));
    object["metadata"] = json!({ "generateName": "p-" });
    let made = api
        .post(&format!("{PODS}?fieldManager=me"), &object)
        .await
        .made();
    let name = made["metadata"]["name"].as_str().unwrap();
    let path = format!("{PODS}/{name}");
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    api.patch(&path, "merge-patch+json", &label).await.done();
    let [create, update] = &hook.requests()[..] else {
        panic!("{:?}", hook.requests())
    };
    assert_eq!(create["operation"], "CREATE");
    assert_eq!(create.get("name"), None, "its name is yet to be generated");
    assert_eq!(create["namespace"], "default");
    let pods = json!({ "group": "", "version": "v1", "resource": "pods" });
    assert_eq!(
        (&create["resource"], &create["requestResource"]),
        (&pods, &pods)
    );
    assert_eq!(create["kind"]["kind"], "Pod");
    assert_eq!(create["oldObject"], json!(null));
    assert_eq!(create["dryRun"], false);
    assert_eq!(create["options"]["kind"], "CreateOptions");
    assert_eq!(create["options"]["fieldManager"], "me");
    assert_eq!(create["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(update["operation"], "UPDATE");
    assert_eq!(update["name"], name);
    assert!(update["oldObject"]["metadata"].get("labels").is_none());
    assert_eq!(update["object"]["metadata"]["labels"]["a"], "b");
    assert_ne!(create["uid"], update["uid"]);
    let (path, review) = &hook.calls()[0];
    assert_eq!(path, "/mutate?timeout=7s");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(hook.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn every_way_of_writing_comes_by_the_webhook() {
    let api = Api::new();
    let annotate = json!([{ "op": "add", "path": "/metadata/annotations", "value": { "h": "1" } }]);
    let hook = Hook::patching(annotate).await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let path = format!("{PODS}/p?fieldManager=me");
    let applied = api
        .patch(&path, "apply-patch+yaml", &pod("p", &json!({})))
        .await
        .made();
    assert_eq!(applied["metadata"]["annotations"]["h"], "1");
    let mut changed = pod("p", &json!({}));
    changed["metadata"]["labels"] = json!({ "a": "b" });
    let put = api.put(&format!("{PODS}/p"), &changed).await.done();
    assert_eq!(put["metadata"]["annotations"]["h"], "1");
    for kind in ["merge-patch+json", "strategic-merge-patch+json"] {
        let bare = json!({ "metadata": { "annotations": null } });
        let patched = api.patch(&format!("{PODS}/p"), kind, &bare).await.done();
        assert_eq!(patched["metadata"]["annotations"]["h"], "1", "{kind}");
    }
    assert_eq!(hook.requests().len(), 4);
}

#[tokio::test]
async fn a_dry_run_says_so_and_stores_nothing() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    let path = format!("{PODS}?dryRun=All");
    api.post(&path, &pod("p", &json!({}))).await.made();
    let request = &hook.requests()[0];
    assert_eq!(request["dryRun"], true);
    assert_eq!(request["options"]["dryRun"], json!(["All"]));
    assert!(
        api.store
            .list(simcluster::store::Kind::Pod, None)
            .0
            .is_empty()
    );
}

#[tokio::test]
async fn webhooks_are_asked_in_the_order_of_their_configurations() {
    let api = Api::new();
    let add = |name: &str| json!([{ "op": "add", "path": format!("/metadata/labels/{name}"), "value": "" }]);
    let (first, last) = (
        Hook::patching(add("first")).await,
        Hook::patching(add("last")).await,
    );
    let again = json!({ "reinvocationPolicy": "IfNeeded" });
    api.hooks("b", &[last.entry("l.x.y", &json!({}))]);
    api.hooks("a", &[first.entry("f.x.y", &again)]);
    let mut object = pod("p", &json!({}));
    object["metadata"]["labels"] = json!({ "a": "b" });
    let made = api.post(PODS, &object).await.made();
    let labels = json!({ "a": "b", "first": "", "last": "" });
    assert_eq!(made["metadata"]["labels"], labels);
    // The first wants to know what came after it; the last changed it, and nobody after it did.
    let seen = first.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1]["object"]["metadata"]["labels"], labels);
    assert_eq!(last.requests().len(), 1);
    assert!(
        last.requests()[0]["object"]["metadata"]["labels"]
            .get("first")
            .is_some()
    );
}

#[tokio::test]
async fn warnings_become_headers_whether_it_is_allowed_or_not() {
    let api = Api::new();
    let hook = Hook::start(&["127.0.0.1"], |request| {
        let allowed = request["name"] == "good";
        json!({ "allowed": allowed, "warnings": ["say \"please\"", "gr\u{fc}n"] })
    })
    .await;
    api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
    for (name, code) in [("good", 201), ("bad", 400)] {
        let answer = api.post(PODS, &pod(name, &json!({}))).await;
        assert_eq!(answer.code, code);
        assert_eq!(answer.warnings[0], "299 - \"say \\\"please\\\"\"");
        assert_eq!(answer.warnings.len(), 2);
    }
}

#[tokio::test]
async fn a_webhook_may_set_a_gate_where_the_server_has_gates() {
    for (behaviour, gated) in [(Behaviour::V1_20, false), (Behaviour::V1_28, true)] {
        let api = Api::behaving(behaviour);
        let gate = json!([{ "op": "add", "path": "/spec/schedulingGates", "value": [{ "name": "x.y/g" }] }]);
        let hook = Hook::patching(gate).await;
        api.hooks("h", &[hook.entry("h.x.y", &json!({}))]);
        let made = api.post(PODS, &pod("p", &json!({}))).await.made();
        assert_eq!(made["spec"].get("schedulingGates").is_some(), gated);
        let reason = made.pointer("/status/conditions/0/reason");
        assert_eq!(reason == Some(&json!("SchedulingGated")), gated, "{made}");
    }
}
