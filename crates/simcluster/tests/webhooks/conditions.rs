//! Match conditions, through the API: which requests get past them, and what becomes of those that
//! cannot be judged.

use serde_json::{Value, json};
use simcluster::cluster::Behaviour;

use crate::hook::Hook;
use crate::support::{Api, DEPLOYMENTS, PODS, deployment, pod};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// Containers of pods, of templates, and of the templates of templates.
const FRACTIONS: &str = "\
    (has(object.spec.template) ? object.spec.template.spec.containers : object.spec.containers)\
    .exists(c, has(c.resources) && has(c.resources.limits) && \
    c.resources.limits.exists(name, name.startsWith('clear.ml/fraction')))";

/// A webhook with such conditions.
fn with(hook: &Hook, expressions: &[&str], more: &Value) -> Value {
    let all = expressions.iter().zip(0..).map(
        |(expression, number)| json!({ "name": format!("c{number}"), "expression": expression }),
    );
    let mut entry = hook.entry("h.x.y", more);
    entry["matchConditions"] = all.collect();
    entry
}

#[tokio::test]
async fn only_what_every_condition_holds_for_is_shown() {
    let api = Api::behaving(Behaviour::V1_28);
    let hook = Hook::patching(json!([
        { "op": "remove", "path": "/spec/containers/0/resources" },
    ]))
    .await;
    let conditions = [FRACTIONS, "request.namespace != 'kube-system'"];
    api.hooks("h", &[with(&hook, &conditions, &json!({}))]);
    api.post(PODS, &pod("plain", &json!({ "cpu": 1 })))
        .await
        .made();
    assert!(hook.requests().is_empty(), "no fraction");
    let half = pod("half", &json!({ "clear.ml/fraction-1": "0.5" }));
    api.post(PODS, &half).await.made();
    assert_eq!(hook.requests().len(), 1);
    let elsewhere = PODS.replace("default", "kube-system");
    api.post(&elsewhere, &half).await.refused(422);
    assert_eq!(
        hook.requests().len(),
        1,
        "the second condition is false there"
    );
}

#[tokio::test]
async fn a_template_can_be_asked_for() {
    let api = Api::new();
    let hook = Hook::patching(json!([
        { "op": "remove", "path": "/spec/template/spec/containers/0/resources" },
    ]))
    .await;
    let rule = json!({
        "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"],
    });
    api.hooks(
        "h",
        &[with(&hook, &[FRACTIONS], &json!({ "rules": [rule] }))],
    );
    let plain = deployment("plain", &json!({}));
    api.post(DEPLOYMENTS, &plain).await.made();
    let half = deployment("half", &json!({ "clear.ml/fraction": "500m" }));
    api.post(DEPLOYMENTS, &half).await.made();
    let seen = hook.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["name"], "half");
}

#[tokio::test]
async fn the_state_before_is_there_in_an_update_only() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let changed = "oldObject != null && object.metadata.?labels.a != oldObject.metadata.?labels.a";
    api.hooks("h", &[with(&hook, &[changed], &json!({}))]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    let pod_path = format!("{PODS}/p");
    for (label, asked) in [("1", 1), ("1", 1), ("2", 2)] {
        let change = json!({ "metadata": { "labels": { "a": label, "b": label } } });
        api.patch(&pod_path, "merge-patch+json", &change)
            .await
            .done();
        assert_eq!(hook.requests().len(), asked, "{label}");
    }
}

#[tokio::test]
async fn an_error_in_a_condition_refuses_the_request_where_the_webhook_must_not_fail() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let wrong = "object.spec.nothing == 'a'";
    api.hooks("h", &[with(&hook, &[wrong], &json!({}))]);
    let refused = api.post(PODS, &pod("p", &json!({}))).await.refused(403);
    assert_eq!(
        refused,
        "pods \"p\" is forbidden: expression 'object.spec.nothing == 'a'' resulted in error: no \
         such key: nothing"
    );
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn an_error_in_a_condition_leaves_a_webhook_out_that_may_fail() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let ignore = json!({ "failurePolicy": "Ignore" });
    let wrong = "object.spec.nothing == 'a'";
    api.hooks("h", &[with(&hook, &[wrong], &ignore)]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn a_false_condition_outweighs_an_error() {
    let api = Api::new();
    let hook = Hook::patching(json!([])).await;
    let conditions = [
        "object.spec.nothing == 'a'",
        "request.operation == 'DELETE'",
    ];
    api.hooks("h", &[with(&hook, &conditions, &json!({}))]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn what_can_never_be_a_condition_is_refused_with_the_configuration() {
    let api = Api::behaving(Behaviour::V1_28);
    let hook = Hook::patching(json!([])).await;
    let mut entry = with(
        &hook,
        &[
            "object.spec.(",
            "objekt.a == 1",
            "object.metadata.name",
            " ",
            "true",
        ],
        &json!({}),
    );
    entry["matchConditions"][4]["name"] = "c0".into();
    let mut configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "bad" },
        "webhooks": [entry],
    });
    let refused = api.post(CONFIGURATIONS, &configuration).await.refused(422);
    for wanted in [
        "webhooks[0].matchConditions[0].expression: Invalid value: \"object.spec.(\": compilation \
         failed: ERROR: <input>:1:13",
        "webhooks[0].matchConditions[1].expression: Invalid value: \"objekt.a == 1\": compilation \
         failed: ERROR: <input>: undeclared reference to 'objekt'",
        "webhooks[0].matchConditions[2].expression: Invalid value: \"object.metadata.name\": must \
         evaluate to bool",
        "webhooks[0].matchConditions[3].expression: Required value",
        "webhooks[0].matchConditions[4].name: Duplicate value: \"c0\"",
    ] {
        assert!(refused.contains(wanted), "no {wanted:?} in {refused}");
    }
    let many = (0..65).map(|n| json!({ "name": format!("c{n}"), "expression": "true" }));
    configuration["webhooks"][0]["matchConditions"] = many.collect();
    let refused = api.post(CONFIGURATIONS, &configuration).await.refused(422);
    let wanted = "webhooks[0].matchConditions: Too many: 65: must have at most 64 items";
    assert!(refused.contains(wanted), "{refused}");
}

#[tokio::test]
async fn a_server_without_conditions_shows_everything() {
    let api = Api::behaving(Behaviour::V1_20);
    let hook = Hook::patching(json!([])).await;
    api.hooks("h", &[with(&hook, &["false"], &json!({}))]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    assert_eq!(hook.requests().len(), 1);
}
