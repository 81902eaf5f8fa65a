//! The protocol: pods come one after the other, and none leaves.

use super::rule::Rule;
use super::scores::{Scores, UNFIT};
use super::workload::Workload;
use crate::random::{Purpose, Random};

/// What became of a cluster while pods came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filled {
    /// GPU share in use in percent of all, by the percentage that had been asked for by then; the
    /// mean over all pods that round to it. `None` where a pod was so large that none does.
    pub allocated: Vec<Option<f64>>,
    /// GPU share that is of no use to the pods that come, likewise.
    pub fragmented: Vec<Option<f64>>,
    /// Pods that came.
    pub pods: usize,
    /// Pods that found no place.
    pub refused: usize,
}

/// Fills a cluster again and again by one rule, and remembers its scores.
pub struct Filler<'a> {
    workload: &'a Workload,
    scores: Scores<'a>,
}

impl<'a> Filler<'a> {
    /// For a workload and a rule.
    pub fn new(workload: &'a Workload, rule: Rule) -> Self {
        Self {
            workload,
            scores: Scores::new(workload, rule),
        }
    }

    /// Fills the empty cluster until `percent` of its GPUs were asked for. The seed decides the
    /// order of the machines and of the pods, and which pods come twice; every rule meets the same.
    pub fn fill(&mut self, seed: u64, percent: u64) -> Filled {
        let mut random = Random::new(seed, Purpose::Workload);
        let mut choice = Random::new(seed, Purpose::Policy);
        let mut machines: Vec<(u32, u64)> = self
            .workload
            .machines
            .iter()
            .map(|(state, memory)| (self.scores.number(state), *memory))
            .collect();
        random.shuffle(&mut machines);
        let pods = self.pods(&mut random, percent);

        let mut record = Record::new(self.workload.capacity);
        let useless = machines
            .iter()
            .map(|(number, _)| self.scores.useless(*number));
        let mut useless: u64 = useless.sum();
        let weight = self.scores.fragmentation.weight().max(1);
        for (kind, memory) in pods {
            let wanted = u64::from(self.workload.kinds[kind].total());
            let chosen = match self.scores.rule {
                Rule::Random => self.any(&machines, kind, memory, &mut choice),
                _ => self.best(&machines, kind, memory),
            };
            record.arrived += wanted;
            match chosen {
                None => record.refused += 1,
                Some(at) => {
                    let before = machines[at].0;
                    let after = self.scores.rule.place(
                        self.scores.state(before),
                        &self.workload.kinds[kind],
                        &self.scores.fragmentation,
                        &mut |count| choice.below(count),
                    );
                    let after = self.scores.number(&after);
                    machines[at] = (after, machines[at].1 - memory);
                    record.allocated += wanted;
                    useless = useless + self.scores.useless(after) - self.scores.useless(before);
                }
            }
            record.note(useless, weight);
        }
        record.finish()
    }

    /// The pods of the list in random order, then more of them.
    fn pods(&self, random: &mut Random, percent: u64) -> Vec<(usize, u64)> {
        let list = &self.workload.pods;
        let mut pods = list.clone();
        random.shuffle(&mut pods);
        let wanted = |pods: &[(usize, u64)]| -> u64 {
            let kinds = pods.iter().map(|(kind, _)| &self.workload.kinds[*kind]);
            kinds.map(|kind| u64::from(kind.total())).sum()
        };
        let limit = self.workload.capacity * percent;
        let mut sum = wanted(&pods);
        while sum * 100 > limit {
            let gone = pods.remove(random.below(pods.len()));
            sum -= wanted(&[gone]);
        }
        loop {
            let more = list[random.below(list.len())];
            if (sum + wanted(&[more])) * 100 > limit {
                return pods;
            }
            sum += wanted(&[more]);
            pods.push(more);
        }
    }

    fn best(&mut self, machines: &[(u32, u64)], kind: usize, memory: u64) -> Option<usize> {
        let mut best = (UNFIT, None);
        for (at, (number, free)) in machines.iter().enumerate() {
            let score = self.scores.score(*number, kind);
            if score > best.0 && *free >= memory {
                best = (score, Some(at));
            }
        }
        best.1
    }

    fn any(
        &mut self,
        machines: &[(u32, u64)],
        kind: usize,
        memory: u64,
        choice: &mut Random,
    ) -> Option<usize> {
        let fitting: Vec<usize> = machines
            .iter()
            .enumerate()
            .filter(|(_, (number, free))| {
                *free >= memory && self.scores.score(*number, kind) != UNFIT
            })
            .map(|(at, _)| at)
            .collect();
        fitting.get(choice.below(fitting.len())).copied()
    }
}

/// Means by percentage of arrival.
struct Record {
    capacity: u64,
    arrived: u64,
    allocated: u64,
    refused: usize,
    pods: usize,
    /// Sums and counts by percentage.
    sums: Vec<(f64, f64, u32)>,
}

impl Record {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            arrived: 0,
            allocated: 0,
            refused: 0,
            pods: 0,
            sums: Vec::new(),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "thousandths of GPUs are far below 2^53"
    )]
    fn note(&mut self, useless: u64, weight: u64) {
        self.pods += 1;
        let percent = (self.arrived * 200 + self.capacity) / (2 * self.capacity);
        let percent = usize::try_from(percent).unwrap_or(usize::MAX);
        if self.sums.len() <= percent {
            self.sums.resize(percent + 1, (0.0, 0.0, 0));
        }
        let capacity = self.capacity as f64;
        let sum = &mut self.sums[percent];
        sum.0 += 100.0 * self.allocated as f64 / capacity;
        sum.1 += 100.0 * useless as f64 / weight as f64 / capacity;
        sum.2 += 1;
    }

    fn finish(self) -> Filled {
        let mean = |sum: f64, count: u32| (count > 0).then(|| sum / f64::from(count));
        Filled {
            allocated: self.sums.iter().map(|s| mean(s.0, s.2)).collect(),
            fragmented: self.sums.iter().map(|s| mean(s.1, s.2)).collect(),
            pods: self.pods,
            refused: self.refused,
        }
    }
}
