//! The kubelet is not asked for its pods while it admits one.

use std::time::Duration;

use device_plugin::{Expected, Plugins};
use tokio::task::JoinHandle;

use crate::rig::{MIG, OTHER, Rig, within};

/// Whoever waits for anything but the pod waits for ever.
async fn rig() -> Rig {
    let forever = Duration::from_hours(1);
    Rig::with(
        |config, kubelet| {
            config.timing.admission_expected = forever;
            config.timing.admission_rest = forever;
            config.timing.list_patience = forever;
            kubelet.start();
        },
        Vec::new(),
    )
    .await
}

fn pod(resource: &str) -> Expected {
    Expected {
        pod: "uid".to_owned(),
        grants: vec![(resource.to_owned(), 1)],
    }
}

fn list(plugins: &Plugins) -> JoinHandle<()> {
    let plugins = plugins.clone();
    tokio::spawn(async move { plugins.list().await.map(drop).unwrap() })
}

#[tokio::test]
async fn no_list_is_asked_until_a_pod_that_was_bound_starts_with_its_devices() {
    let rig = rig().await;
    rig.offer(MIG, &["a1"]).await;
    rig.plugins.expect(vec![pod(MIG)], &[]);
    let list = list(&rig.plugins);
    // Each takes more round trips than a List would.
    for id in ["a2", "a3", "a4", "a5"] {
        rig.offer(MIG, &[id]).await;
    }
    assert!(!list.is_finished());
    within(rig.kubelet.prefer(MIG, &["a1"], &[], 1)).await;
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    rig.offer(MIG, &["a6"]).await;
    assert!(!list.is_finished());
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    within(list).await.unwrap();
}

#[tokio::test]
async fn word_of_a_pod_that_is_gone_again_or_has_its_devices_holds_no_list_up() {
    let rig = rig().await;
    rig.offer(MIG, &["a1"]).await;
    rig.plugins.expect(vec![pod(MIG)], &[]);
    rig.plugins.expect(Vec::new(), &["uid".to_owned()]);
    within(list(&rig.plugins)).await.unwrap();
    within(rig.kubelet.allocate(MIG, &[&["a1"]])).await.unwrap();
    within(rig.kubelet.pre_start(MIG, &["a1"])).await.unwrap();
    rig.plugins.expect(vec![pod(MIG)], &[]);
    within(list(&rig.plugins)).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_asks_for_what_others_serve_holds_no_list_up() {
    let rig = rig().await;
    rig.offer(MIG, &["a1"]).await;
    rig.plugins.expect(vec![pod(OTHER)], &[]);
    within(list(&rig.plugins)).await.unwrap();
}

/// Pod `p` has the only device of the resource that a pod has; the admission of a pod with another
/// resource is on its way.
async fn node_with_a_pod() -> Rig {
    let rig = rig().await;
    rig.offer(MIG, &["a1", "a2"]).await;
    rig.offer(OTHER, &["b1"]).await;
    rig.kubelet.show("p", MIG, &["a1"]);
    within(rig.kubelet.prefer(OTHER, &["b1"], &[], 1)).await;
    within(rig.kubelet.allocate(OTHER, &[&["b1"]]))
        .await
        .unwrap();
    rig
}

/// That admission ends, and no List is carried out from now on.
async fn a_moment_passes(rig: &Rig) -> u32 {
    rig.kubelet.turn(|knobs| knobs.stalled = true);
    let calls = rig.kubelet.node().list_calls;
    within(rig.kubelet.pre_start(OTHER, &["b1"])).await.unwrap();
    rig.plugins.recheck();
    calls
}

#[tokio::test]
async fn a_list_under_way_when_an_admission_begins_can_make_an_old_kubelet_panic() {
    let rig = node_with_a_pod().await;
    let calls = a_moment_passes(&rig).await;
    rig.node("a List", |node| node.list_calls > calls).await;
    let panic = within(rig.kubelet.admit("q", "a2", MIG, "p")).await;
    assert!(panic.unwrap_err().contains("nil map"));
}

#[tokio::test]
async fn an_old_kubelet_does_not_panic_when_it_admits_a_pod_that_was_expected() {
    let rig = node_with_a_pod().await;
    rig.plugins.expect(vec![pod(MIG)], &[]);
    let calls = a_moment_passes(&rig).await;
    for id in ["a3", "a4", "a5", "a6"] {
        rig.offer(MIG, &[id]).await;
    }
    within(rig.kubelet.admit("q", "a2", MIG, "p"))
        .await
        .unwrap();
    assert_eq!(rig.kubelet.node().list_calls, calls);
    within(rig.kubelet.pre_start(MIG, &["a2"])).await.unwrap();
    rig.node("a List", |node| node.list_calls > calls).await;
}
