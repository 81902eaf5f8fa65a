//! What a policy does on two GPUs, for every pair of masks.

use std::sync::Arc;

use placement::policy::Policy;
use placement::{Geometry, GpuPlace, PlacementId, Pool, PoolError};

/// The choices of one policy on two GPUs; those of a policy without a memory of its own.
#[derive(Clone, Debug)]
pub struct Decisions {
    masks: usize,
    profiles: usize,
    /// By first mask, second mask and profile: on the second GPU or not, and where.
    chosen: Vec<Option<(bool, PlacementId)>>,
}

impl Decisions {
    /// Asks the policy about every pair of masks that instances can bring about.
    ///
    /// # Errors
    /// Never, unless the pool refuses what its own geometry says.
    pub fn of(geometry: &Arc<Geometry>, policy: &mut dyn Policy) -> Result<Self, PoolError> {
        let (masks, profiles) = (geometry.mask_count(), geometry.profiles().len());
        let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(policy.index()));
        let first = pool.add(GpuPlace::default());
        let second = pool.add(GpuPlace::default());
        let mut chosen = vec![None; masks * masks * profiles];
        for one in geometry.reachable() {
            pool.set_blocked(first, *one)?;
            for other in geometry.reachable() {
                pool.set_blocked(second, *other)?;
                let row = (usize::from(*one) * masks + usize::from(*other)) * profiles;
                for profile in geometry.profile_ids() {
                    let choice = policy.place(&pool, profile);
                    chosen[row + profile.index()] =
                        choice.map(|choice| (choice.gpu == second, choice.placement));
                }
            }
        }
        Ok(Self {
            masks,
            profiles,
            chosen,
        })
    }

    pub(super) fn get(
        &self,
        (one, other): (u16, u16),
        profile: usize,
    ) -> Option<(bool, PlacementId)> {
        let row = usize::from(one) * self.masks + usize::from(other);
        self.chosen[row * self.profiles + profile]
    }
}
