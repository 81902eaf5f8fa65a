//! The kubelet's two sockets, seen as a client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cdmo_proto::DEVICE_PLUGIN_VERSION;
use cdmo_proto::deviceplugin::registration_client::RegistrationClient;
use cdmo_proto::deviceplugin::{DevicePluginOptions, RegisterRequest};
use cdmo_proto::podresources::pod_resources_lister_client::PodResourcesListerClient;
use cdmo_proto::podresources::{AllocatableResourcesRequest, ListPodResourcesRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::service_fn;

use crate::Listing;
use crate::config::Timing;
use crate::device::Tick;
use crate::listing::Allocatable;
use crate::quiet::{Occupied, Quiet};

/// The kubelet's own limit on podresources answers; tonic's is 4 MiB.
const LARGEST_ANSWER: usize = 16 << 20;

/// A call to the kubelet failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("failed to reach the kubelet at {}: {why}", socket.display())]
    Unreachable { socket: PathBuf, why: String },
    #[error("failed to reach the kubelet at {}: no answer within {limit:?}", socket.display())]
    Timeout { socket: PathBuf, limit: Duration },
    #[error("the kubelet at {} answered {code:?}: {message}", socket.display())]
    Refused {
        socket: PathBuf,
        code: Code,
        message: String,
    },
}

impl CallError {
    fn new(socket: &Path, status: &Status) -> Self {
        let socket = socket.to_owned();
        // A connection that cannot be made shows as a status that has a cause.
        match std::error::Error::source(status).map(root_cause) {
            Some(why) => Self::Unreachable { socket, why },
            None => Self::Refused {
                socket,
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }
}

fn root_cause(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A connection made at the first call and again after it broke. The authority is a plain word,
/// because HTTP/2 has no spelling for a socket's path.
fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

async fn limited<T>(
    socket: &Path,
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<Result<T, Status>, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer.map(tonic::Response::into_inner)),
        Err(_) => Err(CallError::Timeout {
            socket: socket.to_owned(),
            limit,
        }),
    }
}

/// Registers the socket `endpoint` of the plugin directory for `resource`. The kubelet connects to it
/// before it answers.
pub(crate) async fn register(
    socket: &Path,
    endpoint: String,
    resource: String,
    limit: Duration,
) -> Result<(), CallError> {
    let mut client = RegistrationClient::new(channel(socket));
    let request = RegisterRequest {
        version: DEVICE_PLUGIN_VERSION.to_owned(),
        endpoint,
        resource_name: resource,
        options: Some(options()),
    };
    let answer = limited(socket, limit, client.register(request)).await?;
    answer
        .map(|_| ())
        .map_err(|status| CallError::new(socket, &status))
}

/// What our endpoints want to be called for.
pub(crate) fn options() -> DevicePluginOptions {
    DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    }
}

/// An answer of List, as several callers get it.
type Listed = Result<Arc<Listing>, CallError>;

/// The kubelet's account of who holds what.
#[derive(Debug)]
pub(crate) struct PodResources {
    socket: PathBuf,
    limit: Duration,
    client: PodResourcesListerClient<Channel>,
    quiet: Quiet,
    lists_begun: AtomicU64,
    /// The number of the List that was answered last, from 1, when it began, and the answer.
    last_list: Mutex<Option<(u64, Tick, Listed)>>,
}

impl PodResources {
    /// Connects when first asked. Must be called within a tokio runtime.
    pub(crate) fn new(socket: PathBuf, timing: Timing) -> Self {
        let client = PodResourcesListerClient::new(channel(&socket))
            .max_decoding_message_size(LARGEST_ANSWER);
        Self {
            socket,
            limit: timing.pod_resources_timeout,
            client,
            quiet: Quiet::new(timing),
            lists_begun: AtomicU64::new(0),
            last_list: Mutex::default(),
        }
    }

    /// To be told of the admissions of pods.
    pub(crate) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// Who holds what, asked for after this was called and while no pod is being admitted; and what the
    /// clock said when it was asked for. A look that waited for an admission may thus tell of it.
    pub(crate) async fn list(&self, clock: impl FnOnce() -> Tick) -> (Tick, Listed) {
        let begun = self.lists_begun.load(Ordering::SeqCst);
        let _leave = self.quiet.leave_to_list().await;
        self.list_after(begun, clock).await
    }

    /// A sign of life that is younger than this call, without List in the middle of an admission; none if
    /// the kubelet is busy. Who calls Allocate and waits for the answer is as alive as who answers.
    pub(crate) async fn round_trip(&self, clock: impl FnOnce() -> Tick) -> Result<bool, CallError> {
        let _leave = match self.quiet.try_leave_to_list() {
            Occupied::Idle(leave) => leave,
            Occupied::Waiting => return Ok(true),
            Occupied::Busy => return Ok(false),
        };
        let begun = self.lists_begun.load(Ordering::SeqCst);
        self.list_after(begun, clock).await.1.map(|_| true)
    }

    /// The answer of a call that began after that many. Whoever comes while a call is under way
    /// shares the next one: the kubelet refuses the eleventh of many calls at once, and a dozen
    /// devices may be given up at the same time.
    async fn list_after(&self, begun: u64, clock: impl FnOnce() -> Tick) -> (Tick, Listed) {
        let mut last = self.last_list.lock().await;
        if let Some((number, tick, answer)) = &*last
            && *number > begun
        {
            return (*tick, answer.clone());
        }
        let number = self.lists_begun.fetch_add(1, Ordering::SeqCst) + 1;
        let tick = clock();
        let answer = self.call_list().await.map(Arc::new);
        *last = Some((number, tick, answer.clone()));
        (tick, answer)
    }

    async fn call_list(&self) -> Result<Listing, CallError> {
        let mut client = self.client.clone();
        let call = client.list(ListPodResourcesRequest {});
        let answer = limited(&self.socket, self.limit, call).await?;
        answer
            .map(Listing::from)
            .map_err(|status| CallError::new(&self.socket, &status))
    }

    /// The devices that the kubelet would give out; `None` from a kubelet that cannot say, which is
    /// one before 1.21, and before 1.23 one without the feature gate.
    pub(crate) async fn allocatable(&self) -> Result<Option<Allocatable>, CallError> {
        let mut client = self.client.clone();
        let call = client.get_allocatable_resources(AllocatableResourcesRequest {});
        match limited(&self.socket, self.limit, call).await? {
            Ok(answer) => Ok(Some(answer.into())),
            Err(status) if cannot_say(&status) => Ok(None),
            Err(status) => Err(CallError::new(&self.socket, &status)),
        }
    }
}

fn cannot_say(status: &Status) -> bool {
    status.code() == Code::Unimplemented
        || (status.code() == Code::Unknown && status.message().contains("disabled"))
}
