//! Putting the agent together: journal, NVML, kubelet, controllers, health, and the way out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use device_plugin::{Hold, Holder, Plugins};
use nvml_mig::EventWatch;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Inputs, Outputs};
use crate::args::Args;
use crate::driver::{self, Driver, Hardware, Real};
use crate::evidence::{Holders, Proofs, cgroups};
use crate::exit::Error;
use crate::health;
use crate::journal::{self, Journal, Record, Recorded};
use crate::metrics::Metrics;
use crate::node::{Failure, Found, Node, Now};
use crate::podresources::PodResources;
use crate::session::Sessions;
use crate::specs::Nodes;
use crate::work::Worker;

/// Messages from controllers that may wait for the loop.
const SESSION_QUEUE: usize = 64;
/// How often certificate files are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(30);
/// A dead controller is noticed within two of these.
const KEEPALIVE: Duration = Duration::from_secs(10);
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
    let assembled = assemble(
        &args,
        &recorded,
        found,
        driver.clone(),
        journal.clone(),
        metrics.clone(),
        &shutdown,
        watch,
        &[("journal", opened.damage), ("unreadable", unreadable)],
    )
    .await?;
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

async fn open_driver(
    args: &Args,
    metrics: Metrics,
) -> Result<(Driver, oneshot::Receiver<()>, Option<EventWatch>), Error> {
    let library = args.nvml_library.clone();
    let (watching, watch) = oneshot::channel();
    let open = move || {
        let real = Real::open(library.as_deref()).map_err(Error::Nvml)?;
        // Received below, as soon as this has ended.
        let _ = watching.send(real.watch());
        Ok::<_, Error>(real)
    };
    let (driver, ended) = Driver::start(open, metrics).await?;
    Ok((driver, ended, watch.await.ok().flatten()))
}

/// Everything NVML knows, once.
async fn look(driver: &Driver) -> Result<(Vec<Found>, Option<String>), Error> {
    let all = driver.look("enumerate", |hardware: &dyn Hardware| {
        let unreadable = hardware.unreadable().join(" ");
        let found = hardware
            .gpus()
            .into_iter()
            .map(|info| {
                let model = hardware.model(&info.uuid)?;
                let view = hardware.view(&info.uuid)?;
                Ok(Found { info, model, view })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok((found, Some(unreadable).filter(|text| !text.is_empty())))
    });
    all.await.map_err(|failure| Error::Gpus(failure.message))
}

/// After a reboot, what the journal says of hardware is void.
async fn take_over_boot(journal: &Journal, recorded: &mut Recorded, boot_id: &str) {
    let boot = Record::Boot {
        id: boot_id.to_owned(),
    };
    if recorded.boot.as_deref() == Some(boot_id) {
        return;
    }
    if recorded.boot.is_some() {
        tracing::info!("The node was rebooted; its instances are gone");
    }
    recorded.apply(&boot);
    if let Err(error) = journal.write(vec![boot]).await {
        tracing::error!(%error, "The journal cannot be written; no device can be granted");
    }
}

/// The kernel's boot id; empty where the host's `/proc` does not have it.
fn boot_id(proc_dir: &Path) -> String {
    let path = proc_dir.join("sys/kernel/random/boot_id");
    match std::fs::read_to_string(&path) {
        Ok(id) => id.trim().to_owned(),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "No boot id; a reboot goes unnoticed in the journal");
            String::new()
        }
    }
}

struct Assembled {
    agent: Agent,
    plugins: Plugins,
    sessions: (
        mpsc::Sender<crate::session::SessionEvent>,
        watch::Receiver<Arc<cdmo_proto::agent::Snapshot>>,
    ),
    heartbeat: watch::Receiver<Instant>,
    events_ended: oneshot::Receiver<()>,
}

