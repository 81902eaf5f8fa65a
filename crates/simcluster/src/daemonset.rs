//! The DaemonSet controller: one pod per node that a DaemonSet wants, and none on the others.
//!
//! A pure function (`plan`) decides; the loop here feeds it. Pods go through the scheduler, pinned to
//! their node by a field of its affinity, as with the real controller.

mod plan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::events::{Recorder, Severity};
use crate::store::{Change, DeleteOptions, Event, Gone, Kind, Store, WriteOptions, object};

use plan::{Action, plan};

/// First pause before a failed pod is replaced; doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// Runs the controller until `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let controller = Controller::new(&store);
        // When history was lost, all is read again.
        let _: Option<Result<(), Gone>> = shutdown.run_until_cancelled(controller.run()).await;
    }
}

#[derive(Debug, Clone, Copy)]
struct Backoff {
    pause: Duration,
    until: Instant,
    /// Only remembered for the length of the next pause.
    over: bool,
}

struct Controller {
    store: Store,
    admission: Admission,
    recorder: Recorder,
    sets: BTreeMap<String, Arc<Value>>,
    nodes: BTreeMap<String, Arc<Value>>,
    /// By uid of the DaemonSet and of the pod.
    pods: HashMap<String, BTreeMap<String, Arc<Value>>>,
    /// By uid of the DaemonSet and name of the node.
    backoff: HashMap<(String, String), Backoff>,
    /// Uids of DaemonSets to look at.
    dirty: HashSet<String>,
}

