//! How much of what is left on a machine is of no use to the pods that come.
//!
//! FGD's measure: for a pod drawn from the popular kinds, the idle GPU thousandths that it could not
//! use. That is all of a machine where it does not fit, otherwise what is left on GPUs with too
//! little for it. Pods without GPUs count as unable to use any, which adds the same share to every
//! machine. Everything is a whole number, so that equal situations score equal.

use super::workload::{Kind, State};

/// The measure for given popular kinds.
#[derive(Clone, Debug)]
pub(super) struct Fragmentation {
    popular: Vec<(Kind, u64)>,
    /// How many pods ask for no GPU.
    without: u64,
    /// How many pods there are of all popular kinds.
    weight: u64,
}

impl Fragmentation {
    pub(super) fn new(popular: &[(Kind, u64)]) -> Self {
        let (with, without): (Vec<_>, Vec<_>) =
            popular.iter().partition(|(kind, _)| kind.milli > 0);
        Self {
            popular: with,
            without: without.iter().map(|(_, count)| count).sum(),
            weight: popular.iter().map(|(_, count)| count).sum(),
        }
    }

    /// The pods that [`Fragmentation::of`] sums over.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Thousandths of a GPU that a pod cannot use, summed over all popular pods.
    pub(super) fn of(&self, state: &State) -> u64 {
        let total = u64::from(state.total());
        let mut sum = self.without * total;
        for (kind, count) in &self.popular {
            if state.cpu < kind.cpu || state.model & kind.models == 0 {
                sum += count * total;
                continue;
            }
            let (mut fitting, mut useless) = (0_u8, 0_u64);
            for left in state.gpus() {
                if *left >= kind.milli {
                    fitting += 1;
                } else {
                    useless += u64::from(*left);
                }
            }
            sum += count * if fitting >= kind.gpus { useless } else { total };
        }
        sum
    }
}
