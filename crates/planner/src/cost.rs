//! What a way to serve a demand costs, and how its parts weigh against each other.
//!
//! Everything is told in millionths of the worth of an empty GPU (see `worth.rs`), which is what the cluster
//! loses for the demands to come. The rest is time: NVML takes half a second and more to make an
//! instance, less to destroy one, and moving a device to another name needs the kubelet alone.

use crate::{state::Idle, worth::EMPTY};

/// Price of one device that the node does not offer yet, whatever is done about it, where idle instances stay
/// offered. Above what all devices of a demand could lose by their places, because the stock scheduler sends a
/// pod to any node that offers enough, whatever we think of the place: what it will use anyway is counted on.
/// Parked ones are used by nobody but for whom they are planned.
const MISSING: i64 = 1_000 * EMPTY;
/// Price of one instance that is made. In simulations of 100 GPUs at loads of 0.85 and 1, in four mixes, a reused
/// instance was preferred to a place that is better by up to this: 84 to 90 % of starts needed no new one, and
/// no fewer pods were accepted than by places alone (within 0.1 points).
pub(crate) const CREATED: i64 = EMPTY * 16 / 100;
/// Price of one idle instance that is moved to another name.
pub(crate) const EXPOSED: i64 = EMPTY / 400;
/// Price of one idle instance that is given up: two of them decide between placements that are
/// nearly as good as each other, no more. An idle instance that is kept saves some later pod half a second; a
/// bad place costs until the pod ends.
pub(crate) const GIVEN_UP: i64 = EMPTY / 200;
/// Price of waiting for another plan of the node: its NVML calls run one after another, so that a
/// burst of pods starts sooner spread over nodes. Not for the price of a whole GPU, though.
pub(crate) const QUEUED: i64 = EMPTY / 32;

/// What a choice costs. Smaller is better; the price decides first, then how many instances are made, given up and
/// moved. Both are in one number, the changes below: sums and orders of these are those of the pairs, while a node
/// makes fewer than 65,536 changes and needs fewer than 100,000 devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(i64);

/// What is changed on a GPU, and what that leaves of its worth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) created: usize,
    pub(crate) given_up: usize,
    pub(crate) exposed: usize,
    /// Worth before less worth after.
    pub(crate) lost: i64,
}

impl Changes {
    /// What that costs.
    pub(crate) fn cost(self, idle: Idle) -> Cost {
        let times = |count: usize, price: i64| {
            i64::try_from(count)
                .unwrap_or(i64::MAX)
                .saturating_mul(price)
        };
        let price = times(self.created + self.exposed, missing(idle))
            + times(self.created, CREATED)
            + times(self.given_up, GIVEN_UP)
            + times(self.exposed, EXPOSED)
            + self.lost;
        Cost::new(price, self.created + self.given_up + self.exposed)
    }
}

/// See [`MISSING`].
pub(crate) fn missing(idle: Idle) -> i64 {
    match idle {
        Idle::Offered => MISSING,
        Idle::Parked => 0,
    }
}

/// Changes that fit into a [`Cost`].
const MOST_CHANGES: i64 = 1 << 16;

impl Cost {
    /// More than anything costs.
    pub(crate) const NEVER: Self = Self(i64::MAX);
    /// Stands for one that is not known yet, in no more memory.
    pub(crate) const UNKNOWN: Self = Self(i64::MIN);

    /// A price in millionths of the worth of an empty GPU, and how many instances are made, given up and moved.
    pub(crate) fn new(price: i64, changes: usize) -> Self {
        let changes = i64::try_from(changes).unwrap_or(i64::MAX);
        Self(price * MOST_CHANGES + changes.min(MOST_CHANGES - 1))
    }

    /// Whether something changes.
    pub(crate) fn changes(self) -> bool {
        self.0 & (MOST_CHANGES - 1) != 0
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The same on a node where another plan is under way, if `busy`: what changes something has to wait for it.
    pub(crate) fn queued(self, busy: bool) -> Self {
        if busy && self.changes() {
            self.plus(Self::new(QUEUED, 0))
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cost() -> impl Strategy<Value = (i64, usize)> {
        (-EMPTY..200 * MISSING, 0usize..200)
    }

    proptest! {
        #[test]
        fn costs_add_up_and_compare_by_price_and_then_by_changes(a in any_cost(), b in any_cost()) {
            let cost = |(price, changes)| Cost::new(price, changes);
            prop_assert_eq!(cost(a).plus(cost(b)), cost((a.0 + b.0, a.1 + b.1)));
            prop_assert_eq!(cost(a).cmp(&cost(b)), a.cmp(&b));
            prop_assert_eq!(cost(a).changes(), a.1 > 0);
        }
    }
}
