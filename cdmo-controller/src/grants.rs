//! Grants that are known before the pod is seen bound.
//!
//! The agent tells of a grant at once, and the watch may show only later that the pod was bound. In
//! between the pod still waits here and its device is held; taken by themselves, the two would have a
//! second device made for a pod that has one. So a device just granted to nobody known counts, for a
//! moment, as one that is about to come free for whoever waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use cdmo_proto::agent::instance::State;
use tokio::time::Instant;

use crate::{
    names::PodKey,
    pods::PodRow,
    snapshot::{InstanceRow, SnapshotRow},
};

/// How long the watch may take to show a binding. A pod whose device another one took waits so much
/// longer for the next.
pub const SHOWN: Duration = Duration::from_secs(2);

/// When each device was granted, of those granted lately.
#[derive(Clone, Debug, Default)]
pub struct Grants(HashMap<String, Instant>);

impl Grants {
    /// A new report; returns whether it tells of a grant.
    pub fn hear(&mut self, old: Option<&SnapshotRow>, new: &SnapshotRow, now: Instant) -> bool {
        let held_now = ids(new);
        self.0
            .retain(|id, at| held_now.contains(id.as_str()) && now < *at + SHOWN);
        // What the first report tells may have been so for long.
        let Some(before) = old.map(ids) else {
            return false;
        };
        let mut any = false;
        for id in held_now.difference(&before) {
            self.0.insert((*id).to_owned(), now);
            any = true;
        }
        any
    }

    /// The devices that were just granted, to none of the bound pods as far as is known. `missing` is what [`missing`]
    /// says of these.
    pub fn unseen<'a>(
        &self,
        snapshot: &'a SnapshotRow,
        bound: &[(&PodKey, &PodRow)],
        missing: &BTreeMap<String, u32>,
        now: Instant,
    ) -> HashSet<&'a str> {
        if self.0.is_empty() {
            return HashSet::new();
        }
        let late = |device: &InstanceRow| {
            let at = self.0.get(&device.device_id);
            at.is_some_and(|at| now < *at + SHOWN)
        };
        // Grants whose holder has no name yet are those of bound pods first.
        let mut explained = missing.clone();
        let unnamed = |device: &&InstanceRow| device.holders.is_empty();
        let (mut old, mut new): (Vec<_>, Vec<_>) =
            held(snapshot).filter(unnamed).partition(|d| !late(d));
        old.append(&mut new);
        let mut unseen: HashSet<&str> = HashSet::new();
        for device in old {
            let claims = device
                .resource
                .as_deref()
                .and_then(|r| explained.get_mut(r));
            match claims {
                Some(count) if *count > 0 => *count -= 1,
                _ if late(device) => {
                    unseen.insert(&device.device_id);
                }
                _ => {}
            }
        }
        let is_bound = |holder: &PodKey| bound.iter().any(|(key, _)| *key == holder);
        let named = held(snapshot).filter(|device| !device.holders.is_empty() && late(device));
        unseen.extend(
            named
                .filter(|device| !device.holders.iter().any(is_bound))
                .map(|device| device.device_id.as_str()),
        );
        unseen
    }
}

fn ids(snapshot: &SnapshotRow) -> HashSet<&str> {
    held(snapshot).map(|d| d.device_id.as_str()).collect()
}

fn held(snapshot: &SnapshotRow) -> impl Iterator<Item = &InstanceRow> {
    snapshot.devices().filter(|d| d.state == State::Held)
}

/// Devices that bound pods ask for and are not known by name to hold, by resource.
pub fn missing(snapshot: &SnapshotRow, bound: &[(&PodKey, &PodRow)]) -> BTreeMap<String, u32> {
    let mut held: HashMap<&PodKey, Vec<&str>> = HashMap::new();
    for device in snapshot.devices() {
        for holder in &device.holders {
            let devices = held.entry(holder).or_default();
            devices.extend(device.resource.as_deref());
        }
    }
    let mut missing: BTreeMap<String, u32> = BTreeMap::new();
    for (key, row) in bound.iter().filter(|(_, row)| !row.terminal) {
        let held = held.get(key).map_or(&[][..], Vec::as_slice);
        for (resource, count) in row.wants.iter() {
            let held = held.iter().filter(|held| *held == resource).count();
            let lacks = count.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX));
            if lacks == 0 {
                continue;
            }
            match missing.get_mut(resource) {
                Some(sum) => *sum = sum.saturating_add(lacks),
                None => {
                    missing.insert(resource.clone(), lacks);
                }
            }
        }
    }
    missing
}
