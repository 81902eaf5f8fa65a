//! What nobody can pass on given pods, even knowing all of them and their lifetimes beforehand.
//!
//! Offline, with every pod and its end known, with parts of pods and with free moves, the most that
//! can be accepted is a linear programme: each pod is taken in a part from 0 to 1, and at each arrival
//! those that run must keep rules that every set of instances on so many GPUs keeps. The rules are
//! sums: memory slices at most those there are; and for each profile, what a set displaces of it at
//! most what there is of it (a 4g displaces four of the seven 1g of a GPU, 7g and 4g displace its
//! one 4g, and so on). Whatever prices are put on these rules, Lagrange's bound holds: all pods that
//! are worth more than they cost, and the price of all room. The prices are searched by subgradient
//! steps; the bound is valid however far they get, and only gets lower.
//!
//! Pods that come before measuring begins are left out, which can only raise the bound. It bounds
//! every policy, also one that moves what runs, rejects what would fit, or knows the future. How far
//! the best such policy stays below it is not known; no policy that does not know the future comes near
//! where much is lost.

use placement::{Geometry, ProfileId, placements};

use crate::demand::Demand;
use crate::exact::Measure;
use crate::loss::{Arrivals, Loss};

/// Steps of the search for prices. More lower the bound by less than a tenth of a point.
const STEPS: u32 = 150;

/// Upper bound of what can be accepted of the pods of a run ([`Loss::run`] with the same seed), in
/// percent of pods or of memory slices. `known` is what some policy accepted, in percent; it only steers the
/// search.
pub fn bound(
    geometry: &Geometry,
    demand: &Demand,
    loss: &Loss,
    seed: u64,
    measure: Measure,
    known: f64,
) -> f64 {
    let pods = pods(demand, loss, seed);
    let worth: Vec<f64> = match measure {
        Measure::Pods => vec![1.0; demand.slices().len()],
        Measure::Slices => demand.slices().to_vec(),
    };
    let rules = rules(geometry);
    let asked: f64 = pods.iter().map(|pod| worth[pod.profile]).sum();
    if asked <= 0.0 {
        return 100.0;
    }
    let least = lowest(
        &pods,
        &rules,
        &worth,
        f64::from(loss.gpus),
        asked * known / 100.0,
    );
    100.0 * least.min(asked) / asked
}

/// A pod of the measured time.
#[derive(Clone, Copy, Debug)]
struct Offered {
    profile: usize,
    /// Number of the first pod that comes after its end.
    until: usize,
}

fn pods(demand: &Demand, loss: &Loss, seed: u64) -> Vec<Offered> {
    let mut arrivals = Arrivals::new(demand, loss.load, loss.gpus, loss.law, seed);
    let mut times = Vec::new();
    loop {
        let pod = arrivals.next(demand);
        if pod.time > loss.warm_up + loss.measured {
            break;
        }
        if pod.time >= loss.warm_up {
            times.push((pod.time, pod.time + pod.lifetime, pod.profile.index()));
        }
    }
    let until = |end: f64| times.partition_point(|(time, ..)| *time < end);
    let offered = times
        .iter()
        .enumerate()
        .map(|(at, (_, end, profile))| Offered {
            profile: *profile,
            // One that ends at once still needs room when it comes.
            until: until(*end).max(at + 1),
        });
    offered.collect()
}

/// What each profile takes of something of which a GPU has so much.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    takes: Vec<f64>,
    has: f64,
}

/// Rules that every set of instances keeps: the sum of what they take is at most what GPUs have.
fn rules(geometry: &Geometry) -> Vec<Rule> {
    let memory = geometry
        .profiles()
        .iter()
        .map(|shape| u32::from(shape.size))
        .collect();
    let displaced = geometry.profile_ids().map(|kept| {
        let all = most_at_once(geometry, 0, kept);
        let of = |profile| {
            let windows = placements(geometry.profile(profile).windows);
            let left = windows.map(|id| most_at_once(geometry, geometry.spot(id).mask, kept));
            all - left.max().unwrap_or(all)
        };
        geometry.profile_ids().map(of).collect()
    });
    let mut rules: Vec<Rule> = Vec::new();
    for takes in [memory].into_iter().chain(displaced) {
        let takes: Vec<u32> = takes;
        // Whatever the profiles take, no layout takes more than this.
        let mut most = 0;
        geometry.each_layout(|set, _| {
            let sum = placements(set).map(|id| takes[geometry.spot(id).profile.index()]);
            most = most.max(sum.sum::<u32>());
        });
        let rule = Rule {
            takes: takes.iter().map(|part| f64::from(*part)).collect(),
            has: f64::from(most),
        };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The most instances of one profile beside what is occupied; its placements are ascending.
fn most_at_once(geometry: &Geometry, mask: u16, profile: ProfileId) -> u32 {
    let mut taken = mask;
    let mut count = 0;
    for id in placements(geometry.free_of(mask, profile)) {
        let window = geometry.spot(id).mask;
        if window & taken == 0 {
            taken |= window;
            count += 1;
        }
    }
    count
}

/// The lowest of Lagrange's bounds that were met, in units of worth.
fn lowest(pods: &[Offered], rules: &[Rule], worth: &[f64], gpus: f64, known: f64) -> f64 {
    let mut prices = vec![vec![0.0; pods.len()]; rules.len()];
    let (mut best, mut stride, mut stale) = (f64::INFINITY, 1.0, 0);
    let mut sums = vec![vec![0.0; pods.len() + 1]; rules.len()];
    let mut steps = vec![vec![0.0; pods.len() + 1]; rules.len()];
    for _ in 0..STEPS {
        let mut value = 0.0;
        for ((rule, prices), sums) in rules.iter().zip(&prices).zip(&mut sums) {
            let mut sum = 0.0;
            for (at, price) in prices.iter().enumerate() {
                sum += price;
                sums[at + 1] = sum;
            }
            value += gpus * rule.has * sum;
        }
        for steps in &mut steps {
            steps.fill(0.0);
        }
        for (at, pod) in pods.iter().enumerate() {
            let cost = rules
                .iter()
                .zip(&sums)
                .map(|(rule, sums)| rule.takes[pod.profile] * (sums[pod.until] - sums[at]));
            let gain = worth[pod.profile] - cost.sum::<f64>();
            if gain <= 0.0 {
                continue;
            }
            value += gain;
            for (rule, steps) in rules.iter().zip(&mut steps) {
                steps[at] += rule.takes[pod.profile];
                steps[pod.until] -= rule.takes[pod.profile];
            }
        }
        if value < best - 1e-9 {
            best = value;
            stale = 0;
        } else {
            stale += 1;
            if stale == 5 {
                stride *= 0.7;
                stale = 0;
            }
        }
        // Steps become what is taken beyond what there is, at each arrival.
        let mut length = 0.0;
        for ((rule, steps), prices) in rules.iter().zip(&mut steps).zip(&prices) {
            let mut taken = 0.0;
            for (step, price) in steps.iter_mut().zip(prices) {
                taken += *step;
                *step = taken - gpus * rule.has;
                // A price of nothing cannot fall.
                if *step > 0.0 || *price > 0.0 {
                    length += *step * *step;
                }
            }
        }
        if length <= 0.0 {
            break;
        }
        let step = stride * (value - known).max(1e-6) / length;
        for (steps, prices) in steps.iter().zip(&mut prices) {
            for (price, over) in prices.iter_mut().zip(steps) {
                *price = (*price + step * over).max(0.0);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
