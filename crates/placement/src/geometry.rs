//! What placement needs to know of a GPU model: windows as bits, and what every mask leaves free.
//!
//! Memory slices decide what fits (see [`mig::Layout`]), so the occupied slices of a GPU are its
//! whole state. There are at most 4,096 of them, and everything that depends on one GPU's state is
//! a look-up in a table over masks.

use std::collections::BTreeSet;

use mig::{Engines, GpuModel, Placement, Profile, ProfileIndex, ProfileName};

/// The longest row of memory slices that tables are made for. RTX PRO 6000 has 12.
pub const MOST_SLICES: u8 = 12;

/// The most placements of one geometry, so that a set of them is one `u64`.
pub const MOST_PLACEMENTS: usize = 64;

/// Position of a profile in [`Geometry::profiles`]. Not the model's [`ProfileIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub u8);

impl ProfileId {
    /// As a position.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Position of a placement in [`Geometry::spots`], below [`MOST_PLACEMENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlacementId(pub u8);

impl PlacementId {
    /// As a position.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// As a set of one placement.
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// A profile that instances are placed of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its name on this model.
    pub name: ProfileName,
    /// Where it is in the model.
    pub model_index: ProfileIndex,
    /// Memory slices of an instance.
    pub size: u8,
    /// Its placements, as a set of [`PlacementId`] bits.
    pub windows: u64,
    /// The first of its placements; the others follow, ascending by start.
    pub first: PlacementId,
    /// How many placements it has.
    pub count: u8,
}

/// One placement of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The profile.
    pub profile: ProfileId,
    /// Start and size in memory slices.
    pub placement: Placement,
    /// The memory slices it covers.
    pub mask: u16,
}

/// Why a GPU model cannot be dealt with by masks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// More than [`MOST_SLICES`].
    #[error(
        "failed to describe {model}: it has {slices} memory slices, at most {MOST_SLICES} are supported"
    )]
    Slices {
        /// Product name.
        model: String,
        /// Its memory slices.
        slices: u8,
    },
    /// More than [`MOST_PLACEMENTS`].
    #[error(
        "failed to describe {model}: it has {count} placements, at most {MOST_PLACEMENTS} are supported"
    )]
    Placements {
        /// Product name.
        model: String,
        /// Its placements.
        count: usize,
    },
    /// No profile was left.
    #[error("failed to describe {model}: no profile was chosen that has a placement")]
    Nothing {
        /// Product name.
        model: String,
    },
    /// A placement is not on the row.
    #[error(
        "failed to describe {model}: placement {placement} of {profile} is outside of its memory slices"
    )]
    Outside {
        /// Product name.
        model: String,
        /// The profile.
        profile: ProfileName,
        /// The placement.
        placement: Placement,
    },
    /// What fits depends on more than memory slices, for example on the one set of media engines.
    #[error(
        "failed to describe {model}: whether {profile} fits depends on more than its memory slices; leave it out"
    )]
    NotSlicesAlone {
        /// Product name.
        model: String,
        /// The profile.
        profile: ProfileName,
    },
}

/// Profiles and placements of one GPU model, ready for look-ups by mask.
///
/// Profiles are ordered from large to small (memory slices, then compute slices, then names), which
/// does not depend on the driver's order: models of one shape share their tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    slices: u8,
    profiles: Vec<Shape>,
    spots: Vec<Spot>,
    free: Vec<u64>,
    fitting: Vec<u64>,
    reachable: Vec<u16>,
}

impl Geometry {
    /// The geometry of a model with the profiles that have no engines in their name. An instance
    /// with engines (`1g.5gb+me`) covers the slices of its plain profile and is placed as that.
    ///
    /// # Errors
    /// A [`GeometryError`] if the model has too many slices or placements, or none.
    pub fn new(model: &GpuModel) -> Result<Self, GeometryError> {
        Self::with(model, |name| name.engines() == Engines::Shared)
    }

