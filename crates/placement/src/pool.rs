//! GPUs of one geometry, in buckets by mask: the engine behind every decision.
//!
//! Every change of a GPU goes through one function that moves it between buckets; all else is
//! derived. The order of decisions depends on the states of the GPUs alone, see [`Pool::choose`].

mod choose;
mod gpu;
mod shard;
mod undo;

use std::sync::Arc;

use crate::{
    classes::ClassId,
    geometry::{Geometry, ProfileId},
    index::{Index, UNRANKED},
    sets::Sets,
};
pub use choose::{Ask, Choice};
use gpu::Gpu;
pub use gpu::{GpuId, GpuPlace, GpuState, NodeId};
use shard::Shard;
pub use undo::Mark;

/// What becomes of an instance that nobody holds any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays for the next pod and is destroyed only if something else needs its slices.
    Idle,
    /// It is destroyed at once.
    Destroyed,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether an idle instance was taken as it stood.
    pub reused: bool,
    /// The idle instances that had to go, as placement bits.
    pub destroyed: u64,
}

/// A change that does not go with the state of a GPU. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No such GPU.
    #[error("failed to change GPU {}: the pool has no such GPU", .0.0)]
    NoSuchGpu(GpuId),
    /// No such placement.
    #[error("failed to change GPU {}: its model has no such placement", .0.0)]
    NoSuchPlacement(GpuId),
    /// The slices are in use, reserved, blocked, or the GPU is not healthy.
    #[error("failed to place an instance on GPU {}: its slices are not free", .0.0)]
    NotFree(GpuId),
    /// No such instance.
    #[error("failed to release an instance of GPU {}: nothing stands at that placement", .0.0)]
    NoSuchInstance(GpuId),
}

/// GPUs of one geometry.
#[derive(Clone, Debug)]
pub struct Pool {
    geometry: Arc<Geometry>,
    index: Arc<Index>,
    gpus: Vec<Gpu>,
    node_of: Vec<NodeId>,
    nodes: Vec<Vec<GpuId>>,
    shards: Vec<Shard>,
    /// GPUs in each bucket.
    counts: Vec<u32>,
    /// For each profile, the non-empty buckets as bits in rank order.
    ranked: Vec<u64>,
    /// For each bucket, the classes that have GPUs in it, as bits.
    bucket_classes: Vec<u64>,
    class_words: usize,
    /// Idle instances of each profile.
    idle_counts: Vec<u32>,
    /// Per profile the GPUs with room for it, if somebody asks for GPUs in their order.
    with_room: Option<Sets>,
    log: undo::Log,
}

impl Pool {
    /// A pool without GPUs. The index must be of the same geometry; with another one, the first
    /// decisions or changes panic or mislead.
    pub fn new(geometry: Arc<Geometry>, index: Arc<Index>) -> Self {
        debug_assert_eq!(geometry.mask_count(), index.mask_count());
        let masks = geometry.mask_count();
        let mut pool = Self {
            counts: vec![0; masks],
            ranked: Vec::new(),
            bucket_classes: vec![0; masks],
            class_words: 1,
            idle_counts: vec![0; geometry.profiles().len()],
            gpus: Vec::new(),
            node_of: Vec::new(),
            nodes: Vec::new(),
            shards: Vec::new(),
            with_room: None,
            log: undo::Log::default(),
            geometry,
            index,
        };
        pool.rank_all();
        pool
    }

    /// The geometry of its GPUs.
    pub fn geometry(&self) -> &Arc<Geometry> {
        &self.geometry
    }

    /// The index that [`Pool::choose`] uses.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Decides by another table from now on. It must be of the same geometry.
    pub fn set_index(&mut self, index: Arc<Index>) {
        self.index = index;
        self.rank_all();
    }

