//! Who may give orders, and what becomes of those who may not.

use std::time::Duration;

use cdmo_proto::agent::instance::State;
use http::uri::PathAndQuery;
use mtls::CLIENT_NAME;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::certificates::Authority;
use crate::controller::{Controller, dial};
use crate::host::{Agent, Host, ONE_A100};

/// The agent still takes orders.
async fn still_works(host: &Host, agent: &Agent) {
    let mut controller = host.controller(agent.address, 50).await;
    controller.settle().await;
    controller.make(&[("1g.5gb", 0)]).await;
}

#[tokio::test]
async fn the_agent_says_first_which_epoch_it_obeys() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 7).await;
    assert_eq!(controller.hello.highest_epoch, 0);
    assert_eq!(controller.hello.boot_id, "first-boot");
    controller.settle().await;
    drop(controller);
    assert_eq!(
        host.controller(agent.address, 7).await.hello.highest_epoch,
        7
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_lower_epoch_is_refused_also_after_a_restart() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut leader = host.controller(agent.address, 7).await;
    leader.settle().await;
    let mut former = host.controller(agent.address, 6).await;
    assert_eq!(former.end().await.unwrap().code(), Code::FailedPrecondition);
    leader.make(&[("1g.5gb", 0)]).await;
    agent.stop().await;

    let agent = host.agent().await;
    let mut former = host.controller(agent.address, 6).await;
    let refusal = former.end().await.unwrap();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(
        refusal.message().contains("epoch 6 is below 7"),
        "{refusal}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_session_of_the_same_epoch_takes_over() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut first = host.controller(agent.address, 3).await;
    first.settle().await;
    let mut second = host.controller(agent.address, 3).await;
    assert_eq!(first.end().await.unwrap().code(), Code::Aborted);
    second.settle().await;
    second.make(&[("1g.5gb", 0)]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_plan_that_waits_for_its_commit_is_undone_when_the_controller_goes() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.20gb", 0)]).await;
    let mut plan = controller.plan(0);
    let reference = crate::controller::reference(&controller.snapshot, &made[0].device_id);
    plan.gpus[0].give_up.push(reference);
    controller.carry_out(plan).await;
    drop(controller);
    let mut controller = host.controller(agent.address, 1).await;
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    assert_eq!(host.layout(), ["3g.20gb@0+1"]);
    agent.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_tls_harm_nobody() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b""] {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
    }
    still_works(&host, &agent).await;
    agent.stop().await;
}

/// Sends bytes where a message belongs.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

#[tokio::test]
async fn a_garbled_message_ends_its_session_and_nothing_else() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let channel = dial(&host.path("controller"), agent.address).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let garbage = futures::stream::iter([Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff")]);
    let path = PathAndQuery::from_static("/cdmo.agent.v1.Agent/Session");
    let request = Request::new(garbage);
    let mut answers = client
        .streaming(request, path, Raw)
        .await
        .unwrap()
        .into_inner();
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(end.is_err(), "{end:?}");
    still_works(&host, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_session_that_does_not_begin_with_hello_is_ended() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let channel = dial(&host.path("controller"), agent.address).await.unwrap();
    let mut client = cdmo_proto::agent::agent_client::AgentClient::new(channel);
    let empty = cdmo_proto::agent::ControllerMessage::default();
    let session = client
        .session(futures::stream::iter([empty]))
        .await
        .unwrap();
    let mut session = session.into_inner();
    session.message().await.unwrap();
    assert_eq!(
        session.message().await.unwrap_err().code(),
        Code::InvalidArgument
    );
    still_works(&host, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let stranger = Authority::new();
    stranger.issue(&host.path("stranger"), CLIENT_NAME);
    // It trusts the agent; only the agent has reason to refuse.
    let both = ["tls/ca.crt", "stranger/ca.crt"].map(|ca| std::fs::read(host.path(ca)).unwrap());
    std::fs::write(host.path("stranger/ca.crt"), both.concat()).unwrap();
    host.authority
        .issue(&host.path("impostor"), "somebody.cdmo.internal");
    for name in ["stranger", "impostor"] {
        let refused = Controller::connect(&host.path(name), agent.address, 9).await;
        assert!(refused.is_err(), "{name} was let in");
    }
    // Without a certificate at all.
    let mut plain = TcpStream::connect(agent.address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), plain.read_to_end(&mut answer));
    let _ = read.await.expect("the connection stays open");
    still_works(&host, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    // Only that a connection made before stays up; the rest is the crate mtls' own affair.
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    host.authority.issue(&host.path("tls"), mtls::SERVER_NAME);
    controller.make(&[("1g.5gb", 0)]).await;
    agent.stop().await;
}
