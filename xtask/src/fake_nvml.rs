//! `cargo xtask fake-nvml`: the simulated driver library for other programs to load.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use testbed::binaries::{Binaries, Profile, Progress};

use crate::outcome::Outcome;

/// Puts a libnvidia-ml.so.1 that behaves as MIG hardware does into a folder.
///
/// Programs that load it see the GPUs of the configuration that `FAKE_NVML_CONFIG` names, or that lies
/// beside it as fake-nvml.toml; without one, a host with one A100-SXM4-40GB.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder; it is made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let built = Binaries::build_nvml(Profile::Debug, Progress::Quiet).await?;
    let target = options.out.join("libnvidia-ml.so.1");
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("failed to make the folder {}", options.out.display()))?;
    // Under another name first, so that a program that has the old library loaded keeps it.
    let fresh = options.out.join("libnvidia-ml.so.1.new");
    std::fs::copy(&built, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &target))
        .with_context(|| format!("failed to write {}", target.display()))?;
    anstream::println!("{}", target.display());
    Ok(Outcome::Good)
}
