//! Pictures of results as SVG: small enough to be checked in, plain enough to be compared as text.
//!
//! A picture depends on its data alone. Numbers are written with one decimal, so that it is the same
//! on every machine.

mod gpus;
mod lines;
mod scale;
mod svg;

pub use gpus::GpuMap;
pub use lines::{LineChart, Series};

/// Colours that stay apart for colour-blind readers (Okabe and Ito), black first.
const COLOURS: [&str; 8] = [
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a89f00",
];

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

#[cfg(test)]
mod tests;
