//! Over real HTTP and TLS.

use simcluster::store::Kind;

use crate::{agent, certificates::Authority, cluster::Cluster};

const THREE: &str = "nvidia.com/mig-3g.20gb";

async fn with_agent(node: &str) -> Cluster {
    let cluster = Cluster::start().await;
    let files = cluster
        .authority
        .issue(&cluster.dir.path().join("agent"), mtls::SERVER_NAME, 2100);
    let address = agent::start(files, cluster.shutdown.clone()).await;
    cluster.node(node);
    cluster.agent(node, address);
    cluster
}

#[tokio::test]
async fn a_waiting_pod_gets_its_slice_its_annotation_and_its_events() {
    let cluster = with_agent("a").await;
    let controller = cluster.controller("one");
    cluster.pod("pod", THREE);
    let pod = cluster
        .until(Kind::Pod, "annotated pod", |pod| {
            pod["metadata"]["annotations"]["cdmo.clear.ml/plan"].is_string()
        })
        .await;
    let plan = pod["metadata"]["annotations"]["cdmo.clear.ml/plan"]
        .as_str()
        .unwrap();
    let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
    assert_eq!(
        (&plan["node"], &plan["devices"][0]["profile"]),
        (&"a".into(), &"3g.20gb".into())
    );
    let node = cluster.store.find(Kind::Node, "", "a").unwrap();
    assert_eq!(node["status"]["allocatable"][THREE], "1");
    assert_eq!(node["status"]["capacity"][THREE], "1");
    assert_eq!(
        node["status"]["allocatable"]["cpu"], "64",
        "nobody else's counts are touched"
    );
    for reason in ["SlicePlanned", "SliceReady"] {
        cluster
            .until(Kind::Event, reason, |event| event["reason"] == reason)
            .await;
    }
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_named_on_the_node() {
    let cluster = Cluster::start().await;
    let foreign = Authority::new();
    let files = foreign.issue(&cluster.dir.path().join("agent"), mtls::SERVER_NAME, 2100);
    let address = agent::start(files, cluster.shutdown.clone()).await;
    cluster.node("a");
    cluster.agent("a", address);
    let controller = cluster.controller("one");
    let node = cluster
        .until(Kind::Node, "node with problems", |node| {
            node["metadata"]["annotations"]["cdmo.clear.ml/problems"].is_string()
        })
        .await;
    let words = node["metadata"]["annotations"]["cdmo.clear.ml/problems"]
        .as_str()
        .unwrap();
    assert!(words.contains("certificate"), "{words}");
    cluster.shutdown.cancel();
    controller.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_new_controller_takes_over_and_the_old_one_yields() {
    let cluster = with_agent("a").await;
    let old = cluster.controller("old");
    cluster.pod("first", THREE);
    cluster
        .until(Kind::Event, "SliceReady", |event| {
            event["reason"] == "SliceReady"
        })
        .await;
    let epoch = |lease: &serde_json::Value| {
        let text = &lease["metadata"]["annotations"]["cdmo.clear.ml/epoch"];
        text.as_str().and_then(|text| text.parse::<u64>().ok())
    };
    let lease = cluster
        .until(Kind::Lease, "epoch", |lease| epoch(lease).is_some())
        .await;
    let before = epoch(&lease).unwrap();
    let new = cluster.controller("new");
    cluster
        .until(Kind::Lease, "higher epoch", |lease| {
            epoch(lease) > Some(before)
        })
        .await;
    // The agent hangs up on the old one, which learns from the Lease that it was replaced.
    let end = old.await.unwrap().unwrap_err().to_string();
    assert!(end.starts_with("new took over with epoch"), "{end}");
    assert!(!new.is_finished());
    cluster.shutdown.cancel();
    new.await.unwrap().unwrap();
}
