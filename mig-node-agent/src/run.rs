//! Putting the agent together: journal, NVML, kubelet, controllers, health, and the way out.

mod assemble;
mod prepare;
mod services;

use std::time::Duration;

use device_plugin::Plugins;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::exit::Error;
use crate::journal::{self, Journal};
use crate::metrics::Metrics;
use crate::session::Sessions;
use assemble::{Assembled, JOURNAL, Parts, assemble};
use prepare::{boot_id, look, open_driver, take_over_boot};
use services::Services;

/// Everything has ended so long after shutdown, or is left behind.
const GRACE: Duration = Duration::from_secs(5);

/// The agent's listeners, opened before anything else so that a port in use costs nothing.
#[derive(Debug)]
pub struct Listeners {
    /// For controllers.
    pub grpc: TcpListener,
    /// For probes and Prometheus.
    pub http: TcpListener,
}

impl Listeners {
    /// Opens both.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(args: &Args) -> Result<Self, Error> {
        Ok(Self {
            grpc: serving::bind(args.listen, "the controller", "--listen").await?,
            http: serving::bind(args.http_listen, "probes and metrics", "--http-listen").await?,
        })
    }
}

/// Runs the agent until `shutdown`.
///
/// # Errors
/// Why it could not start.
pub async fn run(
    args: Args,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let tls = mtls::Reloading::load(mtls::TlsFiles {
        ca: args.tls_ca.clone(),
        cert: args.tls_cert.clone(),
        key: args.tls_key.clone(),
    })?;
    let registry = serving::http::registry();
    let metrics = Metrics::new(&registry)?;
    let opened = journal::open(&args.state_dir)?;
    let (driver, driver_ended, watch) = open_driver(&args, metrics.clone()).await?;
    let (found, unreadable) = look(&driver).await?;
    tracing::info!(node = args.node_name, gpus = found.len(), "NVML is open");

    let mut recorded = opened.recorded;
    let (journal, journal_ended) = Journal::start(opened.storage, recorded.clone())?;
    let boot_id = boot_id(&args.proc_dir);
    take_over_boot(&journal, &mut recorded, &boot_id).await;

    let mut services = Services::start(&args, listeners.http, registry, &shutdown);
    let parts = Parts {
        recorded: &recorded,
        found,
        problems: [(JOURNAL, opened.damage), ("unreadable", unreadable)],
        driver: driver.clone(),
        watch,
        journal: journal.clone(),
        metrics: metrics.clone(),
    };
    let assembled = assemble(&args, parts, &shutdown).await?;
    let Assembled {
        agent,
        plugins,
        sessions,
        heartbeat,
        events_ended,
    } = assembled;
    let service = Sessions::new(
        recorded.epoch,
        boot_id,
        journal.clone(),
        sessions.0,
        sessions.1,
        metrics,
        shutdown.clone(),
    );
    services.serve_controllers(&tls, listeners.grpc, &service, &shutdown);
    services.watch_health(&plugins, heartbeat, &shutdown);

    agent.run(shutdown.clone()).await;
    // The loop may also end by itself one day; everything else follows it.
    shutdown.cancel();
    driver.close();
    drop((driver, service, journal));
    wait_for_the_end(
        services,
        plugins,
        [events_ended, driver_ended, journal_ended],
    )
    .await;
    Ok(())
}

/// Ends everything in order: nobody is served, the NVML call under way returns, the journal closes.
async fn wait_for_the_end(
    services: Services,
    plugins: Plugins,
    threads: [oneshot::Receiver<()>; 3],
) {
    let end = async {
        for task in services.tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        plugins.closed().await;
        drop(plugins);
        for ended in threads {
            // It only ever resolves, or the thread is gone without a word.
            let _ = ended.await;
        }
    };
    if timeout(GRACE, end).await.is_err() {
        tracing::warn!("Not everything ended within {GRACE:?}; what is left is found at the start");
    }
    tracing::info!("Ended");
}
