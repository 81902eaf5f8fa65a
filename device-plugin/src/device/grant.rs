//! Allocate and PreStartContainer: which ids may be given to a container.
//!
//! A grant is begun (the hold exists from here), written to the journal by the caller, and then
//! committed or aborted. The kubelet decides which pod gets a device that is listed as healthy, so an
//! id that is still held is granted again: the kubelet knew of the former pod's end before we did.
//!
//! That end is no proof, for a pod that is deleted by force is forgotten while its containers run. To
//! refuse the grant would fail the new pod for good, so the device is contested instead: no container
//! starts with it, and the kubelet tries again, until the former holders' end is proven. Pods ask for
//! one device twice at their admission (init containers hand theirs on); as nothing was started with
//! it in between, that is no contest. It is one, however, if the kubelet named the device as free in
//! between: then it is another pod that asks.
//!
//! Nor is it proof that the kubelet counts a device as free. It can lose the mark that a device is taken
//! (`quiet.rs` tells how), and gives the device of a pod that runs, or is about to, to another one. It then shows
//! both with it. So a container starts with a device that was granted while it was held only when a List has
//! been answered that began after the kubelet called for the start, and shows one pod at most. Before the
//! start is called for, the kubelet may not remember yet whose the device is.

use tokio::time::Instant;

use super::entry::{Entry, Grip, Start};
use super::{Contest, Held, Table, Tick, Unclear};
use crate::{Device, DevicePhase, Hold};

/// A grant that is being written to the journal. Must be committed or aborted.
#[derive(Debug)]
#[must_use = "commit or abort it"]
pub(crate) struct Grant {
    resource: String,
    ids: Vec<String>,
}

impl Grant {
    /// A grant as the model check needs it.
    #[cfg(test)]
    pub(super) fn test(resource: &str, ids: &[&str]) -> Self {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Self {
            resource: resource.to_owned(),
            ids,
        }
    }
}

/// Why ids are not given to a container.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("no device was asked for")]
    Nothing,
    #[error("device {id} was asked for twice in one call")]
    Twice { id: String },
    #[error("device {id} is not offered under this resource name")]
    Unknown { id: String },
    #[error("device {id} is being destroyed or moved")]
    Fenced { id: String },
    #[error("device {id} is gone")]
    Lost { id: String },
    #[error("device {id} is faulty: {reason}")]
    Sick { id: String, reason: String },
    #[error("device {id} is held by a pod that got it as {other}")]
    Elsewhere { id: String, other: String },
    #[error("device {id} is not known to the kubelet yet")]
    Unconfirmed { id: String },
    #[error("device {id} was granted to nobody")]
    NotGranted { id: String },
    #[error("device {id} was granted to another pod meanwhile")]
    Overtaken { id: String },
    #[error(
        "device {id} cannot be told to be this pod's alone: {why}; the container is tried again"
    )]
    Unclear { id: String, why: Unclear },
    #[error(
        "device {id} may still be in use by the pod that had it before: {why}; the container is \
         tried again, and starts once the former pod is gone"
    )]
    Contested { id: String, why: String },
}

