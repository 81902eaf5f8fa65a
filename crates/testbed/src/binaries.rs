//! Builds the programs that run in the cluster with a cargo of our own: neither `cargo run` of a
//! developer command nor `cargo test` of one package builds the binaries of another.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

/// How the programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `cargo build`: quick to build.
    Debug,
    /// `cargo build --release`: what is measured.
    Release,
}

/// Whether a person sees cargo at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Cargo shows its progress on standard error.
    Shown,
    /// Only warnings and errors are shown.
    Quiet,
}

/// The programs that run in the cluster.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `mig-node-agent`.
    pub agent: PathBuf,
    /// `cdmo-controller`.
    pub controller: PathBuf,
    /// The stand-in driver library.
    pub nvml: PathBuf,
    /// `fake-nvml-install`, which puts that library into a folder.
    pub nvml_install: PathBuf,
}

/// Why the programs could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be started.
    #[error("failed to start cargo; is Rust installed?")]
    Start {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Cargo failed and said why on standard error.
    #[error("failed to build {what}: cargo ended with {status}")]
    Failed {
        /// The packages.
        what: String,
        /// Cargo's exit status.
        status: std::process::ExitStatus,
    },
    /// Cargo succeeded, but the file is not among what it says it made.
    #[error("cargo built {0} but named no file for it")]
    Missing(&'static str),
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

impl Binaries {
    /// Builds what is not built yet.
    pub async fn build(profile: Profile, progress: Progress) -> Result<Self, BuildError> {
        let packages = ["mig-node-agent", "cdmo-controller", "fake-nvml"];
        let made = cargo_build(&packages, profile, progress).await?;
        Ok(Self {
            agent: find(&made, "mig-node-agent", "/mig-node-agent")?,
            controller: find(&made, "cdmo-controller", "/cdmo-controller")?,
            nvml: find(&made, "fake_nvml", ".so")?,
            nvml_install: find(&made, "fake-nvml-install", "/fake-nvml-install")?,
        })
    }

    /// Builds the stand-in driver library alone.
    pub async fn build_nvml(profile: Profile, progress: Progress) -> Result<PathBuf, BuildError> {
        let made = cargo_build(&["fake-nvml"], profile, progress).await?;
        find(&made, "fake_nvml", ".so")
    }
}

/// The file of a target whose name ends so.
fn find(made: &[Artifact], target: &'static str, suffix: &str) -> Result<PathBuf, BuildError> {
    made.iter()
        .filter(|artifact| artifact.target.name == target)
        .flat_map(|artifact| artifact.executable.iter().chain(&artifact.filenames))
        .find(|file| file.to_string_lossy().ends_with(suffix))
        .cloned()
        .ok_or(BuildError::Missing(target))
}

/// A cargo for this repository. What an outer cargo tells the program that it runs (`CARGO_PKG_NAME`
/// and the like) is kept from it: build scripts would take it for a change and build again.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let told = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
    ];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if told.iter().any(|prefix| name.starts_with(prefix)) || name == "OUT_DIR" {
            command.env_remove(&*name);
        }
    }
    command
        .current_dir(repository())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A line of `cargo build --message-format=json` that names files.
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

async fn cargo_build(
    packages: &[&str],
    profile: Profile,
    progress: Progress,
) -> Result<Vec<Artifact>, BuildError> {
    let mut command = cargo();
    command
        .arg("build")
        .arg("--message-format=json-render-diagnostics")
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if profile == Profile::Release {
        command.arg("--release");
    }
    if progress == Progress::Quiet {
        command.arg("--quiet");
    }
    let started = |source| BuildError::Start { source };
    let child = command.spawn().map_err(started)?;
    let output = child.wait_with_output().await.map_err(started)?;
    if !output.status.success() {
        return Err(BuildError::Failed {
            what: packages.join(", "),
            status: output.status,
        });
    }
    Ok(artifacts(&String::from_utf8_lossy(&output.stdout)))
}

/// The artifacts among cargo's messages; all other messages are passed over.
fn artifacts(messages: &str) -> Vec<Artifact> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_are_read_from_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"fake_nvml"},"filenames":["/t/libfake_nvml.so","/t/libfake_nvml.rlib"],"executable":null,"fresh":true}
{"reason":"build-finished","success":true}
not json"#;
        let made = artifacts(messages);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].target.name, "fake_nvml");
        assert_eq!(made[0].filenames[0], Path::new("/t/libfake_nvml.so"));
    }

    #[test]
    fn the_repository_is_where_the_workspace_manifest_is() {
        assert!(repository().join("Cargo.lock").is_file());
    }
}