impl Controller {
    fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            admission: Admission::controller(store.clone(), "daemon-set-controller"),
            recorder: Recorder::new(store.clone(), "daemonset-controller", ""),
            sets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: HashMap::new(),
            backoff: HashMap::new(),
            dirty: HashSet::new(),
        }
    }

    async fn run(mut self) -> Result<(), Gone> {
        let (sets, mut set_watch) = self.store.list_and_watch(Kind::DaemonSet);
        let (nodes, mut node_watch) = self.store.list_and_watch(Kind::Node);
        let (pods, mut pod_watch) = self.store.list_and_watch(Kind::Pod);
        for node in nodes {
            self.nodes.insert(object::name(&node).to_owned(), node);
        }
        for pod in pods {
            self.pod_changed(&pod, false);
        }
        for set in sets {
            self.set_changed(&set, false);
        }
        loop {
            for uid in std::mem::take(&mut self.dirty) {
                self.reconcile(&uid).await;
            }
            let pauses = self.backoff.values().filter(|backoff| !backoff.over);
            let wake = pauses.map(|backoff| backoff.until).min();
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = set_watch.next() => {
                    let event = event?;
                    self.set_changed(&event.object, event.change == Change::Deleted);
                }
                event = node_watch.next() => self.node_event(&*event?),
                event = pod_watch.next() => {
                    let event = event?;
                    self.pod_changed(&event.object, event.change == Change::Deleted);
                }
                () = timer => self.backoffs_over(),
            }
        }
    }

    fn set_changed(&mut self, set: &Arc<Value>, removed: bool) {
        let uid = object::uid(set).to_owned();
        if removed {
            self.sets.remove(&uid);
            self.backoff.retain(|(of, _), _| *of != uid);
        } else {
            self.sets.insert(uid.clone(), set.clone());
            self.dirty.insert(uid);
        }
    }

    fn node_event(&mut self, event: &Event) {
        let node = &event.object;
        if event.change == Change::Deleted {
            self.nodes.remove(object::name(node));
        } else {
            self.nodes
                .insert(object::name(node).to_owned(), node.clone());
        }
        let same = |path: &str| {
            event
                .previous
                .as_deref()
                .is_some_and(|old| old.pointer(path) == node.pointer(path))
        };
        let same = same("/metadata/labels") && same("/spec");
        if event.change == Change::Deleted || !same {
            self.dirty.extend(self.sets.keys().cloned());
        }
    }

    fn pod_changed(&mut self, pod: &Arc<Value>, removed: bool) {
        let owners = object::array(pod, "/metadata/ownerReferences");
        let Some(owner) = owners.iter().find(|owner| owner["kind"] == "DaemonSet") else {
            return;
        };
        let owner = object::text(owner, "/uid").to_owned();
        let pods = self.pods.entry(owner.clone()).or_default();
        if removed {
            pods.remove(object::uid(pod));
        } else {
            pods.insert(object::uid(pod).to_owned(), pod.clone());
        }
        if pods.is_empty() {
            self.pods.remove(&owner);
        }
        self.dirty.insert(owner);
    }

    fn backoffs_over(&mut self) {
        let now = Instant::now();
        for ((set, _), backoff) in &mut self.backoff {
            if !backoff.over && backoff.until <= now {
                backoff.over = true;
                self.dirty.insert(set.clone());
            }
        }
        // What has been over for long is forgotten: the next failure is a first one again.
        self.backoff
            .retain(|_, backoff| now < backoff.until + MAX_BACKOFF * 10);
    }

    async fn reconcile(&mut self, uid: &str) {
        let Some(set) = self.sets.get(uid).cloned() else {
            return;
        };
        if object::is_deleting(&set) {
            return;
        }
        let now = Instant::now();
        let none = BTreeMap::new();
        let pods = self.pods.get(uid).unwrap_or(&none);
        let held_back = |node: &str| {
            let key = (uid.to_owned(), node.to_owned());
            self.backoff
                .get(&key)
                .is_some_and(|backoff| now < backoff.until)
        };
        let (actions, status) = plan(
            &set,
            self.nodes.values().map(AsRef::as_ref),
            pods.values(),
            held_back,
        );
        let namespace = object::namespace(&set).to_owned();
        for action in actions {
            match action {
                Action::Create(pod) => self.create(&set, &namespace, pod).await,
                Action::Delete(name) => self.delete(&set, &namespace, &name),
                Action::Replace { pod, node } => {
                    let key = (uid.to_owned(), node);
                    let pause = self
                        .backoff
                        .get(&key)
                        .map_or(FIRST_BACKOFF, |b| b.pause * 2);
                    let pause = pause.min(MAX_BACKOFF);
                    self.backoff.insert(
                        key,
                        Backoff {
                            pause,
                            until: now + pause,
                            over: false,
                        },
                    );
                    self.delete(&set, &namespace, &pod);
                }
            }
        }
        let write = |stored: &mut Value| {
            if object::uid(stored) == uid {
                stored["status"] = status;
            }
        };
        // It may have been deleted meanwhile.
        let _ = self
            .store
            .modify(Kind::DaemonSet, &namespace, object::name(&set), write);
    }

    async fn create(&mut self, set: &Value, namespace: &str, pod: Value) {
        let options = WriteOptions::default();
        let mut warnings = Vec::new();
        let made = self
            .admission
            .create(Kind::Pod, namespace, pod, &options, &mut warnings)
            .await;
        match made {
            Ok(pod) => {
                let message = format!("Created pod: {}", object::name(&pod));
                self.recorder
                    .record(set, Severity::Normal, "SuccessfulCreate", &message);
                self.pod_changed(&pod, false);
            }
            Err(error) => {
                let message = format!("Error creating: {error}");
                self.recorder
                    .record(set, Severity::Warning, "FailedCreate", &message);
            }
        }
    }

    fn delete(&self, set: &Value, namespace: &str, pod: &str) {
        if self
            .store
            .delete(Kind::Pod, namespace, pod, &DeleteOptions::default())
            .is_ok()
        {
            let message = format!("Deleted pod: {pod}");
            self.recorder
                .record(set, Severity::Normal, "SuccessfulDelete", &message);
        }
    }
}

#[cfg(test)]
mod tests;
