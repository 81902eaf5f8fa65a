//! Filling an empty cluster once: nothing ends, as when many pods start together.
//!
//! Pods come until they asked for a given part of all memory slices. Policies that are good in the
//! long run need not be good here, and the other way round.

use std::sync::Arc;

use placement::policy::Policy;
use placement::{Geometry, PoolError, ProfileId};

use crate::cluster::{Cluster, Placed, Repacked, Reuse};
use crate::demand::Demand;
use crate::loss::Tally;
use crate::random::{Purpose, Random};

/// What is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// Number of GPUs.
    pub gpus: u32,
    /// Memory slices asked for in all, relative to all there are.
    pub demand: f64,
}

impl Fill {
    /// Runs one policy.
    ///
    /// # Errors
    /// If the policy chooses a place that is not free.
    pub fn run(
        &self,
        geometry: &Arc<Geometry>,
        demand: &Demand,
        policy: &mut dyn Policy,
        seed: u64,
    ) -> Result<Tally, PoolError> {
        let mut cluster = Placed::new(geometry, self.gpus, policy, Reuse::Policy, seed);
        self.drive(&mut cluster, geometry, demand, seed)
    }

    /// Runs the reference that may move everything.
    ///
    /// # Errors
    /// None.
    pub fn run_repacked(
        &self,
        geometry: &Geometry,
        demand: &Demand,
        seed: u64,
    ) -> Result<Tally, PoolError> {
        let mut cluster = Repacked::new(geometry, self.gpus);
        self.drive(&mut cluster, geometry, demand, seed)
    }

    fn drive<C: Cluster>(
        &self,
        cluster: &mut C,
        geometry: &Geometry,
        demand: &Demand,
        seed: u64,
    ) -> Result<Tally, PoolError> {
        let all = self.demand * f64::from(self.gpus) * f64::from(geometry.slices());
        let mut random = Random::new(seed, Purpose::Arrivals);
        let mut tally = Tally::new(demand);
        let mut asked = 0.0;
        loop {
            let profile = random.weighted(demand.shares());
            asked += demand.slices()[profile];
            if asked > all {
                break;
            }
            let profile = ProfileId(u8::try_from(profile).unwrap_or(0));
            tally.count(profile, cluster.start(profile)?.is_some());
        }
        tally.created = cluster.created();
        tally.active = f64::from(cluster.active());
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a100;
    use placement::policy::{ByTable, best_fit};

    #[test]
    fn what_never_leaves_is_packed_at_best_as_if_it_could_move() {
        let geometry = a100();
        let fill = Fill {
            gpus: 20,
            demand: 1.0,
        };
        for (name, demand) in Demand::mixes(&geometry) {
            let (mut placed, mut repacked) = (0.0, 0.0);
            for seed in 0..20 {
                let mut policy = ByTable::new(&geometry, &best_fit(&geometry)).unwrap();
                placed += fill
                    .run(&geometry, &demand, &mut policy, seed)
                    .unwrap()
                    .slices();
                repacked += fill
                    .run_repacked(&geometry, &demand, seed)
                    .unwrap()
                    .slices();
            }
            assert!(placed <= repacked && repacked <= 2000.0, "{name}");
            assert!(placed > 1700.0, "{name}: {placed}");
        }
    }

    #[test]
    fn half_of_a_cluster_is_accepted_as_a_whole() {
        let geometry = a100();
        let fill = Fill {
            gpus: 100,
            demand: 0.5,
        };
        let (_, uniform) = &Demand::mixes(&geometry)[0];
        let mut policy = ByTable::new(&geometry, &best_fit(&geometry)).unwrap();
        let tally = fill.run(&geometry, uniform, &mut policy, 1).unwrap();
        assert!((tally.pods() - 100.0).abs() < 1e-9);
        assert!(
            tally.active >= 45.0 && tally.active <= 60.0,
            "{}",
            tally.active
        );
    }
}