impl Table {
    /// The kubelet asks which of these to give to the next container, and so takes them for free.
    pub(crate) fn named_as_free<'a>(
        &mut self,
        resource: &str,
        ids: impl Iterator<Item = &'a String>,
    ) {
        for id in ids {
            if let Some(grip) = self.grip_mut(resource, id) {
                grip.freed = true;
            }
        }
    }

    /// Allocate, step one: all ids or none are held from here on. Returns the devices in order.
    pub(crate) fn begin_grant(
        &mut self,
        resource: &str,
        ids: &[String],
        now: Instant,
    ) -> Result<(Grant, Vec<Device>), GrantError> {
        if ids.is_empty() {
            return Err(GrantError::Nothing);
        }
        let mut devices = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            if ids[..at].contains(id) {
                return Err(GrantError::Twice { id: id.clone() });
            }
            devices.push(self.grantable(resource, id)?.clone());
        }
        for id in ids {
            let serial = self.next_serial();
            if let Some(entry) = self.entry_mut(resource, id) {
                if entry.grip.is_none() {
                    entry.holders.clear();
                }
                let grip = entry
                    .grip
                    .get_or_insert_with(|| Grip::new(serial, false, now));
                grip.serial = serial;
                grip.pending += 1;
            }
        }
        Ok((
            Grant {
                resource: resource.to_owned(),
                ids: ids.to_vec(),
            },
            devices,
        ))
    }

    /// The only thing against the grant is that the kubelet was not seen to know the devices yet.
    pub(crate) fn grant_may_pass_later(&self, resource: &str, ids: &[String]) -> bool {
        let mut refusals = ids
            .iter()
            .filter_map(|id| self.grantable(resource, id).err())
            .peekable();
        refusals.peek().is_some() && refusals.all(|e| matches!(e, GrantError::Unconfirmed { .. }))
    }

    /// The journal has it; the answer goes out now.
    pub(crate) fn commit_grant(&mut self, grant: &Grant, now: Instant) {
        self.tick += 1;
        let tick = self.tick;
        for id in &grant.ids {
            if let Some(entry) = self.entry_mut(&grant.resource, id) {
                let former = entry.former();
                let Some(grip) = &mut entry.grip else {
                    continue;
                };
                grip.pending = grip.pending.saturating_sub(1);
                if let Some(former) = former {
                    grip.start = Start::Contested(former);
                    grip.doubled = true;
                }
                grip.freed = false;
                grip.seen.clear();
                grip.rivals = None;
                grip.committed = true;
                grip.journaled = true;
                grip.answered = tick;
                grip.since = now;
                grip.shown = false;
                grip.absences = 0;
                grip.doubt = None;
            }
        }
    }

    /// The journal failed and the answer is an error. A hold that was there before goes on.
    pub(crate) fn abort_grant(&mut self, grant: &Grant) {
        for id in &grant.ids {
            if let Some(entry) = self.entry_mut(&grant.resource, id)
                && let Some(grip) = &mut entry.grip
            {
                grip.pending = grip.pending.saturating_sub(1);
                if grip.pending == 0 && !grip.committed {
                    entry.grip = None;
                }
            }
        }
    }

    /// PreStartContainer: a container may start only with live devices that a grant holds. A
    /// restarted container reuses the kubelet's cached grant, so this is the last gate before a
    /// device that was made anew under the same id, and before one that a former pod still uses.
    ///
    /// The kubelet called for it at `asked`. Returns the contests to be settled first; none if the
    /// container starts now.
    pub(crate) fn begin_start(
        &mut self,
        resource: &str,
        ids: &[String],
        asked: Tick,
    ) -> Result<Vec<Contest>, GrantError> {
        let contests = self.before_start(resource, ids, asked)?;
        if contests.is_empty() {
            for id in ids {
                if let Some(grip) = self.grip_mut(resource, id) {
                    grip.start = Start::Begun;
                }
            }
        }
        Ok(contests)
    }

    /// What [`Table::begin_start`] would answer.
    pub(crate) fn before_start(
        &self,
        resource: &str,
        ids: &[String],
        asked: Tick,
    ) -> Result<Vec<Contest>, GrantError> {
        for id in ids {
            let Some(entry) = self.entry(resource, id) else {
                return Err(GrantError::Unknown { id: id.clone() });
            };
            match entry.phase {
                DevicePhase::Lost => return Err(GrantError::Lost { id: id.clone() }),
                DevicePhase::Fenced => return Err(GrantError::Fenced { id: id.clone() }),
                DevicePhase::Offered | DevicePhase::Withdrawing => {}
            }
            let Some(grip) = entry.grip.as_ref().filter(|grip| grip.committed) else {
                return Err(GrantError::NotGranted { id: id.clone() });
            };
            // The kubelet calls for a start after it got the answer to the grant.
            if asked < grip.answered {
                return Err(GrantError::Overtaken { id: id.clone() });
            }
        }
        let contests = ids.iter();
        Ok(contests
            .filter_map(|id| self.contest(resource, id, Some(asked)))
            .collect())
    }

    /// All contests, to be settled.
    pub(crate) fn contests(&self) -> Vec<Contest> {
        let resources = self.resources.iter();
        let ids = resources.flat_map(|(name, resource)| {
            let entries = resource.entries.iter();
            entries.map(move |entry| (name, &entry.device.id))
        });
        ids.filter_map(|(resource, id)| self.contest(resource, id, None))
            .collect()
    }

    /// Nothing of the former holders runs any more. Without effect if a grant came between.
    /// Returns whether the contest ended.
    pub(crate) fn settle_contest(&mut self, contest: &Contest) -> bool {
        let hold = &contest.held.hold;
        // A look in between may have shown another pod with it.
        let now = self.contest(&hold.resource, &hold.id, None);
        let unchanged = self.unchanged(&contest.held) && now.as_ref() == Some(contest);
        if unchanged && let Some(grip) = self.grip_mut(&hold.resource, &hold.id) {
            grip.settle(contest.present.as_ref());
        }
        unchanged
    }

    fn contest(&self, resource: &str, id: &str, asked: Option<Tick>) -> Option<Contest> {
        let entry = self.entry(resource, id)?;
        let grip = entry.grip.as_ref()?;
        let former = entry.contested();
        let unclear = self.unclear(entry, asked);
        if former.is_none() && unclear.is_none() {
            return None;
        }
        let former = former.unwrap_or_default();
        let hold = Hold {
            resource: resource.to_owned(),
            id: id.to_owned(),
            holders: former.known,
        };
        let serial = grip.serial;
        Some(Contest {
            held: Held { hold, serial },
            unseen: former.unseen,
            present: entry.present().cloned(),
            unclear,
        })
    }

    /// Why it is not known whose the device is for a start that was called for at `asked`; that is never so
    /// of one that was granted once only.
    fn unclear(&self, entry: &Entry, asked: Option<Tick>) -> Option<Unclear> {
        let grip = entry.grip.as_ref().filter(|grip| grip.doubled)?;
        let since = asked.map_or(grip.answered, |asked| asked.max(grip.answered));
        if self.looked <= since {
            return Some(Unclear::Untold);
        }
        grip.rivals.clone().map(Unclear::Rivals)
    }

    fn grantable(&self, resource: &str, id: &str) -> Result<&Device, GrantError> {
        let id = || id.to_owned();
        let Some(entry) = self.entry(resource, &id()) else {
            return Err(GrantError::Unknown { id: id() });
        };
        match entry.phase {
            DevicePhase::Fenced => return Err(GrantError::Fenced { id: id() }),
            DevicePhase::Lost => return Err(GrantError::Lost { id: id() }),
            // The kubelet may have chosen it before it read that it is unhealthy. Refusing would
            // fail the pod for good; granting only means that the withdrawal is given up.
            DevicePhase::Offered | DevicePhase::Withdrawing => {}
        }
        match (&entry.sick, &entry.elsewhere) {
            (Some(reason), _) => Err(GrantError::Sick {
                id: id(),
                reason: reason.clone(),
            }),
            (None, Some(other)) => Err(GrantError::Elsewhere {
                id: id(),
                other: other.clone(),
            }),
            // The call may be about the device that had this id before and is gone: a kubelet that
            // has not read that there is a new one would look it up in vain, and panic.
            (None, None) if !entry.known => Err(GrantError::Unconfirmed { id: id() }),
            (None, None) => Ok(&entry.device),
        }
    }

    fn grip_mut(&mut self, resource: &str, id: &str) -> Option<&mut Grip> {
        self.entry_mut(resource, id)?.grip.as_mut()
    }
}
