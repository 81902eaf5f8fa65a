//! What was started and made, written down as it happens, so that a later command ends exactly
//! that, whatever became of the one that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::place;
use super::process::Identity;

/// The file, below the cluster's folder.
const FILE: &str = "record.json";

/// A program of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    /// What people call it.
    pub(super) name: String,
    /// How it is started, its program first.
    pub(super) command: Vec<String>,
    /// The process, as it was last started.
    pub(super) process: Identity,
}

/// What a cluster consists of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The kernel's name for the time since it was started; processes and mounts end with it.
    pub(super) boot: String,
    /// Whether the cluster came up to the end.
    pub(super) complete: bool,
    /// Folders that were not there before.
    pub(super) made: Vec<PathBuf>,
    /// Kernel settings as they were before.
    pub(super) tunables: BTreeMap<String, String>,
    /// The folder with kubectl and helm.
    pub(super) tools: PathBuf,
    /// In the order in which they were started.
    pub(super) parts: Vec<Part>,
}

impl Record {
    /// The record of this machine's cluster, if there is one.
    pub(super) fn load() -> anyhow::Result<Option<Self>> {
        let path = place::home(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        serde_json::from_slice(&text).map(Some).with_context(|| {
            format!(
                "{} is damaged; end the cluster's processes by hand and remove {}",
                path.display(),
                place::root().display()
            )
        })
    }

    /// Writes it down; a reader sees the old or the new one.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let path = place::home(FILE);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).context("failed to write the record")?;
        place::write(&fresh, text)?;
        std::fs::rename(&fresh, &path)
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// The part of this name.
    pub(super) fn part(&mut self, name: &str) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.name == name)
    }

    /// Whether it was written since the machine was started: only then its processes can live.
    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }
}

/// The kernel's name for the time since it was started.
pub(super) fn boot() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
    text.unwrap_or_default().trim().to_owned()
}
