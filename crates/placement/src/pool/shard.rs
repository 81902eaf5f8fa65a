//! The GPUs of one node class: a set of them for each mask, and one for each idle placement.

use std::collections::BTreeSet;

use super::gpu::{Gpu, GpuId, GpuState};
use crate::{geometry::Geometry, placements, sets::Sets};

/// The bucket has had no GPU yet.
const NONE: u32 = u32::MAX;

/// Slots that a class starts with.
const FIRST_CAPACITY: u32 = 64;

#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// The GPU of each slot; what stands in vacant ones means nothing.
    slots: Vec<GpuId>,
    vacant: BTreeSet<u32>,
    /// Idle placements first, by id; then buckets, as they come up.
    sets: Sets,
    idle_sets: usize,
    buckets: Vec<u32>,
}

impl Shard {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let mut shard = Self {
            slots: Vec::new(),
            vacant: BTreeSet::new(),
            sets: Sets::new(FIRST_CAPACITY),
            idle_sets: geometry.spots().len(),
            buckets: vec![NONE; geometry.mask_count()],
        };
        shard.add_idle_sets();
        shard
    }

    fn add_idle_sets(&mut self) {
        for _ in 0..self.idle_sets {
            self.sets.add_set();
        }
    }

    /// The lowest slot that is vacant, or a new one.
    pub(super) fn occupy(&mut self, gpu: GpuId) -> u32 {
        if let Some(slot) = self.vacant.pop_first() {
            self.slots[slot as usize] = gpu;
            return slot;
        }
        self.slots.push(gpu);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// Gives up the slot of a GPU that has left its bucket.
    pub(super) fn vacate(&mut self, slot: u32, state: &GpuState) {
        self.remove_idle(slot, state.idle);
        self.vacant.insert(slot);
    }

    /// Makes room for the last slot. The GPU in it is not in any set yet.
    pub(super) fn grow(&mut self, gpus: &[Gpu], geometry: &Geometry) {
        let slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if slots <= self.sets.capacity() {
            return;
        }
        self.sets = Sets::new(self.sets.capacity().saturating_mul(2).max(slots));
        self.add_idle_sets();
        self.buckets.fill(NONE);
        for slot in (0..slots - 1)
            .filter(|slot| !self.vacant.contains(slot))
            .collect::<Vec<_>>()
        {
            let state = gpus[self.slots[slot as usize].index()].state;
            self.insert_idle(slot, state.idle);
            self.enter(slot, state.mask(geometry));
        }
    }

    /// Puts a GPU into a bucket.
    #[inline]
    pub(super) fn enter(&mut self, slot: u32, mask: u16) {
        let bucket = &mut self.buckets[usize::from(mask)];
        if *bucket == NONE {
            *bucket = self.sets.add_set();
        }
        self.sets.insert(*bucket, slot);
    }

    /// Takes a GPU out of its bucket; says whether the bucket is empty now.
    #[inline]
    pub(super) fn leave(&mut self, slot: u32, mask: u16) -> bool {
        let bucket = self.buckets[usize::from(mask)];
        bucket == NONE || self.sets.remove(bucket, slot)
    }

    pub(super) fn insert_idle(&mut self, slot: u32, idle: u64) {
        for id in placements(idle) {
            self.sets.insert(u32::from(id.0), slot);
        }
    }

    pub(super) fn remove_idle(&mut self, slot: u32, idle: u64) {
        for id in placements(idle) {
            self.sets.remove(u32::from(id.0), slot);
        }
    }

    /// The first GPU of a bucket that is wanted.
    #[inline]
    pub(super) fn first(&self, mask: u16, mut wanted: impl FnMut(GpuId) -> bool) -> Option<GpuId> {
        let bucket = self.buckets[usize::from(mask)];
        if bucket == NONE {
            return None;
        }
        let found = self
            .sets
            .first(bucket, |slot| wanted(self.slots[slot as usize]));
        found.map(|slot| self.slots[slot as usize])
    }

    /// The first GPU of a bucket that is wanted and has an idle instance at the placement.
    #[inline]
    pub(super) fn first_idle(
        &self,
        mask: u16,
        placement: crate::PlacementId,
        mut wanted: impl FnMut(GpuId) -> bool,
    ) -> Option<GpuId> {
        let bucket = self.buckets[usize::from(mask)];
        if bucket == NONE {
            return None;
        }
        let wanted = |slot: u32| wanted(self.slots[slot as usize]);
        let found = self
            .sets
            .first_common(bucket, u32::from(placement.0), wanted);
        found.map(|slot| self.slots[slot as usize])
    }
}
