//! For tests of this and other crates: the built library, installed as a simulated host.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// File name of the cdylib as cargo builds it.
const BUILT: &str = "libfake_nvml.so";
/// File name under which NVML clients look for it.
pub const LIBRARY: &str = "libnvidia-ml.so.1";
/// Configuration beside the library.
pub const CONFIG: &str = "fake-nvml.toml";

/// The cdylib of this crate.
///
/// A test that links this crate's rlib has the cdylib beside it: both come from one compilation.
/// Otherwise cargo builds it, into the target folder in which the running program lies.
pub fn built_library() -> io::Result<PathBuf> {
    static BUILT_LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BUILT_LIBRARY.get_or_init(|| find().map_err(|error| error.to_string()));
    found.clone().map_err(io::Error::other)
}

fn find() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent();
    let nested = folder.is_some_and(|it| it.ends_with("deps") || it.ends_with("examples"));
    let profile = program
        .ancestors()
        .nth(if nested { 2 } else { 1 })
        .map(Path::to_owned);
    let profile = profile.ok_or_else(|| io::Error::other("the program lies in no folder"))?;
    let beside = profile.join("deps").join(BUILT);
    if beside.exists() {
        return Ok(beside);
    }
    let target = profile.parent().unwrap_or(&profile);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            "--lib",
            "--package",
            "fake-nvml",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err(io::Error::other("failed to build fake-nvml"));
    }
    let folder = if profile.ends_with("release") {
        "release"
    } else {
        "debug"
    };
    Ok(target.join(folder).join(BUILT))
}

/// Puts a copy of the library with a configuration into `folder` and returns the path of the
/// library. Each copy is a host of its own, even in one process; its state lies beside it.
pub fn install(folder: &Path, config: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(CONFIG), config)?;
    // Under a new name first: overwriting a library that is loaded would crash who loaded it.
    let (fresh, library) = (folder.join("libnvidia-ml.new"), folder.join(LIBRARY));
    std::fs::copy(built_library()?, &fresh)?;
    std::fs::rename(&fresh, &library)?;
    Ok(library)
}
