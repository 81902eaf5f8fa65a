//! What every daemon of ours serves and logs: health, metrics, tracing, shutdown.
//!
//! Listeners and the shutdown token come from outside, so that a test can run the same code on a
//! port of its own and stop it at will.

pub mod http;
pub mod log;
pub mod metrics;
pub mod readiness;
pub mod shutdown;

pub use http::{BindError, bind, router, serve};
pub use log::LogArgs;
pub use readiness::{Condition, Readiness};
pub use shutdown::shutdown_on_signals;
