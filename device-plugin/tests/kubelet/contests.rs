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
