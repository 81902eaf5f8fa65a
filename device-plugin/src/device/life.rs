//! Offer, Withdraw, Fence, Forget, Reinstate, and the ways a device goes bad.

use super::Table;
use super::entry::Entry;
use crate::{Device, DevicePhase, Hold, Holder};

/// Why a device cannot be offered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OfferRefusal {
    /// Listed under this other name: two pods could get it.
    Elsewhere(String),
    Withdrawing,
}

/// Why a device cannot be withdrawn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WithdrawRefusal {
    NotListed,
    Held(Vec<Holder>),
    NotOffered(DevicePhase),
}

/// Why a device cannot be fenced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FenceRefusal {
    Held(Vec<Holder>),
    /// It was lost or offered again since.
    Void,
}

/// How far an offer or a withdrawal is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The kubelet does not read the list.
    Unread,
    /// The list was handed over; the kubelet has not been seen to act on it.
    Unsettled,
    /// The kubelet acts on it.
    Settled,
    /// A pod took the device meanwhile.
    Held(Vec<Holder>),
    /// It is not given out, for this reason.
    Sick(String),
    /// It is in another phase now.
    Void,
}

impl Table {
    /// Lists the device as healthy.
    pub(crate) fn offer(&mut self, resource: &str, device: Device) -> Result<(), OfferRefusal> {
        if let Some(other) = self.resources.iter().find_map(|(name, other)| {
            let listed = other
                .entries
                .iter()
                .any(|entry| entry.device.id == device.id);
            (name != resource && listed).then_some(name)
        }) {
            return Err(OfferRefusal::Elsewhere(other.clone()));
        }
        let name = resource;
        let resource = self.resources.entry(name.to_owned()).or_default();
        let filed = self.filed.as_ref();
        let filed = filed.filter(|(begun, _)| *begun > resource.untold);
        let filed = filed.map(|(_, seen)| seen.has(name, &device.id));
        let known = resource
            .entries
            .iter()
            .find(|entry| entry.device.id == device.id);
        match known.map(|entry| entry.phase) {
            None => {
                resource.version += 1;
                resource.entries.push(Entry::offered(
                    device,
                    resource.version,
                    !resource.murky,
                    filed,
                ));
            }
            Some(DevicePhase::Withdrawing | DevicePhase::Fenced) => {
                return Err(OfferRefusal::Withdrawing);
            }
            Some(phase @ (DevicePhase::Offered | DevicePhase::Lost)) => {
                let id = device.id.clone();
                resource.change(&id, |entry| {
                    entry.device = device;
                    entry.phase = DevicePhase::Offered;
                    if phase == DevicePhase::Lost {
                        entry.sick = None;
                    }
                });
            }
        }
        Ok(())
    }

    /// How far the offer of this device is.
    pub(crate) fn offer_progress(&self, resource: &str, id: &str) -> Progress {
        match self.entry(resource, id) {
            Some(entry) if entry.phase == DevicePhase::Offered => entry
                .ailment()
                .map_or_else(|| settled(entry), Progress::Sick),
            _ => Progress::Void,
        }
    }

    /// Lists the device as unhealthy, to be given up. Returns the withdrawal's ticket.
    pub(crate) fn withdraw(&mut self, resource: &str, id: &str) -> Result<u64, WithdrawRefusal> {
        let ticket = self.next_serial();
        let entry = self.entry(resource, id).ok_or(WithdrawRefusal::NotListed)?;
        if entry.phase != DevicePhase::Offered {
            return Err(WithdrawRefusal::NotOffered(entry.phase));
        }
        if entry.grip.is_some() {
            return Err(WithdrawRefusal::Held(entry.holders.clone()));
        }
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.change(id, |entry| {
                entry.phase = DevicePhase::Withdrawing;
                entry.ticket = ticket;
            });
        }
        Ok(ticket)
    }

    /// How far the withdrawal is.
    pub(crate) fn withdraw_progress(&self, resource: &str, id: &str, ticket: u64) -> Progress {
        match self.entry(resource, id) {
            Some(entry) if entry.is(DevicePhase::Withdrawing, ticket) => {
                if entry.grip.is_some() {
                    Progress::Held(entry.holders.clone())
                } else {
                    settled(entry)
                }
            }
            _ => Progress::Void,
        }
    }

    /// From here on every grant is refused. What is returned is to be proven free.
    pub(crate) fn fence(
        &mut self,
        resource: &str,
        id: &str,
        ticket: u64,
    ) -> Result<Hold, FenceRefusal> {
        let Some(entry) = self.entry_mut(resource, id) else {
            return Err(FenceRefusal::Void);
        };
        if !entry.is(DevicePhase::Withdrawing, ticket) {
            return Err(FenceRefusal::Void);
        }
        if entry.grip.is_some() {
            return Err(FenceRefusal::Held(entry.holders.clone()));
        }
        // Withdrawing and fenced are both listed as unhealthy: nothing to tell the kubelet.
        entry.phase = DevicePhase::Fenced;
        Ok(Hold {
            resource: resource.to_owned(),
            id: id.to_owned(),
            holders: entry.holders.clone(),
        })
    }

    /// The device is fenced by this withdrawal: not lost, nor offered anew since.
    pub(crate) fn fenced(&self, resource: &str, id: &str, ticket: u64) -> bool {
        self.entry(resource, id)
            .is_some_and(|entry| entry.is(DevicePhase::Fenced, ticket))
    }

    /// Drops a fenced device from the list.
    pub(crate) fn forget(&mut self, resource: &str, id: &str, ticket: u64) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.keep(|entry| entry.device.id != id || !entry.is(DevicePhase::Fenced, ticket));
        }
    }

    /// Offers a withdrawing or fenced device again.
    pub(crate) fn reinstate(&mut self, resource: &str, id: &str, ticket: u64) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.change(id, |entry| {
                if entry.is(DevicePhase::Withdrawing, ticket)
                    || entry.is(DevicePhase::Fenced, ticket)
                {
                    entry.phase = DevicePhase::Offered;
                }
            });
        }
    }

    /// The device is faulty (`Some`) or works again (`None`).
    pub(crate) fn set_sick(&mut self, resource: &str, id: &str, sick: Option<String>) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.change(id, |entry| entry.sick = sick);
        }
    }

    /// The device is gone. It stays listed until nobody holds it and the kubelet knows.
    pub(crate) fn lose(&mut self, resource: &str, id: &str) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.change(id, |entry| entry.phase = DevicePhase::Lost);
        }
        self.sweep();
    }

    /// Drops lost devices that nobody holds and that the kubelet is known not to give out.
    pub(super) fn sweep(&mut self) {
        for resource in self.resources.values_mut() {
            resource.keep(|entry| {
                entry.phase != DevicePhase::Lost || entry.grip.is_some() || !entry.told.settled
            });
        }
    }
}

impl Entry {
    fn is(&self, phase: DevicePhase, ticket: u64) -> bool {
        self.phase == phase && self.ticket == ticket
    }
}

fn settled(entry: &Entry) -> Progress {
    match (&entry.told.delivered, entry.told.settled) {
        (_, true) => Progress::Settled,
        (Some(_), false) => Progress::Unsettled,
        (None, false) => Progress::Unread,
    }
}
