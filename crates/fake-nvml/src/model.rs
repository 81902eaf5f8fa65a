//! What the driver and the hardware do, without files, time or a C ABI.
//!
//! The model is built from the driver's own instance-id tree (see [`grid`]), not from tables of
//! placements, so that it can be held against tables that were read off real machines.

pub mod board;
pub mod code;
pub mod compute;
pub mod gpu;
pub mod grid;
pub mod mode;

pub use board::{Board, Profile};
pub use code::Code;
pub use gpu::{Chip, Gpu};
pub use grid::{Grid, Placement, Shape};
