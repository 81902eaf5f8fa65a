//! What ends when: running instances in the order of their ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Running instances by the time of their end.
#[derive(Clone, Debug)]
pub(crate) struct Ends<T> {
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    held: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T: Copy> Ends<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            held: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Notes that something ends at a time from 0; bits of such floats are ordered as the floats.
    pub(crate) fn push(&mut self, time: f64, held: T) {
        let slot = self.free.pop().unwrap_or(self.held.len());
        if slot == self.held.len() {
            self.held.push(None);
        }
        self.held[slot] = Some(held);
        self.heap.push(Reverse((time.max(0.0).to_bits(), slot)));
    }

    /// When the next one ends, if anything runs.
    pub(crate) fn next(&self) -> Option<f64> {
        let Reverse((bits, _)) = self.heap.peek()?;
        Some(f64::from_bits(*bits))
    }

    /// Takes the next one.
    pub(crate) fn pop(&mut self) -> Option<(f64, T)> {
        let Reverse((bits, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let held = self.held.get_mut(slot)?.take()?;
        Some((f64::from_bits(bits), held))
    }
}
