//! The certificates of controller, agents and webhook, made, kept and renewed by the controller
//! itself, so that an installation needs no other authority.
//!
//! Three Secrets hold them. The controller's has the authority's keys and the controller's own
//! certificate, and no pod mounts it. The agents' has what every agent mounts, and nothing with which
//! an agent could command another one; so has the webhook's. What must be made now is decided without
//! I/O ([`due`]), from what the Secrets say ([`held`]); [`keeper`] reads, writes and waits, and lets
//! API servers know whom to trust ([`trust`]).

pub mod due;
pub mod held;
mod issue;
pub mod keeper;
mod source;
pub mod trust;

use std::{io, path::PathBuf, time::Duration};

use tokio::time::timeout;

pub use keeper::Keeper;
pub use source::Source;

/// Name of the controller's own Secret.
pub const CONTROLLER_SECRET: &str = "cdmo-controller-tls";
/// Name of the Secret that agents mount.
pub const AGENT_SECRET: &str = "cdmo-agent-tls";
/// Name of the Secret that the webhook mounts.
pub const WEBHOOK_SECRET: &str = "cdmo-webhook-tls";
/// Name of the webhook's Service.
pub const WEBHOOK_SERVICE: &str = "cdmo-webhook";

/// Certificates could not be made, kept or handed on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret does not exist. The controller may not make any: with that right it could make a
    /// token of any account in its namespace.
    #[error(
        "failed to find the Secret {namespace}/{name}, which holds certificates; the chart makes it \
         empty: install it again with helm upgrade"
    )]
    Missing {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// There is no configuration of the webhook.
    #[error(
        "failed to find the MutatingWebhookConfiguration {name}, without which no fraction of a GPU \
         is served; install the chart again with helm upgrade"
    )]
    NoConfiguration {
        /// Its name.
        name: String,
    },
    /// The API server refused or could not be reached.
    #[error("failed to {verb} {what}: {source}; check the API server and the controller's role")]
    Api {
        /// Read or write.
        verb: &'static str,
        /// Which object, and what for.
        what: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("failed to {verb} {what}: no answer in {limit:?}")]
    TimedOut {
        /// Read or write.
        verb: &'static str,
        /// Which object, and what for.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Others kept changing the Secrets.
    #[error("failed to write certificates into the Secrets in {namespace}: they keep changing")]
    Contended {
        /// Where the Secrets are.
        namespace: String,
    },
    /// No certificate could be made.
    #[error("failed to make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The controller's own files could not be written.
    #[error(
        "failed to write {path}: {source}; --make-certificates needs a folder there that it may \
         write to"
    )]
    Files {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// Bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NoConfiguration { .. } => "certificates_missing",
            Self::Api { .. } => "certificates_api",
            Self::TimedOut { .. } => "certificates_timed_out",
            Self::Contended { .. } => "certificates_contended",
            Self::Issue(_) => "certificates_issue",
            Self::Files { .. } => "certificates_files",
        }
    }

    /// Whether trying again is in vain until somebody mends something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Api { source, .. } => crate::kube_client::is_refusal(source),
            Self::Missing { .. }
            | Self::NoConfiguration { .. }
            | Self::Issue(_)
            | Self::Files { .. } => true,
            Self::TimedOut { .. } | Self::Contended { .. } => false,
        }
    }
}

/// Time for one call to the API server.
const CALL: Duration = Duration::from_secs(10);

/// One call, and what went wrong with it.
async fn call<T>(
    verb: &'static str,
    what: String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Api {
            verb,
            what,
            source: Box::new(error),
        }),
        Err(_) => Err(Error::TimedOut {
            verb,
            what,
            limit: CALL,
        }),
    }
}
