//! The queueing model: pods that find no place wait, as they do in Kubernetes.
//!
//! Nothing is lost; what a policy is worth shows in the waits. The order in which waiting pods are
//! tried matters as much as the places: strictly by age, by age with others going ahead, and the same
//! with windows kept free for those that waited longest.

mod line;
mod reserve;

use std::sync::Arc;

use placement::policy::Policy;
use placement::{Geometry, PoolError, ProfileId};

use crate::cluster::{Cluster, Place, Placed, Reuse};
use crate::demand::Demand;
use crate::events::Ends;
use crate::law::Law;
use crate::loss::Arrivals;
use crate::statistics::quantile;
use line::{Line, Waiting};
use reserve::Reserve;

/// In which order waiting pods are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discipline {
    /// By age; while the oldest finds no place, nobody does.
    Fifo,
    /// By age; who finds a place does not wait for older ones.
    Backfill,
    /// The same, and pods that waited for long own a window that is kept free for them.
    Reserving {
        /// Mean lifetimes after which a pod gets a window.
        after: f64,
        /// Part of the GPUs on which windows may be kept, between 0 and 1; always at least one.
        part: f64,
    },
}

/// What is simulated. Times are in mean lifetimes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Number of GPUs.
    pub gpus: u32,
    /// Memory slices asked for concurrently, relative to all there are.
    pub load: f64,
    /// How long instances live.
    pub law: Law,
    /// Time until measuring begins.
    pub warm_up: f64,
    /// Time that is measured.
    pub measured: f64,
    /// The order.
    pub discipline: Discipline,
}

/// How long pods waited.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// Waits of the pods that arrived and started while it was measured, by profile.
    by_profile: Vec<Vec<f64>>,
    /// Memory slices in use, in percent of all, in the mean over time.
    pub utilisation: f64,
    /// Pods that arrived while it was measured and still wait at the end.
    pub left: usize,
    /// Instances made per start; the others took an idle one.
    pub created_per_start: f64,
}

impl Waits {
    /// Mean wait of all pods, or of those of one profile; `None` if none started.
    pub fn mean(&self, profile: Option<ProfileId>) -> Option<f64> {
        let waits = self.waits(profile);
        let count = f64::from(u32::try_from(waits.len()).unwrap_or(u32::MAX));
        (count > 0.0).then(|| waits.iter().sum::<f64>() / count)
    }

    /// The wait that a share of all pods (or of one profile) stays below.
    pub fn quantile(&self, profile: Option<ProfileId>, share: f64) -> Option<f64> {
        quantile(&mut self.waits(profile), share)
    }

    fn waits(&self, profile: Option<ProfileId>) -> Vec<f64> {
        match profile {
            None => self.by_profile.concat(),
            Some(id) => self.by_profile.get(id.index()).cloned().unwrap_or_default(),
        }
    }
}

impl Queue {
    /// As the published figures: 100 lifetimes measured after 10, exponential ones.
    pub fn new(gpus: u32, load: f64, discipline: Discipline) -> Self {
        Self {
            gpus,
            load,
            law: Law::Exponential,
            warm_up: 10.0,
            measured: 100.0,
            discipline,
        }
    }

    /// Runs one policy.
    ///
    /// # Errors
    /// If the policy chooses a place that is not free.
    pub fn run(
        &self,
        geometry: &Arc<Geometry>,
        demand: &Demand,
        policy: &mut dyn Policy,
        seed: u64,
    ) -> Result<Waits, PoolError> {
        let mut arrivals = Arrivals::new(demand, self.load, self.gpus, self.law, seed);
        let cluster = Placed::new(geometry, self.gpus, policy, Reuse::Policy, seed);
        let mut run = Run::new(self, demand, cluster);
        let until = self.warm_up + self.measured;
        loop {
            let pod = arrivals.next(demand);
            let limit = pod.time.min(until);
            while let Some(end) = run.ends.next().filter(|end| *end <= limit) {
                run.pass(end);
                if let Some((_, held)) = run.ends.pop() {
                    run.end(held)?;
                    run.try_all(end)?;
                }
            }
            run.pass(limit);
            if pod.time > until {
                return Ok(run.finish(geometry));
            }
            run.arrive(Waiting {
                since: pod.time,
                lifetime: pod.lifetime,
                profile: pod.profile,
                number: run.arrived,
            })?;
        }
    }
}

