//! Sees to it that no process outlives the cluster, however the cluster ends.
//!
//! Each process group has a file named after it. A shell in a process group of its own reads from a
//! pipe that only we hold open: when we die, however abruptly, the pipe closes, and the shell kills
//! the groups that have a file. Should even the shell be killed, the next start in the same
//! directory finds the files and clears up.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Waits for the end of its input, then kills every group that has a file in the directory `$1`.
const SCRIPT: &str = r#"trap '' HUP INT TERM
while read -r _; do :; done
for file in "$1"/*; do
    [ -e "$file" ] || continue
    kill -s KILL -- "-${file##*/}" 2>/dev/null
    rm -f "$file"
done"#;

/// The guard could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The directory of process files is unusable.
    #[error("failed to prepare {path} for process files")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Keeps book of process groups and has them killed when this process dies.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    /// Started with the first process group.
    shell: Mutex<Option<Child>>,
}

/// A process group in the book; it is struck out when this is dropped.
#[derive(Debug)]
pub(super) struct Tracked {
    file: PathBuf,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // A file that stays behind names a start time that no later process has.
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Guard {
    /// Kills what an earlier run left behind according to `directory`, and uses it from now on.
    pub fn new(directory: &Path) -> Result<Self, GuardError> {
        let failed = |source| GuardError::Directory {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            clear_up(&path);
            std::fs::remove_file(&path).map_err(failed)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            shell: Mutex::new(None),
        })
    }

    /// Enters the group led by `pid`.
    pub(super) fn track(&self, pid: u32) -> Option<Tracked> {
        self.ensure_shell();
        let file = self.directory.join(pid.to_string());
        match std::fs::write(&file, start_time(pid).unwrap_or_default()) {
            Ok(()) => Some(Tracked { file }),
            Err(error) => {
                tracing::warn!(pid, %error, "Failed to keep book of a process");
                None
            }
        }
    }

    fn ensure_shell(&self) {
        use std::os::unix::process::CommandExt;
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        if shell.is_some() {
            return;
        }
        let started = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn();
        match started {
            Ok(child) => *shell = Some(child),
            Err(error) => tracing::warn!(%error, "Failed to start the guard of processes"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = shell {
            // The shell kills what is left, which takes it a few milliseconds, and ends.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Kills the group that a file of an earlier run names, if it is still the same.
fn clear_up(path: &Path) {
    let pid = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok());
    let Some(pid) = pid else { return };
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let same = !written.is_empty() && start_time(pid).as_deref() == Some(written.as_str());
    if same && let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Field 22 of `/proc/<pid>/stat`: unlike the number, no later process has it.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().nth(19)?.to_owned())
}
