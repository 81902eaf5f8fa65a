//! Plots as SVG text. Pure: no files, no clock, and the same text from the same figures.
//!
//! The command line and the benchmarks draw the same things, and so they should look the same:
//! [`Chart`] is lines over a common axis with their error bars, [`Map`] is GPUs as rows of memory
//! slices. Colours are those of Okabe and Ito, which most people can tell
//! apart; names stand beside the lines in the same order.

#![forbid(unsafe_code)]

mod lines;
mod map;

pub use lines::{Chart, Line};
pub use map::{Gpu, Map, Piece};

use plotters::style::RGBColor;

/// A plot that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// There is nothing to draw, or what there is is not finite.
    #[error("failed to draw {title:?}: it has no finite point")]
    Nothing {
        /// Title of the plot.
        title: String,
    },
    /// The library refused.
    #[error("failed to draw {title:?}: {why}")]
    Draw {
        /// Title of the plot.
        title: String,
        /// What it says.
        why: String,
    },
}

/// Okabe and Ito, the strongest first; yellow is left out, since it cannot be read on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A colour for each number, repeated after the last.
fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

const FONT: &str = "sans-serif";
