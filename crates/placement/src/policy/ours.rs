//! Our own policy: a table of values, one for each shape of GPU.
//!
//! The value of a mask is a weighted sum of its structural features ([`crate::Features`]); the score
//! of a placement is the value after it less the value before. Training searches the weights. Each
//! table is checked in as text, and its header says by which command it was made. There is one for pods
//! that come and go and one for many that come to an empty pool at once ([`super::ByPhase`] is for both).
//! For GPUs without a table, [`super::fewest_blocked`] and [`super::longest_run`] are the best rules that
//! need no training.

use mig::{GpuModel, Placement, Profile};

use super::{fewest_blocked, longest_run};
use crate::{
    geometry::{Geometry, placements},
    score::ScoreTable,
    text::{TextError, TextProblem},
};

/// The tables that are checked in, for pods that come and go.
const ALWAYS: [&str; 2] = [
    include_str!("../../tables/eight-slices.txt"),
    include_str!("../../tables/four-slices.txt"),
];

/// The table that is checked in for many pods that come at once. With four slices, where the places of
/// each profile are halves of those of the next, the rule without training fills every GPU.
const FILL: [&str; 1] = [include_str!("../../tables/eight-slices-fill.txt")];

/// The table for GPUs of this shape, for pods that come and go. A shape in wider slices, as RTX PRO
/// 6000 with twelve is an A30 with four, gets the table of the narrower.
///
/// # Errors
/// If a table that is checked in is damaged, which the tests rule out.
pub fn ours(geometry: &Geometry) -> Result<ScoreTable, TextError> {
    Ok(found(&ALWAYS, geometry)?.unwrap_or_else(|| fewest_blocked(geometry)))
}

/// The table for GPUs of this shape, for many pods that come to an empty pool while nothing ends.
///
/// # Errors
/// As [`ours`].
pub fn ours_to_fill(geometry: &Geometry) -> Result<ScoreTable, TextError> {
    Ok(found(&FILL, geometry)?.unwrap_or_else(|| longest_run(geometry)))
}

fn found(texts: &[&str], geometry: &Geometry) -> Result<Option<ScoreTable>, TextError> {
    if let Some(table) = checked_in(texts, geometry)? {
        return Ok(Some(table));
    }
    if let Some((width, narrow)) = narrowed(geometry)
        && let Some(table) = checked_in(texts, &narrow)?
        && let Some(values) = table.values()
    {
        let value = |mask: u16| values[usize::from(narrowed_mask(geometry, width, mask))];
        let wide: Vec<i32> = geometry.masks().map(value).collect();
        if let Ok(table) = ScoreTable::from_values(table.name(), geometry, &wide) {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn checked_in(texts: &[&str], geometry: &Geometry) -> Result<Option<ScoreTable>, TextError> {
    for text in texts {
        match ScoreTable::from_text(text, geometry) {
            Ok((table, _)) => return Ok(Some(table)),
            Err(TextError {
                problem: TextProblem::OtherGpu(_),
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The same shape with as few slices as can tell its placements apart, and how many slices make one
/// of those; nothing if it has no fewer.
fn narrowed(geometry: &Geometry) -> Option<(u8, Geometry)> {
    let spots = geometry.spots().iter().map(|spot| spot.placement);
    let width = spots.fold(geometry.slices(), |width, placement| {
        gcd(gcd(width, placement.start), placement.size)
    });
    if width < 2 {
        return None;
    }
    let profile = |shape: &crate::Shape| {
        let places = placements(shape.windows).map(|id| geometry.spot(id).placement);
        Profile {
            name: shape.name,
            id: 0,
            placements: places
                .map(|p| Placement::new(p.start / width, p.size / width))
                .collect(),
            max_instances: shape.count,
            multiprocessors: 0,
            memory_mib: 0,
        }
    };
    let model = GpuModel {
        name: "narrowed".to_owned(),
        slices: geometry.slices() / width,
        profiles: geometry.profiles().iter().map(profile).collect(),
    };
    Geometry::with(&model, |_| true)
        .ok()
        .map(|narrow| (width, narrow))
}

fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A narrow slice is occupied if one of its slices is.
fn narrowed_mask(geometry: &Geometry, width: u8, mask: u16) -> u16 {
    let one = (1u16 << width) - 1;
    let narrow = 0..geometry.slices() / width;
    narrow.fold(0, |set, slice| {
        let occupied = mask >> (slice * width) & one != 0;
        set | u16::from(occupied) << slice
    })
}
