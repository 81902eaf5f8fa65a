//! Images without a registry: a static busybox in one layer, in the layout of `docker save`, which
//! containerd imports.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::process::PATH;
use super::{kubernetes, place};
use crate::program::said;

/// For pods that want a shell. The tag is not `latest`, so that nobody tries to pull it.
pub(super) const BUSYBOX: &str = "localhost/busybox:cdmo";
/// Holds a pod's namespaces open.
pub(super) const PAUSE: &str = "localhost/pause:cdmo";

/// Makes the two images of the busybox in this folder and imports them.
pub(super) async fn import_own(programs: &Path) -> anyhow::Result<()> {
    let program = programs.join(kubernetes::BUSYBOX);
    let busybox =
        std::fs::read(&program).with_context(|| format!("failed to read {}", program.display()))?;
    let mut list = Command::new(&program);
    list.arg("--list");
    let applets = said(list).await?;
    let layer = layer(&busybox, applets.lines().filter(|name| *name != "busybox"))
        .context("failed to make an image's layer")?;
    let path = place::home("images.tar");
    for (name, command) in [
        (BUSYBOX, json!({"Cmd": ["/bin/sh"]})),
        // Ends when it is killed, which is how containerd ends it.
        (PAUSE, json!({"Entrypoint": ["/bin/sleep", "2147483647"]})),
    ] {
        let image = archive(name, command, &layer).context("failed to make an image")?;
        place::write(&path, image)?;
        import(&path).await?;
    }
    std::fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))
}

/// Imports an image archive of the OCI or the `docker save` layout; what containerd said.
pub(super) async fn import(archive: &Path) -> anyhow::Result<String> {
    if !archive.is_file() {
        bail!("there is no image archive {}", archive.display());
    }
    let mut command = Command::new("ctr");
    command
        .args(["--address", &place::containerd_socket()])
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(PathBuf::from(archive))
        .env("PATH", PATH);
    said(command).await.with_context(|| {
        format!(
            "containerd does not take {} for an image",
            archive.display()
        )
    })
}

/// A root file system with busybox under all its names.
fn layer<'a>(busybox: &[u8], applets: impl Iterator<Item = &'a str>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("root/", 0o700),
        ("tmp/", 0o1777),
    ] {
        add(&mut tar, tar::EntryType::Directory, folder, mode, &[])?;
    }
    let file = tar::EntryType::Regular;
    add(&mut tar, file, "bin/busybox", 0o755, busybox)?;
    add(
        &mut tar,
        file,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n",
    )?;
    add(&mut tar, file, "etc/group", 0o644, b"root:x:0:\n")?;
    for applet in applets {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

/// The archive of an image of one layer.
fn archive(name: &str, run: serde_json::Value, layer: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut run = run;
    run["Env"] = json!(["PATH=/bin"]);
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]},
    })
    .to_string();
    let config_file = format!("{}.json", digest(config.as_bytes()));
    let manifest = json!([{
        "Config": config_file,
        "RepoTags": [name],
        "Layers": ["layer.tar"],
    }])
    .to_string();
    let mut tar = tar::Builder::new(Vec::new());
    let file = tar::EntryType::Regular;
    add(&mut tar, file, &config_file, 0o644, config.as_bytes())?;
    add(&mut tar, file, "layer.tar", 0o644, layer)?;
    add(&mut tar, file, "manifest.json", 0o644, manifest.as_bytes())?;
    tar.into_inner()
}

fn add(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = header(kind, mode, content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Root's, and of no time: the same input makes the same archive.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(content: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn content(archive: &[u8], name: &str) -> Vec<u8> {
        let mut tar = tar::Archive::new(archive);
        let mut content = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().to_str() == Some(name) {
                entry.read_to_end(&mut content).unwrap();
            }
        }
        content
    }

    #[test]
    fn an_image_names_the_digest_of_its_layer() {
        let layer = layer(b"program", ["sh", "sleep"].into_iter()).unwrap();
        let image = archive(BUSYBOX, json!({"Cmd": ["/bin/sh"]}), &layer).unwrap();
        let manifest: serde_json::Value =
            serde_json::from_slice(&content(&image, "manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!([BUSYBOX]));
        assert_eq!(content(&image, "layer.tar"), layer);
        let config = content(&image, manifest[0]["Config"].as_str().unwrap());
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let named = format!("sha256:{}", digest(&layer));
        assert_eq!(config["rootfs"]["diff_ids"], json!([named]));
        assert_eq!(content(&layer, "bin/busybox"), b"program");
    }

    #[test]
    fn the_same_program_makes_the_same_image() {
        let image = || {
            let layer = layer(b"program", ["sh"].into_iter()).unwrap();
            archive(PAUSE, json!({}), &layer).unwrap()
        };
        assert_eq!(image(), image());
    }
}
