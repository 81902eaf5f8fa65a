//! Placement policies: ours, and every other that we know of, over one engine.
//!
//! Most policies are score tables: a function of a GPU's mask and a placement, made by the functions
//! here and driven by [`ByTable`]. Those that look at the order of GPUs or at nodes are rules. Each
//! module says where its rule comes from and what is a reconstruction. None of them is slowed down
//! or held back: all use the same look-ups.

pub mod baskets;
pub mod best_fit;
pub mod capability;
mod catalogue;
pub mod das;
pub mod dra;
pub mod fgd;
pub mod hami;
pub mod in_order;
pub mod mfi;
mod nodes;
pub mod nos;
pub mod ours;
mod phases;
mod table;
pub mod valued;

use std::sync::Arc;

use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Choice, Pool},
};
pub use baskets::Baskets;
pub use best_fit::{best_fit, driver_order, worst_fit};
pub use capability::{expected_capability, least_capability_lost, most_capability};
pub use catalogue::{baseline_tables, baselines};
pub use das::Das;
pub use dra::Dra;
pub use fgd::fragmentation_gradient;
pub use hami::{Hami, HamiServes, HamiStart, longest_run};
pub use in_order::{FirstFit, RoundRobin};
pub use mfi::{MfiWindows, fewest_blocked, least_fragmentation};
pub use nos::Nos;
pub use ours::{ours, ours_to_fill};
pub use phases::ByPhase;
pub use table::ByTable;

/// Decides where instances go. Deterministic: equal pools and equal histories of calls give equal
/// choices.
pub trait Policy {
    /// Its name in comparisons.
    fn name(&self) -> &str;

    /// The index that a pool should have to be fast under this policy. A pool with another one
    /// gives the same choices.
    fn index(&self) -> &Arc<Index>;

    /// Where an instance of the profile should go, or `None` if the policy finds no place. The
    /// caller commits the choice; the instance may be of a larger profile than was asked for.
    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice>;

    /// Whether idle instances are left standing for others to use. Where not, the caller releases
    /// with [`crate::After::Destroyed`].
    fn keeps_idle(&self) -> bool {
        true
    }
}

/// How often each profile is asked for, in parts of any whole, by [`ProfileId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<u32>);

impl Mix {
    /// All profiles alike.
    pub fn uniform(geometry: &Geometry) -> Self {
        Self(vec![1; geometry.profiles().len()])
    }

    /// Parts by [`ProfileId`]; profiles beyond the list are never asked for.
    pub fn new(parts: Vec<u32>) -> Self {
        Self(parts)
    }

    /// The part of a profile.
    pub fn part(&self, profile: ProfileId) -> i64 {
        i64::from(self.0.get(profile.index()).copied().unwrap_or(0))
    }
}

/// Scores are sums of small numbers; one that is out of range is a mix with absurd parts.
fn narrow(score: i64) -> i32 {
    i32::try_from(score).unwrap_or(if score < 0 { i32::MIN + 1 } else { i32::MAX })
}

#[cfg(test)]
mod tests;
