//! The kubelet as a client of device plugins: one connection per registration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cdmo_proto::deviceplugin as api;
use cdmo_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::devices::{EndpointId, Ids};

/// How long a connection to a plugin, and its first answer, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One registered plugin.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    client: DevicePluginClient<Channel>,
    /// Ends the connection.
    pub(super) closed: CancellationToken,
}

/// The kubelet's connections by number. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Plugins {
    known: Arc<Mutex<HashMap<EndpointId, Plugin>>>,
}

impl Plugins {
    pub(super) fn insert(&self, id: EndpointId, plugin: Plugin) {
        self.locked().insert(id, plugin);
    }

    pub(super) fn close(&self, id: EndpointId) {
        if let Some(plugin) = self.locked().remove(&id) {
            plugin.closed.cancel();
        }
    }

    pub(super) fn get(&self, id: EndpointId) -> Result<Plugin, Status> {
        let plugin = self.locked().get(&id).cloned();
        plugin.ok_or_else(|| Status::unavailable("the connection to the device plugin is closed"))
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<EndpointId, Plugin>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugin {
    /// Connects to a plugin's socket and asks for its options.
    pub(super) async fn connect(
        socket: &Path,
        closed: CancellationToken,
    ) -> Result<(Self, api::DevicePluginOptions), Status> {
        let path: PathBuf = socket.to_owned();
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The authority of this address goes onto the wire; servers refuse a socket path there.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
        let connect = async {
            let channel = endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|error| Status::unavailable(format!("{}: {error}", socket.display())))?;
            let mut client = DevicePluginClient::new(channel);
            let options = client
                .get_device_plugin_options(api::Empty {})
                .await?
                .into_inner();
            Ok((Self { client, closed }, options))
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(
                    "the device plugin did not answer",
                ))
            })
    }

    pub(super) async fn list_and_watch(
        &self,
    ) -> Result<tonic::Streaming<api::ListAndWatchResponse>, Status> {
        Ok(self
            .client
            .clone()
            .list_and_watch(api::Empty {})
            .await?
            .into_inner())
    }

    /// Without a time-out, as the kubelet does it: a plugin that does not answer stops all
    /// admission on its node.
    pub(super) async fn allocate(
        &self,
        ids: &Ids,
    ) -> Result<api::ContainerAllocateResponse, Status> {
        let request = api::AllocateRequest {
            container_requests: vec![api::ContainerAllocateRequest {
                devices_ids: ids.iter().cloned().collect(),
            }],
        };
        let mut answers = self.client.clone().allocate(request).await?.into_inner();
        if answers.container_responses.is_empty() {
            return Err(Status::unknown(
                "no containers return in allocation response",
            ));
        }
        Ok(answers.container_responses.swap_remove(0))
    }

    pub(super) async fn preferred(
        &self,
        available: &Ids,
        must_include: &Ids,
        size: usize,
    ) -> Result<Ids, Status> {
        let request = api::PreferredAllocationRequest {
            container_requests: vec![api::ContainerPreferredAllocationRequest {
                available_device_ids: available.iter().cloned().collect(),
                must_include_device_ids: must_include.iter().cloned().collect(),
                allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
            }],
        };
        let answers = self
            .client
            .clone()
            .get_preferred_allocation(request)
            .await?
            .into_inner();
        Ok(answers
            .container_responses
            .into_iter()
            .flat_map(|answer| answer.device_ids)
            .collect())
    }

    pub(super) async fn pre_start(&self, ids: &Ids, limit: Duration) -> Result<(), Status> {
        let request = api::PreStartContainerRequest {
            devices_ids: ids.iter().cloned().collect(),
        };
        let mut client = self.client.clone();
        match tokio::time::timeout(limit, client.pre_start_container(request)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        }
    }
}

/// An RPC's error as Go prints it.
pub(super) fn go_text(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}
