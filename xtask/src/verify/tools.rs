//! What `verify` fetches, by exact version; a folder of that name means that it is there.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::python::Python;

/// Version of NVIDIA's Python bindings of NVML.
pub(super) const NVIDIA_ML_PY: &str = "13.615.71";

/// Version of ClearML's agent, whose decoder reads what the webhook writes.
pub(super) const CLEARML_AGENT: &str = "3.0.3";

/// The folder with the bindings, for PYTHONPATH.
pub(super) async fn nvidia_ml_py(python: &Python) -> anyhow::Result<PathBuf> {
    package(python, "nvidia-ml-py", NVIDIA_ML_PY).await
}

/// The folder with ClearML's agent, without what it depends on.
pub(super) async fn clearml_agent(python: &Python) -> anyhow::Result<PathBuf> {
    package(python, "clearml-agent", CLEARML_AGENT).await
}

/// The folder with a package and nothing else.
async fn package(python: &Python, name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let folder = python.cache().join(format!("{name}-{version}"));
    if folder.exists() {
        return Ok(folder);
    }
    let fresh = tempfile::tempdir_in(python.cache()).context("failed to make a folder")?;
    let target = fresh.path().display().to_string();
    let package = format!("{name}=={version}");
    python
        .pip(&["install", "--no-deps", "--target", &target, &package])
        .await?;
    std::fs::rename(fresh.path(), &folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}
