//! Why the agent could not start, as one sentence and as an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::journal::OpenError;

/// The exit codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  ended by SIGTERM or SIGINT
   1  ended because of an unexpected failure while running
  64  the command line cannot be understood
  65  the NVML library cannot be opened
  66  the certificates cannot be used
  67  a port cannot be listened on
  68  the journal cannot be used
  69  the kubelet's device-plugin directory cannot be used";

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value.
    #[error(transparent)]
    Usage(#[from] serving::log::Error),
    /// No driver library, or no driver.
    #[error(transparent)]
    Nvml(nvml_mig::Error),
    /// No driver library below the root directory that was named.
    #[error(
        "failed to find libnvidia-ml.so.1 below {}; check driverRoot of the chart (--driver-root), \
         and that the driver is installed there",
        .0.display()
    )]
    NoLibrary(PathBuf),
    /// The driver opened, but not a GPU of it.
    #[error("failed to read the GPUs: {0}")]
    Gpus(String),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] mtls::Error),
    /// A port.
    #[error(transparent)]
    Bind(#[from] serving::BindError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The kubelet's directory.
    #[error(transparent)]
    Kubelet(#[from] device_plugin::Error),
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
            Self::Nvml(_) | Self::NoLibrary(_) => 65,
            Self::Tls(_) => 66,
            Self::Bind(_) => 67,
            Self::Journal(_) => 68,
            Self::Kubelet(_) => 69,
            Self::Gpus(_) | Self::System(_) | Self::Metrics(_) => 1,
        })
    }
}
