//! The kubelet's registration server, and the reader of each registered plugin's list.

use cdmo_proto::deviceplugin as api;
use cdmo_proto::deviceplugin::registration_server::Registration;
use tonic::{Request, Response, Status};

use crate::resources::is_extended;

use super::Kubelet;
use super::devices::{EndpointId, PluginOptions};
use super::plugin::Plugin;

#[tonic::async_trait]
impl Registration for Kubelet {
    async fn register(
        &self,
        request: Request<api::RegisterRequest>,
    ) -> Result<Response<api::Empty>, Status> {
        let request = request.into_inner();
        if request.version != cdmo_proto::DEVICE_PLUGIN_VERSION {
            return Err(Status::invalid_argument(format!(
                "requested API version {:?} is not supported by kubelet. Supported versions are \
                 [\"v1beta1\"]",
                request.version
            )));
        }
        if !is_extended(&request.resource_name) {
            return Err(Status::invalid_argument(format!(
                "the ResourceName {:?} is invalid",
                request.resource_name
            )));
        }
        if request.endpoint.contains('/') {
            return Err(Status::invalid_argument(
                "the endpoint is a file name, not a path",
            ));
        }
        let kubelet = self.clone();
        // 1.20 connects after it has answered, later kubelets before.
        if self.behaviour().checks_held_devices() {
            kubelet.connect(request).await?;
        } else {
            let connect = async move {
                if let Err(status) = kubelet.connect(request).await {
                    tracing::debug!(%status, "Failed to connect to a device plugin");
                }
            };
            self.spawn(connect);
        }
        Ok(Response::new(api::Empty {}))
    }
}

impl Kubelet {
    async fn connect(&self, request: api::RegisterRequest) -> Result<(), Status> {
        let socket = self.paths().plugins.join(&request.endpoint);
        let closed = self.token().child_token();
        let (plugin, options) = Plugin::connect(&socket, closed).await?;
        let options = PluginOptions {
            pre_start: options.pre_start_required,
            preferred: options.get_preferred_allocation_available,
        };
        let resource = request.resource_name;
        let id = self.devices().connected(&resource, options);
        self.plugins().insert(id, plugin.clone());
        let kubelet = self.clone();
        self.spawn(async move {
            let closed = plugin.closed.clone();
            let end = closed
                .run_until_cancelled(kubelet.follow(&plugin, &resource))
                .await;
            // A connection that the kubelet itself closed was forgotten before.
            if end.is_some() {
                kubelet.stream_ended(&resource, id);
            }
        });
        Ok(())
    }

    async fn follow(&self, plugin: &Plugin, resource: &str) {
        let ended = async {
            let mut lists = plugin.list_and_watch().await?;
            while let Some(list) = lists.message().await? {
                let devices = list.devices.into_iter();
                let device = |d: api::Device| (d.id, d.health == cdmo_proto::HEALTHY);
                self.devices().listed(resource, devices.map(device));
                self.checkpoint();
            }
            Ok::<(), Status>(())
        };
        if let Err(status) = ended.await {
            tracing::debug!(resource, %status, "A device plugin's list ended");
        }
    }

    fn stream_ended(&self, resource: &str, id: EndpointId) {
        let now = self.now();
        let victim = self.devices().disconnected(resource, id, now);
        self.plugins().close(id);
        if let Some(victim) = victim {
            self.plugins().close(victim);
        }
    }
}
