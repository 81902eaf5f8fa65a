//! The server's side: from a listener to streams whose client is known to be the controller, or, for
//! the webhook, to streams of anybody.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    refusal::{Reason, Refusal, Side},
    reloading::Reloading,
    transport::Transport,
};

/// Pause after a failed `accept(2)`: out of file descriptors, the next call fails at once, too.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// What strangers may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Handshakes at the same time; further connections wait in the listener's backlog.
    pub handshakes: usize,
    /// Time for one handshake.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 32,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Connections after their handshake, for tonic's `serve_with_incoming_shutdown`. Ends after shutdown.
pub type Accepted<IO> = ReceiverStream<io::Result<ServerStream<IO>>>;

impl Reloading {
    /// Accepts TLS connections from the holder of [`CLIENT_NAME`](crate::CLIENT_NAME) until
    /// `shutdown`, with [`Limits::default`]. Refused clients are logged, never returned.
    pub fn accept(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Accepted<tokio::net::TcpStream> {
        self.accept_from(
            TcpListenerStream::new(listener),
            Limits::default(),
            shutdown,
        )
    }

    /// Like [`Reloading::accept`], over any stream of connections and with chosen limits.
    pub fn accept_from<L, IO>(
        &self,
        incoming: L,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Accepted<IO>
    where
        L: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: Transport,
    {
        self.admit(Door::OnlyTheController, incoming, limits, shutdown)
    }

    /// Accepts TLS connections from anybody until `shutdown`: no client is asked for a certificate.
    /// What is spoken on them is HTTP/1.1.
    pub fn accept_anybody<L, IO>(
        &self,
        incoming: L,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Accepted<IO>
    where
        L: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: Transport,
    {
        self.admit(Door::Open, incoming, limits, shutdown)
    }

    fn admit<L, IO>(
        &self,
        door: Door,
        incoming: L,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Accepted<IO>
    where
        L: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: Transport,
    {
        // Who has shaken hands keeps the permit until somebody takes the stream.
        let (accepted, stream) = mpsc::channel(1);
        tokio::spawn(run(
            self.clone(),
            door,
            incoming,
            limits,
            accepted,
            shutdown,
        ));
        ReceiverStream::new(stream)
    }
}

/// Who is let in.
#[derive(Clone, Copy)]
enum Door {
    OnlyTheController,
    Open,
}

async fn run<L, IO>(
    tls: Reloading,
    door: Door,
    mut incoming: L,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<ServerStream<IO>>>,
    shutdown: CancellationToken,
) where
    L: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
    IO: Transport,
{
    let permits = Arc::new(Semaphore::new(limits.handshakes.max(1)));
    // Dropped with this function, which ends the handshakes under way.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, incoming.next().await)
        };
        let (permit, io) = tokio::select! {
            () = shutdown.cancelled() => return,
            () = accepted.closed() => return,
            (permit, next) = next => match next {
                Some(Ok(io)) => (permit, io),
                Some(Err(error)) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(ACCEPT_BACK_OFF).await;
                    continue;
                }
                None => return,
            },
        };
        let (tls, accepted) = (tls.clone(), accepted.clone());
        handshakes.spawn(async move {
            let _permit = permit;
            let config = match door {
                Door::OnlyTheController => tls.server(),
                Door::Open => tls.open(),
            };
            match handshake(config, io, limits.handshake_timeout).await {
                // The receiver is gone only when the server is.
                Ok(stream) => drop(accepted.send(Ok(stream)).await),
                Err(refusal) => report(&refusal),
            }
        });
    }
}

async fn handshake<IO: Transport>(
    config: Arc<ServerConfig>,
    io: IO,
    limit: Duration,
) -> Result<ServerStream<IO>, Refusal> {
    io.prepare();
    let peer = io.peer();
    let reason = match timeout(limit, TlsAcceptor::from(config).accept(io)).await {
        Ok(Ok(stream)) => {
            return Ok(ServerStream {
                stream,
                peer: PeerInfo { address: peer },
            });
        }
        Ok(Err(error)) => Reason::from_io(&error),
        Err(_) => Reason::TimedOut(limit),
    };
    Err(Refusal {
        side: Side::Server,
        peer,
        reason,
    })
}

fn report(refusal: &Refusal) {
    let category = refusal.reason.category();
    if refusal.reason.is_about_certificates() {
        tracing::warn!(category, "{refusal}");
    } else {
        // Port probes and load balancers open and close connections all day.
        tracing::debug!(category, "{refusal}");
    }
}

/// Who is at the other end; tonic puts it into each request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The client's address, for people.
    pub address: String,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct ServerStream<IO> {
    stream: TlsStream<IO>,
    peer: PeerInfo,
}

impl<IO> Connected for ServerStream<IO> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl<IO: Transport> AsyncRead for ServerStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<IO: Transport> AsyncWrite for ServerStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
