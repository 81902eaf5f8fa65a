//! The kubelet's main loop: takes in changes of its pods one after the other, admission included,
//! and tells the pods' workers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::behaviour::Behaviour;
use crate::events::Severity;
use crate::feed::PodChange;
use crate::store::{Kind, object};

use super::admission::Refused;
use super::pod::rejected;
use super::predicate::Rejection;
use super::table::Progress;
use super::worker::Order;
use super::{Kubelet, lock};

/// Time for containers whose pod does not exist any more.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

impl Kubelet {
    pub(super) async fn sync(self) {
        let outlet = self.inner.around.feed.pods(&self.config().node);
        self.stop_orphans(&outlet.uids());
        loop {
            let change = outlet.next().await;
            if let Err(panic) = self.handle(change).await {
                // Whoever looks after this kubelet ends it; if nobody does any more, it ends here.
                let _ = self.inner.panicked.send(panic).await;
                return;
            }
        }
    }

    /// Containers that outlived their pod while no kubelet was there.
    fn stop_orphans(&self, known: &[String]) {
        for record in self.runtime().all() {
            if record.state.is_running() && !known.contains(&record.pod_uid) {
                self.runtime()
                    .stop(&record.pod_uid, &record.container, ORPHAN_GRACE);
            }
        }
    }

    async fn handle(&self, change: PodChange) -> Result<(), String> {
        let PodChange {
            pod,
            removed,
            initial,
        } = change;
        let uid = object::uid(&pod);
        if removed {
            self.removed(&pod);
            return Ok(());
        }
        let new = self.table().upsert(pod.clone());
        if !new {
            if let Some(worker) = lock(&self.inner.workers).get(uid) {
                worker.send_modify(|order| order.pod = pod.clone());
            }
            return Ok(());
        }
        if matches!(object::text(&pod, "/status/phase"), "Succeeded" | "Failed") {
            let over = Progress {
                terminal: true,
                idle: true,
                over: true,
            };
            self.table().progress(uid, over);
            return Ok(());
        }
        if object::is_deleting(&pod) {
            self.start_worker(&pod);
            return Ok(());
        }
        match self.admit(&pod, initial).await {
            Ok(()) => self.start_worker(&pod),
            Err(Refused::Rejected(rejection)) => self.reject(&pod, &rejection),
            Err(Refused::Panicked(panic)) => return Err(panic.to_string()),
        }
        Ok(())
    }

    /// The pod is gone from the API: its devices count as free from now on, whatever still runs.
    fn removed(&self, pod: &Arc<Value>) {
        let uid = object::uid(pod);
        self.table().remove(uid);
        if let Some(worker) = lock(&self.inner.workers).get(uid) {
            worker.send_modify(|order| {
                order.pod = pod.clone();
                order.removed = true;
            });
            return;
        }
        for container in self.running_containers(uid) {
            self.runtime().stop(uid, &container, ORPHAN_GRACE);
        }
        self.runtime().forget(uid);
    }

    fn start_worker(&self, pod: &Arc<Value>) {
        let (sender, receiver) = tokio::sync::watch::channel(Order::new(pod.clone()));
        let uid = object::uid(pod).to_owned();
        lock(&self.inner.workers).insert(uid.clone(), sender);
        let kubelet = self.clone();
        self.spawn(async move {
            kubelet.work(&uid, receiver).await;
            lock(&kubelet.inner.workers).remove(&uid);
        });
    }

    /// Fails a pod for good; what runs of it (after a kubelet restart) is stopped.
    fn reject(&self, pod: &Value, rejection: &Rejection) {
        let uid = object::uid(pod);
        let over = Progress {
            terminal: true,
            idle: true,
            over: true,
        };
        self.table().progress(uid, over);
        let message = match self.behaviour() {
            Behaviour::V1_20 => format!("Pod {}", rejection.message),
            _ => format!("Pod was rejected: {}", rejection.message),
        };
        let now = self.store().now();
        let (namespace, name) = (object::namespace(pod), object::name(pod));
        let write = |stored: &mut Value| {
            if object::uid(stored) == uid {
                stored["status"] = rejected(stored, &rejection.reason, &message, now);
            }
        };
        if let Err(error) = self.store().modify(Kind::Pod, namespace, name, write) {
            tracing::debug!(pod = name, %error, "Failed to write a rejected pod's status");
        }
        self.inner.recorder.record(
            pod,
            Severity::Warning,
            &rejection.reason,
            &rejection.message,
        );
        for container in self.running_containers(uid) {
            self.runtime().stop(uid, &container, ORPHAN_GRACE);
        }
    }
}
