//! From files to an archive that containerd, Docker and podman load.
//!
//! The layout is that of newer versions of `docker save`: an OCI image layout (`oci-layout`,
//! `index.json`, `blobs/`) with a `manifest.json` beside it for those that know Docker's layout only.
//! Everything is sorted, belongs to root and has no time, so that equal input gives equal bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The time of everything: none.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// Files of a layer by absolute path.
#[derive(Debug, Default)]
pub(crate) struct Files {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    /// None for a folder.
    content: Option<Vec<u8>>,
}

impl Files {
    /// Adds a file, and the folders that it lies in.
    pub(crate) fn add(&mut self, path: impl AsRef<Path>, mode: u32, content: Vec<u8>) {
        self.put(path.as_ref(), mode, Some(content));
    }

    /// Adds a folder, and those that it lies in.
    pub(crate) fn add_folder(&mut self, path: impl AsRef<Path>, mode: u32) {
        self.put(path.as_ref(), mode, None);
    }

    fn put(&mut self, path: &Path, mode: u32, content: Option<Vec<u8>>) {
        for folder in path.ancestors().skip(1) {
            let entry = Entry {
                mode: 0o755,
                content: None,
            };
            self.entries.entry(key(folder)).or_insert(entry);
        }
        self.entries.insert(key(path), Entry { mode, content });
    }

    /// All paths, sorted, folders included.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.entries.keys().map(|path| format!("/{path}"))
    }

    fn tar(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in self.entries.iter().filter(|(path, _)| !path.is_empty()) {
            let (kind, content, path) = match &entry.content {
                Some(content) => (tar::EntryType::Regular, content.as_slice(), path.clone()),
                None => (tar::EntryType::Directory, &[][..], format!("{path}/")),
            };
            append(&mut tar, kind, &path, entry.mode, content)?;
        }
        tar.into_inner()
    }
}

fn key(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// A layer, compressed.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Digest of the layer as it is unpacked.
    diff_id: String,
    blob: Blob,
}

impl Layer {
    /// Packs these files.
    pub(crate) fn pack(files: &Files) -> io::Result<Self> {
        let tar = files.tar()?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&tar)?;
        Ok(Self {
            diff_id: digest(&tar),
            blob: Blob::new(gzip.finish()?),
        })
    }
}

/// Content under the name of its digest.
#[derive(Debug)]
struct Blob {
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        Self {
            digest: digest(&content),
            content,
        }
    }

    fn path(&self) -> String {
        self.digest.replacen("sha256:", "blobs/sha256/", 1)
    }

    fn described(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.content.len()})
    }
}

/// An image.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its name within its repository.
    pub(crate) name: String,
    /// What it is, in a few words.
    pub(crate) title: String,
    /// Who the program runs as.
    pub(crate) user: String,
    /// The program, by its path, and its first arguments.
    pub(crate) entrypoint: Vec<String>,
    /// Its layers; later ones lie above earlier ones.
    pub(crate) layers: Vec<Rc<Layer>>,
}

/// An image as an archive.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The archive.
    pub(crate) bytes: Vec<u8>,
    /// The digest by which registries and nodes know the image.
    pub(crate) digest: String,
}

impl Image {
    /// The archive of the image under that full name, for example `docker.io/cdmo/thing:1`.
    pub(crate) fn pack(&self, reference: &str) -> io::Result<Packed> {
        let platform = json!({"architecture": architecture(), "os": "linux"});
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let config = Blob::new(to_bytes(&json!({
            "architecture": architecture(),
            "os": "linux",
            "created": NEVER,
            "config": {
                "User": self.user,
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/bin"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.title": self.title,
                    "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter()
                .map(|_| json!({"created": NEVER, "created_by": "cargo xtask image"}))
                .collect::<Vec<_>>(),
        })));
        let layers: Vec<_> = self.layers.iter().map(|layer| &layer.blob).collect();
        let manifest = Blob::new(to_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.described(CONFIG),
            "layers": layers.iter().map(|blob| blob.described(LAYER)).collect::<Vec<_>>(),
        })));
        let mut entry = manifest.described(MANIFEST);
        entry["platform"] = platform;
        entry["annotations"] = json!({
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": tag(reference),
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        let docker = json!([{
            "Config": config.path(),
            "RepoTags": [reference],
            "Layers": layers.iter().map(|blob| blob.path()).collect::<Vec<_>>(),
        }]);

        let mut files = Files::default();
        let blobs = layers.into_iter().chain([&config, &manifest]);
        for blob in blobs {
            files.add(blob.path(), 0o644, blob.content.clone());
        }
        for (path, content) in [
            ("index.json", &index),
            ("manifest.json", &docker),
            ("oci-layout", &json!({"imageLayoutVersion": "1.0.0"})),
        ] {
            files.add(path, 0o644, to_bytes(content));
        }
        Ok(Packed {
            bytes: files.tar()?,
            digest: manifest.digest,
        })
    }
}

/// Equal values give equal bytes.
fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn tag(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}

/// This machine's, as OCI names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digest of some content, as OCI writes it.
pub(crate) fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
