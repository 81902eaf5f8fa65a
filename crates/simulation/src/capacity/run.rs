//! The run: pods come, start, wait or are lost, and end.

use std::collections::VecDeque;

use placement::PoolError;

use super::fleet::{Fleet, Held};
use super::{Arrival, CapacityError, Outcome, Sample, Scenario};
use crate::contest::Contestant;
use crate::events::Ends;

/// After so many pods it is asked whether to go on.
const PODS_BETWEEN: u32 = 2048;

impl Scenario<'_> {
    /// Runs one policy on arrivals in the order of their times; those after `until` are not looked
    /// at. Asks `proceed` now and then, with the time that was reached; `None` if it says no. Equal
    /// scenarios, arrivals and seeds give equal outcomes; the seed matters to policies that draw.
    ///
    /// # Errors
    /// If a want can never be served, or a policy does not go with the GPUs.
    pub fn run(
        &self,
        contestant: Contestant,
        seed: u64,
        arrivals: impl IntoIterator<Item = Arrival>,
        proceed: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Option<Outcome>, CapacityError> {
        let mut run = Run::new(self, Fleet::new(self, contestant, seed)?);
        let mut since = 0;
        for arrival in arrivals {
            if arrival.time > self.until {
                break;
            }
            run.until(arrival.time)?;
            run.arrive(&arrival)?;
            since += 1;
            if since == PODS_BETWEEN {
                since = 0;
                if !proceed(arrival.time) {
                    return Ok(None);
                }
            }
        }
        run.until(self.until)?;
        Ok(Some(run.finish()))
    }
}

#[derive(Clone, Copy)]
struct Waiting {
    arrival: Arrival,
    number: u64,
}

struct Run<'a> {
    scenario: &'a Scenario<'a>,
    fleet: Fleet,
    gpus: f64,
    ends: Ends<Held>,
    lines: Vec<VecDeque<Waiting>>,
    waiting: u32,
    arrived: u64,
    now: f64,
    used: f64,
    measuring: bool,
    created: u64,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario<'a>, fleet: Fleet) -> Self {
        let wants = scenario.wants.len();
        let gpus = scenario.parts.iter().map(|part| f64::from(part.gpus)).sum();
        Self {
            outcome: Outcome {
                asked: vec![0; wants],
                accepted: vec![0; wants],
                share: (0..wants).map(|want| fleet.share(want)).collect(),
                waits: vec![Vec::new(); wants],
                ..Outcome::default()
            },
            scenario,
            fleet,
            gpus,
            ends: Ends::new(),
            lines: vec![VecDeque::new(); wants],
            waiting: 0,
            arrived: 0,
            now: 0.0,
            used: 0.0,
            measuring: false,
            created: 0,
        }
    }

    /// Lets all end that ends until then, and time pass.
    fn until(&mut self, time: f64) -> Result<(), PoolError> {
        while let Some(end) = self.ends.next().filter(|end| *end <= time) {
            self.pass(end);
            if let Some((_, held)) = self.ends.pop() {
                self.used -= held.share;
                self.fleet.end(held)?;
                if self.waiting > 0 {
                    self.try_all()?;
                }
            }
        }
        self.pass(time);
        Ok(())
    }

    fn pass(&mut self, to: f64) {
        let (from, until) = (
            self.now.max(self.scenario.from),
            to.min(self.scenario.until),
        );
        if to >= self.scenario.from && !self.measuring {
            self.measuring = true;
            self.created = self.fleet.created;
        }
        if until > from {
            self.outcome.used += self.used * (until - from);
            self.outcome.active += self.fleet.active() * (until - from);
        }
        while let Some(time) = self.next_sample().filter(|time| *time <= to) {
            self.outcome.samples.push(Sample {
                time,
                used: 100.0 * self.used / self.gpus,
                waiting: self.waiting,
            });
        }
        self.now = to;
    }

    #[expect(clippy::cast_precision_loss, reason = "samples are few")]
    fn next_sample(&self) -> Option<f64> {
        let (taken, all) = (self.outcome.samples.len(), self.scenario.samples);
        let part = taken as f64 / all.saturating_sub(1).max(1) as f64;
        let span = self.scenario.until - self.scenario.from;
        (taken < all).then_some(self.scenario.from + span * part)
    }

    fn arrive(&mut self, arrival: &Arrival) -> Result<(), PoolError> {
        let Some(line) = self.lines.get(arrival.want) else {
            return Ok(());
        };
        self.arrived += 1;
        if arrival.time >= self.scenario.from {
            self.outcome.asked[arrival.want] += 1;
        }
        // Of pods that ask for the same the oldest goes first.
        let must_wait = !line.is_empty();
        if (must_wait || !self.start(arrival)?) && self.scenario.waits {
            self.waiting += 1;
            self.lines[arrival.want].push_back(Waiting {
                arrival: *arrival,
                number: self.arrived,
            });
        }
        Ok(())
    }

    /// After something ended: whoever finds a place now, by age.
    fn try_all(&mut self) -> Result<(), PoolError> {
        let mut refused = vec![false; self.lines.len()];
        loop {
            let open = self
                .lines
                .iter()
                .zip(&refused)
                .filter(|(_, refused)| !**refused);
            let oldest = open.filter_map(|(line, _)| line.front());
            let Some(pod) = oldest.min_by_key(|pod| pod.number).copied() else {
                return Ok(());
            };
            if self.start(&pod.arrival)? {
                self.lines[pod.arrival.want].pop_front();
                self.waiting -= 1;
            } else {
                // What did not fit does not fit after others took more.
                refused[pod.arrival.want] = true;
            }
        }
    }

    fn start(&mut self, arrival: &Arrival) -> Result<bool, PoolError> {
        let Some(held) = self.fleet.start(arrival.want)? else {
            return Ok(false);
        };
        self.used += held.share;
        if arrival.lifetime.is_finite() {
            self.ends.push(self.now + arrival.lifetime, held);
        }
        if self.measuring {
            self.outcome.started += 1;
        }
        if arrival.time >= self.scenario.from {
            self.outcome.accepted[arrival.want] += 1;
            self.outcome.waits[arrival.want].push(self.now - arrival.time);
        }
        Ok(true)
    }

    fn finish(mut self) -> Outcome {
        let span = self.scenario.until - self.scenario.from;
        if span > 0.0 {
            self.outcome.used *= 100.0 / span / self.gpus;
            self.outcome.active /= span;
        }
        self.outcome.created = self.fleet.created - self.created;
        self.outcome.standing = self.fleet.standing();
        self.outcome
    }
}
