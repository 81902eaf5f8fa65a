//! Memory slices as bits, so that "does it fit" is one AND.

use std::fmt;

/// The most memory slices any GPU has that [`SliceMask`] can describe. RTX PRO 6000 has 12.
pub const MAX_SLICES: u8 = 16;

/// A set of memory slices of one GPU; bit `n` is slice `n`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceMask(u16);

impl SliceMask {
    /// No slice.
    pub const EMPTY: Self = Self(0);

    /// The bits themselves.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// A mask of the given bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether the two share a slice.
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Slices that are in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Slices of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the slice is in it.
    pub const fn contains(self, slice: u8) -> bool {
        slice < MAX_SLICES && self.0 >> slice & 1 == 1
    }

    /// How many slices it has.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for SliceMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SliceMask({:#014b})", self.0)
    }
}

/// Where a GPU instance stands: its first memory slice and how many it occupies.
///
/// Printed as NVIDIA does, `start:size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    /// First memory slice, from 0.
    pub start: u8,
    /// Number of memory slices, at least 1.
    pub size: u8,
}

impl Placement {
    /// A placement; see [`Placement::is_within`] for what makes one valid.
    pub const fn new(start: u8, size: u8) -> Self {
        Self { start, size }
    }

    /// Whether it has a size and lies on a row of `slices` memory slices.
    pub const fn is_within(self, slices: u8) -> bool {
        self.size > 0
            && self.start < MAX_SLICES
            && self.size <= MAX_SLICES
            && self.start + self.size <= slices
    }

    /// The slices it covers. Parts beyond [`MAX_SLICES`] are cut off.
    pub const fn mask(self) -> SliceMask {
        let ones = if self.size >= MAX_SLICES {
            u16::MAX
        } else {
            (1 << self.size) - 1
        };
        if self.start >= MAX_SLICES {
            SliceMask::EMPTY
        } else {
            SliceMask(ones << self.start)
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mask_covers_exactly_the_slices_of_the_placement(start in 0u8..16, size in 1u8..=16) {
            let placement = Placement::new(start, size);
            for slice in 0..MAX_SLICES {
                let covered = slice >= start && slice < start.saturating_add(size);
                prop_assert_eq!(placement.mask().bits() >> slice & 1 == 1, covered);
            }
        }

        #[test]
        fn no_placement_makes_the_arithmetic_overflow(start: u8, size: u8, slices: u8) {
            let placement = Placement::new(start, size);
            let _ = placement.mask();
            if placement.is_within(slices.min(MAX_SLICES)) {
                prop_assert_eq!(placement.mask().len(), u32::from(size));
            }
        }
    }
}
