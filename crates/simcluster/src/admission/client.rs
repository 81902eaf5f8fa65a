//! Calls webhooks: HTTP/1.1 over TLS, the certificate checked against the webhook's own `caBundle`,
//! connections kept for the next call.

use std::collections::HashMap;
use std::fmt;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;

/// Longer answers are no answers.
const LIMIT: usize = 8 * 1024 * 1024;
/// Connections kept idle in all.
const IDLE: usize = 16;

type Sender = SendRequest<Full<Bytes>>;

/// Why a webhook did not answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// It took too long.
    OutOfTime,
    /// It could not be reached, or not understood.
    Other(String),
    /// It answered with another code than 200.
    Code(StatusCode, String),
}

impl CallError {
    /// In the real server's words.
    pub(super) fn tell(&self, url: &str) -> String {
        match self {
            Self::OutOfTime => format!("Post {url:?}: context deadline exceeded"),
            Self::Other(why) => format!("Post {url:?}: {why}"),
            Self::Code(StatusCode::NOT_FOUND, _) => {
                "the server could not find the requested resource".to_owned()
            }
            Self::Code(code, _) if code.is_client_error() => format!(
                "the server rejected our request for an unknown reason ({})",
                code.as_u16()
            ),
            Self::Code(_, body) => {
                format!(
                    "an error on the server ({body:?}) has prevented the request from succeeding"
                )
            }
        }
    }
}

/// Clones share connections.
#[derive(Clone, Default)]
pub(super) struct Client {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Default)]
struct Idle {
    senders: HashMap<Endpoint, Vec<Sender>>,
    count: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Sends a review, and returns the body of the answer. The caller sets the limit of time.
    pub(super) async fn post(
        &self,
        endpoint: &Endpoint,
        seconds: u64,
        review: &Value,
    ) -> Result<Vec<u8>, CallError> {
        let body = Bytes::from(review.to_string());
        // One that was kept may have been closed by the other side meanwhile.
        while let Some(sender) = self.kept(endpoint) {
            match self.exchange(sender, endpoint, seconds, body.clone()).await {
                Err(CallError::Other(_)) => {}
                outcome => return outcome,
            }
        }
        let sender = connect(endpoint).await?;
        self.exchange(sender, endpoint, seconds, body).await
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        endpoint: &Endpoint,
        seconds: u64,
        body: Bytes,
    ) -> Result<Vec<u8>, CallError> {
        let request = Request::post(format!("{}?timeout={seconds}s", endpoint.path))
            .header(HOST, &endpoint.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json, */*")
            .body(Full::new(body))
            .map_err(other)?;
        sender.ready().await.map_err(other)?;
        let response = sender.send_request(request).await.map_err(other)?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LIMIT);
        let body = body.collect().await.map_err(other)?.to_bytes();
        self.keep(endpoint, sender);
        if code == StatusCode::OK {
            return Ok(body.to_vec());
        }
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        Err(CallError::Code(code, text))
    }

    fn kept(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.senders.get_mut(endpoint).and_then(Vec::pop) {
            idle.count -= 1;
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        idle.senders.remove(endpoint);
        None
    }

    fn keep(&self, endpoint: &Endpoint, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.count >= IDLE {
            // Webhooks come and go; who is still there is connected to again.
            *idle = Idle::default();
        }
        idle.count += 1;
        idle.senders
            .entry(endpoint.clone())
            .or_default()
            .push(sender);
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Sender, CallError> {
    let config = config(&endpoint.ca)?;
    let name = ServerName::try_from(endpoint.server_name.clone()).map_err(other)?;
    let connected = TcpStream::connect(&endpoint.connect).await;
    let stream = connected.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        CallError::Other(format!("dial tcp {}: {why}", endpoint.connect))
    })?;
    // It makes small requests wait for acknowledgements otherwise.
    let _ = stream.set_nodelay(true);
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| CallError::Other(in_words(&error, &endpoint.server_name)))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(other)?;
    // It ends when the sender is dropped or the other side hangs up.
    tokio::spawn(connection);
    Ok(sender)
}

fn config(ca: &[u8]) -> Result<ClientConfig, CallError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let unusable =
            |why: String| CallError::Other(format!("unable to load root certificates: {why}"));
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What went wrong with TLS, as Go says it where it has a sentence for that.
fn in_words(error: &Error, name: &str) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(other) => return format!("tls: {other}"),
        None => return error.to_string(),
    };
    let why = match why {
        // Of a namesake of who signed it, too.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {why}")
        }
        CertificateError::NotValidForNameContext {
            expected: ServerName::IpAddress(_),
            presented,
        } if !presented.iter().any(|name| name.starts_with("IpAddress")) => {
            format!("cannot validate certificate for {name} because it doesn't contain any IP SANs")
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<&str> = presented.iter().map(|known| plain(known)).collect();
            let (names, wanted) = (names.join(", "), expected.to_str());
            format!("certificate is valid for {names}, not {wanted}")
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// `DnsName("a.b")` without what is around it.
fn plain(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn other(error: impl fmt::Display) -> CallError {
    CallError::Other(error.to_string())
}
