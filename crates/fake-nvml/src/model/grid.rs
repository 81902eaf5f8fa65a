//! The tree of GPU-instance ids from which the driver cuts a GPU.
//!
//! The driver ("resource manager" in NVIDIA's open kernel modules) halves the memory slots of a
//! GPU again and again: id 0 is the whole, 1 and 2 its halves, 3 to 6 the quarters, 7 to 14 the
//! eighths. These ids are what NVML shows as GPU-instance ids. One slot of an eight-slot board
//! has memory but no compute; which one is fused per board, and NVML shows placements in an order
//! in which that slot comes last. That is why ids and placements are related differently on two
//! boards of the same name.

/// Where an instance lies, in memory slices as NVML counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// First memory slice.
    pub start: u32,
    /// Number of memory slices.
    pub size: u32,
}

/// What a profile needs of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Depth in the tree: 0 is the whole GPU, 1 a half, 2 a quarter, 3 an eighth.
    pub level: u8,
    /// Whether every slot must have compute, so that the part with the fused slot will not do.
    pub full_compute: bool,
}

/// The memory slots of one particular GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Number of slots: 8 or 4.
    pub slots: u32,
    /// The physical slot without compute, if the board has one.
    pub fused: Option<u32>,
    /// NVML's memory slices per slot (3 on boards that count twelve).
    pub unit: u32,
}

impl Grid {
    /// First slot and number of slots of an instance id, as the hardware counts.
    pub fn span(&self, id: u32) -> (u32, u32) {
        let level = (id + 1).ilog2();
        let size = self.slots >> level;
        ((id + 1 - (1 << level)) * size, size)
    }

    /// Every id that has the shape, in ascending order.
    pub fn candidates(&self, shape: Shape) -> impl Iterator<Item = u32> + use<> {
        let grid = *self;
        let first = (1 << shape.level) - 1;
        (first..=2 * first).filter(move |&id| {
            let (start, size) = grid.span(id);
            let lacks_compute = grid
                .fused
                .is_some_and(|slot| (start..start + size).contains(&slot));
            !(shape.full_compute && shape.level > 0 && lacks_compute)
        })
    }

    /// Whether two ids share a slot.
    pub fn overlap(&self, one: u32, other: u32) -> bool {
        let ((a, n), (b, m)) = (self.span(one), self.span(other));
        a < b + m && b < a + n
    }

    /// Where NVML says that an id lies: the slots are shown so that the fused one comes last.
    pub fn placement(&self, id: u32) -> Placement {
        let (start, size) = self.span(id);
        let mirror = self.fused.map_or(0, |slot| self.slots - 1 - slot);
        let shown = (start..start + size)
            .map(|slot| slot ^ mirror)
            .min()
            .unwrap_or(start);
        Placement {
            start: shown * self.unit,
            size: size * self.unit,
        }
    }

    /// How many more instances of a shape fit beside the `used` ids.
    pub fn room(&self, used: &[u32], shape: Shape) -> usize {
        self.free(used, shape).count()
    }

    /// The candidates of a shape that share no slot with the `used` ids.
    pub fn free(&self, used: &[u32], shape: Shape) -> impl Iterator<Item = u32> {
        let grid = *self;
        self.candidates(shape)
            .filter(move |&id| used.iter().all(|&other| !grid.overlap(id, other)))
    }

    /// The id that the driver takes when the caller names no placement: the one that leaves the
    /// most room, summed over all `shapes` of the board; the lowest of several.
    pub fn best_fit(&self, used: &[u32], shape: Shape, shapes: &[Shape]) -> Option<u32> {
        let mut best: Option<(usize, u32)> = None;
        let mut after = used.to_vec();
        for id in self.free(used, shape) {
            after.push(id);
            let left: usize = shapes.iter().map(|&each| self.room(&after, each)).sum();
            after.pop();
            if best.is_none_or(|(most, _)| left > most) {
                best = Some((left, id));
            }
        }
        best.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests;
