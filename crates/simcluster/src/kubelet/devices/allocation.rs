//! Choosing devices for a container, step by step around the calls to the plugin.

use std::collections::BTreeMap;

use cdmo_proto::deviceplugin::ContainerAllocateResponse;

use super::held::Grant;
use super::{DeviceManager, EndpointId, Ids};

/// Which kind of container asks for devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the others: its devices are theirs afterwards.
    Init,
    /// Any other container, sidecars included.
    App,
}

/// One container's wish for devices of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Uid of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Kind of the container.
    pub role: Role,
    /// The resource.
    pub resource: String,
    /// Number of devices, above 0.
    pub count: usize,
    /// The kubelet has just started and found the container running.
    pub running: bool,
}

/// What comes next for a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it has its devices, or the resource is none of a plugin's.
    Done,
    /// Ask the plugin which it prefers, then [`DeviceManager::prefer`].
    Ask(Preference),
    /// Call `Allocate`, then [`DeviceManager::granted`] or [`DeviceManager::refused`].
    Allocate(Chosen),
}

/// The question in `GetPreferredAllocation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// Whom to ask.
    pub endpoint: EndpointId,
    /// Devices to choose from.
    pub available: Ids,
    /// Devices that must be among the answer.
    pub must_include: Ids,
    /// Devices wanted in all.
    pub size: usize,
}

/// Devices that are marked as in use and wait for the plugin's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whom to ask.
    pub endpoint: EndpointId,
    /// The devices.
    pub ids: Ids,
}

/// Why a container gets no devices: the kubelet's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The plugin is not there.
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    /// All devices are unhealthy, or there are none.
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoHealthy(String),
    /// A device that the container already has is not healthy any more.
    #[error(
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}"
    )]
    NoLongerHealthy(String),
    /// Too few are free.
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {free}"
    )]
    TooFew {
        /// The resource.
        resource: String,
        /// Devices still needed.
        wanted: usize,
        /// Healthy devices that nobody has.
        free: usize,
    },
    /// The plugin went away meanwhile.
    #[error("unknown Device Plugin {0}")]
    UnknownPlugin(String),
    /// The container's wish is another than when it got its devices.
    #[error(
        "pod {pod:?} container {container:?} changed request for resource {resource:?} from {had} to {wanted}"
    )]
    Changed {
        /// Uid of the pod.
        pod: String,
        /// Name of the container.
        container: String,
        /// The resource.
        resource: String,
        /// Devices it has.
        had: usize,
        /// Devices it wants.
        wanted: usize,
    },
}

/// What kubelets fall over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Panic {
    /// A granted device is not in the plugin's list any more: kubelet 1.36 dereferences nil here.
    #[error(
        "panic: runtime error: invalid memory address or nil pointer dereference: device {id:?} of {resource} was granted, but its plugin does not list it any more"
    )]
    NotListed {
        /// The resource.
        resource: String,
        /// The device.
        id: String,
    },
    /// The plugin was asked for its preference, and meanwhile the last pod with devices of the resource was
    /// found to have ended: kubelets before the change of kubernetes#119560 insert into no set.
    #[error(
        "panic: assignment to entry in nil map: the last devices of {resource} were freed while its plugin was asked which it prefers"
    )]
    NoBooks {
        /// The resource.
        resource: String,
    },
}

