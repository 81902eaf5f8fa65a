//! How long a decision takes, with its commit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use placement::{After, ClassId, GpuPlace, NodeId, Pool};
use simulation::contest::Contestant;
use simulation::random::{Purpose, Random};
use tokio::time::Instant;

use super::field::Field;
use super::promises::Bar;
use super::{Findings, Table};
use crate::bench::numbers::percentile;

/// GPUs, and what was promised of ours in nanoseconds: half of all decisions, and 99 %.
const SIZES: [(u32, f64, f64); 3] = [
    (1000, 200.0, 1000.0),
    (10_000, 200.0, 1000.0),
    (100_000, 300.0, 2000.0),
];
/// Part of the memory slices that is in use while it is measured.
const FULL: f64 = 0.9;

pub(super) fn measure(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let decisions = if field.is_quick() { 5_000 } else { 50_000 };
    let mut table = Table::new(&[
        "policy",
        "GPUs",
        "half below (us)",
        "99 % below (us)",
        "mean (us)",
        "promised",
        "",
    ]);
    // One after the other, on one core: they would disturb each other.
    for (gpus, half, most) in SIZES {
        for (name, contestant) in Contestant::ALL {
            anyhow::ensure!(
                !field.stop.load(std::sync::atomic::Ordering::Relaxed),
                "interrupted"
            );
            let is_ours = contestant == Contestant::Ours;
            if gpus != 10_000 && !is_ours && name != "MFI" {
                continue;
            }
            let mut times = time(field, contestant, gpus, decisions)?;
            times.sort_unstable();
            let nanos = |percent| -> anyhow::Result<f64> {
                let time = percentile(&times, percent).context("no decision was made")?;
                Ok(time.as_secs_f64() * 1e9)
            };
            let (p50, p99) = (nanos(50)?, nanos(99)?);
            let count = u32::try_from(times.len())?;
            let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e9 / f64::from(count);
            let micro = |nanos: f64| format!("{:.2}", nanos / 1000.0);
            table.row(&[
                name.to_owned(),
                gpus.to_string(),
                micro(p50),
                micro(p99),
                micro(mean),
                if is_ours {
                    format!("{} / {}", micro(half), micro(most))
                } else {
                    String::new()
                },
                if is_ours {
                    Bar::at_most((p50 / half).max(p99 / most), 1.0)
                } else {
                    String::new()
                },
            ]);
        }
    }
    found.add(
        format!(
            "## Time of a decision\n\nOne decision with its commit, in microseconds, on one core, while {} % \
             of the memory slices are in use (uniform mix), reading the clock included; one that finds no place has no commit. Policies that are tables are \
             equally fast. DAS, DRA, HAMi, nos and baskets walk over nodes or GPUs, as their sources do: how fast \
             their rules could be is not shown. These figures alone depend on the machine.",
            100.0 * FULL
        ),
        table,
    );
    Ok(())
}

/// Times of decisions in a pool that is kept as full as said, by random departures.
fn time(
    field: &Field,
    contestant: Contestant,
    gpus: u32,
    decisions: usize,
) -> anyhow::Result<Vec<Duration>> {
    let (_, demand) = field.mixes.first().context("no mix")?;
    let mut policy = contestant.policy(&field.geometry, demand, 1)?;
    let mut pool = Pool::new(Arc::clone(&field.geometry), Arc::clone(policy.index()));
    pool.keep_order();
    for gpu in 0..gpus {
        pool.add(GpuPlace {
            node: NodeId(gpu / 4),
            class: ClassId::default(),
        });
    }
    let after = if policy.keeps_idle() {
        After::Idle
    } else {
        After::Destroyed
    };
    let mut random = Random::new(1, Purpose::Arrivals);
    let shapes = field.geometry.profiles();
    let full = FULL * f64::from(gpus) * f64::from(field.geometry.slices());
    let (mut held, mut used) = (Vec::new(), 0.0);
    let mut times = Vec::with_capacity(decisions);
    // No policy that is slow may hold up the others for long.
    let until = Instant::now() + Duration::from_secs(2);
    while times.len() < decisions {
        let is_full = used >= full;
        if is_full {
            let leaves = random.below(held.len());
            let (gpu, placement, size) = held.swap_remove(leaves);
            pool.release(gpu, placement, after)?;
            used -= size;
        }
        let profile = random.weighted(demand.shares());
        let id = field
            .geometry
            .profile_ids()
            .nth(profile)
            .context("no profile")?;
        let start = Instant::now();
        let choice = policy.place(&pool, id);
        if let Some(choice) = choice {
            pool.hold(choice.gpu, choice.placement)?;
        }
        let end = Instant::now();
        if is_full {
            times.push(end - start);
        }
        match choice {
            Some(choice) => {
                let size = f64::from(shapes[profile].size);
                held.push((choice.gpu, choice.placement, size));
                used += size;
            }
            // A policy that cannot fill the pool so far is measured where it ends.
            None if !is_full && !held.is_empty() => {
                times.push(end - start);
                let leaves = random.below(held.len());
                let (gpu, placement, size) = held.swap_remove(leaves);
                pool.release(gpu, placement, after)?;
                used -= size;
            }
            None => {}
        }
        if !times.is_empty() && end > until {
            break;
        }
    }
    Ok(times)
}
