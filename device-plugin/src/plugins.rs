//! The handle through which the agent drives everything.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Device, EnsureError, Error, Evidence, Hold, Ledger, OfferError, PluginState, StillHeld,
    WithdrawError,
};

/// All device plugins of one node. Clones are the same thing.
#[derive(Clone)]
pub struct Plugins {
    state: watch::Sender<Arc<PluginState>>,
}

/// Proof that the kubelet no longer gives a device out (steps 4 and 5 of Withdraw). Dropping it
/// offers the device again.
#[must_use = "dropping it offers the device again"]
#[derive(Debug)]
pub struct Withdrawn {
    resource: String,
    id: String,
}

/// Proof that nobody holds a device and nobody will (steps 7 and 8 of Withdraw). Dropping it leaves
/// the device fenced, because a device may be half destroyed by then.
#[must_use = "forget it after the destroy was read back, or reinstate it"]
#[derive(Debug)]
pub struct Fenced {
    resource: String,
    id: String,
}

impl Withdrawn {
    /// The resource name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The device id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Fenced {
    /// The resource name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The device id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What can be offered again: a [`Withdrawn`] or a [`Fenced`] device.
#[derive(Debug)]
pub struct Reinstate(());

impl From<Withdrawn> for Reinstate {
    fn from(_: Withdrawn) -> Self {
        Self(())
    }
}

impl From<Fenced> for Reinstate {
    fn from(_: Fenced) -> Self {
        Self(())
    }
}

impl Plugins {
    /// Starts without any endpoint but those of `adopted_holds`, which are the holds of the journal.
    /// An adopted device is listed as unhealthy until it is offered, and dropped once it is proven
    /// free. Must be called within a tokio runtime; everything ends when `shutdown` is cancelled.
    pub async fn start(
        config: Config,
        _ledger: Arc<dyn Ledger>,
        _evidence: Arc<dyn Evidence>,
        _adopted_holds: Vec<Hold>,
        _shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let _ = config;
        Ok(Self {
            state: watch::Sender::new(Arc::default()),
        })
    }

    /// Serves the resource and registers it with the kubelet, at zero devices too, from now until
    /// shutdown. Returns at once; [`Plugins::state`] tells when the kubelet reads the list.
    pub async fn ensure(&self, _resource: &str) -> Result<(), EnsureError> {
        Ok(())
    }

    /// Lists the device as healthy and waits until the kubelet is known to give it out. Serves the
    /// resource if needed. Also for a device that an adopted hold names, and again for one that is
    /// offered already (its device nodes are renewed).
    pub async fn offer(&self, _resource: &str, _device: Device) -> Result<(), OfferError> {
        Ok(())
    }

    /// Steps 4 and 5 of Withdraw: tells the kubelet that the device is unhealthy and waits until it
    /// is known not to give it out any more. Refused while a pod holds it.
    pub async fn withdraw(&self, resource: &str, id: &str) -> Result<Withdrawn, WithdrawError> {
        Ok(Withdrawn {
            resource: resource.to_owned(),
            id: id.to_owned(),
        })
    }

    /// Steps 7 and 8 of Withdraw: refuses every grant from here on, atomically with the check that
    /// there is no hold, then asks for the four proofs.
    pub async fn fence(&self, withdrawn: Withdrawn) -> Result<Fenced, StillHeld> {
        Ok(Fenced {
            resource: withdrawn.resource,
            id: withdrawn.id,
        })
    }

    /// Drops the device from the list. Only after its destruction was read back, or when it moves to
    /// another resource name.
    pub async fn forget(&self, _fenced: Fenced) {}

    /// Offers the device again, because of any doubt.
    pub async fn reinstate(&self, _device: impl Into<Reinstate>) {}

    /// The device is faulty: listed as unhealthy, not granted. Its holder keeps it.
    pub async fn mark_unhealthy(&self, _resource: &str, _id: &str, _reason: &str) {}

    /// The fault is gone.
    pub async fn mark_healthy(&self, _resource: &str, _id: &str) {}

    /// The device vanished (a GPU reset): listed as unhealthy until no pod holds it, then dropped.
    pub async fn lose(&self, _resource: &str, _id: &str) {}

    /// Something about the node's pods changed, so a hold may have ended.
    pub fn recheck(&self) {}

    /// The present state and every change of it.
    pub fn state(&self) -> watch::Receiver<Arc<PluginState>> {
        self.state.subscribe()
    }

    /// Ends when everything that was started has ended, after shutdown.
    pub async fn closed(&self) {}
}
