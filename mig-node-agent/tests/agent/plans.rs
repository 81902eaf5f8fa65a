//! Plans from end to end.

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::plan_progress::Stage;

use crate::controller::{create, reference};
use crate::host::{Host, ONE_A100};

const THREE: &str = "nvidia.com/mig-3g.20gb";

#[tokio::test]
async fn an_instance_is_made_at_its_place_and_known_to_the_kubelet_when_the_plan_is_done() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 4), ("1g.5gb+me", 0)]).await;
    assert_eq!(host.layout(), ["1g.5gb+me@0+1", "3g.20gb@4+1"]);
    assert_eq!((&*made[0].resource, made[0].start), (THREE, 4));
    assert_eq!(made[1].resource, "nvidia.com/mig-1g.5gb.me");
    // Not "soon": the kubelet knew them before the controller heard of it.
    assert_eq!(
        host.kubelet.healthy(THREE).unwrap(),
        [made[0].device_id.clone()]
    );
    assert_eq!(controller.state(&made[0].device_id), Some(State::Idle));
    let counts = controller
        .snapshot
        .resources
        .iter()
        .find(|r| r.resource == THREE)
        .unwrap();
    assert_eq!((counts.capacity, counts.allocatable), (1, 1));
    agent.stop().await;
}

#[tokio::test]
async fn every_profile_is_registered_before_any_instance_exists() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    host.kubelet
        .until_registered("nvidia.com/mig-7g.40gb")
        .await;
    host.kubelet.until_registered("nvidia.com/gpu").await;
    assert_eq!(
        host.kubelet.listed("nvidia.com/mig-7g.40gb"),
        Vec::<String>::new()
    );
    agent.stop().await;
}

#[tokio::test]
async fn an_idle_instance_is_given_up_for_others_after_the_commit() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("7g.40gb", 0)]).await;
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, &made[0].device_id));
    plan.gpus[0].create = vec![create("4g.20gb", 0), create("3g.20gb", 4)];
    let id = plan.id.clone();
    let report = controller.carry_out(plan).await;
    assert_eq!(report.stage(), Stage::Withdrawn, "{report:?}");
    assert_eq!(
        host.kubelet.healthy("nvidia.com/mig-7g.40gb").unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        host.layout(),
        ["7g.40gb@0+1"],
        "nothing is destroyed before the commit"
    );
    let report = controller.commit(&id).await;
    assert_eq!(report.stage(), Stage::Done, "{report:?}");
    assert_eq!(host.layout(), ["3g.20gb@4+1", "4g.20gb@0+1"]);
    assert_eq!(
        host.kubelet.listed("nvidia.com/mig-7g.40gb"),
        Vec::<String>::new()
    );
    agent.stop().await;
}

#[tokio::test]
async fn an_aborted_plan_leaves_everything_as_it_was() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, &made[0].device_id));
    plan.gpus[0].create = vec![create("1g.5gb", 0)];
    let id = plan.id.clone();
    controller.carry_out(plan).await;
    let report = controller.abort(&id).await;
    assert_eq!(report.stage(), Stage::Aborted);
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    assert!(host.kubelet.start_pod("one", THREE).await.is_ok());
    agent.stop().await;
}

#[tokio::test]
async fn a_stale_plan_is_refused_and_changes_nothing() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let mut stale = controller.plan(0);
    stale.gpus[0].create = vec![create("1g.5gb", 6)];
    controller.make(&[("3g.20gb", 0)]).await;
    let report = controller.carry_out(stale).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Refused, "stale")
    );
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_in_words_and_the_session_goes_on() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    for (profile, start, category) in [
        ("9g.99gb", 0, "no_such_profile"),
        ("💥", 0, "no_such_profile"),
        ("3g.20gb", 1, "bad_placement"),
        ("1g.5gb", u32::MAX, "bad_placement"),
    ] {
        let mut plan = controller.plan(0);
        plan.gpus[0].create = vec![create(profile, start)];
        let report = controller.carry_out(plan).await;
        assert_eq!(
            (report.stage(), &*report.category),
            (Stage::Refused, category)
        );
        assert!(report.message.contains(profile), "{}", report.message);
    }
    let mut plan = controller.plan(0);
    plan.gpus[0].create = vec![create("1g.5gb", 0); 99];
    assert_eq!(controller.carry_out(plan).await.category, "bad_placement");
    let mut plan = controller.plan(0);
    plan.gpus[0].gpu_uuid = "GPU-of-somebody-else".into();
    assert_eq!(controller.carry_out(plan).await.category, "no_such_gpu");
    controller.make(&[("1g.5gb", 0)]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_driver_that_refuses_is_reported_and_the_gpu_stays_usable() {
    let driver = format!(
        "{ONE_A100}[[fault]]\ncall = \"nvmlDeviceCreateGpuInstanceWithPlacement\"\nnth = 1\ncode = 23\n"
    );
    let host = Host::new(&driver);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let mut plan = controller.plan(0);
    let version = plan.gpus[0].state_version;
    plan.gpus[0].create = vec![create("3g.20gb", 0)];
    let report = controller.carry_out(plan).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Failed, "insufficient_resources")
    );
    controller
        .until("the GPU was looked at", |s| {
            s.gpus[0].state_version > version + 2
        })
        .await;
    controller.make(&[("3g.20gb", 0)]).await;
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn an_instance_that_will_not_go_is_offered_again() {
    let driver = format!(
        "{ONE_A100}[[fault]]\ncall = \"nvmlGpuInstanceDestroy\"\nnth = 1\ncode = 19\nrepeat = 0\n"
    );
    let host = Host::new(&driver);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, &made[0].device_id));
    let id = plan.id.clone();
    controller.carry_out(plan).await;
    let report = controller.commit(&id).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Failed, "in_use"),
        "{report:?}"
    );
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn an_idle_instance_moves_to_another_resource_name() {
    const HALF: &str = "cdmo.clear.ml/fraction-0.500";
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let mut plan = controller.plan(0);
    plan.gpus[0].expose.push(api::Expose {
        instance: Some(reference(&controller.snapshot, &made[0].device_id)),
        resource: HALF.into(),
    });
    let id = plan.id.clone();
    controller.carry_out(plan).await;
    let report = controller.commit(&id).await;
    assert_eq!(report.stage(), Stage::Done, "{report:?}");
    assert_eq!(
        host.kubelet.healthy(HALF).unwrap(),
        [made[0].device_id.clone()]
    );
    assert_eq!(host.kubelet.listed(THREE), Vec::<String>::new());
    agent.stop().await;

    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let found = crate::controller::instances(&controller.snapshot)
        .next()
        .unwrap();
    assert_eq!(found.resource, HALF, "a restart does not undo it");
    agent.stop().await;
}

#[tokio::test]
async fn an_instance_that_somebody_else_put_in_the_place_of_another_is_not_destroyed_for_it() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let mut plan = controller.plan(0);
    let old = reference(&controller.snapshot, &made[0].device_id);
    plan.gpus[0].give_up.push(old.clone());
    let id = plan.id.clone();
    let report = controller.carry_out(plan).await;
    assert_eq!(report.stage(), Stage::Withdrawn, "{report:?}");
    let hardware = host.hardware();
    hardware.destroy_instance(0, old.gpu_instance_id).unwrap();
    let new = hardware.create_instance(0, "4g.20gb", Some(0)).unwrap();
    assert_eq!(new, old.gpu_instance_id, "ids are given out again");
    let report = controller.commit(&id).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Failed, "changed"),
        "{report:?}"
    );
    assert_eq!(host.layout(), ["4g.20gb@0+1"]);
    agent.stop().await;
}
