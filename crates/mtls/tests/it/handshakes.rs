//! Who is let in, who is not, and what both sides say about it.

use std::{io, sync::Arc, time::Duration};

use mtls::{CLIENT_NAME, Limits, Reason, Refusal, SERVER_NAME, Side};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::{
    certificates::{Authority, load, write},
    support::{Log, call, call_as, serve},
};

#[tokio::test]
async fn the_controller_is_let_in() {
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    call(&load(&ca, &ca.issue(CLIENT_NAME)).unwrap(), &uri)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_agent_may_not_command_another_agent() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    let refusal = call(&load(&ca, &ca.issue(SERVER_NAME)).unwrap(), &uri)
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::OursWrongName);
    assert_eq!(refusal.side, Side::Client);
    log.says(&format!("is for {SERVER_NAME}, not for {CLIENT_NAME}"))
        .await;
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_and_both_sides_say_why() {
    let log = Log::capture();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (uri, _shutdown) = serve(&load(&ours, &ours.issue(SERVER_NAME)).unwrap()).await;
    // It trusts the server, but its own certificate is from elsewhere.
    let dir = tempfile::tempdir().unwrap();
    let bundle = format!("{}{}", ours.pem(), theirs.pem());
    let files = write(dir.path(), &bundle, &theirs.issue(CLIENT_NAME));
    let client = mtls::Reloading::load(files).unwrap();

    let refusal = call(&client, &uri).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::OursUnknownIssuer);
    log.says("refused our certificate: it was not issued by the server's CA")
        .await;
    log.says("was not issued by our CA; give both sides certificates of the same CA")
        .await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_and_both_sides_say_why() {
    let log = Log::capture();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (uri, _shutdown) = serve(&load(&theirs, &theirs.issue(SERVER_NAME)).unwrap()).await;
    let client = load(&ours, &ours.issue(CLIENT_NAME)).unwrap();

    let refusal = call(&client, &uri).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PeerUnknownIssuer);
    assert!(
        refusal
            .to_string()
            .contains("the certificate of the server at 127.0.0.1"),
        "{refusal}"
    );
    log.says("refused our certificate: it was not issued by the client's CA")
        .await;
}

#[tokio::test]
async fn a_server_with_another_name_is_refused_by_name() {
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue("elsewhere.example")).unwrap()).await;
    let client = load(&ca, &ca.issue(CLIENT_NAME)).unwrap();
    let refusal = call(&client, &uri).await.unwrap_err();
    let Reason::PeerWrongName { expected, .. } = &refusal.reason else {
        panic!("{refusal}");
    };
    assert_eq!(expected, SERVER_NAME);
    call_as(&client, &uri, "elsewhere.example").await.unwrap();
}

#[tokio::test]
async fn a_server_certificate_cannot_be_used_as_a_client() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    let pair = ca.issue_for(CLIENT_NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let refusal = call(&load(&ca, &pair).unwrap(), &uri).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::OursWrongName);
    log.says("is not meant for a client").await;
}

#[tokio::test]
async fn a_certificate_that_expires_while_the_client_runs_is_refused_by_the_server() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    // Our own loader would not take an expired certificate, so rustls is asked directly.
    let pair = ca.issue_expired(CLIENT_NAME);
    let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = raw_client(&ca).with_client_auth_cert(chain, key).unwrap();
    let error = raw_call(config, &uri).await.unwrap_err();
    assert!(error.to_string().contains("CertificateExpired"), "{error}");
    log.says("expired on 2021-02-03T00:00:00Z; renew the client's certificate")
        .await;
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    let error = raw_call(raw_client(&ca).with_no_client_auth(), &uri)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    log.says("showed no certificate").await;
}

