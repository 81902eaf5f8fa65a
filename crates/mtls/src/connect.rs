//! The client's side: a connector for tonic's `Endpoint::connect_with_connector`.

use std::{
    future::Future,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{io::AsyncBufReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    refusal::{Reason, Refusal, Side},
    reloading::Reloading,
    transport::Transport,
};

/// Time for the connection, the handshake and the server's first word together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection whose server has been authenticated and has accepted us.
pub type ClientStream<IO> = TokioIo<TlsStream<IO>>;

/// Opens the byte stream below TLS. Implemented by functions from a [`Uri`] to a future.
pub trait Dial: Clone + Send + 'static {
    /// What is opened.
    type Io: Transport;

    /// Opens a stream to the URI's authority.
    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<Self::Io>>;
}

impl<F, Fut, IO> Dial for F
where
    F: Fn(Uri) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = io::Result<IO>> + Send + 'static,
    IO: Transport,
{
    type Io = IO;

    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<IO>> {
        Box::pin(self(uri))
    }
}

/// Dials over TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial;

impl Dial for TcpDial {
    type Io = TcpStream;

    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            // `Uri` keeps the brackets of an IPv6 address.
            let host = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned();
            TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await
        })
    }
}

/// Connects by mutual TLS, with the newest certificates each time.
///
/// Give tonic an `http://` URI: TLS is done here, and tonic built with TLS of its own would refuse
/// an `https://` URI that it has no configuration for.
///
/// The server must speak first, as HTTP/2 servers do (their SETTINGS frame): only then is it certain
/// that it has accepted our certificate, and a refusal becomes a typed error of the connect instead
/// of a broken pipe in the middle of the first call.
#[derive(Clone, Debug)]
pub struct Connector<D> {
    tls: Reloading,
    server_name: ServerName<'static>,
    dial: D,
}

impl Reloading {
    /// Connects over TCP to servers whose certificate is for `server_name`, usually
    /// [`SERVER_NAME`](crate::SERVER_NAME).
    pub fn connector(
        &self,
        server_name: &str,
    ) -> Result<Connector<TcpDial>, rustls_pki_types::InvalidDnsNameError> {
        self.connector_over(server_name, TcpDial)
    }

    /// Like [`Reloading::connector`], over any byte stream.
    pub fn connector_over<D: Dial>(
        &self,
        server_name: &str,
        dial: D,
    ) -> Result<Connector<D>, rustls_pki_types::InvalidDnsNameError> {
        let server_name = ServerName::try_from(server_name.to_owned())?;
        Ok(Connector {
            tls: self.clone(),
            server_name,
            dial,
        })
    }
}

impl<D: Dial> Connector<D> {
    async fn connect(self, uri: Uri) -> Result<ClientStream<D::Io>, Refusal> {
        let authority = uri
            .authority()
            .map_or_else(|| uri.to_string(), ToString::to_string);
        let reason = match timeout(CONNECT_TIMEOUT, self.open(uri)).await {
            Ok(Ok(stream)) => return Ok(TokioIo::new(stream)),
            Ok(Err(reason)) => reason,
            Err(_) => Reason::TimedOut(CONNECT_TIMEOUT),
        };
        let refusal = Refusal {
            side: Side::Client,
            peer: authority,
            reason,
        };
        let category = refusal.reason.category();
        if refusal.reason.is_about_certificates() {
            tracing::warn!(category, "{refusal}");
        } else {
            // A peer that is away is the caller's affair: it knows whether one was expected.
            tracing::debug!(category, "{refusal}");
        }
        Err(refusal)
    }

    async fn open(self, uri: Uri) -> Result<TlsStream<D::Io>, Reason> {
        let reason = |error: io::Error| Reason::from_io(&error);
        let io = self.dial.dial(uri).await.map_err(reason)?;
        io.prepare();
        let mut stream = TlsConnector::from(self.tls.client())
            .connect(self.server_name, io)
            .await
            .map_err(reason)?;
        if stream.fill_buf().await.map_err(reason)?.is_empty() {
            return Err(Reason::Closed);
        }
        Ok(stream)
    }
}

impl<D: Dial> tower::Service<Uri> for Connector<D> {
    type Response = ClientStream<D::Io>;
    type Error = Refusal;
    type Future = BoxFuture<'static, Result<Self::Response, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
