//! Our own sockets in the plugin directory: names, making, removing.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use crate::EnsureError;
use crate::endpoint::{Look, SocketId};

/// The kubelet's socket in the plugin directory.
pub(crate) const KUBELET_SOCKET: &str = "kubelet.sock";
/// `sun_path` has 108 bytes, the last of which is zero.
const LONGEST_PATH: usize = 107;

/// The names of one process's sockets. Each is used once: kubelets mistake a socket that comes back
/// for the one they knew.
#[derive(Debug)]
pub(crate) struct SocketNames {
    dir: PathBuf,
    prefix: String,
    nonce: u64,
}

impl SocketNames {
    pub(crate) fn new(dir: &Path, prefix: &str) -> Self {
        // The hasher's seed is the standard library's only source of randomness.
        let nonce = RandomState::new().build_hasher().finish() & 0xffff_ffff;
        Self {
            dir: dir.to_owned(),
            prefix: prefix.to_owned(),
            nonce,
        }
    }

    /// The path of the `number`-th socket of `resource`, with the resource in its name where that
    /// fits.
    pub(crate) fn path(&self, resource: &str, number: u32) -> Result<PathBuf, EnsureError> {
        let short = format!(
            "{}-{:08x}-{}",
            self.prefix,
            self.nonce,
            tag(resource, number)
        );
        let name = resource.rsplit('/').next().unwrap_or(resource);
        let long = self.dir.join(format!("{short}-{name}.sock"));
        let short = self.dir.join(format!("{short}.sock"));
        match [long, short.clone()]
            .into_iter()
            .find(|path| path.as_os_str().len() <= LONGEST_PATH)
        {
            Some(path) => Ok(path),
            None => Err(EnsureError::SocketPath {
                resource: resource.to_owned(),
                path: short,
            }),
        }
    }
}

/// Distinguishes resources whose names do not fit.
fn tag(resource: &str, number: u32) -> String {
    let hash = resource.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193) // FNV-1a
    });
    format!("{hash:08x}{number}")
}

/// Serves nothing yet, but a connection made from now on waits to be served.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(path)
}

/// What the directory shows of the kubelet and of our socket.
pub(crate) fn look(dir: &Path, own: Option<&Path>, yields: bool) -> Look {
    Look {
        kubelet: kubelet(dir),
        own: own.is_some_and(is_socket),
        yields,
    }
}

/// Names of the sockets with one of these prefixes on which somebody listens. A plugin that was killed
/// leaves its socket behind, so only a connection tells. A doubt counts as a listener.
pub(crate) async fn rivals(dir: &Path, prefixes: &[String], limit: Duration) -> Arc<[String]> {
    let Ok(files) = std::fs::read_dir(dir) else {
        // Then there is no kubelet to register with either.
        return Arc::default();
    };
    let mut found = Vec::new();
    for file in files.flatten() {
        let Ok(name) = file.file_name().into_string() else {
            continue;
        };
        let path = file.path();
        let theirs = name.strip_suffix(".sock").is_some()
            && prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
            && is_socket(&path);
        if !theirs {
            continue;
        }
        let dead = match tokio::time::timeout(limit, UnixStream::connect(&path)).await {
            Ok(Err(error)) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            Ok(Ok(_)) | Err(_) => false,
        };
        if !dead {
            found.push(name);
        }
    }
    found.sort_unstable();
    found.into()
}

/// The kubelet's socket, if it is there.
pub(crate) fn kubelet(dir: &Path) -> Option<SocketId> {
    let found = std::fs::symlink_metadata(dir.join(KUBELET_SOCKET)).ok()?;
    found.file_type().is_socket().then(|| SocketId {
        inode: found.ino(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Removes what earlier processes left behind: sockets of our prefix on which nobody listens.
pub(crate) async fn remove_dead(dir: &Path, prefix: &str, limit: Duration) -> io::Result<()> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('-'))
                && name.strip_suffix(".sock").is_some()
        });
        let path = file.path();
        if !ours || !is_socket(&path) {
            continue;
        }
        match tokio::time::timeout(limit, UnixStream::connect(&path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "Removing a dead socket");
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(%error, path = %path.display(), "Failed to remove a dead socket");
                }
            }
            _ => tracing::warn!(
                path = %path.display(),
                "Another process serves devices with our socket prefix; is an old agent still running?"
            ),
        }
    }
    Ok(())
}

/// Removes our socket; the kubelet may have done so before.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "Failed to remove our socket");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_names_its_resource_where_that_fits() {
        let names = SocketNames::new(Path::new("/var/lib/kubelet/device-plugins"), "cdmo");
        let path = names.path("nvidia.com/mig-1g.5gb.me", 0).unwrap();
        assert!(
            path.to_str().unwrap().ends_with("-mig-1g.5gb.me.sock"),
            "{}",
            path.display()
        );
    }

    #[test]
    fn a_long_directory_costs_the_resource_name_and_then_fails() {
        let dir = format!("/{}", "d".repeat(69));
        let names = SocketNames::new(Path::new(&dir), "cdmo");
        let resource = format!("example.com/{}", "r".repeat(40));
        let path = names.path(&resource, 0).unwrap();
        assert!(!path.to_str().unwrap().contains("rrr"));
        assert_ne!(
            path,
            names
                .path("example.com/other-resource-of-the-kind", 0)
                .unwrap()
        );
        assert_ne!(path, names.path(&resource, 1).unwrap());

        let dir = format!("/{}", "d".repeat(90));
        let names = SocketNames::new(Path::new(&dir), "cdmo");
        let error = names.path(&resource, 0).unwrap_err();
        assert!(error.to_string().contains("more than 107 bytes"), "{error}");
    }

    #[tokio::test]
    async fn only_dead_sockets_of_our_prefix_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        drop(listen(&at("cdmo-dead.sock")).unwrap());
        drop(listen(&at("nvidia-gpu.sock")).unwrap());
        let _alive = listen(&at("cdmo-alive.sock")).unwrap();
        std::fs::write(at("cdmo-file.sock"), "").unwrap();

        remove_dead(dir.path(), "cdmo", Duration::from_secs(1))
            .await
            .unwrap();

        assert!(!at("cdmo-dead.sock").exists());
        for kept in ["nvidia-gpu.sock", "cdmo-alive.sock", "cdmo-file.sock"] {
            assert!(at(kept).exists(), "{kept}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_no_rival() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        drop(listen(&at("nvidia-mig-1g.5gb.sock")).unwrap());
        let _others = ["cdmo-x.sock", "intel-gpu.sock"].map(|name| listen(&at(name)).unwrap());
        std::fs::write(at("nvidia-gpu.log"), "").unwrap();
        let prefixes = ["nvidia-gpu".to_owned(), "nvidia-mig-".to_owned()];
        let limit = Duration::from_secs(1);
        assert!(rivals(dir.path(), &prefixes, limit).await.is_empty());
        let _alive = listen(&at("nvidia-gpu.sock")).unwrap();
        assert_eq!(
            *rivals(dir.path(), &prefixes, limit).await,
            ["nvidia-gpu.sock"]
        );
    }

    #[test]
    fn a_new_kubelet_socket_is_told_from_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kubelet(dir.path()), None);
        let _guard = std::os::unix::net::UnixListener::bind(dir.path().join(KUBELET_SOCKET));
        let first = kubelet(dir.path());
        assert!(first.is_some());
        assert_eq!(first, kubelet(dir.path()));
    }
}
