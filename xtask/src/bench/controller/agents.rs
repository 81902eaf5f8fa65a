//! The simulated agents: one listener each, mutual TLS and the real protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use cdmo_proto::agent::agent_server::{Agent, AgentServer};
use cdmo_proto::agent::{
    AgentHello, AgentMessage, ControllerMessage, agent_message::Message as FromAgent,
    controller_message::Message as ToAgent,
};
use cdmo_proto::pieces;
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::node::Node;

/// Messages that may wait for the controller; one that lets more pile up is hung up on.
const OUTBOX: usize = 1024;

type Item = Result<AgentMessage, Status>;

/// An agent. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    /// To the controller, while a session stands.
    out: Option<mpsc::Sender<Item>>,
}

impl Simulated {
    pub(super) fn new(node: Node) -> Self {
        let inner = Inner { node, out: None };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Looks at the node.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Node) -> T) -> T {
        look(&mut self.lock().node)
    }

    /// Changes the node and reports it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.node);
        let report = inner.node.report();
        inner.say([report]);
        result
    }

    /// Listens for the controller until shutdown; where.
    pub(super) async fn listen(
        &self,
        tls: &mtls::Reloading,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("no port is free for an agent")?;
        let address = listener.local_addr()?;
        let server = tonic::transport::Server::builder().serve_with_incoming_shutdown(
            AgentServer::new(self.clone()),
            tls.accept(listener, shutdown.clone()),
            shutdown.clone().cancelled_owned(),
        );
        tokio::spawn(server);
        Ok(address)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn talk(
        self,
        mut incoming: Streaming<ControllerMessage>,
        out: mpsc::Sender<Item>,
    ) -> Result<(), Status> {
        while let Some(message) = incoming.message().await? {
            let Some(message) = message.message else {
                continue;
            };
            let mut inner = self.lock();
            if matches!(message, ToAgent::Hello(_)) {
                inner.out = Some(out.clone());
                let report = inner.node.report();
                inner.say([report]);
            } else {
                let answers = inner.node.hear(message);
                inner.say(answers);
            }
        }
        Ok(())
    }
}

impl Inner {
    fn say(&mut self, messages: impl IntoIterator<Item = AgentMessage>) {
        for message in messages.into_iter().flat_map(pieces::cut) {
            let full = |out: &mpsc::Sender<Item>| out.try_send(Ok(message)).is_err();
            if self.out.as_ref().is_some_and(full) {
                self.out = None;
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Agent for Simulated {
    type SessionStream = Pin<Box<dyn Stream<Item = Item> + Send + 'static>>;

    async fn session(
        &self,
        request: Request<Streaming<ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, stream) = mpsc::channel(OUTBOX);
        let hello = FromAgent::Hello(AgentHello {
            highest_epoch: 0,
            boot_id: "boot".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let hello = AgentMessage {
            message: Some(hello),
        };
        // There is room: nothing was sent yet.
        let _ = out.try_send(Ok(hello));
        // It ends with the session, whichever side ends that.
        tokio::spawn(self.clone().talk(request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
