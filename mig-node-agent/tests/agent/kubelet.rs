//! A small kubelet: registration, ListAndWatch, Allocate and podresources over the real sockets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cdmo_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use cdmo_proto::deviceplugin::registration_server::{Registration, RegistrationServer};
use cdmo_proto::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, Device, Empty, PreStartContainerRequest,
    RegisterRequest,
};
use cdmo_proto::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use cdmo_proto::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::service_fn;

use crate::eventually;

/// A resource's devices, and the client to who serves them.
struct Plugin {
    generation: usize,
    client: DevicePluginClient<Channel>,
    devices: Vec<Device>,
}

#[derive(Default)]
struct State {
    plugins: BTreeMap<String, Plugin>,
    registrations: usize,
    /// Pod name, resource and ids.
    pods: Vec<(String, String, Vec<String>)>,
}

#[derive(Clone)]
struct Shared {
    plugin_dir: PathBuf,
    state: Arc<Mutex<State>>,
}

pub(crate) struct Kubelet {
    shared: Shared,
    _stop: DropGuard,
}

impl Kubelet {
    pub(crate) fn start(dir: &Path) -> Self {
        let plugin_dir = dir.join("device-plugins");
        let pod_resources = dir.join("pod-resources");
        std::fs::create_dir_all(&plugin_dir).unwrap();
        std::fs::create_dir_all(&pod_resources).unwrap();
        let shared = Shared {
            plugin_dir: plugin_dir.clone(),
            state: Arc::default(),
        };
        let stop = CancellationToken::new();
        let registration = UnixListener::bind(plugin_dir.join("kubelet.sock")).unwrap();
        let lister = UnixListener::bind(pod_resources.join("kubelet.sock")).unwrap();
        tokio::spawn(Server::builder().serve_with_incoming_shutdown(
            RegistrationServer::new(shared.clone()),
            UnixListenerStream::new(registration),
            stop.clone().cancelled_owned(),
        ));
        tokio::spawn(Server::builder().serve_with_incoming_shutdown(
            PodResourcesListerServer::new(shared.clone()),
            UnixListenerStream::new(lister),
            stop.clone().cancelled_owned(),
        ));
        Self {
            shared,
            _stop: stop.drop_guard(),
        }
    }

    /// Healthy ids of a resource; none if nobody registered it.
    pub(crate) fn healthy(&self, resource: &str) -> Option<Vec<String>> {
        let state = self.shared.state.lock().unwrap();
        let devices = &state.plugins.get(resource)?.devices;
        let healthy = devices.iter().filter(|d| d.health == cdmo_proto::HEALTHY);
        Some(healthy.map(|d| d.id.clone()).collect())
    }

