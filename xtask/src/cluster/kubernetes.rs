//! Kubernetes 1.20, built once from Debian 12's source package and kept in the cache.

mod build;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::archive::Archive;
use super::{packages, place};
use crate::program::said;

/// What is built of it.
pub(super) const PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
];
/// The program beside them that becomes the image of pods.
pub(super) const BUSYBOX: &str = "busybox";

/// The release that this cluster is written for.
const RELEASE: &str = "1.20.";
/// Changes when anything below changes what is built; part of the cache's key.
const RECIPE: u32 = 3;

/// Backport of Kubernetes 1.26 (pull request 112597): the kubelet of 1.20 sends a device plugin's
/// socket path as `:authority`, which is no valid authority, and servers built on h2 (tonic among
/// them) answer with a protocol error.
const PATCH: Patch = Patch {
    file: "pkg/kubelet/cm/devicemanager/endpoint.go",
    old: "grpc.DialContext(ctx, unixSocketPath, grpc.WithInsecure(),",
    new: "grpc.DialContext(ctx, unixSocketPath, grpc.WithAuthority(\"localhost\"), grpc.WithInsecure(),",
};

/// A library of the source package that goes by the insides of Go's maps, which Go 1.18 changed: an API
/// server of Debian's Go 1.19 crashes with it when it asks a webhook. Debian has the version that knows
/// of the change, under the same path.
const REFLECT: &str = "github.com/modern-go/reflect2";
const REFLECT_PACKAGE: &str = "golang-github-modern-go-reflect2-dev";

/// One place of one file, written anew.
struct Patch {
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

impl Patch {
    fn apply(&self, tree: &Path) -> anyhow::Result<()> {
        let path = tree.join(self.file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        if text.matches(self.old).count() != 1 {
            bail!(
                "{} is not the file that the backport was written for; look at Debian's changelog \
                 of kubernetes and mend the backport",
                path.display()
            );
        }
        place::write(&path, text.replace(self.old, self.new))
    }
}

/// The folder with the programs: from the cache, or built now, which takes minutes.
pub(super) async fn programs(cache: &Path) -> anyhow::Result<PathBuf> {
    if let Some(folder) = cached(cache) {
        return Ok(folder);
    }
    packages::install(&packages::TO_BUILD).await?;
    let work = cache.join("build");
    if work.exists() {
        std::fs::remove_dir_all(&work)
            .with_context(|| format!("failed to remove {}", work.display()))?;
    }
    place::make(&work)?;
    anstream::eprintln!("Fetching the sources of Kubernetes 1.20 from Debian");
    let archive = Archive::open(work.join("apt")).await?;
    let description = archive.source("kubernetes", &work.join("source")).await?;
    let version = version(&description)?;
    let tree = work.join("tree");
    let mut unpack = Command::new("dpkg-source");
    unpack.arg("--extract").arg(&description).arg(&tree);
    said(unpack)
        .await
        .context("failed to unpack the sources of Kubernetes")?;
    PATCH.apply(&tree)?;
    let libraries = work.join("libraries");
    archive.unpack(&[REFLECT_PACKAGE], &libraries).await?;
    replace_sources(
        &libraries.join("usr/share/gocode/src").join(REFLECT),
        &tree.join("vendor").join(REFLECT),
    )?;
    let go = work.join("go");
    archive
        .unpack(&["golang-1.19-go", "golang-1.19-src"], &go)
        .await?;
    let made = work.join("made");
    place::make(&made)?;
    build::build(&work, &tree, &go.join("usr/lib/go-1.19"), &made).await?;
    let root = work.join("busybox");
    archive.unpack(&["busybox-static"], &root).await?;
    copy(&root.join("bin/busybox"), &made.join(BUSYBOX))?;
    let folder = cache.join(folder_name(&version));
    std::fs::rename(&made, &folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    // What the sources unpack to is a hundred times what is kept; left there, it only costs room.
    let _ = std::fs::remove_dir_all(&work);
    Ok(folder)
}

/// Puts the sources of one folder, without tests, in place of those of another.
fn replace_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    let is_source = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.ends_with(".go") || name.ends_with(".s")) && !name.ends_with("_test.go")
    };
    let sources = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry?.path());
        }
        paths.retain(|path| is_source(path));
        Ok(paths)
    };
    let (new, old) = (sources(from)?, sources(to)?);
    if new.is_empty() || old.is_empty() {
        bail!(
            "{} and {} are not the same library; look at Debian's changelog of {REFLECT_PACKAGE}",
            from.display(),
            to.display()
        );
    }
    for path in old {
        std::fs::remove_file(&path)
            .with_context(|| format!("failed to remove {}", path.display()))?;
    }
    for path in new {
        copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))
}

fn folder_name(version: &str) -> String {
    format!("kubernetes-{version}-{RECIPE}")
}

/// The newest that was built with this recipe.
fn cached(cache: &Path) -> Option<PathBuf> {
    let recipe = format!("-{RECIPE}");
    std::fs::read_dir(cache)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("kubernetes-") && name.ends_with(&recipe)
        })
        .map(|entry| entry.path())
        .max()
}

/// The version in a name such as `kubernetes_1.20.5+really1.20.2-1.1+deb12u1.dsc`.
fn version(description: &Path) -> anyhow::Result<String> {
    let name = description
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let version = name.split_once('_').map_or("", |(_, version)| version);
    if !version.starts_with(RELEASE) {
        bail!("Debian 12's kubernetes is {name}; the cluster is written for {RELEASE}x");
    }
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_off_the_description() {
        let version = |name: &str| version(Path::new(name)).ok();
        assert_eq!(
            version("/x/kubernetes_1.20.5+really1.20.2-1.1+deb12u1.dsc").as_deref(),
            Some("1.20.5+really1.20.2-1.1+deb12u1")
        );
        assert_eq!(version("/x/kubernetes_1.32.1-1.dsc"), None);
    }

    #[test]
    fn the_backport_refuses_a_file_that_it_does_not_know() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join(PATCH.file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "c, err := grpc.NewClient(path)\n").unwrap();
        let error = PATCH.apply(tree.path()).unwrap_err();
        assert!(error.to_string().contains("mend the backport"), "{error}");
        std::fs::write(&path, format!("c, err := {} x)\n", PATCH.old)).unwrap();
        PATCH.apply(tree.path()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("grpc.WithAuthority(\"localhost\")"), "{text}");
    }

    #[test]
    fn the_sources_of_a_library_are_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for (path, text) in [
            (from.join("map.go"), "new"),
            (from.join("map_test.go"), "test"),
            (to.join("map.go"), "old"),
            (to.join("gone.s"), "old"),
            (to.join("LICENSE"), "kept"),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        replace_sources(&from, &to).unwrap();
        let read = |name: &str| std::fs::read_to_string(to.join(name)).ok();
        assert_eq!(read("map.go").as_deref(), Some("new"));
        assert_eq!(read("LICENSE").as_deref(), Some("kept"));
        assert_eq!((read("gone.s"), read("map_test.go")), (None, None));
        assert!(replace_sources(&folder.path().join("none"), &to).is_err());
    }

    #[test]
    fn only_what_was_built_with_the_same_recipe_is_used_again() {
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir(cache.path().join("kubernetes-1.20.5-999")).unwrap();
        assert_eq!(cached(cache.path()), None);
        let good = cache.path().join(folder_name("1.20.5"));
        std::fs::create_dir(&good).unwrap();
        assert_eq!(cached(cache.path()), Some(good));
    }
}