#[tokio::test]
async fn where_anybody_is_let_in_nobody_is_asked_for_a_certificate_and_http_1_is_spoken() {
    let ca = Authority::new("ours");
    let server = load(&ca, &ca.issue("webhook.internal")).unwrap();
    let (client, theirs) = tokio::io::duplex(16 * 1024);
    let incoming = tokio_stream::iter([Ok(theirs)]).chain(tokio_stream::pending());
    let shutdown = CancellationToken::new();
    let mut accepted = server.accept_anybody(incoming, Limits::default(), shutdown.clone());
    let mut config = raw_client(&ca).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("webhook.internal").unwrap();
    let (client, accepted) = tokio::join!(connector.connect(name, client), accepted.next());
    let client = client.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    accepted.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_harms_nobody() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let (uri, _shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    let mut plain = TcpStream::connect(uri.authority().unwrap().as_str())
        .await
        .unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    log.says("does not speak our kind of TLS").await;
    call(&load(&ca, &ca.issue(CLIENT_NAME)).unwrap(), &uri)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_typed_error_with_its_address() {
    let ca = Authority::new("ours");
    let (uri, shutdown) = serve(&load(&ca, &ca.issue(SERVER_NAME)).unwrap()).await;
    shutdown.cancel();
    let client = load(&ca, &ca.issue(CLIENT_NAME)).unwrap();
    // The listener is closed soon after the shutdown, not at once.
    let refusal = loop {
        match call(&client, &uri).await {
            Err(Refusal {
                reason: Reason::Closed,
                ..
            }) => tokio::task::yield_now().await,
            Err(refusal) => break refusal,
            Ok(()) => panic!("the server is gone"),
        }
    };
    assert!(
        matches!(
            refusal.reason,
            Reason::Io(
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset,
                _
            )
        ),
        "{refusal}"
    );
    assert!(
        refusal
            .to_string()
            .contains(uri.authority().unwrap().as_str()),
        "{refusal}"
    );
}

#[tokio::test]
async fn tonic_hands_the_typed_error_through() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (uri, _shutdown) = serve(&load(&theirs, &theirs.issue(SERVER_NAME)).unwrap()).await;
    let client = load(&ours, &ours.issue(CLIENT_NAME)).unwrap();
    let error = Endpoint::from(uri)
        .connect_with_connector(client.connector(SERVER_NAME).unwrap())
        .await
        .unwrap_err();
    let refusal = Refusal::find(&error).expect("a refusal among the sources");
    assert_eq!(refusal.reason.category(), "peer_unknown_issuer");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_gives_its_place_up_after_the_time_limit() {
    let log = Log::capture();
    let ca = Authority::new("ours");
    let server = load(&ca, &ca.issue(SERVER_NAME)).unwrap();
    let client = load(&ca, &ca.issue(CLIENT_NAME)).unwrap();

    let (silent, silent_far) = tokio::io::duplex(4096);
    let (good, good_far) = tokio::io::duplex(4096);
    let incoming =
        tokio_stream::iter([Ok(silent_far), Ok(good_far)]).chain(tokio_stream::pending());
    let limits = Limits {
        handshakes: 1,
        handshake_timeout: Duration::from_secs(10),
    };
    let mut accepted = server.accept_from(incoming, limits, CancellationToken::new());

    let good = Arc::new(std::sync::Mutex::new(Some(good)));
    let dial = move |_| {
        let good: DuplexStream = good.lock().unwrap().take().unwrap();
        async move { Ok::<_, io::Error>(good) }
    };
    let mut connector = client.connector_over(SERVER_NAME, dial).unwrap();
    // The client has as much patience as the server has with the silent one, so it asks later.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let call = tokio::spawn(async move {
        let uri = http::Uri::from_static("http://pipe");
        tower::Service::call(&mut connector, uri).await.map(|_| ())
    });
    let mut stream = accepted.next().await.unwrap().unwrap();
    stream.write_all(b"hi").await.unwrap();
    stream.flush().await.unwrap();
    call.await.unwrap().unwrap();
    assert!(
        log.text()
            .contains("did not finish the TLS handshake within 10s"),
        "{}",
        log.text()
    );
    drop(silent);
}

#[tokio::test]
async fn shutdown_ends_the_stream() {
    let ca = Authority::new("ours");
    let server = load(&ca, &ca.issue(SERVER_NAME)).unwrap();
    let shutdown = CancellationToken::new();
    let incoming = tokio_stream::pending::<io::Result<DuplexStream>>();
    let mut accepted = server.accept_from(incoming, Limits::default(), shutdown.clone());
    shutdown.cancel();
    assert!(accepted.next().await.is_none());
}

fn raw_client(
    ca: &Authority,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

async fn raw_call(mut config: ClientConfig, uri: &http::Uri) -> io::Result<()> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream.read_u8().await.map(|_| ())
}
