//! The controller at the size it is made for: 1,000 nodes of 8 GPUs, and 10,000 waiting pods.

mod agents;
mod load;
mod node;
mod process;
mod report;
mod scheduler;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use simcluster::cluster::{Behaviour, Cluster, ClusterConfig};
use simcluster::store::{Kind, Store};
use testbed::binaries::Binaries;
use testbed::certs::{AGENT_NAME, Authority, CONTROLLER_NAME, Files, Validity};
use testbed::{http, manifests};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::document::Report;
use agents::Simulated;
use load::{Dice, Running, Shape};
use process::{Controller, Pass};
use scheduler::{Counters, Scheduler};

const NODES: usize = 1_000;
const PODS: usize = 10_000;
/// Pods that end and come, a second.
const RATE: u32 = 20;
/// How long the controller is watched at rest, and while pods end and come.
const WATCHED: Duration = Duration::from_secs(20);
/// It is at rest after so long without a pass.
const QUIET: Duration = Duration::from_secs(3);
/// Pods created without a break.
const BATCH: usize = 50;
/// Long after anything that still counts as working; of each half.
const LIMIT: Duration = Duration::from_mins(5);

/// What was seen while something went on.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    took: Duration,
    /// Processor time of the controller.
    busy: Duration,
    /// Resident at its end, in MiB.
    resident: f64,
    passes: Vec<Pass>,
    /// Turns of the controller's loop, and the seconds they took together.
    turns: (f64, f64),
    /// Whether a share of a core is promised for it.
    steady: bool,
}

/// What a half of the benchmark found.
#[derive(Debug)]
struct Half {
    phases: Vec<Phase>,
    /// Most memory at any time, in MiB.
    peak: f64,
    /// Pods that ran from the start.
    running: usize,
    bound: usize,
    /// Grants for which there was no device.
    failed: usize,
    complaints: usize,
}

pub(super) async fn measure(binaries: &Binaries) -> anyhow::Result<Report> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut halves = Vec::new();
    for full in [false, true] {
        let half = timeout(LIMIT, half(&binaries.controller, full)).await;
        halves.push(half.with_context(|| format!("it took more than {} s", LIMIT.as_secs()))??);
    }
    Ok(report::report(&halves))
}

async fn half(program: &Path, full: bool) -> anyhow::Result<Half> {
    let folder = tempfile::Builder::new().prefix("cdmo-").tempdir()?;
    let shutdown = CancellationToken::new();
    let _ends = shutdown.clone().drop_guard();
    let cluster = Cluster::start(ClusterConfig {
        dir: folder.path().to_owned(),
        behaviour: Behaviour::V1_33,
        ..ClusterConfig::default()
    });
    let cluster = cluster.await?;
    let bench = Bench::set_up(&cluster, folder.path(), full, &shutdown).await?;
    let scheduler = Scheduler::new(
        &bench.store,
        &bench.agents,
        bench.shapes.clone(),
        &bench.running,
        bench.counters.clone(),
    );
    let work = bench.work(program, folder.path(), cluster.kubeconfig_path(), full);
    let result = tokio::select! {
        result = work => result,
        result = scheduler.run() => match result {
            Ok(()) => Err(anyhow::anyhow!("the scheduler ended")),
            Err(error) => Err(error),
        },
    };
    shutdown.cancel();
    cluster.shutdown().await;
    result
}

struct Bench {
    store: Store,
    agents: Vec<(Simulated, String)>,
    shapes: Vec<Shape>,
    running: Vec<Running>,
    counters: Arc<Counters>,
    tls: Files,
}

impl Bench {
    async fn set_up(
        cluster: &Cluster,
        folder: &Path,
        full: bool,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let store = cluster.store().clone();
        let authority = Authority::new()?;
        let issue =
            |place: &str, name: &str| authority.issue(&folder.join(place), name, Validity::Current);
        let (own, theirs) = (issue("tls", CONTROLLER_NAME)?, issue("agents", AGENT_NAME)?);
        let tls = mtls::Reloading::load(mtls::TlsFiles {
            ca: theirs.ca,
            cert: theirs.cert,
            key: theirs.key,
        })?;
        let namespace = manifests::namespace(manifests::NAMESPACE);
        let made = store.create(Kind::Namespace, "", namespace);
        made.map_err(|status| anyhow::anyhow!("the API server refused: {status}"))?;
        let agents = load::agents(NODES)?;
        let running = if full {
            load::fill(&store, &agents)?
        } else {
            Vec::new()
        };
        load::register(&store, &agents)?;
        for (agent, _) in &agents {
            let address = agent.listen(&tls, shutdown).await?;
            let name = agent.with(|node| node.name().to_owned());
            load::announce(&store, &name, address)?;
        }
        Ok(Self {
            store,
            agents,
            shapes: load::shapes(),
            running,
            counters: Arc::new(Counters::default()),
            tls: own,
        })
    }