#[expect(
    clippy::too_many_arguments,
    reason = "this is the one place where it all comes together"
)]
async fn assemble(
    args: &Args,
    recorded: &Recorded,
    found: Vec<Found>,
    driver: Driver,
    journal: Journal,
    metrics: Metrics,
    shutdown: &CancellationToken,
    watch: Option<EventWatch>,
    problems: &[(&'static str, Option<String>)],
) -> Result<Assembled, Error> {
    let (pods_out, pods) = watch::channel(None);
    let (whereabouts_out, whereabouts) = watch::channel(Arc::default());
    let (snapshots_out, snapshots) = watch::channel(Arc::default());
    let (heartbeat_out, heartbeat) = watch::channel(Instant::now());
    let (session_events, sessions) = mpsc::channel(SESSION_QUEUE);
    let (late_out, late) = mpsc::channel(SESSION_QUEUE);

    let started = Instant::now();
    let mut now = Now::default();
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.unix = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let versions = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX / 2);
    let minors = found.iter().map(|f| (f.info.uuid.clone(), f.info.minor));
    let minors: HashMap<String, u32> = minors.collect();
    let damaged = problems
        .iter()
        .any(|(key, what)| *key == "journal" && what.is_some());
    let doubted = damaged.then(|| devices(&found));
    let mut node = Node::adopt(found, recorded, versions, now);
    for (key, problem) in problems {
        if let Some(problem) = problem {
            node.note_problem(key, problem.clone());
        }
    }

    let holders = Arc::new(Holders::new(journal.clone(), pods.clone(), recorded));
    let config = plugin_config(args);
    let proofs = Arc::new(Proofs {
        pods,
        holders: holders.clone(),
        whereabouts,
        driver: driver.clone(),
        proc_dir: args.proc_dir.clone(),
        own_pod: cgroups::own_pod(&args.proc_dir),
        pod_resources: PodResources::new(config.pod_resources_socket.clone()),
    });
    let mut holds = adopted_holds(recorded);
    holds.extend(doubted.into_iter().flatten().filter(|hold| {
        let key = (hold.resource.clone(), hold.id.clone());
        !recorded.holds.contains_key(&key)
    }));
    let plugins = Plugins::start(
        config,
        holders.clone(),
        proofs.clone(),
        holds,
        shutdown.clone(),
    )
    .await?;
    let worker = Worker {
        driver,
        plugins: plugins.clone(),
        journal,
        proofs,
        nodes: Arc::new(Nodes {
            host_root: args.host_root.clone(),
            proc_dir: args.proc_dir.clone(),
        }),
        minors: Arc::new(minors),
        late: late_out,
        tokens: Arc::default(),
    };
    let (faults, events_ended) = driver::watch_events(watch, shutdown.clone());
    let inputs = Inputs {
        sessions,
        late,
        faults,
        plugins: plugins.state(),
    };
    let outputs = Outputs {
        snapshots: snapshots_out,
        pods: pods_out,
        whereabouts: whereabouts_out,
        heartbeat: heartbeat_out,
        metrics,
    };
    let agent = Agent::new(node, worker, holders, inputs, outputs, started);
    Ok(Assembled {
        agent,
        plugins,
        sessions: (session_events, snapshots),
        heartbeat,
        events_ended,
    })
}

fn plugin_config(args: &Args) -> device_plugin::Config {
    let mut config = device_plugin::Config::new(&args.kubelet_dir);
    config.strategy = args.device_list_strategy.into();
    config.pass_device_specs = args.pass_device_specs;
    config
}

fn adopted_holds(recorded: &Recorded) -> Vec<Hold> {
    let holds = recorded.holds.iter();
    holds
        .map(|((resource, id), pods)| Hold {
            resource: resource.clone(),
            id: id.clone(),
            holders: pods
                .iter()
                .map(|pod| Holder {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: pod.container.clone(),
                })
                .collect(),
        })
        .collect()
}

/// Every device there is, as a hold by nobody known: what a damaged journal may have said.
fn devices(found: &[Found]) -> Vec<Hold> {
    let instances = found.iter().flat_map(|found| &found.view.instances);
    instances
        .filter_map(|instance| {
            Some(Hold {
                resource: instance.profile.resource_name(),
                id: instance.device_uuid()?.to_owned(),
                holders: Vec::new(),
            })
        })
        .collect()
}

/// Everything that serves beside the loop.
struct Services {
    readiness: serving::Readiness,
    liveness: serving::Readiness,
    tasks: Vec<JoinHandle<()>>,
}

impl Services {
    fn start(
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

    fn serve_controllers(
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

    fn watch_health(
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
