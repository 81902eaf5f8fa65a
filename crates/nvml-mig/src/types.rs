//! GPUs and instances as this crate describes them.

use mig::{Placement, ProfileName};

/// A GPU, as it was when the library was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// `GPU-...`, the same across reboots.
    pub uuid: String,
    /// NVML's index; changes when GPUs come and go.
    pub index: u32,
    /// Number of `/dev/nvidia<minor>`; not the index.
    pub minor: u32,
    /// Product name, for example `NVIDIA A100-SXM4-40GB`.
    pub name: String,
    /// For example `00000000:17:00.0`.
    pub pci_bus_id: String,
    /// Memory of the whole GPU in MiB; 0 if the driver does not say.
    pub memory_mib: u64,
    /// Whether it can be partitioned at all.
    pub mig_capable: bool,
    /// Whether MIG mode can be switched without a reset (Hopper and later). Such a mode is lost at
    /// a reboot.
    pub resetless_mig: bool,
}

/// MIG mode of a GPU, now and after its next reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigMode {
    /// The GPU has no MIG mode.
    NotCapable,
    /// Off, and stays off.
    Off,
    /// On, and stays on.
    On,
    /// Off now, on after a reset.
    PendingOn,
    /// On now, off after a reset.
    PendingOff,
}

impl MigMode {
    pub(crate) fn of(current: bool, pending: bool) -> Self {
        match (current, pending) {
            (false, false) => Self::Off,
            (true, true) => Self::On,
            (false, true) => Self::PendingOn,
            (true, false) => Self::PendingOff,
        }
    }

    /// Whether instances can exist now.
    pub fn is_on(self) -> bool {
        matches!(self, Self::On | Self::PendingOff)
    }
}

/// What became of a wish for another MIG mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The mode is in force.
    Done,
    /// The driver has noted it for the next reset.
    Pending {
        /// Why not now, as a sentence.
        reason: String,
    },
}

/// A GPU instance and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInstance {
    /// Unique on its GPU while it exists. There is no fixed relation to the placement.
    pub gi_id: u32,
    /// NVML's profile id.
    pub profile_id: u32,
    /// Name of the profile.
    pub profile: ProfileName,
    /// Where it stands.
    pub placement: Placement,
    /// Its compute instances in ascending order of ids; none after a creation that failed half-way.
    pub compute: Vec<ComputeInstance>,
}

impl GpuInstance {
    /// The uuid of the MIG device, if there is exactly one and it is the whole instance.
    pub fn device_uuid(&self) -> Option<&str> {
        match self.compute.as_slice() {
            [only] if only.full => Some(&only.uuid),
            _ => None,
        }
    }
}

/// A compute instance, which is what a MIG uuid names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeInstance {
    /// Unique in its GPU instance while it exists.
    pub ci_id: u32,
    /// `MIG-...`. The same slot usually gets the same uuid again, even for another profile.
    pub uuid: String,
    /// Whether it has all of its GPU instance's multiprocessors.
    pub full: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(compute: &[bool]) -> GpuInstance {
        let compute = compute
            .iter()
            .zip(0..)
            .map(|(full, ci_id)| ComputeInstance {
                ci_id,
                uuid: format!("MIG-{ci_id}"),
                full: *full,
            });
        GpuInstance {
            gi_id: 1,
            profile_id: 9,
            profile: "3g.20gb".parse().unwrap(),
            placement: Placement::new(0, 4),
            compute: compute.collect(),
        }
    }

    #[test]
    fn only_a_single_full_compute_instance_makes_a_device() {
        assert_eq!(instance(&[true]).device_uuid(), Some("MIG-0"));
        assert_eq!(instance(&[]).device_uuid(), None);
        assert_eq!(instance(&[false]).device_uuid(), None);
        assert_eq!(instance(&[false, false]).device_uuid(), None);
    }
}
