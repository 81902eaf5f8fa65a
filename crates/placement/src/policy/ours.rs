//! Our own policy: a table that was trained in simulation, one for each shape of GPU.
//!
//! The value of a mask is a weighted sum of its structural features ([`crate::Features`]); the score
//! of a placement is the value after it less the value before. Training searches the weights; what
//! it found is checked in as text, with how it was found. For GPUs that nobody trained a table for,
//! [`super::fewest_blocked`] is the best rule that needs no training.

use super::fewest_blocked;
use crate::{
    geometry::Geometry,
    score::ScoreTable,
    text::{TextError, TextProblem},
};

/// The tables that are checked in.
const TABLES: [&str; 2] = [
    include_str!("../../tables/eight-slices.txt"),
    include_str!("../../tables/four-slices.txt"),
];

/// The table for GPUs of this shape.
///
/// # Errors
/// If a table that is checked in is damaged, which the tests rule out.
pub fn ours(geometry: &Geometry) -> Result<ScoreTable, TextError> {
    for text in TABLES {
        match ScoreTable::from_text(text, geometry) {
            Ok((table, _)) => return Ok(table),
            Err(TextError {
                problem: TextProblem::OtherGpu(_),
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(fewest_blocked(geometry))
}
