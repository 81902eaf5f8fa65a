//! Compute instances inside a GPU instance: profiles, places and the driver's choice of a place.

use crate::model::board::{Board, Profile};

/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT`: enums from here on are an invalid argument.
pub const PROFILE_COUNT: u32 = 9;
/// The profile of double-memory slices, whose multiprocessors are more than one slice's.
const ONE_SLICE_REV1: u32 = 7;

/// A compute-instance profile as it applies to one GPU instance. Its enum is also its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeProfile {
    /// Enum and id.
    pub id: u32,
    /// Compute slices that NVML names.
    pub slices: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Possible first compute slices.
    pub starts: Vec<u32>,
    /// Compute slices that it takes.
    pub size: u32,
    /// Whether it takes the whole GPU instance.
    pub full: bool,
}

/// Every compute-instance profile of a GPU instance of `profile`.
pub fn profiles(board: &Board, profile: &Profile) -> Vec<ComputeProfile> {
    let whole = profile.slices;
    let unit = board
        .by_index(0)
        .map_or(profile.multiprocessors, |one| one.multiprocessors);
    let sliced = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 7)]
        .into_iter()
        .filter_map(|(id, slices)| {
            let starts = starts(whole, slices)?;
            // A slice with twice the memory can have more multiprocessors than a slice has elsewhere;
            // then the plain one-slice profile is not the whole of it.
            let rich = whole == 1 && profile.multiprocessors > unit;
            let full = slices == whole && !rich;
            let multiprocessors = if full {
                profile.multiprocessors
            } else {
                unit * slices
            };
            Some(ComputeProfile {
                id,
                slices,
                multiprocessors,
                starts,
                size: slices,
                full,
            })
        });
    sliced.chain(rich_slice(board, profile, unit)).collect()
}

/// The one-slice profile with the multiprocessors of a double-memory slice, on boards that have it.
fn rich_slice(board: &Board, profile: &Profile, unit: u32) -> Option<ComputeProfile> {
    let double = board
        .by_index(9)
        .filter(|double| double.multiprocessors > unit)?;
    (profile.shape.level == double.shape.level).then(|| ComputeProfile {
        id: ONE_SLICE_REV1,
        slices: 1,
        multiprocessors: double.multiprocessors,
        starts: vec![0],
        size: profile.slices,
        full: profile.slices == 1,
    })
}

/// Where instances of `slices` can start inside `whole` compute slices; `None` if not offered.
fn starts(whole: u32, slices: u32) -> Option<Vec<u32>> {
    Some(match (whole, slices) {
        (_, 1) => (0..whole).collect(),
        (2 | 3, 2) | (3, 3) | (4 | 7, 4) | (7, 7) => vec![0],
        (4, 2) => vec![0, 2],
        (7, 2) => vec![0, 2, 4],
        (7, 3) => vec![0, 4],
        _ => return None,
    })
}

/// The starts of `profile` that no pair (start, size) in `used` overlaps.
pub fn free<'a>(
    profile: &'a ComputeProfile,
    used: &'a [(u32, u32)],
) -> impl Iterator<Item = u32> + 'a {
    profile.starts.iter().copied().filter(move |&start| {
        used.iter()
            .all(|&(other, size)| other + size <= start || start + profile.size <= other)
    })
}

/// The place that the driver takes: the one that leaves the most room for all `profiles`.
pub fn best_fit(
    profile: &ComputeProfile,
    profiles: &[ComputeProfile],
    used: &[(u32, u32)],
) -> Option<u32> {
    let mut best: Option<(usize, u32)> = None;
    let mut after = used.to_vec();
    for start in free(profile, used) {
        after.push((start, profile.size));
        let left: usize = profiles.iter().map(|each| free(each, &after).count()).sum();
        after.pop();
        if best.is_none_or(|(most, _)| left > most) {
            best = Some((left, start));
        }
    }
    best.map(|(_, start)| start)
}

#[cfg(test)]
mod tests;
