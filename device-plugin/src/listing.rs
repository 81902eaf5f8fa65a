//! What podresources says: who holds which device, and which devices the kubelet would give out.

use std::collections::{HashMap, HashSet};

use cdmo_proto::podresources::{AllocatableResourcesResponse, ListPodResourcesResponse};

use crate::Holder;

/// One answer of podresources List, as far as it is about devices. It shows no pod UIDs and no
/// ordinary init containers, and before Kubernetes 1.34 also pods that are terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    containers: Vec<Shown>,
}

/// The devices of one resource that one container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The container.
    pub holder: Holder,
    /// The resource name.
    pub resource: String,
    /// Its device ids.
    pub ids: Vec<String>,
}

impl Listing {
    /// From the pairs of container and devices themselves, for tests.
    pub fn new(containers: Vec<Shown>) -> Self {
        Self { containers }
    }

    /// Everything shown.
    pub fn iter(&self) -> impl Iterator<Item = &Shown> {
        self.containers.iter()
    }

    /// The containers that have this device.
    pub fn holders<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
    ) -> impl Iterator<Item = &'a Holder> {
        self.containers
            .iter()
            .filter(move |shown| shown.resource == resource && shown.ids.iter().any(|i| i == id))
            .map(|shown| &shown.holder)
    }

    /// How many devices of the resource this container has.
    pub fn count(&self, namespace: &str, pod: &str, container: &str, resource: &str) -> usize {
        self.containers
            .iter()
            .filter(|shown| {
                shown.resource == resource
                    && shown.holder.container == container
                    && shown.holder.pod == pod
                    && shown.holder.namespace == namespace
            })
            .map(|shown| shown.ids.len())
            .sum()
    }
}

impl From<ListPodResourcesResponse> for Listing {
    fn from(response: ListPodResourcesResponse) -> Self {
        let mut containers = Vec::new();
        for pod in response.pod_resources {
            for container in pod.containers {
                for devices in container.devices {
                    if devices.device_ids.is_empty() {
                        continue;
                    }
                    containers.push(Shown {
                        holder: Holder {
                            namespace: pod.namespace.clone(),
                            pod: pod.name.clone(),
                            container: container.name.clone(),
                        },
                        resource: devices.resource_name,
                        ids: devices.device_ids,
                    });
                }
            }
        }
        Self { containers }
    }
}

/// One answer of `GetAllocatableResources`: the healthy devices the kubelet knows, held or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocatable {
    devices: HashMap<String, HashSet<String>>,
}

impl Allocatable {
    /// Whether the kubelet would give out this device.
    pub(crate) fn has(&self, resource: &str, id: &str) -> bool {
        let ids = self.devices.get(resource);
        ids.is_some_and(|ids| ids.contains(id))
    }
}

impl FromIterator<(String, Vec<String>)> for Allocatable {
    fn from_iter<T: IntoIterator<Item = (String, Vec<String>)>>(resources: T) -> Self {
        let devices = resources.into_iter();
        Self {
            devices: devices
                .map(|(name, ids)| (name, ids.into_iter().collect()))
                .collect(),
        }
    }
}

impl From<AllocatableResourcesResponse> for Allocatable {
    fn from(response: AllocatableResourcesResponse) -> Self {
        let mut devices: HashMap<_, HashSet<_>> = HashMap::new();
        for entry in response.devices {
            let ids = devices.entry(entry.resource_name).or_default();
            ids.extend(entry.device_ids);
        }
        Self { devices }
    }
}
