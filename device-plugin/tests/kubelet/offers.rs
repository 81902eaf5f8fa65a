//! Offer: done only when the kubelet is known to give the device out.

use std::sync::Arc;
use std::time::Duration;

use device_plugin::{OfferError, Plugins, Registration};
use tokio_util::sync::CancellationToken;

use crate::fake::{Allocatable, Kubelet};
use crate::rig::{Journal, MIG, OTHER, Rig, Witness, config, device, within};

#[tokio::test]
async fn an_offer_ends_when_the_kubelet_shows_the_device_as_allocatable() {
    let rig = Rig::new().await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let offer = rig.plugins.offer(MIG, device("a1"));
    tokio::pin!(offer);
    let calls = rig.kubelet.node().allocatable_calls;
    tokio::select! {
        _ = &mut offer => panic!("the kubelet has not taken the list over"),
        () = rig.node("looks", |node| node.allocatable_calls >= calls + 3) => {}
    }
    assert_eq!(rig.plugins.state().borrow().resources[MIG].allocatable, 0);
    rig.kubelet.turn(|knobs| knobs.frozen = false);
    within(offer).await.unwrap();
    let state = rig.plugins.state().borrow().clone();
    assert_eq!(
        (
            state.resources[MIG].allocatable,
            state.resources[MIG].capacity
        ),
        (1, 1)
    );
    assert!(state.device(MIG, "a1").unwrap().confirmed);
}

#[tokio::test]
async fn offers_made_together_arrive_in_one_list() {
    let rig = Rig::new().await;
    rig.plugins.ensure(MIG).unwrap();
    rig.known(MIG, |known| known.connected).await;
    let before = rig.kubelet.node().lists;
    rig.offer(MIG, &["a1", "a2", "a3", "a4", "a5", "a6", "a7"])
        .await;
    assert_eq!(rig.kubelet.node().lists, before + 1);
}

#[tokio::test]
async fn a_kubelet_that_cannot_say_what_is_allocatable_is_given_a_moment() {
    for kind in [Allocatable::Unimplemented, Allocatable::Disabled] {
        let rig = Rig::with(
            |_, kubelet| {
                kubelet.turn(|knobs| knobs.allocatable = kind);
                kubelet.start();
            },
            Vec::new(),
        )
        .await;
        rig.offer(MIG, &["a1"]).await;
        rig.offer(MIG, &["a2"]).await;
        assert_eq!(
            rig.kubelet.node().allocatable_calls,
            1,
            "its answer is remembered"
        );
        assert_eq!(rig.plugins.state().borrow().resources[MIG].allocatable, 2);
    }
}

#[tokio::test]
async fn a_newer_kubelet_is_asked_again_what_is_allocatable() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.turn(|knobs| knobs.allocatable = Allocatable::Unimplemented);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet
        .turn(|knobs| knobs.allocatable = Allocatable::Answers);
    rig.kubelet.restart();
    rig.node("a second question", |node| node.allocatable_calls >= 2)
        .await;
    rig.state("the confirmation", |state| {
        state.resources[MIG].allocatable == 1
    })
    .await;
}

#[tokio::test]
async fn an_offer_without_kubelet_says_so_and_stays() {
    let rig = Rig::with(
        |config, _| config.timing.offer_timeout = Duration::from_millis(50),
        Vec::new(),
    )
    .await;
    let error = within(rig.plugins.offer(MIG, device("a1")))
        .await
        .unwrap_err();
    assert!(matches!(error, OfferError::Unconfirmed { .. }), "{error}");
    assert!(
        error.to_string().contains("pod-resources/kubelet.sock"),
        "{error}"
    );
    rig.kubelet.start();
    rig.state("the confirmation", |state| {
        state.resources[MIG].allocatable == 1
    })
    .await;
}

#[tokio::test]
async fn a_device_is_never_offered_under_two_names() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let error = within(rig.plugins.offer(OTHER, device("a1")))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, OfferError::Elsewhere { other, .. } if other == MIG),
        "{error}"
    );
}

#[tokio::test]
async fn ids_that_cannot_be_file_names_are_refused() {
    let rig = Rig::new().await;
    for bad in ["", "a/b", ".."] {
        let mut device = device("a1");
        device.id = bad.to_owned();
        let error = within(rig.plugins.offer(MIG, device)).await.unwrap_err();
        assert!(matches!(error, OfferError::DeviceId { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_state_falls_with_the_kubelet_and_rises_with_it() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.stop();
    let state = rig
        .state("nothing allocatable", |s| s.resources[MIG].allocatable == 0)
        .await;
    assert_eq!(
        state.resources[MIG].capacity, 1,
        "the kubelet goes on counting"
    );
    rig.state("the absence", |state| {
        state.resources[MIG].registration == Registration::KubeletAbsent
    })
    .await;
    rig.kubelet.start();
    rig.state("the confirmation", |state| {
        state.resources[MIG].allocatable == 1
    })
    .await;
}

#[tokio::test]
async fn an_offer_made_again_is_looked_at_at_once_however_long_the_pauses_were() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.offer_timeout = Duration::from_millis(400);
            config.timing.safety_interval = Duration::from_hours(1);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(MIG).unwrap();
    rig.registered(MIG).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let calls = rig.kubelet.node().allocatable_calls;
    within(rig.plugins.offer(MIG, device("a1")))
        .await
        .unwrap_err();
    // Nobody waits: by the eleventh look the pauses are longer than the second offer's patience.
    rig.node("looks", |node| node.allocatable_calls >= calls + 11)
        .await;
    rig.kubelet.turn(|knobs| knobs.frozen = false);
    rig.known(MIG, |known| known.devices.get("a1") == Some(&true))
        .await;
    rig.offer(MIG, &["a1"]).await;
}

#[tokio::test]
async fn what_cannot_be_served_is_not_offered_either() {
    let deep = tempfile::tempdir().unwrap();
    let deep = deep.path().join("x".repeat(100));
    let _kubelet = Kubelet::new(&deep);
    let (ledger, evidence) = (Arc::<Journal>::default(), Arc::<Witness>::default());
    let shutdown = CancellationToken::new();
    let started = Plugins::start(config(&deep), ledger, evidence, Vec::new(), shutdown).await;
    let plugins = started.unwrap();
    for resource in [MIG, OTHER] {
        let error = within(plugins.offer(resource, device("a1")))
            .await
            .unwrap_err();
        assert!(matches!(error, OfferError::Ensure(_)), "{error}");
    }
}
