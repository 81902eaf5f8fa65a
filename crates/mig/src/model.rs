//! What one kind of GPU can be cut into.

use crate::{Placement, ProfileName, tables};

/// Position of a profile in [`GpuModel::profiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileIndex(pub u8);

/// A GPU-instance profile of one GPU model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name as the driver prints it.
    pub name: ProfileName,
    /// NVML's profile id, which its calls take; not the enum that finds the profile.
    pub id: u32,
    /// Where an instance may stand, ascending by start; all of one size.
    pub placements: Vec<Placement>,
    /// Most instances on one GPU.
    pub max_instances: u8,
    /// Streaming multiprocessors of an instance.
    pub multiprocessors: u32,
    /// Memory of an instance, in MiB.
    pub memory_mib: u64,
}

impl Profile {
    /// Memory slices that an instance occupies; 0 for a profile without placements.
    pub fn size(&self) -> u8 {
        self.placements.first().map_or(0, |p| p.size)
    }
}

/// A GPU model with MIG, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuModel {
    /// Product name as NVML prints it, for example `NVIDIA A100-SXM4-40GB`.
    pub name: String,
    /// Memory slices: 8 on A100 and H100, 4 on A30, 12 on RTX PRO 6000.
    pub slices: u8,
    /// Profiles, in the order of the driver's enum.
    pub profiles: Vec<Profile>,
}

impl GpuModel {
    /// The built-in table for a product name as NVML prints it, if there is one: A30, A100 with 40
    /// and with 80 GB, H100 SXM with 80 GB. Names and sizes can differ with the driver (mig-facts
    /// 1.3); on a node, ask NVML.
    pub fn known(product: &str) -> Option<Self> {
        tables::known(product)
    }

    /// The profile of that name.
    pub fn find(&self, name: &ProfileName) -> Option<(ProfileIndex, &Profile)> {
        self.profiles
            .iter()
            .zip(0u8..)
            .find(|(profile, _)| profile.name == *name)
            .map(|(profile, index)| (ProfileIndex(index), profile))
    }

    /// The profile at an index of this model.
    pub fn profile(&self, index: ProfileIndex) -> Option<&Profile> {
        self.profiles.get(usize::from(index.0))
    }

    /// All profiles with their indices.
    pub fn indices(&self) -> impl Iterator<Item = (ProfileIndex, &Profile)> {
        self.profiles
            .iter()
            .zip(0u8..)
            .map(|(profile, index)| (ProfileIndex(index), profile))
    }
}
