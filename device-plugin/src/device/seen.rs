//! What looks at the kubelet prove: confirmations of offers and withdrawals, and ends of holds.

use std::sync::Arc;

use tokio::time::Instant;

use super::entry::{Entry, Grip};
use super::{Resource, Table, Tick};
use crate::listing::Allocatable;
use crate::{DevicePhase, Hold, Holder, Listing};

/// A hold as it was at a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The device and its holders.
    pub(crate) hold: Hold,
    /// Names the last grant: if another one followed, nothing said about this hold counts.
    pub(crate) serial: u64,
}

/// A device whose former holders may still use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contest {
    /// The hold, with the former holders that are known.
    pub(crate) held: Held,
    /// There may be one that podresources never showed.
    pub(crate) unseen: bool,
    /// Whom podresources shows with it by now.
    pub(crate) present: Option<Holder>,
    /// Whose it is has to become clear first.
    pub(crate) unclear: Option<Unclear>,
}

/// Why it is not known which pod has a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    /// podresources was not asked since.
    #[error("the kubelet has not said yet which pod has it")]
    Untold,
    /// Two pods at once, as podresources says.
    #[error("the kubelet gave it to both {} and {}, and one of the two pods has to end first", .0.0, .0.1)]
    Rivals(Box<(Holder, Holder)>),
}

/// What a List means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Holds that no longer show, to be put to the other proofs.
    pub(crate) quiet: Vec<Held>,
    /// Devices that a pod has without a hold in the journal (we took over from another plugin, or the
    /// journal was lost or failed): held from now on, to be written down. Told at every look until
    /// [`Table::journaled`].
    pub(crate) found: Vec<(String, String)>,
    /// Containers newly seen with a device, to be written down.
    pub(crate) named: Vec<(String, String, Holder)>,
}

impl Table {
    /// Some device awaits a look at the kubelet's healthy devices.
    pub(crate) fn unsettled(&self) -> bool {
        self.entries()
            .any(|entry| entry.told.delivered.is_some() && !entry.told.settled)
    }

    /// Some device is listed.
    pub(crate) fn any_listed(&self) -> bool {
        self.entries().next().is_some()
    }

    /// Some device is held, so List has to be looked at now and then.
    pub(crate) fn any_held(&self) -> bool {
        self.entries()
            .any(|entry| entry.grip.is_some() || entry.elsewhere.is_some())
    }

    /// An answer of `GetAllocatableResources` that was asked for at `begun`.
    pub(crate) fn saw_allocatable(&mut self, begun: Tick, seen: &Allocatable) {
        for (name, resource) in &mut self.resources {
            for entry in resource
                .entries
                .iter_mut()
                .filter(|entry| entry.told_before(begun))
            {
                let present = seen.has(name, &entry.device.id);
                match (entry.healthy(), present) {
                    (true, true) => entry.settle(),
                    (true, false) => entry.told.settled = false,
                    (false, true) => {
                        entry.told.rounds = 0;
                        entry.told.settled = false;
                    }
                    (false, false) => {
                        entry.told.rounds += 1;
                        if entry.told.rounds >= entry.rounds_needed() {
                            entry.settle();
                        }
                    }
                }
            }
        }
        self.sweep();
    }

    /// What the checkpoint of a kubelet without `GetAllocatableResources` says, read at `begun`.
    ///
    /// The kubelet writes it after it took a list over, but not when a stream ends, so what it says
    /// may be old. It proves something only where it said otherwise before, while the kubelet read the
    /// same stream, and nothing at all if an older list that says the same may still be on its way.
    pub(crate) fn saw_checkpoint(&mut self, begun: Tick, seen: Allocatable) {
        for (name, resource) in &mut self.resources {
            if begun <= resource.untold {
                continue;
            }
            for entry in &mut resource.entries {
                entry.read_in_file(seen.has(name, &entry.device.id), begun);
            }
        }
        self.filed = Some((begun, seen));
        self.sweep();
    }

    /// A kubelet without `GetAllocatableResources` answered something that it was asked at `begun`.
    pub(crate) fn saw_round_trip(&mut self, begun: Tick, now: Instant) {
        let wait = self.rules.blind_wait;
        for resource in self.resources.values_mut() {
            for entry in resource
                .entries
                .iter_mut()
                .filter(|entry| entry.told_before(begun))
            {
                entry.told.rounds += 1;
                let waited = entry
                    .told
                    .delivered
                    .is_some_and(|(_, at)| now.duration_since(at) >= wait);
                if waited && entry.told.rounds >= 2 {
                    entry.settle();
                }
            }
        }
        self.sweep();
    }

