//! The user's command line, as a plugin of kubectl: `kubectl cdmo status`.
//!
//! It asks the controller for its [`status_report::Report`] through the API server's pod proxy, with
//! the user's own kubeconfig: no port-forward, no service to expose, and RBAC decides who may look.
//! [`source`] fetches, [`text`] says it in words and pictures, [`screen`] puts it onto a terminal.

#![forbid(unsafe_code)]

pub mod age;
pub mod args;
pub mod error;
pub mod picture;
pub mod screen;
pub mod source;
pub mod status;
pub mod text;

pub use args::Args;
pub use error::Error;

use args::Command;

/// Does what the command line asks for.
pub async fn run(args: Args) -> Result<(), Error> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match args.command {
        Command::Status(options) => status::run(options).await,
    }
}
