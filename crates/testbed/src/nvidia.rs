//! A stand-in for NVIDIA's GPU operator and its device plugin, as far as a node's labels and the kubelet's
//! sockets go: what the system must live beside.
//!
//! The operator labels nodes that have GPUs unless they are labelled already, and runs the plugin where its
//! label says "true". The plugin looks at the GPUs once, when it starts, and serves them in the way of
//! `mig.strategy=mixed`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use cdmo_proto::deviceplugin as api;
use cdmo_proto::deviceplugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use cdmo_proto::deviceplugin::registration_client::RegistrationClient;
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use simcluster::cluster::Node;
use simcluster::store::{Kind, Store, object};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::service_fn;

use crate::driver::{Driver, HostState, device_id};
use crate::names;

/// The operator's label for its device plugin.
pub const PLUGIN_LABEL: &str = "nvidia.com/gpu.deploy.device-plugin";
/// The operator's label for its MIG manager.
pub const MANAGER_LABEL: &str = "nvidia.com/gpu.deploy.mig-manager";
const PRESENT_LABEL: &str = "nvidia.com/gpu.present";

/// The operator at work. Dropping it ends it and its plugins.
#[derive(Debug)]
pub struct Operator {
    stop: CancellationToken,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Operator {
    /// Starts it for these nodes.
    pub fn start(store: Store, nodes: Vec<(Node, Arc<Driver>)>) -> Self {
        let stop = CancellationToken::new();
        let work = run(store, nodes, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(work));
        Self { stop }
    }
}

async fn run(store: Store, nodes: Vec<(Node, Arc<Driver>)>, stop: CancellationToken) {
    let mut plugins: HashMap<String, Plugin> = HashMap::new();
    loop {
        let (_, mut changes) = store.list_and_watch(Kind::Node);
        loop {
            for (node, driver) in &nodes {
                look_after(&store, node, driver, &mut plugins, &stop).await;
            }
            if changes.next().await.is_err() {
                break;
            }
        }
    }
}

async fn look_after(
    store: &Store,
    node: &Node,
    driver: &Driver,
    plugins: &mut HashMap<String, Plugin>,
    stop: &CancellationToken,
) {
    let Some(object) = store.get(Kind::Node, "", node.name()) else {
        return;
    };
    let label = |name: &str| object["metadata"]["labels"][name].as_str();
    if label(PRESENT_LABEL) != Some("true") {
        return;
    }
    for missing in [PLUGIN_LABEL, MANAGER_LABEL] {
        if label(missing).is_none() {
            let set = |node: &mut Value| node["metadata"]["labels"][missing] = "true".into();
            if let Err(error) = store.modify(Kind::Node, "", node.name(), set) {
                tracing::warn!(%error, "The operator cannot label a node");
            }
        }
    }
    let wanted = label(PLUGIN_LABEL) == Some("true");
    if !wanted {
        if let Some(plugin) = plugins.remove(node.name()) {
            plugin.end().await;
        }
    } else if !plugins.contains_key(node.name()) {
        let directory = node.kubelet_paths().plugins.clone();
        match driver.state() {
            Ok(state) => {
                let plugin = Plugin::start(&directory, &state, stop.child_token()).await;
                plugins.insert(object::name(&object).to_owned(), plugin);
            }
            Err(error) => tracing::warn!(%error, "NVIDIA's plugin cannot read the driver"),
        }
    }
}

/// NVIDIA's device plugin on one node: one socket for each resource that has devices.
#[derive(Debug)]
struct Plugin {
    ended: CancellationToken,
    tasks: TaskTracker,
    sockets: Vec<PathBuf>,
}

impl Plugin {
    async fn start(directory: &Path, state: &HostState, ended: CancellationToken) -> Self {
        let mut plugin = Self {
            ended,
            tasks: TaskTracker::new(),
            sockets: Vec::new(),
        };
        for (resource, ids) in resources(state) {
            if let Err(error) = plugin.serve(directory, &resource, ids).await {
                tracing::warn!(%error, resource, "NVIDIA's plugin cannot serve");
            }
        }
        plugin
    }

    async fn serve(
        &mut self,
        directory: &Path,
        resource: &str,
        ids: Vec<String>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let name = resource.rsplit('/').next().unwrap_or(resource);
        let endpoint = format!("nvidia-{name}.sock");
        let socket = directory.join(&endpoint);
        let listener = UnixListener::bind(&socket)?;
        self.sockets.push(socket);
        let service = DevicePluginServer::new(Service {
            ids,
            ended: self.ended.clone(),
        });
        self.tasks
            .spawn(Server::builder().serve_with_incoming_shutdown(
                service,
                UnixListenerStream::new(listener),
                self.ended.clone().cancelled_owned(),
            ));
        let request = api::RegisterRequest {
            version: "v1beta1".to_owned(),
            endpoint,
            resource_name: resource.to_owned(),
            options: None,
        };
        let mut client = RegistrationClient::new(channel(directory.join("kubelet.sock")).await?);
        client.register(request).await?;
        Ok(())
    }

    async fn end(self) {
        for socket in &self.sockets {
            // The kubelet may have been faster.
            let _ = std::fs::remove_file(socket);
        }
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Devices by resource: GPUs without MIG whole, instances by profile.
fn resources(state: &HostState) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for gpu in &state.gpus {
        if !gpu.mig_mode {
            let whole = all.entry(mig::GPU_RESOURCE.to_owned()).or_default();
            whole.push(gpu.uuid.clone());
        }
        for instance in &gpu.instances {
            let resource = names::of_instance(gpu, instance).into_iter().next();
            if let (Some(resource), Some(id)) = (resource, device_id(instance)) {
                all.entry(resource).or_default().push(id.to_owned());
            }
        }
    }
    all
}

#[derive(Debug)]
struct Service {
    ids: Vec<String>,
    ended: CancellationToken,
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        Ok(Response::new(api::DevicePluginOptions::default()))
    }

    async fn list_and_watch(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let device = |id: &String| api::Device {
            id: id.clone(),
            health: cdmo_proto::HEALTHY.to_owned(),
            topology: None,
        };
        let list = api::ListAndWatchResponse {
            devices: self.ids.iter().map(device).collect(),
        };
        let once = futures::stream::once(std::future::ready(Ok(list)));
        let ended = self.ended.clone().cancelled_owned();
        let stream = once.chain(futures::stream::pending()).take_until(ended);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("not offered"))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let answers = request.into_inner().container_requests;
        let answer = |wanted: api::ContainerAllocateRequest| {
            let visible = wanted.devices_ids.join(",");
            api::ContainerAllocateResponse {
                envs: HashMap::from([("NVIDIA_VISIBLE_DEVICES".to_owned(), visible)]),
                ..api::ContainerAllocateResponse::default()
            }
        };
        Ok(Response::new(api::AllocateResponse {
            container_responses: answers.into_iter().map(answer).collect(),
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

async fn channel(socket: PathBuf) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
}
