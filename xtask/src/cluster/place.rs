//! Where the cluster keeps its things: one folder for what lives as long as the cluster, and one
//! cache for what takes minutes to make.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Everything that belongs to the running cluster. Fixed, as the kubelet's device plugin folder is:
/// a machine has one.
const HOME: &str = "/var/lib/cdmo-cluster";
/// Held while a command changes the cluster. Outside the folder, which comes and goes.
const LOCK: &str = "/run/cdmo-cluster.lock";

/// A file or folder of the running cluster.
pub(super) fn home(below: &str) -> PathBuf {
    Path::new(HOME).join(below)
}

/// The same as text, for configuration files and command lines.
pub(super) fn home_text(below: &str) -> String {
    format!("{HOME}/{below}")
}

/// The folder itself.
pub(super) fn root() -> &'static Path {
    Path::new(HOME)
}

/// What one program printed.
pub(super) fn log(part: &str) -> PathBuf {
    home("logs").join(format!("{part}.log"))
}

/// What the people who run this point their tools at.
pub(crate) fn kubeconfig() -> PathBuf {
    home("kubeconfig")
}

/// containerd's socket.
pub(super) fn containerd_socket() -> String {
    home_text("containerd.sock")
}

/// The folder for what is built and fetched once, made if need be.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .context("there is no HOME to keep the built Kubernetes in; set XDG_CACHE_HOME")?;
    let cache = base.join("cdmo");
    make(&cache)?;
    Ok(cache)
}

/// Makes a folder and those above it.
pub(super) fn make(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))
}

/// Writes a file, whatever was there before.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("failed to write {}", path.display()))
}

/// Keeps two commands from working on the same thing at once, as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: std::fs::File,
}

impl Lock {
    /// For changes of the cluster.
    pub(super) fn cluster() -> anyhow::Result<Self> {
        Self::take(
            Path::new(LOCK),
            "another cluster command is at work on this machine; wait until it has ended",
        )
    }

    /// For changes of the cache.
    pub(super) fn cache(cache: &Path) -> anyhow::Result<Self> {
        Self::take(
            &cache.join("lock"),
            "another command is building Kubernetes already; wait until it has ended",
        )
    }

    fn take(path: &Path, taken: &str) -> anyhow::Result<Self> {
        let file = std::fs::File::create(path)
            .with_context(|| format!("failed to make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!("{taken}"),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }
}
