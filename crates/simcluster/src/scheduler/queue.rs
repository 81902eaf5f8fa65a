//! Where a pod waits until it is tried: active, in back-off, unschedulable, or gated.
//!
//! A state machine without I/O: times are durations since any fixed start, passed in. It follows
//! kube-scheduler's `PriorityQueue`; [`Behaviour`] says which one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::behaviour::Behaviour;

use super::filter::Rejections;
use super::pod::PodInfo;

/// First back-off; doubles with each attempt.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Longest back-off.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// How often kube-scheduler looks for pods whose back-off is over.
const BACKOFF_TICK: Duration = Duration::from_secs(1);
/// How often it looks for pods that have been unschedulable for too long.
const LEFTOVER_TICK: Duration = Duration::from_secs(30);

/// Where a pod is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Will be tried next, by priority and age.
    Active,
    /// Will be tried when its back-off is over.
    Backoff,
    /// Waits for something to change.
    Unschedulable,
    /// Has scheduling gates.
    Gated,
    /// Being tried or bound.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When it was last put into the queue.
    since: Duration,
    sequence: u64,
    /// Its last attempt failed by an error, not for want of a node.
    error: bool,
    rejections: Rejections,
}

type ActiveKey = (Reverse<i64>, Duration, u64, String);
type TimeKey = (Duration, u64, String);

/// All pods that wait for a node.
#[derive(Debug)]
pub struct Queue {
    behaviour: Behaviour,
    entries: HashMap<String, Entry>,
    active: BTreeSet<ActiveKey>,
    /// By the time at which the back-off ends.
    backoff: BTreeSet<TimeKey>,
    /// By the time since which they wait.
    unschedulable: BTreeSet<TimeKey>,
    sequence: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            entries: HashMap::new(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// A pod without a node appeared, or one that is known has changed.
    pub fn upsert(&mut self, now: Duration, pod: PodInfo) {
        let pod = Arc::new(pod);
        let Some(entry) = self.entries.get_mut(&pod.uid) else {
            self.sequence += 1;
            let gated = pod.gated && self.behaviour.scheduling_gates();
            let uid = pod.uid.clone();
            let entry = Entry {
                pod,
                place: Place::InFlight,
                attempts: 0,
                since: now,
                sequence: self.sequence,
                error: false,
                rejections: Rejections::default(),
            };
            self.entries.insert(uid.clone(), entry);
            return self.put(&uid, if gated { Place::Gated } else { Place::Active });
        };
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        let still_gated = pod.gated && self.behaviour.scheduling_gates();
        let changed = PodInfo::differs(&old.object, &pod.object);
        match entry.place {
            Place::Active => {
                let key = active_key(entry, old.priority);
                if old.priority != pod.priority {
                    self.active.remove(&key);
                    self.put(&pod.uid, Place::Active);
                }
            }
            Place::Backoff if self.behaviour.update_ends_backoff() => {
                self.put(&pod.uid, Place::Active);
            }
            Place::Unschedulable if changed => {
                let hopeful =
                    !self.behaviour.queueing_hints() || PodInfo::may_fit_better(&old, &pod);
                if self.behaviour.update_ends_backoff() {
                    self.put(&pod.uid, Place::Active);
                } else if hopeful {
                    self.wake(now, &pod.uid);
                }
            }
            Place::Gated if !still_gated => {
                entry.since = now;
                self.put(&pod.uid, Place::Active);
            }
            _ => {}
        }
    }

    /// The pod is bound or gone.
    pub fn remove(&mut self, uid: &str) {
        self.take_out(uid);
        self.entries.remove(uid);
    }

    /// The pod to try now. Newer schedulers empty the back-off when nothing is active, but for pods
    /// that failed by an error.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.flush(now);
        let next = self.active.first().map(|key| key.3.clone()).or_else(|| {
            let early = self.behaviour.pops_from_backoff();
            let mut waiting = self.backoff.iter().filter(|_| early).map(|key| &key.2);
            waiting
                .find(|uid| self.entries.get(*uid).is_some_and(|e| !e.error))
                .cloned()
        })?;
        self.put(&next, Place::InFlight);
        let entry = self.entries.get_mut(&next)?;
        entry.attempts += 1;
        Some(entry.pod.clone())
    }

