//! Mutating webhooks as the real API server calls them: over TLS, between defaulting and
//! validation, with its sentences when they refuse or fail.
#![expect(
    clippy::unwrap_used,
    reason = "the exception for tests leaves out their helpers"
)]

mod changing;
mod conditions;
mod failing;
mod hook;
mod selecting;
mod support;
mod workloads;
