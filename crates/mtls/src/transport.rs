//! The byte streams below TLS: TCP in production, in-memory pipes in replayed tests.

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A byte stream that TLS can run on.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The other side's address, for people.
    fn peer(&self) -> String;

    /// Called once before the handshake.
    fn prepare(&self) {}
}

impl Transport for TcpStream {
    fn peer(&self) -> String {
        self.peer_addr()
            .map_or_else(|_| "an unknown address".to_owned(), |addr| addr.to_string())
    }

    fn prepare(&self) {
        // Small gRPC messages must not wait for Nagle's algorithm; without it they are merely slower.
        if let Err(error) = self.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
    }
}

impl Transport for DuplexStream {
    fn peer(&self) -> String {
        "an in-memory pipe".to_owned()
    }
}
