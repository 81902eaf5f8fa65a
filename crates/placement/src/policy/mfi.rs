//! MFI: the placement that adds the least fragmentation (arXiv 2511.18906).
//!
//! The metric of a GPU is the sum, over all placements, of the profile's memory slices where the
//! placement is blocked. The paper counts only profiles that are no larger than what is free on
//! the GPU. A reconstruction from the abstract and from memory; all four readings are here, and the
//! best of them is what others should be compared with. Counting every profile decides as
//! [`super::fgd::fragmentation_gradient`] does with all profiles alike, up to ties.

use crate::{geometry::Geometry, score::ScoreTable};

/// Which placements of a GPU count as blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MfiWindows {
    /// Those with at least one occupied slice.
    Touched,
    /// Those with occupied and free slices.
    PartlyTouched,
}

/// MFI as published: blocked placements of the profiles that are no larger than what is free.
pub fn least_fragmentation(
    geometry: &Geometry,
    windows: MfiWindows,
    only_profiles_that_could_fit: bool,
) -> ScoreTable {
    let name = match (windows, only_profiles_that_could_fit) {
        (MfiWindows::Touched, true) => "MFI as published",
        (MfiWindows::Touched, false) => "MFI over all profiles",
        (MfiWindows::PartlyTouched, true) => "MFI by partly used windows",
        (MfiWindows::PartlyTouched, false) => "MFI by partly used windows over all profiles",
    };
    let fragmentation = |mask| fragmentation(geometry, windows, only_profiles_that_could_fit, mask);
    ScoreTable::from_fn(name, geometry, |mask, id| {
        let after = mask | geometry.spot(id).mask;
        super::narrow(fragmentation(mask) - fragmentation(after))
    })
}

/// Memory slices of all blocked placements, each counted by itself.
pub(crate) fn fragmentation(
    geometry: &Geometry,
    windows: MfiWindows,
    only_profiles_that_could_fit: bool,
    mask: u16,
) -> i64 {
    let free = u32::from(geometry.slices()) - mask.count_ones();
    let blocked = geometry.spots().iter().filter(|spot| {
        let size = u32::from(spot.placement.size);
        let touched = spot.mask & mask != 0;
        let wholly = spot.mask & mask == spot.mask;
        let counts = touched && !(wholly && windows == MfiWindows::PartlyTouched);
        counts && (size <= free || !only_profiles_that_could_fit)
    });
    blocked.map(|spot| i64::from(spot.placement.size)).sum()
}

/// The best reading of MFI: all profiles, every blocked placement.
pub fn fewest_blocked(geometry: &Geometry) -> ScoreTable {
    least_fragmentation(geometry, MfiWindows::Touched, false)
}
