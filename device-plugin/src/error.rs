//! What can go wrong at the public face, each as one sentence.

use std::path::PathBuf;
use std::time::Duration;

use crate::{DevicePhase, Holder};

/// The library could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plugin directory is not there.
    #[error(
        "failed to open the kubelet's device-plugin directory {}; mount the host's directory there",
        path.display()
    )]
    PluginDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The socket prefix cannot be part of a file name.
    #[error("failed to use {prefix:?} as socket prefix; use letters, digits and '-'")]
    SocketPrefix {
        /// The prefix.
        prefix: String,
    },
}

/// A resource name cannot have an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// Not the name of an extended resource.
    #[error("failed to serve resource {resource:?}: {why}")]
    ResourceName {
        /// The name.
        resource: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A unix socket's path has at most 107 bytes.
    #[error(
        "failed to serve resource {resource}: the socket path {} has more than 107 bytes; \
         use a shorter device-plugin directory",
        path.display()
    )]
    SocketPath {
        /// The resource.
        resource: String,
        /// The shortest path there is.
        path: PathBuf,
    },
    /// The library was shut down.
    #[error("failed to serve resource {resource}: the device plugins are shut down")]
    Closed {
        /// The resource.
        resource: String,
    },
}

impl EnsureError {
    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::ResourceName { .. } => "resource_name",
            Self::SocketPath { .. } => "socket_path",
            Self::Closed { .. } => "closed",
        }
    }
}

/// A device was not offered, or not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The resource cannot have an endpoint. Nothing was offered.
    #[error(transparent)]
    Ensure(#[from] EnsureError),
    /// The id cannot be a device id. Nothing was offered.
    #[error("failed to offer {id:?}: a device id has 1 to 63 letters, digits, '-', '_' or '.'")]
    DeviceId {
        /// The id.
        id: String,
    },
    /// The id is listed under another resource name. Nothing was offered.
    #[error("failed to offer {id} as {resource}: it is still listed as {other}")]
    Elsewhere {
        /// The id.
        id: String,
        /// The resource it was to be offered under.
        resource: String,
        /// The resource it is listed under.
        other: String,
    },
    /// The id is being withdrawn. Nothing was offered.
    #[error("failed to offer {id} as {resource}: it is being withdrawn")]
    Withdrawing {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
    },
    /// The device is listed and stays so, but the kubelet has not confirmed it in time;
    /// [`Plugins::state`](crate::Plugins::state) tells when it does.
    #[error(
        "{resource} {id} is offered, but the kubelet did not confirm it within {after:?}: {why}"
    )]
    Unconfirmed {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// How long was waited.
        after: Duration,
        /// What was missing.
        why: String,
    },
}

impl OfferError {
    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Ensure(error) => error.category(),
            Self::DeviceId { .. } => "device_id",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Withdrawing { .. } => "withdrawing",
            Self::Unconfirmed { .. } => "unconfirmed",
        }
    }
}

/// A device was not withdrawn; it is offered as before.
#[derive(Debug, thiserror::Error)]
pub enum WithdrawError {
    /// The resource has no such device.
    #[error("failed to withdraw {id}: it is not listed as {resource}")]
    NotListed {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
    },
    /// A pod holds it, or took it while it was being withdrawn.
    #[error("failed to withdraw {resource} {id}: it is held{}", by(holders))]
    Held {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// As in [`Hold::holders`](crate::Hold::holders).
        holders: Vec<Holder>,
    },
    /// It is not offered, so it cannot be withdrawn.
    #[error("failed to withdraw {resource} {id}: it is {phase:?} already")]
    NotOffered {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// Where it is in its life.
        phase: DevicePhase,
    },
    /// The kubelet did not show in time that it read the list.
    #[error("failed to withdraw {resource} {id} within {after:?}: {why}")]
    Unconfirmed {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// How long was waited.
        after: Duration,
        /// What was missing.
        why: String,
    },
}

impl WithdrawError {
    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "not_listed",
            Self::Held { .. } => "held",
            Self::NotOffered { .. } => "not_offered",
            Self::Unconfirmed { .. } => "unconfirmed",
        }
    }
}

/// A device was not fenced, because it is not proven that nobody holds it; it is offered again.
#[derive(Debug, thiserror::Error)]
pub enum StillHeld {
    /// A pod took it after it was withdrawn.
    #[error("failed to fence {resource} {id}: it is held{}", by(holders))]
    Granted {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// As in [`Hold::holders`](crate::Hold::holders).
        holders: Vec<Holder>,
    },
    /// One of the four proofs failed.
    #[error("failed to fence {resource} {id}: {why}")]
    Doubt {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
        /// Which one and why.
        why: String,
    },
    /// The device was lost in the meantime; it is not offered again.
    #[error("failed to fence {resource} {id}: it is no longer being withdrawn")]
    Void {
        /// The id.
        id: String,
        /// The resource.
        resource: String,
    },
}

impl StillHeld {
    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Granted { .. } => "held",
            Self::Doubt { .. } => "doubt",
            Self::Void { .. } => "void",
        }
    }
}

/// " by a/b (c)", or nothing while no holder is known.
fn by(holders: &[Holder]) -> String {
    holders
        .last()
        .map(|holder| format!(" by {holder}"))
        .unwrap_or_default()
}
