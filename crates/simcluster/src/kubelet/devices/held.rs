//! Which container of which pod has which devices, and what their plugin answered.

use std::collections::BTreeMap;

use cdmo_proto::deviceplugin::ContainerAllocateResponse;

use super::Ids;

/// A grant: devices of one resource for one container, and the plugin's answer, kept for every
/// later start of the container.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The devices.
    pub ids: Ids,
    /// What the plugin answered to `Allocate`.
    pub answer: ContainerAllocateResponse,
}

type Containers = BTreeMap<String, BTreeMap<String, Grant>>;

/// Grants by pod uid, container and resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    pods: BTreeMap<String, Containers>,
}

impl Held {
    /// The grants of one container by resource.
    pub fn container(&self, pod: &str, container: &str) -> Option<&BTreeMap<String, Grant>> {
        self.pods.get(pod)?.get(container)
    }

    /// One grant.
    pub fn grant(&self, pod: &str, container: &str, resource: &str) -> Option<&Grant> {
        self.container(pod, container)?.get(resource)
    }

    /// All grants: pod uid, container, resource, grant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str, &Grant)> {
        self.pods.iter().flat_map(|(pod, containers)| {
            containers.iter().flat_map(move |(container, grants)| {
                grants.iter().map(move |(resource, grant)| {
                    (pod.as_str(), container.as_str(), resource.as_str(), grant)
                })
            })
        })
    }

    /// The pod has devices.
    pub fn has_pod(&self, pod: &str) -> bool {
        self.pods.contains_key(pod)
    }

    /// Records a grant.
    pub fn insert(&mut self, pod: &str, container: &str, resource: &str, grant: Grant) {
        let containers = self.pods.entry(pod.to_owned()).or_default();
        let grants = containers.entry(container.to_owned()).or_default();
        grants.insert(resource.to_owned(), grant);
    }

    /// Keeps some pods; tells whether any other had devices.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) -> bool {
        let before = self.pods.len();
        self.pods.retain(|pod, _| keep(pod));
        self.pods.len() != before
    }

    /// All devices by resource.
    pub fn by_resource(&self) -> BTreeMap<String, Ids> {
        let mut all: BTreeMap<String, Ids> = BTreeMap::new();
        for (_, _, resource, grant) in self.iter() {
            all.entry(resource.to_owned())
                .or_default()
                .extend(grant.ids.iter().cloned());
        }
        all
    }

    /// What a container is started with: the answers for all its resources together.
    pub fn run_options(&self, pod: &str, container: &str) -> ContainerAllocateResponse {
        let mut all = ContainerAllocateResponse::default();
        for grant in self
            .container(pod, container)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let answer = grant.answer.clone();
            all.envs.extend(answer.envs);
            all.annotations.extend(answer.annotations);
            all.mounts.extend(answer.mounts);
            all.devices.extend(answer.devices);
            all.cdi_devices.extend(answer.cdi_devices);
        }
        all
    }
}
