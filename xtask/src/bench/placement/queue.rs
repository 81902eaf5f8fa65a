//! Pods that wait, as they do in Kubernetes.

use placement::ProfileId;
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::queue::{Discipline, Queue, Waits};
use simulation::statistics::Estimate;

use super::field::{Field, half, verdict};
use super::steady::GPUS;
use super::{Findings, Table};

const POLICIES: [&str; 9] = [
    "FF",
    "BF-BI",
    "MFI",
    "MFI-all",
    "FGD-MIG",
    "HAMi-2855-exact",
    "DAS",
    "DRA",
    "ours",
];
const DISCIPLINES: [(&str, Discipline); 3] = [
    ("by age", Discipline::Fifo),
    ("others go ahead", Discipline::Backfill),
    (
        "windows kept",
        Discipline::Reserving {
            after: 1.0,
            part: 0.03,
        },
    ),
];
const LOADS: [f64; 2] = [0.85, 0.95];

struct Task<'a> {
    demand: &'a Demand,
    discipline: Discipline,
    load: f64,
    policy: Contestant,
}

pub(super) fn measure(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let seeds = field.seeds(10);
    let mut heads = Vec::new();
    let mut tasks = Vec::new();
    for (mix, demand) in &field.mixes {
        for load in LOADS {
            for (order, discipline) in DISCIPLINES {
                heads.push((*mix, load, order));
                for name in POLICIES {
                    tasks.push(Task {
                        demand,
                        discipline,
                        load,
                        policy: Contestant::find(name)?,
                    });
                }
            }
        }
    }
    let runs = field.spread(&tasks, |task| {
        let mut queue = Queue::new(GPUS, task.load, task.discipline);
        if field.is_quick() {
            queue.measured = 20.0;
        }
        let mut runs = Vec::new();
        for seed in 1..=seeds {
            let mut policy = task.policy.policy(&field.geometry, task.demand, seed)?;
            runs.push(queue.run(&field.geometry, task.demand, policy.as_mut(), seed)?);
        }
        Ok(runs)
    })?;
    let mut table = Table::new(&[
        "mix",
        "load",
        "order",
        "policy",
        "mean wait",
        "99 % wait",
        "7g mean",
        "7g 99 %",
        "in use (%)",
        "mean wait less MFI's",
        "",
    ]);
    for ((mix, load, order), runs) in heads.iter().zip(runs.chunks(POLICIES.len())) {
        for (name, of_policy) in POLICIES.iter().zip(runs) {
            let mfi = &runs[2];
            let mut line = vec![(*mix).to_owned(), load.to_string(), (*order).to_owned()];
            line.push((*name).to_owned());
            line.extend(figures(of_policy));
            // Shorter is better, so the sign of the verdict is turned.
            let (one, other) = (means(of_policy), means(mfi));
            line.push(digits(Estimate::of_difference(&one, &other), true));
            line.push(verdict(Estimate::of_difference(&other, &one)).to_owned());
            table.row(&line);
        }
    }
    found.add(
        format!(
            "## Pods that wait\n\n{GPUS} GPUs; pods that find no place wait, in the order of their age (the \
             oldest blocks all), with others going ahead, or so and with windows kept on 3 % of the GPUs \
             for pods that waited for one mean lifetime. Waits in mean lifetimes. At load .95 waiting by \
             age alone is overloaded for all policies: waits grow with the length of the run, and what \
             counts is the part in use. Pods that still wait when a run ends are in no wait, which flatters whoever lets \
             some wait for ever."
        ),
        table,
    );
    Ok(())
}

fn means(runs: &[Waits]) -> Vec<f64> {
    runs.iter().filter_map(|run| run.mean(None)).collect()
}

fn figures(runs: &[Waits]) -> [String; 5] {
    let whole = Some(ProfileId(0));
    let columns: [Vec<f64>; 5] = [
        means(runs),
        runs.iter()
            .filter_map(|run| run.quantile(None, 0.99))
            .collect(),
        runs.iter().filter_map(|run| run.mean(whole)).collect(),
        runs.iter()
            .filter_map(|run| run.quantile(whole, 0.99))
            .collect(),
        runs.iter().map(|run| run.utilisation).collect(),
    ];
    columns.map(|samples| digits(Estimate::of(&samples), false))
}

/// Waits are short: three digits.
fn digits(estimate: Estimate, with_sign: bool) -> String {
    let (mean, half) = (estimate.mean, half(estimate));
    if with_sign {
        format!("{mean:+.3} ±{half:.3}")
    } else {
        format!("{mean:.3} ±{half:.3}")
    }
}
