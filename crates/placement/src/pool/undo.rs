//! What-if: change a pool, look, and put it back exactly as it was.

use super::{GpuId, GpuState, Pool};

/// A moment that a pool can be put back to.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a mark that is neither rolled back nor kept makes the pool remember every change"]
pub struct Mark {
    length: usize,
    depth: usize,
}

/// Old states of GPUs, while somebody may want them back.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    old: Vec<(GpuId, GpuState)>,
    depth: usize,
}

impl Log {
    #[inline]
    pub(super) fn note(&mut self, gpu: GpuId, state: &GpuState) {
        if self.depth > 0 {
            self.old.push((gpu, *state));
        }
    }

    #[cfg(test)]
    pub(super) fn old_is_empty(&self) -> bool {
        self.old.is_empty()
    }

    fn close(&mut self, depth: usize) {
        self.depth = self.depth.min(depth - 1);
        if self.depth == 0 {
            self.old.clear();
        }
    }
}

impl Pool {
    /// Remembers the states of all GPUs. Marks nest; each must be given to [`Pool::rollback`] or
    /// [`Pool::keep`], and giving up an outer one gives up those within it. GPUs that are added or
    /// change their class in between stay so.
    pub fn mark(&mut self) -> Mark {
        self.log.depth += 1;
        Mark {
            length: self.log.old.len(),
            depth: self.log.depth,
        }
    }

    /// Puts all GPUs back to what they were. Takes as long as the changes did.
    #[expect(clippy::needless_pass_by_value, reason = "a mark is used once")]
    pub fn rollback(&mut self, mark: Mark) {
        while self.log.old.len() > mark.length {
            if let Some((gpu, old)) = self.log.old.pop() {
                let at = self.gpus[gpu.index()];
                self.apply(gpu, (at.state, old), at.class, at.slot);
            }
        }
        self.log.close(mark.depth);
    }

    /// Leaves the GPUs as they are; an outer mark still remembers.
    #[expect(clippy::needless_pass_by_value, reason = "a mark is used once")]
    pub fn keep(&mut self, mark: Mark) {
        self.log.close(mark.depth);
    }
}
