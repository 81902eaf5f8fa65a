//! Puts the stand-in driver library and its configuration into a folder: what the image of that
//! library does in an init container, with the folder on the host.
//!
//! A program of its own, because that image has no shell to copy files with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

const USAGE: &str = "usage: fake-nvml-install LIBRARY CONFIG FOLDER";

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [library, config, folder] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let wanted = [(library, "libnvidia-ml.so.1"), (config, "fake-nvml.toml")];
    for (source, name) in wanted {
        if let Err(error) = install(source, folder, name) {
            let source = source.display();
            let target = folder.join(name);
            eprintln!(
                "fake-nvml-install: failed to put {source} at {}: {error}",
                target.display()
            );
            return ExitCode::FAILURE;
        }
    }
    println!("{}", folder.display());
    ExitCode::SUCCESS
}

/// Under another name first: a program that has the old library open keeps it.
fn install(source: &Path, folder: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let fresh = folder.join(format!("{name}.new"));
    fs::copy(source, &fresh)?;
    fs::rename(&fresh, folder.join(name))
}
