//! One long-lived endpoint per resource, whatever the kubelet does.

use std::sync::Arc;
use std::time::Duration;

use device_plugin::{Config, EnsureError, Error, Plugins, Registration};
use tokio_util::sync::CancellationToken;

use crate::fake::{Allocatable, Kubelet};
use crate::rig::{Journal, MIG, OTHER, Rig, Witness, config, device, within};

#[tokio::test]
async fn a_resource_without_devices_is_registered_and_asks_for_both_optional_calls() {
    let rig = Rig::new().await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.known(MIG, |known| known.connected).await;
    let known = rig.kubelet.known(MIG);
    assert!(known.devices.is_empty());
    let options = known.options.unwrap();
    assert!(options.pre_start_required && options.get_preferred_allocation_available);
}

#[tokio::test]
async fn the_kubelet_is_waited_for_when_it_is_not_there_yet() {
    let rig = Rig::with(|_, _| {}, Vec::new()).await;
    rig.plugins.ensure(MIG).unwrap();
    let state = rig
        .state("a problem", |state| state.pod_resources_problem.is_some())
        .await;
    assert_eq!(
        state.resources[MIG].registration,
        Registration::KubeletAbsent
    );
    let problem = state.pod_resources_problem.clone().unwrap();
    assert!(problem.contains("pod-resources/kubelet.sock"), "{problem}");
    assert!(problem.contains("No such file"), "{problem}");

    rig.kubelet.start();
    rig.registered(MIG).await;
    rig.state("the end of the problem", |state| {
        state.pod_resources_problem.is_none()
    })
    .await;
}

#[tokio::test]
async fn nothing_is_registered_before_podresources_said_who_holds_what() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.start();
            std::fs::remove_file(kubelet.plugin_dir().join("../pod-resources/kubelet.sock"))
                .unwrap();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    rig.state("a problem", |state| state.pod_resources_problem.is_some())
        .await;
    assert!(rig.kubelet.node().registrations.is_empty());
    rig.kubelet.start_pod_resources();
    rig.registered(MIG).await;
}

#[tokio::test]
async fn a_refused_registration_is_tried_again_and_the_attempts_are_counted() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.turn(|knobs| knobs.refuse = 6);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    let state = rig
        .state("a third attempt", |state| {
            matches!(
                state.resources.get(MIG).map(|r| &r.registration),
                Some(Registration::Retrying { attempt: 3.., .. })
            )
        })
        .await;
    let Registration::Retrying { reason, .. } = &state.resources[MIG].registration else {
        unreachable!()
    };
    assert!(reason.contains("not now"), "{reason}");
    rig.registered(MIG).await;
    assert_eq!(rig.kubelet.node().registrations[MIG], 7);
}

#[tokio::test]
async fn a_kubelet_that_registers_but_does_not_read_is_asked_again() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.stream_timeout = Duration::from_millis(50);
            kubelet.turn(|knobs| knobs.ignore = true);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    rig.node("a second attempt", |node| {
        node.registrations.get(MIG) >= Some(&2)
    })
    .await;
    rig.kubelet.turn(|knobs| knobs.ignore = false);
    rig.registered(MIG).await;
}

#[tokio::test]
async fn every_resource_comes_back_with_its_devices_after_a_kubelet_restart() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    rig.offer(OTHER, &["b1"]).await;
    let before = rig.kubelet.known(MIG).endpoint;

    for _ in 0..3 {
        rig.kubelet.restart();
        for (resource, count) in [(MIG, 2), (OTHER, 1)] {
            let back = |node: &crate::fake::Node| {
                let healthy = |known: &crate::fake::Known| known.devices.values().all(|h| *h);
                let known = node.resources.get(resource);
                known.is_some_and(|known| known.devices.len() == count && healthy(known))
            };
            rig.node("the devices", back).await;
            rig.state("the confirmation", |state| {
                state.resources[resource].allocatable as usize == count
            })
            .await;
        }
    }
    assert_ne!(
        rig.kubelet.known(MIG).endpoint,
        before,
        "a socket name is used once"
    );
    assert!(!rig.kubelet.node().overlapped);
}

