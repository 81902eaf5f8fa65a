//! The shell against a scripted agent over an in-memory pipe.

use std::sync::atomic::{AtomicU64, Ordering};

use cdmo_proto::{
    agent::{
        self, AgentHello, ControllerHello, PodTable,
        agent_message::Message as FromAgent,
        agent_server::{Agent as AgentService, AgentServer},
    },
    pieces,
};
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tonic::{Request, Response, transport::Endpoint};

use super::*;

/// One session as the agent sees it.
type Call = (
    Streaming<ControllerMessage>,
    mpsc::Sender<Result<AgentMessage, Status>>,
);

/// An agent whose sessions are played by the test.
struct Scripted {
    calls: mpsc::Sender<Call>,
}

#[tonic::async_trait]
impl AgentService for Scripted {
    type SessionStream = BoxStream<'static, Result<AgentMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (to_controller, messages) = mpsc::channel(16);
        let _ = self.calls.send((request.into_inner(), to_controller)).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// Dials into a server in this process.
struct Pipe {
    connections: mpsc::Sender<DuplexStream>,
}

impl Dialer for Pipe {
    fn dial(&self, _: SocketAddr) -> BoxFuture<'static, Result<Channel, Problem>> {
        let connections = self.connections.clone();
        Box::pin(async move {
            let connector = tower::service_fn(move |_| {
                let connections = connections.clone();
                async move {
                    let (ours, theirs) = tokio::io::duplex(1 << 16);
                    connections
                        .send(theirs)
                        .await
                        .map_err(std::io::Error::other)?;
                    Ok::<_, std::io::Error>(TokioIo::new(ours))
                }
            });
            let endpoint = Endpoint::from_static("http://agent");
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|error| Problem::passing("connect", error.to_string()))
        })
    }
}

struct Counter(AtomicU64);

impl Epochs for Counter {
    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn above(&self, seen: u64) -> BoxFuture<'_, Result<u64, epoch::Error>> {
        let next = self.current().max(seen) + 1;
        self.0.store(next, Ordering::Relaxed);
        Box::pin(async move { Ok(next) })
    }
}

struct Stage {
    calls: mpsc::Receiver<Call>,
    reports: mpsc::Receiver<Report>,
    to_agent: mpsc::Sender<Box<ToAgent>>,
    shutdown: CancellationToken,
}

fn stage() -> Stage {
    let (calls_in, calls) = mpsc::channel(4);
    let (connections, accepted) = mpsc::channel(4);
    let incoming = ReceiverStream::new(accepted).map(Ok::<_, std::io::Error>);
    let server = tonic::transport::Server::builder()
        .serve_with_incoming(AgentServer::new(Scripted { calls: calls_in }), incoming);
    tokio::spawn(server);
    let (reports_in, reports) = mpsc::channel(16);
    let (to_agent, outgoing) = mpsc::channel(16);
    let shutdown = CancellationToken::new();
    let agent = Agent {
        node: "a".into(),
        serial: 7,
        address: ([127, 0, 0, 1], 7443).into(),
        controller: "controller-0".into(),
    };
    tokio::spawn(run(
        agent,
        Arc::new(Pipe { connections }),
        Arc::new(Counter(AtomicU64::new(5))),
        outgoing,
        reports_in,
        shutdown.clone(),
    ));
    Stage {
        calls,
        reports,
        to_agent,
        shutdown,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "this is what the stream takes")]
fn says(message: FromAgent) -> Result<AgentMessage, Status> {
    Ok(AgentMessage {
        message: Some(message),
    })
}

fn hello(highest_epoch: u64) -> Result<AgentMessage, Status> {
    says(FromAgent::Hello(AgentHello {
        highest_epoch,
        ..AgentHello::default()
    }))
}

fn snapshot() -> Result<AgentMessage, Status> {
    says(FromAgent::Snapshot(agent::Snapshot::default()))
}

async fn hears(stream: &mut Streaming<ControllerMessage>) -> ToAgent {
    stream.message().await.unwrap().unwrap().message.unwrap()
}

async fn next(reports: &mut mpsc::Receiver<Report>) -> Said {
    let report = reports.recv().await.unwrap();
    assert_eq!((report.node.as_str(), report.serial), ("a", 7));
    report.said
}

