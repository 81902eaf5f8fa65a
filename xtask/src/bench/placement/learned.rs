//! Our table and the others that the controller can decide by, of which a portfolio chooses by what a cluster saw.
//!
//! A portfolio needs a long history before small gains are sure, so it is given one: pods of the same
//! demand, from other seeds than those that its choice is then measured on.

use placement::policy::ByTable;
use placement::portfolio::{Portfolio, Settings};
use simulation::adaptive::learn;
use simulation::loss::Loss;
use simulation::statistics::Estimate;

use super::field::{Cell, Field, Samples, Who, difference, row, verdict};
use super::steady::best_other;
use super::{Findings, Table};

/// Windows of pods that it saw before it is measured.
const WINDOWS: f64 = 72.0;
/// Clusters that learn, each from pods of its own; the seeds that are measured take turns among them.
const HISTORIES: u64 = 4;
/// Seeds of the histories, far from all others.
const SEEDS: u64 = 7_000_000;

/// What clusters with a long history choose, and how that does.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    pub(super) samples: Samples,
    /// The tables chosen, one for each history.
    chosen: Vec<String>,
    /// Changes of the table in all histories together.
    switches: usize,
}

fn portfolio(field: &Field, gpus: u32) -> anyhow::Result<Portfolio> {
    let geometry = &field.geometry;
    let settings = Settings::for_gpus(gpus);
    Ok(Portfolio::by_values(geometry, settings)?)
}

/// One history and the runs that are measured after it.
struct Part {
    chosen: String,
    switches: usize,
    runs: Vec<(u64, simulation::loss::Tally)>,
}

