//! Withdraw: nothing that a pod holds, or is about to get, is ever given up.

use std::time::Duration;

use device_plugin::{DevicePhase, StillHeld, WithdrawError};

use crate::fake::Allocatable;
use crate::rig::{MIG, OTHER, Rig, device, within};

#[tokio::test]
async fn a_free_device_is_withdrawn_fenced_and_forgotten_in_that_order() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;

    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    assert!(!rig.kubelet.known(MIG).devices["a1"], "unhealthy first");
    let state = rig.plugins.state().borrow().clone();
    assert_eq!(
        (
            state.resources[MIG].capacity,
            state.resources[MIG].allocatable
        ),
        (2, 1)
    );

    let fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
    assert_eq!((fenced.resource(), fenced.id()), (MIG, "a1"));
    assert!(
        rig.kubelet.known(MIG).devices.contains_key("a1"),
        "listed while it is destroyed"
    );
    within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();

    rig.plugins.forget(fenced);
    rig.known(MIG, |known| known.devices.keys().eq(["a2"]))
        .await;
    rig.offer(MIG, &["a1"]).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

#[tokio::test]
async fn a_device_moves_to_another_name_by_a_full_withdrawal() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    let fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
    rig.plugins.forget(fenced);
    rig.offer(OTHER, &["a1"]).await;
    rig.known(OTHER, |known| known.devices.get("a1") == Some(&true))
        .await;
    rig.known(MIG, |known| known.devices.is_empty()).await;
    assert!(
        rig.plugins.state().borrow().resources.contains_key(MIG),
        "registered without devices"
    );
}

#[tokio::test]
async fn a_held_device_is_not_withdrawn() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    let error = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap_err();
    assert!(matches!(error, WithdrawError::Held { .. }));
    assert_eq!(error.category(), "held");
    assert!(
        error.to_string().contains("by default/pod (main)"),
        "{error}"
    );
    assert!(rig.kubelet.known(MIG).devices["a1"]);
}

#[tokio::test]
async fn a_grant_that_crosses_the_withdrawal_wins() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let withdrawal = rig.plugins.withdraw(MIG, "a1");
    tokio::pin!(withdrawal);
    let lists = rig.kubelet.node().lists;
    tokio::select! {
        _ = &mut withdrawal => panic!("the kubelet has not taken the list over"),
        () = rig.node("the list", |node| node.lists > lists) => {}
    }
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    let error = within(withdrawal).await.unwrap_err();
    assert!(matches!(error, WithdrawError::Held { .. }), "{error}");
    rig.kubelet.turn(|knobs| knobs.frozen = false);
    rig.known(MIG, |known| known.devices.get("a1") == Some(&true))
        .await;
}

#[tokio::test]
async fn a_grant_between_withdrawal_and_fence_stops_the_fence() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    let error = within(rig.plugins.fence(withdrawn)).await.unwrap_err();
    assert!(matches!(error, StillHeld::Granted { .. }), "{error}");
    rig.known(MIG, |known| known.devices.get("a1") == Some(&true))
        .await;
}

#[tokio::test]
async fn a_doubt_at_the_fence_offers_the_device_again() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    *rig.witness.doubt.lock().unwrap() = Some("default/new asks for one and has none".to_owned());
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    let error = within(rig.plugins.fence(withdrawn)).await.unwrap_err();
    assert!(
        error.to_string().contains("default/new asks for one"),
        "{error}"
    );
    rig.state("the offer", |state| state.resources[MIG].allocatable == 1)
        .await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

#[tokio::test]
async fn a_device_that_podresources_shows_under_any_name_is_not_fenced() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    rig.kubelet.show("pod", "other.vendor/device", &["a1"]);
    let error = within(rig.plugins.fence(withdrawn)).await.unwrap_err();
    assert!(matches!(error, StillHeld::Doubt { .. }), "{error}");
}

#[tokio::test]
async fn a_fence_without_podresources_is_a_doubt() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    rig.kubelet.stop();
    let error = within(rig.plugins.fence(withdrawn)).await.unwrap_err();
    assert!(matches!(error, StillHeld::Doubt { .. }), "{error}");
}

#[tokio::test]
async fn a_dropped_withdrawal_is_offered_again_and_a_dropped_fence_is_not() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    drop(within(rig.plugins.withdraw(MIG, "a1")).await.unwrap());
    rig.state("the offer", |state| state.resources[MIG].allocatable == 2)
        .await;

    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    drop(within(rig.plugins.fence(withdrawn)).await.unwrap());
    let state = rig.plugins.state().borrow().clone();
    assert_eq!(state.device(MIG, "a1").unwrap().phase, DevicePhase::Fenced);

    let withdrawn = within(rig.plugins.withdraw(MIG, "a2")).await.unwrap();
    let fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
    rig.plugins.reinstate(fenced);
    rig.state("the offer", |state| state.resources[MIG].allocatable == 1)
        .await;
}

#[tokio::test]
async fn a_withdrawal_that_is_given_up_midway_is_offered_again() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    {
        let withdrawal = rig.plugins.withdraw(MIG, "a1");
        tokio::pin!(withdrawal);
        assert!(futures::poll!(&mut withdrawal).is_pending());
    }
    rig.kubelet.turn(|knobs| knobs.frozen = false);
    rig.state("the offer", |state| state.resources[MIG].allocatable == 1)
        .await;
}

