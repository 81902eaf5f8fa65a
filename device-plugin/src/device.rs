//! The life of every device: one table of states and legal events, without I/O.
//!
//! All of Offer, Hold and Withdraw is decided here, under one lock, so that "grant" and "fence" can
//! never both succeed. Whoever talks to the kubelet reports what happened and asks what is allowed.
//!
//! Two clocks are used. `tick` orders events: a look at the kubelet proves something about a list or
//! a grant only if it began after that list was handed over or that grant was answered. Real time
//! (tokio's) bounds the waits where the kubelet gives no proof.

mod entry;
mod grant;
mod life;
mod seen;
mod view;

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::entry::Entry;
pub(crate) use self::grant::{Grant, GrantError};
pub(crate) use self::life::{FenceRefusal, OfferRefusal, Progress, WithdrawRefusal};
pub(crate) use self::seen::{Contest, Held, Seen, Unclear};
#[cfg(test)]
pub(crate) use self::view::Grasp;
pub(crate) use self::view::{Candidate, List};
use crate::listing::Allocatable;
use crate::{Hold, Listing, Timing};

/// Names a logical moment; later is greater.
pub(crate) type Tick = u64;

/// The waits of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) blind_wait: Duration,
    pub(crate) unseen_for: Duration,
    pub(crate) unseen_rounds: u32,
    pub(crate) starved_after: Duration,
}

impl From<&Timing> for Rules {
    fn from(timing: &Timing) -> Self {
        Self {
            blind_wait: timing.blind_wait,
            unseen_for: timing.unseen_for,
            unseen_rounds: timing.unseen_rounds,
            starved_after: timing.starved_after,
        }
    }
}

/// All devices of the node.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rules: Rules,
    resources: BTreeMap<String, Resource>,
    tick: Tick,
    /// Names grants, withdrawals and readers, so that a late message about an old one is recognised.
    serial: u64,
    /// The kubelet's checkpoint as last read, and when that began.
    filed: Option<(Tick, Allocatable)>,
    /// When the last List began that is written down, and what it showed.
    looked: Tick,
    listing: Arc<Listing>,
}

/// The devices of one resource name, in the order offered.
#[derive(Clone, Debug, Default)]
struct Resource {
    /// Version of the list; rises with every change of it.
    version: u64,
    /// The `ListAndWatch` stream that the kubelet reads, if any.
    reader: Option<u64>,
    /// When it was opened, or the one before it closed. A checkpoint read earlier tells of another stream.
    untold: Tick,
    /// A device left the list while an older list about it may have been on its way to the reader.
    murky: bool,
    entries: Vec<Entry>,
}

impl Table {
    /// A table whose only devices are those that the journal says are held.
    pub(crate) fn new(rules: Rules, adopted: Vec<Hold>, now: Instant) -> Self {
        let mut table = Self {
            rules,
            resources: BTreeMap::new(),
            tick: 0,
            serial: 0,
            filed: None,
            looked: 0,
            listing: Arc::default(),
        };
        for hold in adopted {
            let serial = table.next_serial();
            let resource = table.resources.entry(hold.resource).or_default();
            if resource
                .entries
                .iter()
                .all(|entry| entry.device.id != hold.id)
            {
                resource.version += 1;
                let version = resource.version;
                resource
                    .entries
                    .push(Entry::adopted(hold.id, hold.holders, version, serial, now));
            }
        }
        table
    }

    /// The resource exists from now on, be it without devices.
    pub(crate) fn ensure(&mut self, resource: &str) {
        if !self.resources.contains_key(resource) {
            self.resources
                .insert(resource.to_owned(), Resource::default());
        }
    }

    /// The kubelet opened a stream of this resource's list. It knows nothing of it yet.
    pub(crate) fn reader_opened(&mut self, resource: &str) -> u64 {
        let serial = self.next_serial();
        let tick = self.begin_observation();
        let resource = self.resources.entry(resource.to_owned()).or_default();
        resource.reader = Some(serial);
        resource.untell(tick);
        serial
    }

    /// A stream ended. The kubelet regards the devices as unhealthy if it was the newest.
    pub(crate) fn reader_closed(&mut self, resource: &str, reader: u64) {
        let tick = self.begin_observation();
        if let Some(resource) = self.resources.get_mut(resource)
            && resource.reader == Some(reader)
        {
            resource.reader = None;
            resource.untell(tick);
        }
    }

    /// A list was handed over to the stream's transport.
    pub(crate) fn delivered(&mut self, resource: &str, reader: u64, version: u64, now: Instant) {
        self.tick += 1;
        let tick = self.tick;
        if let Some(resource) = self.resources.get_mut(resource)
            && resource.reader == Some(reader)
        {
            for entry in &mut resource.entries {
                entry.delivered(version, tick, now);
            }
        }
    }

    /// A look at the kubelet begins now.
    pub(crate) fn begin_observation(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn entry(&self, resource: &str, id: &str) -> Option<&Entry> {
        self.resources
            .get(resource)?
            .entries
            .iter()
            .find(|entry| entry.device.id == id)
    }

    fn entry_mut(&mut self, resource: &str, id: &str) -> Option<&mut Entry> {
        self.resources
            .get_mut(resource)?
            .entries
            .iter_mut()
            .find(|entry| entry.device.id == id)
    }
}

impl Resource {
    /// The kubelet no longer reads our list, or begins to read it anew.
    fn untell(&mut self, now: Tick) {
        self.murky = false;
        self.untold = now;
        self.entries.iter_mut().for_each(Entry::untell);
    }

    /// Drops the entries that need not stay.
    fn keep(&mut self, stays: impl Fn(&Entry) -> bool) {
        let before = self.entries.len();
        self.murky |= self
            .entries
            .iter()
            .any(|entry| !stays(entry) && !entry.told.clear);
        self.entries.retain(stays);
        self.version += u64::from(self.entries.len() != before);
    }

    /// Changes one entry; what the kubelet knows of it is void if its health changed with that.
    fn change<R>(&mut self, id: &str, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| entry.device.id == id)?;
        let before = entry.healthy();
        let result = change(entry);
        if entry.healthy() != before {
            self.version += 1;
            entry.retell(self.version);
        }
        Some(result)
    }
}
