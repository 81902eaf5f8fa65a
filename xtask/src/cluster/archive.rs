//! Debian 12's archive, read beside this machine's own sources: source packages and programs come
//! from that release on every Debian, and nothing of the machine's apt is changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::place;
use super::process::PATH;
use crate::program::said;

/// The release, with its fixes.
const SOURCES: &str = "\
Types: deb deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// The archive's lists, below a folder of their own.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Fetches the lists.
    pub(super) async fn open(folder: PathBuf) -> anyhow::Result<Self> {
        place::make(&folder.join("lists/partial"))?;
        place::make(&folder.join("cache/archives/partial"))?;
        place::write(&folder.join("debian.sources"), SOURCES)?;
        place::write(&folder.join("status"), "")?;
        let archive = Self { folder };
        let update = ["update", "--error-on=any"];
        archive
            .apt_get(&update, &archive.folder)
            .await
            .context("failed to read the package lists of Debian 12 from deb.debian.org")?;
        Ok(archive)
    }

    /// Fetches the source of a package into a folder: where its description (.dsc) then lies.
    pub(super) async fn source(&self, package: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        place::make(folder)?;
        self.apt_get(&["source", "--download-only", package], folder)
            .await
            .with_context(|| format!("failed to fetch the source of Debian's {package}"))?;
        with_extension(folder, "dsc")
            .with_context(|| format!("the source of Debian's {package} came without a .dsc"))
    }

    /// Unpacks packages into a folder without installing them.
    pub(super) async fn unpack(&self, packages: &[&str], folder: &Path) -> anyhow::Result<()> {
        for package in packages {
            let fresh = tempfile::tempdir_in(&self.folder).context("failed to make a folder")?;
            self.apt_get(&["download", package], fresh.path())
                .await
                .with_context(|| format!("failed to fetch Debian's {package}"))?;
            let file = with_extension(fresh.path(), "deb")
                .with_context(|| format!("Debian's {package} came without a .deb"))?;
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(file).arg(folder);
            said(command)
                .await
                .with_context(|| format!("failed to unpack Debian's {package}"))?;
        }
        Ok(())
    }

    async fn apt_get(&self, arguments: &[&str], folder: &Path) -> anyhow::Result<()> {
        let below = |name: &str| self.folder.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", below("debian.sources")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", below("lists")),
            format!("Dir::State::Status={}", below("status")),
            format!("Dir::Cache={}", below("cache")),
            // The cache may lie where only root can look.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["--option", option]);
        }
        command
            .arg("--quiet")
            .args(arguments)
            .current_dir(folder)
            .env("PATH", PATH);
        match said(command).await {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}"),
        }
    }
}

fn with_extension(folder: &Path, wanted: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == wanted)
        })
}
