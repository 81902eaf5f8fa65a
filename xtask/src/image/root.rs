//! Which files of this machine a program needs beside itself: the loader, the C library, and what
//! these need in turn. Each keeps its path, which is where this very loader looks for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::archive::Files;
use super::elf::Needs;

/// Where loaders look without being told, after the folder that they lie in themselves.
const FOLDERS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What NVIDIA's library needs of the C library; with newer ones they are empty shells.
const FOR_DRIVERS: [&str; 4] = ["libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"];

/// A machine's root directory.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// This machine's.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            path: PathBuf::from("/"),
        }
    }

    /// All files that these programs and libraries need, and what a driver's library needs.
    pub(crate) fn libraries(&self, programs: &[&[u8]]) -> anyhow::Result<Files> {
        let mut files = Files::default();
        let mut wanted: Vec<String> = Vec::new();
        let mut loader = None;
        for program in programs {
            let needs = Needs::of(program)?;
            wanted.extend(needs.libraries);
            loader = loader.or(needs.interpreter);
        }
        let loader = loader.context("no program names a loader: are they linked statically?")?;
        let loader = PathBuf::from(loader);
        files.add(&loader, 0o755, self.read(&loader)?);
        let optional = FOR_DRIVERS.map(str::to_owned);
        let optional = optional
            .into_iter()
            .filter(|name| self.find(name).is_some());
        wanted.extend(optional);
        let mut seen = BTreeSet::new();
        seen.extend(
            loader
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
        while let Some(name) = wanted.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(path) = self.find(&name) else {
                bail!("this machine has no {name}, which the programs need");
            };
            let content = self.read(&path)?;
            let needs = Needs::of(&content);
            let needs = needs.with_context(|| format!("failed to read {}", path.display()))?;
            wanted.extend(needs.libraries);
            files.add(&path, 0o755, content);
        }
        Ok(files)
    }

    fn find(&self, library: &str) -> Option<PathBuf> {
        let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(library));
        paths.find(|path| self.there(path).is_file())
    }

    fn there(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn read(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let path = self.there(path);
        std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_program() -> Vec<u8> {
        std::fs::read("/bin/sh").unwrap()
    }

    #[test]
    fn a_program_comes_with_loader_and_c_library() {
        let files = Root::of_this_machine().libraries(&[&a_program()]).unwrap();
        let paths: Vec<_> = files.paths().collect();
        let has = |end: &str| paths.iter().any(|path| path.ends_with(end));
        assert!(has("/libc.so.6") && has("/libpthread.so.0"), "{paths:?}");
        assert_eq!(
            paths
                .iter()
                .filter(|path| path.contains("/ld-linux"))
                .count(),
            1,
            "{paths:?}"
        );
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let root = Root {
            path: empty.path().to_owned(),
        };
        let error = root.libraries(&[&a_program()]).unwrap_err();
        assert!(format!("{error:#}").contains("ld-linux"), "{error:#}");
    }
}
