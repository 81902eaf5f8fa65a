//! The chain, and value iteration over it.

use std::collections::HashMap;

use placement::{Geometry, placements};

use super::decisions::Decisions;
use crate::demand::Demand;

/// No layout: the profile does not fit there.
const NONE: u32 = u32::MAX;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Accepted arrivals, in percent of all.
    Pods,
    /// Memory slices of accepted arrivals, in percent of those asked for.
    Slices,
}

/// Whether the best policy may turn away what would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What fits must be accepted.
    Never,
    /// It may keep room for what is worth more.
    Allowed,
}

/// A percentage between two bounds that were proved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// It is at least this.
    pub least: f64,
    /// It is at most this.
    pub most: f64,
}

impl Gain {
    /// Between the bounds.
    pub fn middle(self) -> f64 {
        f64::midpoint(self.least, self.most)
    }
}

/// Two GPUs with Poisson arrivals and exponential lifetimes.
pub struct Chain {
    profiles: usize,
    layouts: usize,
    masks: Vec<u16>,
    /// Layouts without one instance, by layout.
    without: Vec<Vec<u32>>,
    /// Layouts with one more instance, by layout and profile.
    with: Vec<Vec<u32>>,
    /// The layout with one more instance, by layout and placement, or [`NONE`].
    placed: Vec<u32>,
    spots: usize,
    /// Arrivals of each profile per mean lifetime.
    rates: Vec<f64>,
    slices: Vec<f64>,
    /// More events than any state has, per mean lifetime.
    pace: f64,
}

/// Percentage points between the bounds at which iteration ends.
const CLOSE: f64 = 0.002;
/// More sweeps than any load below 2 needs.
const MOST_SWEEPS: usize = 20_000;

impl Chain {
    /// For GPUs of that geometry. `load` is relative to all memory slices of both GPUs, above 0.
    pub fn new(geometry: &Geometry, demand: &Demand, load: f64) -> Self {
        let mut sets = Vec::new();
        let mut masks = Vec::new();
        geometry.each_layout(|set, mask| {
            sets.push(set);
            masks.push(mask);
        });
        let numbers: HashMap<u64, u32> = sets.iter().copied().zip(0..).collect();
        let number = |set: u64| numbers.get(&set).copied().unwrap_or(NONE);
        let (profiles, spots) = (geometry.profiles().len(), geometry.spots().len());
        let mut without = Vec::new();
        let mut with = Vec::new();
        let mut placed = vec![NONE; sets.len() * spots];
        for (layout, (set, mask)) in sets.iter().zip(&masks).enumerate() {
            without.push(placements(*set).map(|id| number(set & !id.bit())).collect());
            for profile in geometry.profile_ids() {
                let free = geometry.free_of(*mask, profile);
                with.push(placements(free).map(|id| number(set | id.bit())).collect());
                for id in placements(free) {
                    placed[layout * spots + id.index()] = number(set | id.bit());
                }
            }
        }
        let most = sets.iter().map(|set| set.count_ones()).max().unwrap_or(0);
        let rate = demand.rate(load, 2);
        let rates: Vec<f64> = demand.shares().iter().map(|share| share * rate).collect();
        Self {
            profiles,
            layouts: sets.len(),
            masks,
            without,
            with,
            placed,
            spots,
            pace: rate + 2.0 * f64::from(most),
            rates,
            slices: demand.slices().to_vec(),
        }
    }

    /// How many states it has.
    pub fn states(&self) -> usize {
        self.layouts * self.layouts
    }

    /// What the best of all policies accepts.
    pub fn optimum(&self, measure: Measure, refusal: Refusal) -> Gain {
        let rewards = self.rewards(measure);
        self.iterate(&rewards, |values, one, other, profile| {
            let mut best = match refusal {
                Refusal::Allowed => values[one * self.layouts + other],
                Refusal::Never => f64::NEG_INFINITY,
            };
            let reward = rewards[profile];
            for next in &self.with[one * self.profiles + profile] {
                best = best.max(reward + values[*next as usize * self.layouts + other]);
            }
            for next in &self.with[other * self.profiles + profile] {
                best = best.max(reward + values[one * self.layouts + *next as usize]);
            }
            if best == f64::NEG_INFINITY {
                values[one * self.layouts + other]
            } else {
                best
            }
        })
    }

    /// What a policy accepts.
    pub fn evaluate(&self, decisions: &Decisions, measure: Measure) -> Gain {
        let rewards = self.rewards(measure);
        // The state that follows each arrival, looked up once.
        let mut follows = vec![NONE; self.states() * self.profiles];
        for (state, row) in follows.chunks_mut(self.profiles).enumerate() {
            let (one, other) = (state / self.layouts, state % self.layouts);
            let masks = (self.masks[one], self.masks[other]);
            for (profile, next) in row.iter_mut().enumerate() {
                let Some((is_second, id)) = decisions.get(masks, profile) else {
                    continue;
                };
                let layout = if is_second { other } else { one };
                let placed = self.placed[layout * self.spots + id.index()] as usize;
                let state = if is_second {
                    one * self.layouts + placed
                } else {
                    placed * self.layouts + other
                };
                *next = u32::try_from(state).unwrap_or(NONE);
            }
        }
        self.iterate(&rewards, |values, one, other, profile| {
            let state = one * self.layouts + other;
            match follows[state * self.profiles + profile] {
                NONE => values[state],
                next => rewards[profile] + values[next as usize],
            }
        })
    }

    /// Reward of each profile, so that the gain per mean lifetime is a percentage.
    fn rewards(&self, measure: Measure) -> Vec<f64> {
        let worth = |profile: usize| match measure {
            Measure::Pods => 1.0,
            Measure::Slices => self.slices[profile],
        };
        let asked: f64 = (0..self.profiles).map(|p| self.rates[p] * worth(p)).sum();
        (0..self.profiles)
            .map(|p| 100.0 * worth(p) / asked)
            .collect()
    }

    /// Relative value iteration on the uniformised chain. `arrive` is the value after an arrival,
    /// its reward included.
    fn iterate(
        &self,
        rewards: &[f64],
        arrive: impl Fn(&[f64], usize, usize, usize) -> f64,
    ) -> Gain {
        debug_assert_eq!(rewards.len(), self.profiles);
        let mut values = vec![0.0_f64; self.states()];
        let mut next = values.clone();
        let mut gain = Gain {
            least: 0.0,
            most: 100.0,
        };
        for _ in 0..MOST_SWEEPS {
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for one in 0..self.layouts {
                for other in 0..self.layouts {
                    let state = one * self.layouts + other;
                    let mut sum = 0.0;
                    let mut rest = self.pace;
                    for (profile, rate) in self.rates.iter().enumerate() {
                        sum += rate * arrive(&values, one, other, profile);
                        rest -= rate;
                    }
                    for gone in &self.without[one] {
                        sum += values[*gone as usize * self.layouts + other];
                        rest -= 1.0;
                    }
                    for gone in &self.without[other] {
                        sum += values[one * self.layouts + *gone as usize];
                        rest -= 1.0;
                    }
                    let value = (sum + rest * values[state]) / self.pace;
                    let step = value - values[state];
                    least = least.min(step);
                    most = most.max(step);
                    next[state] = value;
                }
            }
            std::mem::swap(&mut values, &mut next);
            gain = Gain {
                least: least * self.pace,
                most: most * self.pace,
            };
            if gain.most - gain.least < CLOSE {
                break;
            }
            // Only differences matter; large values would lose digits.
            let base = values[0];
            for value in &mut values {
                *value -= base;
            }
        }
        gain
    }
}
