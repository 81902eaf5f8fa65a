//! What part of a GPU a profile's name may stand for, where the GPU is not known.
//!
//! Names are made of memory sizes: `1g.10gb` is an eighth of an A100 with 80 GB, and a quarter of
//! the memory of one with 40 GB. Source: the MIG user guide and `nvidia-smi mig -lgip` of real
//! boards.

use crate::ProfileName;

use super::{Class, Share};

/// GB in the names of one kind of GPU: of 1g, of 2g and of the 1g with double memory, of 3g and 4g,
/// of 7g.
const EIGHT_SLICES: [[u16; 4]; 12] = [
    [5, 10, 20, 40],    // A100-40
    [10, 20, 39, 79],   // A100-80, driver 535 and 545
    [10, 20, 40, 80],   // A100-80, H100
    [12, 24, 47, 94],   // H100 NVL
    [12, 24, 48, 96],   // H100-96, GH200-96, H20
    [18, 35, 71, 141],  // H200
    [18, 36, 72, 144],  // GH200-144
    [23, 45, 90, 180],  // B200
    [23, 47, 93, 186],  // GB200
    [24, 47, 95, 189],  // GB200, early drivers
    [34, 67, 135, 269], // B300
    [35, 70, 139, 278], // GB300
];

/// GB in the names of 1g, 2g and 4g.
const FOUR_SLICES: [[u16; 3]; 3] = [
    [6, 12, 24],  // A30
    [12, 24, 48], // RTX PRO 5000
    [24, 48, 96], // RTX PRO 6000
];

/// One way to read profile names: as those of a certain kind of GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning(Board);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Board {
    Eight([u16; 4]),
    Four([u16; 3]),
    /// Known by nothing but its number of compute slices, 7 or 4.
    Unknown(u8),
}

impl Meaning {
    /// The part of such a GPU that an instance of the profile takes; `None` if such a GPU has no
    /// profile of that name.
    pub fn share(self, name: ProfileName) -> Option<Share> {
        let (compute, gb) = (name.compute_slices(), name.memory_gb());
        let class = match self.0 {
            Board::Eight([one, two, half, full]) => match compute {
                1 if gb == one => Class::Eighth,
                1 | 2 if gb == two => Class::Quarter,
                3 | 4 if gb == half => Class::Half,
                7 if gb == full => Class::Whole,
                _ => return None,
            },
            Board::Four([one, two, full]) => match compute {
                1 if gb == one => Class::Quarter,
                2 if gb == two => Class::Half,
                4 if gb == full => Class::Whole,
                _ => return None,
            },
            Board::Unknown(7) => match compute {
                1 => Class::Eighth,
                2 => Class::Quarter,
                3 | 4 => Class::Half,
                7 => Class::Whole,
                _ => return None,
            },
            Board::Unknown(full) => match (compute, full) {
                (1, 4) => Class::Quarter,
                (1, 2) | (2, 4) => Class::Half,
                (2, 2) | (4, 4) => Class::Whole,
                _ => return None,
            },
        };
        Some(class.share())
    }
}

/// Every way to read these names together: as those of one kind of GPU that is known to have them
/// all, or, if there is none, by their compute slices alone.
pub fn meanings<'a, I>(names: I) -> Vec<Meaning>
where
    I: IntoIterator<Item = &'a ProfileName>,
    I::IntoIter: Clone,
{
    let names = names.into_iter();
    let fits = |meaning: &Meaning| names.clone().all(|name| meaning.share(*name).is_some());
    let known: Vec<_> = EIGHT_SLICES
        .into_iter()
        .map(Board::Eight)
        .chain(FOUR_SLICES.into_iter().map(Board::Four))
        .map(Meaning)
        .filter(fits)
        .collect();
    if !known.is_empty() {
        return known;
    }
    [7, 4, 2]
        .map(|full| Meaning(Board::Unknown(full)))
        .into_iter()
        .filter(fits)
        .collect()
}
