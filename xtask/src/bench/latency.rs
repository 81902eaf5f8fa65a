//! From a pod's creation to the kubelet's Allocate, when every pod needs a new instance.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use simcluster::cluster::Behaviour;
use simcluster::store::{Kind, object};
use simcluster::timeline::Timeline;
use testbed::binaries::Binaries;
use testbed::hardware::{Gpus, Host, Latency};
use testbed::http;
use testbed::journey::Stage;
use testbed::system::{Setup, System};
use tokio::time::MissedTickBehavior;

use super::document::{Report, Table};
use super::numbers::{milliseconds, percentile, verdict};

const NODES: u32 = 10;
const GPUS: u32 = 8;
const PODS: usize = 100;
const APART: Duration = Duration::from_millis(10);
const PROFILE: &str = "3g.40gb";
const RUNS: usize = 3;
/// Promised: half of all pods, and all but one in a hundred, have their device by then.
const TARGET_P50: Duration = Duration::from_millis(20);
const TARGET_P99: Duration = Duration::from_millis(100);
/// Long after anything that still counts as working.
const LIMIT: Duration = Duration::from_mins(1);

/// What a span of time is called, and when it began and ended.
type Span = (
    &'static str,
    fn(&Timeline) -> Option<Duration>,
    fn(&Timeline) -> Option<Duration>,
);

const STAGES: [Span; 5] = [
    (
        "created -> Allocate called",
        |t| t.created,
        |t| t.allocate_called,
    ),
    (
        "created -> scheduler found no node",
        |t| t.created,
        |t| t.unschedulable,
    ),
    ("created -> bound", |t| t.created, |t| t.scheduled),
    (
        "bound -> devices allocated",
        |t| t.scheduled,
        |t| t.allocated,
    ),
    ("allocated -> Running", |t| t.allocated, |t| t.running),
];

/// What one run found.
struct Run {
    timelines: Vec<Timeline>,
    controller: Vec<(String, f64)>,
}

pub(super) async fn measure(binaries: &Binaries) -> anyhow::Result<Report> {
    let mut figures = Table::new(&[
        "run",
        "p50 (ms)",
        "p99 (ms)",
        "most (ms)",
        "p50 < 20",
        "p99 < 100",
    ]);
    let mut last = None;
    for number in 1..=RUNS {
        let run = once(binaries).await?;
        let times = times(&run.timelines, STAGES[0]);
        let at = |percent| percentile(&times, percent).context("no pod was allocated");
        let (p50, p99, most) = (at(50)?, at(99)?, at(100)?);
        figures.row(&[
            number.to_string(),
            milliseconds(p50),
            milliseconds(p99),
            milliseconds(most),
            verdict(p50 < TARGET_P50),
            verdict(p99 < TARGET_P99),
        ]);
        last = Some(run);
    }
    let last = last.context("nothing was run")?;
    Ok(Report {
        title: "From a pod's creation to its device".to_owned(),
        how: format!(
            "{PODS} pods that ask for one {PROFILE} each arrive {} ms apart in the embedded cluster \
             (as Kubernetes 1.33) with {NODES} nodes of {GPUS} GPUs. No instance exists at the \
             start, so each pod needs a new one. NVML itself takes no time. Agents and controller \
             are release builds and processes of their own; API server, scheduler and kubelets run \
             in one more process on the same machine.",
            APART.as_millis()
        ),
        tables: vec![
            (
                "Pending to Allocate, against what is promised:".to_owned(),
                figures,
            ),
            (
                "Where the time goes, as the cluster sees it (last run):".to_owned(),
                stages(&last),
            ),
            (
                "Where the time goes, as the controller sees it (last run):".to_owned(),
                means(&last),
            ),
        ],
    })
}

fn times(timelines: &[Timeline], (_, from, to): Span) -> Vec<Duration> {
    let took = |timeline| Some(to(timeline)?.saturating_sub(from(timeline)?));
    let mut times: Vec<Duration> = timelines.iter().filter_map(took).collect();
    times.sort();
    times
}

