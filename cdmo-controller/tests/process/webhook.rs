//! The webhook over real TLS and HTTP, as an API server calls it.

use std::{sync::Arc, time::Duration};

use cdmo_controller::{
    Args,
    args::Command,
    webhook::{self, Connections, Desk, Metrics},
};
use clap::Parser as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use mtls::TlsFiles;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;

const HOST: &str = "cdmo-webhook.cdmo-operator.svc";
/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A webhook in this process.
struct Webhook {
    address: std::net::SocketAddr,
    tls: mtls::Reloading,
    files: TlsFiles,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    dir: TempDir,
}

impl Webhook {
    async fn start(limits: Connections) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().unwrap();
        let files = Authority::new().issue(dir.path(), HOST, 2100);
        let tls = mtls::Reloading::load(files.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let incoming = TcpListenerStream::new(listener);
        let accepted = tls.accept_anybody(incoming, webhook::HANDSHAKES, shutdown.clone());
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let desk = Arc::new(Desk::new(admission::Options::default(), metrics));
        let served = tokio::spawn(webhook::serve(accepted, desk, limits, shutdown.clone()));
        Self {
            address,
            tls,
            files,
            shutdown,
            served,
            dir,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        connect(self.address, &self.files).await.unwrap()
    }

    async fn client(&self) -> Client {
        Client::over(self.connect().await).await
    }
}

/// A connection as an API server makes it: it knows the authority and has no certificate.
async fn connect(
    address: std::net::SocketAddr,
    files: &TlsFiles,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(&files.ca)?;
    for authority in CertificateDer::pem_slice_iter(&pem) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    async fn post(&mut self, body: impl Into<Bytes>) -> (u16, String) {
        let request = Request::post("/mutate?timeout=3s")
            .header("host", HOST)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The response to a review that is answered.
    async fn ask(&mut self, review: &Value) -> Value {
        let (code, text) = self.post(review.to_string()).await;
        assert_eq!(code, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["response"].clone()
    }
}

fn review(object: &Value) -> Value {
    let request = json!({
        "uid": "u", "operation": "CREATE", "namespace": "team",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": object,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn pod(share: &str) -> Value {
    json!({"spec": {"containers": [container("main", share)]}})
}

fn container(name: &str, share: &str) -> Value {
    json!({"name": name, "resources": {"limits": {"clear.ml/fraction-1": share}}})
}

#[tokio::test]
async fn an_api_server_without_a_certificate_is_answered_again_and_again() {
    let webhook = Webhook::start(Connections::default()).await;
    let mut client = webhook.client().await;
    for _ in 0..3 {
        let response = client.ask(&review(&pod("500m"))).await;
        assert_eq!(response["patchType"], "JSONPatch");
    }
}

#[tokio::test]
async fn bad_input_of_every_kind_is_answered_in_a_sentence_and_harms_nobody() {
    let webhook = Webhook::start(Connections::default()).await;
    let mut client = webhook.client().await;
    for share in ["0", "-1", "1.3", "1e3", "abc", ""] {
        let response = client.ask(&review(&pod(share))).await;
        assert_eq!(response["allowed"], false, "{share}");
        let message = response["status"]["message"].as_str().unwrap();
        let field = "spec.containers[0].resources.limits[\"clear.ml/fraction-1\"]";
        assert!(message.starts_with(field), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let ephemeral = json!({"spec": {
        "containers": [{"name": "main"}], "ephemeralContainers": [container("debug", "500m")],
    }});
    let mut debug = review(&ephemeral);
    debug["request"]["operation"] = json!("UPDATE");
    debug["request"]["subResource"] = json!("ephemeralcontainers");
    debug["request"]["oldObject"] = json!({"spec": {"containers": [{"name": "main"}]}});
    let response = client.ask(&debug).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("where there can be none"), "{message}");

    let many: Vec<Value> = (0..10_000)
        .map(|number| container(&format!("c{number}"), "500m"))
        .collect();
    let response = client
        .ask(&review(&json!({"spec": {"containers": many}})))
        .await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("10000 containers with fractions"),
        "{message}"
    );

    let mut large = pod("500m");
    large["metadata"]["annotations"]["padding"] = json!("x".repeat(3_000_000));
    let mut update = review(&large);
    update["request"]["operation"] = json!("UPDATE");
    update["request"]["oldObject"] = large;
    assert_eq!(client.ask(&update).await["allowed"], true);

    let mut nodes = review(&json!({"spec": {}}));
    nodes["request"]["resource"]["resource"] = json!("nodes");
    let response = client.ask(&nodes).await;
    assert_eq!(response["allowed"], true);
    assert!(
        response["warnings"][0]
            .as_str()
            .unwrap()
            .contains("\"nodes\"")
    );

    let whole = review(&pod("500m")).to_string();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        // Who was refused is not kept.
        let mut client = webhook.client().await;
        let (code, text) = client.post(whole[..end].to_owned()).await;
        assert_eq!(code, 400);
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let (code, text) = client.post(vec![b'['; webhook::MOST_BYTES + 1]).await;
    assert_eq!((code, text.lines().count()), (413, 1), "{text}");
    let mut client = webhook.client().await;
    assert_eq!(client.ask(&review(&pod("0.5"))).await["allowed"], true);
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_or_says_nothing_harms_nobody() {
    let limits = Connections {
        most: 1,
        first: Duration::from_millis(50),
        ..Connections::default()
    };
    let webhook = Webhook::start(limits).await;
    let mut plain = TcpStream::connect(webhook.address).await.unwrap();
    plain
        .write_all(b"POST /mutate HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    // It takes the only place there is, and loses it.
    let mut silent = webhook.connect().await;
    let mut client = webhook.client().await;
    assert_eq!(client.ask(&review(&pod("500m"))).await["allowed"], true);
    let ended = timeout(PATIENCE, silent.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn who_is_refused_is_answered_and_then_closed() {
    let webhook = Webhook::start(Connections::default()).await;
    let request = |line: &str, kind: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let json = "application/json";
    for (request, code) in [
        (request("POST /", json, ""), 404),
        (request("GET /mutate", json, ""), 405),
        (request("POST /mutate", "text/plain", "x"), 415),
        (request("POST /mutate", json, "x"), 400),
        (
            request("POST /mutate", json, &"{\"\":0}".repeat(200_000)),
            413,
        ),
    ] {
        let mut stream = webhook.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("the connection was kept").unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn many_who_begin_no_handshake_hold_up_nobody() {
    let webhook = Webhook::start(Connections::default()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(webhook.address).await.unwrap());
    }
    let mut client = webhook.client().await;
    assert_eq!(client.ask(&review(&pod("500m"))).await["allowed"], true);
    // None of them had to be given up for it.
    for stream in silent {
        let read = stream.try_read(&mut [0; 1]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn who_is_idle_longest_gives_its_place_to_the_next() {
    let limits = Connections {
        most: 2,
        ..Connections::default()
    };
    let webhook = Webhook::start(limits).await;
    let (mut one, mut two) = (webhook.client().await, webhook.client().await);
    one.ask(&review(&pod("500m"))).await;
    two.ask(&review(&pod("500m"))).await;
    one.ask(&review(&pod("500m"))).await;
    let mut three = webhook.client().await;
    let answer = timeout(PATIENCE, three.ask(&review(&pod("500m")))).await;
    assert_eq!(answer.expect("nobody gave way")["allowed"], true);
    assert_eq!(one.ask(&review(&pod("500m"))).await["allowed"], true);
    assert!(
        timeout(PATIENCE, two.sender.ready())
            .await
            .unwrap()
            .is_err()
    );
}

#[tokio::test]
async fn a_request_under_way_is_answered_although_the_webhook_was_told_to_end() {
    let webhook = Webhook::start(Connections::default()).await;
    let mut stream = webhook.connect().await;
    let body = review(&pod("500m")).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The webhook has seen the request once it asks for the rest.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    stream.write_all(first.as_bytes()).await.unwrap();
    webhook.shutdown.cancel();
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("JSONPatch"), "{answer}");
    timeout(PATIENCE, webhook.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_changes_is_shown_to_the_next_client() {
    let webhook = Webhook::start(Connections::default()).await;
    let mut before = webhook.client().await;
    let old = webhook.dir.path().join("old.crt");
    std::fs::copy(&webhook.files.ca, &old).unwrap();
    Authority::new().issue(webhook.dir.path(), HOST, 2100);
    webhook.tls.reload().await.unwrap();
    let mut client = webhook.client().await;
    assert_eq!(client.ask(&review(&pod("500m"))).await["allowed"], true);
    let old = TlsFiles {
        ca: old,
        ..webhook.files.clone()
    };
    assert!(connect(webhook.address, &old).await.is_err());
    // Who is connected stays so.
    assert_eq!(before.ask(&review(&pod("500m"))).await["allowed"], true);
}

/// A port that is free, as far as anybody can tell.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

async fn readiness(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn ready_when(port: u16, words: &str) {
    let wait = async {
        loop {
            let answer = readiness(port).await;
            if answer.is_some_and(|answer| answer.contains(words)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never {words}");
}

#[tokio::test]
async fn the_webhook_is_ready_once_its_certificate_is_there_and_needs_no_cluster() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = TempDir::new().unwrap();
    let (https, http) = (free_port().await, free_port().await);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let args = Args::parse_from([
        "cdmo-controller".to_owned(),
        format!("--http-listen=127.0.0.1:{http}"),
        format!("--tls-ca={}", path("ca.crt")),
        format!("--tls-cert={}", path("tls.crt")),
        format!("--tls-key={}", path("tls.key")),
        "webhook".to_owned(),
        format!("--listen=127.0.0.1:{https}"),
        "--drain-seconds=0".to_owned(),
    ]);
    let Some(Command::Webhook(options)) = args.command.clone() else {
        panic!("no options in {args:?}");
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(webhook::run(args, options, shutdown.clone()));
    ready_when(http, "certificate: failed to find the CA certificate").await;
    let files = Authority::new().issue(dir.path(), HOST, 2100);
    ready_when(http, "200 OK").await;
    let address = ([127, 0, 0, 1], https).into();
    let mut client = Client::over(connect(address, &files).await.unwrap()).await;
    assert_eq!(client.ask(&review(&pod("500m"))).await["allowed"], true);
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}
