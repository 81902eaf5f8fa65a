//! The load that a cluster can carry while nearly all pods are accepted: what a buyer pays for.

use simulation::loss::Loss;
use simulation::statistics::Estimate;
use simulation::sustained::sustained;

use super::field::{Cell, Field, Samples, Who, everybody, row, verdict, with_bar};
use super::steady::{GPUS, best_other};
use super::{Findings, Table};

/// Of a hundred pods, or of their memory slices, so many are accepted.
const ACCEPTED: f64 = 99.0;
/// No load beyond is looked at.
const MOST: f64 = 1.2;
const LEAST: f64 = 0.2;

pub(super) fn measure(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows = everybody();
    let seeds = field.seeds(10);
    let tasks: Vec<_> = field
        .mixes
        .iter()
        .flat_map(|(_, demand)| rows.iter().map(move |(_, who)| (demand, *who)))
        .collect();
    let done = field.spread(&tasks, |(demand, who)| {
        let mut samples = Samples::default();
        for seed in 1..=seeds {
            let cell = |load| Cell {
                demand,
                loss: Loss::new(GPUS, load),
            };
            let run = |load| field.lose(&cell(load), *who, seed);
            samples.pods.push(carried(|load| Ok(run(load)?.pods()))?);
            samples
                .slices
                .push(carried(|load| Ok(run(load)?.slices()))?);
        }
        Ok(samples)
    })?;
    let cells: Vec<Vec<Samples>> = done.chunks(rows.len()).map(<[_]>::to_vec).collect();
    for cell in &cells {
        let (_, apart) = best_other(&rows, cell, |samples| &samples.pods)?;
        found.judge("load at 99 % accepted", apart);
    }
    found.add(
        format!(
            "## Load at {ACCEPTED} % accepted\n\nThe load at which {GPUS} GPUs still accept {ACCEPTED} % of \
             all pods / memory slices, in percent of all memory slices."
        ),
        table(field, &rows, &cells)?,
    );
    Ok(())
}

/// The load, in percent, at which the accepted part falls to [`ACCEPTED`]. For one seed it nearly
/// never rises with the load, since higher loads only bring the same pods closer together.
fn carried(accepted: impl Fn(f64) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    Ok(100.0 * sustained((LEAST, MOST), ACCEPTED, accepted)?)
}

fn table(
    field: &Field,
    rows: &[(&'static str, Who)],
    cells: &[Vec<Samples>],
) -> anyhow::Result<Table> {
    let mixes = field.mixes.iter().map(|(name, _)| *name);
    let head: Vec<&str> = ["policy"].into_iter().chain(mixes).collect();
    let mut table = Table::new(&head);
    for (name, _) in rows {
        let mut line = vec![(*name).to_owned()];
        for cell in cells {
            let samples = row(rows, cell, name)?;
            line.push(
                [&samples.pods, &samples.slices]
                    .map(|loads| words_of(loads))
                    .join(" / "),
            );
        }
        table.row(&line);
    }
    let mut last = vec!["ours less best other, pods".to_owned()];
    for cell in cells {
        let (name, apart) = best_other(rows, cell, |samples| &samples.pods)?;
        last.push(format!("{} ({name})", words(apart)));
    }
    table.row(&last);
    Ok(table)
}

/// The mean with its bar, or that no load is low enough.
fn words_of(loads: &[f64]) -> String {
    if Estimate::of(loads).mean < 100.0 * LEAST + 1.0 {
        return format!("below {:.0}", 100.0 * LEAST);
    }
    with_bar(loads)
}

fn words(apart: Estimate) -> String {
    format!("{}: {}", super::field::difference(apart), verdict(apart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_carries_no_load_is_not_given_one() {
        let never = carried(|_| Ok(90.0)).unwrap();
        assert_eq!(words_of(&[never, never]), "below 20");
        assert_eq!(words_of(&[80.0, 80.0]), "80.00 ±0.00");
    }
}
