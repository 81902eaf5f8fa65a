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
    snapshot::{GpuRow, InstanceRow, SnapshotRow},
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
        if !self.0.is_empty() {
            let held: HashSet<&str> = held(new).map(|device| device.device_id.as_str()).collect();
            self.0
                .retain(|id, at| held.contains(id.as_str()) && now < *at + SHOWN);
        }
        // What the first report tells may have been so for long.
        let Some(old) = old else {
            return false;
        };
        let mut any = false;
        for gpu in &new.gpus {
            let before = old.gpu(&gpu.uuid);
            let before: Vec<_> = before.into_iter().flat_map(held_on).collect();
            let is_new = |device: &&InstanceRow| {
                let mut before = before.iter();
                before.all(|known| known.device_id != device.device_id)
            };
            for device in held_on(gpu).filter(is_new) {
                self.0.insert(device.device_id.clone(), now);
                any = true;
            }
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
        let is_bound = |holder: &PodKey| position(bound, holder).is_some();
        let mut unseen: HashSet<&str> = HashSet::new();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for device in held(snapshot) {
            let is_late = late(device);
            if device.holders.is_empty() {
                let unnamed = if is_late { &mut new } else { &mut old };
                unnamed.push(device);
            } else if is_late && !device.holders.iter().any(is_bound) {
                unseen.insert(&device.device_id);
            }
        }
        // Grants whose holder has no name yet are those of bound pods first.
        let mut explained = missing.clone();
        let mut explains = |device: &InstanceRow| {
            let claims = device.resource.as_deref();
            let claims = claims.and_then(|r| explained.get_mut(r));
            let claims = claims.filter(|count| **count > 0);
            claims.map(|count| *count -= 1).is_some()
        };
        for device in old {
            explains(device);
        }
        let new = new.into_iter().filter(|device| !explains(device));
        unseen.extend(new.map(|device| device.device_id.as_str()));
        unseen
    }
}

fn held(snapshot: &SnapshotRow) -> impl Iterator<Item = &InstanceRow> {
    snapshot.gpus.iter().flat_map(held_on)
}

fn held_on(gpu: &GpuRow) -> impl Iterator<Item = &InstanceRow> {
    gpu.devices().filter(|device| device.state == State::Held)
}

/// Where a pod is among those of a node, which are sorted by their keys.
pub fn position(bound: &[(&PodKey, &PodRow)], pod: &PodKey) -> Option<usize> {
    bound.binary_search_by_key(&pod, |(key, _)| key).ok()
}

/// Devices that bound pods, sorted by their keys, ask for and are not known by name to hold, by resource.
pub fn missing(snapshot: &SnapshotRow, bound: &[(&PodKey, &PodRow)]) -> BTreeMap<String, u32> {
    debug_assert!(bound.is_sorted_by_key(|(key, _)| *key));
    let mut held: Vec<(usize, &str)> = Vec::new();
    for device in snapshot.devices() {
        let pods = device.holders.iter();
        let pods = pods.filter_map(|holder| position(bound, holder));
        held.extend(pods.filter_map(|pod| Some((pod, device.resource.as_deref()?))));
    }
    held.sort_unstable();
    let mut missing: BTreeMap<String, u32> = BTreeMap::new();
    let pods = bound.iter().enumerate();
    for (pod, (_, row)) in pods.filter(|(_, (_, row))| !row.terminal) {
        let first = held.partition_point(|(holder, _)| *holder < pod);
        let held = held.iter().skip(first);
        let held = held.take_while(|(holder, _)| *holder == pod);
        for (resource, count) in row.wants.iter() {
            let held = held.clone().filter(|(_, held)| held == resource).count();
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
