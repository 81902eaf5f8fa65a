//! Which profile a share of a GPU becomes, for traces that know no MIG.

use mig::{Engines, GpuModel, Profile, ProfileIndex};

/// A rule from thousandths of a GPU to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The smallest profile with at least that share of the compute slices: nobody gets less.
    Compute,
    /// The profile whose share of the compute slices is nearest; of two, the larger.
    Nearest,
    /// The smallest profile with at least that share of the memory, whatever its compute.
    Memory,
}

impl Mapping {
    /// The profile on GPUs of the model for 1 to 1000 thousandths of a GPU; more count as 1000.
    /// Of several profiles with the same share, the one with more placements. `None` if the model
    /// has no plain profile.
    pub fn profile(self, model: &GpuModel, gpu_milli: u32) -> Option<ProfileIndex> {
        let plain = || {
            model.indices().filter(|(_, profile)| {
                profile.name.engines() == Engines::Shared && !profile.placements.is_empty()
            })
        };
        let compute = |profile: &Profile| u32::from(profile.name.compute_slices());
        let memory = |profile: &Profile| u32::from(profile.size());
        let milli = gpu_milli.clamp(1, 1000);
        let full = plain().map(|(_, profile)| compute(profile)).max()?;
        let slices = plain().map(|(_, profile)| memory(profile)).max()?;
        let chosen = match self {
            Self::Compute => plain()
                .filter(|(_, profile)| compute(profile) * 1000 >= milli * full)
                .min_by_key(|(_, profile)| (compute(profile), memory(profile))),
            Self::Nearest => plain().min_by_key(|(_, profile)| {
                let gap = (compute(profile) * 1000).abs_diff(milli * full);
                (gap, u32::MAX - compute(profile), memory(profile))
            }),
            Self::Memory => plain()
                .filter(|(_, profile)| memory(profile) * 1000 >= milli * slices)
                .min_by_key(|(_, profile)| {
                    (memory(profile), usize::MAX - profile.placements.len())
                }),
        };
        chosen.map(|(index, _)| index)
    }
}
