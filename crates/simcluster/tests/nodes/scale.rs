//! Many pods over many nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use simcluster::cluster::{Cluster, ClusterConfig, NodeConfig, Options};
use simcluster::store::{Kind, object};

use crate::support::{phase, pod, tuning};
use crate::toy_plugin::{RESOURCE, ToyPlugin, healthy};

const NODES: usize = 20;
const PODS: usize = 1_000;
const DEVICES: [&str; 8] = ["d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"];

#[tokio::test]
async fn a_thousand_pods_over_twenty_nodes_all_get_a_device_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let config = ClusterConfig {
        dir: directory.path().to_owned(),
        nodes: (0..NODES)
            .map(|n| NodeConfig::new(format!("n{n}")))
            .collect(),
        ..ClusterConfig::default()
    };
    let options = Options {
        tuning: tuning(),
        ..Options::default()
    };
    let cluster = Cluster::start_with(config, options).await.unwrap();
    let mut plugins = Vec::new();
    for node in cluster.nodes() {
        let directory = &node.kubelet_paths().plugins;
        plugins.push(ToyPlugin::start(directory, "toy.sock", healthy(&DEVICES)).await);
    }
    let store = cluster.store();
    let (_, mut watch) = store.list_and_watch(Kind::Pod);
    for n in 0..PODS {
        let mut pod = pod(&format!("p{n}"), 1);
        pod["spec"]["restartPolicy"] = "Never".into();
        pod["metadata"]["annotations"] = json!({ "simcluster.cdmo/run-for": "20ms" });
        store.create(Kind::Pod, "default", pod).unwrap();
    }
    let mut ended = BTreeSet::new();
    let wait = async {
        while ended.len() < PODS {
            let event = watch.next().await.unwrap();
            let pod = &event.object;
            assert_ne!(phase(pod), "Failed", "{}", pod["status"]);
            if phase(pod) == "Succeeded" {
                ended.insert(object::name(pod).to_owned());
            }
            // Of all containers that run now, no two on a node have the same device.
            if phase(pod) == "Running" {
                let node = cluster.node(object::text(pod, "/spec/nodeName")).unwrap();
                let mut holders: BTreeMap<String, String> = BTreeMap::new();
                for record in node
                    .containers()
                    .into_iter()
                    .filter(|r| r.state.is_running())
                {
                    let device = record.given.envs["DEVICES"].clone();
                    let other = holders.insert(device, record.pod.clone());
                    assert_eq!(other, None, "{} has the same device", record.pod);
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(5), wait)
        .await
        .expect("not all pods ended");
    for node in cluster.nodes() {
        assert!(node.panics().is_empty());
        let shown = store.get(Kind::Node, "", node.name()).unwrap();
        assert_eq!(shown["status"]["allocatable"][RESOURCE], "8");
    }
    cluster.shutdown().await;
}

/// Prints where the time goes; run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn how_long_a_pod_takes_from_creation_to_allocation() {
    let directory = tempfile::tempdir().unwrap();
    let config = ClusterConfig {
        dir: directory.path().to_owned(),
        nodes: (0..10).map(|n| NodeConfig::new(format!("n{n}"))).collect(),
        ..ClusterConfig::default()
    };
    let cluster = Cluster::start(config).await.unwrap();
    let mut plugins = Vec::new();
    for node in cluster.nodes() {
        let directory = &node.kubelet_paths().plugins;
        plugins.push(ToyPlugin::start(directory, "toy.sock", healthy(&[])).await);
    }
    let store = cluster.store();
    let (mut totals, mut scheduling) = (Vec::new(), Vec::new());
    for n in 0..100_usize {
        let name = format!("p{n}");
        let created = store.create(Kind::Pod, "default", pod(&name, 1)).unwrap();
        let (node, plugin) = (format!("n{}", n % 10), &plugins[n % 10]);
        let devices: Vec<String> = (0..=n / 10).map(|d| format!("d{d}")).collect();
        plugin.send(devices.iter().map(|id| (id.clone(), true)).collect());
        let count = devices.len().to_string();
        let known = cluster.node(&node).unwrap();
        let limit = Duration::from_mins(1);
        while !known.kubelet_knows(RESOURCE, &devices[n / 10]).await {
            tokio::task::yield_now().await;
        }
        let before = cluster.now();
        store
            .modify(Kind::Node, "", &node, |node| {
                node["status"]["allocatable"][RESOURCE] = count.as_str().into();
                node["status"]["capacity"][RESOURCE] = count.as_str().into();
            })
            .unwrap();
        let running = |pod: Option<&serde_json::Value>| pod.is_some_and(|p| phase(p) == "Running");
        cluster
            .wait_for_pod("default", &name, limit, running)
            .await
            .unwrap();
        let times = cluster.timeline(object::uid(&created)).unwrap();
        totals.push(times.allocated.unwrap().saturating_sub(before));
        scheduling.push(times.scheduled.unwrap().saturating_sub(before));
    }
    for (what, times) in [("bound", &mut scheduling), ("allocated", &mut totals)] {
        times.sort();
        println!(
            "node patched to {what}: p50 {:?}, p99 {:?}",
            times[49], times[98]
        );
    }
    cluster.shutdown().await;
}
