//! How pods get devices, and how they do not.

use serde_json::json;
use simcluster::cluster::Behaviour;
use simcluster::store::{DeleteOptions, Kind};

use crate::support::{container, phase, pod, start};
use crate::toy_plugin::{RESOURCE, ToyPlugin, healthy, listed};

#[tokio::test]
async fn a_plain_pod_comes_to_run_and_goes_when_it_is_deleted() {
    let c = start(Behaviour::V1_33).await;
    let created = c.create(pod("p", 0));
    let running = c.until_phase("p", "Running").await;
    assert_eq!(running["spec"]["nodeName"], "n");
    let status = &running["status"]["containerStatuses"][0];
    assert_eq!(
        (&status["ready"], &status["restartCount"]),
        (&json!(true), &json!(0))
    );
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let times = c.cluster.timeline(uid).unwrap();
    assert!(times.created <= times.scheduled && times.scheduled <= times.running);
    c.delete("p", &DeleteOptions::default());
    c.until_gone("p").await;
    assert!(c.node().containers().is_empty());
    c.end().await;
}

#[tokio::test]
async fn a_pod_gets_a_device_as_soon_as_there_is_one() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &[]).await;
    c.until_node_shows(0, 0).await;
    let created = c.create(pod("p", 1));
    c.until("p", |pod| {
        pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    })
    .await;
    p.send(healthy(&["d1"]));
    c.until_phase("p", "Running").await;
    assert_eq!(*p.allocated().borrow(), [["d1"]]);
    assert_eq!(*p.prepared().borrow(), [["d1"]]);
    let allocation = &c.node().allocations().await[0];
    assert_eq!(
        (&allocation.ids[..], &allocation.env["DEVICES"][..]),
        (&["d1".to_owned()][..], "d1")
    );
    assert_eq!(c.node().containers()[0].given.envs["DEVICES"], "d1");
    let pods = listed(&c.node().kubelet_paths().pod_resources).await;
    assert_eq!(
        pods,
        [("p".to_owned(), "main".to_owned(), vec!["d1".to_owned()])]
    );
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let times = c.cluster.timeline(uid).unwrap();
    assert!(
        times.unschedulable < times.allocate_called && times.allocate_called <= times.allocated
    );
    assert!(c.node().panics().is_empty());
    c.end().await;
}

#[tokio::test]
async fn the_node_status_is_the_slow_way_and_a_patch_by_somebody_else_the_fast_one() {
    let mut tuning = crate::support::tuning();
    tuning.status_period = std::time::Duration::from_hours(1);
    let c = crate::support::start_with(Behaviour::V1_33, tuning).await;
    let _p = c.plugin("toy.sock", &["d1"]).await;
    c.eventually(|| async { c.node().kubelet_knows(RESOURCE, "d1").await })
        .await;
    c.create(pod("p", 1));
    c.until("p", |pod| {
        pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    })
    .await;
    let raise = |node: &mut serde_json::Value| {
        node["status"]["allocatable"][RESOURCE] = "1".into();
        node["status"]["capacity"][RESOURCE] = "1".into();
    };
    c.cluster
        .store()
        .modify(Kind::Node, "", "n", raise)
        .unwrap();
    c.until_phase("p", "Running").await;
    c.end().await;
}

#[tokio::test]
async fn the_kubelet_refuses_for_good_what_the_plugin_refuses() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    p.refuse(true);
    c.create(pod("p", 1));
    let failed = c.until_phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "UnexpectedAdmissionError");
    let message = failed["status"]["message"].as_str().unwrap();
    assert_eq!(
        message,
        "Pod was rejected: Allocate failed due to rpc error: code = FailedPrecondition desc = \
         fenced, which is unexpected"
    );
    p.refuse(false);
    c.create(pod("q", 1));
    c.until_phase("q", "Running").await;
    assert_eq!(phase(&c.get("p").unwrap()), "Failed");
    c.end().await;
}

#[tokio::test]
async fn a_pod_that_comes_before_the_kubelet_knows_of_devices_fails() {
    let c = start(Behaviour::V1_33).await;
    let _p = c.plugin("toy.sock", &[]).await;
    c.until_node_shows(0, 0).await;
    let mut bound = pod("p", 1);
    bound["spec"]["nodeName"] = "n".into();
    c.create(bound);
    let failed = c.until_phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "UnexpectedAdmissionError");
    assert!(
        c.events()
            .iter()
            .any(|e| e.contains("no healthy devices present"))
    );
    c.end().await;
}

