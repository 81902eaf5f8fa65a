//! The whole controller: the API over real HTTP, an agent over real mutual TLS.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it, too"
)]

mod agent;
mod certificates;
mod cleaning_up;
mod cluster;
mod own_certificates;
mod serving;
mod starting;
mod webhook;
