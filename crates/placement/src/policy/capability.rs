//! MCC and MECC: by how many placements stay possible.
//!
//! Baselines of GRMU (arXiv 2502.01909): configuration capability is the number of placements that
//! are still possible, MECC weighs them with how often profiles are asked for. A reconstruction; the
//! paper was not read in full. Taken over all GPUs, the most capability afterwards prefers empty
//! GPUs, so that the least capability lost is offered, too.

use super::Mix;
use crate::{
    geometry::{Geometry, placements},
    score::ScoreTable,
};

/// MCC: the most possible placements on the GPU afterwards.
pub fn most_capability(geometry: &Geometry) -> ScoreTable {
    let mix = Mix::uniform(geometry);
    ScoreTable::from_fn("MCC", geometry, |mask, id| {
        super::narrow(capability(geometry, &mix, mask | geometry.spot(id).mask))
    })
}

/// MECC: the most possible placements on the GPU afterwards, weighed with how often each profile is
/// asked for.
pub fn expected_capability(geometry: &Geometry, mix: &Mix) -> ScoreTable {
    ScoreTable::from_fn("MECC", geometry, |mask, id| {
        super::narrow(capability(geometry, mix, mask | geometry.spot(id).mask))
    })
}

/// The fewest possible placements lost, weighed with how often each profile is asked for.
pub fn least_capability_lost(geometry: &Geometry, mix: &Mix) -> ScoreTable {
    ScoreTable::from_fn("least capability lost", geometry, |mask, id| {
        let after = capability(geometry, mix, mask | geometry.spot(id).mask);
        super::narrow(after - capability(geometry, mix, mask))
    })
}

/// The number of placements that are possible, weighed.
pub(crate) fn capability(geometry: &Geometry, mix: &Mix, mask: u16) -> i64 {
    placements(geometry.free(mask))
        .map(|id| mix.part(geometry.spot(id).profile))
        .sum()
}
