//! How well GPU instances are placed: our table beside every other policy that we know of.
//!
//! Each block of the comparison is a module; all run on seeds that are fixed here, so that the
//! figures come out again on another machine (but for the times of [`speed`]). What is simulated, and
//! how, is in the crate `simulation`.

mod carried;
mod clairvoyant;
mod elsewhere;
mod exact;
mod field;
mod learned;
mod openb;
mod plots;
mod promises;
mod queue;
mod speed;
mod spread;
mod steady;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::document::{Report, Table};
use field::{Field, verdict};
use simulation::statistics::Estimate;

/// Options of the comparison of policies.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Comparison {
    /// Placement only: fewer seeds, to see that it works; the figures are not for publication.
    #[arg(long)]
    pub(super) quick: bool,

    /// Placement only: folder with `openb_pod_list_default.csv` and `openb_node_list_gpu_node.csv`, of
    /// the trace that Alibaba published in 2023.
    #[arg(long, env = "CDMO_OPENB", value_name = "DIR")]
    pub(super) openb: Option<PathBuf>,
}

/// Tables with the sentence above each, and plots with their file names.
#[derive(Debug, Default)]
pub(super) struct Findings {
    tables: Vec<(String, Table)>,
    /// By block, ours less the best other policy of each of its cells.
    judged: Vec<(&'static str, Estimate)>,
    plots: Vec<(&'static str, String)>,
}

impl Findings {
    fn add(&mut self, heading: impl Into<String>, table: Table) {
        self.tables.push((heading.into(), table));
    }

    /// Notes how ours compares with the best other policy of a cell, for the table of all blocks.
    fn judge(&mut self, block: &'static str, apart: Estimate) {
        self.judged.push((block, apart));
    }

    /// How many cells of each block ours is ahead in, and the widest margins.
    fn in_short(&self) -> Table {
        let mut table = Table::new(&[
            "block", "cells", "ahead", "tie", "behind", "least", "most", "kept", "",
        ]);
        let mut blocks: Vec<&'static str> = self.judged.iter().map(|(block, _)| *block).collect();
        let mut known = std::collections::BTreeSet::new();
        blocks.retain(|block| known.insert(*block));
        for block in blocks {
            let mine = self.judged.iter().filter(|(known, _)| *known == block);
            let cells: Vec<Estimate> = mine.map(|(_, apart)| *apart).collect();
            let count = |word| cells.iter().filter(|cell| verdict(**cell) == word).count();
            let kept = cells
                .iter()
                .filter(|cell| promises::is_kept(**cell))
                .count();
            let means = cells.iter().map(|cell| cell.mean);
            let (least, most) = means
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), mean| {
                    (least.min(mean), most.max(mean))
                });
            table.row(&[
                block.to_owned(),
                cells.len().to_string(),
                count("ahead").to_string(),
                count("tie").to_string(),
                count("behind").to_string(),
                format!("{least:+.2}"),
                format!("{most:+.2}"),
                format!("{kept} of {}", cells.len()),
                super::numbers::verdict(kept == cells.len()),
            ]);
        }
        table
    }

