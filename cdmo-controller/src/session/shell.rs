//! Runs sessions with one agent over gRPC, again and again, until told to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cdmo_proto::{
    agent::{
        AgentMessage, ControllerMessage, agent_client::AgentClient,
        controller_message::Message as ToAgent,
    },
    pieces::{BadPiece, Pieces, Whole},
};
use futures::future::BoxFuture;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{Backoff, Input, Output, Problem, Session};
use crate::epoch;

/// Messages that may wait for the network. Pod tables and plans are few; an agent that lets this
/// many pile up is not reading.
const OUTBOX: usize = 64;
/// Time for the call itself: headers there and back.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message from an agent: a snapshot of 16 GPUs with all holders is below 64 KiB.
const LARGEST_MESSAGE: usize = 1 << 20;

/// Bytes of messages that may be under way from an agent. Most have a few thousand, in pieces.
const WINDOW: u32 = 1 << 14;
/// The same with all else on the connection: the least that HTTP/2 has.
const CONNECTION_WINDOW: u32 = 65_535;

/// Opens connections to agents.
pub trait Dialer: Send + Sync + 'static {
    /// Connects, or says why not.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, Result<Channel, Problem>>;
}

/// Where epochs come from.
pub trait Epochs: Send + Sync + 'static {
    /// The epoch in force.
    fn current(&self) -> u64;
    /// An epoch above `seen`, written down before this returns.
    fn above(&self, seen: u64) -> BoxFuture<'_, Result<u64, epoch::Error>>;
}

/// What a session tells the rest of the controller.
#[derive(Debug)]
pub enum Said {
    /// The session stands; messages may be sent. A snapshot follows.
    Up,
    /// A state of the node.
    Snapshot(cdmo_proto::agent::Snapshot),
    /// News of a plan.
    Progress(cdmo_proto::agent::PlanProgress),
    /// The session does not stand (any more).
    Down(Problem),
}

/// [`Said`] by whom.
#[derive(Debug)]
pub struct Report {
    /// The agent's node.
    pub node: String,
    /// Number of the agent as given in [`Agent`]: reports of a former one are stale.
    pub serial: u64,
    /// The news.
    pub said: Said,
}

/// The agent to talk to.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its node, as the API names it, whatever the agent says of itself.
    pub node: String,
    /// Tells this agent pod from earlier ones on the node.
    pub serial: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Name of this controller, for the agent's log.
    pub controller: String,
}

/// Messages for the agent. Those that come while no session stands are dropped: whoever sent them
/// is told that the session went down and starts over.
///
/// A queue keeps room for 32 of what it is made for, however few it holds: pointers, since there is one for each agent.
pub type Outgoing = mpsc::Receiver<Box<ToAgent>>;

/// Keeps a session with one agent until `shutdown`.
pub async fn run(
    agent: Agent,
    dialer: Arc<dyn Dialer>,
    epochs: Arc<dyn Epochs>,
    mut outgoing: Outgoing,
    reports: mpsc::Sender<Report>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut said = None;
    loop {
        let mut attempt = Attempt {
            agent: &agent,
            epochs: epochs.as_ref(),
            reports: &reports,
            outgoing: &mut outgoing,
            stood: false,
            said,
            places: None,
        };
        let problem = tokio::select! {
            () = shutdown.cancelled() => return,
            problem = attempt.run(dialer.as_ref()) => problem,
        };
        said = attempt.said;
        if attempt.stood {
            backoff.reset();
        }
        tracing::debug!(
            node = agent.node,
            category = problem.category,
            "{}",
            problem.sentence
        );
        attempt.report(Said::Down(problem)).await;
        drop(attempt);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(backoff.next_delay()) => {}
        }
        while outgoing.try_recv().is_ok() {}
    }
}

