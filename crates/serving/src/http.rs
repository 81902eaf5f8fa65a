//! The small HTTP server beside every daemon: `/livez`, `/readyz`, `/metrics`.
//!
//! It is plain HTTP for the kubelet's probes and for Prometheus, and carries no secrets.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Registry, TextEncoder};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// How long open connections may last after shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "failed to listen on {address} for {purpose}: the port is already in use; stop the other \
         process or choose another port with {flag}"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// What would be served there.
        purpose: &'static str,
        /// The command-line flag that changes it.
        flag: &'static str,
    },
    /// Any other reason.
    #[error("failed to listen on {address} for {purpose}: {source}; check {flag}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What would be served there.
        purpose: &'static str,
        /// The command-line flag that changes it.
        flag: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Opens a TCP listener; `purpose` and `flag` complete the sentence if that fails.
pub async fn bind(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse {
                address,
                purpose,
                flag,
            },
            _ => BindError::Other {
                address,
                purpose,
                flag,
                source,
            },
        })
}

/// The routes `/livez`, `/readyz` and `/metrics`. A daemon may merge routes of its own.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    router_with_liveness(registry, readiness, Readiness::new())
}

/// Like [`router`], for a daemon that can hang while it still answers: `/livez` fails while a
/// condition of `liveness` does not hold.
pub fn router_with_liveness(
    registry: Registry,
    readiness: Readiness,
    liveness: Readiness,
) -> Router {
    Router::new()
        .route("/livez", get(conditions).with_state(liveness))
        .route("/readyz", get(conditions).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

/// A registry that already knows this process: resident memory, CPU time, open files.
pub fn registry() -> Registry {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    if let Err(error) = registry.register(Box::new(process)) {
        tracing::warn!(%error, "failed to register the metrics of this process");
    }
    registry
}

/// Serves until `shutdown`, then lets open requests end within a short grace period.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        () = shutdown.cancelled() => {}
    }
    // A client that never reads its answer must not hold the process up.
    timeout(GRACE, server).await.unwrap_or(Ok(()))
}

async fn conditions(State(readiness): State<Readiness>) -> Response {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return "ok\n".into_response();
    }
    let mut text = String::from("failing\n");
    for (name, why) in unmet {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name}: {why}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let text = format!("failed to encode the metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
