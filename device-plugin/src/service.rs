//! The calls that the kubelet makes to one endpoint.

use std::pin::Pin;
use std::sync::Arc;

use cdmo_proto::deviceplugin::device_plugin_server::DevicePlugin;
use cdmo_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationResponse, Device,
    DevicePluginOptions, Empty, ListAndWatchResponse, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse,
};
use cdmo_proto::{HEALTHY, UNHEALTHY};
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::answer::answer;
use crate::contest;
use crate::device::{Grant, GrantError, List};
use crate::journal::{JournalError, Line};
use crate::kubelet;
use crate::prefer::prefer;
use crate::shared::Shared;

/// One endpoint's service.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) resource: Arc<str>,
    pub(crate) lists: watch::Receiver<List>,
    /// Changes when the open streams have to end.
    pub(crate) close: watch::Receiver<()>,
    /// How many streams are open.
    pub(crate) open: watch::Sender<usize>,
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(kubelet::options()))
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Ok(Response::new(Box::pin(stream::unfold(
            Reader::new(self),
            Reader::next,
        ))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        self.shared.pod_resources.quiet().begin().await;
        let wanted = request.into_inner().container_requests;
        let container_responses = self.shared.change(|table| {
            for wanted in &wanted {
                let must = &wanted.must_include_device_ids;
                let free = wanted.available_device_ids.iter();
                table.named_as_free(&self.resource, free.filter(|id| !must.contains(id)));
            }
            let candidates = table.candidates(&self.resource);
            let preferred = wanted.iter().map(|wanted| {
                let size = usize::try_from(wanted.allocation_size).unwrap_or(0);
                let must = &wanted.must_include_device_ids;
                prefer(&candidates, &wanted.available_device_ids, must, size)
            });
            preferred
                .map(|device_ids| ContainerPreferredAllocationResponse { device_ids })
                .collect()
        });
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let shared = Arc::clone(&self.shared);
        let resource = Arc::clone(&self.resource);
        // A task of its own: a kubelet that hangs up must not leave a grant half written.
        let work = async move {
            let request = request.into_inner();
            let containers = request.container_requests.iter();
            let containers: Vec<_> = containers.map(|c| c.devices_ids.clone()).collect();
            let quiet = shared.pod_resources.quiet();
            let _in_hand = quiet.allocates(&resource, &containers);
            grant(&shared, &resource, request).await
        };
        let answer = self.shared.tasks.spawn(work).await;
        let answer = answer.map_err(|_| Status::internal("the grant was interrupted"))??;
        Ok(Response::new(answer))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids;
        self.shared.pod_resources.quiet().starts(&ids);
        contest::start(&self.shared, &self.resource, &ids)
            .await
            .map_err(|error| refuse(&self.resource, &error))?;
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

/// Begins the grant, writes it down, answers.
async fn grant(
    shared: &Shared,
    resource: &str,
    request: AllocateRequest,
) -> Result<AllocateResponse, Status> {
    let containers = request.container_requests;
    if containers
        .iter()
        .any(|container| container.devices_ids.is_empty())
    {
        return Err(refuse(resource, &GrantError::Nothing));
    }
    let ids: Vec<String> = containers
        .iter()
        .flat_map(|container| &container.devices_ids)
        .cloned()
        .collect();
    let (grant, devices) = begin(shared, resource, &ids)
        .await
        .map_err(|error| refuse(resource, &error))?;

    let line = Line::Grant {
        resource: resource.to_owned(),
        ids: ids.clone(),
    };
    if let Err(error) = shared.journal.write(line).await {
        shared.change(|table| match error {
            // It may be written yet, so the hold has to end as any other.
            JournalError::Late(_) => table.commit_grant(&grant, Instant::now()),
            JournalError::Busy(_) | JournalError::Failed(_) => table.abort_grant(&grant),
        });
        shared.list_wanted.notify_one();
        tracing::error!(%error, resource, ?ids, "Failed to write a grant to the journal");
        return Err(Status::internal(format!(
            "failed to grant {resource} {}: the node agent cannot write its journal: {error}",
            ids.join(", ")
        )));
    }
    shared.change(|table| table.commit_grant(&grant, Instant::now()));
    shared.list_wanted.notify_one();
    tracing::info!(resource, ?ids, "Granted");

    let config = &shared.config;
    let mut devices = devices.as_slice();
    let container_responses = containers
        .iter()
        .map(|container| {
            let (own, rest) = devices.split_at(container.devices_ids.len().min(devices.len()));
            devices = rest;
            answer(own, &config.strategies, config.pass_device_specs)
        })
        .collect();
    Ok(AllocateResponse {
        container_responses,
    })
}

/// Begins the grant as soon as the kubelet is seen to know the devices. It has chosen them, so that is
/// a matter of the next look; it waits for the answer without a limit of its own.
async fn begin(
    shared: &Shared,
    resource: &str,
    ids: &[String],
) -> Result<(Grant, Vec<crate::Device>), GrantError> {
    let _waiting = shared.wait();
    let mut changes = shared.progress();
    let over = tokio::time::sleep(shared.config.timing.grant_timeout);
    tokio::pin!(over);
    let mut asked = false;
    loop {
        changes.mark_unchanged();
        if !shared.read(|table| table.grant_may_pass_later(resource, ids)) {
            break;
        }
        if !std::mem::replace(&mut asked, true) {
            // Once: every wish begins the doubling of the pauses anew.
            shared.allocatable_wanted.notify_one();
        }
        tokio::select! {
            () = &mut over => break,
            _ = changes.changed() => {}
        }
    }
    shared.change(|table| table.begin_grant(resource, ids, Instant::now()))
}

fn refuse(resource: &str, error: &GrantError) -> Status {
    tracing::warn!(%error, resource, "Refused a container");
    let message = format!("failed to give out {resource}: {error}");
    match error {
        GrantError::Nothing | GrantError::Twice { .. } => Status::invalid_argument(message),
        GrantError::Unknown { .. } => Status::not_found(message),
        GrantError::Fenced { .. }
        | GrantError::Lost { .. }
        | GrantError::Sick { .. }
        | GrantError::Elsewhere { .. }
        | GrantError::Unconfirmed { .. }
        | GrantError::NotGranted { .. }
        | GrantError::Overtaken { .. }
        | GrantError::Unclear { .. }
        | GrantError::Contested { .. } => Status::failed_precondition(message),
    }
}

/// One open stream of the kubelet.
struct Reader {
    shared: Arc<Shared>,
    resource: Arc<str>,
    serial: u64,
    lists: watch::Receiver<List>,
    close: watch::Receiver<()>,
    open: watch::Sender<usize>,
}

impl Reader {
    fn new(service: &Service) -> Self {
        let serial = service
            .shared
            .change(|table| table.reader_opened(&service.resource));
        service.open.send_modify(|open| *open += 1);
        let mut lists = service.lists.clone();
        lists.mark_changed();
        let mut close = service.close.clone();
        close.mark_unchanged();
        Self {
            shared: Arc::clone(&service.shared),
            resource: Arc::clone(&service.resource),
            serial,
            lists,
            close,
            open: service.open.clone(),
        }
    }

    /// The next list, as soon as it differs from the last one; the end when told to.
    async fn next(mut self) -> Option<(Result<ListAndWatchResponse, Status>, Self)> {
        tokio::select! {
            biased;
            _ = self.close.changed() => return None,
            changed = self.lists.changed() => changed.ok()?,
        }
        let list = self.lists.borrow_and_update().clone();
        let devices = list.devices.iter().map(|device| Device {
            id: device.id.clone(),
            health: if device.healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
            topology: None,
        });
        let message = ListAndWatchResponse {
            devices: devices.collect(),
        };
        let (resource, serial) = (Arc::clone(&self.resource), self.serial);
        self.shared
            .change(|table| table.delivered(&resource, serial, list.version, Instant::now()));
        self.shared.allocatable_wanted.notify_one();
        Some((Ok(message), self))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared
            .change(|table| table.reader_closed(&self.resource, self.serial));
        self.open.send_modify(|open| *open -= 1);
    }
}
