use serde_json::json;

use super::*;
use crate::store::StoreOptions;

struct Fixture {
    store: Store,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn start() -> Fixture {
    let store = Store::new(&StoreOptions::default());
    let shutdown = CancellationToken::new();
    tokio::spawn(run(store.clone(), shutdown.clone()));
    Fixture { store, shutdown }
}

impl Fixture {
    fn node(&self, name: &str, labels: &Value) {
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        self.store.create(Kind::Node, "", node).unwrap();
    }

    fn agent(&self) {
        let set = json!({
            "metadata": { "name": "agent" },
            "spec": {
                "selector": { "matchLabels": { "app": "agent" } },
                "template": {
                    "metadata": { "labels": { "app": "agent" } },
                    "spec": {
                        "containers": [{ "name": "c", "image": "i" }],
                        "affinity": { "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    { "matchExpressions": [
                                        { "key": "mig", "operator": "In", "values": ["yes"] },
                                    ]},
                                    { "matchExpressions": [
                                        { "key": "managed", "operator": "Exists" },
                                    ]},
                                ],
                            },
                        }},
                    },
                },
            },
        });
        self.store.create(Kind::DaemonSet, "default", set).unwrap();
    }

    fn label(&self, node: &str, labels: &Value) {
        let labels = labels.clone();
        self.store
            .modify(Kind::Node, "", node, |node| {
                node["metadata"]["labels"] = labels;
            })
            .unwrap();
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.store.list(Kind::Pod, None).0
    }

    fn nodes_with_pods(&self) -> Vec<String> {
        let pin = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                   /nodeSelectorTerms/0/matchFields/0/values/0";
        let mut nodes: Vec<String> = self
            .pods()
            .iter()
            .map(|pod| object::text(pod, pin).to_owned())
            .collect();
        nodes.sort();
        nodes
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            let (_, mut pods) = self.store.list_and_watch(Kind::Pod);
            let (_, mut sets) = self.store.list_and_watch(Kind::DaemonSet);
            while !holds(self) {
                tokio::select! {
                    event = pods.next() => drop(event.unwrap()),
                    event = sets.next() => drop(event.unwrap()),
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(10), wait)
            .await
            .expect("it never came to that");
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_with_one_of_the_labels_gets_a_pod_pinned_to_it() {
    let cluster = start();
    cluster.node("a", &json!({ "mig": "yes" }));
    cluster.node("b", &json!({ "managed": "" }));
    cluster.node("c", &json!({ "mig": "no" }));
    cluster.agent();
    cluster.until(|c| c.nodes_with_pods() == ["a", "b"]).await;
    let pod = &cluster.pods()[0];
    assert!(object::name(pod).starts_with("agent-"));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "DaemonSet");
}

#[tokio::test(start_paused = true)]
async fn a_label_set_later_brings_a_pod_and_its_loss_removes_it() {
    let cluster = start();
    cluster.node("a", &json!({}));
    cluster.agent();
    cluster.label("a", &json!({ "mig": "yes" }));
    cluster.until(|c| c.nodes_with_pods() == ["a"]).await;
    cluster.label("a", &json!({ "managed": "" }));
    cluster.label("a", &json!({}));
    cluster.until(|c| c.pods().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_is_replaced_after_a_pause() {
    let cluster = start();
    cluster.node("a", &json!({ "mig": "yes" }));
    cluster.agent();
    cluster.until(|c| c.pods().len() == 1).await;
    let first = cluster.pods()[0].clone();
    let before = Instant::now();
    cluster
        .store
        .modify(Kind::Pod, "default", object::name(&first), |pod| {
            pod["status"]["phase"] = "Failed".into();
        })
        .unwrap();
    let uid = object::uid(&first);
    cluster
        .until(|c| c.pods().iter().any(|pod| object::uid(pod) != uid))
        .await;
    assert!(before.elapsed() >= FIRST_BACKOFF);
    assert_eq!(cluster.pods().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_template_replaces_pods_one_at_a_time() {
    let cluster = start();
    let ready = |pod: &mut Value| {
        pod["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    };
    for node in ["a", "b"] {
        cluster.node(node, &json!({ "mig": "yes" }));
    }
    cluster.agent();
    cluster.until(|c| c.pods().len() == 2).await;
    let old: Vec<String> = cluster
        .pods()
        .iter()
        .map(|p| object::uid(p).to_owned())
        .collect();
    for pod in cluster.pods() {
        cluster
            .store
            .modify(Kind::Pod, "default", object::name(&pod), ready)
            .unwrap();
    }
    let all_ready = |c: &Fixture| {
        let set = c.store.get(Kind::DaemonSet, "default", "agent").unwrap();
        set["status"]["numberReady"] == 2
    };
    cluster.until(all_ready).await;
    cluster
        .store
        .modify(Kind::DaemonSet, "default", "agent", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] = "new".into();
        })
        .unwrap();
    let new = |c: &Fixture| {
        let pods = c.pods();
        pods.iter()
            .filter(|p| !old.contains(&object::uid(p).to_owned()))
            .cloned()
            .collect()
    };
    cluster
        .until(|c| {
            let new: Vec<Arc<Value>> = new(c);
            new.len() == 1
        })
        .await;
    assert_eq!(cluster.pods().len(), 2);
    for pod in new(&cluster) {
        cluster
            .store
            .modify(Kind::Pod, "default", object::name(&pod), ready)
            .unwrap();
    }
    cluster
        .until(|c| {
            let new: Vec<Arc<Value>> = new(c);
            new.len() == 2
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_takes_its_pod_with_it() {
    let cluster = start();
    cluster.node("a", &json!({ "mig": "yes" }));
    cluster.agent();
    cluster.until(|c| c.pods().len() == 1).await;
    cluster
        .store
        .delete(Kind::Node, "", "a", &DeleteOptions::now())
        .unwrap();
    cluster.until(|c| c.pods().is_empty()).await;
}
