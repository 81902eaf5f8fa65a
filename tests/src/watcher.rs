//! Looks at the whole system all along, beside the scenario: takes moments for the
//! [invariants](crate::invariants), and remembers what became of every pod.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use simcluster::cluster::{Node, State};
use simcluster::store::{Change, Event, Kind, Store, object};
use testbed::driver::Driver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::invariants::{Held, Invariants, Moment};

/// Shortest pause between two moments.
const PAUSE: Duration = Duration::from_millis(20);
/// Moments take at most one part in so many of the time.
const SHARE: u32 = 8;
/// Lines of the story that are kept.
const STORY: usize = 4_000;

/// A node as the watcher sees it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Kubelet and containers.
    pub node: Node,
    /// Its driver, if it has one.
    pub driver: Option<Arc<Driver>>,
}

/// What became of one pod.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// Its name.
    pub name: String,
    /// Its containers ran, whether or not they still do.
    pub ran: bool,
    /// It ended well.
    pub succeeded: bool,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

#[derive(Debug, Default)]
struct Seen {
    invariants: Invariants,
    fates: BTreeMap<String, Fate>,
    troubles: BTreeSet<String>,
    /// How things were when each broken invariant was found.
    states: Vec<String>,
    moments: u64,
    /// The last of what happened to nodes and pods, to the millisecond.
    story: VecDeque<String>,
}

/// What was seen so far. Clones share it.
#[derive(Debug, Clone)]
pub struct Watcher {
    store: Store,
    nodes: Arc<Vec<Watched>>,
    /// Failed pods are not held against the system.
    may_fail: bool,
    seen: Arc<Mutex<Seen>>,
}

impl Watcher {
    /// A watcher that has not looked yet.
    pub fn new(store: Store, nodes: Vec<Watched>, may_fail: bool) -> Self {
        Self {
            store,
            nodes: Arc::new(nodes),
            may_fail,
            seen: Arc::default(),
        }
    }

    /// Looks until told to stop, and once more then.
    pub async fn run(self, stop: CancellationToken) {
        let fates = tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(self.clone().follow_pods()),
        );
        let nodes = tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(self.clone().follow_nodes()),
        );
        while !stop.is_cancelled() {
            let started = Instant::now();
            self.look().await;
            let pause = PAUSE.max(started.elapsed() * (SHARE - 1));
            let pausing = tokio::time::sleep(pause);
            stop.run_until_cancelled(pausing).await;
        }
        self.look().await;
        // They end by the same token.
        let _ = fates.await;
        let _ = nodes.await;
    }

    /// Everything that was wrong so far, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let panics = self.nodes.iter().flat_map(|watched| {
            let name = watched.node.name().to_owned();
            let panics = watched.node.panics().into_iter();
            panics.map(move |panic| format!("the kubelet of node {name} panicked: {panic}"))
        });
        let seen = self.locked();
        let fates = seen.fates.values().filter(|_| !self.may_fail);
        let failed = fates.filter_map(|fate| {
            let why = fate.failed.as_ref()?;
            Some(format!("pod {} failed: {why}", fate.name))
        });
        let broken = seen.invariants.faults().iter();
        let broken = broken.map(|fault| named(fault, &seen.fates));
        let faults = broken.chain(seen.troubles.iter().cloned());
        faults.chain(failed).chain(panics).collect()
    }

    /// What became of the pods, by uid.
    pub fn fates(&self) -> BTreeMap<String, Fate> {
        self.locked().fates.clone()
    }

    /// How things were when each broken invariant was found.
    pub fn states(&self) -> Vec<String> {
        self.locked().states.clone()
    }

    /// What the nodes' status said of our resources, and where pods were bound and how they ended.
    pub fn story(&self) -> Vec<String> {
        self.locked().story.iter().cloned().collect()
    }

    /// How many moments were judged.
    pub fn moments(&self) -> u64 {
        self.locked().moments
    }

    fn locked(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) {
        let before = self.held().await;
        let mut driver = BTreeMap::new();
        let mut troubles = Vec::new();
        for watched in self.nodes.iter() {
            let Some(reader) = &watched.driver else {
                continue;
            };
            match reader.state() {
                Ok(state) => {
                    driver.insert(watched.node.name().to_owned(), state);
                }
                Err(error) => troubles.push(format!("the driver's state cannot be read: {error}")),
            }
        }
        let after = self.held().await;
        let in_use = self.in_use();
        let moment = Moment {
            before,
            driver,
            after,
            in_use,
        };
        let mut seen = self.locked();
        let known = seen.invariants.faults().clone();
        seen.invariants.check(&moment);
        seen.troubles.extend(troubles);
        seen.moments += 1;
        let states: Vec<String> = seen
            .invariants
            .faults()
            .difference(&known)
            .map(|new| self.state_of(new))
            .collect();
        seen.states.extend(states);
    }

    async fn held(&self) -> BTreeSet<Held> {
        let mut all = BTreeSet::new();
        for watched in self.nodes.iter() {
            for allocation in watched.node.allocations().await {
                let held = |id: String| Held {
                    node: watched.node.name().to_owned(),
                    pod: allocation.pod_uid.clone(),
                    resource: allocation.resource.clone(),
                    id,
                };
                all.extend(allocation.ids.iter().cloned().map(held));
            }
        }
        all
    }

    /// Pods that can use their devices: a container runs, or is going to run.
    fn in_use(&self) -> BTreeSet<String> {
        let mut running = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for record in self
            .nodes
            .iter()
            .flat_map(|watched| watched.node.containers())
        {
            match record.state {
                State::Running { .. } => running.insert(record.pod_uid),
                State::Exited { .. } => ended.insert(record.pod_uid),
            };
        }
        let (pods, _) = self.store.list(Kind::Pod, None);
        let expected = pods.iter().filter(|pod| {
            let over = object::is_deleting(pod)
                || matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed");
            let starts_again = object::text(pod, "/spec/restartPolicy") == "Always";
            !over && (starts_again || !ended.contains(object::uid(pod)))
        });
        running.extend(expected.map(|pod| object::uid(pod).to_owned()));
        running
    }

    /// How the pods are that a fault is about, for whoever reads about it later.
    fn state_of(&self, fault: &str) -> String {
        let all = self
            .nodes
            .iter()
            .flat_map(|watched| watched.node.containers());
        let of_pods: Vec<_> = all
            .filter(|record| fault.contains(&record.pod_uid))
            .collect();
        let (pods, _) = self.store.list(Kind::Pod, None);
        let pods = pods.iter().filter(|pod| fault.contains(object::uid(pod)));
        let pods: Vec<String> = pods.map(ToString::to_string).collect();
        format!(
            "{} {fault}: containers {of_pods:#?}, pods {pods:#?}",
            self.store.now()
        )
    }

    async fn follow_pods(self) {
        loop {
            let (pods, mut watch) = self.store.list_and_watch(Kind::Pod);
            for pod in pods {
                self.note(&pod);
            }
            while let Ok(event) = watch.next().await {
                self.note(&event.object);
                if let Some(line) = pod_news(&event) {
                    self.tell(&line);
                }
            }
            self.locked()
                .troubles
                .insert("the watcher lost track of pods".to_owned());
        }
    }

    async fn follow_nodes(self) {
        loop {
            let (_, mut watch) = self.store.list_and_watch(Kind::Node);
            while let Ok(event) = watch.next().await {
                if let Some(line) = node_news(&event) {
                    self.tell(&line);
                }
            }
        }
    }

    fn tell(&self, line: &str) {
        let line = format!("{:.6} {line}", self.store.now());
        let mut seen = self.locked();
        if seen.story.len() == STORY {
            seen.story.pop_front();
        }
        seen.story.push_back(line);
    }

    fn note(&self, pod: &Value) {
        let mut seen = self.locked();
        let fate = seen.fates.entry(object::uid(pod).to_owned()).or_default();
        if fate.name.is_empty() {
            fate.name = format!("{}/{}", object::namespace(pod), object::name(pod));
        }
        match object::text(pod, "/status/phase") {
            "Running" => fate.ran = true,
            "Succeeded" => (fate.ran, fate.succeeded) = (true, true),
            "Failed" if fate.failed.is_none() && !object::is_deleting(pod) => {
                let [reason, message] = ["/status/reason", "/status/message"]
                    .map(|pointer| object::text(pod, pointer).to_owned());
                fate.failed = Some(format!("{reason} {message}"));
            }
            _ => {}
        }
    }
}

