//! Demand that our tables were not trained on, and GPUs with four memory slices.

use simulation::demand::Demand;
use simulation::loss::Loss;
use simulation::statistics::Estimate;

use super::field::{Cell, Field, Samples, Who, difference, everybody, row, verdict, with_bar};
use super::learned;
use super::steady::{GPUS, best_other, filled};
use super::{Findings, Table};

const LOADS: [f64; 3] = [0.85, 1.0, 1.15];
/// How many mixes are drawn, and from which seed; both were fixed before anything was measured.
const MIXES: usize = 6;
const MIXES_SEED: u64 = 2026;
/// Runs of a fill.
const FILLS: u64 = 100;

/// Mixes drawn at random: all mixes equally likely.
fn mixes(field: &Field) -> Vec<(String, Demand)> {
    let drawn = Demand::drawn(&field.geometry, MIXES_SEED, MIXES).into_iter();
    let named = drawn.map(|demand| {
        let words: Vec<String> = demand.parts().iter().map(ToString::to_string).collect();
        (words.join(" "), demand)
    });
    named.collect()
}

/// Mixes that no table was trained on: those of the training are drawn from another seed.
pub(super) fn held_out(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let mixes = mixes(field);
    let mixes: Vec<(&str, &Demand)> = mixes
        .iter()
        .map(|(name, demand)| (name.as_str(), demand))
        .collect();
    let blocks = Blocks {
        loads: "mixes not trained on",
        portfolio: "mixes not trained on, with a portfolio",
        fill: "mixes not trained on, filling",
    };
    let table = compare(field, &mixes, &blocks, found)?;
    found.add(
        format!(
            "## Mixes that it was not trained on\n\n{MIXES} mixes drawn at random, all mixes equally likely (percent of \
             7g, 4g, 3g, 2g, 1g with double memory, 1g). {GPUS} GPUs; in points."
        ),
        table,
    );
    Ok(())
}

/// The same comparison on A30.
pub(super) fn four_slices(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let field = field.with("NVIDIA A30")?;
    let mixes: Vec<(&str, &Demand)> = field
        .mixes
        .iter()
        .map(|(name, demand)| (*name, demand))
        .collect();
    let blocks = Blocks {
        loads: "GPUs with four slices (A30)",
        portfolio: "A30, with a portfolio",
        fill: "A30, filling",
    };
    let table = compare(&field, &mixes, &blocks, found)?;
    found.add(
        format!(
            "## GPUs with four memory slices\n\n{GPUS} A30, which have 4g, 2g and 1g, whose places are nested in one \
             another: there is little to decide. Mixes of 4g, 2g, 1g: uniform; skew-small .10 .30 .60; skew-big .50 .30 .20; \
             bimodal .40 .10 .50. In points."
        ),
        table,
    );
    Ok(())
}

struct Blocks {
    loads: &'static str,
    portfolio: &'static str,
    fill: &'static str,
}

/// Ours and the portfolio against the best other in each cell, and when filling.
fn compare(
    field: &Field,
    mixes: &[(&str, &Demand)],
    blocks: &Blocks,
    found: &mut Findings,
) -> anyhow::Result<Table> {
    let rows = everybody();
    let cells: Vec<(&str, f64, Cell<'_>)> = mixes
        .iter()
        .flat_map(|(name, demand)| {
            LOADS.map(|load| {
                let loss = Loss::new(GPUS, load);
                (*name, load, Cell { demand, loss })
            })
        })
        .collect();
    let plain: Vec<Cell<'_>> = cells.iter().map(|(_, _, cell)| *cell).collect();
    let seeds = field.seeds(10);
    let figures = field.run(&plain, &rows, seeds)?;
    let learned = learned::run(field, &plain, seeds)?;
    let mut table = Table::new(&[
        "mix",
        "load",
        "ours, pods",
        "less MFI",
        "",
        "less the best other",
        "",
        "with a portfolio, less the best other",
        "",
    ]);
    for (((mix, load, _), cell), learned) in cells.iter().zip(&figures).zip(&learned) {
        let ours = row(&rows, cell, "ours")?;
        let by_mfi = Estimate::of_difference(&ours.pods, &row(&rows, cell, "MFI")?.pods);
        let (best, apart) = best_other(&rows, cell, |samples| &samples.pods)?;
        let other = row(&rows, cell, best)?;
        let chosen = Estimate::of_difference(&learned.samples.pods, &other.pods);
        found.judge(blocks.loads, apart);
        table.row(&[
            (*mix).to_owned(),
            load.to_string(),
            with_bar(&ours.pods),
            difference(by_mfi),
            verdict(by_mfi).to_owned(),
            format!("{} ({best})", difference(apart)),
            verdict(apart).to_owned(),
            format!("{} ({})", difference(chosen), learned.words()),
            verdict(chosen).to_owned(),
        ]);
    }
    for (cell, learned) in figures.iter().zip(&learned) {
        let (best, _) = best_other(&rows, cell, |samples| &samples.pods)?;
        let other = row(&rows, cell, best)?;
        let chosen = Estimate::of_difference(&learned.samples.pods, &other.pods);
        found.judge(blocks.portfolio, chosen);
    }
    fills(field, mixes, &rows, blocks, found, &mut table)?;
    Ok(table)
}

fn fills(
    field: &Field,
    mixes: &[(&str, &Demand)],
    rows: &[(&'static str, Who)],
    blocks: &Blocks,
    found: &mut Findings,
    table: &mut Table,
) -> anyhow::Result<()> {
    for (mix, demand) in mixes {
        let cell: Vec<Samples> = filled(field, demand, rows, field.seeds(FILLS))?;
        let ours = row(rows, &cell, "ours")?;
        let by_mfi = Estimate::of_difference(&ours.pods, &row(rows, &cell, "MFI")?.pods);
        let (best, apart) = best_other(rows, &cell, |samples| &samples.pods)?;
        found.judge(blocks.fill, apart);
        table.row(&[
            (*mix).to_owned(),
            "fill".to_owned(),
            with_bar(&ours.pods),
            difference(by_mfi),
            verdict(by_mfi).to_owned(),
            format!("{} ({best})", difference(apart)),
            verdict(apart).to_owned(),
            String::new(),
            String::new(),
        ]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn mixes_that_are_drawn_are_the_same_each_time_and_none_that_was_trained_on() {
        let field = Field::new(true, Arc::default()).unwrap();
        let drawn = mixes(&field);
        assert_eq!(drawn, mixes(&field));
        for (name, demand) in &drawn {
            let near = |(_, known): &&(&str, Demand)| {
                let shares = known.shares().iter().zip(demand.shares());
                shares.map(|(a, b)| (a - b).abs()).sum::<f64>() < 0.1
            };
            assert!(field.mixes.iter().find(near).is_none(), "{name}");
        }
    }
}
