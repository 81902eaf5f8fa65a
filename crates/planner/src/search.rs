//! The cheapest way for one node to serve a demand, over all its GPUs.
//!
//! GPUs are taken one after the other, and for each count of devices served so far the cheapest way is
//! kept. Demands of few devices, which is nearly all, have few such counts: for them the counts are numbered,
//! and everything is an array.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cost::Cost,
    options::{Choice, GpuOption, Options, Way},
};

/// Partial sums that one search may look at before it gives up. A demand of three profiles and
/// twenty devices stays far below.
const MOST_STATES: usize = 200_000;

/// Most counts that are numbered.
const MOST_NUMBERED: usize = 128;

/// Number of a sum with more of something than is wanted. A GPU that could serve more can serve fewer.
const TOO_MANY: u16 = u16::MAX;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The cheapest way costs this.
    Served(Cost),
    /// There is none.
    Nothing,
    /// Cut off at [`MOST_STATES`].
    TooComplex,
}

/// What is searched for.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// Devices by want.
    counts: Vec<u32>,
    /// All counts up to that, in order: number of the sum of the counts numbered `a` and `b` at
    /// `a * numbered + b`, or [`TOO_MANY`]. Empty if there are too many.
    sums: Vec<u16>,
    numbered: usize,
}

impl Goal {
    pub(crate) fn new(counts: Vec<u32>) -> Self {
        let mut numbered = 1usize;
        for count in &counts {
            let radix = usize::try_from(*count).unwrap_or(usize::MAX);
            numbered = numbered.saturating_mul(radix.saturating_add(1));
        }
        let mut new = Self {
            counts,
            sums: Vec::new(),
            numbered: 0,
        };
        if numbered <= MOST_NUMBERED {
            new.numbered = numbered;
            let all: Vec<_> = (0..numbered).map(|n| new.counts_of(n)).collect();
            let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b)));
            let sum = |(a, b): (&Vec<u32>, &Vec<u32>)| {
                let sum = new.number_of(add(a, b, &new.counts)?);
                u16::try_from(sum).ok()
            };
            new.sums = pairs.map(|pair| sum(pair).unwrap_or(TOO_MANY)).collect();
        }
        new
    }

    /// The number of these counts, none above the goal. Larger counts of earlier wants come later, as in
    /// the order of the counts themselves.
    pub(crate) fn number_of(&self, counts: impl IntoIterator<Item = u32>) -> usize {
        let digits = counts.into_iter().zip(&self.counts);
        digits.fold(0usize, |number, (digit, most)| {
            let digit = usize::try_from(digit).unwrap_or(usize::MAX);
            let radix = usize::try_from(*most)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            number.saturating_mul(radix).saturating_add(digit)
        })
    }

    /// What a GPU does to serve these counts.
    pub(crate) fn option(&self, served: Vec<u32>, choice: Choice) -> GpuOption {
        GpuOption {
            number: self.number_of(served.iter().copied()),
            served: served.into(),
            choice,
        }
    }

    /// Whether counts have numbers, so that no search over so many GPUs could be cut off.
    pub(crate) fn is_numbered(&self, gpus: usize) -> bool {
        self.numbered > 0 && self.numbered * self.numbered * gpus <= MOST_STATES
    }

    /// Whether it is one device.
    pub(crate) fn is_single(&self) -> bool {
        self.counts == [1]
    }

    /// How many counts have numbers; that of the goal is the last.
    pub(crate) fn numbers(&self) -> usize {
        self.numbered
    }

    /// The number of the sum of the counts with these numbers, if that is not above the goal.
    pub(crate) fn sum(&self, one: usize, other: usize) -> Option<usize> {
        let sum = self.sums[one * self.numbered + other];
        (sum != TOO_MANY).then(|| usize::from(sum))
    }

    fn counts_of(&self, mut number: usize) -> Vec<u32> {
        let mut counts = vec![0; self.counts.len()];
        for (digit, most) in counts.iter_mut().zip(&self.counts).rev() {
            let radix = usize::try_from(*most)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            *digit = u32::try_from(number % radix).unwrap_or(u32::MAX);
            number /= radix;
        }
        counts
    }
}

/// The cheapest way to some counts over the GPUs so far.
#[derive(Clone, Copy, Debug)]
struct Step {
    cost: Cost,
    /// Number of the counts before the last GPU.
    before: u16,
    /// Number of the counts that the last GPU serves.
    served: u16,
}

/// Searches nodes by numbers of counts; kept for its memory.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Cost of the way to each numbered count.
    before: Vec<Cost>,
    after: Vec<Cost>,
    /// After each GPU, the way to each numbered count.
    steps: Vec<Step>,
}

