//! A cluster that runs by one policy, as the simulators see it.

use std::sync::Arc;

use placement::packable::{Fit, Packing};
use placement::policy::Policy;
use placement::{
    After, Choice, ClassId, Geometry, GpuId, GpuPlace, NodeId, PlacementId, Pool, PoolError,
    ProfileId, placements,
};

use crate::random::{Purpose, Random};

/// Who decides whether an idle instance is taken again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// The policy, with all GPUs in view.
    #[default]
    Policy,
    /// The Kubernetes scheduler: it binds a pod to any idle instance of the profile, drawn at
    /// random, and the policy is asked only where there is none.
    Scheduler,
}

/// Something that instances start and end on.
pub trait Cluster {
    /// What names a running instance.
    type Held: Copy;

    /// Starts an instance; `None` if the policy finds no place.
    ///
    /// # Errors
    /// If the policy chose a place that is not free.
    fn start(&mut self, profile: ProfileId) -> Result<Option<Self::Held>, PoolError>;

    /// Ends an instance.
    ///
    /// # Errors
    /// If it does not run.
    fn end(&mut self, held: Self::Held) -> Result<(), PoolError>;

    /// GPUs on which something runs.
    fn active(&self) -> u32;

    /// How many instances had to be made so far; the other starts took an idle one.
    fn created(&self) -> u64;
}

/// A pool of GPUs and the policy that fills it.
pub struct Placed<'a> {
    pool: Pool,
    policy: &'a mut dyn Policy,
    reuse: Reuse,
    chance: Random,
    created: u64,
}

/// Where an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// On which GPU.
    pub gpu: GpuId,
    /// Where on it.
    pub placement: PlacementId,
}

/// GPUs of a node where nothing else is said; policies that look at nodes were compared so.
pub const GPUS_PER_NODE: u32 = 4;

impl<'a> Placed<'a> {
    /// Empty GPUs, four on each node.
    pub fn new(
        geometry: &Arc<Geometry>,
        gpus: u32,
        policy: &'a mut dyn Policy,
        reuse: Reuse,
        seed: u64,
    ) -> Self {
        let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(policy.index()));
        pool.keep_order();
        for gpu in 0..gpus {
            pool.add(GpuPlace {
                node: NodeId(gpu / GPUS_PER_NODE),
                class: ClassId::default(),
            });
        }
        Self {
            pool,
            policy,
            reuse,
            chance: Random::new(seed, Purpose::Policy),
            created: 0,
        }
    }

    /// The GPUs as they are.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Puts an instance at a place that is known to be free.
    pub(crate) fn start_at(&mut self, place: Place) -> Result<Place, PoolError> {
        let committed = self.pool.hold(place.gpu, place.placement)?;
        self.created += u64::from(!committed.reused);
        Ok(place)
    }

    /// Any idle instance of the profile.
    fn idle(&mut self, profile: ProfileId) -> Option<Place> {
        if self.pool.idle(profile) == 0 {
            return None;
        }
        let geometry = self.pool.geometry();
        let of = |gpu: GpuId| {
            let usable = geometry.free_of(self.pool.mask(gpu), profile);
            let idle = self.pool.state(gpu).idle & usable;
            placements(idle).map(move |placement| Place { gpu, placement })
        };
        let found: Vec<Place> = self.pool.gpus().flat_map(of).collect();
        found.get(self.chance.below(found.len())).copied()
    }
}

impl Cluster for Placed<'_> {
    type Held = Place;

    fn start(&mut self, profile: ProfileId) -> Result<Option<Place>, PoolError> {
        if self.reuse == Reuse::Scheduler
            && let Some(place) = self.idle(profile)
        {
            return self.start_at(place).map(Some);
        }
        let Some(Choice { gpu, placement, .. }) = self.policy.place(&self.pool, profile) else {
            return Ok(None);
        };
        self.start_at(Place { gpu, placement }).map(Some)
    }

    fn end(&mut self, held: Place) -> Result<(), PoolError> {
        let after = if self.policy.keeps_idle() {
            After::Idle
        } else {
            After::Destroyed
        };
        self.pool.release(held.gpu, held.placement, after)
    }

    fn active(&self) -> u32 {
        let all = u32::try_from(self.pool.len()).unwrap_or(u32::MAX);
        all.saturating_sub(self.pool.count(0))
    }

    fn created(&self) -> u64 {
        self.created
    }
}

/// GPUs on which everything that runs may be moved at any moment: accepted is what can be packed
/// at all. Not an upper bound for what a policy accepts in number (it accepts more of the large), but
/// the reference for what moving instances would be worth.
pub struct Repacked {
    packing: Packing,
    counts: Vec<u32>,
    gpus: u32,
    created: u64,
}

impl Repacked {
    /// Empty GPUs.
    pub fn new(geometry: &Geometry, gpus: u32) -> Self {
        Self {
            packing: Packing::new(geometry),
            counts: vec![0; geometry.profiles().len()],
            gpus,
            created: 0,
        }
    }
}

impl Cluster for Repacked {
    type Held = ProfileId;

    fn start(&mut self, profile: ProfileId) -> Result<Option<ProfileId>, PoolError> {
        self.counts[profile.index()] += 1;
        if self.packing.fits(&self.counts, self.gpus) == Fit::Yes {
            self.created += 1;
            return Ok(Some(profile));
        }
        self.counts[profile.index()] -= 1;
        Ok(None)
    }

    fn end(&mut self, held: ProfileId) -> Result<(), PoolError> {
        self.counts[held.index()] = self.counts[held.index()].saturating_sub(1);
        Ok(())
    }

    fn active(&self) -> u32 {
        self.packing.gpus_needed(&self.counts).unwrap_or(self.gpus)
    }

    fn created(&self) -> u64 {
        self.created
    }
}
