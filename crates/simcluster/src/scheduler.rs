//! The scheduler: takes pods from the [`queue`], finds a node by the [`filter`], counts them there in
//! the [`cache`], and binds them.
//!
//! One task does all of it, so that between two pods nothing moves; only a binding that waits (the
//! `PreBind` delay) goes on beside it, with the pod assumed on its node. There is no preemption:
//! priority decides the order only.

pub mod cache;
pub mod filter;
pub mod pod;
pub mod queue;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::events::{Recorder, Severity};
use crate::store::{Change, Event, Gone, Kind, Store, object};
use crate::timeline::{Stage, Timelines};

use cache::{Cache, NodeChange};
use filter::Unfitness;
use pod::PodInfo;
use queue::Queue;

/// Annotation on a pod: how long its binding is held up, such as `250ms`, in place of
/// [`Options::pre_bind`].
pub const PRE_BIND_DELAY: &str = "simcluster.cdmo/pre-bind-delay";

/// Pods tried between two looks at what happened meanwhile.
const PODS_PER_ROUND: usize = 16;
/// Changes taken in at once.
const EVENTS_PER_ROUND: usize = 1_024;
/// Bindings that may wait in `PreBind` and report back at one time.
const BINDINGS: usize = 1_024;

/// How the scheduler behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// As which Kubernetes.
    pub behaviour: Behaviour,
    /// How long a pod stays assumed before it is bound; zero: it is bound at once.
    pub pre_bind: Duration,
}

/// Runs the scheduler until `shutdown`.
pub async fn run(store: Store, options: Options, times: Timelines, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let scheduler = Scheduler::new(&store, &options, &times);
        // When history was lost, all is read again.
        let _: Option<Result<(), Gone>> = shutdown
            .run_until_cancelled(scheduler.run(shutdown.child_token()))
            .await;
    }
}

/// A binding that went on beside the scheduler, and how it ended.
struct Bound {
    uid: String,
    refused: Option<String>,
}

struct Scheduler {
    store: Store,
    options: Options,
    times: Timelines,
    recorder: Recorder,
    start: Instant,
    queue: Queue,
    cache: Cache,
    unfitness: Unfitness,
    bound: (mpsc::Sender<Bound>, mpsc::Receiver<Bound>),
}

impl Scheduler {
    fn new(store: &Store, options: &Options, times: &Timelines) -> Self {
        Self {
            store: store.clone(),
            options: options.clone(),
            times: times.clone(),
            recorder: Recorder::new(store.clone(), "default-scheduler", ""),
            start: Instant::now(),
            queue: Queue::new(options.behaviour),
            cache: Cache::default(),
            unfitness: Unfitness::default(),
            bound: mpsc::channel(BINDINGS),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), Gone> {
        let (nodes, mut node_watch) = self.store.list_and_watch(Kind::Node);
        let (pods, mut pod_watch) = self.store.list_and_watch(Kind::Pod);
        for node in nodes {
            self.cache.set_node(node);
        }
        for pod in pods {
            self.pod_changed(pod, None);
        }
        loop {
            for event in node_watch.take(EVENTS_PER_ROUND)? {
                self.node_event(&event);
            }
            for event in pod_watch.take(EVENTS_PER_ROUND)? {
                self.pod_event(&event);
            }
            while let Ok(bound) = self.bound.1.try_recv() {
                self.binding_ended(bound);
            }
            let mut tried = 0;
            while tried < PODS_PER_ROUND
                && let Some(pod) = self.queue.pop(self.now())
            {
                self.schedule(&pod, &shutdown);
                tried += 1;
            }
            if tried > 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.queue.deadline().map(|at| self.start + at);
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = node_watch.next() => self.node_event(&*event?),
                event = pod_watch.next() => self.pod_event(&*event?),
                Some(bound) = self.bound.1.recv() => self.binding_ended(bound),
                () = tick => {}
            }
        }
    }

    fn node_event(&mut self, event: &Event) {
        if event.change == Change::Deleted {
            self.cache.remove_node(object::name(&event.object));
            return;
        }
        let change = self.cache.set_node(event.object.clone());
        if !change.is_nothing() {
            self.wake_for(object::name(&event.object), change);
        }
    }

    fn pod_event(&mut self, event: &Event) {
        match event.change {
            Change::Deleted => self.pod_gone(&event.object),
            _ => self.pod_changed(event.object.clone(), event.previous.as_deref()),
        }
    }

    fn pod_changed(&mut self, pod: Arc<Value>, previous: Option<&Value>) {
        let uid = object::uid(&pod);
        let node = object::text(&pod, "/spec/nodeName");
        let ended = matches!(object::text(&pod, "/status/phase"), "Succeeded" | "Failed");
        if ended {
            return self.pod_gone(&pod);
        }
        if !node.is_empty() {
            // Later changes of a bound pod do not change what it takes.
            if previous.is_none_or(|old| object::text(old, "/spec/nodeName").is_empty()) {
                let requests = crate::resources::pod_requests(&pod);
                self.cache.confirm(uid, node, &requests);
                self.queue.remove(uid);
            }
            return;
        }
        let scheduler = object::text(&pod, "/spec/schedulerName");
        if object::is_deleting(&pod) {
            self.queue.remove(uid);
        } else if matches!(scheduler, "" | "default-scheduler") {
            self.times.reached(uid, Stage::Pending);
            let class = self.class_priority(&pod);
            self.queue.upsert(self.now(), PodInfo::new(pod, class));
        }
    }

