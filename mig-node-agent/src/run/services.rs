//! Everything that serves beside the loop: controllers, probes, Prometheus, certificates.

use std::time::Duration;

use device_plugin::Plugins;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::health;
use crate::session::Sessions;

/// How often certificate files are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(30);
/// A dead controller is noticed within two of these.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Everything that serves beside the loop.
pub(super) struct Services {
    readiness: serving::Readiness,
    liveness: serving::Readiness,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

impl Services {
    pub(super) fn start(
        args: &Args,
        http: TcpListener,
        registry: Registry,
        shutdown: &CancellationToken,
    ) -> Self {
        let readiness = serving::Readiness::new();
        let liveness = serving::Readiness::new();
        let router = health::router(registry, readiness.clone(), liveness.clone());
        let (address, shutdown) = (args.http_listen, shutdown.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = serving::serve(http, router, shutdown).await {
                tracing::error!(%error, %address, "Health and metrics are not served any more");
            }
        });
        Self {
            readiness,
            liveness,
            tasks: vec![serving],
        }
    }

    pub(super) fn serve_controllers(
        &mut self,
        tls: &mtls::Reloading,
        listener: TcpListener,
        service: &Sessions,
        shutdown: &CancellationToken,
    ) {
        let incoming = tls.accept(listener, shutdown.clone());
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .serve_with_incoming_shutdown(
                service.service(),
                incoming,
                shutdown.clone().cancelled_owned(),
            );
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "Controllers are not served any more");
            }
        }));
        let (tls, shutdown) = (tls.clone(), shutdown.clone());
        self.tasks.push(tokio::spawn(async move {
            tls.watch(CERTIFICATES_EVERY, shutdown).await;
        }));
    }

    pub(super) fn watch_health(
        &mut self,
        plugins: &Plugins,
        heartbeat: watch::Receiver<Instant>,
        shutdown: &CancellationToken,
    ) {
        let conditions = health::Conditions::new(&self.readiness, &self.liveness);
        let watch = conditions.watch(plugins.state(), heartbeat);
        let shutdown = shutdown.clone();
        self.tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = watch => {}
                () = shutdown.cancelled() => {}
            }
        }));
    }
}
