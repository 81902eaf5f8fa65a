//! A controller that is its own authority: Secrets over real HTTP, handshakes over real TLS.

use std::{fs, sync::Arc};

use cdmo_controller::certificates::{AGENT_SECRET, CONTROLLER_SECRET, WEBHOOK_SECRET};
use k8s_openapi::api::core::v1::Secret;
use mtls::TlsFiles;
use serde_json::{Value, json};
use simcluster::store::Kind;

use crate::{agent, cluster::Cluster};

const NAMESPACE: &str = "cdmo-operator";

/// As the chart makes them.
fn empty_secrets(cluster: &Cluster) {
    for name in [CONTROLLER_SECRET, AGENT_SECRET] {
        let secret = json!({"metadata": {"name": name, "labels": {"a": "chart"}}});
        cluster
            .store
            .create(Kind::Secret, NAMESPACE, secret)
            .unwrap();
    }
}

fn has_data(name: &str) -> impl Fn(&Value) -> bool {
    move |secret| secret["metadata"]["name"] == name && secret["data"]["tls.key"].is_string()
}

async fn filled(cluster: &Cluster, name: &str) -> Arc<Value> {
    cluster.until(Kind::Secret, name, has_data(name)).await
}

/// What a kubelet does with the Secret in an agent's pod.
fn mount(cluster: &Cluster, secret: &Value) -> TlsFiles {
    let secret: Secret = serde_json::from_value(secret.clone()).unwrap();
    let dir = cluster.dir.path().join("mounted");
    fs::create_dir_all(&dir).unwrap();
    for (key, bytes) in secret.data.unwrap() {
        fs::write(dir.join(key), bytes.0).unwrap();
    }
    TlsFiles {
        ca: dir.join("ca.crt"),
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
    }
}

