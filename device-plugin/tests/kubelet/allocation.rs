//! The calls that give devices to containers: Allocate, PreStartContainer, preferred allocation.

use std::time::Duration;

use device_plugin::DeviceListStrategy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::rig::{MIG, OTHER, Rig, device, within};

#[tokio::test]
async fn a_grant_is_in_the_journal_before_it_is_answered() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let gate = rig.journal.gate.lock().await;
    let kubelet = rig.kubelet.clone();
    let mut call = tokio::spawn(async move { kubelet.allocate(MIG, &[&["a1"]]).await });
    rig.state("the hold", |state| {
        state.device(MIG, "a1").unwrap().hold.is_some()
    })
    .await;
    assert!(futures::poll!(&mut call).is_pending());
    drop(gate);
    within(call).await.unwrap().unwrap();
    assert!(rig.journal.holds(MIG, "a1"));
}

#[tokio::test]
async fn several_containers_with_several_devices_are_answered_in_order() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2", "a3"]).await;
    let answer = within(rig.kubelet.allocate(MIG, &[&["a3", "a1"], &["a2"]]))
        .await
        .unwrap();
    let mounts: Vec<Vec<_>> = answer
        .container_responses
        .iter()
        .map(|c| {
            c.mounts
                .iter()
                .map(|mount| mount.container_path.clone())
                .collect()
        })
        .collect();
    let dir = "/var/run/nvidia-container-devices";
    assert_eq!(
        mounts,
        [
            vec![format!("{dir}/a3"), format!("{dir}/a1")],
            vec![format!("{dir}/a2")]
        ]
    );
    let env = &answer.container_responses[0].envs["NVIDIA_VISIBLE_DEVICES"];
    assert_eq!(env, dir);
    assert_eq!(
        answer.container_responses[0].devices.len(),
        1,
        "a shared node is passed once"
    );
}

