//! The MIG life cycle over NVML: look, create, complete, destroy, watch.
//!
//! [`nvml_wrapper`] does the loading and the plain reads. What it lacks or does wrongly (creating
//! and destroying instances, placements, names, events with instance ids) goes straight to the
//! library's functions, behind a thin layer in `raw`, the only place with `unsafe`. Which profile
//! an instance needs, what it is called and what an error means is decided in plain functions.
//!
//! No function is called that the library does not have: an old driver gives
//! [`Error::MissingFunction`], never a panic. Handles of instances are fetched anew for every
//! operation, since other programs may destroy what they point to.
//!
//! All calls block; the driver takes up to seconds for changes.
//!
//! ```no_run
//! use nvml_mig::{MigMode, Nvml};
//!
//! let nvml = Nvml::load(None)?;
//! for gpu in nvml.gpus() {
//!     if nvml.mig_mode(&gpu.uuid)? == MigMode::On {
//!         println!("{}: {:?}", gpu.uuid, nvml.instances(&gpu.uuid)?);
//!     }
//! }
//! # Ok::<(), nvml_mig::Error>(())
//! ```

mod code;
mod compute;
mod destroy;
mod error;
mod events;
mod instances;
mod nvml;
mod processes;
mod profiles;
#[expect(
    unsafe_code,
    reason = "NVML is a C library; every block says why it is sound"
)]
mod raw;
mod types;

pub use code::Code;
pub use destroy::DestroyError;
pub use error::Error;
pub use events::{EventWatch, Xid};
pub use nvml::Nvml;
pub use processes::{Process, ProcessKind};
pub use types::{Activation, ComputeInstance, GpuInfo, GpuInstance, MigMode};
