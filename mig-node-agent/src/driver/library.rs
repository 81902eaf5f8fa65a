//! Where the driver's library lies below a root directory that is not ours.

use std::path::{Path, PathBuf};

/// The library by the name that programs load it by.
const NAME: &str = "libnvidia-ml.so.1";

/// Where distributions and NVIDIA's driver containers keep it.
const FOLDERS: [&str; 7] = [
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
];

/// The library below this root directory.
pub fn find_library(driver_root: &Path) -> Option<PathBuf> {
    let mut paths = FOLDERS.map(|folder| driver_root.join(folder).join(NAME));
    paths
        .iter_mut()
        .find(|path| path.exists())
        .map(std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_where_distributions_keep_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find_library(root.path()), None);
        let path = root.path().join("usr/lib/x86_64-linux-gnu").join(NAME);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(find_library(root.path()), Some(path));
    }
}
