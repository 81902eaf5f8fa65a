//! How well GPU instances are placed: our table beside every other policy that we know of.
//!
//! Each block of the comparison is a module; all run on seeds that are fixed here, so that the
//! figures come out again on another machine (but for the times of [`speed`]). What is simulated, and
//! how, is in the crate `simulation`.

mod carried;
mod exact;
mod field;
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
use field::Field;

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
    plots: Vec<(&'static str, String)>,
}

impl Findings {
    fn add(&mut self, heading: impl Into<String>, table: Table) {
        self.tables.push((heading.into(), table));
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
    said("time of a decision");
    speed::measure(&field, &mut found)?;
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
         readings are shown; baskets is GRMU without its migrations. FGD-MIG, MECC and MECC-lost are told the \
         true mix, which nobody knows in life. DAS, DRA and HAMi see nodes of four GPUs. REPACK may move all that runs at any moment: the \
         reference for slices (it takes more large instances, and so may accept fewer pods).\n\n\
         The mixes are those of the MFI paper: shares of 7g, 4g, 3g, 2g, 1g with double memory and 1g. \
         The load is memory slices asked for concurrently, relative to all there are. What is behind ± \
         holds the true mean in 95 of 100 repetitions. Differences are taken seed by seed on the same \
         pods; one is called ahead or behind if it is more than two standard errors from zero, and else \
         a tie.\n\n\
         | mix | 7g | 4g | 3g | 2g | 1g, double memory | 1g |\n|---|---|---|---|---|---|---|\n\
         | uniform | 1/6 | 1/6 | 1/6 | 1/6 | 1/6 | 1/6 |\n\
         | skew-small | .05 | .10 | .10 | .20 | .25 | .30 |\n\
         | skew-big | .30 | .25 | .20 | .10 | .10 | .05 |\n\
         | bimodal | .30 | .15 | .05 | .05 | .15 | .30 |"
    )
}
