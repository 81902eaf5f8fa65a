use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::image::archive::digest;

const REFERENCE: &str = "registry.example/cdmo/thing:1";

/// Any programs do; this one is everywhere, and small.
fn binaries(dir: &Path) -> Binaries {
    let copy = |name: &str| -> PathBuf {
        let path = dir.join(name);
        std::fs::copy("/bin/sh", &path).unwrap();
        path
    };
    Binaries {
        agent: copy("agent"),
        controller: copy("controller"),
        nvml: copy("nvml"),
        nvml_install: copy("install"),
    }
}

fn archives() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    images(&binaries(dir.path()), &Root::of_this_machine())
        .unwrap()
        .into_iter()
        .map(|image| {
            let packed = image.pack(REFERENCE).unwrap();
            (image.name, packed.bytes)
        })
        .collect()
}

fn entries(tar: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), 0);
        let mode = header.mode().unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, mode, content)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Blobs and JSON files of an archive by their paths.
fn contents(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let files = entries(tar).into_iter();
    files.map(|(path, _, content)| (path, content)).collect()
}

fn json(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
    serde_json::from_slice(&files[path]).unwrap()
}

fn blob(digest: &Value) -> String {
    let digest = digest.as_str().unwrap();
    format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap())
}

fn unpacked(gz: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(gz).read_to_end(&mut tar).unwrap();
    tar
}

#[test]
fn the_same_programs_make_the_same_bytes() {
    let once = archives();
    assert_eq!(once.len(), 3);
    // Other folders, other times of change: nothing of that may show.
    for (a, b) in once.into_iter().zip(archives()) {
        assert_eq!(a.0, b.0);
        assert!(a.1 == b.1, "the archives of {} differ", a.0);
    }
}

#[test]
fn docker_and_oci_find_the_same_image_in_an_archive() {
    for (name, bytes) in archives() {
        let files = contents(&bytes);
        for (path, content) in &files {
            if let Some(named) = path.strip_prefix("blobs/sha256/").filter(|n| !n.is_empty()) {
                assert_eq!(digest(content), format!("sha256:{named}"), "{name}");
            }
        }
        assert_eq!(json(&files, "oci-layout")["imageLayoutVersion"], "1.0.0");
        let index = &json(&files, "index.json")["manifests"][0];
        assert_eq!(index["annotations"]["io.containerd.image.name"], REFERENCE);
        let manifest = json(&files, &blob(&index["digest"]));
        let docker = &json(&files, "manifest.json")[0];
        assert_eq!(docker["RepoTags"][0], REFERENCE);
        assert_eq!(docker["Config"], blob(&manifest["config"]["digest"]));
        let layers = manifest["layers"].as_array().unwrap();
        let config = json(&files, &blob(&manifest["config"]["digest"]));
        for (index, layer) in layers.iter().enumerate() {
            assert_eq!(docker["Layers"][index], blob(&layer["digest"]));
            let gz = &files[&blob(&layer["digest"])];
            assert_eq!(layer["size"], gz.len());
            let tar = unpacked(gz);
            assert_eq!(config["rootfs"]["diff_ids"][index], digest(&tar));
            let paths: Vec<_> = entries(&tar).into_iter().map(|entry| entry.0).collect();
            assert!(paths.is_sorted(), "{paths:?}");
        }
    }
}

#[test]
fn the_controller_is_nobody_and_finds_its_program() {
    let all = archives();
    let (_, bytes) = all.iter().find(|(name, _)| name == CONTROLLER).unwrap();
    let files = contents(bytes);
    let docker = &json(&files, "manifest.json")[0];
    let config = json(&files, docker["Config"].as_str().unwrap());
    assert_eq!(config["config"]["User"], "65532:65532");
    let program = config["config"]["Entrypoint"][0].as_str().unwrap();
    let layers = docker["Layers"].as_array().unwrap();
    let there = layers
        .iter()
        .flat_map(|layer| entries(&unpacked(&files[layer.as_str().unwrap()])))
        .any(|(path, mode, _)| format!("/{path}") == program && mode == 0o755);
    assert!(there, "{program} is in no layer");
}
