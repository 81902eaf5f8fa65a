//! Proof (c): which pods have live processes, by the cgroups of all processes.
//!
//! Both cgroup drivers name a pod's group after its UID: cgroupfs as `pod<uid>`, systemd as
//! `kubepods-burstable-pod<uid>.slice` with `_` for `-`. Static pods are left out: their groups
//! carry a hash (32 hexadecimal digits) that is not their UID.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// UIDs of all pods that have a live process. Blocks for as long as reading `/proc` takes.
///
/// # Errors
/// If `/proc`, or the groups of a process that lives, cannot be read: it could be anybody's.
pub fn pods_with_processes(proc_dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut pods = BTreeSet::new();
    for entry in std::fs::read_dir(proc_dir)? {
        let entry = entry?;
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if !is_process {
            continue;
        }
        match std::fs::read_to_string(entry.path().join("cgroup")) {
            Ok(groups) => pods.extend(pods_of(&groups)),
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pods)
}

/// The process ended before its file was opened, or while it was read.
fn has_ended(error: &io::Error) -> bool {
    const NO_SUCH_PROCESS: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

/// The pod that this process itself belongs to.
pub fn own_pod(proc_dir: &Path) -> Option<String> {
    let groups = std::fs::read_to_string(proc_dir.join("self/cgroup")).ok()?;
    pods_of(&groups).next()
}

/// Whose process it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of the pod with this UID.
    Pod(String),
    /// Of no pod.
    Nobodys,
    /// It cannot be told: it has just ended, or it is a static pod's.
    Unknown,
}

/// The pod that a process belongs to.
pub fn pod_of(proc_dir: &Path, pid: u32) -> Owner {
    let path = proc_dir.join(pid.to_string()).join("cgroup");
    let Ok(groups) = std::fs::read_to_string(path) else {
        return Owner::Unknown;
    };
    match pods_of(&groups).next() {
        Some(uid) => Owner::Pod(uid),
        None if groups.contains("kubepods") => Owner::Unknown,
        None => Owner::Nobodys,
    }
}

/// UIDs in the text of a process's `cgroup` file.
fn pods_of(groups: &str) -> impl Iterator<Item = String> + '_ {
    groups
        .lines()
        .flat_map(|line| line.split('/'))
        .filter_map(|group| {
            let name = group.strip_suffix(".slice").unwrap_or(group);
            let (_, uid) = name.rsplit_once("pod")?;
            as_uid(uid)
        })
}

fn as_uid(text: &str) -> Option<String> {
    let uid = text.replace('_', "-");
    let lengths = uid.split('-').map(str::len);
    let hexadecimal = uid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    (hexadecimal && lengths.eq([8, 4, 4, 4, 12])).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn pods(groups: &str) -> Vec<String> {
        pods_of(groups).collect()
    }

    #[test]
    fn both_cgroup_drivers_are_understood() {
        let cgroupfs = format!("0::/kubepods/burstable/pod{UID}/3f2a");
        assert_eq!(pods(&cgroupfs), [UID]);
        let systemd = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-3f2a.scope",
            UID.replace('-', "_")
        );
        assert_eq!(pods(&systemd), [UID]);
    }

    #[test]
    fn every_hierarchy_of_cgroup_v1_is_looked_at() {
        let groups = format!("12:memory:/\n11:devices:/kubepods/pod{UID}\n1:name=systemd:/init");
        assert_eq!(pods(&groups), [UID]);
    }

    #[test]
    fn other_groups_are_no_pods() {
        let none = [
            "0::/system.slice/podman.service",
            "0::/user.slice/user-1000.slice",
            "0::/kubepods/burstable/pod0123456789abcdef0123456789abcdef/x",
            "",
        ];
        for groups in none {
            assert!(pods(groups).is_empty(), "{groups}");
        }
    }

    #[test]
    fn processes_are_found_by_their_directories() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(proc.path().join("17")).unwrap();
        std::fs::create_dir_all(proc.path().join("18")).unwrap();
        std::fs::create_dir_all(proc.path().join("sys")).unwrap();
        let group = format!("0::/kubepods/pod{UID}/x\n");
        std::fs::write(proc.path().join("17/cgroup"), group).unwrap();
        let found = pods_with_processes(proc.path()).unwrap();
        assert_eq!(found, BTreeSet::from([UID.to_owned()]));
    }

    #[test]
    fn the_owner_of_a_process_is_its_pod_or_nobody_or_not_known() {
        let proc = tempfile::tempdir().unwrap();
        let groups = [
            (1, format!("0::/kubepods/pod{UID}/x\n")),
            (2, "0::/system.slice/dcgm.service\n".to_owned()),
            (
                3,
                "0::/kubepods/pod0123456789abcdef0123456789abcdef/x\n".to_owned(),
            ),
        ];
        for (pid, groups) in groups {
            let directory = proc.path().join(pid.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("cgroup"), groups).unwrap();
        }
        let owners = [1, 2, 3, 4].map(|pid| pod_of(proc.path(), pid));
        let of_pod = Owner::Pod(UID.to_owned());
        assert_eq!(
            owners,
            [of_pod, Owner::Nobodys, Owner::Unknown, Owner::Unknown]
        );
    }

    #[test]
    fn a_process_whose_groups_cannot_be_read_could_be_anybodys() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(proc.path().join("17/cgroup")).unwrap();
        assert!(pods_with_processes(proc.path()).is_err());
    }
}
