//! What a kubelet remembers of devices over a restart: the file `kubelet_internal_checkpoint`.
//!
//! The layout is the kubelet's, but for the answers, which are JSON here and serialised protobuf
//! there.

use std::collections::BTreeMap;
use std::time::Duration;

use cdmo_proto::deviceplugin::{CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount};
use serde::{Deserialize, Serialize};

use crate::behaviour::Behaviour;

use super::held::Grant;
use super::{DeviceManager, Endpoint, Ids};

/// Name of the file in the device-plugin directory.
pub const FILE_NAME: &str = "kubelet_internal_checkpoint";

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checkpoint {
    data: Data,
    checksum: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Vec<Entry>,
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod: String,
    #[serde(rename = "ContainerName")]
    container: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By NUMA node; -1 without one.
    #[serde(rename = "DeviceIDs")]
    ids: BTreeMap<String, Vec<String>>,
    #[serde(rename = "AllocResp")]
    answer: Answer,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    envs: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Container path, host path, read-only.
    mounts: Vec<(String, String, bool)>,
    /// Container path, host path, permissions.
    devices: Vec<(String, String, String)>,
    cdi_devices: Vec<String>,
}

impl DeviceManager {
    /// What must survive a restart.
    pub fn checkpoint(&self) -> Checkpoint {
        let entry = |(pod, container, resource, grant): (&str, &str, &str, &Grant)| Entry {
            pod: pod.to_owned(),
            container: container.to_owned(),
            resource: resource.to_owned(),
            ids: BTreeMap::from([("-1".to_owned(), grant.ids.iter().cloned().collect())]),
            answer: Answer::from(&grant.answer),
        };
        let registered = self.healthy.iter();
        Checkpoint {
            data: Data {
                pod_device_entries: self.held.iter().map(entry).collect(),
                registered_devices: registered
                    .map(|(name, ids)| (name.clone(), ids.iter().cloned().collect()))
                    .collect(),
            },
            checksum: 0,
        }
    }

    /// A kubelet after a restart: pods have what they had; resources are known, but without a
    /// device until their plugin registers again.
    pub fn restore(
        behaviour: Behaviour,
        stop_grace: Duration,
        checkpoint: Checkpoint,
        now: Duration,
    ) -> Self {
        let mut manager = Self::new(behaviour, stop_grace);
        for entry in checkpoint.data.pod_device_entries {
            let ids: Ids = entry.ids.into_values().flatten().collect();
            let grant = Grant {
                ids,
                answer: entry.answer.into(),
            };
            manager
                .held
                .insert(&entry.pod, &entry.container, &entry.resource, grant);
        }
        manager.allocated = manager.held.by_resource();
        for resource in checkpoint.data.registered_devices.into_keys() {
            let endpoint = Endpoint {
                id: None,
                options: None,
                stopped: Some(now),
            };
            manager.endpoints.insert(resource.clone(), endpoint);
            manager.unhealthy.insert(resource.clone(), Ids::new());
            manager.healthy.insert(resource, Ids::new());
        }
        manager
    }
}

impl From<&ContainerAllocateResponse> for Answer {
    fn from(answer: &ContainerAllocateResponse) -> Self {
        let mount = |m: &Mount| (m.container_path.clone(), m.host_path.clone(), m.read_only);
        let device = |d: &DeviceSpec| {
            (
                d.container_path.clone(),
                d.host_path.clone(),
                d.permissions.clone(),
            )
        };
        Self {
            envs: answer.envs.clone().into_iter().collect(),
            annotations: answer.annotations.clone().into_iter().collect(),
            mounts: answer.mounts.iter().map(mount).collect(),
            devices: answer.devices.iter().map(device).collect(),
            cdi_devices: answer.cdi_devices.iter().map(|d| d.name.clone()).collect(),
        }
    }
}

impl From<Answer> for ContainerAllocateResponse {
    fn from(answer: Answer) -> Self {
        let mount = |(container_path, host_path, read_only)| Mount {
            container_path,
            host_path,
            read_only,
        };
        let device = |(container_path, host_path, permissions)| DeviceSpec {
            container_path,
            host_path,
            permissions,
        };
        Self {
            envs: answer.envs.into_iter().collect(),
            annotations: answer.annotations.into_iter().collect(),
            mounts: answer.mounts.into_iter().map(mount).collect(),
            devices: answer.devices.into_iter().map(device).collect(),
            cdi_devices: answer
                .cdi_devices
                .into_iter()
                .map(|name| CdiDevice { name })
                .collect(),
        }
    }
}
