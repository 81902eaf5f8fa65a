//! A kubelet as far as devices go: it registers plugins, connects back, reads lists, allocates, and
//! answers podresources, over the real sockets. Every knob stands for something that kubelets do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cdmo_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use cdmo_proto::deviceplugin::registration_server::{Registration, RegistrationServer};
use cdmo_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, PreStartContainerRequest,
    PreferredAllocationRequest, RegisterRequest,
};
use cdmo_proto::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use cdmo_proto::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
};
use device_plugin::{Holder, Shown};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// What the kubelet answers to `GetAllocatableResources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocatable {
    Answers,
    /// As before 1.21.
    Unimplemented,
    /// As from 1.21 without the feature gate.
    Disabled,
    /// Too many calls.
    Busy,
}

#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) allocatable: Allocatable,
    /// So many registrations fail first.
    pub(crate) refuse: u32,
    /// Registrations succeed, but no stream is opened.
    pub(crate) ignore: bool,
    /// Lists are received but not taken over.
    pub(crate) frozen: bool,
    /// podresources List is received but not carried out: the node is short of CPU.
    pub(crate) stalled: bool,
}

/// What the kubelet knows of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) endpoint: String,
    pub(crate) connected: bool,
    /// Every id with its health.
    pub(crate) devices: BTreeMap<String, bool>,
    pub(crate) options: Option<DevicePluginOptions>,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) resources: BTreeMap<String, Known>,
    /// Registrations that were asked for, refused ones included, by resource.
    pub(crate) registrations: BTreeMap<String, u32>,
    /// Lists received, whether taken over or not.
    pub(crate) lists: u32,
    /// What podresources List shows.
    pub(crate) shown: Vec<Shown>,
    pub(crate) list_calls: u32,
    /// Pods that are shown until somebody looks.
    ended: BTreeSet<String>,
    /// Resources for which there is a set of devices that are taken.
    books: BTreeSet<String>,
    pub(crate) allocatable_calls: u32,
    /// Streams that are open; more than one for a resource is the race of kubelets from 1.25.
    pub(crate) streams: BTreeMap<String, u32>,
    /// Processes of this kubelet that ended.
    lives: u32,
    pub(crate) overlapped: bool,
}

impl Node {
    /// Frees what pods had that have ended; then, and only then, the books are made anew.
    fn free(&mut self) {
        let shown = self.shown.len();
        let ended = std::mem::take(&mut self.ended);
        self.shown.retain(|one| !ended.contains(&one.holder.pod));
        if self.shown.len() < shown {
            let names = self.shown.iter().map(|one| one.resource.clone());
            self.books = names.collect();
        }
    }
}

#[derive(Clone)]
pub(crate) struct Kubelet {
    dir: PathBuf,
    knobs: watch::Sender<Knobs>,
    node: watch::Sender<Node>,
    /// The process: whatever it has open ends with it.
    process: Arc<Mutex<Option<Runtime>>>,
}

