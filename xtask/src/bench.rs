//! `cargo xtask bench`: the figures that the project promises, measured on release builds.

mod controller;
mod document;
mod latency;
mod memory;
mod numbers;
mod placement;
mod real;
mod size;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use testbed::binaries::{Binaries, Profile, Progress, cargo};

use crate::interrupt::Interrupt;
use crate::outcome::Outcome;

/// Measure latency, memory and size of release builds, the webhook under load, and how well GPU instances are placed; write it all to docs/benchmarks.
///
/// Builds everything with --release, this program included, since the cluster runs inside it. The
/// figures are only as good as the machine is quiet.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    figures: Vec<Figure>,

    #[command(flatten)]
    placement: placement::Comparison,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// From a pod's creation to its devices: 100 pods, each needing a new instance, on 80 GPUs.
    Latency,
    /// Resident memory of agents and controller.
    Memory,
    /// Size of the stripped programs.
    Size,
    /// The webhook's answers and its memory, at 200 requests a second on one core.
    Webhook,
    /// The controller with 1,000 nodes of 8 GPUs and 10,000 waiting pods; four minutes.
    Controller,
    /// Our placement table beside every other policy that we know of, in simulation; a few minutes.
    Placement,
    /// All of it on the real node of `cargo xtask cluster up`; takes half an hour, and only if named.
    Real,
    /// What a fraction costs beside its profile, on that node; takes five minutes, and only if named.
    Fractions,
}

impl Options {
    fn wants(&self, figure: Figure) -> bool {
        let unnamed =
            self.figures.is_empty() && !matches!(figure, Figure::Real | Figure::Fractions);
        unnamed || self.figures.contains(&figure)
    }

    /// Whether our programs are needed; simulations are a part of this one.
    fn wants_programs(&self) -> bool {
        let figures = Figure::value_variants().iter();
        figures
            .filter(|figure| **figure != Figure::Placement)
            .any(|figure| self.wants(*figure))
    }
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    if cfg!(debug_assertions) {
        return again(&options).await;
    }
    let mut interrupt = Interrupt::take()?;
    if options.wants_programs() {
        let binaries = Binaries::build(Profile::Release, Progress::Shown).await?;
        let outcome = tokio::select! {
            biased;
            signal = interrupt.came() => Outcome::Interrupted(signal),
            result = measure(&options, &binaries) => result.map(|()| Outcome::Good)?,
        };
        if outcome != Outcome::Good {
            return Ok(outcome);
        }
    }
    if options.wants(Figure::Placement) {
        return place(&options, &mut interrupt).await;
    }
    Ok(Outcome::Good)
}

/// Simulates on all cores, and stops soon after a signal.
async fn place(options: &Options, interrupt: &mut Interrupt) -> anyhow::Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let (options, stopped) = (options.placement.clone(), Arc::clone(&stop));
    let simulated = tokio::task::spawn_blocking(move || placement::measure(&options, &stopped));
    let (report, found) = tokio::select! {
        biased;
        signal = interrupt.came() => {
            stop.store(true, Ordering::Relaxed);
            return Ok(Outcome::Interrupted(signal));
        }
        result = simulated => result??,
    };
    for (file, plot) in found.plots() {
        document::put(file, plot)?;
    }
    document::publish("placement", &report)?;
    Ok(Outcome::Good)
}

/// Measures in an optimized build of this program.
async fn again(options: &Options) -> anyhow::Result<Outcome> {
    let figures = options
        .figures
        .iter()
        .filter_map(ValueEnum::to_possible_value);
    let mut command = cargo();
    command
        .args([
            "run",
            "--quiet",
            "--profile",
            "bench",
            "--package",
            "xtask",
            "--",
            "bench",
        ])
        .args(figures.map(|figure| figure.get_name().to_owned()));
    if options.placement.quick {
        command.arg("--quick");
    }
    if let Some(folder) = &options.placement.openb {
        command.arg("--openb").arg(folder);
    }
    let status = command.status().await?;
    Ok(if status.success() {
        Outcome::Good
    } else {
        Outcome::Failed
    })
}

async fn measure(options: &Options, binaries: &Binaries) -> anyhow::Result<()> {
    if options.wants(Figure::Latency) {
        document::publish("latency", &latency::measure(binaries).await?)?;
    }
    if options.wants(Figure::Memory) {
        document::publish("memory", &memory::measure(binaries).await?)?;
    }
    if options.wants(Figure::Size) {
        document::publish("size", &size::measure(binaries)?)?;
    }
    if options.wants(Figure::Webhook) {
        document::publish("webhook", &webhook::measure(binaries).await?)?;
    }
    if options.wants(Figure::Controller) {
        document::publish("controller", &controller::measure(binaries).await?)?;
    }
    if options.wants(Figure::Real) {
        document::publish("real", &real::measure().await?)?;
    }
    if options.wants(Figure::Fractions) {
        document::publish("fractions", &real::fractions::measure().await?)?;
    }
    Ok(())
}
