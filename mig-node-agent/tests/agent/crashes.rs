//! The agent dies at the worst moment, and the next one makes the best of it.

use cdmo_proto::agent::controller_message::Message;
use cdmo_proto::agent::instance::State;

use crate::controller::{Controller, create, instances};
use crate::eventually;
use crate::host::{Host, ONE_A100};

const THREE: &str = "nvidia.com/mig-3g.20gb";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";

#[tokio::test]
async fn an_agent_killed_between_the_two_halves_of_a_creation_finishes_it_at_its_next_start() {
    let driver = format!("{ONE_A100}[latency_ms]\nnvmlGpuInstanceCreateComputeInstance = 20000\n");
    let host = Host::new(&driver);
    let agent = host.process(&[]);
    agent.served().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let mut plan = controller.plan(0);
    plan.gpus[0].create = vec![create("3g.20gb", 4)];
    controller.say(Message::Plan(plan)).await;
    eventually("the first half", async || {
        (host.layout() == ["3g.20gb@4+0"]).then_some(())
    })
    .await;
    agent.kill().await;
    assert_eq!(host.layout(), ["3g.20gb@4+0"]);

    let call = "nvmlGpuInstanceCreateComputeInstance";
    host.hardware()
        .set_latency(call, std::time::Duration::ZERO)
        .unwrap();
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller
        .until("the instance is whole and offered", |snapshot| {
            instances(snapshot).any(|i| i.state() == State::Idle && i.resource == THREE)
        })
        .await;
    assert_eq!(host.layout(), ["3g.20gb@4+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_granted_is_held_after_kill_9_even_if_the_kubelet_forgot_it() {
    let host = Host::new(ONE_A100);
    let agent = host.process(&[]);
    agent.served().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    agent.kill().await;
    host.kubelet.remove_pod("one");

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.until_state(&device, State::Held).await;
    controller.pods(Vec::new()).await;
    controller.until_state(&device, State::Idle).await;
    agent.stop().await;
}

/// Two instances under the name of a fraction, one of them held by pod `one`; returns that one's id and
/// the other's.
async fn two_halves(host: &Host, controller: &mut Controller) -> (String, String) {
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0), ("3g.20gb", 4)]).await;
    let ids: Vec<&str> = made.iter().map(|made| made.device_id.as_str()).collect();
    controller.expose(&ids, HALF).await;
    let held = host.kubelet.start_pod("one", HALF).await.unwrap();
    controller.until_state(&held, State::Held).await;
    controller.until_holder(&held, "one").await;
    let other = ids.into_iter().find(|id| *id != held).unwrap();
    (held, other.to_owned())
}

#[tokio::test]
async fn after_kill_9_devices_go_by_the_names_that_they_were_moved_to() {
    let host = Host::new(ONE_A100);
    let agent = host.process(&[]);
    agent.served().await;
    let mut controller = host.controller(agent.address, 1).await;
    let (held, idle) = two_halves(&host, &mut controller).await;
    agent.kill().await;

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.until_state(&held, State::Held).await;
    controller.until_state(&idle, State::Idle).await;
    assert!(instances(&controller.snapshot).all(|i| i.resource == HALF));
    host.kubelet.start_container(HALF, &held).await.unwrap();
    assert_eq!(host.layout(), ["3g.20gb@0+1", "3g.20gb@4+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_device_that_a_pod_has_as_a_fraction_stays_one_even_if_the_journal_is_lost() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    let (held, idle) = two_halves(&host, &mut controller).await;
    agent.stop().await;
    std::fs::remove_file(host.path("state/journal")).unwrap();

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.until_state(&idle, State::Idle).await;
    controller
        .until("the held one is a half again", |snapshot| {
            let mut all = instances(snapshot);
            all.any(|i| i.device_id == held && i.resource == HALF && i.state() == State::Held)
        })
        .await;
    eventually("its container can start again", async || {
        host.kubelet.start_container(HALF, &held).await.ok()
    })
    .await;
    assert_eq!(host.kubelet.healthy(THREE).unwrap(), [idle]);
    host.kubelet.remove_pod("one");
    controller.pods(Vec::new()).await;
    controller.until_state(&held, State::Idle).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_killed_while_a_device_moves_offers_it_under_its_old_name() {
    let host = Host::new(ONE_A100);
    let agent = host.process(&[]);
    agent.served().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let plan = controller.moving(&[&made[0].device_id], HALF);
    controller.carry_out(plan).await;
    agent.kill().await;

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    assert!(instances(&controller.snapshot).all(|i| i.resource == THREE));
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn hardware_is_adopted_not_wiped() {
    let host = Host::new(&format!(
        "{ONE_A100}[[instance]]\nprofile = \"3g.20gb\"\nstart = 4\n\
         [[instance]]\nprofile = \"1g.5gb\"\nstart = 0\ncompute = false\n"
    ));
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let states: Vec<_> = instances(&controller.snapshot)
        .map(|i| (i.profile.as_str(), i.state()))
        .collect();
    assert!(states.contains(&("3g.20gb", State::Idle)), "{states:?}");
    assert!(states.contains(&("1g.5gb", State::Parked)), "{states:?}");
    assert_eq!(host.layout(), ["1g.5gb@0+0", "3g.20gb@4+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_journal_cut_off_in_the_middle_costs_only_what_is_cut() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 5).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    agent.stop().await;
    let journal = host.path("state/journal");
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &bytes[..bytes.len() - 5]).unwrap();

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 5).await;
    controller.until_state(&device, State::Held).await;
    assert_eq!(controller.snapshot.problems, Vec::<String>::new());
    agent.stop().await;
}

#[tokio::test]
async fn a_damaged_journal_is_said_on_the_node_and_every_device_must_be_proven_free() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 5).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    agent.stop().await;
    let journal = host.path("state/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&journal, &bytes).unwrap();

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 5).await;
    controller
        .until("the damage is said", |s| {
            s.problems.iter().any(|p| p.contains("was damaged"))
        })
        .await;
    controller
        .until_state(&made[0].device_id, State::Held)
        .await;
    controller.pods(Vec::new()).await;
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn after_a_reboot_ids_that_pods_may_hold_stay_listed_until_they_are_proven_free() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    let device = host.kubelet.start_pod("one", THREE).await.unwrap();
    controller.until_state(&device, State::Held).await;
    agent.stop().await;
    host.hardware().reboot().unwrap();
    host.boot("second-boot");

    let agent = host.agent().await;
    eventually("the id is listed again", async || {
        host.kubelet.listed(THREE).contains(&device).then_some(())
    })
    .await;
    assert_eq!(host.kubelet.healthy(THREE).unwrap(), Vec::<String>::new());
    assert!(host.kubelet.start_container(THREE, &device).await.is_err());
    host.kubelet.remove_pod("one");
    let mut controller = host.controller(agent.address, 1).await;
    assert_eq!(controller.hello.boot_id, "second-boot");
    controller.settle().await;
    eventually("the id is dropped", async || {
        host.kubelet.listed(THREE).is_empty().then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn sigterm_ends_the_streams_and_the_process_with_code_0() {
    let host = Host::new(ONE_A100);
    let agent = host.process(&[]);
    agent.served().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    agent.terminate().await;
    assert!(controller.end().await.is_some(), "the controller is told");
    let (code, text) = agent.ended().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Ended"), "{text}");
}
