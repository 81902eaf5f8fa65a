//! Pods with our scheduling gate, on the schedulers that it is for.

use scenarios::{NAMESPACE, Pod, Spec, Verdict, scenario};
use serde_json::{Value, json};
use simcluster::cluster::Behaviour;
use simcluster::store::{Kind, object};

const GATE: &str = "cdmo.clear.ml/partitioning";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";

fn spec() -> Spec {
    Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_28)
}

#[test]
fn a_gated_pod_is_served_and_let_through() -> Verdict {
    scenario(spec(), async |system| {
        for (pod, resource) in [("half", HALF), ("profile", "3g.20gb")] {
            let running = system.run(&Pod::of(pod, resource).gated(GATE)).await?;
            assert!(object::array(&running, "/spec/schedulingGates").is_empty());
            assert_eq!(system.profiles(pod).await?, ["3g.20gb"]);
            // The scheduler had no reason to try it in vain.
            assert!(system.events(pod, "FailedScheduling").is_empty());
        }
        // What is idle needs no plan.
        system.remove("half").await?;
        system.holding("a", 1).await?;
        system.run(&Pod::of("next", HALF).gated(GATE)).await?;
        system.consistent().await
    })
}

#[test]
fn a_gated_pod_that_can_never_be_served_hears_what_the_scheduler_has_to_say() -> Verdict {
    scenario(spec(), async |system| {
        system.create(&Pod::new("greedy").asks(&[(HALF, 3)]).gated(GATE))?;
        system.event("greedy", "TooMany").await?;
        system.event("greedy", "FailedScheduling").await?;
        Ok(())
    })
}

#[test]
fn a_gated_pod_outlives_the_controller() -> Verdict {
    scenario(spec(), async |system| {
        system.run(&Pod::of("first", "7g.40gb")).await?;
        system.create(&Pod::of("second", HALF).gated(GATE))?;
        system.event("second", "NoRoom").await?;
        system.kill_controller().await?;
        system.remove("first").await?;
        system.running("second").await?;
        system.consistent().await
    })
}

/// A Deployment of pods that ask for a profile; its pods come past the webhook.
fn deployment(name: &str, profile: &str) -> Value {
    let labels = json!({ "app": name });
    let limits = json!({ format!("nvidia.com/mig-{profile}"): "1" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1,
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

#[test]
fn a_pod_that_the_webhook_holds_back_is_let_go_when_its_device_is_there() -> Verdict {
    scenario(spec(), async |system| {
        system.webhook_ready().await?;
        let (_, mut changes) = system.store().list_and_watch(Kind::Pod);
        let made = deployment("serve", "3g.20gb");
        system.store().create(Kind::Deployment, NAMESPACE, made)?;
        let first = system
            .until("the pod is there", async || system.pod_with("app", "serve"))
            .await?;
        let name = object::name(&first).to_owned();
        system.running(&name).await?;
        let mut held_back = false;
        for change in changes.take(usize::MAX)? {
            let gates = object::array(&change.object, "/spec/schedulingGates");
            held_back |= object::name(&change.object) == name && !gates.is_empty();
        }
        anyhow::ensure!(held_back, "the pod was never held back");
        Ok(())
    })
}
