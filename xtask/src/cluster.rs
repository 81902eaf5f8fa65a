//! `cargo xtask cluster`: a real Kubernetes node on this machine, from Debian's packages and
//! sources and from PyPI alone. docs/development/real-cluster.md tells how it is put together.

mod archive;
mod down;
mod images;
mod install;
mod keeper;
mod kubernetes;
mod leftovers;
mod network;
mod packages;
mod parts;
mod pki;
mod place;
mod process;
mod ready;
mod record;
mod settings;
mod status;
mod tunables;
mod up;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use testbed::binaries::Profile;
use tokio::time::Instant;

pub(crate) use self::install::{Wanted, install};
pub(crate) use self::place::kubeconfig;
use self::record::Record;
use crate::interrupt::Interrupt;
use crate::outcome::Outcome;

/// Run a real Kubernetes 1.20 node on this machine (Debian, as root).
///
/// The first `up` installs Debian packages and builds Kubernetes, about four minutes on two cores;
/// later ones take seconds. Not needed by whoever has a cluster: set KUBECONFIG.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring the cluster up and print what to export: eval "$(cargo xtask cluster up)".
    Up,
    /// End the cluster and remove what it made; its logs stay.
    Down,
    /// Tell what runs.
    Status,
    /// Fetch and build what `up` needs, and start nothing.
    Prepare,
    /// Import image archives (of the OCI or the docker save layout) into the node.
    Load {
        /// The archives.
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Build images of our programs, load them, and install the chart with simulated GPUs.
    Install {
        /// Take programs without optimisation, which are built faster.
        #[arg(long)]
        debug: bool,
        /// A100-40GB that the node has.
        #[arg(long, value_name = "COUNT", default_value_t = 2)]
        gpus: u32,
    },
    /// End one program of the cluster and start it again.
    Restart {
        /// The program.
        #[arg(value_parser = parts::ALL)]
        part: String,
        /// Kill it instead of asking it to end.
        #[arg(long)]
        kill: bool,
    },
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    if let Action::Status = options.action {
        return status::status().await;
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a node's namespaces, mounts and containers need root; run this with sudo, or set \
             KUBECONFIG to a cluster that you have"
        );
    }
    let started = Instant::now();
    let seconds = || started.elapsed().as_secs_f64();
    if let Action::Prepare = options.action {
        up::prepare().await?;
        anstream::eprintln!("All is there, after {:.1} s", seconds());
        return Ok(Outcome::Good);
    }
    let _lock = place::Lock::cluster()?;
    match options.action {
        Action::Up => {
            let mut interrupt = Interrupt::take().context("failed to listen for signals")?;
            let record = tokio::select! {
                record = up::up() => record?,
                signal = interrupt.came() => {
                    anstream::eprintln!("Interrupted; clearing away what had come up");
                    if Record::load()?.is_some_and(|record| !record.complete) {
                        down::down().await?;
                    }
                    return Ok(Outcome::Interrupted(signal));
                }
            };
            anstream::eprintln!("The node is Ready, after {:.1} s", seconds());
            anstream::println!("export KUBECONFIG={}", place::kubeconfig().display());
            anstream::println!("export PATH={}:\"$PATH\"", record.tools.display());
        }
        Action::Down => {
            if down::down().await? {
                anstream::eprintln!("The cluster is down, after {:.1} s", seconds());
            } else {
                anstream::eprintln!("No cluster is up on this machine");
            }
        }
        Action::Load { archives } => {
            for archive in archives {
                let said = images::import(&archive).await?;
                anstream::eprintln!("{}", said.trim_end());
            }
        }
        Action::Install { debug, gpus } => {
            let profile = if debug {
                Profile::Debug
            } else {
                Profile::Release
            };
            install::install(profile, &Wanted::gpus(gpus)).await?;
            anstream::eprintln!("The agent is connected, after {:.1} s", seconds());
        }
        Action::Restart { part, kill } => up::restart(&part, kill).await?,
        Action::Status | Action::Prepare => {}
    }
    Ok(Outcome::Good)
}
