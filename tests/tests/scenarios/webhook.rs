//! What comes to the webhook, and what does not.

use scenarios::{Spec, System, Verdict, scenario};
use serde_json::{Value, json};
use simcluster::cluster::Behaviour;
use simcluster::store::Kind;
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
