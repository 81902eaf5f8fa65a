//! When each pod reached each stage, for benchmarks: on tokio's clock, to the nanosecond, where the
//! objects themselves have whole seconds only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Pods remembered; the oldest are forgotten beyond that.
const CAPACITY: usize = 65_536;

/// A stage on a pod's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The cluster's components were told of the new pod.
    Created,
    /// The scheduler saw it without a node.
    Pending,
    /// The scheduler found no node for it, for the first time.
    Unschedulable,
    /// It was bound.
    Scheduled,
    /// The kubelet called `Allocate` for it, for the first time.
    AllocateCalled,
    /// All its devices are granted.
    Allocated,
    /// Its phase became `Running`.
    Running,
    /// None of its containers runs any more, nor will again.
    Ended,
}

/// When a pod first reached each stage, since the start of the cluster; `None`: not yet, or never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// [`Stage::Created`].
    pub created: Option<Duration>,
    /// [`Stage::Pending`].
    pub pending: Option<Duration>,
    /// [`Stage::Unschedulable`].
    pub unschedulable: Option<Duration>,
    /// [`Stage::Scheduled`].
    pub scheduled: Option<Duration>,
    /// [`Stage::AllocateCalled`].
    pub allocate_called: Option<Duration>,
    /// [`Stage::Allocated`].
    pub allocated: Option<Duration>,
    /// [`Stage::Running`].
    pub running: Option<Duration>,
    /// [`Stage::Ended`].
    pub ended: Option<Duration>,
}

impl Timeline {
    fn slot(&mut self, stage: Stage) -> &mut Option<Duration> {
        match stage {
            Stage::Created => &mut self.created,
            Stage::Pending => &mut self.pending,
            Stage::Unschedulable => &mut self.unschedulable,
            Stage::Scheduled => &mut self.scheduled,
            Stage::AllocateCalled => &mut self.allocate_called,
            Stage::Allocated => &mut self.allocated,
            Stage::Running => &mut self.running,
            Stage::Ended => &mut self.ended,
        }
    }
}

/// The timelines of all pods, by uid. Clones share them.
#[derive(Debug, Clone)]
pub struct Timelines {
    start: Instant,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<String, Timeline>,
    order: VecDeque<String>,
}

impl Default for Timelines {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            known: Arc::default(),
        }
    }
}

impl Timelines {
    /// Time since the start of the cluster.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The pod has reached a stage; only the first time counts.
    pub fn reached(&self, uid: &str, stage: Stage) {
        let now = self.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.pods.contains_key(uid) {
            known.order.push_back(uid.to_owned());
            if known.order.len() > CAPACITY
                && let Some(oldest) = known.order.pop_front()
            {
                known.pods.remove(&oldest);
            }
        }
        let timeline = known.pods.entry(uid.to_owned()).or_default();
        timeline.slot(stage).get_or_insert(now);
    }

    /// What is known of a pod.
    pub fn of(&self, uid: &str) -> Option<Timeline> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.pods.get(uid).copied()
    }
}
