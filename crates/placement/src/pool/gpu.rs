//! One GPU of a pool, and what can be done to it.

use super::{After, Choice, Committed, Pool, PoolError};
use crate::{
    classes::ClassId,
    geometry::{Geometry, PlacementId},
};

/// A GPU of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GpuId(pub u32);

impl GpuId {
    /// As a position.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node. Numbers are the caller's and should be dense: memory grows with the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// As a position.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a GPU is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuPlace {
    /// Its node.
    pub node: NodeId,
    /// The class of the node.
    pub class: ClassId,
}

/// What stands on a GPU, and what keeps others from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuState {
    /// Instances that somebody holds, as placement bits.
    pub held: u64,
    /// Instances that nobody holds, as placement bits. They share no slice with one another or with
    /// those that are held.
    pub idle: u64,
    /// Slices of the instances that are held.
    pub used: u16,
    /// Slices that are taken by what the geometry does not know, for example an instance with media
    /// engines or one that is being destroyed.
    pub blocked: u16,
    /// Slices kept free for a pod that waits.
    pub reserved: u16,
    /// Nothing is placed on the GPU.
    pub unhealthy: bool,
}

impl GpuState {
    /// The slices that nothing can be placed on; idle instances do not count.
    #[inline]
    pub fn mask(&self, geometry: &Geometry) -> u16 {
        if self.unhealthy {
            geometry.full()
        } else {
            self.used | self.blocked | self.reserved
        }
    }
}

/// What a decision reads of a GPU, half a cache line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu {
    pub(super) state: GpuState,
    /// Place among the GPUs of its class.
    pub(super) slot: u32,
    pub(super) class: ClassId,
}

const _: () = assert!(size_of::<Gpu>() == 32, "two GPUs fill a cache line");

impl Pool {
    /// Does what was chosen.
    ///
    /// # Errors
    /// [`PoolError::NotFree`] if something else has come in between.
    pub fn commit(&mut self, choice: &Choice) -> Result<Committed, PoolError> {
        self.hold(choice.gpu, choice.placement)
    }

    /// Puts an instance that is held at a placement: takes the idle one that stands there, or
    /// destroys the idle ones in the way.
    ///
    /// # Errors
    /// [`PoolError::NotFree`] if its slices are not free; also if there is no such GPU or placement.
    pub fn hold(&mut self, gpu: GpuId, placement: PlacementId) -> Result<Committed, PoolError> {
        let state = self.get(gpu)?.state;
        let mask = self.slices_of(gpu, placement)?;
        if state.mask(&self.geometry) & mask != 0 {
            return Err(PoolError::NotFree(gpu));
        }
        let overlapped = self.geometry.overlapped(state.idle, mask);
        let committed = Committed {
            reused: overlapped & placement.bit() != 0,
            destroyed: overlapped & !placement.bit(),
        };
        let new = GpuState {
            held: state.held | placement.bit(),
            idle: state.idle & !overlapped,
            used: state.used | mask,
            ..state
        };
        self.write(gpu, new);
        Ok(committed)
    }

    /// Takes away the holder of an instance.
    ///
    /// # Errors
    /// [`PoolError::NoSuchInstance`] if nobody holds an instance there.
    pub fn release(
        &mut self,
        gpu: GpuId,
        placement: PlacementId,
        after: After,
    ) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        let mask = self.slices_of(gpu, placement)?;
        if state.held & placement.bit() == 0 {
            return Err(PoolError::NoSuchInstance(gpu));
        }
        let stays = after == After::Idle;
        let new = GpuState {
            held: state.held & !placement.bit(),
            idle: if stays {
                state.idle | placement.bit()
            } else {
                state.idle
            },
            used: state.used & !mask,
            ..state
        };
        self.write(gpu, new);
        Ok(())
    }

    /// Adds an idle instance, for example one found on the hardware.
    ///
    /// # Errors
    /// [`PoolError::NotFree`] if another instance, held or idle, has one of its slices.
    pub fn add_idle(&mut self, gpu: GpuId, placement: PlacementId) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        let mask = self.slices_of(gpu, placement)?;
        let taken = state.used | state.blocked | self.geometry.cover(state.idle);
        if taken & mask != 0 {
            return Err(PoolError::NotFree(gpu));
        }
        let idle = state.idle | placement.bit();
        self.write(gpu, GpuState { idle, ..state });
        Ok(())
    }

    /// Destroys an idle instance.
    ///
    /// # Errors
    /// [`PoolError::NoSuchInstance`] if there is none.
    pub fn destroy_idle(&mut self, gpu: GpuId, placement: PlacementId) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        self.slices_of(gpu, placement)?;
        if state.idle & placement.bit() == 0 {
            return Err(PoolError::NoSuchInstance(gpu));
        }
        let idle = state.idle & !placement.bit();
        self.write(gpu, GpuState { idle, ..state });
        Ok(())
    }

    /// Sets the slices of a GPU that are kept for a pod that waits. To place that pod, clear them
    /// first, in the same what-if as the placement (see [`Pool::mark`]).
    ///
    /// # Errors
    /// [`PoolError::NoSuchGpu`].
    pub fn set_reserved(&mut self, gpu: GpuId, slices: u16) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        let reserved = slices & self.geometry.full();
        self.write(gpu, GpuState { reserved, ..state });
        Ok(())
    }

    /// Sets the slices of a GPU that something unknown to the geometry has taken.
    ///
    /// # Errors
    /// [`PoolError::NoSuchGpu`].
    pub fn set_blocked(&mut self, gpu: GpuId, slices: u16) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        let blocked = slices & self.geometry.full();
        self.write(gpu, GpuState { blocked, ..state });
        Ok(())
    }

    /// Sets whether anything may be placed on a GPU.
    ///
    /// # Errors
    /// [`PoolError::NoSuchGpu`].
    pub fn set_healthy(&mut self, gpu: GpuId, healthy: bool) -> Result<(), PoolError> {
        let state = self.get(gpu)?.state;
        let unhealthy = !healthy;
        self.write(gpu, GpuState { unhealthy, ..state });
        Ok(())
    }

    fn slices_of(&self, gpu: GpuId, placement: PlacementId) -> Result<u16, PoolError> {
        let spot = self.geometry.spots().get(placement.index());
        spot.map(|spot| spot.mask)
            .ok_or(PoolError::NoSuchPlacement(gpu))
    }
}
