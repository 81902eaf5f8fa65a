//! A device plugin for tests: does what it is told, and remembers what it was asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use cdmo_proto::deviceplugin as api;
use cdmo_proto::deviceplugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use cdmo_proto::deviceplugin::registration_client::RegistrationClient;
use cdmo_proto::podresources as pr;
use cdmo_proto::podresources::pod_resources_lister_client::PodResourcesListerClient;
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::service_fn;

pub(crate) const RESOURCE: &str = "example.com/device";

type Devices = Vec<(String, bool)>;

#[derive(Debug)]
struct Shared {
    devices: watch::Sender<Devices>,
    /// While false, neither `GetPreferredAllocation` nor `Allocate` answers.
    answers: watch::Sender<bool>,
    refuses: watch::Sender<bool>,
    prefers: bool,
    /// Devices that it was asked for its preference among.
    asked: watch::Sender<Vec<Vec<String>>>,
    allocated: watch::Sender<Vec<Vec<String>>>,
    prepared: watch::Sender<Vec<Vec<String>>>,
    /// What is done in the middle of `Allocate`.
    meanwhile: Mutex<Option<Devices>>,
}

/// A plugin that serves; dropping it ends it.
pub(crate) struct ToyPlugin {
    shared: Arc<Shared>,
    socket: PathBuf,
    ended: CancellationToken,
}

impl Drop for ToyPlugin {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

pub(crate) fn healthy(ids: &[&str]) -> Devices {
    ids.iter().map(|id| ((*id).to_owned(), true)).collect()
}

impl ToyPlugin {
    /// Serves on a socket of this name in the kubelet's directory, and registers.
    pub(crate) async fn start(directory: &Path, name: &str, devices: Devices) -> Self {
        Self::start_with(directory, name, devices, false).await
    }

    /// Such a plugin that may want to be asked which devices it prefers.
    pub(crate) async fn start_with(
        directory: &Path,
        name: &str,
        devices: Devices,
        prefers: bool,
    ) -> Self {
        let plugin = Self {
            shared: Arc::new(Shared {
                devices: watch::Sender::new(devices),
                answers: watch::Sender::new(true),
                refuses: watch::Sender::new(false),
                prefers,
                asked: watch::Sender::default(),
                allocated: watch::Sender::default(),
                prepared: watch::Sender::default(),
                meanwhile: Mutex::default(),
            }),
            socket: directory.join(name),
            ended: CancellationToken::new(),
        };
        plugin.serve();
        plugin.register().await.unwrap();
        plugin
    }

    /// Makes the socket anew, as after the kubelet removed it.
    pub(crate) fn serve(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let service = DevicePluginServer::new(Service {
            shared: self.shared.clone(),
            ended: self.ended.clone(),
        });
        let served = Server::builder().serve_with_incoming_shutdown(
            service,
            UnixListenerStream::new(listener),
            self.ended.clone().cancelled_owned(),
        );
        tokio::spawn(served);
    }

    pub(crate) async fn register(&self) -> Result<(), Status> {
        let kubelet = self.socket.with_file_name("kubelet.sock");
        let request = api::RegisterRequest {
            version: "v1beta1".to_owned(),
            endpoint: self
                .socket
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            resource_name: RESOURCE.to_owned(),
            options: None,
        };
        let mut client = RegistrationClient::new(channel(kubelet).await);
        client.register(request).await.map(drop)
    }

    pub(crate) fn send(&self, devices: Devices) {
        self.shared.devices.send_replace(devices);
    }

    pub(crate) fn answer(&self, answers: bool) {
        self.shared.answers.send_replace(answers);
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.send_replace(refuses);
    }

    /// The next `Allocate` sends this list before it answers, and waits until the kubelet has it.
    pub(crate) fn send_during_allocate(&self, devices: Devices) {
        *self.shared.meanwhile.lock().unwrap() = Some(devices);
    }

    pub(crate) fn asked(&self) -> watch::Receiver<Vec<Vec<String>>> {
        self.shared.asked.subscribe()
    }

    pub(crate) fn allocated(&self) -> watch::Receiver<Vec<Vec<String>>> {
        self.shared.allocated.subscribe()
    }

    pub(crate) fn prepared(&self) -> watch::Receiver<Vec<Vec<String>>> {
        self.shared.prepared.subscribe()
    }
}

struct Service {
    shared: Arc<Shared>,
    ended: CancellationToken,
}

impl Service {
    /// Waits until it is to answer.
    async fn answers(&self) {
        let mut answers = self.shared.answers.subscribe();
        answers.wait_for(|answers| *answers).await.unwrap();
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        Ok(Response::new(api::DevicePluginOptions {
            pre_start_required: true,
            get_preferred_allocation_available: self.shared.prefers,
        }))
    }

    async fn list_and_watch(
        &self,
        request: Request<api::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        // Kubelets must not send their socket's path here.
        let authority = request.metadata().get("host").is_none();
        assert!(authority, "the authority belongs into the pseudo header");
        let lists = WatchStream::new(self.shared.devices.subscribe()).map(|devices| {
            let device = |(id, healthy): (String, bool)| api::Device {
                id,
                health: if healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
                topology: None,
            };
            Ok(api::ListAndWatchResponse {
                devices: devices.into_iter().map(device).collect(),
            })
        });
        let ended = self.ended.clone().cancelled_owned();
        Ok(Response::new(Box::pin(lists.take_until(ended))))
    }

    /// The first ones.
    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let asked = request.into_inner().container_requests.swap_remove(0);
        let mut device_ids = asked.available_device_ids;
        self.shared
            .asked
            .send_modify(|all| all.push(device_ids.clone()));
        self.answers().await;
        device_ids.truncate(usize::try_from(asked.allocation_size).unwrap());
        Ok(Response::new(api::PreferredAllocationResponse {
            container_responses: vec![api::ContainerPreferredAllocationResponse { device_ids }],
        }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let ids = request
            .into_inner()
            .container_requests
            .swap_remove(0)
            .devices_ids;
        self.shared
            .allocated
            .send_modify(|all| all.push(ids.clone()));
        let meanwhile = self.shared.meanwhile.lock().unwrap().take();
        if let Some(devices) = meanwhile {
            self.shared.devices.send_replace(devices);
            // The list goes first, over the same connection; the kubelet reads it first.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        self.answers().await;
        if *self.shared.refuses.borrow() {
            return Err(Status::failed_precondition("fenced"));
        }
        let envs = HashMap::from([("DEVICES".to_owned(), ids.join(","))]);
        let answer = api::ContainerAllocateResponse {
            envs,
            ..Default::default()
        };
        Ok(Response::new(api::AllocateResponse {
            container_responses: vec![answer],
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids;
        self.shared.prepared.send_modify(|all| all.push(ids));
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

async fn channel(socket: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

pub(crate) async fn pod_resources(directory: &Path) -> PodResourcesListerClient<Channel> {
    PodResourcesListerClient::new(channel(directory.join("kubelet.sock")).await)
}

/// Pod, container and devices of all entries with devices, in order.
pub(crate) async fn listed(directory: &Path) -> Vec<(String, String, Vec<String>)> {
    let mut client = pod_resources(directory).await;
    let list = client
        .list(pr::ListPodResourcesRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut all = Vec::new();
    for pod in list.pod_resources {
        for container in pod.containers {
            let devices: Vec<String> = container
                .devices
                .into_iter()
                .flat_map(|d| d.device_ids)
                .collect();
            all.push((pod.name.clone(), container.name, devices));
        }
    }
    all.sort();
    all
}