impl Kubelet {
    /// A kubelet below `dir` that does not run yet.
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("device-plugins")).unwrap();
        std::fs::create_dir_all(dir.join("pod-resources")).unwrap();
        let knobs = Knobs {
            allocatable: Allocatable::Answers,
            refuse: 0,
            ignore: false,
            frozen: false,
            stalled: false,
        };
        Self {
            dir: dir.to_owned(),
            knobs: watch::Sender::new(knobs),
            node: watch::Sender::default(),
            process: Arc::default(),
        }
    }

    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.dir.join("device-plugins")
    }

    pub(crate) fn turn(&self, change: impl FnOnce(&mut Knobs)) {
        self.knobs.send_modify(change);
    }

    /// Starts as a kubelet does: every socket in the directory goes first.
    pub(crate) fn start(&self) {
        for file in std::fs::read_dir(self.plugin_dir()).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "sock")
            {
                std::fs::remove_file(path).unwrap();
            }
        }
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        *self.process.lock().unwrap() = Some(process);
        self.start_pod_resources();
        self.serve("device-plugins", |server, incoming, kubelet| {
            server.serve_with_incoming(RegistrationServer::new(kubelet), incoming)
        });
    }

    pub(crate) fn start_pod_resources(&self) {
        self.serve("pod-resources", |server, incoming, kubelet| {
            server.serve_with_incoming(PodResourcesListerServer::new(kubelet), incoming)
        });
    }

    fn serve<F>(&self, dir: &str, serve: impl FnOnce(Server, UnixListenerStream, Self) -> F)
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let process = self.process.lock().unwrap();
        let process = process.as_ref().unwrap();
        let _inside = process.enter();
        let listener = UnixListener::bind(self.dir.join(dir).join("kubelet.sock")).unwrap();
        process.spawn(serve(
            Server::builder(),
            UnixListenerStream::new(listener),
            self.clone(),
        ));
    }

    /// Ends as a kubelet does: its sockets and connections go, what pods hold stays.
    pub(crate) fn stop(&self) {
        if let Some(process) = self.process.lock().unwrap().take() {
            process.shutdown_background();
        }
        for dir in ["device-plugins", "pod-resources"] {
            let _ = std::fs::remove_file(self.dir.join(dir).join("kubelet.sock"));
        }
        self.node.send_modify(|node| {
            node.lives += 1;
            node.resources.clear();
            node.streams.clear();
        });
    }

    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// What is known of the resource.
    pub(crate) fn known(&self, resource: &str) -> Known {
        self.node
            .borrow()
            .resources
            .get(resource)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn node(&self) -> watch::Ref<'_, Node> {
        self.node.borrow()
    }

    /// Every change of the node.
    pub(crate) fn changes(&self) -> watch::Receiver<Node> {
        self.node.subscribe()
    }

    /// List shows from now on that the container has these devices.
    pub(crate) fn show(&self, pod: &str, resource: &str, ids: &[&str]) {
        let shown = Shown {
            holder: holder(pod),
            resource: resource.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        self.node.send_modify(|node| node.shown.push(shown));
    }

    /// List no longer shows the pod.
    pub(crate) fn hide(&self, pod: &str) {
        self.node
            .send_modify(|node| node.shown.retain(|shown| shown.holder.pod != pod));
    }

    /// Forgets the resource's devices although the stream is open, as the race of kubelets from 1.25
    /// does.
    pub(crate) fn lose_devices(&self, resource: &str) {
        self.node.send_modify(|node| {
            node.resources.get_mut(resource).unwrap().devices.clear();
        });
    }

    /// Admits a pod as kubelets before the change of kubernetes#119560 do. While the plugin is asked, another
    /// pod ends, and a List that waits is carried out. The kubelet's panic is an error.
    pub(crate) async fn admit(
        &self,
        pod: &str,
        id: &str,
        resource: &str,
        ends: &str,
    ) -> Result<(), String> {
        self.node.send_modify(|node| {
            node.free();
            node.books.insert(resource.to_owned());
            node.ended.insert(ends.to_owned());
        });
        self.turn(|knobs| knobs.stalled = false);
        self.prefer(resource, &[id], &[], 1).await;
        if !self.node.borrow().books.contains(resource) {
            return Err("panic: assignment to entry in nil map".to_owned());
        }
        let answer = self.allocate(resource, &[&[id]]).await;
        answer.map_err(|status| status.to_string())?;
        self.show(pod, resource, &[id]);
        Ok(())
    }

    /// Allocates to one container per slice of ids.
    pub(crate) async fn allocate(
        &self,
        resource: &str,
        containers: &[&[&str]],
    ) -> Result<AllocateResponse, Status> {
        let container_requests = containers
            .iter()
            .map(|ids| ContainerAllocateRequest {
                devices_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            })
            .collect();
        let mut plugin = self.plugin(resource);
        let answer = plugin
            .allocate(AllocateRequest { container_requests })
            .await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn pre_start(&self, resource: &str, ids: &[&str]) -> Result<(), Status> {
        let devices_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let request = PreStartContainerRequest { devices_ids };
        self.plugin(resource).pre_start_container(request).await?;
        Ok(())
    }

    pub(crate) async fn prefer(
        &self,
        resource: &str,
        available: &[&str],
        must: &[&str],
        size: i32,
    ) -> Vec<String> {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_ids: owned(available),
                must_include_device_ids: owned(must),
                allocation_size: size,
            }],
        };
        let answer = self
            .plugin(resource)
            .get_preferred_allocation(request)
            .await
            .unwrap();
        answer.into_inner().container_responses.remove(0).device_ids
    }

    /// A client of the endpoint that is registered for the resource.
    pub(crate) fn plugin(&self, resource: &str) -> DevicePluginClient<Channel> {
        DevicePluginClient::new(self.channel(resource))
    }

    /// A connection to that endpoint.
    pub(crate) fn channel(&self, resource: &str) -> Channel {
        connect(&self.plugin_dir().join(self.known(resource).endpoint))
    }

    /// Reads one stream until it ends.
    async fn read(&self, resource: String, mut plugin: DevicePluginClient<Channel>) {
        let _open = Open::new(self, &resource);
        let Ok(stream) = plugin.list_and_watch(Empty {}).await else {
            return;
        };
        let mut stream = stream.into_inner();
        let mut knobs = self.knobs.subscribe();
        while let Ok(Some(list)) = stream.message().await {
            self.node.send_modify(|node| node.lists += 1);
            knobs.wait_for(|knobs| !knobs.frozen).await.unwrap();
            self.node.send_modify(|node| {
                let known = node.resources.entry(resource.clone()).or_default();
                known.connected = true;
                known.devices = list
                    .devices
                    .into_iter()
                    .map(|d| (d.id, d.health == "Healthy"))
                    .collect();
            });
        }
    }
}

