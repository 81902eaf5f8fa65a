//! What a container needs of the driver, as the spec of NVIDIA's toolkit on this node says it.
//!
//! Such a spec (`nvidia-ctk cdi generate`, nvidia-cdi-refresh, the GPU operator, NVIDIA's device
//! plugin) has the libraries, programs and hooks that every device needs as `containerEdits` of the
//! whole file, and per GPU only its nodes. The former are taken over word for word, in the version of
//! the format that the file names. Of device nodes only those that control the driver as a whole are:
//! a node of a GPU among them would give it to everybody.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Kinds of specs that describe the driver, best first.
const KINDS: [&str; 4] = [
    "nvidia.com/gpu",
    "k8s.device-plugin.nvidia.com/gpu",
    "management.nvidia.com/gpu",
    "runtime.nvidia.com/gpu",
];
/// Nodes that belong to no GPU.
const CONTROL: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];
/// Nothing that NVIDIA's tools write comes near this.
const LARGEST: u64 = 4 << 20;

/// The part of a spec that every device of the node shares.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DriverEdits {
    /// Version of the format.
    pub(super) version: String,
    /// `containerEdits`.
    pub(super) edits: Map<String, Value>,
}

impl DriverEdits {
    /// Device nodes that come with it.
    pub(super) fn node_paths(&self) -> Vec<&str> {
        let nodes = self.edits.get("deviceNodes").and_then(Value::as_array);
        nodes.into_iter().flatten().filter_map(path).collect()
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Edits(DriverEdits),
    Nothing,
    /// A spec of NVIDIA's is there and cannot be understood; one sentence.
    Unreadable(String),
}

/// Remembers the last look for as long as no file changed.
#[derive(Debug)]
pub(super) struct Cache {
    places: Vec<PathBuf>,
    last: Option<(Vec<Stamp>, Found)>,
}

/// What changes when a file does.
type Stamp = (PathBuf, u64, Option<SystemTime>);

impl Cache {
    pub(super) fn new(places: Vec<PathBuf>) -> Self {
        Self { places, last: None }
    }

    pub(super) fn look(&mut self) -> Found {
        let stamps: Vec<Stamp> = self.places.iter().flat_map(|dir| stamps(dir)).collect();
        if let Some((seen, found)) = &self.last
            && *seen == stamps
        {
            return found.clone();
        }
        let found = best(&stamps);
        self.last = Some((stamps, found.clone()));
        found
    }
}

/// The files of a directory that runtimes would read, but ours.
fn stamps(directory: &Path) -> Vec<Stamp> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let ours = super::KIND.replace('/', "-");
    let mut stamps: Vec<Stamp> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let ending = path.extension()?.to_str()?;
            if name.starts_with(&ours) || !matches!(ending, "json" | "yaml" | "yml") {
                return None;
            }
            let meta = std::fs::metadata(&path).ok()?;
            meta.is_file()
                .then(|| (path, meta.len(), meta.modified().ok()))
        })
        .collect();
    stamps.sort();
    stamps
}

fn best(files: &[Stamp]) -> Found {
    let mut found: Option<(usize, DriverEdits)> = None;
    let mut unreadable = None;
    for (path, size, _) in files {
        if *size > LARGEST {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        match read(&text) {
            Ok(Some((rank, edits))) => {
                if found.as_ref().is_none_or(|(best, _)| rank < *best) {
                    found = Some((rank, edits));
                }
            }
            Ok(None) => {}
            Err(why) => {
                unreadable.get_or_insert_with(|| {
                    format!(
                        "The CDI spec {} cannot be understood: {why}; let NVIDIA's toolkit make it again.",
                        path.display()
                    )
                });
            }
        }
    }
    match (found, unreadable) {
        (Some((_, edits)), _) => Found::Edits(edits),
        (None, Some(why)) => Found::Unreadable(why),
        (None, None) => Found::Nothing,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    container_edits: Map<String, Value>,
}

/// Edits and rank of a spec of NVIDIA's driver; none if it is another one. YAML, of which JSON is a
/// part. Somebody else's broken file is nobody's business here.
fn read(text: &str) -> Result<Option<(usize, DriverEdits)>, String> {
    if !KINDS.iter().any(|kind| text.contains(kind)) {
        return Ok(None);
    }
    let spec: Spec = serde_saphyr::from_str(text).map_err(|error| first_line(&error))?;
    let Some(rank) = KINDS.iter().position(|kind| *kind == spec.kind) else {
        return Ok(None);
    };
    let mut edits = spec.container_edits;
    if let Some(Value::Array(nodes)) = edits.get_mut("deviceNodes") {
        nodes.retain(|node| path(node).is_some_and(|path| CONTROL.contains(&path)));
    }
    edits.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    // A spec without libraries describes devices only, as those for IMEX channels do.
    if !edits.contains_key("mounts") {
        return Ok(None);
    }
    let version = spec.cdi_version;
    Ok(Some((rank, DriverEdits { version, edits })))
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn path(node: &Value) -> Option<&str> {
    node.get("path")?.as_str()
}
