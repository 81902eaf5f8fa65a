//! Pods deleted by force: the kubelet gives their devices away while their containers still run, and
//! the next pod must not start with them before those have ended.

use std::sync::Arc;

use scenarios::{Outcome, Pod, Spec, System, Verdict, scenario};
use serde_json::Value;
use simcluster::store::{DeleteOptions, Kind, object};

const PROFILE: &str = "7g.40gb";

/// Runs a pod whose container ignores SIGTERM and outlives SIGKILL by that many seconds, and deletes
/// it by force. Returns its uid.
async fn leaves_a_container(system: &System, name: &str, seconds: u32) -> anyhow::Result<String> {
    let mut pod = Pod::of(name, PROFILE).object();
    let annotations = &mut pod["metadata"]["annotations"];
    annotations["simcluster.cdmo/stop-delay"] = "1h".into();
    annotations["simcluster.cdmo/kill-delay"] = format!("{seconds}s").into();
    let namespace = object::namespace(&pod).to_owned();
    let pod = system.store().create(Kind::Pod, &namespace, pod)?;
    system.running(name).await?;
    let now = DeleteOptions::now();
    system.store().delete(Kind::Pod, &namespace, name, &now)?;
    Ok(object::uid(&pod).to_owned())
}

fn runs(system: &System, uid: &str) -> anyhow::Result<bool> {
    let records = system.node("a")?.containers().into_iter();
    let mut own = records.filter(|record| record.pod_uid == uid);
    Ok(own.any(|record| record.state.is_running()))
}

/// The pod has the former one's device, and its container was refused for that.
async fn refused(system: &System, pod: &str, device: &str) -> Outcome {
    let why = system.event(pod, "Failed").await?;
    let words = "may still be in use by the pod that had it before";
    assert!(why.contains(words) && why.contains(device), "{why}");
    Ok(())
}

/// The new pod's container runs in the end, and not beside the former one's.
async fn starts_after(system: &System, new: &Arc<Value>, former: &str) -> Outcome {
    let started = async || {
        // In this order: what ends in between is no fault.
        let former_runs = runs(system, former);
        let new_runs = runs(system, object::uid(new)).ok()?;
        new_runs.then_some(former_runs)
    };
    let together = system
        .until("the new pod's container runs", started)
        .await??;
    assert!(!together, "two pods use one device");
    system.running(object::name(new)).await?;
    system.consistent().await
}

async fn next_pod(system: &System, former: &str, next: &str) -> Outcome {
    let before = leaves_a_container(system, former, 3).await?;
    let new = system.create(&Pod::of(next, PROFILE))?;
    let device = system.instances("a")?;
    let id = async || system.device(next).await.ok().map(|given| given.id);
    let id = system.until("the next pod has a device", id).await?;
    refused(system, next, &id).await?;
    starts_after(system, &new, &before).await?;
    assert_eq!(system.instances("a")?, device, "nothing was made anew");
    Ok(())
}

#[test]
fn a_pod_starts_with_a_slice_only_when_containers_of_its_force_deleted_holder_have_ended() -> Verdict
{
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        next_pod(system, "former", "next").await
    })
}

#[test]
fn a_pod_that_is_made_anew_under_its_name_waits_for_its_former_self() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        next_pod(system, "web-0", "web-0").await
    })
}

#[test]
fn an_agent_that_is_killed_meanwhile_still_keeps_the_next_pod_waiting() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        // The kubelet tries a container again after 10 s; the former one must run until after that.
        let before = leaves_a_container(system, "former", 13).await?;
        let new = system.create(&Pod::of("next", PROFILE))?;
        system.event("next", "Failed").await?;
        let refusals = || system.agent_log("a").matches("Refused a container").count();
        let first = refusals();
        system.kill_agent("a").await?;
        let again = async || (refusals() > first).then_some(());
        system.until("the new agent refuses, too", again).await?;
        starts_after(system, &new, &before).await
    })
}
