//! Watches a cluster and keeps every pod's way up to date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use simcluster::cluster::{Cluster, Node};
use simcluster::store::{Change, Event, Kind, Store, Watch, object};
use simcluster::timeline::Timelines;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::driver::{self, Driver};
use crate::journey::{Grant, Journeys, PodKey, Stage};
use crate::manifests;

/// A kubelet's grants are no objects of the API, so that pods which are bound and not yet running
/// are looked at this often.
const LOOK: Duration = Duration::from_millis(10);

/// What was seen so far. Clones share it.
#[derive(Debug, Clone)]
pub struct Observed {
    journeys: Arc<Mutex<Journeys>>,
    times: Timelines,
    changed: watch::Sender<u64>,
}

impl Observed {
    /// The ways of all pods, but those of the system itself.
    pub fn journeys(&self) -> Journeys {
        self.with(|journeys| {
            journeys.released(|uid| self.times.of(uid).and_then(|timeline| timeline.ended));
            journeys.clone()
        })
    }

    /// Reads, or changes, without a copy.
    pub fn with<T>(&self, action: impl FnOnce(&mut Journeys) -> T) -> T {
        action(&mut self.journeys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes whenever a pod's way went on.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Notes that the API server refused to create a pod.
    pub fn rejected(&self, pod: &Value, message: &str, at: Duration) {
        self.with(|journeys| journeys.rejected(pod, message, at));
        self.wake();
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The task that watches.
#[derive(Debug)]
pub(crate) struct Observer {
    observed: Observed,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Observer {
    pub(crate) fn start(cluster: &Cluster, drivers: Arc<BTreeMap<String, Driver>>) -> Self {
        let observed = Observed {
            journeys: Arc::default(),
            times: cluster.timelines().clone(),
            changed: watch::Sender::new(0),
        };
        let stop = CancellationToken::new();
        let eyes = Eyes {
            store: cluster.store().clone(),
            times: cluster.timelines().clone(),
            nodes: cluster
                .nodes()
                .map(|node| (node.name().to_owned(), node.clone()))
                .collect(),
            drivers,
            observed: observed.clone(),
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.run_until_cancelled(eyes.watch()).await;
        });
        Self {
            observed,
            task,
            stop,
        }
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // It was cancelled, and a panic in it was printed already.
        let _ = self.task.await;
    }
}

struct Eyes {
    store: Store,
    times: Timelines,
    nodes: BTreeMap<String, Node>,
    drivers: Arc<BTreeMap<String, Driver>>,
    observed: Observed,
}

impl Eyes {
    async fn watch(self) {
        loop {
            let (pods, mut pod_changes) = self.store.list_and_watch(Kind::Pod);
            let (events, mut event_changes) = self.store.list_and_watch(Kind::Event);
            for pod in &pods {
                self.pod(pod).await;
            }
            for event in &events {
                self.event(event);
            }
            // Too far behind: start afresh.
            while self.step(&mut pod_changes, &mut event_changes).await {}
        }
    }

    async fn step(&self, pods: &mut Watch, events: &mut Watch) -> bool {
        tokio::select! {
            change = pods.next() => {
                let Ok(change) = change else { return false };
                self.pod_changed(&change).await;
            }
            change = events.next() => {
                let Ok(change) = change else { return false };
                self.event(&change.object);
            }
            () = tokio::time::sleep(LOOK), if self.is_any_bound() => self.look().await,
        }
        true
    }

    async fn pod_changed(&self, change: &Event) {
        if change.change == Change::Deleted {
            let now = self.times.now();
            if self
                .observed
                .with(|journeys| journeys.pod_gone(&change.object, now))
            {
                self.observed.wake();
            }
        } else {
            self.pod(&change.object).await;
        }
    }

    async fn pod(&self, pod: &Value) {
        if object::namespace(pod) == manifests::NAMESPACE {
            return;
        }
        let now = self.times.now();
        let node = object::text(pod, "/spec/nodeName");
        let mut news = self.observed.with(|journeys| journeys.pod_seen(pod, now));
        if !node.is_empty() {
            news |= self.grants(node).await;
        }
        self.observed.with(|journeys| self.set_times(journeys, pod));
        if news {
            self.observed.wake();
        }
    }

    /// The cluster's own notes of when a pod reached a stage are nearer to the truth than when it
    /// was seen here.
    fn set_times(&self, journeys: &mut Journeys, pod: &Value) {
        let Some(timeline) = self.times.of(object::uid(pod)) else {
            return;
        };
        let key = PodKey {
            namespace: object::namespace(pod).to_owned(),
            name: object::name(pod).to_owned(),
        };
        let times = [
            (Stage::Pending, timeline.created),
            (Stage::Allocated, timeline.allocated),
            (Stage::Running, timeline.running),
        ];
        for (stage, at) in times {
            if let Some(at) = at {
                journeys.correct(&key, stage, at);
            }
        }
    }

    fn event(&self, event: &Value) {
        let now = self.times.now();
        if self
            .observed
            .with(|journeys| journeys.event_seen(event, now))
        {
            self.observed.wake();
        }
    }

    fn is_any_bound(&self) -> bool {
        self.observed
            .with(|journeys| journeys.awaiting_grants().next().is_some())
    }

    async fn look(&self) {
        let nodes: std::collections::BTreeSet<String> = self.observed.with(|journeys| {
            journeys
                .awaiting_grants()
                .filter_map(|j| j.node.clone())
                .collect()
        });
        for node in nodes {
            if self.grants(&node).await {
                self.observed.wake();
            }
        }
    }

    /// Reads what a kubelet granted, and what the driver says of it.
    async fn grants(&self, node: &str) -> bool {
        let (Some(kubelet), Some(driver)) = (self.nodes.get(node), self.drivers.get(node)) else {
            return false;
        };
        let allocations = kubelet.allocations().await;
        if allocations.is_empty() {
            return false;
        }
        let Ok(state) = driver.state() else {
            return false;
        };
        let mut news = false;
        for allocation in allocations {
            let known = self
                .observed
                .with(|journeys| journeys.name_of(&allocation.pod_uid));
            let Some(pod) = known else { continue };
            let at = self
                .times
                .of(&allocation.pod_uid)
                .and_then(|timeline| timeline.allocated);
            let at = at.unwrap_or_else(|| self.times.now());
            let grants = allocation.ids.iter().map(|id| Grant {
                container: allocation.container.clone(),
                resource: allocation.resource.clone(),
                device_id: id.clone(),
                device: driver::find(&state, id),
            });
            let grants = grants.collect();
            news |= self
                .observed
                .with(|journeys| journeys.granted(&pod, node, grants, at));
        }
        news
    }
}
