//! The user's command line, as a plugin of kubectl: `kubectl cdmo status`, `explain`, `what-if` and
//! `simulate`.
//!
//! It asks the controller for its [`status_report::Report`] through the API server's pod proxy, with
//! the user's own kubeconfig: no port-forward, no service to expose, and RBAC decides who may look.
//! [`source`] fetches, [`text`] says it in words and pictures, [`screen`] puts it onto a terminal.
//! [`manifest`] reads the pods that somebody asks about. [`simulate`] asks nobody: it needs no cluster.

#![forbid(unsafe_code)]

pub mod age;
pub mod args;
pub mod error;
pub mod explain;
pub mod manifest;
pub mod picture;
pub mod screen;
pub mod simulate;
pub mod source;
pub mod status;
pub mod text;
pub mod what_if;

pub use args::Args;
pub use error::Error;

use args::Command;

/// How a command ended that failed at nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As hoped for.
    Good,
    /// Some of the pods would not fit.
    Unfit,
    /// By Ctrl-C, with what was known by then.
    Interrupted,
}

/// Does what the command line asks for.
pub async fn run(args: Args) -> Result<Outcome, Error> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match args.command {
        Command::Status(options) => status::run(options).await.map(|()| Outcome::Good),
        Command::Explain(options) => explain::run(options).await.map(|()| Outcome::Good),
        Command::WhatIf(options) => what_if::run(options).await,
        Command::Simulate(options) => simulate::run(*options).await,
    }
}
