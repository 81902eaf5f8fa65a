//! What kinds of GPU can be simulated.

mod tables;

use crate::model::grid::{Grid, Shape};

pub use tables::BOARDS;

/// NVML's architecture number and what hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// No MIG.
    Turing = 6,
    /// MIG mode changes with a reset and survives a reboot.
    Ampere = 7,
    /// MIG mode changes at once and is lost at a reboot.
    Hopper = 9,
    /// As Hopper.
    Blackwell = 10,
}

/// One model of GPU.
#[derive(Debug)]
pub struct Board {
    /// Short name for the configuration, for example `A100-SXM4-40GB`.
    pub key: &'static str,
    /// Name as NVML gives it.
    pub name: &'static str,
    /// Architecture.
    pub architecture: Architecture,
    /// CUDA compute capability.
    pub compute_capability: (i32, i32),
    /// NVML's brand number.
    pub brand: u32,
    /// PCI device id; NVIDIA's vendor id is added where NVML shows it.
    pub pci_device: u32,
    /// Memory of the whole GPU in MiB.
    pub memory_mib: u64,
    /// Memory that an instance without processes shows as used: MiB per memory slice, or in all.
    pub idle_mib: IdleMemory,
    /// Slots of the instance-id tree; 0 on a GPU without MIG.
    pub slots: u32,
    /// NVML's memory slices per slot.
    pub unit: u32,
    /// GPU-instance profiles in the order of their enum; empty on a GPU without MIG.
    pub profiles: &'static [Profile],
}

/// Memory shown as used on an instance that runs nothing.
#[derive(Clone, Copy, Debug)]
pub enum IdleMemory {
    /// MiB whatever the size.
    Flat(u64),
    /// MiB for each compute slice.
    PerSlice(u64),
}

/// Media engines: what makes `+me` profiles exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Engines {
    /// Video decoders.
    pub decoder: u32,
    /// Video encoders.
    pub encoder: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical-flow engines.
    pub ofa: u32,
}

impl Engines {
    /// How many times `self` can be taken out of `left`; `None` if it needs no engine at all.
    pub fn times_in(self, left: Self) -> Option<u32> {
        [
            (self.decoder, left.decoder),
            (self.encoder, left.encoder),
            (self.jpeg, left.jpeg),
            (self.ofa, left.ofa),
        ]
        .into_iter()
        .filter(|&(need, _)| need > 0)
        .map(|(need, have)| have / need)
        .min()
    }

    /// What is left after `taken`.
    #[must_use]
    pub fn minus(self, taken: Self) -> Self {
        Self {
            decoder: self.decoder.saturating_sub(taken.decoder),
            encoder: self.encoder.saturating_sub(taken.encoder),
            jpeg: self.jpeg.saturating_sub(taken.jpeg),
            ofa: self.ofa.saturating_sub(taken.ofa),
        }
    }
}

/// A GPU-instance profile.
#[derive(Debug)]
pub struct Profile {
    /// The number by which profiles are enumerated (`NVML_GPU_INSTANCE_PROFILE_*`).
    pub index: u32,
    /// The number by which every other call names the profile.
    pub id: u32,
    /// Name without the leading `MIG `, for example `1g.5gb+me`.
    pub name: &'static str,
    /// Compute slices.
    pub slices: u32,
    /// What it needs of the instance-id tree.
    pub shape: Shape,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Copy engines.
    pub copy_engines: u32,
    /// Media engines.
    pub engines: Engines,
    /// The most instances of it on an empty GPU.
    pub max_instances: u32,
}

impl Profile {
    /// Name without its attribute: NVML leaves `+me` off the names of MIG devices.
    pub fn plain_name(&self) -> &'static str {
        let gigabytes = self.name.find("gb").map_or(self.name.len(), |at| at + 2);
        &self.name[..gigabytes]
    }

    /// Whether graphics works on it.
    pub fn graphics(&self) -> bool {
        self.name.ends_with("+gfx")
    }
}

impl Board {
    /// The board of that key, or of that full name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BOARDS.iter().find(|board| {
            board.key.eq_ignore_ascii_case(name) || board.name.eq_ignore_ascii_case(name)
        })
    }

    /// Whether it can be partitioned at all.
    pub fn mig_capable(&self) -> bool {
        !self.profiles.is_empty()
    }

    /// Whether MIG mode changes without a reset (and is lost at a reboot).
    pub fn resetless(&self) -> bool {
        self.architecture >= Architecture::Hopper
    }

    /// The memory slots of one such GPU. `fused` counts for eight-slot boards only.
    pub fn grid(&self, fused: u32) -> Grid {
        Grid {
            slots: self.slots,
            fused: (self.slots == 8).then_some(fused),
            unit: self.unit,
        }
    }

    /// The profile of that enum.
    pub fn by_index(&self, index: u32) -> Option<&'static Profile> {
        self.profiles.iter().find(|profile| profile.index == index)
    }

    /// The profile of that id.
    pub fn by_id(&self, id: u32) -> Option<&'static Profile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile of that name.
    pub fn by_name(&self, name: &str) -> Option<&'static Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// The profile that takes the whole GPU.
    pub fn whole(&self) -> Option<&'static Profile> {
        self.profiles
            .iter()
            .find(|profile| profile.shape.level == 0)
    }

    /// Each distinct shape of the board once: attributes such as `+me` do not count when the
    /// driver looks for the best fit.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for profile in self.profiles {
            if !shapes.contains(&profile.shape) {
                shapes.push(profile.shape);
            }
        }
        shapes
    }

    /// The largest possible number of MIG devices.
    pub fn max_devices(&self) -> u32 {
        self.profiles
            .iter()
            .map(|profile| profile.max_instances)
            .max()
            .unwrap_or(0)
    }

    /// Memory that an idle instance of `profile` shows as used, in MiB.
    pub fn idle_mib(&self, profile: &Profile) -> u64 {
        match self.idle_mib {
            IdleMemory::Flat(mib) => mib,
            IdleMemory::PerSlice(mib) => mib * u64::from(profile.slices),
        }
    }
}