#[tokio::test]
async fn the_envvar_strategy_lists_the_ids() {
    let rig = Rig::with(
        |config, kubelet| {
            config.strategies = vec![DeviceListStrategy::Envvar];
            config.pass_device_specs = false;
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1", "a2"]).await;
    let answer = within(rig.kubelet.allocate(MIG, &[&["a1", "a2"]]))
        .await
        .unwrap();
    let container = &answer.container_responses[0];
    assert_eq!(container.envs["NVIDIA_VISIBLE_DEVICES"], "a1,a2");
    assert!(container.mounts.is_empty() && container.devices.is_empty());
}

#[tokio::test]
async fn the_cdi_strategies_name_what_the_runtime_looks_up() {
    let rig = Rig::with(
        |config, kubelet| {
            config.strategies = vec![
                DeviceListStrategy::CdiCri,
                DeviceListStrategy::CdiAnnotations,
            ];
            config.pass_device_specs = false;
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    let answer = within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    let container = &answer.container_responses[0];
    assert_eq!(container.cdi_devices[0].name, "example.com/gpu=a1");
    assert_eq!(
        container.annotations["cdi.k8s.io/cdmo_a1"],
        "example.com/gpu=a1"
    );
    assert!(container.envs.is_empty() && container.mounts.is_empty());
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_fails_the_grant_and_holds_nothing() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    *rig.journal.broken.lock().unwrap() = true;
    let error = within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(
        error
            .message()
            .contains("cannot write its journal: no space left"),
        "{error:?}"
    );
    assert!(!rig.held(MIG, "a1"));
    *rig.journal.broken.lock().unwrap() = false;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

#[tokio::test]
async fn what_is_not_offered_under_this_name_is_refused_and_nothing_else_is_granted_with_it() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.offer(OTHER, &["b1"]).await;
    for (ids, code) in [
        (vec!["a1", "zz"], Code::NotFound),
        (vec!["a1", "b1"], Code::NotFound),
        (vec!["a1", "a1"], Code::InvalidArgument),
        (vec![], Code::InvalidArgument),
    ] {
        let error = within(rig.kubelet.allocate(MIG, &[&ids]))
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{ids:?}");
        assert!(!rig.held(MIG, "a1"), "{ids:?}");
    }
    assert!(rig.journal.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_faulty_device_is_listed_as_unhealthy_and_refused_until_it_works_again() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.plugins.mark_unhealthy(MIG, "a1", "XID 79");
    rig.known(MIG, |known| known.devices.get("a1") == Some(&false))
        .await;
    let error = within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    assert!(error.message().contains("XID 79"), "{error:?}");
    rig.plugins.mark_healthy(MIG, "a1");
    rig.state("the confirmation", |state| {
        state.resources[MIG].allocatable == 1
    })
    .await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

#[tokio::test]
async fn a_device_that_the_kubelet_freed_before_we_noticed_is_granted_to_the_next_pod() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("first", MIG, "a1").await;
    *rig.witness.doubt.lock().unwrap() = Some("a process of the first pod lives".to_owned());
    rig.kubelet.hide("first");
    rig.grant("second", MIG, "a1").await;
    let state = rig.plugins.state().borrow().clone();
    let hold = state.device(MIG, "a1").unwrap().hold.clone().unwrap();
    let pods: Vec<_> = hold
        .holders
        .iter()
        .map(|holder| holder.pod.as_str())
        .collect();
    assert_eq!(pods, ["first", "second"], "former holders stay suspects");
}

#[tokio::test]
async fn a_container_starts_only_with_live_devices_that_were_granted() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    rig.offer(OTHER, &["b1"]).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    for (resource, ids) in [
        (MIG, vec!["a2"]),
        (MIG, vec!["a1", "a2"]),
        (MIG, vec!["gone"]),
        (OTHER, vec!["a1"]),
    ] {
        let error = within(rig.kubelet.pre_start(resource, &ids))
            .await
            .unwrap_err();
        assert!(
            matches!(error.code(), Code::NotFound | Code::FailedPrecondition),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_container_of_a_lost_device_does_not_start_again() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    rig.plugins.lose(MIG, "a1");
    let error = within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn preferred_devices_come_from_one_gpu_and_never_from_those_on_their_way_out() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "b1", "b2"]).await;
    let all = ["a1", "b1", "b2"];
    assert_eq!(
        within(rig.kubelet.prefer(MIG, &all, &[], 2)).await,
        ["b1", "b2"]
    );
    assert_eq!(
        within(rig.kubelet.prefer(MIG, &all, &["a1"], 2)).await,
        ["a1", "b1"]
    );
    let _withdrawn = within(rig.plugins.withdraw(MIG, "b1")).await.unwrap();
    assert_eq!(
        within(rig.kubelet.prefer(MIG, &all, &[], 2)).await,
        ["a1", "b2"]
    );
}

#[tokio::test]
async fn a_grant_waits_until_the_kubelet_is_seen_to_know_the_device() {
    let rig = Rig::new().await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.known(MIG, |known| known.connected).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let offer = rig.plugins.offer(MIG, device("a1"));
    let allocate = rig.kubelet.allocate(MIG, &[&["a1"]]);
    let lists = rig.kubelet.node().lists;
    let melt = async {
        rig.node("the list", |node| node.lists > lists).await;
        let calls = rig.kubelet.node().allocatable_calls;
        rig.node("looks", |node| node.allocatable_calls >= calls + 2)
            .await;
        assert!(!rig.held(MIG, "a1"));
        rig.kubelet.turn(|knobs| knobs.frozen = false);
    };
    let (offered, allocated, ()) = within(async { tokio::join!(offer, allocate, melt) }).await;
    offered.unwrap();
    allocated.unwrap();
}

#[tokio::test]
async fn a_grant_for_a_device_that_the_kubelet_never_shows_is_refused() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.grant_timeout = Duration::from_millis(50);
            config.timing.offer_timeout = Duration::from_millis(50);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    within(rig.plugins.offer(MIG, device("a1")))
        .await
        .unwrap_err();
    let error = within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    assert!(
        error.message().contains("not known to the kubelet yet"),
        "{error:?}"
    );
    assert!(!rig.held(MIG, "a1"));
}

#[tokio::test]
async fn a_waiting_grant_asks_the_kubelet_less_and_less_often() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.grant_timeout = Duration::from_millis(500);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let before = rig.kubelet.node().allocatable_calls;
    tokio::select! {
        _ = rig.plugins.offer(MIG, device("a1")) => panic!("the kubelet does not take the list over"),
        refused = within(rig.kubelet.allocate(MIG, &[&["a1"]])) => { refused.unwrap_err(); }
    }
    let looks = rig.kubelet.node().allocatable_calls - before;
    assert!(looks < 30, "{looks} looks");
}

#[tokio::test]
async fn noise_on_our_socket_ends_that_connection_and_nothing_else() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let socket = rig
        .kubelet
        .plugin_dir()
        .join(rig.kubelet.known(MIG).endpoint);
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxx",
    ] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let _ = stream.write_all(noise).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    // A message of another kind where Allocate expects its own.
    let channel = rig.kubelet.channel(MIG);
    let error = within(garbled(channel)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

/// Calls Allocate with the `ListPodResources` answer of another API, whose first field is no container
/// request.
async fn garbled(channel: tonic::transport::Channel) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| tonic::Status::unknown(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/v1beta1.DevicePlugin/Allocate");
    let message = cdmo_proto::deviceplugin::Device {
        id: "\u{1}\u{2}".to_owned(),
        health: String::new(),
        topology: None,
    };
    let codec: tonic_prost::ProstCodec<_, cdmo_proto::deviceplugin::AllocateResponse> =
        tonic_prost::ProstCodec::default();
    grpc.unary(tonic::Request::new(message), path, codec)
        .await
        .map(|_| ())
}