    /// The geometry of a model with the profiles that `wanted` picks.
    ///
    /// # Errors
    /// As [`Geometry::new`], and if whether a picked profile fits depends on more than slices.
    pub fn with(
        model: &GpuModel,
        wanted: impl Fn(&ProfileName) -> bool,
    ) -> Result<Self, GeometryError> {
        let name = || model.name.clone();
        if model.slices > MOST_SLICES {
            return Err(GeometryError::Slices {
                model: name(),
                slices: model.slices,
            });
        }
        let mut picked: Vec<_> = model
            .indices()
            .filter(|(_, p)| wanted(&p.name) && !p.placements.is_empty())
            .collect();
        picked.sort_by_key(|(_, p)| {
            let large_first = std::cmp::Reverse((p.size(), p.name.compute_slices()));
            (large_first, p.name)
        });
        let mut profiles = Vec::new();
        let mut spots: Vec<Spot> = Vec::new();
        let total: usize = picked.iter().map(|(_, p)| p.placements.len()).sum();
        if total > MOST_PLACEMENTS {
            return Err(GeometryError::Placements {
                model: name(),
                count: total,
            });
        }
        for ((model_index, profile), id) in picked.iter().zip(0u8..) {
            let engines = profile.name.engines();
            let alone = usize::from(profile.max_instances) >= most_disjoint(&profile.placements)
                && !picked
                    .iter()
                    .any(|(_, other)| engines.excludes(other.name.engines()));
            if !alone {
                return Err(GeometryError::NotSlicesAlone {
                    model: name(),
                    profile: profile.name,
                });
            }
            let first = spots.len();
            for placement in &profile.placements {
                if !placement.is_within(model.slices) {
                    return Err(GeometryError::Outside {
                        model: name(),
                        profile: profile.name,
                        placement: *placement,
                    });
                }
                spots.push(Spot {
                    profile: ProfileId(id),
                    placement: *placement,
                    mask: placement.mask().bits(),
                });
            }
            let windows = (first..spots.len()).fold(0, |set, spot| set | 1u64 << spot);
            profiles.push(Shape {
                name: profile.name,
                model_index: *model_index,
                size: profile.size(),
                windows,
                first: PlacementId(u8::try_from(first).unwrap_or(u8::MAX)),
                count: u8::try_from(profile.placements.len()).unwrap_or(u8::MAX),
            });
        }
        if spots.is_empty() {
            return Err(GeometryError::Nothing { model: name() });
        }
        let free = (0..1u32 << model.slices)
            .map(|mask| {
                let fits = spots
                    .iter()
                    .zip(0..)
                    .filter(|(s, _)| u32::from(s.mask) & mask == 0);
                fits.fold(0, |set, (_, spot)| set | 1u64 << spot)
            })
            .collect::<Vec<u64>>();
        let fitting = |set: &u64| {
            let fits = profiles
                .iter()
                .zip(0..)
                .filter(|(p, _)| p.windows & set != 0);
            fits.fold(0, |set, (_, profile)| set | 1u64 << profile)
        };
        let fitting = free.iter().map(fitting).collect();
        let reachable = reachable(&spots);
        Ok(Self {
            slices: model.slices,
            profiles,
            spots,
            free,
            fitting,
            reachable,
        })
    }

    /// Memory slices of a GPU.
    pub fn slices(&self) -> u8 {
        self.slices
    }

    /// Every slice occupied.
    pub fn full(&self) -> u16 {
        // At most 12 bits, see MOST_SLICES.
        u16::MAX >> (16 - u32::from(self.slices))
    }

    /// How many masks there are, reachable or not; tables over masks have this length.
    pub fn mask_count(&self) -> usize {
        self.free.len()
    }

    /// Every mask, reachable or not, ascending.
    pub fn masks(&self) -> impl Iterator<Item = u16> + use<> {
        0..=self.full()
    }

    /// The masks that instances alone can bring about, ascending. Reserved or broken slices can
    /// bring about others.
    pub fn reachable(&self) -> &[u16] {
        &self.reachable
    }

    /// The profiles, large to small.
    pub fn profiles(&self) -> &[Shape] {
        &self.profiles
    }

    /// Ids of all profiles, large to small.
    pub fn profile_ids(&self) -> impl Iterator<Item = ProfileId> + use<> {
        let count = u8::try_from(self.profiles.len()).unwrap_or(u8::MAX);
        (0..count).map(ProfileId)
    }

    /// The profile of that id.
    ///
    /// # Panics
    /// If the id is of another geometry.
    pub fn profile(&self, id: ProfileId) -> &Shape {
        &self.profiles[id.index()]
    }

    /// The profile of that name.
    pub fn find(&self, name: &ProfileName) -> Option<ProfileId> {
        self.profile_ids()
            .find(|id| self.profile(*id).name == *name)
    }

    /// The profile at that place of the model, if it is one of this geometry.
    pub fn of_model(&self, index: ProfileIndex) -> Option<ProfileId> {
        self.profile_ids()
            .find(|id| self.profile(*id).model_index == index)
    }