/// One stream that is being read.
struct Open {
    node: watch::Sender<Node>,
    resource: String,
    life: u32,
}

impl Open {
    fn new(kubelet: &Kubelet, resource: &str) -> Self {
        let mut life = 0;
        kubelet.node.send_modify(|node| {
            let open = node.streams.entry(resource.to_owned()).or_default();
            *open += 1;
            node.overlapped |= *open > 1;
            life = node.lives;
        });
        Self {
            node: kubelet.node.clone(),
            resource: resource.to_owned(),
            life,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.node.send_modify(|node| {
            if node.lives != self.life {
                return;
            }
            *node.streams.entry(self.resource.clone()).or_default() -= 1;
            if let Some(known) = node.resources.get_mut(&self.resource) {
                known.connected = false;
                known
                    .devices
                    .values_mut()
                    .for_each(|healthy| *healthy = false);
            }
        });
    }
}

pub(crate) fn holder(pod: &str) -> Holder {
    Holder {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
    }
}

fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

#[tonic::async_trait]
impl Registration for Kubelet {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let resource = request.resource_name;
        self.node
            .send_modify(|node| *node.registrations.entry(resource.clone()).or_default() += 1);
        if request.version != "v1beta1" {
            return Err(Status::unknown("unsupported device plugin API version"));
        }
        if self.knobs.borrow().refuse > 0 {
            self.turn(|knobs| knobs.refuse -= 1);
            return Err(Status::unknown("not now"));
        }
        // As the kubelet does: back to the plugin before the answer.
        let mut plugin =
            DevicePluginClient::new(connect(&self.plugin_dir().join(&request.endpoint)));
        let options = plugin
            .get_device_plugin_options(Empty {})
            .await?
            .into_inner();
        self.node.send_modify(|node| {
            let known = node.resources.entry(resource.clone()).or_default();
            known.endpoint = request.endpoint;
            known.options = Some(options);
        });
        if !self.knobs.borrow().ignore {
            let kubelet = self.clone();
            tokio::spawn(async move { kubelet.read(resource, plugin).await });
        }
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    async fn list(
        &self,
        _request: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let mut pod_resources = Vec::new();
        self.node.send_modify(|node| node.list_calls += 1);
        let mut knobs = self.knobs.subscribe();
        let carried_out = knobs.wait_for(|knobs| !knobs.stalled).await.map(drop);
        carried_out.map_err(|_| Status::unavailable("the kubelet ended"))?;
        self.node.send_modify(Node::free);
        for shown in &self.node.borrow().shown {
            let devices = ContainerDevices {
                resource_name: shown.resource.clone(),
                device_ids: shown.ids.clone(),
            };
            pod_resources.push(PodResources {
                name: shown.holder.pod.clone(),
                namespace: shown.holder.namespace.clone(),
                containers: vec![ContainerResources {
                    name: shown.holder.container.clone(),
                    devices: vec![devices],
                }],
            });
        }
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _request: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.node.send_modify(|node| node.allocatable_calls += 1);
        match self.knobs.borrow().allocatable {
            Allocatable::Answers => {}
            Allocatable::Unimplemented => return Err(Status::unimplemented("unknown method")),
            Allocatable::Busy => return Err(Status::resource_exhausted("rejected by rate limit")),
            Allocatable::Disabled => {
                return Err(Status::unknown(
                    "Pod Resources API GetAllocatableResources disabled",
                ));
            }
        }
        let node = self.node.borrow();
        let devices = node
            .resources
            .iter()
            .map(|(resource, known)| ContainerDevices {
                resource_name: resource.clone(),
                device_ids: known
                    .devices
                    .iter()
                    .filter(|(_, healthy)| **healthy)
                    .map(|(id, _)| id.clone())
                    .collect(),
            });
        Ok(Response::new(AllocatableResourcesResponse {
            devices: devices.collect(),
        }))
    }
}
