//! Debian's packages that the cluster runs on: which are missing, and their installation.

use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::process::PATH;
use crate::program::said;

/// A file that is needed, and the package that brings it.
type Need = (&'static str, &'static str);

/// What a running cluster needs.
pub(super) const TO_RUN: [Need; 11] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
];
/// What fetching from Debian's archive and building needs besides.
pub(super) const TO_BUILD: [Need; 5] = [
    ("dpkg-source", "dpkg-dev"),
    ("patch", "patch"),
    ("rsync", "rsync"),
    ("xz", "xz-utils"),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
];

/// Installs the packages of what is missing.
pub(super) async fn install(needs: &[Need]) -> anyhow::Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !present("apt-get") {
        bail!(
            "this machine lacks {list} and has no apt-get to install them with; run this on \
             Debian, or set KUBECONFIG to a cluster that you have"
        );
    }
    anstream::eprintln!("Installing {list}");
    apt_get(&["update"])
        .await
        .context("failed to read Debian's package lists")?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments)
        .await
        .with_context(|| format!("failed to install {list} with apt-get"))
}

async fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    command
        .arg("--quiet")
        .args(arguments)
        .env("PATH", PATH)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The machine's own etcd and containerd need not run for the cluster's to run.
        .env("SYSTEMD_OFFLINE", "1");
    said(command).await.map(drop)
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = needs
        .iter()
        .filter(|(file, _)| !present(file))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

/// Whether a program, or a file if the name is a path, is there.
fn present(name: &str) -> bool {
    if name.starts_with('/') {
        return Path::new(name).exists();
    }
    PATH.split(':')
        .any(|folder| Path::new(folder).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_missing_files_are_installed_and_each_once() {
        let needs = [
            ("sh", "dash"),
            ("no-such-program", "one"),
            ("no-such-program-either", "one"),
            ("/no/such/file", "two"),
            ("/", "base-files"),
        ];
        assert_eq!(missing(&needs), ["one", "two"]);
    }
}
