//! The machine-wide kernel settings that a kubelet changes when it starts: remembered before, and
//! set back when the cluster ends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;

use super::place;

/// What a kubelet of 1.20 sets (`container_manager_linux.go`, `setupKernelTunables`), below
/// `/proc/sys`.
const CHANGED: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The settings as they are; those that this kernel does not have are left out.
pub(super) fn read() -> BTreeMap<String, String> {
    CHANGED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), now(name)?)))
        .collect()
}

/// Sets back what is not as it was.
pub(super) fn restore(before: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for (name, value) in before {
        if now(name).as_ref() != Some(value) {
            place::write(&path(name), value)
                .with_context(|| format!("failed to set {name} back to {value}"))?;
        }
    }
    Ok(())
}

fn now(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path(name)).ok()?;
    Some(text.trim().to_owned())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}
