//! A stand-in libnvidia-ml.so.1 that behaves as MIG hardware does.
//!
//! The cdylib is loaded by any NVML client in place of NVIDIA's library. It simulates the driver
//! of one host: its GPUs, MIG modes, instances, processes and errors are kept in a file that all
//! processes of that host share and that outlives them. A host is described in TOML, in the file
//! named by `FAKE_NVML_CONFIG`, else in `fake-nvml.toml` beside the library file (so that several
//! hosts can live in one process, each through its own copy of the library), else it is one
//! A100-SXM4-40GB with MIG mode off. The crate's README describes the file.
//!
//! The rlib is for tests, demo and embedded cluster: [`control`] does what no NVML call can
//! (reboots, processes, errors), [`testing`] finds and installs the cdylib.
//!
//! Layers, each using only those before it: [`model`] (pure), `host` and `triggers` (state),
//! `config`, `store` (files), `session`, then the C ABI in `ffi`, the only place with `unsafe`.

pub mod calls;
mod config;
pub mod control;
mod events;
#[expect(unsafe_code, reason = "a C ABI is made of raw pointers")]
mod ffi;
mod handle;
mod host;
pub mod model;
mod session;
mod store;
#[doc(hidden)]
pub mod testing;
mod triggers;
