//! A journal that hangs or fails: nobody waits for it without end, and nothing is lost by it.

use std::time::Duration;

use tonic::Code;

use crate::rig::{MIG, Rig, device, within};

async fn impatient() -> Rig {
    Rig::with(
        |config, kubelet| {
            config.timing.ledger_timeout = Duration::from_millis(100);
            kubelet.start();
        },
        Vec::new(),
    )
    .await
}

#[tokio::test]
async fn a_journal_that_hangs_refuses_grants_in_time_and_keeps_what_it_may_have_written() {
    let rig = impatient().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    let gate = rig.journal.gate.lock().await;
    let error = within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("did not answer"), "{error:?}");
    assert!(rig.held(MIG, "a1"), "it may be written yet");

    let error = within(rig.kubelet.allocate(MIG, &[&["a2"]]))
        .await
        .unwrap_err();
    assert!(error.message().contains("is busy"), "{error:?}");
    assert!(!rig.held(MIG, "a2"), "nothing was written");

    drop(gate);
    within(rig.kubelet.allocate(MIG, &[&["a2"]])).await.unwrap();
    rig.state("the end of the hold that no pod has", |state| {
        state.device(MIG, "a1").unwrap().hold.is_none()
    })
    .await;
    assert!(!rig.journal.holds(MIG, "a1"));
}

#[tokio::test]
async fn a_release_that_is_written_late_never_strikes_out_a_newer_grant() {
    let rig = impatient().await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("first", MIG, "a1").await;
    let gate = rig.journal.release_gate.lock().await;
    rig.kubelet.hide("first");
    rig.plugins.recheck();
    rig.state("the doubt", |state| {
        let hold = state.device(MIG, "a1").unwrap().hold.as_ref();
        let doubt = hold.and_then(|hold| hold.doubt.as_ref());
        doubt.is_some_and(|why| why.contains("the journal failed"))
    })
    .await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    let kubelet = rig.kubelet.clone();
    let second = tokio::spawn(async move { kubelet.allocate(MIG, &[&["a1"]]).await });
    drop(gate);
    if within(second).await.unwrap().is_err() {
        within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    }
    rig.kubelet.show("second", MIG, &["a1"]);
    let calls = rig.kubelet.node().list_calls;
    rig.node("looks", |node| node.list_calls >= calls + 3).await;
    assert!(rig.held(MIG, "a1") && rig.journal.holds(MIG, "a1"));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_journal_that_hangs() {
    let rig = impatient().await;
    rig.offer(MIG, &["a1"]).await;
    let _gate = rig.journal.gate.lock().await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]]))
        .await
        .unwrap_err();
    rig.shutdown.cancel();
    within(rig.plugins.closed()).await;
}

#[tokio::test]
async fn a_hold_that_could_not_be_written_is_written_as_soon_as_that_works() {
    let rig = Rig::with(|_, kubelet| kubelet.start(), Vec::new()).await;
    *rig.journal.broken.lock().unwrap() = true;
    rig.plugins.ensure(MIG).unwrap();
    rig.kubelet.show("older", MIG, &["a1"]);
    rig.plugins.recheck();
    rig.state("the hold", |state| state.device(MIG, "a1").is_some())
        .await;
    let calls = rig.kubelet.node().list_calls;
    rig.node("looks", |node| node.list_calls >= calls + 2).await;
    *rig.journal.broken.lock().unwrap() = false;
    let named = "a1 held by default/older (main)".to_owned();
    rig.node("the journal", |_| {
        rig.journal.holds(MIG, "a1") && rig.journal.lines.lock().unwrap().contains(&named)
    })
    .await;
    let lines = rig.journal.lines.lock().unwrap().len();
    let calls = rig.kubelet.node().list_calls;
    rig.node("looks", |node| node.list_calls >= calls + 3).await;
    let written = rig.journal.lines.lock().unwrap().clone();
    assert!(written.len() <= lines + 1, "again and again: {written:?}");
}

#[tokio::test]
async fn a_holder_that_could_not_be_written_is_written_as_soon_as_that_works() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1"]).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    *rig.journal.broken.lock().unwrap() = true;
    rig.kubelet.show("pod", MIG, &["a1"]);
    rig.plugins.recheck();
    rig.state("the holder", |state| {
        let hold = state.device(MIG, "a1").unwrap().hold.as_ref();
        hold.is_some_and(|hold| hold.shown)
    })
    .await;
    let calls = rig.kubelet.node().list_calls;
    rig.node("looks", |node| node.list_calls >= calls + 2).await;
    *rig.journal.broken.lock().unwrap() = false;
    let named = "a1 held by default/pod (main)".to_owned();
    rig.node("the journal", |_| {
        rig.journal.lines.lock().unwrap().contains(&named)
    })
    .await;
}

#[tokio::test]
async fn evidence_that_hangs_keeps_no_other_device_held() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    rig.grant("first", MIG, "a1").await;
    rig.grant("second", MIG, "a2").await;
    *rig.witness.gated.lock().unwrap() = Some("a1".to_owned());
    let _gate = rig.witness.gate.lock().await;
    rig.kubelet.hide("first");
    rig.kubelet.hide("second");
    rig.plugins.recheck();
    rig.state("the release", |state| {
        state.device(MIG, "a2").unwrap().hold.is_none()
    })
    .await;
    assert!(rig.held(MIG, "a1"));
    let offered = within(rig.plugins.offer(MIG, device("a3"))).await;
    offered.unwrap();
}
