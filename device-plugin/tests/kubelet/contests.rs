//! A pod deleted by force: the kubelet gives its device away while its containers still run.

use std::time::Duration;

use tonic::Code;

use crate::fake::holder;
use crate::rig::{MIG, Rig, within};

const WHY: &str = "processes of pod default/old are still running";

/// The device was used by a pod that runs on, and is granted to another one.
async fn contested(wait: Duration) -> Rig {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.contest_wait = wait;
            // Only starts ask, unless a test looks itself.
            config.timing.safety_interval = Duration::from_hours(1);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.grant("old", MIG, "a1").await;
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    *rig.witness.doubt.lock().unwrap() = Some(WHY.to_owned());
    rig.witness.contest.send_replace(Some(WHY.to_owned()));
    rig.kubelet.hide("old");
    rig.grant("new", MIG, "a1").await;
    rig
}

#[tokio::test]
async fn a_container_does_not_start_with_what_a_former_pod_still_uses() {
    let rig = contested(Duration::from_millis(1)).await;
    let error = within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let message = error.message();
    assert!(message.contains("a1") && message.contains(WHY), "{message}");
    assert!(rig.held(MIG, "a1"));
    let asked = rig.witness.contests.borrow().clone();
    assert_eq!(asked[0].holders, [holder("old")]);

    rig.witness.contest.send_replace(None);
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
}

#[tokio::test]
async fn a_start_waits_for_the_former_pods_end() {
    let rig = contested(Duration::from_hours(1)).await;
    let asked = rig.witness.contests.borrow().len();
    let start = rig.kubelet.pre_start(MIG, &["a1"]);
    let end = async {
        let mut contests = rig.witness.contests.subscribe();
        contests.wait_for(|all| all.len() > asked).await.unwrap();
        rig.witness.contest.send_replace(None);
    };
    let (started, ()) = within(futures::future::join(start, end)).await;
    started.unwrap();
}

#[tokio::test]
async fn the_end_of_a_contest_is_written_down_after_the_grant_that_began_it() {
    let rig = contested(Duration::from_millis(1)).await;
    let settled = || {
        let lines = rig.journal.lines.lock().unwrap();
        let grants = lines.iter().rposition(|line| line == "grant a1").unwrap();
        lines[grants..].iter().any(|line| line == "a1 settled")
    };
    within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert!(!settled());
    rig.witness.contest.send_replace(None);
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    // A look may have settled it before the start, and be writing it still.
    let written = async {
        while !settled() {
            tokio::task::yield_now().await;
        }
    };
    within(written).await;
}

#[tokio::test]
async fn a_container_that_started_starts_again_beside_its_own_processes() {
    let rig = contested(Duration::from_millis(1)).await;
    rig.witness.contest.send_replace(None);
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    rig.witness.contest.send_replace(Some(WHY.to_owned()));
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
}

#[tokio::test]
async fn the_normal_looks_end_a_contest_before_the_start() {
    let rig = contested(Duration::from_millis(1)).await;
    rig.witness.contest.send_replace(None);
    let asked = rig.witness.contests.borrow().len();
    rig.plugins.recheck();
    let mut contests = rig.witness.contests.subscribe();
    within(contests.wait_for(|all| all.len() > asked))
        .await
        .unwrap();
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
}

/// The device was granted to one pod and to another before podresources showed the first one, as a kubelet does
/// that loses the mark that the device is taken. It shows both.
async fn doubled(wait: Duration) -> Rig {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.contest_wait = wait;
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    rig.kubelet.prefer(MIG, &["a1"], &[], 1).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    rig.kubelet.prefer(MIG, &["a1"], &[], 1).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    rig.kubelet.show("old", MIG, &["a1"]);
    rig.kubelet.show("new", MIG, &["a1"]);
    rig
}

#[tokio::test]
async fn a_container_does_not_start_with_what_the_kubelet_gave_to_two_pods() {
    let rig = doubled(Duration::from_millis(1)).await;
    let error = within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let message = error.message();
    for part in ["a1", "default/old (main)", "default/new (main)"] {
        assert!(message.contains(part), "{message}");
    }
    rig.kubelet.hide("old");
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
}

#[tokio::test]
async fn a_start_waits_until_one_of_two_pods_has_ended() {
    let rig = doubled(Duration::from_hours(1)).await;
    let start = rig.kubelet.pre_start(MIG, &["a1"]);
    let end = async {
        let looked = |state: &device_plugin::PluginState| {
            let hold = state.device(MIG, "a1").and_then(|d| d.hold.as_ref());
            hold.is_some_and(|hold| hold.holders.len() == 2)
        };
        rig.state("the look", looked).await;
        rig.kubelet.hide("old");
    };
    let (started, ()) = within(futures::future::join(start, end)).await;
    started.unwrap();
    let asked = rig.witness.contests.borrow().clone();
    assert_eq!(asked.last().unwrap().holders, [holder("old")]);
}

#[tokio::test]
async fn without_an_answer_of_the_kubelet_nothing_starts_that_two_pods_may_have() {
    let rig = Rig::with(
        |config, kubelet| {
            config.timing.contest_look = Duration::from_millis(1);
            config.timing.contest_wait = Duration::from_millis(1);
            kubelet.start();
        },
        Vec::new(),
    )
    .await;
    rig.offer(MIG, &["a1"]).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    rig.kubelet.turn(|knobs| knobs.stalled = true);
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    let error = within(rig.kubelet.pre_start(MIG, &["a1"]))
        .await
        .unwrap_err();
    assert!(error.message().contains("has not said"), "{error}");
    rig.kubelet.turn(|knobs| knobs.stalled = false);
}

#[tokio::test]
async fn where_every_device_is_held_the_one_granted_longest_ago_is_preferred() {
    let rig = Rig::new().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    rig.grant("first", MIG, "a2").await;
    rig.grant("second", MIG, "a1").await;
    let free = ["a1", "a2"];
    assert_eq!(rig.kubelet.prefer(MIG, &free, &[], 1).await, ["a2"]);
    *rig.witness.doubt.lock().unwrap() = Some(WHY.to_owned());
    rig.kubelet.hide("second");
    rig.plugins.recheck();
    let gone = |state: &device_plugin::PluginState| {
        let hold = state.device(MIG, "a1").and_then(|d| d.hold.as_ref());
        hold.is_some_and(|hold| !hold.shown)
    };
    rig.state("the end", gone).await;
    assert_eq!(rig.kubelet.prefer(MIG, &free, &[], 1).await, ["a1"]);
}