    /// The pod that was popped fits no node.
    pub fn unschedulable(&mut self, now: Duration, uid: &str, rejections: Rejections) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.since = now;
            entry.error = false;
            entry.rejections = rejections;
            self.put(uid, Place::Unschedulable);
        }
    }

    /// The pod that was popped could not be bound.
    pub fn failed(&mut self, now: Duration, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.since = now;
            entry.error = true;
            self.put(uid, Place::Backoff);
        }
    }

    /// Something happened in the cluster: the unschedulable pods that it concerns are tried again,
    /// those whose back-off lasts when it ends.
    pub fn wake_all(
        &mut self,
        now: Duration,
        mut concerns: impl FnMut(&PodInfo, Rejections) -> bool,
    ) {
        let concerned: Vec<String> = self
            .unschedulable
            .iter()
            .filter(|(_, _, uid)| {
                self.entries
                    .get(uid)
                    .is_some_and(|e| concerns(&e.pod, e.rejections))
            })
            .map(|key| key.2.clone())
            .collect();
        for uid in concerned {
            self.wake(now, &uid);
        }
    }

    fn wake(&mut self, now: Duration, uid: &str) {
        let waiting = self
            .entries
            .get(uid)
            .is_some_and(|entry| backoff_end(entry) > now);
        self.put(
            uid,
            if waiting {
                Place::Backoff
            } else {
                Place::Active
            },
        );
    }

    /// Moves on whatever time alone moves on.
    pub fn flush(&mut self, now: Duration) {
        while let Some((end, _, uid)) = self.backoff.first()
            && *end <= now
        {
            let uid = uid.clone();
            self.put(&uid, Place::Active);
        }
        let limit = self.behaviour.unschedulable_limit();
        while let Some((since, _, uid)) = self.unschedulable.first()
            && at_tick(*since + limit, LEFTOVER_TICK) <= now
        {
            let uid = uid.clone();
            self.wake(now, &uid);
        }
    }

    /// When [`Queue::flush`] will have something to do; `None` while only events matter.
    pub fn deadline(&self) -> Option<Duration> {
        let limit = self.behaviour.unschedulable_limit();
        let leftover = self
            .unschedulable
            .first()
            .map(|key| at_tick(key.0 + limit, LEFTOVER_TICK));
        let backoff = self.backoff.first().map(|key| key.0);
        backoff.into_iter().chain(leftover).min()
    }

    /// Where a pod waits, if it does.
    pub fn place(&self, uid: &str) -> Option<Place> {
        self.entries.get(uid).map(|entry| entry.place)
    }

    /// The pod's newest state.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    fn put(&mut self, uid: &str, place: Place) {
        self.take_out(uid);
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.place = place;
        let uid = uid.to_owned();
        match place {
            Place::Active => {
                self.active.insert(active_key(entry, entry.pod.priority));
            }
            Place::Backoff => {
                let end = at_tick(backoff_end(entry), BACKOFF_TICK);
                self.backoff.insert((end, entry.sequence, uid));
            }
            Place::Unschedulable => {
                self.unschedulable
                    .insert((entry.since, entry.sequence, uid));
            }
            Place::Gated | Place::InFlight => {}
        }
    }

    fn take_out(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else {
            return;
        };
        let end = at_tick(backoff_end(entry), BACKOFF_TICK);
        match entry.place {
            Place::Active => {
                self.active.remove(&active_key(entry, entry.pod.priority));
            }
            // The end was computed from the same fields, unless they changed meanwhile.
            Place::Backoff => {
                if !self.backoff.remove(&(end, entry.sequence, uid.to_owned())) {
                    self.backoff.retain(|key| key.2 != uid);
                }
            }
            Place::Unschedulable => {
                if !self
                    .unschedulable
                    .remove(&(entry.since, entry.sequence, uid.to_owned()))
                {
                    self.unschedulable.retain(|key| key.2 != uid);
                }
            }
            Place::Gated | Place::InFlight => {}
        }
    }
}

fn active_key(entry: &Entry, priority: i64) -> ActiveKey {
    (
        Reverse(priority),
        entry.since,
        entry.sequence,
        entry.pod.uid.clone(),
    )
}

fn backoff_end(entry: &Entry) -> Duration {
    let doublings = entry.attempts.saturating_sub(1).min(8);
    let length = (INITIAL_BACKOFF * 2_u32.pow(doublings)).min(MAX_BACKOFF);
    if entry.attempts == 0 {
        entry.since
    } else {
        entry.since + length
    }
}

/// The first look at or after `time`.
fn at_tick(time: Duration, tick: Duration) -> Duration {
    let ticks = time.as_nanos().div_ceil(tick.as_nanos());
    tick * u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
