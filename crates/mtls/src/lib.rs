//! Mutual TLS from certificate files that may change while the process runs.
//!
//! The controller is the client and the agents are the servers; both show a certificate of the same
//! CA. tonic's own TLS configuration is fixed at start, but certificates are renewed under a running
//! process (cert-manager and Kubernetes Secret volumes swap a symlink). This crate therefore does
//! the handshakes itself: [`Reloading`] holds the configuration of the moment, every handshake takes
//! the newest one, and tonic is given streams that are already authenticated.
//!
//! A handshake that fails is worth one clear sentence on both sides: which side is wrong, what is
//! wrong and what to do. [`Refusal`] is that sentence, typed; [`Refusal::find`] digs it out of the
//! errors that tonic wraps around it.
//!
//! The webhook, which API servers call that have no certificate of ours, takes its own from here, too:
//! [`Reloading::accept_anybody`].
//!
//! Sessions are not resumed, so a certificate is looked at in every handshake. A connection that is
//! already up stays up when the files change.

mod accept;
mod configs;
mod connect;
mod error;
mod files;
mod refusal;
mod reloading;
mod transport;

pub use accept::{Accepted, Limits, PeerInfo, ServerStream};
pub use connect::{ClientStream, Connector, Dial, TcpDial};
pub use error::{Error, Part};
pub use files::TlsFiles;
pub use refusal::{Reason, Refusal, Side};
pub use reloading::Reloading;
pub use transport::Transport;

/// The DNS name in every agent's certificate.
pub const SERVER_NAME: &str = "mig-node-agent.cdmo.internal";

/// The DNS name in the controller's certificate: the only client that a server lets in.
pub const CLIENT_NAME: &str = "cdmo-controller.cdmo.internal";