    /// Adds an empty, healthy GPU. Ids count from 0.
    pub fn add(&mut self, place: GpuPlace) -> GpuId {
        let gpu = GpuId(u32::try_from(self.gpus.len()).unwrap_or(u32::MAX));
        self.gpus.push(Gpu {
            state: GpuState::default(),
            slot: 0,
            class: place.class,
        });
        self.node_of.push(place.node);
        let node = place.node.index();
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, Vec::new);
        }
        self.nodes[node].push(gpu);
        self.join(gpu);
        if self.with_room.is_some() {
            self.keep_order();
        }
        gpu
    }

    /// Moves a GPU into another class, for example after its node's labels changed.
    ///
    /// # Errors
    /// [`PoolError::NoSuchGpu`].
    pub fn set_class(&mut self, gpu: GpuId, class: ClassId) -> Result<(), PoolError> {
        let at = self.get(gpu)?;
        if at.class == class {
            return Ok(());
        }
        let Gpu {
            state,
            slot,
            class: old,
        } = at;
        self.leave_bucket(old, slot, state.mask(&self.geometry));
        self.shards[usize::from(old.0)].vacate(slot, &state);
        self.gpus[gpu.index()].class = class;
        self.join(gpu);
        Ok(())
    }

    /// How many GPUs it has.
    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// All GPUs, ascending.
    pub fn gpus(&self) -> impl Iterator<Item = GpuId> + use<> {
        (0..u32::try_from(self.gpus.len()).unwrap_or(u32::MAX)).map(GpuId)
    }

    /// The state of a GPU.
    ///
    /// # Panics
    /// If the pool has no such GPU.
    #[inline]
    pub fn state(&self, gpu: GpuId) -> &GpuState {
        &self.gpus[gpu.index()].state
    }

    /// Where a GPU is.
    ///
    /// # Panics
    /// If the pool has no such GPU.
    pub fn place(&self, gpu: GpuId) -> GpuPlace {
        GpuPlace {
            node: self.node_of[gpu.index()],
            class: self.gpus[gpu.index()].class,
        }
    }

    /// The slices of a GPU that nothing can be placed on: used, blocked or reserved, or all if it is
    /// not healthy. Idle instances do not count.
    ///
    /// # Panics
    /// If the pool has no such GPU.
    #[inline]
    pub fn mask(&self, gpu: GpuId) -> u16 {
        self.state(gpu).mask(&self.geometry)
    }

    /// How many nodes there are; ids above the highest that was named do not count.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The GPUs of a node in the order they were added; none if the node is not known.
    pub fn node_gpus(&self, node: NodeId) -> &[GpuId] {
        self.nodes.get(node.index()).map_or(&[], Vec::as_slice)
    }

    /// How many GPUs have exactly this mask.
    ///
    /// # Panics
    /// If the mask is of another geometry.
    pub fn count(&self, mask: u16) -> u32 {
        self.counts[usize::from(mask)]
    }

    /// How many idle instances of a profile there are, those under a reservation included.
    ///
    /// # Panics
    /// If the profile is of another geometry.
    pub fn idle(&self, profile: ProfileId) -> u32 {
        self.idle_counts[profile.index()]
    }

    fn get(&self, gpu: GpuId) -> Result<Gpu, PoolError> {
        self.gpus
            .get(gpu.index())
            .copied()
            .ok_or(PoolError::NoSuchGpu(gpu))
    }

    /// Gives a GPU a slot in its class and puts it into all sets.
    fn join(&mut self, gpu: GpuId) {
        let Gpu {
            state, class: id, ..
        } = self.gpus[gpu.index()];
        let class = usize::from(id.0);
        while self.shards.len() <= class {
            self.shards.push(Shard::new(&self.geometry));
        }
        if self.class_words * 64 <= class {
            self.widen(class / 64 + 1);
        }
        let slot = self.shards[class].occupy(gpu);
        self.gpus[gpu.index()].slot = slot;
        self.shards[class].grow(&self.gpus, &self.geometry);
        self.shards[class].insert_idle(slot, state.idle);
        self.enter_bucket(id, slot, state.mask(&self.geometry));
    }

    fn widen(&mut self, words: usize) {
        let mut wide = vec![0; self.counts.len() * words];
        for (new, old) in wide
            .chunks_mut(words)
            .zip(self.bucket_classes.chunks(self.class_words))
        {
            new[..old.len()].copy_from_slice(old);
        }
        self.bucket_classes = wide;
        self.class_words = words;
    }

    /// The one way to change a GPU.
    fn write(&mut self, gpu: GpuId, new: GpuState) {
        let Gpu { state, class, slot } = self.gpus[gpu.index()];
        self.log.note(gpu, &state);
        self.apply(gpu, (state, new), class, slot);
    }

    fn apply(&mut self, gpu: GpuId, (old, new): (GpuState, GpuState), class: ClassId, slot: u32) {
        let (before, after) = (old.mask(&self.geometry), new.mask(&self.geometry));
        if before != after {
            self.leave_bucket(class, slot, before);
            self.enter_bucket(class, slot, after);
            self.tell_room(gpu, before, after);
        }
        if old.idle != new.idle {
            let shard = &mut self.shards[usize::from(class.0)];
            shard.remove_idle(slot, old.idle & !new.idle);
            shard.insert_idle(slot, new.idle & !old.idle);
            for id in crate::placements(old.idle & !new.idle) {
                self.idle_counts[self.geometry.spot(id).profile.index()] -= 1;
            }
            for id in crate::placements(new.idle & !old.idle) {
                self.idle_counts[self.geometry.spot(id).profile.index()] += 1;
            }
        }
        self.gpus[gpu.index()].state = new;
    }

    #[inline]
    fn enter_bucket(&mut self, class: ClassId, slot: u32, mask: u16) {
        self.shards[usize::from(class.0)].enter(slot, mask);
        let word = usize::from(mask) * self.class_words + usize::from(class.0) / 64;
        self.bucket_classes[word] |= 1 << (class.0 % 64);
        let count = &mut self.counts[usize::from(mask)];
        *count += 1;
        if *count == 1 {
            self.rank(mask, true);
        }
    }

    #[inline]
    fn leave_bucket(&mut self, class: ClassId, slot: u32, mask: u16) {
        if self.shards[usize::from(class.0)].leave(slot, mask) {
            let word = usize::from(mask) * self.class_words + usize::from(class.0) / 64;
            self.bucket_classes[word] &= !(1 << (class.0 % 64));
        }
        let count = &mut self.counts[usize::from(mask)];
        *count -= 1;
        if *count == 0 {
            self.rank(mask, false);
        }
    }

    fn rank(&mut self, mask: u16, filled: bool) {
        let words = self.rank_words();
        for (bits, rank) in self.ranked.chunks_mut(words).zip(self.index.ranks(mask)) {
            if *rank != UNRANKED {
                let bit = 1u64 << (rank % 64);
                let word = &mut bits[usize::from(*rank) / 64];
                *word = if filled { *word | bit } else { *word & !bit };
            }
        }
    }

    fn rank_words(&self) -> usize {
        self.counts.len().div_ceil(64)
    }

    fn rank_all(&mut self) {
        self.ranked = vec![0; self.rank_words() * self.geometry.profiles().len()];
        for mask in self.geometry.masks() {
            if self.count(mask) > 0 {
                self.rank(mask, true);
            }
        }
    }

    /// Keeps, from now on, the GPUs with room for each profile in the order of their ids, so that
    /// [`Pool::first_with_room`] need not look at every GPU. Costs a little at each change.
    pub fn keep_order(&mut self) {
        let gpus = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
        // Room to grow, so that adding GPUs one by one does not rebuild it each time.
        let fits = self
            .with_room
            .as_ref()
            .is_some_and(|sets| sets.capacity() >= gpus);
        if fits {
            let Some(last) = gpus.checked_sub(1).map(GpuId) else {
                return;
            };
            let mask = self.mask(last);
            self.tell_room(last, self.geometry.full(), mask);
            return;
        }
        let mut sets = Sets::new(gpus.saturating_mul(2).max(64));
        for _ in self.geometry.profiles() {
            sets.add_set();
        }
        for gpu in self.gpus() {
            for profile in crate::sets::bits(self.geometry.fitting(self.mask(gpu))) {
                sets.insert(u32::try_from(profile).unwrap_or(0), gpu.0);
            }
        }
        self.with_room = Some(sets);
    }

    fn tell_room(&mut self, gpu: GpuId, before: u16, after: u16) {
        let Some(sets) = &mut self.with_room else {
            return;
        };
        let (before, after) = (self.geometry.fitting(before), self.geometry.fitting(after));
        for profile in crate::sets::bits(before ^ after) {
            let set = u32::try_from(profile).unwrap_or(0);
            if after >> profile & 1 == 1 {
                sets.insert(set, gpu.0);
            } else {
                sets.remove(set, gpu.0);
            }
        }
    }

    /// The first GPU, from `from` on, that has room for the profile. Looks at every GPU unless
    /// [`Pool::keep_order`] was called.
    pub fn first_with_room(&self, profile: ProfileId, from: GpuId) -> Option<GpuId> {
        match &self.with_room {
            Some(sets) => sets.first_from(u32::from(profile.0), from.0).map(GpuId),
            None => (from.0..u32::try_from(self.gpus.len()).unwrap_or(u32::MAX))
                .map(GpuId)
                .find(|gpu| self.geometry.free_of(self.mask(*gpu), profile) != 0),
        }
    }
}

#[cfg(test)]
mod tests;
