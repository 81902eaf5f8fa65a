//! What programs of a node leave behind where they cannot be told to use another folder: mounts,
//! control groups, notes of pods' networks, logs and sockets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::{place, settings};

/// Folders that are fixed in the programs, those of our chart included.
const FIXED: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/cni",
    "/var/lib/cdmo",
    "/var/lib/fake-nvml",
];
/// Where libcni notes what it made, one file for each network of a pod.
const CNI_NOTES: [&str; 2] = ["/var/lib/cni/results", "/var/lib/cni/cache/results"];
/// The control group of all pods.
const PODS: &str = "kubepods";
/// How often a control group is asked to go: its last process may just have been killed.
const TRIES: u32 = 50;

/// The folders and control groups that are not there yet, and so will be the cluster's.
pub(super) fn to_be_made() -> Vec<PathBuf> {
    let fixed = FIXED.iter().map(PathBuf::from);
    fixed
        .chain(control_groups())
        .filter(|path| !path.exists())
        .collect()
}

/// Removes what a cluster that no longer runs left behind; `made` was not there before it.
pub(super) async fn remove(made: &[PathBuf]) -> anyhow::Result<()> {
    unmount_below(place::root())?;
    for path in made {
        if path.ends_with(PODS) {
            remove_control_group(path).await?;
        } else if path.exists() {
            unmount_below(path)?;
            remove_folder(path)?;
        }
    }
    for folder in CNI_NOTES {
        for note in entries(Path::new(folder)) {
            let name = note.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&format!("{}-", settings::NETWORK)) {
                std::fs::remove_file(&note)
                    .with_context(|| format!("failed to remove {}", note.display()))?;
            }
        }
    }
    // The logs stay, until the next cluster's take their place.
    for path in entries(place::root()) {
        if path == place::home("logs") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            remove_folder(&path)?;
        } else {
            std::fs::remove_file(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(Result::ok).map(|e| e.path()).collect())
        .unwrap_or_default()
}

/// Never called while something is mounted below, or what is mounted would be emptied.
fn remove_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(path).with_context(|| format!("failed to remove {}", path.display()))
}

/// Unmounts everything below a folder, the innermost first.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    for mount in mounts_below(folder)?.iter().rev() {
        unmount(mount, UnmountFlags::DETACH)
            .with_context(|| format!("failed to unmount {}", mount.display()))?;
    }
    if let Some(mount) = mounts_below(folder)?.first() {
        bail!(
            "{} is still mounted; unmount it by hand, then try again",
            mount.display()
        );
    }
    Ok(())
}

fn mounts_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(mounts()?
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with(folder))
        .collect())
}

/// Where something is mounted, and the type of the file system, in the order of mounting.
fn mounts() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .context("failed to read /proc/self/mountinfo")?;
    Ok(table.lines().filter_map(parse_mount).collect())
}

/// proc(5): the fifth field is the place, with blanks and the like as `\040`; the type follows " - ".
fn parse_mount(line: &str) -> Option<(PathBuf, String)> {
    let (front, back) = line.split_once(" - ")?;
    let place = front.split(' ').nth(4)?;
    let kind = back.split(' ').next()?;
    let mut bytes = Vec::new();
    let mut rest = place.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let place = String::from_utf8(bytes).ok()?;
    Some((PathBuf::from(place), kind.to_owned()))
}

/// The group of all pods in every hierarchy, of either version.
fn control_groups() -> Vec<PathBuf> {
    mounts()
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, kind)| matches!(kind.as_str(), "cgroup" | "cgroup2"))
        .map(|(path, _)| path.join(PODS))
        .collect()
}

/// Removes a control group and those below it, the innermost first.
async fn remove_control_group(path: &Path) -> anyhow::Result<()> {
    for child in entries(path) {
        if child.is_dir() {
            Box::pin(remove_control_group(&child)).await?;
        }
    }
    let mut tries = 0;
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to remove control group {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_with_blanks_in_its_name_is_read() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw";
        let expected = (PathBuf::from("/mnt/a b"), "ext3".to_owned());
        assert_eq!(parse_mount(line), Some(expected));
    }

    #[test]
    fn a_folder_of_a_like_name_is_not_below() {
        assert!(!Path::new("/var/lib/kubelet-other").starts_with("/var/lib/kubelet"));
    }
}
