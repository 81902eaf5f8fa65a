//! The agent's half of a session: whole snapshots, the latest wins, and reports in order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cdmo_proto::agent as api;
use cdmo_proto::agent::agent_message::Message;
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tonic::Status;

type Item = Result<api::AgentMessage, Status>;

/// What tonic reads from.
pub(super) struct ReceiverStream(pub(super) mpsc::Receiver<Item>);

impl Stream for ReceiverStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll_recv(cx)
    }
}

/// Where messages go.
pub(super) struct Outgoing(mpsc::Sender<Item>);

impl Outgoing {
    pub(super) fn new(out: mpsc::Sender<Item>) -> Self {
        Self(out)
    }

    pub(super) async fn hello(&self, hello: api::AgentHello) -> Result<(), Status> {
        self.send(Message::Hello(hello)).await
    }

    pub(super) async fn progress(&self, progress: api::PlanProgress) -> Result<(), Status> {
        self.send(Message::Progress(progress)).await
    }

    /// Sends the newest snapshot: that of the moment at which there is room for it.
    pub(super) async fn snapshot(
        &self,
        snapshots: &mut watch::Receiver<Arc<api::Snapshot>>,
    ) -> Result<(), Status> {
        let slot = self.0.reserve().await.map_err(|_| hung_up())?;
        let snapshot = snapshots.borrow_and_update().as_ref().clone();
        slot.send(Ok(message(Message::Snapshot(snapshot))));
        Ok(())
    }

    /// The last word.
    pub(super) async fn end(self, status: Status) {
        // Who hung up does not need it.
        let _ = self.0.send(Err(status)).await;
    }

    async fn send(&self, content: Message) -> Result<(), Status> {
        let sent = self.0.send(Ok(message(content))).await;
        sent.map_err(|_| hung_up())
    }
}

fn message(content: Message) -> api::AgentMessage {
    api::AgentMessage {
        message: Some(content),
    }
}

fn hung_up() -> Status {
    Status::cancelled("the controller hung up")
}
