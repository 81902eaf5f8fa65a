//! Devices in pods' hands.

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::plan_progress::Stage;
use fake_nvml::control;

use crate::controller::{Controller, create, reference};
use crate::host::{Host, ONE_A100};

const THREE: &str = "nvidia.com/mig-3g.20gb";

fn pod(name: &str, uid: &str) -> api::Pod {
    api::Pod {
        namespace: "default".into(),
        name: name.into(),
        uid: uid.into(),
        containers: vec![api::Container {
            name: "main".into(),
            ordinary_init: false,
            requests: vec![api::ResourceCount {
                resource: THREE.into(),
                count: 1,
            }],
        }],
        ..Default::default()
    }
}

async fn give_up(controller: &mut Controller, device: &str) -> api::PlanProgress {
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, device));
    plan.gpus[0].create = vec![create("1g.5gb", 0)];
    let id = plan.id.clone();
    let report = controller.carry_out(plan).await;
    if report.stage() == Stage::Withdrawn {
        controller.commit(&id).await
    } else {
        report
    }
}

#[tokio::test]
async fn a_granted_device_is_held_by_its_pod_and_never_given_up() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    assert_eq!(device, made[0].device_id);
    controller.until_state(&device, State::Held).await;
    controller.until_holder(&device, "one").await;
    let report = give_up(&mut controller, &device).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Refused, "held")
    );
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_device_is_idle_again_once_its_pod_is_proven_gone_and_is_reused() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.pods(vec![pod("one", "uid-1")]).await;
    controller.until_holder(&device, "one").await;
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    assert_eq!(host.kubelet.start_pod("two", THREE).await.unwrap(), device);
    agent.stop().await;
}

#[tokio::test]
async fn a_pod_that_lost_its_device_in_every_list_still_holds_it_while_a_process_uses_it() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_holder(&device, "one").await;
    let gi = host.hardware().state().unwrap().gpus[0].instances[0].gi;
    let process = control::Process {
        pid: 4711,
        gi: Some(gi),
        ci: Some(0),
        kind: control::ProcessKind::default(),
        memory_mib: 100,
        name: "python".into(),
    };
    host.hardware().add_process(0, process).unwrap();
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    controller.quiet().await;
    assert_eq!(controller.state(&device), Some(State::Held));
    assert_eq!(give_up(&mut controller, &device).await.category, "held");
    host.hardware().remove_process(0, 4711).unwrap();
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_pod_deleted_by_force_holds_its_device_until_its_processes_are_gone() {
    const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let process = host.path("proc/4711");
    std::fs::create_dir_all(&process).unwrap();
    std::fs::write(process.join("cgroup"), format!("0::/kubepods/pod{UID}/x\n")).unwrap();
    controller.pods(vec![pod("one", UID)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_holder(&device, "one").await;
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    controller.quiet().await;
    assert_eq!(controller.state(&device), Some(State::Held));
    std::fs::remove_dir_all(&process).unwrap();
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_idle_device_is_kept_while_a_bound_pod_may_be_about_to_get_it() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    controller.pods(vec![pod("bound", "uid-1")]).await;
    let report = give_up(&mut controller, &made[0].device_id).await;
    assert_eq!(report.stage(), Stage::Failed, "{report:?}");
    assert!(
        report.message.contains("default/bound"),
        "{}",
        report.message
    );
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn without_a_controller_no_hold_ends() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_holder(&device, "one").await;
    drop(controller);
    host.kubelet.remove_pod("one");
    let mut controller = host.controller(agent.address, 1).await;
    controller.quiet().await;
    assert_eq!(controller.state(&device), Some(State::Held));
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_critical_fault_takes_the_instance_out_of_service() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0), ("3g.20gb", 4)]).await;
    let state = host.hardware().state().unwrap();
    let hit = state.gpus[0]
        .instances
        .iter()
        .find(|i| i.start == 4)
        .unwrap();
    let xid = control::Xid {
        gpu: 0,
        xid: 94,
        gi: Some(hit.gi),
        ci: Some(0),
    };
    host.hardware().raise_xid(xid).unwrap();
    controller
        .until_state(&made[1].device_id, State::Unhealthy)
        .await;
    assert_eq!(controller.state(&made[0].device_id), Some(State::Idle));
    agent.stop().await;
}
