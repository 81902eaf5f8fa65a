//! Capacity planning: what a number of GPUs, of one model or several, can carry.
//!
//! The other simulators compare policies under conditions that are fixed; this one answers whoever
//! must buy GPUs. Its GPUs may be of several models, its pods come from a mix or from a trace, and
//! what finds no place is lost or waits. The unit of capacity is the GPU: an instance counts as its
//! part of the memory slices of the GPU that it fits best.

mod fleet;
mod run;

use std::sync::Arc;

use placement::{Geometry, PoolError, ProfileId};

use crate::contest::ContestError;
use crate::law::Law;
use crate::random::{Purpose, Random};

pub use fleet::Standing;

/// GPUs of one model.
#[derive(Clone, Debug)]
pub struct Part {
    /// What can be placed on them.
    pub geometry: Arc<Geometry>,
    /// How many there are.
    pub gpus: u32,
    /// How many of them are on one node, at least 1.
    pub per_node: u32,
}

/// Something that pods ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// What it is called.
    pub name: String,
    /// The profile that serves it, by [`Part`]; `None` where none does.
    pub profiles: Vec<Option<ProfileId>>,
}

/// A pod that comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When, from 0 and never before the one that came last.
    pub time: f64,
    /// How long it runs, in the unit of `time`; infinite if for ever.
    pub lifetime: f64,
    /// What it asks for, as a position among the wants.
    pub want: usize,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario<'a> {
    /// The GPUs.
    pub parts: &'a [Part],
    /// What is asked for.
    pub wants: &'a [Want],
    /// How often each of them is asked for, in parts of the sum; for the policies that know the mix.
    pub shares: &'a [u32],
    /// Whether pods that find no place wait, and others go ahead of them; else they are lost.
    pub waits: bool,
    /// When measuring begins.
    pub from: f64,
    /// When it ends.
    pub until: f64,
    /// In how many moments the use of the GPUs is noted.
    pub samples: usize,
}

/// Why a scenario cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// The policy does not go with the GPUs.
    #[error(transparent)]
    Policy(#[from] ContestError),
    /// The policy chose a place that is not free.
    #[error("failed to simulate a policy")]
    Pool(#[from] PoolError),
    /// No part can ever serve a want.
    #[error("failed to simulate {name}: none of the GPUs has a profile for it")]
    Unserved {
        /// The want.
        name: String,
    },
}

/// The use of the GPUs at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The moment.
    pub time: f64,
    /// Part of all GPUs that is in use, in percent.
    pub used: f64,
    /// Pods that wait.
    pub waiting: u32,
}

/// What came of a scenario. Counts are of pods that came while it was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Pods that came, by want.
    pub asked: Vec<u64>,
    /// Pods of them that started, by want.
    pub accepted: Vec<u64>,
    /// Part of a GPU that one of them takes, by want.
    pub share: Vec<f64>,
    /// How long those that started had waited, by want; in the unit of time.
    pub waits: Vec<Vec<f64>>,
    /// Part of all GPUs in use, in percent, in the mean over time.
    pub used: f64,
    /// GPUs on which something ran, in the mean over time.
    pub active: f64,
    /// Instances made, and pods started: the other starts took over an idle instance.
    pub created: u64,
    /// See `created`.
    pub started: u64,
    /// The use over time.
    pub samples: Vec<Sample>,
    /// What stands on every GPU at the end, by part.
    pub standing: Vec<Vec<Vec<Standing>>>,
}

impl Outcome {
    /// Accepted pods in percent; 100 if none came.
    pub fn pods(&self) -> f64 {
        self.weighed(|_| 1.0)
    }

    /// What accepted pods ask for, in percent of what all ask for.
    pub fn capacity(&self) -> f64 {
        self.weighed(|want| self.share.get(want).copied().unwrap_or(0.0))
    }

    /// Accepted pods that ask for one thing, in percent; `None` if none came.
    pub fn of(&self, want: usize) -> Option<f64> {
        let asked = self.asked.get(want).copied().filter(|asked| *asked > 0)?;
        Some(100.0 * float(self.accepted.get(want).copied()?) / float(asked))
    }

    /// Instances made per start; 0 if nothing started.
    pub fn created_per_start(&self) -> f64 {
        float(self.created) / float(self.started.max(1))
    }

    /// Waits of all that started, or of those that asked for one thing.
    pub fn waited(&self, want: Option<usize>) -> Vec<f64> {
        match want {
            None => self.waits.concat(),
            Some(want) => self.waits.get(want).cloned().unwrap_or_default(),
        }
    }

    fn weighed(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let sum = |counts: &[u64]| -> f64 {
            let pairs = counts.iter().enumerate();
            pairs
                .map(|(want, count)| weight(want) * float(*count))
                .sum()
        };
        let asked = sum(&self.asked);
        if asked > 0.0 {
            100.0 * sum(&self.accepted) / asked
        } else {
            100.0
        }
    }
}

/// Pods that come at random, without end, and at time 0 those that came before, if they matter for long. The
/// unit of time is the mean lifetime.
#[derive(Clone, Debug)]
pub struct Stream {
    arrivals: Random,
    lifetimes: Random,
    law: Law,
    shares: Vec<f64>,
    rate: f64,
    time: f64,
    /// Pods from before that are still to be told.
    before: u64,
}

impl Stream {
    /// Poisson arrivals, so many per unit of time; wants by their shares. The seed decides all.
    pub fn new(shares: &[u32], rate: f64, law: Law, seed: u64) -> Self {
        let mut arrivals = Random::new(seed, Purpose::Arrivals);
        // Lives are 1 long in the mean, so that many run at a time.
        let before = if law.forgets_its_start() {
            0
        } else {
            arrivals.poisson(rate)
        };
        Self {
            arrivals,
            lifetimes: Random::new(seed, Purpose::Lifetimes),
            law,
            shares: shares.iter().map(|share| f64::from(*share)).collect(),
            rate,
            time: 0.0,
            before,
        }
    }
}

impl Iterator for Stream {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let was_there = self.before > 0;
        if was_there {
            self.before -= 1;
        } else {
            self.time += self.arrivals.exponential() / self.rate;
        }
        Some(Arrival {
            time: self.time,
            want: self.arrivals.weighted(&self.shares),
            lifetime: if was_there {
                self.law.draw_rest(&mut self.lifetimes)
            } else {
                self.law.draw(&mut self.lifetimes)
            },
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody simulates 2^53 pods")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
