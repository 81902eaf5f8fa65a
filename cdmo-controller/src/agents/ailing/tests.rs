use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, status: &Value) -> PodLite {
    serde_json::from_value(json!({
        "metadata": {"namespace": "cdmo-operator", "name": name, "uid": name},
        "spec": {"nodeName": "a"},
        "status": status,
    }))
    .unwrap()
}

fn waiting(reason: &str, message: &str, last: &Value) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    json!({"containerStatuses": [{"ready": false, "state": state, "lastState": last}]})
}

fn why(status: &Value) -> Option<Ailment> {
    ailment(&pod("x", status))
}

fn fails(why: &str) -> Ailment {
    Ailment::Fails { why: why.into() }
}

#[test]
fn an_image_that_cannot_be_had_is_told_in_the_kubelets_words() {
    let message = "Back-off pulling image \"here/mig-node-agent:nope\"";
    let status = waiting("ImagePullBackOff", message, &json!({}));
    assert_eq!(
        why(&status),
        Some(fails(&format!("ImagePullBackOff: {message}")))
    );
}

#[test]
fn why_an_image_cannot_be_had_is_told_on_while_the_kubelet_pauses() {
    let mut ward = Ward::default();
    let now = Instant::now();
    let failed = pod(
        "x",
        &waiting("ErrImagePull", "here/agent:nope: not found", &json!({})),
    );
    let pauses = pod(
        "x",
        &waiting("ImagePullBackOff", "Back-off pulling", &json!({})),
    );
    assert!(ward.look(&pauses, now).is_some());
    assert!(ward.look(&failed, now).is_some());
    for pod in [&pauses, &failed, &pauses] {
        assert_eq!(ward.look(pod, now), None);
    }
    let told = fails("ErrImagePull: here/agent:nope: not found");
    assert_eq!(ward.get("a").unwrap().ailment, told);
}

#[test]
fn an_agent_that_ends_is_told_in_its_own_last_words() {
    let log = "INFO something\nmig-node-agent: failed to load it; install it\n\n";
    let ended = json!({"terminated": {"exitCode": 65, "reason": "Error", "message": log}});
    let told = || {
        Some(fails(
            "mig-node-agent: failed to load it; install it (exit code 65)",
        ))
    };
    let back_off = waiting("CrashLoopBackOff", "back-off 10s restarting", &ended);
    assert_eq!(why(&back_off), told());
    let started_again = json!({"containerStatuses": [
        {"ready": false, "state": {"running": {}}, "lastState": ended},
    ]});
    assert_eq!(why(&started_again), told(), "it may end again at once");
    let serves = json!({"containerStatuses": [
        {"ready": true, "state": {"running": {}}, "lastState": ended},
    ]});
    assert_eq!(why(&serves), None);
}

#[test]
fn an_agent_that_was_killed_is_told_by_its_code() {
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let status = waiting("CrashLoopBackOff", "", &ended);
    assert_eq!(
        why(&status),
        Some(fails("it ended with exit code 137, OOMKilled"))
    );
}

#[test]
fn an_init_container_counts_until_it_has_ended_well() {
    let agent = json!({"state": {"waiting": {"reason": "PodInitializing"}}});
    let status =
        |init: Value| json!({"initContainerStatuses": [init], "containerStatuses": [agent]});
    let ended = json!({"exitCode": 1, "reason": "Error", "message": "fake-nvml: no"});
    let failed = status(json!({"ready": false, "state": {"terminated": ended}}));
    assert_eq!(why(&failed), Some(fails("fake-nvml: no (exit code 1)")));
    let well = json!({"ready": true, "state": {"terminated": {"exitCode": 0}}});
    let waits = Ailment::Waits {
        reason: "PodInitializing".into(),
    };
    assert_eq!(why(&status(well)), Some(waits));
}

#[test]
fn a_pod_is_forgotten_when_it_is_well_or_on_its_way_out_or_another_took_its_place() {
    let mut ward = Ward::default();
    let start = Instant::now();
    let creating = waiting("ContainerCreating", "", &json!({}));
    assert_eq!(ward.look(&pod("x", &creating), start).as_deref(), Some("a"));
    let later = start + Duration::from_secs(5);
    assert_eq!(ward.look(&pod("x", &creating), later), None, "no news");
    assert_eq!(ward.get("a").unwrap().since, start);
    let never = waiting("ErrImageNeverPull", "no image", &json!({}));
    ward.look(&pod("x", &never), later);
    assert_eq!(ward.get("a").unwrap().since, later);
    ward.look(&pod("y", &creating), later);
    assert_eq!(ward.look(&pod("x", &json!({})), later), None);
    let mut leaving = pod("y", &creating);
    leaving.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(ward.look(&leaving, later).as_deref(), Some("a"));
    assert!(ward.get("a").is_none());
}