    fn pod_gone(&mut self, pod: &Value) {
        let uid = object::uid(pod);
        self.queue.remove(uid);
        if let Some(node) = self.cache.remove_pod(uid) {
            self.wake_for(
                &node,
                NodeChange {
                    allocatable: true,
                    ..NodeChange::default()
                },
            );
        }
    }

    /// For API servers that leave `spec.priority` to the class.
    fn class_priority(&self, pod: &Value) -> i64 {
        let class = object::text(pod, "/spec/priorityClassName");
        if class.is_empty() || pod.pointer("/spec/priority").is_some() {
            return 0;
        }
        let class = self.store.get(Kind::PriorityClass, "", class);
        class
            .and_then(|class| class.get("value")?.as_i64())
            .unwrap_or(0)
    }

    /// Wakes the pods that a change on a node concerns.
    fn wake_for(&mut self, node: &str, change: NodeChange) {
        let behaviour = self.options.behaviour;
        let node = self.cache.node(node);
        let now = self.start.elapsed();
        self.queue.wake_all(now, |pod, rejections| {
            let concerned = !behaviour.remembers_rejections() || rejections.concerned_by(change);
            let hopeful = || {
                !behaviour.queueing_hints()
                    || node.is_some_and(|node| filter::check(behaviour, pod, node).is_ok())
            };
            concerned && hopeful()
        });
    }

    fn schedule(&mut self, pod: &Arc<PodInfo>, shutdown: &CancellationToken) {
        let behaviour = self.options.behaviour;
        match self.unfitness.choose(behaviour, &self.cache, pod) {
            Err(unfit) => {
                self.times.reached(&pod.uid, Stage::Unschedulable);
                self.queue
                    .unschedulable(self.now(), &pod.uid, unfit.rejections);
                self.refuse(pod, &unfit.message());
            }
            Ok(node) => {
                let node = node.name().to_owned();
                self.cache.assume(&pod.uid, &node, &pod.requests);
                let delay = crate::duration::annotation(&pod.object, PRE_BIND_DELAY)
                    .unwrap_or(self.options.pre_bind);
                if delay.is_zero() {
                    let refused = bind(&self.store, pod, &node, &self.times, &self.recorder);
                    self.binding_ended(Bound {
                        uid: pod.uid.clone(),
                        refused,
                    });
                } else {
                    self.bind_later(pod.clone(), node, delay, shutdown.clone());
                }
            }
        }
    }

    fn bind_later(
        &self,
        pod: Arc<PodInfo>,
        node: String,
        delay: Duration,
        shutdown: CancellationToken,
    ) {
        let (store, times) = (self.store.clone(), self.times.clone());
        let (recorder, sender) = (self.recorder.clone(), self.bound.0.clone());
        tokio::spawn(async move {
            if shutdown
                .run_until_cancelled(tokio::time::sleep(delay))
                .await
                .is_none()
            {
                return;
            }
            let refused = bind(&store, &pod, &node, &times, &recorder);
            // Nobody listens any more once the scheduler has stopped.
            let _ = sender
                .send(Bound {
                    uid: pod.uid.clone(),
                    refused,
                })
                .await;
        });
    }

    fn binding_ended(&mut self, bound: Bound) {
        let Some(why) = bound.refused else {
            self.queue.remove(&bound.uid);
            return;
        };
        let node = self.cache.forget(&bound.uid);
        if let Some(pod) = self.queue.pod(&bound.uid).cloned() {
            self.queue.failed(self.now(), &bound.uid);
            self.refuse(&pod, &format!("binding rejected: {why}"));
        }
        if let Some(node) = node {
            self.wake_for(
                &node,
                NodeChange {
                    allocatable: true,
                    ..NodeChange::default()
                },
            );
        }
    }

    /// Says on the pod why it is not scheduled.
    fn refuse(&self, pod: &PodInfo, message: &str) {
        self.recorder
            .record(&pod.object, Severity::Warning, "FailedScheduling", message);
        if says(&pod.object, message) {
            return;
        }
        let now = format!("{:.0}", self.store.now());
        let write = |stored: &mut Value| {
            if object::uid(stored) != pod.uid || says(stored, message) {
                return;
            }
            let since = scheduled_condition(stored)
                .filter(|condition| condition["status"] == "False")
                .map(|condition| condition["lastTransitionTime"].clone());
            let condition = json!({
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastProbeTime": null,
                "lastTransitionTime": since.unwrap_or_else(|| now.into()),
            });
            object::set_condition(stored, condition);
        };
        let written = self
            .store
            .modify(Kind::Pod, pod.namespace(), pod.name(), write);
        // The pod may have been deleted meanwhile; then there is nobody to tell.
        drop(written);
    }
}

fn scheduled_condition(pod: &Value) -> Option<&Value> {
    object::array(pod, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "PodScheduled")
}

/// The pod already says so.
fn says(pod: &Value, message: &str) -> bool {
    scheduled_condition(pod)
        .is_some_and(|c| c["reason"] == "Unschedulable" && c["message"] == message)
}

/// Binds a pod; on failure says why.
fn bind(
    store: &Store,
    pod: &PodInfo,
    node: &str,
    times: &Timelines,
    recorder: &Recorder,
) -> Option<String> {
    let binding = json!({
        "metadata": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid },
        "target": { "kind": "Node", "name": node },
    });
    match store.bind_with(pod.namespace(), pod.name(), &binding) {
        Ok(_) => {
            times.reached(&pod.uid, Stage::Scheduled);
            let message = format!(
                "Successfully assigned {}/{} to {node}",
                pod.namespace(),
                pod.name()
            );
            recorder.record(&pod.object, Severity::Normal, "Scheduled", &message);
            None
        }
        Err(status) => Some(status.message),
    }
}

#[cfg(test)]
mod tests;
