//! Sets of small numbers that give their lowest member in a few steps, however large they are.
//!
//! Each set is a bit per number, a bit per 64 of those, and a bit per 4,096. Unlike a list with back
//! pointers its order does not depend on what was added and taken away before, so that equal pools
//! decide equally. A bit per GPU and bucket is little: 12.7 KiB for 100,000 GPUs.

/// Many sets over the numbers below one capacity, in one block of memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    /// Words of the three levels of one set, the finest last.
    top: usize,
    middle: usize,
    fine: usize,
    words: Vec<u64>,
}

const BITS: usize = 64;

impl Sets {
    /// No set yet, over numbers below `capacity`.
    pub(crate) fn new(capacity: u32) -> Self {
        let fine = (capacity as usize).div_ceil(BITS).max(1);
        let middle = fine.div_ceil(BITS);
        Self {
            top: middle.div_ceil(BITS),
            middle,
            fine,
            words: Vec::new(),
        }
    }

    fn stride(&self) -> usize {
        self.top + self.middle + self.fine
    }

    /// Adds an empty set and returns its number; they count from 0.
    pub(crate) fn add_set(&mut self) -> u32 {
        let number = self.words.len() / self.stride();
        self.words.resize(self.words.len() + self.stride(), 0);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Numbers below this can be members.
    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.fine * BITS).unwrap_or(u32::MAX)
    }

    /// How many sets there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.words.len() / self.stride().max(1)).unwrap_or(u32::MAX)
    }

    fn base(&self, set: u32) -> usize {
        set as usize * self.stride()
    }

    pub(crate) fn insert(&mut self, set: u32, number: u32) {
        let (base, n) = (self.base(set), number as usize);
        let (middle, fine) = (base + self.top, base + self.top + self.middle);
        let word = &mut self.words[fine + n / BITS];
        let was = *word;
        *word |= 1 << (n % BITS);
        if was != 0 {
            // The coarser levels know.
            return;
        }
        self.words[middle + n / (BITS * BITS)] |= 1 << (n / BITS % BITS);
        let top = n / (BITS * BITS);
        self.words[base + top / BITS] |= 1 << (top % BITS);
    }

    /// Takes a number out; says whether the set is empty now.
    pub(crate) fn remove(&mut self, set: u32, number: u32) -> bool {
        let (base, n) = (self.base(set), number as usize);
        let (middle, fine) = (base + self.top, base + self.top + self.middle);
        let word = &mut self.words[fine + n / BITS];
        *word &= !(1 << (n % BITS));
        if *word != 0 {
            return false;
        }
        let word = &mut self.words[middle + n / (BITS * BITS)];
        *word &= !(1 << (n / BITS % BITS));
        if *word != 0 {
            return false;
        }
        let top = n / (BITS * BITS);
        self.words[base + top / BITS] &= !(1 << (top % BITS));
        self.words[base..base + self.top].iter().all(|w| *w == 0)
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, set: u32, number: u32) -> bool {
        let fine = self.base(set) + self.top + self.middle;
        self.words[fine + number as usize / BITS] >> (number as usize % BITS) & 1 == 1
    }

    /// The lowest member that `wanted` says yes to; asks in ascending order.
    #[inline]
    pub(crate) fn first(&self, set: u32, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        self.scan(set, set, &mut wanted)
    }

    /// The lowest number in both sets that `wanted` says yes to; asks in ascending order.
    #[inline]
    pub(crate) fn first_common(
        &self,
        set: u32,
        other: u32,
        mut wanted: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        self.scan(set, other, &mut wanted)
    }

    #[inline]
    fn scan(&self, a: u32, b: u32, wanted: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let (a, b) = (self.base(a), self.base(b));
        let common = |at: usize| self.words[a + at] & self.words[b + at];
        for top in 0..self.top {
            for i in bits(common(top)) {
                let middle = top * BITS + i;
                for j in bits(common(self.top + middle)) {
                    let fine = middle * BITS + j;
                    for k in bits(common(self.top + self.middle + fine)) {
                        let number = u32::try_from(fine * BITS + k).unwrap_or(u32::MAX);
                        if wanted(number) {
                            return Some(number);
                        }
                    }
                }
            }
        }
        None
    }

    /// The lowest member that is not below `from`.
    pub(crate) fn first_from(&self, set: u32, from: u32) -> Option<u32> {
        let base = self.base(set);
        let fine = base + self.top + self.middle;
        let (start, bit) = (from as usize / BITS, from as usize % BITS);
        if start >= self.fine {
            return None;
        }
        let word = self.words[fine + start] & (u64::MAX << bit);
        let at = |index: usize, word: u64| {
            u32::try_from(index * BITS + word.trailing_zeros() as usize).ok()
        };
        if word != 0 {
            return at(start, word);
        }
        let middle = base + self.top;
        let next = start + 1;
        for m in next / BITS..self.middle {
            let mask = if m == next / BITS {
                u64::MAX << (next % BITS)
            } else {
                u64::MAX
            };
            let summary = self.words[middle + m] & mask;
            if summary != 0 {
                let index = m * BITS + summary.trailing_zeros() as usize;
                return at(index, self.words[fine + index]);
            }
        }
        None
    }
}

/// The positions of the bits of a word, ascending.
#[inline]
pub(crate) fn bits(word: u64) -> impl Iterator<Item = usize> {
    let mut left = word;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lowest = left.trailing_zeros() as usize;
        left &= left - 1;
        Some(lowest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..70, 4000u32..4200, 262_000u32..262_300, Just(299_999)]
    }

    proptest! {
        #[test]
        fn a_set_behaves_as_a_set(
            steps in proptest::collection::vec((0u32..2, any::<bool>(), number()), 1..200),
            from in number(),
        ) {
            let mut sets = Sets::new(300_000);
            prop_assert_eq!((sets.add_set(), sets.add_set(), sets.len()), (0, 1, 2));
            let mut model = [BTreeSet::new(), BTreeSet::new()];
            for (set, add, number) in steps {
                let known = &mut model[set as usize];
                if add {
                    known.insert(number);
                    sets.insert(set, number);
                } else {
                    known.remove(&number);
                    prop_assert_eq!(sets.remove(set, number), known.is_empty());
                }
                prop_assert_eq!(sets.contains(set, number), add);
                prop_assert_eq!(sets.first(set, |_| true), known.first().copied());
                let even = known.iter().find(|n| *n % 2 == 0).copied();
                prop_assert_eq!(sets.first(set, |n| n % 2 == 0), even);
                prop_assert_eq!(sets.first_from(set, from), known.range(from..).next().copied());
                let common = model[0].intersection(&model[1]).next().copied();
                prop_assert_eq!(sets.first_common(0, 1, |_| true), common);
            }
        }
    }
}
