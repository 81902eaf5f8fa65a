//! Tokens that carry what is proven about a device, and give it back when dropped.

use std::sync::Arc;

use crate::shared::Shared;

/// A withdrawal of one device.
#[derive(Clone)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    pub(super) resource: String,
    pub(super) id: String,
    pub(super) number: u64,
}

impl Ticket {
    pub(super) fn new(shared: &Arc<Shared>, resource: &str, id: &str, number: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            resource: resource.to_owned(),
            id: id.to_owned(),
            number,
        }
    }

    fn reinstate(&self) {
        self.shared
            .change(|table| table.reinstate(&self.resource, &self.id, self.number));
    }

    fn forget(&self) {
        self.shared
            .change(|table| table.forget(&self.resource, &self.id, self.number));
    }
}

/// Proof that the kubelet no longer gives a device out (steps 4 and 5 of Withdraw). Dropping it
/// offers the device again.
#[must_use = "dropping it offers the device again"]
pub struct Withdrawn {
    ticket: Ticket,
    armed: bool,
}

/// Proof that nobody holds a device and nobody will (steps 7 and 8 of Withdraw). Dropping it leaves
/// the device fenced, because a device may be half destroyed by then.
#[must_use = "forget it after the destroy was read back, or reinstate it"]
pub struct Fenced {
    ticket: Ticket,
}

impl Withdrawn {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self {
            ticket,
            armed: true,
        }
    }

    /// The resource name.
    pub fn resource(&self) -> &str {
        &self.ticket.resource
    }

    /// The device id.
    pub fn id(&self) -> &str {
        &self.ticket.id
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    pub(super) fn into_fenced(mut self) -> Fenced {
        self.armed = false;
        Fenced {
            ticket: self.ticket.clone(),
        }
    }
}

impl Drop for Withdrawn {
    fn drop(&mut self) {
        if self.armed {
            self.ticket.reinstate();
        }
    }
}

impl Fenced {
    /// The resource name.
    pub fn resource(&self) -> &str {
        &self.ticket.resource
    }

    /// The device id.
    pub fn id(&self) -> &str {
        &self.ticket.id
    }

    pub(super) fn forget(self) {
        self.ticket.forget();
    }
}

/// Takes the proof back: dropping the result offers the device again.
impl From<Fenced> for Withdrawn {
    fn from(fenced: Fenced) -> Self {
        Self::new(fenced.ticket)
    }
}

impl std::fmt::Debug for Withdrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Withdrawn({} {})", self.resource(), self.id())
    }
}

impl std::fmt::Debug for Fenced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fenced({} {})", self.resource(), self.id())
    }
}
