//! What `verify` fetches, by exact version; a folder of that name means that it is there.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::python::Python;

/// Version of NVIDIA's Python bindings of NVML.
pub(super) const NVIDIA_ML_PY: &str = "13.615.71";

/// The folder with the bindings, for PYTHONPATH.
pub(super) async fn nvidia_ml_py(python: &Python) -> anyhow::Result<PathBuf> {
    let folder = python.cache().join(format!("nvidia-ml-py-{NVIDIA_ML_PY}"));
    if folder.exists() {
        return Ok(folder);
    }
    let fresh = tempfile::tempdir_in(python.cache()).context("failed to make a folder")?;
    let target = fresh.path().display().to_string();
    let package = format!("nvidia-ml-py=={NVIDIA_ML_PY}");
    python
        .pip(&["install", "--no-deps", "--target", &target, &package])
        .await?;
    std::fs::rename(fresh.path(), &folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}
