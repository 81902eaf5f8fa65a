//! GPU-instance profiles: what they are called, and the model of a GPU that they make up.
//!
//! NVML has two numbers for a profile. The *enum* (0 to about 17, the same on all boards) finds it;
//! the *id* (19, 14, 9 ... board specific) is what all other calls take. One in place of the other
//! gives a plausible profile of the wrong size, so here enums live in [`Row`] lookups only.

use mig::{Engines, GpuModel, Placement, Profile, ProfileName};

/// More enums than any driver has (`NVML_GPU_INSTANCE_PROFILE_COUNT` is 18): a later driver's new
/// profiles are found as well; enumeration ends where the driver says "invalid argument".
pub(crate) const ENUM_LIMIT: u32 = 64;

const MIB: u128 = 1 << 20;
const GIB: u128 = 1 << 30;

/// A profile as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u32,
    pub(crate) compute_slices: u32,
    pub(crate) max_instances: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) memory_mib: u64,
    pub(crate) name: ProfileName,
}

/// What `nvmlDeviceGetGpuInstanceProfileInfo[V]` fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileInfo {
    pub(crate) id: u32,
    pub(crate) compute_slices: u32,
    pub(crate) max_instances: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) memory_mib: u64,
    /// From version 2 of the call on.
    pub(crate) name: Option<String>,
}

impl ProfileInfo {
    /// Names the profile: as the driver does, else by NVIDIA's formula.
    pub(crate) fn into_row(self, enumerator: u32, total_mib: u64) -> Row {
        let name = self
            .name
            .as_deref()
            .and_then(driver_name)
            .unwrap_or_else(|| {
                ProfileName::new(
                    u8::try_from(self.compute_slices).unwrap_or(u8::MAX),
                    named_gb(self.memory_mib, total_mib),
                    engines(enumerator),
                )
            });
        let Self {
            id,
            compute_slices,
            max_instances,
            multiprocessors,
            memory_mib,
            ..
        } = self;
        Row {
            id,
            compute_slices,
            max_instances,
            multiprocessors,
            memory_mib,
            name,
        }
    }
}

/// `MIG 1g.10gb+me`, as the driver writes it.
fn driver_name(text: &str) -> Option<ProfileName> {
    text.strip_prefix("MIG ").unwrap_or(text).parse().ok()
}

/// What the enums of nvml.h say about engines (`NVML_GPU_INSTANCE_PROFILE_*`).
fn engines(enumerator: u32) -> Engines {
    match enumerator {
        0x7 | 0x8 => Engines::Media,
        0xA..=0xC | 0x11 => Engines::Graphics,
        0xD | 0xE => Engines::NoMedia,
        0xF | 0x10 => Engines::AllMedia,
        _ => Engines::Shared,
    }
}

/// The number before `gb`, as go-nvlib computes it: the memory as eighths of the GPU, rounded up,
/// of the GPU's whole GiB.
fn named_gb(memory_mib: u64, total_mib: u64) -> u16 {
    let total = u128::from(total_mib) * MIB;
    if total == 0 {
        return 0;
    }
    let eighths = (u128::from(memory_mib) * MIB * 8).div_ceil(total);
    let rounded = (eighths * total.div_ceil(GIB) + 4) / 8;
    u16::try_from(rounded).unwrap_or(u16::MAX)
}

/// Puts the model of a GPU together. The row of memory slices ends where the last placement does.
pub(crate) fn model(name: &str, rows: Vec<(Row, Vec<Placement>)>) -> GpuModel {
    let slices = rows.iter().flat_map(|(_, placements)| placements);
    let slices = slices
        .map(|place| place.start.saturating_add(place.size))
        .max()
        .unwrap_or(0);
    let profiles = rows.into_iter().map(|(row, mut placements)| {
        placements.sort_unstable_by_key(|place| place.start);
        Profile {
            name: row.name,
            id: row.id,
            placements,
            max_instances: u8::try_from(row.max_instances).unwrap_or(u8::MAX),
            multiprocessors: row.multiprocessors,
            memory_mib: row.memory_mib,
        }
    });
    GpuModel {
        name: name.to_owned(),
        slices,
        profiles: profiles.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(slices: u32, memory_mib: u64, name: Option<&str>) -> ProfileInfo {
        ProfileInfo {
            id: 19,
            compute_slices: slices,
            max_instances: 7,
            multiprocessors: 14,
            memory_mib,
            name: name.map(str::to_owned),
        }
    }

    fn named(info: ProfileInfo, enumerator: u32, total_mib: u64) -> String {
        info.into_row(enumerator, total_mib).name.to_string()
    }

    #[test]
    fn the_drivers_name_counts_even_where_memory_says_otherwise() {
        // An H200: 16 GiB are called 18, 69.75 GiB are called 71.
        let h200 = 143_771;
        assert_eq!(
            named(info(1, 16_384, Some("MIG 1g.18gb")), 0, h200),
            "1g.18gb"
        );
        assert_eq!(
            named(info(3, 71_424, Some("MIG 3g.71gb")), 2, h200),
            "3g.71gb"
        );
        assert_eq!(
            named(info(1, 9984, Some("MIG 1g.10gb+me")), 7, 81_559),
            "1g.10gb+me"
        );
        assert_eq!(
            named(info(1, 23_680, Some("1g.24gb+me.all")), 15, 97_887),
            "1g.24gb+me.all"
        );
    }

    #[test]
    fn without_a_name_the_formula_gives_nvidias() {
        let a100 = 40_960;
        for (slices, memory_mib, enumerator, name) in [
            (1, 4864, 0x0, "1g.5gb"),
            (1, 4864, 0x7, "1g.5gb+me"),
            (1, 9984, 0x9, "1g.10gb"),
            (2, 9984, 0x1, "2g.10gb"),
            (3, 20_096, 0x2, "3g.20gb"),
            (7, 40_320, 0x4, "7g.40gb"),
        ] {
            assert_eq!(
                named(info(slices, memory_mib, None), enumerator, a100),
                name
            );
        }
        assert_eq!(named(info(1, 5952, Some("")), 0x0, 24_576), "1g.6gb");
        assert_eq!(
            named(info(2, 11_968, Some("gibberish")), 0x8, 24_576),
            "2g.12gb+me"
        );
        assert_eq!(named(info(1, 24_000, None), 0xD, 97_887), "1g.24gb-me");
    }

    #[test]
    fn a_gpu_of_unknown_size_does_not_divide_by_zero() {
        assert_eq!(named(info(1, 4864, None), 0, 0), "1g.0gb");
    }

    #[test]
    fn the_row_of_slices_ends_with_the_last_placement() {
        let row = info(1, 4864, None).into_row(0, 40_960);
        let places = vec![Placement::new(9, 3), Placement::new(0, 3)];
        let model = model("GPU", vec![(row, places)]);
        assert_eq!(model.slices, 12);
        assert_eq!(model.profiles[0].placements[0].start, 0);
    }
}
