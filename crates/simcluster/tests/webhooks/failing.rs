//! Webhooks that say no, and webhooks that fail.

use serde_json::{Value, json};
use simcluster::cluster::Behaviour;

use crate::hook::{Hook, allow};
use crate::support::{Api, PODS, pod};

/// What a user reads whose pod meets that webhook, which must not fail.
async fn met(entry: &Value) -> String {
    let api = Api::new();
    api.hooks("h", std::slice::from_ref(entry));
    let refused = api.post(PODS, &pod("p", &json!({}))).await.refused(500);
    // If it may fail, nobody notices.
    let mut entry = entry.clone();
    entry["failurePolicy"] = "Ignore".into();
    let api = Api::new();
    api.hooks("h", &[entry]);
    api.post(PODS, &pod("p", &json!({}))).await.made();
    refused
}

async fn replying(reply: Value) -> (Hook, Value) {
    let hook = Hook::start(&["127.0.0.1"], move |_| reply.clone()).await;
    let entry = hook.entry("h.x.y", &json!({}));
    (hook, entry)
}

#[tokio::test]
async fn a_denial_has_the_webhooks_words_and_code() {
    let api = Api::new();
    let status = json!({ "code": 403, "reason": "Forbidden", "message": "1.3 is not allowed" });
    let (_hook, entry) = replying(json!({ "allowed": false, "status": status })).await;
    api.hooks("h", &[entry]);
    let answer = api.post(PODS, &pod("p", &json!({}))).await;
    assert_eq!(answer.body["reason"], "Forbidden");
    assert_eq!(
        answer.refused(403),
        "admission webhook \"h.x.y\" denied the request: 1.3 is not allowed"
    );
}

#[tokio::test]
async fn a_denial_counts_even_if_the_webhook_may_fail() {
    let api = Api::new();
    let (_hook, mut entry) = replying(json!({ "allowed": false })).await;
    entry["failurePolicy"] = "Ignore".into();
    api.hooks("h", &[entry]);
    let refused = api.post(PODS, &pod("p", &json!({}))).await.refused(400);
    assert!(
        refused.ends_with("denied the request without explanation"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_not_there_is_told_with_its_address() {
    let (hook, entry) = replying(json!({ "allowed": true })).await;
    let address = hook.address;
    drop(hook);
    // The port is free once the server's task has ended.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        met(&entry).await,
        format!(
            "Internal error occurred: failed calling webhook \"h.x.y\": failed to call webhook: \
             Post \"https://{address}/mutate?timeout=10s\": dial tcp {address}: connect: \
             connection refused"
        )
    );
}

#[tokio::test]
async fn old_servers_tell_a_failure_in_one_step() {
    let (_hook, mut entry) = replying(json!({ "code": 500 })).await;
    entry["timeoutSeconds"] = 5.into();
    let api = Api::behaving(Behaviour::V1_20);
    api.hooks("h", &[entry]);
    assert_eq!(
        api.post(PODS, &pod("p", &json!({}))).await.refused(500),
        "Internal error occurred: failed calling webhook \"h.x.y\": an error on the server \
         (\"broken\") has prevented the request from succeeding"
    );
}

#[tokio::test]
async fn a_webhook_with_a_strange_certificate_is_not_trusted() {
    let (_hook, mut entry) = replying(json!({ "allowed": true })).await;
    let (stranger, _) = replying(json!({})).await;
    entry["clientConfig"]["caBundle"] = stranger.ca();
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let told = met(&entry).await;
    assert!(told.ends_with(why), "{told}");
    entry["clientConfig"]["caBundle"] = Value::Null;
    let told = met(&entry).await;
    assert!(told.ends_with(why), "{told}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let hook = Hook::start(&["other.default.svc"], |_| json!({ "allowed": true })).await;
    let told = met(&hook.entry("h.x.y", &json!({}))).await;
    let why =
        "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs";
    assert!(told.ends_with(why), "{told}");
    let mut entry = hook.entry("h.x.y", &json!({}));
    entry["clientConfig"]["url"] = format!("https://localhost:{}/", hook.address.port()).into();
    let told = met(&entry).await;
    let why = "x509: certificate is valid for other.default.svc, not localhost";
    assert!(told.ends_with(why), "{told}");
}

#[tokio::test]
async fn a_webhook_that_never_answers_is_waited_for_as_long_as_it_says() {
    let (hook, mut entry) = replying(json!("never")).await;
    entry["timeoutSeconds"] = 1.into();
    let told = met(&entry).await;
    assert!(
        told.ends_with("/mutate?timeout=1s\": context deadline exceeded"),
        "{told}"
    );
    assert_eq!(hook.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_a_failure() {
    let (_hook, entry) = replying(json!({ "allowed": true, "uid": "x" })).await;
    let told = met(&entry).await;
    assert!(
        told.contains("received invalid webhook response: expected response.uid="),
        "{told}"
    );
    let (_hook, entry) = replying(json!({ "allowed": true, "patch": "W10=" })).await;
    let told = met(&entry).await;
    assert!(
        told.ends_with("webhook returned response.patch but not response.patchType"),
        "{told}"
    );
}

#[tokio::test]
async fn a_patch_that_does_not_fit_is_an_error_of_the_server() {
    let api = Api::new();
    let patch = json!([{ "op": "remove", "path": "/spec/nothing" }]);
    let (_hook, mut entry) = replying(allow(&patch)).await;
    entry["failurePolicy"] = "Ignore".into();
    api.hooks("h", &[entry]);
    let refused = api.post(PODS, &pod("p", &json!({}))).await.refused(500);
    assert!(
        refused.starts_with("Internal error occurred: "),
        "{refused}"
    );
}

#[tokio::test]
async fn what_a_webhook_makes_is_validated() {
    let api = Api::new();
    let limit = "/spec/containers/0/resources/limits/x.y~1z";
    let patch = json!([{ "op": "add", "path": limit, "value": "0.5" }]);
    let (_hook, entry) = replying(allow(&patch)).await;
    api.hooks("h", &[entry]);
    let refused = api
        .post(PODS, &pod("p", &json!({ "cpu": 1 })))
        .await
        .refused(422);
    assert!(
        refused.contains("limits[x.y/z]: Invalid value: \"500m\": must be an integer"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_connection_that_the_webhook_closed_is_made_anew() {
    let api = Api::new();
    let (hook, entry) = replying(json!({ "allowed": true, "close": true })).await;
    api.hooks("h", &[entry]);
    for name in ["a", "b"] {
        api.post(PODS, &pod(name, &json!({}))).await.made();
    }
    assert_eq!((hook.connections(), hook.requests().len()), (2, 2));
}