    async fn work(
        &self,
        program: &Path,
        folder: &Path,
        kubeconfig: &Path,
        full: bool,
    ) -> anyhow::Result<Half> {
        if full {
            self.arrive(PODS).await?;
        }
        let port = free_port().await?;
        let controller = Controller::start(program, folder, kubeconfig, &self.tls, port)?;
        let watch = Watch { controller };
        let mut phases = Vec::new();
        if full {
            let start = watch.during("start, 10,000 pods wait", false, async {
                self.sessions(&watch.controller).await?;
                self.quiet(&watch.controller).await
            });
            phases.push(start.await?);
            let rest = watch.during("at rest, 10,000 pods wait", true, self.rest());
            phases.push(rest.await?);
            let churn = watch.during("20 pods a second end, and 20 come", true, self.churn());
            phases.push(churn.await?);
        } else {
            let start = watch.during("start", false, async {
                self.sessions(&watch.controller).await?;
                self.quiet(&watch.controller).await
            });
            phases.push(start.await?);
            let serve = watch.during("10,000 pods come and are served", false, async {
                self.arrive(PODS).await?;
                self.served(PODS).await
            });
            phases.push(serve.await?);
            let rest = watch.during("the 20 s after that", true, self.rest());
            phases.push(rest.await?);
        }
        let half = Half {
            phases,
            peak: watch.controller.peak()?,
            running: self.running.len(),
            bound: self.counters.bound.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            complaints: watch.controller.complaints().len(),
        };
        for line in watch.controller.complaints().iter().take(5) {
            anstream::eprintln!("the controller says: {line}");
        }
        watch.controller.end().await;
        Ok(half)
    }

    /// So many pods come.
    async fn arrive(&self, count: usize) -> anyhow::Result<()> {
        let mut dice = Dice(2);
        for number in 0..count {
            let shape = dice.roll(self.shapes.len());
            load::wait(
                &self.store,
                &self.shapes,
                shape,
                &format!("pod-{number:05}"),
            )?;
            if number % BATCH == 0 {
                // The API server runs on the same core.
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// Waits for a session with each agent.
    async fn sessions(&self, controller: &Controller) -> anyhow::Result<()> {
        loop {
            let page = controller.metrics().await;
            let stand = http::metric(&page, "cdmo_agent_sessions", "");
            #[expect(clippy::cast_precision_loss, reason = "a thousand is exact")]
            if stand == Some(NODES as f64) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until there are no more passes.
    async fn quiet(&self, controller: &Controller) -> anyhow::Result<()> {
        let (mut seen, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET {
            sleep(Duration::from_millis(200)).await;
            let passes = controller.passes()?.len();
            if passes != seen {
                (seen, since) = (passes, Instant::now());
            }
        }
        Ok(())
    }

    /// Waits until so many pods run.
    async fn served(&self, count: usize) -> anyhow::Result<()> {
        while self.counters.bound.load(Ordering::Relaxed) < count {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn rest(&self) -> anyhow::Result<()> {
        sleep(WATCHED).await;
        Ok(())
    }

    /// Pods end, and as many come.
    async fn churn(&self) -> anyhow::Result<()> {
        let mut dice = Dice(3);
        let mut left: Vec<&str> = self.running.iter().map(|(pod, ..)| pod.as_str()).collect();
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        let begin = Instant::now();
        let mut number = PODS;
        while begin.elapsed() < WATCHED {
            ticks.tick().await;
            if left.is_empty() {
                bail!("no pod is left that could end");
            }
            let gone = left.swap_remove(dice.roll(left.len()));
            scheduler::end(&self.store, gone)?;
            let shape = dice.roll(self.shapes.len());
            load::wait(
                &self.store,
                &self.shapes,
                shape,
                &format!("pod-{number:05}"),
            )?;
            number += 1;
        }
        Ok(())
    }
}

/// Looks at the controller while something goes on.
struct Watch {
    controller: Controller,
}

impl Watch {
    async fn during(
        &self,
        name: &'static str,
        steady: bool,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Phase> {
        let controller = &self.controller;
        let (begin, busy) = (Instant::now(), controller.busy()?);
        let passes = controller.passes()?.len();
        let turns = turns(&controller.metrics().await);
        work.await?;
        let took = begin.elapsed();
        let busy = controller.busy()?.saturating_sub(busy);
        let after = self::turns(&controller.metrics().await);
        Ok(Phase {
            name,
            took,
            busy,
            resident: controller.resident()?,
            passes: controller.passes()?.split_off(passes),
            turns: (after.0 - turns.0, after.1 - turns.1),
            steady,
        })
    }
}

/// Turns of the loop so far, and the seconds they took.
fn turns(page: &str) -> (f64, f64) {
    let of = |part: &str| http::metric(page, &format!("cdmo_planning_pass_seconds_{part}"), "");
    (of("count").unwrap_or(0.0), of("sum").unwrap_or(0.0))
}

async fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
