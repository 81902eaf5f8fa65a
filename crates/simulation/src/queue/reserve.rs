//! Windows that are kept free for pods that waited for long.

use placement::{Pool, PoolError, placements};

use super::Discipline;
use super::line::{Line, Waiting};
use crate::cluster::{Place, Placed};

/// The windows, in the order they were given.
pub(super) struct Reserve {
    after: f64,
    most: usize,
    kept: Vec<(u64, Place)>,
}

impl Reserve {
    pub(super) fn new(discipline: Discipline, gpus: u32) -> Self {
        let (after, most) = match discipline {
            Discipline::Fifo | Discipline::Backfill => (f64::INFINITY, 0),
            Discipline::Reserving { after, part } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a part of the GPUs"
                )]
                let most = (part.clamp(0.0, 1.0) * f64::from(gpus)) as usize;
                (after, most.max(1))
            }
        };
        Self {
            after,
            most,
            kept: Vec::new(),
        }
    }

    /// Gives windows to the oldest pods that have none.
    pub(super) fn renew(
        &mut self,
        cluster: &mut Placed<'_>,
        line: &Line,
        now: f64,
    ) -> Result<(), PoolError> {
        if self.kept.len() >= self.most {
            return Ok(());
        }
        for pod in line.before(now - self.after) {
            if self.kept.len() >= self.most {
                break;
            }
            if self.kept.iter().any(|(number, _)| *number == pod.number) {
                continue;
            }
            if let Some(place) = window(cluster.pool(), &pod) {
                self.kept.push((pod.number, place));
                self.mark(cluster, place)?;
            }
        }
        Ok(())
    }

    /// A window that has become free, and whose it is; it is then kept no longer.
    pub(super) fn ready(
        &mut self,
        cluster: &mut Placed<'_>,
    ) -> Result<Option<(u64, Place)>, PoolError> {
        let pool = cluster.pool();
        let is_free = |place: &Place| {
            let window = pool.geometry().spot(place.placement).mask;
            pool.state(place.gpu).used & window == 0
        };
        let Some(at) = self.kept.iter().position(|(_, place)| is_free(place)) else {
            return Ok(None);
        };
        let (number, place) = self.kept.remove(at);
        self.mark(cluster, place)?;
        Ok(Some((number, place)))
    }

    /// The pod found another place.
    pub(super) fn drop(&mut self, cluster: &mut Placed<'_>, number: u64) -> Result<(), PoolError> {
        let Some(at) = self.kept.iter().position(|(known, _)| *known == number) else {
            return Ok(());
        };
        let (_, place) = self.kept.remove(at);
        self.mark(cluster, place)
    }

    /// Tells the pool which slices of the GPU are kept.
    fn mark(&self, cluster: &mut Placed<'_>, changed: Place) -> Result<(), PoolError> {
        let here = self
            .kept
            .iter()
            .filter(|(_, place)| place.gpu == changed.gpu);
        let geometry = cluster.pool().geometry();
        let slices = here.fold(0, |all, (_, place)| {
            all | geometry.spot(place.placement).mask
        });
        cluster.pool_mut().set_reserved(changed.gpu, slices)
    }
}

/// The window with the fewest instances in it; then the one with the fewest slices in use, the first
/// GPU, the lowest start.
fn window(pool: &Pool, pod: &Waiting) -> Option<Place> {
    let geometry = pool.geometry();
    let windows = pool.gpus().flat_map(|gpu| {
        let all = placements(geometry.profile(pod.profile).windows);
        all.map(move |placement| Place { gpu, placement })
    });
    let open = windows.filter(|place| {
        let window = geometry.spot(place.placement).mask;
        pool.state(place.gpu).reserved & window == 0
    });
    open.min_by_key(|place| {
        let window = geometry.spot(place.placement).mask;
        let state = pool.state(place.gpu);
        let inside = geometry.overlapped(state.held, window);
        (inside.count_ones(), (state.used & window).count_ones())
    })
}
