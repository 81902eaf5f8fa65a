//! Deployments and Jobs from the outside: what a user does, and which pods come of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::{DeleteOptions, Key, Kind, Patch, Store, Subresource, WriteOptions, object};

struct Cluster {
    store: Store,
    _stop: DropGuard,
}

impl Cluster {
    fn start() -> Self {
        let store = Store::default();
        let stop = CancellationToken::new();
        tokio::spawn(super::run(store.clone(), stop.clone()));
        Self {
            store,
            _stop: stop.drop_guard(),
        }
    }

    fn deploy(&self, replicas: u32) {
        let object = json!({
            "metadata": { "name": "d" },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": "d" } },
                "template": template("v1", "Always"),
            },
        });
        self.store
            .create(Kind::Deployment, "default", object)
            .unwrap();
    }

    fn job(&self, spec: &Value) {
        let mut object = json!({
            "metadata": { "name": "j" },
            "spec": { "template": template("v1", "Never") },
        });
        json_patch::merge(&mut object["spec"], spec);
        self.store.create(Kind::Job, "default", object).unwrap();
    }

    fn change(&self, kind: Kind, name: &str, patch: &Value) {
        let change = |object: &mut Value| json_patch::merge(object, patch);
        self.store.modify(kind, "default", name, change).unwrap();
    }

    /// As a user changes it: with defaults and validation.
    fn update(&self, kind: Kind, name: &str, patch: &Value) {
        let (key, options) = (Key::new(kind, "default", name), WriteOptions::default());
        let patch = Patch::Merge(patch.clone());
        self.store
            .patch(&key, &patch, Subresource::None, &options)
            .unwrap();
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.store.list(Kind::Pod, None).0
    }

    /// Waits until the objects of a kind are so.
    async fn until(
        &self,
        kind: Kind,
        what: &str,
        holds: impl Fn(&[Arc<Value>]) -> bool,
    ) -> Vec<Arc<Value>> {
        let (_, mut watch) = self.store.list_and_watch(kind);
        let wait = async {
            loop {
                let (items, _) = self.store.list(kind, None);
                if holds(&items) {
                    return items;
                }
                watch.next().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_hours(1), wait).await;
        waited.unwrap_or_else(|_| panic!("{what}: {:#?}", self.store.list(kind, None).0))
    }

    async fn pods_until(&self, count: usize) -> Vec<Arc<Value>> {
        let what = format!("{count} pods");
        self.until(Kind::Pod, &what, |pods| pods.len() == count)
            .await
    }

    /// Does what a kubelet would: every pod becomes ready.
    fn ready(&self) {
        let ready = json!({ "status": {
            "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
        }});
        for pod in self.pods() {
            self.change(Kind::Pod, object::name(&pod), &ready);
        }
    }

    fn end(&self, pod: &Value, phase: &str) {
        let ended = json!({ "status": { "phase": phase } });
        self.change(Kind::Pod, object::name(pod), &ended);
    }

    async fn status(&self, kind: Kind, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = self
            .until(kind, what, |all| all.iter().any(|o| holds(&o["status"])))
            .await;
        let found = found.iter().find(|object| holds(&object["status"]));
        found.unwrap()["status"].clone()
    }
}

fn template(image: &str, restart: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "d" } },
        "spec": {
            "restartPolicy": restart,
            "containers": [{ "name": "c", "image": image }],
        },
    })
}