/// Why a container gets no devices, or nobody gets any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreferError {
    /// The kubelet refuses.
    #[error(transparent)]
    Refused(#[from] AllocateError),
    /// The kubelet falls over.
    #[error(transparent)]
    Panicked(#[from] Panic),
}

impl DeviceManager {
    /// Begins the admission of a pod. Its devices are not freed until the next one begins.
    pub fn admit(&mut self, pod: &str) {
        if self.admitting.as_deref() != Some(pod) {
            self.reusable.clear();
        }
        self.admitting = Some(pod.to_owned());
    }

    /// Looks for devices. Call [`DeviceManager::release_inactive`] before.
    pub fn want(&mut self, wish: &Wish) -> Result<Step, AllocateError> {
        let resource = &wish.resource;
        let had = self
            .held
            .grant(&wish.pod, &wish.container, resource)
            .map(|g| g.ids.clone());
        if let Some(had) = &had
            && had.len() != wish.count
        {
            return Err(AllocateError::Changed {
                pod: wish.pod.clone(),
                container: wish.container.clone(),
                resource: resource.clone(),
                had: had.len(),
                wanted: wish.count,
            });
        }
        if wish.running && self.behaviour.checks_held_devices() {
            return Ok(Step::Done);
        }
        if had.is_some() && !self.behaviour.checks_held_devices() {
            return Ok(Step::Done);
        }
        let Some(healthy) = self.healthy.get(resource) else {
            return Err(AllocateError::Unregistered(resource.clone()));
        };
        if self.behaviour.checks_held_devices() {
            if healthy.is_empty() {
                return Err(AllocateError::NoHealthy(resource.clone()));
            }
            if had.as_ref().is_some_and(|had| !healthy.is_superset(had)) {
                return Err(AllocateError::NoLongerHealthy(resource.clone()));
            }
        }
        if had.is_some() {
            return Ok(Step::Done);
        }
        let mut chosen = Ids::new();
        let reusable = self.reusable.get(resource).cloned().unwrap_or_default();
        self.take(resource, reusable, wish.count, &mut chosen);
        if chosen.len() == wish.count {
            return self.call(resource, chosen);
        }
        let available = self.free(resource);
        let missing = wish.count - chosen.len();
        if available.len() < missing {
            return Err(AllocateError::TooFew {
                resource: resource.clone(),
                wanted: missing,
                free: available.len(),
            });
        }
        let endpoint = self.endpoints.get(resource);
        if let Some(endpoint) = endpoint
            && endpoint.stopped.is_none()
            && endpoint.options.is_some_and(|options| options.preferred)
            && let Some(id) = endpoint.id
        {
            let mut choice = available;
            choice.extend(chosen.iter().cloned());
            return Ok(Step::Ask(Preference {
                endpoint: id,
                available: choice,
                must_include: chosen,
                size: wish.count,
            }));
        }
        self.take(resource, available, wish.count, &mut chosen);
        self.call(resource, chosen)
    }

    /// The plugin prefers these devices; what it names too few or wrongly, the kubelet fills up.
    pub fn prefer(
        &mut self,
        wish: &Wish,
        asked: Preference,
        preferred: &Ids,
    ) -> Result<Step, PreferError> {
        let resource = &wish.resource;
        let mut chosen = asked.must_include;
        let available = self.free(resource);
        let books = self.allocated.contains_key(resource);
        if !books && !available.is_empty() && self.behaviour.panics_without_books() {
            return Err(Panic::NoBooks {
                resource: resource.clone(),
            }
            .into());
        }
        let liked = preferred.intersection(&available).cloned().collect();
        self.take(resource, liked, wish.count, &mut chosen);
        self.take(resource, available, wish.count, &mut chosen);
        if chosen.len() < wish.count {
            self.refused();
            return Err(AllocateError::TooFew {
                resource: resource.clone(),
                wanted: wish.count,
                free: chosen.len(),
            }
            .into());
        }
        Ok(self.call(resource, chosen)?)
    }

    /// The plugin granted the devices.
    pub fn granted(
        &mut self,
        wish: &Wish,
        ids: &Ids,
        answer: ContainerAllocateResponse,
    ) -> Result<(), Panic> {
        if let Some(id) = ids.iter().find(|id| !self.knows(&wish.resource, id)) {
            return Err(Panic::NotListed {
                resource: wish.resource.clone(),
                id: id.clone(),
            });
        }
        let grant = Grant {
            ids: ids.clone(),
            answer,
        };
        self.held
            .insert(&wish.pod, &wish.container, &wish.resource, grant);
        Ok(())
    }

    /// The plugin refused, or the pod failed otherwise: marks without a grant are taken back.
    pub fn refused(&mut self) {
        self.allocated = self.held.by_resource();
    }

    /// A container of the pod being admitted has all it wants: an init container leaves its
    /// devices to the next ones, an app container keeps them.
    pub fn container_admitted(&mut self, pod: &str, container: &str, role: Role) {
        let grants = self
            .held
            .container(pod, container)
            .cloned()
            .unwrap_or_default();
        for (resource, grant) in grants {
            match role {
                Role::Init => self.reusable.entry(resource).or_default().extend(grant.ids),
                Role::App => {
                    if let Some(reusable) = self.reusable.get_mut(&resource) {
                        reusable.retain(|id| !grant.ids.contains(id));
                    }
                }
            }
        }
    }

    /// Calls of `PreStartContainer` due before a start of the container: for each of the resources
    /// it names, whom to call and with which devices.
    pub fn pre_start<'a>(
        &self,
        pod: &str,
        container: &str,
        resources: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, (EndpointId, Ids)>, String> {
        let mut calls = BTreeMap::new();
        for resource in resources
            .into_iter()
            .filter(|resource| self.manages(resource))
        {
            let Some(endpoint) = self.endpoints.get(resource) else {
                return Err(format!(
                    "endpoint not found in cache for a registered resource: {resource}"
                ));
            };
            // After a kubelet restart the options are not known: then nothing is called.
            if !endpoint.options.is_some_and(|options| options.pre_start) {
                continue;
            }
            let Some(grant) = self.held.grant(pod, container, resource) else {
                return Err(format!(
                    "no devices found allocated in local cache for pod {pod}, container {container}, resource {resource}"
                ));
            };
            match endpoint.id.filter(|_| endpoint.stopped.is_none()) {
                Some(id) => calls.insert(resource.to_owned(), (id, grant.ids.clone())),
                None => return Err(format!("endpoint {resource} has been stopped")),
            };
        }
        Ok(calls)
    }

    fn free(&self, resource: &str) -> Ids {
        let none = Ids::new();
        let used = self.allocated.get(resource).unwrap_or(&none);
        self.healthy
            .get(resource)
            .unwrap_or(&none)
            .difference(used)
            .cloned()
            .collect()
    }

    fn take(&mut self, resource: &str, from: Ids, count: usize, chosen: &mut Ids) {
        let used = self.allocated.entry(resource.to_owned()).or_default();
        for id in from {
            if chosen.len() == count {
                return;
            }
            used.insert(id.clone());
            chosen.insert(id);
        }
    }

    fn call(&mut self, resource: &str, ids: Ids) -> Result<Step, AllocateError> {
        let endpoint = self
            .endpoints
            .get(resource)
            .and_then(|endpoint| endpoint.id);
        if let Some(endpoint) = endpoint {
            return Ok(Step::Allocate(Chosen { endpoint, ids }));
        }
        self.refused();
        Err(AllocateError::UnknownPlugin(resource.to_owned()))
    }
}