#[tokio::test]
async fn an_agent_with_the_mounted_secret_is_served_by_a_controller_that_made_it() {
    let cluster = Cluster::start().await;
    empty_secrets(&cluster);
    cluster.node("a");
    let controller = cluster.self_certified("one");
    let secret = filled(&cluster, AGENT_SECRET).await;
    assert_eq!(secret["metadata"]["labels"]["a"], "chart");
    let address = agent::start(mount(&cluster, &secret), cluster.shutdown.clone()).await;
    cluster.agent("a", address);
    cluster.pod("pod", "nvidia.com/mig-3g.20gb");
    let planned = |pod: &Value| pod["metadata"]["annotations"]["cdmo.clear.ml/plan"].is_string();
    cluster.until(Kind::Pod, "annotated pod", planned).await;
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

#[tokio::test]
async fn two_controllers_that_start_at_once_agree_on_one_authority() {
    let cluster = Cluster::start().await;
    empty_secrets(&cluster);
    let controllers = ["one", "two"].map(|name| cluster.self_certified(name));
    let own = filled(&cluster, CONTROLLER_SECRET).await;
    let agents = filled(&cluster, AGENT_SECRET).await;
    // A Lease is taken after a controller has its certificates; the second takes epoch 2.
    let both = |lease: &Value| lease["metadata"]["annotations"]["cdmo.clear.ml/epoch"] == "2";
    cluster.until(Kind::Lease, "second epoch", both).await;
    let bundles = ["one", "two"].map(|name| fs::read(cluster.own_files(name).ca).unwrap());
    assert_eq!(bundles[0], bundles[1]);
    let now = |name| cluster.store.find(Kind::Secret, NAMESPACE, name).unwrap();
    assert_eq!(now(CONTROLLER_SECRET)["data"], own["data"]);
    assert_eq!(now(AGENT_SECRET)["data"], agents["data"]);
    assert_eq!(own["data"]["ca.crt"], agents["data"]["ca.crt"]);
    cluster.shutdown.cancel();
    for controller in controllers {
        // Whoever took its epoch first was superseded, which is no matter here.
        let _ = controller.await.unwrap();
    }
}

#[tokio::test]
async fn a_wiped_secret_is_filled_again_while_the_controller_runs() {
    let cluster = Cluster::start().await;
    empty_secrets(&cluster);
    let controller = cluster.self_certified("one");
    filled(&cluster, AGENT_SECRET).await;
    let before = filled(&cluster, CONTROLLER_SECRET).await;
    cluster.until(Kind::Lease, "lease", |_| true).await;
    let wipe = |secret: &mut Value| secret["data"] = json!({});
    cluster
        .store
        .modify(Kind::Secret, NAMESPACE, AGENT_SECRET, wipe)
        .unwrap();
    let again = filled(&cluster, AGENT_SECRET).await;
    assert_eq!(again["data"]["ca.crt"], before["data"]["ca.crt"]);
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

/// As the chart makes it: it trusts nobody yet.
fn webhook_configuration(cluster: &Cluster) {
    let secret = json!({"metadata": {"name": WEBHOOK_SECRET}});
    cluster
        .store
        .create(Kind::Secret, NAMESPACE, secret)
        .unwrap();
    let service = json!({"name": "cdmo-webhook", "namespace": NAMESPACE, "path": "/mutate"});
    let configuration = json!({
        "metadata": {"name": "cdmo-webhook"},
        "webhooks": [{
            "name": "fractions.cdmo.clear.ml", "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"service": service},
        }],
    });
    let kind = Kind::MutatingWebhookConfiguration;
    cluster.store.create(kind, "", configuration).unwrap();
}

fn trusts(bundle: &Value) -> impl Fn(&Value) -> bool {
    move |found| found["webhooks"][0]["clientConfig"]["caBundle"] == *bundle
}

#[tokio::test]
async fn api_servers_trust_the_webhook_whatever_becomes_of_its_configuration() {
    let cluster = Cluster::start().await;
    empty_secrets(&cluster);
    webhook_configuration(&cluster);
    let controller = cluster.self_certified_with("one", &["--webhook-configuration=cdmo-webhook"]);
    let secret = filled(&cluster, WEBHOOK_SECRET).await;
    let bundle = secret["data"]["ca.crt"].clone();
    let kind = Kind::MutatingWebhookConfiguration;
    let found = cluster.until(kind, "trust", trusts(&bundle)).await;
    let client = &found["webhooks"][0]["clientConfig"];
    assert_eq!(client["service"]["name"], "cdmo-webhook", "{found}");
    let authorities = cluster
        .until(Kind::Secret, "agents", has_data(AGENT_SECRET))
        .await;
    assert_eq!(authorities["data"]["ca.crt"], bundle);
    // Somebody takes it out; it is removed and made again.
    let wipe = |found: &mut Value| {
        found["webhooks"][0]["clientConfig"]["caBundle"] = json!("bm9ib2R5");
    };
    cluster
        .store
        .modify(kind, "", "cdmo-webhook", wipe)
        .unwrap();
    cluster.until(kind, "trust again", trusts(&bundle)).await;
    let options = simcluster::store::DeleteOptions::default();
    cluster
        .store
        .delete(kind, "", "cdmo-webhook", &options)
        .unwrap();
    let again = json!({
        "metadata": {"name": "cdmo-webhook"},
        "webhooks": [{
            "name": "fractions.cdmo.clear.ml", "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"service": {"name": "cdmo-webhook", "namespace": NAMESPACE}},
        }],
    });
    cluster.store.create(kind, "", again).unwrap();
    cluster
        .until(kind, "trust in the new one", trusts(&bundle))
        .await;
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

#[tokio::test]
async fn agents_are_served_while_the_webhooks_secret_is_missing_and_it_is_filled_when_it_is_there()
{
    let cluster = Cluster::start().await;
    empty_secrets(&cluster);
    let controller = cluster.self_certified_with("one", &["--webhook-configuration=cdmo-webhook"]);
    let agents = filled(&cluster, AGENT_SECRET).await;
    cluster.until(Kind::Lease, "lease", |_| true).await;
    webhook_configuration(&cluster);
    let webhook = filled(&cluster, WEBHOOK_SECRET).await;
    assert_eq!(webhook["data"]["ca.crt"], agents["data"]["ca.crt"]);
    let kind = Kind::MutatingWebhookConfiguration;
    let bundle = &agents["data"]["ca.crt"];
    cluster.until(kind, "trust", trusts(bundle)).await;
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_secret_that_the_chart_did_not_make_is_named() {
    let cluster = Cluster::start().await;
    let error = cluster.self_certified("one").await.unwrap().unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("cdmo-operator/cdmo-controller-tls"),
        "{words}"
    );
    assert!(words.contains("helm upgrade"), "{words}");
}
