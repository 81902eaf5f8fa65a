//! The distance to the best that any policy can do, on two GPUs.

use simulation::contest::Contestant;
use simulation::exact::{Chain, Decisions, Measure, Refusal};

use super::field::Field;
use super::promises::{Bar, GAP_PODS, GAP_SLICES};
use super::{Findings, Table};

/// Policies whose choice depends on the state of the GPUs alone.
const POLICIES: [&str; 8] = [
    "FF",
    "BF-BI",
    "MFI",
    "MFI-all",
    "FGD-MIG",
    "longest-run",
    "MECC-lost",
    "ours",
];
const LOAD: f64 = 0.7;

pub(super) fn measure(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let mixes = if field.is_quick() {
        &field.mixes[..1]
    } else {
        &field.mixes[..]
    };
    // The optimum first: it takes longest.
    let mut tasks = Vec::new();
    for (mix, demand) in mixes {
        for measure in [Measure::Pods, Measure::Slices] {
            tasks.push((*mix, demand, measure, None));
            for name in POLICIES {
                tasks.push((*mix, demand, measure, Some(Contestant::find(name)?)));
            }
        }
    }
    let gains = field.spread(&tasks, |(_, demand, measure, policy)| {
        let chain = Chain::new(&field.geometry, demand, LOAD);
        Ok(match policy {
            None => chain.optimum(*measure, Refusal::Never),
            Some(contestant) => {
                let mut policy = contestant.in_the_long_run(&field.geometry, demand, 1)?;
                let decisions = Decisions::of(&field.geometry, policy.as_mut())?;
                chain.evaluate(&decisions, *measure)
            }
        })
    })?;
    let mut table = Table::new(&[
        "mix", "accepted", "optimum", "policy", "accepts", "short by", "",
    ]);
    for (tasks, gains) in tasks
        .chunks(POLICIES.len() + 1)
        .zip(gains.chunks(POLICIES.len() + 1))
    {
        let (Some((mix, _, measure, _)), Some(optimum)) = (tasks.first(), gains.first()) else {
            continue;
        };
        let (accepted, bar) = match measure {
            Measure::Pods => ("pods", GAP_PODS),
            Measure::Slices => ("slices", GAP_SLICES),
        };
        for (name, gain) in POLICIES.iter().zip(&gains[1..]) {
            let gap = optimum.middle() - gain.middle();
            let judged = Bar::at_most(gap, bar);
            table.row(&[
                (*mix).to_owned(),
                accepted.to_owned(),
                format!("{:.2}", optimum.middle()),
                (*name).to_owned(),
                format!("{:.2}", gain.middle()),
                format!("{gap:.2}"),
                if *name == "ours" {
                    judged
                } else {
                    String::new()
                },
            ]);
        }
    }
    found.add(
        format!(
            "## Distance to the optimum\n\nTwo GPUs at load {LOAD}: what the best of all policies accepts \
             that must take what fits and moves nothing, computed exactly (value iteration over 522,729 \
             states), and what policies accept, in percent. Promised for ours: short by at most \
             {GAP_PODS} points of pods and {GAP_SLICES} of slices."
        ),
        table,
    );
    Ok(())
}
