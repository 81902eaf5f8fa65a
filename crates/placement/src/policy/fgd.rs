//! FGD on MIG: the placement that adds the least expected fragmentation.
//!
//! Fragmentation gradient descent (USENIX ATC 2023, hkust-adsl/kubernetes-scheduler-simulator)
//! counts, for each typical pod, the idle GPU share that it cannot use. On MIG the share is counted
//! in memory slices: those that are free and in no free placement of the profile. The port to MIG
//! is ours.

use super::Mix;
use crate::{geometry::Geometry, score::ScoreTable};

/// FGD with the profiles that are typical.
pub fn fragmentation_gradient(geometry: &Geometry, mix: &Mix) -> ScoreTable {
    ScoreTable::from_fn("FGD on MIG", geometry, |mask, id| {
        let after = mask | geometry.spot(id).mask;
        let of = |mask| fragmentation(geometry, mix, mask);
        super::narrow(of(mask) - of(after))
    })
}

/// Free slices that a pod cannot use, summed over the pods of a mix.
pub(crate) fn fragmentation(geometry: &Geometry, mix: &Mix, mask: u16) -> i64 {
    let unusable = |profile| {
        let usable = geometry.cover(geometry.free_of(mask, profile));
        (geometry.full() & !mask & !usable).count_ones()
    };
    geometry
        .profile_ids()
        .map(|p| mix.part(p) * i64::from(unusable(p)))
        .sum()
}
