//! Wire types: the agent API and the kubelet's device-plugin and podresources APIs.
//!
//! Everything under `generated` is made from `protos/` by the test `generated_code_is_current`
//! (run it with `UPDATE_GENERATED=1` to renew) and checked in, so that no build needs a compiler
//! for protocol buffers.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)] // The generated code is not ours to polish.

pub mod codec;
pub mod pieces;

/// What the controller and a node's agent say to each other, version 1.
#[rustfmt::skip]
#[path = "generated/cdmo.agent.v1.rs"]
pub mod agent;

/// The kubelet's device-plugin API, version v1beta1, the only one.
#[rustfmt::skip]
#[path = "generated/v1beta1.rs"]
pub mod deviceplugin;

/// The kubelet's podresources API, version v1.
#[rustfmt::skip]
#[path = "generated/v1.rs"]
pub mod podresources;

/// The version word of a device-plugin registration.
pub const DEVICE_PLUGIN_VERSION: &str = "v1beta1";
/// Health of a device that may be allocated.
pub const HEALTHY: &str = "Healthy";
/// Health of a device that counts as capacity but may not be allocated.
pub const UNHEALTHY: &str = "Unhealthy";