/// One connection and the session on it.
struct Attempt<'a> {
    agent: &'a Agent,
    epochs: &'a dyn Epochs,
    reports: &'a mpsc::Sender<Report>,
    outgoing: &'a mut Outgoing,
    stood: bool,
    said: Option<u64>,
    /// Its places among the reports.
    places: Option<mpsc::PermitIterator<'a, Report>>,
}

impl Attempt<'_> {
    async fn run(&mut self, dialer: &dyn Dialer) -> Problem {
        // What it takes to get there goes once there.
        match Box::pin(self.open(dialer)).await {
            Ok((outbox, inbox)) => self.talk(outbox, inbox).await,
            Err(problem) => problem,
        }
    }

    async fn open(
        &self,
        dialer: &dyn Dialer,
    ) -> Result<
        (
            mpsc::Sender<Box<ControllerMessage>>,
            Streaming<AgentMessage>,
        ),
        Problem,
    > {
        let channel = dialer.dial(self.agent.address).await?;
        let mut client = AgentClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let call = client.session(ReceiverStream::new(messages).map(|message: Box<_>| *message));
        match timeout(OPEN_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok((outbox, response.into_inner())),
            Ok(Err(status)) => Err(problem_of(&status)),
            Err(_) => Err(Problem::passing(
                "timed_out",
                format!(
                    "{} did not answer within {OPEN_TIMEOUT:?}",
                    self.agent.address
                ),
            )),
        }
    }

    async fn talk(
        &mut self,
        outbox: mpsc::Sender<Box<ControllerMessage>>,
        mut inbox: Streaming<AgentMessage>,
    ) -> Problem {
        let mut session = Session::new(
            self.agent.controller.clone(),
            self.epochs.current(),
            self.said,
        );
        let mut pieces = Pieces::new(LARGEST_MESSAGE);
        // A piece of a message is not what is waited for.
        let mut since = Instant::now();
        loop {
            let input = tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => match pieces.put(message) {
                        Ok(Some(whole)) => match self.read(whole).await {
                            Ok(message) => Input::Message(message),
                            Err(error) => return torn(&error),
                        },
                        Ok(None) => continue,
                        Err(error) => return torn(&error),
                    },
                    Ok(None) => return Problem::passing("closed", "the agent ended the session"),
                    Err(status) => return problem_of(&status),
                },
                Some(message) = self.outgoing.recv(), if self.stood => {
                    if outbox.try_send(Box::new(wrap(*message))).is_err() {
                        return unread(self.agent.address);
                    }
                    continue;
                }
                () = patience(session.patience(), since) => Input::Timeout,
            };
            let mut outputs = session.step(input);
            self.said = session.said();
            while !outputs.is_empty() {
                let mut next = Vec::new();
                for output in outputs {
                    match self.carry_out(output, &outbox).await {
                        Ok(Some(input)) => next.extend(session.step(input)),
                        Ok(None) => {}
                        Err(problem) => return problem,
                    }
                }
                self.said = session.said();
                outputs = next;
            }
            self.places = None;
            since = Instant::now();
        }
    }

    /// Reads a message. A long one waits for its turn unread: there may be one from each node while the loop is busy.
    async fn read(&mut self, whole: Whole) -> Result<AgentMessage, BadPiece> {
        if matches!(whole, Whole::Bytes(_)) {
            // The first one tells that the session stands, too. Nobody listens only while the whole controller ends.
            let places = if self.stood { 1 } else { 2 };
            self.places = self.reports.reserve_many(places).await.ok();
        }
        whole.read()
    }

    /// Does one thing; an answer goes back into the session.
    async fn carry_out(
        &mut self,
        output: Output,
        outbox: &mpsc::Sender<Box<ControllerMessage>>,
    ) -> Result<Option<Input>, Problem> {
        match output {
            Output::Hello(hello) => outbox
                .try_send(Box::new(wrap(ToAgent::Hello(hello))))
                .map(|()| None)
                .map_err(|_| unread(self.agent.address)),
            Output::TakeEpochAbove(seen) => match self.epochs.above(seen).await {
                Ok(epoch) => Ok(Some(Input::Epoch(epoch))),
                Err(error) => Err(Problem::passing(error.category(), error.to_string())),
            },
            Output::Up => {
                self.stood = true;
                self.report(Said::Up).await;
                Ok(None)
            }
            Output::Snapshot(snapshot) => {
                self.report(Said::Snapshot(snapshot)).await;
                Ok(None)
            }
            Output::Progress(progress) => {
                self.report(Said::Progress(progress)).await;
                Ok(None)
            }
            Output::Close(problem) => Err(problem),
        }
    }

    async fn report(&mut self, said: Said) {
        let report = Report {
            node: self.agent.node.clone(),
            serial: self.agent.serial,
            said,
        };
        match self.places.as_mut().and_then(Iterator::next) {
            Some(place) => place.send(report),
            // Nobody listens only while the whole controller ends.
            None => drop(self.reports.send(report).await),
        }
    }
}

