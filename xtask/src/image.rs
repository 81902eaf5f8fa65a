//! `cargo xtask image`: container images without Docker.
//!
//! An image is a root file system in layers and a few lines of JSON. The root file system here is what
//! the programs need of this machine's C library and nothing else: no shell, no package manager. All
//! three images share the layer with the C library; the second layer of each is its program.
//!
//! The programs are linked dynamically: the agent must be, since it opens the driver's library, and the
//! others then cost no further C library.

mod archive;
mod elf;
mod recipe;
mod root;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use testbed::binaries::{Binaries, Profile, Progress};

use self::root::Root;
use crate::outcome::Outcome;

/// Make image archives of controller, agent and the simulated driver, without Docker.
///
/// Each archive is in the layouts of OCI and of `docker save` at once and loads with
/// `ctr --namespace k8s.io images import`, `docker load --input` and `podman load --input`. The same
/// programs and C library give the same bytes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for the archives; it is made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    out: PathBuf,

    /// Where the images belong: the part of their names before the last slash.
    #[arg(long, value_name = "NAME", default_value = "docker.io/cdmo")]
    repository: String,

    /// The tag of the images.
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,

    /// Take programs without optimisation, which are built faster and are several times larger.
    #[arg(long)]
    debug: bool,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let profile = if options.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    let binaries = Binaries::build(profile, Progress::Shown).await?;
    let out = &options.out;
    std::fs::create_dir_all(out)
        .with_context(|| format!("failed to make the folder {}", out.display()))?;
    for image in recipe::images(&binaries, &Root::of_this_machine())? {
        let file = out.join(format!("{}.tar", image.name));
        let reference = format!("{}/{}:{}", options.repository, image.name, options.tag);
        let packed = image.pack(&reference).context("failed to pack an image")?;
        write(&file, &packed.bytes)?;
        anstream::println!("{}  {reference}  {}", file.display(), packed.digest);
    }
    Ok(Outcome::Good)
}

/// Under another name first: nobody loads half an archive.
fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = file.with_extension("tar.new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("failed to write {}", file.display()))
}