    /// The plots that belong beside the document.
    pub(super) fn plots(&self) -> &[(&'static str, String)] {
        &self.plots
    }
}

/// Runs all blocks. Ends early with an error once `stop` is set.
pub(super) fn measure(
    options: &Comparison,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<(Report, Findings)> {
    let field = Field::new(options.quick, Arc::clone(stop))?;
    let mut found = Findings::default();
    let said = |block: &str| anstream::eprintln!("  placement: {block}");
    said("loads");
    let loads = steady::loads(&field)?;
    promises::table(&field, &loads, &mut found)?;
    steady::tables(&field, &loads, &mut found)?;
    said("a portfolio");
    learned::loads(&field, &loads, &mut found)?;
    said("the clairvoyant bound");
    clairvoyant::measure(&field, &loads, &mut found)?;
    said("load at 99 % accepted");
    carried::measure(&field, &mut found)?;
    said("fill");
    steady::fill(&field, &mut found)?;
    said("small and large clusters");
    steady::sizes(&field, &mut found)?;
    said("laws of lifetimes");
    steady::laws(&field, &mut found)?;
    said("GPUs in use and instances made");
    steady::active(&field, &mut found)?;
    steady::reuse(&field, &mut found)?;
    said("waits");
    queue::measure(&field, &mut found)?;
    said("the exact optimum");
    exact::measure(&field, &mut found)?;
    said("a production trace");
    openb::measure(&field, options.openb.as_deref(), &mut found)?;
    said("mixes that it was not trained on");
    elsewhere::held_out(&field, &mut found)?;
    said("GPUs with four slices");
    elsewhere::four_slices(&field, &mut found)?;
    said("time of a decision");
    speed::measure(&field, &mut found)?;
    let heading = "## In short\n\nOurs against the best other policy of each cell, chosen after the fact, by \
                   pods: in how many cells it is ahead, and the differences in points, from the least to \
                   the most. Promised is for every cell that it is not below by more than a tenth of a point or two \
                   standard errors, whichever is more.";
    found
        .tables
        .insert(0, (heading.to_owned(), found.in_short()));
    let report = Report {
        title: "Placement".to_owned(),
        how: how(options.quick),
        tables: std::mem::take(&mut found.tables),
    };
    Ok((report, found))
}

fn how(quick: bool) -> String {
    let quick = if quick {
        "**This was a quick run with few seeds; its figures are not for publication.**\n\n"
    } else {
        ""
    };
    format!(
        "{quick}\
         Which GPU gets an instance, and where on it, decides how much fits. Here our table is compared \
         with every other policy that we know of: on A100-80GB, with six profiles, in simulators that \
         give all policies the same pods (crate `simulation`). Policies of others were rebuilt from their \
         papers and sources, use the same look-ups as ours, and see single pods without CPU and memory; \
         what was published in other words than code (MFI, MCC, MECC) is a reconstruction, and all its \
         readings are shown; baskets is GRMU without its migrations, with 30 % of the GPUs for 7g, which is a \
         guess. nos has no profile of one slice with double memory and loses all pods that ask for it. FGD-MIG, MECC and MECC-lost are told the \
         true mix, which nobody knows in life. Ours are two tables. The one for pods that come and go was trained on \
         these four mixes with other \
         pods: on 100 GPUs at loads .85, 1 and 1.15, on 16 at .95 and on two at .7. The other is used while a batch of \
         pods starts on GPUs on which nothing runs, until the first instance ends, and was trained to fill. \
         `cargo xtask train` makes both again from the command in their headers. The production trace and \
         mixes of its own block are demand that they were not trained on. Where a portfolio is named, a cluster with a \
         long history chose between our table and those of others by replaying its own pods. The controller \
         places by the first of our tables, along with other prices (docs/design.md); a portfolio of those rules that are values of masks takes over where the pods of a cluster speak against it, and the second table is not used. DAS, DRA and HAMi see nodes of four GPUs. REPACK may move all that runs at any moment: the \
         reference for slices (it takes more large instances, and so may accept fewer pods).\n\n\
         The mixes are those of the MFI paper: shares of 7g, 4g, 3g, 2g, 1g with double memory and 1g. \
         The load is memory slices asked for concurrently, relative to all there are. What is behind ± \
         holds the true mean in 95 of 100 repetitions (by Student's distribution). Differences are taken seed \
         by seed on the same pods; one is called ahead or behind if its bar does not reach zero, and else \
         a tie. Of many cells some are called so by chance.\n\n\
         | mix | 7g | 4g | 3g | 2g | 1g, double memory | 1g |\n|---|---|---|---|---|---|---|\n\
         | uniform | 1/6 | 1/6 | 1/6 | 1/6 | 1/6 | 1/6 |\n\
         | skew-small | .05 | .10 | .10 | .20 | .25 | .30 |\n\
         | skew-big | .30 | .25 | .20 | .10 | .10 | .05 |\n\
         | bimodal | .30 | .15 | .05 | .05 | .15 | .30 |"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_block_are_counted_by_their_verdict() {
        let mut found = Findings::default();
        for (block, mean) in [("one", 1.0), ("one", -1.0), ("one", 0.1), ("two", 2.0)] {
            let standard_error = 0.2;
            let samples = 5;
            found.judge(
                block,
                Estimate {
                    mean,
                    standard_error,
                    samples,
                },
            );
        }
        let text = format!("{:?}", found.in_short());
        assert!(
            text.contains(r#""one", "3", "1", "1", "1", "-1.00", "+1.00", "2 of 3", "MISSED""#),
            "{text}"
        );
        assert!(text.contains(r#""two", "1", "1", "0", "0""#), "{text}");
    }
}