fn stages(run: &Run) -> Table {
    let mut table = Table::new(&["stage", "pods", "p50 (ms)", "p99 (ms)"]);
    for stage in STAGES {
        let times = times(&run.timelines, stage);
        let at = |percent| percentile(&times, percent).map_or_else(|| "-".to_owned(), milliseconds);
        table.row(&[stage.0.to_owned(), times.len().to_string(), at(50), at(99)]);
    }
    table
}

fn means(run: &Run) -> Table {
    let mut table = Table::new(&["stage", "mean (ms)"]);
    for (stage, mean) in &run.controller {
        table.row(&[stage.clone(), format!("{:.1}", mean * 1000.0)]);
    }
    table
}

pub(super) fn setup(nodes: u32, gpus: u32) -> anyhow::Result<Setup> {
    let hosts = (0..nodes).map(|number| {
        let gpus = vec![Gpus::new("A100-80GB", gpus)?];
        let host = Host {
            gpus,
            latency: Latency::NONE,
            extra: String::new(),
        };
        Ok((format!("n{number}"), host))
    });
    Ok(Setup {
        behaviour: Behaviour::V1_33,
        hosts: hosts.collect::<anyhow::Result<_>>()?,
        log_level: "warn".to_owned(),
        controller_args: Vec::new(),
    })
}

/// Starts a system that is ready for pods.
pub(super) async fn start(setup: Setup, binaries: &Binaries) -> anyhow::Result<System> {
    let system = System::start(setup, binaries).await?;
    let up = async {
        system.install()?;
        system.label_nodes()?;
        system.ready(LIMIT).await
    };
    if let Err(error) = up.await {
        system.shutdown().await;
        return Err(error.into());
    }
    // What comes up goes on for a moment after it says that it is ready.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(system)
}

async fn once(binaries: &Binaries) -> anyhow::Result<Run> {
    let system = start(setup(NODES, GPUS)?, binaries).await?;
    let result = tokio::time::timeout(LIMIT, arrive(&system)).await;
    system.shutdown().await;
    match result {
        Ok(run) => run,
        Err(_) => bail!("not every pod ran within {} s", LIMIT.as_secs()),
    }
}

async fn arrive(system: &System) -> anyhow::Result<Run> {
    let mut tick = tokio::time::interval(APART);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut uids = Vec::new();
    for number in 0..PODS {
        tick.tick().await;
        let made = system
            .store()
            .create(Kind::Pod, "default", pod(number, PROFILE));
        let made = made.map_err(|status| anyhow::anyhow!("a pod was refused: {status}"))?;
        uids.push(object::uid(&made).to_owned());
    }
    running(system, PODS).await;
    let timelines = uids
        .iter()
        .filter_map(|uid| system.cluster().timeline(uid))
        .collect();
    let page = system.controller_page("/metrics").await.unwrap_or_default();
    let controller = ["planning", "withdrawing", "making", "showing", "total"].map(|stage| {
        let label = format!("stage=\"{stage}\"");
        let read = |part: &str| http::metric(&page, &format!("cdmo_stage_seconds_{part}"), &label);
        let mean = read("sum")
            .zip(read("count"))
            .filter(|(_, count)| *count > 0.0);
        (
            stage.to_owned(),
            mean.map_or(0.0, |(sum, count)| sum / count),
        )
    });
    Ok(Run {
        timelines,
        controller: controller.to_vec(),
    })
}

/// Waits until so many pods have run.
pub(super) async fn running(system: &System, count: usize) {
    let mut changed = system.observed().changed();
    let run = || {
        system.observed().with(|journeys| {
            journeys
                .all()
                .iter()
                .filter(|j| j.reached.contains_key(&Stage::Running))
                .count()
        })
    };
    while run() < count {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

pub(super) fn pod(number: usize, profile: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("pod-{number}") },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main",
                "image": "busybox",
                "resources": { "limits": { format!("nvidia.com/mig-{profile}"): 1 } },
            }],
        },
    })
}