/// Plays the opening; returns the session as the agent sees it.
async fn open(stage: &mut Stage, highest_epoch: u64, expected: u64) -> Call {
    let (mut heard, say) = stage.calls.recv().await.unwrap();
    say.send(hello(highest_epoch)).await.unwrap();
    let controller = "controller-0".to_owned();
    let greeting = ToAgent::Hello(ControllerHello {
        epoch: expected,
        controller,
        takes_pieces: true,
    });
    assert_eq!(hears(&mut heard).await, greeting);
    say.send(snapshot()).await.unwrap();
    assert!(matches!(next(&mut stage.reports).await, Said::Up));
    assert!(matches!(next(&mut stage.reports).await, Said::Snapshot(_)));
    (heard, say)
}

#[tokio::test]
async fn messages_flow_both_ways_once_the_session_stands() {
    let mut stage = stage();
    let (mut heard, say) = open(&mut stage, 4, 5).await;
    let table = ToAgent::Pods(PodTable {
        revision: 1,
        pods: Vec::new(),
    });
    stage.to_agent.send(Box::new(table.clone())).await.unwrap();
    assert_eq!(hears(&mut heard).await, table);
    let progress = agent::PlanProgress {
        plan_id: "5-1".into(),
        ..agent::PlanProgress::default()
    };
    say.send(says(FromAgent::Progress(progress))).await.unwrap();
    assert!(matches!(next(&mut stage.reports).await, Said::Progress(p) if p.plan_id == "5-1"));
}

#[tokio::test]
async fn a_long_snapshot_may_come_in_pieces_and_torn_ones_end_the_session() {
    let mut stage = stage();
    let (_heard, say) = open(&mut stage, 4, 5).await;
    let problems: Vec<_> = (0..500).map(|n| format!("problem {n}")).collect();
    let snapshot = agent::Snapshot {
        problems: problems.clone(),
        ..agent::Snapshot::default()
    };
    let pieces = pieces::cut(says(FromAgent::Snapshot(snapshot)).unwrap());
    assert!(pieces.len() > 1);
    for piece in pieces.clone() {
        say.send(Ok(piece)).await.unwrap();
    }
    assert!(matches!(next(&mut stage.reports).await, Said::Snapshot(s) if s.problems == problems));
    say.send(Ok(pieces[0].clone())).await.unwrap();
    say.send(says(FromAgent::Progress(agent::PlanProgress::default())))
        .await
        .unwrap();
    assert!(matches!(next(&mut stage.reports).await, Said::Down(p) if p.category == "protocol"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_session_is_reported_and_opened_anew_with_the_same_epoch() {
    let mut stage = stage();
    let (heard, say) = open(&mut stage, 4, 5).await;
    drop((heard, say));
    assert!(matches!(next(&mut stage.reports).await, Said::Down(_)));
    // The agent has obeyed 5, and it had that from us.
    open(&mut stage, 5, 5).await;
}

#[tokio::test]
async fn a_foreign_epoch_is_topped() {
    let mut stage = stage();
    open(&mut stage, 9, 10).await;
}

#[tokio::test]
async fn what_the_agent_refuses_with_is_reported_in_words() {
    for (status, category) in [
        (Status::failed_precondition("epoch 5 is below 9"), "epoch"),
        (Status::aborted("another session"), "superseded"),
        (Status::internal("cannot decode"), "garbled"),
    ] {
        let mut stage = stage();
        let (_heard, say) = stage.calls.recv().await.unwrap();
        say.send(Err(status)).await.unwrap();
        let Said::Down(problem) = next(&mut stage.reports).await else {
            panic!("not down")
        };
        assert_eq!(problem.category, category);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_is_given_up_on() {
    let mut stage = stage();
    let _held_open = stage.calls.recv().await.unwrap();
    let Said::Down(problem) = next(&mut stage.reports).await else {
        panic!("not down")
    };
    assert_eq!(problem.category, "silent");
}

#[tokio::test]
async fn the_end_of_the_controller_ends_the_session() {
    let mut stage = stage();
    let (mut heard, _say) = open(&mut stage, 0, 5).await;
    stage.shutdown.cancel();
    assert!(!matches!(heard.message().await, Ok(Some(_))));
    assert!(stage.reports.recv().await.is_none());
}
