//! The compilation, as Debian's own rules do it (with GOPATH, without cgo) but without what a node of
//! this cluster never uses, behind everything else that the machine has to do.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::PROGRAMS;
use crate::cluster::place;
use crate::cluster::process::PATH;
use crate::program::last_lines;

/// Two cores need about three minutes.
const LIMIT: Duration = Duration::from_hours(1);
/// The steps; their arguments are the programs.
const STEPS: &str = include_str!("compile.sh");
/// Leaves out the clients of clouds and Docker, of which there are as many as of everything else: the
/// node is on no cloud, and its containers are containerd's.
const TAGS: &str = "-tags=providerless,dockerless";

/// Builds the programs of the source tree into a folder, with the Go at `go`.
pub(super) async fn build(work: &Path, tree: &Path, go: &Path, made: &Path) -> anyhow::Result<()> {
    let packages = tree.join(".go/src/k8s.io");
    place::make(&packages)?;
    let linked = packages.join("kubernetes");
    std::os::unix::fs::symlink("../../..", &linked)
        .with_context(|| format!("failed to make {}", linked.display()))?;
    let path = work.join("build.log");
    anstream::eprintln!(
        "Building Kubernetes, once; it takes about 3 minutes on two cores (see {})",
        path.display()
    );
    let log = std::fs::File::create(&path).context("failed to make the build's log")?;
    let errors = log.try_clone().context("failed to share the build's log")?;
    let steps = work.join("compile.sh");
    place::write(&steps, STEPS)?;
    let mut command = Command::new("nice");
    command
        .args(["-n", "19", "bash"])
        .arg(steps)
        .args(PROGRAMS.map(|name| format!("cmd/{name}")))
        .current_dir(&linked)
        .env("PATH", format!("{}/bin:{PATH}", go.display()))
        .env("HOME", work.join("home"))
        .env("GOROOT", go)
        .env("GOPATH", tree.join(".go"))
        .env("GOCACHE", work.join("gocache"))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", TAGS)
        // As all others are anyhow; or it would be built apart, after them.
        .env("KUBE_STATIC_OVERRIDES", "kubelet")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0);
    let mut child = command.spawn().context("failed to start the build")?;
    let mut group = Group(child.id());
    let status = tokio::time::timeout(LIMIT, child.wait())
        .await
        .with_context(|| format!("the build did not end within {} s", LIMIT.as_secs()))?
        .context("failed to wait for the build")?;
    group.0 = None;
    if !status.success() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        bail!(
            "failed to build Kubernetes: it ended with {status}; the end of {}:\n{}",
            path.display(),
            last_lines(&text, 20)
        );
    }
    for name in PROGRAMS {
        super::copy(&tree.join("_output/bin").join(name), &made.join(name))?;
    }
    Ok(())
}

/// Ends the compilers, too, when the build is given up.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = leader.and_then(Pid::from_raw) {
            // The compilers may have ended by themselves.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
