//! Two tables: one for pods that come and go, one for many that come at once.
//!
//! While a batch starts on GPUs on which nothing runs, nothing ends, and what counts is that as much
//! as possible fits in the end. Later the room that instances leave behind counts. No table is best
//! at both, but which of the two it is can be seen: it is a batch from the moment when nothing runs
//! until the first instance ends.

use std::sync::Arc;

use super::Policy;
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Ask, Choice, Pool},
    score::{ScoreTable, TableError},
};

/// Decides by one table while an empty pool is filled, and by another afterwards. It takes over
/// idle instances among equals.
///
/// A pool counts as empty if no GPU has a slice that is taken; one with a broken GPU never does, and
/// is dealt with by the table for all times, which is the safe side. That an instance ended is seen
/// by the idle one that it left, so that the caller must let idle instances stand.
#[derive(Clone, Debug)]
pub struct ByPhase {
    always: Arc<Index>,
    fill: Arc<Index>,
    is_filling: bool,
    /// How many idle instances there are if nothing ends and what was chosen last is done.
    expected: u32,
}

impl ByPhase {
    /// A policy of the table `always`, and of `fill` for batches on empty pools.
    ///
    /// # Errors
    /// [`TableError::Shape`] if a table is for another geometry.
    pub fn new(
        geometry: &Geometry,
        always: &ScoreTable,
        fill: &ScoreTable,
    ) -> Result<Self, TableError> {
        Ok(Self {
            always: Arc::new(Index::new(geometry, always)?),
            fill: Arc::new(Index::new(geometry, fill)?),
            is_filling: false,
            expected: 0,
        })
    }

    /// Whether the last decision was by the table for batches.
    pub fn is_filling(&self) -> bool {
        self.is_filling
    }
}

impl Policy for ByPhase {
    fn name(&self) -> &str {
        self.always.table().name()
    }

    fn index(&self) -> &Arc<Index> {
        &self.always
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let profiles = pool.geometry().profile_ids();
        let idle: u32 = profiles.map(|profile| pool.idle(profile)).sum();
        let nothing_runs = usize::try_from(pool.count(0)).is_ok_and(|empty| empty == pool.len());
        self.is_filling = nothing_runs || (self.is_filling && idle <= self.expected);
        let ask = Ask::new(profile);
        let index = if self.is_filling {
            &self.fill
        } else {
            &self.always
        };
        let choice = if Arc::ptr_eq(pool.index(), index) {
            pool.choose(&ask)
        } else {
            pool.choose_by(index, &ask)
        };
        let taken = choice.map_or(0, |choice| {
            let window = pool.geometry().spot(choice.placement).mask;
            let idle = pool.state(choice.gpu).idle;
            pool.geometry().overlapped(idle, window).count_ones()
        });
        self.expected = idle.saturating_sub(taken);
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        After, GpuPlace,
        geometry::tests::a100,
        policy::{best_fit, worst_fit},
    };

    struct Bench {
        pool: Pool,
        policy: ByPhase,
    }

    impl Bench {
        fn new() -> Self {
            let geometry = Arc::new(a100());
            let policy =
                ByPhase::new(&geometry, &best_fit(&geometry), &worst_fit(&geometry)).unwrap();
            let mut pool = Pool::new(geometry, Arc::clone(policy.index()));
            for _ in 0..4 {
                pool.add(GpuPlace::default());
            }
            Self { pool, policy }
        }

        fn start(&mut self, profile: u8) -> Choice {
            let choice = self.policy.place(&self.pool, ProfileId(profile)).unwrap();
            self.pool.commit(&choice).unwrap();
            choice
        }

        fn end(&mut self, choice: Choice) {
            self.pool
                .release(choice.gpu, choice.placement, After::Idle)
                .unwrap();
        }
    }

    #[test]
    fn a_batch_on_an_empty_pool_is_placed_by_its_own_table_until_something_ends() {
        let mut bench = Bench::new();
        let first = bench.start(5);
        let second = bench.start(5);
        // The worst fit takes another GPU.
        assert_ne!(first.gpu, second.gpu);
        assert!(bench.policy.is_filling());
        bench.end(first);
        let third = bench.start(5);
        assert_eq!(third.gpu, second.gpu);
        assert!(!bench.policy.is_filling());
    }

    #[test]
    fn idle_instances_of_the_last_batch_do_not_end_the_next() {
        let mut bench = Bench::new();
        let batch: Vec<Choice> = [5, 2, 4].map(|profile| bench.start(profile)).to_vec();
        for choice in batch {
            bench.end(choice);
        }
        // Takes idle ones over, or destroys them, and none of that is an end.
        for profile in [5, 5, 0, 2, 1] {
            bench.start(profile);
            assert!(bench.policy.is_filling());
        }
    }

    #[test]
    fn an_end_right_after_an_idle_instance_was_taken_over_is_seen() {
        let mut bench = Bench::new();
        let batch: Vec<Choice> = [5, 5].map(|profile| bench.start(profile)).to_vec();
        for choice in batch {
            bench.end(choice);
        }
        let taken = bench.start(5);
        assert!(taken.reuse && bench.policy.is_filling());
        let other = bench.start(2);
        bench.end(other);
        bench.start(3);
        assert!(!bench.policy.is_filling());
    }

    #[test]
    fn a_pool_with_a_broken_gpu_is_never_called_empty() {
        let mut bench = Bench::new();
        bench.pool.set_healthy(crate::GpuId(3), false).unwrap();
        bench.start(5);
        assert!(!bench.policy.is_filling());
    }
}