    /// The profile that stands for one of the model: itself, or for one with engines
    /// (`1g.5gb+me`) the one with the same placements and compute slices. Whether the engines are
    /// free is for the caller to know, see [`crate::Pool::choose_if`].
    pub fn standing_for(&self, profile: &Profile) -> Option<ProfileId> {
        let alike = |id: &ProfileId| {
            let shape = self.profile(*id);
            let places = placements(shape.windows).map(|id| self.spot(id).placement);
            shape.name.compute_slices() == profile.name.compute_slices()
                && places.eq(profile.placements.iter().copied())
        };
        self.find(&profile.name)
            .or_else(|| self.profile_ids().find(alike))
    }

    /// All placements, grouped by profile in the order of the profiles, ascending by start.
    pub fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// The placement of that id.
    ///
    /// # Panics
    /// If the id is of another geometry.
    pub fn spot(&self, id: PlacementId) -> &Spot {
        &self.spots[id.index()]
    }

    /// Where that profile may start at that slice, if it may.
    pub fn spot_at(&self, profile: ProfileId, start: u8) -> Option<PlacementId> {
        placements(self.profile(profile).windows).find(|id| self.spot(*id).placement.start == start)
    }

    /// All placements that are free when these slices are occupied, as bits.
    ///
    /// # Panics
    /// If the mask has bits beyond the GPU's slices.
    pub fn free(&self, mask: u16) -> u64 {
        self.free[usize::from(mask)]
    }

    /// The placements of a profile that are free when these slices are occupied, as bits.
    ///
    /// # Panics
    /// As [`Geometry::free`].
    pub fn free_of(&self, mask: u16, profile: ProfileId) -> u64 {
        self.free(mask) & self.profile(profile).windows
    }

    /// The profiles that fit when these slices are occupied, as bits by [`ProfileId`].
    ///
    /// # Panics
    /// As [`Geometry::free`].
    pub fn fitting(&self, mask: u16) -> u64 {
        self.fitting[usize::from(mask)]
    }

    /// The slices that a set of placements covers.
    pub fn cover(&self, set: u64) -> u16 {
        placements(set).fold(0, |mask, id| mask | self.spot(id).mask)
    }

    /// Those of a set of placements that share a slice with the mask.
    pub fn overlapped(&self, set: u64, mask: u16) -> u64 {
        set & !self.free(mask)
    }

    /// How many layouts there are, the empty one included. Takes as many steps.
    pub fn count_layouts(&self) -> usize {
        let mut count = 0;
        self.each_layout(|_, _| count += 1);
        count
    }

    /// How many layouts there are to which nothing can be added.
    pub fn count_full_layouts(&self) -> usize {
        let mut count = 0;
        self.each_layout(|_, mask| count += usize::from(self.free(mask) == 0));
        count
    }

    /// Calls `visit` for each layout, as a set of placements and the slices it covers.
    pub fn each_layout(&self, mut visit: impl FnMut(u64, u16)) {
        let mut stack = vec![(0u64, 0u16, 0u32)];
        while let Some((set, mask, from)) = stack.pop() {
            visit(set, mask);
            let later = self.free(mask).checked_shr(from).unwrap_or(0);
            for id in placements(later << from.min(63)) {
                let spot = self.spot(id);
                stack.push((set | id.bit(), mask | spot.mask, u32::from(id.0) + 1));
            }
        }
    }

    /// Whether two models are cut alike, whatever their profiles are called.
    pub fn same_shape(&self, other: &Self) -> bool {
        let compute =
            |g: &Self| -> Vec<u8> { g.profiles.iter().map(|p| p.name.compute_slices()).collect() };
        self.slices == other.slices && self.spots == other.spots && compute(self) == compute(other)
    }
}

/// The placements in a set of bits, ascending.
pub fn placements(set: u64) -> impl Iterator<Item = PlacementId> {
    let mut left = set;
    std::iter::from_fn(move || {
        let lowest = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        // Below 64 while a bit is left.
        u8::try_from(lowest)
            .ok()
            .filter(|bit| *bit < 64)
            .map(PlacementId)
    })
}

/// How many of these placements can stand side by side.
fn most_disjoint(ascending: &[Placement]) -> usize {
    let mut end = 0;
    ascending
        .iter()
        .filter(|placement| {
            let fits = placement.start >= end;
            if fits {
                end = placement.start.saturating_add(placement.size);
            }
            fits
        })
        .count()
}

fn reachable(spots: &[Spot]) -> Vec<u16> {
    let mut known = BTreeSet::from([0u16]);
    let mut open = vec![0u16];
    while let Some(mask) = open.pop() {
        for spot in spots.iter().filter(|spot| spot.mask & mask == 0) {
            if known.insert(mask | spot.mask) {
                open.push(mask | spot.mask);
            }
        }
    }
    known.into_iter().collect()
}

#[cfg(test)]
pub(crate) mod tests;
