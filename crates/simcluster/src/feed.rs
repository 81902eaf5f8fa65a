//! Hands each node what concerns it: one reader of all pods and nodes, one outlet per node, so that
//! an event costs one node and not all of them.
//!
//! Outlets keep the newest state of each changed pod, not every change: a kubelet that is busy
//! skips states, as a real one does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::store::{Change, Event, Gone, Kind, Store, Watch, object};
use crate::timeline::{Stage, Timelines};

/// The newest state of a pod, or its last one.
#[derive(Debug, Clone)]
pub(crate) struct PodChange {
    pub(crate) pod: Arc<Value>,
    pub(crate) removed: bool,
    /// It was there when the outlet was made.
    pub(crate) initial: bool,
}

#[derive(Debug, Default)]
struct Pending {
    changes: HashMap<String, PodChange>,
    order: VecDeque<String>,
}

impl Pending {
    fn push(&mut self, uid: &str, mut change: PodChange) {
        change.initial |= self.changes.get(uid).is_some_and(|known| known.initial);
        if self.changes.insert(uid.to_owned(), change).is_none() {
            self.order.push_back(uid.to_owned());
        }
    }
}

/// Changes of one node's pods that were not taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlet {
    pending: Arc<Mutex<Pending>>,
    notify: Arc<Notify>,
}

impl Outlet {
    /// The next changed pod, oldest change first.
    pub(crate) async fn next(&self) -> PodChange {
        loop {
            let notified = self.notify.notified();
            if let Some(change) = self.take() {
                return change;
            }
            notified.await;
        }
    }

    /// Uids of the pods whose changes wait.
    pub(crate) fn uids(&self) -> Vec<String> {
        locked(&self.pending).order.iter().cloned().collect()
    }

    fn take(&self) -> Option<PodChange> {
        let mut pending = locked(&self.pending);
        let uid = pending.order.pop_front()?;
        pending.changes.remove(&uid)
    }

    fn push(&self, uid: &str, change: PodChange) {
        locked(&self.pending).push(uid, change);
        self.notify.notify_one();
    }
}

#[derive(Debug, Default)]
struct Node {
    pods: BTreeMap<String, Arc<Value>>,
    outlet: Option<Outlet>,
    object: watch::Sender<Option<Arc<Value>>>,
}

/// All nodes' outlets. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    nodes: Arc<Mutex<HashMap<String, Node>>>,
    times: Timelines,
}

impl Feed {
    pub(crate) fn new(times: Timelines) -> Self {
        Self {
            nodes: Arc::default(),
            times,
        }
    }

    /// The changes of a node's pods from here on, beginning with all there are. An outlet that was
    /// handed out before runs dry.
    pub(crate) fn pods(&self, node: &str) -> Outlet {
        let mut nodes = locked(&self.nodes);
        let node = nodes.entry(node.to_owned()).or_default();
        let outlet = Outlet::default();
        let mut pods: Vec<&Arc<Value>> = node.pods.values().collect();
        pods.sort_by_key(|pod| {
            (
                object::text(pod, "/metadata/creationTimestamp"),
                object::version(pod),
            )
        });
        for pod in pods {
            outlet.push(
                object::uid(pod),
                PodChange {
                    pod: pod.clone(),
                    removed: false,
                    initial: true,
                },
            );
        }
        node.outlet = Some(outlet.clone());
        outlet
    }

    /// The node's own object as its kubelet knows it.
    pub(crate) fn node(&self, node: &str) -> watch::Receiver<Option<Arc<Value>>> {
        let mut nodes = locked(&self.nodes);
        nodes.entry(node.to_owned()).or_default().object.subscribe()
    }

    /// Reads until `shutdown`.
    pub(crate) async fn run(self, store: Store, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let (pods, pod_watch) = store.list_and_watch(Kind::Pod);
            let (nodes, node_watch) = store.list_and_watch(Kind::Node);
            self.replace(&pods);
            for node in nodes {
                self.node_changed(&node, false);
            }
            let follow = self.follow(pod_watch, node_watch);
            // When history was lost, all is read again.
            let _: Option<Result<(), Gone>> = shutdown.run_until_cancelled(follow).await;
        }
    }

    async fn follow(&self, mut pods: Watch, mut nodes: Watch) -> Result<(), Gone> {
        loop {
            tokio::select! {
                event = pods.next() => self.pod_event(&*event?),
                event = nodes.next() => {
                    let event = event?;
                    self.node_changed(&event.object, event.change == Change::Deleted);
                }
            }
        }
    }

    fn pod_event(&self, event: &Event) {
        if event.change == Change::Added {
            self.times
                .reached(object::uid(&event.object), Stage::Created);
        }
        self.pod_changed(&event.object, event.change == Change::Deleted);
    }

    fn pod_changed(&self, pod: &Arc<Value>, removed: bool) {
        let name = object::text(pod, "/spec/nodeName");
        if name.is_empty() {
            return;
        }
        let uid = object::uid(pod);
        let mut nodes = locked(&self.nodes);
        let node = nodes.entry(name.to_owned()).or_default();
        if removed {
            node.pods.remove(uid);
        } else {
            node.pods.insert(uid.to_owned(), pod.clone());
        }
        if let Some(outlet) = &node.outlet {
            outlet.push(
                uid,
                PodChange {
                    pod: pod.clone(),
                    removed,
                    initial: false,
                },
            );
        }
    }

    /// Takes a whole list in place of all events that were missed.
    fn replace(&self, pods: &[Arc<Value>]) {
        let live: HashMap<&str, &Arc<Value>> =
            pods.iter().map(|pod| (object::uid(pod), pod)).collect();
        let known: Vec<Arc<Value>> = locked(&self.nodes)
            .values()
            .flat_map(|n| n.pods.values().cloned())
            .collect();
        for gone in known
            .iter()
            .filter(|pod| !live.contains_key(object::uid(pod)))
        {
            self.pod_changed(gone, true);
        }
        for pod in pods {
            self.times.reached(object::uid(pod), Stage::Created);
            self.pod_changed(pod, false);
        }
    }

    fn node_changed(&self, node: &Arc<Value>, removed: bool) {
        let mut nodes = locked(&self.nodes);
        let entry = nodes.entry(object::name(node).to_owned()).or_default();
        entry.object.send_replace((!removed).then(|| node.clone()));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