impl Search {
    /// What the cheapest way costs; counts with the number `start` are served already, and each GPU has these ways,
    /// or can only do nothing. The goal's counts have numbers.
    pub(crate) fn cost<'a>(
        &mut self,
        goal: &Goal,
        start: usize,
        gpus: impl Iterator<Item = &'a [Way]>,
    ) -> Found {
        self.before.clear();
        self.before.resize(goal.numbered, Cost::NEVER);
        self.before[start] = Cost::default();
        for ways in gpus.filter(|ways| !ways.is_empty()) {
            self.after.clear();
            self.after.resize(goal.numbered, Cost::NEVER);
            let so_far = self.before.iter().zip(goal.sums.chunks(goal.numbered));
            for (so_far, sums) in so_far.filter(|(cost, _)| **cost != Cost::NEVER) {
                for way in ways {
                    let sum = sums[usize::from(way.number)];
                    if let Some(known) = self.after.get_mut(usize::from(sum)) {
                        *known = so_far.plus(way.cost).min(*known);
                    }
                }
            }
            std::mem::swap(&mut self.before, &mut self.after);
        }
        match self.before.last() {
            Some(cost) if *cost != Cost::NEVER => Found::Served(*cost),
            _ => Found::Nothing,
        }
    }

    /// The numbers of the counts that each GPU serves in the cheapest way. Of equal ways it is the first, by the
    /// counts before each GPU and then by those that it serves.
    pub(crate) fn numbers(
        &mut self,
        goal: &Goal,
        start: usize,
        gpus: &[&[Way]],
    ) -> Option<Vec<u16>> {
        let numbered = goal.numbered;
        let none = Step {
            cost: Cost::NEVER,
            before: 0,
            served: 0,
        };
        self.steps.clear();
        self.steps.resize((gpus.len() + 1) * numbered, none);
        self.steps[start].cost = Cost::default();
        for (at, ways) in gpus.iter().enumerate() {
            let (before, after) = self.steps.split_at_mut((at + 1) * numbered);
            let so_far = before[at * numbered..].iter().zip(0u16..);
            for (so_far, number) in so_far.filter(|(step, _)| step.cost != Cost::NEVER) {
                let sums = &goal.sums[usize::from(number) * numbered..][..numbered];
                let nothing = [Way::default()];
                let ways = if ways.is_empty() { &nothing } else { *ways };
                for way in ways {
                    let cost = so_far.cost.plus(way.cost);
                    let sum = usize::from(sums[usize::from(way.number)]);
                    // What comes after these belongs to later GPUs.
                    let known = after.get_mut(..numbered).and_then(|all| all.get_mut(sum));
                    if let Some(known) = known.filter(|known| cost < known.cost) {
                        *known = Step {
                            cost,
                            before: number,
                            served: way.number,
                        };
                    }
                }
            }
        }
        let mut number = numbered - 1;
        let mut numbers = Vec::with_capacity(gpus.len());
        for after in (1..=gpus.len()).rev() {
            let step = self.steps[after * numbered + number];
            if step.cost == Cost::NEVER {
                return None;
            }
            numbers.push(step.served);
            number = usize::from(step.before);
        }
        numbers.reverse();
        (number == start).then_some(numbers)
    }
}

struct Partial {
    cost: Cost,
    /// What each GPU does so far, as indices into its options.
    choices: Vec<usize>,
}

/// The cheapest choice for each GPU, in order, and what they cost together; for counts without numbers. Each
/// partial sum is taken off `left`; at 0 the search is cut off, too.
pub(crate) fn by_counts<'a>(
    goal: &Goal,
    start: &[u32],
    gpus: &'a [Arc<Options>],
    left: &mut usize,
) -> (Found, Option<Vec<&'a Choice>>) {
    let mut partial = BTreeMap::from([(
        start.to_vec(),
        Partial {
            cost: Cost::default(),
            choices: Vec::new(),
        },
    )]);
    let mut states = 0;
    for options in gpus {
        let mut next: BTreeMap<Vec<u32>, Partial> = BTreeMap::new();
        for (served, so_far) in &partial {
            for (at, option) in options.iter().enumerate() {
                states += 1;
                if states > MOST_STATES || *left == 0 {
                    return (Found::TooComplex, None);
                }
                *left -= 1;
                let Some(sum) = add(served, &option.served, &goal.counts) else {
                    continue;
                };
                let cost = so_far.cost.plus(option.choice.cost);
                if next.get(&sum).is_none_or(|known| cost < known.cost) {
                    let mut choices = so_far.choices.clone();
                    choices.push(at);
                    next.insert(sum, Partial { cost, choices });
                }
            }
        }
        partial = next;
    }
    let Some(best) = partial.remove(&goal.counts) else {
        return (Found::Nothing, None);
    };
    let choices = best.choices.iter().zip(gpus);
    let choices = choices.map(|(at, options)| &options[*at].choice).collect();
    (Found::Served(best.cost), Some(choices))
}

/// Nothing if that is more than the goal.
fn add(served: &[u32], more: &[u32], goal: &[u32]) -> Option<Vec<u32>> {
    let sums = served.iter().zip(more).zip(goal);
    sums.map(|((a, b), most)| a.checked_add(*b).filter(|sum| sum <= most))
        .collect()
}
