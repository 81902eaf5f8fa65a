//! The C ABI of `nvml.h`: thin functions that turn arguments into questions to the model.
//!
//! No function here follows a handle or unwinds into C: handles are numbers that are looked up,
//! and a panic becomes `NVML_ERROR_UNKNOWN`.

mod abi;
mod compute;
mod device;
mod event;
mod guard;
mod instance;
mod library;
mod mig;
mod pointers;
mod process;
mod profile;