    /// All ids of a resource.
    pub(crate) fn listed(&self, resource: &str) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        let plugin = state.plugins.get(resource);
        plugin.map_or_else(Vec::new, |p| {
            p.devices.iter().map(|d| d.id.clone()).collect()
        })
    }

    pub(crate) async fn until_registered(&self, resource: &str) {
        eventually(resource, async || self.healthy(resource)).await;
    }

    /// Starts a pod with one device of a resource: Allocate, then PreStartContainer.
    pub(crate) async fn start_pod(&self, pod: &str, resource: &str) -> Result<String, Status> {
        let id = self
            .choose(resource)
            .ok_or_else(|| Status::not_found("no healthy device"))?;
        self.start_pod_with(pod, resource, &id).await?;
        Ok(id)
    }

    fn choose(&self, resource: &str) -> Option<String> {
        let healthy = self.healthy(resource)?;
        let state = self.shared.state.lock().unwrap();
        let taken = |id: &String| state.pods.iter().any(|(_, _, ids)| ids.contains(id));
        healthy.into_iter().find(|id| !taken(id))
    }

    pub(crate) async fn start_pod_with(
        &self,
        pod: &str,
        resource: &str,
        id: &str,
    ) -> Result<(), Status> {
        let mut client = {
            let mut state = self.shared.state.lock().unwrap();
            let ids = vec![id.to_owned()];
            state.pods.push((pod.into(), resource.into(), ids));
            state.plugins[resource].client.clone()
        };
        let granted = client
            .allocate(AllocateRequest {
                container_requests: vec![ContainerAllocateRequest {
                    devices_ids: vec![id.into()],
                }],
            })
            .await;
        if let Err(refused) = granted {
            self.remove_pod(pod);
            return Err(refused);
        }
        self.start_container(resource, id).await
    }

    /// What precedes every start of a container, also a restart.
    pub(crate) async fn start_container(&self, resource: &str, id: &str) -> Result<(), Status> {
        let client = self.shared.state.lock().unwrap().plugins[resource]
            .client
            .clone();
        let request = PreStartContainerRequest {
            devices_ids: vec![id.into()],
        };
        client.clone().pre_start_container(request).await.map(drop)
    }

    /// Another plugin gave the pod a device: podresources shows it, and nobody was asked.
    pub(crate) fn has_from_others(&self, pod: &str, resource: &str, id: &str) {
        let mut state = self.shared.state.lock().unwrap();
        let ids = vec![id.to_owned()];
        state.pods.push((pod.into(), resource.into(), ids));
    }

    /// The directory of plugins' sockets.
    pub(crate) fn plugin_dir(&self) -> &Path {
        &self.shared.plugin_dir
    }

    /// The pod is gone from podresources.
    pub(crate) fn remove_pod(&self, pod: &str) {
        let mut state = self.shared.state.lock().unwrap();
        state.pods.retain(|(name, _, _)| name != pod);
    }
}

#[tonic::async_trait]
impl Registration for Shared {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let socket = self.plugin_dir.join(&request.endpoint);
        let connector = service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let mut client = DevicePluginClient::new(channel);
        client.get_device_plugin_options(Empty {}).await?;
        let resource = request.resource_name;
        let generation = {
            let mut state = self.state.lock().unwrap();
            state.registrations += 1;
            let plugin = Plugin {
                generation: state.registrations,
                client: client.clone(),
                devices: Vec::new(),
            };
            state.plugins.insert(resource.clone(), plugin);
            state.registrations
        };
        let state = self.state.clone();
        tokio::spawn(async move {
            let Ok(stream) = client.list_and_watch(Empty {}).await else {
                return;
            };
            let mut stream = stream.into_inner();
            // A stream that ended leaves no device behind.
            loop {
                let list = stream.message().await.ok().flatten();
                let ended = list.is_none();
                let mut state = state.lock().unwrap();
                let plugin = state.plugins.get_mut(&resource);
                if let Some(plugin) = plugin.filter(|p| p.generation == generation) {
                    plugin.devices = list.map(|list| list.devices).unwrap_or_default();
                }
                if ended {
                    return;
                }
            }
        });
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Shared {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let state = self.state.lock().unwrap();
        let pods = state.pods.iter().map(|(name, resource, ids)| PodResources {
            name: name.clone(),
            namespace: "default".into(),
            containers: vec![ContainerResources {
                name: "main".into(),
                devices: vec![ContainerDevices {
                    resource_name: resource.clone(),
                    device_ids: ids.clone(),
                }],
            }],
        });
        Ok(Response::new(ListPodResourcesResponse {
            pod_resources: pods.collect(),
        }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let state = self.state.lock().unwrap();
        let devices = state
            .plugins
            .iter()
            .map(|(resource, plugin)| ContainerDevices {
                resource_name: resource.clone(),
                device_ids: plugin
                    .devices
                    .iter()
                    .filter(|d| d.health == cdmo_proto::HEALTHY)
                    .map(|d| d.id.clone())
                    .collect(),
            });
        Ok(Response::new(AllocatableResourcesResponse {
            devices: devices.collect(),
        }))
    }
}
