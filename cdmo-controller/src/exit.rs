//! Why the controller could not start or go on, as one sentence and as an exit code.

use std::process::ExitCode;

use crate::{certificates, cleanup, epoch, kube_client};

/// The exit codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  ended by SIGTERM or SIGINT
   1  ended because of an unexpected failure while running
  64  the command line cannot be understood
  66  the certificates cannot be used
  67  a port cannot be listened on
  70  the cluster's address or credentials cannot be used
  71  the API server cannot be reached or does not permit what is needed
  72  another controller took over";

/// Why the controller could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value.
    #[error(transparent)]
    Usage(#[from] serving::log::Error),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] mtls::Error),
    /// Certificates of our own making.
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    /// A port.
    #[error(transparent)]
    Bind(#[from] serving::BindError),
    /// The kubeconfig, or what a pod finds in its place.
    #[error(transparent)]
    Cluster(#[from] kube_client::Error),
    /// No epoch.
    #[error(transparent)]
    Epoch(#[from] epoch::Error),
    /// Something could not be removed.
    #[error(transparent)]
    CleanUp(#[from] cleanup::Error),
    /// Another controller took over while this one ran.
    #[error("{0}")]
    Superseded(String),
    /// What no administrator can have caused.
    #[error("failed to run: {0}")]
    System(#[from] std::io::Error),
    /// What no administrator can have caused.
    #[error("failed to make the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    /// The exit code, as listed in [`HELP`].
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::Tls(_)
            | Self::Certificates(
                certificates::Error::Issue(_) | certificates::Error::Files { .. },
            ) => 66,
            Self::Bind(_) => 67,
            Self::Cluster(_) => 70,
            Self::Epoch(epoch::Error::Superseded { .. }) | Self::Superseded(_) => 72,
            Self::Epoch(_) | Self::Certificates(_) | Self::CleanUp(_) => 71,
            Self::System(_) | Self::Metrics(_) => 1,
        })
    }
}
