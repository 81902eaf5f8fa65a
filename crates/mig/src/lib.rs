//! The MIG model: what a GPU can be cut into, without I/O.
//!
//! A GPU has a row of memory slices ([`GpuModel::slices`]: 8 on A100 and H100, 4 on A30, 12 on RTX
//! PRO 6000). A [`Profile`] may stand at certain [`Placement`]s of that row, and a [`Layout`] is
//! what stands there now. A part of a GPU that is asked for as a number is a [`fraction`]. On a node the truth is what NVML says of its GPUs; the tables behind
//! [`GpuModel::known`] serve planning where there is no hardware to ask.
//!
//! ```
//! use mig::{GpuModel, Layout};
//!
//! let a100 = GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
//! let (three, profile) = a100.find(&"3g.20gb".parse()?).unwrap();
//! let (one, _) = a100.find(&"1g.5gb".parse()?).unwrap();
//! let mut layout = Layout::default();
//! layout.place(&a100, three, profile.placements[0]).unwrap();
//! layout.place(&a100, three, profile.placements[1]).unwrap();
//! // Two 3g instances use six compute slices of seven, but all of the memory slices.
//! assert_eq!(layout.remaining(&a100, one), 0);
//! # Ok::<(), mig::ParseProfileError>(())
//! ```

#![forbid(unsafe_code)]

pub mod fraction;
mod layout;
mod model;
mod name;
mod slices;
mod tables;

pub use layout::{Conflict, Layout, Occupant};
pub use model::{GpuModel, Profile, ProfileIndex};
pub use name::{Engines, GPU_RESOURCE, ParseProfileError, ProfileName, RESOURCE_PREFIX};
pub use slices::{MAX_SLICES, Placement, SliceMask};
