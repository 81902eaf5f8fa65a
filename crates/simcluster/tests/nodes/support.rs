//! A cluster of one node for tests, and pods for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use simcluster::cluster::{Behaviour, Cluster, ClusterConfig, Node, NodeConfig, Options, Tuning};
use simcluster::store::{Kind, object};

use crate::toy_plugin::{RESOURCE, ToyPlugin, healthy};

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    _directory: tempfile::TempDir,
}

/// Short times where a real kubelet's are long; five minutes stay longer than any test.
pub(crate) fn tuning() -> Tuning {
    Tuning {
        status_period: Duration::from_millis(20),
        start_retry: Duration::from_millis(20),
        ..Tuning::default()
    }
}

pub(crate) async fn start(behaviour: Behaviour) -> Fixture {
    start_with(behaviour, tuning()).await
}

pub(crate) async fn start_with(behaviour: Behaviour, tuning: Tuning) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let config = ClusterConfig {
        dir: directory.path().to_owned(),
        behaviour,
        nodes: vec![NodeConfig::new("n")],
        ..ClusterConfig::default()
    };
    let options = Options {
        tuning,
        ..Options::default()
    };
    let cluster = Cluster::start_with(config, options).await.unwrap();
    Fixture {
        cluster,
        _directory: directory,
    }
}

/// A pod that asks for this many devices and runs until it is deleted.
pub(crate) fn pod(name: &str, devices: u32) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [container("main", devices)],
        },
    })
}

pub(crate) fn container(name: &str, devices: u32) -> Value {
    let mut container = json!({ "name": name, "image": "any" });
    if devices > 0 {
        container["resources"] = json!({ "limits": { RESOURCE: devices.to_string() } });
    }
    container
}

pub(crate) fn phase(pod: &Value) -> &str {
    object::text(pod, "/status/phase")
}

impl Fixture {
    pub(crate) fn node(&self) -> &Node {
        self.cluster.node("n").unwrap()
    }

    pub(crate) async fn plugin(&self, name: &str, ids: &[&str]) -> ToyPlugin {
        let directory = &self.node().kubelet_paths().plugins;
        ToyPlugin::start(directory, name, healthy(ids)).await
    }

    pub(crate) fn create(&self, pod: Value) -> Arc<Value> {
        self.cluster
            .store()
            .create(Kind::Pod, "default", pod)
            .unwrap()
    }

    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Arc<Value> {
        let found = self
            .cluster
            .wait_for_pod("default", name, LIMIT, |pod| pod.is_some_and(&holds))
            .await;
        match found {
            Some(pod) => pod.unwrap(),
            None => panic!("it never came to that: {:?}", self.get(name)),
        }
    }

    pub(crate) async fn until_phase(&self, name: &str, wanted: &str) -> Arc<Value> {
        self.until(name, |pod| phase(pod) == wanted).await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let gone = self
            .cluster
            .wait_for_pod("default", name, LIMIT, |pod| pod.is_none())
            .await;
        assert!(
            gone.is_some(),
            "the pod never went away: {:?}",
            self.get(name)
        );
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Value>> {
        self.cluster.store().get(Kind::Pod, "default", name)
    }

    pub(crate) fn delete(&self, name: &str, options: &simcluster::store::DeleteOptions) {
        self.cluster
            .store()
            .delete(Kind::Pod, "default", name, options)
            .unwrap();
    }

    /// Waits until the node's status shows so many devices: capacity and allocatable.
    pub(crate) async fn until_node_shows(&self, capacity: u32, allocatable: u32) {
        let store = self.cluster.store();
        let wait = async {
            let (_, mut watch) = store.list_and_watch(Kind::Node);
            loop {
                let node = store.get(Kind::Node, "", "n").unwrap();
                let shown = |list: &str| node["status"][list][RESOURCE].as_str().map(str::to_owned);
                let wanted = [capacity, allocatable].map(|count| Some(count.to_string()));
                if [shown("capacity"), shown("allocatable")] == wanted {
                    return;
                }
                watch.next().await.unwrap();
            }
        };
        let shown = tokio::time::timeout(LIMIT, wait).await;
        let node = store.get(Kind::Node, "", "n").unwrap();
        assert!(
            shown.is_ok(),
            "the node never showed that: {}",
            node["status"]
        );
    }

    /// Waits until something holds that nothing tells of.
    pub(crate) async fn eventually<F: Future<Output = bool>>(&self, holds: impl Fn() -> F) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait)
            .await
            .expect("it never came to that");
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let (events, _) = self.cluster.store().list(Kind::Event, None);
        let text = |e: &Arc<Value>| {
            format!(
                "{}: {}",
                object::text(e, "/reason"),
                object::text(e, "/message")
            )
        };
        events.iter().map(text).collect()
    }

    pub(crate) async fn end(self) {
        self.cluster.shutdown().await;
    }
}