async fn patience(limit: Option<Duration>, since: Instant) {
    match limit {
        Some(limit) => sleep_until(since + limit).await,
        None => std::future::pending().await,
    }
}

fn wrap(message: ToAgent) -> ControllerMessage {
    ControllerMessage {
        message: Some(message),
    }
}

fn torn(error: &BadPiece) -> Problem {
    Problem::passing(
        "protocol",
        format!("{error}; check that agent and controller are of one release"),
    )
}

fn unread(address: SocketAddr) -> Problem {
    Problem::passing(
        "unread",
        format!("the agent at {address} does not read what it is sent"),
    )
}

/// What an ended call means.
fn problem_of(status: &Status) -> Problem {
    if let Some(refusal) = mtls::Refusal::find(status) {
        return problem_of_refusal(refusal);
    }
    let (category, sentence) = match status.code() {
        Code::FailedPrecondition => ("epoch", "the agent obeys a newer controller".to_owned()),
        Code::Aborted => (
            "superseded",
            "another session with the agent took over".to_owned(),
        ),
        Code::Unavailable => (
            "unavailable",
            format!("the connection broke: {}", status.message()),
        ),
        Code::Internal | Code::OutOfRange | Code::ResourceExhausted => (
            "garbled",
            format!(
                "the agent sent something that cannot be read ({}); check that agent and \
                 controller are of one release",
                status.message()
            ),
        ),
        code => (
            "refused",
            format!("the agent answered {code:?}: {}", status.message()),
        ),
    };
    Problem::passing(category, sentence)
}

fn problem_of_refusal(refusal: &mtls::Refusal) -> Problem {
    Problem {
        category: refusal.reason.category(),
        sentence: refusal.to_string(),
        lasting: refusal.reason.is_about_certificates(),
    }
}

/// Dials agents by mutual TLS.
#[derive(Debug)]
pub struct TlsDialer {
    connector: mtls::Connector<mtls::TcpDial>,
}

impl TlsDialer {
    /// Dials with these certificates.
    pub fn new(connector: mtls::Connector<mtls::TcpDial>) -> Self {
        Self { connector }
    }
}

impl Dialer for TlsDialer {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, Result<Channel, Problem>> {
        let connector = self.connector.clone();
        Box::pin(async move {
            let endpoint = Channel::from_shared(format!("http://{address}"))
                .map_err(|error| Problem::passing("address", error.to_string()))?
                .tcp_nodelay(true)
                // What is not read yet waits on the node: here there would be room for two megabytes of it.
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                // Notices a dead agent or network within 15 seconds.
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true);
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|error| match mtls::Refusal::find(&error) {
                    Some(refusal) => problem_of_refusal(refusal),
                    None => {
                        Problem::passing("connect", format!("cannot connect to {address}: {error}"))
                    }
                })
        })
    }
}

#[cfg(test)]
mod tests;
