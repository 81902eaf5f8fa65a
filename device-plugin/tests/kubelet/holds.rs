//! Hold: begins before the answer, ends only on proof.

use std::time::Duration;

use device_plugin::{DevicePhase, Hold, OfferError};

use crate::fake::holder;
use crate::rig::{MIG, OTHER, Rig, device, within};

fn adopted(id: &str) -> Hold {
    Hold {
        resource: MIG.to_owned(),
        id: id.to_owned(),
        holders: vec![holder("before")],
    }
}

#[tokio::test]
async fn a_hold_ends_when_the_pod_is_gone_and_every_proof_is_given() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    assert!(rig.journal.holds(MIG, "a1"));
    rig.kubelet.hide("pod");
    rig.plugins.recheck();
    rig.state("the release", |state| {
        state.device(MIG, "a1").unwrap().hold.is_none()
    })
    .await;
    assert!(!rig.journal.holds(MIG, "a1"));
    let asked = rig.witness.asked.borrow().clone();
    assert_eq!(
        asked[0].holders,
        [holder("pod")],
        "the agent is told whose processes to look for"
    );
    let lines = rig.journal.lines.lock().unwrap().clone();
    assert_eq!(
        lines,
        ["grant a1", "a1 held by default/pod (main)", "release a1"]
    );
}

#[tokio::test]
async fn a_pod_that_podresources_shows_holds_whatever_the_agent_thinks() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    let calls = rig.kubelet.node().list_calls;
    rig.plugins.recheck();
    rig.node("looks", |node| node.list_calls >= calls + 3).await;
    assert!(rig.held(MIG, "a1"));
    assert!(rig.witness.asked.borrow().is_empty());
}

#[tokio::test]
async fn a_hold_in_doubt_goes_on_and_says_why_until_the_doubt_is_gone() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    *rig.witness.doubt.lock().unwrap() = Some("process 42 of default/pod lives".to_owned());
    rig.kubelet.hide("pod");
    rig.plugins.recheck();
    rig.state("the doubt", |state| {
        let hold = state.device(MIG, "a1").unwrap().hold.as_ref().unwrap();
        !hold.shown && hold.doubt.as_deref() == Some("process 42 of default/pod lives")
    })
    .await;
    *rig.witness.doubt.lock().unwrap() = None;
    // No event tells of the process's end: the safety look finds it.
    rig.state("the release", |state| {
        state.device(MIG, "a1").unwrap().hold.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_is_not_shown_yet_is_not_free() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.unseen_for = Duration::from_hours(1);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    let calls = rig.kubelet.node().list_calls;
    rig.node("many looks", |node| node.list_calls >= calls + 6)
        .await;
    assert!(rig.held(MIG, "a1"));
    assert!(rig.witness.asked.borrow().is_empty());
}

#[tokio::test]
async fn a_grant_that_is_never_shown_ends_after_looks_enough_and_on_proof() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.unseen_rounds = 4;
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    let calls = rig.kubelet.node().list_calls;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    rig.state("the release", |state| {
        state.device(MIG, "a1").unwrap().hold.is_none()
    })
    .await;
    assert!(rig.kubelet.node().list_calls >= calls + 4);
    assert_eq!(rig.witness.asked.borrow().len(), 1);
}

#[tokio::test]
async fn a_release_that_cannot_be_written_leaves_the_hold() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("pod", MIG, "a1").await;
    *rig.journal.broken.lock().unwrap() = true;
    rig.kubelet.hide("pod");
    rig.plugins.recheck();
    rig.state("the doubt", |state| {
        let hold = state.device(MIG, "a1").unwrap().hold.as_ref();
        hold.and_then(|hold| hold.doubt.as_ref())
            .is_some_and(|why| why.contains("journal"))
    })
    .await;
    *rig.journal.broken.lock().unwrap() = false;
    rig.state("the release", |state| {
        state.device(MIG, "a1").unwrap().hold.is_none()
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_the_journals_holds_go_on_and_their_devices_are_offered_again() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("before", MIG, "a1").await;

    let rig = rig.restart_agent(vec![adopted("a1")]).await;
    rig.known(MIG, |known| known.devices.contains_key("a1"))
        .await;
    rig.offer(MIG, &["a1"]).await;
    assert!(rig.held(MIG, "a1"));
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    let state = rig.plugins.state().borrow().clone();
    assert_eq!(state.device(MIG, "a1").unwrap().phase, DevicePhase::Offered);
}

#[tokio::test]
async fn a_journaled_device_that_is_gone_is_listed_as_unhealthy_until_its_pod_is_gone() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.start();
            kubelet.show("before", MIG, &["a1"]);
        },
        vec![adopted("a1")],
    )
    .await;
    rig.known(MIG, |known| known.devices.get("a1") == Some(&false))
        .await;
    let error = within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert!(error.message().contains("gone"), "{error:?}");
    let calls = rig.kubelet.node().list_calls;
    rig.node("looks", |node| node.list_calls >= calls + 3).await;
    assert!(rig.held(MIG, "a1"));

    rig.kubelet.hide("before");
    rig.plugins.recheck();
    rig.known(MIG, |known| known.devices.is_empty()).await;
    assert_eq!(
        rig.journal.lines.lock().unwrap().last().unwrap(),
        "release a1"
    );
}

#[tokio::test]
async fn a_device_that_a_pod_got_from_another_plugin_is_held_from_the_first_look() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.start();
            kubelet.show("older", MIG, &["a1"]);
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.state("the hold", |state| {
        let hold = state
            .device(MIG, "a1")
            .and_then(|device| device.hold.as_ref());
        hold.is_some_and(|hold| hold.holders == [holder("older")])
    })
    .await;
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    rig.state("the journal", |_| rig.journal.holds(MIG, "a1"))
        .await;
}

#[tokio::test]
async fn a_device_that_a_pod_has_under_another_name_is_not_given_out_under_ours() {
    let rig = Rig::with(
        |_, kubelet| {
            kubelet.start();
            kubelet.show("older", OTHER, &["a1"]);
        },
        Vec::new(),
    )
    .await;
    rig.plugins.ensure(OTHER).unwrap();
    match within(rig.plugins.offer(MIG, device("a1"))).await {
        Err(OfferError::Elsewhere { .. }) => {}
        other => {
            // Offered before the first look: then listed, but as unhealthy.
            assert!(!matches!(other, Ok(())), "{other:?}");
            rig.known(MIG, |known| known.devices.get("a1") == Some(&false))
                .await;
            within(rig.kubelet.allocate(MIG, &[&["a1"]]))
                .await
                .unwrap_err();
        }
    }
    rig.known(OTHER, |known| known.devices.get("a1") == Some(&false))
        .await;
}