/// A fault with the names of pods in place of their uids.
fn named(fault: &str, fates: &BTreeMap<String, Fate>) -> String {
    let of_it = fates.iter().filter(|(uid, _)| fault.contains(uid.as_str()));
    of_it.fold(fault.to_owned(), |text, (uid, fate)| {
        text.replace(uid, &fate.name)
    })
}

/// Where a pod went, or how it ended, if the event is about that.
fn pod_news(event: &Event) -> Option<String> {
    let pod = &event.object;
    let was = |path| {
        let previous = event.previous.as_deref();
        previous.map_or("", |previous| object::text(previous, path))
    };
    let name = object::name(pod);
    if event.change == Change::Deleted {
        return Some(format!("pod {name} gone"));
    }
    let (node, phase) = (
        object::text(pod, "/spec/nodeName"),
        object::text(pod, "/status/phase"),
    );
    if node != was("/spec/nodeName") {
        return Some(format!("pod {name} bound to {node}"));
    }
    (phase != was("/status/phase")).then(|| format!("pod {name} {phase} on {node}"))
}

/// What changed in the counts of a node's status.
fn node_news(event: &Event) -> Option<String> {
    let now = crate::start::shown(&event.object);
    let before = event.previous.as_deref().map(crate::start::shown);
    let before = before.unwrap_or_default();
    let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changes: Vec<String> = all
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| {
            let count = |of: &BTreeMap<String, u64>| of.get(name).copied().unwrap_or_default();
            format!("{name} {}->{}", count(&before), count(&now))
        })
        .collect();
    let heartbeat = |node: &Value| node["status"]["conditions"].clone();
    let by_kubelet = event
        .previous
        .as_deref()
        .is_some_and(|previous| heartbeat(previous) != heartbeat(&event.object));
    let who = if by_kubelet { " (kubelet)" } else { "" };
    let name = object::name(&event.object);
    (by_kubelet || !changes.is_empty()).then(|| format!("node {name}{who} {}", changes.join(", ")))
}
