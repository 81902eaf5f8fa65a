//! How far policies are from what nobody can pass.

use simulation::clairvoyant::bound;
use simulation::exact::Measure;
use simulation::statistics::Estimate;

use super::field::{Field, Samples, row, with_bar};
use super::steady::{Loads, load_cells};
use super::{Findings, Table};

/// Seeds of which the bound is worked out.
const SEEDS: u64 = 10;

pub(super) fn measure(field: &Field, loads: &Loads, found: &mut Findings) -> anyhow::Result<()> {
    let cells = load_cells(field);
    let figures: Vec<&Vec<Samples>> = loads.cells.iter().flatten().collect();
    let mut tasks = Vec::new();
    for ((load, mix, cell), figures) in cells.iter().zip(figures) {
        for measure in [Measure::Pods, Measure::Slices] {
            tasks.push((*load, *mix, *cell, figures, measure));
        }
    }
    let seeds = field.seeds(SEEDS);
    let bounds = field.spread(&tasks, |(_, _, cell, figures, measure)| {
        let ours = of(row(&loads.rows, figures, "ours")?, *measure);
        let mut bounds = Vec::new();
        for (seed, known) in (1..=seeds).zip(ours) {
            let (geometry, demand) = (&field.geometry, cell.demand);
            bounds.push(bound(geometry, demand, &cell.loss, seed, *measure, *known));
        }
        Ok(bounds)
    })?;
    let mut table = Table::new(&[
        "load", "mix", "accepted", "bound", "ours", "MFI-all", "MFI", "FF", "REPACK",
    ]);
    for ((load, mix, _, figures, measure), bounds) in tasks.iter().zip(&bounds) {
        let mut line = vec![
            load.to_string(),
            (*mix).to_owned(),
            match measure {
                Measure::Pods => "pods".to_owned(),
                Measure::Slices => "slices".to_owned(),
            },
            with_bar(bounds),
        ];
        for name in ["ours", "MFI-all", "MFI", "FF", "REPACK"] {
            let samples = of(row(&loads.rows, figures, name)?, *measure);
            let short = Estimate::of_difference(bounds, samples);
            line.push(format!("{:.2} ±{:.2}", short.mean, short.half_bar()));
        }
        table.row(&line);
    }
    found.add(
        "## Distance to the clairvoyant bound\n\nWhat nobody can pass on the same pods, and by how many points policies \
         stay below it. The bound knows all pods and lifetimes beforehand, may take parts of pods, reject what \
         fits, and move what runs at no cost; it is Lagrange's bound of that linear programme, in which at each \
         arrival what runs keeps the sums that every layout keeps (memory slices, compute slices, 7g and 4g of one GPU, ...), and it begins \
         to count on empty GPUs. No policy that does not know the future can reach it where much is lost: the short-lived and small \
         are what it takes. On two GPUs the true optimum is known, see below.",
        table,
    );
    Ok(())
}

fn of(samples: &Samples, measure: Measure) -> &Vec<f64> {
    match measure {
        Measure::Pods => &samples.pods,
        Measure::Slices => &samples.slices,
    }
}