#[tokio::test]
async fn a_kubelet_that_does_not_act_on_the_list_keeps_its_device() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.withdraw_timeout = Duration::from_millis(100);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.turn(|knobs| knobs.frozen = true);
    let error = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap_err();
    assert!(
        matches!(error, WithdrawError::Unconfirmed { .. }),
        "{error}"
    );
    rig.kubelet.turn(|knobs| knobs.frozen = false);
    rig.state("the offer", |state| state.resources[MIG].allocatable == 1)
        .await;
}

#[tokio::test]
async fn without_the_allocatable_call_two_round_trips_and_the_fence_decide() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.turn(|knobs| knobs.allocatable = Allocatable::Unimplemented);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    let calls = rig.kubelet.node().list_calls;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    assert!(rig.kubelet.node().list_calls >= calls + 2);
    let _fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
}

/// A List there makes the kubelet forget whom it is giving the device to, and give it to a second pod.
#[tokio::test]
async fn an_old_kubelet_in_the_middle_of_an_admission_is_asked_for_no_list() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.turn(|knobs| knobs.allocatable = Allocatable::Unimplemented);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    let gate = rig.journal.gate.lock().await;
    rig.kubelet.prefer(MIG, &["a1"], &[], 1).await;
    let kubelet = rig.kubelet.clone();
    let admission = tokio::spawn(async move { kubelet.allocate(MIG, &[&["a1"]]).await });
    rig.state("the grant begins", |state| {
        state.device(MIG, "a1").unwrap().hold.is_some()
    })
    .await;
    let calls = rig.kubelet.node().list_calls;
    rig.offer(MIG, &["a2"]).await;
    assert_eq!(rig.kubelet.node().list_calls, calls);
    drop(gate);
    within(admission).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_kubelet_restart_during_a_withdrawal_does_not_bring_the_device_back() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    rig.kubelet.restart();
    rig.known(MIG, |known| known.devices.get("a1") == Some(&false))
        .await;
    let fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
    rig.plugins.forget(fenced);
    rig.known(MIG, |known| known.devices.is_empty()).await;
}

#[tokio::test]
async fn only_what_is_offered_can_be_withdrawn() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let error = within(rig.plugins.withdraw(MIG, "zz")).await.unwrap_err();
    assert!(matches!(error, WithdrawError::NotListed { .. }), "{error}");
    let _withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    let error = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap_err();
    assert!(matches!(error, WithdrawError::NotOffered { .. }), "{error}");
    within(rig.plugins.offer(MIG, device("a1")))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_faulty_device_can_be_withdrawn() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.plugins.mark_unhealthy(MIG, "a1", "XID 79");
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    let _fenced = within(rig.plugins.fence(withdrawn)).await.unwrap();
}

#[tokio::test]
async fn a_lost_device_voids_its_withdrawal_and_leaves_the_list_once_the_kubelet_knows() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    rig.plugins.lose(MIG, "a1");
    rig.plugins.lose(MIG, "a2");
    let error = within(rig.plugins.fence(withdrawn)).await.unwrap_err();
    assert!(matches!(error, StillHeld::Void { .. }), "{error}");
    rig.known(MIG, |known| known.devices.is_empty()).await;
}

#[tokio::test]
async fn a_device_that_is_lost_and_offered_anew_during_the_proofs_is_not_fenced() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    let withdrawn = within(rig.plugins.withdraw(MIG, "a1")).await.unwrap();
    *rig.witness.gated.lock().unwrap() = Some("a1".to_owned());
    let gate = rig.witness.gate.lock().await;
    let plugins = rig.plugins.clone();
    let fence = tokio::spawn(async move { plugins.fence(withdrawn).await });
    let mut asked = rig.witness.asked.subscribe();
    within(asked.wait_for(|asked| !asked.is_empty()))
        .await
        .unwrap();
    rig.plugins.lose(MIG, "a1");
    rig.offer(MIG, &["a1"]).await;
    drop(gate);
    let error = within(fence).await.unwrap().unwrap_err();
    assert!(matches!(error, StillHeld::Void { .. }), "{error}");
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
}

#[tokio::test]
async fn fences_at_the_same_time_share_their_looks_at_the_kubelet() {
    let rig = Rig::new().await;
    let ids: Vec<String> = (0..12).map(|n| format!("a{n}")).collect();
    let offered: Vec<&str> = ids.iter().map(String::as_str).collect();
    rig.offer(MIG, &offered).await;
    let withdrawals = ids.iter().map(|id| rig.plugins.withdraw(MIG, id));
    let withdrawn = within(futures::future::join_all(withdrawals)).await;
    let calls = rig.kubelet.node().list_calls;
    let fences = withdrawn
        .into_iter()
        .map(|withdrawn| rig.plugins.fence(withdrawn.unwrap()));
    for fenced in within(futures::future::join_all(fences)).await {
        rig.plugins.forget(fenced.unwrap());
    }
    let calls = rig.kubelet.node().list_calls - calls;
    assert!(calls <= 4, "{calls} calls; the kubelet refuses ten at once");
}
