//! Memory slices of a node by what is on them, for the metrics.

use std::collections::BTreeMap;

use cdmo_proto::agent::instance::State;
use mig::{Layout, ProfileName};

use crate::snapshot::{GpuRow, InstanceRow, SnapshotRow};

/// What a memory slice is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// A pod holds it.
    Held,
    /// Part of a device that nobody holds.
    Idle,
    /// Part of a device that is being offered or given up.
    Changing,
    /// Part of a device with a fault, or of one that is offered under no name.
    OutOfService,
    /// Not part of any device, and some instance could still use it.
    Free,
    /// Not part of any device, and none can use it while the others stand where they do.
    OutOfReach,
}

impl Use {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Held,
        Self::Idle,
        Self::Changing,
        Self::OutOfService,
        Self::Free,
        Self::OutOfReach,
    ];

    /// The word in labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Idle => "idle",
            Self::Changing => "changing",
            Self::OutOfService => "out_of_service",
            Self::Free => "free",
            Self::OutOfReach => "out_of_reach",
        }
    }

    fn of(device: &InstanceRow) -> Self {
        match device.state {
            State::Held => Self::Held,
            State::Idle => Self::Idle,
            // A whole MIG device, that is, with which nothing is wrong.
            State::Parked if !device.device_id.is_empty() && device.reason.is_empty() => Self::Idle,
            State::Offering | State::Withdrawing => Self::Changing,
            State::Stuck | State::Unhealthy | State::Parked | State::Unspecified => {
                Self::OutOfService
            }
        }
    }
}

/// Whose slices they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// An instance of this profile.
    Profile(ProfileName),
    /// An instance of a profile that the GPU's model lacks.
    Other,
    /// A GPU that is not divided.
    Whole,
    /// No device.
    None,
}

impl Owner {
    /// The word in labels.
    pub fn word(self) -> String {
        match self {
            Self::Profile(name) => name.to_string(),
            Self::Other => "other".to_owned(),
            Self::Whole => "whole".to_owned(),
            Self::None => "none".to_owned(),
        }
    }
}

impl Owner {
    /// What slices of this owner can be used for.
    pub fn uses(self) -> &'static [Use] {
        match self {
            Self::None => &[Use::Free, Use::OutOfReach],
            _ => &[Use::Held, Use::Idle, Use::Changing, Use::OutOfService],
        }
    }
}

/// Numbers of slices.
pub type Counts = BTreeMap<(Owner, Use), u32>;

/// Counts the slices of a node. GPUs without MIG have none.
pub fn count(snapshot: &SnapshotRow) -> Counts {
    let mut counts = Counts::new();
    for gpu in &snapshot.gpus {
        let Some(model) = &gpu.model else { continue };
        let slices = u32::from(model.slices);
        if let Some(whole) = &gpu.whole {
            *counts.entry((Owner::Whole, Use::of(whole))).or_default() += slices;
            continue;
        }
        for device in &gpu.instances {
            let profile = device.profile.and_then(|index| model.profile(index));
            let owner = profile.map_or(Owner::Other, |profile| Owner::Profile(profile.name));
            let size = device.placement.mask().len();
            *counts.entry((owner, Use::of(device))).or_default() += size;
        }
        let (free, reachable) = free(gpu);
        *counts.entry((Owner::None, Use::Free)).or_default() += reachable.len();
        *counts.entry((Owner::None, Use::OutOfReach)).or_default() += free.len() - reachable.len();
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// The GPU's slices that no instance stands on, and those of them that one could still use.
pub fn free(gpu: &GpuRow) -> (mig::SliceMask, mig::SliceMask) {
    let Some(model) = &gpu.model else {
        return (mig::SliceMask::EMPTY, mig::SliceMask::EMPTY);
    };
    let mut layout = Layout::default();
    let mut occupied = mig::SliceMask::EMPTY;
    for device in &gpu.instances {
        occupied = occupied.union(device.placement.mask());
        if let Some(profile) = device.profile {
            // What the driver reports stands there, whatever the model thinks of it.
            let _ = layout.place(model, profile, device.placement);
        }
    }
    let all = mig::Placement::new(0, model.slices).mask();
    let reachable = layout.reachable(model);
    let free = all.without(occupied);
    (free, free.without(all.without(reachable)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cdmo_proto::agent::MigMode;
    use mig::{GpuModel, Placement};

    use super::*;

    fn gpu(devices: &[(&str, u8, State)]) -> GpuRow {
        let model = Arc::new(GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap());
        let row = |(name, start, state): &(&str, u8, State)| {
            let (index, profile) = model.find(&name.parse().unwrap()).unwrap();
            InstanceRow {
                gi_id: u32::from(*start) + 1,
                profile: Some(index),
                placement: Placement::new(*start, profile.size()),
                device_id: format!("MIG-{start}"),
                resource: None,
                state: *state,
                holders: Vec::new(),
                since: 0,
                reason: "".into(),
            }
        };
        GpuRow {
            left_alone: false,
            uuid: "GPU-0".into(),
            index: 0,
            product: model.name.as_str().into(),
            version: 1,
            instances: devices.iter().map(row).collect(),
            model: Some(model),
            mode: MigMode::On,
            whole: None,
            consistent: true,
        }
    }

    fn counted(gpus: Vec<GpuRow>) -> Vec<(String, &'static str, u32)> {
        let snapshot = SnapshotRow {
            gpus,
            ..SnapshotRow::default()
        };
        let counts = count(&snapshot).into_iter();
        counts
            .map(|((owner, state), n)| (owner.word(), state.word(), n))
            .collect()
    }

    #[test]
    fn every_slice_is_counted_once() {
        let one = gpu(&[
            ("3g.20gb", 0, State::Held),
            ("1g.5gb", 4, State::Idle),
            ("1g.5gb", 5, State::Stuck),
        ]);
        let expected = [
            ("1g.5gb", "idle", 1),
            ("1g.5gb", "out_of_service", 1),
            ("3g.20gb", "held", 4),
            ("none", "free", 2),
        ];
        let mut found = counted(vec![one]);
        found.sort_unstable();
        let expected = expected.map(|(owner, state, n)| (owner.to_owned(), state, n));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_slice_that_nobody_can_use_is_out_of_reach() {
        let seven: Vec<_> = (0..7).map(|n| ("1g.5gb", n, State::Held)).collect();
        let found = counted(vec![gpu(&seven)]);
        assert!(
            found.contains(&("none".into(), "out_of_reach", 1)),
            "{found:?}"
        );
        assert_eq!(found.iter().map(|(_, _, n)| n).sum::<u32>(), 8);
    }

    #[test]
    fn a_whole_gpu_is_counted_by_what_it_could_be_divided_into() {
        let mut undivided = gpu(&[]);
        let mut device = gpu(&[("7g.40gb", 0, State::Held)]).instances.remove(0);
        device.profile = None;
        undivided.whole = Some(device);
        assert_eq!(counted(vec![undivided]), [("whole".to_owned(), "held", 8)]);
    }
}
