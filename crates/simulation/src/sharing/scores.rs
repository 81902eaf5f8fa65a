//! Remembers every score, and every state of a machine, by number.

use std::collections::HashMap;

use super::fragmentation::Fragmentation;
use super::rule::Rule;
use super::workload::{Kind, State, Workload};

/// Not computed yet.
const UNKNOWN: i16 = i16::MIN;
/// The pod does not fit, whatever memory it needs.
pub(super) const UNFIT: i16 = i16::MIN + 1;

/// Scores of one rule for one workload.
pub(super) struct Scores<'a> {
    pub(super) rule: Rule,
    pub(super) fragmentation: Fragmentation,
    kinds: &'a [Kind],
    numbers: HashMap<State, u32>,
    states: Vec<State>,
    /// Sum over the popular pods, by state.
    useless: Vec<u64>,
    /// By state, then by kind.
    by_state: Vec<i16>,
}

impl<'a> Scores<'a> {
    pub(super) fn new(workload: &'a Workload, rule: Rule) -> Self {
        Self {
            rule,
            fragmentation: Fragmentation::new(&workload.popular),
            kinds: &workload.kinds,
            numbers: HashMap::new(),
            states: Vec::new(),
            useless: Vec::new(),
            by_state: Vec::new(),
        }
    }

    /// The number of a state.
    pub(super) fn number(&mut self, state: &State) -> u32 {
        if let Some(number) = self.numbers.get(state) {
            return *number;
        }
        let number = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        self.numbers.insert(*state, number);
        self.states.push(*state);
        self.useless.push(self.fragmentation.of(state));
        let length = self.by_state.len() + self.kinds.len();
        self.by_state.resize(length, UNKNOWN);
        number
    }

    pub(super) fn state(&self, number: u32) -> &State {
        &self.states[number as usize]
    }

    /// Thousandths of a GPU that are useless, summed over the popular pods.
    pub(super) fn useless(&self, number: u32) -> u64 {
        self.useless[number as usize]
    }

    /// The score of a machine in that state for that kind, or [`UNFIT`].
    #[inline]
    pub(super) fn score(&mut self, number: u32, kind: usize) -> i16 {
        let at = number as usize * self.kinds.len() + kind;
        let known = self.by_state[at];
        if known != UNKNOWN {
            return known;
        }
        let (state, pod) = (&self.states[number as usize], &self.kinds[kind]);
        let score = if state.is_fit(pod) {
            self.rule.score(state, pod, &self.fragmentation)
        } else {
            UNFIT
        };
        self.by_state[at] = score;
        score
    }
}
