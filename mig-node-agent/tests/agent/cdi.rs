//! CDI spec files over the life of a device.

use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::plan_progress::Stage;

use crate::controller::{create, reference};
use crate::eventually;
use crate::host::{Host, ONE_A100};

const THREE: &str = "nvidia.com/mig-3g.20gb";

fn flags(host: &Host) -> Vec<String> {
    vec![
        "--device-list-strategy=cdi-cri,cdi-annotations".into(),
        format!("--cdi-dir={}", host.path("cdi").display()),
    ]
}

/// Ids of the devices that have a file.
fn described(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("cdi")).unwrap();
    let mut ids: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let id = name.strip_prefix("cdmo.clear.ml-gpu_")?;
            Some(id.strip_suffix(".json")?.to_owned())
        })
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_spec_file_is_there_when_a_device_is_granted_and_gone_after_it_was_destroyed() {
    let host = Host::new(ONE_A100);
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    assert!(described(&host).is_empty());
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let device = made[0].device_id.clone();
    assert_eq!(described(&host), std::slice::from_ref(&device));
    let granted = host.kubelet.start_pod("one", THREE).await.unwrap();
    assert_eq!(granted, device);
    controller.until_state(&device, State::Held).await;

    // Another slice in the same slot has the same id: its file must be the new one's.
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, &device));
    plan.gpus[0].create = vec![create("1g.5gb", 2)];
    let id = plan.id.clone();
    let report = controller.carry_out(plan).await;
    assert_eq!(report.stage(), Stage::Withdrawn);
    assert_eq!(
        described(&host),
        std::slice::from_ref(&device),
        "kept until it is destroyed"
    );
    let report = controller.commit(&id).await;
    assert_eq!(report.stage(), Stage::Done);
    eventually("the old file goes", async || {
        let there = described(&host);
        (there.len() == 1 && there != [device.clone()]).then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn after_a_restart_files_of_dead_instances_go_and_those_of_held_devices_stay() {
    let host = Host::new(ONE_A100);
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let device = controller.make(&[("3g.20gb", 0)]).await[0]
        .device_id
        .clone();
    host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_state(&device, State::Held).await;
    agent.stop().await;

    let stale = host.path("cdi/cdmo.clear.ml-gpu_MIG-dead.json");
    std::fs::write(&stale, "{}").unwrap();
    std::fs::write(host.path("cdi/nvidia.yaml"), "kind: other").unwrap();
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    eventually("the dead instance's file goes", async || {
        (!stale.exists()).then_some(())
    })
    .await;
    assert_eq!(described(&host), [device]);
    assert!(host.path("cdi/nvidia.yaml").exists());
    agent.stop().await;
}

#[tokio::test]
async fn the_file_of_a_held_device_whose_instance_vanished_stays_until_the_hold_ends() {
    let host = Host::new(ONE_A100);
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let device = controller.make(&[("3g.20gb", 0)]).await[0]
        .device_id
        .clone();
    host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_state(&device, State::Held).await;
    agent.stop().await;

    // A reboot takes the instance; the pod is still in the kubelet's books.
    host.hardware().reboot().unwrap();
    host.boot("second-boot");
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    let mut controller = host.controller(agent.address, 2).await;
    controller.settle().await;
    assert_eq!(described(&host), [device]);
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    eventually("the file goes with the hold", async || {
        described(&host).is_empty().then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn without_a_place_for_spec_files_nothing_is_offered_and_the_node_says_why() {
    let host = Host::new(ONE_A100);
    std::fs::write(host.path("cdi"), "no directory").unwrap();
    let agent = host.try_agent(&flags(&host)).await.unwrap();
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let mut plan = controller.plan(0);
    plan.gpus[0].create = vec![create("3g.20gb", 0)];
    let report = controller.carry_out(plan).await;
    assert_eq!((report.stage(), &*report.category), (Stage::Failed, "cdi"));
    let problems = controller.snapshot.problems.join(" ");
    assert!(problems.contains("CDI spec"), "{problems}");
    assert_eq!(
        host.kubelet
            .start_pod("one", THREE)
            .await
            .unwrap_err()
            .code(),
        tonic::Code::NotFound
    );
    agent.stop().await;
}