fn image(pod: &Value) -> &str {
    object::text(pod, "/spec/containers/0/image")
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|c| c["type"] == kind).unwrap();
    found["reason"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_has_as_many_pods_as_it_wants() {
    let cluster = Cluster::start();
    cluster.deploy(3);
    let pods = cluster.pods_until(3).await;
    assert!(object::name(&pods[0]).starts_with("d-"));
    cluster.ready();
    let ready = |status: &Value| status["availableReplicas"] == 3;
    let status = cluster.status(Kind::Deployment, "ready", ready).await;
    assert_eq!(condition(&status, "Available"), "MinimumReplicasAvailable");
    assert_eq!(condition(&status, "Progressing"), "NewReplicaSetAvailable");
    let scale = json!({ "spec": { "replicas": 1 } });
    cluster.update(Kind::Deployment, "d", &scale);
    cluster.pods_until(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_or_fails_is_replaced() {
    let cluster = Cluster::start();
    cluster.deploy(2);
    let pods = cluster.pods_until(2).await;
    let now = DeleteOptions::now();
    let first = object::name(&pods[0]).to_owned();
    let gone =
        |pods: &[Arc<Value>]| pods.len() == 2 && pods.iter().all(|pod| object::name(pod) != first);
    cluster
        .store
        .delete(Kind::Pod, "default", &first, &now)
        .unwrap();
    let pods = cluster.until(Kind::Pod, "another pod", gone).await;
    cluster.end(&pods[0], "Failed");
    cluster.pods_until(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_template_replaces_all_pods_and_never_too_many_at_once() {
    let cluster = Cluster::start();
    cluster.deploy(4);
    cluster.pods_until(4).await;
    cluster.ready();
    let (_, mut watch) = cluster.store.list_and_watch(Kind::Pod);
    let update = json!({ "spec": { "template": template("v2", "Always") } });
    cluster.update(Kind::Deployment, "d", &update);
    let rolling = async {
        loop {
            watch.next().await.unwrap();
            cluster.ready();
            let pods = cluster.pods();
            assert!(pods.len() <= 5, "{}", pods.len());
            if pods.len() == 4 && pods.iter().all(|pod| image(pod) == "v2") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(5), rolling)
        .await
        .unwrap();
    let done = |status: &Value| status["updatedReplicas"] == 4 && status["replicas"] == 4;
    cluster.status(Kind::Deployment, "rolled", done).await;
    let sets = cluster.store.list(Kind::ReplicaSet, None).0;
    assert_eq!(sets.len(), 2, "the old one is kept for going back");
    let back = json!({ "spec": { "template": template("v1", "Always") } });
    cluster.update(Kind::Deployment, "d", &back);
    let returned = |sets: &[Arc<Value>]| {
        sets.len() == 2
            && sets.iter().any(|set| {
                set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
            })
    };
    cluster
        .until(Kind::ReplicaSet, "the first template is third", returned)
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_go_with_their_deployment() {
    let cluster = Cluster::start();
    cluster.deploy(2);
    cluster.pods_until(2).await;
    let options = DeleteOptions::default();
    cluster
        .store
        .delete(Kind::Deployment, "default", "d", &options)
        .unwrap();
    cluster.pods_until(0).await;
    assert!(cluster.store.list(Kind::ReplicaSet, None).0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_quota_holds_pods_back_until_there_is_room() {
    let cluster = Cluster::start();
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": 1 } } });
    cluster
        .store
        .create(Kind::ResourceQuota, "default", quota)
        .unwrap();
    cluster.deploy(2);
    let refused = |events: &[Arc<Value>]| {
        events.iter().any(|event| {
            event["reason"] == "FailedCreate"
                && object::text(event, "/message").contains("exceeded quota: q, requested: pods=1")
        })
    };
    cluster.until(Kind::Event, "it is said", refused).await;
    assert_eq!(cluster.pods().len(), 1);
    let more = json!({ "spec": { "hard": { "pods": "2" } } });
    cluster.update(Kind::ResourceQuota, "q", &more);
    cluster.pods_until(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_done_when_so_many_pods_ended_well() {
    let cluster = Cluster::start();
    cluster.job(&json!({ "completions": 5, "parallelism": 2 }));
    for ended in 0..5_usize {
        let pods = cluster.pods_until((ended + 2).min(5)).await;
        let running = pods.iter().find(|pod| pod["status"]["phase"] == "Pending");
        cluster.end(running.unwrap(), "Succeeded");
    }
    let done = |status: &Value| status["succeeded"] == 5 && !status["completionTime"].is_null();
    let status = cluster.status(Kind::Job, "done", done).await;
    assert_eq!(condition(&status, "Complete"), "CompletionsReached");
    assert_eq!(cluster.pods().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_counts_when_it_is_deleted_too() {
    let cluster = Cluster::start();
    cluster.job(&json!({ "completions": 2 }));
    for ended in 1..=2 {
        let pods = cluster.pods_until(1).await;
        cluster.end(&pods[0], "Succeeded");
        let counted = |status: &Value| status["succeeded"] == ended;
        cluster.status(Kind::Job, "counted", counted).await;
        let pod = object::name(&pods[0]);
        let now = DeleteOptions::now();
        cluster
            .store
            .delete(Kind::Pod, "default", pod, &now)
            .unwrap();
    }
    let status = cluster.status(Kind::Job, "done", |status| status["succeeded"] == 2);
    assert_eq!(condition(&status.await, "Complete"), "CompletionsReached");
}

#[tokio::test(start_paused = true)]
async fn a_job_gives_up_after_so_many_failures() {
    let cluster = Cluster::start();
    cluster.job(&json!({ "backoffLimit": 1 }));
    let start = tokio::time::Instant::now();
    let pods = cluster.pods_until(1).await;
    cluster.end(&pods[0], "Failed");
    let pods = cluster.pods_until(2).await;
    assert!(start.elapsed() >= Duration::from_secs(10), "no pause");
    let second = pods.iter().find(|pod| pod["status"]["phase"] == "Pending");
    cluster.end(second.unwrap(), "Failed");
    let over = |status: &Value| status["failed"] == 2;
    let status = cluster.status(Kind::Job, "given up", over).await;
    assert_eq!(condition(&status, "Failed"), "BackoffLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_job_without_completions_is_done_when_a_worker_found_nothing_left() {
    let cluster = Cluster::start();
    cluster.job(&json!({ "parallelism": 2 }));
    for pod in cluster.pods_until(2).await {
        cluster.end(&pod, "Succeeded");
    }
    let done = |status: &Value| !status["completionTime"].is_null();
    cluster.status(Kind::Job, "done", done).await;
    assert_eq!(cluster.pods().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods() {
    let cluster = Cluster::start();
    cluster.job(&json!({ "suspend": true }));
    let told = |status: &Value| !status["startTime"].is_null();
    cluster.status(Kind::Job, "told", told).await;
    assert!(cluster.pods().is_empty());
    let resume = json!({ "spec": { "suspend": false } });
    cluster.update(Kind::Job, "j", &resume);
    cluster.pods_until(1).await;
}
