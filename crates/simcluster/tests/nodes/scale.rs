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
