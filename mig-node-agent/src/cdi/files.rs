//! Spec files on disk: written whole or not at all, and known by their names.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Runtimes read `.json` and `.yaml`; a file that is being written has neither ending.
const ENDING: &str = ".json";
const UNFINISHED: &str = ".json.new";

/// Writes the file of a device, unless it says the same already. It would survive a crash once this
/// returns.
pub(super) fn write(directory: &Path, kind: &str, id: &str, spec: &Value) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(spec)?;
    bytes.push(b'\n');
    let path = path(directory, kind, id, ENDING);
    if std::fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let unfinished = self::path(directory, kind, id, UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    File::open(directory)?.sync_all()
}

/// Removes the file of a device; there may be none.
pub(super) fn remove(directory: &Path, kind: &str, id: &str) -> io::Result<()> {
    match std::fs::remove_file(path(directory, kind, id, ENDING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Ids of the devices that have a file. What was left unfinished is removed.
pub(super) fn list(directory: &Path, kind: &str) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(directory)?;
    let prefix = format!("{}_", kind.replace('/', "-"));
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
            continue;
        };
        if rest.ends_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        } else if let Some(id) = rest.strip_suffix(ENDING) {
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// As the CDI project names files of devices that come and go: vendor-class_id.
fn path(directory: &Path, kind: &str, id: &str, ending: &str) -> PathBuf {
    directory.join(format!("{}_{id}{ending}", kind.replace('/', "-")))
}
