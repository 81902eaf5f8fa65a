//! The whole system on the embedded cluster: simulated GPUs, certificates, the agents as a
//! `DaemonSet`, the controller as a pod, all of them real processes.
//!
//! The demo, the benchmarks and the scenarios differ in what they do with it and in what they
//! show; how it is put together, how a pod's way is followed and what counts as right is here,
//! once.

#![forbid(unsafe_code)]

pub mod binaries;
pub mod certs;
pub mod driver;
pub mod hardware;
pub mod http;
pub mod journey;
pub mod manifests;
pub mod names;
pub mod nvidia;
pub mod observer;
pub mod picture;
pub mod system;
pub mod verdict;
