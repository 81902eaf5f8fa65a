//! The kubelet's checkpoint, which tells what it knows where podresources does not.
//!
//! Kubelets before 1.23 have no `GetAllocatableResources`, and all they offer to learn that a list was
//! taken over is time. But they write a file whenever they take one over: `kubelet_internal_checkpoint`
//! in the plugin directory, with the healthy devices of every resource (`RegisteredDevices`, see
//! `writeCheckpoint` in pkg/kubelet/cm/devicemanager/manager.go). Its format is internal to the
//! kubelet, which matters little for releases to which nothing is added any more; newer kubelets are
//! asked, and a file that cannot be read costs the wait and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use crate::listing::Allocatable;

/// The file in the plugin directory.
const FILE: &str = "kubelet_internal_checkpoint";
/// Several times what a full node has: a kilobyte for each device that a pod has.
const LARGEST: u64 = 16 << 20;

#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "Data")]
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "RegisteredDevices", default)]
    registered: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// The devices that the kubelet had as healthy when it last wrote; `None` if that cannot be told.
pub(crate) async fn read(plugin_dir: &Path) -> Option<Allocatable> {
    let path = plugin_dir.join(FILE);
    match text(&path).await.and_then(|text| Ok(parse(&text)?)) {
        Ok(devices) => Some(devices),
        Err(error) => {
            // Expected before the first list and halfway through a write.
            tracing::debug!(path = %path.display(), %error, "The kubelet's checkpoint tells nothing");
            None
        }
    }
}

async fn text(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(LARGEST).read_to_end(&mut text).await?;
    Ok(text)
}

fn parse(text: &[u8]) -> serde_json::Result<Allocatable> {
    let checkpoint: Checkpoint = serde_json::from_slice(text)?;
    let registered = checkpoint.data.registered.unwrap_or_default();
    let resources = registered.into_iter();
    Ok(resources
        .map(|(name, ids)| (name, ids.unwrap_or_default()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_devices_are_read_by_resource() {
        let text = br#"{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"main",
            "ResourceName":"nvidia.com/mig-1g.5gb","DeviceIDs":["MIG-b"],"AllocResp":"CgA="}],
            "RegisteredDevices":{"nvidia.com/mig-1g.5gb":["MIG-a"],"nvidia.com/gpu":[],"x/y":null}},
            "Checksum":123}"#;
        let seen = parse(text).unwrap();
        assert!(seen.has("nvidia.com/mig-1g.5gb", "MIG-a"));
        assert!(
            !seen.has("nvidia.com/mig-1g.5gb", "MIG-b"),
            "held, not healthy"
        );
        assert!(!seen.has("nvidia.com/gpu", "MIG-a"));
    }

    #[test]
    fn a_kubelet_without_plugins_has_no_devices() {
        let text = br#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":null},"Checksum":1}"#;
        assert_eq!(parse(text).unwrap(), Allocatable::default());
    }

    #[test]
    fn what_is_no_checkpoint_tells_nothing() {
        let whole = r#"{"Data":{"RegisteredDevices":{"a/b":["c"]}},"Checksum":1}"#;
        for end in 0..whole.len() {
            assert!(
                parse(&whole.as_bytes()[..end]).is_err(),
                "{}",
                &whole[..end]
            );
        }
        assert!(parse(b"[]").is_err());
    }

    #[tokio::test]
    async fn a_missing_file_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).await, None);
    }
}
