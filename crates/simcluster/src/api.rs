//! The Kubernetes API over HTTP, as kube and kubectl speak it: a thin layer over the store.
//!
//! JSON only (YAML is read, too), HTTP/1.1 without TLS, and on loopback addresses only: whoever
//! can reach the port is the administrator of a cluster that exists for tests.

mod accept;
mod audit;
mod body;
mod discovery;
mod face;
mod faults;
mod list;
mod openapi;
mod params;
mod path;
mod protobuf;
mod proxy;
mod respond;
mod scale;
mod strict;
mod table;
mod watch;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::ListenerExt;
use http::Method;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::admission::Admission;
use crate::store::{Kind, Status, Store};
use params::Params;
use path::{Route, Target};

pub use audit::{Audit, Call};
pub use body::LogSource;
pub use faults::{Fault, Faults};

/// What the server is told from outside.
#[derive(Clone)]
pub struct ApiConfig {
    /// What `/version` says, such as `v1.33.0`.
    pub version: String,
    /// How often watches that asked for bookmarks get one.
    pub bookmark_every: Duration,
    /// What goes wrong on purpose; shared with whoever injects it.
    pub faults: Faults,
    /// What clients ask for; shared with whoever wants to know.
    pub audit: Audit,
    /// Where `kubectl logs` finds its text; without one it gets 501.
    pub logs: Option<Arc<dyn LogSource>>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            version: "v1.33.0".to_owned(),
            bookmark_every: Duration::from_mins(1),
            faults: Faults::default(),
            audit: Audit::default(),
            logs: None,
        }
    }
}

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It would have been reachable from other machines.
    #[error("failed to serve the API on {0}: the embedded cluster serves loopback addresses only")]
    NotLoopback(SocketAddr),
    /// The listener is broken.
    #[error("failed to serve the API")]
    Listener(#[source] std::io::Error),
}

/// How long requests under way may hold up the end of the server.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Server {
    store: Store,
    admission: Admission,
    config: Arc<ApiConfig>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown`; then ends all watches and returns.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    config: ApiConfig,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let router = router(store, config, shutdown.clone());
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "failed to set TCP_NODELAY");
        }
    });
    let deadline = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::select! {
        served = serving => served.map_err(ServeError::Listener),
        () = deadline => Ok(()),
    }
}

/// The API as a service, for clients in the same process.
pub fn router(store: Store, config: ApiConfig, shutdown: CancellationToken) -> Router {
    let server = Server {
        admission: Admission::new(store.clone()),
        store,
        config: Arc::new(config),
        shutdown,
    };
    Router::new().fallback(handle).with_state(server)
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    server.config.audit.note(&method, &uri, &parts.headers);
    let outcome = async {
        server.config.faults.strike(&method, uri.path()).await?;
        let params = Params::parse(&uri)?;
        let route = path::parse(uri.path()).ok_or_else(Status::no_such_path)?;
        match route {
            Route::Target(target) => on_target(&server, &target, &params, parts, body).await,
            _ if method != Method::GET => Err(Status::method_not_allowed()),
            Route::Health => Ok(respond::text("ok")),
            Route::Version => Ok(respond::json(&discovery::version(&server.config.version))),
            Route::Discovery(wanted) => discovery::answer(&wanted, &parts.headers),
            Route::OpenApi(document) => openapi::answer(document.as_deref()),
            Route::OpenApiV2 => Ok(openapi::version_2()),
        }
    };
    let response = outcome
        .await
        .unwrap_or_else(|status: Status| respond::failure(&status));
    debug!(%method, %uri, code = response.status().as_u16(), "answered");
    response
}

async fn on_target(
    server: &Server,
    target: &Target,
    params: &Params,
    parts: http::request::Parts,
    body: axum::body::Body,
) -> Result<Response, Status> {
    let accept = accept::negotiate(&parts.headers)?;
    let subresource = target.subresource.as_deref();
    if parts.method == Method::GET {
        return match (&target.name, subresource) {
            (_, Some("log")) => body::log(server, target, params),
            (Some(pod), Some("proxy")) if target.kind == Kind::Pod => {
                proxy::get(server, target, pod, parts).await
            }
            (Some(name), Some("scale")) => scale::one(server, target, name),
            (Some(_), None | Some("status")) if !params.watch => list::one(server, target, accept),
            (_, None) if params.watch => watch::answer(server, target, params, accept),
            (None, None) => list::many(server, target, params, accept),
            (_, Some(other)) => Err(Status::not_implemented(&format!("the subresource {other}"))),
            _ => Err(Status::method_not_allowed()),
        };
    }
    let sent = body::read(&parts.headers, body).await?;
    match (parts.method, &target.name, subresource) {
        (Method::POST, None, None) => write::create(server, target, params, accept, &sent).await,
        (Method::POST, _, Some("binding")) => write::bind(server, target, params, &sent),
        (Method::POST, Some(name), Some("eviction")) => {
            write::evict(server, target, name, params, &sent)
        }
        (Method::PUT, Some(name), None | Some("status")) => {
            write::replace(server, target, name, params, accept, &sent).await
        }
        (Method::PATCH, Some(name), None | Some("status")) => {
            write::patch(server, target, name, params, accept, &sent).await
        }
        (method @ (Method::PUT | Method::PATCH), Some(name), Some("scale")) => {
            let patch = method == Method::PATCH;
            scale::change(server, target, name, params, &sent, patch)
        }
        (Method::DELETE, Some(name), None) => {
            write::delete(server, target, name, params, accept, &sent)
        }
        (Method::DELETE, None, None) => write::delete_all(server, target, params, accept, &sent),
        (
            _,
            _,
            Some(
                "exec"
                | "attach"
                | "portforward"
                | "proxy"
                | "ephemeralcontainers"
                | "resize"
                | "token"
                | "finalize",
            ),
        ) => Err(Status::not_implemented("this subresource")),
        _ => Err(Status::method_not_allowed()),
    }
}
