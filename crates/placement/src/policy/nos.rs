//! nos: a list of allowed sets of instances per model, blind to where they stand.
//!
//! Read in nebuly-ai/nos, `pkg/gpu/mig/known_configs.go` and `gpu.go` (archived): nodes and their
//! GPUs in order, on each the first allowed set that contains what is held and one instance more of
//! what is asked for; a free instance that exists is taken first. Where the instance stands is left
//! to the driver. The list has no 4g beside a 3g, no 3g beside four 1g, and no 1g with double memory;
//! two entries for 80 GB boards name profiles that those do not have and are taken here as they were
//! meant. A reconstruction for one pod at a time: the real planner makes all instances of the set at
//! once and waits for batches.

use std::sync::Arc;

use super::{
    Policy,
    best_fit::{best_index, driver_choice},
    nodes::choice,
};
use crate::{
    geometry::{Geometry, ProfileId, placements},
    index::Index,
    pool::{Choice, GpuId, Pool},
    score::TableError,
};

/// How many instances of how many compute slices.
type Set = &'static [(u8, u32)];

const EIGHT_SLICES: [Set; 12] = [
    &[(7, 1)],
    &[(4, 1), (2, 1), (1, 1)],
    &[(4, 1), (1, 3)],
    &[(3, 2)],
    &[(3, 1), (2, 1), (1, 1)],
    &[(3, 1), (1, 3)],
    &[(3, 1), (2, 2)],
    &[(3, 1), (2, 1), (1, 2)],
    &[(2, 3), (1, 1)],
    &[(2, 2), (1, 3)],
    &[(2, 1), (1, 5)],
    &[(1, 7)],
];

const FOUR_SLICES: [Set; 4] = [&[(4, 1)], &[(2, 2)], &[(2, 1), (1, 2)], &[(1, 4)]];

/// The list of allowed sets.
#[derive(Clone, Debug)]
pub struct Nos {
    index: Arc<Index>,
    /// Allowed sets as counts by profile.
    allowed: Vec<Vec<u32>>,
}

impl Nos {
    /// The policy. It knows GPUs with four and eight slices and places nothing on others.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn new(geometry: &Geometry) -> Result<Self, TableError> {
        let sets: &[Set] = match geometry.slices() {
            8 => &EIGHT_SLICES,
            4 => &FOUR_SLICES,
            _ => &[],
        };
        let count = |set: &Set, id: ProfileId| {
            let profile = geometry.profile(id);
            let compute = profile.name.compute_slices();
            let plain = geometry
                .profiles()
                .iter()
                .all(|other| other.name.compute_slices() != compute || other.size >= profile.size);
            let entry = set.iter().find(|(of, _)| plain && *of == compute);
            entry.map_or(0, |(_, count)| *count)
        };
        let counts = |set: &Set| geometry.profile_ids().map(|id| count(set, id)).collect();
        Ok(Self {
            index: Arc::new(Index::new(geometry, &best_index(geometry))?),
            allowed: sets.iter().map(counts).collect(),
        })
    }

    /// Whether what is held on a GPU and one more are in an allowed set.
    fn allows(&self, geometry: &Geometry, held: u64, profile: ProfileId) -> bool {
        let mut counts: Vec<u32> = geometry
            .profiles()
            .iter()
            .map(|p| (held & p.windows).count_ones())
            .collect();
        counts[profile.index()] += 1;
        let contains = |set: &Vec<u32>| counts.iter().zip(set).all(|(n, most)| n <= most);
        self.allowed.iter().any(contains)
    }
}

impl Policy for Nos {
    fn name(&self) -> &'static str {
        "nos"
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let geometry = pool.geometry();
        if pool.idle(profile) > 0 {
            let there = |gpu: GpuId| {
                let idle = pool.state(gpu).idle & geometry.free_of(pool.mask(gpu), profile);
                placements(idle)
                    .next()
                    .map(|placement| choice(pool, gpu, placement))
            };
            if let Some(found) = pool.gpus().find_map(there) {
                return Some(found);
            }
        }
        let mut from = GpuId(0);
        while let Some(gpu) = pool.first_with_room(profile, from) {
            if self.allows(geometry, pool.state(gpu).held, profile) {
                let placement = driver_choice(geometry, profile, pool.mask(gpu))?;
                return Some(choice(pool, gpu, placement));
            }
            from = GpuId(gpu.0 + 1);
        }
        None
    }
}
