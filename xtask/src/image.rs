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

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sha2::{Digest as _, Sha256};
use testbed::binaries::{Binaries, Profile, Progress};
use testbed::manifests::{AGENT, CONTROLLER};

use self::archive::Image;
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

/// The images.
pub(crate) const NAMES: [&str; 3] = [AGENT, CONTROLLER, recipe::FAKE_NVML];

pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let profile = if options.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    for image in images(profile).await? {
        let name = format!("{}/{}:{}", options.repository, image.name, options.tag);
        let (file, digest) = pack(&image, &options.out, &name)?;
        anstream::println!("{}  {name}  {digest}", file.display());
    }
    Ok(Outcome::Good)
}

/// Puts the archives of all images into a folder, under a tag that changes with their content;
/// returns the tag.
pub(crate) async fn make_tagged_by_content(
    profile: Profile,
    out: &Path,
    repository: &str,
) -> anyhow::Result<String> {
    let images = images(profile).await?;
    let mut hash = Sha256::new();
    for image in &images {
        let packed = image.pack("none/none:none");
        hash.update(packed.context("failed to pack an image")?.digest);
    }
    let digest = hash.finalize();
    let tag = digest.iter().take(6).fold(String::new(), |mut tag, byte| {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
        tag
    });
    for image in &images {
        pack(image, out, &format!("{repository}/{}:{tag}", image.name))?;
    }
    Ok(tag)
}

async fn images(profile: Profile) -> anyhow::Result<Vec<Image>> {
    let binaries = Binaries::build(profile, Progress::Shown).await?;
    recipe::images(&binaries, &Root::of_this_machine())
}

/// Writes an image's archive; returns the file and the image's digest.
fn pack(image: &Image, out: &Path, reference: &str) -> anyhow::Result<(PathBuf, String)> {
    std::fs::create_dir_all(out)
        .with_context(|| format!("failed to make the folder {}", out.display()))?;
    let file = out.join(format!("{}.tar", image.name));
    let packed = image.pack(reference).context("failed to pack an image")?;
    put(&file, &packed.bytes)?;
    Ok((file, packed.digest))
}

/// Under another name first: nobody loads half an archive.
fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = file.with_extension("tar.new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("failed to write {}", file.display()))
}
