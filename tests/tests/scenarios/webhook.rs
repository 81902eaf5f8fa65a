//! What comes to the webhook, and what does not.

use scenarios::{Spec, System, Verdict, scenario};
use serde_json::{Value, json};
use simcluster::admission::Admission;
use simcluster::cluster::Behaviour;
use simcluster::store::{Key, Kind, Patch, Subresource, WriteOptions};
use testbed::{http, manifests};

const NAMESPACE: &str = "default";

/// A Deployment whose pods have these limits; the cluster's controllers write it and them again and
/// again.
fn deployment(name: &str, limits: &Value) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [
                    { "name": "main", "image": "any", "resources": { "limits": limits } },
                ]},
            },
        },
    })
}

/// How many requests the webhook has answered.
async fn answered(system: &System) -> anyhow::Result<f64> {
    let pod = system.own_pod(manifests::WEBHOOK, None);
    let pod = pod.ok_or_else(|| anyhow::anyhow!("no webhook"))?;
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    let page = http::get(address, manifests::WEBHOOK_HTTP, "/metrics").await?;
    Ok(http::metric(&page.1, "cdmo_webhook_requests_total", "").unwrap_or(0.0))
}

async fn requests_for(system: &System, limits: &Value) -> anyhow::Result<f64> {
    system.webhook_ready().await?;
    let made = deployment("serve", limits);
    system.store().create(Kind::Deployment, NAMESPACE, made)?;
    let both = async || {
        let (pods, _) = system.store().list(Kind::Pod, Some(NAMESPACE));
        (pods.len() == 2).then_some(())
    };
    system.until("there are two pods", both).await?;
    answered(system).await
}

/// Tells a story of what comes for these limits.
fn comes(behaviour: Behaviour, limits: &Value, wanted: impl Fn(f64) -> bool) -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").behaviour(behaviour);
    scenario(spec, async |system| {
        let requests = requests_for(system, limits).await?;
        anyhow::ensure!(wanted(requests), "{requests} requests came");
        Ok(())
    })
}

#[test]
fn what_asks_for_no_fraction_never_comes_where_the_api_server_can_tell() -> Verdict {
    let slices = json!({ "nvidia.com/mig-3g.20gb": "1", "cpu": "1" });
    comes(Behaviour::V1_33, &slices, |requests| requests == 0.0)
}

#[test]
fn pods_that_ask_for_slices_come_for_their_scheduling_gate_where_they_need_one() -> Verdict {
    let slices = json!({ "nvidia.com/mig-3g.20gb": "1" });
    comes(Behaviour::V1_28, &slices, |requests| requests > 0.0)
}

#[test]
fn pods_without_slices_do_not_come_even_there() -> Verdict {
    let plain = json!({ "cpu": "1" });
    comes(Behaviour::V1_28, &plain, |requests| requests == 0.0)
}

#[test]
fn everything_in_a_labelled_namespace_comes_where_the_api_server_cannot_tell() -> Verdict {
    let plain = json!({ "cpu": "1" });
    comes(Behaviour::V1_20, &plain, |requests| requests >= 2.0)
}

fn pod(name: &str, limits: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [
            { "name": "main", "image": "any", "resources": { "limits": limits } },
        ]},
    })
}

/// Sends a pod past the webhooks.
async fn create(system: &System, pod: Value) -> anyhow::Result<Value> {
    let admission = Admission::new(system.store().clone());
    let (options, mut warnings) = (WriteOptions::default(), Vec::new());
    let made = admission.create(Kind::Pod, NAMESPACE, pod, &options, &mut warnings);
    Ok((*made.await?).clone())
}

async fn patch(system: &System, name: &str, patch: Value) -> anyhow::Result<Value> {
    let admission = Admission::new(system.store().clone());
    let key = Key::new(Kind::Pod, NAMESPACE, name);
    let patch = Patch::Strategic(patch);
    let (options, mut warnings) = (WriteOptions::default(), Vec::new());
    let none = Subresource::None;
    let made = admission.patch(&key, &patch, none, &options, &mut warnings);
    Ok((*made.await?).clone())
}

/// With the failure policy Fail for fractions, API servers reach no webhook any more.
fn webhook_goes_away(system: &System) -> anyhow::Result<()> {
    let kind = Kind::MutatingWebhookConfiguration;
    system
        .store()
        .modify(kind, "", manifests::WEBHOOK, |found| {
            found["webhooks"][0]["failurePolicy"] = json!("Fail");
            for webhook in found["webhooks"].as_array_mut().into_iter().flatten() {
                webhook["clientConfig"]["service"]["name"] = json!("away");
            }
        })?;
    Ok(())
}

#[test]
fn pods_that_exist_are_changed_without_the_webhook_unless_what_they_ask_for_changes() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_28);
    scenario(spec, async |system| {
        system.webhook_ready().await?;
        let mut made = pod("half", &json!({ "clear.ml/fraction-1": "0.5" }));
        made["metadata"]["finalizers"] = json!(["example.com/counted"]);
        // Nobody lets it go, so that only we change it.
        made["spec"]["schedulingGates"] = json!([{ "name": "example.com/theirs" }]);
        let made = create(system, made).await?;
        anyhow::ensure!(made["metadata"]["annotations"]["cdmo.clear.ml/fractions"].is_string());
        webhook_goes_away(system)?;
        patch(
            system,
            "half",
            json!({ "metadata": { "annotations": { "a": "b" } } }),
        )
        .await?;
        let gates = json!([{ "$patch": "delete", "name": "example.com/theirs" }]);
        patch(
            system,
            "half",
            json!({ "spec": { "schedulingGates": gates } }),
        )
        .await?;
        let finalizers = json!({ "$deleteFromPrimitiveList/finalizers": ["example.com/counted"] });
        patch(system, "half", json!({ "metadata": finalizers })).await?;
        let label = json!({ "clearml-injector/fraction": "0.25" });
        let refused = patch(system, "half", json!({ "metadata": { "labels": label } })).await;
        anyhow::ensure!(refused.is_err(), "a label of ours passed the webhook by");
        let image = json!([{ "name": "main", "image": "other" }]);
        let refused = patch(system, "half", json!({ "spec": { "containers": image } })).await;
        anyhow::ensure!(refused.is_err(), "a container passed the webhook by");
        Ok(())
    })
}

#[test]
fn pods_that_ask_for_slices_are_created_without_a_gate_while_there_is_no_webhook() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_28);
    scenario(spec, async |system| {
        system.webhook_ready().await?;
        webhook_goes_away(system)?;
        let slices = pod("slices", &json!({ "nvidia.com/mig-3g.20gb": "1" }));
        let made = create(system, slices).await?;
        anyhow::ensure!(made["spec"]["schedulingGates"].is_null(), "{made}");
        let half = pod("half", &json!({ "clear.ml/fraction-1": "0.5" }));
        let refused = create(system, half).await;
        anyhow::ensure!(refused.is_err(), "a fraction passed the webhook by");
        Ok(())
    })
}

#[test]
fn a_pod_with_a_fraction_comes_once_and_gets_its_gate_as_well() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_28);
    scenario(spec, async |system| {
        system.webhook_ready().await?;
        let half = pod("half", &json!({ "clear.ml/fraction-1": "0.5" }));
        let made = create(system, half).await?;
        let gates = json!([{ "name": manifests::GATE }]);
        anyhow::ensure!(made["spec"]["schedulingGates"] == gates, "{made}");
        let requests = answered(system).await?;
        anyhow::ensure!((0.5..1.5).contains(&requests), "{requests} requests came");
        Ok(())
    })
}