    /// Resources whose list the kubelet reads but of which it shows no healthy device for long.
    pub(crate) fn starved(&self, now: Instant) -> Vec<String> {
        let long = |entry: &Entry| {
            let at = entry.told.delivered.map(|(_, at)| now.duration_since(at));
            at.is_some_and(|waited| waited >= self.rules.starved_after)
        };
        let starving = |resource: &Resource| {
            let healthy = || resource.entries.iter().filter(|entry| entry.healthy());
            healthy().any(long) && healthy().all(|entry| !entry.told.settled)
        };
        let names = self
            .resources
            .iter()
            .filter(|(_, resource)| starving(resource));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// An answer of List that was asked for at `begun`.
    pub(crate) fn saw_list(&mut self, begun: Tick, listing: &Listing, now: Instant) -> Seen {
        let mut seen = Seen::default();
        self.find_unknown(listing, now);
        self.find_elsewhere(listing);
        let serial = &mut self.serial;
        for (name, resource) in &mut self.resources {
            for entry in &mut resource.entries {
                let id = entry.device.id.clone();
                let holders: Vec<_> = listing.holders(name, &id).collect();
                if !holders.is_empty() && entry.grip.is_none() {
                    if entry.phase == DevicePhase::Fenced {
                        // Proven free after the fence, so this answer is older than the proof.
                        continue;
                    }
                    *serial += 1;
                    entry.grip = Some(Grip::found(*serial, now));
                }
                let Some(grip) = &mut entry.grip else {
                    continue;
                };
                if begun <= grip.answered {
                    continue;
                }
                grip.shown_with(&holders);
                if holders.is_empty() {
                    grip.absences = grip.absences.saturating_add(1);
                    if grip.quiet(&self.rules, now) {
                        let holders = entry.holders.clone();
                        let hold = Hold {
                            resource: name.clone(),
                            id,
                            holders,
                        };
                        seen.quiet.push(Held {
                            hold,
                            serial: grip.serial,
                        });
                    }
                    continue;
                }
                let unwritten = grip.committed && !grip.journaled;
                if unwritten {
                    seen.found.push((name.clone(), id.clone()));
                }
                let first_look = !grip.shown || grip.absences > 0 || unwritten;
                grip.shown = true;
                grip.absences = 0;
                grip.doubt = None;
                for holder in holders {
                    if entry.shown_with(holder, first_look) {
                        seen.named.push((name.clone(), id.clone(), holder.clone()));
                    }
                }
            }
        }
        seen
    }

    /// What a List that was asked for at `begun` showed has been written down.
    pub(crate) fn looked(&mut self, begun: Tick, listing: Arc<Listing>) {
        self.looked = begun;
        self.listing = listing;
    }

    /// What podresources showed at the last look.
    pub(crate) fn listing(&self) -> Arc<Listing> {
        Arc::clone(&self.listing)
    }

    /// Whether the journal has everything about the hold. A grant that came between has it anew.
    pub(crate) fn journaled(&mut self, resource: &str, id: &str, journaled: bool) {
        let entry = self.entry_mut(resource, id);
        if let Some(grip) = entry.and_then(|entry| entry.grip.as_mut()) {
            grip.journaled = journaled;
        }
    }

    /// The hold is as it was when it was put to the proofs.
    pub(crate) fn unchanged(&self, held: &Held) -> bool {
        self.entry(&held.hold.resource, &held.hold.id)
            .and_then(|entry| entry.grip.as_ref())
            .is_some_and(|grip| grip.serial == held.serial && grip.pending == 0)
    }

    /// All proofs were given, and the journal knows. Without effect if a grant came between.
    pub(crate) fn release(&mut self, held: &Held) {
        if self.unchanged(held)
            && let Some(entry) = self.entry_mut(&held.hold.resource, &held.hold.id)
        {
            entry.grip = None;
            self.sweep();
        }
    }

    /// A proof was not given.
    pub(crate) fn doubt(&mut self, held: &Held, why: String) {
        if self.unchanged(held)
            && let Some(entry) = self.entry_mut(&held.hold.resource, &held.hold.id)
            && let Some(grip) = &mut entry.grip
        {
            grip.doubt = Some(why);
        }
    }

    /// Ids of our resources that we do not list but that a pod has: they were lost before we
    /// started, and must be listed until the pod is gone.
    fn find_unknown(&mut self, listing: &Listing, now: Instant) {
        for shown in listing.iter() {
            if !self.resources.contains_key(&shown.resource) {
                continue;
            }
            for id in &shown.ids {
                if self.entry(&shown.resource, id).is_some() {
                    continue;
                }
                self.serial += 1;
                let serial = self.serial;
                if let Some(resource) = self.resources.get_mut(&shown.resource) {
                    resource.version += 1;
                    let version = resource.version;
                    let mut entry = Entry::adopted(id.clone(), Vec::new(), version, serial, now);
                    entry.grip = Some(Grip::found(serial, now));
                    resource.entries.push(entry);
                }
            }
        }
    }

    /// Ids that a pod has under another name than the one we offer them under (the journal was lost
    /// after a device had moved, or another plugin named it otherwise): not given out meanwhile.
    fn find_elsewhere(&mut self, listing: &Listing) {
        let mut changes = Vec::new();
        for (name, resource) in &self.resources {
            for entry in &resource.entries {
                let id = &entry.device.id;
                let shown = listing
                    .iter()
                    .find(|s| s.resource != *name && s.ids.contains(id));
                let other = shown.map(|shown| shown.resource.clone()).or_else(|| {
                    // No longer shown, but not proven free either.
                    let mut others = self.resources.iter().filter(|(other, _)| *other != name);
                    let other = others.find(|(_, r)| r.entries.iter().any(|e| e.device.id == *id));
                    other.map(|(other, _)| other.clone())
                });
                if entry.elsewhere != other {
                    changes.push((name.clone(), id.clone(), other));
                }
            }
        }
        for (name, id, other) in changes {
            if let Some(resource) = self.resources.get_mut(&name) {
                resource.change(&id, |entry| entry.elsewhere = other);
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.resources
            .values()
            .flat_map(|resource| &resource.entries)
    }
}
