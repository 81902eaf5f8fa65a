//! The loss model: pods arrive at random, what finds no place is lost, the rest runs and ends.
//!
//! It measures what a policy accepts in the long run, and is the model of the MFI paper with
//! concurrent demand on the axis. Arrivals and lifetimes depend on the seed alone: every policy meets
//! exactly the same pods.

use std::sync::Arc;

use placement::policy::Policy;
use placement::{Geometry, PoolError, ProfileId};

use crate::cluster::{Cluster, Placed, Repacked, Reuse};
use crate::demand::Demand;
use crate::events::Ends;
use crate::law::Law;
use crate::random::{Purpose, Random};

/// What is simulated. Times are in mean lifetimes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
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
    /// Who takes idle instances.
    pub reuse: Reuse,
}

impl Loss {
    /// As the published figures: exponential lifetimes, 60 of them measured after 10.
    pub fn new(gpus: u32, load: f64) -> Self {
        Self {
            gpus,
            load,
            law: Law::Exponential,
            warm_up: 10.0,
            measured: 60.0,
            reuse: Reuse::Policy,
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
    ) -> Result<Tally, PoolError> {
        let mut cluster = Placed::new(geometry, self.gpus, policy, self.reuse, seed);
        self.drive(&mut cluster, demand, seed)
    }

    /// Runs the reference that may move everything.
    ///
    /// # Errors
    /// None.
    pub fn run_repacked(
        &self,
        geometry: &Geometry,
        demand: &Demand,
        seed: u64,
    ) -> Result<Tally, PoolError> {
        let mut cluster = Repacked::new(geometry, self.gpus);
        self.drive(&mut cluster, demand, seed)
    }

    fn drive<C: Cluster>(
        &self,
        cluster: &mut C,
        demand: &Demand,
        seed: u64,
    ) -> Result<Tally, PoolError> {
        let mut arrivals = Arrivals::new(demand, self.load, self.gpus, self.law, seed);
        let mut ends = Ends::new();
        let mut tally = Tally::new(demand);
        let until = self.warm_up + self.measured;
        let (mut created, mut since) = (0, self.warm_up);
        let mut is_measured = false;
        loop {
            let pod = arrivals.next(demand);
            while let Some(end) = ends.next().filter(|end| *end <= pod.time.min(until)) {
                if is_measured {
                    tally.active += f64::from(cluster.active()) * (end - since);
                    since = end;
                }
                if let Some((_, held)) = ends.pop() {
                    cluster.end(held)?;
                }
            }
            let now = pod.time.min(until);
            if is_measured {
                tally.active += f64::from(cluster.active()) * (now - since);
                since = now;
            }
            if pod.time > until {
                break;
            }
            if !is_measured && pod.time >= self.warm_up {
                is_measured = true;
                created = cluster.created();
                tally.active += f64::from(cluster.active()) * (pod.time - since);
                since = pod.time;
            }
            let started = cluster.start(pod.profile)?;
            if let Some(held) = started {
                ends.push(pod.time + pod.lifetime, held);
            }
            if is_measured {
                tally.count(pod.profile, started.is_some());
            }
        }
        tally.created = cluster.created() - created;
        tally.active /= self.measured;
        Ok(tally)
    }
}

/// A pod that arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) time: f64,
    pub(crate) profile: ProfileId,
    pub(crate) lifetime: f64,
}

/// Poisson arrivals, and at time 0 the pods that came before, if they matter for long.
pub(crate) struct Arrivals {
    pods: Random,
    lifetimes: Random,
    law: Law,
    rate: f64,
    time: f64,
    /// Pods from before that are still to be told.
    before: u64,
}

impl Arrivals {
    pub(crate) fn new(demand: &Demand, load: f64, gpus: u32, law: Law, seed: u64) -> Self {
        let mut pods = Random::new(seed, Purpose::Arrivals);
        let rate = demand.rate(load, gpus);
        // Lives are 1 long in the mean, so that many run at a time.
        let before = if law.forgets_its_start() {
            0
        } else {
            pods.poisson(rate)
        };
        Self {
            pods,
            lifetimes: Random::new(seed, Purpose::Lifetimes),
            law,
            rate,
            time: 0.0,
            before,
        }
    }

    pub(crate) fn next(&mut self, demand: &Demand) -> Pod {
        let was_there = self.before > 0;
        if was_there {
            self.before -= 1;
        } else {
            self.time += self.pods.exponential() / self.rate;
        }
        let profile = self.pods.weighted(demand.shares());
        Pod {
            time: self.time,
            profile: ProfileId(u8::try_from(profile).unwrap_or(0)),
            lifetime: if was_there {
                self.law.draw_rest(&mut self.lifetimes)
            } else {
                self.law.draw(&mut self.lifetimes)
            },
        }
    }
}

/// What became of the pods that arrived while it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    asked: Vec<u64>,
    accepted: Vec<u64>,
    slices: Vec<f64>,
    /// Instances that had to be made.
    pub created: u64,
    /// GPUs on which something ran, in the mean over time.
    pub active: f64,
}

impl Tally {
    pub(crate) fn new(demand: &Demand) -> Self {
        let profiles = demand.slices().len();
        Self {
            asked: vec![0; profiles],
            accepted: vec![0; profiles],
            slices: demand.slices().to_vec(),
            created: 0,
            active: 0.0,
        }
    }

    pub(crate) fn count(&mut self, profile: ProfileId, is_accepted: bool) {
        self.asked[profile.index()] += 1;
        self.accepted[profile.index()] += u64::from(is_accepted);
    }

    /// Pods that arrived.
    pub fn asked(&self) -> u64 {
        self.asked.iter().sum()
    }

    /// Accepted pods in percent; 100 if none arrived.
    pub fn pods(&self) -> f64 {
        share(self.accepted.iter().sum(), self.asked())
    }

    /// Memory slices of accepted pods in percent of those asked for.
    pub fn slices(&self) -> f64 {
        let sum = |counts: &[u64]| -> f64 {
            let pairs = counts.iter().zip(&self.slices);
            pairs.map(|(count, slices)| float(*count) * slices).sum()
        };
        let asked = sum(&self.asked);
        if asked > 0.0 {
            100.0 * sum(&self.accepted) / asked
        } else {
            100.0
        }
    }

    /// Accepted pods of one profile in percent; profile 0 is the whole GPU.
    pub fn of(&self, profile: ProfileId) -> f64 {
        let count = |counts: &[u64]| counts.get(profile.index()).copied().unwrap_or(0);
        share(count(&self.accepted), count(&self.asked))
    }

    /// Instances made per start; 1 where nothing is reused.
    pub fn created_per_start(&self) -> f64 {
        share(self.created, self.accepted.iter().sum()) / 100.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody simulates 2^53 pods")]
fn float(count: u64) -> f64 {
    count as f64
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 {
        return 100.0;
    }
    100.0 * float(part) / float(all)
}

#[cfg(test)]
mod tests;
