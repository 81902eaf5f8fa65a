//! Best fit and worst fit over GPUs, with the best index on the GPU.
//!
//! Baselines of the MFI paper (arXiv 2511.18906): the feasible GPU with the fewest (most) free
//! slices, on it the first free start of a fixed order per profile. The order is the one of
//! arXiv 2409.06646 as we understand it: large profiles away from where others could go, 3g at 4
//! first, 1g at 6 first. It is the same order in which a driver that is told no placement fills an
//! empty GPU with one profile, which is how it is computed here for any model. A reconstruction:
//! both papers were not read in full.

use crate::{
    geometry::{Geometry, PlacementId, ProfileId, placements},
    score::ScoreTable,
};

/// Best fit, best index.
pub fn best_fit(geometry: &Geometry) -> ScoreTable {
    by_free_slices("best fit, best index", geometry, 1)
}

/// Worst fit, best index.
pub fn worst_fit(geometry: &Geometry) -> ScoreTable {
    by_free_slices("worst fit, best index", geometry, -1)
}

fn by_free_slices(name: &str, geometry: &Geometry, sign: i32) -> ScoreTable {
    let positions = positions(geometry);
    ScoreTable::from_fn(name, geometry, |mask, id| {
        // More placements than any profile has, so that the index decides only among equals.
        sign * 64 * super::narrow(i64::from(mask.count_ones())) - positions[id.index()]
    })
}

/// The best index alone: earlier places in the order score higher, whatever the GPU.
pub(super) fn best_index(geometry: &Geometry) -> ScoreTable {
    let positions = positions(geometry);
    ScoreTable::from_fn("best index", geometry, |_, id| -positions[id.index()])
}

/// The place of each placement in its profile's [`driver_order`], from 0.
fn positions(geometry: &Geometry) -> Vec<i32> {
    let mut positions = vec![0; geometry.spots().len()];
    for profile in geometry.profile_ids() {
        for (id, position) in driver_order(geometry, profile).into_iter().zip(0..) {
            positions[id.index()] = position;
        }
    }
    positions
}

/// The placements of a profile in the order in which the driver itself fills an empty GPU with it:
/// each time the one that leaves the most placements possible over all profiles, then the lowest.
/// Placements that are never reached come last, by start. The rule is that of NVIDIA's open kernel
/// modules (kernel MIG manager, choice of the partition id), on boards that are not flipped.
pub fn driver_order(geometry: &Geometry, profile: ProfileId) -> Vec<PlacementId> {
    let mut order: Vec<PlacementId> = Vec::new();
    let mut mask = 0;
    while let Some(next) = driver_choice(geometry, profile, mask) {
        order.push(next);
        mask |= geometry.spot(next).mask;
    }
    let rest: Vec<_> = placements(geometry.profile(profile).windows)
        .filter(|id| !order.contains(id))
        .collect();
    order.extend(rest);
    order
}

/// Where a driver that is not told a placement puts the profile.
pub(crate) fn driver_choice(
    geometry: &Geometry,
    profile: ProfileId,
    mask: u16,
) -> Option<PlacementId> {
    let left = |id: &PlacementId| geometry.free(mask | geometry.spot(*id).mask).count_ones();
    let free = placements(geometry.free_of(mask, profile));
    free.max_by_key(|id| (left(id), std::cmp::Reverse(*id)))
}
