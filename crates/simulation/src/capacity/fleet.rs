//! GPUs of several models, each model with a policy of its own.

use std::sync::Arc;

use placement::policy::Policy;
use placement::{
    After, ClassId, GpuId, GpuPlace, NodeId, PlacementId, Pool, PoolError, ProfileId, placements,
};

use super::{CapacityError, Part, Scenario};
use crate::contest::Contestant;
use crate::demand::Demand;

/// An instance on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// First memory slice.
    pub start: u8,
    /// Number of memory slices.
    pub size: u8,
    /// Its profile, in the geometry of the part.
    pub profile: ProfileId,
    /// Whether a pod has it; else it is idle.
    pub held: bool,
}

/// Where a pod runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    part: usize,
    gpu: GpuId,
    placement: PlacementId,
    pub(super) share: f64,
}

/// One way to serve a want.
#[derive(Clone, Copy, Debug)]
struct Way {
    part: usize,
    profile: ProfileId,
    share: f64,
}

struct Side {
    pool: Pool,
    policy: Box<dyn Policy>,
}

pub(super) struct Fleet {
    sides: Vec<Side>,
    /// By want, the one that takes the smallest part of a GPU first, then in the order of the parts.
    ways: Vec<Vec<Way>>,
    pub(super) created: u64,
}

impl Fleet {
    pub(super) fn new(
        scenario: &Scenario<'_>,
        contestant: Contestant,
        seed: u64,
    ) -> Result<Self, CapacityError> {
        let mut sides = Vec::new();
        for (number, part) in scenario.parts.iter().enumerate() {
            sides.push(Side::new(scenario, number, part, contestant, seed)?);
        }
        let mut ways = Vec::new();
        for want in scenario.wants {
            let mut of_want: Vec<Way> = Vec::new();
            for (number, (part, profile)) in scenario.parts.iter().zip(&want.profiles).enumerate() {
                if let Some(profile) = profile.filter(|_| part.gpus > 0) {
                    of_want.push(Way {
                        part: number,
                        profile,
                        share: part_of_gpu(part, profile),
                    });
                }
            }
            if of_want.is_empty() {
                return Err(CapacityError::Unserved {
                    name: want.name.clone(),
                });
            }
            of_want.sort_by(|one, other| one.share.total_cmp(&other.share));
            ways.push(of_want);
        }
        Ok(Self {
            sides,
            ways,
            created: 0,
        })
    }

    /// Part of a GPU that a want takes where it fits best.
    pub(super) fn share(&self, want: usize) -> f64 {
        let ways = self.ways.get(want).and_then(|ways| ways.first());
        ways.map_or(0.0, |way| way.share)
    }

    pub(super) fn start(&mut self, want: usize) -> Result<Option<Held>, PoolError> {
        let Some(ways) = self.ways.get(want) else {
            return Ok(None);
        };
        for way in ways {
            let side = &mut self.sides[way.part];
            if let Some(choice) = side.policy.place(&side.pool, way.profile) {
                let committed = side.pool.hold(choice.gpu, choice.placement)?;
                self.created += u64::from(!committed.reused);
                return Ok(Some(Held {
                    part: way.part,
                    gpu: choice.gpu,
                    placement: choice.placement,
                    share: way.share,
                }));
            }
        }
        Ok(None)
    }

    pub(super) fn end(&mut self, held: Held) -> Result<(), PoolError> {
        let side = &mut self.sides[held.part];
        let after = if side.policy.keeps_idle() {
            After::Idle
        } else {
            After::Destroyed
        };
        side.pool.release(held.gpu, held.placement, after)
    }

    pub(super) fn active(&self) -> f64 {
        let of = |side: &Side| {
            let all = u32::try_from(side.pool.len()).unwrap_or(u32::MAX);
            f64::from(all.saturating_sub(side.pool.count(0)))
        };
        self.sides.iter().map(of).sum()
    }

    pub(super) fn standing(&self) -> Vec<Vec<Vec<Standing>>> {
        self.sides.iter().map(Side::standing).collect()
    }
}

impl Side {
    fn new(
        scenario: &Scenario<'_>,
        number: usize,
        part: &Part,
        contestant: Contestant,
        seed: u64,
    ) -> Result<Self, CapacityError> {
        let geometry = &part.geometry;
        let mut parts = vec![0_u32; geometry.profiles().len()];
        for (want, share) in scenario.wants.iter().zip(scenario.shares) {
            let profile = want.profiles.get(number).copied().flatten();
            if let Some(part) = profile.and_then(|profile| parts.get_mut(profile.index())) {
                *part = part.saturating_add(*share);
            }
        }
        // A policy that knows the mix takes a model that nobody asks for as if all were asked for.
        let all_alike = vec![1; parts.len()];
        let demand = Demand::new(geometry, &parts).or_else(|| Demand::new(geometry, &all_alike));
        let Some(demand) = demand else {
            return Err(CapacityError::Unserved {
                name: format!("GPUs {number}"),
            });
        };
        let policy = contestant.policy(geometry, &demand, seed)?;
        let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(policy.index()));
        pool.keep_order();
        for gpu in 0..part.gpus {
            pool.add(GpuPlace {
                node: NodeId(gpu / part.per_node.max(1)),
                class: ClassId::default(),
            });
        }
        Ok(Self { pool, policy })
    }

    fn standing(&self) -> Vec<Vec<Standing>> {
        let geometry = self.pool.geometry();
        let of = |gpu: GpuId| {
            let state = self.pool.state(gpu);
            let all = placements(state.held | state.idle);
            all.map(|placement| {
                let spot = geometry.spot(placement);
                Standing {
                    start: spot.placement.start,
                    size: spot.placement.size,
                    profile: spot.profile,
                    held: state.held & placement.bit() != 0,
                }
            })
            .collect()
        };
        self.pool.gpus().map(of).collect()
    }
}

fn part_of_gpu(part: &Part, profile: ProfileId) -> f64 {
    f64::from(part.geometry.profile(profile).size) / f64::from(part.geometry.slices())
}