#[tokio::test]
async fn a_resource_nobody_registered_lets_a_bound_pod_through_without_a_device() {
    let c = start(Behaviour::V1_33).await;
    let mut bound = pod("p", 1);
    bound["spec"]["nodeName"] = "n".into();
    c.create(bound);
    c.until_phase("p", "Running").await;
    assert!(c.node().allocations().await.is_empty());
    c.end().await;
}

#[tokio::test]
async fn a_resource_that_the_node_shows_but_nobody_registered_runs_out() {
    let c = start(Behaviour::V1_33).await;
    let raise = |node: &mut serde_json::Value| {
        node["status"]["allocatable"][RESOURCE] = "1".into();
        node["status"]["capacity"][RESOURCE] = "1".into();
    };
    c.cluster
        .store()
        .modify(Kind::Node, "", "n", raise)
        .unwrap();
    let mut bound = pod("p", 2);
    bound["spec"]["nodeName"] = "n".into();
    c.create(bound);
    let failed = c.until_phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "OutOfexample.com/device");
    c.end().await;
}

#[tokio::test]
async fn init_containers_hand_their_devices_on_and_are_not_listed() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let mut pod = pod("p", 1);
    pod["spec"]["initContainers"] = json!([container("setup", 1)]);
    pod["spec"]["restartPolicy"] = "Never".into();
    pod["metadata"]["annotations"] = json!({ "simcluster.cdmo/run-for": "20ms" });
    c.create(pod);
    c.until("p", |pod| {
        !pod["status"]["containerStatuses"][0]["state"]["running"].is_null()
            || phase(pod) == "Succeeded"
    })
    .await;
    assert_eq!(*p.allocated().borrow(), [["d1"], ["d1"]]);
    c.until_phase("p", "Succeeded").await;
    assert!(
        listed(&c.node().kubelet_paths().pod_resources)
            .await
            .is_empty()
    );
    c.end().await;
}

#[tokio::test]
async fn an_id_that_vanishes_while_it_is_granted_makes_the_kubelet_panic_and_come_back() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    p.send_during_allocate(Vec::new());
    p.answer(false);
    c.create(pod("p", 1));
    c.eventually(|| async { !c.node().kubelet_knows(RESOURCE, "d1").await })
        .await;
    p.answer(true);
    c.eventually(|| async { c.node().panics().len() == 1 })
        .await;
    assert!(c.node().panics()[0].contains("\"d1\" of example.com/device"));
    c.until_phase("p", "Failed").await;
    c.create(pod("q", 0));
    c.until_phase("q", "Running").await;
    c.end().await;
}

#[tokio::test]
async fn a_list_while_an_old_kubelet_asks_for_a_preference_can_make_it_panic() {
    for (behaviour, panics) in [(Behaviour::V1_20, true), (Behaviour::V1_33, false)] {
        let c = start(behaviour).await;
        let plugins = &c.node().kubelet_paths().plugins;
        let toy = ToyPlugin::start_with(plugins, "toy.sock", healthy(&["d1", "d2"]), true).await;
        c.until_node_shows(2, 2).await;
        c.create(pod("p", 1));
        c.until_phase("p", "Running").await;
        toy.answer(false);
        c.create(pod("q", 1));
        let mut asked = toy.asked();
        asked.wait_for(|asked| asked.len() == 2).await.unwrap();
        assert!(c.node().evict("default", "p", "The node is full.").await);
        let sockets = &c.node().kubelet_paths().pod_resources;
        let is_p = |(name, _, _): &(String, String, Vec<String>)| name == "p";
        c.eventually(|| async { !listed(sockets).await.iter().any(is_p) })
            .await;
        toy.answer(true);
        if panics {
            c.eventually(|| async { c.node().panics().len() == 1 })
                .await;
            let panic = &c.node().panics()[0];
            assert!(panic.contains("assignment to entry in nil map"), "{panic}");
        } else {
            c.until_phase("q", "Running").await;
            assert!(c.node().panics().is_empty());
        }
        c.end().await;
    }
}
