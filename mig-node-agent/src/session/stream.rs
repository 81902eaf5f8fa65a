//! The agent's half of a session: whole snapshots, the latest wins, and reports in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use cdmo_proto::agent as api;
use cdmo_proto::agent::agent_message::Message;
use cdmo_proto::pieces;
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tonic::Status;

type Item = Result<api::AgentMessage, Status>;

/// What tonic reads from.
pub(super) struct ReceiverStream {
    messages: mpsc::Receiver<Item>,
    takes_pieces: Arc<AtomicBool>,
    /// What is left of the last message.
    pieces: VecDeque<api::AgentMessage>,
}

impl Stream for ReceiverStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match self.messages.poll_recv(cx) {
            Poll::Ready(Some(Ok(message))) if self.takes_pieces.load(Ordering::Relaxed) => {
                self.pieces = pieces::cut(message).into();
                Poll::Ready(self.pieces.pop_front().map(Ok))
            }
            other => other,
        }
    }
}

/// Where messages go.
pub(super) struct Outgoing {
    messages: mpsc::Sender<Item>,
    takes_pieces: Arc<AtomicBool>,
}

impl Outgoing {
    /// Both ends of a stream. One message is on its way: a slow controller gets newer snapshots, not more of them.
    pub(super) fn new() -> (Self, ReceiverStream) {
        let (out, messages) = mpsc::channel(1);
        let takes_pieces = Arc::new(AtomicBool::new(false));
        let stream = ReceiverStream {
            messages,
            takes_pieces: Arc::clone(&takes_pieces),
            pieces: VecDeque::new(),
        };
        let out = Self {
            messages: out,
            takes_pieces,
        };
        (out, stream)
    }

    /// From now on long messages are cut, if the controller takes pieces.
    pub(super) fn greeted(&self, hello: &api::ControllerHello) {
        let takes_pieces = hello.takes_pieces;
        self.takes_pieces.store(takes_pieces, Ordering::Relaxed);
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
        let slot = self.messages.reserve().await.map_err(|_| hung_up())?;
        let snapshot = snapshots.borrow_and_update().as_ref().clone();
        slot.send(Ok(message(Message::Snapshot(snapshot))));
        Ok(())
    }

    /// The last word.
    pub(super) async fn end(self, status: Status) {
        // Who hung up does not need it.
        let _ = self.messages.send(Err(status)).await;
    }

    async fn send(&self, content: Message) -> Result<(), Status> {
        let sent = self.messages.send(Ok(message(content))).await;
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
