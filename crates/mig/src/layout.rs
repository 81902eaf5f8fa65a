//! What stands on one GPU.

use crate::{GpuModel, Placement, ProfileIndex, SliceMask};

/// One GPU instance of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Occupant {
    /// Its profile, in the GPU's model.
    pub profile: ProfileIndex,
    /// Where it stands.
    pub placement: Placement,
}

/// All placements of one GPU.
///
/// Memory slices decide: instances that do not share one never need more compute slices than the
/// GPU has (checked over every reachable layout in the tests), so a mask is the whole state but
/// for the media engines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    occupants: Vec<Occupant>,
    blocked: SliceMask,
    /// By occupants, or blocked.
    occupied: SliceMask,
}

/// Why an instance cannot stand somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The model has no such profile.
    #[error("the GPU has no such profile")]
    NoSuchProfile,
    /// The profile never stands there.
    #[error("the profile cannot start at that memory slice")]
    NoSuchPlacement,
    /// Another instance has one of the slices.
    #[error("memory slices are taken")]
    Occupied,
    /// The GPU has no more of these instances, whatever slices are free.
    #[error("the GPU cannot have more instances of this profile")]
    TooMany,
    /// Another instance has the media engines.
    #[error("another instance has the media engines")]
    Engines,
}

impl Layout {
    /// The instances, in the order they were placed.
    pub fn occupants(&self) -> &[Occupant] {
        &self.occupants
    }

    /// The memory slices in use, or blocked.
    pub fn occupied(&self) -> SliceMask {
        self.occupied
    }

    /// Whether an instance could be made there now.
    ///
    /// # Errors
    /// The first [`Conflict`] found.
    pub fn check(
        &self,
        model: &GpuModel,
        profile: ProfileIndex,
        placement: Placement,
    ) -> Result<(), Conflict> {
        let wanted = model.profile(profile).ok_or(Conflict::NoSuchProfile)?;
        if !wanted.placements.contains(&placement) {
            return Err(Conflict::NoSuchPlacement);
        }
        if self.occupied.overlaps(placement.mask()) {
            return Err(Conflict::Occupied);
        }
        self.check_engines(model, profile)
    }

    fn check_engines(&self, model: &GpuModel, profile: ProfileIndex) -> Result<(), Conflict> {
        let wanted = model.profile(profile).ok_or(Conflict::NoSuchProfile)?;
        let same = self
            .occupants
            .iter()
            .filter(|o| o.profile == profile)
            .count();
        if same >= usize::from(wanted.max_instances) {
            return Err(Conflict::TooMany);
        }
        let engines = wanted.name.engines();
        let excluded = self
            .occupants
            .iter()
            .filter_map(|o| model.profile(o.profile))
            .any(|present| engines.excludes(present.name.engines()));
        if excluded {
            Err(Conflict::Engines)
        } else {
            Ok(())
        }
    }

    /// Puts an instance there.
    ///
    /// # Errors
    /// The [`Conflict`] of [`Layout::check`]; the layout is then unchanged.
    pub fn place(
        &mut self,
        model: &GpuModel,
        profile: ProfileIndex,
        placement: Placement,
    ) -> Result<(), Conflict> {
        self.check(model, profile, placement)?;
        self.occupants.push(Occupant { profile, placement });
        self.occupied = self.occupied.union(placement.mask());
        Ok(())
    }

    /// Keeps slices from anything that is placed from now on.
    pub fn block(&mut self, slices: SliceMask) {
        self.blocked = self.blocked.union(slices);
        self.occupied = self.occupied.union(slices);
    }

    /// Lets slices be used again that were blocked, but for what stands on them.
    pub fn unblock(&mut self, slices: SliceMask) {
        self.blocked = self.blocked.without(slices);
        self.count_again();
    }

    /// Takes away the instance at exactly this placement, if there is one.
    pub fn remove(&mut self, placement: Placement) -> Option<Occupant> {
        let at = self
            .occupants
            .iter()
            .position(|o| o.placement == placement)?;
        let gone = self.occupants.swap_remove(at);
        self.count_again();
        Some(gone)
    }

    fn count_again(&mut self) {
        let masks = self.occupants.iter().map(|o| o.placement.mask());
        self.occupied = masks.fold(self.blocked, SliceMask::union);
    }

    /// Where an instance of the profile could be made now, by ascending start.
    pub fn free_placements<'a>(
        &'a self,
        model: &'a GpuModel,
        profile: ProfileIndex,
    ) -> impl Iterator<Item = Placement> + 'a {
        let possible = self.check_engines(model, profile).is_ok();
        model
            .profile(profile)
            .filter(|_| possible)
            .into_iter()
            .flat_map(|profile| profile.placements.iter().copied())
            .filter(|placement| !self.occupied.overlaps(placement.mask()))
    }

    /// Free memory slices that some further instance could cover. The others lie idle as long as
    /// what stands there stands: slice 7 of an A100 behind seven 1g instances, for example.
    pub fn reachable(&self, model: &GpuModel) -> SliceMask {
        let placements = model
            .indices()
            .flat_map(|(profile, _)| self.free_placements(model, profile));
        placements.fold(SliceMask::EMPTY, |mask, placement| {
            mask.union(placement.mask())
        })
    }

    /// How many placements of the profile are free, as NVML counts its remaining capacity:
    /// placements that exclude each other count each, but never more than the GPU can still have.
    pub fn remaining(&self, model: &GpuModel, profile: ProfileIndex) -> usize {
        let present = self
            .occupants
            .iter()
            .filter(|o| o.profile == profile)
            .count();
        let most = model
            .profile(profile)
            .map_or(0, |p| usize::from(p.max_instances));
        self.free_placements(model, profile)
            .count()
            .min(most.saturating_sub(present))
    }
}

#[cfg(test)]
mod tests;
