//! A cluster whose table is chosen by what it sees: the loss model with a portfolio.
//!
//! What a portfolio is worth shows only over a long time, and only if the pods that it learns from
//! are others than those that its choice is measured on. So learning is a run of its own: the
//! portfolio keeps what it learned, and its choice can then take part like any table.

use std::sync::Arc;

use placement::portfolio::{Portfolio, Seen, Switch};
use placement::{After, Ask, Geometry, GpuPlace, PlacementId, Pool, PoolError};

use crate::demand::Demand;
use crate::events::Ends;
use crate::loss::{Arrivals, Loss, Tally};

/// What came of a time of learning.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Changes of the table, with when: in mean lifetimes since the start.
    pub switches: Vec<(f64, Switch)>,
    /// What was accepted meanwhile, after the warm-up.
    pub tally: Tally,
}

/// Ticks of the portfolio's time in a mean lifetime.
const TICKS: f64 = 1e6;

#[derive(Clone, Copy)]
struct Running {
    gpu: placement::GpuId,
    placement: PlacementId,
    seen: Option<Seen>,
}

/// Runs a cluster that decides by the portfolio, and tells it what happens. Like [`Loss::run`], with the
/// same pods for the same seed; who takes idle instances is left to the portfolio's tables.
///
/// # Errors
/// Never, unless the pool refuses what it chose itself.
pub fn learn(
    portfolio: &mut Portfolio,
    loss: &Loss,
    geometry: &Arc<Geometry>,
    demand: &Demand,
    seed: u64,
) -> Result<Learned, PoolError> {
    let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(portfolio.index()));
    for _ in 0..loss.gpus {
        pool.add(GpuPlace::default());
    }
    let mut arrivals = Arrivals::new(demand, loss.load, loss.gpus, loss.law, seed);
    let mut ends: Ends<Running> = Ends::new();
    let mut tally = Tally::new(demand);
    let mut switches = Vec::new();
    loop {
        let pod = arrivals.next(demand);
        if pod.time > loss.warm_up + loss.measured {
            break;
        }
        while ends.next().is_some_and(|end| end <= pod.time) {
            if let Some((end, running)) = ends.pop() {
                pool.release(running.gpu, running.placement, After::Idle)?;
                if let Some(seen) = running.seen {
                    portfolio.ended(seen, ticks(end));
                }
            }
        }
        let choice = pool.choose(&Ask::new(pod.profile));
        let now = ticks(pod.time);
        let name = portfolio.arrived(now, pod.profile, choice.is_some(), loss.gpus);
        if let Some(choice) = &choice {
            pool.commit(choice)?;
            let running = Running {
                gpu: choice.gpu,
                placement: choice.placement,
                seen: name,
            };
            ends.push(pod.time + pod.lifetime, running);
        }
        if pod.time >= loss.warm_up {
            tally.count(pod.profile, choice.is_some());
        }
        while portfolio.is_due() {
            if let Some(switch) = portfolio.work(loss.gpus) {
                switches.push((pod.time, switch));
            }
        }
        if !Arc::ptr_eq(pool.index(), portfolio.index()) {
            pool.set_index(Arc::clone(portfolio.index()));
        }
    }
    Ok(Learned { switches, tally })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are not negative, and far below 2^43 lifetimes"
)]
fn ticks(time: f64) -> u64 {
    (time * TICKS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a100;
    use placement::policy::{MfiWindows, least_fragmentation, longest_run};
    use placement::portfolio::{Candidate, Settings};

    fn two(geometry: &Arc<Geometry>) -> Portfolio {
        let mfi = least_fragmentation(geometry, MfiWindows::Touched, true);
        let other = Candidate::Table(longest_run(geometry));
        Portfolio::new(geometry, mfi, vec![other], Settings::default()).unwrap()
    }

    fn history(load: f64, lifetimes: f64) -> Loss {
        Loss {
            measured: lifetimes,
            ..Loss::new(100, load)
        }
    }

    #[test]
    fn a_shifted_mix_changes_the_table_and_shifting_back_changes_it_back() {
        let geometry = a100();
        let mixes = Demand::mixes(&geometry);
        let (uniform, small) = (&mixes[0].1, &mixes[1].1);
        let mut portfolio = two(&geometry);
        // Small pods in overload, where the longest run accepts 1.7 points more than MFI.
        let learned = learn(&mut portfolio, &history(1.15, 400.0), &geometry, small, 1).unwrap();
        assert_eq!(learned.switches.len(), 1, "{:?}", learned.switches);
        assert_eq!(portfolio.chosen(), 1);
        // All profiles below capacity, where it accepts half a point less.
        let learned = learn(
            &mut portfolio,
            &history(0.85, 2500.0),
            &geometry,
            uniform,
            2,
        )
        .unwrap();
        assert_eq!(portfolio.chosen(), 0, "{:?}", learned.switches);
        assert_eq!(learned.switches.len(), 1, "{:?}", learned.switches);
    }

    #[test]
    fn a_table_that_is_as_good_on_a_mix_is_not_changed_for_another() {
        let geometry = a100();
        let (_, uniform) = &Demand::mixes(&geometry)[0];
        let mut portfolio = two(&geometry);
        // At load 1 the two differ by three hundredths of a point.
        let learned = learn(&mut portfolio, &history(1.0, 1500.0), &geometry, uniform, 3).unwrap();
        assert_eq!(learned.switches, []);
    }
}