#[tokio::test]
async fn our_socket_that_vanished_is_made_anew() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let first = rig.kubelet.known(MIG).endpoint;
    std::fs::remove_file(rig.kubelet.plugin_dir().join(&first)).unwrap();
    rig.known(MIG, |known| {
        known.endpoint != first && known.devices.get("a1") == Some(&true)
    })
    .await;
}

#[tokio::test]
async fn a_kubelet_that_lost_our_devices_is_registered_with_again_after_the_old_stream_ended() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.starved_after = Duration::from_millis(100);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.lose_devices(MIG);
    rig.known(MIG, |known| known.devices.get("a1") == Some(&true))
        .await;
    rig.state("the confirmation", |state| {
        state.resources[MIG].allocatable == 1
    })
    .await;
    assert!(
        !rig.kubelet.node().overlapped,
        "the old stream is closed first"
    );
    assert_eq!(rig.kubelet.node().registrations[MIG], 2);
}

#[tokio::test]
async fn a_kubelet_that_does_not_answer_what_is_allocatable_is_not_taken_to_have_lost_our_devices()
{
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.starved_after = Duration::from_millis(50);
            kubelet.turn(|knobs| knobs.allocatable = Allocatable::Busy);
            config.timing.offer_timeout = Duration::from_millis(50);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    within(rig.plugins.offer(MIG, device("a1")))
        .await
        .unwrap_err();
    let calls = rig.kubelet.node().allocatable_calls;
    rig.node("looks", |node| node.allocatable_calls >= calls + 8)
        .await;
    assert_eq!(rig.kubelet.node().registrations[MIG], 1);
}

#[tokio::test]
async fn shutdown_ends_the_streams_and_leaves_no_socket_behind() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.shutdown.cancel();
    within(rig.plugins.closed()).await;
    rig.node("the end of the stream", |node| node.streams[MIG] == 0)
        .await;
    let left: Vec<_> = std::fs::read_dir(rig.kubelet.plugin_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(left, ["kubelet.sock"]);
    assert!(matches!(
        rig.plugins.ensure(MIG),
        Err(EnsureError::Closed { .. })
    ));
}

#[tokio::test]
async fn bad_configuration_is_refused_in_one_sentence() {
    let start = |config: Config| async {
        let (ledger, evidence) = (Arc::<Journal>::default(), Arc::<Witness>::default());
        let shutdown = CancellationToken::new();
        Plugins::start(config, ledger, evidence, Vec::new(), shutdown).await
    };
    let nowhere = config(std::path::Path::new("/nonexistent"));
    let error = start(nowhere).await.err().unwrap();
    assert!(matches!(error, Error::PluginDir { .. }));
    assert!(
        error.to_string().contains("/nonexistent/device-plugins"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    Kubelet::new(dir.path());
    let mut config = config(dir.path());
    config.socket_prefix = "a/b".to_owned();
    assert!(matches!(
        start(config).await.err().unwrap(),
        Error::SocketPrefix { .. }
    ));
}

#[tokio::test]
async fn bad_names_are_refused_and_harm_nothing_else() {
    let rig = Rig::new().await;
    for bad in ["gpu", "nvidia.com/mig-1g.5gb+me", "kubernetes.io/gpu"] {
        assert!(
            matches!(
                rig.plugins.ensure(bad),
                Err(EnsureError::ResourceName { .. })
            ),
            "{bad}"
        );
    }
    rig.offer(MIG, &["a1"]).await;
}

#[tokio::test]
async fn a_directory_too_deep_for_sockets_is_refused_in_one_sentence() {
    let deep = tempfile::tempdir().unwrap();
    let deep = deep.path().join("x".repeat(100));
    let kubelet = Kubelet::new(&deep);
    let shutdown = CancellationToken::new();
    let (ledger, evidence) = (Arc::<Journal>::default(), Arc::<Witness>::default());
    let started = Plugins::start(config(&deep), ledger, evidence, Vec::new(), shutdown).await;
    let error = started.unwrap().ensure(MIG).unwrap_err();
    assert!(matches!(error, EnsureError::SocketPath { .. }));
    assert!(
        error
            .to_string()
            .contains(kubelet.plugin_dir().to_str().unwrap()),
        "{error}"
    );
}
