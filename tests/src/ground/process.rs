//! Processes of containers on this machine, found by the pod that their control group names.

use std::path::Path;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// Kills the program of a pod's container as `kill -9` does.
pub(super) fn kill(pod_uid: &str, program: &str) -> anyhow::Result<()> {
    let pid = find(pod_uid, program)
        .with_context(|| format!("no process of this machine is {program} of pod {pod_uid}"))?;
    let pid = Pid::from_raw(pid).context("a process without number")?;
    kill_process(pid, Signal::KILL).with_context(|| format!("failed to kill {program}"))
}

fn find(pod_uid: &str, program: &str) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, folder)| is_of(folder, pod_uid) && runs(folder, program))
        .map(|(pid, _)| pid)
}

/// Whether the process is of the pod. systemd writes uids with other separators.
fn is_of(folder: &Path, pod_uid: &str) -> bool {
    let groups = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    groups.contains(pod_uid) || groups.contains(&pod_uid.replace('-', "_"))
}

fn runs(folder: &Path, program: &str) -> bool {
    let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    Path::new(&first).file_name() == Some(program.as_ref())
}
