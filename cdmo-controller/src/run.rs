//! Putting the controller together: certificates, cluster, epoch, watches, loop, health, and the way
//! out.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Args,
    certificates::Source,
    engine::{Engine, HEARTBEAT},
    epoch::{self, LeaseEpochs},
    exit::Error,
    kube_client,
    metrics::Metrics,
    page,
    session::TlsDialer,
    watches::Watches,
    world::{Config, World},
    writer::Writer,
};

/// Inputs that may wait for the loop; beyond that, watches wait.
const INPUTS: usize = 256;
/// Reports of agents that may wait for the loop; beyond that, sessions wait, with long messages unread.
const REPORTS: usize = 256;
/// Attempts to reach the API server at the start, a second longer apart each time.
const START_ATTEMPTS: u32 = 6;
/// Everything has ended so long after shutdown, or is left behind.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the controller until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = config(&args);
    let Args {
        kubeconfig,
        namespace,
        agent_selector,
        name,
        tls,
        http_listen,
        standby_seconds,
        ..
    } = args;
    let me = name.unwrap_or_else(host_name);
    // Whoever makes certificates needs the cluster for it; otherwise files are looked at first.
    let early = if tls.make_certificates {
        Some(kube_client::connect(kubeconfig.as_deref()).await?)
    } else {
        None
    };
    let opened = Source::open(early.clone(), tls.secrets(&namespace), tls.files());
    let opened = Box::pin(opened);
    let Some(certificates) = shutdown.run_until_cancelled(opened).await.transpose()? else {
        return Ok(());
    };
    let connector = certificates.tls().connector(mtls::SERVER_NAME);
    let connector = connector.map_err(|error| std::io::Error::other(error.to_string()))?;
    let listener = serving::bind(http_listen, "probes and metrics", "--http-listen").await?;
    let client = match early {
        Some(client) => client,
        None => kube_client::connect(kubeconfig.as_deref()).await?,
    };
    let registry = serving::http::registry();
    let metrics = Metrics::new(&registry)?;
    let (readiness, liveness) = (serving::Readiness::new(), serving::Readiness::new());
    let health = Health::of(&readiness, &liveness);
    let tasks = TaskTracker::new();
    let work = shutdown.child_token();
    let (page, desk) = page::open();
    let router = serving::http::router_with_liveness(registry, readiness, liveness).merge(page);
    tasks.spawn(serving::serve(listener, router, work.clone()));
    health.alive.met();

    let epochs = Arc::new(LeaseEpochs::new(client.clone(), &namespace, me.clone()));
    let epoch = shutdown.run_until_cancelled(first_epoch(&epochs)).await;
    let Some(first) = epoch.transpose()? else {
        return Ok(());
    };
    certificates.follow(&tasks, work.clone());
    let (input_sender, inputs) = mpsc::channel(INPUTS);
    let watches = Watches {
        client: client.clone(),
        namespace: namespace.clone(),
        agent_selector,
    };
    watches.spawn(&input_sender, &tasks, &work);
    let beat = watch::Sender::new((Instant::now(), false));
    tasks.spawn(health.watch(beat.subscribe(), work.clone()));
    let config = Config {
        plan_prefix: first.to_string(),
        started: jiff::Timestamp::now().as_second(),
        ..config
    };
    let engine = Engine {
        world: World::new(config, metrics.clone(), Instant::now()),
        writer: Writer::new(client, me.clone(), input_sender, tasks.clone()),
        dialer: Arc::new(TlsDialer::new(connector)),
        epochs: epochs.clone(),
        me,
        metrics,
        inputs,
        reports: mpsc::channel(REPORTS),
        desk,
        beat,
        tasks: tasks.clone(),
    };
    let mut superseded = epochs.superseded();
    tracing::info!(epoch = first, "the controller runs");
    let result = tokio::select! {
        () = engine.run(work.clone()) => Ok(()),
        Ok(by) = superseded.wait_for(Option::is_some) => {
            Err(Error::Superseded(by.clone().unwrap_or_default()))
        }
    };
    work.cancel();
    wait_for_the_end(tasks).await;
    if let Err(error) = &result {
        stand_by(error, Duration::from_secs(standby_seconds), &shutdown).await;
    }
    result
}

/// What was chosen; what is known only once the controller has its turn is missing.
fn config(args: &Args) -> Config {
    let without = &args.without;
    Config {
        namespace: args.namespace.clone(),
        agent_port_name: args.agent_port_name.clone(),
        plan_prefix: String::new(),
        settle: Duration::from_millis(args.settle_ms),
        status_patch: !without.no_status_patch,
        pod_annotation: !without.no_pod_annotation,
        name_holders: !without.no_holder_names,
        turn_mig_on: !without.no_mig_mode,
        idle: args.idle_instances.into(),
        portfolio: !without.no_placement_portfolio,
        window_after: args.keep_free_after(),
        started: 0,
    }
}

/// Another controller has taken over, which may end again. To come back at once would end it.
async fn stand_by(error: &Error, time: Duration, shutdown: &CancellationToken) {
    tracing::error!("{error}");
    // Told to or not, it ends.
    let _ = timeout(time, shutdown.cancelled()).await;
}

async fn wait_for_the_end(tasks: TaskTracker) {
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some calls to the API server did not end in {GRACE:?} and are left behind");
    }
}

/// The API server may come up after us; what it forbids it will go on forbidding.
async fn first_epoch(epochs: &LeaseEpochs) -> Result<u64, epoch::Error> {
    let mut attempt = 1;
    loop {
        match epochs.take_above(0).await {
            Ok(epoch) => return Ok(epoch),
            Err(error) if attempt == START_ATTEMPTS || is_final(&error) => return Err(error),
            Err(error) => tracing::warn!(attempt, "{error}; trying again"),
        }
        sleep(Duration::from_secs(1) * attempt).await;
        attempt += 1;
    }
}

fn is_final(error: &epoch::Error) -> bool {
    let epoch::Error::Api { source, .. } = error else {
        return false;
    };
    kube_client::is_refusal(source)
}

fn host_name() -> String {
    // A pod's host name is its name.
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let name = name
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    name.unwrap_or_else(|| crate::names::CONTROLLER.to_owned())
}

struct Health {
    synced: serving::Condition,
    alive: serving::Condition,
}

impl Health {
    fn of(readiness: &serving::Readiness, liveness: &serving::Readiness) -> Self {
        Self {
            synced: readiness.condition("watches"),
            alive: liveness.condition("loop"),
        }
    }

    async fn watch(self, beats: watch::Receiver<(Instant, bool)>, shutdown: CancellationToken) {
        let mut ticks = interval(HEARTBEAT / 5);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (last, synced) = *beats.borrow();
            if synced {
                self.synced.met();
            } else {
                self.synced
                    .unmet("pods, nodes and agents are not all listed yet");
            }
            if last.elapsed() < 6 * HEARTBEAT {
                self.alive.met();
            } else {
                self.alive
                    .unmet(format!("the loop has not turned for {:?}", last.elapsed()));
            }
        }
    }
}
