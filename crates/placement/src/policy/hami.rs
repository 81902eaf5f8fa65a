//! `HAMi`'s dynamic MIG, as it was and with a later rule for the place on a GPU.
//!
//! Read in Project-HAMi/HAMi, `pkg/device/nvidia/mig_topology.go` (August 2026): 1g and 3g take the
//! highest free start, all others the lowest. Nodes are packed (the fullest first), GPUs of a node
//! spread (the emptiest first), which are its defaults; a request takes the smallest profile that is
//! large enough and has a free window on the GPU, a larger one if need be ([`HamiServes::AtLeast`]).
//! `HAMi` asks by memory; here the profile asked for stands for its memory and compute, so that nobody
//! gets less. Its allow list has no 1g with double memory, for which it takes a 2g. With every profile
//! on the list and each asked for by name ([`HamiServes::Exactly`]) it does better, which is the
//! fairer comparison of placement alone. Instances are destroyed when their pod is gone.
//!
//! Pull request 2855 (September 2026, from its description) chooses the start that leaves the longest
//! run of free slices, then the most possible placements. [`longest_run`] is that rule over all GPUs
//! by what is lost, a reconstruction for comparison.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Policy,
    nodes::{choice, nodes, occupied},
};
use crate::{
    geometry::{Geometry, PlacementId, ProfileId, placements},
    index::Index,
    pool::{Choice, GpuId, NodeId, Pool},
    score::{ScoreTable, TableError},
};

/// How `HAMi` chooses the start on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HamiStart {
    /// The highest for 1g and 3g, the lowest for others.
    ByProfile,
    /// What leaves the longest run of free slices (pull request 2855).
    LongestRun,
}

/// Which profiles `HAMi` serves a demand with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HamiServes {
    /// The smallest that is large enough and fits on the GPU; no 1g with double memory.
    AtLeast,
    /// The one asked for.
    Exactly,
}

/// `HAMi`'s choice of node, GPU and place.
#[derive(Clone, Debug)]
pub struct Hami {
    name: &'static str,
    index: Arc<Index>,
    /// For each profile, those that serve it, the smallest first.
    serving: Vec<Vec<ProfileId>>,
}

impl Hami {
    /// The policy.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn new(
        geometry: &Geometry,
        start: HamiStart,
        serves: HamiServes,
    ) -> Result<Self, TableError> {
        let (table, name) = match (start, serves) {
            (HamiStart::ByProfile, HamiServes::AtLeast) => (start_order(geometry), "HAMi"),
            (HamiStart::ByProfile, HamiServes::Exactly) => {
                (start_order(geometry), "HAMi, exact profiles")
            }
            (HamiStart::LongestRun, HamiServes::AtLeast) => (longest_run(geometry), "HAMi #2855"),
            (HamiStart::LongestRun, HamiServes::Exactly) => {
                (longest_run(geometry), "HAMi #2855, exact profiles")
            }
        };
        let serving = |asked| match serves {
            HamiServes::AtLeast => at_least(geometry, asked),
            HamiServes::Exactly => vec![asked],
        };
        Ok(Self {
            name,
            index: Arc::new(Index::new(geometry, &table)?),
            serving: geometry.profile_ids().map(serving).collect(),
        })
    }

    /// The smallest profile that fits on a GPU, and where.
    fn on(&self, pool: &Pool, gpu: GpuId, profile: ProfileId) -> Option<PlacementId> {
        let serving = self.serving.get(profile.index())?;
        serving
            .iter()
            .find_map(|profile| self.index.best(*profile, pool.mask(gpu)))
    }
}

impl Policy for Hami {
    fn name(&self) -> &'static str {
        self.name
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let fits = |node: &NodeId| {
            pool.node_gpus(*node)
                .iter()
                .any(|gpu| self.on(pool, *gpu, profile).is_some())
        };
        let node = nodes(pool).filter(fits).max_by_key(|node| {
            let (used, all) = occupied(pool, *node);
            // Parts of a million, so that nodes of different sizes compare.
            (used * 1_000_000 / all.max(1), Reverse(*node))
        })?;
        let here = pool.node_gpus(node).iter().copied();
        let candidates = here.filter_map(|gpu| Some((gpu, self.on(pool, gpu, profile)?)));
        let emptiest = candidates.min_by_key(|(gpu, _)| (pool.mask(*gpu).count_ones(), *gpu));
        emptiest.map(|(gpu, placement)| choice(pool, gpu, placement))
    }

    fn keeps_idle(&self) -> bool {
        false
    }
}

/// The profiles that are at least as large, by memory and then compute. Double memory is not known,
/// except where nothing else would be left.
fn at_least(geometry: &Geometry, asked: ProfileId) -> Vec<ProfileId> {
    let asked = geometry.profile(asked);
    let compute = |id: ProfileId| geometry.profile(id).name.compute_slices();
    let size = |id: ProfileId| geometry.profile(id).size;
    let plain = |id: &ProfileId| {
        let twin = |other: ProfileId| compute(other) == compute(*id) && size(other) < size(*id);
        !geometry.profile_ids().any(twin)
    };
    let mut serving: Vec<ProfileId> = geometry
        .profile_ids()
        .filter(plain)
        .filter(|id| size(*id) >= asked.size && compute(*id) >= asked.name.compute_slices())
        .collect();
    serving.sort_by_key(|id| (size(*id), compute(*id)));
    serving
}

/// 1g and 3g at the highest start, all others at the lowest.
fn start_order(geometry: &Geometry) -> ScoreTable {
    ScoreTable::from_fn("HAMi starts", geometry, |_, id| {
        let spot = geometry.spot(id);
        let compute = geometry.profile(spot.profile).name.compute_slices();
        let start = i32::from(spot.placement.start);
        if compute == 1 || compute == 3 {
            start
        } else {
            -start
        }
    })
}

/// The placement that shortens the longest run of free slices least, then the one that costs the
/// fewest possible placements.
pub fn longest_run(geometry: &Geometry) -> ScoreTable {
    let worth = |mask: u16| {
        let run = longest(geometry.full() & !mask);
        // More than there are placements, so that runs come first.
        run * 128 + super::narrow(i64::from(placements_left(geometry, mask)))
    };
    ScoreTable::from_fn(
        "longest run (HAMi #2855) over all GPUs",
        geometry,
        |mask, id| worth(mask | geometry.spot(id).mask) - worth(mask),
    )
}

fn placements_left(geometry: &Geometry, mask: u16) -> u32 {
    u32::try_from(placements(geometry.free(mask)).count()).unwrap_or(u32::MAX)
}

fn longest(free: u16) -> i32 {
    let mut rest = free;
    let mut length = 0;
    while rest != 0 {
        rest &= rest >> 1;
        length += 1;
    }
    length
}
