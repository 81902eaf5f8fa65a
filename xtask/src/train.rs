//! `cargo xtask train`: makes the placement tables that are checked in, again or anew.
//!
//! All that a table follows from is in the command, which its header repeats: whoever runs that
//! command gets the same bytes.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use simulation::training::{Aim, Cut, Recipe};
use testbed::binaries::repository;

use crate::outcome::Outcome;

/// Train a placement table: search the values of all states of a GPU with which simulated clusters lose least.
///
/// The table follows from the options alone, on every machine. One core, some minutes with the
/// options of the tables that are checked in (their headers say which those are).
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For which GPUs.
    #[arg(long, value_enum, default_value = "eight")]
    geometry: Geometry,

    /// What the table is to be good at.
    #[arg(long = "for", value_enum, default_value = "loss")]
    aim: For,

    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many generations the search takes.
    #[arg(long, default_value_t = 280, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    generations: u32,

    /// How long simulated runs are, in percent of the usual; less is quicker and worse.
    #[arg(long, value_name = "PERCENT", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    length: u32,

    /// Where the table goes; the file of crates/placement/tables that is compiled in if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Geometry {
    /// Eight memory slices: A100, H100, H200, B200.
    Eight,
    /// Four memory slices: A30, and RTX PRO 6000, which is cut alike.
    Four,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    /// Pods that come and go for ever.
    Loss,
    /// Many pods that come to an empty cluster at once.
    Fill,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let recipe = Recipe {
        cut: match options.geometry {
            Geometry::Eight => Cut::Eight,
            Geometry::Four => Cut::Four,
        },
        aim: match options.aim {
            For::Loss => Aim::Loss,
            For::Fill => Aim::Fill,
        },
        seed: options.seed,
        generations: options.generations,
        length: options.length,
    };
    let tables = repository().join("crates/placement/tables");
    let checked_in = recipe.file().map(|file| tables.join(file));
    let file = options.out.or(checked_in).context(
        "GPUs with four slices have no table to fill: the rule without training fills them to the last slice. To \
         train one all the same, say with --out where it goes",
    )?;
    let made = tokio::task::spawn_blocking(move || {
        recipe.make(&mut |progress| {
            anstream::eprintln!(
                "  train: generation {} of {}: loses {:.4} (best {:.4}), step {:.3}",
                progress.generation,
                recipe.generations,
                progress.mean,
                progress.best,
                progress.step
            );
        })
    });
    let text = made.await??;
    std::fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    anstream::println!("wrote {}", file.display());
    Ok(Outcome::Good)
}
