//! A kubelet device-plugin server for devices that come and go.
//!
//! The kubelet's device-plugin interface was made for devices that exist from boot to shutdown. Here
//! they are created, offered, granted, withdrawn and destroyed all day, and no device may ever be
//! destroyed that a pod holds or is about to get. This library owns that part of the work: one
//! long-lived endpoint per resource name ([`Plugins::ensure`]), the protocols Offer
//! ([`Plugins::offer`]), Hold ([`Ledger`], [`Evidence`]) and Withdraw ([`Plugins::withdraw`],
//! [`Plugins::fence`], [`Plugins::forget`], [`Plugins::reinstate`]), and what is known of it all
//! ([`Plugins::state`]).
//!
//! The decisions are state machines without I/O; tasks around them talk to the kubelet. There is one
//! task per resource and none per device.

mod answer;
mod checkpoint;
mod config;
mod contest;
mod device;
mod directory;
mod endpoint;
mod error;
mod expected;
mod hold;
mod journal;
mod kubelet;
mod listing;
mod looks;
mod pace;
mod plugins;
mod prefer;
mod quiet;
mod service;
mod shared;
mod socket;
mod spec;
mod state;

pub use config::{Config, DeviceListStrategy, Timing};
pub use error::{EnsureError, Error, OfferError, StillHeld, WithdrawError};
pub use expected::Expected;
pub use hold::{Claim, Evidence, Hold, Holder, Ledger, LedgerError};
pub use listing::{Listing, Shown};
pub use plugins::{Fenced, Plugins, Withdrawn};
pub use spec::{Device, DeviceSpec};
pub use state::{DevicePhase, DeviceState, HoldState, PluginState, Registration, ResourceState};