/// What portfolios choose in each cell, measured on the seeds from 1.
pub(super) fn run(field: &Field, cells: &[Cell<'_>], seeds: u64) -> anyhow::Result<Vec<Learned>> {
    let tasks: Vec<_> = cells
        .iter()
        .flat_map(|cell| (0..HISTORIES).map(move |history| (*cell, history)))
        .collect();
    let parts = field.spread(&tasks, |(cell, history)| part(field, cell, *history, seeds))?;
    let each = usize::try_from(HISTORIES)?;
    Ok(parts.chunks(each).map(together).collect())
}

fn part(field: &Field, cell: &Cell<'_>, history: u64, seeds: u64) -> anyhow::Result<Part> {
    let mut portfolio = portfolio(field, cell.loss.gpus)?;
    let counted = 0.75 * f64::from(u32::try_from(Settings::default().window)?);
    let windows = if field.is_quick() { 8.0 } else { WINDOWS };
    let watched = Loss {
        measured: windows * counted / cell.demand.rate(cell.loss.load, cell.loss.gpus),
        ..cell.loss
    };
    let learned = learn(
        &mut portfolio,
        &watched,
        &field.geometry,
        cell.demand,
        SEEDS + history,
    )?;
    let table = portfolio.index().table();
    let mut policy = ByTable::new(&field.geometry, table)?;
    let mut runs = Vec::new();
    for seed in (1..=seeds).filter(|seed| seed % HISTORIES == history) {
        let (geometry, demand) = (&field.geometry, cell.demand);
        runs.push((seed, cell.loss.run(geometry, demand, &mut policy, seed)?));
    }
    Ok(Part {
        chosen: table.name().to_owned(),
        switches: learned.switches.len(),
        runs,
    })
}

fn together(parts: &[Part]) -> Learned {
    let mut learned = Learned::default();
    let mut runs: Vec<_> = parts.iter().flat_map(|part| &part.runs).collect();
    runs.sort_by_key(|(seed, _)| *seed);
    for (_, tally) in runs {
        learned.samples.add(tally);
    }
    learned.chosen = parts.iter().map(|part| part.chosen.clone()).collect();
    learned.switches = parts.iter().map(|part| part.switches).sum();
    learned
}

impl Learned {
    /// Each table that was chosen with how often.
    pub(super) fn words(&self) -> String {
        let mut names = self.chosen.clone();
        names.sort();
        names.dedup();
        let words = names.iter().map(|name| {
            let count = self.chosen.iter().filter(|chosen| *chosen == name).count();
            format!("{name} {count}")
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The portfolio's choice beside our table and the best other, cell by cell. `labels` are the first
/// columns.
pub(super) fn table(
    head: &[&str],
    cells: &[(Vec<String>, &[Samples], &Learned)],
    rows: &[(&'static str, Who)],
    block: &'static str,
    found: &mut Findings,
) -> anyhow::Result<Table> {
    let more = [
        "chosen, of 4 clusters",
        "changes",
        "less our table, pods",
        "",
        "less the best other, pods",
        "",
        "less the best other, slices",
        "",
    ];
    let head: Vec<&str> = head.iter().copied().chain(more).collect();
    let mut table = Table::new(&head);
    for (labels, cell, learned) in cells {
        let by_ours =
            Estimate::of_difference(&learned.samples.pods, &row(rows, cell, "ours")?.pods);
        let against = |figure: fn(&Samples) -> &Vec<f64>| -> anyhow::Result<_> {
            let (name, _) = best_other(rows, cell, figure)?;
            let other = figure(row(rows, cell, name)?);
            let apart = Estimate::of_difference(figure(&learned.samples), other);
            Ok((name, apart))
        };
        let (pods, by_pods) = against(|samples| &samples.pods)?;
        let (slices, by_slices) = against(|samples| &samples.slices)?;
        found.judge(block, by_pods);
        let mut line = labels.clone();
        line.extend([
            learned.words(),
            learned.switches.to_string(),
            difference(by_ours),
            verdict(by_ours).to_owned(),
            format!("{} ({pods})", difference(by_pods)),
            verdict(by_pods).to_owned(),
            format!("{} ({slices})", difference(by_slices)),
            verdict(by_slices).to_owned(),
        ]);
        table.row(&line);
    }
    Ok(table)
}

/// The portfolio in the cells of the loads.
pub(super) fn loads(
    field: &Field,
    loads: &super::steady::Loads,
    found: &mut Findings,
) -> anyhow::Result<Vec<Learned>> {
    let named = super::steady::load_cells(field);
    let cells: Vec<Cell<'_>> = named.iter().map(|(_, _, cell)| *cell).collect();
    let learned = run(field, &cells, field.seeds(20))?;
    let figures: Vec<&[Samples]> = loads.cells.iter().flatten().map(Vec::as_slice).collect();
    let lines: Vec<_> = named
        .iter()
        .zip(figures)
        .zip(&learned)
        .map(|(((load, mix, _), cell), learned)| {
            (vec![load.to_string(), (*mix).to_owned()], cell, learned)
        })
        .collect();
    let table = table(
        &["load", "mix"],
        &lines,
        &loads.rows,
        "loads, with a portfolio",
        found,
    )?;
    found.add(
        format!(
            "## With a portfolio\n\nA portfolio begins with our table, replays the pods that its cluster saw on \
             the tables of others, too, and changes to one that surely accepts more pods. What four clusters with \
             a history of {WINDOWS} windows (each 6,144 pods that count) chose, and how that does on the pods \
             of all others; FGD-MIG and MECC-lost learn the mix from what was seen. They are those that the controller has. It looks at pods alone, and gives up \
             slices where that accepts more pods."
        ),
        table,
    );
    Ok(learned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_a_portfolio_chooses_does_not_depend_on_threads_and_every_seed_is_measured() {
        let field = Field::new(true, Arc::default()).unwrap();
        let demand = &field.mixes[0].1;
        let loss = Loss {
            measured: 5.0,
            ..Loss::new(8, 1.0)
        };
        let cells = [Cell { demand, loss }];
        let learned = run(&field, &cells, 5).unwrap();
        assert_eq!(learned[0].samples.pods.len(), 5);
        assert_eq!(learned[0].chosen.len(), 4);
        assert!(
            learned[0].words().contains("ours"),
            "{}",
            learned[0].words()
        );
        let again = run(&field, &cells, 5).unwrap();
        assert_eq!(learned[0].samples.pods, again[0].samples.pods);
    }
}
