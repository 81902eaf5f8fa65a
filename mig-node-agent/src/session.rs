//! The gRPC service: one live session with the controller of the highest epoch.
//!
//! A session is admitted in three steps: the agent says which epoch it obeys, the controller says
//! its own, the agent writes that down. Only then does it count, and whoever had the place before
//! is told so and hung up on.

mod admission;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use cdmo_proto::agent as api;
use cdmo_proto::agent::agent_server::{Agent, AgentServer};
use cdmo_proto::agent::controller_message::Message;
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::journal::{Journal, Record};
use crate::metrics::Metrics;
use admission::{Admission, Place};
use stream::Outgoing;

/// A controller that says nothing for so long after connecting is not one.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Largest message taken: a pod table of thousands of pods is far below.
const LARGEST: usize = 4 << 20;
/// Progress reports that may wait for a slow controller.
const PROGRESS_QUEUE: usize = 256;

/// What a session tells the node.
#[derive(Debug)]
pub enum SessionEvent {
    /// A controller is in charge; progress goes there.
    Opened(u64, mpsc::Sender<api::PlanProgress>),
    /// The controller of that session said this.
    Said(u64, Message),
    /// The session is over.
    Closed(u64),
}

/// The service. One per agent.
#[derive(Clone, Debug)]
pub struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    admission: Admission,
    journal: Journal,
    boot_id: String,
    events: mpsc::Sender<SessionEvent>,
    snapshots: watch::Receiver<Arc<api::Snapshot>>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Sessions {
    /// A service that obeys no epoch below `epoch`.
    pub fn new(
        epoch: u64,
        boot_id: String,
        journal: Journal,
        events: mpsc::Sender<SessionEvent>,
        snapshots: watch::Receiver<Arc<api::Snapshot>>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        let inner = Inner {
            admission: Admission::new(epoch),
            journal,
            boot_id,
            events,
            snapshots,
            metrics,
            shutdown,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The tower service for tonic's server.
    pub fn service(&self) -> AgentServer<Self> {
        AgentServer::new(self.clone()).max_decoding_message_size(LARGEST)
    }
}

#[tonic::async_trait]
impl Agent for Sessions {
    type SessionStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<api::AgentMessage, Status>> + Send + 'static>>;

    async fn session(
        &self,
        request: Request<Streaming<api::ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request
            .extensions()
            .get::<mtls::PeerInfo>()
            .map_or_else(String::new, |peer| peer.address.clone());
        let (out, stream) = Outgoing::new();
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let result = inner.run(request.into_inner(), &out, &peer).await;
            let end = match &result {
                Ok(()) => "closed",
                Err(status) => end_word(status),
            };
            inner.metrics.sessions.with_label_values(&[end]).inc();
            if let Err(status) = result {
                tracing::info!(%peer, why = status.message(), "A controller's session ended");
                out.end(status).await;
            } else {
                tracing::info!(%peer, "A controller hung up");
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Inner {
    async fn run(
        &self,
        mut incoming: Streaming<api::ControllerMessage>,
        out: &Outgoing,
        peer: &str,
    ) -> Result<(), Status> {
        out.hello(api::AgentHello {
            highest_epoch: self.admission.epoch(),
            boot_id: self.boot_id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        })
        .await?;
        let hello = tokio::select! {
            hello = tokio::time::timeout(HELLO_PATIENCE, first(&mut incoming)) => {
                hello.map_err(|_| Status::deadline_exceeded("no Hello came"))??
            }
            () = self.shutdown.cancelled() => return Err(ending()),
        };
        out.greeted(&hello);
        let place = self.admit(&hello).await?;
        tracing::info!(
            %peer,
            controller = hello.controller,
            epoch = hello.epoch,
            "Obeying a controller"
        );
        let (progress, reports) = mpsc::channel(PROGRESS_QUEUE);
        self.tell(SessionEvent::Opened(place.id, progress)).await?;
        let result = self.converse(&place, &mut incoming, out, reports).await;
        // The node may be gone already when the agent ends.
        let _ = self.events.send(SessionEvent::Closed(place.id)).await;
        result
    }

    /// Takes the place, and writes the epoch down before anything is obeyed.
    async fn admit(&self, hello: &api::ControllerHello) -> Result<Place, Status> {
        let place = self.admission.take(hello.epoch).await.map_err(|obeyed| {
            Status::failed_precondition(format!(
                "epoch {} is below {obeyed}, which this agent obeys; another controller is in charge",
                hello.epoch
            ))
        })?;
        if place.is_new_epoch {
            let epoch = Record::Epoch { epoch: hello.epoch };
            self.journal.write(vec![epoch]).await.map_err(|error| {
                Status::unavailable(format!("the epoch cannot be kept: {error}"))
            })?;
            place.written();
        }
        Ok(place)
    }

    async fn converse(
        &self,
        place: &Place,
        incoming: &mut Streaming<api::ControllerMessage>,
        out: &Outgoing,
        mut reports: mpsc::Receiver<api::PlanProgress>,
    ) -> Result<(), Status> {
        let mut snapshots = self.snapshots.clone();
        snapshots.mark_changed();
        let speak = async {
            loop {
                tokio::select! {
                    biased;
                    report = reports.recv() => {
                        let Some(report) = report else {
                            return Err(Status::resource_exhausted("the controller is too slow"));
                        };
                        // What a report speaks of must be known before it.
                        if snapshots.has_changed().map_err(|_| ending())? {
                            out.snapshot(&mut snapshots).await?;
                        }
                        out.progress(report).await?;
                    }
                    changed = snapshots.changed() => {
                        changed.map_err(|_| ending())?;
                        out.snapshot(&mut snapshots).await?;
                    }
                }
            }
        };
        let listen = async {
            while let Some(message) = incoming.message().await? {
                match message.message {
                    Some(Message::Hello(_)) => {
                        return Err(Status::invalid_argument("a second Hello"));
                    }
                    Some(message) => self.tell(SessionEvent::Said(place.id, message)).await?,
                    // A newer controller may say what this agent does not know.
                    None => tracing::debug!("Skipping a message of an unknown kind"),
                }
            }
            Ok(())
        };
        tokio::select! {
            result = listen => result,
            result = speak => result,
            () = place.lost() => Err(Status::aborted("another controller's session took over")),
            () = self.shutdown.cancelled() => Err(ending()),
        }
    }

    async fn tell(&self, event: SessionEvent) -> Result<(), Status> {
        self.events.send(event).await.map_err(|_| ending())
    }
}

async fn first(
    incoming: &mut Streaming<api::ControllerMessage>,
) -> Result<api::ControllerHello, Status> {
    let first = incoming.message().await?;
    match first.and_then(|message| message.message) {
        Some(Message::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("a session begins with Hello")),
    }
}

fn ending() -> Status {
    Status::unavailable("the agent is ending")
}

/// A bounded word for why a session ended.
fn end_word(status: &Status) -> &'static str {
    match status.code() {
        tonic::Code::FailedPrecondition => "low_epoch",
        tonic::Code::Aborted => "taken_over",
        tonic::Code::Unavailable => "unavailable",
        tonic::Code::DeadlineExceeded => "silent",
        tonic::Code::ResourceExhausted => "slow",
        tonic::Code::Cancelled | tonic::Code::Unknown => "broken",
        tonic::Code::InvalidArgument | tonic::Code::Internal => "garbled",
        _ => "other",
    }
}
