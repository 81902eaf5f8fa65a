//! A simple scheduler and kubelet for the benchmark: binds the oldest waiting pod that a node's free devices
//! cover, and gives it the devices.
//!
//! The embedded scheduler looks at a thousand nodes for each of ten thousand pods, as the real one does; on a
//! machine with two cores it would leave none to the controller. This one looks at the nodes that changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use serde_json::{Value, json};
use simcluster::store::{Change, DeleteOptions, Event, Kind, Store, Watch, object};
use tokio::time::{Duration, Instant};

use super::agents::Simulated;
use super::load::{NAMESPACE, Running, Shape};

/// Changes looked at in one go.
const BATCH: usize = 512;
/// A kubelet writes its node's status every five minutes if nothing changes; so many nodes, one every so often.
const BEAT: Duration = Duration::from_millis(300);

/// What the benchmark's measuring part may look at.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Pods that were bound and have their devices.
    pub(super) bound: AtomicUsize,
    /// Grants for which the agent had no device: the node's status had promised too much.
    pub(super) failed: AtomicUsize,
}

/// A node as the scheduler sees it.
struct Place {
    name: String,
    zone: String,
    agent: Simulated,
    allocatable: BTreeMap<String, u32>,
    used: BTreeMap<String, u32>,
}

impl Place {
    fn covers(&self, shape: &Shape) -> bool {
        let selected = shape.zone.as_ref().is_none_or(|zone| *zone == self.zone);
        selected
            && shape.wants.iter().all(|(resource, count)| {
                let has = self.allocatable.get(*resource).copied().unwrap_or(0);
                let used = self.used.get(*resource).copied().unwrap_or(0);
                used + count <= has
            })
    }
}

pub(super) struct Scheduler {
    store: Store,
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    shapes: Vec<Shape>,
    /// Waiting pods by shape, the oldest first; some may be gone.
    waiting: Vec<VecDeque<String>>,
    /// Where bound pods are, with their shapes.
    bound: HashMap<String, (usize, usize)>,
    counters: Arc<Counters>,
    pods: Watch,
    nodes: Watch,
}

impl Scheduler {
    /// A scheduler for these agents, in the order of their nodes. `bound` are pods that run already: name, node,
    /// shape.
    pub(super) fn new(
        store: &Store,
        agents: &[(Simulated, String)],
        shapes: Vec<Shape>,
        bound: &[Running],
        counters: Arc<Counters>,
    ) -> Self {
        let place = |(agent, zone): &(Simulated, String)| Place {
            name: agent.with(|node| node.name().to_owned()),
            zone: zone.clone(),
            agent: agent.clone(),
            allocatable: agent.with(|node| {
                let counts = node.counts().into_iter();
                counts
                    .map(|(resource, (_, allocatable))| (resource, allocatable))
                    .collect()
            }),
            used: BTreeMap::new(),
        };
        let mut places: Vec<_> = agents.iter().map(place).collect();
        for (_, node, wants) in bound {
            for (resource, count) in wants {
                *places[*node].used.entry(resource.clone()).or_default() += count;
            }
        }
        let names = places.iter().enumerate();
        let by_name = names.map(|(at, place)| (place.name.clone(), at)).collect();
        let (_, pods) = store.list_and_watch(Kind::Pod);
        let (_, nodes) = store.list_and_watch(Kind::Node);
        Self {
            store: store.clone(),
            waiting: vec![VecDeque::new(); shapes.len()],
            places,
            by_name,
            shapes,
            bound: HashMap::new(),
            counters,
            pods,
            nodes,
        }
    }