/// A run in progress.
struct Run<'a> {
    queue: Queue,
    cluster: Placed<'a>,
    line: Line,
    reserve: Reserve,
    ends: Ends<(Place, f64)>,
    slices: Vec<f64>,
    waits: Vec<Vec<f64>>,
    arrived: u64,
    started: u64,
    used: f64,
    busy: f64,
    now: f64,
}

impl<'a> Run<'a> {
    fn new(queue: &Queue, demand: &Demand, cluster: Placed<'a>) -> Self {
        let profiles = demand.slices().len();
        Self {
            queue: *queue,
            cluster,
            line: Line::new(profiles),
            reserve: Reserve::new(queue.discipline, queue.gpus),
            ends: Ends::new(),
            slices: demand.slices().to_vec(),
            waits: vec![Vec::new(); profiles],
            arrived: 0,
            started: 0,
            used: 0.0,
            busy: 0.0,
            now: 0.0,
        }
    }

    /// Lets time pass.
    fn pass(&mut self, to: f64) {
        let from = self.now.max(self.queue.warm_up);
        self.busy += self.used * (to - from).max(0.0);
        self.now = to;
    }

    fn arrive(&mut self, pod: Waiting) -> Result<(), PoolError> {
        self.arrived += 1;
        let must_wait = self.queue.discipline == Discipline::Fifo && !self.line.is_empty();
        if must_wait || !self.try_one(&pod)? {
            self.line.push(pod);
        }
        self.reserve.renew(&mut self.cluster, &self.line, self.now)
    }

    fn end(&mut self, (held, slices): (Place, f64)) -> Result<(), PoolError> {
        self.used -= slices;
        self.cluster.end(held)
    }

    /// After something ended: whoever finds a place now, by age.
    fn try_all(&mut self, now: f64) -> Result<(), PoolError> {
        while let Some((number, place)) = self.reserve.ready(&mut self.cluster)? {
            if let Some(pod) = self.line.take(number) {
                let place = self.cluster.start_at(place)?;
                self.started(&pod, place);
            }
        }
        let mut refused = vec![false; self.slices.len()];
        while let Some(pod) = self.line.oldest(&refused) {
            if self.try_one(&pod)? {
                self.line.take(pod.number);
                self.reserve.drop(&mut self.cluster, pod.number)?;
            } else if self.queue.discipline == Discipline::Fifo {
                break;
            } else {
                // What did not fit does not fit after others took more.
                refused[pod.profile.index()] = true;
            }
        }
        self.reserve.renew(&mut self.cluster, &self.line, now)
    }

    fn try_one(&mut self, pod: &Waiting) -> Result<bool, PoolError> {
        let Some(place) = self.cluster.start(pod.profile)? else {
            return Ok(false);
        };
        self.started(pod, place);
        Ok(true)
    }

    fn started(&mut self, pod: &Waiting, place: Place) {
        let slices = self.slices[pod.profile.index()];
        self.used += slices;
        self.started += 1;
        self.ends.push(self.now + pod.lifetime, (place, slices));
        if pod.since >= self.queue.warm_up {
            self.waits[pod.profile.index()].push(self.now - pod.since);
        }
    }

    fn finish(self, geometry: &Geometry) -> Waits {
        let all = f64::from(self.queue.gpus) * f64::from(geometry.slices());
        let ratio = |part: u64, of: u64| {
            let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            float(part) / float(of.max(1))
        };
        Waits {
            left: self.line.count_since(self.queue.warm_up),
            utilisation: 100.0 * self.busy / self.queue.measured / all,
            created_per_start: ratio(self.cluster.created(), self.started),
            by_profile: self.waits,
        }
    }
}

#[cfg(test)]
mod tests;
