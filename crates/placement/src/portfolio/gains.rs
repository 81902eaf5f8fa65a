//! What each candidate accepted in each of the last windows, and whether one is surely better.

use std::collections::VecDeque;

/// Most windows that are remembered.
const MOST: usize = 64;
/// Over how many of the last windows a gain is looked for, and how many standard errors it must be
/// above nothing, in quarters: by Student's distribution 1 of about 5,000 is so far off by chance.
const SURE: [(usize, i128); 4] = [(8, 24), (16, 18), (32, 16), (64, 15)];
/// Windows after a change in which there is no other.
const CALM: u32 = 8;

#[derive(Clone, Debug)]
pub(super) struct Gains {
    candidates: usize,
    /// By window, the oldest first: by candidate, in millionths.
    windows: VecDeque<Vec<i64>>,
    calm: u32,
}

impl Gains {
    pub(super) fn new(candidates: usize) -> Self {
        Self {
            candidates,
            windows: VecDeque::new(),
            calm: 0,
        }
    }

    /// Takes what all candidates accepted of one window.
    pub(super) fn add(&mut self, accepted: Vec<i64>) {
        if accepted.len() != self.candidates {
            return;
        }
        if self.windows.len() == MOST {
            self.windows.pop_front();
        }
        self.windows.push_back(accepted);
        self.calm = self.calm.saturating_sub(1);
    }

    /// Another one decides from now on.
    pub(super) fn changed(&mut self) {
        self.calm = CALM;
    }

    pub(super) fn means(&self) -> Option<Vec<i64>> {
        let count = i64::try_from(self.windows.len()).ok()?;
        (count > 0).then(|| {
            let of = |at: usize| self.windows.iter().map(|window| window[at]).sum::<i64>() / count;
            (0..self.candidates).map(of).collect()
        })
    }

    /// The candidate that is surely better than the chosen one by the most, its gain in
    /// millionths, and over how many windows.
    pub(super) fn better(&self, chosen: usize, least: i64) -> Option<(usize, i64, usize)> {
        if self.calm > 0 {
            return None;
        }
        let mut best: Option<(usize, i64, usize)> = None;
        for candidate in (0..self.candidates).filter(|at| *at != chosen) {
            for (windows, quarters) in SURE {
                let gain = self.gain(candidate, chosen, windows, quarters);
                if let Some(gain) = gain.filter(|gain| *gain >= least.max(1))
                    && best.is_none_or(|(_, most, _)| gain > most)
                {
                    best = Some((candidate, gain, windows));
                }
            }
        }
        best
    }

    /// How much more a candidate accepted in the last windows, if it surely did.
    fn gain(&self, candidate: usize, chosen: usize, windows: usize, quarters: i128) -> Option<i64> {
        if self.windows.len() < windows {
            return None;
        }
        let last = self.windows.iter().rev().take(windows);
        let (mut sum, mut squares) = (0i128, 0i128);
        for window in last {
            let apart = i128::from(window[candidate] - window[chosen]);
            sum += apart;
            squares += apart * apart;
        }
        let count = i128::try_from(windows).ok()?;
        // mean > z s / sqrt(n) with s^2 = (squares - sum^2 / n) / (n - 1), without fractions.
        let spread = count * squares - sum * sum;
        let is_sure = sum > 0 && sum * sum * (count - 1) * 16 > quarters * quarters * spread;
        is_sure.then(|| i64::try_from(sum / count).unwrap_or(i64::MAX))
    }
}