    /// Schedules until it is dropped.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
        let mut beats = 0;
        loop {
            let changed = tokio::select! {
                event = self.pods.next() => {
                    let first = event.map_err(|_| behind())?;
                    self.see_pods(&first)?
                }
                event = self.nodes.next() => {
                    let first = event.map_err(|_| behind())?;
                    self.see_nodes(&first)?
                }
                _ = beat.tick() => {
                    self.beat(beats)?;
                    beats += 1;
                    // A pod may have come where another one's devices are still free.
                    (0..self.places.len()).collect()
                }
            };
            for at in changed {
                self.fill(at)?;
            }
            // Agents, API server and this take turns on one core.
            tokio::task::yield_now().await;
        }
    }

    fn see_pods(&mut self, first: &Arc<Event>) -> anyhow::Result<BTreeSet<usize>> {
        let mut changed = BTreeSet::new();
        let more = self.pods.take(BATCH).map_err(|_| behind())?;
        for event in std::iter::once(first).chain(&more) {
            let pod = &*event.object;
            if object::text(pod, "/metadata/namespace") != NAMESPACE {
                continue;
            }
            let name = object::name(pod);
            match event.change {
                Change::Added => {
                    let Some(shape) = shape_of(pod).filter(|_| !is_bound(pod)) else {
                        continue;
                    };
                    if self.waiting[shape].is_empty() {
                        let covers = |at: &usize| self.places[*at].covers(&self.shapes[shape]);
                        changed.extend((0..self.places.len()).find(covers));
                    }
                    self.waiting[shape].push_back(name.to_owned());
                }
                Change::Deleted => {
                    if let Some((at, shape)) = self.bound.remove(name) {
                        self.places[at]
                            .agent
                            .change(|node| node.release(NAMESPACE, name));
                        for (resource, count) in self.shapes[shape].wants {
                            let used = self.places[at].used.entry((*resource).to_owned());
                            let used = used.or_default();
                            *used = used.saturating_sub(*count);
                        }
                        changed.insert(at);
                    } else if is_bound(pod) {
                        let node = object::text(pod, "/spec/nodeName");
                        if let Some(at) = self.by_name.get(node).copied() {
                            self.release_first(at, pod);
                            changed.insert(at);
                        }
                    }
                }
                Change::Modified => {}
            }
        }
        Ok(changed)
    }

    /// One of the pods that ran from the start has ended.
    fn release_first(&mut self, at: usize, pod: &Value) {
        let place = &mut self.places[at];
        let name = object::name(pod).to_owned();
        place.agent.change(|node| node.release(NAMESPACE, &name));
        let limits = pod.pointer("/spec/containers/0/resources/limits");
        for (resource, count) in limits.and_then(Value::as_object).into_iter().flatten() {
            let count = count.as_str().and_then(|count| count.parse::<u32>().ok());
            if let (Some(used), Some(count)) = (place.used.get_mut(resource), count) {
                *used = used.saturating_sub(count);
            }
        }
    }

    fn see_nodes(&mut self, first: &Arc<Event>) -> anyhow::Result<BTreeSet<usize>> {
        let mut changed = BTreeSet::new();
        let more = self.nodes.take(BATCH).map_err(|_| behind())?;
        for event in std::iter::once(first).chain(&more) {
            let node = &*event.object;
            let Some(at) = self.by_name.get(object::name(node)).copied() else {
                continue;
            };
            let allocatable = node.pointer("/status/allocatable");
            let counts = allocatable.and_then(Value::as_object).into_iter().flatten();
            let read = |(resource, count): (&String, &Value)| {
                let count = count.as_str()?.parse::<u32>().ok()?;
                Some((resource.clone(), count))
            };
            let counts: BTreeMap<_, _> = counts.filter_map(read).collect();
            if self.places[at].allocatable != counts {
                self.places[at].allocatable = counts;
                changed.insert(at);
            }
        }
        Ok(changed)
    }

    /// Binds to a node what it covers, shape by shape, the oldest pods first.
    fn fill(&mut self, at: usize) -> anyhow::Result<()> {
        for shape in 0..self.shapes.len() {
            while self.places[at].covers(&self.shapes[shape]) {
                let Some(pod) = self.waiting[shape].pop_front() else {
                    break;
                };
                self.bind(&pod, at, shape)?;
            }
        }
        Ok(())
    }

    fn bind(&mut self, pod: &str, at: usize, shape: usize) -> anyhow::Result<()> {
        let place = &mut self.places[at];
        if self.store.bind(NAMESPACE, pod, &place.name).is_err() {
            // It is gone.
            return Ok(());
        }
        let wants = &self.shapes[shape].wants;
        for (resource, count) in *wants {
            *place.used.entry((*resource).to_owned()).or_default() += count;
        }
        let granted = place.agent.change(|node| {
            wants
                .iter()
                .all(|(resource, count)| node.grant((NAMESPACE, pod), resource, *count))
        });
        let counter = if granted {
            &self.counters.bound
        } else {
            &self.counters.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let started = self.store.modify(Kind::Pod, NAMESPACE, pod, |pod| {
            pod["status"]["phase"] = json!("Running");
        });
        started.map_err(|status| anyhow::anyhow!("a pod could not start: {status}"))?;
        self.bound.insert(pod.to_owned(), (at, shape));
        Ok(())
    }

    /// The kubelet of one node writes its status.
    fn beat(&self, number: usize) -> anyhow::Result<()> {
        let place = self.places.get(number % self.places.len().max(1));
        let place = place.context("there are no nodes")?;
        // The store is locked while it is modified.
        let now = self.store.now().to_string();
        let beat = self.store.modify(Kind::Node, "", &place.name, |node| {
            node["status"]["conditions"] = json!([{
                "type": "Ready", "status": "True", "lastHeartbeatTime": now,
            }]);
        });
        beat.map_err(|status| anyhow::anyhow!("a node's status was refused: {status}"))?;
        Ok(())
    }
}

/// Ends a pod, as it does at its own end.
pub(super) fn end(store: &Store, pod: &str) -> anyhow::Result<()> {
    let gone = store.delete(Kind::Pod, NAMESPACE, pod, &DeleteOptions::now());
    gone.map_err(|status| anyhow::anyhow!("a pod could not be deleted: {status}"))?;
    Ok(())
}

fn shape_of(pod: &Value) -> Option<usize> {
    object::text(pod, "/metadata/labels/shape").parse().ok()
}

fn is_bound(pod: &Value) -> bool {
    !object::text(pod, "/spec/nodeName").is_empty()
}

fn behind() -> anyhow::Error {
    anyhow::anyhow!("the benchmark's scheduler fell behind the API server")
}
